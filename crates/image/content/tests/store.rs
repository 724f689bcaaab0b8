//! The content store as its users see it: what goes in, what collection takes, and what many
//! writers, collectors and kills at once leave.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hako_content::{Error, Store};
use hako_db::Db;
use hako_oci::{Descriptor, Digest, media_type};

const LEAF: &str = "application/octet-stream";

fn open(dir: &Path) -> Store {
    let db = Arc::new(Db::open(&dir.join("hako.db")).unwrap());
    Store::open(&dir.join("content"), db).unwrap()
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Nothing but blobs: no ingest, no lease, no trash.
fn assert_tidy(dir: &Path) {
    for part in ["ingest", "leases", "trash"] {
        assert_eq!(files(&dir.join("content").join(part)), 0, "{part}");
    }
}

fn name(store: &Store, name: &str, target: &Descriptor) {
    store.update(|names| names.set(name, target, &BTreeMap::new())).unwrap();
}

/// An image of one configuration and one layer, stored under `lease`.
fn image(lease: &hako_content::Lease, salt: &str) -> Descriptor {
    let config = lease.put_bytes(media_type::OCI_CONFIG, format!("{{\"c\":{salt:?}}}").as_bytes());
    let layer = lease.put_bytes(media_type::OCI_LAYER, format!("layer {salt}").as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": config.unwrap(), "layers": [layer.unwrap()],
    });
    lease.put_bytes(media_type::OCI_MANIFEST, manifest.to_string().as_bytes()).unwrap()
}

#[test]
fn only_what_was_promised_goes_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let want = Descriptor::of(LEAF, b"hello");
    let put = |bytes: &[u8]| lease.put(&want, bytes);
    assert!(matches!(put(b"hellO"), Err(Error::DigestMismatch { .. })));
    assert!(matches!(put(b"hell"), Err(Error::SizeMismatch { actual: 4, .. })));
    assert!(matches!(put(b"hello world"), Err(Error::SizeMismatch { actual: 6, .. })));
    assert!(matches!(store.blob(&want.digest), Err(Error::Missing(_))));
    assert_eq!(files(&dir.path().join("content/ingest")), 0);

    put(b"hello").unwrap();
    put(b"not even read").unwrap();
    let mut text = String::new();
    store.blob(&want.digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");

    let sha512 = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    let mut other = Descriptor::new(LEAF, sha512, 5);
    let Err(Error::DigestMismatch { actual, .. }) = lease.put(&other, &b"hello"[..]) else {
        panic!("stored as what it is not")
    };
    other.digest = actual;
    lease.put(&other, &b"hello"[..]).unwrap();
    assert_eq!(store.size(&other.digest).unwrap(), Some(5));

    let endless = std::io::repeat(0);
    let error = lease.put_unnamed(LEAF, 1 << 20, endless).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let size = b"x".len() as u64;
    assert_eq!(lease.put_unnamed(LEAF, size, &b"x"[..]).unwrap(), Descriptor::of(LEAF, b"x"));
    lease.release().unwrap();
    assert_eq!(store.collect().unwrap().blobs, 3);
    assert_tidy(dir.path());
}

#[test]
fn a_damaged_document_is_not_read_and_is_mended_by_storing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let document = lease.put_bytes(media_type::OCI_CONFIG, b"{}").unwrap();
    let path = store.blob_path(&document.digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "[]").unwrap();
    assert!(matches!(store.document(&document), Err(Error::DigestMismatch { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(store.document(&document), Err(Error::SizeMismatch { .. })));
    lease.put_bytes(media_type::OCI_CONFIG, b"{}").unwrap();
    assert_eq!(store.document(&document).unwrap(), b"{}");
    let huge = Descriptor::new(LEAF, document.digest, u64::MAX);
    assert!(matches!(store.document(&huge), Err(Error::DocumentTooLarge { .. })));
}

#[test]
fn what_a_name_reaches_stays_and_the_rest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let (one, two) = (image(&lease, "one"), image(&lease, "two"));
    // An index that also names a manifest as if it were a layer must not hide its children.
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [
        Descriptor::new(LEAF, one.digest.clone(), one.size), one, Descriptor::of(LEAF, b"absent"),
    ]});
    let index = lease.put_bytes(media_type::OCI_INDEX, index.to_string().as_bytes()).unwrap();
    assert_eq!(store.collect().unwrap().blobs, 0);
    lease
        .publish(|names| {
            names.set("index", &index, &BTreeMap::new())?;
            names.set("two", &two, &BTreeMap::from([("k".into(), "v".into())]))
        })
        .unwrap();
    assert_eq!(store.collect().unwrap().blobs, 0);
    let two_again = store.view(|names| names.get("two")).unwrap().unwrap();
    assert_eq!((two_again.target, &*two_again.labels["k"]), (two, "v"));
    assert!(store.update(|names| names.remove("two")).unwrap());
    assert!(!store.update(|names| names.remove("two")).unwrap());
    assert_eq!(store.collect().unwrap().blobs, 3);
    store.update(|names| names.remove("index")).unwrap();
    assert_eq!(store.collect().unwrap().blobs, 4);
    assert_tidy(dir.path());
}

#[test]
fn names_are_changed_all_or_none_and_only_to_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let here = lease.put_bytes(LEAF, b"here").unwrap();
    for n in ["b/1", "b/2", "b%", "c"] {
        name(&store, n, &here);
    }
    let gone = Descriptor::of(LEAF, b"gone");
    let failed = store.update(|names| {
        names.remove("c")?;
        names.set("gone", &gone, &BTreeMap::new())
    });
    assert!(matches!(failed, Err(Error::Missing(_))));
    let all = |prefix: &str| -> Vec<String> {
        let named = store.view(|names| names.with_prefix(prefix)).unwrap();
        named.into_iter().map(|n| n.name).collect()
    };
    assert_eq!(all(""), ["b%", "b/1", "b/2", "c"]);
    assert_eq!(all("b/"), ["b/1", "b/2"]);
    assert_eq!(all("b%"), ["b%"]);
}

#[test]
fn a_hostile_document_keeps_nothing_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let layer = lease.put_bytes(LEAF, b"layer").unwrap();
    let both = serde_json::json!({ "schemaVersion": 2, "config": layer, "layers": [],
        "manifests": [layer] });
    let deep = "[".repeat(1 << 20);
    let bombs = [both.to_string(), deep, "{}".into(), String::new(), "\0".into()];
    for (n, bomb) in bombs.iter().enumerate() {
        let kind = [media_type::OCI_MANIFEST, media_type::OCI_INDEX][n % 2];
        let target = lease.put_bytes(kind, bomb.as_bytes()).unwrap();
        name(&store, &format!("bomb {n}"), &target);
    }
    lease.release().unwrap();
    assert_eq!(store.collect().unwrap().blobs, 1);
}

#[test]
fn a_dead_lease_and_a_dead_ingest_are_swept_and_living_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let alive = store.lease().unwrap();
    alive.put_bytes(LEAF, b"alive").unwrap();
    let ingest = alive.ingest(10).unwrap();
    let dead = store.lease().unwrap();
    let garbage = dead.put_bytes(LEAF, b"dead").unwrap();
    drop(dead);
    // As a killed process leaves them.
    fs::write(dir.path().join("content/leases/dead"), "").unwrap();
    fs::write(dir.path().join("content/ingest/dead"), "partial").unwrap();
    fs::write(dir.path().join("content/trash/dead"), "was a blob").unwrap();
    store.sweep().unwrap();
    assert_eq!(store.size(&garbage.digest).unwrap(), None);
    assert_eq!(files(&dir.path().join("content/ingest")), 1);
    assert_eq!(files(&dir.path().join("content/leases")), 1);
    assert_eq!(files(&dir.path().join("content/blobs/sha256")), 1);
    drop(ingest);
    alive.release().unwrap();
    store.collect().unwrap();
    assert_tidy(dir.path());
}

/// One writer's life: store, sometimes give up, sometimes name; and always find what it stored.
fn write_and_check(store: &Store, seed: u64, until: impl Fn() -> bool) {
    let mut n = seed;
    while !until() {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Few different images, so that writers and collectors meet on the same blobs.
        let salt = format!("{}", (n >> 33) % 4);
        let lease = store.lease().unwrap();
        let target = image(&lease, &salt);
        let check = || {
            let bytes = store.document(&target).unwrap();
            let kind = hako_content::Kind::Manifest;
            for child in hako_content::children(kind, &bytes).unwrap() {
                store.document(&child).unwrap();
            }
        };
        check();
        match (n >> 40) % 4 {
            0 => drop(lease),
            1 => lease.release().unwrap(),
            _ => {
                let mine = format!("{seed}");
                lease.publish(|names| names.set(&mine, &target, &BTreeMap::new())).unwrap();
                check();
                store.update(|names| names.remove(&mine)).unwrap();
            }
        }
    }
}

#[test]
fn collecting_beside_many_threads_takes_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let stop = AtomicBool::new(false);
    let mut taken = 0;
    thread::scope(|s| {
        let writers: Vec<_> = (0..6)
            .map(|seed| {
                let (store, stop) = (&store, &stop);
                s.spawn(move || write_and_check(store, seed, || stop.load(Ordering::Relaxed)))
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) && writers.iter().all(|w| !w.is_finished()) {
            taken += store.collect().unwrap().blobs;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(taken > 0, "collected nothing: this tested nothing");
    store.collect().unwrap();
    assert_tidy(dir.path());
    assert_eq!(files(&dir.path().join("content/blobs/sha256")), 0);
}

/// Runs this test binary again as a process that does `role` until it is killed.
fn process(role: &str, dir: &Path) -> std::process::Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("HAKO_CONTENT_ROLE", role)
        .env("HAKO_CONTENT_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().any(|line| line.unwrap().ends_with("ready")));
    child
}

#[test]
fn child() {
    let (Ok(role), Ok(dir)) =
        (std::env::var("HAKO_CONTENT_ROLE"), std::env::var("HAKO_CONTENT_DIR"))
    else {
        return;
    };
    let store = open(Path::new(&dir));
    println!("ready");
    match role.as_str() {
        "collect" => loop {
            store.collect().unwrap();
        },
        seed => write_and_check(&store, seed.parse().unwrap(), || false),
    }
}

#[test]
fn processes_killed_at_any_instant_leave_a_whole_store() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    for round in 0..12 {
        let mut children: Vec<_> =
            ["1", "2", "3", "collect"].map(|role| process(role, dir.path())).into_iter().collect();
        for (n, child) in children.iter_mut().enumerate() {
            thread::sleep(Duration::from_micros(1300 * (round * n as u64 % 7)));
            // Killed, not failed: a writer whose blob was taken would have panicked.
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = open(dir.path());
        store.sweep().unwrap();
        store.collect().unwrap();
        assert_tidy(dir.path());
        // What is named is whole, and there is nothing else.
        let mut alive = std::collections::BTreeSet::new();
        for named in store.view(|names| names.with_prefix("")).unwrap() {
            let bytes = store.document(&named.target).unwrap();
            let kind = hako_content::Kind::Manifest;
            for child in hako_content::children(kind, &bytes).unwrap() {
                store.document(&child).unwrap();
                alive.insert(child.digest);
            }
            alive.insert(named.target.digest);
        }
        assert_eq!(files(&dir.path().join("content/blobs/sha256")), alive.len());
        for blob in fs::read_dir(dir.path().join("content/blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let digest = Digest::sha256(&fs::read(blob.path()).unwrap());
            assert_eq!(digest.hex(), blob.file_name().to_str().unwrap());
        }
    }
}

#[test]
fn what_was_made_of_a_blob_is_known_as_long_as_the_blob_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let source = lease.put_bytes("text/plain", b"source").unwrap().digest;
    let made = hako_oci::Digest::sha256(b"made");
    assert_eq!(store.derived(&source, "gzip").unwrap(), None);
    store.set_derived(&source, "gzip", &made, 4).unwrap();
    assert_eq!(store.derived(&source, "gzip").unwrap(), Some((made.clone(), 4)));
    assert_eq!(store.derived(&source, "zstd").unwrap(), None);
    store.collect().unwrap();
    assert_eq!(store.derived(&source, "gzip").unwrap(), Some((made, 4)));
    lease.release().unwrap();
    store.collect().unwrap();
    assert_eq!(store.derived(&source, "gzip").unwrap(), None);
}
