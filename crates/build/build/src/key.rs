//! What tells a step from every other: its parts, each by name.
//!
//! A key is the digest of its parts and nothing else, and the parts are kept with what the step
//! made. So whoever asks why a step was done again gets an answer from comparing two lists.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Changes when steps of the same parts come to do something else.
const VERSION: &str = "1";

/// Names and values of what a step depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Parts(Vec<(String, String)>);

impl Parts {
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The key: 64 hexadecimal digits.
    pub(crate) fn key(&self) -> String {
        let mut hasher = Sha256::new();
        let mut put = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        put(VERSION);
        for (name, value) in &self.0 {
            put(name);
            put(value);
        }
        hex(&hasher.finalize())
    }

    /// What is not in both, in the order of the one that is new: a line each.
    pub(crate) fn difference(&self, before: &Parts) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, value) in &self.0 {
            match before.get(name) {
                Some(old) if old == value => {}
                Some(old) => lines.push(match name.as_str() {
                    "base" => "an earlier step gave another result".to_owned(),
                    name if name.starts_with("file ") => format!("{name} changed"),
                    name => format!("{name} was {}, is {}", shown(old), shown(value)),
                }),
                None => lines.push(format!("{name} is new")),
            }
        }
        for (name, _) in &before.0 {
            if self.get(name).is_none() {
                lines.push(format!("{name} is gone"));
            }
        }
        lines
    }

    /// How many parts are in both.
    pub(crate) fn common(&self, other: &Parts) -> usize {
        self.0.iter().filter(|(name, value)| other.get(name) == Some(value)).count()
    }
}

/// A value, short enough for a line.
fn shown(value: &str) -> String {
    const CHARS: usize = 60;
    match value.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &str)]) -> Parts {
        Parts(list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn keys_differ_with_every_part() {
        let all = [
            parts(&[]),
            parts(&[("a", "b")]),
            parts(&[("a", "bc")]),
            parts(&[("ab", "c")]),
            parts(&[("a", ""), ("b", "")]),
            parts(&[("b", ""), ("a", "")]),
        ];
        let keys: std::collections::BTreeSet<String> = all.iter().map(Parts::key).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn what_changed_is_said_by_name() {
        let before = parts(&[("command", "make"), ("env A", "1"), ("file a", "x"), ("base", "p")]);
        let now = parts(&[("command", "make"), ("env A", "2"), ("file b", "x"), ("base", "q")]);
        assert_eq!(
            now.difference(&before),
            [
                "env A was \"1\", is \"2\"",
                "file b is new",
                "an earlier step gave another result",
                "file a is gone"
            ]
        );
        assert_eq!(now.common(&before), 1);
    }
}
