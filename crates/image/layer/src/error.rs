//! Why a layer cannot be applied.

use std::{io, path::PathBuf};

use hako_sys::Errno;

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer cannot be read or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob cannot be read or decompressed: broken, cut off, or followed by something else.
    #[error("layer: {0}")]
    Stream(#[source] io::Error),
    /// More than the limits allow.
    #[error("layer: {what} exceeds {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The tar is broken.
    #[error("layer: {0}")]
    Tar(#[source] hako_tar::Error),
    /// An entry with a path that no layer may have.
    #[error("layer entry {path:?}: {why}")]
    Path {
        /// The entry's path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry of a type that means nothing in a layer.
    #[error("layer entry {path:?}: unknown type {type_byte:#04x}")]
    Type {
        /// The entry's path.
        path: PathBuf,
        /// The type's byte in the tar.
        type_byte: u8,
    },
    /// An entry beneath something that is no directory.
    #[error("layer entry {path:?}: {parent:?} is no directory")]
    Parent {
        /// The entry's path.
        path: PathBuf,
        /// What is in the way.
        parent: PathBuf,
    },
    /// A hard link to a file that is not there.
    #[error("layer entry {path:?}: hard link to {target:?}, which is not there")]
    Link {
        /// The entry's path.
        path: PathBuf,
        /// The path it links to.
        target: PathBuf,
    },
    /// The kernel refused to make an entry.
    #[error("layer entry {path:?}: {call}: {source}")]
    Entry {
        /// The system call.
        call: &'static str,
        /// The entry's path.
        path: PathBuf,
        /// What the kernel answered.
        source: Errno,
    },
    /// What an entry replaces cannot be removed.
    #[error("layer: {0}")]
    Tree(#[from] hako_root::Error),
    /// What the layer is kept in refused it.
    #[error("layer: write: {0}")]
    Keep(#[source] io::Error),
    /// No index can be made of it.
    #[error("layer: {0}")]
    Index(#[from] hako_erofs::Error),
    /// No thread for the decompressor.
    #[error("layer: cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl From<hako_tar::Error> for Error {
    fn from(e: hako_tar::Error) -> Error {
        match e {
            // What went wrong beneath the tar; a limit keeps its type on the way.
            hako_tar::Error::Io(e) => e.downcast().unwrap_or_else(Error::Stream),
            e => Error::Tar(e),
        }
    }
}
