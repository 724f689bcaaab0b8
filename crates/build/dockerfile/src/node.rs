//! Instructions as words: name, flags, arguments, heredocs. What they mean comes later
//! ([`crate::instruction`]).

use serde_json::value::RawValue;

use crate::{
    ast::{Directive, Escape, Heredoc},
    error::{Error, Problem},
    heredoc,
    line::{Logical, Reader, without_line_end},
    source::{Lines, Span, Word},
};

/// An instruction as words.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name as it was written.
    pub keyword: Word,
    /// `--flags`, quotes and escapes taken out.
    pub flags: Vec<Word>,
    /// Arguments. How they are split depends on the instruction.
    pub arguments: Vec<Word>,
    /// Whether arguments were a JSON array.
    pub json: bool,
    /// `ENV` and `LABEL`: written as `KEY VALUE`.
    pub legacy: bool,
    /// `ONBUILD`: the instruction for later.
    pub trigger: Option<Box<Node>>,
    /// Heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// The instruction on one line.
    pub original: String,
    /// Its lines, with heredocs.
    pub lines: Lines,
    /// Comments directly above.
    pub comments: Vec<String>,
}

/// A file as nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Nodes {
    /// Parser directives.
    pub directives: Vec<Directive>,
    /// What escapes.
    pub escape: Escape,
    /// Instructions in order; one at least.
    pub nodes: Vec<Node>,
    /// Instructions with empty lines among their continuations.
    pub empty_continuations: Vec<Lines>,
}

/// Reads a file.
pub fn parse(bytes: &[u8]) -> Result<Nodes, Error> {
    if bytes.is_empty() {
        return Err(Error::new(Problem::Empty, Lines::default()));
    }
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::new();
    let mut empty_continuations = Vec::new();
    while let Some(logical) = reader.logical()? {
        if logical.empty_continuation {
            // BuildKit names the last line, which is where the reader stands.
            empty_continuations.push(logical.lines);
        }
        let mut node = of_line(&logical, reader.escape)?;
        if node.may_have_heredocs() {
            for document in heredoc::of_line(&logical.text) {
                let document = content(&mut reader, document, logical.lines)?;
                node.heredocs.push(document);
            }
            node.lines.last = reader.line;
        }
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(Error::new(Problem::NoInstructions, Lines::one(reader.line)));
    }
    Ok(Nodes { directives: reader.directives, escape: reader.escape, nodes, empty_continuations })
}

/// Reads the lines of a heredoc, and the one that ends it.
fn content(reader: &mut Reader<'_>, mut document: Heredoc, lines: Lines) -> Result<Heredoc, Error> {
    while let Some((line, start)) = reader.physical()? {
        let mut end = without_line_end(line);
        if document.chomp {
            let tabs = end.iter().take_while(|byte| **byte == b'\t').count();
            end = &end[tabs..];
        }
        if document.span.is_empty() {
            document.span = Span { start, end: start };
        }
        if end == document.name.as_bytes() {
            return Ok(document);
        }
        document.span.end = start + line.len();
        document.content.extend_from_slice(line);
    }
    let lines = Lines { last: reader.line, ..lines };
    Err(Error::new(Problem::UnterminatedHeredoc, lines))
}

impl Node {
    fn may_have_heredocs(&self) -> bool {
        let node = self.trigger.as_deref().unwrap_or(self);
        let name = node.keyword.text.to_ascii_uppercase();
        matches!(name.as_str(), "ADD" | "COPY" | "RUN") && !node.json
    }
}

/// How arguments are split.
enum Form {
    /// A JSON array, or the whole rest as one.
    JsonOrLine,
    /// A JSON array, or words between blanks.
    JsonOrWords,
    Words,
    Line,
    /// `KEY=VALUE ...`, or `KEY VALUE`.
    Pairs(&'static str),
    /// Words as a shell splits them, quotes kept.
    QuotedWords,
    Healthcheck,
    Instruction,
    /// Nobody knows the instruction.
    Unknown,
}

fn form(keyword: &str) -> Form {
    match keyword.to_ascii_uppercase().as_str() {
        "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => Form::JsonOrLine,
        "ADD" | "COPY" | "VOLUME" => Form::JsonOrWords,
        "FROM" | "EXPOSE" => Form::Words,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => Form::Line,
        "ENV" => Form::Pairs("ENV"),
        "LABEL" => Form::Pairs("LABEL"),
        "ARG" => Form::QuotedWords,
        "HEALTHCHECK" => Form::Healthcheck,
        "ONBUILD" => Form::Instruction,
        _ => Form::Unknown,
    }
}

/// Part of a line.
#[derive(Clone, Copy)]
struct Range {
    start: usize,
    end: usize,
}

/// White space between words; other kinds of it are part of words.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b | 0x0c | b'\r' | b' ')
}

fn of_line(logical: &Logical, escape: Escape) -> Result<Node, Error> {
    let whole = trimmed(&logical.text, Range { start: 0, end: logical.text.len() });
    of_range(logical, whole, escape, 0)
}

/// How many `ONBUILD`s may stand one before another, to be refused with their own message.
const ONBUILD_DEPTH_MAX: usize = 8;

fn of_range(logical: &Logical, whole: Range, escape: Escape, depth: usize) -> Result<Node, Error> {
    let text = &logical.text;
    let rest = &text[whole.start..whole.end];
    let length = rest.bytes().position(is_blank).unwrap_or(rest.len());
    let keyword = logical.word(whole.start, whole.start + length);
    let blanks = rest[length..].bytes().take_while(|byte| is_blank(*byte)).count();
    let behind = Range { start: whole.start + length + blanks, end: whole.end };
    let (flags, start) = flags(logical, behind);
    let arguments = trimmed(text, Range { start, end: whole.end });

    let mut node = Node {
        flags,
        arguments: Vec::new(),
        json: false,
        legacy: false,
        trigger: None,
        heredocs: Vec::new(),
        original: rest.to_owned(),
        lines: logical.lines,
        comments: logical.comments.clone(),
        keyword,
    };
    let error = |problem| Err(Error::new(problem, logical.lines));
    let is_empty = arguments.start == arguments.end;
    match form(&node.keyword.text) {
        Form::Unknown => {}
        _ if is_empty => {}
        Form::Words => node.arguments = words(logical, arguments),
        Form::Line => node.arguments = vec![logical.word(arguments.start, arguments.end)],
        Form::QuotedWords => node.arguments = quoted_words(logical, arguments, escape),
        Form::JsonOrLine => line_or_json(&mut node, logical, arguments)?,
        Form::JsonOrWords => match json(logical, arguments)? {
            Some(array) => (node.arguments, node.json) = (array, true),
            None => node.arguments = words(logical, arguments),
        },
        Form::Pairs(name) => {
            let found = quoted_words(logical, arguments, escape);
            let Some(first) = found.first() else { return Ok(node) };
            if first.text.contains('=') {
                if let Some(word) = found.iter().find(|word| !word.text.contains('=')) {
                    return Err(Error::new(Problem::NoEqualsSign(word.text.clone()), node.lines)
                        .at(word.span));
                }
                node.arguments = found;
            } else {
                let all = &text[arguments.start..arguments.end];
                let Some(end) = all.bytes().position(is_blank) else {
                    return error(Problem::TwoArguments(name));
                };
                let blanks = all[end..].bytes().take_while(|byte| is_blank(*byte)).count();
                let value = arguments.start + end + blanks;
                node.legacy = true;
                node.arguments = vec![
                    logical.word(arguments.start, arguments.start + end),
                    logical.word(value, arguments.end),
                ];
            }
        }
        Form::Healthcheck => {
            let all = &text[arguments.start..arguments.end];
            let is_space = |byte: u8| is_blank(byte) || byte == b'\n';
            let end = all.bytes().position(is_space).unwrap_or(all.len());
            let kind = logical.word(arguments.start, arguments.start + end);
            let spaces = all[end..].bytes().take_while(|byte| is_space(*byte)).count();
            let command = Range { start: arguments.start + end + spaces, ..arguments };
            if command.start < command.end {
                line_or_json(&mut node, logical, command)?;
            }
            node.arguments.insert(0, kind);
        }
        Form::Instruction => {
            if depth >= ONBUILD_DEPTH_MAX {
                return error(Problem::OnbuildOnbuild);
            }
            node.trigger = Some(Box::new(of_range(logical, arguments, escape, depth + 1)?));
        }
    }
    Ok(node)
}

fn line_or_json(node: &mut Node, logical: &Logical, range: Range) -> Result<(), Error> {
    match json(logical, range)? {
        Some(array) => (node.arguments, node.json) = (array, true),
        None => node.arguments = vec![logical.word(range.start, range.end)],
    }
    Ok(())
}

fn trimmed(text: &str, range: Range) -> Range {
    let part = &text[range.start..range.end];
    let start = range.start + (part.len() - part.trim_start().len());
    Range { start, end: start.max(range.start + part.trim_end().len()) }
}

/// Words between blanks.
fn words(logical: &Logical, range: Range) -> Vec<Word> {
    let mut out = Vec::new();
    let bytes = logical.text.as_bytes();
    let mut at = range.start;
    while at < range.end {
        let end = (at..range.end).find(|at| is_blank(bytes[*at])).unwrap_or(range.end);
        out.push(logical.word(at, end));
        at = (end..range.end).find(|at| !is_blank(bytes[*at])).unwrap_or(range.end);
    }
    out
}

/// Words as a shell splits them. Quotes and escapes stay, except for an escape at the end.
fn quoted_words(logical: &Logical, range: Range, escape: Escape) -> Vec<Word> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote = None;
    let mut had_quote = false;
    let text = &logical.text[range.start..range.end];
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        let at = range.start + at;
        if quote.is_none() && ch.is_whitespace() {
            if let Some(start) = start.take()
                && (had_quote || !word.is_empty())
            {
                out.push(Word::new(std::mem::take(&mut word), logical.span(start, at)));
            }
            had_quote = false;
            continue;
        }
        start.get_or_insert(at);
        if ch == escape.char() && quote != Some('\'') {
            match chars.next() {
                Some((_, escaped)) => {
                    word.push(ch);
                    word.push(escaped);
                }
                None => quote = None,
            }
            continue;
        }
        match quote {
            None if matches!(ch, '\'' | '"') => {
                quote = Some(ch);
                had_quote = true;
            }
            Some(open) if open == ch => quote = None,
            _ => {}
        }
        word.push(ch);
    }
    if let Some(start) = start
        && (had_quote || !word.is_empty())
    {
        out.push(Word::new(word, logical.span(start, range.end)));
    }
    out
}

/// Words that begin with `--`, quotes and escapes taken out, and where arguments begin.
///
/// The escape is a backslash here, whatever the directive says.
fn flags(logical: &Logical, range: Range) -> (Vec<Word>, usize) {
    let mut out = Vec::new();
    let text = &logical.text[range.start..range.end];
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let start = range.start + (text.len() - rest.len());
        if !rest.starts_with("--") {
            return (out, start);
        }
        let mut word = String::new();
        let mut quote = None;
        let mut length = rest.len();
        let mut chars = rest.char_indices();
        while let Some((at, ch)) = chars.next() {
            match quote {
                None if ch.is_whitespace() => {
                    length = at;
                    break;
                }
                None if matches!(ch, '\'' | '"') => quote = Some(ch),
                Some(open) if open == ch => quote = None,
                _ if ch == '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => word.push(ch),
            }
        }
        rest = &rest[length..];
        if word == "--" {
            return (out, start + length);
        }
        out.push(Word::new(word, logical.span(start, start + length)));
    }
}

/// A JSON array of strings; nothing where it is no JSON, an error where it is of other things.
fn json(logical: &Logical, range: Range) -> Result<Option<Vec<Word>>, Error> {
    let text = &logical.text[range.start..range.end];
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Ok(None) };
    let mut out = Vec::with_capacity(values.len());
    // Values are found in order, each behind the one before.
    let mut at = 0;
    for value in values {
        let raw = value.get();
        let found = text[at..].find(raw).unwrap_or_default() + at;
        at = found + raw.len();
        let start = range.start + found;
        let span = logical.span(start, start + raw.len());
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        let Some(inner) = inner else {
            return Err(Error::new(Problem::NotStrings, logical.lines).at(span));
        };
        out.push(Word::new(unescaped(inner), span));
    }
    Ok(Some(out))
}

/// A JSON string without its escapes. Half a surrogate pair is replaced, as Go does it.
fn unescaped(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let mut length = 2;
        match escape {
            b'b' => out.push('\x08'),
            b'f' => out.push('\x0c'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let unit = |at: usize| {
                    let digits = rest.get(at..at + 4)?;
                    u16::from_str_radix(digits, 16).ok()
                };
                let first = unit(at + 2).unwrap_or(0xfffd);
                length = 6;
                let second = (rest.get(at + 6..at + 8) == Some("\\u")).then(|| unit(at + 8));
                let pair = second.flatten().map(|second| [first, second]);
                let joined = pair
                    .filter(|_| (0xd800..0xdc00).contains(&first))
                    .and_then(|pair| char::decode_utf16(pair).next()?.ok());
                if joined.is_some() {
                    length = 12;
                }
                let alone = || char::from_u32(u32::from(first));
                out.push(joined.or_else(alone).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => out.push(char::from(other)),
        }
        rest = rest.get(at + length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse(text.as_bytes()).unwrap().nodes.remove(0)
    }

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(Word::as_str).collect()
    }

    #[test]
    fn arguments_are_split_as_the_instruction_wants() {
        for (text, flags, arguments) in [
            ("RUN  a  b ", vec![], vec!["a  b"]),
            ("RUN [\"a\", \"b c\"]", vec![], vec!["a", "b c"]),
            ("RUN [\"a\", \"b", vec![], vec!["[\"a\", \"b"]),
            ("RUN [\"a\"] b", vec![], vec!["[\"a\"] b"]),
            ("COPY --a=b --c d e\tf", vec!["--a=b", "--c"], vec!["d", "e", "f"]),
            ("COPY --a=\"b c\"'d' -- --e f", vec!["--a=b cd"], vec!["--e", "f"]),
            ("COPY --a\\ b c", vec!["--a b"], vec!["c"]),
            ("COPY [ \"a\" ,\"\\u0062\\n\"]", vec![], vec!["a", "b\n"]),
            ("ENV a=b c='d e' f=\"g\\\" h\"", vec![], vec!["a=b", "c='d e'", "f=\"g\\\" h\""]),
            ("ENV a b=c  d ", vec![], vec!["a", "b=c  d"]),
            ("ENV a\\ b=c", vec![], vec!["a\\ b=c"]),
            ("ARG a b=\"c d\" ''", vec![], vec!["a", "b=\"c d\"", "''"]),
            ("USER a b", vec![], vec!["a b"]),
            ("HEALTHCHECK --interval=1s CMD  a b", vec!["--interval=1s"], vec!["CMD", "a b"]),
            ("HEALTHCHECK CMD [\"a\"]", vec![], vec!["CMD", "a"]),
            ("HEALTHCHECK NONE", vec![], vec!["NONE"]),
            ("FOO a b", vec![], vec![]),
            ("CMD []", vec![], vec![]),
            ("CMD", vec![], vec![]),
        ] {
            let node = one(text);
            assert_eq!(texts(&node.flags), flags, "{text}");
            assert_eq!(texts(&node.arguments), arguments, "{text}");
        }
        assert!(one("CMD []").json && !one("CMD").json);
        assert!(one("ENV a b").legacy && !one("ENV a=b").legacy);
    }

    #[test]
    fn words_stand_where_they_are() {
        let text = "COPY --from=\"x\" [\"a\", \\\n \"\\u0062\", \"a\"]";
        let node = one(text);
        let slices: Vec<_> = node
            .flags
            .iter()
            .chain(&node.arguments)
            .map(|word| &text[word.span.start..word.span.end])
            .collect();
        assert_eq!(slices, ["--from=\"x\"", "\"a\"", "\"\\u0062\"", "\"a\""]);
        assert_eq!(node.arguments[2].span.start, text.rfind("\"a\"").unwrap());
    }

    #[test]
    fn heredocs_are_read_in_order() {
        let node = one("RUN <<A 3<<-'B' cat\na\n\tA\nA\n\tb\n\tB\nX");
        let shown: Vec<_> = node
            .heredocs
            .iter()
            .map(|doc| (doc.name.as_str(), String::from_utf8_lossy(&doc.content).into_owned()))
            .collect();
        assert_eq!(shown, [("A", "a\n\tA\n".to_owned()), ("B", "\tb\n".to_owned())]);
        assert_eq!((node.lines.first, node.lines.last), (1, 6));
        assert_eq!(node.heredocs[1].text(), b"b\n");
        assert!(one("RUN [\"<<A\"]").heredocs.is_empty());
        assert_eq!(one("ONBUILD COPY <<A b\nA\n").heredocs.len(), 1);
        assert!(one("RUN echo \"${x^^}\" <<A").heredocs.is_empty());
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, problem, lines) in [
            ("", Problem::Empty, (0, 0)),
            ("# a\n", Problem::NoInstructions, (1, 1)),
            ("FROM a\nRUN <<A\nb\n", Problem::UnterminatedHeredoc, (2, 3)),
            ("FROM a\nCMD [1]", Problem::NotStrings, (2, 2)),
            ("ENV a", Problem::TwoArguments("ENV"), (1, 1)),
            ("ENV a=b c", Problem::NoEqualsSign("c".into()), (1, 1)),
            ("# escape=a\n", Problem::EscapeToken("a".into()), (1, 1)),
            ("#check=a\n#check=b\n", Problem::DirectiveTwice("check".into()), (2, 2)),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(*error.problem, problem, "{text:?}");
            assert_eq!((error.lines.first, error.lines.last), lines, "{text:?}");
        }
        assert_eq!(*parse(b"RUN \xff").unwrap_err().problem, Problem::NotUtf8);
        assert!(parse(b"# \xff\nCOPY <<A b\n\xff\nA").is_ok());
    }
}
