//! Patterns of `--regex`: what is needed of POSIX's extended ones to name containers.
//!
//! `.`, `[a-z]`, `[^a]`, `*`, `+`, `?`, `^`, `$`, `|` between whole patterns, and `\` before any.
//! It matches anywhere in the ID unless anchored.

/// A parsed pattern: one of these must match.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Branch>);

#[derive(Debug)]
struct Branch {
    from_start: bool,
    to_end: bool,
    items: Vec<(Item, Times)>,
}

#[derive(Debug)]
enum Item {
    Any,
    One(char),
    Of { ranges: Vec<(char, char)>, not: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    least: usize,
    many: bool,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Pattern, String> {
        let mut branches = Vec::new();
        let mut chars = text.chars().peekable();
        let mut branch = Branch { from_start: false, to_end: false, items: Vec::new() };
        while let Some(c) = chars.next() {
            if branch.to_end && c != '|' {
                return Err("'$' is not at the end".to_owned());
            }
            let item = match c {
                '^' if branch.items.is_empty() => {
                    branch.from_start = true;
                    continue;
                }
                '$' => {
                    branch.to_end = true;
                    continue;
                }
                '|' => {
                    let next = Branch { from_start: false, to_end: false, items: Vec::new() };
                    branches.push(std::mem::replace(&mut branch, next));
                    continue;
                }
                '(' | ')' | '{' | '}' => return Err(format!("'{c}' is not supported")),
                '*' | '+' | '?' => return Err(format!("'{c}' follows nothing")),
                '.' => Item::Any,
                '\\' => Item::One(chars.next().ok_or("'\\' is at the end")?),
                '[' => class(&mut chars)?,
                c => Item::One(c),
            };
            let times = match chars.peek() {
                Some('*') => Times { least: 0, many: true },
                Some('+') => Times { least: 1, many: true },
                Some('?') => Times { least: 0, many: false },
                _ => {
                    branch.items.push((item, Times { least: 1, many: false }));
                    continue;
                }
            };
            chars.next();
            branch.items.push((item, times));
        }
        branches.push(branch);
        Ok(Pattern(branches))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.0.iter().any(|branch| {
            let starts = if branch.from_start { 0..=0 } else { 0..=text.len() };
            starts.into_iter().any(|start| branch.matches_at(&text, start))
        })
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Item, String> {
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges: Vec<(char, char)> = Vec::new();
    loop {
        match chars.next().ok_or("'[' has no end")? {
            ']' if !ranges.is_empty() => return Ok(Item::Of { ranges, not }),
            first => {
                let mut ahead = chars.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('-'), Some(last)) if last != ']' => {
                        *chars = ahead;
                        ranges.push((first, last));
                    }
                    _ => ranges.push((first, first)),
                }
            }
        }
    }
}

impl Branch {
    /// The set of positions that the items so far can have come to: no backtracking, so no pattern
    /// is slow.
    fn matches_at(&self, text: &[char], start: usize) -> bool {
        let mut at = vec![start];
        for (item, times) in &self.items {
            let mut next = Vec::new();
            for position in at {
                let mut p = position;
                let mut count = 0;
                loop {
                    if count >= times.least && !next.contains(&p) {
                        next.push(p);
                    }
                    if (count == 1 && !times.many) || !text.get(p).is_some_and(|c| item.is(*c)) {
                        break;
                    }
                    p += 1;
                    count += 1;
                }
            }
            at = next;
        }
        at.into_iter().any(|p| !self.to_end || p == text.len())
    }
}

impl Item {
    fn is(&self, c: char) -> bool {
        match self {
            Item::Any => true,
            Item::One(one) => *one == c,
            Item::Of { ranges, not } => ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *not,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            ("web", &["web", "my-web-1"][..], &["we", ""][..]),
            ("^web$", &["web"], &["web1", "aweb"]),
            ("^w.b-[0-9]+$", &["web-1", "wxb-123"], &["web-", "web-x"]),
            ("a|^b", &["xa", "bx"], &["xb"]),
            ("^a?b*$", &["", "a", "abb"], &["aab", "ba"]),
            ("^[^a-c]$", &["d"], &["a", "b", ""]),
            (r"^a\.b$", &["a.b"], &["axb"]),
        ] {
            let p = Pattern::new(pattern).unwrap();
            for text in yes {
                assert!(p.matches(text), "{pattern} {text}");
            }
            for text in no {
                assert!(!p.matches(text), "{pattern} {text}");
            }
        }
        for bad in ["*", "[a", "(a)", "a$b", "\\"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
