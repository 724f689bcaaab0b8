//! The loop: output of the container to log and clients, stdin from clients to the container,
//! signals and sizes, until the container's process has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hako_sys::pages::FilePages;
use hako_sys::poll::{PollFd, poll, poll_without, try_read};
use hako_sys::process;
use hako_sys::signal::{SIGCHLD, SIGHUP, SIGKILL, SignalFd};
use hako_sys::tty::{self, WindowSize};
use hako_sys::{Errno, Result};

use crate::clients::{Clients, Wish};
use crate::log::{Stream, Writer};
use crate::protocol::Event;
use crate::time::Timestamp;

/// Bytes that are moved at once. A pipe holds 64 KiB; more here would only be memory.
const CHUNK: usize = 32 * 1024;

/// The monitor's ends of the container's standard descriptors, none of which waits.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// What its stdin reads from.
    pub(crate) stdin: Option<OwnedFd>,
    /// What it writes to.
    pub(crate) stdout: Option<OwnedFd>,
    /// What it writes to.
    pub(crate) stderr: Option<OwnedFd>,
    /// The master of its terminal, instead of all three.
    pub(crate) console: Option<OwnedFd>,
    /// Whether nobody has the terminal open. The master stays: closing it would hang up a process
    /// that has merely let go of its descriptors.
    pub(crate) console_left: bool,
}

impl Io {
    fn output(&self, stream: Stream) -> Option<&OwnedFd> {
        match stream {
            Stream::Stdout if self.console_left => None,
            Stream::Stdout => self.stdout.as_ref().or(self.console.as_ref()),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    fn input(&self) -> Option<&OwnedFd> {
        self.stdin.as_ref().or(self.console.as_ref())
    }

    /// No more will come of `stream`.
    fn close(&mut self, stream: Stream) {
        match stream {
            Stream::Stdout => (self.stdout, self.console_left) = (None, true),
            Stream::Stderr => self.stderr = None,
        }
    }
}

/// One container with everything that is connected to it.
pub(crate) struct Pump<'a> {
    pub(crate) clients: Clients,
    pub(crate) log: Option<Writer>,
    pub(crate) io: Io,
    /// Whether stdin ends with the first client that was attached to it.
    pub(crate) stdin_once: bool,
    /// Whether the container dies with its owner.
    pub(crate) tied: bool,
    pub(crate) listener: &'a OwnedFd,
    pub(crate) signals: &'a SignalFd,
    /// The container's process; 0 before it runs.
    pub(crate) pid: i32,
    buffer: Vec<u8>,
    /// When to give memory back; at the end, when to stop waiting for the owner.
    wake_at: Option<Instant>,
    /// What to do without from the next wait on.
    forget: Option<FilePages>,
}

/// How long nothing happens before we make ourselves small.
const SETTLED: Duration = Duration::from_millis(500);

/// How long an owner may take to clean up before the monitor does, too: whoever comes second finds
/// nothing to do.
const OWNER_WITHIN: Duration = Duration::from_secs(3);

/// Which descriptors woke us.
#[derive(Default)]
struct Ready {
    signals: bool,
    ended: bool,
    stdout: bool,
    stderr: bool,
    clients: bool,
    listener: bool,
}

impl Ready {
    fn any(&self) -> bool {
        self.signals || self.stdout || self.stderr || self.clients || self.listener
    }
}

impl<'a> Pump<'a> {
    pub(crate) fn new(
        clients: Clients,
        log: Option<Writer>,
        listener: &'a OwnedFd,
        signals: &'a SignalFd,
    ) -> Pump<'a> {
        Pump {
            clients,
            log,
            io: Io::default(),
            stdin_once: false,
            tied: false,
            listener,
            signals,
            pid: 0,
            buffer: vec![0; CHUNK],
            wake_at: None,
            forget: None,
        }
    }

    /// Takes what the clients have sent so far; gives the size of their terminal.
    pub(crate) fn listen(&mut self) -> Option<WindowSize> {
        let mut size = None;
        self.clients.serve(&mut self.buffer, Instant::now(), &mut |wish| {
            // There is nothing to send a signal to yet.
            if let Wish::Resize(wanted) = wish {
                size = Some(wanted);
            }
        });
        size
    }

    /// Until the process of `pidfd` has ended. It is not reaped yet.
    pub(crate) fn run(&mut self, pidfd: BorrowedFd<'_>) -> Result<()> {
        self.wake_at = Some(Instant::now() + SETTLED);
        loop {
            let ready = self.wait(Some(pidfd))?;
            if ready.signals {
                self.take_signals(pidfd)?;
            }
            self.serve(&ready, Some(pidfd))?;
            if self.tied && !self.clients.have_owner() && !ready.ended {
                // It may have ended just now.
                match process::pidfd_send_signal(pidfd, SIGKILL) {
                    Err(Errno::ESRCH) | Ok(()) => {}
                    Err(e) => return Err(e),
                }
            }
            if ready.ended {
                self.wake_at = None;
                return Ok(());
            }
            match self.wake_at {
                Some(at) if at <= Instant::now() => {
                    self.wake_at = None;
                    self.buffer = Vec::new();
                    self.forget = Some(FilePages::find()?);
                }
                _ if ready.any() => self.wake_at = Some(Instant::now() + SETTLED),
                _ => {}
            }
        }
    }

    /// Takes what is left in the pipes. Whoever writes to them later is not of the container: a
    /// descriptor was passed out of it, and would keep us here for ever.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.io.stdin = None;
        self.io.console_left = false;
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read_output(stream)? {
                while self.clients.are_behind() {
                    let ready = self.wait(None)?;
                    self.serve_clients(&ready, None);
                }
            }
        }
        Ok(())
    }

    /// No output will come any more.
    pub(crate) fn end_output(&mut self) {
        self.io = Io::default();
        self.clients.discard_stdin(Instant::now());
        if let Some(log) = &mut self.log {
            log.end(Stream::Stdout, Timestamp::now());
            log.end(Stream::Stderr, Timestamp::now());
        }
    }

    /// Tells everybody, and waits until all have heard it, and for a while until nobody owns the
    /// clean-up: an owner that was stopped (`^Z`) may never go on.
    pub(crate) fn farewell(&mut self, event: &Event<'_>) -> Result<()> {
        self.clients.announce(event, Instant::now());
        while self.clients.have_pending()
            || (self.clients.have_owner() && !self.clients.have_cleaned())
        {
            if !self.clients.have_pending() {
                let now = Instant::now();
                if *self.wake_at.get_or_insert(now + OWNER_WITHIN) <= now {
                    break;
                }
            }
            let ready = self.wait(None)?;
            self.serve_clients(&ready, None);
        }
        Ok(())
    }

    fn wait(&mut self, pidfd: Option<BorrowedFd<'_>>) -> Result<Ready> {
        let running = pidfd.is_some();
        let listening = running && self.clients.has_room();
        // Who is behind holds the container back: its pipes fill, and it waits.
        let reading = running && !self.clients.are_behind();
        let feeding = running && self.clients.have_stdin();

        let mut fds = Vec::with_capacity(16);
        let signals = add(&mut fds, pidfd.map(|_| PollFd::readable(self.signals.as_fd())));
        let ended = add(&mut fds, pidfd.map(PollFd::readable));
        let output = |stream| {
            self.io.output(stream).filter(|_| reading).map(|fd| PollFd::readable(fd.as_fd()))
        };
        let stdout = add(&mut fds, output(Stream::Stdout));
        let stderr = add(&mut fds, output(Stream::Stderr));
        // Only to wake us: it is tried whenever there is something for it.
        add(&mut fds, self.io.input().filter(|_| feeding).map(|fd| PollFd::writable(fd.as_fd())));
        let listener = add(&mut fds, listening.then(|| PollFd::readable(self.listener.as_fd())));
        let first_client = fds.len();
        fds.extend(self.clients.sockets().map(|(fd, writing)| PollFd::new(fd, true, writing)));

        let now = Instant::now();
        let until = self.clients.deadline().into_iter().chain(self.wake_at).min();
        let timeout = until.map(|at| at.saturating_duration_since(now));
        let stalled = self.clients.deadline();
        let woken = match self.forget.take() {
            Some(pages) => poll_without(&mut fds, timeout, &pages)?,
            None => poll(&mut fds, timeout)?,
        };
        let readable = |at: Option<usize>| at.is_some_and(|at| fds[at].is_readable());
        Ok(Ready {
            signals: readable(signals),
            ended: readable(ended),
            stdout: readable(stdout),
            stderr: readable(stderr),
            listener: readable(listener),
            // Someone may have stalled.
            clients: (woken == 0 && stalled.is_some())
                || fds[first_client..].iter().any(|fd| fd.is_readable() || fd.is_writable()),
        })
    }

    fn serve(&mut self, ready: &Ready, pidfd: Option<BorrowedFd<'_>>) -> Result<()> {
        if ready.stdout {
            self.read_output(Stream::Stdout)?;
        }
        if ready.stderr {
            self.read_output(Stream::Stderr)?;
        }
        self.serve_clients(ready, pidfd);
        let now = Instant::now();
        if self.clients.have_stdin() {
            let closed = match self.io.input() {
                Some(fd) => self.clients.feed(fd.as_fd(), now).is_err(),
                None => true,
            };
            if closed {
                self.io.stdin = None;
                self.clients.discard_stdin(now);
            }
        }
        if self.stdin_once && self.clients.have_ended_stdin() {
            self.io.stdin = None;
        }
        if ready.listener {
            self.clients.accept(self.listener.as_fd(), self.pid, now);
        }
        Ok(())
    }

    fn serve_clients(&mut self, ready: &Ready, pidfd: Option<BorrowedFd<'_>>) {
        if !ready.clients {
            return;
        }
        self.buffer.resize(CHUNK, 0);
        let (console, mut buffer) = (self.io.console.as_ref(), std::mem::take(&mut self.buffer));
        self.clients.serve(&mut buffer, Instant::now(), &mut |wish| match wish {
            // Both come too late at times: the terminal or the process is gone then.
            Wish::Resize(size) => {
                if let Some(console) = console {
                    let _gone = tty::set_window_size(console.as_fd(), size);
                }
            }
            Wish::Signal(number) => {
                if let Some(pidfd) = pidfd {
                    let _gone = process::pidfd_send_signal(pidfd, number);
                }
            }
        });
        self.buffer = buffer;
    }

    /// Moves one chunk of output; false when there is none now, or none any more.
    fn read_output(&mut self, stream: Stream) -> Result<bool> {
        let Some(fd) = self.io.output(stream) else { return Ok(false) };
        self.buffer.resize(CHUNK, 0);
        match try_read(fd.as_fd(), &mut self.buffer)? {
            None => Ok(false),
            Some(0) => {
                self.io.close(stream);
                Ok(false)
            }
            Some(n) => {
                let bytes = &self.buffer[..n];
                // The log first: it has everything that anybody was shown.
                if let Some(log) = &mut self.log {
                    log.log(stream, bytes, Timestamp::now());
                }
                self.clients.output(stream, bytes, Instant::now());
                Ok(true)
            }
        }
    }

    fn take_signals(&mut self, pidfd: BorrowedFd<'_>) -> Result<()> {
        while let Some(signal) = self.signals.read()? {
            match signal {
                // Orphans of a container without a PID namespace are ours to reap.
                SIGCHLD => while process::reap_other(self.pid)?.is_some() {},
                // The terminal of whoever started us is gone. That is not the container's business.
                SIGHUP => {}
                // Whoever asks us to end means the container.
                signal => match process::pidfd_send_signal(pidfd, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(e),
                },
            }
        }
        Ok(())
    }
}

fn add<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: Option<PollFd<'fd>>) -> Option<usize> {
    fds.push(fd?);
    Some(fds.len() - 1)
}

#[cfg(test)]
mod tests;
