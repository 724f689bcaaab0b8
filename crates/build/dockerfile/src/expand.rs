//! Expansion: variables, quotes and escapes of a word, and splitting it into words.
//!
//! ```text
//! $v ${v}                value, or nothing
//! ${v:-w} ${v-w}         value, or w where it is unset or (with the colon) empty
//! ${v:+w} ${v+w}         w, unless it is unset or (with the colon) empty
//! ${v:?w} ${v?w}         value, or the error w
//! ${v#p} ${v##p}         value without the shortest or longest beginning that matches p
//! ${v%p} ${v%%p}         the same at its end
//! ${v/p/r} ${v//p/r}     value with the first match, or all, replaced by r
//! ```
//!
//! Rules are a shell's where BuildKit's are, and BuildKit's where they differ: special parameters
//! (`$@`, `$1`) are variables nobody set, a failing quote is an error, words are split after
//! expansion.

use std::collections::BTreeSet;

use crate::{go, pattern::Pattern};

/// How deep `${a:-${b:-...}}` may be nested. More is no one's intention.
const DEPTH_MAX: usize = 100;

/// How long a word may become: `ENV a=$a$a` doubles, line by line.
pub const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// Variables by name.
pub trait Vars {
    /// The value of a variable that is set, empty or not.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Debug, Clone, Copy)]
pub struct NoVars;

impl Vars for NoVars {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Vars for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", go::quote(word))]
pub struct Error {
    /// The word.
    pub word: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A quote, brace or slash is missing.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unmatched(String),
    /// `${v` has no end.
    #[error("syntax error: missing '}}'")]
    NoBrace,
    /// `${v/p` has no replacement.
    #[error("syntax error: missing '/' in ${{}}")]
    NoSlash,
    /// `${}`, `${:x}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What follows the name is none of the forms.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${v:?w}` of a variable that is unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// `w`, or why.
        message: String,
    },
    /// A pattern with a backslash before something that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    Escape {
        /// The pattern.
        pattern: String,
        /// What follows the backslash.
        escaped: String,
    },
    /// Substitutions in substitutions in substitutions.
    #[error("substitutions are nested more than {DEPTH_MAX} deep")]
    Deep,
    /// More than [`EXPANDED_BYTES_MAX`], or a pattern that takes for ever.
    #[error("the result is larger than {EXPANDED_BYTES_MAX} bytes")]
    Large,
}

/// What a word expands to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// Variables it asked for that are set.
    pub used: BTreeSet<String>,
    /// Variables it asked for that are not.
    pub unset: BTreeSet<String>,
}

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// What escapes a character.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escapes stay in the result.
    pub raw_escapes: bool,
    /// Quotes are characters as any other: heredocs.
    pub plain_quotes: bool,
    /// A substitution of a variable that is not set stays as it is.
    pub keep_unset: bool,
}

impl Lexer {
    /// A lexer for words of an instruction.
    pub fn new(escape: char) -> Lexer {
        Lexer {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            plain_quotes: false,
            keep_unset: false,
        }
    }

    /// A lexer for heredocs: variables are expanded, quotes stay.
    pub fn heredoc() -> Lexer {
        Lexer { plain_quotes: true, ..Lexer::new('\\') }
    }

    /// Expands a word into one.
    ///
    /// ```
    /// use hako_dockerfile::expand::Lexer;
    ///
    /// let vars = std::collections::BTreeMap::from([("v".to_owned(), "1.2".to_owned())]);
    /// let word = Lexer::new('\\').word("app-${v%.*}'$v'", &vars)?;
    /// assert_eq!(word.text, "app-1$v");
    /// assert!(word.used.contains("v"));
    /// # Ok::<(), hako_dockerfile::expand::Error>(())
    /// ```
    pub fn word(&self, word: &str, vars: &dyn Vars) -> Result<Expansion, Error> {
        self.run(word, vars).map(|(expansion, _)| expansion)
    }

    /// Expands a word, and splits the result at spaces that are not quoted.
    pub fn words(&self, word: &str, vars: &dyn Vars) -> Result<Vec<String>, Error> {
        self.run(word, vars).map(|(_, words)| words)
    }

    /// Both: the text with what it asked for, and the words of it.
    pub fn run(&self, word: &str, vars: &dyn Vars) -> Result<(Expansion, Vec<String>), Error> {
        let mut reader = Reader {
            lexer: *self,
            rest: word,
            vars,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            depth: 0,
        };
        match reader.until(None, self.raw_escapes) {
            Ok(out) => {
                let expansion =
                    Expansion { text: out.text, used: reader.used, unset: reader.unset };
                Ok((expansion, out.words))
            }
            Err(problem) => Err(Error { word: word.to_owned(), problem }),
        }
    }
}

/// A text, and the words it consists of.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// A character that splits words if it is a space.
    fn push(&mut self, ch: char) {
        self.text.push(ch);
        self.split(ch);
    }

    fn split(&mut self, ch: char) {
        if !ch.is_whitespace() {
            self.word.push(ch);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// A character that was escaped.
    fn push_raw(&mut self, ch: char) {
        self.text.push(ch);
        self.word.push(ch);
    }
}

struct Reader<'a> {
    lexer: Lexer,
    rest: &'a str,
    vars: &'a dyn Vars,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.rest = &self.rest[ch.len_utf8()..];
        Some(ch)
    }

    /// Reads to the end, or behind `stop`.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Output, Problem> {
        let mut out = Output::default();
        while let Some(ch) = self.peek() {
            if out.text.len() > EXPANDED_BYTES_MAX {
                return Err(Problem::Large);
            }
            if stop == Some(ch) {
                self.next();
                return Ok(finished(out));
            }
            match ch {
                '\'' if !self.lexer.plain_quotes => {
                    let text = self.single_quoted()?;
                    out.text.push_str(&text);
                    out.word.push_str(&text);
                }
                '"' if !self.lexer.plain_quotes => {
                    let text = self.double_quoted(raw_escapes)?;
                    out.text.push_str(&text);
                    out.word.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    out.text.push_str(&text);
                    text.chars().for_each(|ch| out.split(ch));
                }
                _ if ch == self.lexer.escape => {
                    self.next();
                    if raw_escapes {
                        out.push_raw(ch);
                    }
                    // At the end it escapes nothing, and is gone.
                    let Some(escaped) = self.next() else { break };
                    out.push_raw(escaped);
                }
                _ => {
                    self.next();
                    out.push(ch);
                }
            }
        }
        match stop {
            Some(stop) => Err(Problem::Unmatched(stop.to_string())),
            None if out.text.len() > EXPANDED_BYTES_MAX => Err(Problem::Large),
            None => Ok(finished(out)),
        }
    }

    /// Between single quotes nothing is special.
    fn single_quoted(&mut self) -> Result<String, Problem> {
        self.next();
        let Some(end) = self.rest.find('\'') else {
            return Err(Problem::Unmatched("single-quote".into()));
        };
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(if self.lexer.raw_quotes { format!("'{text}'") } else { text.to_owned() })
    }

    /// Between double quotes `$` is, and the escape before `"`, `$` and itself.
    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, Problem> {
        self.next();
        let mut text = String::new();
        if self.lexer.raw_quotes {
            text.push('"');
        }
        loop {
            if text.len() > EXPANDED_BYTES_MAX {
                return Err(Problem::Large);
            }
            match self.peek() {
                None => return Err(Problem::Unmatched("double-quote".into())),
                Some('"') => {
                    self.next();
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(ch) => {
                    self.next();
                    let mut ch = ch;
                    if ch == self.lexer.escape {
                        if raw_escapes {
                            text.push(ch);
                        }
                        match self.peek() {
                            None => continue,
                            Some(next) if next == '"' || next == '$' || next == ch => {
                                self.next();
                                ch = next;
                            }
                            Some(_) => {}
                        }
                    }
                    text.push(ch);
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Problem::Deep);
        }
        self.next();
        let text = if self.peek() == Some('{') { self.braced() } else { self.plain() };
        self.depth -= 1;
        text
    }

    /// `$name`.
    fn plain(&mut self) -> Result<String, Problem> {
        let name = self.name();
        if name.is_empty() {
            return Ok("$".into());
        }
        Ok(match self.get(&name) {
            None if self.lexer.keep_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        })
    }

    /// `${name...}`.
    fn braced(&mut self) -> Result<String, Problem> {
        self.next();
        match self.peek() {
            None => return Err(Problem::NoBrace),
            Some('{' | '}' | ':') => return Err(Problem::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(first) = self.next() else {
            // What Go prints for the character that is not there.
            return Err(Problem::Modifier(char::REPLACEMENT_CHARACTER.into()));
        };
        match first {
            '}' => Ok(match self.get(&name) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            ':' => {
                let Some(operator) = self.next() else {
                    return Err(Problem::NoBrace);
                };
                if matches!(operator, '#' | '%') {
                    return Err(Problem::Modifier(format!(":{operator}")));
                }
                self.conditional(&name, operator, true)
            }
            '+' | '-' | '?' => self.conditional(&name, first, false),
            '#' | '%' => self.trimmed(&name, first),
            '/' => self.replaced(&name),
            _ => Err(Problem::Modifier(first.to_string())),
        }
    }

    /// Reads to `stop`; where it is missing, `missing` says so.
    fn operand(&mut self, stop: char, raw: bool, missing: Problem) -> Result<String, Problem> {
        match self.until(Some(stop), raw) {
            Ok(out) => Ok(out.text),
            Err(Problem::Unmatched(_)) if self.rest.is_empty() => Err(missing),
            Err(problem) => Err(problem),
        }
    }

    /// `${v:-w}` and kin. With a colon an empty value counts as none.
    fn conditional(&mut self, name: &str, operator: char, colon: bool) -> Result<String, Problem> {
        let word = self.operand('}', false, Problem::NoBrace)?;
        let value = self.get(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let there = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match operator {
            '-' => Ok(if there { value.unwrap_or_default() } else { word }),
            '+' => Ok(if there { word } else { String::new() }),
            '?' if there => Ok(value.unwrap_or_default()),
            '?' => {
                let why = if value.is_none() { "unset" } else { "empty" };
                let message =
                    if word.is_empty() { format!("is not allowed to be {why}") } else { word };
                Err(Problem::Required { name: name.to_owned(), message })
            }
            _ => {
                let colon = if colon { ":" } else { "" };
                Err(Problem::Modifier(format!("{colon}{operator}")))
            }
        }
    }

    /// `${v#p}` and kin.
    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, Problem> {
        let word = self.operand('}', true, Problem::NoBrace)?;
        let Some(value) = self.get(name) else {
            return Ok(match self.lexer.keep_unset {
                true => format!("${{{name}{operator}{word}}}"),
                false => String::new(),
            });
        };
        let (longest, pattern) = match word.strip_prefix(operator) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::parse(pattern)?;
        if operator == '#' {
            pattern.without_prefix(&value, longest)
        } else {
            pattern.without_suffix(&value, longest)
        }
    }

    /// `${v/p/r}` and `${v//p/r}`.
    fn replaced(&mut self, name: &str) -> Result<String, Problem> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.operand('/', true, Problem::NoSlash)?;
        let replacement = self.operand('}', true, Problem::NoBrace)?;
        let Some(value) = self.get(name) else {
            return Ok(match self.lexer.keep_unset {
                true => format!("${{{name}/{pattern}/{replacement}}}"),
                false => String::new(),
            });
        };
        Pattern::parse(&pattern)?.replace(&value, &replacement, all)
    }

    /// A name: letters, digits and underscores, or a number, or one special character.
    fn name(&mut self) -> String {
        let is_digit = |ch: char| ch.is_ascii_digit() || (ch.is_numeric() && !ch.is_ascii());
        let Some(first) = self.peek() else { return String::new() };
        let length = if is_digit(first) {
            self.rest.find(|ch: char| !is_digit(ch))
        } else if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            Some(1)
        } else {
            self.rest.find(|ch: char| !ch.is_alphabetic() && !is_digit(ch) && ch != '_')
        };
        let (name, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
        self.rest = rest;
        name.to_owned()
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = self.vars.get(name).map(str::to_owned);
        let asked = if value.is_some() { &mut self.used } else { &mut self.unset };
        asked.insert(name.to_owned());
        value
    }
}

fn finished(mut out: Output) -> Output {
    if !out.word.is_empty() {
        out.words.push(std::mem::take(&mut out.word));
    }
    out
}

#[cfg(test)]
mod tests;
