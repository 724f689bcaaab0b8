//! Layers written as lines, and trees read as lines.
//!
//! ```text
//! d PATH             directory, mode 755
//! f PATH CONTENT     file, mode 644; f4755 PATH … has another mode, as all kinds may
//! l PATH TARGET      symbolic link
//! h PATH TARGET      hard link
//! c PATH MAJOR:MINOR character device; b: block device; p PATH: FIFO
//! ```

// Clippy takes only functions marked as tests for tests, not their helpers; and each test file
// uses its own part of this one.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    ffi::CString,
    fmt::Write as _,
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{ffi::OsStrExt as _, fs::FileTypeExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use hako_layer::{Applied, ApplyOptions, Error, Onto, apply};
use hako_root::Root;
use hako_sys::{fs, mount, xattr};
use hako_tar::{Header, Kind, Writer};

/// A header of the line format, and the content.
pub(crate) fn entry(line: &str) -> (Header, Vec<u8>) {
    let mut words = line.splitn(3, ' ');
    let (kind, path) = (words.next().unwrap(), words.next().unwrap());
    let rest = words.next().unwrap_or("");
    let (letter, mode) = kind.split_at(1);
    let (kind, default) = match letter {
        "d" => (Kind::Directory, 0o755),
        "f" => (Kind::File, 0o644),
        "l" => (Kind::Symlink, 0o777),
        "h" => (Kind::HardLink, 0o644),
        "c" => (Kind::Char, 0o600),
        "b" => (Kind::Block, 0o600),
        "p" => (Kind::Fifo, 0o600),
        _ => panic!("{line}"),
    };
    let mode = if mode.is_empty() { default } else { u32::from_str_radix(mode, 8).unwrap() };
    let mut header = Header::new(path, kind, mode);
    header.mtime.seconds = 1_000_000_000;
    let mut content = Vec::new();
    match kind {
        Kind::File => content = rest.as_bytes().to_vec(),
        Kind::Symlink | Kind::HardLink => header.link = rest.into(),
        Kind::Char | Kind::Block => {
            let (major, minor) = rest.split_once(':').unwrap();
            header.device = (major.parse().unwrap(), minor.parse().unwrap());
        }
        _ => {}
    }
    header.size = content.len() as u64;
    (header, content)
}

pub(crate) fn tar_of(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.append(header, &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn layer(lines: &[&str]) -> Vec<u8> {
    tar_of(&lines.iter().map(|line| entry(line)).collect::<Vec<_>>())
}

pub(crate) fn options(onto: Onto) -> ApplyOptions {
    ApplyOptions { onto, ..ApplyOptions::default() }
}

/// A directory to apply to: `root`, beside which `secret` lies.
pub(crate) struct Dest {
    pub(crate) base: tempfile::TempDir,
    pub(crate) root: Root,
}

impl Dest {
    pub(crate) fn new() -> Dest {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("root")).unwrap();
        std::fs::write(base.path().join("secret"), "host").unwrap();
        let root = Root::open(&base.path().join("root")).unwrap();
        Dest { base, root }
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.base.path().join("root").join(path)
    }

    pub(crate) fn apply(&self, onto: Onto, lines: &[&str]) -> Result<Applied, Error> {
        apply(&layer(lines)[..], &self.root, &options(onto))
    }

    /// Nothing beside the root was touched.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(std::fs::read_dir(self.base.path()).unwrap().count(), 2);
        let secret = std::fs::metadata(self.base.path().join("secret")).unwrap();
        assert_eq!(std::fs::read(self.base.path().join("secret")).unwrap(), b"host");
        assert_eq!((secret.nlink(), secret.mode() & 0o7777), (1, 0o644));
    }

    pub(crate) fn list(&self) -> String {
        list(&self.path(""))
    }
}

/// Every name beneath a directory in the line format, sorted, with whiteouts as `w` and opaque
/// directories as `o`.
pub(crate) fn list(dir: &Path) -> String {
    let mut out = String::new();
    list_into(dir, "", &mut out);
    out
}

fn list_into(dir: &Path, prefix: &str, out: &mut String) {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let shown = format!("{prefix}{}", name.to_string_lossy());
        let metadata = path.symlink_metadata().unwrap();
        let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
        let rdev = (metadata.rdev() >> 8 & 0xfff, metadata.rdev() & 0xff);
        let other = |default| if mode == default { String::new() } else { format!("{mode:o}") };
        if kind.is_dir() {
            let letter = if is_opaque(&path) { "o" } else { "d" };
            writeln!(out, "{letter}{} {shown}", other(0o755)).unwrap();
            list_into(&path, &format!("{shown}/"), out);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            writeln!(out, "l {shown} {}", target.display()).unwrap();
        } else if kind.is_char_device() && rdev == (0, 0) {
            writeln!(out, "w {shown}").unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            let letter = if kind.is_char_device() { "c" } else { "b" };
            writeln!(out, "{letter}{} {shown} {}:{}", other(0o600), rdev.0, rdev.1).unwrap();
        } else if kind.is_fifo() {
            writeln!(out, "p{} {shown}", other(0o600)).unwrap();
        } else {
            let content = std::fs::read(&path).unwrap();
            let content = String::from_utf8_lossy(&content);
            writeln!(out, "{}", format!("f{} {shown} {content}", other(0o644)).trim_end()).unwrap();
        }
    }
}

fn is_opaque(path: &Path) -> bool {
    let dir = std::fs::File::open(path).unwrap();
    [c"trusted.overlay.opaque", c"user.overlay.opaque"]
        .iter()
        .any(|name| xattr::fget(dir.as_fd(), name).is_ok_and(|value| value == b"y"))
}

/// Whether the caller may make devices and own files as others; otherwise notes the skip.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("SKIP {test}: needs root");
    }
    is_root
}

pub(crate) fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// An overlay of lower directories, the topmost first, attached nowhere.
pub(crate) fn overlay(lowers: &[&Path], upper: Option<(&Path, &Path)>) -> Root {
    let context = mount::fsopen(c"overlay").unwrap();
    let fs = context.as_fd();
    // One value for all, by descriptors, which are short: `lowerdir+` came with Linux 6.7.
    let dirs: Vec<File> = lowers.iter().map(|dir| File::open(dir).unwrap()).collect();
    let paths: Vec<String> =
        dirs.iter().map(|dir| format!("/proc/self/fd/{}", dir.as_raw_fd())).collect();
    let value = CString::new(paths.join(":")).unwrap();
    mount::fsconfig_string(fs, c"lowerdir", &value).unwrap();
    if let Some((upper, work)) = upper {
        mount::fsconfig_string(fs, c"upperdir", &c_string(upper)).unwrap();
        mount::fsconfig_string(fs, c"workdir", &c_string(work)).unwrap();
    }
    mount::fsconfig_create(fs).unwrap();
    Root::from_fd(mount::fsmount(fs, 0).unwrap(), "overlay")
}

/// The path of a root for std, through its descriptor.
pub(crate) fn path_of(root: &Root) -> std::path::PathBuf {
    format!("/proc/self/fd/{}/", root.fd().as_raw_fd()).into()
}

/// Reads one extended attribute of a path, be it a link.
pub(crate) fn xattr_of(path: &Path, name: &str) -> Option<Vec<u8>> {
    let flags = fs::OpenFlags::PATH | fs::OpenFlags::NOFOLLOW;
    let place = fs::openat(fs::cwd(), &c_string(path), flags, 0).unwrap();
    xattr::get_path(place.as_fd(), &CString::new(name).unwrap()).ok()
}
