//! The kernel mounts what is written, and shows it as it was meant; fsck.erofs finds no fault.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr},
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
};

use hako_erofs::{Content, Device, Extent, Inode, Time, Tree, write};
use hako_sys::{Errno, fs, mount, xattr};

/// A place on disk: overlayfs and tmpfs may not be what an image can lie on.
struct Image {
    dir: tempfile::TempDir,
    devices: usize,
}

impl Image {
    /// Writes the image and its devices, each of which has this content at these offsets.
    fn new(tree: &Tree, content: &[&[(u64, &[u8])]]) -> Image {
        let dir = tempfile::tempdir().unwrap();
        write(tree, &mut File::create(dir.path().join("index")).unwrap()).unwrap();
        for (n, (device, pieces)) in tree.devices.iter().zip(content).enumerate() {
            let file = File::create(dir.path().join(format!("device-{n}"))).unwrap();
            file.set_len(device.bytes).unwrap();
            for (offset, bytes) in *pieces {
                file.write_all_at(bytes, *offset).unwrap();
            }
        }
        Image { dir, devices: content.len() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts it nowhere; `None` where the kernel cannot.
    fn mount(&self) -> Option<OwnedFd> {
        let c = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let fs = match mount::fsopen(c"erofs") {
            Err(e @ (Errno::ENODEV | Errno::EPERM | Errno::ENOSYS)) => {
                eprintln!("SKIP mounting EROFS: fsopen: {e}");
                return None;
            }
            fs => fs.unwrap(),
        };
        let fs = fs.as_fd();
        mount::fsconfig_string(fs, c"source", &c(&self.path("index"))).unwrap();
        for n in 0..self.devices {
            let device = c(&self.path(&format!("device-{n}")));
            mount::fsconfig_string(fs, c"device", &device).unwrap();
        }
        match mount::fsconfig_create(fs) {
            Err(e @ (Errno::ENOTBLK | Errno::EPERM)) => {
                eprintln!("SKIP mounting EROFS: the kernel wants block devices: {e}");
                return None;
            }
            created => created.unwrap_or_else(|e| {
                let mut log = [0; 512];
                panic!("{e}: {}", String::from_utf8_lossy(mount::fs_log(fs, &mut log)))
            }),
        }
        Some(mount::fsmount(fs, mount::attr::RDONLY).unwrap())
    }

    /// fsck.erofs, where it is installed.
    fn fsck(&self) {
        let mut command = Command::new("fsck.erofs");
        for n in 0..self.devices {
            command.arg(format!("--device={}", self.path(&format!("device-{n}")).display()));
        }
        match command.arg(self.path("index")).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                // erofs-utils before 1.6 knows no blocks smaller than a page.
                if said.contains("blksize") || said.contains("blkszbits") {
                    eprintln!("SKIP fsck.erofs: {said}");
                } else {
                    assert!(output.status.success(), "{said}");
                }
            }
            Err(e) => eprintln!("SKIP fsck.erofs: {e}"),
        }
    }
}

/// Whatever the kernel shows of an inode, as [`Inode`].
fn seen(path: &Path, inodes: &mut BTreeMap<u64, u64>) -> (Inode, u64) {
    let meta = path.symlink_metadata().unwrap();
    let mode = meta.mode();
    let device = || {
        let rdev = meta.rdev();
        ((rdev >> 8 & 0xfff) as u32, (rdev & 0xff | rdev >> 12 & 0xfff00) as u32)
    };
    let content = match mode & 0o170000 {
        0o040000 => Content::Directory(BTreeMap::new()),
        0o100000 => Content::File { size: meta.len(), extent: None },
        0o120000 => {
            Content::Symlink(std::fs::read_link(path).unwrap().into_os_string().as_bytes().to_vec())
        }
        0o020000 => Content::Char(device().0, device().1),
        0o060000 => Content::Block(device().0, device().1),
        _ => Content::Fifo,
    };
    let place = {
        let flags = fs::OpenFlags::PATH | fs::OpenFlags::NOFOLLOW;
        fs::openat(fs::cwd(), &CString::new(path.as_os_str().as_bytes()).unwrap(), flags, 0)
            .unwrap()
    };
    // Only these can be opened without harm, to list their attributes.
    let names = match content {
        Content::Directory(_) | Content::File { .. } => {
            xattr::flist(File::open(path).unwrap().as_fd()).unwrap()
        }
        _ => Vec::new(),
    };
    let xattrs = names
        .into_iter()
        .map(|name| {
            let value = xattr::get_path(place.as_fd(), &name).unwrap();
            (name.into_bytes(), value)
        })
        .collect();
    let mtime = Time { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 };
    if !matches!(content, Content::Directory(_)) {
        *inodes.entry(meta.ino()).or_default() += 1;
    }
    let (uid, gid) = (meta.uid(), meta.gid());
    (Inode { mode: mode & 0o7777, uid, gid, mtime, xattrs, content }, meta.nlink())
}

/// Compares everything beneath a directory with an inode of the tree.
fn compare(tree: &Tree, number: usize, path: &Path, inodes: &mut BTreeMap<u64, u64>) {
    let mut expected = tree.inodes[number].clone();
    let names = match &mut expected.content {
        Content::Directory(names) => std::mem::take(names),
        Content::File { extent, .. } => {
            *extent = None;
            BTreeMap::new()
        }
        _ => BTreeMap::new(),
    };
    let (inode, links) = seen(path, inodes);
    assert_eq!(inode, expected, "{}", path.display());
    if let Content::Directory(_) = inode.content {
        let is_directory = |n: &&usize| matches!(tree.inodes[**n].content, Content::Directory(_));
        assert_eq!(links, 2 + names.values().filter(is_directory).count() as u64);
        let mut listed: Vec<Vec<u8>> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        listed.sort();
        assert_eq!(listed, names.keys().cloned().collect::<Vec<_>>());
        for (name, &child) in &names {
            compare(tree, child, &path.join(OsStr::from_bytes(name)), inodes);
        }
    }
}

#[test]
fn everything_a_layer_can_hold() {
    if hako_sys::cred::effective_uid() != 0 {
        eprintln!("SKIP everything_a_layer_can_hold: needs root");
        return;
    }
    let mut root = Inode::directory(0o1777);
    root.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    let mut tree = Tree::new(root);
    const HUGE: u64 = (5 << 30) + 7;
    tree.devices = vec![
        Device { tag: b"small".to_vec(), bytes: 4096 },
        Device { tag: b"huge".to_vec(), bytes: HUGE.next_multiple_of(512) },
    ];
    let mut add = |parent: usize, name: &str, mut inode: Inode| {
        let n = tree.inodes.len() as u32;
        (inode.uid, inode.gid) = (n, 4_000_000_000 + n);
        inode.mtime = Time { seconds: i64::from(n) * 100_000_000 - 5, nanos: 999_999_999 - n };
        let number = tree.add(inode);
        tree.link(parent, name.as_bytes(), number).unwrap();
        number
    };
    let file = |size, device, block| {
        Inode::new(0o4755, Content::File { size, extent: Some(Extent { device, block }) })
    };
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x06\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    add(0, "empty", Inode::new(0o600, Content::File { size: 0, extent: None }));
    add(0, "hole", Inode::new(0o600, Content::File { size: 100_000, extent: None }));
    let mut small = file(600, 0, 3);
    small.xattrs.insert(b"security.capability".to_vec(), capability.to_vec());
    small.xattrs.insert(b"user.own".to_vec(), vec![b'x'; 700]);
    let small = add(0, "small", small);
    add(0, "huge", file(HUGE, 1, 0));
    add(0, "fifo", Inode::new(0o644, Content::Fifo));
    add(0, "null", Inode::new(0o666, Content::Char(1, 3)));
    add(0, "whiteout", Inode::new(0o600, Content::Char(0, 0)));
    add(0, "disk", Inode::new(0o660, Content::Block(4095, 1_048_575)));
    let directory = add(0, "directory", Inode::directory(0o2750));
    for n in 0..3000 {
        let mut link =
            Inode::new(0o777, Content::Symlink(vec![b'a' + (n % 26) as u8; 1 + n % 700]));
        if n % 3 == 0 {
            // Symbolic links have no permissions of their own to have a list of.
            link = Inode::new(0o640, Content::File { size: 0, extent: None });
            link.xattrs.insert(b"user.shared".to_vec(), vec![b's'; 40]);
            link.xattrs.insert(b"user.n".to_vec(), format!("{n}").into_bytes());
        }
        add(directory, &format!("{n}-{}", "n".repeat(n % 240)), link);
    }
    let long = vec![b'l'; 4095];
    add(directory, "long link", Inode::new(0o777, Content::Symlink(long)));
    let mut listed = Inode::directory(0o775);
    listed.xattrs.insert(b"system.posix_acl_access".to_vec(), acl.to_vec());
    listed.xattrs.insert(b"system.posix_acl_default".to_vec(), acl.to_vec());
    let listed = add(0, "acl", listed);
    // Names around the two that every directory has.
    for name in ["!", "-", "...", ".a", "\u{ff}"] {
        add(listed, name, Inode::directory(0o755));
    }
    for (parent, name) in [(0, &b"another"[..]), (directory, b"a third")] {
        tree.link(parent, name, small).unwrap();
    }
    let text: Vec<u8> = (0..600u32).map(|n| n as u8).collect();
    let image = Image::new(&tree, &[&[(1536, &text)], &[(0, b"begin"), (HUGE - 3, b"end")]]);
    image.fsck();
    let Some(mounted) = image.mount() else { return };
    let root = PathBuf::from(format!("/proc/self/fd/{}/", mounted.as_raw_fd()));
    let mut inodes = BTreeMap::new();
    compare(&tree, 0, &root, &mut inodes);
    // One inode has three names, all others one.
    let mut counts: Vec<u64> = inodes.into_values().collect();
    counts.sort_unstable();
    assert_eq!((counts.pop(), counts.pop()), (Some(3), Some(1)));
    assert_eq!(root.join("small").metadata().unwrap().nlink(), 3);
    assert_eq!(std::fs::read(root.join("another")).unwrap(), text);
    assert_eq!(std::fs::read(root.join("hole")).unwrap(), vec![0; 100_000]);
    let huge = File::open(root.join("huge")).unwrap();
    let mut bytes = [0; 5];
    huge.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"begin");
    assert_eq!(huge.read_at(&mut bytes, HUGE - 4).unwrap(), 4);
    assert_eq!(&bytes[..4], b"\0end");
    // Every name is found by looking it up, not only listed; others are not.
    for name in ["0-", "2999-nnnnnnnn", "\u{0}x", "zzz", "0", "1-"] {
        let Ok(name) = CString::new(name) else { continue };
        let path = root.join("directory").join(OsStr::from_bytes(name.to_bytes()));
        let there = std::fs::read_dir(root.join("directory"))
            .unwrap()
            .any(|entry| entry.unwrap().file_name() == path.file_name().unwrap());
        assert_eq!(path.symlink_metadata().is_ok(), there, "{}", path.display());
    }
}
