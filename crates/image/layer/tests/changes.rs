//! What a writable directory changes, as a layer: the entries, and that applying them elsewhere
//! shows the same tree.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
};

use hako_layer::{ApplyOptions, Error, Onto, WriteOptions, apply, write_changes};
use hako_root::Root;
use proptest::{prelude::*, test_runner::TestCaseError};
use support::{is_root, layer, list, options, overlay, path_of};

/// An overlay over what layer lines describe.
struct Stack {
    base: tempfile::TempDir,
    merged: Option<Root>,
}

impl Stack {
    fn over(lines: &[&str]) -> Stack {
        let base = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "again", "again-work"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        let stack = Stack { base, merged: None };
        let lower = Root::open(&stack.path("lower")).unwrap();
        apply(&layer(lines)[..], &lower, &options(Onto::Base)).unwrap();
        let merged = stack.mount("upper", "work");
        Stack { merged: Some(merged), ..stack }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn mount(&self, upper: &str, work: &str) -> Root {
        overlay(&[&self.path("lower")], Some((&self.path(upper), &self.path(work))))
    }

    fn merged(&self) -> PathBuf {
        path_of(self.merged.as_ref().unwrap())
    }

    fn tar(&self, options: WriteOptions) -> Result<Vec<u8>, Error> {
        write_changes(&Root::open(&self.path("upper")).unwrap(), Vec::new(), options)
    }

    /// What is seen when the changes are applied over the same lower layer.
    fn seen_elsewhere(&self) -> String {
        let tar = self.tar(WriteOptions::default()).unwrap();
        let other = self.mount("again", "again-work");
        let onto = ApplyOptions { onto: Onto::Overlay, ..ApplyOptions::default() };
        apply(&tar[..], &other, &onto).unwrap();
        list(&path_of(&other))
    }
}

/// The entries of a tar, a line each: type, path, and where it leads.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut reader = hako_tar::Reader::new(tar);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let header = entry.header();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut line = format!("{:?} {}", header.kind, text(&header.path));
        if !header.link.is_empty() {
            line += &format!(" -> {}", text(&header.link));
        }
        lines.push(line);
    }
    lines
}

const LOWER: &[&str] = &[
    "d etc",
    "f etc/hosts localhost",
    "f etc/passwd root",
    "d opt",
    "d opt/old",
    "f opt/old/file x",
    "f hoge.txt hoge",
];

#[test]
fn each_kind_of_change_is_told_once_and_in_order() {
    if !is_root("each_kind_of_change_is_told_once_and_in_order") {
        return;
    }
    let stack = Stack::over(LOWER);
    let merged = stack.merged();
    fs::remove_file(merged.join("hoge.txt")).unwrap();
    fs::write(merged.join("etc/hosts"), "changed").unwrap();
    fs::remove_dir_all(merged.join("opt/old")).unwrap();
    fs::create_dir(merged.join("opt/old")).unwrap();
    fs::write(merged.join("opt/old/new"), "y").unwrap();
    fs::hard_link(merged.join("opt/old/new"), merged.join("opt/zweiter")).unwrap();
    std::os::unix::fs::symlink("/etc/hosts", merged.join("link")).unwrap();
    let _socket = UnixListener::bind(merged.join("socket")).unwrap();
    let tar = stack.tar(WriteOptions::default()).unwrap();
    assert_eq!(
        entries(&tar),
        [
            "Directory etc/",
            "File etc/hosts",
            "File .wh.hoge.txt",
            "Symlink link -> /etc/hosts",
            "Directory opt/",
            "Directory opt/old/",
            "File opt/old/.wh..wh..opq",
            "File opt/old/new",
            "HardLink opt/zweiter -> opt/old/new",
        ]
    );
    fs::remove_file(merged.join("socket")).unwrap();
    assert_eq!(stack.seen_elsewhere(), list(&merged));
}

#[test]
fn nothing_changed_is_an_empty_layer() {
    if !is_root("nothing_changed_is_an_empty_layer") {
        return;
    }
    let tar = Stack::over(LOWER).tar(WriteOptions::default()).unwrap();
    assert_eq!(tar, [0; 1024]);
}

#[test]
fn a_removed_file_is_the_only_entry() {
    if !is_root("a_removed_file_is_the_only_entry") {
        return;
    }
    let stack = Stack::over(LOWER);
    fs::remove_file(stack.merged().join("hoge.txt")).unwrap();
    assert_eq!(entries(&stack.tar(WriteOptions::default()).unwrap()), ["File .wh.hoge.txt"]);
}

#[test]
fn the_same_changes_at_another_time_are_the_same_bytes() {
    if !is_root("the_same_changes_at_another_time_are_the_same_bytes") {
        return;
    }
    let write = |order: [&str; 3]| {
        let stack = Stack::over(LOWER);
        for name in order {
            fs::write(stack.merged().join(name), name).unwrap();
        }
        stack.tar(WriteOptions { mtime_max: Some(1_000_000_000) }).unwrap()
    };
    assert_eq!(write(["b", "etc/x", "a"]), write(["a", "b", "etc/x"]));
}

#[test]
fn a_name_that_would_remove_another_is_refused() {
    if !is_root("a_name_that_would_remove_another_is_refused") {
        return;
    }
    let stack = Stack::over(LOWER);
    fs::write(stack.merged().join("etc/.wh.passwd"), "").unwrap();
    let error = stack.tar(WriteOptions::default()).unwrap_err().to_string();
    assert!(error.contains("etc/.wh.passwd") && error.contains("removed file"), "{error}");
}

#[test]
fn more_directories_in_each_other_than_are_held() {
    if !is_root("more_directories_in_each_other_than_are_held") {
        return;
    }
    let stack = Stack::over(LOWER);
    let mut path = stack.merged();
    for _ in 0..200 {
        path.push("d");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("z"), "after its sister").unwrap();
    }
    assert_eq!(stack.seen_elsewhere(), list(&stack.merged()));
}

/// Something a program may do to a tree.
#[derive(Debug, Clone)]
enum Act {
    Write(String, u8),
    Mkdir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String),
    Chmod(String, u32),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (path(), any::<u8>()).prop_map(|(p, n)| Act::Write(p, n)),
        path().prop_map(Act::Mkdir),
        path().prop_map(Act::Remove),
        (path(), path()).prop_map(|(a, b)| Act::Rename(a, b)),
        (path(), path()).prop_map(|(a, b)| Act::Link(a, b)),
        path().prop_map(Act::Symlink),
        (path(), 0o400..0o777u32).prop_map(|(p, mode)| Act::Chmod(p, mode)),
    ]
}

/// Does it, if it can be done.
fn perform(root: &Path, act: &Act) -> io::Result<()> {
    // The root is a path through /proc, and links of the tree must not lead to the host.
    let at = |path: &str| root.join(path);
    match act {
        Act::Write(path, n) => fs::write(at(path), [*n]),
        Act::Mkdir(path) => fs::create_dir(at(path)),
        Act::Remove(path) => match at(path).symlink_metadata()?.is_dir() {
            true => fs::remove_dir_all(at(path)),
            false => fs::remove_file(at(path)),
        },
        Act::Rename(from, to) => fs::rename(at(from), at(to)),
        Act::Link(from, to) => fs::hard_link(at(from), at(to)),
        Act::Symlink(path) => std::os::unix::fs::symlink("nowhere", at(path)),
        Act::Chmod(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
    }
}

#[test]
fn whatever_a_program_does_is_seen_elsewhere() {
    if !is_root("whatever_a_program_does_is_seen_elsewhere") {
        return;
    }
    let lower = ["d a", "d a/b", "f a/b/c x", "f a/c y", "d b", "f b/a z", "l c a", "h b/b b/a"];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    });
    let acts = prop::collection::vec(act(), 1..30);
    let test = |acts: Vec<Act>| {
        let stack = Stack::over(&lower);
        for act in &acts {
            // What cannot be done changes nothing.
            let _ = perform(&stack.merged(), act);
        }
        prop_assert_eq!(stack.seen_elsewhere(), list(&stack.merged()));
        Ok::<(), TestCaseError>(())
    };
    runner.run(&acts, test).unwrap();
}
