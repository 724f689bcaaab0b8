//! Instructions as they stand in the file: physical lines joined at their continuations, comments
//! and directives taken out, and a map from the joined text back to the bytes it came from.

use crate::{
    ast::{Directive, Escape},
    directive,
    error::{Error, Problem},
    source::{Lines, Span, Word},
};

/// What Go's scanner holds of one line, with its line feed: longer ones BuildKit does not read.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The mark that Windows editors put at the beginning of a file.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// An instruction on one line.
#[derive(Debug)]
pub(crate) struct Logical {
    /// The joined text.
    pub(crate) text: String,
    /// Where pieces of the text come from: (offset in the text, offset in the source).
    map: Vec<(usize, usize)>,
    /// Its lines, without those of heredocs.
    pub(crate) lines: Lines,
    /// Comments directly above.
    pub(crate) comments: Vec<String>,
    /// Whether an empty line stands among its continuations.
    pub(crate) empty_continuation: bool,
}

impl Logical {
    /// Where `start..end` of the text stands.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let source = |at: usize| {
            let piece = self.map.partition_point(|(text, _)| *text <= at).max(1) - 1;
            let (text, source) = self.map[piece];
            source + at.saturating_sub(text)
        };
        let start_at = source(start);
        Span { start: start_at, end: if end > start { source(end - 1) + 1 } else { start_at } }
    }

    /// A word of the text.
    pub(crate) fn word(&self, start: usize, end: usize) -> Word {
        Word::new(&self.text[start..end], self.span(start, end))
    }
}

/// Reads a file line by line.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many lines were read.
    pub(crate) line: usize,
    /// What escapes, once directives have said so.
    pub(crate) escape: Escape,
    /// Directives so far.
    pub(crate) directives: Vec<Directive>,
    directives_may_follow: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            bytes,
            at: if bytes.starts_with(BOM) { BOM.len() } else { 0 },
            line: 0,
            escape: Escape::default(),
            directives: Vec::new(),
            directives_may_follow: true,
        }
    }

    /// The next line with its line feed, and where it begins.
    pub(crate) fn physical(&mut self) -> Result<Option<(&'a [u8], usize)>, Error> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(rest.len(), |end| end + 1);
        self.line += 1;
        if length > LINE_BYTES_MAX || (end.is_none() && length == LINE_BYTES_MAX) {
            return Err(Error::new(Problem::LongLine, Lines::one(self.line)));
        }
        let start = self.at;
        self.at += length;
        Ok(Some((&rest[..length], start)))
    }

    /// The next instruction, or nothing at the end.
    pub(crate) fn logical(&mut self) -> Result<Option<Logical>, Error> {
        let mut comments = Vec::new();
        while let Some((line, start)) = self.physical()? {
            let (line, skipped) = trimmed_start(without_line_end(line));
            if line.first() == Some(&b'#') {
                if self.directive(line)? {
                    continue;
                }
                let comment = String::from_utf8_lossy(&line[1..]).trim().to_owned();
                if comment.is_empty() {
                    comments.clear();
                } else {
                    comments.push(comment);
                }
                continue;
            }
            self.directives_may_follow = false;
            if line.is_empty() {
                comments.clear();
                continue;
            }
            return self.joined(line, start + skipped, comments).map(Some);
        }
        Ok(None)
    }

    fn joined(
        &mut self,
        first: &'a [u8],
        start: usize,
        comments: Vec<String>,
    ) -> Result<Logical, Error> {
        let mut logical = Logical {
            text: String::new(),
            map: Vec::new(),
            lines: Lines::one(self.line),
            comments,
            empty_continuation: false,
        };
        let mut ended = !self.add(&mut logical, first, start)?;
        while !ended {
            let Some((line, start)) = self.physical()? else { break };
            logical.lines.last = self.line;
            let line = without_line_end(line);
            let (content, _) = trimmed_start(line);
            match content.first() {
                Some(b'#') => {}
                None => logical.empty_continuation = true,
                Some(_) => ended = !self.add(&mut logical, line, start)?,
            }
        }
        Ok(logical)
    }

    /// Adds a line without the character that continues it; true where it is continued.
    fn add(&self, logical: &mut Logical, line: &[u8], start: usize) -> Result<bool, Error> {
        let (line, continued) = match continued(line, self.escape) {
            Some(line) => (line, true),
            None => (line, false),
        };
        let text = std::str::from_utf8(line)
            .map_err(|_| Error::new(Problem::NotUtf8, Lines::one(self.line)))?;
        logical.map.push((logical.text.len(), start));
        logical.text.push_str(text);
        Ok(continued)
    }

    /// Whether a comment is a directive; it is kept where it is one.
    fn directive(&mut self, comment: &[u8]) -> Result<bool, Error> {
        if !self.directives_may_follow {
            return Ok(false);
        }
        let Some((name, value)) = directive::of_comment(&comment[1..]) else {
            self.directives_may_follow = false;
            return Ok(false);
        };
        let error = |problem| Error::new(problem, Lines::one(self.line));
        if self.directives.iter().any(|seen| seen.name == name) {
            return Err(error(Problem::DirectiveTwice(name)));
        }
        if name == "escape" {
            self.escape = match value.as_str() {
                "\\" => Escape::Backslash,
                "`" => Escape::Backtick,
                _ => return Err(error(Problem::EscapeToken(value))),
            };
        }
        self.directives.push(Directive { name, value, line: self.line });
        Ok(true)
    }
}

/// The line without the escape at its end (and blanks behind that), if there is one. Two escapes
/// are no continuation.
fn continued(line: &[u8], escape: Escape) -> Option<&[u8]> {
    let blanks = line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let escape = escape.char() as u8;
    match &line[..line.len() - blanks] {
        [.., before, last] if *last == escape && *before == escape => None,
        [rest @ .., last] if *last == escape => Some(rest),
        _ => None,
    }
}

/// Without carriage returns and line feeds at the end.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    &line[..end.map_or(0, |last| last + 1)]
}

/// Without white space at the beginning, and how many bytes that was.
fn trimmed_start(line: &[u8]) -> (&[u8], usize) {
    // Beyond ASCII there is white space too; bytes that are no UTF-8 are none.
    let valid = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
    };
    let skipped = valid.len() - valid.trim_start().len();
    (&line[skipped..], skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Lines, bool)> {
        let mut reader = Reader::new(text.as_bytes());
        std::iter::from_fn(|| reader.logical().unwrap())
            .map(|logical| (logical.text, logical.lines, logical.empty_continuation))
            .collect()
    }

    fn lines(first: usize, last: usize) -> Lines {
        Lines { first, last }
    }

    #[test]
    fn lines_are_joined_at_their_ends() {
        for (text, expected) in [
            ("RUN a \\\n  b", vec![("RUN a   b", lines(1, 2), false)]),
            ("RUN a \\ \t\r\nb\r\n", vec![("RUN a b", lines(1, 2), false)]),
            ("RUN a \\\n# c \\\n  # d\nb", vec![("RUN a b", lines(1, 4), false)]),
            ("RUN a \\\n\n \t\nb", vec![("RUN a b", lines(1, 4), true)]),
            ("RUN a \\\\\nb", vec![("RUN a \\\\", lines(1, 1), false), ("b", lines(2, 2), false)]),
            ("RUN a \\", vec![("RUN a ", lines(1, 1), false)]),
            ("\\\nRUN a", vec![("RUN a", lines(1, 2), false)]),
            ("# escape=`\nRUN a `\nb \\\n", vec![("RUN a b \\", lines(2, 3), false)]),
            ("\u{feff}RUN a", vec![("RUN a", lines(1, 1), false)]),
            ("\n \n\tRUN a", vec![("RUN a", lines(3, 3), false)]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(text, at, empty)| (text.to_owned(), at, empty))
                .collect();
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_know_where_they_stand() {
        let text = "RUN  a\\\n# x\n bc \\\n d";
        let logical = Reader::new(text.as_bytes()).logical().unwrap().unwrap();
        assert_eq!(logical.text, "RUN  a bc  d");
        for (word, at) in [("RUN", 0), ("a", 5), ("bc", 7), ("d", 11)] {
            let span = logical.span(at, at + word.len());
            assert_eq!(&text[span.start..span.end], word);
        }
        assert_eq!(&text[logical.span(5, 9).start..logical.span(5, 9).end], "a\\\n# x\n bc");
    }

    #[test]
    fn comments_above_are_kept_until_an_empty_one() {
        for (text, expected) in [
            ("# a\n#b \nRUN", vec!["a", "b"]),
            ("# a\n#\n# b\nRUN", vec!["b"]),
            ("# a\n\n# b\nRUN", vec!["b"]),
            ("# syntax=x\n# a\nRUN", vec!["a"]),
            ("# a\n# syntax=x\nRUN", vec!["a", "syntax=x"]),
        ] {
            let logical = Reader::new(text.as_bytes()).logical().unwrap().unwrap();
            assert_eq!(logical.comments, expected, "{text:?}");
        }
    }

    #[test]
    fn lines_have_a_bound() {
        let fits = "a".repeat(LINE_BYTES_MAX - 1);
        assert_eq!(read(&fits).len(), 1);
        assert_eq!(read(&format!("{fits}\n")).len(), 1);
        for long in [format!("{fits}a"), format!("{fits}a\n")] {
            let error = Reader::new(long.as_bytes()).logical().unwrap_err();
            assert_eq!(*error.problem, Problem::LongLine);
        }
    }
}
