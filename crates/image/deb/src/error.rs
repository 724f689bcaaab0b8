//! What can go wrong on the way from names to packages.

use std::{io, path::PathBuf};

use hako_oci::Digest;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no package, no selection, or no archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A control file breaks the rules.
    #[error("control file of {package}: {why}")]
    Control {
        /// Whose; `?` where that cannot be read.
        package: String,
        /// What is wrong.
        why: String,
    },
    /// A file is no .deb, or a broken one.
    #[error("not a Debian package: {0}")]
    Deb(String),
    /// A .deb could not be read to its end.
    #[error("reading package: {0}")]
    ReadDeb(#[source] io::Error),
    /// Debian has no such architecture.
    #[error("{0} is no architecture of Debian packages")]
    NoArchitecture(String),
    /// The bytes are not what the signed index says.
    #[error("{what}: content is {actual}, want {expected}")]
    DigestMismatch {
        /// Which file.
        what: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A file of this machine cannot be used.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// The system call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
