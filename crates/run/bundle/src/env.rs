//! `-e`, `--env-file`, `--label`, `--label-file`, `--annotation`.

use std::collections::BTreeMap;

use crate::options::EnvChange;

/// An assignment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// `-e =value`.
    #[error("invalid environment variable: {0}")]
    NoName(String),
    /// `--label =value`.
    #[error("invalid label '{0}': empty name")]
    NoLabelName(String),
    /// A NUL byte can be in no process's environment.
    #[error("invalid environment variable {0:?}: it contains a NUL byte")]
    Nul(String),
    /// A line of a file that starts with `=`.
    #[error("no variable name on line '{0}'")]
    NoNameOnLine(String),
    /// A name in a file with blanks in it or after it.
    #[error("variable '{0}' contains whitespaces")]
    Whitespace(String),
    /// A file that is not text.
    #[error("invalid utf8 bytes at line {0}")]
    NotUtf8(usize),
}

/// Reads `-e NAME=value`, or `-e NAME`, whose value is the caller's.
pub fn parse(text: &str, caller: impl Fn(&str) -> Option<String>) -> Result<EnvChange, EnvError> {
    if text.contains('\0') {
        return Err(EnvError::Nul(text.into()));
    }
    match text.split_once('=') {
        Some(("", _)) => Err(EnvError::NoName(text.into())),
        Some((name, value)) => Ok(EnvChange::Set(name.into(), value.into())),
        None if text.is_empty() => Err(EnvError::NoName(text.into())),
        None => Ok(match caller(text) {
            Some(value) => EnvChange::Set(text.into(), value),
            None => EnvChange::Unset(text.into()),
        }),
    }
}

/// Reads an `--env-file`. A name alone takes the caller's value; where the caller has none it
/// changes nothing (unlike `-e NAME`).
pub fn parse_file(
    bytes: &[u8],
    caller: impl Fn(&str) -> Option<String>,
) -> Result<Vec<EnvChange>, EnvError> {
    let mut changes = Vec::new();
    for_each_line(bytes, |name, value| {
        if let Some(value) = value.map(str::to_owned).or_else(|| caller(name)) {
            changes.push(EnvChange::Set(name.into(), value));
        }
    })?;
    Ok(changes)
}

/// Reads `--label NAME[=value]` or `--annotation NAME[=value]`.
pub fn parse_label(text: &str) -> Result<(String, String), EnvError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name {
        "" => Err(EnvError::NoLabelName(text.into())),
        _ => Ok((name.into(), value.into())),
    }
}

/// Reads a `--label-file`.
pub fn parse_label_file(bytes: &[u8]) -> Result<BTreeMap<String, String>, EnvError> {
    let mut labels = BTreeMap::new();
    for_each_line(bytes, |name, value| {
        labels.insert(name.into(), value.unwrap_or("").into());
    })?;
    Ok(labels)
}

/// Docker's files of assignments: blank lines and lines that begin with `#` say nothing, blanks
/// before a name are dropped, and everything behind `=` is the value, quotes and trailing blanks
/// included.
fn for_each_line(bytes: &[u8], mut each: impl FnMut(&str, Option<&str>)) -> Result<(), EnvError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| EnvError::NotUtf8(index + 1))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(EnvError::Nul(line.into()));
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(EnvError::NoNameOnLine(line.into()));
        }
        if name.contains([' ', '\t']) {
            return Err(EnvError::Whitespace(name.into()));
        }
        each(name, value);
    }
    Ok(())
}

/// The environment that `changes` make of `NAME=value` lines: a set name replaces its line in
/// place or is added behind; an unset name goes away. Of a name twice in `base` the last counts.
pub(crate) fn apply<'a>(
    base: impl IntoIterator<Item = &'a str>,
    changes: &[EnvChange],
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: Option<&str>| {
        let at = env.iter().position(|(n, _)| n == name);
        match (at, value) {
            (Some(at), Some(value)) => env[at].1 = value.into(),
            (Some(at), None) => {
                env.remove(at);
            }
            (None, Some(value)) => env.push((name.into(), value.into())),
            (None, None) => {}
        }
    };
    for line in base {
        // A name alone in an image's list means "not set", as in Docker.
        match line.split_once('=') {
            Some((name, value)) => set(name, Some(value)),
            None => set(line, None),
        }
    }
    for change in changes {
        match change {
            EnvChange::Set(name, value) => set(name, Some(value)),
            EnvChange::Unset(name) => set(name, None),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(name: &str) -> Option<String> {
        (name == "FOO").then(|| "from caller".into())
    }

    fn set(name: &str, value: &str) -> EnvChange {
        EnvChange::Set(name.into(), value.into())
    }

    #[test]
    fn one_variable() {
        for (text, expected) in [
            ("A=b", Ok(set("A", "b"))),
            ("A=", Ok(set("A", ""))),
            ("A=b=c", Ok(set("A", "b=c"))),
            ("A B= c ", Ok(set("A B", " c "))),
            ("FOO", Ok(set("FOO", "from caller"))),
            ("BAR", Ok(EnvChange::Unset("BAR".into()))),
            ("=b", Err(EnvError::NoName("=b".into()))),
            ("", Err(EnvError::NoName("".into()))),
            ("A=\0", Err(EnvError::Nul("A=\0".into()))),
        ] {
            assert_eq!(parse(text, caller), expected, "{text:?}");
        }
    }

    #[test]
    fn files() {
        for (text, expected) in [
            ("A=b\n\n# no\n  #no\nC=d\r\n", Ok(vec![set("A", "b"), set("C", "d")])),
            ("\u{feff}A=b", Ok(vec![set("A", "b")])),
            ("\t A= 'b' # kept ", Ok(vec![set("A", " 'b' # kept ")])),
            ("FOO\nBAR", Ok(vec![set("FOO", "from caller")])),
            ("", Ok(vec![])),
            ("=x", Err(EnvError::NoNameOnLine("=x".into()))),
            ("A =x", Err(EnvError::Whitespace("A ".into()))),
            ("A\tB", Err(EnvError::Whitespace("A\tB".into()))),
        ] {
            assert_eq!(parse_file(text.as_bytes(), caller), expected, "{text:?}");
        }
        assert_eq!(parse_file(b"A=b\nC=\xff", caller), Err(EnvError::NotUtf8(2)));
    }

    #[test]
    fn labels() {
        assert_eq!(parse_label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_label("a"), Ok(("a".into(), "".into())));
        assert_eq!(parse_label("=a"), Err(EnvError::NoLabelName("=a".into())));
        let labels = parse_label_file(b"# x\na=b\nc").unwrap();
        assert_eq!(labels, [("a".into(), "b".into()), ("c".into(), "".into())].into());
    }

    #[test]
    fn changes_keep_order() {
        let changes = [set("B", "2"), EnvChange::Unset("C".into()), set("D", "4"), set("D", "5")];
        let env = apply(["A=1", "B=1", "C=1", "A=3", "X"], &changes);
        let lines: Vec<_> = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(lines, ["A=3", "B=2", "D=5"]);
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(changes) = parse_file(&bytes, caller) {
                for change in changes {
                    let EnvChange::Set(name, value) = change else { panic!("{change:?}") };
                    prop_assert!(!name.is_empty() && !name.contains('='));
                    prop_assert!(!name.contains('\0') && !value.contains(['\0', '\n']));
                }
            }
        }
    }
}
