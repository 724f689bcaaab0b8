//! From text to tokens. Outside of `{{ }}` everything is text; trim markers eat blanks around.

use serde_json::Number;

use super::{Error, Position};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(String),
    Open,
    Close,
    LeftParen,
    RightParen,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// A blank between operands: `a .b` is two operands, `a.b` is one.
    Blank,
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Identifier(String),
    String(String),
    Number(Number),
}

/// A token and where it begins.
pub(super) type Placed = (Token, Position);

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Error> {
    let mut lexer = Lexer { rest: text, at: Position { line: 1, column: 0 }, out: Vec::new() };
    lexer.run()?;
    Ok(lexer.out)
}

struct Lexer<'t> {
    rest: &'t str,
    at: Position,
    out: Vec<Placed>,
}

impl<'t> Lexer<'t> {
    fn run(&mut self) -> Result<(), Error> {
        let mut trim_next = false;
        loop {
            let (text, more) = match self.rest.find("{{") {
                Some(open) => (&self.rest[..open], true),
                None => (self.rest, false),
            };
            let start = self.at;
            self.skip(text.len());
            let mut kept = if trim_next { text.trim_start() } else { text };
            // `{{- ` trims what came before; the blank tells it from a negative number.
            let trims = self.rest.strip_prefix("{{-").is_some_and(|r| r.starts_with(is_blank));
            if trims {
                kept = kept.trim_end();
            }
            if !kept.is_empty() {
                self.out.push((Token::Text(kept.to_owned()), start));
            }
            if !more {
                return Ok(());
            }
            self.skip(if trims { 3 } else { 2 });
            trim_next = self.action()?;
        }
    }

    /// The inside of `{{ }}`. Returns whether it ended with a trim marker.
    fn action(&mut self) -> Result<bool, Error> {
        if let Some(comment) = self.rest.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| self.error("unclosed comment"))?;
            let after = &comment[end + 2..];
            let close = after.trim_start();
            let trims = close.starts_with('-');
            let close = close.strip_prefix('-').unwrap_or(close);
            let Some(left) = close.strip_prefix("}}") else {
                return Err(self.error("comment ends before closing delimiter"));
            };
            self.skip(self.rest.len() - left.len());
            return Ok(trims);
        }
        self.out.push((Token::Open, self.at));
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
            if blank > 0 {
                let start = self.at;
                self.skip(blank);
                if self.rest.starts_with("-}}") {
                    self.out.push((Token::Close, self.at));
                    self.skip(3);
                    return Ok(true);
                }
                self.out.push((Token::Blank, start));
            }
            if self.rest.starts_with("}}") {
                self.out.push((Token::Close, self.at));
                self.skip(2);
                return Ok(false);
            }
            let start = self.at;
            let token = self.token()?;
            self.out.push((token, start));
        }
    }

    fn token(&mut self) -> Result<Token, Error> {
        const PUNCTUATION: &[(&str, Token)] = &[
            (":=", Token::Declare),
            ("=", Token::Assign),
            ("(", Token::LeftParen),
            (")", Token::RightParen),
            ("|", Token::Pipe),
            (",", Token::Comma),
        ];
        if let Some((mark, token)) = PUNCTUATION.iter().find(|(m, _)| self.rest.starts_with(m)) {
            self.skip(mark.len());
            return Ok(token.clone());
        }
        let mut chars = self.rest.chars();
        let (first, second) = (chars.next(), chars.next());
        match (first, second) {
            (None, _) => Err(self.error("unclosed action")),
            (Some('"'), _) => self.quoted(),
            (Some('\''), _) => self.character(),
            (Some('`'), _) => {
                let end = self.rest[1..].find('`');
                let end = end.ok_or_else(|| self.error("unterminated raw quoted string"))?;
                let text = self.rest[1..=end].to_owned();
                self.skip(end + 2);
                Ok(Token::String(text))
            }
            (Some('.'), Some(c)) if is_word(c) && !c.is_ascii_digit() => {
                self.skip(1);
                Ok(Token::Field(self.word().to_owned()))
            }
            (Some('.'), Some(c)) if c.is_ascii_digit() => self.number(),
            (Some('.'), _) => {
                self.skip(1);
                Ok(Token::Dot)
            }
            (Some('$'), _) => {
                self.skip(1);
                Ok(Token::Variable(self.word().to_owned()))
            }
            (Some('+' | '-'), Some('0'..='9' | '.')) | (Some('0'..='9'), _) => self.number(),
            (Some(c), _) if is_word(c) => Ok(Token::Identifier(self.word().to_owned())),
            (Some(c), _) => {
                let code = u32::from(c);
                Err(self.error(&format!("unexpected {c:?} in command (U+{code:04X})")))
            }
        }
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        word
    }

    fn number(&mut self) -> Result<Token, Error> {
        let end = self.rest.find(|c: char| !(is_word(c) || "+-.".contains(c)));
        let word = &self.rest[..end.unwrap_or(self.rest.len())];
        let number = parse_number(word)
            .ok_or_else(|| self.error(&format!("bad number syntax: {word:?}")))?;
        self.skip(word.len());
        Ok(Token::Number(number))
    }

    /// A string in double quotes with Go's escapes.
    fn quoted(&mut self) -> Result<Token, Error> {
        let mut text = String::new();
        let body = &self.rest[1..];
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.skip(at + 2);
                    return Ok(Token::String(text));
                }
                '\n' => break,
                '\\' => {
                    let (c, used) = escape(&body[at + 1..])
                        .ok_or_else(|| self.error("invalid syntax in string"))?;
                    text.push(c);
                    for _ in body[at + 1..at + 1 + used].chars() {
                        chars.next();
                    }
                }
                c => text.push(c),
            }
        }
        Err(self.error("unterminated quoted string"))
    }

    /// A character constant is a number.
    fn character(&mut self) -> Result<Token, Error> {
        let body = &self.rest[1..];
        let parsed = match body.strip_prefix('\\') {
            Some(escaped) => escape(escaped).map(|(c, used)| (c, used + 1)),
            None => body.chars().next().map(|c| (c, c.len_utf8())),
        };
        match parsed {
            Some((c, used)) if body[used..].starts_with('\'') => {
                self.skip(used + 2);
                Ok(Token::Number(u32::from(c).into()))
            }
            _ => Err(self.error("malformed character constant")),
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        for byte in skipped.bytes() {
            self.at.column += 1;
            if byte == b'\n' {
                self.at = Position { line: self.at.line + 1, column: 0 };
            }
        }
        self.rest = rest;
    }

    fn error(&self, message: &str) -> Error {
        Error::Syntax { line: self.at.line, message: message.to_owned() }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn parse_number(word: &str) -> Option<Number> {
    let (negative, digits) = match word.as_bytes().first()? {
        b'-' => (true, &word[1..]),
        b'+' => (false, &word[1..]),
        _ => (false, word),
    };
    let plain = digits.replace('_', "");
    let integer = match plain.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&plain[2..], 16),
        Some("0b" | "0B") => i64::from_str_radix(&plain[2..], 2),
        Some("0o" | "0O") => i64::from_str_radix(&plain[2..], 8),
        _ => plain.parse(),
    };
    match integer {
        Ok(n) => Some(Number::from(if negative { -n } else { n })),
        Err(_) => {
            let float: f64 = plain.parse().ok()?;
            Number::from_f64(if negative { -float } else { float })
        }
    }
}

/// The character of an escape without its backslash, and how many bytes it took.
fn escape(text: &str) -> Option<(char, usize)> {
    let hex = |digits: usize| {
        let code = u32::from_str_radix(text.get(1..=digits)?, 16).ok()?;
        Some((char::from_u32(code)?, digits + 1))
    };
    let plain = |c| Some((c, 1));
    match text.chars().next()? {
        'n' => plain('\n'),
        't' => plain('\t'),
        'r' => plain('\r'),
        'a' => plain('\x07'),
        'b' => plain('\x08'),
        'f' => plain('\x0c'),
        'v' => plain('\x0b'),
        c @ ('\\' | '"' | '\'') => plain(c),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        '0'..='7' => {
            let code = u32::from_str_radix(text.get(..3)?, 8).ok()?;
            Some((char::from_u32(code)?, 3))
        }
        _ => None,
    }
}
