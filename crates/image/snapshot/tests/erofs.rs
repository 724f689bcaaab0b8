//! The suite of every snapshotter, for the EROFS snapshotter, and what is its own.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    io::Cursor,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use hako_oci::Digest;
use hako_snapshot::{ActiveOptions, Chain, Erofs, Error, Layer, Snapshotter as _};
use hako_tar::{Header, Kind, Writer};

/// The error says why the kernel cannot mount an index.
fn open(dir: &Path) -> Result<Erofs, Error> {
    Erofs::probe(dir).map(|()| Erofs::open(dir).unwrap())
}

/// The same for tests of their own.
fn open_or_skip(test: &str, dir: &Path) -> Option<Erofs> {
    if hako_sys::cred::effective_uid() != 0 {
        eprintln!("SKIP {test}: needs root");
        return None;
    }
    open(dir).inspect_err(|e| eprintln!("SKIP {test}: {e}")).ok()
}

hako_snapshot::testsuite!(erofs, open);

/// What kernels get that mount no files.
fn open_by_loop(dir: &Path) -> Result<Erofs, String> {
    if !Path::new("/dev/loop-control").exists() {
        return Err("no /dev/loop-control".to_owned());
    }
    open(dir).map(Erofs::by_loop).map_err(|e| e.to_string())
}

hako_snapshot::testsuite!(erofs_by_loop, open_by_loop);

fn layer(files: &[(&str, &[u8])]) -> Layer<'static> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new(*path, Kind::File, 0o644);
        header.size = content.len() as u64;
        writer.append(&header, *content).unwrap();
    }
    let tar = writer.finish().unwrap();
    let diff_id = Digest::sha256(&tar);
    Layer::new(diff_id, Box::new(move || Ok(Box::new(Cursor::new(tar.clone())) as _)))
}

/// Which file system a descriptor is on.
fn device(fd: &impl AsRawFd) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/self/fd/{}/.", fd.as_raw_fd())).unwrap().dev()
}

/// Two mounts of one index are two file systems, each with a page cache of its own: who shares
/// copies the mount.
#[test]
fn layers_are_mounted_once_while_somebody_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = open_or_skip("layers_are_mounted_once_while_somebody_holds_them", dir.path())
    else {
        return;
    };
    let one = store.ensure_layers(&[layer(&[("a", b"a")])]).unwrap();
    let two = store.ensure_layers(&[layer(&[("b", b"b")])]).unwrap();
    for (key, chain) in [("k", &one), ("l", &one), ("m", &two)] {
        store.prepare(key, chain, ActiveOptions::default()).unwrap();
    }
    let Some(first) = store.shared("k", &[]).unwrap() else {
        eprintln!("SKIP layers_are_mounted_once_while_somebody_holds_them: needs Linux 6.15");
        return;
    };
    let held =
        |fd: &std::os::fd::OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let nonsense = ["/proc/self/fd/999", "/dev/null", "/", "/proc/self/exe"].map(PathBuf::from);
    let others = [&nonsense[..], &[held(&first.layers)]].concat();
    let second = store.shared("l", &others).unwrap().unwrap();
    let other = store.shared("m", &others).unwrap().unwrap();
    let alone = store.shared("l", &nonsense).unwrap().unwrap();
    assert_eq!(device(&first.layers), device(&second.layers));
    assert_ne!(device(&first.layers), device(&other.layers));
    assert_ne!(device(&first.layers), device(&alone.layers));
    // It outlives who mounted it.
    drop(first);
    let third = store.shared("k", &[held(&second.layers)]).unwrap().unwrap();
    assert_eq!(device(&third.layers), device(&second.layers));
    assert!(std::fs::read_dir(held(&third.layers)).unwrap().count() == 1);
    for key in ["k", "l", "m"] {
        store.remove(key).unwrap();
    }
}

/// Verification finds a changed byte in a tar, in an index, and what was added.
#[test]
fn what_was_changed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = open_or_skip("what_was_changed_is_found", dir.path()) else { return };
    let layers = [layer(&[("a", b"content")]), layer(&[("b", b"b")])];
    let diff_ids = [layers[0].diff_id.clone(), layers[1].diff_id.clone()];
    let chain = store.ensure_layers(&layers).unwrap();
    assert_eq!(store.verify(&chain).unwrap(), Vec::<String>::new());
    let tar = dir.path().join("tars").join(diff_ids[0].hex()).join("tar");
    let index = dir.path().join("layers").join(chain.top().unwrap().hex()).join("index");
    for path in [tar, index] {
        let whole = std::fs::read(&path).unwrap();
        let longer = [&whole[..], &[0; 512]].concat();
        let mut changed = whole.clone();
        changed[600] ^= 1;
        for broken in [changed, longer, whole[..whole.len() - 512].to_vec()] {
            std::fs::write(&path, broken).unwrap();
            let faults = store.verify(&chain).unwrap();
            assert_eq!(faults.len(), 1, "{}: {faults:?}", path.display());
        }
        std::fs::write(&path, whole).unwrap();
        assert_eq!(store.verify(&chain).unwrap(), Vec::<String>::new());
    }
    // The chain of the lower layer has no index before it is wanted.
    let lower = Chain::of(&diff_ids[..1]);
    assert_eq!(store.verify(&lower).unwrap(), Vec::<String>::new());
    assert_eq!(store.view_chain(&lower).unwrap().read(Path::new("a"), 99).unwrap(), b"content");
    assert_eq!(store.verify(&lower).unwrap(), Vec::<String>::new());
}

/// `auto` takes EROFS where the kernel can mount files of the store, and leaves nothing of the
/// attempt where it cannot.
#[test]
fn auto_takes_what_the_kernel_can() {
    use hako_snapshot::{Kind, Stores};

    let dir = tempfile::tempdir().unwrap();
    let name = "auto_takes_what_the_kernel_can";
    let Some(_) = open_or_skip(name, &dir.path().join("probe")) else { return };
    let store = |dir: &Path, kind| Stores::open(dir, kind).unwrap().name();
    let auto = Some("auto".parse::<Kind>().unwrap());
    let on_disk = dir.path().join("store");
    assert_eq!(store(&on_disk, None), "erofs");
    assert_eq!(store(&on_disk, auto), "erofs");
    // What is forced is not what the store remembers.
    assert_eq!(store(&on_disk, Some(Kind::Overlay)), "overlay");
    assert_eq!(store(&on_disk, None), "erofs");
    // A memory file system, whose files the kernel mounts only by loop devices.
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let probed = Erofs::probe(&memory.path().join("probe"));
    std::fs::remove_dir_all(memory.path().join("probe")).unwrap();
    let there = memory.path().join("store");
    let expected = if probed.is_ok() { "erofs" } else { "overlay" };
    assert_eq!(store(&there, auto), expected);
    assert_eq!(store(&there, None), expected);
    assert_eq!(there.join("erofs").exists(), probed.is_ok());
    assert_eq!(Stores::open(&there, Some(Kind::Erofs)).is_ok(), probed.is_ok());
    // It stays with what it was made with.
    assert_eq!(store(&there, None), expected);
}

/// A tar that is a file already is not written once more: both names are of one file, and either
/// may go first. What is no tar, or not in whole blocks, is read as ever.
#[test]
fn a_tar_that_is_there_is_linked() {
    use std::os::unix::fs::MetadataExt as _;

    let dir = tempfile::tempdir().unwrap();
    let Some(store) = open_or_skip("a_tar_that_is_there_is_linked", dir.path()) else { return };
    let mut writer = Writer::new(Vec::new());
    let mut header = Header::new("a", Kind::File, 0o644);
    header.size = 7;
    writer.append(&header, &b"content"[..]).unwrap();
    let tar = writer.finish().unwrap();
    let odd = [&tar[..], &[0; 100]].concat();
    let blob = dir.path().join("blob");
    let stored = |content: &[u8], diff_id: Digest, stored: &[u8]| {
        std::fs::remove_file(&blob).ok();
        std::fs::write(&blob, stored).unwrap();
        let (content, path) = (content.to_vec(), blob.clone());
        Layer::new(diff_id, Box::new(move || Ok(Box::new(Cursor::new(content.clone())) as _)))
            .stored(Box::new(move || Ok(Some(path.clone()))))
    };
    let names = || std::fs::metadata(&blob).unwrap().nlink();
    let check = |layer: Layer<'_>, linked: u64| {
        let chain = store.ensure_layers(&[layer]).unwrap();
        assert_eq!(names(), linked);
        assert_eq!(store.view_chain(&chain).unwrap().read(Path::new("a"), 99).unwrap(), b"content");
        assert_eq!(store.verify(&chain).unwrap(), Vec::<String>::new());
        let freed = store.gc(&mut || Ok(Vec::new())).unwrap().unwrap();
        assert_eq!(names(), 1);
        freed
    };
    let diff_id = Digest::sha256(&tar);
    // Nobody reads what could be linked.
    assert_eq!(check(stored(b"not read", diff_id.clone(), &tar), 2), 0);
    let gzip = [&[0x1f, 0x8b][..], &tar[2..]].concat();
    assert_eq!(check(stored(&tar, diff_id.clone(), &gzip), 1), tar.len() as u64);
    assert_eq!(check(stored(&odd, Digest::sha256(&odd), &odd), 1), tar.len() as u64 + 512);
    // The blob goes first: the tar is what is left.
    let chain = store.ensure_layers(&[stored(b"", diff_id, &tar)]).unwrap();
    std::fs::remove_file(&blob).unwrap();
    assert_eq!(store.view_chain(&chain).unwrap().read(Path::new("a"), 99).unwrap(), b"content");
    assert_eq!(store.gc(&mut || Ok(Vec::new())).unwrap(), Some(tar.len() as u64));
}

/// Where a container's own child mounts the layers, it gets devices that are there until it did.
#[test]
fn devices_are_held_until_they_are_mounted() {
    use hako_sys::{mount, namespace};

    let name = "devices_are_held_until_they_are_mounted";
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = open_or_skip(name, dir.path()) else { return };
    let store = store.by_loop();
    let chain = store.ensure_layers(&[layer(&[("a", b"content")])]).unwrap();
    store.prepare("k", &chain, ActiveOptions::default()).unwrap();
    let mounts = match store.mounts("k") {
        Err(e) if !Path::new("/dev/loop-control").exists() => {
            eprintln!("SKIP {name}: {e}");
            return;
        }
        mounts => mounts.unwrap(),
    };
    assert_eq!(store.mounts("k").unwrap(), mounts);
    let below = mounts[0].clone();
    let source = below.source.unwrap();
    assert!(source.starts_with("/dev/loop"), "{source}");
    let point = dir.path().join("point");
    std::fs::create_dir(&point).unwrap();
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    // The mount is seen by this thread only, and ends with it.
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            namespace::unshare(namespace::Kind::Mount.flag()).unwrap();
            mount::set_propagation(c"/", mount::Propagation::Private, true).unwrap();
            let options: Vec<&str> =
                below.options.iter().map(String::as_str).filter(|o| *o != "ro").collect();
            let (source, target) = (text(&source), text(point.to_str().unwrap()));
            let options = text(&options.join(","));
            mount::mount(Some(&source), &target, Some(c"erofs"), 1, Some(&options)).unwrap();
            // Nobody else holds them now.
            drop(store);
            std::fs::read(point.join("a")).unwrap()
        });
        assert_eq!(mounted.join().unwrap(), b"content");
    });
}
