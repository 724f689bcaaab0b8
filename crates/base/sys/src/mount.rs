//! Mounts by descriptor: fsopen, fsmount, open_tree, move_mount, mount_setattr, pivot_root, umount2.
//!
//! Nothing here allocates or takes a lock: all of it is called between `clone3` and `execve`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::mount as rx;

use crate::process::check;
use crate::{Errno, Result};

/// Attributes of a mount (`MOUNT_ATTR_*` of mount_setattr(2)), combined with `|`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x01;
    /// Set-user-ID bits are ignored.
    pub const NOSUID: u64 = 0x02;
    /// Device files cannot be opened.
    pub const NODEV: u64 = 0x04;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x08;
    /// The bits that choose how access times are kept; cleared as a whole before one is set.
    pub const ATIME: u64 = 0x70;
    /// Access times are kept lazily (the value zero among [`ATIME`]).
    pub const RELATIME: u64 = 0x00;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// IDs are mapped by a user namespace.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How a mount takes part in propagation (`MS_SHARED` and kin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Events go both ways.
    Shared,
    /// Events come in.
    Slave,
    /// No events.
    Private,
    /// No events, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }

    /// The word of the specification and of mount(8).
    pub fn word(self) -> &'static str {
        match self {
            Propagation::Shared => "shared",
            Propagation::Slave => "slave",
            Propagation::Private => "private",
            Propagation::Unbindable => "unbindable",
        }
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A change for [`set_attr`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// [`attr`] bits to set.
    pub set: u64,
    /// [`attr`] bits to clear first.
    pub clear: u64,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// User namespace whose maps an ID-mapped mount uses; goes with [`attr::IDMAP`].
    pub userns: Option<BorrowedFd<'a>>,
    /// Whether mounts below change too.
    pub recursive: bool,
}

/// Opens a file system context: `fsopen(2)`.
pub fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    Ok(rx::fsopen(kind, rx::FsOpenFlags::FSOPEN_CLOEXEC)?)
}

/// Sets a parameter that has a value.
pub fn fsconfig_string(fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    Ok(rx::fsconfig_set_string(fs, key, value)?)
}

/// Sets a parameter that has none.
pub fn fsconfig_flag(fs: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    Ok(rx::fsconfig_set_flag(fs, key)?)
}

/// Sets a parameter whose value is a descriptor.
pub fn fsconfig_fd(fs: BorrowedFd<'_>, key: &CStr, value: BorrowedFd<'_>) -> Result<()> {
    Ok(rx::fsconfig_set_fd(fs, key, value)?)
}

/// Makes (or finds) the superblock.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> Result<()> {
    Ok(rx::fsconfig_create(fs)?)
}

/// What the file system wrote to its log since the last call, into `buffer`; empty when nothing.
pub fn fs_log<'b>(fs: BorrowedFd<'_>, buffer: &'b mut [u8]) -> &'b [u8] {
    match rustix::io::read(fs, &mut *buffer) {
        Ok(n) => &buffer[..n],
        Err(_) => &[],
    }
}

/// A mount of the context's superblock, attached nowhere: `fsmount(2)`.
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    // Raw, because rustix's flag type lacks newer bits.
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            fs.as_raw_fd(),
            1 as libc::c_long,
            attributes as libc::c_long,
        )
    })?;
    // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What [`open_tree`] opens.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenTree {
    /// A detached copy of the mount rather than the mount itself.
    pub clone: bool,
    /// With the mounts below.
    pub recursive: bool,
    /// A symbolic link at the end is not followed.
    pub no_follow: bool,
}

/// Opens a mount, or a detached copy of one: `open_tree(2)`. An empty path means `dir` itself.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, how: OpenTree) -> Result<OwnedFd> {
    let mut flags = rx::OpenTreeFlags::OPEN_TREE_CLOEXEC | rx::OpenTreeFlags::AT_EMPTY_PATH;
    if how.clone {
        flags |= rx::OpenTreeFlags::OPEN_TREE_CLONE;
    }
    if how.recursive {
        flags |= rx::OpenTreeFlags::AT_RECURSIVE;
    }
    if how.no_follow {
        flags |= rx::OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    Ok(rx::open_tree(dir, path, flags)?)
}

/// Attaches the mount `mount` on what `target` is: `move_mount(2)`, both by descriptor.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags =
        rx::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | rx::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rx::move_mount(mount, c"", target, c"", flags)?)
}

/// Changes a mount's attributes: `mount_setattr(2)` (Linux 5.12).
pub fn set_attr(mount: BorrowedFd<'_>, change: &Change<'_>) -> Result<()> {
    let argument = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation.map_or(0, Propagation::flag),
        userns_fd: change.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string and `argument` lives through the call, with its size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const argument,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// The old call, for what has no newer one: `mount(2)` with raw `MS_*` flags.
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<()> {
    let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a C string that lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount,
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags as libc::c_ulong,
            pointer(data),
        )
    })?;
    Ok(())
}

/// Moves the mount at `from` to `to`.
pub fn move_to(from: &CStr, to: &CStr) -> Result<()> {
    mount(Some(from), to, None, libc::MS_MOVE, None)
}

/// [`attr`] bits, beside the `ST_*` of statvfs(3) and the `MS_*` of mount(2) of the same meaning.
const FLAGS: [(u64, u64, u64); 7] = [
    (attr::RDONLY, libc::ST_RDONLY, libc::MS_RDONLY),
    (attr::NOSUID, libc::ST_NOSUID, libc::MS_NOSUID),
    (attr::NODEV, libc::ST_NODEV, libc::MS_NODEV),
    (attr::NOEXEC, libc::ST_NOEXEC, libc::MS_NOEXEC),
    (attr::NOATIME, libc::ST_NOATIME, libc::MS_NOATIME),
    (attr::NODIRATIME, libc::ST_NODIRATIME, libc::MS_NODIRATIME),
    (attr::NOSYMFOLLOW, 0x2000, 256),
];

/// The attributes that statvfs(3)'s flags say.
pub fn attributes_of(st: u64) -> u64 {
    FLAGS.iter().filter(|(_, flag, _)| st & flag != 0).fold(0, |set, (bit, ..)| set | bit)
}

/// What makes a mount(2) change only the one mount at its target.
pub const REMOUNT_BIND: u64 = libc::MS_REMOUNT | libc::MS_BIND;

/// The flags of mount(2) that give a mount these attributes and no others.
pub fn remount_flags(attributes: u64) -> u64 {
    let strict =
        if attributes & attr::ATIME == attr::STRICTATIME { libc::MS_STRICTATIME } else { 0 };
    FLAGS
        .iter()
        .filter(|(bit, ..)| attributes & bit != 0)
        .fold(REMOUNT_BIND | strict, |flags, (.., ms)| flags | ms)
}

/// Changes the propagation of the mount at `path`.
pub fn set_propagation(path: &CStr, propagation: Propagation, recursive: bool) -> Result<()> {
    let recursive = if recursive { libc::MS_REC } else { 0 };
    mount(None, path, None, propagation.flag() | recursive, None)
}

/// Detaches the mount at `path` with all below it.
pub fn detach(path: &CStr) -> Result<()> {
    Ok(rx::unmount(path, rx::UnmountFlags::DETACH)?)
}

/// Detaches the mount at `path`, which must not be a symbolic link, with all below it.
pub fn detach_no_follow(path: &CStr) -> Result<()> {
    Ok(rx::unmount(path, rx::UnmountFlags::DETACH | rx::UnmountFlags::NOFOLLOW)?)
}

/// Swaps the root mount: `pivot_root(2)`.
pub fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    Ok(rustix::process::pivot_root(new, old)?)
}

/// Magic number of procfs.
pub const PROC_MAGIC: u64 = 0x9fa0;
/// Magic number of devpts.
pub const DEVPTS_MAGIC: u64 = 0x1cd1;
/// Magic number of sysfs.
pub const SYSFS_MAGIC: u64 = 0x6265_6572;
/// Magic number of cgroup v2.
pub const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The file `file` as a read-only mount of its own that is in no mount namespace. Whoever comes by
/// it, as `/proc/PID/exe` of a program that is executed from it, cannot write the file; once every
/// copy of the descriptor is closed nobody can make the mount writable either, or mount it anywhere.
/// Needs Linux 5.12 and `CAP_SYS_ADMIN`.
pub fn read_only_view(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    let view = open_tree(file, c"", OpenTree { clone: true, ..OpenTree::default() })?;
    // What is under /run must often not be executed: that is about what users put there.
    let change = Change { set: attr::RDONLY, clear: attr::NOEXEC, ..Change::default() };
    set_attr(view.as_fd(), &change)?;
    Ok(view)
}

/// What protects a file that was opened through a [`read_only_view`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewState {
    /// It was not.
    None,
    /// It was, and somebody holds the view's descriptor: with privileges it can be made writable.
    Held,
    /// It was, and is read-only for good.
    Final,
}

/// Finds that out about `file`.
pub fn view_state(file: BorrowedFd<'_>) -> Result<ViewState> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let about = rustix::fs::statx(file, c"", flags, rustix::fs::StatxFlags::TYPE)?;
    let is_mount = about.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT);
    let is_file = u32::from(about.stx_mode) & libc::S_IFMT == libc::S_IFREG;
    let flags = rustix::fs::fstatvfs(file)?.f_flag;
    if !is_mount || !is_file || !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(ViewState::None);
    }
    // The kernel changes only mounts that are in some namespace, if a nameless one.
    match set_attr(file, &Change { set: attr::RDONLY, ..Change::default() }) {
        Ok(()) => Ok(ViewState::Held),
        Err(Errno::EINVAL) => Ok(ViewState::Final),
        Err(e) => Err(e),
    }
}

/// Whether the kernel has mount_setattr(2).
pub fn has_set_attr(fd: impl AsFd) -> bool {
    set_attr(fd.as_fd(), &Change::default()) != Err(Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_view_is_read_only_for_good_once_it_is_let_go() {
        let path = std::env::temp_dir().join(format!("hako-view-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(view_state(file.as_fd()), Ok(ViewState::None));
        let view = match read_only_view(file.as_fd()) {
            Ok(view) => view,
            Err(e @ (Errno::EPERM | Errno::ENOSYS)) => {
                eprintln!("SKIP a_view_is_read_only_for_good_once_it_is_let_go: open_tree: {e}");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let through = |access: &mut std::fs::OpenOptions| {
            access.open(format!("/proc/self/fd/{}", view.as_raw_fd()))
        };
        let error = through(File::options().write(true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        let seen = through(File::options().read(true)).unwrap();
        assert_eq!(view_state(seen.as_fd()), Ok(ViewState::Held));
        drop(view);
        assert_eq!(view_state(seen.as_fd()), Ok(ViewState::Final));
        let writable = Change { clear: attr::RDONLY, ..Change::default() };
        assert_eq!(set_attr(seen.as_fd(), &writable), Err(Errno::EINVAL));
        let copy = OpenTree { clone: true, ..OpenTree::default() };
        assert_eq!(open_tree(seen.as_fd(), c"", copy).unwrap_err(), Errno::EINVAL);
    }
}
