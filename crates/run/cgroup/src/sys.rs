//! Files of the cgroup file systems: small, read and written whole, with as few calls as can be.

use std::{
    ffi::CString,
    fs::File,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use hako_sys::{
    Errno,
    fs::{self, OpenFlags},
};

use crate::{Error, Result};

pub(crate) fn errno(e: &std::io::Error) -> Errno {
    Errno::of(e)
}

/// A path for the kernel. No path with a NUL byte is one.
pub(crate) fn c_path(path: &Path) -> std::result::Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn open_as(path: &Path, flags: OpenFlags) -> std::result::Result<File, Errno> {
    fs::openat(fs::cwd(), &c_path(path)?, flags, 0).map(File::from)
}

/// Opens a file for writing; it must be there.
pub(crate) fn open(path: &Path) -> std::result::Result<File, Errno> {
    open_as(path, OpenFlags::WRONLY)
}

/// Opens a file for reading; it must be there.
pub(crate) fn open_read(path: &Path) -> Result<File> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    open_as(path, OpenFlags::RDONLY).map_err(failed)
}

/// Opens a directory.
pub(crate) fn open_directory(path: &Path) -> std::result::Result<File, Errno> {
    open_as(path, OpenFlags::RDONLY | OpenFlags::DIRECTORY)
}

/// Makes a directory; its parent must be there.
pub(crate) fn make_directory(path: &Path) -> std::result::Result<(), Errno> {
    fs::mkdirat(fs::cwd(), &c_path(path)?, 0o755)
}

/// Writes one value with one write(2): the kernel takes these files' values whole.
pub(crate) fn write_to(file: &File, value: &str) -> std::result::Result<(), Errno> {
    match fs::write(file.as_fd(), value.as_bytes())? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// Opens a file and writes one value.
pub(crate) fn write(path: &Path, value: &str) -> std::result::Result<(), Errno> {
    write_to(&open(path)?, value)
}

/// Reads a file; `None` when it is not there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    // ENODEV: the cgroup was removed while its file was open.
    let absent = |e| matches!(e, Errno::ENOENT | Errno::ENODEV);
    let file = match open_as(path, OpenFlags::RDONLY) {
        Ok(file) => file,
        Err(e) if absent(e) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    // Most are shorter; then this is one read, and one that finds the end.
    let mut buffer = [0; 4096];
    let mut bytes = Vec::new();
    loop {
        match fs::read(file.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if absent(e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        }
    }
    // What the kernel writes there is text; a cgroup's name need not be.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads a file that must be there.
pub(crate) fn read(path: &Path) -> Result<String> {
    read_optional(path)?.ok_or_else(|| Error::Read { path: path.to_owned(), source: Errno::ENOENT })
}
