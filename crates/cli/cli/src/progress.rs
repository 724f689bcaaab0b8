//! Transfers as people see them: one bar for each layer on a terminal, Docker's lines elsewhere.
//!
//! ```text
//! f1b5933fe4b5: Loading layer [=========================>                         ]  2.9MB/5.8MB
//! ```

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hako_engine::{Digest, Progress, Step, Watch};
use hako_oci::{Descriptor, media_type};

use crate::{attach::window_size, output::units::size};

/// A terminal is drawn anew no more often.
const REDRAW: Duration = Duration::from_millis(80);
/// Without a terminal's own word for it.
const COLUMNS: usize = 80;

/// The words for the steps of a transfer.
pub(crate) struct Words {
    waiting: &'static str,
    present: &'static str,
    moving: &'static str,
    arrived: &'static str,
    complete: &'static str,
    mounted: &'static str,
}

/// Those of `docker pull`.
pub(crate) const PULL: Words = Words {
    waiting: "Pulling fs layer",
    present: "Already exists",
    moving: "Downloading",
    arrived: "Download complete",
    complete: "Pull complete",
    mounted: "Already exists",
};

/// Those of `docker push`.
pub(crate) const PUSH: Words = Words {
    waiting: "Preparing",
    present: "Layer already exists",
    moving: "Pushing",
    arrived: "Pushed",
    complete: "Pushed",
    mounted: "Mounted from another repository",
};

/// Those of `copy`.
pub(crate) const COPY: Words = Words {
    waiting: "Waiting",
    present: "Already there",
    moving: "Copying",
    arrived: "Copied",
    complete: "Copied",
    mounted: "Mounted from another repository",
};

/// Those of `docker load`.
const LOAD: Words = Words {
    waiting: "Waiting",
    present: "Already exists",
    moving: "Loading layer",
    arrived: "Loaded",
    complete: "Loaded",
    mounted: "Already exists",
};

/// Draws a line for each layer that is loaded, on standard output, which is a terminal.
pub(crate) fn loading() -> Progress {
    let show = Show::new(LOAD, Out::Stdout, false, None);
    Progress::new(move |step| {
        let size = step.bytes_total;
        let layer = Descriptor::new(media_type::OCI_LAYER, step.diff_id.clone(), size);
        show.layer(&layer, Step::Bytes(step.bytes));
        if step.bytes >= size {
            show.end();
        }
    })
}

/// Where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// `pull`, `push`: what they are for.
    Stdout,
    /// `run`: standard output is the container's.
    Stderr,
}

/// Shows one transfer.
pub(crate) struct Show {
    words: Words,
    out: Out,
    quiet: bool,
    bars: bool,
    /// Said once the manifest is found.
    title: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    /// Lines on the terminal that are drawn over.
    drawn: usize,
    drawn_at: Option<Instant>,
    titled: bool,
}

struct Line {
    digest: Digest,
    name: String,
    total: u64,
    step: Step,
}

impl Show {
    pub(crate) fn new(words: Words, out: Out, quiet: bool, title: Option<String>) -> Show {
        let bars = !quiet
            && match out {
                Out::Stdout => io::stdout().is_terminal(),
                Out::Stderr => io::stderr().is_terminal(),
            };
        Show { words, out, quiet, bars, title, state: Mutex::default() }
    }

    /// Says a line below what was shown.
    pub(crate) fn say(&self, text: &str) {
        let mut state = self.lock();
        self.draw(&mut state, true);
        // What stands above the line is not drawn again.
        state.lines.clear();
        state.drawn = 0;
        self.write(&format!("{text}\n"));
    }

    /// What is drawn stays; something else follows.
    pub(crate) fn end(&self) {
        self.draw(&mut self.lock(), true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, text: &str) {
        // Progress that nobody can see is no reason to stop.
        let written = match self.out {
            Out::Stdout => io::stdout().lock().write_all(text.as_bytes()),
            Out::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
        written.ok();
    }

    fn word(&self, step: Step) -> &'static str {
        match step {
            Step::Waiting => self.words.waiting,
            Step::Present => self.words.present,
            Step::Bytes(_) => self.words.moving,
            Step::Arrived => self.words.arrived,
            Step::Complete => self.words.complete,
            Step::Mounted => self.words.mounted,
        }
    }

    fn draw(&self, state: &mut State, now: bool) {
        if !self.bars || state.lines.is_empty() {
            return;
        }
        let due = state.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW);
        if !now && !due {
            return;
        }
        let columns = window_size().map_or(COLUMNS, |size| usize::from(size.columns)).max(20);
        let mut text = String::new();
        if state.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", state.drawn));
        }
        for line in &state.lines {
            let mut shown = format!("{}: {}", line.name, self.word(line.step));
            if let Step::Bytes(bytes) = line.step {
                shown.push_str(&bar(bytes, line.total, columns.saturating_sub(shown.len() + 26)));
            }
            let shown: String = shown.chars().take(columns - 1).collect();
            text.push_str(&format!("\r\x1b[2K{shown}\n"));
        }
        state.drawn = state.lines.len();
        state.drawn_at = Some(Instant::now());
        self.write(&text);
    }
}

/// ` [====>    ]  1.2MB/3.4MB`
fn bar(bytes: u64, total: u64, width: usize) -> String {
    let numbers = format!("{}/{}", size(bytes, 4), size(total, 4));
    let width = width.min(50);
    if width < 5 || total == 0 {
        return format!(" {numbers}");
    }
    let full = (u128::from(bytes.min(total)) * width as u128 / u128::from(total)) as usize;
    let head = if full < width { ">" } else { "" };
    format!(" [{}{head}{}]  {numbers}", "=".repeat(full), " ".repeat(width - full - head.len()))
}

impl Watch for Show {
    fn layer(&self, layer: &Descriptor, step: Step) {
        // A configuration is no layer to Docker's users.
        if self.quiet || media_type::is_config(&layer.media_type) {
            return;
        }
        let mut state = self.lock();
        let name = layer.digest.short().to_owned();
        let changed = match state.lines.iter_mut().find(|line| line.digest == layer.digest) {
            Some(line) => {
                let kind = std::mem::discriminant(&line.step);
                let changed = kind != std::mem::discriminant(&step);
                line.step = step;
                changed
            }
            None => {
                let (digest, total) = (layer.digest.clone(), layer.size);
                state.lines.push(Line { digest, name: name.clone(), total, step });
                true
            }
        };
        match (self.bars, step) {
            (true, _) => self.draw(&mut state, changed),
            (false, Step::Bytes(_)) => {}
            (false, _) if changed => self.write(&format!("{name}: {}\n", self.word(step))),
            _ => {}
        }
    }

    fn manifest(&self, _: &Digest) {
        let mut state = self.lock();
        if let Some(title) = self.title.as_ref().filter(|_| !self.quiet && !state.titled) {
            self.write(&format!("{title}\n"));
        }
        state.titled = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_not_drawn_over() {
        let mut show = Show::new(PULL, Out::Stderr, false, None);
        show.bars = true;
        show.layer(&Descriptor::of(media_type::OCI_LAYER, b"x"), Step::Complete);
        assert_eq!(show.lock().drawn, 1);
        show.say("");
        let state = show.lock();
        assert!(state.lines.is_empty() && state.drawn == 0);
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 100, 10), " [>         ]  0B/100B");
        assert_eq!(bar(50, 100, 10), " [=====>    ]  50B/100B");
        assert_eq!(bar(100, 100, 10), " [==========]  100B/100B");
        assert_eq!(bar(500, 100, 10), " [==========]  500B/100B");
        assert_eq!(bar(1, 0, 10), " 1B/0B");
        assert_eq!(bar(1, 2, 3), " 1B/2B");
    }
}
