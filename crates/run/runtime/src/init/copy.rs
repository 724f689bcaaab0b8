//! `tmpcopyup`: what the target holds is copied into the tmpfs that will cover it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use hako_sys::fs::{self, AtFlags, FileKind, OpenFlags, Resolve};
use hako_sys::{Errno, xattr};

use super::Init;
use super::walk;
use crate::call::{At, Call, Did};
use crate::op::Target;

/// Directories deeper than this are an error, not a stack overflow.
const DEPTH_MAX: u32 = 64;

impl Init<'_> {
    /// Copies the tree that is at the target into the new file system.
    pub(super) fn copy_up(&self, target: &Target, to: BorrowedFd<'_>) -> Did {
        let place = walk::open(self.root()?, target).at(Call::Openat2)?;
        let from = fs::openat(place.as_fd(), c".", OpenFlags::RDONLY | OpenFlags::DIRECTORY, 0)
            .at(Call::Open)?;
        let to =
            fs::openat(to, c".", OpenFlags::RDONLY | OpenFlags::DIRECTORY, 0).at(Call::Open)?;
        copy_directory(from.as_fd(), to.as_fd(), 0)
    }
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Did {
    if depth > DEPTH_MAX {
        return Err(Errno::ELOOP).at(Call::Copy);
    }
    let mut result = Ok(());
    fs::for_each_entry_small(from, |entry| {
        result = copy_entry(from, to, entry.name, depth);
        result.is_ok()
    })
    .at(Call::Copy)?;
    result?;
    let stat = fs::fstat(from).at(Call::Fstat)?;
    fs::fchown(to, Some(stat.uid), Some(stat.gid)).at(Call::Fchown)?;
    fs::fchmod(to, stat.mode).at(Call::Copy)?;
    fs::futimens(to, stat.atime, stat.mtime).at(Call::Copy)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Did {
    let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).at(Call::Fstat)?;
    let beneath = Resolve::BENEATH | Resolve::NO_SYMLINKS | Resolve::NO_MAGICLINKS;
    match stat.kind {
        FileKind::Directory => {
            fs::mkdirat(to, name, 0o700).at(Call::Mkdir)?;
            let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
            let inner = fs::openat2(from, name, flags, 0, beneath).at(Call::Openat2)?;
            let outer = fs::openat2(to, name, flags, 0, beneath).at(Call::Openat2)?;
            return copy_directory(inner.as_fd(), outer.as_fd(), depth + 1);
        }
        FileKind::File => {
            let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK;
            let source = fs::openat2(from, name, flags, 0, beneath).at(Call::Openat2)?;
            let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::EXCL;
            let copy = fs::openat2(to, name, flags, 0o600, beneath).at(Call::Openat2)?;
            copy_content(source.as_fd(), copy.as_fd())?;
            copy_xattrs(source.as_fd(), copy.as_fd())?;
            fs::fchown(copy.as_fd(), Some(stat.uid), Some(stat.gid)).at(Call::Fchown)?;
            // After the owner, whose change takes set-user-ID bits away.
            fs::fchmod(copy.as_fd(), stat.mode).at(Call::Copy)?;
            return fs::futimens(copy.as_fd(), stat.atime, stat.mtime).at(Call::Copy);
        }
        FileKind::Symlink => {
            let mut buffer = [0u8; 4096];
            let content = fs::readlink_into(from, name, &mut buffer).at(Call::Readlink)?;
            fs::symlinkat(content, to, name).at(Call::Symlink)?;
        }
        kind => fs::mknodat(to, name, kind, stat.mode, stat.rdev).at(Call::Mknod)?,
    }
    fs::chownat(to, name, Some(stat.uid), Some(stat.gid), AtFlags::SYMLINK_NOFOLLOW)
        .at(Call::Fchown)
}

fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Did {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let n = fs::read(from, &mut buffer).at(Call::Copy)?;
        if n == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < n {
            written += fs::write(to, &buffer[written..n]).at(Call::Copy)?;
        }
    }
}

/// What a tmpfs can hold of a file's extended attributes.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Did {
    let (mut names, mut value) = ([0u8; 4096], [0u8; 4096]);
    let names = match xattr::list_into(from, &mut names) {
        Ok(names) => names,
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e).at(Call::Copy),
    };
    for name in names.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let value = xattr::get_into(from, name, &mut value).at(Call::Copy)?;
        match xattr::fset(to, name, value) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
            Err(e) => return Err(e).at(Call::Copy),
        }
    }
    Ok(())
}
