//! Sizes, times and durations in Docker's words (its go-units library).

/// Bytes in powers of 1000, as `images` shows them: `5.58MB`.
pub fn size(bytes: u64, digits: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], digits)
}

/// Bytes in powers of 1024, as `info` shows them: `23.46GiB`.
pub fn size_binary(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    scaled(bytes as f64, 1024.0, &units, 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    general(value, digits) + units[unit]
}

/// Go's `%.{digits}g` for numbers of moderate size: significant digits, no trailing zeroes.
fn general(value: f64, digits: usize) -> String {
    // Rounding may carry into one more digit before the point: 999.96 has 1000 as four digits.
    let exponent = |v: f64| if v < 1.0 { 0 } else { v.log10().floor() as usize };
    let mut before = exponent(value) + 1;
    let rounded: f64 =
        format!("{value:.*}", digits.saturating_sub(before)).parse().unwrap_or(value);
    before = exponent(rounded) + 1;
    if before > digits {
        let shift = 10f64.powi((before - 1) as i32);
        let mantissa = format!("{:.*}", digits - 1, rounded / shift);
        return format!("{}e+{:02}", trim_zeroes(&mantissa), before - 1);
    }
    trim_zeroes(&format!("{value:.*}", digits.saturating_sub(before)))
}

fn trim_zeroes(number: &str) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    }
}

/// A duration as people say it: `About a minute`.
pub fn duration(seconds: u64) -> String {
    let hours = (seconds as f64 / 3600.0 + 0.5) as u64;
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{} minutes", seconds / 60),
        (_, _, 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `text` cut to `width` characters, the last one `…` where something is missing.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (5_578_000, "5.58MB"),
            (5_500_000, "5.5MB"),
            (123_456_789, "123MB"),
            (999_999, "1e+03kB"),
            (1_000_000_000, "1GB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes, 3), want, "{bytes}");
        }
        assert_eq!(size(5_578_123, 4), "5.578MB");
        assert_eq!(size_binary(25_189_724_160), "23.46GiB");
        assert_eq!(size_binary(1 << 30), "1GiB");
        assert_eq!(size_binary(1023), "1023B");
    }

    #[test]
    fn durations() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (47, "47 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (35 * 60, "35 minutes"),
            (40 * 60 + HOUR / 3, "About an hour"),
            (HOUR, "About an hour"),
            (3 * HOUR, "3 hours"),
            (36 * HOUR, "36 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
            (1000 * DAY, "2 years"),
        ];
        for (seconds, want) in cases {
            assert_eq!(duration(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn cuts() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("abcd", 3), "ab…");
        assert_eq!(ellipsis("äöüß", 3), "äö…");
    }
}
