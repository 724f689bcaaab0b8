//! Parser directives, and how the frontend that a file asks for is found.

use serde_json::Value;

use crate::line::BOM;

/// Names that are directives. Any other ends them.
const NAMES: &[&str] = &["syntax", "escape", "check"];

/// The name, in lower case, and value of a comment that is a directive. `text` is what follows
/// the number sign.
pub(crate) fn of_comment(text: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    let length = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (name, rest) = text.split_at(length);
    if !name.starts_with(|ch: char| ch.is_ascii_alphabetic()) {
        return None;
    }
    // White space as regular expressions know it.
    let is_space = |ch: char| matches!(ch, '\t' | '\n' | '\x0c' | '\r' | ' ');
    let value = rest.trim_start_matches(is_space).strip_prefix('=')?;
    let value = value.trim_matches(is_space);
    let name = name.to_ascii_lowercase();
    (NAMES.contains(&name.as_str()) && !value.is_empty()).then(|| (name, value.to_owned()))
}

/// Which image a file names as its frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The image, as `docker/dockerfile:1`.
    pub image: String,
    /// The whole value: words behind the image are its arguments.
    pub command: String,
    /// The line it stands on; 0 where the file is JSON.
    pub line: usize,
}

/// The frontend a file of any language asks for: `# syntax=`, `// syntax=`, or the member `syntax`
/// of a JSON object. A first line that begins with `#!` is skipped.
pub fn detect_syntax(bytes: &[u8]) -> Option<Syntax> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let (bytes, skipped) = match bytes.strip_prefix(b"#!") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            (&rest[end..], 1)
        }
        None => (bytes, 0),
    };
    let marked = |mark: &str| {
        let mut seen = Vec::new();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (name, value) = of_comment(line.strip_prefix(mark.as_bytes())?)?;
            if seen.contains(&name) {
                return None;
            }
            if name == "syntax" {
                let image = value.split(' ').next().unwrap_or_default().to_owned();
                return Some(Syntax { image, command: value, line: skipped + at + 1 });
            }
            seen.push(name);
        }
        None
    };
    marked("#").or_else(|| marked("//")).or_else(|| {
        let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return None };
        let command = object.get("syntax")?.as_str()?.to_owned();
        Some(Syntax { image: command.clone(), command, line: 0 })
    })
}

/// The value of a file's `check` directive, up to its first space.
pub(crate) fn check(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (name, value) = of_comment(line.strip_prefix(b"#")?)?;
        if name == "check" {
            return value.split(' ').next().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_comments_of_a_form() {
        for (comment, expected) in [
            (" syntax=a/b:1 ", Some(("syntax", "a/b:1"))),
            ("Escape = `", Some(("escape", "`"))),
            ("check=skip=all;error=true", Some(("check", "skip=all;error=true"))),
            (" unknown=a", None),
            (" syntax = ", None),
            (" syntax", None),
            ("1syntax=a", None),
            (" syn tax=a", None),
        ] {
            let found = of_comment(comment.as_bytes());
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(found, expected, "{comment:?}");
        }
    }

    #[test]
    fn the_frontend_is_found_in_any_language() {
        for (text, expected) in [
            ("# syntax=a:1 x y\nFROM b", Some(("a:1", "a:1 x y", 1))),
            ("# escape=`\n#syntax=a\nFROM b", Some(("a", "a", 2))),
            ("\u{feff}#!/usr/bin/env x\r\n# syntax=a\r\n", Some(("a", "a", 2))),
            ("// syntax=a\n", Some(("a", "a", 1))),
            ("{\"syntax\": \"a b\"}", Some(("a b", "a b", 0))),
            ("{\"syntax\": 1}", None),
            ("# a comment\n# syntax=a\n", None),
            ("FROM b\n# syntax=a\n", None),
            ("", None),
        ] {
            let found = detect_syntax(text.as_bytes());
            let found = found.as_ref().map(|s| (s.image.as_str(), s.command.as_str(), s.line));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
