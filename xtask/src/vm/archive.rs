//! Writes the guest's initial file system: a cpio archive of the "newc" kind, which the kernel unpacks.
//!
//! ```text
//! entry   "070701" 13 × 8 hex digits: ino mode uid gid nlink mtime size devmajor devminor
//!         rdevmajor rdevminor namesize check, name NUL, pad to 4, content, pad to 4
//! end     an entry named "TRAILER!!!"
//! ```
//!
//! Parents come before children, and every name occurs once: `Tree` holds them sorted by path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::error::{At, Error, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

#[derive(Debug)]
enum Node {
    Directory,
    Bytes { mode: u32, content: Vec<u8> },
    File { mode: u32, from: PathBuf },
    Symlink { target: PathBuf },
    Character { major: u32, minor: u32 },
}

/// The guest's files by absolute path.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    /// A tree with the console that the kernel opens for init.
    pub(crate) fn new() -> Self {
        let mut tree = Self::default();
        tree.insert("/dev/console", Node::Character { major: 5, minor: 1 });
        tree
    }

    pub(crate) fn directory(&mut self, path: impl AsRef<Path>) {
        self.insert(path, Node::Directory);
    }

    pub(crate) fn bytes(&mut self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        let content = content.into();
        self.insert(path, Node::Bytes { mode, content });
    }

    /// Adds a file of the host, with its permissions.
    pub(crate) fn file(&mut self, path: impl AsRef<Path>, from: &Path) -> Result<()> {
        let mode = from.metadata().at("stat", from)?.permissions().mode() & 0o7777;
        let from = from.to_owned();
        self.insert(path, Node::File { mode, from });
        Ok(())
    }

    /// Adds a file or directory of the host and all beneath it. Symbolic links stay links.
    pub(crate) fn copy(&mut self, path: &Path, from: &Path) -> Result<()> {
        self.copy_without(path, from, &[])
    }

    /// The same, without what lies at or below these paths of the guest.
    pub(crate) fn copy_without(
        &mut self,
        path: &Path,
        from: &Path,
        without: &[&str],
    ) -> Result<()> {
        if without.iter().any(|unwanted| path == Path::new(unwanted)) {
            return Ok(());
        }
        let kind = from.symlink_metadata().at("lstat", from)?.file_type();
        if kind.is_symlink() {
            let target = from.read_link().at("readlink", from)?;
            self.insert(path, Node::Symlink { target });
        } else if kind.is_dir() {
            if path != Path::new("/") {
                self.directory(path);
            }
            for entry in from.read_dir().at("opendir", from)? {
                let entry = entry.at("readdir", from)?;
                self.copy_without(&path.join(entry.file_name()), &entry.path(), without)?;
            }
        } else if kind.is_file() {
            self.file(path, from)?;
        }
        Ok(())
    }

    pub(crate) fn symlink(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        let target = target.into();
        self.insert(path, Node::Symlink { target });
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn insert(&mut self, path: impl AsRef<Path>, node: Node) {
        let path = path.as_ref();
        for parent in path.ancestors().skip(1) {
            if parent.components().any(|c| matches!(c, Component::Normal(_))) {
                self.0.entry(parent.to_owned()).or_insert(Node::Directory);
            }
        }
        self.0.insert(path.to_owned(), node);
    }

    /// Writes the archive to a file, and returns its size.
    pub(crate) fn write(&self, to: &Path) -> Result<u64> {
        let file = File::create(to).at("create", to)?;
        let mut out = BufWriter::new(file);
        let mut ino = 0;
        for (path, node) in &self.0 {
            ino += 1;
            let name = path
                .strip_prefix("/")
                .map_err(|_| Error::Usage(format!("{}: not an absolute path", path.display())))?;
            let (mode, device) = match node {
                Node::Directory => (DIRECTORY | 0o755, (0, 0)),
                Node::Bytes { mode, .. } | Node::File { mode, .. } => (REGULAR | mode, (0, 0)),
                Node::Symlink { .. } => (SYMLINK | 0o777, (0, 0)),
                Node::Character { major, minor } => (CHARACTER | 0o600, (*major, *minor)),
            };
            let content = match node {
                Node::Directory | Node::Character { .. } => Vec::new(),
                Node::Bytes { content, .. } => content.clone(),
                Node::Symlink { target } => target.as_os_str().as_encoded_bytes().to_vec(),
                Node::File { from, .. } => {
                    let mut content = Vec::new();
                    File::open(from)
                        .and_then(|mut file| file.read_to_end(&mut content))
                        .at("read", from)?;
                    content
                }
            };
            let name = name.as_os_str().as_encoded_bytes();
            entry(&mut out, ino, mode, device, name, &content).at("write", to)?;
        }
        entry(&mut out, 0, 0, (0, 0), b"TRAILER!!!", b"").at("write", to)?;
        out.flush().at("write", to)?;
        Ok(to.metadata().at("stat", to)?.len())
    }
}

fn entry(
    out: &mut impl Write,
    ino: u32,
    mode: u32,
    (major, minor): (u32, u32),
    name: &[u8],
    content: &[u8],
) -> std::io::Result<()> {
    let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
    let name_size = u32::try_from(name.len() + 1).map_err(std::io::Error::other)?;
    let fields = [ino, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
    let mut head = b"070701".to_vec();
    for field in fields {
        write!(head, "{field:08X}")?;
    }
    head.extend_from_slice(name);
    head.push(0);
    pad(&mut head);
    out.write_all(&head)?;
    out.write_all(content)?;
    out.write_all(&[0; 3][..(4 - content.len() % 4) % 4])
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_once() {
        let mut tree = Tree::default();
        tree.bytes("/a/b/c", 0o755, "x");
        tree.bytes("/a/b/d", 0o644, "y");
        let paths: Vec<_> = tree.0.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c", "/a/b/d"]);
    }

    #[test]
    fn entries_are_aligned_and_counted() {
        for (name, content) in [("a", ""), ("ab", "1"), ("abc", "12"), ("abcd", "12345")] {
            let mut out = Vec::new();
            entry(&mut out, 7, REGULAR | 0o644, (0, 0), name.as_bytes(), content.as_bytes())
                .unwrap();
            assert_eq!(out.len() % 4, 0);
            assert_eq!(&out[..6], b"070701");
            let field = |n: usize| std::str::from_utf8(&out[6 + 8 * n..14 + 8 * n]).unwrap();
            assert_eq!(u32::from_str_radix(field(0), 16), Ok(7));
            assert_eq!(u32::from_str_radix(field(1), 16), Ok(0o100_644));
            assert_eq!(usize::from_str_radix(field(6), 16), Ok(content.len()));
            assert_eq!(usize::from_str_radix(field(11), 16), Ok(name.len() + 1));
        }
    }
}
