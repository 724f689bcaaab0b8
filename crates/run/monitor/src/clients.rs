//! Everybody who is connected to the monitor: what they sent, and what they did not take yet.
//!
//! Nothing here waits, and nothing grows without bound: a client has at most one chunk of output
//! and one window of stdin in our memory.
//!
//! A client that takes no output holds the container's output back, as the reader of a pipe does:
//! nothing is lost, for anybody. The client that started the container may do that for ever (it is
//! its foreground job: `hako run … | less`), and so may the one that owns the clean-up; any other
//! is dropped when it has taken nothing for [`STALL`]. What it missed is in the log.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hako_sys::poll::try_write;
use hako_sys::tty::WindowSize;
use hako_sys::{Errno, cred, unix};

use crate::log::Stream;
use crate::protocol::{self, Event, Frame, PAYLOAD_MAX, Request, STDIN_WINDOW, Streams};

/// How long most clients may take nothing of their output.
const STALL: Duration = Duration::from_secs(10);
/// Most clients at once. Others wait until one goes.
const CLIENTS_MAX: usize = 64;

/// What a client wants of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Resize(WindowSize),
    Signal(i32),
}

#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    /// Whether it started the container.
    first: bool,
    owns: bool,
    cleaned: bool,
    streams: Streams,
    /// The beginning of a frame.
    input: Vec<u8>,
    /// What the socket did not take, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Bytes of stdin that were taken and not yet said to be.
    taken: u32,
    /// Stdin for the container, from `fed` on.
    stdin: Vec<u8>,
    fed: usize,
    stdin_ended: bool,
    /// Since when it takes nothing.
    stalled: Option<Instant>,
}

impl Client {
    fn new(socket: OwnedFd, first: bool) -> Client {
        Client {
            socket,
            first,
            owns: false,
            cleaned: false,
            streams: Streams::default(),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            taken: 0,
            stdin: Vec::new(),
            fed: 0,
            stdin_ended: false,
            stalled: None,
        }
    }

    fn gets(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        }
    }

    fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    fn has_stdin(&self) -> bool {
        self.fed < self.stdin.len()
    }

    /// Sends a frame of `header` and `payload`, and keeps what is not taken. Fails when the client
    /// is gone.
    fn push(&mut self, header: &[u8], payload: &[u8], now: Instant) -> Result<(), Errno> {
        let mut sent = 0;
        if !self.has_output() {
            let parts = [IoSlice::new(header), IoSlice::new(payload)];
            sent = unix::try_send(self.socket.as_fd(), &parts)?.unwrap_or(0);
            if sent == header.len() + payload.len() {
                return Ok(());
            }
            self.stalled = Some(now);
        }
        self.output.extend_from_slice(&header[sent.min(header.len())..]);
        self.output.extend_from_slice(&payload[sent.saturating_sub(header.len())..]);
        Ok(())
    }

    fn push_event(&mut self, event: &Event<'_>, now: Instant) -> Result<(), Errno> {
        let mut frame = Vec::new();
        event.encode(&mut frame);
        self.push(&frame, &[], now)
    }

    /// Sends what was kept. Fails when the client is gone.
    fn flush(&mut self, now: Instant) -> Result<(), Errno> {
        while self.has_output() {
            let rest = [IoSlice::new(&self.output[self.sent..])];
            match unix::try_send(self.socket.as_fd(), &rest)? {
                Some(n) => {
                    self.sent += n;
                    self.stalled = Some(now);
                }
                None => return Ok(()),
            }
        }
        (self.output, self.sent, self.stalled) = (Vec::new(), 0, None);
        if self.taken > 0 {
            let taken = std::mem::take(&mut self.taken);
            self.push_event(&Event::StdinTaken(taken), now)?;
        }
        Ok(())
    }

    /// When we have enough of waiting for it.
    fn deadline(&self, stall: Duration) -> Option<Instant> {
        self.stalled.filter(|_| !self.first && !self.owns).map(|since| since + stall)
    }

    /// Reads what the client sent. False when it is gone or talks nonsense.
    fn read(&mut self, buffer: &mut [u8], wish: &mut dyn FnMut(Wish)) -> bool {
        // Not until nothing is left: there are others to serve.
        for _ in 0..8 {
            match unix::try_receive(self.socket.as_fd(), buffer) {
                Ok(None) => return true,
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(n)) => {
                    if !self.take_input(&buffer[..n], wish) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn take_input(&mut self, bytes: &[u8], wish: &mut dyn FnMut(Wish)) -> bool {
        let whole;
        let mut rest = if self.input.is_empty() {
            bytes
        } else {
            self.input.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.input);
            &whole
        };
        loop {
            let frame = match Frame::first(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return false,
            };
            rest = &rest[frame.size()..];
            match Request::decode(frame) {
                Ok(request) if self.take(request, wish) => {}
                _ => return false,
            }
        }
        self.input = rest.to_vec();
        true
    }

    /// False when the request breaks the rules.
    fn take(&mut self, request: Request<'_>, wish: &mut dyn FnMut(Wish)) -> bool {
        match request {
            Request::Attach(streams) => self.streams = streams,
            Request::Stdin(bytes) => {
                let waiting = self.stdin.len() - self.fed + self.taken as usize;
                if self.stdin_ended || waiting + bytes.len() > STDIN_WINDOW {
                    return false;
                }
                if self.streams.stdin {
                    self.stdin.drain(..self.fed);
                    self.fed = 0;
                    self.stdin.extend_from_slice(bytes);
                } else {
                    // For nobody.
                    self.taken += bytes.len() as u32;
                }
            }
            Request::StdinEof => self.stdin_ended = true,
            Request::Resize(size) => wish(Wish::Resize(size)),
            Request::Signal(number) => wish(Wish::Signal(number)),
            Request::Own => self.owns = true,
            Request::Cleaned => self.cleaned = true,
        }
        true
    }
}

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Vec<Client>,
    /// Whether a client that was attached to stdin went away.
    stdin_left: bool,
    /// Stdin that it left for the container.
    stdin: Vec<u8>,
    cleaned: bool,
    /// How long a client may take nothing of its output.
    stall: Duration,
}

impl Clients {
    pub(crate) fn new(first: Option<OwnedFd>) -> Clients {
        let list = first.map(|socket| Client::new(socket, true)).into_iter().collect();
        Clients { list, stall: STALL, ..Clients::default() }
    }

    /// With less patience.
    #[cfg(test)]
    pub(crate) fn with_stall(self, stall: Duration) -> Clients {
        Clients { stall, ..self }
    }

    /// Whether more can be let in.
    pub(crate) fn has_room(&self) -> bool {
        self.list.len() < CLIENTS_MAX
    }

    /// Lets in who waits at `listener`: our own user, and root.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, pid: i32, now: Instant) {
        // An error here is that of one connection, or lasts (EMFILE) until a client goes.
        while let (true, Ok(Some(socket))) = (self.has_room(), unix::accept(listener)) {
            let allowed = unix::peer(socket.as_fd())
                .is_ok_and(|peer| peer.uid == 0 || peer.uid == cred::effective_uid());
            let mut client = Client::new(socket, false);
            if allowed && client.push_event(&Event::Started { pid }, now).is_ok() {
                self.list.push(client);
            }
        }
    }

    /// The clients' sockets, each with whether we have something for it.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.list.iter().map(|c| (c.socket.as_fd(), c.has_output() || c.taken > 0))
    }

    /// Reads from and writes to everybody what can be; drops who is gone, talks nonsense, or takes
    /// nothing for too long.
    pub(crate) fn serve(&mut self, buffer: &mut [u8], now: Instant, wish: &mut dyn FnMut(Wish)) {
        let mut new_owner = None;
        let mut at = 0;
        while let Some(client) = self.list.get_mut(at) {
            let owned = client.owns;
            let read = client.read(buffer, wish);
            if client.owns && !owned {
                new_owner = Some(at);
            }
            // What it said last counts, even when it is gone.
            self.cleaned |= client.owns && client.cleaned;
            let alive = read && client.flush(now).is_ok();
            if alive && client.deadline(self.stall).is_none_or(|deadline| now < deadline) {
                at += 1;
            } else {
                self.remove(at);
                new_owner = new_owner.filter(|&owner| owner != at);
            }
        }
        // Who said `Own` last owns.
        if let Some(owner) = new_owner {
            for (at, client) in self.list.iter_mut().enumerate() {
                client.owns &= at == owner;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let client = self.list.remove(at);
        self.stdin_left |= client.streams.stdin;
        if self.stdin.is_empty() && client.has_stdin() {
            self.stdin = client.stdin[client.fed..].to_vec();
        }
    }

    /// When the first client has taken nothing for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(|c| c.deadline(self.stall)).min()
    }

    /// Whether someone has not taken the last output yet: then there must be no more.
    pub(crate) fn are_behind(&self) -> bool {
        self.list.iter().any(|c| c.has_output() && (c.streams.stdout || c.streams.stderr))
    }

    /// Hands output to all who are attached to it.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8], now: Instant) {
        let kind = match stream {
            Stream::Stdout => protocol::STDOUT,
            Stream::Stderr => protocol::STDERR,
        };
        for chunk in bytes.chunks(PAYLOAD_MAX) {
            let header = protocol::header(kind, chunk.len());
            self.for_each_of(|c| c.gets(stream), |c| c.push(&header, chunk, now));
        }
    }

    /// Tells everybody.
    pub(crate) fn announce(&mut self, event: &Event<'_>, now: Instant) {
        self.for_each_of(|_| true, |c| c.push_event(event, now));
    }

    fn for_each_of(
        &mut self,
        whom: impl Fn(&Client) -> bool,
        send: impl Fn(&mut Client) -> Result<(), Errno>,
    ) {
        let mut at = 0;
        while let Some(client) = self.list.get_mut(at) {
            if whom(client) && send(client).is_err() {
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Whether there is stdin for the container.
    pub(crate) fn have_stdin(&self) -> bool {
        !self.stdin.is_empty() || self.list.iter().any(Client::has_stdin)
    }

    /// Writes to the container's stdin what it takes. Fails when it is closed.
    pub(crate) fn feed(&mut self, stdin: BorrowedFd<'_>, now: Instant) -> Result<(), Errno> {
        while !self.stdin.is_empty() {
            match try_write(stdin, &self.stdin)? {
                Some(n) => drop(self.stdin.drain(..n)),
                None => return Ok(()),
            }
        }
        for client in &mut self.list {
            while client.has_stdin() {
                match try_write(stdin, &client.stdin[client.fed..])? {
                    Some(n) => {
                        client.fed += n;
                        client.taken += n as u32;
                    }
                    None => return Ok(()),
                }
            }
            if client.fed > 0 {
                (client.stdin, client.fed) = (Vec::new(), 0);
            }
        }
        self.for_each_of(|c| c.taken > 0, |c| c.flush(now));
        Ok(())
    }

    /// Throws stdin away: there is nobody to read it.
    pub(crate) fn discard_stdin(&mut self, now: Instant) {
        self.stdin = Vec::new();
        for client in &mut self.list {
            client.taken += (client.stdin.len() - client.fed) as u32;
            (client.stdin, client.fed) = (Vec::new(), 0);
        }
        self.for_each_of(|c| c.taken > 0, |c| c.flush(now));
    }

    /// Whether a client that was attached to stdin has said its last.
    pub(crate) fn have_ended_stdin(&self) -> bool {
        let ended = |c: &Client| c.streams.stdin && c.stdin_ended && !c.has_stdin();
        self.stdin.is_empty() && (self.stdin_left || self.list.iter().any(ended))
    }

    /// Whether anybody has not got everything yet.
    pub(crate) fn have_pending(&self) -> bool {
        self.list.iter().any(Client::has_output)
    }

    /// Whether a client will clean up.
    pub(crate) fn have_owner(&self) -> bool {
        self.list.iter().any(|c| c.owns)
    }

    /// Whether one has.
    pub(crate) fn have_cleaned(&self) -> bool {
        self.cleaned
    }
}
