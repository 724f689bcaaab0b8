//! Writing the log: lines of output become lines of JSON, many with one system call.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::{PART_SIZE, Stream, rotated};
use crate::config::LogConfig;
use crate::time::Timestamp;

/// When so much is formatted it is written.
const BATCH_SIZE: usize = 32 * 1024;

/// An open log.
#[derive(Debug)]
pub struct Writer {
    config: LogConfig,
    file: File,
    /// Bytes in the file; it ends with a whole line.
    size: u64,
    /// Whole lines that are not written yet.
    batch: Vec<u8>,
    /// Bytes of output that the batch holds.
    batch_output: u64,
    /// What each stream has begun and not ended, by [`Stream`].
    open_lines: [OpenLine; 2],
    lost: Lost,
}

#[derive(Debug, Default)]
struct OpenLine {
    bytes: Vec<u8>,
    /// When the first part of this line came, if a part was logged.
    since: Option<Timestamp>,
}

/// Output that could not be logged.
#[derive(Debug, Default)]
pub struct Lost {
    /// How many bytes.
    pub bytes: u64,
    /// Why the first of them.
    pub cause: Option<io::Error>,
}

impl Writer {
    /// Opens the log for appending, and makes it where it is missing.
    pub fn open(config: LogConfig) -> io::Result<Writer> {
        let mut file = open(&config.path)?;
        let mut size = file.seek(SeekFrom::End(0))?;
        if size > 0 {
            // A writer that was killed may have left half a line; it must not spoil ours.
            file.seek(SeekFrom::Start(size - 1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Writer {
            config,
            file,
            size,
            batch: Vec::new(),
            batch_output: 0,
            open_lines: Default::default(),
            lost: Lost::default(),
        })
    }

    /// Logs output. What cannot be written is counted as lost: the container goes on.
    pub fn log(&mut self, stream: Stream, mut bytes: &[u8], now: Timestamp) {
        while !bytes.is_empty() {
            let room = PART_SIZE - self.open_lines[stream as usize].bytes.len();
            let window = &bytes[..bytes.len().min(room)];
            let newline = window.iter().position(|&b| b == b'\n');
            match newline {
                Some(at) => {
                    self.line(stream, &bytes[..=at], now, true);
                    bytes = &bytes[at + 1..];
                }
                None if window.len() == room => {
                    self.line(stream, window, now, false);
                    bytes = &bytes[room..];
                }
                None => {
                    self.open_lines[stream as usize].bytes.extend_from_slice(bytes);
                    break;
                }
            }
        }
        self.flush();
    }

    /// Logs what was begun without its newline: there is no more output of this stream.
    pub fn end(&mut self, stream: Stream, now: Timestamp) {
        if !self.open_lines[stream as usize].bytes.is_empty() {
            self.line(stream, b"", now, false);
        }
        self.open_lines[stream as usize] = OpenLine::default();
        self.flush();
    }

    /// What could not be logged so far.
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// Formats the open line with `tail` behind it.
    fn line(&mut self, stream: Stream, tail: &[u8], now: Timestamp, ended: bool) {
        let open = &mut self.open_lines[stream as usize];
        // All parts of a line carry the time of the first.
        let time = open.since.unwrap_or(now);
        open.since = if ended { None } else { Some(time) };
        let start = self.batch.len();
        self.batch.extend_from_slice(b"{\"log\":\"");
        escape(&mut self.batch, &open.bytes, tail);
        let output = open.bytes.len() + tail.len();
        open.bytes.clear();
        self.batch.extend_from_slice(b"\",\"stream\":\"");
        self.batch.extend_from_slice(stream.as_str().as_bytes());
        let mut time_text = Text::<40>::default();
        // The buffer is longer than any time.
        let _fits = write!(time_text, "{time}");
        self.batch.extend_from_slice(b"\",\"time\":\"");
        self.batch.extend_from_slice(time_text.as_bytes());
        self.batch.extend_from_slice(b"\"}\n");

        let length = (self.batch.len() - start) as u64;
        let full = self.config.max_bytes.is_some_and(|max| {
            let before = self.size + start as u64;
            before > 0 && before + length > max
        });
        if full {
            // Everything before this line goes to the old file.
            let line = self.batch.split_off(start);
            self.flush();
            self.rotate();
            self.batch = line;
        }
        self.batch_output += output as u64;
        if self.batch.len() >= BATCH_SIZE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.file.write_all(&self.batch) {
            Ok(()) => self.size += self.batch.len() as u64,
            Err(e) => {
                // No half lines: the file ends again where it ended before.
                let cut = self.file.set_len(self.size);
                self.lose(cut.err().unwrap_or(e));
            }
        }
        self.batch_output = 0;
        // What one burst of short lines needed is not kept for ever.
        if self.batch.capacity() > BATCH_SIZE {
            self.batch = Vec::new();
        } else {
            self.batch.clear();
        }
    }

    fn lose(&mut self, cause: io::Error) {
        self.lost.bytes += self.batch_output;
        self.lost.cause.get_or_insert(cause);
    }

    fn rotate(&mut self) {
        let (path, files) = (&self.config.path, self.config.max_files.max(1));
        let rotated = || -> io::Result<File> {
            for age in (1..files).rev() {
                match fs::rename(rotated(path, age - 1), rotated(path, age)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            let file = open(path)?;
            if files == 1 {
                file.set_len(0)?;
            }
            Ok(file)
        };
        match rotated() {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            // The old file goes on; the next line tries again.
            Err(e) => {
                self.lost.cause.get_or_insert(e);
            }
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Appends `head` and `tail`, which are one text, as the inside of a JSON string, as Docker does:
/// with `<`, `>` and `&` escaped too, and each invalid byte as U+FFFD.
fn escape(out: &mut Vec<u8>, head: &[u8], tail: &[u8]) {
    if head.is_empty() {
        return escape_one(out, tail);
    }
    if tail.is_empty() {
        return escape_one(out, head);
    }
    // A character may lie on the seam.
    let seam = (0..head.len().min(3))
        .find(|&back| head[head.len() - 1 - back] & 0xC0 != 0x80)
        .map_or(head.len(), |back| head.len() - 1 - back);
    let (head, rest) = head.split_at(seam);
    let taken = tail.iter().take(3).take_while(|&&b| b & 0xC0 == 0x80).count();
    let mut middle = [0; 6];
    middle[..rest.len()].copy_from_slice(rest);
    middle[rest.len()..rest.len() + taken].copy_from_slice(&tail[..taken]);
    escape_one(out, head);
    escape_one(out, &middle[..rest.len() + taken]);
    escape_one(out, &tail[taken..]);
}

fn escape_one(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut clean = 0;
        for (at, &byte) in text.iter().enumerate() {
            if !ESCAPED[byte as usize] {
                continue;
            }
            // U+2028 and U+2029, which end a line in JavaScript, are E2 80 A8 and E2 80 A9.
            let separator = byte == 0xE2
                && text.get(at + 1) == Some(&0x80)
                && text.get(at + 2).is_some_and(|b| matches!(b, 0xA8 | 0xA9));
            if byte == 0xE2 && !separator {
                continue;
            }
            out.extend_from_slice(&text[clean..at]);
            clean = at + 1;
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                0xE2 => {
                    let last = if text[at + 2] == 0xA8 { b'8' } else { b'9' };
                    out.extend_from_slice(&[b'\\', b'u', b'2', b'0', b'2', last]);
                    clean = at + 3;
                }
                byte => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                }
            }
        }
        out.extend_from_slice(&text[clean..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Bytes at which [`escape_one`] must look closer.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xE2] = true;
    table
};

/// A short text without a heap.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Text<N> {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const N: usize> std::fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room =
            self.bytes.get_mut(self.length..self.length + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}
