//! Wildcards in the paths of `COPY` and `ADD`: `*`, `?`, `[a-z]`, `[^a]` and `\x`, as Go's
//! `filepath.Match` has them. None of them crosses a slash, but for a class that names it.
//!
//! Names of files are bytes: one that is no UTF-8 counts as a character for each wrong byte.

/// A pattern that means nothing: a class without an end, a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// Any characters but slashes.
    Star,
    /// One character that is no slash.
    Any,
    Byte(u8),
    Class(Class),
}

/// `[...]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    pub(crate) fn has(&self, ch: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&ch)) != self.negated
    }

    /// Reads a class behind its bracket, and what follows it.
    pub(crate) fn parse(text: &[u8]) -> Result<(Class, &[u8]), BadPattern> {
        let (negated, mut rest) = match text.strip_prefix(b"^") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut ranges = Vec::new();
        loop {
            if let Some(behind) = rest.strip_prefix(b"]")
                && !ranges.is_empty()
            {
                return Ok((Class { negated, ranges }, behind));
            }
            let (low, behind) = class_character(rest)?;
            let (high, behind) = match behind.strip_prefix(b"-") {
                Some(behind) => class_character(behind)?,
                None => (low, behind),
            };
            ranges.push((low, high));
            rest = behind;
        }
    }
}

/// A character of a class. Something has to follow it.
fn class_character(text: &[u8]) -> Result<(char, &[u8]), BadPattern> {
    let text = match text {
        [b'-' | b']', ..] => return Err(BadPattern),
        [b'\\', rest @ ..] => rest,
        text => text,
    };
    let (ch, length) = character(text);
    let is_wrong = ch == char::REPLACEMENT_CHARACTER && length == 1;
    if text.len() <= length || is_wrong { Err(BadPattern) } else { Ok((ch, &text[length..])) }
}

/// The first character and its length; a wrong byte is the replacement character.
pub(crate) fn character(text: &[u8]) -> (char, usize) {
    let longest = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(longest) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&longest[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(ch) => (ch, ch.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// A pattern, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: impl AsRef<[u8]>) -> Result<Glob, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = pattern.as_ref();
        while let [first, behind @ ..] = rest {
            rest = behind;
            tokens.push(match first {
                b'*' if tokens.last() == Some(&Token::Star) => continue,
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => {
                    let (class, behind) = Class::parse(rest)?;
                    rest = behind;
                    Token::Class(class)
                }
                b'\\' => {
                    let [escaped, behind @ ..] = rest else { return Err(BadPattern) };
                    rest = behind;
                    Token::Byte(*escaped)
                }
                byte => Token::Byte(*byte),
            });
        }
        Ok(Glob { tokens })
    }

    /// Whether a whole name matches.
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let (mut token, mut at) = (0, 0);
        // Where to go on when nothing matches: behind the last star, with one byte more in it.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let next = match self.tokens.get(token) {
                None if at == name.len() => return true,
                None => None,
                Some(Token::Star) => {
                    star = Some((token + 1, at));
                    Some((token + 1, at))
                }
                Some(Token::Byte(byte)) => {
                    (name.get(at) == Some(byte)).then_some((token + 1, at + 1))
                }
                Some(Token::Any) => match name.get(at) {
                    None | Some(b'/') => None,
                    Some(_) => Some((token + 1, at + character(&name[at..]).1)),
                },
                Some(Token::Class(class)) => name.get(at).and_then(|_| {
                    let (ch, length) = character(&name[at..]);
                    class.has(ch).then_some((token + 1, at + length))
                }),
            };
            (token, at) = match (next, star) {
                (Some(next), _) => next,
                (None, Some((behind, from))) if name.get(from).is_some_and(|b| *b != b'/') => {
                    star = Some((behind, from + 1));
                    (behind, from + 1)
                }
                _ => return false,
            };
        }
    }
}

/// Whether a name matches a pattern, as Go's `filepath.Match` says it.
///
/// ```
/// use hako_dockerfile::glob::matches;
///
/// assert_eq!(matches("*.[ch]", "main.c"), Ok(true));
/// assert_eq!(matches("*.c", "src/main.c"), Ok(false));
/// assert!(matches("[a", "a").is_err());
/// ```
pub fn matches(pattern: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    Glob::new(pattern).map(|glob| glob.matches(name))
}

/// Whether a path has wildcards that are not escaped.
pub fn has_wildcards(path: impl AsRef<[u8]>) -> bool {
    let mut bytes = path.as_ref().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// A path without `.`, `..`, and slashes that say nothing, as Go's `filepath.Clean` makes it.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_table() {
        for (pattern, name, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("a*b", "a/b", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-x]", "-", Some(true)),
            ("[x\\-]", "z", Some(false)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "a", None),
            ("a[", "ab", None),
            ("\\", "a", None),
            ("*x", "xxx", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
        ] {
            assert_eq!(matches(pattern, name).ok(), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches("a*", b"a\xff\xfe"), Ok(true));
        assert_eq!(matches(b"\xff*", b"\xffa"), Ok(true));
    }

    #[test]
    fn stars_cost_no_more_than_name_times_pattern() {
        let name = "a".repeat(20_000);
        let pattern = format!("{}b", "*a".repeat(200));
        assert_eq!(matches(pattern, name), Ok(false));
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a/b/..", "a"),
            ("a/../..", ".."),
            ("/../a//b/", "/a/b"),
            ("./a/./b", "a/b"),
            ("../../a", "../../a"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn escaped_wildcards_are_none() {
        assert!(has_wildcards("a*") && has_wildcards("\\\\*") && has_wildcards("[a"));
        assert!(!has_wildcards("a\\*") && !has_wildcards("a]"));
    }
}
