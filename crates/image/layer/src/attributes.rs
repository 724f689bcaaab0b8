//! What an inode gets besides content: owner, permissions, extended attributes, time.
//!
//! Set in this order: the kernel takes set-user-ID bits and capabilities away when the owner
//! changes, and everything before the time changes the time.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    os::fd::{AsFd as _, BorrowedFd},
};

use hako_erofs::{Content, Inode};
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

/// Whether a layer may carry the attribute.
pub fn is_kept(name: &[u8]) -> bool {
    fate(name) != Fate::Dropped
}

/// As long as the kernel takes a name.
const XATTR_NAME_MAX: usize = 255;
/// What one inode may have: more than file systems on disk take.
const XATTRS_MAX: usize = 200;
const XATTRS_BYTES_MAX: usize = 128 << 10;

/// Whether an inode of this kind can have the attribute.
fn is_possible(name: &[u8], content: &Content) -> bool {
    match content {
        Content::Directory(_) => true,
        Content::File { .. } => name != b"system.posix_acl_default",
        Content::Symlink(_) => false,
        _ => !name.starts_with(b"user.") && name != b"system.posix_acl_default",
    }
}

/// Whether a value is one that the kernel takes for this name: capabilities (linux/capability.h,
/// three revisions) and access control lists (linux/posix_acl_xattr.h) have a form.
fn is_valid(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"security.capability" => {
            matches!((value.len(), value.get(3)), (12, Some(1)) | (20, Some(2)) | (24, Some(3)))
        }
        b"system.posix_acl_access" | b"system.posix_acl_default" => {
            let entries = value.strip_prefix(b"\x02\0\0\0").unwrap_or(b"?");
            let known = |entry: &[u8]| matches!(entry[..2], [1 | 2 | 4 | 8 | 16 | 32, 0]);
            entries.len().is_multiple_of(8) && entries.chunks_exact(8).all(known)
        }
        _ => true,
    }
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

    /// An inode with all of these, and how many extended attributes its kind does not have. Values
    /// that the kernel would refuse are refused: it would later, when the file is used.
    pub(crate) fn inode(self, content: Content) -> Result<(Inode, u64), Failed> {
        let (mut refused, mut bytes) = (0, 0);
        let mut xattrs = BTreeMap::new();
        for (name, value) in self.xattrs {
            let name = name.into_bytes();
            if !is_possible(&name, &content) {
                refused += 1;
                continue;
            }
            if !is_valid(&name, &value) {
                return Err(("setxattr", Errno::EINVAL));
            }
            bytes += name.len() + value.len();
            if name.len() > XATTR_NAME_MAX || value.len() > hako_erofs::XATTR_VALUE_MAX {
                return Err(("setxattr", Errno::ERANGE));
            }
            xattrs.insert(name, value);
        }
        if xattrs.len() > XATTRS_MAX || bytes > XATTRS_BYTES_MAX {
            return Err(("setxattr", Errno::ENOSPC));
        }
        // The kernel gives symbolic links all permissions.
        let mode = if matches!(content, Content::Symlink(_)) { 0o777 } else { self.mode };
        let Timespec { seconds, nanos } = self.mtime;
        let mtime = hako_erofs::Time { seconds, nanos };
        Ok((Inode { mode, uid: self.uid, gid: self.gid, mtime, xattrs, content }, refused))
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
