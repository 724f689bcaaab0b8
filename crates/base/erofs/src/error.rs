//! Why an image cannot be written or read.

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the image goes refused it.
    #[error("EROFS index: write: {0}")]
    Io(#[from] std::io::Error),
    /// More than the format has room for.
    #[error("EROFS index: {what} exceeds {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A name that no directory can hold: empty, too long, `.`, `..`, or with a slash or a NUL.
    #[error("EROFS index: {:?} cannot be a name in a directory", String::from_utf8_lossy(.0))]
    Name(Vec<u8>),
    /// The name is in the directory already, or the parent is no directory.
    #[error("EROFS index: {:?} cannot be added to inode {parent}", String::from_utf8_lossy(.name))]
    Link {
        /// The parent's number.
        parent: usize,
        /// The name.
        name: Vec<u8>,
    },
    /// An extended attribute of a kind that EROFS has not.
    #[error("EROFS index: no room for the extended attribute {:?}", String::from_utf8_lossy(.0))]
    Xattr(Vec<u8>),
    /// The tree is none: a directory with two parents or none, or an inode that is not there.
    #[error("EROFS index: inode {inode}: {why}")]
    Tree {
        /// The inode's number in the tree.
        inode: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The image is broken, or is not one that this crate writes.
    #[error("EROFS index: at byte {offset}: {why}")]
    Format {
        /// Where.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
}
