//! What an inode gets besides content: owner, permissions, extended attributes, time.
//!
//! Set in this order: the kernel takes set-user-ID bits and capabilities away when the owner
//! changes, and everything before the time changes the time.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd as _, BorrowedFd},
};

use hako_sys::{
    Errno,
    fs::{self, AtFlags, OpenFlags, Timespec},
    xattr,
};
use hako_tar::Header;

/// A call that failed; the caller knows the path.
pub(crate) type Failed = (&'static str, Errno);

/// Owner, permissions, attributes and time of an entry.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timespec,
    xattrs: Vec<(CString, Vec<u8>)>,
}

/// What becomes of extended attributes, by their names' beginnings; the first match counts.
///
/// An attribute that the host acts on belongs to the host: labels and hashes of its security
/// modules, and overlayfs's own, with which a layer could redirect lookups into other layers. What
/// is not listed is dropped.
const XATTRS: &[(&[u8], Fate)] = &[
    (b"security.capability", Fate::Kept),
    (b"user.overlay.", Fate::Dropped),
    (b"user.", Fate::KeptWherePossible),
    (b"system.posix_acl_access", Fate::KeptWherePossible),
    (b"system.posix_acl_default", Fate::KeptWherePossible),
    (b"trusted.", Fate::Dropped),
    (b"security.", Fate::Dropped),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Set, or the layer fails: without it the program in the file does not work.
    Kept,
    /// Set, unless the file system has no such attributes.
    KeptWherePossible,
    Dropped,
}

fn fate(name: &[u8]) -> Fate {
    let matches = |prefix: &[u8]| match prefix.ends_with(b".") {
        true => name.starts_with(prefix),
        false => name == prefix,
    };
    XATTRS.iter().find(|(prefix, _)| matches(prefix)).map_or(Fate::Dropped, |&(_, fate)| fate)
}

impl Attributes {
    /// The attributes of an entry; the second value counts extended attributes left out.
    pub(crate) fn new(header: &mut Header) -> (Attributes, u64) {
        let mut dropped = 0;
        let mut xattrs = Vec::new();
        for (name, value) in std::mem::take(&mut header.xattrs) {
            match (fate(&name), CString::new(name)) {
                (Fate::Kept | Fate::KeptWherePossible, Ok(name)) => xattrs.push((name, value)),
                _ => dropped += 1,
            }
        }
        let mtime = Timespec { seconds: header.mtime.seconds, nanos: header.mtime.nanos };
        let Header { mode, uid, gid, .. } = *header;
        (Attributes { mode, uid, gid, mtime, xattrs }, dropped)
    }

    /// Sets all on a file or directory that is open. Answers how many extended attributes the
    /// file system does not have.
    pub(crate) fn set(&self, fd: BorrowedFd<'_>) -> Result<u64, Failed> {
        fs::fchown(fd, Some(self.uid), Some(self.gid)).map_err(|e| ("fchown", e))?;
        fs::fchmod(fd, self.mode).map_err(|e| ("fchmod", e))?;
        let refused = self.set_xattrs(|name, value| xattr::fset(fd, name, value))?;
        fs::futimens(fd, self.mtime, self.mtime).map_err(|e| ("utimensat", e))?;
        Ok(refused)
    }

    /// Sets all on a name that cannot be opened for reading: a device, a FIFO, or with
    /// `is_link` a symbolic link, which has no permissions.
    pub(crate) fn set_by_name(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        is_link: bool,
    ) -> Result<u64, Failed> {
        let at = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(dir, name, Some(self.uid), Some(self.gid), at).map_err(|e| ("fchownat", e))?;
        let mut refused = 0;
        if !is_link || !self.xattrs.is_empty() {
            let flags = OpenFlags::PATH | OpenFlags::NOFOLLOW;
            let place = fs::openat(dir, name, flags, 0).map_err(|e| ("openat", e))?;
            if !is_link {
                fs::chmod_path(place.as_fd(), self.mode).map_err(|e| ("fchmodat2", e))?;
            }
            let set = |name: &CStr, value: &[u8]| xattr::set_path(place.as_fd(), name, value);
            refused = self.set_xattrs(set)?;
        }
        fs::utimensat(dir, name, self.mtime, self.mtime, at).map_err(|e| ("utimensat", e))?;
        Ok(refused)
    }

    /// Whether an inode already is as this says, extended attributes aside.
    pub(crate) fn is_like(&self, stat: &fs::Stat) -> bool {
        let is_link = stat.kind == fs::FileKind::Symlink;
        (stat.uid, stat.gid) == (self.uid, self.gid)
            && (stat.mode == self.mode || is_link)
            && stat.mtime == self.mtime
            && self.xattrs.is_empty()
    }

    fn set_xattrs(
        &self,
        set: impl Fn(&CStr, &[u8]) -> hako_sys::Result<()>,
    ) -> Result<u64, Failed> {
        let mut refused = 0;
        for (name, value) in &self.xattrs {
            match set(name, value) {
                Ok(()) => {}
                // EPERM: user attributes belong to files and directories only.
                Err(Errno::EOPNOTSUPP | Errno::EPERM)
                    if fate(name.to_bytes()) == Fate::KeptWherePossible =>
                {
                    refused += 1;
                }
                Err(e) => return Err(("setxattr", e)),
            }
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_attributes_are_kept() {
        for (name, want) in [
            ("security.capability", Fate::Kept),
            ("security.capabilityx", Fate::Dropped),
            ("security.selinux", Fate::Dropped),
            ("security.ima", Fate::Dropped),
            ("trusted.overlay.redirect", Fate::Dropped),
            ("trusted.anything", Fate::Dropped),
            ("user.overlay.opaque", Fate::Dropped),
            ("user.overlayfs", Fate::KeptWherePossible),
            ("user.comment", Fate::KeptWherePossible),
            ("system.posix_acl_access", Fate::KeptWherePossible),
            ("system.nfs4_acl", Fate::Dropped),
            ("", Fate::Dropped),
        ] {
            assert_eq!(fate(name.as_bytes()), want, "{name}");
        }
    }
}
