//! Paragraphs of fields: the format of control files, indexes and `.sources` (deb822(5)).
//!
//! ```text
//! Package: hello
//! Description: a greeting
//!  Its text goes on in lines that begin with a space.
//!
//! Package: next
//! ```

use std::{
    io::{self, BufRead},
    ops::Range,
};

/// The longest paragraph. Some of Debian's have 100 KB, for what they provide.
const PARAGRAPH_BYTES_MAX: usize = 4 << 20;
const FIELDS_MAX: usize = 1000;

/// Why something is no paragraph.
#[derive(Debug, thiserror::Error)]
pub enum Deb822Error {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It breaks the format.
    #[error("line {line}: {why}")]
    Form {
        /// Counted from one, over the whole input.
        line: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Fields in their order. Names are looked up in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph {
    text: String,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Paragraph {
    /// A field's value without the spaces around it; its further lines as they are.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (&self.text[name.clone()], &self.text[value.clone()]))
    }

    /// The paragraph as it was read, without comments.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }
}

/// Reads paragraphs one after another, and never more than one into memory.
#[derive(Debug)]
pub struct Paragraphs<R> {
    reader: R,
    line: u64,
    buffer: Vec<u8>,
    comments: bool,
}

impl<R: BufRead> Paragraphs<R> {
    /// Reads an index or a control file, which have no comments.
    pub fn new(reader: R) -> Paragraphs<R> {
        Paragraphs { reader, line: 0, buffer: Vec::new(), comments: false }
    }

    /// Reads a file that people write: a line that begins with `#` is a comment.
    pub fn with_comments(reader: R) -> Paragraphs<R> {
        Paragraphs { comments: true, ..Paragraphs::new(reader) }
    }

    /// What has not been read yet.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// Reads the next paragraph in place of the last one; false at the end.
    pub fn read(&mut self, paragraph: &mut Paragraph) -> Result<bool, Deb822Error> {
        paragraph.clear();
        while self.read_line()? {
            let wrong = |why| Deb822Error::Form { line: self.line, why };
            if self.comments && self.buffer.first() == Some(&b'#') {
                continue;
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                if paragraph.fields.is_empty() {
                    continue;
                }
                return Ok(true);
            }
            if paragraph.text.len() + self.buffer.len() > PARAGRAPH_BYTES_MAX {
                return Err(wrong("the paragraph is too long"));
            }
            let line = str::from_utf8(&self.buffer).map_err(|_| wrong("it is not UTF-8"))?;
            if line.contains('\0') {
                return Err(wrong("there is a zero byte in it"));
            }
            let start = paragraph.text.len();
            if line.starts_with([' ', '\t']) {
                let Some((_, value)) = paragraph.fields.last_mut() else {
                    return Err(wrong("a field's further line comes before any field"));
                };
                paragraph.text.push_str(line);
                // A field whose first line is empty begins where its text does.
                if value.start == value.end {
                    value.start = start;
                }
                value.end = start + line.trim_end().len();
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
            let is_name = |b: u8| b.is_ascii_graphic();
            if name.is_empty() || !name.bytes().all(is_name) || name.starts_with(['-', '#']) {
                return Err(wrong("what stands before the colon is no field's name"));
            }
            if paragraph.get(name).is_some() {
                return Err(wrong("the field is there twice"));
            }
            if paragraph.fields.len() == FIELDS_MAX {
                return Err(wrong("there are too many fields"));
            }
            let lead = value.len() - value.trim_start().len();
            let at = start + name.len() + 1 + lead;
            paragraph.fields.push((start..start + name.len(), at..at + value.trim().len()));
            paragraph.text.push_str(line);
        }
        Ok(!paragraph.fields.is_empty())
    }

    /// The next line, with its end, which it always has afterwards; false where there is none.
    fn read_line(&mut self) -> Result<bool, Deb822Error> {
        self.buffer.clear();
        loop {
            let available = match self.reader.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                break;
            }
            let end = memchr(available);
            let taken = end.map_or(available.len(), |at| at + 1);
            self.buffer.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
            if self.buffer.len() > PARAGRAPH_BYTES_MAX {
                return Err(Deb822Error::Form { line: self.line + 1, why: "the line is too long" });
            }
        }
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.last() != Some(&b'\n') {
            self.buffer.push(b'\n');
        }
        while self.buffer.ends_with(b"\r\n") {
            self.buffer.truncate(self.buffer.len() - 2);
            self.buffer.push(b'\n');
        }
        Ok(true)
    }
}

/// Where the line ends.
fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

/// All paragraphs of a text that is in memory.
pub fn paragraphs(text: &[u8], comments: bool) -> Result<Vec<Paragraph>, Deb822Error> {
    let mut reader = Paragraphs { comments, ..Paragraphs::new(text) };
    let mut all = Vec::new();
    let mut paragraph = Paragraph::default();
    while reader.read(&mut paragraph)? {
        all.push(std::mem::take(&mut paragraph));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as `A=b`, paragraphs with a bar between them.
    fn shown(text: &str, comments: bool) -> Result<String, String> {
        let all = paragraphs(text.as_bytes(), comments).map_err(|e| e.to_string())?;
        let fields = |p: &Paragraph| {
            p.fields().map(|(name, value)| format!("{name}={value};")).collect::<String>()
        };
        Ok(all.iter().map(fields).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn paragraphs_are_read() {
        let cases: &[(&str, bool, Result<&str, &str>)] = &[
            ("", false, Ok("")),
            ("\n\n", false, Ok("")),
            ("A: b", false, Ok("A=b;")),
            ("A:  b  \nC:d\r\n", false, Ok("A=b;C=d;")),
            ("A: b\n\n \nB: c\n", false, Ok("A=b;|B=c;")),
            ("A: b\n c\n .\n d\n", false, Ok("A=b\n c\n .\n d;")),
            ("A:\n b\n c\n", false, Ok("A= b\n c;")),
            ("A: b\n#c\n d\n", true, Ok("A=b\n d;")),
            ("#c\nA: b", false, Err("line 1: there is no colon")),
            ("#c: d\nA: b", false, Err("line 1: what stands")),
            (" b\n", false, Err("line 1: a field's further line")),
            ("A: b\n\na: c\nA: d\n", false, Err("line 4: the field is there twice")),
            ("A b\n", false, Err("line 1: there is no colon")),
            (": b\n", false, Err("no field's name")),
            ("A: \0\n", false, Err("zero byte")),
        ];
        for (text, comments, want) in cases {
            match (shown(text, *comments), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, *want, "{text:?}"),
                (Err(e), Err(want)) => assert!(e.contains(want), "{text:?}: {e}"),
                (got, _) => panic!("{text:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn bytes_are_kept_and_bounded() {
        let text = "A: b\n c\nD:\n  e\n";
        assert_eq!(paragraphs(text.as_bytes(), false).unwrap()[0].text(), text);
        assert_eq!(paragraphs(text.as_bytes(), false).unwrap()[0].get("d"), Some("  e"));
        let endless = "A: b\n".to_owned() + &" c\n".repeat(PARAGRAPH_BYTES_MAX / 2);
        assert!(paragraphs(endless.as_bytes(), false).is_err());
        assert!(paragraphs(&vec![b'a'; PARAGRAPH_BYTES_MAX + 2], false).is_err());
        assert!(paragraphs(b"A: \xff\n", false).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_was_read_reads_the_same(text in "([AB:# \t\n\r.x\\-]|é){0,60}", comments: bool) {
            if let Ok(all) = paragraphs(text.as_bytes(), comments) {
                for paragraph in all {
                    let again = paragraphs(paragraph.text().as_bytes(), false).unwrap();
                    proptest::prop_assert_eq!(again, vec![paragraph]);
                }
            }
        }
    }
}
