//! Small habits of Go that show in messages and values: quoting, booleans, durations.

use std::{fmt::Write, time::Duration};

/// A string as `%q` prints it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            ch if ch < ' ' || ch == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", ch as u32);
            }
            ch => out.push(ch),
        }
    }
    out.push('"');
    out
}

/// What `strconv.ParseBool` takes.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A number of bytes with a binary unit, as `64m` or `1.5 GiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let end = text.rfind(|ch: char| ch.is_ascii_digit() || matches!(ch, '.' | ' '))? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if number.starts_with(['+', ' ']) {
        return None;
    }
    let number: f64 = number.parse().ok().filter(|number| *number >= 0.0)?;
    let unit = unit.to_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    (unit.len() <= 3 && bytes < i64::MAX as f64).then_some(bytes as u64)
}

/// Units of a duration, in nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is no duration, as `time.ParseDuration` says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is none.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    NoUnit(String),
    /// A number with another unit.
    #[error("time: unknown unit {} in duration {}", quote(.0), quote(.1))]
    Unit(String, String),
}

/// A duration as Go writes it (`1h2m3.5s`), and whether it is negative.
pub(crate) fn duration(text: &str) -> Result<(bool, Duration), DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        let (number, behind) = rest.split_at(whole);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => behind.split_at(digits(behind)),
            None => ("", behind),
        };
        if number.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit = behind.find(|ch: char| ch == '.' || ch.is_ascii_digit());
        let (unit, behind) = behind.split_at(unit.unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(DurationError::NoUnit(text.to_owned()));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(DurationError::Unit(unit.to_owned(), text.to_owned()));
        };
        let number: u64 =
            if number.is_empty() { 0 } else { number.parse().map_err(|_| invalid())? };
        let mut part = number.checked_mul(*scale).ok_or_else(invalid)?;
        let mut unit = *scale;
        for digit in fraction.bytes() {
            unit /= 10;
            part = part.checked_add(u64::from(digit - b'0') * unit).ok_or_else(invalid)?;
        }
        total =
            total.checked_add(part).filter(|sum| *sum <= i64::MAX as u64).ok_or_else(invalid)?;
        rest = behind;
    }
    Ok((negative, Duration::from_nanos(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let ok = |text, millis| {
            assert_eq!(duration(text), Ok((false, Duration::from_millis(millis))), "{text}");
        };
        ok("0", 0);
        ok("5s", 5_000);
        ok("1h2m3.5s", 3_723_500);
        ok(".5s", 500);
        ok("1.s", 1_000);
        assert_eq!(duration("-1s"), Ok((true, Duration::from_secs(1))));
        for text in ["", "-", "s", "1x", "5", "1.5.s", "9999999999h", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_binary_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("1.5k", Some(1536)),
            ("64MiB", Some(64 << 20)),
            ("2 gb", Some(2 << 30)),
            ("1b", Some(1)),
            ("", None),
            ("k", None),
            ("1x", None),
            ("-1", None),
            ("1kibx", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_are_go_s() {
        assert_eq!(quote("a\"b\\\n\x01ü"), "\"a\\\"b\\\\\\n\\x01ü\"");
    }
}
