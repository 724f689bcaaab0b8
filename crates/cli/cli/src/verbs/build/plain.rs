//! A build, line by line, as BuildKit prints it without a terminal.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hako_engine::build::{Event, Outcome, Progress, Stream};

use super::Output;

/// So many last bytes of a failed step's output are shown again.
const TAIL_BYTES: usize = 8 << 10;

/// More of one step's output is not printed, as with BuildKit; lines without an end are kept in memory.
const SHOWN_BYTES_MAX: usize = 2 << 20;

/// Prints what happens to standard error.
pub(super) struct Plain {
    output: Output,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<usize, Step>,
    /// Numbers are given as steps begin.
    next: usize,
    /// Whose lines were printed last.
    last: Option<usize>,
    failed: Option<usize>,
}

struct Step {
    number: usize,
    name: String,
    started: Instant,
    /// A line that has not ended, of each stream.
    open: [Vec<u8>; 2],
    tail: Vec<u8>,
    shown_bytes: usize,
    ended: bool,
}

impl Plain {
    pub(super) fn new(output: Output) -> Plain {
        Plain { output, state: Mutex::default() }
    }

    /// Shows the last output of what failed once more.
    pub(super) fn failed(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(step) = state.failed.and_then(|id| state.steps.get(&id)) else { return };
        let mut text = format!("------\n > {}:\n", step.name);
        text.push_str(&String::from_utf8_lossy(&step.tail));
        if !text.ends_with('\n') {
            text.push('\n');
        }
        write(&(text + "------\n"));
    }

    /// Whether a step failed by itself.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.is_some()
    }
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.take(event);
        if self.output == Output::Plain && !text.is_empty() {
            write(&text);
        }
    }
}

impl State {
    fn take(&mut self, event: Event<'_>) -> String {
        match event {
            Event::Started { step, name } => {
                if self.steps.contains_key(&step) {
                    return String::new();
                }
                self.next += 1;
                let new = Step {
                    number: self.next,
                    name: name.to_owned(),
                    started: Instant::now(),
                    open: Default::default(),
                    tail: Vec::new(),
                    shown_bytes: 0,
                    ended: false,
                };
                self.steps.insert(step, new);
                self.lines(step, &[name.to_owned()])
            }
            Event::Why { step, reason } => self.lines(step, &[format!("because {reason}")]),
            Event::Output { step, stream, bytes } => {
                let Some(state) = self.steps.get_mut(&step) else { return String::new() };
                state.tail.extend_from_slice(bytes);
                let excess = state.tail.len().saturating_sub(TAIL_BYTES);
                state.tail.drain(..excess);
                if state.shown_bytes > SHOWN_BYTES_MAX {
                    return String::new();
                }
                state.shown_bytes += bytes.len();
                if state.shown_bytes > SHOWN_BYTES_MAX {
                    let clipped = "[output clipped, log limit 2MiB reached]".to_owned();
                    return self.lines(step, &[clipped]);
                }
                let open = &mut state.open[usize::from(stream == Stream::Stderr)];
                let before = open.len();
                open.extend_from_slice(bytes);
                let Some(end) = bytes.iter().rposition(|&b| b == b'\n') else {
                    return String::new();
                };
                let whole: Vec<u8> = open.drain(..=before + end).collect();
                let after = seconds(state.started.elapsed());
                let lines: Vec<String> = String::from_utf8_lossy(&whole)
                    .lines()
                    .map(|line| format!("{after} {line}"))
                    .collect();
                self.lines(step, &lines)
            }
            Event::Ended { step, outcome, took } => {
                let Some(state) = self.steps.get_mut(&step) else { return String::new() };
                if std::mem::replace(&mut state.ended, true) {
                    return String::new();
                }
                let after = seconds(state.started.elapsed());
                let rest =
                    state.open.iter_mut().map(std::mem::take).filter(|rest| !rest.is_empty());
                let mut lines: Vec<String> = rest
                    .map(|rest| format!("{after} {}", String::from_utf8_lossy(&rest)))
                    .collect();
                lines.push(match outcome {
                    Outcome::Done => format!("DONE {}s", tenths(took)),
                    Outcome::Cached => "CACHED".to_owned(),
                    Outcome::Canceled => "CANCELED".to_owned(),
                    Outcome::Failed(message) => format!("ERROR: {message}"),
                });
                if matches!(outcome, Outcome::Failed(_)) {
                    self.failed.get_or_insert(step);
                }
                self.lines(step, &lines)
            }
        }
    }

    /// Lines of one step, with its number, and apart from those of another.
    fn lines(&mut self, step: usize, lines: &[String]) -> String {
        let Some(state) = self.steps.get(&step) else { return String::new() };
        let number = state.number;
        let mut text = String::new();
        if self.last.is_some_and(|last| last != step) {
            text.push('\n');
            if lines.first() != Some(&state.name) {
                text.push_str(&format!("#{number} {}\n", state.name));
            }
        }
        for line in lines {
            text.push_str(&format!("#{number} {line}\n"));
        }
        self.last = Some(step);
        text
    }
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

fn tenths(time: Duration) -> String {
    format!("{}.{}", time.as_secs(), time.subsec_millis() / 100)
}

/// Where standard error cannot be written to there is nobody left to tell.
fn write(text: &str) {
    let _nobody = std::io::stderr().lock().write_all(text.as_bytes());
}
