//! `logs`.

use std::io::{self, Write};

use hako_engine::{
    logs::{Entry, Stream, Window},
    time::Timestamp,
};

use crate::failure::say;
use crate::{
    App,
    failure::{Failure, Outcome, success},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    output::clock,
    verb::{Topic, Verb},
};

#[derive(Default)]
struct Options {
    follow: bool,
    timestamps: bool,
    window: Window,
}

const FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch(
            "follow",
            Some('f'),
            "Wait for more, until the container has ended",
            |o, v| {
                o.follow = v == "true";
                Ok(())
            },
        ),
        Flag::one(
            "tail",
            Some('n'),
            "string",
            "Show the last lines only (default \"all\")",
            |o, v| {
                // As in Docker, whatever is no number of lines means all of them.
                o.window.tail = parse_integer::<i64>(v).ok().and_then(|n| u64::try_from(n).ok());
                Ok(())
            },
        ),
        Flag::one(
            "since",
            None,
            "string",
            "Show what came after a time, or in the last 10m",
            |o, v| {
                o.window.since = Some(moment(v, Timestamp::now())?);
                Ok(())
            },
        ),
        Flag::one("until", None, "string", "Show what came before a time, or 10m ago", |o, v| {
            o.window.until = Some(moment(v, Timestamp::now())?);
            Ok(())
        }),
        Flag::switch("timestamps", Some('t'), "Show when each line came", |o, v| {
            o.timestamps = v == "true";
            Ok(())
        }),
    ],
}];

/// `logs`.
pub(super) const LOGS: Verb = Verb {
    paths: &["logs", "container logs"],
    topic: Topic::Common,
    usage: "[OPTIONS] CONTAINER",
    about: "Print what a container has printed",
    more: "Times are RFC 3339, seconds since 1970, or durations back from now as 1h30m.",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(FLAGS),
    run,
};

fn run(app: &App, verb: &Verb, args: &[String]) -> Outcome {
    let mut options = Options::default();
    let words = verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
    let engine = app.engine()?;
    let container = engine.find(&words[0])?;
    let mut reader = engine.logs(&container, options.window, options.follow)?;
    // Followed lines are for somebody who waits; others are written in blocks.
    let out = &mut Output { follow: options.follow, ..Output::default() };
    let failed = |e: &dyn std::fmt::Display| Failure::new(e.to_string());
    while let Some(entry) = reader.next_entry().map_err(|e| failed(&e))? {
        out.write(&entry, options.timestamps)?;
    }
    out.flush()?;
    if reader.damaged() > 0 {
        say!("Error: {} damaged lines of the log were left out", reader.damaged());
    }
    success()
}

/// Standard output and standard error, buffered so that their order is kept.
#[derive(Default)]
struct Output {
    follow: bool,
    buffer: Vec<u8>,
    to_stderr: bool,
    /// Whether the line that was written last is still open, by stream.
    open: [bool; 2],
}

const BUFFER_SIZE: usize = 64 * 1024;

impl Output {
    fn write(&mut self, entry: &Entry, timestamps: bool) -> io::Result<()> {
        let to_stderr = entry.stream == Stream::Stderr;
        if to_stderr != self.to_stderr {
            self.flush()?;
            self.to_stderr = to_stderr;
        }
        let open = &mut self.open[usize::from(to_stderr)];
        if timestamps && !*open {
            self.buffer.extend_from_slice(fixed(entry.time).as_bytes());
            self.buffer.push(b' ');
        }
        *open = !entry.text.ends_with('\n');
        self.buffer.extend_from_slice(entry.text.as_bytes());
        match self.follow || self.buffer.len() >= BUFFER_SIZE {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.to_stderr {
            true => io::stderr().write_all(&self.buffer)?,
            false => {
                let mut out = io::stdout().lock();
                out.write_all(&self.buffer)?;
                out.flush()?;
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

/// RFC 3339 with all nine digits of nanoseconds, so that lines align.
fn fixed(time: Timestamp) -> String {
    let whole = Timestamp { nanoseconds: 0, ..time }.to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), time.nanoseconds)
}

/// A time as people write it.
pub(super) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(time) = Timestamp::parse(text) {
        return Ok(time);
    }
    // Who names no zone means the own one.
    let dated = [format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    if let Some(time) = dated.iter().find_map(|t| Timestamp::parse(t)) {
        return Ok(clock::from_local(time));
    }
    if let Some(time) = unix(text) {
        return Ok(time);
    }
    let back = go_duration(text).ok_or_else(|| format!("invalid value for a time: {text:?}"))?;
    let nanos = i128::from(now.seconds) * BILLION + i128::from(now.nanoseconds) - back;
    Ok(Timestamp {
        seconds: i64::try_from(nanos.div_euclid(BILLION)).unwrap_or(i64::MIN),
        nanoseconds: u32::try_from(nanos.rem_euclid(BILLION)).unwrap_or_default(),
    })
}

const BILLION: i128 = 1_000_000_000;

/// `1136073600` or `1136073600.000000001`
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Some(Timestamp { seconds: seconds.parse().ok()?, nanoseconds })
}

/// `1h30m`, `1.5s`, in nanoseconds.
fn go_duration(text: &str) -> Option<i128> {
    const UNITS: &[(&str, f64)] = &[
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number * UNITS.iter().find(|(name, _)| *name == &rest[..unit])?.1;
        rest = &rest[unit..];
    }
    (!text.is_empty() && total < 1e18).then_some(sign * total as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now = Timestamp { seconds: 1_000_000, nanoseconds: 500 };
        let check = |text: &str| moment(text, now).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(check("1970-01-02T00:00:00Z"), Ok((86_400, 0)));
        let local = |seconds| {
            let time = clock::from_local(Timestamp { seconds, nanoseconds: 0 });
            Ok((time.seconds, time.nanoseconds))
        };
        assert_eq!(check("1970-01-02T00:00:00"), local(86_400));
        assert_eq!(check("1970-01-02T00:01"), local(86_460));
        assert_eq!(check("1970-01-02"), local(86_400));
        assert_eq!(check("1970-01-01T01:00:00+01:00"), Ok((0, 0)));
        assert_eq!(check("42"), Ok((42, 0)));
        assert_eq!(check("42.5"), Ok((42, 500_000_000)));
        assert_eq!(check("1m"), Ok((999_940, 500)));
        assert_eq!(check("1h30m0.5s"), Ok((994_599, 500_000_500)));
        assert_eq!(check("-10s"), Ok((1_000_010, 500)));
        for bad in ["", "x", "1x", "h", "1970-13-01", "42.0000000001", "1e400h"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_align() {
        assert_eq!(
            fixed(Timestamp { seconds: 0, nanoseconds: 5 }),
            "1970-01-01T00:00:00.000000005Z"
        );
    }
}
