//! The frames between a monitor and its clients.
//!
//! ```text
//! u8 type · u32 length, little endian · payload, at most 64 KiB
//!
//! client to monitor                       monitor to client
//!  1 Attach    u8 streams                 65 Started    i32 pid
//!  2 Stdin     bytes                      66 Failed     JSON
//!  3 StdinEof  -                          67 Stdout     bytes
//!  4 Resize    u16 rows · u16 columns     68 Stderr     bytes
//!  5 Signal    i32                        69 StdinTaken u32 bytes
//!  6 Own       -                          70 Exited     i32 code · i32 signal or 0 · u8 oom
//!  7 Cleaned   -
//! ```
//!
//! A client that has not sent `Attach` gets no output. Requests that the first client sends before
//! it starts the monitor take effect before the container starts: it misses nothing.
//! Stdin has a window: a client may be [`STDIN_WINDOW`] bytes ahead of what `StdinTaken` said was
//! taken, and the monitor can always hold that much. So a container that does not read its stdin
//! never keeps a `Signal` behind it from arriving.

use hako_sys::tty::WindowSize;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// Longest payload.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Bytes of type and length before the payload.
pub const HEADER_SIZE: usize = 5;
/// How many bytes of stdin may be on their way.
pub const STDIN_WINDOW: usize = 64 * 1024;

/// Which streams a client is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    /// It feeds stdin.
    pub stdin: bool,
    /// It gets stdout (of a terminal: all output).
    pub stdout: bool,
    /// It gets stderr.
    pub stderr: bool,
}

impl Streams {
    /// All three.
    pub const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };
    /// Stdout and stderr.
    pub const OUTPUT: Streams = Streams { stdin: false, stdout: true, stderr: true };
}

/// What a client says. Payloads are borrowed from the buffer they were read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// From now on these streams, instead of those of before.
    Attach(Streams),
    /// Bytes for the container's stdin.
    Stdin(&'a [u8]),
    /// This client has no more stdin.
    StdinEof,
    /// The size of the client's terminal.
    Resize(WindowSize),
    /// A signal for the container's process.
    Signal(i32),
    /// The client will clean up after the container, and say `Cleaned`. If it goes away before, or
    /// takes longer than a few seconds, the monitor cleans up.
    Own,
    /// The client has cleaned up.
    Cleaned,
}

/// What a monitor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The container runs; this is its process on the host.
    Started {
        /// Process ID on the host.
        pid: i32,
    },
    /// The container could not be started; the monitor ends.
    Failed(Failure),
    /// Output.
    Stdout(&'a [u8]),
    /// Output.
    Stderr(&'a [u8]),
    /// So many bytes of stdin went to the container, or were dropped because it closed stdin.
    StdinTaken(u32),
    /// The container ended; all of its output was sent before.
    Exited(Exit),
}

/// Why a container could not be started, as fields that the other side can act on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// The call or the step that failed.
    pub call: String,
    /// What it was called on.
    pub object: String,
    /// The kernel's answer.
    pub errno: Option<i32>,
    /// The whole error as a sentence.
    pub message: String,
    /// Docker's exit code: 127 for a command that is not there, 126 for one that cannot be
    /// executed, 125 for everything else.
    pub exit_code: i32,
}

/// A frame that breaks the protocol. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The length is beyond [`PAYLOAD_MAX`].
    #[error("frame of type {kind} has {length} bytes, more than {PAYLOAD_MAX}")]
    TooLong {
        /// Type of the frame.
        kind: u8,
        /// Its length.
        length: u32,
    },
    /// No such type in this direction.
    #[error("frame has the unknown type {0}")]
    UnknownType(u8),
    /// The payload is not one of this type.
    #[error("frame of type {kind} has a payload of {length} bytes that is none of its type")]
    BadPayload {
        /// Type of the frame.
        kind: u8,
        /// Its length.
        length: usize,
    },
}

const ATTACH: u8 = 1;
const STDIN: u8 = 2;
const STDIN_EOF: u8 = 3;
const RESIZE: u8 = 4;
const SIGNAL: u8 = 5;
const OWN: u8 = 6;
const CLEANED: u8 = 7;
const STARTED: u8 = 65;
const FAILED: u8 = 66;
/// Type of a `Stdout` frame.
pub(crate) const STDOUT: u8 = 67;
/// Type of a `Stderr` frame.
pub(crate) const STDERR: u8 = 68;
const STDIN_TAKEN: u8 = 69;
const EXITED: u8 = 70;

/// The header of a frame. `length` must be at most [`PAYLOAD_MAX`].
pub(crate) fn header(kind: u8, length: usize) -> [u8; HEADER_SIZE] {
    debug_assert!(length <= PAYLOAD_MAX);
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind, a, b, c, d]
}

/// A frame as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: u8,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first whole frame in `bytes`; `None` when more bytes are needed.
    pub fn first(bytes: &'a [u8]) -> Result<Option<Frame<'a>>, ProtocolError> {
        let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > PAYLOAD_MAX {
            return Err(ProtocolError::TooLong { kind, length });
        }
        Ok(rest.get(..length as usize).map(|payload| Frame { kind, payload }))
    }

    /// How many bytes it has, header included.
    pub fn size(&self) -> usize {
        HEADER_SIZE + self.payload.len()
    }
}

fn append(out: &mut Vec<u8>, kind: u8, payload: &[&[u8]]) {
    let length = payload.iter().map(|p| p.len()).sum();
    assert!(length <= PAYLOAD_MAX, "a frame is cut before it is encoded");
    out.extend_from_slice(&header(kind, length));
    for part in payload {
        out.extend_from_slice(part);
    }
}

impl<'a> Request<'a> {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// When `Stdin` holds more than [`PAYLOAD_MAX`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Request::Attach(s) => {
                let bits = u8::from(s.stdin) | u8::from(s.stdout) << 1 | u8::from(s.stderr) << 2;
                append(out, ATTACH, &[&[bits]]);
            }
            Request::Stdin(bytes) => append(out, STDIN, &[bytes]),
            Request::StdinEof => append(out, STDIN_EOF, &[]),
            Request::Resize(size) => {
                append(out, RESIZE, &[&size.rows.to_le_bytes(), &size.columns.to_le_bytes()]);
            }
            Request::Signal(number) => append(out, SIGNAL, &[&number.to_le_bytes()]),
            Request::Own => append(out, OWN, &[]),
            Request::Cleaned => append(out, CLEANED, &[]),
        }
    }

    /// The request of a frame that [`Frame::first`] found.
    pub fn decode(Frame { kind, payload }: Frame<'a>) -> Result<Request<'a>, ProtocolError> {
        let bad = ProtocolError::BadPayload { kind, length: payload.len() };
        match (kind, payload) {
            (ATTACH, &[bits]) if bits < 8 => Ok(Request::Attach(Streams {
                stdin: bits & 1 != 0,
                stdout: bits & 2 != 0,
                stderr: bits & 4 != 0,
            })),
            (STDIN, bytes) => Ok(Request::Stdin(bytes)),
            (STDIN_EOF, []) => Ok(Request::StdinEof),
            (RESIZE, &[a, b, c, d]) => Ok(Request::Resize(WindowSize {
                rows: u16::from_le_bytes([a, b]),
                columns: u16::from_le_bytes([c, d]),
            })),
            (SIGNAL, &[a, b, c, d]) => Ok(Request::Signal(i32::from_le_bytes([a, b, c, d]))),
            (OWN, []) => Ok(Request::Own),
            (CLEANED, []) => Ok(Request::Cleaned),
            (ATTACH | STDIN_EOF | RESIZE | SIGNAL | OWN | CLEANED, _) => Err(bad),
            _ => Err(ProtocolError::UnknownType(kind)),
        }
    }
}

impl<'a> Event<'a> {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// When output holds more than [`PAYLOAD_MAX`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Event::Started { pid } => append(out, STARTED, &[&pid.to_le_bytes()]),
            Event::Failed(failure) => append(out, FAILED, &[&failure.to_json()]),
            Event::Stdout(bytes) => append(out, STDOUT, &[bytes]),
            Event::Stderr(bytes) => append(out, STDERR, &[bytes]),
            Event::StdinTaken(n) => append(out, STDIN_TAKEN, &[&n.to_le_bytes()]),
            Event::Exited(exit) => append(
                out,
                EXITED,
                &[
                    &exit.code.to_le_bytes(),
                    &exit.signal.unwrap_or(0).to_le_bytes(),
                    &[u8::from(exit.oom_killed)],
                ],
            ),
        }
    }

    /// The event of a frame that [`Frame::first`] found.
    pub fn decode(Frame { kind, payload }: Frame<'a>) -> Result<Event<'a>, ProtocolError> {
        let bad = ProtocolError::BadPayload { kind, length: payload.len() };
        match (kind, payload) {
            (STARTED, &[a, b, c, d]) => {
                Ok(Event::Started { pid: i32::from_le_bytes([a, b, c, d]) })
            }
            (FAILED, json) => serde_json::from_slice(json).map(Event::Failed).map_err(|_| bad),
            (STDOUT, bytes) => Ok(Event::Stdout(bytes)),
            (STDERR, bytes) => Ok(Event::Stderr(bytes)),
            (STDIN_TAKEN, &[a, b, c, d]) => Ok(Event::StdinTaken(u32::from_le_bytes([a, b, c, d]))),
            (EXITED, &[a, b, c, d, e, f, g, h, oom]) if oom < 2 => Ok(Event::Exited(Exit {
                code: i32::from_le_bytes([a, b, c, d]),
                signal: Some(i32::from_le_bytes([e, f, g, h])).filter(|&signal| signal != 0),
                oom_killed: oom == 1,
            })),
            (STARTED | STDIN_TAKEN | EXITED, _) => Err(bad),
            _ => Err(ProtocolError::UnknownType(kind)),
        }
    }
}

impl Failure {
    /// The JSON of this failure, cut until it fits into a frame.
    fn to_json(&self) -> Vec<u8> {
        // A byte becomes at most six in JSON; four fields of 2 KiB always fit.
        let cut = |text: &str| -> String { text.chars().take(2048 / 4).collect() };
        let whole = serde_json::to_vec(self).unwrap_or_default();
        if !whole.is_empty() && whole.len() <= PAYLOAD_MAX {
            return whole;
        }
        let short = Failure {
            call: cut(&self.call),
            object: cut(&self.object),
            message: cut(&self.message),
            ..*self
        };
        serde_json::to_vec(&short).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> Vec<Request<'static>> {
        vec![
            Request::Attach(Streams::ALL),
            Request::Attach(Streams::default()),
            Request::Attach(Streams { stdout: true, ..Streams::default() }),
            Request::Stdin(b""),
            Request::Stdin(b"hello\0\xff"),
            Request::StdinEof,
            Request::Resize(WindowSize { rows: 24, columns: 300 }),
            Request::Signal(-1),
            Request::Own,
            Request::Cleaned,
        ]
    }

    fn events() -> Vec<Event<'static>> {
        let failure = Failure {
            call: "execve".into(),
            object: "/bin/sh".into(),
            errno: Some(2),
            message: "no such file".into(),
            exit_code: 127,
        };
        vec![
            Event::Started { pid: 4711 },
            Event::Failed(failure),
            Event::Stdout(b"out"),
            Event::Stderr(&[7; PAYLOAD_MAX]),
            Event::StdinTaken(65536),
            Event::Exited(Exit { code: 0, signal: None, oom_killed: false }),
            Event::Exited(Exit { code: 137, signal: Some(9), oom_killed: true }),
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        for request in requests() {
            request.encode(&mut bytes);
        }
        let mut rest = &bytes[..];
        for request in requests() {
            let frame = Frame::first(rest).unwrap().unwrap();
            assert_eq!(Request::decode(frame), Ok(request));
            rest = &rest[frame.size()..];
        }
        assert!(rest.is_empty());

        for event in events() {
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            for cut in [0, 1, HEADER_SIZE - 1, HEADER_SIZE, bytes.len() - 1] {
                if cut < bytes.len() {
                    assert_eq!(Frame::first(&bytes[..cut]), Ok(None));
                }
            }
            assert_eq!(Event::decode(Frame::first(&bytes).unwrap().unwrap()), Ok(event));
        }
    }

    #[test]
    fn a_huge_failure_is_cut() {
        let failure =
            Failure { message: "\u{1}".repeat(PAYLOAD_MAX), exit_code: 125, ..Failure::default() };
        let mut bytes = Vec::new();
        Event::Failed(failure).encode(&mut bytes);
        let event = Event::decode(Frame::first(&bytes).unwrap().unwrap()).unwrap();
        let Event::Failed(failure) = event else { panic!("{event:?}") };
        assert_eq!((failure.exit_code, failure.message.len()), (125, 512));
    }

    #[test]
    fn refuses_what_is_no_frame() {
        let first = Frame::first(&[1, 1, 0, 1, 0]);
        assert_eq!(first, Err(ProtocolError::TooLong { kind: 1, length: 65537 }));
        for (kind, payload, expected) in [
            (0, &b""[..], ProtocolError::UnknownType(0)),
            (8, b"", ProtocolError::UnknownType(8)),
            (67, b"", ProtocolError::UnknownType(67)),
            (1, b"", ProtocolError::BadPayload { kind: 1, length: 0 }),
            (1, b"\x08", ProtocolError::BadPayload { kind: 1, length: 1 }),
            (3, b"x", ProtocolError::BadPayload { kind: 3, length: 1 }),
            (4, b"xxx", ProtocolError::BadPayload { kind: 4, length: 3 }),
        ] {
            assert_eq!(Request::decode(Frame { kind, payload }), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = Frame::first(&bytes) {
                prop_assert!(frame.size() <= bytes.len());
                // Whatever decodes is encoded to the same bytes again.
                if let Ok(request) = Request::decode(frame) {
                    let mut again = Vec::new();
                    request.encode(&mut again);
                    prop_assert_eq!(&again[..], &bytes[..frame.size()]);
                }
                let _any_answer_but_a_panic = Event::decode(frame);
            }
        }

        #[test]
        fn cutting_a_stream_anywhere_changes_nothing(cuts in proptest::collection::vec(1usize..40, 0..20)) {
            let mut bytes = Vec::new();
            for request in requests() {
                request.encode(&mut bytes);
            }
            let (mut buffer, mut seen, mut rest) = (Vec::new(), 0, &bytes[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                while let Some(frame) = Frame::first(&buffer).unwrap() {
                    prop_assert_eq!(Request::decode(frame), Ok(requests()[seen]));
                    seen += 1;
                    let size = frame.size();
                    buffer.drain(..size);
                }
            }
            prop_assert_eq!(seen, requests().len());
        }
    }
}
