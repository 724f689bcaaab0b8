//! What can be wrong with an archive.

use std::io;

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive cannot be read or written further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream beneath failed.
    #[error("archive: {0}")]
    Io(#[source] io::Error),
    /// The stream ended inside an entry.
    #[error("archive is truncated at byte {offset}")]
    Truncated {
        /// Where the stream ended.
        offset: u64,
    },
    /// A block that is no header, where one must be.
    #[error("no tar header at byte {offset}: {why}")]
    Header {
        /// Where the block starts.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A number that is none, is negative, or is larger than its field can mean.
    #[error("tar header at byte {offset}: invalid {field}")]
    Number {
        /// Where the entry's last header block starts.
        offset: u64,
        /// The field.
        field: &'static str,
    },
    /// Extension records that break their format.
    #[error("tar extension header at byte {offset}: {why}")]
    Extension {
        /// Where the header starts.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A map of a sparse file that contradicts itself or the file's sizes.
    #[error("tar header at byte {offset}: sparse map {why}")]
    Sparse {
        /// Where the entry's last header block starts.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than the limits of this reader allow.
    #[error("tar header at byte {offset}: {what} exceeds {limit}")]
    Limit {
        /// Where the header starts.
        offset: u64,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A header that the format cannot express.
    #[error("tar cannot store {what} of {path:?}")]
    Unrepresentable {
        /// What cannot be stored.
        what: &'static str,
        /// The entry's path.
        path: String,
    },
    /// Content that ended before the size its header names.
    #[error("content of {path:?} ended {missing} bytes early")]
    ContentShort {
        /// The entry's path.
        path: String,
        /// How many bytes are missing.
        missing: u64,
    },
}

impl From<io::Error> for Error {
    /// An error of this crate that went through `Read` is itself again.
    fn from(e: io::Error) -> Error {
        e.downcast().unwrap_or_else(Error::Io)
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        let kind = match &e {
            Error::Io(e) => e.kind(),
            Error::Truncated { .. } | Error::ContentShort { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, e)
    }
}
