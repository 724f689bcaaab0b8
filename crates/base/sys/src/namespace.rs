//! Namespaces: setns, unshare, their kinds and files in /proc.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Result;
use crate::process::check;

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User and group IDs, capabilities.
    User,
    /// Process IDs.
    Pid,
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The view on the cgroup tree.
    Cgroup,
    /// Offsets of the monotonic and boot clocks.
    Time,
}

/// One row of [`KINDS`].
#[derive(Debug)]
pub struct Info {
    /// Which.
    pub kind: Kind,
    /// The word of the runtime specification.
    pub word: &'static str,
    /// The file in `/proc/PID/ns`.
    pub file: &'static str,
    /// `CLONE_NEW*`.
    pub flag: u64,
}

/// All kinds, in the order in which they are to be joined.
pub const KINDS: [Info; 8] = [
    Info { kind: Kind::User, word: "user", file: "user", flag: libc::CLONE_NEWUSER as u64 },
    Info { kind: Kind::Ipc, word: "ipc", file: "ipc", flag: libc::CLONE_NEWIPC as u64 },
    Info { kind: Kind::Uts, word: "uts", file: "uts", flag: libc::CLONE_NEWUTS as u64 },
    Info { kind: Kind::Network, word: "network", file: "net", flag: libc::CLONE_NEWNET as u64 },
    Info { kind: Kind::Pid, word: "pid", file: "pid", flag: libc::CLONE_NEWPID as u64 },
    Info { kind: Kind::Time, word: "time", file: "time", flag: 0x80 },
    Info { kind: Kind::Cgroup, word: "cgroup", file: "cgroup", flag: libc::CLONE_NEWCGROUP as u64 },
    Info { kind: Kind::Mount, word: "mount", file: "mnt", flag: libc::CLONE_NEWNS as u64 },
];

impl Kind {
    /// Its row of [`KINDS`].
    pub fn info(self) -> &'static Info {
        match self {
            Kind::User => &KINDS[0],
            Kind::Ipc => &KINDS[1],
            Kind::Uts => &KINDS[2],
            Kind::Network => &KINDS[3],
            Kind::Pid => &KINDS[4],
            Kind::Time => &KINDS[5],
            Kind::Cgroup => &KINDS[6],
            Kind::Mount => &KINDS[7],
        }
    }

    /// `CLONE_NEW*`.
    pub fn flag(self) -> u64 {
        self.info().flag
    }

    /// The kind of this word of the runtime specification.
    pub fn from_word(word: &str) -> Option<Kind> {
        KINDS.iter().find(|i| i.word == word).map(|i| i.kind)
    }
}

/// Enters namespaces: `setns(2)`. `fd` is a namespace file, or (Linux 5.8) a pidfd and `flags` any
/// number of `CLONE_NEW*`. Allocates nothing.
///
/// A PID or time namespace takes effect in children only.
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags as libc::c_int) })?;
    Ok(())
}

/// The kind that a namespace file is of; `None` for one that this crate does not know.
pub fn kind_of(fd: BorrowedFd<'_>) -> Result<Option<Kind>> {
    const NS_GET_NSTYPE: libc::c_long = 0xb703;
    // SAFETY: the request takes no argument and returns a number.
    let flag = check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE, 0) })?;
    Ok(KINDS.iter().find(|row| row.flag == flag as u64).map(|row| row.kind))
}

/// Leaves namespaces for new ones: `unshare(2)`. Allocates nothing.
pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: no pointers. CLONE_NEW* only change what the caller sees of the system, and
    // CLONE_FILES, CLONE_FS only give it a private copy.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags as libc::c_long) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_its_own_row() {
        for row in &KINDS {
            assert_eq!(row.kind.info().word, row.word);
            assert_eq!(Kind::from_word(row.word), Some(row.kind));
        }
    }
}
