//! How findings are shown: lines around them as BuildKit prints them, the words underlined, and
//! reports as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    check::{Report, Warning},
    error::Error,
    source::{Lines, Source, Span},
};

/// The frame around source lines.
const RULER: &str = "--------------------\n";

/// Lines with some around them, marked with `>>>`, and words of them underlined.
///
/// ```text
/// Dockerfile:2
/// --------------------
///    1 |     FROM alpine
///    2 | >>> COPY $foo .
///      |          ^^^^
///    3 |     RUN make
/// --------------------
/// ```
pub fn excerpt(source: &Source, lines: Lines, span: Option<Span>) -> String {
    let mut out = String::new();
    let all = source.lines();
    if lines.first == 0 || lines.first > all {
        return out;
    }
    let (mut first, mut last) = (lines.first, lines.last.clamp(lines.first, all));
    // Two lines around several, four around one; what one side lacks is not given to the other.
    let around = if first == last { 4 } else { 2 };
    let mut given = 0;
    while given < around {
        if first > 1 {
            first -= 1;
            given += 1;
        }
        if last < all {
            last += 1;
            given += 1;
        }
        given += 1;
    }
    let _ = write!(out, "{}:{}\n{RULER}", source.name(), lines.first);
    for line in first..=last {
        let marked = (lines.first..=lines.last).contains(&line);
        let mark = if marked { ">>>" } else { "   " };
        let text = source.line(line).unwrap_or_default();
        let _ = writeln!(out, " {line:3} | {mark} {}", text.trim_end_matches('\r'));
        if let Some(underline) = span.and_then(|span| underline(source, line, span)) {
            let _ = writeln!(out, "     |     {underline}");
        }
    }
    out.push_str(RULER);
    out
}

/// Carets below the part of a span that is on a line.
fn underline(source: &Source, line: usize, span: Span) -> Option<String> {
    let at = source.line_span(line)?;
    let part = Span { start: span.start.max(at.start), end: span.end.min(at.end) };
    let part = (!part.is_empty()).then_some(part)?;
    let shown = |span| String::from_utf8_lossy(source.slice(span)).into_owned();
    let before = shown(Span { start: at.start, end: part.start });
    let words = shown(part);
    // Blanks that a continued line begins with, and what continues it, are not what is meant.
    let skipped = words.len() - words.trim_start().len();
    let (blank, words) = words.split_at(skipped);
    let words = words.trim_end();
    let words =
        if span.end > part.end { words.trim_end_matches(['\\', '`']).trim_end() } else { words };
    if words.is_empty() || words.starts_with('#') && part.start == at.start {
        return None;
    }
    // Tabs stay, so that carets stand where the words do.
    let blanks = |text: &str| -> String {
        text.chars().map(|ch| if ch == '\t' { '\t' } else { ' ' }).collect()
    };
    Some(format!("{}{}{}", blanks(&before), blanks(blank), "^".repeat(words.chars().count())))
}

/// A warning with its lines.
pub fn warning(source: &Source, warning: &Warning) -> String {
    let mut out = format!("WARNING: {} - {}\n", warning.rule.name, warning.rule.url);
    let _ = writeln!(out, "{}", warning.message);
    out + &excerpt(source, warning.lines, warning.span)
}

/// A warning on one line, as a build ends with them.
pub fn short(warning: &Warning) -> String {
    let (rule, line) = (warning.rule.name, warning.lines.first);
    format!("{rule}: {} (line {line})", warning.message)
}

/// An error with its lines.
pub fn error(source: &Source, error: &Error) -> String {
    format!("{error}\n{}", excerpt(source, error.lines, error.span))
}

/// What an error that comes from `error=true` is called.
pub fn violations(report: &Report) -> Option<String> {
    let names = report.violations.join(", ");
    (!names.is_empty()).then(|| format!("lint violation found for rules: {names}"))
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.warnings.is_empty() && self.error.is_none()
    }

    /// The report as `docker build --check` prints it: what goes to standard output, and the error
    /// that goes to the other.
    pub fn text(&self, source: &Source) -> (String, Option<String>) {
        let mut out = String::new();
        match self.warnings.len() {
            0 => {}
            1 => out.push_str("Check complete, 1 warning has been found!\n"),
            many => {
                let _ = writeln!(out, "Check complete, {many} warnings have been found!");
            }
        }
        for found in &self.warnings {
            out.push('\n');
            out.push_str(&warning(source, found));
        }
        let failed = match (&self.error, violations(self)) {
            (Some(found), _) => Some(error(source, found)),
            (None, violations) => violations,
        };
        if self.is_clean() {
            out.push_str("Check complete, no warnings found.\n");
        }
        (out, failed)
    }

    /// The report as `docker build --call=check,format=json` prints it.
    pub fn json(&self, source: &Source) -> Value {
        let warnings: Vec<_> = self
            .warnings
            .iter()
            .map(|warning| {
                json!({
                    "ruleName": warning.rule.name,
                    "description": warning.rule.description,
                    "url": warning.rule.url,
                    "detail": warning.message,
                    "location": location(warning.lines),
                })
            })
            .collect();
        let mut out = json!({
            "warnings": warnings,
            "sources": [{
                "filename": source.name(),
                "data": base64(source.bytes()),
                "language": "Dockerfile",
            }],
        });
        let failed = match (&self.error, violations(self)) {
            (Some(error), _) => {
                Some(json!({ "message": error.to_string(), "location": location(error.lines) }))
            }
            (None, Some(violations)) => Some(json!({ "message": violations, "location": {} })),
            (None, None) => None,
        };
        if let (Some(failed), Some(object)) = (failed, out.as_object_mut()) {
            object.insert("buildError".into(), failed);
        }
        out
    }
}

/// A place as BuildKit's protocol has it: a range for each line.
pub(crate) fn location(lines: Lines) -> Value {
    if lines.first == 0 {
        return json!({});
    }
    let range = |line: usize| json!({ "start": { "line": line }, "end": { "line": line } });
    json!({ "ranges": (lines.first..=lines.last).map(range).collect::<Vec<_>>() })
}

/// Base64, as JSON carries bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    out
}

/// Columns that are as wide as their widest cell, two blanks apart.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let is_last = at + 1 == row.len();
            let pad = if is_last { 0 } else { widths[at] + 2 - cell.chars().count() };
            let _ = write!(out, "{cell}{}", " ".repeat(pad));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{NoFacts, Request, check};

    #[test]
    fn lines_are_shown_as_buildkit_shows_them() {
        let source = Source::new("Dockerfile", "FROM a\nRUN b\nCOPY $foo .\nRUN c\nRUN d\nRUN e\n");
        let lines = Lines::one(3);
        assert_eq!(
            excerpt(&source, lines, None),
            "Dockerfile:3\n\
             --------------------\n   1 |     FROM a\n   2 |     RUN b\n   3 | >>> COPY $foo .\n   \
             4 |     RUN c\n   5 |     RUN d\n--------------------\n"
        );
        let first = excerpt(&source, Lines::one(1), None);
        assert!(first.starts_with("Dockerfile:1\n--------------------\n   1 | >>> FROM a\n"));
        assert_eq!(first.lines().count(), 6);
        assert_eq!(excerpt(&source, Lines::one(99), None), "");
    }

    #[test]
    fn words_are_underlined_on_each_of_their_lines() {
        let text = "FROM a\nCOPY\t$foo \\\n  $bär \\\n .\n";
        let source = Source::new("D", text);
        let span = Span { start: text.find("$foo").unwrap(), end: text.find(" \\\n .").unwrap() };
        let shown = excerpt(&source, Lines { first: 2, last: 4 }, Some(span));
        assert!(shown.contains("   2 | >>> COPY\t$foo \\\n     |         \t^^^^\n"), "{shown}");
        assert!(shown.contains("   3 | >>>   $bär \\\n     |       ^^^^\n"), "{shown}");
    }

    #[test]
    fn reports_as_text() {
        let print = |text: &str| {
            let report = check(text.as_bytes(), &Request::new(), &NoFacts).unwrap();
            report.text(&Source::new("Dockerfile", text))
        };
        assert_eq!(print("FROM scratch\n"), ("Check complete, no warnings found.\n".into(), None));
        let (out, error) = print("FROM scratch AS Base\n");
        assert_eq!(
            out,
            "Check complete, 1 warning has been found!\n\n\
             WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
             Stage name 'Base' should be lowercase\n\
             Dockerfile:1\n--------------------\n   \
             1 | >>> FROM scratch AS Base\n     |                     ^^^^\n   2 |     \n\
             --------------------\n"
        );
        assert_eq!(error, None);
        let (out, error) = print("# check=error=true\nFROM scratch as base\nCMD x\n");
        assert!(out.starts_with("Check complete, 2 warnings have been found!\n"));
        let expected = "lint violation found for rules: FromAsCasing, JSONArgsRecommended";
        assert_eq!(error.as_deref(), Some(expected));
        let (_, error) = print("FROM scratch\nBANANA\n");
        assert!(error.unwrap().starts_with(
            "dockerfile parse error on line 2: unknown instruction: BANANA\nDockerfile:2\n"
        ));
    }

    #[test]
    fn reports_as_json() {
        let text = "FROM scratch\nCMD a \\\n  b\n";
        let report = check(text.as_bytes(), &Request::new(), &NoFacts).unwrap();
        let json = report.json(&Source::new("Dockerfile", text));
        assert_eq!(json["warnings"][0]["ruleName"], "JSONArgsRecommended");
        let ranges = &json["warnings"][0]["location"]["ranges"];
        assert_eq!(ranges[1], json!({ "start": { "line": 3 }, "end": { "line": 3 } }));
        assert_eq!(json["sources"][0]["data"], "RlJPTSBzY3JhdGNoCkNNRCBhIFwKICBiCg==");
        assert_eq!(json.get("buildError"), None);
        let report = check(b"FROM", &Request::new(), &NoFacts).unwrap();
        let json = report.json(&Source::new("Dockerfile", "FROM"));
        assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 1);
    }
}
