//! User notifications of seccomp: calls of others that wait for this process's word.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Errno, Result};

/// A call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// What the answer names it by.
    pub id: u64,
    /// Its thread, in the PID namespace of who asks; 0 where that cannot see it.
    pub pid: u32,
    /// The architecture, as of audit(7).
    pub arch: u32,
    /// The call's number.
    pub number: i32,
}

/// `struct seccomp_notif` of linux/seccomp.h.
#[repr(C)]
#[derive(Default)]
struct Raw {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction_pointer: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct RawAnswer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

// _IOWR('!', 0, struct seccomp_notif) and _IOWR('!', 1, struct seccomp_notif_resp): read and write
// are 1 and 2 of two bits, or 2 and 4 of three, which comes to the same.
const DIRECTION: u32 = 3 << 30;
const RECEIVE: u32 = DIRECTION | (size_of::<Raw>() as u32) << 16 | 0x2100;
const SEND: u32 = DIRECTION | (size_of::<RawAnswer>() as u32) << 16 | 0x2101;
/// The call is made after all (Linux 5.5).
const CONTINUE: u32 = 1;

fn last() -> Errno {
    Errno::of(&std::io::Error::last_os_error())
}

/// Waits for the next one; `None` where its thread died meanwhile, or a signal came.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>> {
    // The kernel wants it zeroed.
    let mut raw = Raw::default();
    // SAFETY: the request is for exactly this structure, by its size and layout; the kernel writes
    // to it only during the call.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut raw) };
    if rc == 0 {
        let Raw { id, pid, arch, number, .. } = raw;
        return Ok(Some(Notification { id, pid, arch, number }));
    }
    match last() {
        Errno::ENOENT | Errno::EINTR => Ok(None),
        e => Err(e),
    }
}

/// Lets the call be made. Ok also where its thread died meanwhile.
pub fn allow(listener: BorrowedFd<'_>, id: u64) -> Result<()> {
    let mut answer = RawAnswer { id, value: 0, error: 0, flags: CONTINUE };
    // SAFETY: as above, and the kernel only reads it.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut answer) };
    match rc {
        0 => Ok(()),
        _ => match last() {
            Errno::ENOENT => Ok(()),
            e => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn requests_are_the_kernels() {
        assert_eq!((size_of::<Raw>(), size_of::<RawAnswer>()), (80, 24));
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!((RECEIVE, SEND), (0xc050_2100, 0xc018_2101));
        }
    }

    #[test]
    fn what_is_no_listener_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(receive(file.as_fd()), Err(Errno::ENOTTY));
        assert_eq!(allow(file.as_fd(), 1), Err(Errno::ENOTTY));
    }
}
