//! PAX extension records: `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;

use crate::{header::Time, sparse::PaxSparse};

/// What PAX records say of an entry, over what its header block says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) sparse: PaxSparse,
}

/// What is wrong with a record.
pub(crate) type Problem = &'static str;

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

impl Overrides {
    /// Takes the records of a local header. Empty values fall back to the header block's, later
    /// records replace earlier ones.
    pub(crate) fn take_local(&mut self, records: &[u8], extents_max: usize) -> Result<(), Problem> {
        for record in Records(records) {
            let (key, value) = record?;
            self.set(key, value, extents_max)?;
        }
        Ok(())
    }

    /// Takes the records of a global header, which hold for all entries that follow.
    ///
    /// Only owners and times are taken. A path, size or sparse map cannot mean the same for all
    /// entries; readers differ in whether they believe it, and an archive that shows one reader
    /// other files than the next is an attack.
    pub(crate) fn take_global(&mut self, records: &[u8]) -> Result<(), Problem> {
        for record in Records(records) {
            let (key, value) = record?;
            match key {
                b"uid" | b"gid" | b"mtime" => self.set(key, value, 0)?,
                b"path" | b"linkpath" | b"size" => {
                    return Err("a global header sets a path or size");
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err("a global header sets a sparse map");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], extents_max: usize) -> Result<(), Problem> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = time(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                    self.set_xattr(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                    let name = percent_decode(name);
                    let value = base64_decode(value).ok_or("an attribute is no base64")?;
                    // libarchive writes both; they say the same.
                    if !self.xattrs.contains_key(&name) {
                        self.set_xattr(name, value);
                    }
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value, extents_max)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        // A NUL would cut the name short on its way to the kernel.
        if !name.is_empty() && !name.contains(&0) {
            self.xattrs.insert(name, value);
        }
    }
}

type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a header, each as (key, value).
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = split_record(self.0);
        self.0 = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(record, _)| record))
    }
}

/// The first record as (key, value), and the records after it.
fn split_record(records: &[u8]) -> Result<(Record<'_>, &[u8]), Problem> {
    let space = records.iter().take(21).position(|&b| b == b' ').ok_or("a record has no length")?;
    let length = decimal(&records[..space]).ok_or("a record's length is no number")?;
    let length = usize::try_from(length).map_err(|_| "a record's length is beyond its header")?;
    if length > records.len() {
        return Err("a record's length is beyond its header");
    }
    let (record, rest) = records.split_at(length);
    let record = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n"));
    let record = record.ok_or("a record does not end where its length says")?;
    let equals = record.iter().position(|&b| b == b'=').ok_or("a record has no value")?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("a record has no proper key");
    }
    Ok(((key, value), rest))
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    if value.contains(&0) {
        return Err("a path contains NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// A number that may be absent; one that is negative is none.
pub(crate) fn number(value: &[u8]) -> Result<Option<u64>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or("a record has an invalid number")
}

/// Decimal digits and nothing else, up to i64::MAX.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (value <= i64::MAX as u64).then_some(value)
}

fn time(value: &[u8]) -> Result<Option<Time>, Problem> {
    const PROBLEM: Problem = "a record has an invalid time";
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = decimal(whole).and_then(|s| i64::try_from(s).ok()).ok_or(PROBLEM)?;
    let mut nanos = 0u32;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(PROBLEM);
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(PROBLEM);
    }
    Ok(Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    }))
}

fn percent_decode(name: &[u8]) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        if let (b'%', &[high, low, ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&b| b != b'=' && b != b'\n').map_or(0, |i| i + 1);
    let mut out = Vec::with_capacity(end / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for &b in &text[..end] {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

/// Appends one record.
pub(crate) fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let with_digits = rest + length.to_string().len();
        if with_digits == length {
            break;
        }
        length = with_digits;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A time as PAX writes it: decimal, with as many digits after the point as it needs.
pub(crate) fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanos)
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        for len in [1, 5, 90, 91, 92, 93, 94, 95, 988, 989, 990, 991, 992, 9980] {
            let mut records = Vec::new();
            push_record(&mut records, b"path", &vec![b'x'; len]);
            let ((key, value), rest) = split_record(&records).unwrap();
            assert_eq!((key, value.len(), rest.len()), (&b"path"[..], len, 0));
        }
    }

    fn records(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut records = Vec::new();
        for (key, value) in pairs {
            push_record(&mut records, key.as_bytes(), value.as_bytes());
        }
        records
    }

    #[test]
    fn records_that_lie_are_refused() {
        for bad in [
            &b"path=x\n"[..],
            b"99 path=x\n",
            b"0 path=x\n",
            b"3 path=x\n",
            b"8 path=x\n",
            b"10 path=xx",
            b"-1 path=x\n",
            b"+10 path=x\n",
            b"4 x\n",
            b"99999999999999999999999999 path=x\n",
            b"18446744073709551615 path=x\n",
            b"9 path=x\n9",
        ] {
            let mut overrides = Overrides::default();
            assert!(overrides.take_local(bad, 10).is_err(), "{}", bad.escape_ascii());
        }
        for (key, value) in [
            ("", "x"),
            ("a\0", "x"),
            ("path", "a\0"),
            ("linkpath", "\0"),
            ("size", "-1"),
            ("size", "18446744073709551615"),
            ("size", "99999999999999999999"),
            ("size", "0x10"),
            ("size", " 1"),
            ("uid", "abc"),
            ("mtime", "1.2.3"),
        ] {
            let bad = records(&[(key, value)]);
            assert!(Overrides::default().take_local(&bad, 10).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn later_records_replace_and_empty_ones_reset() {
        let mut overrides = Overrides::default();
        let pairs = [("path", "a"), ("path", "b"), ("size", ""), ("size", "42"), ("path", "")];
        overrides.take_local(&records(&pairs), 10).unwrap();
        assert_eq!((overrides.path, overrides.size), (None, Some(42)));
    }

    #[test]
    fn global_headers_may_not_redirect() {
        for pair in [("path", "a"), ("size", "99"), ("linkpath", "a"), ("GNU.sparse.name", "a")] {
            let bad = records(&[pair]);
            assert!(Overrides::default().take_global(&bad).is_err(), "{pair:?}");
        }
        let mut overrides = Overrides::default();
        overrides.take_global(&records(&[("comment", "a"), ("uid", "42")])).unwrap();
        assert_eq!(overrides.uid, Some(42));
    }

    #[test]
    fn times() {
        for (text, seconds, nanos) in [
            ("1", 1, 0),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("0.000000001", 0, 1),
        ] {
            let want = Time { seconds, nanos };
            assert_eq!(time(text.as_bytes()).unwrap(), Some(want), "{text}");
            assert_eq!(format_time(want), text);
        }
        assert_eq!(time(b"1.1234567899").unwrap(), Some(Time { seconds: 1, nanos: 123_456_789 }));
        for bad in ["-", ".5", "1.x", "1e9", "9223372036854775808", "1.0000000000x"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn libarchive_attributes() {
        let mut overrides = Overrides::default();
        let mut records = Vec::new();
        push_record(&mut records, b"LIBARCHIVE.xattr.user.a%3Db", b"aGVsbG8=");
        push_record(&mut records, b"SCHILY.xattr.user.both", b"raw\0");
        push_record(&mut records, b"LIBARCHIVE.xattr.user.both", b"b3RoZXI");
        overrides.take_local(&records, 10).unwrap();
        assert_eq!(overrides.xattrs[&b"user.a=b"[..]], b"hello");
        assert_eq!(overrides.xattrs[&b"user.both"[..]], b"raw\0");
    }
}
