//! What can go wrong in the content store.

use std::{
    io,
    path::{Path, PathBuf},
};

use hako_oci::Digest;

/// A failure of the content store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such blob.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// The bytes are not what their name says.
    #[error("blob {expected}: content is {actual}")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There are more or fewer bytes than promised.
    #[error("blob {digest}: want {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Which blob.
        digest: Digest,
        /// Bytes promised.
        expected: u64,
        /// Bytes that came; for a longer blob, the first that was too many.
        actual: u64,
    },
    /// Longer than the caller allowed.
    #[error("blob is longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// A manifest, index or configuration beyond all reason.
    #[error(
        "document {digest} has {size} bytes, more than the {} allowed",
        crate::DOCUMENT_BYTES_MAX
    )]
    DocumentTooLarge {
        /// Which.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// No such upload: it never was, became a blob, or was removed.
    #[error("no upload {0:?}")]
    NoUpload(String),
    /// Somebody appends to it at this moment.
    #[error("upload {0:?} has another writer")]
    UploadBusy(String),
    /// The bytes to store could not be read.
    #[error("cannot read the content to store")]
    Source(#[source] io::Error),
    /// The disk is full. Nothing half is left.
    #[error("no space left on the disk: {call} {path}")]
    Full {
        /// The system call.
        call: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The store is on a read-only file system.
    #[error("the store is read-only: {call} {path}")]
    ReadOnly {
        /// The system call.
        call: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Another error of the kernel.
    #[error("{call} {path}")]
    Io {
        /// The system call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row that no version of hako writes.
    #[error("reference {name:?} in the database is damaged: {why}")]
    DamagedReference {
        /// The reference.
        name: String,
        /// Which field.
        why: String,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] hako_db::Error),
}

impl Error {
    /// The kernel's error, told apart.
    pub(crate) fn io(call: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { call, path },
            io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { call, path },
            _ => Error::Io { call, path, source },
        }
    }
}
