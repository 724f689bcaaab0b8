//! Files that belong to a living process: created, `flock`'d, and removed by whoever finds the
//! lock free.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result};

/// A new file in `dir`, locked, with a name that nobody else has.
pub(crate) fn create(dir: &Path) -> Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{now:x}-{}-{next}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        // Between the two calls a sweep may have found it free, and removed it.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(e)) => return Err(Error::io("flock", &path, e)),
        }
        if file.metadata().map_err(|e| Error::io("stat", &path, e))?.nlink() > 0 {
            return Ok((file, path));
        }
    }
}

/// Whether somebody holds the file at `path`; not, where there is none.
pub(crate) fn is_alive(path: &Path) -> Result<bool> {
    Ok(claim(path)?.is_none() && path.exists())
}

/// Removes those files of `dir` that nobody holds any more.
pub(crate) fn sweep(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("readdir", dir, e))? {
        let path = entry.map_err(|e| Error::io("readdir", dir, e))?.path();
        let Some(_claimed) = claim(&path)? else { continue };
        remove(&path)?;
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, e)),
        _ => Ok(()),
    }
}

/// The file, locked, if nobody else has it locked; `None` also where it is gone.
pub(crate) fn claim(path: &Path) -> Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::io("flock", path, e)),
    }
}
