//! A directory that is held, and single names in it. Nothing here follows a symbolic link.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use hako_sys::{
    Errno,
    fs::{self, AtFlags, FileKind, OpenFlags, RenameFlags, Stat, Timespec},
    xattr,
};

use crate::{Error, Result, path_of_ref, remove, walk};

/// A directory that is held open, usually as `O_PATH`.
///
/// Every `name` is one plain name: an empty one, `.`, `..` or one with a slash is [`Error::Name`].
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    name: PathBuf,
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: CString,
    /// What it names, `Unknown` where the file system does not tell.
    pub kind: FileKind,
}

impl Dir {
    /// Takes a directory's descriptor; `name` is what errors call it.
    pub fn new(fd: OwnedFd, name: PathBuf) -> Dir {
        Dir { fd, name }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What errors call this directory.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Another handle of the same directory.
    pub fn try_clone(&self) -> Result<Dir> {
        let fd = self.fd.try_clone().map_err(|e| self.own_error("fcntl", Errno::of(&e)))?;
        Ok(Dir { fd, name: self.name.clone() })
    }

    /// openat(2), never through a link.
    pub fn open(&self, name: &CStr, flags: OpenFlags, create_mode: u32) -> Result<OwnedFd> {
        self.check(name)?;
        fs::openat(self.fd(), name, flags | OpenFlags::NOFOLLOW, create_mode)
            .map_err(|e| self.error("openat", name, e))
    }

    /// A directory in this one.
    pub fn open_dir(&self, name: &CStr) -> Result<Dir> {
        let fd = self.open(name, OpenFlags::PATH | OpenFlags::DIRECTORY, 0)?;
        Ok(Dir { fd, name: self.name.join(path_of_ref(name)) })
    }

    /// Makes a regular file that must not be there, open for reading and writing.
    pub fn create_file(&self, name: &CStr, permissions: u32) -> Result<File> {
        let flags = OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL;
        Ok(self.open(name, flags, permissions)?.into())
    }

    /// mkdirat(2).
    pub fn mkdir(&self, name: &CStr, permissions: u32) -> Result<()> {
        self.check(name)?;
        fs::mkdirat(self.fd(), name, permissions).map_err(|e| self.error("mkdirat", name, e))
    }

    /// Makes the symbolic link `name`, which says `target`.
    pub fn symlink(&self, target: &CStr, name: &CStr) -> Result<()> {
        self.check(name)?;
        fs::symlinkat(target, self.fd(), name).map_err(|e| self.error("symlinkat", name, e))
    }

    /// Gives the file `name` of this directory a second name, `new` in `dir`. A symbolic link is
    /// linked itself.
    pub fn hard_link(&self, name: &CStr, dir: &Dir, new: &CStr) -> Result<()> {
        self.check(name)?;
        dir.check(new)?;
        fs::linkat(self.fd(), name, dir.fd(), new, AtFlags::empty())
            .map_err(|e| dir.error("linkat", new, e))
    }

    /// mknodat(2): a device (of `rdev` = major, minor), FIFO or socket.
    pub fn mknod(
        &self,
        name: &CStr,
        kind: FileKind,
        permissions: u32,
        rdev: (u32, u32),
    ) -> Result<()> {
        self.check(name)?;
        fs::mknodat(self.fd(), name, kind, permissions, rdev)
            .map_err(|e| self.error("mknodat", name, e))
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, name: &CStr) -> Result<()> {
        self.check(name)?;
        fs::unlinkat(self.fd(), name, AtFlags::empty()).map_err(|e| self.error("unlinkat", name, e))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &CStr) -> Result<()> {
        self.check(name)?;
        fs::unlinkat(self.fd(), name, AtFlags::REMOVEDIR).map_err(|e| self.error("rmdir", name, e))
    }

    /// renameat2(2).
    pub fn rename(&self, name: &CStr, dir: &Dir, new: &CStr, flags: RenameFlags) -> Result<()> {
        self.check(name)?;
        dir.check(new)?;
        fs::renameat2(self.fd(), name, dir.fd(), new, flags)
            .map_err(|e| dir.error("renameat2", new, e))
    }

    /// What a name stands for, be it a link.
    pub fn metadata(&self, name: &CStr) -> Result<Stat> {
        self.check(name)?;
        fs::statat(self.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("fstatat", name, e))
    }

    /// What the directory itself is.
    pub fn own_metadata(&self) -> Result<Stat> {
        fs::fstat(self.fd()).map_err(|e| self.own_error("fstat", e))
    }

    /// What the symbolic link `name` says.
    pub fn readlink(&self, name: &CStr) -> Result<CString> {
        self.check(name)?;
        fs::readlinkat(self.fd(), name).map_err(|e| self.error("readlinkat", name, e))
    }

    /// Changes the owner of a name, be it a link.
    pub fn set_owner(&self, name: &CStr, uid: u32, gid: u32) -> Result<()> {
        self.check(name)?;
        fs::chownat(self.fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("fchownat", name, e))
    }

    /// Changes the permissions of a name; a symbolic link has none (`EOPNOTSUPP`).
    pub fn set_permissions(&self, name: &CStr, permissions: u32) -> Result<()> {
        let place = self.open(name, OpenFlags::PATH, 0)?;
        fs::chmod_path(place.as_fd(), permissions).map_err(|e| self.error("fchmodat2", name, e))
    }

    /// Sets the time of the last change (and access) of a name, be it a link.
    pub fn set_mtime(&self, name: &CStr, mtime: Timespec) -> Result<()> {
        self.check(name)?;
        fs::utimensat(self.fd(), name, mtime, mtime, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("utimensat", name, e))
    }

    /// Sets an extended attribute of a name, be it a link or device.
    pub fn set_xattr(&self, name: &CStr, key: &CStr, value: &[u8]) -> Result<()> {
        let place = self.open(name, OpenFlags::PATH, 0)?;
        xattr::set_path(place.as_fd(), key, value).map_err(|e| self.error("setxattr", name, e))
    }

    /// Sets an extended attribute of the directory itself.
    pub fn set_own_xattr(&self, key: &CStr, value: &[u8]) -> Result<()> {
        xattr::set_path(self.fd(), key, value).map_err(|e| self.own_error("setxattr", e))
    }

    /// Every name, in no order. All are held in memory: for directories of hako's own.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let listing = walk::reopen(self.fd()).map_err(|e| self.own_error("openat", e))?;
        let mut entries = Vec::new();
        fs::for_each_entry(listing.as_fd(), |e| {
            entries.push(Entry { name: e.name.into(), kind: e.kind });
            true
        })
        .map_err(|e| self.own_error("getdents64", e))?;
        Ok(entries)
    }

    /// Removes a file, or a directory with everything in it. Nothing there is fine.
    ///
    /// Any depth, any number of files, unreadable directories and immutable files are removed;
    /// memory and descriptors stay bounded. It never enters another mount
    /// ([`Error::MountPoint`]). Interrupted, it can be called again.
    pub fn remove_all(&self, name: &CStr) -> Result<()> {
        self.check(name)?;
        remove::remove_all(self, name)
    }

    /// What this directory and everything in it occupies; hard links count once. It enters no
    /// other mount.
    pub fn usage(&self) -> Result<walk::Usage> {
        walk::usage(self)
    }

    /// fsync(2) of the directory: its names are on disk afterwards.
    pub fn sync(&self) -> Result<()> {
        let fd = walk::reopen(self.fd()).map_err(|e| self.own_error("openat", e))?;
        fs::fsync(fd.as_fd()).map_err(|e| self.own_error("fsync", e))
    }

    /// syncfs(2): everything written to the directory's file system is on disk afterwards.
    pub fn sync_fs(&self) -> Result<()> {
        let fd = walk::reopen(self.fd()).map_err(|e| self.own_error("openat", e))?;
        fs::syncfs(fd.as_fd()).map_err(|e| self.own_error("syncfs", e))
    }

    pub(crate) fn error(&self, call: &'static str, name: &CStr, e: Errno) -> Error {
        Error::call(call, &self.name, path_of_ref(name), e)
    }

    pub(crate) fn own_error(&self, call: &'static str, e: Errno) -> Error {
        Error::call(call, &self.name, ".", e)
    }

    fn check(&self, name: &CStr) -> Result<()> {
        let bytes = name.to_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(Error::Name { root: self.name.clone(), path: path_of_ref(name) });
        }
        Ok(())
    }
}
