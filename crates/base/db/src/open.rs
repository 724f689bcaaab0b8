//! Opening a connection, and the birth of the file.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{Error, Result, TURN_WAIT, turn};

/// How long SQLite polls for what a turn does not cover: recovery after a crash, and strangers.
const BUSY_WAIT: Duration = Duration::from_secs(20);
/// Pages in the log before a commit checkpoints them. Every first opener reads the whole log, so
/// it stays small: 256 pages are 1 MiB and well under a millisecond.
const CHECKPOINT_PAGES: u32 = 256;

/// `path` with `suffix` after its last letter.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A connection to the database at `path`, which is made where there is none.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    if is_absent(path) {
        create(path)?;
    }
    connect(path)
}

fn is_absent(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let set_up = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok(connection)
    };
    set_up().map_err(|e: rusqlite::Error| told_apart(path, e))
}

/// SQLite says "unable to open database file" to nearly everything; the kernel knows why.
fn told_apart(path: &Path, error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) {
        let again = fs::OpenOptions::new().read(true).write(true).open(path);
        if let Err(source) = again {
            return Error::io(path, source);
        }
    }
    Error::of(path, "open", error)
}

/// Makes the file beside and renames it into place, so that it is in WAL mode once it is seen.
fn create(path: &Path) -> Result<()> {
    let _turn = turn::take(path, TURN_WAIT)?;
    if !is_absent(path) {
        return Ok(());
    }
    let new = beside(path, "-new");
    // What a killed birth left. Nobody else is here: we have the turn.
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(beside(&new, suffix)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(path, e)),
            _ => {}
        }
    }
    // SQLite gives -wal and -shm the mode of the database.
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(|e| Error::io(path, e))?;
    let connection = Connection::open(&new).map_err(|e| Error::of(path, "open", e))?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(|e| Error::of(path, "PRAGMA journal_mode", e))?;
    connection.close().map_err(|(_, e)| Error::of(path, "close", e))?;
    fs::rename(&new, path).map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_born_private_and_in_wal_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hako.db");
        // A killed birth.
        fs::write(dir.path().join("hako.db-new"), "rubbish").unwrap();
        let connection = open(&path).unwrap();
        let mode: String =
            connection.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
        assert_eq!(mode, "wal");
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        for suffix in ["", "-wal", "-shm", "-lock"] {
            let meta = fs::metadata(beside(&path, suffix)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{suffix}");
        }
        assert!(is_absent(&beside(&path, "-new")));
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let missing = open(&dir.path().join("no/hako.db")).unwrap_err();
        assert!(
            matches!(missing, Error::Open { ref source, .. }
            if source.kind() == io::ErrorKind::NotFound),
            "{missing:?}"
        );
        let rubbish = dir.path().join("rubbish.db");
        fs::write(&rubbish, "x".repeat(10_000)).unwrap();
        let error = open(&rubbish).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Open { .. }), "{error:?}");
    }
}
