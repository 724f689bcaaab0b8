//! Locks between processes: flock(2), so that a killed owner gives them up.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use hako_sys::fs::{Lock, flock, try_flock};

use crate::{Error, Result};

/// Keeps garbage collection away while it lives.
#[derive(Debug)]
pub struct Hold {
    _files: Vec<File>,
}

impl Hold {
    /// Several as one.
    pub(crate) fn all(holds: Vec<Hold>) -> Hold {
        Hold { _files: holds.into_iter().flat_map(|hold| hold._files).collect() }
    }

    pub(crate) fn shared(path: &Path) -> Result<Hold> {
        let file = open(path)?;
        flock(file.as_fd(), Lock::Shared).map_err(|e| Error::io("flock", path)(e.into()))?;
        Ok(Hold { _files: vec![file] })
    }

    /// `None` while anybody holds.
    pub(crate) fn exclusive(path: &Path) -> Result<Option<Hold>> {
        let file = open(path)?;
        let ours = try_flock(file.as_fd(), Lock::Exclusive)
            .map_err(|e| Error::io("flock", path)(e.into()))?;
        Ok(ours.then_some(Hold { _files: vec![file] }))
    }
}

/// A named lock whose file goes away with it.
#[derive(Debug)]
pub(crate) struct Named {
    path: PathBuf,
    _file: File,
}

impl Named {
    /// Waits until the lock is ours.
    pub(crate) fn take(path: PathBuf) -> Result<Named> {
        loop {
            let file = open(&path)?;
            flock(file.as_fd(), Lock::Exclusive)
                .map_err(|e| Error::io("flock", &path)(e.into()))?;
            if is_current(&file, &path) {
                return Ok(Named { path, _file: file });
            }
        }
    }

    /// `None` while another process holds it.
    pub(crate) fn try_take(path: PathBuf) -> Result<Option<Named>> {
        let file = open(&path)?;
        let ours = try_flock(file.as_fd(), Lock::Exclusive)
            .map_err(|e| Error::io("flock", &path)(e.into()))?;
        // Not `then_some`: a `Named` that is not ours would remove the owner's file when dropped.
        if ours && is_current(&file, &path) {
            return Ok(Some(Named { path, _file: file }));
        }
        Ok(None)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // Before the lock is given up with the file. A file that stays is one that sweep removes.
        fs::remove_file(&self.path).ok();
    }
}

/// The former owner removed the file that we opened, and locking it locks nothing.
fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))
}
