//! Quantities as runc's users write them: sizes with units, and durations as Go has them.

use std::time::Duration;

/// Bytes: a number with a unit in powers of 1024 (`64m`, `1.5GiB`); `-1` is no limit.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    const UNITS: &str = "bkmgtp";
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = (&lower[..end], lower[end..].trim());
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let power = match unit.as_bytes() {
        [] => 0,
        [first] | [first, b'b'] | [first, b'i', b'b'] if !(*first == b'b' && unit.len() > 1) => {
            UNITS.find(*first as char).ok_or_else(invalid)?
        }
        _ => return Err(invalid()),
    };
    let bytes = number * 1024f64.powi(power as i32);
    // The greatest whole numbers of f64 are further apart than one: those are no limits anyway.
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(invalid()) }
}

/// A duration: numbers with units (`5s`, `1m30s`, `100ms`, `1.5h`).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: &[(&str, f64)] = &[
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    let invalid = || format!("time: invalid duration \"{text}\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &after[..end]).ok_or_else(invalid)?;
        nanos += rest[..digits].parse::<f64>().map_err(|_| invalid())? * unit.1;
        rest = &after[end..];
    }
    if text.is_empty() || nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("1024", 1024),
            ("-1", -1),
            ("64m", 64 << 20),
            ("64 MB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2k", 2048),
            ("7b", 7),
            ("1p", 1 << 50),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "-2", "1x", "1bb", "1mib2", "1e3", "9999999p", ".", "1..2"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("7µs"), Ok(Duration::from_micros(7)));
        for text in ["", "5", "s", "-5s", "5 s", "5x", "1s2", "9999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
