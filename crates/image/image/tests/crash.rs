//! Many at once, and killed at any instant: the next one finds a consistent store.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

use common::{docker_archive, layer, open, place, tar};
use hako_image::{SaveOptions, Source};

/// Runs this test binary again, to do `verb` in `dir`.
fn process(verb: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("HAKO_IMAGE_VERB", verb)
        .env("HAKO_IMAGE_DIR", dir)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn child() {
    let (Ok(verb), Ok(dir)) = (std::env::var("HAKO_IMAGE_VERB"), std::env::var("HAKO_IMAGE_DIR"))
    else {
        return;
    };
    let images = open(Path::new(&dir));
    let archive = || Source::Path(Path::new(&dir).join("archive.tar"));
    match verb.as_str() {
        "load" => drop(images.load(archive(), &common::options()).unwrap()),
        "load and remove" => loop {
            images.load(archive(), &common::options()).unwrap();
            // Another may have removed it first.
            match images.remove("a:1", true, &mut |_| Ok(vec![])) {
                Ok(_) | Err(hako_image::Error::NotFound(_)) => {}
                Err(e) => panic!("{e:?}"),
            }
        },
        "save" => loop {
            let image = match images.load(archive(), &common::options()) {
                Ok(loaded) => loaded[0].id.to_string(),
                Err(e) => panic!("{e:?}"),
            };
            match images.save(&[&image], &SaveOptions::default(), std::io::sink()) {
                Ok(()) | Err(hako_image::Error::NotFound(_)) => {}
                Err(e) => panic!("{e:?}"),
            }
        },
        "load on a full disk" => {
            let error = images.load(archive(), &common::options()).unwrap_err();
            let text = format!("{error:?}");
            assert!(["StorageFull", "Full", "ENOSPC"].iter().any(|s| text.contains(s)), "{text}");
            assert!(error.to_string().contains("space"), "{error}");
            // Space comes back, and nothing half is in the way.
            fs::remove_file(Path::new(&dir).join("ballast")).unwrap();
            let loaded = images.load(archive(), &common::options()).unwrap();
            images.save(&[loaded[0].id.hex()], &SaveOptions::default(), std::io::sink()).unwrap();
        }
        other => panic!("no verb {other}"),
    }
}

fn write_archive(dir: &Path) {
    let layers: Vec<Vec<u8>> = (0..6)
        .map(|n| {
            let files: Vec<_> =
                (0..40).map(|m| common::file(format!("d{n}/f{m}"), vec![n as u8; 3000])).collect();
            tar(&files)
        })
        .chain([layer("top")])
        .collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    fs::write(dir.join("archive.tar"), tar(&docker_archive("a:1", &layers))).unwrap();
}

#[test]
fn many_processes_load_one_image_at_once() {
    let place = place();
    write_archive(place.dir.path());
    let children: Vec<Child> = (0..6).map(|_| process("load", place.dir.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.images.list().unwrap().len(), 1);
    assert_eq!(place.layers(), 7);
    place.assert_tidy(9);
}

#[test]
fn loading_removing_and_saving_at_once_and_killed_leaves_a_consistent_store() {
    let place = place();
    let dir = place.dir.path();
    write_archive(dir);
    let rounds = std::env::var("HAKO_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    for round in 0..rounds {
        let verbs = ["load and remove", "save", "load and remove"];
        let mut children: Vec<Child> = verbs.iter().map(|verb| process(verb, dir)).collect();
        for (n, child) in children.iter_mut().enumerate() {
            thread::sleep(Duration::from_micros(((round * 7919 + n as u64 * 104_729) % 61) * 700));
            if let Some(status) = child.try_wait().unwrap() {
                panic!("round {round}: {} ended with {status}", verbs[n]);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // The next command.
        let images = open(dir);
        images.sweep().unwrap();
        for image in images.images().unwrap() {
            assert!(images.snapshots().has(&image.chain()), "round {round}: not unpacked");
            let chain = images.unpack(&image).unwrap();
            images.snapshots().view_chain(&chain).unwrap();
            images.save(&[image.id().hex()], &SaveOptions::default(), std::io::sink()).unwrap();
        }
        images.collect().unwrap();
        let left = images.images().unwrap().len();
        place.assert_tidy(if left == 0 { 0 } else { 9 });
        assert_eq!(place.layers(), if left == 0 { 0 } else { 7 }, "round {round}");
        for part in ["snapshots/staging", "snapshots/trash"] {
            let found = common::names(&dir.join(part));
            assert!(
                found.iter().all(|name| name.ends_with(".lock")),
                "round {round}: {part}: {found:?}"
            );
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half() {
    let place = place();
    let dir = place.dir.path();
    write_archive(dir);
    // From where there is no room for a database to where only the last layer does not fit.
    for free_kib in [200, 400, 600, 900, 1200, 1500] {
        let script = format!(
            "set -e; cp '{0}/archive.tar' /tmp/$$.tar; mount -t tmpfs -o size=12m none '{0}'; \
             mv /tmp/$$.tar '{0}/archive.tar'; \
             fallocate -l $((12 * 1048576 - $(stat -c %s '{0}/archive.tar') - {free_kib} * 1024)) \
             '{0}/ballast'; exec \"$1\" --exact child --nocapture",
            dir.display()
        );
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", &script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .env("HAKO_IMAGE_VERB", "load on a full disk")
            .env("HAKO_IMAGE_DIR", dir)
            .output();
        match out {
            Ok(out) if out.status.success() => {}
            Ok(out) if String::from_utf8_lossy(&out.stderr).contains("unshare") => {
                eprintln!("SKIP a_full_disk: no mount namespace (needs root and unshare)");
                return;
            }
            Ok(out) => panic!("{free_kib} KiB: {out:?}"),
            Err(e) => {
                eprintln!("SKIP a_full_disk: unshare: {e}");
                return;
            }
        }
    }
}
