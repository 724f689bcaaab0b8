//! Waiting on descriptors.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::{Errno, Result};

/// One descriptor to wait for, and afterwards what became of it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct PollFd<'fd> {
    raw: libc::pollfd,
    borrow: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> PollFd<'fd> {
    /// Waits until `fd` can be read.
    pub fn readable(fd: BorrowedFd<'fd>) -> PollFd<'fd> {
        PollFd::new(fd, true, false)
    }

    /// Waits until `fd` can be written.
    pub fn writable(fd: BorrowedFd<'fd>) -> PollFd<'fd> {
        PollFd::new(fd, false, true)
    }

    /// Waits for either, or with neither only for the other end to go away.
    pub fn new(fd: BorrowedFd<'fd>, read: bool, write: bool) -> PollFd<'fd> {
        let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        PollFd { raw: libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, borrow: PhantomData }
    }

    /// Whether a read would not block; also at end of file.
    pub fn is_readable(&self) -> bool {
        self.raw.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Whether a write would not block; also when it would fail.
    pub fn is_writable(&self) -> bool {
        self.raw.revents & (libc::POLLOUT | libc::POLLERR) != 0
    }

    /// Whether the other end is gone.
    pub fn is_hung_up(&self) -> bool {
        self.raw.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

/// Waits until one of `fds` is ready, or for `timeout`; says how many are ready. A signal that
/// interrupts ends the wait with none ready.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: t.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: PollFd is a transparent pollfd, so the slice is an array of `len` of them that the
    // kernel may write to; the timespec lives until after the call; no mask is passed.
    let ready = unsafe {
        libc::ppoll(
            fds.as_mut_ptr().cast::<libc::pollfd>(),
            fds.len() as libc::nfds_t,
            timeout,
            std::ptr::null(),
        )
    };
    if ready >= 0 {
        return Ok(ready as usize);
    }
    match Errno::of(&std::io::Error::last_os_error()) {
        Errno::EINTR => {
            for fd in fds {
                fd.raw.revents = 0;
            }
            Ok(0)
        }
        e => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn says_what_is_ready() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut fds = [PollFd::readable(reader.as_fd())];
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)), Ok(0));
        assert!(!fds[0].is_readable());

        writer.write_all(b"x").unwrap();
        assert_eq!(poll(&mut fds, None), Ok(1));
        assert!(fds[0].is_readable() && !fds[0].is_hung_up());

        drop(writer);
        let mut fds = [PollFd::readable(reader.as_fd())];
        assert_eq!(poll(&mut fds, None), Ok(1));
        assert!(fds[0].is_hung_up());
    }
}
