//! Processes that are killed at any instant, and many that want the same at once.
//!
//! The test binary runs itself: a child is this binary with `HAKO_SNAPSHOT_CHILD` naming the store,
//! whose last name is that of its snapshotter.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hako_oci::Digest;
use hako_snapshot::{ActiveOptions, Chain, Erofs, Layer, Overlay, Snapshotter};
use hako_tar::{Header, Kind, Writer};

const CHILD: &str = "HAKO_SNAPSHOT_CHILD";
const FILES: usize = 40;
const LAYERS: usize = 4;

/// A layer of many files; each but the first links to a file of the one below.
fn tar(n: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for file in 0..FILES {
        let mut header = Header::new(format!("layer-{n}/file-{file}"), Kind::File, 0o644);
        header.size = 1000;
        writer.append(&header, &[n as u8; 1000][..]).unwrap();
    }
    if n > 0 {
        let mut link = Header::new(format!("link-{n}"), Kind::HardLink, 0o644);
        link.link = format!("layer-{}/file-0", n - 1).into_bytes();
        writer.append(&link, std::io::empty()).unwrap();
    }
    writer.finish().unwrap()
}

fn layers() -> Vec<Layer<'static>> {
    (0..LAYERS)
        .map(|n| {
            let tar = tar(n);
            let diff_id = Digest::sha256(&tar);
            let open = move || Ok(Box::new(std::io::Cursor::new(tar.clone())) as _);
            Layer::new(diff_id, Box::new(open))
        })
        .collect()
}

fn chain() -> Chain {
    Chain::of(&layers().into_iter().map(|layer| layer.diff_id).collect::<Vec<_>>())
}

fn open(dir: &Path) -> Box<dyn Snapshotter> {
    match dir.ends_with("erofs") {
        true => Box::new(Erofs::open(dir).unwrap()),
        false => Box::new(Overlay::open(dir).unwrap()),
    }
}

/// What a child does: nothing where it is not one.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = open(Path::new(&dir));
    store.sweep().unwrap();
    let hold = store.hold().unwrap();
    let chain = store.ensure_layers(&layers()).unwrap();
    let key = format!("child-{}", std::process::id());
    store.prepare(&key, &chain, ActiveOptions::default()).unwrap();
    drop(hold);
    store.remove(&key).unwrap();
    store.gc(&mut || Ok(Vec::new())).unwrap();
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_root(test: &str) -> bool {
    let is_root = hako_sys::cred::effective_uid() == 0;
    if !is_root {
        eprintln!("SKIP {test}: needs root");
    }
    is_root
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// After a sweep nothing is left but what is whole, and everything works.
fn check(dir: &Path) {
    let store = open(dir);
    store.sweep().unwrap();
    for name in ["staging", "trash"] {
        assert_eq!(names(&dir.join(name)), Vec::<String>::new(), "{name}");
    }
    for key in store.keys().unwrap() {
        store.mounts(&key).unwrap();
        store.remove(&key).unwrap();
    }
    // Each layer that is there is whole: what is seen is right, and costs no unpacking.
    let all = layers();
    for n in 1..=LAYERS {
        let chain = Chain::of(&all[..n].iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>());
        if !store.has(&chain) {
            continue;
        }
        let root = store.view_chain(&chain).unwrap();
        for file in [0, FILES / 2, FILES - 1] {
            let path = format!("layer-{}/file-{file}", n - 1);
            assert_eq!(root.read(path.as_ref(), 2000).unwrap(), [n as u8 - 1; 1000], "{path}");
        }
        let names = root.open_dir(format!("layer-{}", n - 1).as_ref()).unwrap().entries().unwrap();
        assert_eq!(names.len(), FILES);
    }
}

/// SIGKILL at random moments: afterwards a sweep leaves a consistent store.
fn kill_at_any_moment(dir: &Path) {
    // How long it takes unharmed tells where to strike.
    let start = std::time::Instant::now();
    let output = spawn(dir).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = start.elapsed();
    check(dir);
    let rounds: u32 = std::env::var("HAKO_KILL_ROUNDS").map_or(25, |n| n.parse().unwrap());
    for round in 0..rounds {
        let mut child = spawn(dir);
        std::thread::sleep(whole * round / rounds + Duration::from_micros(u64::from(round) * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        check(dir);
    }
    let store = open(dir);
    assert_eq!(store.ensure_layers(&layers()).unwrap(), chain());
    check(dir);
}

/// Processes that make, use, remove and collect the same layers at once, some of them killed.
fn many_at_once(dir: &Path) {
    let mut children: Vec<_> = (0..8).map(|_| spawn(dir)).collect();
    for child in &mut children[..2] {
        std::thread::sleep(Duration::from_millis(15));
        child.kill().unwrap();
    }
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(n < 2 || output.status.success(), "{errors}");
    }
    check(dir);
}

/// Runs a test on a store of each kind that this machine can have.
fn on_both(test: &str, f: impl Fn(&Path)) {
    if !is_root(test) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    f(&place.path().join("overlay"));
    let erofs = place.path().join("erofs");
    match Erofs::probe(&erofs) {
        Ok(()) => f(&erofs),
        Err(e) => eprintln!("SKIP {test}: {e}"),
    }
}

#[test]
fn a_kill_leaves_only_what_a_sweep_removes() {
    on_both("a_kill_leaves_only_what_a_sweep_removes", kill_at_any_moment);
}

#[test]
fn many_processes_at_once() {
    on_both("many_processes_at_once", many_at_once);
}
