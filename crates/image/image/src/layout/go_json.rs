//! JSON as Go's `encoding/json` writes it, where the bytes make an ID.

/// Valid JSON without white space, with the characters escaped that HTML has a use for.
pub(super) fn compact(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'<' | b'>' | b'&' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            // U+2028 and U+2029: line ends in JavaScript.
            0xe2 if tail.first() == Some(&0x80) && matches!(tail.get(1), Some(0xa8 | 0xa9)) => {
                out.extend_from_slice(format!("\\u20{:02x}", tail[1] - 0x80).as_bytes());
                rest = &tail[2..];
            }
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => {}
            _ => out.push(byte),
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    out
}

/// A time of RFC 3339 as Go writes it back: no zeros at the end of the fraction, `Z` for UTC.
pub(super) fn time(time: &str) -> String {
    let Some((date, clock)) = time.split_once(['T', 't']) else { return time.into() };
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let clock = match clock.split_once('.') {
        Some((seconds, fraction)) => match fraction.trim_end_matches('0') {
            "" => seconds.to_owned(),
            fraction => format!("{seconds}.{fraction}"),
        },
        None => clock.to_owned(),
    };
    let zone = if matches!(zone, "z" | "+00:00" | "-00:00") { "Z" } else { zone };
    format!("{date}T{clock}{zone}")
}

/// A version of Docker, as Docker compares them: what is no number counts as zero.
pub(super) fn version(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compacted_as_go_does() {
        let cases = [
            ("{ \"a\" : [ 1 , 2 ] }", "{\"a\":[1,2]}"),
            (r#"{"a b":" \" c "}"#, r#"{"a b":" \" c "}"#),
            (r#"["\\", " "]"#, r#"["\\"," "]"#),
            ("[\"a && b <c>\"]", r#"["a \u0026\u0026 b \u003cc\u003e"]"#),
            ("[\"\u{2028}\u{2029}\u{2026}\"]", "[\"\\u2028\\u2029\u{2026}\"]"),
            ("[1.0, 1e3]", "[1.0,1e3]"),
        ];
        for (from, to) in cases {
            assert_eq!(String::from_utf8(compact(from.as_bytes())).unwrap(), to, "{from}");
        }
    }

    #[test]
    fn times_are_written_as_go_does() {
        let cases = [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2020-01-23T16:53:06.686519000Z", "2020-01-23T16:53:06.686519Z"),
            ("2020-01-23T16:53:06.000+00:00", "2020-01-23T16:53:06Z"),
            ("2020-01-23T16:53:06.5+01:00", "2020-01-23T16:53:06.5+01:00"),
        ];
        for (from, to) in cases {
            assert_eq!(time(from), to);
        }
    }

    #[test]
    fn versions_are_compared_as_docker_does() {
        assert!(version("") < version("1.8.3"));
        assert!(version("1.8.2") < version("1.8.3"));
        assert!(version("18.06.1-ce") > version("1.8.3"));
        assert_eq!(version("1.8.3.1"), version("1.8.3"));
    }
}
