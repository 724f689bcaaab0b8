//! `--filter` of `images` and `image prune`, in Docker's words.

use hako_engine::{Engine, Summary, time::Timestamp};
use hako_oci::Reference;

use crate::{failure::Failure, flag, verbs::logs::moment};

/// Filters of `images`.
pub(super) const KEYS: &[&str] =
    &["reference", "dangling", "label", "label!", "before", "since", "until"];
pub(super) const HELP: &str = "reference=PATTERN, dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME";

/// Filters of `image prune`.
pub(super) const PRUNE_KEYS: &[&str] = &["dangling", "label", "label!", "until"];
pub(super) const PRUNE_HELP: &str =
    "until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=true|false";

/// Filters as they were typed.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

/// Filters that can be asked.
#[derive(Debug, Default)]
pub(super) struct Picker {
    patterns: Vec<String>,
    dangling: Option<bool>,
    /// Name, value if it matters, and whether it is wanted.
    labels: Vec<(String, Option<String>, bool)>,
    /// Made after this and before that, seconds since the epoch.
    after: Option<i64>,
    before: Option<i64>,
}

impl Filters {
    /// Adds one of these keys.
    pub(super) fn add(&mut self, text: &str, keys: &[&str]) -> Result<(), String> {
        let bad = || format!("bad format of filter (expected name=value): {text:?}");
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        if !keys.contains(&key) {
            return Err(format!("invalid filter '{key}'"));
        }
        if key == "dangling" && flag::parse_bool(value).is_none() {
            return Err(format!("invalid filter 'dangling={value}'"));
        }
        if key == "until" {
            moment(value, Timestamp::now())?;
        }
        self.0.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Adds a pattern of names.
    pub(super) fn add_reference(&mut self, pattern: String) {
        self.0.push(("reference".into(), pattern));
    }

    /// What was said of dangling images.
    pub(super) fn dangling(&self) -> Option<bool> {
        let said = self.0.iter().rev().find(|(key, _)| key == "dangling");
        said.and_then(|(_, value)| flag::parse_bool(value))
    }

    /// Looks up what other images the filters name.
    pub(super) fn resolve(&self, engine: &Engine) -> Result<Picker, Failure> {
        let mut picker = Picker { dangling: self.dangling(), ..Picker::default() };
        for (key, value) in &self.0 {
            match key.as_str() {
                "reference" => picker.patterns.push(value.clone()),
                "label" | "label!" => {
                    let (name, wanted) = match value.split_once('=') {
                        Some((name, wanted)) => (name, Some(wanted.to_owned())),
                        None => (value.as_str(), None),
                    };
                    picker.labels.push((name.to_owned(), wanted, key == "label"));
                }
                "before" => picker.is_before(engine.image(value)?.created()),
                "since" => {
                    let created = engine.image(value)?.created();
                    picker.after = picker.after.max(Some(created));
                }
                "until" => {
                    let time = moment(value, Timestamp::now()).map_err(Failure::new)?;
                    picker.is_before(time.seconds);
                }
                _ => {}
            }
        }
        Ok(picker)
    }
}

impl Picker {
    fn is_before(&mut self, time: i64) {
        self.before = Some(self.before.map_or(time, |known| known.min(time)));
    }

    /// Whether an image is wanted.
    pub(super) fn picks(&self, image: &Summary) -> bool {
        let dangling = image.names.is_empty() && image.digests.is_empty();
        let labelled = |(name, value, wanted): &(String, Option<String>, bool)| {
            let found = image.labels.get(name);
            let has = found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
            has == *wanted
        };
        (self.patterns.is_empty() || image.names.iter().any(|name| self.names(name)))
            && self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.labels.iter().all(labelled)
            && self.after.is_none_or(|after| image.created > after)
            && self.before.is_none_or(|before| image.created < before)
    }

    /// Whether a name of an image is one of those that were asked for.
    pub(super) fn names(&self, name: &Reference) -> bool {
        let familiar = name.familiar();
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, &familiar))
    }
}

/// A name or pattern, with or without tag, against a familiar name with tag.
fn matches(pattern: &str, tagged: &str) -> bool {
    let name = tagged.rsplit_once(':').map_or(tagged, |(name, _)| name);
    glob(pattern.as_bytes(), tagged.as_bytes()) || glob(pattern.as_bytes(), name.as_bytes())
}

/// `*` and `?` within one component, as Go's `path.Match` without classes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last star was, and where its match could be taken up again one byte later.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => (p, t) = (p + 1, t + 1),
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) if text[from] != b'/' => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("alpine", "alpine:3.10", true),
            ("alpine:3.10", "alpine:3.10", true),
            ("alpine:3.*", "alpine:3.10", true),
            ("al*", "alpine:3.10", true),
            ("*", "a/b:1", false),
            ("*/*", "a/b:1", true),
            ("a?pine", "alpine:1", true),
            ("alp", "alpine:1", false),
            ("*ne", "alpine:1", true),
            ("a*i*e", "alpine:1", true),
            ("", "alpine:1", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn filters() {
        let image = Summary {
            id: hako_oci::Digest::sha256(b""),
            names: vec!["a:1".parse().unwrap()],
            digests: Vec::new(),
            created: 100,
            size_bytes: 0,
            labels: std::collections::BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            platform: hako_oci::Platform::host(),
        };
        let picker = || Picker::default();
        let label = |name: &str, value: Option<&str>, wanted| Picker {
            labels: vec![(name.into(), value.map(str::to_owned), wanted)],
            ..picker()
        };
        for (picker, want) in [
            (Picker { patterns: vec!["a".into()], ..picker() }, true),
            (Picker { patterns: vec!["b".into()], ..picker() }, false),
            (Picker { dangling: Some(false), ..picker() }, true),
            (Picker { dangling: Some(true), ..picker() }, false),
            (label("k", None, true), true),
            (label("k", Some("v"), true), true),
            (label("x", None, true), false),
            (label("k", Some("w"), true), false),
            (label("k", None, false), false),
            (label("x", None, false), true),
            (Picker { after: Some(99), before: Some(101), ..picker() }, true),
            (Picker { after: Some(100), ..picker() }, false),
            (Picker { before: Some(100), ..picker() }, false),
        ] {
            assert_eq!(picker.picks(&image), want, "{picker:?}");
        }
        let mut typed = Filters::default();
        for (text, want) in [
            ("dangling=maybe", "invalid filter 'dangling=maybe'"),
            ("x=1", "invalid filter 'x'"),
            ("x", "bad format of filter (expected name=value): \"x\""),
            ("until=soon", "invalid value for a time: \"soon\""),
        ] {
            assert_eq!(typed.add(text, KEYS), Err(want.to_owned()));
        }
        assert_eq!(typed.add("dangling=0", PRUNE_KEYS), Ok(()));
        assert_eq!(typed.dangling(), Some(false));
    }
}
