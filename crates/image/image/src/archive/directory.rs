//! A layout that is a directory. It is as foreign as an archive: links in it stay beneath it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use hako_root::Root;
use hako_sys::{Errno, fs::FileKind, fs::OpenFlags};

use super::{Found, clean};
use crate::{Error, Result};

pub(super) fn find(root: &Root, path: &str) -> Result<Option<Found>> {
    let cleaned = clean(path.as_bytes()).join(&b'/');
    let file = match root.open_file(Path::new(OsStr::from_bytes(&cleaned)), OpenFlags::RDONLY) {
        Ok(file) => file,
        Err(hako_root::Error::Call { source: Errno::ENOENT | Errno::ENOTDIR, .. }) => {
            return Ok(None);
        }
        Err(hako_root::Error::NotFile { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let size = file.metadata().map_err(Error::Read)?.len();
    Ok(Some(Found { size, stored: None, reader: Box::new(file) }))
}

pub(super) fn top_directories(root: &Root) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in root.as_dir().entries()? {
        if matches!(entry.kind, FileKind::Directory | FileKind::Unknown) {
            names.push(entry.name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
