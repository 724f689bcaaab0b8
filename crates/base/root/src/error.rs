//! Errors: the call, the directory it was beneath, the path, and why.

use std::path::{Path, PathBuf};

use hako_sys::{Errno, fs::FileKind};

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something beneath a directory could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel refused a call.
    #[error("{call} {path:?} beneath {root:?}: {source}")]
    Call {
        /// The system call.
        call: &'static str,
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
        /// What the kernel answered.
        source: Errno,
    },
    /// A path that cannot be a name on disk: a NUL in it, or where one plain name is wanted, an
    /// empty one, `.`, `..` or one with a slash.
    #[error("{path:?} beneath {root:?} is no valid name")]
    Name {
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
    },
    /// Something else than a regular file where only that may be opened.
    #[error("{path:?} beneath {root:?} is no regular file but a {kind:?}")]
    NotFile {
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// A file with more content than the caller is ready to read.
    #[error("{path:?} beneath {root:?} is larger than {limit} bytes")]
    TooLarge {
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
        /// The caller's limit.
        limit: u64,
    },
    /// Another file system is mounted inside a tree that was to be removed.
    #[error("{path:?} beneath {root:?} is a mount point")]
    MountPoint {
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
    },
    /// A directory was moved elsewhere while its tree was walked.
    #[error("directory {path:?} beneath {root:?} was moved while it was walked")]
    Moved {
        /// The directory that the path was resolved beneath.
        root: PathBuf,
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// What the kernel answered, where it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Call { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    pub(crate) fn call(
        call: &'static str,
        root: &Path,
        path: impl Into<PathBuf>,
        e: Errno,
    ) -> Error {
        Error::Call { call, root: root.into(), path: path.into(), source: e }
    }
}
