//! Removal of trees that someone else made, with whatever is in the way of it.

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use hako_sys::{
    Errno,
    fs::{self, AtFlags, FileKind, InodeFlags, OpenFlags},
};

use crate::{
    Dir, Error, Result, path_of_ref,
    walk::{self, Failed, Left, Visit},
};

/// How often a directory may turn out not to be empty after everything in it was removed.
const AGAIN_MAX: u32 = 1000;

struct Remove {
    again: u32,
    /// Whether anything was removed since a directory was last found not to be empty.
    progress: bool,
}

impl Visit for Remove {
    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileKind) -> Result<(), Failed> {
        unlink(dir, name, kind).map_err(|e| ("unlinkat", e))?;
        self.progress = true;
        Ok(())
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Failed> {
        match open(dir, name) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(("openat2", e)),
        }
    }

    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Left, Failed> {
        match unlink(dir, name, FileKind::Directory) {
            Ok(()) => {
                self.progress = true;
                Ok(Left::Done)
            }
            // A listing may miss names where others are removed meanwhile (tmpfs before 6.6).
            Err(Errno::ENOTEMPTY) if self.progress && self.again < AGAIN_MAX => {
                self.again += 1;
                self.progress = false;
                Ok(Left::Again)
            }
            Err(e) => Err(("rmdir", e)),
        }
    }
}

pub(crate) fn remove_all(dir: &Dir, name: &CStr) -> Result<()> {
    let stat = match dir.metadata(name) {
        Ok(stat) => stat,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    if stat.kind != FileKind::Directory {
        return unlink(dir.fd(), name, stat.kind).map_err(|e| dir.error("unlinkat", name, e));
    }
    let mut remove = Remove { again: 0, progress: false };
    loop {
        let start = match open(dir.fd(), name) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EXDEV) => {
                return Err(Error::MountPoint { root: dir.name().into(), path: path_of_ref(name) });
            }
            Err(e) => return Err(dir.error("openat2", name, e)),
        };
        let top = Dir::new(
            start.try_clone().map_err(|e| dir.error("fcntl", name, Errno::of(&e)))?,
            dir.name().join(path_of_ref(name)),
        );
        walk::walk(&top, start, &mut remove)?;
        match remove.leave(dir.fd(), name) {
            Ok(Left::Done) => return Ok(()),
            Ok(Left::Again) => {}
            Err((call, e)) => return Err(dir.error(call, name, e)),
        }
    }
}

/// Opens a directory for reading, whatever its permissions.
fn open(dir: BorrowedFd<'_>, name: &CStr) -> hako_sys::Result<OwnedFd> {
    match walk::open_here(dir, name) {
        Err(Errno::EACCES) => {
            let flags = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
            let place = fs::openat(dir, name, flags, 0)?;
            fs::chmod_path(place.as_fd(), 0o700)?;
            walk::open_here(dir, name)
        }
        opened => opened,
    }
}

/// Removes a name; nothing there is fine. What forbids it is taken away: immutability of the file
/// or directory (`EPERM`), permissions of the directory (`EACCES`).
fn unlink(dir: BorrowedFd<'_>, name: &CStr, kind: FileKind) -> hako_sys::Result<()> {
    let flags = match kind {
        FileKind::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    let refusal = match fs::unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(e) => e,
    };
    let mended = match refusal {
        Errno::EPERM => {
            let of_dir = make_mutable(dir)?;
            of_dir | make_name_mutable(dir, name, kind)?
        }
        Errno::EACCES => fs::fchmod(dir, 0o700).is_ok(),
        _ => false,
    };
    if !mended {
        return Err(refusal);
    }
    match fs::unlinkat(dir, name, flags) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Clears the inode flags that forbid removal; whether there were any.
fn make_mutable(fd: BorrowedFd<'_>) -> hako_sys::Result<bool> {
    let forbidding = InodeFlags::IMMUTABLE | InodeFlags::APPEND;
    let flags = match fs::inode_flags(fd) {
        Ok(flags) => flags,
        // A file system without such flags; then they are not what forbids.
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => return Ok(false),
        Err(e) => return Err(e),
    };
    let cleared = flags.difference(forbidding);
    if cleared == flags {
        return Ok(false);
    }
    fs::set_inode_flags(fd, cleared)?;
    Ok(true)
}

fn make_name_mutable(dir: BorrowedFd<'_>, name: &CStr, kind: FileKind) -> hako_sys::Result<bool> {
    // Only these have flags of their own; opening a device would wake it.
    if !matches!(kind, FileKind::File | FileKind::Directory) {
        return Ok(false);
    }
    let flags = OpenFlags::RDONLY | OpenFlags::NOFOLLOW | OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
    let fd = fs::openat(dir, name, flags, 0)?;
    make_mutable(fd.as_fd())
}
