//! An entry's header, whatever format carried it.

use std::collections::BTreeMap;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name for the file at `link`.
    HardLink,
    /// A symbolic link that says `link`.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// A type that POSIX does not define, by its byte.
    Other(u8),
}

impl Kind {
    /// Whether an entry of this kind has no content, whatever its size field says (as in Go).
    pub(crate) fn is_header_only(self) -> bool {
        !matches!(self, Kind::File | Kind::Other(_))
    }
}

/// A moment: seconds since the epoch, and nanoseconds below 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// An entry's header.
///
/// Paths are bytes as they stand in the archive: they may be absolute, contain `..`, or be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where the entry goes.
    pub path: Vec<u8>,
    /// What it makes there.
    pub kind: Kind,
    /// Permission bits (07777).
    pub mode: u32,
    /// The user, never 4294967295.
    pub uid: u32,
    /// The group, never 4294967295.
    pub gid: u32,
    /// When the content was last changed.
    pub mtime: Time,
    /// How many bytes the file has when it is extracted; 0 for what has no content.
    pub size: u64,
    /// What a hard or symbolic link leads to.
    pub link: Vec<u8>,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Header {
    /// A header of root's, without content, of 1970.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Header {
        Header {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }
}
