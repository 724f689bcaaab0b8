//! Bars of progress on a terminal, one line for each thing that is under way, as Docker draws them.
//!
//! ```text
//! f1b5933fe4b5: Loading layer [=========================>                         ]  2.9MB/5.8MB
//! ```

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hako_engine::{Digest, Progress};

use super::units::size;
use crate::attach::window_size;

/// How often a line is drawn anew at most.
const INTERVAL: Duration = Duration::from_millis(50);
/// Characters of a bar.
const WIDTH: u64 = 50;
/// From this width of the terminal on there is room for bars.
const COLUMNS_MIN: u16 = 110;

/// Draws a line for each layer that is loaded, on standard output.
pub fn layers() -> Progress {
    let columns = window_size().map_or(COLUMNS_MIN, |size| size.columns);
    let lines = Mutex::new(Lines { drawn: Vec::new(), columns });
    Progress::new(move |step| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let text = lines.step(step.diff_id, step.bytes, step.bytes_total, Instant::now());
        // Whoever closed the terminal does not keep the image from being loaded.
        let mut out = io::stdout().lock();
        let _unseen = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    })
}

/// Lines that were drawn, from the first to the one above the cursor.
struct Lines {
    drawn: Vec<(Digest, Instant, bool)>,
    columns: u16,
}

impl Lines {
    /// What to write for this step; nothing when the line was drawn just now.
    fn step(&mut self, id: &Digest, bytes: u64, total: u64, now: Instant) -> String {
        let whole = bytes >= total;
        let count = self.drawn.len();
        let line = format!("\x1b[2K\r{}\r", text(id, bytes, total, self.columns));
        match self.drawn.iter_mut().enumerate().find(|(_, (drawn, ..))| drawn == id) {
            None => {
                self.drawn.push((id.clone(), now, whole));
                format!("{line}\n")
            }
            Some((_, (_, at, done))) if *done == whole && (whole || now < *at + INTERVAL) => {
                String::new()
            }
            Some((n, (_, at, done))) => {
                (*at, *done) = (now, whole);
                let up = count - n;
                format!("\x1b[{up}A{line}\x1b[{up}B")
            }
        }
    }
}

fn text(id: &Digest, bytes: u64, total: u64, columns: u16) -> String {
    let filled = (bytes.saturating_mul(WIDTH) / total.max(1)).min(WIDTH) as usize;
    let bar = match columns > COLUMNS_MIN {
        true => format!("[{}>{}] ", "=".repeat(filled), " ".repeat(WIDTH as usize - filled)),
        false => String::new(),
    };
    format!("{}: Loading layer {bar}{:>8}/{}", id.short(), size(bytes, 4), size(total, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_where_they_stand_and_not_too_often() {
        let mut lines = Lines { drawn: Vec::new(), columns: 120 };
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let now = Instant::now();
        let first = lines.step(&a, 0, 2_000_000, now);
        assert_eq!(
            first,
            format!("\x1b[2K\r{}: Loading layer [>{}]       0B/2MB\r\n", a.short(), " ".repeat(50))
        );
        assert!(lines.step(&b, 0, 10, now).ends_with("\r\n"));
        assert_eq!(lines.step(&a, 1_000_000, 2_000_000, now), "", "too soon");
        let later = lines.step(&a, 1_000_000, 2_000_000, now + INTERVAL);
        assert!(later.starts_with("\x1b[2A") && later.ends_with("\x1b[2B"), "{later:?}");
        let half = format!("[{}>{}]      1MB/2MB", "=".repeat(25), " ".repeat(25));
        assert!(later.contains(&half), "{later:?}");
        // The end is always shown, and once.
        assert!(lines.step(&a, 2_000_000, 2_000_000, now).contains("2MB/2MB"));
        assert_eq!(lines.step(&a, 2_000_000, 2_000_000, now + INTERVAL), "");
    }

    #[test]
    fn a_narrow_terminal_gets_numbers_only() {
        let id = Digest::sha256(b"");
        assert_eq!(text(&id, 5, 10, 80), "e3b0c44298fc: Loading layer       5B/10B");
        assert!(text(&id, 5, 0, 120).contains("[====="), "no total, no division by it");
    }
}
