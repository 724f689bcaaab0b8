//! One hook: a program with the container's state on its standard input, and a time limit.
//!
//! Called by the parent and by the new process alike, so it allocates nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use hako_sys::poll::{PollFd, poll};
use hako_sys::process::{self, CloneHow, Cloned, ExitStatus, StringArray};
use hako_sys::{Errno, fs};

use super::Text;
use crate::call::Call;
use crate::op::HookOp;

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookEnd {
    Succeeded,
    Exited(ExitStatus),
    TimedOut,
    Failed(Call, Errno),
}

impl HookEnd {
    const EXITED: i32 = 0x1000;
    const SIGNALED: i32 = 0x2000;

    /// As a number that crosses the pipe to the parent.
    pub(crate) fn as_errno(self) -> Errno {
        match self {
            HookEnd::TimedOut => Errno::ETIMEDOUT,
            HookEnd::Exited(ExitStatus::Exited(status)) => {
                Errno::from_raw(Self::EXITED | status & 0xff)
            }
            HookEnd::Exited(ExitStatus::Signaled(number)) => {
                Errno::from_raw(Self::SIGNALED | number & 0xff)
            }
            HookEnd::Succeeded => Errno::from_raw(0),
            HookEnd::Failed(_, errno) => errno,
        }
    }

    /// The end that such a number stands for.
    pub(crate) fn from_errno(errno: Errno) -> HookEnd {
        let raw = errno.raw();
        match raw & !0xff {
            Self::EXITED => HookEnd::Exited(ExitStatus::Exited(raw & 0xff)),
            Self::SIGNALED => HookEnd::Exited(ExitStatus::Signaled(raw & 0xff)),
            _ if errno == Errno::ETIMEDOUT => HookEnd::TimedOut,
            _ => HookEnd::Failed(Call::Hook, errno),
        }
    }

    /// In words, which are runc's where it has some.
    pub(crate) fn reason(self, timeout_seconds: u64) -> String {
        match self {
            HookEnd::Succeeded => "succeeded".to_owned(),
            HookEnd::Exited(ExitStatus::Exited(status)) => format!("exit status {status}"),
            HookEnd::Exited(ExitStatus::Signaled(number)) => {
                let words = SIGNALS.iter().find(|(n, _)| *n == number).map(|(_, words)| *words);
                words.map_or_else(|| format!("signal {number}"), |words| format!("signal: {words}"))
            }
            HookEnd::TimedOut => format!("timed out after {timeout_seconds} s"),
            HookEnd::Failed(Call::Hook, errno) => errno.to_string(),
            HookEnd::Failed(call, errno) => format!("{}: {errno}", call.name()),
        }
    }
}

/// Signals that end programs which did something wrong, in the words that Go's programs have.
const SIGNALS: &[(i32, &str)] = &[
    (4, "illegal instruction"),
    (6, "aborted"),
    (8, "floating point exception"),
    (9, "killed"),
    (11, "segmentation fault"),
    (15, "terminated"),
    (31, "bad system call"),
];

/// Runs a hook to its end, with this environment and one more entry. `pid` completes the state; `output` gets the first of what it prints,
/// where that does not go to `files`, and the second result says how much that is.
pub(crate) fn run(
    hook: &HookOp,
    environment: (&StringArray, Option<&CStr>),
    pid: i32,
    cwd: Option<BorrowedFd<'_>>,
    files: [Option<BorrowedFd<'_>>; 2],
    output: &mut [u8],
) -> (HookEnd, usize) {
    match try_run(hook, environment, pid, cwd, files, output) {
        Ok(result) => result,
        Err((call, errno)) => (HookEnd::Failed(call, errno), 0),
    }
}

fn try_run(
    hook: &HookOp,
    environment: (&StringArray, Option<&CStr>),
    pid: i32,
    cwd: Option<BorrowedFd<'_>>,
    files: [Option<BorrowedFd<'_>>; 2],
    output: &mut [u8],
) -> Result<(HookEnd, usize), (Call, Errno)> {
    let (stdin, feed) = std::io::pipe().map_err(|e| (Call::Hook, Errno::of(&e)))?;
    let (drain, stdout) = std::io::pipe().map_err(|e| (Call::Hook, Errno::of(&e)))?;
    let child = match process::clone3(&CloneHow::default()).map_err(|e| (Call::Clone, e))? {
        Cloned::Child => {
            let ready = process::dup_to(stdin.as_fd(), 0)
                .and_then(|()| process::dup_to(files[0].unwrap_or(stdout.as_fd()), 1))
                .and_then(|()| process::dup_to(files[1].unwrap_or(stdout.as_fd()), 2))
                .and_then(|()| cwd.map_or(Ok(()), process::fchdir))
                .and_then(|()| process::close_on_exec_from(3))
                .and_then(|()| process::reset_signals());
            let errno = match ready {
                Ok(()) => {
                    process::execve(&hook.path, &hook.arguments, environment.0, environment.1)
                }
                Err(e) => e,
            };
            // What a shell says: not found, or not executable.
            process::exit(if errno == Errno::ENOENT { 127 } else { 126 })
        }
        Cloned::Parent(child) => child,
    };
    drop((stdin, stdout));
    let deadline = hook.timeout.and_then(|t| Instant::now().checked_add(Duration::from_secs(t)));
    let number = Text::number(pid.unsigned_abs());
    // Without a process there is no member either.
    let parts: [&[u8]; 4] = match pid {
        0 => [&hook.state[0], b"", b"", &hook.state[2]],
        _ => [&hook.state[0], &hook.state[1], number.as_bytes(), &hook.state[2]],
    };
    let total: usize = parts.iter().map(|p| p.len()).sum();
    let (mut feed, mut fed, mut used, mut drained) = (Some(feed), 0, 0, false);
    let set_nonblocking = |e| (Call::Poll, e);
    if let Some(feed) = &feed {
        hako_sys::poll::set_nonblocking(feed.as_fd()).map_err(set_nonblocking)?;
    }
    hako_sys::poll::set_nonblocking(drain.as_fd()).map_err(set_nonblocking)?;
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            hako_sys::process::pidfd_send_signal(child.pidfd.as_fd(), 9)
                .map_err(|e| (Call::Hook, e))?;
            process::wait(child.pidfd.as_fd()).map_err(|e| (Call::Hook, e))?;
            return Ok((HookEnd::TimedOut, used));
        }
        let mut fds = [
            PollFd::readable(child.pidfd.as_fd()),
            PollFd::new(drain.as_fd(), !drained, false),
            PollFd::new(
                feed.as_ref().map_or(child.pidfd.as_fd(), AsFd::as_fd),
                false,
                feed.is_some(),
            ),
        ];
        // A hook that closed its output would wake us for ever; the rest is worth waiting for.
        let count = if drained { 1 } else { 3 };
        let count = if feed.is_none() && !drained { 2 } else { count };
        poll(&mut fds[..count], left).map_err(|e| (Call::Poll, e))?;
        let (ended, readable, writable) =
            (fds[0].is_readable(), fds[1].is_readable(), fds[2].is_writable());
        if writable && let Some(pipe) = &feed {
            match feed_some(pipe.as_fd(), &parts, fed) {
                Ok(n) => fed += n,
                Err(Errno::EAGAIN) => {}
                // It does not want to read; that is its right.
                Err(_) => fed = total,
            }
            if fed >= total {
                feed = None;
            }
        }
        if readable || ended {
            // All that is there now; a grandchild that keeps the pipe open is not waited for.
            loop {
                let mut scrap = [0u8; 512];
                let room = output.len() - used;
                let buffer: &mut [u8] = if room > 0 { &mut output[used..] } else { &mut scrap };
                match fs::read(drain.as_fd(), buffer) {
                    Ok(0) => {
                        drained = true;
                        break;
                    }
                    Ok(n) if room > 0 => used += n,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        if ended {
            let end = match process::wait(child.pidfd.as_fd()).map_err(|e| (Call::Hook, e))? {
                ExitStatus::Exited(0) => HookEnd::Succeeded,
                status => HookEnd::Exited(status),
            };
            return Ok((end, used));
        }
    }
}

/// Writes from position `from` of the parts on; how much went.
fn feed_some(pipe: BorrowedFd<'_>, parts: &[&[u8]], from: usize) -> hako_sys::Result<usize> {
    let mut skip = from;
    for part in parts {
        if skip < part.len() {
            return fs::write(pipe, &part[skip..]);
        }
        skip -= part.len();
    }
    Ok(0)
}
