//! The root filesystem attacks: links, pipes and races where the runtime mounts, makes and reads.

use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use hako_tests::{Case, binary, bundle::Bundle, command, runtime::Container};
use serde_json::json;

use super::{Canary, attack, link_instead, rounds, without_mounts};

/// Exchanges two names for as long as a closure runs.
fn exchanging<T>(one: &std::path::Path, other: &std::path::Path, run: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                // A name that is missing for a moment is part of the race.
                if rustix::fs::renameat_with(cwd, one, cwd, other, flags).is_err() {
                    thread::yield_now();
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        stop.store(true, Ordering::Relaxed);
        match result {
            Ok(result) => result,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "proc-is-a-link",
        "CVE-2019-19921",
        "a /proc that is a link is not followed out of the root",
        || {
            for climbing in [false, true] {
                let canary = Canary::new();
                let output = attack("cat /proc/file; ls /proc", |bundle| {
                    let target = if climbing { canary.climbing() } else { canary.path() };
                    link_instead(bundle, "proc", &target);
                });
                canary.check(&output);
            }
        },
    ).also_by_users(),
    Case::new(
        "proc-is-a-link-inside",
        "CVE-2023-28642",
        "nor to elsewhere in the root, past the masks",
        || {
            let output = attack(
                "head -c 1 /elsewhere/kcore | wc -c; echo x >/elsewhere/sysrq-trigger && echo written",
                |bundle| {
                    bundle.place().directory("rootfs/elsewhere");
                    link_instead(bundle, "proc", "/elsewhere");
                },
            );
            assert!(!output.stdout.contains("written"), "{output}");
        },
    ).also_by_users(),
    Case::new("sys-is-a-link", "CVE-2023-27561", "nor a /sys", || {
        let canary = Canary::new();
        let output = attack("cat /sys/file; ls /sys", |bundle| {
            link_instead(bundle, "sys", &canary.climbing());
        });
        canary.check(&output);
    }).also_by_users(),
    Case::new(
        "dev-is-a-link",
        "CVE-2026-41579",
        "devices are never made outside of the root",
        || {
            for (climbing, mounted) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let canary = Canary::new();
                let output = attack("true", |bundle| {
                    let target = if climbing { canary.climbing() } else { canary.path() };
                    link_instead(bundle, "dev", &target);
                    if !mounted {
                        without_mounts(bundle, &["/dev"]);
                    }
                });
                canary.check(&output);
            }
        },
    ).also_by_users()
    .peers_fail(&[
        ("runc", "1.1.5 makes links on the host"),
        ("crun", "1.8 makes devices on the host"),
    ]),
    Case::new(
        "dev-null-is-a-link",
        "CVE-2025-31133",
        "masks are made of an own null device, not of the image's",
        || {
            let output = attack(
                "stat -Lc %t:%T /proc/timer_list; head -c 3 /proc/timer_list; true",
                |bundle| {
                    without_mounts(bundle, &["/dev"]);
                    bundle.place().write("rootfs/secret", "unmasked");
                    link_instead(bundle, "dev/null", "/secret");
                },
            );
            assert!(!output.stdout.contains("unm"), "the image chose what masks\n{output}");
        },
    ).also_by_users()
    .peers_fail(&[
        ("runc", "1.1.5 takes the image's /dev/null"),
        ("crun", "1.8 takes the image's /dev/null"),
    ]),
    Case::new(
        "dev-console-is-a-link",
        "CVE-2025-52565",
        "the console is not bound through a link",
        || {
            let canary = Canary::new();
            let mut bundle = Bundle::sh("echo overwritten >/dev/console; true");
            bundle.spec["process"]["terminal"] = json!(true);
            without_mounts(&mut bundle, &["/dev"]);
            link_instead(&bundle, "dev/console", &format!("{}/file", canary.climbing()));
            let container = Container::new(bundle);
            let (code, text) =
                hako_tests::pty::Terminal::start(&container.run_command(&[])).finish();
            canary.check(&command::Output {
                command: "run".into(),
                code,
                stdout: text.clone(),
                stderr: text,
            });
        },
    ).also_by_users(),
    Case::new(
        "mount-target-is-a-link",
        "CVE-2021-30465",
        "a mount target that is a link stays in the root",
        || {
            for target_of in [Canary::path, Canary::climbing] {
                let canary = Canary::new();
                let output = attack("touch /link/made; true", |bundle| {
                    bundle.place().directory("volume");
                    symlink(target_of(&canary), bundle.rootfs("link")).expect("our own directory");
                    bundle.mount("/link", "bind", "volume", &["bind"]);
                });
                canary.check(&output);
            }
        },
    ).also_by_users(),
    Case::new(
        "mount-target-race",
        "CVE-2021-30465, CVE-2024-45310",
        "nor when it becomes a link in between",
        || {
            let canary = Canary::new();
            let mut bundle = Bundle::sh("true");
            bundle.place().directory("volume");
            bundle.place().directory("rootfs/shared/real");
            symlink(canary.climbing(), bundle.rootfs("shared/link")).expect("our own directory");
            // The runtime must make these below a name that is now a directory, now a link to the host.
            bundle.mount("/shared/real/made/deep", "bind", "volume", &["bind"]);
            bundle.mount("/shared/real/file", "bind", "config.json", &["bind"]);
            let container = Container::new(bundle);
            let (real, link) =
                (container.bundle.rootfs("shared/real"), container.bundle.rootfs("shared/link"));
            exchanging(&real, &link, || {
                for _ in 0..rounds() / 2 {
                    let output = container.run();
                    canary.check(&output);
                    for name in [&real, &link] {
                        drop(fs::remove_dir_all(name.join("made")));
                        // Only in the real directory: the canary's file is checked above.
                        if name.symlink_metadata().is_ok_and(|data| data.is_dir()) {
                            drop(fs::remove_file(name.join("file-made")));
                        }
                    }
                }
            });
        },
    ).also_by_users()
    .alone()
    .peers_fail(&[
        ("runc", "1.1.5 makes directories by path"),
        ("crun", "1.8 makes directories by path"),
    ]),
    Case::new(
        "device-path-climbs",
        "CVE-2026-47766",
        "a device's path cannot leave the root",
        || {
            let canary = Canary::new();
            let output = attack("true", |bundle| {
                let path = format!("/dev/../{}/made", canary.climbing());
                let device =
                    json!({"path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 0o666});
                hako_tests::bundle::push(&mut bundle.spec["linux"]["devices"], device);
            });
            canary.check(&output);
        },
    ).also_by_users(),
    Case::new("device-parent-is-a-link", "CVE-2026-47766", "nor a link above it", || {
        let canary = Canary::new();
        let output = attack("true", |bundle| {
            without_mounts(bundle, &["/dev"]);
            symlink(canary.climbing(), bundle.rootfs("dev/sub")).expect("our own directory");
            let device = json!({"path": "/dev/sub/made", "type": "c", "major": 1, "minor": 5});
            hako_tests::bundle::push(&mut bundle.spec["linux"]["devices"], device);
        });
        canary.check(&output);
    }).also_by_users(),
    Case::new(
        "passwd-is-a-pipe",
        "CVE-2026-47262 and kin",
        "a passwd that is a pipe does not hang the runtime",
        || {
            let mut bundle = Bundle::sh("true");
            bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            fs::remove_file(bundle.rootfs("etc/passwd")).expect("our own file");
            let mut make = Command::new(binary::tool("mkfifo"));
            command::run(make.arg(bundle.rootfs("etc/passwd"))).ok();
            let container = Container::new(bundle);
            let inner = container.run_command(&[]);
            let mut timed = Command::new(binary::tool("timeout"));
            timed.args(["-s", "KILL", "10"]).arg(inner.get_program()).args(inner.get_args());
            let output = command::run(&mut timed);
            assert_ne!(output.code, 137, "it hangs\n{output}");
        },
    ).also_by_users()
    .peers_fail(&[("runc", "waits for a writer"), ("crun", "waits for a writer")]),
    Case::new(
        "passwd-is-the-host's",
        "CVE-2019-14271 and kin",
        "a passwd that is a link is read inside the root",
        || {
            let canary = Canary::new();
            fs::write(canary.file(), "secret of the host").expect("our own file");
            let other = hako_tests::place::Place::new("passwd");
            let file = other.write("passwd", "x:x:4321:4321::/secret-home:/bin/sh\n");
            for target in [
                file.to_string_lossy().into_owned(),
                format!("{}{}", "../".repeat(40).trim_end_matches('/'), file.display()),
            ] {
                let output = attack("echo $HOME", |bundle| {
                    bundle.spec["process"]["user"] = json!({"uid": 4321, "gid": 4321});
                    link_instead(bundle, "etc/passwd", &target);
                });
                assert!(!output.stdout.contains("secret-home"), "{output}");
            }
        },
    ).also_by_users(),
    Case::new(
        "masked-path-is-a-link",
        "CVE-2025-52881 and kin",
        "masking does not reach out of the root",
        || {
            let canary = Canary::new();
            let output = attack("echo ran", |bundle| {
                symlink(canary.climbing(), bundle.rootfs("masked")).expect("our own directory");
                bundle.spec["linux"]["maskedPaths"] = json!(["/masked", "/masked/file"]);
                bundle.spec["linux"]["readonlyPaths"] = json!(["/masked"]);
            });
            canary.check(&output);
        },
    ).also_by_users(),
    Case::new(
        "program-is-a-link",
        "CVE-2019-14271 and kin",
        "the program is looked up inside the root",
        || {
            let canary = Canary::new();
            let host = hako_tests::place::Place::new("host");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            let program = host.write("evil", "#!/bin/sh\necho the host's program ran\n");
            fs::set_permissions(&program, mode).expect("our own file");
            let output = attack("", |bundle| {
                symlink(&program, bundle.rootfs("bin/evil")).expect("our own directory");
                bundle.spec["process"]["args"] = json!(["evil"]);
            });
            canary.check(&output);
            assert!(!output.stdout.contains("host's program"), "{output}");
            output.fails();
        },
    ).also_by_users(),
];
