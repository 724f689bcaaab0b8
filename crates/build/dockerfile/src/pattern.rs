//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and literal characters.
//!
//! A pattern is matched by walking through the value once with all ways to match it at the same
//! time, so that what it costs is bounded by value times pattern, whatever both are.

use crate::expand::Problem;

/// How many steps one pattern may take. Ordinary ones take some hundred.
const STEPS_MAX: usize = 20_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`: any characters on one line.
    Many,
    /// `?`: one character that is no line feed.
    One,
    Literal(char),
}

/// A pattern, read.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern. A backslash makes `*`, `?` and itself literal, and may stand before `}` and
    /// `/`, which would end it.
    pub(crate) fn parse(pattern: &str) -> Result<Pattern, Problem> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(ch @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(ch),
                    other => {
                        return Err(Problem::Escape {
                            pattern: pattern.to_owned(),
                            escaped: other.map(String::from).unwrap_or_default(),
                        });
                    }
                },
                ch => Token::Literal(ch),
            });
        }
        // Several stars are one, and cost less.
        tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
        Ok(Pattern { tokens })
    }

    /// How many characters at the beginning of `text` match, at least or at most.
    fn matching(
        &self,
        text: &[char],
        longest: bool,
        steps: &mut usize,
    ) -> Result<Option<usize>, Problem> {
        let end = self.tokens.len();
        // Token indices that the next character may be matched with; `end` has matched.
        let mut here = vec![false; end + 1];
        let mut there = vec![false; end + 1];
        here[0] = true;
        let mut found = None;
        for at in 0..=text.len() {
            *steps += end + 1;
            if *steps > STEPS_MAX {
                return Err(Problem::Large);
            }
            // A star may match nothing.
            for (token, kind) in self.tokens.iter().enumerate() {
                if here[token] && *kind == Token::Many {
                    here[token + 1] = true;
                }
            }
            if here[end] {
                found = Some(at);
                if !longest {
                    return Ok(found);
                }
            }
            let Some(ch) = text.get(at) else { break };
            let mut alive = false;
            for (token, kind) in self.tokens.iter().enumerate() {
                if !here[token] {
                    continue;
                }
                let next = match kind {
                    Token::Many if *ch != '\n' => token,
                    Token::One if *ch != '\n' => token + 1,
                    Token::Literal(literal) if literal == ch => token + 1,
                    _ => continue,
                };
                there[next] = true;
                alive = true;
            }
            if !alive {
                break;
            }
            std::mem::swap(&mut here, &mut there);
            there.fill(false);
        }
        Ok(found)
    }

    /// The value without its shortest or longest beginning that matches.
    pub(crate) fn without_prefix(&self, value: &str, longest: bool) -> Result<String, Problem> {
        let chars: Vec<char> = value.chars().collect();
        let matched = self.matching(&chars, longest, &mut 0)?.unwrap_or(0);
        Ok(chars[matched..].iter().collect())
    }

    /// The value without its shortest or longest end that matches.
    pub(crate) fn without_suffix(&self, value: &str, longest: bool) -> Result<String, Problem> {
        let chars: Vec<char> = value.chars().rev().collect();
        let reversed = Pattern { tokens: self.tokens.iter().rev().copied().collect() };
        let matched = reversed.matching(&chars, longest, &mut 0)?.unwrap_or(0);
        Ok(chars[matched..].iter().rev().collect())
    }

    /// The value with the first match, or all, replaced. A match is as long as can be. One of
    /// nothing counts too, but not directly behind another.
    pub(crate) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
    ) -> Result<String, Problem> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut steps = 0;
        let mut at = 0;
        let mut behind_match = false;
        while at <= chars.len() {
            if out.len() > crate::expand::EXPANDED_BYTES_MAX {
                return Err(Problem::Large);
            }
            let matched = self.matching(&chars[at..], true, &mut steps)?;
            match matched {
                Some(length) if length > 0 || !behind_match => {
                    out.push_str(replacement);
                    at += length;
                    if !all {
                        break;
                    }
                    behind_match = length > 0;
                    if length == 0 {
                        out.extend(chars.get(at));
                        at += 1;
                    }
                }
                _ => {
                    behind_match = false;
                    out.extend(chars.get(at));
                    at += 1;
                }
            }
        }
        out.extend(chars.iter().skip(at));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn beginnings_and_ends() {
        for (text, value, shortest, longest) in [
            ("*a", "banana", "nana", ""),
            ("b?n", "banana", "ana", "ana"),
            ("x*", "banana", "banana", "banana"),
            ("*", "ab\ncd", "ab\ncd", "\ncd"),
            ("*n*", "banana", "ana", ""),
            ("\\*", "*a", "a", "a"),
            ("\\}", "}a", "a", "a"),
        ] {
            assert_eq!(pattern(text).without_prefix(value, false).unwrap(), shortest, "{text}");
            assert_eq!(pattern(text).without_prefix(value, true).unwrap(), longest, "{text}");
        }
        assert_eq!(pattern(".*").without_suffix("a.b.c", false).unwrap(), "a.b");
        assert_eq!(pattern(".*").without_suffix("a.b.c", true).unwrap(), "a");
        assert_eq!(pattern("\\*c").without_suffix("ab*c", true).unwrap(), "ab");
    }

    #[test]
    fn replacements_as_go_makes_them() {
        for (text, value, replacement, first, all) in [
            ("a", "banana", "o", "bonana", "bonono"),
            ("a*", "banana", "o", "bo", "bo"),
            ("", "abc", "-", "-abc", "-a-b-c-"),
            ("*", "abc", "-", "-", "-"),
            ("x", "abc", "-", "abc", "abc"),
            ("?", "añ", "-", "-ñ", "--"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.replace(value, replacement, false).unwrap(), first, "{text}");
            assert_eq!(pattern.replace(value, replacement, true).unwrap(), all, "{text}");
        }
    }

    #[test]
    fn escapes_that_mean_nothing_are_errors() {
        assert!(matches!(Pattern::parse("\\a"), Err(Problem::Escape { .. })));
        assert!(matches!(Pattern::parse("a\\"), Err(Problem::Escape { .. })));
    }

    #[test]
    fn what_takes_for_ever_is_refused() {
        let value = "a".repeat(1 << 16);
        let hard = pattern(&"*a".repeat(1 << 10));
        assert_eq!(hard.replace(&value, "", true), Err(Problem::Large));
    }
}
