//! An archive's `Release` file: what the signature is about, and all else hangs on.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hako_oci::Digest;

use crate::{Source, deb822};

/// How far a release's date may be ahead of this machine's clock.
const AHEAD_SECONDS_MAX: i64 = 600;

/// A file that the release vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub digest: Digest,
    pub size: u64,
}

/// What a `Release` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    suite: Option<String>,
    codename: Option<String>,
    /// Seconds since 1970.
    pub date: i64,
    valid_until: Option<i64>,
    pub by_hash: bool,
    pub architectures: Vec<String>,
    /// Whether packages of architecture `all` have an index of their own.
    pub has_index_of_all: bool,
    /// apt's priority: packages of a lower one are taken only where there are no others.
    pub pin: u32,
    /// By path below the suite's directory.
    pub files: BTreeMap<String, Listed>,
    /// Of its text.
    pub digest: Digest,
}

/// What is checked of dates, and against which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dates {
    pub check_valid_until: bool,
    pub check_date: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// This moment, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Release {
    /// Reads a release whose signature was verified, or needs none. `is_wanted` chooses the files
    /// to remember, by path. The error says what is wrong with it.
    pub(crate) fn parse(text: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Release, String> {
        let mut all = deb822::paragraphs(text.as_bytes(), false).map_err(|e| e.to_string())?;
        let (Some(release), true) = (all.pop(), all.is_empty()) else {
            return Err("it is not one paragraph".into());
        };
        let owned = |name: &str| release.get(name).map(str::to_owned);
        let is_yes = |name: &str| release.get(name).is_some_and(|v| v.eq_ignore_ascii_case("yes"));
        let time = |name: &str| match release.get(name) {
            None => Ok(None),
            Some(text) => match unix_seconds(text) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(format!("its {name} {text:?} is no date")),
            },
        };
        let Some(list) = release.get("SHA256") else {
            return Err("it has no SHA-256 digests, and older ones are weak".into());
        };
        let mut files = BTreeMap::new();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_ascii_whitespace();
            let (Some(hex), Some(size), Some(path), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(format!("its line {line:?} is no digest, size and path"));
            };
            if !is_wanted(path) {
                continue;
            }
            let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse();
            let listed = Listed {
                digest: digest.map_err(|_| format!("its digest of {path} is none"))?,
                size: size.parse().map_err(|_| format!("its size of {path} is none"))?,
            };
            if files.insert(path.to_owned(), listed.clone()).is_some_and(|other| other != listed) {
                return Err(format!("it has {path} twice"));
            }
        }
        let architectures: Vec<String> = release
            .get("Architectures")
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        let has_index_of_all = architectures.iter().any(|a| a == "all")
            && release.get("No-Support-for-Architecture-all") != Some("Packages");
        Ok(Release {
            suite: owned("Suite"),
            codename: owned("Codename"),
            date: time("Date")?.ok_or("it has no Date")?,
            valid_until: time("Valid-Until")?,
            by_hash: is_yes("Acquire-By-Hash"),
            architectures,
            has_index_of_all,
            pin: match (is_yes("NotAutomatic"), is_yes("ButAutomaticUpgrades")) {
                (false, _) => 500,
                (true, true) => 100,
                (true, false) => 1,
            },
            files,
            digest: Digest::sha256(text.as_bytes()),
        })
    }

    /// Whether it is what was asked for, and of our time. The error says why not.
    pub(crate) fn check(&self, source: &Source, dates: Dates) -> Result<(), String> {
        // As apt compares them: what is called buster/updates says that it is buster.
        let names = [self.suite.as_deref(), self.codename.as_deref()];
        let wanted = source.suite.as_str();
        let short = wanted.split('/').next().unwrap_or(wanted);
        let is_named = names.iter().flatten().any(|name| *name == wanted || *name == short);
        if !is_named && names != [None, None] {
            let mut names: Vec<&str> = names.into_iter().flatten().collect();
            names.dedup();
            return Err(format!("it is the release of {}, not of {wanted}", names.join(" or ")));
        }
        let check_date = source.check_date.unwrap_or(dates.check_date);
        if check_date && self.date > dates.now.saturating_add(AHEAD_SECONDS_MAX) {
            let hours = (self.date - dates.now) / 3600;
            return Err(format!("it is not valid yet, but in {hours} hours: is the clock right?"));
        }
        let check = check_date && source.check_valid_until.unwrap_or(dates.check_valid_until);
        match self.valid_until {
            Some(end) if check && end <= dates.now => {
                let days = (dates.now - end) / 86_400;
                Err(format!("it expired {days} days ago: is the mirror, or the clock, behind?"))
            }
            _ => Ok(()),
        }
    }
}

/// `Sat, 10 Jun 2023 08:53:33 UTC`, the day with one digit or two.
pub(crate) fn unix_seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = ["UTC", "GMT", "+0000", "Z"].iter().find_map(|zone| text.strip_suffix(zone))?;
    let (weekday, rest) = text.trim().split_once(", ")?;
    let rest = rest.trim_start();
    let zero = if rest.find(' ')? == 1 { "0" } else { "" };
    let time = httpdate::parse_http_date(&format!("{weekday}, {zero}{rest} GMT")).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(fields: &str) -> Result<Release, String> {
        let text =
            format!("{fields}SHA256:\n {HEX} 0 main/binary-amd64/Packages\n {HEX} 5 other\n");
        Release::parse(&text, |path| path.ends_with("Packages"))
    }

    #[test]
    fn dates() {
        let cases = [
            ("Sat, 10 Jun 2023 08:53:33 UTC", Some(1_686_387_213)),
            ("Sat,  3 Jun 2023 08:53:33 UTC", Some(1_685_782_413)),
            ("Sat, 3 Jun 2023 08:53:33 +0000", Some(1_685_782_413)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sat, 10 Jun 2023 08:53:33 CEST", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(unix_seconds(text), want, "{text}");
        }
    }

    #[test]
    fn what_a_release_says() {
        let date = "Date: Sat, 10 Jun 2023 08:53:33 UTC\n";
        let good = release(&format!(
            "Suite: stable\nCodename: bookworm\nArchitectures: all amd64\nAcquire-By-Hash: yes\n\
             No-Support-for-Architecture-all: Packages\n{date}"
        ))
        .unwrap();
        assert!(good.by_hash && !good.has_index_of_all && good.pin == 500);
        assert_eq!(good.files.keys().collect::<Vec<_>>(), ["main/binary-amd64/Packages"]);
        let backports = format!("NotAutomatic: yes\nButAutomaticUpgrades: yes\n{date}");
        assert_eq!(release(&backports).unwrap().pin, 100);
        let cases = [
            ("Suite: a\n", "no Date"),
            ("Date: x\n", "is no date"),
            ("\nA: b\n\n", "not one paragraph"),
        ];
        for (fields, want) in cases {
            let error = release(fields).unwrap_err();
            assert!(error.contains(want), "{fields}: {error}");
        }
        let weak = Release::parse(&format!("{date}MD5Sum:\n x 1 y\n"), |_| true).unwrap_err();
        assert!(weak.contains("older ones are weak"), "{weak}");
        for line in ["x 1 y", &format!("{HEX} x y"), &format!("{HEX} 1"), &format!("{HEX} 1 a b")] {
            assert!(
                Release::parse(&format!("{date}SHA256:\n {line}\n"), |_| true).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_checked() {
        const MADE: i64 = 1_686_387_213;
        let check = |names: &str, suite: &str, now, check_valid_until| {
            let release = release(&format!(
                "{names}Date: Sat, 10 Jun 2023 08:53:33 UTC\nValid-Until: Sat, 17 Jun 2023 08:53:33 UTC\n"
            ))
            .unwrap();
            let source = Source { suite: suite.into(), ..Source::default() };
            let dates = Dates { check_valid_until, check_date: true, now };
            release.check(&source, dates).err().unwrap_or_default()
        };
        let names = "Suite: stable-security\nCodename: bookworm-security\n";
        let cases = [
            (names, "bookworm-security", MADE, true, ""),
            (names, "stable-security", MADE, true, ""),
            (names, "bookworm", MADE, true, "not of bookworm"),
            ("Codename: buster\n", "buster/updates", MADE, true, ""),
            ("", "anything", MADE, true, ""),
            (names, "bookworm-security", MADE + 8 * 86_400, true, "it expired 1 days ago"),
            (names, "bookworm-security", MADE + 8 * 86_400, false, ""),
            (names, "bookworm-security", MADE - 86_400, true, "not valid yet, but in 24 hours"),
            (names, "bookworm-security", MADE - 60, true, ""),
        ];
        for (names, suite, now, check_valid_until, want) in cases {
            let got = check(names, suite, now, check_valid_until);
            assert!(
                got.contains(want) && got.is_empty() == want.is_empty(),
                "{suite} {now}: {got}"
            );
        }
    }
}
