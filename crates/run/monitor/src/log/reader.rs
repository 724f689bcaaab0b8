//! Reading the log, its rotated files included, and following it until its writer is gone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hako_sys::fs::{Lock, try_flock};
use serde::Deserialize;

use super::{Stream, rotated};
use crate::time::Timestamp;

/// Longest line of a log file that is read. The writer's are shorter than 100 KiB.
const LINE_MAX: usize = 1 << 20;
/// Bytes of one read.
const BLOCK: usize = 64 * 1024;
/// More files than any log is kept in.
const FILES_MAX: u32 = 10_000;
/// How often a followed log is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A call failed.
    #[error("{call}({}): {source}", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is no log.
    #[error("{}: a line has more than {LINE_MAX} bytes: this is no container's log", .0.display())]
    LineTooLong(PathBuf),
}

/// One line, or one part of a long line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was written.
    pub time: Timestamp,
    /// Where.
    pub stream: Stream,
    /// What, with its newline.
    pub text: String,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// This many of the last; all where absent.
    pub tail: Option<u64>,
    /// Those at or after this time.
    pub since: Option<Timestamp>,
    /// Those at or before this time.
    pub until: Option<Timestamp>,
}

/// Whether to wait for more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Follow {
    /// Waits while this file is locked, which the monitor does while it lives; where absent the
    /// end of the log is the end.
    pub lock: Option<PathBuf>,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    window: Window,
    follow: Follow,
    file: Option<File>,
    /// Where in the file the next read begins.
    offset: u64,
    /// Rotations of the file that is being read, as of when it was opened.
    age: u32,
    buffer: Vec<u8>,
    /// What of `buffer` was not returned yet begins here.
    start: usize,
    damaged: u64,
    writer_gone: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    log: String,
    stream: String,
    time: String,
}

impl Reader {
    /// Opens the log at `path`. A log that is not there yet is empty.
    pub fn open(path: &Path, window: Window, follow: Follow) -> Result<Reader, LogError> {
        let mut reader = Reader {
            path: path.to_owned(),
            window,
            follow,
            file: None,
            offset: 0,
            age: 0,
            buffer: Vec::new(),
            start: 0,
            damaged: 0,
            writer_gone: false,
        };
        reader.find_start()?;
        Ok(reader)
    }

    /// The next entry, waiting for it where the log is followed; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            while let Some(line) = self.take_line()? {
                let Some(entry) = parse_line(&line) else {
                    self.damaged += 1;
                    continue;
                };
                if self.window.since.is_some_and(|since| entry.time < since) {
                    continue;
                }
                // Two streams may be out of order by a moment, so what is late is passed over; but
                // nothing that comes now can be early.
                if self.window.until.is_some_and(|until| entry.time > until) {
                    if self.follow.lock.is_some() {
                        return Ok(None);
                    }
                    continue;
                }
                return Ok(Some(entry));
            }
            if self.fill()? || self.next_file()? {
                continue;
            }
            if self.follow.lock.is_none() || self.writer_gone {
                return Ok(None);
            }
            // Whoever is gone now has written everything that one more look will find.
            self.writer_gone = !self.writer_lives()?;
            if !self.writer_gone {
                std::thread::sleep(INTERVAL);
            }
        }
    }

    /// Lines so far that were not whole: a writer was killed in the middle of them.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn io(&self, call: &'static str, age: u32) -> impl FnOnce(io::Error) -> LogError {
        let path = rotated(&self.path, age);
        move |source| LogError::Io { call, path, source }
    }

    fn open_age(&self, age: u32) -> Result<Option<File>, LogError> {
        match File::open(rotated(&self.path, age)) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io("open", age)(e)),
        }
    }

    /// Goes to the oldest file, or to where the last `tail` entries begin.
    fn find_start(&mut self) -> Result<(), LogError> {
        let Some(tail) = self.window.tail else {
            if let Some((age, file)) = self.oldest()? {
                self.begin(age, file, 0);
            }
            return Ok(());
        };
        while !self.find_tail(tail)? {}
        Ok(())
    }

    /// Goes backwards from the newest file until there are `tail` entries; false where files moved
    /// on meanwhile.
    fn find_tail(&mut self, mut wanted: u64) -> Result<bool, LogError> {
        let Some((mut age, mut file)) = self.open_from(0)? else { return Ok(true) };
        loop {
            match tail(&mut file, wanted).map_err(self.io("read", age))? {
                Tail::At(offset) => {
                    self.begin(age, file, offset);
                    return Ok(true);
                }
                Tail::Fewer(count) => wanted -= count,
            }
            let older = self.open_from(age + 1)?;
            if !self.is_at(&file, age)? {
                return Ok(false);
            }
            match older {
                Some(older) => (age, file) = older,
                None => {
                    self.begin(age, file, 0);
                    return Ok(true);
                }
            }
        }
    }

    /// The file with `age` rotations, or where that one is missing, the one before.
    fn open_from(&self, age: u32) -> Result<Option<(u32, File)>, LogError> {
        for age in [age, age + 1] {
            if let Some(file) = self.open_age(age)? {
                return Ok(Some((age, file)));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, age: u32, file: File, offset: u64) {
        (self.file, self.age, self.offset) = (Some(file), age, offset);
    }

    /// The file with the most rotations.
    fn oldest(&self) -> Result<Option<(u32, File)>, LogError> {
        let mut oldest = None;
        let mut next = 0;
        // In the middle of a rotation, or after one that was killed, one file is missing.
        while let Some((age, file)) = self.open_from(next)? {
            oldest = Some((age, file));
            next = age + 1;
        }
        Ok(oldest)
    }

    /// Whether the file with `age` rotations is `file`.
    fn is_at(&self, file: &File, age: u32) -> Result<bool, LogError> {
        let ours = file.metadata().map_err(self.io("stat", age))?;
        match std::fs::metadata(rotated(&self.path, age)) {
            Ok(other) => Ok((other.dev(), other.ino()) == (ours.dev(), ours.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.io("stat", age)(e)),
        }
    }

    /// The next whole line that was read, without its newline.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let rest = &self.buffer[self.start..];
        match rest.iter().position(|&b| b == b'\n') {
            Some(at) => {
                let line = rest[..at].to_vec();
                self.start += at + 1;
                Ok(Some(line))
            }
            None if rest.len() > LINE_MAX => {
                Err(LogError::LineTooLong(rotated(&self.path, self.age)))
            }
            None => Ok(None),
        }
    }

    /// Reads more of the file; false at its end.
    fn fill(&mut self) -> Result<bool, LogError> {
        let age = self.age;
        let Some(file) = &mut self.file else { return Ok(false) };
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + BLOCK, 0);
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| read_some(file, &mut self.buffer[old..]));
        let read = read.inspect_err(|_| self.buffer.truncate(old)).map_err(self.io("read", age))?;
        self.buffer.truncate(old + read);
        self.offset += read as u64;
        Ok(read > 0)
    }

    /// Goes to the file that was begun after this one; false where this is the newest, or where the
    /// next is just being made.
    fn next_file(&mut self) -> Result<bool, LogError> {
        let Some(file) = &self.file else {
            // Not there when it was opened; perhaps now.
            self.find_start()?;
            return Ok(self.file.is_some());
        };
        let ours = file.metadata().map_err(self.io("stat", self.age))?;
        if ours.len() < self.offset {
            // Cut to nothing by a writer that keeps one file only.
            self.restart_at(0);
            return Ok(true);
        }
        // A file's age only grows, so that going upwards does not miss it.
        let mut age = self.age;
        while age < self.age + FILES_MAX && ours.nlink() > 0 && !self.is_at(file, age)? {
            age += 1;
        }
        let found = ours.nlink() > 0 && age < self.age + FILES_MAX;
        if found && age == 0 {
            return Ok(false);
        }
        // Something may have been written between the last read and the rotation.
        if self.offset < ours.len() {
            return Ok(true);
        }
        if !found {
            // It was removed: rotated away, or its container is gone.
            return match self.oldest()? {
                Some((age, file)) => Ok(self.switch_to(age, file)),
                None => Ok(false),
            };
        }
        match self.younger(file, age)? {
            Younger::Moved => Ok(true),
            Younger::None => Ok(false),
            Younger::Is(age, file) => Ok(self.switch_to(age, file)),
        }
    }

    /// What was begun after `file`, which has `age` rotations. A rotation moves the oldest file
    /// first, so one between two others may be missing.
    fn younger(&self, file: &File, age: u32) -> Result<Younger, LogError> {
        let mut next = None;
        for younger in (0..age).rev() {
            next = self.open_age(younger)?.map(|file| (younger, file));
            if next.is_some() {
                break;
            }
        }
        // If ours and what is missing are as they were, what was opened was the next one.
        let missing = next.as_ref().map_or(0, |(age, _)| age + 1)..age;
        if !self.is_at(file, age)?
            || missing.into_iter().any(|age| rotated(&self.path, age).exists())
        {
            return Ok(Younger::Moved);
        }
        Ok(next.map_or(Younger::None, |(age, file)| Younger::Is(age, file)))
    }

    fn switch_to(&mut self, age: u32, file: File) -> bool {
        self.restart_at(0);
        self.begin(age, file, 0);
        true
    }

    fn restart_at(&mut self, offset: u64) {
        // Half a line of another file is no beginning of a line of this one.
        if self.start < self.buffer.len() {
            self.damaged += 1;
        }
        self.buffer.clear();
        (self.start, self.offset) = (0, offset);
    }

    fn writer_lives(&self) -> Result<bool, LogError> {
        let Some(path) = &self.follow.lock else { return Ok(false) };
        let fail = |call, source| LogError::Io { call, path: path.clone(), source };
        match File::open(path) {
            Ok(file) => try_flock(file.as_fd(), Lock::Shared)
                .map(|free| !free)
                .map_err(|e| fail("flock", e.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(fail("open", e)),
        }
    }
}

/// Reads one line of a log file; `None` where it is none.
pub fn parse_line(line: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    Some(Entry { time: Timestamp::parse(&line.time)?, stream, text: line.log })
}

/// What was begun after a file.
enum Younger {
    Is(u32, File),
    None,
    /// The files moved while they were looked at: look again.
    Moved,
}

/// Where the last lines of a file are.
enum Tail {
    /// They begin here.
    At(u64),
    /// It has only so many.
    Fewer(u64),
}

/// Finds the last `count` whole lines, reading from the end.
fn tail(file: &mut File, count: u64) -> io::Result<Tail> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok(Tail::At(end));
    }
    let mut block = vec![0; BLOCK];
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            // The newline before the first wanted line is the one after `count` others.
            if newlines == count {
                return Ok(Tail::At(start + at as u64 + 1));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok(Tail::Fewer(newlines))
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
