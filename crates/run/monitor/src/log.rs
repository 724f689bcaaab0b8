//! A container's log in Docker's json-file format.
//!
//! ```text
//! {"log":"a line\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}
//! {"log":"a line longer than 16 KiB comes in parts, of which only the last ","stream":"stdout","time":"…"}
//! {"log":"has the newline\n","stream":"stdout","time":"…"}
//! <path>      the current file
//! <path>.1    the one before, and so on
//! ```
//!
//! A line of the file is written by one write(2) together with its neighbours, and never half: when
//! the disk is full, what was begun is cut off again.

mod reader;
mod writer;

pub use reader::{Entry, Follow, LogError, Reader, Window, parse_line};
pub use writer::Writer;

/// Bytes of a line from which on it is logged in parts.
const PART_SIZE: usize = 16 * 1024;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The file that is `age` rotations old.
fn rotated(path: &std::path::Path, age: u32) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    if age > 0 {
        name.push(format!(".{age}"));
    }
    name.into()
}

#[cfg(test)]
mod tests;
