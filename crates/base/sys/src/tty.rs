//! Terminals: ptys, window size, raw mode.
//!
//! [`unlock`], [`peer`] and [`set_controlling`] allocate nothing: they may be called between
//! `clone3` and `execve`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::termios::{self, OptionalActions, Termios};

use crate::{Errno, Result};

/// Size of a terminal, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    termios::isatty(fd)
}

/// The size of terminal `fd`.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<WindowSize> {
    let size = termios::tcgetwinsize(fd)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of terminal `fd`; its foreground processes get SIGWINCH.
pub fn set_window_size(fd: BorrowedFd<'_>, size: WindowSize) -> Result<()> {
    let size =
        termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(termios::tcsetwinsize(fd, size)?)
}

/// A terminal in raw mode, for as long as this lives: then it is as it was.
pub struct RawMode<'fd> {
    fd: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> RawMode<'fd> {
    /// Puts terminal `fd` into raw mode: no echo, no line editing, no signals from keys.
    pub fn enter(fd: BorrowedFd<'fd>) -> Result<RawMode<'fd>> {
        let before = termios::tcgetattr(fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Now, without flushing: what was typed ahead is meant for the program.
        termios::tcsetattr(fd, OptionalActions::Now, &raw)?;
        Ok(RawMode { fd, before })
    }

    /// Restores the terminal now, and says whether that worked. One that hung up has no settings
    /// any more.
    pub fn leave(self) -> Result<()> {
        let result = termios::tcsetattr(self.fd, OptionalActions::Drain, &self.before);
        std::mem::forget(self);
        match result {
            Err(rustix::io::Errno::IO) => Ok(()),
            result => Ok(result?),
        }
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // The terminal may be gone (hang-up); then there is nothing left to restore.
        let _gone = termios::tcsetattr(self.fd, OptionalActions::Drain, &self.before);
    }
}

/// A new pty of the devpts behind the multiplexer `/dev/ptmx`: both ends, close-on-exec, neither
/// the controlling terminal of the caller.
pub fn open_pty() -> Result<(OwnedFd, OwnedFd)> {
    let flags = rustix::pty::OpenptFlags::RDWR
        | rustix::pty::OpenptFlags::NOCTTY
        | rustix::pty::OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    let master_fd = std::os::fd::AsFd::as_fd(&master);
    unlock(master_fd)?;
    let terminal = peer(master_fd)?;
    Ok((master, terminal))
}

/// Lets the other end of pty `master` be opened.
pub fn unlock(master: BorrowedFd<'_>) -> Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives until after the call.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &unlocked) } {
        0 => Ok(()),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

/// The other end of pty `master`, by the kernel's own link: no path can be swapped under it.
pub fn peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes plain open flags and returns a new descriptor.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) } {
        -1 => Err(Errno::of(&std::io::Error::last_os_error())),
        // SAFETY: the kernel just returned this descriptor to us alone.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The number of pty `master` in its devpts: its other end is `/dev/pts/<number>` there.
pub fn pty_number(master: BorrowedFd<'_>) -> Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &mut number) } {
        0 => Ok(number),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

/// Makes `terminal` the controlling terminal of the calling session leader.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes a plain number; 0 does not steal from another session.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) } {
        0 => Ok(()),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

/// Makes process group `group` the one that reads terminal `fd` and gets its keys' signals.
pub fn set_foreground(fd: BorrowedFd<'_>, group: i32) -> Result<()> {
    let group = rustix::process::Pid::from_raw(group).ok_or(Errno::EINVAL)?;
    Ok(termios::tcsetpgrp(fd, group)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn size_and_raw_mode_of_a_pty() {
        let (master, terminal) = open_pty().unwrap();
        assert!(is_terminal(terminal.as_fd()));
        let size = WindowSize { rows: 40, columns: 132 };
        set_window_size(master.as_fd(), size).unwrap();
        assert_eq!(window_size(terminal.as_fd()), Ok(size));

        let echo = || {
            let modes = termios::tcgetattr(&terminal).unwrap().local_modes;
            modes.contains(termios::LocalModes::ECHO)
        };
        assert!(echo());
        let raw = RawMode::enter(terminal.as_fd()).unwrap();
        assert!(!echo());
        drop(raw);
        assert!(echo());
        RawMode::enter(terminal.as_fd()).unwrap().leave().unwrap();
        assert!(echo());

        let path = format!("/dev/pts/{}", pty_number(master.as_fd()).unwrap());
        assert_eq!(rustix::termios::ttyname(&terminal, Vec::new()).unwrap().to_str(), Ok(&*path));
    }
}
