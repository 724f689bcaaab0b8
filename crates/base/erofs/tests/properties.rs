//! Whatever is written is read again; whatever is broken is refused.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use hako_erofs::{Content, Device, Error, Extent, Inode, Time, Tree, read, write};
use proptest::prelude::*;

/// What a script makes of an inode; `u16`s choose among what is there already.
#[derive(Debug, Clone)]
enum Step {
    Make { parent: u16, name: Vec<u8>, inode: Inode },
    Link { parent: u16, name: Vec<u8>, to: u16 },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = (1..=255u8).prop_filter("a slash", |&b| b != b'/');
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec(byte, 1..=255),
    ]
    .prop_filter("no name", |name| !matches!(&name[..], b"." | b".."))
}

fn content() -> impl Strategy<Value = Content> {
    let extent = (0..2usize, 0..100u32).prop_map(|(device, block)| Extent { device, block });
    prop_oneof![
        4 => Just(Content::Directory(BTreeMap::new())),
        4 => (0..10_000u64, prop::option::of(extent)).prop_map(|(size, extent)| Content::File {
            size,
            extent: extent.filter(|_| size > 0),
        }),
        1 => (1u64 << 33..1 << 40).prop_map(|size| Content::File { size, extent: None }),
        2 => prop::collection::vec(1..=255u8, 1..=4095).prop_map(Content::Symlink),
        2 => prop::collection::vec(1..=255u8, 1..=40).prop_map(Content::Symlink),
        1 => (0..4096u32, 0..1048576u32).prop_map(|(a, b)| Content::Char(a, b)),
        1 => (0..4096u32, 0..1048576u32).prop_map(|(a, b)| Content::Block(a, b)),
        1 => Just(Content::Fifo),
    ]
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = prop_oneof![
        Just(b"security.capability".to_vec()),
        Just(b"system.posix_acl_access".to_vec()),
        Just(b"system.posix_acl_default".to_vec()),
        Just(b"trusted.overlay.opaque".to_vec()),
        "user\\.[a-z]{1,3}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..4),
        1 => prop::collection::vec(any::<u8>(), 0..2000),
    ];
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map(name, value, 0..4),
    ]
}

fn inode() -> impl Strategy<Value = Inode> {
    let time = (any::<i64>(), 0..1_000_000_000u32);
    let time = time.prop_map(|(seconds, nanos)| Time { seconds, nanos });
    (0..0o10000u32, any::<u32>(), any::<u32>(), time, xattrs(), content()).prop_map(
        |(mode, uid, gid, mtime, xattrs, content)| Inode { mode, uid, gid, mtime, xattrs, content },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<u16>(), name(), inode())
            .prop_map(|(parent, name, inode)| Step::Make { parent, name, inode }),
        1 => (any::<u16>(), name(), any::<u16>())
            .prop_map(|(parent, name, to)| Step::Link { parent, name, to }),
    ]
}

fn tree_of(steps: Vec<Step>) -> Tree {
    let mut tree = Tree::new(Inode::directory(0o755));
    tree.uuid = *b"sixteen bytes id";
    for tag in ["one", "two"] {
        tree.devices.push(Device { tag: tag.into(), bytes: 1 << 20 });
    }
    let (mut directories, mut others) = (vec![0], Vec::new());
    for step in steps {
        let choose = |list: &[usize], n: u16| list[n as usize % list.len()];
        // A name that is taken leaves an inode without one, which is not written.
        match step {
            Step::Make { parent, name, inode } => {
                let is_directory = matches!(inode.content, Content::Directory(_));
                let number = tree.add(inode);
                if tree.link(choose(&directories, parent), &name, number).is_ok() {
                    if is_directory { directories.push(number) } else { others.push(number) }
                }
            }
            Step::Link { parent, name, to } if !others.is_empty() => {
                tree.link(choose(&directories, parent), &name, choose(&others, to)).ok();
            }
            Step::Link { .. } => {}
        }
    }
    tree
}

fn bytes_of(tree: &Tree) -> Vec<u8> {
    let mut image = Vec::new();
    let size = write(tree, &mut image).unwrap();
    assert_eq!(size, image.len() as u64);
    assert_eq!(size % 512, 0);
    image
}

/// Every path with its inode, and which paths share one.
fn paths(tree: &Tree) -> BTreeMap<Vec<u8>, (Inode, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut todo = std::collections::VecDeque::from([(Vec::new(), 0)]);
    while let Some((path, number)) = todo.pop_front() {
        let mut inode = tree.inodes[number].clone();
        if let Content::Directory(names) = &mut inode.content {
            for (name, child) in std::mem::take(names) {
                todo.push_back(([&path[..], b"/", &name].concat(), child));
            }
        }
        let first = first.entry(number).or_insert_with(|| path.clone()).clone();
        found.insert(path, (inode, first));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(steps in prop::collection::vec(step(), 0..60)) {
        let tree = tree_of(steps);
        let image = bytes_of(&tree);
        let back = read(&image).unwrap();
        prop_assert_eq!(&back.devices, &tree.devices);
        prop_assert_eq!(back.uuid, tree.uuid);
        prop_assert_eq!(paths(&back), paths(&tree));
        // And what is read is written as it was.
        prop_assert_eq!(bytes_of(&back), image);
    }

    #[test]
    fn broken_images_are_refused_or_read(
        steps in prop::collection::vec(step(), 0..20),
        changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..8),
        cut in any::<u32>(),
    ) {
        let mut image = bytes_of(&tree_of(steps));
        for (at, byte) in changes {
            let at = at as usize % image.len();
            image[at] = byte;
        }
        if cut % 4 == 0 {
            image.truncate(cut as usize % image.len());
        }
        if let Ok(tree) = read(&image) {
            // Whatever could be read is a tree: it can be written again.
            bytes_of(&tree);
        }
    }
}

#[test]
fn a_link_to_a_nul_is_refused() {
    let mut tree = Tree::new(Inode::directory(0o755));
    let number = tree.add(Inode::new(0o777, Content::Symlink(b"somewhere".to_vec())));
    tree.link(0, b"link", number).unwrap();
    let mut image = bytes_of(&tree);
    let at = image.windows(9).position(|bytes| bytes == b"somewhere").unwrap();
    image[at + 4] = 0;
    assert!(read(&image).is_err());
}

#[test]
fn thousands_of_names_and_attributes() {
    let mut tree = Tree::new(Inode::directory(0o755));
    for n in 0..20_000 {
        let mut inode = Inode::new(0o644, Content::File { size: 0, extent: None });
        inode.xattrs.insert(b"user.same".to_vec(), vec![7; 100]);
        inode.xattrs.insert(b"user.own".to_vec(), format!("{n}").into_bytes());
        let number = tree.add(inode);
        tree.link(0, format!("file-{n}").as_bytes(), number).unwrap();
    }
    let image = bytes_of(&tree);
    assert_eq!(paths(&read(&image).unwrap()), paths(&tree));
    // What all have is there once.
    assert!(image.len() < 20_000 * 170, "{}", image.len());
}

/// Found by fuzzing: what could be read and not be written.
#[test]
fn links_to_a_nul_are_refused() {
    let mut tree = Tree::new(Inode::directory(0o755));
    let link = tree.add(Inode::new(0o777, Content::Symlink(b"a-target".to_vec())));
    tree.link(0, b"link", link).unwrap();
    let mut image = bytes_of(&tree);
    let at = image.windows(8).position(|bytes| bytes == b"a-target").unwrap();
    image[at + 1] = 0;
    assert!(matches!(read(&image), Err(Error::Format { .. })));
}

#[test]
fn what_has_no_room_is_refused() {
    let file = |size, extent| Inode::new(0o644, Content::File { size, extent });
    let extent = |device, block| Some(Extent { device, block });
    let with = |inode: Inode| {
        let mut tree = Tree::new(Inode::directory(0o755));
        tree.devices.push(Device { tag: Vec::new(), bytes: 1024 });
        let number = tree.add(inode);
        tree.link(0, b"f", number).unwrap();
        write(&tree, &mut Vec::new())
    };
    let attribute = |name: &[u8], bytes: usize| {
        let mut inode = file(0, None);
        inode.xattrs.insert(name.to_vec(), vec![0; bytes]);
        inode
    };
    with(file(1024, extent(0, 0))).unwrap();
    with(attribute(b"user.x", 65535)).unwrap();
    for (inode, why) in [
        (file(1025, extent(0, 0)), "beyond its device"),
        (file(1, extent(0, 2)), "beyond its device"),
        (file(1, extent(1, 0)), "no such device"),
        (file(u64::MAX, None), "too large"),
        (file((512 << 31) + 1, None), "too large"),
        (attribute(b"user.x", 65536), "value too long"),
        (attribute(b"user.", 1), "no name"),
        (attribute(b"other.x", 1), "no such kind"),
        (attribute(b"system.posix_acl_access2", 1), "no such kind"),
        (Inode::new(0, Content::Symlink(vec![b'x'; 4096])), "link too long"),
        (Inode::new(0, Content::Symlink(Vec::new())), "link to nothing"),
        (Inode::new(0, Content::Char(4096, 0)), "device number"),
    ] {
        assert!(with(inode).is_err(), "{why}");
    }
    let mut tree = Tree::new(Inode::directory(0o755));
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        assert!(matches!(tree.link(0, name, 0), Err(Error::Name(_))), "{name:?}");
    }
    // A directory that contains itself, or has two names.
    tree.link(0, b"self", 0).unwrap();
    assert!(matches!(write(&tree, &mut Vec::new()), Err(Error::Tree { .. })));
}
