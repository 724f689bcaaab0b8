//! What can go wrong on the way from names to packages.

use std::{fmt, io, path::PathBuf};

use hako_oci::Digest;

use crate::PgpError;

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
    /// No source has this suite.
    #[error("no source of suite {suite} {}", Known(known))]
    NoSuite {
        /// What was asked for.
        suite: String,
        /// The suites that there are sources of.
        known: Vec<String>,
    },
    /// A source that cannot be understood.
    #[error("source {line:?}: {why}")]
    Source {
        /// As it is written.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of sources that cannot be understood.
    #[error("{}: {why}", path.display())]
    SourcesFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A keyring that is none.
    #[error("keyring {}: {why}", path.display())]
    Keyring {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: PgpError,
    },
    /// A server did not give what it was asked for.
    #[error(transparent)]
    Remote(#[from] hako_remote::Error),
    /// An address that only apt knows what to do with.
    #[error("{0}: only http, https, file and copy are fetched without apt: see --fetch apt")]
    Scheme(String),
    /// An archive is not signed by anybody who is believed.
    #[error("{what}: {why}")]
    Unsigned {
        /// Address and suite.
        what: String,
        /// What is wrong with its signature.
        why: PgpError,
    },
    /// A release that cannot be used.
    #[error("{what}: {why}")]
    Release {
        /// Address and suite.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A package is nowhere any more.
    #[error(
        "{package} is not at {} any more: select anew, or give a mirror that keeps old packages",
        urls.join(" nor at ")
    )]
    Gone {
        /// Name and version.
        package: String,
        /// Where it was looked for.
        urls: Vec<String>,
    },
    /// A lock file that is none.
    #[error("lock file: {0}")]
    Lock(String),
    /// What is asked for cannot be had; the text says who needs what.
    #[error("{0}")]
    Unsatisfiable(String),
    /// It may be possible or not: too many combinations were tried.
    #[error("too many combinations of packages were tried: ask for exact versions of some")]
    Puzzle,
    /// There is nothing for this architecture.
    #[error("{suite} has no packages for {architecture}")]
    NoPackages {
        /// What was asked for.
        suite: String,
        /// In Debian's words.
        architecture: String,
    },
    /// What came is not what it should be.
    #[error("{what}: {why}")]
    Fetch {
        /// Which file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// apt did not do what it was asked to.
    #[error("{what}: {why}")]
    Apt {
        /// What it was asked to do.
        what: String,
        /// Its words.
        why: String,
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

impl Error {
    pub(crate) fn io(call: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { call, path: path.into(), source }
    }
}

struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("is known: give a mirror of it"),
            false => write!(
                f,
                "in apt's configuration, which has {}: give a mirror of it",
                self.0.join(", ")
            ),
        }
    }
}
