//! `--flags` of instructions: which there are, of what kind, and what was given.

use crate::{
    error::{Error, Problem},
    node::Node,
    source::Word,
    suggest,
};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `true` or `false`.
    Boolean,
    /// One value, once.
    Value,
    /// A value, as often as one likes.
    Values,
}

use Takes::{Boolean, Value, Values};

/// Flags that an instruction knows.
pub(crate) type Known = &'static [(&'static str, Takes)];

pub(crate) const NONE: Known = &[];
pub(crate) const FROM: Known = &[("platform", Value)];
pub(crate) const RUN: Known =
    &[("mount", Values), ("network", Value), ("security", Value), ("device", Values)];
pub(crate) const ADD: Known = &[
    ("exclude", Values),
    ("chown", Value),
    ("chmod", Value),
    ("link", Boolean),
    ("keep-git-dir", Boolean),
    ("checksum", Value),
    ("unpack", Boolean),
];
pub(crate) const COPY: Known = &[
    ("exclude", Values),
    ("parents", Boolean),
    ("chown", Value),
    ("from", Value),
    ("chmod", Value),
    ("link", Boolean),
];
pub(crate) const HEALTHCHECK: Known = &[
    ("interval", Value),
    ("timeout", Value),
    ("start-period", Value),
    ("start-interval", Value),
    ("retries", Value),
];

/// Flags that were given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Vec<(&'static str, Word)>,
}

impl Given {
    /// Reads the flags of an instruction.
    pub(crate) fn read(node: &Node, known: Known) -> Result<Given, Error> {
        let mut given = Given::default();
        for word in &node.flags {
            let error = |problem| Err(Error::new(problem, node.lines).at(word.span));
            let (flag, value) = match word.text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.text.as_str(), None),
            };
            let Some(name) = flag.strip_prefix("--") else {
                return error(Problem::NotAFlag(word.text.clone()));
            };
            let Some((name, takes)) = known.iter().copied().find(|(known, _)| *known == name)
            else {
                let near = suggest::nearest(name, known.iter().map(|(name, _)| *name));
                return error(Problem::UnknownFlag { name: flag.to_owned(), near });
            };
            if takes != Values && given.values.iter().any(|(seen, _)| *seen == name) {
                return error(Problem::FlagTwice(flag.to_owned()));
            }
            let value = match (takes, value) {
                (Boolean, None) => "true".to_owned(),
                (Boolean, Some("")) | (Value | Values, None) => {
                    return error(Problem::FlagValue(flag.to_owned()));
                }
                (Boolean, Some(value)) => match value.to_lowercase().as_str() {
                    lower @ ("true" | "false") => lower.to_owned(),
                    _ => {
                        return error(Problem::FlagBoolean(flag.to_owned(), value.to_owned()));
                    }
                },
                (Value | Values, Some(value)) => value.to_owned(),
            };
            given.values.push((name, Word::new(value, word.span)));
        }
        Ok(given)
    }

    /// The value of a flag; empty ones too.
    pub(crate) fn value(&self, name: &str) -> Option<&Word> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, word)| word)
    }

    /// The value of a flag for which an empty one means nothing.
    pub(crate) fn text(&self, name: &str) -> Option<Word> {
        self.value(name).filter(|word| !word.text.is_empty()).cloned()
    }

    /// All values of a flag.
    pub(crate) fn values(&self, name: &str) -> Vec<Word> {
        let given = self.values.iter().filter(|(given, _)| *given == name);
        given.map(|(_, word)| word.clone()).collect()
    }

    /// Whether a flag was switched on or off.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.value(name).map(|word| word.text == "true")
    }
}
