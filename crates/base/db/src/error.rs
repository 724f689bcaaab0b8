//! What can go wrong with the database, as things a caller can act on.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or made.
    #[error("cannot open database {path}")]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store is on a read-only file system, or belongs to somebody else.
    #[error("database {path} is read-only: the store cannot be changed")]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The disk is full. Nothing was changed.
    #[error("no space left on the disk of database {path}")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Another process held the database for too long.
    #[error("database {path} is busy: another process has been writing for a long time")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The file is no database, or a damaged one.
    #[error("database {path} is damaged")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite found.
        source: rusqlite::Error,
    },
    /// A row contradicts a constraint, as a name that is taken.
    #[error("database {path}: {sql}")]
    Constraint {
        /// The database.
        path: PathBuf,
        /// The statement.
        sql: String,
        /// Which constraint.
        source: rusqlite::Error,
    },
    /// Written by a later version of hako.
    #[error(
        "database {path} was written by a newer hako: `{component}` has version {found}, \
         this one knows {known}"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Whose tables.
        component: String,
        /// Version in the file.
        found: i64,
        /// Last version that this program knows.
        known: i64,
    },
    /// Any other failure of a statement.
    #[error("database {path}: {sql}")]
    Statement {
        /// The database.
        path: PathBuf,
        /// The statement.
        sql: String,
        /// Why.
        source: rusqlite::Error,
    },
}

impl Error {
    /// SQLite's error of running `sql`, told apart.
    pub(crate) fn of(path: &Path, sql: &str, source: rusqlite::Error) -> Error {
        let path = path.to_owned();
        let extended = source.sqlite_error().map_or(0, |e| e.extended_code);
        match source.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => Error::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Error::Full { path },
            // The index of the log is a file too, and SQLite has no other reason not to grow it.
            _ if extended == ffi::SQLITE_IOERR_SHMSIZE => Error::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Damaged { path, source }
            }
            Some(ErrorCode::ConstraintViolation) => {
                Error::Constraint { path, sql: sql.into(), source }
            }
            _ => Error::Statement { path, sql: sql.into(), source },
        }
    }

    /// The kernel's error on a file of the database, told apart.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { path },
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::Full { path }
            }
            _ => Error::Open { path, source },
        }
    }
}
