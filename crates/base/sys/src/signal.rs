//! Signals: numbers and names, masks, signalfd. (Sending them: [`crate::process`].)
//!
//! Real-time signals are counted as in Docker and glibc: `RTMIN` is 34, whatever libc this is.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Errno, Result};

pub use libc::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGQUIT,
    SIGSEGV, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1,
    SIGUSR2, SIGWINCH,
};

/// First real-time signal that programs may use.
pub const RTMIN: i32 = 34;
/// Last real-time signal.
pub const RTMAX: i32 = 64;

/// Every named signal of Linux; the first name of a number is the one that is printed.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of a signal as people write it: `KILL`, `sigkill`, `9`, `RTMIN+3`, `SIGRTMAX-1`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Some(*number);
    }
    let offset = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<i32>().ok(),
        false => None,
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => RTMIN,
        (_, Some("")) => RTMAX,
        (Some(rest), _) => RTMIN.checked_add(offset(rest.strip_prefix('+')?)?)?,
        (_, Some(rest)) => RTMAX.checked_sub(offset(rest.strip_prefix('-')?)?)?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The name of a signal, as `SIGKILL` or `SIGRTMIN+3`.
pub fn name(number: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, n)| *n == number) {
        return Some(format!("SIG{name}"));
    }
    match number {
        RTMIN => Some("SIGRTMIN".into()),
        RTMAX => Some("SIGRTMAX".into()),
        n if (RTMIN..=RTMAX).contains(&n) => Some(format!("SIGRTMIN+{}", n - RTMIN)),
        _ => None,
    }
}

/// A set of signals, as the kernel has it: a bit each. (A libc's sets leave out what it uses itself,
/// which is 34, too, in musl.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// The set of these signals.
    pub fn of(signals: &[i32]) -> Result<SignalSet> {
        signals.iter().try_fold(SignalSet(0), |set, &signal| match signal {
            1..=RTMAX => Ok(SignalSet(set.0 | 1 << (signal - 1))),
            _ => Err(Errno::EINVAL),
        })
    }
}

fn change_mask(how: libc::c_int, set: &SignalSet) -> Result<SignalSet> {
    let mut old = SignalSet(0);
    // SAFETY: both masks are the eight bytes that the size says, and live through the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set.0,
            &raw mut old.0,
            size_of::<u64>(),
        )
    };
    match r {
        0 => Ok(old),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

/// Blocks these signals in the calling thread; gives the mask of before.
pub fn block(signals: &[i32]) -> Result<SignalSet> {
    change_mask(libc::SIG_BLOCK, &SignalSet::of(signals)?)
}

/// Sets the calling thread's mask; gives the mask of before.
pub fn set_mask(set: &SignalSet) -> Result<SignalSet> {
    change_mask(libc::SIG_SETMASK, set)
}

/// What happens when a signal arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The kernel's default.
    Default,
    /// Nothing.
    Ignore,
}

/// Sets what happens when `signal` arrives in this process.
pub fn set_disposition(signal: i32, disposition: Disposition) -> Result<()> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: no handler function is installed, only one of the two constants.
    match unsafe { libc::signal(signal, handler) } {
        libc::SIG_ERR => Err(Errno::of(&std::io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// Signals as something to read. They must be blocked in every thread.
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// A non-blocking descriptor for these signals.
    pub fn new(signals: &[i32]) -> Result<SignalFd> {
        let set = SignalSet::of(signals)?;
        // SAFETY: the mask is the eight bytes that the size says, and -1 asks for a new descriptor.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const set.0,
                size_of::<u64>(),
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        match fd {
            -1 => Err(Errno::of(&std::io::Error::last_os_error())),
            // SAFETY: signalfd4 just returned this descriptor to us alone.
            fd => Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        }
    }

    /// The next signal that has arrived, if any.
    pub fn read(&self) -> Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is `size` bytes, and the kernel writes whole records only.
        let n = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if n == size as isize {
            // SAFETY: the kernel has written one whole record.
            return Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32));
        }
        match Errno::of(&std::io::Error::last_os_error()) {
            Errno::EAGAIN | Errno::EINTR => Ok(None),
            e => Err(e),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends `signal` to the process `pid`, or whoever has that number by now: [`crate::process`] has
/// the sure way.
pub fn send(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("iot", Some(6)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmin+30", Some(64)),
            ("RTMAX", Some(64)),
            ("RTMAX-14", Some(50)),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMAX+1", None),
            ("RTMIN+-1", None),
            ("RTMIN++1", None),
            ("RTMIN+99999999999", None),
            ("0", None),
            ("-1", None),
            ("65", None),
            ("", None),
            ("SIG", None),
            ("FOO", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn every_name_comes_back() {
        for number in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(parse(&name(number).unwrap()), Some(number), "{number}");
        }
        assert_eq!(name(0), None);
        assert_eq!(name(33), None);
        assert_eq!(name(65), None);
    }

    #[test]
    fn signalfd_reads_what_was_blocked() {
        // In a thread of its own: the mask is the thread's, and the signal is sent to it alone.
        std::thread::spawn(|| {
            let before = block(&[libc::SIGUSR2]).unwrap();
            let fd = SignalFd::new(&[libc::SIGUSR2]).unwrap();
            assert_eq!(fd.read().unwrap(), None);
            // SAFETY: the calling thread is alive.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            assert_eq!(fd.read().unwrap(), Some(libc::SIGUSR2));
            set_mask(&before).unwrap();
        })
        .join()
        .unwrap();
    }
}
