//! Random stacks of layers, by both snapshotters: a container must see the same.
//!
//! One unpacks to directories and lets overlayfs join them, the other merges in memory. What
//! differs by design is said where it is let pass. `HAKO_BOTH_CASES` says how many stacks.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::Cursor,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::PathBuf,
};

use hako_oci::Digest;
use hako_root::Root;
use hako_snapshot::{ActiveOptions, Chain, Erofs, Layer, Overlay, Result, Snapshotter};
use hako_sys::xattr;
use hako_tar::{Header, Kind, Writer};
use proptest::{collection::vec, prelude::*, sample::select};

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    kind: Kind,
    link: String,
    mode: u32,
    uid: u32,
    mtime: i64,
    user: Option<Vec<u8>>,
}

fn path() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", "c", "d"]);
    vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        5 => Just(Kind::File),
        5 => Just(Kind::Directory),
        2 => Just(Kind::Symlink),
        2 => Just(Kind::HardLink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Char),
    ];
    let whiteout = prop_oneof![7 => Just(""), 2 => Just(".wh."), 1 => Just(".wh..wh..opq")];
    let target = prop_oneof![3 => path(), 1 => path().prop_map(|path| format!("/{path}")),
        1 => path().prop_map(|path| format!("../{path}"))];
    let user = prop_oneof![4 => Just(None), 1 => vec(any::<u8>(), 1..9).prop_map(Some)];
    let modes = select(vec![0o755, 0o700, 0o644, 0o4755, 0o1777]);
    (path(), kind, whiteout, target, modes, 0..3u32, 0..4i64, user, path()).prop_map(
        |(mut path, mut kind, whiteout, mut link, mode, uid, mtime, user, plain)| {
            if !whiteout.is_empty() {
                kind = Kind::File;
                let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
                path = match (above, whiteout) {
                    ("", ".wh.") => format!(".wh.{name}"),
                    (above, ".wh.") => format!("{above}/.wh.{name}"),
                    // overlayfs knows no opaque root; that path is tested elsewhere.
                    ("", _) => format!("{name}/.wh..wh..opq"),
                    (above, _) => format!("{above}/.wh..wh..opq"),
                };
            }
            if kind == Kind::HardLink {
                link = plain;
            }
            Entry { path, kind, link, mode, uid, mtime, user }
        },
    )
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let mut header = Header::new(entry.path.as_bytes(), entry.kind, entry.mode);
        header.uid = entry.uid;
        header.mtime.seconds = entry.mtime * 100_000_000;
        if matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
            header.link = entry.link.clone().into_bytes();
        }
        if entry.kind == Kind::Char {
            header.device = (1, 3);
        }
        let is_plain = matches!(entry.kind, Kind::File | Kind::Directory);
        if let (Some(value), true) = (&entry.user, is_plain) {
            header.xattrs.insert(b"user.x".to_vec(), value.clone());
        }
        let content = match entry.kind {
            Kind::File if !entry.path.contains(".wh.") => {
                entry.path.repeat(entry.mode as usize % 300)
            }
            _ => String::new(),
        };
        header.size = content.len() as u64;
        writer.append(&header, content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn ensure(store: &dyn Snapshotter, tars: &[Vec<u8>]) -> Result<Chain> {
    let layer = |tar: &Vec<u8>| {
        let (diff_id, tar) = (Digest::sha256(tar), tar.clone());
        Layer::new(diff_id, Box::new(move || Ok(Box::new(Cursor::new(tar.clone())) as _)))
    };
    store.ensure_layers(&tars.iter().map(layer).collect::<Vec<_>>())
}

/// Everything that is to be equal, by path.
fn seen(root: &Root) -> BTreeMap<PathBuf, String> {
    let root = PathBuf::from(format!("/proc/self/fd/{}/", root.fd().as_raw_fd()));
    let mut found = BTreeMap::new();
    let mut todo = vec![root.clone()];
    while let Some(path) = todo.pop() {
        let m = path.symlink_metadata().unwrap();
        let kind = m.file_type();
        let mut content = match () {
            () if kind.is_symlink() => std::fs::read_link(&path).unwrap().display().to_string(),
            () if kind.is_file() => Digest::sha256(&std::fs::read(&path).unwrap()).to_string(),
            () if kind.is_char_device() => m.rdev().to_string(),
            () => String::new(),
        };
        if kind.is_file() || kind.is_dir() {
            let file = std::fs::File::open(&path).unwrap();
            if let Ok(value) = xattr::fget(file.as_fd(), c"user.x") {
                content += &format!(" {value:?}");
            }
        }
        let relative = path.strip_prefix(&root).unwrap().to_owned();
        let size = if kind.is_dir() { 0 } else { m.len() };
        // A directory that no layer describes has the time at which it was made, if it was.
        let mtime = if kind.is_dir() && m.mtime() > 1_000_000_000 { 0 } else { m.mtime() };
        let line = format!("{:o} {} {mtime} {size} {content}", m.mode(), m.uid());
        found.insert(relative, line);
        if kind.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("HAKO_BOTH_CASES").map_or(60, |n| n.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_show_the_same(stack in vec(vec(entry(), 1..10), 1..4)) {
        if hako_sys::cred::effective_uid() != 0 {
            eprintln!("SKIP both_show_the_same: needs root");
            return Ok(());
        }
        let dir = tempfile::tempdir().unwrap();
        if let Err(e) = Erofs::probe(&dir.path().join("erofs")) {
            eprintln!("SKIP both_show_the_same: {e}");
            return Ok(());
        }
        let overlay = Overlay::open(&dir.path().join("overlay")).unwrap();
        let erofs = Erofs::open(&dir.path().join("erofs")).unwrap();
        let tars: Vec<Vec<u8>> = stack.iter().map(|entries| tar(entries)).collect();
        let chain = match (ensure(&overlay, &tars), ensure(&erofs, &tars)) {
            (Ok(chain), Ok(_)) => chain,
            (Err(_), Err(_)) => return Ok(()),
            (one, other) => {
                return Err(TestCaseError::fail(format!("overlay: {one:?}, erofs: {other:?}")));
            }
        };
        let mut trees = Vec::new();
        for store in [&overlay as &dyn Snapshotter, &erofs] {
            store.prepare("k", &chain, ActiveOptions { volatile: true }).unwrap();
            let tree = seen(&store.view("k").unwrap());
            trees.push(tree);
        }
        let erofs_tree = trees.pop().unwrap();
        prop_assert_eq!(&trees[0], &erofs_tree);
        prop_assert!(erofs.verify(&chain).unwrap().is_empty());
        // An index that grew layer by layer is the index of all of them.
        let grown = Erofs::open(&dir.path().join("grown")).unwrap();
        for count in 1..=tars.len() {
            ensure(&grown, &tars[..count]).unwrap();
        }
        prop_assert_eq!(grown.verify(&chain).unwrap(), Vec::<String>::new());
    }
}
