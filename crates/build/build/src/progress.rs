//! What a build tells while it goes on.

use std::time::Duration;

/// Which of its two outputs a command writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done now.
    Done,
    /// What it makes was there.
    Cached,
    /// It failed with this message.
    Failed(String),
    /// It was not finished, because something else failed.
    Canceled,
}

/// Something that happened. Steps are told by their numbers, which begin with 1.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step begins.
    Started {
        /// Its number.
        step: usize,
        /// What it is called.
        name: &'a str,
    },
    /// Why it is done, and nothing from the cache taken (`--why`).
    Why {
        /// Its number.
        step: usize,
        /// One reason.
        reason: &'a str,
    },
    /// Its command wrote this.
    Output {
        /// Its number.
        step: usize,
        /// Where.
        stream: Stream,
        /// What.
        bytes: &'a [u8],
    },
    /// A step ends.
    Ended {
        /// Its number.
        step: usize,
        /// How.
        outcome: &'a Outcome,
        /// How long it took.
        took: Duration,
    },
}

/// Somebody who watches a build, from several threads.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
