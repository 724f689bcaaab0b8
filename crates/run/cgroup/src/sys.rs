//! Files of the cgroup file systems: small, read and written whole.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use hako_sys::Errno;

use crate::{Error, Result};

pub(crate) fn errno(e: &std::io::Error) -> Errno {
    Errno::of(e)
}

/// Opens a file for writing; it must be there.
pub(crate) fn open(path: &Path) -> std::result::Result<File, Errno> {
    OpenOptions::new().write(true).open(path).map_err(|e| errno(&e))
}

/// Writes one value with one write(2): the kernel takes these files' values whole.
pub(crate) fn write_to(file: &mut File, value: &str) -> std::result::Result<(), Errno> {
    match file.write(value.as_bytes()) {
        Ok(n) if n == value.len() => Ok(()),
        Ok(_) => Err(Errno::EIO),
        Err(e) => Err(errno(&e)),
    }
}

/// Opens a file and writes one value.
pub(crate) fn write(path: &Path, value: &str) -> std::result::Result<(), Errno> {
    write_to(&mut open(path)?, value)
}

/// Reads a file; `None` when it is not there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    let result = File::open(path).and_then(|mut f| f.read_to_string(&mut text));
    match result.map_err(|e| errno(&e)) {
        Ok(_) => Ok(Some(text)),
        // ENODEV: the cgroup was removed while its file was open.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Reads a file that must be there.
pub(crate) fn read(path: &Path) -> Result<String> {
    read_optional(path)?.ok_or_else(|| Error::Read { path: path.to_owned(), source: Errno::ENOENT })
}
