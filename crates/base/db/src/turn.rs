//! Whose turn it is to write: `flock` on a file beside the database.
//!
//! The kernel queues the waiting and wakes them in order; a process that dies frees its turn.
//! `flock` has no time limit, so a thread waits where somebody has to wait at all: a neighbour
//! that was stopped in the middle must not hold up everybody silently for ever.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{Error, Result, open::beside};

/// Held while writing; dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Turn {
    _locked: File,
}

/// Waits for the turn to write to the database at `path`, at most for `wait`.
pub(crate) fn take(path: &Path, wait: Duration) -> Result<Turn> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(path, "-lock"))
        .map_err(|e| Error::io(path, e))?;
    match file.try_lock() {
        Ok(()) => return Ok(Turn { _locked: file }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(Error::io(path, e)),
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let waiting = move || {
        let locked = file.lock().map(|()| Turn { _locked: file });
        // If nobody receives any more, the turn goes back with it.
        drop(sender.send(locked));
    };
    thread::Builder::new().name("db-turn".into()).spawn(waiting).map_err(|e| Error::io(path, e))?;
    match receiver.recv_timeout(wait) {
        Ok(locked) => locked.map_err(|e| Error::io(path, e)),
        Err(_) => Err(Error::Busy { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_never_comes_is_an_error_and_is_not_taken_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hako.db");
        let first = take(&path, Duration::ZERO).unwrap();
        let late = take(&path, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(late, Error::Busy { .. }));
        drop(first);
        take(&path, Duration::from_secs(60)).unwrap();
    }
}
