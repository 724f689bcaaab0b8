//! Saving: what goes out comes in again, here and with others' tools.

#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod common;

use std::{fs, path::Path, process::Command};

use common::{data, docker_archive, layer, place, tar};
use hako_image::SaveOptions;
use hako_oci::Digest;

fn save(place: &common::Place, wanted: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    place.images.save(wanted, &SaveOptions::default(), &mut archive).unwrap();
    archive
}

/// A store with two images that share a layer, one of which has two names.
fn two_images() -> (common::Place, Digest, Digest) {
    let (base, top) = (layer("base"), layer("top"));
    let place = place();
    let one = place.load_stream(tar(&docker_archive("one:1", &[&base]))).unwrap();
    let two = place.load_stream(tar(&docker_archive("reg.example/two:2", &[&base, &top]))).unwrap();
    place.images.tag("one:1", &"one:again".parse().unwrap()).unwrap();
    (place, one[0].id.clone(), two[0].id.clone())
}

#[test]
fn what_is_saved_is_loaded_with_the_same_ids_names_and_digests() {
    let (from, one, two) = two_images();
    let cases: [(&[&str], &[(&Digest, &[&str])]); 5] = [
        (&["one:1"], &[(&one, &["one:1"])]),
        // A repository means all its tags; a registry's port is no tag.
        (&["one"], &[(&one, &["one:1", "one:again"])]),
        (&["one:1", "reg.example/two:2"], &[(&one, &["one:1"]), (&two, &["reg.example/two:2"])]),
        (&[&two.hex()[..9], "one:again"], &[(&two, &[]), (&one, &["one:again"])]),
        (&["one:1", one.hex()], &[(&one, &["one:1"])]),
    ];
    for (wanted, expected) in cases {
        let archive = save(&from, wanted);
        assert_eq!(archive, save(&from, wanted), "the same images give the same bytes");
        let to = place();
        let mut loaded = to.load_stream(archive).unwrap();
        assert_eq!(loaded.len(), expected.len(), "{wanted:?}");
        for ((id, names), loaded) in expected.iter().zip(&mut loaded) {
            let found: Vec<String> = loaded.names.iter().map(|n| n.familiar()).collect();
            assert_eq!((&loaded.id, found), (*id, names.iter().map(|n| n.to_string()).collect()));
            let (here, there) = (
                from.images.resolve(id.hex()).unwrap().descriptor().clone(),
                to.images.resolve(id.hex()).unwrap().descriptor().clone(),
            );
            // The manifest that was written when the image was loaded is a document now.
            assert_eq!(here.digest, there.digest);
        }
    }
    from.assert_tidy(6);
    let none: hako_image::Error =
        from.images.save(&["none"], &SaveOptions::default(), Vec::new()).unwrap_err();
    assert_eq!(none.to_string(), "No such image: none:latest");
    from.assert_tidy(6);
}

#[test]
fn a_sink_that_fails_is_an_error_and_leaves_no_lease() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (from, ..) = two_images();
    let error = from.images.save(&["one:1"], &SaveOptions::default(), Full).unwrap_err();
    assert!(matches!(error, hako_image::Error::Write(_)), "{error}");
    from.assert_tidy(6);
}

/// Runs a tool; `None` with a line that says so where it is not installed.
fn run(test: &str, program: &str, args: &[&str]) -> Option<String> {
    let out = match Command::new(program).args(args).output() {
        Ok(out) => out,
        Err(e) => {
            eprintln!("SKIP {test}: {program}: {e}");
            return None;
        }
    };
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

#[test]
fn skopeo_reads_what_is_saved_in_both_of_its_ways() {
    let test = "skopeo_reads_what_is_saved_in_both_of_its_ways";
    let (from, one, _) = two_images();
    let dir = from.dir.path();
    let path = dir.join("one.tar");
    fs::write(&path, save(&from, &["one:1"])).unwrap();
    let path = path.display();
    // A copy within one family of formats keeps the configuration, and with it the ID.
    let families: [(&str, &[&str]); 2] =
        [("docker-archive", &["docker-archive"]), ("oci-archive", &["oci", "oci-archive"])];
    for (family, sinks) in families {
        let source = format!("{family}:{path}");
        let Some(text) = run(test, "skopeo", &["inspect", "--config", "--raw", &source]) else {
            return;
        };
        assert_eq!(Digest::sha256(text.as_bytes()), one, "{source}");
        // And what skopeo writes is read here, archive or directory.
        for sink in sinks {
            let copy = dir.join(format!("{sink}-copy"));
            let sink = format!("{sink}:{}:name:tag", copy.display());
            run(test, "skopeo", &["--insecure-policy", "copy", &source, &sink]);
            let to = place();
            let loaded = to.load(&copy).unwrap();
            assert_eq!((&loaded[0].id, loaded[0].names[0].familiar()), (&one, "name:tag".into()));
        }
    }
}

#[test]
fn podman_loads_what_is_saved() {
    let test = "podman_loads_what_is_saved";
    let Some(alpine) = data(test, "archives/alpine-310.tar.gz") else { return };
    let (from, one, two) = two_images();
    let alpine = from.load(&alpine).unwrap()[0].id.clone();
    let path = from.dir.path().join("all.tar");
    let wanted = ["one", "reg.example/two:2", "alpine:3.10"];
    fs::write(&path, save(&from, &wanted)).unwrap();
    let place = |name: &str| from.dir.path().join(name).display().to_string();
    let (root, runroot) = (place("root"), place("runroot"));
    let podman = |args: &[&str]| {
        let all = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
        run(test, "podman", &[&all, args].concat())
    };
    let Some(_) = podman(&["load", "-q", "-i", &path.display().to_string()]) else { return };
    let list = podman(&["images", "--no-trunc", "--format", "{{.Id}} {{.Repository}}:{{.Tag}}"]);
    let list = list.unwrap_or_default();
    for line in [
        format!("sha256:{} localhost/one:1", one.hex()),
        format!("sha256:{} localhost/one:again", one.hex()),
        format!("sha256:{} reg.example/two:2", two.hex()),
        format!("sha256:{} localhost/alpine:3.10", alpine.hex()),
    ] {
        assert!(
            list.lines().any(|l| l.trim() == line || format!("sha256:{}", l.trim()) == line),
            "{line} not in\n{list}"
        );
    }
    remove(Path::new(&root));
}

/// podman's directories may be read-only to their owner; root does not care.
fn remove(dir: &Path) {
    if let Err(e) = fs::remove_dir_all(dir) {
        eprintln!("{}: {e}", dir.display());
    }
}
