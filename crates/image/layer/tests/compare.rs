//! Real layers, applied here and extracted by GNU tar: the trees must be the same.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufReader, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use hako_layer::{Onto, apply, decompress};
use hako_oci::Digest;
use support::{Dest, is_root, options};

/// The directory of shared test data: `HAKO_TEST_DATA`, else beside the workspace.
fn archives() -> PathBuf {
    let data = std::env::var_os("HAKO_TEST_DATA").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data");
    data.unwrap_or_else(beside).join("archives")
}

/// Every `layer.tar` in an archive of Docker's.
fn layers_of(archive: &Path) -> Vec<Vec<u8>> {
    let (_, archive) = decompress(std::fs::File::open(archive).unwrap()).unwrap();
    let mut reader = hako_tar::Reader::new(BufReader::new(archive));
    let mut layers = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        if entry.header().path.ends_with(b"/layer.tar") && entry.header().size > 0 {
            let mut layer = Vec::new();
            entry.read_to_end(&mut layer).unwrap();
            layers.push(layer);
        }
    }
    layers
}

/// Everything that is to be equal, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let m = path.symlink_metadata().unwrap();
        let kind = m.file_type();
        let content = if kind.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            Digest::sha256(&std::fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let (nlink, size) = if kind.is_dir() { (0, 0) } else { (m.nlink(), m.len()) };
        let device = if kind.is_char_device() || kind.is_block_device() { m.rdev() } else { 0 };
        let line = format!(
            "{:o} {}:{} {}.{:09} links {nlink} size {size} device {device} {content}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
        );
        let relative = path.strip_prefix(root).unwrap();
        // The root itself is described by neither.
        if relative != Path::new("") {
            found.insert(relative.to_owned(), line);
        }
        if kind.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    found
}

fn check(layer: &[u8]) -> usize {
    let dest = Dest::new();
    let applied = apply(layer, &dest.root, &options(Onto::Base)).unwrap();
    assert_eq!(applied.diff_id, Digest::sha256(layer));
    let theirs = tempfile::tempdir().unwrap();
    let tar = theirs.path().join("layer.tar");
    std::fs::write(&tar, layer).unwrap();
    let extracted = theirs.path().join("tree");
    std::fs::create_dir(&extracted).unwrap();
    let status = Command::new("tar")
        .args(["--numeric-owner", "-xpf"])
        .arg(&tar)
        .arg("-C")
        .arg(&extracted)
        .status()
        .unwrap();
    assert!(status.success());
    let (ours, theirs) = (tree(&dest.path("")), tree(&extracted));
    for (path, line) in &theirs {
        assert_eq!(ours.get(path), Some(line), "{}", path.display());
    }
    assert_eq!(ours.len(), theirs.len());
    ours.len()
}

#[test]
fn real_layers_as_gnu_tar_extracts_them() {
    if !is_root("real_layers_as_gnu_tar_extracts_them") {
        return;
    }
    let has_tar = Command::new("tar").arg("--version").output().is_ok();
    let mut entries = 0;
    for name in ["alpine-310.tar.gz", "alpine-311.tar.gz", "hello-world-v25.tar"] {
        let archive = archives().join(name);
        if !has_tar || !archive.exists() {
            eprintln!("SKIP real_layers_as_gnu_tar_extracts_them: no tar or {}", archive.display());
            return;
        }
        entries += layers_of(&archive).iter().map(|layer| check(layer)).sum::<usize>();
    }
    assert!(entries > 800, "only {entries} entries were compared");
}
