//! Attacks by the root filesystem on who prepares and starts the container.

use hako_tests::{
    Case,
    archive::{Entry, gzip, tar},
    image::{Image, busybox_layer, pack},
};

use super::Attack;

const ROOT: &str = "SECURITY I, R: roots";

/// A busybox layer without these entries, and with these in their place.
fn layer(without: &[&str], with: &[Entry]) -> Vec<u8> {
    let mut entries: Vec<Entry> = hako_tests::bundle::DIRECTORIES
        .iter()
        .map(|(name, mode)| Entry::directory(&format!("{name}/"), *mode))
        .chain(
            hako_tests::bundle::FILES
                .iter()
                .map(|(name, content)| Entry::file(name, 0o644, *content)),
        )
        .filter(|entry| {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            without.iter().all(|gone| {
                name.trim_end_matches('/') != *gone && !name.starts_with(&format!("{gone}/"))
            })
        })
        .collect();
    let busybox = std::fs::read(hako_tests::binary::busybox()).expect("busybox can be read");
    entries.push(Entry::file("bin/busybox", 0o755, busybox));
    entries.extend(
        hako_tests::bundle::APPLETS
            .iter()
            .map(|applet| Entry::symlink(&format!("bin/{applet}"), "busybox")),
    );
    entries.extend(with.iter().cloned());
    tar(&entries)
}

/// Runs a container whose root has these in place of what belongs there; it may be refused.
#[track_caller]
fn run_root(
    attack: &Attack,
    without: &[&str],
    with: &[Entry],
    options: &[&str],
    script: &str,
) -> hako_tests::command::Output {
    let output = attack.load_image(&Image::new("evil:1", vec![layer(without, with)]));
    if output.code != 0 {
        return output;
    }
    attack.run(options, script)
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "root-proc-is-a-link",
        "CVE-2019-19921",
        "/proc that is a link is not followed outside",
        || {
            let attack = Attack::new();
            let output = run_root(
                &attack,
                &["proc"],
                &[Entry::symlink("proc", &attack.path())],
                &[],
                "cat /proc/self/comm",
            );
            assert!(output.code != 0 || output.stdout.trim() == "cat", "{output}");
        },
    ),
    Case::new("root-sys-is-a-link", "CVE-2023-27561", "nor /sys", || {
        let attack = Attack::new();
        run_root(&attack, &["sys"], &[Entry::symlink("sys", &attack.path())], &[], "true");
    }),
    Case::new(
        "root-dev-is-a-link",
        "CVE-2026-41579",
        "nor /dev: no device is made on the host",
        || {
            let attack = Attack::new();
            run_root(&attack, &["dev"], &[Entry::symlink("dev", &attack.path())], &[], "true");
            let attack = Attack::new();
            run_root(&attack, &["dev"], &[Entry::symlink("dev", &attack.climbing())], &[], "true");
        },
    ),
    Case::new(
        "root-etc-is-a-link",
        ROOT,
        "/etc that is a link: hosts and resolv.conf stay inside",
        || {
            let attack = Attack::new();
            run_root(&attack, &["etc"], &[Entry::symlink("etc", &attack.path())], &[], "true");
        },
    ),
    Case::new(
        "root-hosts-are-links",
        ROOT,
        "hosts, hostname and resolv.conf that are links to the host's file",
        || {
            let attack = Attack::new();
            let target = format!("{}/file", attack.path());
            let links = ["etc/hosts", "etc/hostname", "etc/resolv.conf"]
                .map(|name| Entry::symlink(name, &target));
            run_root(
                &attack,
                &[],
                &links,
                &[],
                "cat /etc/hosts; echo x >>/etc/hosts; echo x >>/etc/resolv.conf",
            );
        },
    ),
    Case::new(
        "root-passwd-is-a-link",
        ROOT,
        "passwd that is a link to the host's is read inside only",
        || {
            let attack = Attack::new();
            std::fs::write(attack.canary.join("passwd"), "evil:x:0:0::/:/bin/sh\n")
                .expect("our own file");
            let link = Entry::symlink("etc/passwd", &format!("{}/passwd", attack.path()));
            let load = attack.hako.place().write(
                "evil.tar",
                pack(&Image::new("evil:1", vec![layer(&["etc/passwd"], &[link])]).docker_archive()),
            );
            attack.hako.call(&["load", "-q", "-i", &load.to_string_lossy()]).ok();
            attack.hako.call(&["run", "--rm", "-u", "evil", "evil:1", "id", "-u"]).exits(125);
        },
    ),
    Case::new(
        "root-passwd-is-a-pipe",
        "CVE-2026-47262 and kin",
        "passwd that is a pipe or a device does not hang",
        || {
            for entry in [
                Entry { kind: b'6', ..Entry::file("etc/passwd", 0o644, "") },
                Entry::device("etc/passwd", 1, 5),
                Entry::directory("etc/passwd/", 0o755),
            ] {
                let attack = Attack::new();
                run_root(&attack, &["etc/passwd"], &[entry], &["-u", "app"], "id -u").fails();
            }
        },
    ),
    Case::new(
        "root-group-is-huge",
        "CVE-2026-47262",
        "a group file of 300 MB is read in bounded memory",
        || {
            let attack = Attack::new();
            let huge = Entry::file("etc/group", 0o644, vec![b'\n'; 300 << 20]);
            let image = Image::new("evil:1", vec![layer(&["etc/group"], &[huge])]);
            let output = attack.load_bytes(&gzip(&pack(&image.docker_archive())));
            if output.code == 0 {
                attack.run(&["-u", "1000"], "id -u");
            }
        },
    )
    .alone(),
    Case::new(
        "root-passwd-home",
        "CVE-2022-4318",
        "a home directory with a line break is no variable",
        || {
            let attack = Attack::new();
            // One line for the kernel of a parser, two for a careless writer of environments.
            let passwd =
                Entry::file("etc/passwd", 0o644, "app:x:1000:1000::/home\rSMUGGLED=1:/bin/sh\n");
            let output = run_root(
                &attack,
                &["etc/passwd"],
                &[passwd],
                &["-u", "app"],
                "echo ${SMUGGLED-unset}",
            );
            if output.code == 0 {
                output.prints("unset");
            }
        },
    ),
    Case::new(
        "root-entrypoint-is-a-link",
        ROOT,
        "a program that is a link to the host's is looked up inside",
        || {
            let attack = Attack::new();
            let link = Entry::symlink("bin/evil", &format!("{}/file", attack.path()));
            attack.load_image(&Image::new("evil:1", vec![layer(&[], &[link])])).ok();
            attack.hako.call(&["run", "--rm", "evil:1", "evil"]).exits(127);
        },
    ),
    Case::new(
        "root-volume-target-is-a-link",
        "CVE-2021-30465",
        "a mount target that is a link stays inside",
        || {
            let attack = Attack::new();
            let volume = format!("{}:/link", attack.hako.place().directory("volume").display());
            let link = Entry::symlink("link", &attack.path());
            run_root(&attack, &[], &[link], &["-v", &volume], "touch /link/x");
        },
    ),
    Case::new("root-without-anything", ROOT, "an image without directories can be run", || {
        let attack = Attack::new();
        let busybox = std::fs::read(hako_tests::binary::busybox()).expect("busybox can be read");
        let bare = tar(&[Entry::file("sh", 0o755, busybox)]);
        attack.load_image(&Image::new("evil:1", vec![bare])).ok();
        attack.hako.call(&["run", "--rm", "evil:1", "/sh", "-c", "echo bare"]).prints("bare");
    }),
    Case::new(
        "root-empty-image",
        ROOT,
        "an image without layers is an error at run, no crash",
        || {
            let attack = Attack::new();
            let output = attack.load_image(&Image::new("evil:1", Vec::new()));
            if output.code == 0 {
                attack.run(&[], "true").exits(127);
            }
        },
    ),
    Case::new("root-many-layers", ROOT, "an image of 127 layers runs", || {
        let attack = Attack::new();
        let mut layers = vec![busybox_layer()];
        layers
            .extend((0..126).map(|number| tar(&[Entry::file(&format!("f{number}"), 0o644, "x")])));
        attack.load_image(&Image::new("evil:1", layers)).ok();
        attack.run(&[], "ls -d /f* | wc -l").prints("126");
    }),
];
