//! Tests that every snapshotter passes: call [`testsuite!`](crate::testsuite) with its constructor.
//!
//! They need root and overlayfs, and leave nothing: mounts are detached, directories temporary.

#![allow(clippy::unwrap_used)]

use std::{
    io::Read,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hako_oci::Digest;
use hako_root::Root;
use hako_tar::{Header, Kind, Writer};

use crate::{ActiveOptions, Chain, Error, Layer, Snapshotter};

/// Instantiates the suite for one implementation: its name, and a constructor that takes the
/// directory of the store. Its error says what the machine lacks.
///
/// ```ignore
/// hako_snapshot::testsuite!(erofs, |dir| Erofs::probe(dir).map(|()| Erofs::open(dir).unwrap()));
/// ```
#[macro_export]
macro_rules! testsuite {
    ($name:ident, $open:expr) => {
        mod $name {
            use super::*;
            $crate::testsuite!(@cases $open;
                layers_join_top_over_bottom
                layers_without_parent_directories_take_them_from_below
                links_to_lower_files_and_through_lower_symlinks
                wrong_content_is_refused_and_leaves_nothing
                each_layer_is_unpacked_once
                active_snapshots_are_apart_and_go_away
                collection_takes_what_nothing_needs
                images_without_layers_are_empty
                a_hundred_layers_join
                roots_and_implied_directories_look_like_those_below
                whiteouts_of_nothing_do_not_show
                bases_are_complete
                what_a_container_made_is_removed
                prepared_snapshots_stay_as_they_are
            );
        }
    };
    (@cases $open:expr; $($case:ident)*) => {
        $(#[test]
        fn $case() {
            if !$crate::suite::is_root() {
                eprintln!("SKIP {}: needs root", stringify!($case));
                return;
            }
            let dir = tempfile::tempdir().unwrap();
            match $open(dir.path()) {
                Ok(store) => $crate::suite::$case(&store),
                Err(why) => eprintln!("SKIP {}: {why}", stringify!($case)),
            }
        })*
    };
}

/// Whether the tests can run.
pub fn is_root() -> bool {
    hako_sys::cred::effective_uid() == 0
}

/// A layer's tar. Each word is a file with itself as content; `x/` is a directory of mode 0700,
/// `a->b` a symbolic link, `a=>b` a hard link to b.
fn tar(words: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for word in words.split_whitespace() {
        if let Some((path, target)) = word.split_once("=>") {
            let mut header = Header::new(path, Kind::HardLink, 0o644);
            header.link = target.as_bytes().to_vec();
            writer.append(&header, std::io::empty()).unwrap();
        } else if let Some((path, target)) = word.split_once("->") {
            let mut header = Header::new(path, Kind::Symlink, 0o777);
            header.link = target.as_bytes().to_vec();
            writer.append(&header, std::io::empty()).unwrap();
        } else if word.ends_with('/') {
            writer.append(&Header::new(word, Kind::Directory, 0o700), std::io::empty()).unwrap();
        } else {
            let mut header = Header::new(word, Kind::File, 0o640);
            let content = if word.contains(".wh.") { "" } else { word };
            header.size = content.len() as u64;
            writer.append(&header, content.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn layer(tar: Vec<u8>) -> Layer<'static> {
    let diff_id = Digest::sha256(&tar);
    Layer::new(diff_id, Box::new(move || Ok(Box::new(std::io::Cursor::new(tar.clone())) as _)))
}

fn layers(stack: &[&str]) -> Vec<Layer<'static>> {
    stack.iter().map(|words| layer(tar(words))).collect()
}

fn ensure(store: &dyn Snapshotter, stack: &[&str]) -> Chain {
    store.ensure_layers(&layers(stack)).unwrap()
}

/// The content of a file; `-` where there is none.
fn read(root: &Root, path: &str) -> String {
    match root.read(Path::new(path), 1 << 16) {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(e) if e.is_not_found() => "-".to_owned(),
        Err(e) => panic!("{e}"),
    }
}

fn check(store: &dyn Snapshotter, stack: &[&str], expected: &[(&str, &str)]) -> Root {
    let chain = ensure(store, stack);
    let root = store.view_chain(&chain).unwrap();
    for (path, content) in expected {
        assert_eq!(read(&root, path), *content, "{path} of {stack:?}");
    }
    root
}

#[doc(hidden)]
pub fn layers_join_top_over_bottom(store: &impl Snapshotter) {
    check(
        store,
        &["d/ d/a d/b", "d/ d/.wh.a d/c"],
        &[("d/a", "-"), ("d/b", "d/b"), ("d/c", "d/c")],
    );
    check(
        store,
        &["d/ d/a d/b", "d/ d/.wh..wh..opq d/c"],
        &[("d/a", "-"), ("d/b", "-"), ("d/c", "d/c")],
    );
    check(store, &["d/ d/a", ".wh.d", "d/ d/b"], &[("d/a", "-"), ("d/b", "d/b")]);
    check(store, &["x", "x/ x/y"], &[("x/y", "x/y")]);
}

#[doc(hidden)]
pub fn layers_without_parent_directories_take_them_from_below(store: &impl Snapshotter) {
    let root = check(store, &["t/ t/a", "t/b"], &[("t/a", "t/a"), ("t/b", "t/b")]);
    let mode = root.metadata(Path::new("t")).unwrap().mode & 0o7777;
    assert_eq!(mode, 0o700, "of the lower layer's directory, not of one made up");
}

#[doc(hidden)]
pub fn links_to_lower_files_and_through_lower_symlinks(store: &impl Snapshotter) {
    check(store, &["a", "b=>a"], &[("a", "a"), ("b", "a")]);
    check(
        store,
        &["run/ var/ var/run->../run", "var/run/pid"],
        &[("run/pid", "var/run/pid"), ("var/run/pid", "var/run/pid")],
    );
}

#[doc(hidden)]
pub fn wrong_content_is_refused_and_leaves_nothing(store: &impl Snapshotter) {
    let mut wrong = layers(&["a", "b"]);
    wrong[1].diff_id = Digest::sha256(b"something else");
    let error = store.ensure_layers(&wrong).unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error}");
    let chain = Chain::of(&[wrong[0].diff_id.clone(), wrong[1].diff_id.clone()]);
    assert!(!store.has(&chain));
    let mut cut = tar("a b");
    cut.truncate(700);
    assert!(matches!(store.ensure_layers(&[layer(cut)]), Err(Error::Layer { .. })));
    // And the right content afterwards is taken.
    check(store, &["a", "b"], &[("a", "a"), ("b", "b")]);
}

#[doc(hidden)]
pub fn each_layer_is_unpacked_once(store: &impl Snapshotter) {
    let opened = Arc::new(AtomicUsize::new(0));
    let bytes = tar("d/ d/a d/b");
    let diff_id = Digest::sha256(&bytes);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let open = || {
                    opened.fetch_add(1, Ordering::Relaxed);
                    Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
                };
                let layer = Layer::new(diff_id.clone(), Box::new(open));
                store.ensure_layers(&[layer]).unwrap();
            });
        }
    });
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    store.sweep().unwrap();
    assert!(store.has(&Chain::of(&[diff_id])));
}

#[doc(hidden)]
pub fn active_snapshots_are_apart_and_go_away(store: &impl Snapshotter) {
    let chain = ensure(store, &["d/ d/a"]);
    for key in ["one", "two"] {
        store.prepare(key, &chain, ActiveOptions::default()).unwrap();
    }
    assert!(matches!(
        store.prepare("one", &chain, ActiveOptions::default()),
        Err(Error::KeyExists(_))
    ));
    let mount = &store.mounts("one").unwrap().pop().unwrap();
    let upper = mount.options.iter().find_map(|o| o.strip_prefix("upperdir=")).unwrap();
    std::fs::write(Path::new(upper).join("new"), "new").unwrap();
    assert_eq!(read(&store.view("one").unwrap(), "new"), "new");
    assert_eq!(read(&store.view("one").unwrap(), "d/a"), "d/a");
    assert_eq!(read(&store.view("two").unwrap(), "new"), "-");
    assert!(store.usage_bytes("one").unwrap() >= 3);
    assert_eq!(store.changes("one").unwrap().as_dir().entries().unwrap().len(), 1);
    assert_eq!(store.changes("two").unwrap().as_dir().entries().unwrap().len(), 0);
    let mut keys = store.keys().unwrap();
    keys.sort();
    assert_eq!(keys, ["one", "two"]);
    store.remove("one").unwrap();
    store.remove("one").unwrap();
    assert!(matches!(store.mounts("one"), Err(Error::NoKey(_))));
    for bad in ["", "../x", "a/b", "."] {
        assert!(matches!(store.mounts(bad), Err(Error::Key(_))), "{bad:?}");
    }
    store.remove("two").unwrap();
    assert!(store.keys().unwrap().is_empty());
}

#[doc(hidden)]
pub fn collection_takes_what_nothing_needs(store: &impl Snapshotter) {
    let mut none = || Ok(Vec::new());
    let kept = ensure(store, &["a", "b"]);
    let used = ensure(store, &["a", "c"]);
    let dead = ensure(store, &["a", "d"]);
    store.prepare("k", &used, ActiveOptions::default()).unwrap();
    let hold = store.hold().unwrap();
    assert_eq!(store.gc(&mut none).unwrap(), None, "while somebody holds");
    drop(hold);
    assert!(store.gc(&mut || Ok(vec![kept.clone()])).unwrap().is_some());
    assert!(store.has(&kept) && store.has(&used) && !store.has(&dead));
    assert!(matches!(store.prepare("l", &dead, ActiveOptions::default()), Err(Error::NoChain(_))));
    store.remove("k").unwrap();
    store.gc(&mut none).unwrap();
    assert!(!store.has(&kept) && !store.has(&used));
}

#[doc(hidden)]
pub fn images_without_layers_are_empty(store: &impl Snapshotter) {
    let chain = store.ensure_layers(&[]).unwrap();
    assert_eq!(chain, Chain::default());
    store.prepare("k", &chain, ActiveOptions::default()).unwrap();
    assert!(store.view("k").unwrap().as_dir().entries().unwrap().is_empty());
    store.remove("k").unwrap();
}

#[doc(hidden)]
pub fn a_hundred_layers_join(store: &impl Snapshotter) {
    let names: Vec<String> = (0..120).map(|n| format!("d/ d/f{n}")).collect();
    let stack: Vec<&str> = names.iter().map(String::as_str).collect();
    let root = check(store, &stack, &[("d/f0", "d/f0"), ("d/f119", "d/f119")]);
    assert_eq!(root.open_dir(Path::new("d")).unwrap().entries().unwrap().len(), 120);
}

fn mode(root: &Root, path: &str) -> u32 {
    root.metadata(Path::new(path)).unwrap().mode
}

#[doc(hidden)]
pub fn roots_and_implied_directories_look_like_those_below(store: &impl Snapshotter) {
    let chain = ensure(store, &["./ d/ d/e/ d/e/f", "g", "d/e/h"]);
    store.prepare("k", &chain, ActiveOptions::default()).unwrap();
    for root in [store.view_chain(&chain).unwrap(), store.view("k").unwrap()] {
        assert_eq!(mode(&root, ""), 0o700);
        assert_eq!(mode(&root, "d/e"), 0o700);
        let mtime = |path: &str| root.metadata(Path::new(path)).unwrap().mtime.seconds;
        assert_eq!((mtime(""), mtime("d/e")), (0, 0));
    }
    store.remove("k").unwrap();
    let plain = ensure(store, &["a", "b"]);
    assert_eq!(mode(&store.view_chain(&plain).unwrap(), ""), 0o755);
}

#[doc(hidden)]
pub fn whiteouts_of_nothing_do_not_show(store: &impl Snapshotter) {
    for stack in [
        &["d/ d/a", "e/ e/.wh.nothing d/.wh.nothing e/b"][..],
        &["d/ d/a", "e/ e/.wh..wh..opq e/.wh.nothing e/b"],
        &["d/ d/a e/ e/.wh.nothing e/b"],
    ] {
        let root = check(store, stack, &[("d/a", "d/a"), ("e/b", "e/b")]);
        let names = root.open_dir(Path::new("e")).unwrap().entries().unwrap();
        assert_eq!(names.len(), 1, "{stack:?}: {names:?}");
    }
}

#[doc(hidden)]
pub fn bases_are_complete(store: &impl Snapshotter) {
    check(store, &["x/y z=>x/y"], &[("x/y", "x/y"), ("z", "x/y")]);
    // What a base links to can be nowhere else.
    let missing = store.ensure_layers(&layers(&["a b=>nothing"])).unwrap_err();
    assert!(matches!(missing, Error::Layer { .. }), "{missing}");
    let missing = store.ensure_layers(&layers(&["a", "b=>nothing"])).unwrap_err();
    assert!(matches!(missing, Error::Layer { .. }), "{missing}");
}

#[doc(hidden)]
pub fn what_a_container_made_is_removed(store: &impl Snapshotter) {
    use std::os::fd::AsFd as _;

    use hako_sys::fs::{InodeFlags, set_inode_flags};

    let chain = ensure(store, &["a"]);
    store.prepare("k", &chain, ActiveOptions::default()).unwrap();
    let mount = &store.mounts("k").unwrap().pop().unwrap();
    let upper = mount.options.iter().find_map(|o| o.strip_prefix("upperdir=")).unwrap();
    let root = Root::open(Path::new(upper)).unwrap();
    // Deeper than any path can say, closed to everybody, and not to be changed.
    let mut dir = root.mkdir_all(Path::new("deep"), 0o755).unwrap();
    for _ in 0..600 {
        dir.mkdir(c"a-directory-with-a-name", 0o000).unwrap();
        dir = dir.open_dir(c"a-directory-with-a-name").unwrap();
    }
    std::fs::write(Path::new(upper).join("fixed"), "").unwrap();
    let fixed = std::fs::File::open(Path::new(upper).join("fixed")).unwrap();
    if let Err(e) = set_inode_flags(fixed.as_fd(), InodeFlags::IMMUTABLE) {
        eprintln!("SKIP immutable files: {e}");
    }
    assert!(store.usage_bytes("k").unwrap() > 0);
    store.remove("k").unwrap();
    assert!(!Path::new(upper).exists());
    store.sweep().unwrap();
}

#[doc(hidden)]
pub fn prepared_snapshots_stay_as_they_are(store: &impl Snapshotter) {
    let chain = ensure(store, &["a", "b"]);
    // One that exists is not touched by making it again.
    store.prepare("k", &chain, ActiveOptions { volatile: true }).unwrap();
    let before = store.mounts("k").unwrap().pop().unwrap();
    let again = store.prepare("k", &Chain::default(), ActiveOptions::default());
    assert!(matches!(again, Err(Error::KeyExists(_))));
    store.sweep().unwrap();
    let after = store.mounts("k").unwrap().pop().unwrap();
    assert_eq!(before.options, after.options);
    assert!(after.options.iter().any(|option| option == "volatile"));
    assert!(store.has(&chain));
    store.remove("k").unwrap();
}
