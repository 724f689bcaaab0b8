//! What the new process tells its parent.
//!
//! ```text
//! one byte   a Message; some carry a descriptor
//! 12 bytes   Record: 'F', call (u8), length of the note (u16), step (u32), errno (i32),
//!            then the note, padded to its full length
//! ```
//! Numbers are native-endian: both ends are the same program.

use hako_sys::Errno;

use crate::call::Call;

/// What the new process says beside a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Message {
    /// The runtime's hooks may run.
    RuntimeHooks = b'H',
    /// Here is the terminal's master.
    Console = b'C',
    /// Here is a socket of the network namespace, for the next network device.
    Network = b'N',
    /// Here is the seccomp listener.
    Seccomp = b'S',
    /// Here is the listener of the recorder. No answer is awaited.
    Record = b'W',
    /// All is ready for the start.
    Created = b'R',
}

impl Message {
    pub(crate) fn from_byte(byte: u8) -> Option<Message> {
        use Message::{Console, Created, Network, Record, RuntimeHooks, Seccomp};
        let all = [RuntimeHooks, Console, Network, Seccomp, Record, Created];
        all.into_iter().find(|m| *m as u8 == byte)
    }
}

/// A step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) step: u32,
    pub(crate) call: Call,
    pub(crate) errno: Errno,
}

/// First byte of a record.
pub(crate) const FAILED: u8 = b'F';
const HEADER: usize = 12;
const NOTE_MAX: usize = 200;
/// Bytes of a record.
pub(crate) const RECORD_SIZE: usize = HEADER + NOTE_MAX;

impl Record {
    pub(crate) fn encode(&self, note: &[u8]) -> [u8; RECORD_SIZE] {
        let mut bytes = [0u8; RECORD_SIZE];
        let length = note.len().min(NOTE_MAX);
        bytes[0] = FAILED;
        bytes[1] = self.call as u8;
        bytes[2..4].copy_from_slice(&(length as u16).to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.step.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.errno.raw().to_ne_bytes());
        bytes[HEADER..HEADER + length].copy_from_slice(&note[..length]);
        bytes
    }

    /// The record and its note; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
        let bytes: &[u8; RECORD_SIZE] = bytes.try_into().ok()?;
        if bytes[0] != FAILED {
            return None;
        }
        let length = usize::from(u16::from_ne_bytes([bytes[2], bytes[3]]));
        let word = |i: usize| [bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]];
        let record = Record {
            call: Call::from_number(bytes[1])?,
            step: u32::from_ne_bytes(word(4)),
            errno: Errno::from_raw(i32::from_ne_bytes(word(8))),
        };
        Some((record, bytes.get(HEADER..HEADER + length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let record = Record { step: 70_000, call: Call::MoveMount, errno: Errno::EPERM };
        assert_eq!(Record::decode(&record.encode(b"why")), Some((record, &b"why"[..])));
        assert_eq!(Record::decode(&record.encode(&[b'x'; 300])).map(|(_, n)| n.len()), Some(200));
        for bad in [&b""[..], b"F", &[0; RECORD_SIZE], &[FAILED; RECORD_SIZE]] {
            assert_eq!(Record::decode(bad), None);
        }
    }
}
