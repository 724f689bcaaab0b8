//! `.dockerignore`, and `--exclude`: which files of a directory are left out.
//!
//! ```text
//! # comment
//! *.log          at the top only: one star crosses no slash
//! **/*.log       anywhere
//! target         the file or directory, and all beneath
//! !target/keep   but not this; the last that matches wins
//! ```
//!
//! Rules are `moby/patternmatcher`'s: what matches a directory matches all beneath it.

use crate::glob::{self, BadPattern, Class, Glob, character};

/// Why patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A lone exclamation mark.
    #[error("illegal exclusion pattern: \"!\"")]
    Nothing,
    /// A pattern that means nothing.
    #[error("{pattern}: {source}")]
    Bad {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        source: BadPattern,
    },
}

/// The patterns of a `.dockerignore`, as [`Matcher::new`] takes them.
pub fn lines(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_prefix(crate::line::BOM).unwrap_or(bytes);
    let mut out = Vec::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let pattern = line.trim();
        if line.starts_with('#') || pattern.is_empty() {
            continue;
        }
        let (mark, path) = match pattern.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None => ("", pattern),
        };
        let path = if path.is_empty() { String::new() } else { glob::clean(path) };
        // Paths are relative to the context, however they are written.
        let path = match path.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => &path,
        };
        out.push(format!("{mark}{path}"));
    }
    out
}

/// Patterns, read.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// What is known of a directory, for those beneath it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// For each pattern, whether it matched the directory or one above. Empty at the top.
    matched: Vec<bool>,
}

impl Matcher {
    /// Reads patterns. Empty ones are none.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Matcher, Error> {
        let mut matcher = Matcher::default();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let pattern = glob::clean(pattern);
            let (negated, text) = match pattern.strip_prefix('!') {
                Some("") => return Err(Error::Nothing),
                Some(text) => (true, text),
                None => (false, pattern.as_str()),
            };
            matcher.patterns.push(Pattern::new(text, negated)?);
        }
        Ok(matcher)
    }

    /// Reads a `.dockerignore`.
    ///
    /// ```
    /// let matcher = hako_dockerfile::ignore::Matcher::of_file(b"target\n!target/keep\n")?;
    /// assert!(matcher.is_ignored("target/debug/a"));
    /// assert!(!matcher.is_ignored("target/keep"));
    /// # Ok::<(), hako_dockerfile::ignore::Error>(())
    /// ```
    pub fn of_file(bytes: &[u8]) -> Result<Matcher, Error> {
        Matcher::new(lines(bytes))
    }

    /// Whether nothing is ever left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there are patterns with an exclamation mark.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Whether everything at the top is left out: `*`, `**` or `**/*`.
    pub fn ignores_all(&self) -> bool {
        let all = |pattern: &Pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*");
        self.patterns.iter().any(|pattern| !pattern.negated && all(pattern))
    }

    /// Whether a path, relative and with slashes, is left out. For a walk, [`Matcher::below`] asks
    /// less of each pattern.
    pub fn is_ignored(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let parents = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut ignored = false;
        for pattern in &self.patterns {
            // A pattern that would change nothing need not be asked.
            if pattern.negated == ignored
                && (pattern.matches(path)
                    || parents().any(|(end, _)| pattern.matches(&path[..end])))
            {
                ignored = !pattern.negated;
            }
        }
        ignored
    }

    /// Whether an entry of a directory is left out, and what to know of it for those beneath.
    /// `parent` is what was said of the directory; of the top, the default.
    pub fn below(&self, path: impl AsRef<[u8]>, parent: &Seen) -> (bool, Seen) {
        let path = path.as_ref();
        let mut ignored = false;
        let mut seen = Seen { matched: vec![false; self.patterns.len()] };
        for (at, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.matched.get(at).copied().unwrap_or(false);
            if inherited || (pattern.negated == ignored && pattern.matches(path)) {
                seen.matched[at] = true;
                ignored = !pattern.negated;
            }
        }
        (ignored, seen)
    }

    /// Whether a directory that is left out may be skipped whole: nothing beneath it can be an
    /// exception.
    pub fn may_skip(&self, directory: impl AsRef<[u8]>) -> bool {
        let directory = directory.as_ref();
        !self.patterns.iter().any(|pattern| pattern.negated && pattern.may_match_below(directory))
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    negated: bool,
    /// Whether the text is the path itself.
    literal: bool,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
enum Token {
    /// `*`: no slash.
    Star,
    /// `?`: one character, no slash.
    Any,
    /// Begins `**/`: what follows, [`Token::Directories`], may be left out.
    Optional,
    /// `**/`: anything up to a slash.
    Directories,
    /// `**` at the end: anything.
    Rest,
    Class(Class),
    Literal(char),
}

/// Characters of a path; a byte that is no UTF-8 is the replacement character.
fn characters(path: &[u8]) -> Vec<char> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        let (ch, length) = character(rest);
        out.push(ch);
        rest = &rest[length..];
    }
    out
}

impl Pattern {
    fn new(text: &str, negated: bool) -> Result<Pattern, Error> {
        let bad = |source| Error::Bad { pattern: text.to_owned(), source };
        // What Go's filepath.Match refuses is refused, though this is not how it is matched.
        Glob::new(text).map_err(bad)?;
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = &rest[first.len_utf8()..];
            let token = match first {
                '*' => match rest.strip_prefix('*') {
                    None => Token::Star,
                    Some(behind) => {
                        rest = behind.strip_prefix('/').unwrap_or(behind);
                        if rest.is_empty() {
                            Token::Rest
                        } else {
                            tokens.push(Token::Optional);
                            Token::Directories
                        }
                    }
                },
                '?' => Token::Any,
                '[' => {
                    let (class, behind) = Class::parse(rest.as_bytes()).map_err(bad)?;
                    rest = &rest[rest.len() - behind.len()..];
                    Token::Class(class)
                }
                '\\' => {
                    let Some(escaped) = rest.chars().next() else { return Err(bad(BadPattern)) };
                    rest = &rest[escaped.len_utf8()..];
                    Token::Literal(escaped)
                }
                ch => Token::Literal(ch),
            };
            tokens.push(token);
        }
        let plain = |tokens: &[Token]| {
            !text.contains('\\') && tokens.iter().all(|token| matches!(token, Token::Literal(_)))
        };
        // `**x` is any path that ends so, not only one with a part that begins so.
        if text.starts_with("**")
            && !text.starts_with("**/")
            && tokens.len() > 2
            && plain(&tokens[2..])
        {
            tokens.splice(..2, [Token::Rest]);
        }
        let literal = plain(&tokens);
        Ok(Pattern { text: text.to_owned(), negated, literal, tokens })
    }

    fn matches(&self, path: &[u8]) -> bool {
        if self.literal {
            return path == self.text.as_bytes();
        }
        // Most paths differ in the first character.
        if let (Some(Token::Literal(first)), [byte, ..]) = (self.tokens.first(), path)
            && first.is_ascii()
            && *first as u8 != *byte
        {
            return false;
        }
        self.walk(&characters(path)).is_some_and(|states| states[self.tokens.len()])
    }

    /// Whether something beneath a directory can match.
    fn may_match_below(&self, directory: &[u8]) -> bool {
        let mut path = characters(directory);
        path.push('/');
        self.walk(&path).is_some_and(|states| states[..self.tokens.len()].contains(&true))
    }

    /// The tokens that may follow when all of a path was read; nothing where it cannot match.
    /// All ways to match are followed at once: no path takes longer than path times pattern.
    fn walk(&self, path: &[char]) -> Option<Vec<bool>> {
        let end = self.tokens.len();
        let mut here = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        here[0] = true;
        self.skip(&mut here);
        for ch in path {
            next.fill(false);
            for (token, kind) in self.tokens.iter().enumerate() {
                if !here[token] {
                    continue;
                }
                match kind {
                    Token::Star if *ch != '/' => next[token] = true,
                    Token::Any if *ch != '/' => next[token + 1] = true,
                    Token::Rest => next[token] = true,
                    Token::Directories => {
                        next[token] = true;
                        next[token + 1] |= *ch == '/';
                    }
                    Token::Class(class) if class.has(*ch) => next[token + 1] = true,
                    Token::Literal(literal) if literal == ch => next[token + 1] = true,
                    _ => {}
                }
            }
            if !next.contains(&true) {
                return None;
            }
            self.skip(&mut next);
            std::mem::swap(&mut here, &mut next);
        }
        Some(here)
    }

    /// Adds the tokens that are reached without reading anything.
    fn skip(&self, states: &mut [bool]) {
        for (token, kind) in self.tokens.iter().enumerate() {
            if !states[token] {
                continue;
            }
            match kind {
                Token::Star | Token::Rest => states[token + 1] = true,
                Token::Optional => {
                    states[token + 1] = true;
                    states[token + 2] = true;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_moby_s_do() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir/file", true),
            ("**/dir", "a/dir", true),
            ("**/dir", "adir", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dirfile", true),
            ("**/file", "dir/file", true),
            ("**/fi*", "dir/file.txt", true),
            ("**/*.txt", "dir/file.txt", true),
            ("**/*.txt", "file.txt", true),
            ("*.txt", "dir/file.txt", false),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            ("abc.def", "abcddef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abc/def", false),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            (
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                true,
            ),
            ("./a", "a", true),
            ("a/", "a/b", true),
            ("a/../b", "b", true),
            ("/a", "a", false),
            (".", "a", false),
            ("a", "b/a", false),
            ("a/b/c", "a/b/c/d/e", true),
        ] {
            let matcher = Matcher::new([pattern]).unwrap();
            assert_eq!(matcher.is_ignored(path), expected, "{pattern} {path}");
            assert_eq!(walked(&matcher, path), expected, "{pattern} {path}, walked");
        }
    }

    /// Whether a walk that skips what may be skipped comes to a path, and takes it.
    fn walked(matcher: &Matcher, path: &str) -> bool {
        let mut seen = Seen::default();
        let mut ignored = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (ignored, seen) = matcher.below(&path[..end], &seen);
            if ignored && matcher.may_skip(&path[..end]) {
                return true;
            }
        }
        ignored
    }

    #[test]
    fn the_last_that_matches_wins() {
        for (patterns, path, expected) in [
            (&["*", "!a"][..], "a", false),
            (&["*", "!a"], "a/b", false),
            (&["*", "!a"], "b", true),
            (&["*", "!a", "a/b"], "a/b", true),
            (&["*", "!a", "a/b"], "a/b/c", true),
            (&["*", "!a", "a/b"], "a/c", false),
            (&["!a", "*"], "a", true),
            (&["a", "!a/b/c"], "a/b/c", false),
            (&["a", "!a/b/c"], "a/b/d", true),
            (&["**", "!a", "!**/*.md"], "x/y.md", false),
            (&["**", "!util/docker/web", "!util/docker/web/foo"], "util/docker/web/foo", false),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["docs/", "!docs"], "docs/a", false),
        ] {
            let matcher = Matcher::new(patterns).unwrap();
            assert_eq!(matcher.is_ignored(path), expected, "{patterns:?} {path}");
            assert_eq!(walked(&matcher, path), expected, "{patterns:?} {path}, walked");
        }
    }

    #[test]
    fn directories_are_skipped_where_no_exception_can_be() {
        let matcher = Matcher::new(["a", "b", "!b/c/*.d"]).unwrap();
        assert!(matcher.may_skip("a") && matcher.may_skip("b/x"));
        assert!(!matcher.may_skip("b") && !matcher.may_skip("b/c"));
        assert!(matcher.may_skip("b/c/x"));
        assert!(!Matcher::new(["a", "!**/x"]).unwrap().may_skip("a/b"));
    }

    #[test]
    fn lines_of_a_file() {
        let text = "\u{feff}# c\n a \n\n!\tb/../c\n/d/\r\n  # no comment\n!/\n./x/\n";
        assert_eq!(lines(text.as_bytes()), ["a", "!c", "d", "# no comment", "!/", "x"]);
        assert!(Matcher::of_file(b"# x\n\n").unwrap().is_empty());
        assert_eq!(Matcher::of_file(b"!\n").unwrap_err(), Error::Nothing);
        let error = Matcher::of_file(b"a[\n").unwrap_err();
        assert_eq!(error.to_string(), "a[: syntax error in pattern");
    }
}
