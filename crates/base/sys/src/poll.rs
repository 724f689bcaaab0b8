//! Waiting on descriptors, and reading and writing them without waiting.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::pages::FilePages;
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

    /// Waits until a file of the kernel (cgroups, pressure) says that it changed. Ask
    /// [`PollFd::is_urgent`].
    pub fn urgent(fd: BorrowedFd<'fd>) -> PollFd<'fd> {
        let raw = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        PollFd { raw, borrow: PhantomData }
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

    /// Whether a file of the kernel changed.
    pub fn is_urgent(&self) -> bool {
        self.raw.revents & libc::POLLPRI != 0
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
        tv_sec: t.as_secs().min(i32::MAX as u64) as _,
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

/// Like [`poll`], and gives `pages` back just before it waits: what it needs to wake up is next to
/// nothing.
#[inline(never)]
pub fn poll_without(
    fds: &mut [PollFd<'_>],
    timeout: Option<Duration>,
    pages: &FilePages,
) -> Result<usize> {
    use rustix::event;
    let mut waiting: Vec<event::PollFd<'_>> = fds
        .iter()
        .map(|fd| {
            // SAFETY: each was made from a BorrowedFd that outlives it.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd.raw.fd) };
            event::PollFd::from_borrowed_fd(
                borrowed,
                event::PollFlags::from_bits_retain(fd.raw.events as _),
            )
        })
        .collect();
    let timeout = timeout.map(|t| event::Timespec {
        tv_sec: t.as_secs().min(i32::MAX as u64) as _,
        tv_nsec: t.subsec_nanos().into(),
    });
    pages.forget();
    let ready = match event::poll(&mut waiting, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => Ok(0),
        ready => ready,
    };
    for (fd, waited) in fds.iter_mut().zip(&waiting) {
        fd.raw.revents = if ready.is_ok() { waited.revents().bits() as _ } else { 0 };
    }
    Ok(ready?)
}

/// Makes reads and writes of this open file description return instead of wait.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Reads what is there; `None` when nothing is, 0 at the end. The terminal's master answers EIO
/// when nobody has its other end open any more: that is an end, too.
pub fn try_read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<usize>> {
    loop {
        match rustix::io::read(fd, &mut *buf).map_err(Errno::from) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EIO) => return Ok(Some(0)),
            Err(e) => return Err(e),
        }
    }
}

/// Writes what is taken at once; `None` when nothing is.
pub fn try_write(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<Option<usize>> {
    loop {
        match rustix::io::write(fd, buf).map_err(Errno::from) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(e) => return Err(e),
        }
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

    #[test]
    fn waits_as_well_without_pages() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let pages = FilePages::find().unwrap();
        let mut fds = [PollFd::readable(reader.as_fd())];
        assert_eq!(poll_without(&mut fds, Some(Duration::ZERO), &pages), Ok(0));
        assert!(!fds[0].is_readable());
        writer.write_all(b"x").unwrap();
        assert_eq!(poll_without(&mut fds, None, &pages), Ok(1));
        assert!(fds[0].is_readable());
    }

    #[test]
    fn reads_and_writes_without_waiting() {
        let (reader, writer) = std::io::pipe().unwrap();
        set_nonblocking(reader.as_fd()).unwrap();
        set_nonblocking(writer.as_fd()).unwrap();
        let mut buf = [0; 4];
        assert_eq!(try_read(reader.as_fd(), &mut buf), Ok(None));
        assert_eq!(try_write(writer.as_fd(), b"ab"), Ok(Some(2)));
        assert_eq!(try_read(reader.as_fd(), &mut buf), Ok(Some(2)));
        while try_write(writer.as_fd(), &[0; 4096]).unwrap().is_some() {}
        drop(reader);
        assert_eq!(try_write(writer.as_fd(), b"a"), Err(Errno::EPIPE));

        let (master, terminal) = crate::tty::open_pty().unwrap();
        set_nonblocking(master.as_fd()).unwrap();
        assert_eq!(try_read(master.as_fd(), &mut buf), Ok(None));
        drop(terminal);
        assert_eq!(try_read(master.as_fd(), &mut buf), Ok(Some(0)));
    }
}
