//! Trees that try to lead out of their root, and trees that are hard to remove.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    ffi::CString,
    io::Write as _,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
};

use hako_root::{Error, FileKind, OpenFlags, Root};
use hako_sys::{
    Errno,
    fs::{self, InodeFlags},
};

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// A root at `inside` of a directory, beside which `secret` lies.
fn tree() -> (tempfile::TempDir, Root) {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("inside")).unwrap();
    std::fs::write(base.path().join("secret"), "host").unwrap();
    let root = Root::open(&base.path().join("inside")).unwrap();
    (base, root)
}

#[test]
fn no_path_leads_out() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    symlink("../secret", inside.join("relative")).unwrap();
    symlink(base.path().join("secret"), inside.join("absolute")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    let absolute = base.path().join("secret");
    for path in ["relative", "absolute", "../secret", "/../secret", "up/secret", "magic/etc/passwd"]
    {
        let e = root.read(p(path), 100).unwrap_err();
        assert!(e.is_not_found(), "{path}: {e}");
    }
    assert!(root.read(&absolute, 100).unwrap_err().is_not_found());
    assert_eq!(root.read(p("loop"), 100).unwrap_err().errno(), Some(Errno::ELOOP));

    // The same names lead to the tree's own files where it has them.
    std::fs::write(inside.join("secret"), "image").unwrap();
    for path in ["relative", "../secret", "/../../secret", "up/secret", "up/../up/secret"] {
        assert_eq!(root.read(p(path), 100).unwrap(), b"image", "{path}");
    }
    // Writing through links stays inside as well.
    let mut file = root.open_file(p("relative"), OpenFlags::WRONLY | OpenFlags::CREAT).unwrap();
    file.write_all(b"owned").unwrap();
    assert_eq!(std::fs::read(base.path().join("secret")).unwrap(), b"host");
    assert_eq!(std::fs::read(inside.join("secret")).unwrap(), b"owned");
}

#[test]
fn magic_links_of_proc_are_refused() {
    let root = Root::open(p("/proc")).unwrap();
    let path = format!("self/fd/{}", root.fd().as_raw_fd());
    let e = root.open_dir(p(&path)).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::ELOOP), "{e}");
}

#[test]
fn reads_are_bounded_and_never_wait() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    std::fs::write(inside.join("ten"), "0123456789").unwrap();
    assert_eq!(root.read(p("ten"), 10).unwrap().len(), 10);
    assert!(matches!(root.read(p("ten"), 9), Err(Error::TooLarge { limit: 9, .. })));
    root.as_dir().mknod(c"fifo", FileKind::Fifo, 0o600, (0, 0)).unwrap();
    for flags in [OpenFlags::RDONLY, OpenFlags::RDWR | OpenFlags::CREAT] {
        let e = root.open_file(p("fifo"), flags).unwrap_err();
        assert!(matches!(e, Error::NotFile { kind: FileKind::Fifo, .. }), "{e}");
    }
    assert!(matches!(root.read(p("."), 9), Err(Error::NotFile { kind: FileKind::Directory, .. })));
}

#[test]
fn errors_name_call_root_and_path() {
    let (base, root) = tree();
    let text = root.read(p("etc/passwd"), 1).unwrap_err().to_string();
    let inside = base.path().join("inside");
    assert_eq!(
        text,
        format!("openat2 \"etc/passwd\" beneath {inside:?}: no such file or directory")
    );
}

#[test]
fn directories_are_made_beneath() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    symlink("/var/run", inside.join("run")).unwrap();
    root.mkdir_all(p("var/run"), 0o755).unwrap();
    root.mkdir_all(p("/run/a/b"), 0o750).unwrap();
    assert_eq!(std::fs::metadata(inside.join("var/run/a/b")).unwrap().mode() & 0o777, 0o750);
    root.mkdir_all(p(""), 0o755).unwrap();
    root.mkdir_all(p("/"), 0o755).unwrap();

    symlink("/nowhere", inside.join("dangling")).unwrap();
    assert!(root.mkdir_all(p("dangling/a"), 0o755).is_err());
    assert!(matches!(root.mkdir_all(p("new/../../a"), 0o755), Err(Error::Name { .. })));
    std::fs::write(inside.join("file"), "").unwrap();
    let e = root.mkdir_all(p("file/a"), 0o755).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::ENOTDIR), "{e}");
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 2);
}

#[test]
fn parents_and_links() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    root.mkdir_all(p("usr/lib"), 0o755).unwrap();
    symlink("usr/lib", inside.join("lib")).unwrap();
    let (dir, name) = root.parent(p("/lib/libc.so")).unwrap();
    dir.create_file(&name, 0o644).unwrap();
    assert!(inside.join("usr/lib/libc.so").exists());
    assert!(matches!(root.parent(p("/")), Err(Error::Name { .. })));
    assert!(matches!(root.parent(p("usr/..")), Err(Error::Name { .. })));
    assert_eq!(root.open_dir_nofollow(p("lib")).unwrap_err().errno(), Some(Errno::ELOOP));
    assert_eq!(root.readlink(p("lib")).unwrap(), p("usr/lib"));
    assert_eq!(root.symlink_metadata(p("lib")).unwrap().kind, FileKind::Symlink);
    assert_eq!(root.metadata(p("lib")).unwrap().kind, FileKind::Directory);
}

#[test]
fn directories_take_plain_names_only() {
    let (_base, root) = tree();
    let dir = root.as_dir();
    for bad in [c"", c".", c"..", c"a/b", c"/", c"../secret"] {
        let is_name = |e: Option<Error>| matches!(e, Some(Error::Name { .. }));
        assert!(is_name(dir.mkdir(bad, 0o755).err()), "{bad:?}");
        assert!(is_name(dir.create_file(bad, 0o644).err()), "{bad:?}");
        assert!(is_name(dir.symlink(c"x", bad).err()), "{bad:?}");
        assert!(is_name(dir.unlink(bad).err()), "{bad:?}");
        assert!(is_name(dir.remove_all(bad).err()), "{bad:?}");
        assert!(is_name(dir.hard_link(c"x", dir, bad).err()), "{bad:?}");
    }
}

#[test]
fn removal_stays_inside_and_removes_links_themselves() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    std::fs::create_dir_all(inside.join("a/b")).unwrap();
    symlink(base.path(), inside.join("a/b/out")).unwrap();
    symlink("../..", inside.join("top")).unwrap();
    root.remove_all(p("top")).unwrap();
    root.remove_all(p("a")).unwrap();
    root.remove_all(p("a")).unwrap();
    root.remove_all(p("a/b/c")).unwrap();
    assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 0);
    assert_eq!(std::fs::read(base.path().join("secret")).unwrap(), b"host");
}

#[test]
fn removal_of_a_tree_deeper_than_any_path() {
    let (_base, root) = tree();
    let name = CString::new("d".repeat(200)).unwrap();
    let mut dir = root.as_dir().try_clone().unwrap();
    for depth in 0..3000 {
        dir.mkdir(&name, 0o755).unwrap();
        if depth % 7 == 0 {
            dir.create_file(c"file", 0o644).unwrap();
        }
        dir = dir.open_dir(&name).unwrap();
    }
    drop(dir);
    let usage = root.as_dir().usage().unwrap();
    assert_eq!(usage.inodes, 1 + 3000 + 429);
    root.as_dir().remove_all(&name).unwrap();
    root.as_dir().remove_all(c"file").unwrap();
    assert!(root.as_dir().entries().unwrap().is_empty());
}

#[test]
fn removal_of_a_wide_tree() {
    let (_base, root) = tree();
    let dir = root.mkdir_all(p("wide"), 0o755).unwrap();
    for n in 0..5000 {
        dir.mkdir(&CString::new(format!("directory-{n}")).unwrap(), 0o755).unwrap();
        dir.create_file(&CString::new(format!("file-{n}")).unwrap(), 0o644).unwrap();
    }
    assert_eq!(dir.usage().unwrap().inodes, 10_001);
    root.remove_all(p("wide")).unwrap();
    assert!(root.as_dir().entries().unwrap().is_empty());
}

#[test]
fn hard_links_count_once() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    std::fs::write(inside.join("a"), vec![1; 100_000]).unwrap();
    let one = root.as_dir().usage().unwrap();
    std::fs::hard_link(inside.join("a"), inside.join("b")).unwrap();
    assert_eq!(root.as_dir().usage().unwrap(), one);
}

#[test]
fn removal_of_what_forbids_it() {
    let (base, root) = tree();
    let inside = base.path().join("inside");
    std::fs::create_dir_all(inside.join("x/locked/deep")).unwrap();
    std::fs::write(inside.join("x/locked/file"), "").unwrap();
    std::fs::write(inside.join("x/append"), "").unwrap();
    let set = |path: &str, flag| {
        let file = std::fs::File::open(inside.join(path)).unwrap();
        let old = fs::inode_flags(file.as_fd())?;
        fs::set_inode_flags(file.as_fd(), old | flag)
    };
    for (path, flag) in [
        ("x/append", InodeFlags::APPEND),
        ("x/locked/file", InodeFlags::IMMUTABLE),
        ("x/locked/deep", InodeFlags::IMMUTABLE),
        ("x/locked", InodeFlags::IMMUTABLE),
    ] {
        if let Err(e) = set(path, flag) {
            eprintln!("SKIP removal_of_what_forbids_it: cannot set inode flags here: {e}");
            return;
        }
    }
    assert!(std::fs::remove_dir_all(inside.join("x")).is_err());
    std::fs::set_permissions(inside.join("x"), std::fs::Permissions::from_mode(0o0)).unwrap();
    root.remove_all(p("x")).unwrap();
    assert!(!inside.join("x").exists());
}

/// GHSA-vp62-88p7-qqf5 and kin: a directory on the way is exchanged for a link to the host while
/// something is made through it.
#[test]
fn ghsa_vp62_paths_exchanged_meanwhile() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let (base, root) = tree();
    let inside = base.path().join("inside");
    let outside = base.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(inside.join("a")).unwrap();
    symlink(&outside, inside.join("b")).unwrap();
    let done = AtomicBool::new(false);
    let rounds: u32 = std::env::var("HAKO_RACE_ROUNDS").map_or(2000, |n| n.parse().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = root.as_dir();
            while !done.load(Ordering::Relaxed) {
                dir.rename(c"a", dir, c"b", hako_root::RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..rounds {
            // Any of them may fail; none may be outside.
            let _made = root.mkdir_all(p(&format!("a/made-{round}")), 0o755);
            let flags = OpenFlags::WRONLY | OpenFlags::CREAT;
            let _opened = root.open_file(p(&format!("a/file-{round}")), flags);
            let _removed = root.remove_all(p(&format!("a/made-{}", round / 2)));
            if let Ok((dir, name)) = root.parent(p("a/link")) {
                let _linked = dir.symlink(c"x", &name);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
