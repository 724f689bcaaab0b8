//! A process in the foreground: signals go to it, its terminal is copied, its status is ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_oci::runtime::{ConsoleSize, Process};
use hako_runtime::{Error, ExitStatus};
use hako_sys::poll::{PollFd, poll, set_nonblocking};
use hako_sys::signal::{self, SignalFd};
use hako_sys::tty::{self, RawMode};
use hako_sys::{Errno, fs, process};

use crate::Failure;
use crate::notify::Notify;

/// Signals that are passed on: all that a process can get from outside and act on.
fn forwarded() -> Vec<i32> {
    const NOT: [i32; 9] = [4, 5, 7, 8, 9, 11, 13, 19, 31];
    // Not the first real-time signal, which musl keeps for itself.
    (1..=31).chain(signal::RTMIN + 1..=signal::RTMAX).filter(|n| !NOT.contains(n)).collect()
}

const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const SIGWINCH: i32 = 28;
const SIGURG: i32 = 23;

/// Signals, blocked from before the process is born: none is lost.
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn block() -> Result<Signals, Errno> {
        let signals = forwarded();
        signal::block(&signals)?;
        Ok(Signals(SignalFd::new(&signals)?))
    }
}

/// Bytes on their way from one descriptor to another.
struct Pump {
    buffer: Vec<u8>,
    start: usize,
    open: bool,
}

impl Pump {
    fn new() -> Pump {
        Pump { buffer: Vec::new(), start: 0, open: true }
    }

    fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// Reads once; an end or an error of the source ends the pump.
    fn fill(&mut self, from: BorrowedFd<'_>) {
        self.buffer.resize(16 * 1024, 0);
        self.start = 0;
        let n = match fs::read(from, &mut self.buffer) {
            Ok(n) => n,
            Err(Errno::EAGAIN) => {
                self.buffer.clear();
                return;
            }
            // EIO is how a pty says that its other end is closed.
            Err(_) => 0,
        };
        self.buffer.truncate(n);
        self.open = n > 0;
    }

    fn drain(&mut self, to: BorrowedFd<'_>) {
        match fs::write(to, &self.buffer[self.start..]) {
            Ok(n) => self.start += n,
            Err(Errno::EAGAIN) => {}
            Err(_) => {
                self.open = false;
                self.start = self.buffer.len();
            }
        }
    }
}

/// Its terminal is born with the size of ours, where we have one: the program never sees another.
pub(crate) fn take_size(process: &mut Process) {
    if process.terminal
        && let Ok(size) = tty::window_size(std::io::stdin().as_fd())
    {
        process.console_size = Some(ConsoleSize { height: size.rows, width: size.columns });
    }
}

/// Waits for the process to end, as its stand-in.
pub(crate) fn wait(
    signals: &Signals,
    pidfd: BorrowedFd<'_>,
    console: Option<OwnedFd>,
    mut notify: Option<Notify>,
) -> Result<ExitStatus, Failure> {
    let call = |call: &'static str| {
        move |errno| Error::Call { call, object: "foreground".to_owned(), errno }
    };
    let stdin = std::io::stdin();
    let stdout = std::io::stdout();
    let own_terminal = console.is_some() && tty::is_terminal(stdin.as_fd());
    let raw = match own_terminal {
        true => Some(RawMode::enter(stdin.as_fd()).map_err(call("tcsetattr"))?),
        false => None,
    };
    if let Some(master) = &console {
        set_nonblocking(master.as_fd()).map_err(call("fcntl"))?;
        resize(master.as_fd());
    }
    let (mut input, mut output) = (Pump::new(), Pump::new());
    loop {
        let mut fds = vec![PollFd::readable(pidfd), PollFd::readable(signals.0.as_fd())];
        if let Some(master) = &console {
            let reads = output.open && output.is_empty();
            if reads || !input.is_empty() {
                fds.push(PollFd::new(master.as_fd(), reads, !input.is_empty()));
            }
            if input.open && input.is_empty() {
                fds.push(PollFd::readable(stdin.as_fd()));
            }
        }
        let notified = notify.as_ref().and_then(Notify::fd);
        fds.extend(notified.map(PollFd::readable));
        poll(&mut fds, None).map_err(call("poll"))?;
        let ended = fds[0].is_readable();
        if let Some(notify) = notify.as_mut().filter(|notify| notify.fd().is_some()) {
            notify.pass_on()?;
        }
        while let Some(number) = signals.0.read().map_err(call("read"))? {
            forward(number, pidfd, console.as_ref().map(AsFd::as_fd))?;
        }
        if let Some(master) = &console {
            if input.open && input.is_empty() && readable(stdin.as_fd()) {
                input.fill(stdin.as_fd());
                if !input.open && !own_terminal {
                    // The end of a file becomes the terminal's end-of-file character.
                    input.buffer = vec![4];
                    input.start = 0;
                }
            }
            if !input.is_empty() {
                input.drain(master.as_fd());
            }
            if output.open && output.is_empty() {
                output.fill(master.as_fd());
            }
            while !output.is_empty() {
                output.drain(stdout.as_fd());
            }
        }
        if ended {
            break;
        }
    }
    if let Some(master) = &console {
        // What it wrote last is still in the pty.
        while output.open && readable(master.as_fd()) {
            output.fill(master.as_fd());
            while !output.is_empty() {
                output.drain(stdout.as_fd());
            }
        }
    }
    if let Some(raw) = raw {
        raw.leave().map_err(call("tcsetattr"))?;
    }
    Ok(process::wait(pidfd).map_err(call("waitid"))?)
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::readable(fd)];
    poll(&mut fds, Some(std::time::Duration::ZERO)).is_ok_and(|n| n > 0) && fds[0].is_readable()
}

fn forward(
    number: i32,
    pidfd: BorrowedFd<'_>,
    console: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    match (number, console) {
        (SIGWINCH, Some(master)) => {
            resize(master);
            return Ok(());
        }
        // About this process itself, not about the one it stands for.
        (SIGCHLD | SIGTTIN | SIGTTOU | SIGURG, _) => return Ok(()),
        _ => {}
    }
    match process::pidfd_send_signal(pidfd, number) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => {
            Err(Error::Call { call: "pidfd_send_signal", object: number.to_string(), errno })
        }
    }
}

/// The pty gets the size of our terminal, where we have one.
fn resize(master: BorrowedFd<'_>) {
    if let Ok(size) = tty::window_size(std::io::stdin().as_fd())
        && let Err(error) = tty::set_window_size(master, size)
    {
        // It keeps the size it has.
        let _hung_up = error;
    }
}
