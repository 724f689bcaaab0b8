//! A file system as a value: inodes by number, the root first, with their names in directories.

use std::collections::{BTreeMap, VecDeque};

use crate::{Error, Result, format::NAME_MAX};

/// A moment: seconds since the epoch, and nanoseconds below 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// A file that holds content, given to the kernel with `device=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// What identifies it, at most 64 bytes; the kernel does not look at it.
    pub tag: Vec<u8>,
    /// Its size. Content beyond it cannot be read.
    pub bytes: u64,
}

/// Where the content of a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Index in [`Tree::devices`].
    pub device: usize,
    /// In blocks of 512 bytes.
    pub block: u32,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory: the numbers of inodes by name.
    Directory(BTreeMap<Vec<u8>, usize>),
    /// A regular file; without an extent its content is zeros.
    File {
        /// In bytes.
        size: u64,
        /// Where its content is.
        extent: Option<Extent>,
    },
    /// A symbolic link to this path.
    Symlink(Vec<u8>),
    /// A character device by major and minor number; 0:0 is an overlay's whiteout.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Permission bits (07777).
    pub mode: u32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was last changed.
    pub mtime: Time,
    /// Extended attributes by their whole names. Access control lists have the kernel's form.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub content: Content,
}

impl Inode {
    /// An inode of root's, of 1970.
    pub fn new(mode: u32, content: Content) -> Inode {
        let (uid, gid, mtime) = (0, 0, Time::default());
        Inode { mode, uid, gid, mtime, xattrs: BTreeMap::new(), content }
    }

    /// An empty directory of root's, of 1970.
    pub fn directory(mode: u32) -> Inode {
        Inode::new(mode, Content::Directory(BTreeMap::new()))
    }
}

/// A file system. Inode 0 is its root; an inode with several names is one with hard links; one
/// that no name leads to is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// All inodes.
    pub inodes: Vec<Inode>,
    /// What holds the content of files.
    pub devices: Vec<Device>,
    /// The volume's UUID.
    pub uuid: [u8; 16],
}

/// The inodes that names lead to: the order they are written in, and how many names each has.
pub(crate) struct Reached {
    /// Breadth first, so that the inodes of a directory's names lie beside each other.
    pub(crate) order: Vec<usize>,
    /// By number in the tree; 0 where no name leads.
    pub(crate) links: Vec<u32>,
    /// A directory's parent, by number in the tree.
    pub(crate) parents: Vec<usize>,
}

impl Tree {
    /// A tree that has only a root.
    pub fn new(root: Inode) -> Tree {
        Tree { inodes: vec![root], devices: Vec::new(), uuid: [0; 16] }
    }

    /// Adds an inode, which has no name yet, and returns its number.
    pub fn add(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// Gives an inode a name in a directory.
    pub fn link(&mut self, parent: usize, name: &[u8], inode: usize) -> Result<()> {
        check_name(name)?;
        let refused = || Error::Link { parent, name: name.to_vec() };
        let directory = self.inodes.get_mut(parent).map(|inode| &mut inode.content);
        let Some(Content::Directory(names)) = directory else { return Err(refused()) };
        match names.insert(name.to_vec(), inode) {
            None => Ok(()),
            Some(_) => Err(refused()),
        }
    }

    /// Walks the names, and refuses what is no tree.
    pub(crate) fn reach(&self) -> Result<Reached> {
        let error = |inode, why| Error::Tree { inode, why };
        let mut order = Vec::new();
        let mut links = vec![0u32; self.inodes.len()];
        let mut parents = vec![0; self.inodes.len()];
        let mut todo = VecDeque::from([0]);
        match self.inodes.first().map(|root| &root.content) {
            Some(Content::Directory(_)) => links[0] = 2,
            _ => return Err(error(0, "is the root, and no directory")),
        }
        while let Some(number) = todo.pop_front() {
            order.push(number);
            let Content::Directory(names) = &self.inodes[number].content else { continue };
            for (name, &child) in names {
                check_name(name)?;
                let inode = self.inodes.get(child).ok_or(error(child, "is not there"))?;
                let is_directory = matches!(inode.content, Content::Directory(_));
                if is_directory && links[child] > 0 {
                    return Err(error(child, "is a directory with two names"));
                }
                if links[child] == 0 {
                    todo.push_back(child);
                }
                links[child] = links[child].saturating_add(if is_directory { 2 } else { 1 });
                if is_directory {
                    parents[child] = number;
                    links[number] = links[number].saturating_add(1);
                }
            }
        }
        Ok(Reached { order, links, parents })
    }
}

pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let is_plain = !matches!(name, b"" | b"." | b"..")
        && name.len() <= NAME_MAX
        && !name.iter().any(|&b| b == b'/' || b == 0);
    if is_plain { Ok(()) } else { Err(Error::Name(name.to_vec())) }
}
