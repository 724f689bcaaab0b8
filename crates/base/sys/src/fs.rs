//! Files beneath directory descriptors: openat2, mkdirat, mknodat, renameat2, utimensat and kin.
//!
//! All names are `&CStr`: nothing here allocates, except [`readlinkat`] and [`for_each_entry`],
//! which return or need memory of their own.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::fs as sys;

use crate::{Errno, Result, flags::flags};

flags! {
    /// How [`openat`] and [`openat2`] open: `O_*`.
    pub struct OpenFlags: i32 {
        /// Read.
        RDONLY = libc::O_RDONLY,
        /// Write.
        WRONLY = libc::O_WRONLY,
        /// Read and write.
        RDWR = libc::O_RDWR,
        /// Make an unnamed file in the directory.
        TMPFILE = libc::O_TMPFILE,
        /// Only a directory.
        DIRECTORY = libc::O_DIRECTORY,
        /// Make the file when it is not there.
        CREAT = libc::O_CREAT,
        /// With `CREAT`: fail when it is there.
        EXCL = libc::O_EXCL,
        /// Cut the file to nothing.
        TRUNC = libc::O_TRUNC,
        /// Write at the end.
        APPEND = libc::O_APPEND,
        /// Not a symbolic link as the last component (with `PATH`: the link itself).
        NOFOLLOW = libc::O_NOFOLLOW,
        /// Only a place in the tree, not the content.
        PATH = libc::O_PATH,
        /// Never wait, neither for a FIFO's other end nor for a device.
        NONBLOCK = libc::O_NONBLOCK,
        /// Never become the controlling terminal.
        NOCTTY = libc::O_NOCTTY,
        /// Closed by execve.
        CLOEXEC = libc::O_CLOEXEC,
    }
}

flags! {
    /// What a path may do while [`openat2`] resolves it: `RESOLVE_*`.
    pub struct Resolve: u64 {
        /// Not cross into another mount.
        NO_XDEV = libc::RESOLVE_NO_XDEV,
        /// Not follow /proc's magic links.
        NO_MAGICLINKS = libc::RESOLVE_NO_MAGICLINKS,
        /// Not follow any symbolic link.
        NO_SYMLINKS = libc::RESOLVE_NO_SYMLINKS,
        /// Stay beneath the directory, else `EXDEV`.
        BENEATH = libc::RESOLVE_BENEATH,
        /// Treat the directory as the root.
        IN_ROOT = libc::RESOLVE_IN_ROOT,
    }
}

flags! {
    /// Flags of the `*at` calls: `AT_*`.
    pub struct AtFlags: u32 {
        /// The symbolic link itself.
        SYMLINK_NOFOLLOW = libc::AT_SYMLINK_NOFOLLOW as u32,
        /// What a symbolic link names ([`linkat`]).
        SYMLINK_FOLLOW = libc::AT_SYMLINK_FOLLOW as u32,
        /// A directory ([`unlinkat`]).
        REMOVEDIR = libc::AT_REMOVEDIR as u32,
        /// The descriptor itself, when the path is empty.
        EMPTY_PATH = libc::AT_EMPTY_PATH as u32,
    }
}

flags! {
    /// Flags of [`renameat2`]: `RENAME_*`.
    pub struct RenameFlags: u32 {
        /// Fail when the new name is there.
        NOREPLACE = libc::RENAME_NOREPLACE,
        /// Swap both names.
        EXCHANGE = libc::RENAME_EXCHANGE,
        /// Leave an overlay whiteout at the old name.
        WHITEOUT = libc::RENAME_WHITEOUT,
    }
}

flags! {
    /// Inode flags of [`inode_flags`]: `FS_*_FL`.
    pub struct InodeFlags: u32 {
        /// No change at all.
        IMMUTABLE = 0x10,
        /// Only appending.
        APPEND = 0x20,
    }
}

/// What kind of file an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A kind that is told only by [`statat`] (from a directory listing), or not at all.
    Unknown,
}

impl FileKind {
    /// The kind in the upper bits of a mode.
    pub fn of_mode(mode: u32) -> FileKind {
        match mode & libc::S_IFMT {
            libc::S_IFREG => FileKind::File,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Symlink,
            libc::S_IFCHR => FileKind::Char,
            libc::S_IFBLK => FileKind::Block,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            _ => FileKind::Unknown,
        }
    }

    fn from_rustix(kind: sys::FileType) -> FileKind {
        FileKind::of_mode(kind.as_raw_mode())
    }

    fn to_rustix(self) -> sys::FileType {
        match self {
            FileKind::File => sys::FileType::RegularFile,
            FileKind::Directory => sys::FileType::Directory,
            FileKind::Symlink => sys::FileType::Symlink,
            FileKind::Char => sys::FileType::CharacterDevice,
            FileKind::Block => sys::FileType::BlockDevice,
            FileKind::Fifo => sys::FileType::Fifo,
            FileKind::Socket => sys::FileType::Socket,
            FileKind::Unknown => sys::FileType::Unknown,
        }
    }
}

/// A moment: seconds since the epoch, and nanoseconds below 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timespec {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl Timespec {
    fn to_rustix(self) -> sys::Timespec {
        sys::Timespec { tv_sec: self.seconds, tv_nsec: self.nanos.into() }
    }
}

/// What the kernel knows of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The device it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// Its kind.
    pub kind: FileKind,
    /// Its permission bits (07777).
    pub mode: u32,
    /// How many names it has.
    pub nlink: u64,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The device that it stands for, as (major, minor).
    pub rdev: (u32, u32),
    /// Its size in bytes.
    pub size: u64,
    /// How many bytes it occupies.
    pub allocated: u64,
    /// When its content was last accessed.
    pub atime: Timespec,
    /// When its content was last changed.
    pub mtime: Timespec,
    /// When the inode was last changed.
    pub ctime: Timespec,
}

impl Stat {
    /// Whether it is overlayfs's mark of a deleted name: a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileKind::Char && self.rdev == (0, 0)
    }

    fn from_rustix(s: &sys::Stat) -> Stat {
        let time = |seconds, nanos| Timespec { seconds, nanos };
        let mode = s.st_mode;
        Stat {
            dev: s.st_dev as _,
            ino: s.st_ino as _,
            kind: FileKind::of_mode(mode),
            mode: mode & 0o7777,
            nlink: s.st_nlink as _,
            uid: s.st_uid,
            gid: s.st_gid,
            rdev: (sys::major(s.st_rdev as _), sys::minor(s.st_rdev as _)),
            size: s.st_size as _,
            allocated: s.st_blocks as u64 * 512,
            atime: time(s.st_atime as _, s.st_atime_nsec as _),
            mtime: time(s.st_mtime as _, s.st_mtime_nsec as _),
            ctime: time(s.st_ctime as _, s.st_ctime_nsec as _),
        }
    }
}

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Its magic number (`*_SUPER_MAGIC`).
    pub magic: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many bytes an ordinary user may still write.
    pub bytes_available: u64,
}

impl StatFs {
    fn from_rustix(s: &sys::StatFs) -> StatFs {
        // The widths of these fields differ between architectures.
        #[allow(clippy::unnecessary_cast)]
        let (magic, block) = (s.f_type as u64, s.f_bsize as u64);
        StatFs {
            magic,
            bytes: block.saturating_mul(s.f_blocks),
            bytes_available: block.saturating_mul(s.f_bavail),
        }
    }
}

/// The current directory, for paths that the user of this process typed.
pub fn cwd() -> BorrowedFd<'static> {
    sys::CWD
}

fn open_flags(flags: OpenFlags) -> sys::OFlags {
    sys::OFlags::from_bits_retain(flags.bits() as u32)
}

fn at_flags(flags: AtFlags) -> sys::AtFlags {
    sys::AtFlags::from_bits_retain(flags.bits())
}

fn mode(mode: u32) -> sys::Mode {
    sys::Mode::from_bits_retain(mode & 0o7777)
}

/// openat(2). Closed by execve.
pub fn openat(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OpenFlags,
    create_mode: u32,
) -> Result<OwnedFd> {
    let flags = open_flags(flags | OpenFlags::CLOEXEC);
    Ok(rustix::io::retry_on_intr(|| sys::openat(dir, path, flags, mode(create_mode)))?)
}

/// How often [`openat2`] tries again when a rename elsewhere made the kernel give up.
const OPENAT2_TRIES: u32 = 128;

/// openat2(2). Closed by execve.
///
/// With `BENEATH` or `IN_ROOT` the kernel answers `EAGAIN` when *any* rename of the machine
/// happened while it walked a `..`. That is tried again, a bounded number of times, because an
/// attacker can rename without end.
pub fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OpenFlags,
    create_mode: u32,
    resolve: Resolve,
) -> Result<OwnedFd> {
    // Unlike openat, openat2 refuses a mode where nothing is created.
    let creates = flags.contains(OpenFlags::CREAT) || flags.contains(OpenFlags::TMPFILE);
    let create_mode = mode(if creates { create_mode } else { 0 });
    let flags = open_flags(flags | OpenFlags::CLOEXEC);
    let resolve = sys::ResolveFlags::from_bits_retain(resolve.bits());
    let mut tries = 0;
    loop {
        tries += 1;
        match sys::openat2(dir, path, flags, create_mode, resolve) {
            Ok(fd) => return Ok(fd),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if tries < OPENAT2_TRIES => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// fstatat(2).
pub fn statat(dir: BorrowedFd<'_>, path: &CStr, flags: AtFlags) -> Result<Stat> {
    Ok(Stat::from_rustix(&sys::statat(dir, path, at_flags(flags))?))
}

/// fstat(2); works on `O_PATH` descriptors.
pub fn fstat(fd: BorrowedFd<'_>) -> Result<Stat> {
    Ok(Stat::from_rustix(&sys::fstat(fd)?))
}

/// statfs(2).
pub fn statfs(path: &CStr) -> Result<StatFs> {
    Ok(StatFs::from_rustix(&sys::statfs(path)?))
}

/// fstatfs(2); works on `O_PATH` descriptors.
pub fn fstatfs(fd: BorrowedFd<'_>) -> Result<StatFs> {
    Ok(StatFs::from_rustix(&sys::fstatfs(fd)?))
}

/// What identifies a file system among those of its kind, where it has such a number
/// (`statfs.f_fsid`); works on `O_PATH` descriptors.
pub fn fsid(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(sys::fstatvfs(fd)?.f_fsid)
}

/// mkdirat(2).
pub fn mkdirat(dir: BorrowedFd<'_>, path: &CStr, permissions: u32) -> Result<()> {
    Ok(sys::mkdirat(dir, path, mode(permissions))?)
}

/// mknodat(2): a device (of `rdev` = major, minor), FIFO, socket or empty file.
pub fn mknodat(
    dir: BorrowedFd<'_>,
    path: &CStr,
    kind: FileKind,
    permissions: u32,
    rdev: (u32, u32),
) -> Result<()> {
    let dev = sys::makedev(rdev.0, rdev.1);
    Ok(sys::mknodat(dir, path, kind.to_rustix(), mode(permissions), dev)?)
}

/// symlinkat(2): makes `path`, which says `target`.
pub fn symlinkat(target: &CStr, dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    Ok(sys::symlinkat(target, dir, path)?)
}

/// linkat(2).
pub fn linkat(
    old_dir: BorrowedFd<'_>,
    old: &CStr,
    new_dir: BorrowedFd<'_>,
    new: &CStr,
    flags: AtFlags,
) -> Result<()> {
    Ok(sys::linkat(old_dir, old, new_dir, new, at_flags(flags))?)
}

/// unlinkat(2).
pub fn unlinkat(dir: BorrowedFd<'_>, path: &CStr, flags: AtFlags) -> Result<()> {
    Ok(sys::unlinkat(dir, path, at_flags(flags))?)
}

/// renameat2(2).
pub fn renameat2(
    old_dir: BorrowedFd<'_>,
    old: &CStr,
    new_dir: BorrowedFd<'_>,
    new: &CStr,
    flags: RenameFlags,
) -> Result<()> {
    let flags = sys::RenameFlags::from_bits_retain(flags.bits());
    Ok(sys::renameat_with(old_dir, old, new_dir, new, flags)?)
}

/// readlinkat(2). An empty path reads an `O_PATH` descriptor of a link.
pub fn readlinkat(dir: BorrowedFd<'_>, path: &CStr) -> Result<CString> {
    Ok(sys::readlinkat(dir, path, Vec::new())?)
}

/// fchmod(2); not on `O_PATH` descriptors.
pub fn fchmod(fd: BorrowedFd<'_>, permissions: u32) -> Result<()> {
    Ok(sys::fchmod(fd, mode(permissions))?)
}

/// The number of fchmodat2(2) (Linux 6.6), one of those that all architectures share.
const SYS_FCHMODAT2: libc::c_long = 452;

/// Changes the permissions of what an `O_PATH` descriptor stands for.
///
/// fchmodat2(2), or chmod(2) through /proc/self/fd before Linux 6.6.
pub fn chmod_path(fd: BorrowedFd<'_>, permissions: u32) -> Result<()> {
    // SAFETY: the path is a NUL-terminated literal, the descriptor is borrowed for the length of
    // the call, and the kernel writes to no memory of ours.
    let result = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            fd.as_raw_fd(),
            c"".as_ptr(),
            permissions & 0o7777,
            libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 {
        return Ok(());
    }
    match Errno::of(&std::io::Error::last_os_error()) {
        Errno::ENOSYS => Ok(sys::chmodat(
            sys::CWD,
            proc_fd(fd).as_c_str(),
            mode(permissions),
            sys::AtFlags::empty(),
        )?),
        e => Err(e),
    }
}

/// The path of a descriptor in /proc, for calls that take no `O_PATH` descriptor.
pub(crate) fn proc_fd(fd: BorrowedFd<'_>) -> ProcFd {
    let mut path = ProcFd { bytes: *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0" };
    let mut digits = [0u8; 10];
    let mut n = fd.as_raw_fd().unsigned_abs();
    let mut count = 0;
    loop {
        digits[count] = b'0' + (n % 10) as u8;
        count += 1;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    for i in 0..count {
        path.bytes[PROC_FD_LEN + i] = digits[count - 1 - i];
    }
    path
}

const PROC_FD_LEN: usize = "/proc/self/fd/".len();

/// `/proc/self/fd/N` without an allocation.
pub(crate) struct ProcFd {
    bytes: [u8; PROC_FD_LEN + 12],
}

impl ProcFd {
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"/proc/self/fd/-1")
    }
}

/// Opens anew what an `O_PATH` descriptor stands for, through /proc/self/fd.
///
/// The magic link leads to the very inode, whatever its names became meanwhile.
pub fn reopen(fd: BorrowedFd<'_>, flags: OpenFlags) -> Result<OwnedFd> {
    openat(cwd(), proc_fd(fd).as_c_str(), flags, 0)
}

/// fchown(2); `None` leaves one as it is.
pub fn fchown(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

/// fchownat(2); `None` leaves one as it is. Clears set-user-ID and set-group-ID bits of files.
pub fn chownat(
    dir: BorrowedFd<'_>,
    path: &CStr,
    uid: Option<u32>,
    gid: Option<u32>,
    flags: AtFlags,
) -> Result<()> {
    // The number that means "unchanged" to the kernel is no user.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::EINVAL);
    }
    let (uid, gid) = (uid.map(sys::Uid::from_raw), gid.map(sys::Gid::from_raw));
    Ok(sys::chownat(dir, path, uid, gid, at_flags(flags))?)
}

/// utimensat(2): sets access and modification time.
pub fn utimensat(
    dir: BorrowedFd<'_>,
    path: &CStr,
    atime: Timespec,
    mtime: Timespec,
    flags: AtFlags,
) -> Result<()> {
    let times =
        sys::Timestamps { last_access: atime.to_rustix(), last_modification: mtime.to_rustix() };
    Ok(sys::utimensat(dir, path, &times, at_flags(flags))?)
}

/// futimens(3): sets access and modification time; not on `O_PATH` descriptors.
pub fn futimens(fd: BorrowedFd<'_>, atime: Timespec, mtime: Timespec) -> Result<()> {
    let times =
        sys::Timestamps { last_access: atime.to_rustix(), last_modification: mtime.to_rustix() };
    Ok(sys::futimens(fd, &times)?)
}

/// fsync(2).
pub fn fsync(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(sys::fsync(fd)?)
}

/// syncfs(2): everything of the file system that the descriptor is on.
///
/// Since Linux 5.8 it fails when writing back any file failed since the descriptor was opened.
pub fn syncfs(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(sys::syncfs(fd)?)
}

/// How much [`Writeback`] lets gather.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// Has the kernel write a file that grows while it grows, so that who syncs it at its end does not
/// wait for all of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Writeback {
    begun: u64,
}

impl Writeback {
    /// To be told now and then that the file has so many bytes. Waits for nothing.
    pub fn grown_to(&mut self, fd: BorrowedFd<'_>, bytes: u64) -> Result<()> {
        let more = bytes.saturating_sub(self.begun);
        if more < WRITEBACK_BYTES {
            return Ok(());
        }
        let (at, more) = (self.begun as i64, more as i64);
        // SAFETY: takes no pointer; the descriptor is open as long as it is borrowed.
        let done =
            unsafe { libc::sync_file_range(fd.as_raw_fd(), at, more, libc::SYNC_FILE_RANGE_WRITE) };
        self.begun = bytes;
        match done {
            0 => Ok(()),
            _ => Err(Errno::of(&std::io::Error::last_os_error())),
        }
    }
}

/// How [`flock`] locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// With other shared locks.
    Shared,
    /// Alone.
    Exclusive,
}

/// flock(2), waiting until it is ours. Given up when the last copy of the descriptor is closed.
pub fn flock(fd: BorrowedFd<'_>, lock: Lock) -> Result<()> {
    let operation = match lock {
        Lock::Shared => sys::FlockOperation::LockShared,
        Lock::Exclusive => sys::FlockOperation::LockExclusive,
    };
    Ok(rustix::io::retry_on_intr(|| sys::flock(fd, operation))?)
}

/// flock(2) without waiting: false when another holds it.
pub fn try_flock(fd: BorrowedFd<'_>, lock: Lock) -> Result<bool> {
    let operation = match lock {
        Lock::Shared => sys::FlockOperation::NonBlockingLockShared,
        Lock::Exclusive => sys::FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::io::retry_on_intr(|| sys::flock(fd, operation)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The inode flags (`chattr`), `EOPNOTSUPP` or `ENOTTY` where the file system has none.
pub fn inode_flags(fd: BorrowedFd<'_>) -> Result<InodeFlags> {
    Ok(InodeFlags(sys::ioctl_getflags(fd)?.bits()))
}

/// Sets the inode flags.
pub fn set_inode_flags(fd: BorrowedFd<'_>, flags: InodeFlags) -> Result<()> {
    Ok(sys::ioctl_setflags(fd, sys::IFlags::from_bits_retain(flags.bits()))?)
}

/// read(2), again when a signal interrupted it.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?)
}

/// write(2), again when a signal interrupted it; may write less than all.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?)
}

/// Whether the caller (by its real IDs, which are also its effective ones in a container) may
/// execute the file: access(2).
pub fn may_execute(path: &CStr) -> Result<()> {
    Ok(sys::accessat(sys::CWD, path, sys::Access::EXEC_OK, sys::AtFlags::empty())?)
}

/// readlinkat(2) without an allocation: the content, in `buffer`. `ENAMETOOLONG` where it does not
/// fit with its NUL.
pub fn readlink_into<'b>(
    dir: BorrowedFd<'_>,
    path: &CStr,
    buffer: &'b mut [u8],
) -> Result<&'b CStr> {
    let n = sys::readlinkat_raw(dir, path, &mut *buffer)?;
    match buffer.get_mut(n) {
        Some(end) => *end = 0,
        None => return Err(Errno::ENAMETOOLONG),
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::EINVAL)
}

/// The mount flags (`ST_*`) in force where `fd` is; works on `O_PATH` descriptors.
pub fn mount_flags(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(sys::fstatvfs(fd)?.f_flag.bits())
}

/// One name of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name, neither `.` nor `..`.
    pub name: &'a CStr,
    /// What it names, `Unknown` where the file system does not tell.
    pub kind: FileKind,
    /// The inode's number.
    pub ino: u64,
    /// Where the listing goes on after this name, for [`seek_entries`].
    pub next: u64,
}

/// Lets the next listing of this descriptor start where an earlier one stood.
pub fn seek_entries(dir: BorrowedFd<'_>, position: u64) -> Result<()> {
    sys::seek(dir, sys::SeekFrom::Start(position))?;
    Ok(())
}

/// getdents64(2): calls `f` for every name from where the descriptor's position is, except `.`
/// and `..`, until it answers false.
///
/// The descriptor's position moves: open the directory anew for each listing.
pub fn for_each_entry(dir: BorrowedFd<'_>, f: impl FnMut(DirEntry<'_>) -> bool) -> Result<()> {
    let mut buffer = Box::new([MaybeUninit::<u8>::uninit(); 32 * 1024]);
    for_each_in(dir, &mut buffer[..], f)
}

/// The same with a small buffer on the stack: allocates nothing.
pub fn for_each_entry_small(
    dir: BorrowedFd<'_>,
    f: impl FnMut(DirEntry<'_>) -> bool,
) -> Result<()> {
    for_each_in(dir, &mut [MaybeUninit::<u8>::uninit(); 2048], f)
}

fn for_each_in(
    dir: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    mut f: impl FnMut(DirEntry<'_>) -> bool,
) -> Result<()> {
    let mut entries = sys::RawDir::new(dir.as_fd(), buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = FileKind::from_rustix(entry.file_type());
        let next = entry.next_entry_cookie();
        if !f(DirEntry { name, kind, ino: entry.ino(), next }) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_like_strace() {
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::from_bits(1 << 30);
        assert_eq!(format!("{flags:?}"), "WRONLY|CREAT|0x40000000");
        assert_eq!(format!("{:?}", OpenFlags::RDONLY), "0");
        assert_eq!(
            format!("{:?}", Resolve::IN_ROOT | Resolve::NO_MAGICLINKS),
            "NO_MAGICLINKS|IN_ROOT"
        );
    }

    #[test]
    fn proc_fd_names_the_descriptor() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let want = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(proc_fd(file.as_fd()).as_c_str().to_str().unwrap(), want);
        // SAFETY: descriptor i32::MAX is never used, only printed.
        let most = unsafe { BorrowedFd::borrow_raw(i32::MAX) };
        assert_eq!(proc_fd(most).as_c_str().to_str().unwrap(), "/proc/self/fd/2147483647");
    }

    #[test]
    fn listing_leaves_out_the_dots() {
        let dir =
            openat(cwd(), c"/proc/self", OpenFlags::RDONLY | OpenFlags::DIRECTORY, 0).unwrap();
        let mut names = Vec::new();
        for_each_entry(dir.as_fd(), |e| {
            names.push(e.name.to_owned());
            true
        })
        .unwrap();
        assert!(names.iter().any(|n| n.as_c_str() == c"status"));
        assert!(!names.iter().any(|n| n.as_c_str() == c"." || n.as_c_str() == c".."));
    }

    #[test]
    fn no_user_means_unchanged() {
        let dir = openat(cwd(), c"/", OpenFlags::PATH, 0).unwrap();
        assert_eq!(fchown(dir.as_fd(), Some(u32::MAX), None), Err(Errno::EINVAL));
    }
}
