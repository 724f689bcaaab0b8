//! Where in a JSON text a value stands: for errors that name a field, or a line.
//!
//! A field is written as `mounts[3].options[1]` or `linux.sysctl["net.ipv4.ip_forward"]`.
//!
//! ```
//! use hako_oci::locate::{field_at, line_of};
//!
//! let text = "{\n \"process\": {\n  \"user\": {\"uid\": \"x\"}\n }\n}";
//! assert_eq!(line_of(text, "process.user.uid"), Some(3));
//! assert_eq!(field_at(text, 3, 21), "process.user.uid");
//! ```

use std::fmt::Write;

/// Deeper values are not looked at; serde_json reads no deeper either.
const DEPTH_MAX: usize = 128;

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    Index(usize),
}

/// The line, from 1, of the value of this field; where that is not there, of the nearest one around
/// it. `None` where nothing of it is there, or the text is no JSON up to it.
pub fn line_of(text: &str, field: &str) -> Option<usize> {
    let wanted = parse(field)?;
    let mut best: Option<(usize, usize)> = None;
    scan(text, &mut |path, at| {
        let depth = path.len();
        if depth > 0
            && wanted.get(..depth) == Some(path)
            && best.is_none_or(|(deepest, _)| depth > deepest)
        {
            best = Some((depth, at));
        }
        best.is_none_or(|(deepest, _)| deepest < wanted.len())
    });
    best.map(|(_, at)| 1 + text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count())
}

/// The field whose value begins last before this line and column (both from 1), as serde_json
/// counts them; empty for the whole document.
pub fn field_at(text: &str, line: usize, column: usize) -> String {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let end = start + column;
    let mut last = Vec::new();
    scan(text, &mut |path, at| {
        if at <= end {
            last.clear();
            last.extend_from_slice(path);
        }
        at <= end
    });
    write(&last)
}

fn write(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        let plain = |key: &str| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let dot = if text.is_empty() { "" } else { "." };
        let written = match part {
            Part::Index(i) => write!(text, "[{i}]"),
            Part::Key(key) if plain(key) => write!(text, "{dot}{key}"),
            Part::Key(key) => write!(text, "[{key:?}]"),
        };
        // A String takes all.
        debug_assert!(written.is_ok());
    }
    text
}

/// The parts of a path; `None` where it is none.
fn parse(field: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if inner.starts_with('"') {
                let length = string_end(inner.as_bytes(), 0)?;
                parts.push(Part::Key(serde_json::from_str(&inner[..length]).ok()?));
                rest = inner[length..].strip_prefix(']')?;
            } else {
                let (number, after) = inner.split_once(']')?;
                parts.push(Part::Index(number.parse().ok()?));
                rest = after;
            }
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let length = name.find(['.', '[']).unwrap_or(name.len());
            if length == 0 {
                return None;
            }
            parts.push(Part::Key(name[..length].to_owned()));
            rest = &name[length..];
        }
    }
    Some(parts)
}

/// Where the string that begins at `at` ends, behind its closing quote.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        match bytes.get(i)? {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
}

/// Calls `visit` with the path and the offset of each value, in order, until it returns false or
/// the text ends to be JSON.
fn scan(text: &str, visit: &mut dyn FnMut(&[Part], usize) -> bool) {
    let mut scanner = Scanner { text, at: 0, path: Vec::new(), visit };
    // How far it came is all that matters.
    let _end = scanner.value();
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Part>,
    visit: &'a mut dyn FnMut(&[Part], usize) -> bool,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(bytes[self.at])
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// One value with all in it; `None` where the scan ends.
    fn value(&mut self) -> Option<()> {
        let first = self.peek()?;
        if self.path.len() > DEPTH_MAX || !(self.visit)(&self.path, self.at) {
            return None;
        }
        match first {
            b'{' => self.members(b'}', |scanner| {
                let start = scanner.at;
                let key = scanner.string()?;
                let key = serde_json::from_str(&scanner.text[start..key]).ok()?;
                scanner.take(b':')?;
                Some(Part::Key(key))
            }),
            b'[' => {
                let mut next = 0;
                self.members(b']', |_| {
                    next += 1;
                    Some(Part::Index(next - 1))
                })
            }
            b'"' => self.string().map(|_| ()),
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest.find([',', ']', '}', '\n', ' ', '\t', '\r']).unwrap_or(rest.len());
                Some(())
            }
        }
    }

    fn string(&mut self) -> Option<usize> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at = string_end(self.text.as_bytes(), self.at)?;
        Some(self.at)
    }

    fn members(&mut self, end: u8, mut part: impl FnMut(&mut Self) -> Option<Part>) -> Option<()> {
        self.at += 1;
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            self.peek()?;
            let part = part(self)?;
            self.path.push(part);
            self.value()?;
            self.path.pop();
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "ociVersion": "1.0.0",
        "mounts": [
            {"destination": "/a"},
            {
                "destination": "/b",
                "options": ["ro", "x\"]}"]
            }
        ],
        "linux": {
            "sysctl": {"net.ipv4.x": "1", "plain": "2"},
            "resources": {"memory": {"limit": -1}}
        }
    }"#;

    #[test]
    fn lines_of_values_and_of_what_is_around_them() {
        for (field, line) in [
            ("ociVersion", Some(2)),
            ("mounts[0].destination", Some(4)),
            ("mounts[1]", Some(5)),
            ("mounts[1].options[1]", Some(7)),
            ("mounts[1].type", Some(5)),
            ("mounts[7]", Some(3)),
            ("linux.sysctl[\"net.ipv4.x\"]", Some(11)),
            ("linux.sysctl.plain", Some(11)),
            ("linux.resources.memory.limit", Some(12)),
            ("linux.devices", Some(10)),
            ("process.args", None),
            ("", None),
            ("mounts[x]", None),
            ("..", None),
        ] {
            assert_eq!(line_of(TEXT, field), line, "{field}");
        }
    }

    #[test]
    fn fields_at_the_errors_of_serde() {
        for (text, field) in [
            (r#"{"process": {"user": {"uid": "x"}}}"#, "process.user.uid"),
            (r#"{"mounts": [{}, {"options": [1]}]}"#, "mounts[1].options[0]"),
            (r#"{"annotations": {"a.b": 1}}"#, "annotations[\"a.b\"]"),
            (r#"{"linux": {"namespaces": {"x": 1}}}"#, "linux.namespaces"),
            ("{\n\"root\": {\"path\":\n 7}}", "root.path"),
            (r#"{"process": {"args": ["a" "b"]}}"#, "process.args[0]"),
        ] {
            let error = serde_json::from_str::<crate::runtime::Spec>(text).unwrap_err();
            assert_eq!(field_at(text, error.line(), error.column()), field, "{error}");
        }
    }

    #[test]
    fn texts_that_are_no_json_end_the_scan() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{\"a", "{\"a\"", "{\"a\":", "[1,", "\"\\", "{1:2}", &deep] {
            assert_eq!(line_of(text, "b.c"), None, "{text:.10}");
            assert!(field_at(text, usize::MAX, 1).len() < 1000);
            assert!(field_at(text, 1, usize::MAX / 2).len() < 1000);
        }
    }
}
