//! Relations between packages: `Depends` and its kin (Debian Policy, chapter 7).

use std::{fmt, str::FromStr};

use crate::{Version, control::is_package_name, version};

/// Clauses of one field, and alternatives of one clause. Debian's longest have a few hundred.
const CLAUSES_MAX: usize = 10_000;
const ALTERNATIVES_MAX: usize = 1_000;

/// How a version has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// One package that is spoken of: `libc6 (>= 2.34)`, `python3:any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name, or that of a virtual package.
    pub name: String,
    /// What stands behind the colon: `any`, `native`, an architecture.
    pub qualifier: Option<String>,
    /// Which versions.
    pub version: Option<(Operator, Version)>,
    /// For which architectures it is said; for all where there is none.
    pub architectures: Vec<String>,
}

/// Alternatives, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause(pub Vec<Relation>);

/// Why a text is no list of relations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no relation between packages: {why}")]
pub struct RelationError {
    text: String,
    why: &'static str,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("<<", Operator::Earlier),
    ("<=", Operator::EarlierOrEqual),
    (">=", Operator::LaterOrEqual),
    (">>", Operator::Later),
    ("=", Operator::Equal),
    // As dpkg reads these, which Policy calls obsolete.
    ("<", Operator::EarlierOrEqual),
    (">", Operator::LaterOrEqual),
];

impl Operator {
    /// Whether a version, compared to the one behind the operator, is as wanted.
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Operator::Earlier => order.is_lt(),
            Operator::EarlierOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::LaterOrEqual => order.is_ge(),
            Operator::Later => order.is_gt(),
        }
    }

    fn text(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("", |(text, _)| text)
    }
}

impl Relation {
    /// Whether a package of this version is meant, as far as its version goes.
    pub fn admits(&self, found: &str) -> bool {
        match &self.version {
            None => true,
            Some((operator, wanted)) => operator.holds(version::compare(found, wanted.as_str())),
        }
    }

    /// Whether it is said for this architecture.
    pub fn is_for(&self, architecture: &str) -> bool {
        let Some(first) = self.architectures.first() else { return true };
        // All are negated, or none.
        match first.starts_with('!') {
            true => !self.architectures.iter().any(|a| matches(&a[1..], architecture)),
            false => self.architectures.iter().any(|a| matches(a, architecture)),
        }
    }
}

/// `amd64`, `any`, `linux-any`, `any-amd64`.
fn matches(wildcard: &str, architecture: &str) -> bool {
    wildcard == architecture
        || wildcard == "any"
        || wildcard == "linux-any"
        || wildcard.strip_prefix("any-") == Some(architecture)
        || wildcard.strip_prefix("linux-") == Some(architecture)
}

/// The clauses of a field. Empty ones, as a comma at the end makes them, are nothing.
pub fn clauses(field: &str) -> Result<Vec<Clause>, RelationError> {
    let mut clauses = Vec::new();
    for text in field.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        if clauses.len() == CLAUSES_MAX {
            return Err(wrong(text, "there are too many"));
        }
        clauses.push(text.parse()?);
    }
    Ok(clauses)
}

fn wrong(text: &str, why: &'static str) -> RelationError {
    RelationError { text: text.chars().take(200).collect(), why }
}

impl FromStr for Clause {
    type Err = RelationError;

    fn from_str(text: &str) -> Result<Clause, RelationError> {
        let mut alternatives = Vec::new();
        for alternative in text.split('|') {
            if alternatives.len() == ALTERNATIVES_MAX {
                return Err(wrong(text, "there are too many alternatives"));
            }
            alternatives.push(alternative.parse()?);
        }
        Ok(Clause(alternatives))
    }
}

impl FromStr for Relation {
    type Err = RelationError;

    fn from_str(text: &str) -> Result<Relation, RelationError> {
        let wrong = |why| wrong(text, why);
        let text_ = text.trim();
        let end = text_
            .find(|c: char| c.is_ascii_whitespace() || "([<".contains(c))
            .unwrap_or(text_.len());
        let (name, mut rest) = text_.split_at(end);
        let (name, qualifier) = match name.split_once(':') {
            None => (name, None),
            Some((name, qualifier)) if is_plain(qualifier) => (name, Some(qualifier.to_owned())),
            Some(_) => return Err(wrong("there is no architecture behind the colon")),
        };
        if !is_package_name(name) {
            return Err(wrong("it has no package's name"));
        }
        let mut relation =
            Relation { name: name.to_owned(), qualifier, version: None, architectures: Vec::new() };
        rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('(') {
            let (inner, after) = inner.split_once(')').ok_or_else(|| wrong("no ) closes its ("))?;
            relation.version = Some(constraint(inner.trim()).ok_or_else(|| {
                wrong("there is no operator and version between its parentheses")
            })?);
            rest = after.trim_start();
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (inner, after) = inner.split_once(']').ok_or_else(|| wrong("no ] closes its ["))?;
            let words: Vec<String> = inner.split_ascii_whitespace().map(str::to_owned).collect();
            let negated = words.iter().filter(|word| word.starts_with('!')).count();
            let all_plain =
                words.iter().all(|word| is_plain(word.strip_prefix('!').unwrap_or(word)));
            if words.is_empty() || !all_plain || (negated != 0 && negated != words.len()) {
                return Err(wrong("there is no list of architectures between its brackets"));
            }
            relation.architectures = words;
            rest = after.trim_start();
        }
        // Build profiles, which binary packages do not have.
        match rest.is_empty() {
            true => Ok(relation),
            false => Err(wrong("something follows it")),
        }
    }
}

/// A word as architectures and qualifiers are.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn constraint(text: &str) -> Option<(Operator, Version)> {
    let (sign, operator) = OPERATORS.iter().find(|(sign, _)| text.starts_with(sign))?;
    Some((*operator, text[sign.len()..].trim().parse().ok()?))
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(f, " ({} {version})", operator.text())?;
        }
        if !self.architectures.is_empty() {
            write!(f, " [{}]", self.architectures.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, relation) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            relation.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let cases: &[(&str, Result<&str, &str>)] = &[
            ("", Ok("")),
            ("libc6", Ok("libc6")),
            ("libc6(>=2.34),", Ok("libc6 (>= 2.34)")),
            ("a | b:any (<< 1:2-3) ,\n c", Ok("a | b:any (<< 1:2-3), c")),
            ("a (< 1), b (> 1)", Ok("a (<= 1), b (>= 1)")),
            ("a [!amd64 !i386]", Ok("a [!amd64 !i386]")),
            ("a (= 1) [linux-any]", Ok("a (= 1) [linux-any]")),
            ("a [amd64 !i386]", Err("list of architectures")),
            ("a ()", Err("operator and version")),
            ("a (1)", Err("operator and version")),
            ("a (>= 1", Err("no ) closes")),
            ("a b", Err("something follows")),
            ("a <!nocheck>", Err("something follows")),
            ("| a", Err("no package's name")),
            ("../a", Err("no package's name")),
            ("a:", Err("behind the colon")),
        ];
        for (text, want) in cases {
            let got = clauses(text).map(|clauses| {
                clauses.iter().map(Clause::to_string).collect::<Vec<_>>().join(", ")
            });
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, *want),
                (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{text}: {e}"),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn versions_and_architectures() {
        let cases = [
            ("a (>= 1.0)", "1.0", true),
            ("a (>= 1.0)", "1.0~rc1", false),
            ("a (<< 2)", "2~", true),
            ("a (= 1)", "1-0", true),
            ("a (>> 1)", "1", false),
            ("a", "0", true),
        ];
        for (text, found, want) in cases {
            assert_eq!(text.parse::<Relation>().unwrap().admits(found), want, "{text} {found}");
        }
        let cases = [
            ("a", true),
            ("a [amd64]", true),
            ("a [i386]", false),
            ("a [!i386]", true),
            ("a [!amd64 !i386]", false),
            ("a [linux-any]", true),
            ("a [any-amd64]", true),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Relation>().unwrap().is_for("amd64"), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_the_same(text in "[ab:|, ()<>=!\\[\\]01.-]{0,40}") {
            if let Ok(clauses) = clauses(&text) {
                for clause in clauses {
                    proptest::prop_assert_eq!(clause.to_string().parse(), Ok(clause));
                }
            }
        }
    }
}
