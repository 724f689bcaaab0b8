//! Places beneath the root filesystem: found, and made where they are missing, by the kernel's own
//! resolution. Nothing that a container or an image does with links can lead outside.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_sys::fs::{self, FileKind, OpenFlags, Resolve};
use hako_sys::{Errno, Result};

use crate::call::{At, Call, Did};
use crate::op::Target;

/// What a missing place becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Directory,
    File,
}

fn resolve(target: &Target) -> Resolve {
    // /proc and /sys must be what they seem (CVE-2019-19921, CVE-2023-27561).
    let links = if target.real { Resolve::NO_SYMLINKS } else { Resolve::NO_MAGICLINKS };
    Resolve::IN_ROOT | links
}

/// Opens a place, as a path only.
pub(super) fn open(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd> {
    let mut flags = OpenFlags::PATH;
    if target.no_follow {
        flags |= OpenFlags::NOFOLLOW;
    }
    fs::openat2(root, &target.path, flags, 0, resolve(target))
}

/// Opens a place, which is made where it is missing, with the directories above it.
pub(super) fn ensure(root: BorrowedFd<'_>, target: &Target, make: Make) -> Did<OwnedFd> {
    match open(root, target) {
        Ok(fd) => return Ok(fd),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e).at(Call::Openat2),
    }
    let mut dir: Option<OwnedFd> = None;
    let last = target.names.len().saturating_sub(1);
    for (i, (name, prefix)) in target.names.iter().zip(&target.prefixes).enumerate() {
        let here = dir.as_ref().map_or(root, AsFd::as_fd);
        let make = if i == last { make } else { Make::Directory };
        // What is there is followed as the kernel would, within the root; what is missing is made
        // in the directory that we hold, and opened there without following anything.
        let next = match fs::openat2(root, prefix, OpenFlags::PATH, 0, resolve(target)) {
            Err(Errno::ENOENT) => make_one(here, name, make)?,
            other => other.at(Call::Openat2)?,
        };
        dir = Some(next);
    }
    dir.ok_or(Errno::ENOENT).at(Call::Openat2)
}

fn make_one(dir: BorrowedFd<'_>, name: &CStr, make: Make) -> Did<OwnedFd> {
    let (made, call) = match make {
        Make::Directory => (fs::mkdirat(dir, name, 0o755), Call::Mkdir),
        Make::File => (fs::mknodat(dir, name, FileKind::File, 0o755, (0, 0)), Call::Mknod),
    };
    match made {
        // Somebody was faster, or a link leads nowhere; the open below tells.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e).at(call),
    }
    let flags = OpenFlags::PATH | OpenFlags::NOFOLLOW;
    fs::openat2(dir, name, flags, 0, Resolve::BENEATH | Resolve::NO_SYMLINKS).at(Call::Openat2)
}
