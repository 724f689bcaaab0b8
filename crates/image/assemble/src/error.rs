//! What can be wrong with packages that are put together.

use std::{io, path::PathBuf};

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why packages do not make an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package is not what a package has to be.
    #[error("package {package}: {source}")]
    Deb {
        /// The package, or its file where the name is not known yet.
        package: String,
        /// Why.
        source: hako_deb::Error,
    },
    /// A package's archive of files is damaged.
    #[error("package {package}: data.tar: {source}")]
    Tar {
        /// The package.
        package: String,
        /// Why.
        source: hako_tar::Error,
    },
    /// A package has a file that none may have.
    #[error("package {package}: {path:?} {why}")]
    Entry {
        /// The package.
        package: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two packages have the same file, and neither says that it replaces the other: dpkg's words.
    #[error(
        "package {package}: trying to overwrite '/{path}', which is also in package {other} {version}"
    )]
    Overwrite {
        /// The one.
        package: String,
        /// The other one.
        other: String,
        /// The other one's version.
        version: String,
        /// The file.
        path: String,
    },
    /// The packages have more in them than is put together.
    #[error("package {package}: more than {limit} {what}")]
    Limit {
        /// The package with which it became too much.
        package: String,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// A certificate cannot be read.
    #[error("package {package}: certificate {path:?}: {why}")]
    Certificate {
        /// The package.
        package: String,
        /// The certificate.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// A layer cannot be written.
    #[error("write layer: {0}")]
    Write(#[source] hako_tar::Error),
    /// A file of our own.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { call, path, source }
    }

    pub(crate) fn entry(package: &str, path: &[u8], why: &'static str) -> Error {
        Error::Entry { package: package.to_owned(), path: lossy(path), why }
    }
}

pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
