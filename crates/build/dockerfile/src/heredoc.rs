//! Heredocs: which words of an instruction begin one, and the tabs that `<<-` takes away.

use crate::{
    ast::Heredoc,
    expand::{Lexer, NoVars},
    source::Span,
};

/// The heredoc that a word begins, without its content: digits, `<<`, perhaps `-`, and a name.
///
/// The name is unquoted as a shell would do it; a quote in it means that nothing in the heredoc is
/// expanded.
pub fn begins(word: &str) -> Option<Heredoc> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let rest = word[digits..].strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let plain = lexer.words(rest, &NoVars).ok()?;
    let raw = Lexer { raw_quotes: true, ..lexer }.words(rest, &NoVars).ok()?;
    let ([plain], [raw]) = (plain.as_slice(), raw.as_slice()) else { return None };
    let quotes = |text: &str| text.bytes().filter(|byte| matches!(byte, b'\'' | b'"')).count();
    Some(Heredoc {
        name: plain.clone(),
        file_descriptor: match &word[..digits] {
            "" => 0,
            digits => digits.parse().unwrap_or(u64::MAX),
        },
        expand: quotes(plain) == quotes(raw),
        chomp,
        content: Vec::new(),
        span: Span::default(),
    })
}

/// The heredocs that an instruction begins, in order. A line that a shell's lexer could not read
/// begins none.
pub(crate) fn of_line(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    let words = lexer.words(line, &NoVars).unwrap_or_default();
    words.iter().filter_map(|word| begins(word)).collect()
}

/// Content without the tabs at the beginning of each line.
pub(crate) fn without_tabs(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
        out.extend_from_slice(&line[tabs..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_begin_a_heredoc() {
        let show = |word: &str| {
            begins(word).map(|doc| (doc.name, doc.file_descriptor, doc.expand, doc.chomp))
        };
        let doc = |name: &str, fd, expand, chomp| Some((name.to_owned(), fd, expand, chomp));
        for (word, expected) in [
            ("<<EOF", doc("EOF", 0, true, false)),
            ("<<-EOF", doc("EOF", 0, true, true)),
            ("3<<EOF", doc("EOF", 3, true, false)),
            ("<<'EOF'", doc("EOF", 0, false, false)),
            ("<<\"E O\"", doc("E O", 0, false, false)),
            ("<<E'O'F", doc("EOF", 0, false, false)),
            ("<<\\EOF", doc("EOF", 0, true, false)),
            ("<<EOF;", doc("EOF;", 0, true, false)),
            ("<<--EOF", doc("-EOF", 0, true, true)),
            ("<<$E", doc("$E", 0, true, false)),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("<EOF", None),
            ("a<<EOF", None),
            ("<<E F", None),
            ("<<'EOF", None),
        ] {
            assert_eq!(show(word), expected, "{word}");
        }
    }

    #[test]
    fn tabs_go_at_the_beginning_of_each_line() {
        assert_eq!(without_tabs(b"\t\ta\tb\n\tc\n \td"), b"a\tb\nc\n \td");
    }
}
