//! Where something stands in a Dockerfile: bytes, lines, columns, and words that know their place.

use std::fmt;

/// Bytes `start..end` of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
}

impl Span {
    /// A span that also covers `other`.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Whether it covers nothing: what was made, not read, stands nowhere.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// Lines `first..=last`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// The first line.
    pub first: usize,
    /// The last line, which may be the first.
    pub last: usize,
}

impl Lines {
    /// One line.
    pub fn one(line: usize) -> Lines {
        Lines { first: line, last: line }
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A word, and where it was read.
///
/// Two words are equal when they say the same: where they stand is for messages only.
#[derive(Debug, Clone, Default, Eq)]
pub struct Word {
    /// What it says. Quotes and escapes stay in it where the instruction expands it later.
    pub text: String,
    /// Where it stands, with its quotes.
    pub span: Span,
}

impl Word {
    /// A word at a place.
    pub fn new(text: impl Into<String>, span: Span) -> Word {
        Word { text: text.into(), span }
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        self.text == other.text
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Word {
        Word::new(text, Span::default())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A file's name and bytes, with an index of its lines.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    bytes: Vec<u8>,
    /// Where each line begins. As many lines as `split('\n')` gives: a line feed at the end has an
    /// empty one behind it.
    starts: Vec<usize>,
}

impl Source {
    /// A file as it is.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Source {
        let bytes = bytes.into();
        let after = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts = std::iter::once(0).chain(after.map(|(at, _)| at + 1)).collect();
        Source { name: name.into(), bytes, starts }
    }

    /// The name it is shown by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of a line, without its line feed.
    pub fn line_span(&self, line: usize) -> Option<Span> {
        let start = *self.starts.get(line.checked_sub(1)?)?;
        let end = self.starts.get(line).map_or(self.bytes.len(), |next| next - 1);
        Some(Span { start, end })
    }

    /// A line as it is shown: what is no UTF-8 is replaced, a carriage return at its end is not.
    pub fn line(&self, line: usize) -> Option<String> {
        let span = self.line_span(line)?;
        Some(String::from_utf8_lossy(&self.bytes[span.start..span.end]).into_owned())
    }

    /// The line and column of a byte, both counted from 1; columns are characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let byte = byte.min(self.bytes.len());
        let line = self.starts.partition_point(|start| *start <= byte);
        let before = &self.bytes[self.starts[line - 1]..byte];
        (line, String::from_utf8_lossy(before).chars().count() + 1)
    }

    /// The bytes of a span; nothing where it leaves the file.
    pub fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start..span.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_from_one() {
        let source = Source::new("Dockerfile", "FROM a\nRÜN b\n");
        assert_eq!(source.lines(), 3);
        assert_eq!(source.line(2).as_deref(), Some("RÜN b"));
        assert_eq!(source.line(3).as_deref(), Some(""));
        assert_eq!(source.line(0), None);
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(7), (2, 1));
        assert_eq!(source.position(12), (2, 5));
        assert_eq!(source.position(99), (3, 1));
    }
}
