//! Versions of packages, ordered as dpkg orders them (deb-version(7)).

use std::{cmp::Ordering, fmt, str::FromStr};

/// Longer than any version that was ever uploaded.
const BYTES_MAX: usize = 512;

/// A version: `[epoch:]upstream[-revision]`. It has no `/`, no space and no control character.
///
/// Equal is what dpkg calls equal: `1.0` and `1.00` are, though they are written differently.
///
/// ```
/// let version = |text: &str| text.parse::<hako_deb::Version>().unwrap();
/// assert!(version("1.0~rc1") < version("1.0"));
/// assert!(version("1:0.1") > version("2.0-1"));
/// ```
#[derive(Clone)]
pub struct Version(Box<str>);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no version: {why}")]
pub struct VersionError {
    text: String,
    why: &'static str,
}

impl Version {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its epoch, as files are named.
    pub fn without_epoch(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, rest)| rest)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        check(text)
            .map_err(|why| VersionError { text: text.chars().take(BYTES_MAX).collect(), why })?;
        Ok(Version(text.into()))
    }
}

/// The rules that dpkg's parser holds a version to.
fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > BYTES_MAX {
        return Err("it is too long");
    }
    let rest = match text.split_once(':') {
        None => text,
        Some((epoch, rest)) => {
            let is_number = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
            if !is_number || epoch.parse::<i32>().is_err() {
                return Err("its epoch is no number");
            }
            rest
        }
    };
    let (upstream, revision) = match rest.rsplit_once('-') {
        None => (rest, None),
        Some((upstream, revision)) => (upstream, Some(revision)),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".+~".contains(&b);
    match revision {
        Some("") => return Err("its revision is empty"),
        Some(revision) if !revision.bytes().all(plain) => {
            return Err("its revision has characters that it may not have");
        }
        _ => {}
    }
    // It should begin with a digit, which dpkg only warns about.
    if upstream.is_empty() {
        return Err("it is nothing but an epoch or revision");
    }
    match upstream.bytes().all(|b| plain(b) || b"-:".contains(&b)) {
        true => Ok(()),
        false => Err("it has characters that it may not have"),
    }
}

/// Compares two versions; what is no version is compared all the same, by the same rules.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let epochs = a.epoch.cmp(b.epoch);
    // Digits without leading zeros: longer is more.
    a.epoch
        .len()
        .cmp(&b.epoch.len())
        .then(epochs)
        .then_with(|| compare_part(a.upstream, b.upstream))
        .then_with(|| compare_part(a.revision, b.revision))
}

struct Parts<'a> {
    epoch: &'a [u8],
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl Parts<'_> {
    fn of(text: &str) -> Parts<'_> {
        let (epoch, rest) = text.split_once(':').unwrap_or(("", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Parts {
            epoch: epoch.trim_start_matches('0').as_bytes(),
            upstream: upstream.as_bytes(),
            revision: revision.as_bytes(),
        }
    }
}

/// Stretches of other characters and of digits in turns.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (weight(a), weight(b));
            match x.cmp(&y) {
                // Both at a digit or at the end.
                Ordering::Equal if x == 0 => break,
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        let (x, y) = (digits(&mut a), digits(&mut b));
        match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// Where the first character sorts: `~` before the end, the end before letters, these before others.
fn weight(text: &[u8]) -> i32 {
    match text.first() {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

/// Takes the digits at the start; gives them without leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    let zeros = number.iter().position(|b| *b != b'0').unwrap_or(number.len());
    &number[zeros..]
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests;
