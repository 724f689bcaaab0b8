//! Being attached: this terminal or these pipes, and a container's monitor.
//!
//! One poll loop without threads. Output is written only where poll says there is room, a page at
//! a time: a reader that stands still never keeps a signal from getting through.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use hako_engine::{
    Attachment, Event, Received, Streams,
    poll::{PollFd, poll},
    signal::{self, SignalFd},
    tty::{self, RawMode},
};

use crate::failure::say;
use crate::{
    detach::{DetachKeys, Typed},
    failure::Failure,
};

/// A pipe that polls writable takes this much without blocking (PIPE_BUF).
const OUTPUT_PIECE: usize = 4096;

/// What is not the container's: what nobody can take, what is about this process itself, and what
/// stops and continues a job.
const OWN_SIGNALS: &[i32] = &[
    signal::SIGKILL,
    signal::SIGSTOP,
    signal::SIGCHLD,
    signal::SIGPIPE,
    signal::SIGURG,
    signal::SIGTSTP,
    signal::SIGCONT,
    signal::SIGTTIN,
    signal::SIGTTOU,
    signal::SIGILL,
    signal::SIGTRAP,
    signal::SIGABRT,
    signal::SIGBUS,
    signal::SIGFPE,
    signal::SIGSEGV,
    signal::SIGSYS,
];

/// How long a container whose output nobody reads may take to end by itself.
const UNREAD_WITHIN: Duration = Duration::from_millis(200);

/// So many SIGINT and SIGTERM that a container does not heed end the session, as in Docker.
const PATIENCE: u32 = 3;

/// How a client takes part.
#[derive(Debug)]
pub struct Session {
    /// What it is attached to.
    pub streams: Streams,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Whether signals go to the container; where they do not, they end this session.
    pub sig_proxy: bool,
    /// What leaves a container with a terminal.
    pub detach_keys: DetachKeys,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The container did, with this code.
    Exited(i32),
    /// The user left.
    Detached,
    /// A signal ended this side of it.
    Signalled(i32),
    /// Nobody reads standard output any more (`hako run … | head`).
    Unread,
}

impl Ended {
    /// The exit code of a session, and for people why the container goes on without it.
    pub fn code(&self, container: &str) -> u8 {
        match self {
            Ended::Exited(code) => u8::try_from(code & 0xff).unwrap_or(1),
            Ended::Detached => {
                say!("read escape sequence");
                0
            }
            Ended::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(1),
            Ended::Unread => {
                say!("hako: nobody reads standard output: container {container} goes on alone");
                u8::try_from(128 + signal::SIGPIPE).unwrap_or(1)
            }
        }
    }
}

/// Signals of this process, as something to read. To be made before the container is started, so
/// that none is lost and none kills hako with the terminal in raw mode.
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Takes over the signals that matter to a session.
    pub fn take() -> Result<Signals, Failure> {
        let signals: Vec<i32> = (1..=signal::RTMAX)
            // Those between are the C library's own.
            .filter(|n| !OWN_SIGNALS.contains(n) && !(32..signal::RTMIN).contains(n))
            .collect();
        let about = |e| Failure::new(format!("signals: {e}"));
        signal::block(&signals).map_err(about)?;
        Ok(Signals { descriptor: SignalFd::new(&signals).map_err(about)? })
    }
}

/// The size of this process's terminal, if it has one.
pub fn window_size() -> Option<tty::WindowSize> {
    let stdin = io::stdin();
    let stdout = io::stdout();
    [stdin.as_fd(), stdout.as_fd()].into_iter().find_map(|fd| tty::window_size(fd).ok())
}

/// Runs the session until it ends. The terminal is as before afterwards, however it ends.
pub fn run(
    attachment: &mut Attachment,
    session: &mut Session,
    signals: &Signals,
) -> Result<Ended, Failure> {
    let stdin = io::stdin();
    let raw = match session.tty && session.streams.stdin && tty::is_terminal(stdin.as_fd()) {
        true => Some(RawMode::enter(stdin.as_fd()).map_err(|e| terminal_failure(&e))?),
        false => None,
    };
    let ended = Loop::new(session)?.run(attachment, signals);
    if let Some(raw) = raw {
        raw.leave().map_err(|e| terminal_failure(&e))?;
    }
    ended
}

fn terminal_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("setting the terminal: {error}"))
}

struct Loop<'s> {
    session: &'s mut Session,
    stdin: Option<File>,
    stdout: File,
    stderr: File,
    /// Output that was received and not written yet, and where it goes.
    pending: Vec<u8>,
    written: usize,
    to_stderr: bool,
    ended: Option<Ended>,
    /// Why output is lost, where it is not for want of a reader.
    lost: Option<io::Error>,
    /// SIGINT and SIGTERM so far.
    interrupts: u32,
}

impl<'s> Loop<'s> {
    fn new(session: &'s mut Session) -> Result<Loop<'s>, Failure> {
        // Files of our own: std's handles buffer, and a buffer cannot be polled.
        let file = |fd: BorrowedFd<'_>| Ok::<File, io::Error>(File::from(fd.try_clone_to_owned()?));
        let stdin = match session.streams.stdin {
            true => Some(file(io::stdin().as_fd())?),
            false => None,
        };
        Ok(Loop {
            session,
            stdin,
            stdout: file(io::stdout().as_fd())?,
            stderr: file(io::stderr().as_fd())?,
            pending: Vec::new(),
            written: 0,
            to_stderr: false,
            ended: None,
            lost: None,
            interrupts: 0,
        })
    }

    fn run(mut self, attachment: &mut Attachment, signals: &Signals) -> Result<Ended, Failure> {
        loop {
            if self.pending.is_empty() {
                if let Some(ended) = self.ended.take() {
                    return self.complete(ended, attachment);
                }
                self.receive(attachment)?;
                if !self.pending.is_empty() || self.ended.is_some() {
                    continue;
                }
            }
            let ready = self.wait(attachment, signals)?;
            if ready.signals
                && let Some(ended) = self.signals(attachment, signals)?
            {
                return Ok(ended);
            }
            if ready.output {
                self.write();
            }
            if ready.input
                && let Some(ended) = self.input(attachment)?
            {
                return Ok(ended);
            }
        }
    }

    /// Waits until something can be done, and says what.
    fn wait(&self, attachment: &Attachment, signals: &Signals) -> Result<Ready, Failure> {
        let out = if self.to_stderr { &self.stderr } else { &self.stdout };
        let mut fds = vec![PollFd::readable(signals.descriptor.as_fd())];
        // While output waits to be written no more of it is fetched: the container waits too.
        match self.pending.is_empty() {
            true => fds.push(PollFd::readable(attachment.as_fd())),
            false => fds.push(PollFd::writable(out.as_fd())),
        }
        if let Some(stdin) = &self.stdin
            && self.room(attachment) > 0
        {
            fds.push(PollFd::readable(stdin.as_fd()));
        }
        poll(&mut fds, None).map_err(|e| Failure::new(format!("poll: {e}")))?;
        let readable = |at: usize| fds.get(at).is_some_and(|f| f.is_readable() || f.is_hung_up());
        Ok(Ready {
            signals: readable(0),
            output: !self.pending.is_empty() && (fds[1].is_writable() || fds[1].is_hung_up()),
            input: readable(2),
        })
    }

    /// Takes events that are there, up to the first that has output.
    fn receive(&mut self, attachment: &mut Attachment) -> Result<(), Failure> {
        while self.pending.is_empty() && self.ended.is_none() {
            match attachment.try_receive().map_err(|e| Failure::new(e.to_string()))? {
                Received::Nothing => return Ok(()),
                Received::End => return Err(Failure::new("the container's monitor is gone")),
                Received::Event(Event::Stdout(bytes)) => {
                    self.to_stderr = false;
                    self.pending.extend_from_slice(bytes);
                }
                Received::Event(Event::Stderr(bytes)) => {
                    self.to_stderr = true;
                    self.pending.extend_from_slice(bytes);
                }
                Received::Event(Event::Exited(exit)) => self.ended = Some(Ended::Exited(exit.code)),
                Received::Event(_) => {}
            }
        }
        Ok(())
    }

    /// The last look at how it ended.
    fn complete(&mut self, ended: Ended, attachment: &mut Attachment) -> Result<Ended, Failure> {
        match ended {
            // It may be about to end, as what wrote into a pipe nobody reads mostly does.
            Ended::Unread => Ok(match attachment.wait(Some(UNREAD_WITHIN))? {
                Some(exit) => Ended::Exited(exit.code),
                None => Ended::Unread,
            }),
            Ended::Exited(code) => {
                let Some(error) = self.lost.take() else { return Ok(ended) };
                say!("hako: writing output: {error}");
                Ok(Ended::Exited(if code == 0 { 1 } else { code }))
            }
            Ended::Detached | Ended::Signalled(_) => Ok(ended),
        }
    }

    /// Writes a piece of what is pending. What cannot be written is dropped: that is no reason for
    /// the container to end.
    fn write(&mut self) {
        let out = if self.to_stderr { &mut self.stderr } else { &mut self.stdout };
        let end = self.pending.len().min(self.written + OUTPUT_PIECE);
        match out.write(&self.pending[self.written..end]) {
            Ok(n) => self.written += n,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(e) => {
                self.written = self.pending.len();
                match e.kind() {
                    // To stand for a reader that has had enough would keep a pipeline for ever.
                    io::ErrorKind::BrokenPipe if !self.to_stderr && self.ended.is_none() => {
                        self.ended = Some(Ended::Unread);
                    }
                    io::ErrorKind::BrokenPipe => {}
                    // A terminal that hung up: SIGHUP says the rest.
                    _ if self.session.tty => {}
                    _ => {
                        self.lost.get_or_insert(e);
                    }
                }
            }
        }
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
    }

    fn signals(
        &mut self,
        attachment: &mut Attachment,
        signals: &Signals,
    ) -> Result<Option<Ended>, Failure> {
        let about = |e: &dyn std::fmt::Display| Failure::new(e.to_string());
        while let Some(number) = signals.descriptor.read().map_err(|e| about(&e))? {
            if number == signal::SIGWINCH {
                if let (true, Some(size)) = (self.session.tty, window_size()) {
                    attachment.resize(size).map_err(|e| about(&e))?;
                }
                continue;
            }
            if !self.session.sig_proxy {
                return Ok(Some(Ended::Signalled(number)));
            }
            attachment.signal(number).map_err(|e| about(&e))?;
            if matches!(number, signal::SIGINT | signal::SIGTERM) {
                self.interrupts += 1;
            }
            if self.interrupts == PATIENCE {
                say!("\ngot {PATIENCE} SIGTERM/SIGINTs, forcefully exiting");
                return Ok(Some(Ended::Signalled(number)));
            }
            // The terminal is gone, and with it whoever we are here for.
            if number == signal::SIGHUP && self.session.tty {
                return Ok(Some(Ended::Signalled(number)));
            }
        }
        Ok(None)
    }

    /// How much may be read of stdin: what was held back for the detach keys may have to go, too.
    fn room(&self, attachment: &Attachment) -> usize {
        attachment.stdin_room().saturating_sub(self.session.detach_keys.pending())
    }

    fn input(&mut self, attachment: &mut Attachment) -> Result<Option<Ended>, Failure> {
        let room = self.room(attachment);
        let Some(stdin) = &mut self.stdin else { return Ok(None) };
        let mut buffer = [0; 16 * 1024];
        let room = room.min(buffer.len());
        let about = |e: &dyn std::fmt::Display| Failure::new(e.to_string());
        let count = match stdin.read(&mut buffer[..room]) {
            Ok(count) => count,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                return Ok(None);
            }
            // A terminal that hung up: there is no more input, and SIGHUP says the rest.
            Err(_) => 0,
        };
        if count == 0 {
            self.stdin = None;
            attachment.close_stdin().map_err(|e| about(&e))?;
            return Ok(None);
        }
        if !self.session.tty {
            attachment.send_stdin(&buffer[..count]).map_err(|e| about(&e))?;
            return Ok(None);
        }
        let (bytes, typed) = self.session.detach_keys.filter(&buffer[..count]);
        attachment.send_stdin(&bytes).map_err(|e| about(&e))?;
        Ok((typed == Typed::Detach).then_some(Ended::Detached))
    }
}

struct Ready {
    signals: bool,
    output: bool,
    input: bool,
}
