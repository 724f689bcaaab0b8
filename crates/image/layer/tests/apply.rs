//! What a layer becomes in a directory, in the base, and over other layers.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::MetadataExt as _;

use hako_layer::{ApplyOptions, Devices, Onto, apply, settle};
use hako_tar::{Header, Kind, Time};
use support::{Dest, entry, is_root, layer, list, options, overlay, path_of, tar_of, xattr_of};

/// Applies a layer to an empty directory, and compares the tree.
fn check(onto: Onto, lines: &[&str], want: &[&str]) {
    let dest = Dest::new();
    let applied = dest.apply(onto, lines).unwrap();
    assert!(!applied.needs_parent, "{lines:?} needs its parent");
    assert_eq!(dest.list().lines().collect::<Vec<_>>(), want, "{lines:?}");
    dest.assert_untouched();
}

/// A layer that cannot be applied without those below it.
fn check_needs_parent(lines: &[&str]) {
    let applied = Dest::new().apply(Onto::Directory, lines).unwrap();
    assert!(applied.needs_parent, "{lines:?}");
}

/// Applies layers one over the other, and compares what is seen at the top. Every layer that can
/// stand alone is applied both ways, which must show the same.
fn check_stack(layers: &[&[&str]], want: &[&str]) {
    for alone in [true, false] {
        let base = tempfile::tempdir().unwrap();
        let dir = |name: String| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        // Overlayfs wants two layers where there is no upper one.
        let mut done = vec![dir("empty".into())];
        for (n, lines) in layers.iter().enumerate() {
            let mut upper = dir(format!("layer-{n}"));
            let blob = layer(lines);
            let root = hako_root::Root::open(&upper).unwrap();
            let onto = if n == 0 { Onto::Base } else { Onto::Directory };
            let applied = apply(&blob[..], &root, &options(onto)).unwrap();
            let lowers: Vec<_> = done.iter().rev().map(|p| p.as_path()).collect();
            let fits =
                n == 0 || { settle(&root, &overlay(&lowers, None), &applied).unwrap() && alone };
            if !fits {
                upper = dir(format!("over-{n}"));
                let mounted = overlay(&lowers, Some((&upper, &dir(format!("work-{n}")))));
                let over = apply(&blob[..], &mounted, &options(Onto::Overlay)).unwrap();
                assert!(!over.needs_parent);
                assert_eq!(over.diff_id, applied.diff_id);
            }
            done.push(upper);
        }
        let lowers: Vec<_> = done.iter().rev().map(|p| p.as_path()).collect();
        let seen = list(&path_of(&overlay(&lowers, None)));
        let way = if alone { "alone" } else { "over the others" };
        assert_eq!(seen.lines().collect::<Vec<_>>(), want, "{layers:?}, {way}");
    }
}

#[test]
fn every_kind() {
    if !is_root("every_kind") {
        return;
    }
    let lines = [
        "d etc",
        "d1777 tmp",
        "f etc/hosts localhost",
        "f4755 su program",
        "f2640 mail letter",
        "l link etc/hosts",
        "l dangling /nowhere/../at/all",
        "h etc/hosts-2 etc/hosts",
        "c666 null 1:3",
        "b660 disk 8:0",
        "p640 fifo",
    ];
    let want = [
        "l dangling /nowhere/../at/all",
        "b660 disk 8:0",
        "d etc",
        "f etc/hosts localhost",
        "f etc/hosts-2 localhost",
        "p640 fifo",
        "l link etc/hosts",
        "f2640 mail letter",
        "c666 null 1:3",
        "f4755 su program",
        "d1777 tmp",
    ];
    check(Onto::Base, &lines, &want);
    check(Onto::Directory, &lines, &want);
}

#[test]
fn owners_times_and_attributes() {
    if !is_root("owners_times_and_attributes") {
        return;
    }
    let dest = Dest::new();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut entries = Vec::new();
    for (line, seconds) in [("d dir", 5), ("f4711 dir/file content", -7), ("l dir/link file", 9)] {
        let (mut header, content) = entry(line);
        header.mtime = Time { seconds, nanos: 123_456_789 };
        (header.uid, header.gid) = (3_000_000_000, 4_294_967_294);
        entries.push((header, content));
    }
    for (name, value) in [
        ("security.capability", &capability[..]),
        ("security.selinux", b"system_u:object_r:bin_t:s0"),
        ("user.comment", b"kept"),
        ("user.overlay.opaque", b"y"),
        ("trusted.overlay.redirect", b"/secret"),
    ] {
        entries[1].0.xattrs.insert(name.into(), value.to_vec());
    }
    let applied = apply(&tar_of(&entries)[..], &dest.root, &options(Onto::Base)).unwrap();
    assert_eq!(applied.omitted.xattrs, 3);
    for (path, seconds) in [("dir", 5), ("dir/file", -7), ("dir/link", 9)] {
        let m = dest.path(path).symlink_metadata().unwrap();
        assert_eq!((m.uid(), m.gid()), (3_000_000_000, 4_294_967_294), "{path}");
        assert_eq!((m.mtime(), m.mtime_nsec()), (seconds, 123_456_789), "{path}");
    }
    let file = dest.path("dir/file");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o4711);
    assert_eq!(xattr_of(&file, "security.capability").unwrap(), capability);
    assert_eq!(xattr_of(&file, "user.comment").unwrap(), b"kept");
    for name in ["security.selinux", "user.overlay.opaque", "trusted.overlay.redirect"] {
        assert_eq!(xattr_of(&file, name), None, "{name}");
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    check(Onto::Base, &["f a one", "f a two"], &["f a two"]);
    check(Onto::Base, &["f a one", "l a b"], &["l a b"]);
    check(Onto::Base, &["l a b", "f a one"], &["f a one"]);
    check(Onto::Base, &["d a", "f a/b x", "f a file"], &["f a file"]);
    check(Onto::Base, &["f a file", "d a", "f a/b x"], &["d a", "f a/b x"]);
    check(Onto::Base, &["d a", "f a/b x", "d700 a"], &["d700 a", "f a/b x"]);
    check(Onto::Base, &["d a", "d a/b", "d700 a/b/c", "f a x", "d a"], &["d a"]);
    check(Onto::Base, &["f a x", "h b a", "f a y"], &["f a y", "f b x"]);
    check(Onto::Base, &["f a x", "h a a"], &["f a x"]);
    check(Onto::Base, &["f a x", "h a ./a"], &["f a x"]);
    // What a directory's removal took away must not come back with its attributes.
    check(Onto::Base, &["d a", "d500 a/b", "l a c", "d c", "d c/b"], &["l a c", "d c", "d c/b"]);
}

#[test]
fn parents_that_are_links_within_the_layer() {
    let lines = ["d usr", "d usr/lib", "l lib usr/lib", "f lib/libc x"];
    check(Onto::Base, &lines, &["l lib usr/lib", "d usr", "d usr/lib", "f usr/lib/libc x"]);
    check(Onto::Directory, &lines, &["l lib usr/lib", "d usr", "d usr/lib", "f usr/lib/libc x"]);
    let absolute = ["d usr", "d usr/lib", "l lib /usr/../usr/lib", "d700 lib/sub", "f lib/sub/a x"];
    let want =
        ["l lib /usr/../usr/lib", "d usr", "d usr/lib", "d700 usr/lib/sub", "f usr/lib/sub/a x"];
    check(Onto::Base, &absolute, &want);
    check(Onto::Base, &["d a", "l b a", "f b/c/d x"], &["d a", "d a/c", "f a/c/d x", "l b a"]);
    check(Onto::Base, &["f a x", "l b .", "h b/b/c b/b/a"], &["f a x", "l b .", "f c x"]);
}

#[test]
fn what_is_below_is_asked_for() {
    check_needs_parent(&["f a/b x"]);
    check_needs_parent(&["d a", "f a/b/c x"]);
    check_needs_parent(&["h a b"]);
    check_needs_parent(&["d a", "h a/b a/c"]);
    check_needs_parent(&["h a b/c"]);
    check_needs_parent(&["l lib usr/lib", "f lib/a x"]);
    check_needs_parent(&["l a b/../c", "d c", "f a/d x"]);
    check_needs_parent(&["f a/.wh.b"]);
    check_needs_parent(&["f .wh..wh..opq"]);
    assert!(!Dest::new().apply(Onto::Base, &["f a/b/c x"]).unwrap().needs_parent);
    assert!(!Dest::new().apply(Onto::Directory, &["d a", "f a/b x"]).unwrap().needs_parent);
    assert!(Dest::new().apply(Onto::Base, &["d ./", "f a"]).unwrap().has_root);
    assert!(!Dest::new().apply(Onto::Base, &["f a"]).unwrap().has_root);
}

#[test]
fn whiteouts_in_a_directory() {
    if !is_root("whiteouts_in_a_directory") {
        return;
    }
    check(Onto::Directory, &["f .wh.a"], &["w a"]);
    check(Onto::Directory, &["d a", "f a/.wh.b"], &["d a", "w a/b"]);
    check(Onto::Directory, &["d a", "f a/.wh..wh..opq", "f a/b x"], &["o a", "f a/b x"]);
    check(Onto::Directory, &["d a", "f a/b x", "f a/.wh..wh..opq"], &["o a", "f a/b x"]);
    check(Onto::Directory, &["f .wh.a", "f a x"], &["f a x"]);
    check(Onto::Directory, &["f a x", "f .wh.a"], &["f a x"]);
    check(Onto::Directory, &["f .wh.a", "d a", "f a/b x"], &["o a", "f a/b x"]);
    check(Onto::Directory, &["d a", "f a/b x", "f .wh.a"], &["o a", "f a/b x"]);
    check(Onto::Directory, &["f .wh.a", "f a/b/c x"], &["o a", "d a/b", "f a/b/c x"]);
    check(Onto::Directory, &["f a x", "d a"], &["o a"]);
    check(Onto::Directory, &["f .wh.a", "f .wh.a"], &["w a"]);
    check(Onto::Directory, &["c a 0:0"], &["w a"]);
    check(Onto::Base, &["f .wh.a", "d b", "f b/.wh..wh..opq", "c c 0:0"], &["d b"]);
    check(Onto::Base, &["f a/b/.wh.c"], &["d a", "d a/b"]);
    check(Onto::Base, &["f .wh..wh.plnk", "f .wh..wh.aufs", "f a x"], &["f a x"]);
}

#[test]
fn whiteout_hides_only_lower_layers() {
    if !is_root("whiteout_hides_only_lower_layers") {
        return;
    }
    check_stack(&[&["d a", "f a/b 1", "f a/c 1"], &["d a", "f a/.wh.b"]], &["d a", "f a/c 1"]);
    check_stack(&[&["f a 1"], &["f .wh.a", "f a 2"]], &["f a 2"]);
    check_stack(&[&["f a 1"], &["f a 2", "f .wh.a"]], &["f a 2"]);
    check_stack(&[&["d a", "f a/b 1"], &["d a", "f a/c 2", "f .wh.a"]], &["d a", "f a/c 2"]);
    check_stack(&[&["d a", "f a/b 1"], &["f .wh.a", "d a", "f a/c 2"]], &["d a", "f a/c 2"]);
    let opaque = ["d a", "f a/c 2", "f a/.wh..wh..opq"];
    check_stack(&[&["d a", "f a/b 1", "d a/d", "f a/d/e 1"], &opaque], &["d a", "f a/c 2"]);
    let deep = ["d a", "d a/d", "f a/d/new 2", "f a/.wh..wh..opq"];
    check_stack(
        &[&["d a", "f a/b 1", "d a/d", "f a/d/old 1"], &deep],
        &["d a", "d a/d", "f a/d/new 2"],
    );
    check_stack(&[&["d a", "f a/b 1"], &["f a 2"], &["d a", "f a/c 3"]], &["d a", "f a/c 3"]);
    check_stack(&[&["f a 1"], &["f .wh.a"], &["f b 3"]], &["f b 3"]);
    check_stack(&[&["d a", "f a/b 1"], &["c a 0:0"]], &[]);
    check_stack(&[&["f a 1"], &["f .wh.nothing", "d b", "f b/.wh.nothing"]], &["f a 1", "d b"]);
}

#[test]
fn what_is_below_is_found() {
    if !is_root("what_is_below_is_found") {
        return;
    }
    let usr = ["d usr", "d700 usr/lib", "l lib usr/lib", "f usr/lib/a 1"];
    let want = ["l lib usr/lib", "d usr", "d700 usr/lib", "f usr/lib/a 1", "f usr/lib/b 2"];
    check_stack(&[&usr, &["f lib/b 2"]], &want);
    check_stack(&[&usr, &["f usr/lib/b 2"]], &want);
    check_stack(
        &[&usr, &["h lib/b lib/a"]],
        &["l lib usr/lib", "d usr", "d700 usr/lib", "f usr/lib/a 1", "f usr/lib/b 1"],
    );
    check_stack(&[&usr, &["f lib/.wh.a"]], &["l lib usr/lib", "d usr", "d700 usr/lib"]);
    check_stack(&[&usr, &["f lib/.wh..wh..opq"]], &["l lib usr/lib", "d usr", "d700 usr/lib"]);
    check_stack(
        &[&usr, &["f nothing/.wh.a", "f nothing/.wh..wh..opq"]],
        &["l lib usr/lib", "d nothing", "d usr", "d700 usr/lib", "f usr/lib/a 1"],
    );
    check_stack(&[&["f a 1"], &["h b a", "f .wh.a"]], &["f b 1"]);
    check_stack(&[&["f a 1", "d b", "f b/c 1"], &["f d 2", "f .wh..wh..opq"]], &["f d 2"]);
    // A directory below gives its looks to one that is only implied, unless it is hidden.
    check_stack(&[&["d700 a", "d711 a/b"], &["f a/b/c 2"]], &["d700 a", "d711 a/b", "f a/b/c 2"]);
    check_stack(&[&["d700 a"], &["f .wh.a", "f a/b 2"]], &["d a", "f a/b 2"]);
    check_stack(&[&["d700 a"], &["f a/b 2", "d711 a"]], &["d711 a", "f a/b 2"]);
    let hidden = ["d a", "f a/.wh..wh..opq", "f a/b/c 2", "f a/b/.wh.d", "f a/.wh.e"];
    check_stack(
        &[&["d a", "d700 a/b", "f a/b/d 1", "f a/e 1"], &hidden],
        &["d a", "d a/b", "f a/b/c 2"],
    );
}

#[test]
fn devices_may_be_left_out() {
    let dest = Dest::new();
    let left_out = ApplyOptions { devices: Devices::Omitted, ..options(Onto::Base) };
    let lines = ["c null 1:3", "b disk 8:0", "p fifo", "f a x"];
    let applied = apply(&layer(&lines)[..], &dest.root, &left_out).unwrap();
    assert_eq!(applied.omitted.devices, 2);
    assert_eq!(dest.list(), "f a x\np fifo\n");
}

#[test]
fn userxattr_marks_for_ordinary_users() {
    let dest = Dest::new();
    let user = ApplyOptions { userxattr: true, ..options(Onto::Directory) };
    apply(&layer(&["d a", "f a/.wh..wh..opq"])[..], &dest.root, &user).unwrap();
    assert_eq!(xattr_of(&dest.path("a"), "user.overlay.opaque").unwrap(), b"y");
    assert_eq!(xattr_of(&dest.path("a"), "trusted.overlay.opaque"), None);
}

#[test]
fn holes_stay_holes() {
    // 64 MiB with one byte at its end, in the PAX 1.0 form.
    let size = 64u64 << 20;
    let mut map = format!("1\n{}\n1\n", size - 1).into_bytes();
    map.resize(512, 0);
    map.push(b'x');
    let mut header = Header::new("stored", Kind::File, 0o644);
    header.size = map.len() as u64;
    let stored = tar_of(&[(header, map)]);
    let records: String = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", &size.to_string()),
    ]
    .iter()
    .map(|(key, value)| {
        let length = key.len() + value.len() + 5;
        format!("{length} {key}={value}\n")
    })
    .collect();
    let mut extension = Header::new("pax", Kind::Other(b'x'), 0o644);
    extension.size = records.len() as u64;
    let extension = tar_of(&[(extension, records.into_bytes())]);
    let tar = [&extension[..1024], &stored].concat();

    let dest = Dest::new();
    let applied = apply(&tar[..], &dest.root, &options(Onto::Base)).unwrap();
    assert_eq!(applied.size_bytes, size);
    let file = dest.path("sparse");
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    assert_eq!(std::fs::read(file).unwrap().last(), Some(&b'x'));
}
