//! Numbers with units: sizes (`--memory`, `--shm-size`), processors (`--cpus`).

/// A number that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No size.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// A size with an unknown unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
    /// No number of processors.
    #[error("failed to parse {0} as a rational number")]
    Rational(String),
    /// More than nine decimals.
    #[error("value is too precise")]
    TooPrecise,
}

/// Reads a size in Docker's grammar: `64`, `64b`, `1.5g`, `64m`, `64MB`, `64MiB`, `64 k`; every
/// unit counts by 1024.
pub fn parse_bytes(text: &str) -> Result<i64, QuantityError> {
    let invalid = || QuantityError::Size(text.into());
    let at =
        text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = (&text[..=at], text[at + 1..].to_ascii_lowercase());
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Only digits and a dot: no sign, exponent, infinity or NaN, which Rust's parser would take.
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(invalid());
    }
    let unit = match suffix.strip_suffix("ib").filter(|unit| !unit.is_empty()) {
        Some(unit) => unit,
        None => suffix.strip_suffix('b').unwrap_or(&suffix),
    };
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(QuantityError::Suffix(suffix)),
    };
    let size = number.parse::<f64>().map_err(|_| invalid())? * (1u64 << shift) as f64;
    // 2^63 as a float is exact, and the largest below it is in range.
    if size < i64::MAX as f64 { Ok(size as i64) } else { Err(invalid()) }
}

/// Reads `--memory-swap`: a size, or -1 for no limit.
pub fn parse_bytes_or_unlimited(text: &str) -> Result<i64, QuantityError> {
    if text == "-1" { Ok(-1) } else { parse_bytes(text) }
}

/// Reads `--cpus`: a decimal number or a fraction, as billionths.
pub fn parse_cpus(text: &str) -> Result<i64, QuantityError> {
    const NANO: i128 = 1_000_000_000;
    let invalid = || QuantityError::Rational(text.into());
    let digits = |part: &str| match part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit()) {
        true if part.is_empty() => Ok(0),
        true => part.parse::<i128>().map_err(|_| invalid()),
        false => Err(invalid()),
    };
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (numerator, denominator) = match (unsigned.split_once('/'), unsigned.split_once('.')) {
        (Some((a, b)), _) if !a.is_empty() && !b.is_empty() => (digits(a)?, digits(b)?),
        (Some(_), _) => return Err(invalid()),
        (None, Some((whole, fraction))) if !(whole.is_empty() && fraction.is_empty()) => {
            let scale = 10i128.pow(fraction.len().min(18) as u32);
            (digits(whole)? * scale + digits(fraction)?, scale)
        }
        (None, None) if !unsigned.is_empty() => (digits(unsigned)?, 1),
        _ => return Err(invalid()),
    };
    if denominator == 0 {
        return Err(invalid());
    }
    if numerator * NANO % denominator != 0 {
        return Err(QuantityError::TooPrecise);
    }
    let nano = numerator * NANO / denominator;
    i64::try_from(if negative { -nano } else { nano }).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let size = |text: &str| Err(QuantityError::Size(text.into()));
        let suffix = |text: &str| Err(QuantityError::Suffix(text.into()));
        for (text, expected) in [
            ("32", Ok(32)),
            ("32b", Ok(32)),
            ("32B", Ok(32)),
            ("32k", Ok(32 << 10)),
            ("32Kb", Ok(32 << 10)),
            ("32KiB", Ok(32 << 10)),
            ("6m", Ok(6 << 20)),
            ("1.5g", Ok(3 << 29)),
            ("0.5k", Ok(512)),
            ("32 mb", Ok(32 << 20)),
            ("8t", Ok(8 << 40)),
            ("1p", Ok(1 << 50)),
            ("0", Ok(0)),
            (".5k", Ok(512)),
            ("8000p", Ok(8000 << 50)),
            ("9000p", size("9000p")),
            ("", size("")),
            ("m", size("m")),
            ("-1", size("-1")),
            ("-32k", size("-32k")),
            ("hello", size("hello")),
            ("1.2.3", size("1.2.3")),
            ("1e3", size("1e3")),
            ("inf", size("inf")),
            (" 32", size(" 32")),
            ("32  k", size("32  k")),
            ("32x", suffix("x")),
            ("32kx", suffix("kx")),
            ("32ib", suffix("ib")),
            ("32bb", suffix("bb")),
            ("32kbi", suffix("kbi")),
            ("32é", suffix("é")),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text:?}");
        }
        assert_eq!(parse_bytes_or_unlimited("-1"), Ok(-1));
        assert_eq!(parse_bytes_or_unlimited("1k"), Ok(1024));
    }

    #[test]
    fn processors() {
        let bad = |text: &str| Err(QuantityError::Rational(text.into()));
        for (text, expected) in [
            ("1", Ok(1_000_000_000)),
            ("1.5", Ok(1_500_000_000)),
            (".5", Ok(500_000_000)),
            ("1.", Ok(1_000_000_000)),
            ("0.000000001", Ok(1)),
            ("1/2", Ok(500_000_000)),
            ("-1", Ok(-1_000_000_000)),
            ("0.0000000001", Err(QuantityError::TooPrecise)),
            ("1/3", Err(QuantityError::TooPrecise)),
            ("", bad("")),
            (".", bad(".")),
            ("1/0", bad("1/0")),
            ("1/", bad("1/")),
            ("x", bad("x")),
            ("1.5.1", bad("1.5.1")),
            ("99999999999999", bad("99999999999999")),
            ("9999999999999999999", bad("9999999999999999999")),
        ] {
            assert_eq!(parse_cpus(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_an_error(text in ".{0,30}") {
            if let Ok(size) = parse_bytes(&text) {
                prop_assert!(size >= 0);
            }
            let _any_answer_but_a_panic = parse_cpus(&text);
        }
    }
}
