//! A client's side of the attach protocol.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hako_sys::poll::{PollFd, poll};
use hako_sys::{Errno, unix};

use crate::config::SOCKET_NAME;
use crate::protocol::{self, Event, Frame, ProtocolError, Request, STDIN_WINDOW};

/// What can go wrong between a client and its monitor.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no monitor: the container does not run.
    #[error("no monitor listens in {dir}: {source}")]
    NotRunning {
        /// The run directory.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connection failed.
    #[error("talking to the container's monitor: {call}: {source}")]
    Socket {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The other end is no monitor of this version.
    #[error("talking to the container's monitor: {0}")]
    Protocol(#[from] ProtocolError),
    /// The monitor ended in the middle of a frame.
    #[error("the container's monitor ended unexpectedly")]
    Truncated,
}

/// What a wait for an event came to.
#[derive(Debug)]
pub enum Received<'a> {
    /// An event.
    Event(Event<'a>),
    /// None within the time given, or none there yet.
    Nothing,
    /// The monitor is gone, and nothing more will come.
    End,
}

/// A connection to a monitor.
pub struct Client {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// What of `buffer` is not decoded yet.
    start: usize,
    end: usize,
    stdin_room: usize,
}

/// Room for one whole frame and the beginning of the next.
const BUFFER_SIZE: usize = protocol::HEADER_SIZE + protocol::PAYLOAD_MAX;

impl Client {
    /// A client over this socket: the other end of what a monitor got as its descriptor 3.
    pub fn from_socket(socket: OwnedFd) -> Client {
        Client { socket, buffer: Vec::new(), start: 0, end: 0, stdin_room: STDIN_WINDOW }
    }

    /// A pair of sockets for a new monitor: a client, and the monitor's end.
    pub fn pair() -> Result<(Client, OwnedFd), ClientError> {
        let (ours, theirs) =
            unix::pair().map_err(|source| ClientError::Socket { call: "socketpair", source })?;
        Ok((Client::from_socket(ours), theirs))
    }

    /// Connects to the monitor of the run directory `dir`.
    pub fn connect(dir: &Path) -> Result<Client, ClientError> {
        let not_running = |source| ClientError::NotRunning { dir: dir.to_owned(), source };
        let fd = File::open(dir).map_err(not_running)?;
        let socket =
            unix::connect_at(fd.as_fd(), SOCKET_NAME).map_err(|e| not_running(e.into()))?;
        Ok(Client::from_socket(socket))
    }

    /// How many bytes of stdin may be sent now. More than this must wait for
    /// [`Event::StdinTaken`], which gives room back.
    pub fn stdin_room(&self) -> usize {
        self.stdin_room
    }

    /// Sends a request, waiting until the socket takes it. The monitor always does so soon.
    ///
    /// # Panics
    /// When more stdin is sent than [`stdin_room`](Self::stdin_room).
    pub fn send(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        if let Request::Stdin(bytes) = request {
            assert!(bytes.len() <= self.stdin_room, "stdin beyond the window");
            self.stdin_room -= bytes.len();
        }
        let mut frame = Vec::new();
        request.encode(&mut frame);
        unix::send_all(self.socket.as_fd(), &frame)
            .map_err(|source| ClientError::Socket { call: "send", source })
    }

    /// The next event, waiting for it for at most `timeout` (without: as long as it takes).
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Received<'_>, ClientError> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            if let Some(frame) = Frame::first(&self.buffer[self.start..self.end])? {
                let size = frame.size();
                return self.take(size);
            }
            match self.fill()? {
                Filled::Some => continue,
                Filled::End if self.start == self.end => return Ok(Received::End),
                Filled::End => return Err(ClientError::Truncated),
                Filled::Nothing => {}
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Received::Nothing);
            }
            poll(&mut [PollFd::readable(self.socket.as_fd())], left)
                .map_err(|source| ClientError::Socket { call: "poll", source })?;
        }
    }

    /// The next event if it is there already: for poll loops over [`AsFd`], to be called until it
    /// says `Nothing`.
    pub fn try_receive(&mut self) -> Result<Received<'_>, ClientError> {
        self.receive(Some(Duration::ZERO))
    }

    fn take(&mut self, size: usize) -> Result<Received<'_>, ClientError> {
        let (start, end) = (self.start, self.start + size);
        self.start = end;
        let frame = Frame {
            kind: self.buffer[start],
            payload: &self.buffer[start + protocol::HEADER_SIZE..end],
        };
        let event = Event::decode(frame)?;
        if let Event::StdinTaken(n) = event {
            self.stdin_room = (self.stdin_room + n as usize).min(STDIN_WINDOW);
        }
        Ok(Received::Event(event))
    }

    fn fill(&mut self) -> Result<Filled, ClientError> {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_SIZE, 0);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // A frame that fills the buffer is whole, so there is room here.
        match unix::try_receive(self.socket.as_fd(), &mut self.buffer[self.end..]) {
            Ok(None) => Ok(Filled::Nothing),
            // A monitor that was killed with our requests unread resets the connection.
            Ok(Some(0)) | Err(Errno::ECONNRESET) => Ok(Filled::End),
            Ok(Some(n)) => {
                self.end += n;
                Ok(Filled::Some)
            }
            Err(source) => Err(ClientError::Socket { call: "recv", source }),
        }
    }
}

enum Filled {
    Some,
    Nothing,
    End,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
