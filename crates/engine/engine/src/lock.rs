//! Locks between commands, as flock(2): a killed command gives them up.

use std::{fs::File, os::fd::AsFd as _, path::Path};

use hako_sys::fs::{Lock, flock, try_flock};

use crate::{Error, Result};

/// A lock that is held while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Waits for the lock.
pub(crate) fn take(path: &Path, lock: Lock) -> Result<Held> {
    let file = open(path)?;
    flock(file.as_fd(), lock).map_err(|e| Error::io("flock", path)(e.into()))?;
    Ok(Held { _file: file })
}

/// `None` while somebody else holds it in a way that forbids ours.
pub(crate) fn try_take(path: &Path, lock: Lock) -> Result<Option<Held>> {
    let file = open(path)?;
    let ours = try_flock(file.as_fd(), lock).map_err(|e| Error::io("flock", path)(e.into()))?;
    Ok(ours.then_some(Held { _file: file }))
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))
}
