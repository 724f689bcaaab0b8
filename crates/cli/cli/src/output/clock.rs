//! Times as the user's clock shows them, in the words of Go's `time` package.

use hako_engine::{clock::zone_at, time::Timestamp};

/// `2026-11-23 16:16:12 +0100 CET`, as `CreatedAt` of listings.
pub fn go_time(time: Timestamp) -> String {
    let (date, clock, offset) = local(time);
    let name = zone_at(time.seconds).map_or_else(|| "UTC".to_owned(), |zone| zone.name);
    format!("{date} {clock} {} {name}", signed(offset, ""))
}

/// `2026-11-23T16:16:12+01:00`, as `CreatedAt` of a history.
pub fn rfc3339(time: Timestamp) -> String {
    let (date, clock, offset) = local(time);
    match offset {
        0 => format!("{date}T{clock}Z"),
        offset => format!("{date}T{clock}{}", signed(offset, ":")),
    }
}

/// The moment at which the user's clock shows what `shown` shows in UTC.
pub fn from_local(shown: Timestamp) -> Timestamp {
    let at = |seconds| zone_at(seconds).map_or(0, |zone| zone.offset_seconds);
    // The offset is that of the moment looked for: the first look finds it but for the hours
    // around a change.
    let near = shown.seconds - at(shown.seconds);
    Timestamp { seconds: shown.seconds - at(near), ..shown }
}

/// Date, time of day without fraction, and seconds ahead of UTC.
fn local(time: Timestamp) -> (String, String, i64) {
    let offset = zone_at(time.seconds).map_or(0, |zone| zone.offset_seconds);
    let shown = Timestamp { seconds: time.seconds.saturating_add(offset), nanoseconds: 0 };
    let text = shown.to_string();
    let (date, clock) = text.trim_end_matches('Z').split_once('T').unwrap_or((&text, ""));
    (date.to_owned(), clock.to_owned(), offset)
}

fn signed(offset: i64, separator: &str) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.abs() / 60;
    format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        // Whatever zone this machine is in: the rows of `clock` in docker_cli set one.
        for seconds in [0, 1_714_564_800, 1_700_000_000] {
            let time = Timestamp { seconds, nanoseconds: 5 };
            let (date, clock, _) = local(time);
            let shown = Timestamp::parse(&format!("{date}T{clock}.000000005Z")).unwrap();
            assert_eq!(from_local(shown), time);
            assert_eq!(Timestamp::parse(&rfc3339(time)).unwrap().seconds, seconds);
        }
        assert_eq!(signed(-12_600, ":"), "-03:30");
        assert_eq!(signed(0, ""), "+0000");
    }
}
