//! Times as images have them: RFC 3339.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch; `None` of what is no time.
pub fn unix_seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone_at);
    let mut clock = clock.split('.').next()?.splitn(3, ':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = number(hours)? * 3600 + number(minutes)? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// This moment, as Docker writes it.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (now.as_secs() as i64, now.subsec_nanos());
    format!("{}.{nanos:09}Z", rfc3339(seconds).trim_end_matches('Z'))
}

/// This moment in whole seconds, as annotations have it.
pub(crate) fn now_seconds() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs() as i64)
}

/// A moment in seconds since the epoch, in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn number(digits: &str) -> Option<i64> {
    let plain =
        !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, whose years are taken from March on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The reverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2020-01-23T16:53:06.686519038Z", Some(1_579_798_386)),
            ("2000-02-29T12:00:00+01:00", Some(951_822_000)),
            ("1969-12-31T23:59:59-00:30", Some(1799)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("2020-13-01T00:00:00Z", None),
            ("2020-01-01 00:00:00Z", None),
            ("2020-01-01T00:00:00", None),
            ("2020-01-01T00:00:00+", None),
            ("2020-01-01T00:00:00+é:é", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(unix_seconds(text), seconds, "{text}");
        }
        for seconds in [0, 951_822_000, 1_579_798_386, -1, 4_102_444_800, 68_169_600] {
            assert_eq!(unix_seconds(&rfc3339(seconds)), Some(seconds));
        }
        assert_eq!(rfc3339(1_579_798_386), "2020-01-23T16:53:06Z");
    }
}
