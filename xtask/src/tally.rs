//! Counting tests from what test runners print.
//!
//! Two runners are understood: Rust's own (`test result: …`, doc tests included) and the harness of
//! `hako-tests`, which closes with `<surface>: N passed, N failed, N skipped`. Under Rust's own a
//! test that cannot run here prints `SKIP <test>: <reason>` and returns, so it is counted as passed
//! there and moved to skipped here.

use std::collections::BTreeSet;

/// What ran, and why some of it did not.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and passed.
    pub(crate) passed: usize,
    /// Tests that ran and failed.
    pub(crate) failed: usize,
    /// Tests that could not run.
    pub(crate) skipped: usize,
    /// One line for each test that could not run: `<test>: <reason>`.
    pub(crate) reasons: Vec<String>,
    /// Names of the tests that failed.
    pub(crate) failures: Vec<String>,
    /// Names of the tests that passed: rows as `surface/row`, others without their module.
    pub(crate) ran: BTreeSet<String>,
}

impl Tally {
    /// One check that passed or failed as a whole.
    pub(crate) fn check(name: &str, passed: bool) -> Self {
        if passed {
            Self { passed: 1, ..Self::default() }
        } else {
            Self { failed: 1, failures: vec![name.to_owned()], ..Self::default() }
        }
    }

    /// One check that could not run.
    pub(crate) fn skip(name: &str, reason: &str) -> Self {
        Self { skipped: 1, reasons: vec![format!("{name}: {reason}")], ..Self::default() }
    }

    /// Reads what a test runner printed.
    pub(crate) fn read(lines: &[String]) -> Self {
        let mut tally = Self::default();
        let mut pending = 0;
        for line in lines {
            if let Some(reason) = line.strip_prefix("SKIP ") {
                pending += 1;
                tally.reasons.push(reason.to_owned());
            } else if let Some(name) = passed_test(line) {
                tally.ran.insert(last_part(name).to_owned());
            } else if let Some(name) = failed_test(line) {
                tally.failures.push(name.to_owned());
            } else if line.starts_with("test result: ") {
                let ignored = number_before(line, " ignored");
                tally.passed += number_before(line, " passed").saturating_sub(pending);
                tally.failed += number_before(line, " failed");
                tally.skipped += ignored + pending;
                pending = 0;
            } else if is_closing_line(line) {
                tally.passed += number_before(line, " passed");
                tally.failed += number_before(line, " failed");
                tally.skipped += number_before(line, " skipped");
                pending = 0;
            }
        }
        // Under Rust's own runner these passed as well.
        for line in &tally.reasons {
            tally.ran.remove(last_part(name_of(line)));
        }
        tally
    }

    /// The same with the rows' names as their surface has them.
    pub(crate) fn of_surface(mut self, surface: &str) -> Self {
        self.ran = self.ran.iter().map(|row| format!("{surface}/{row}")).collect();
        self
    }

    /// Strikes out what was skipped here and ran elsewhere: how much that was.
    pub(crate) fn forget(&mut self, elsewhere: &BTreeSet<String>) -> usize {
        let before = self.reasons.len();
        let is_row = |name: &str| name.contains('/');
        self.reasons.retain(|line| {
            let name = name_of(line);
            !elsewhere.contains(if is_row(name) { name } else { last_part(name) })
        });
        let struck = before - self.reasons.len();
        self.skipped = self.skipped.saturating_sub(struck);
        struck
    }

    /// Adds another one to this.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons);
        self.failures.extend(other.failures);
        self.ran.extend(other.ran);
    }
}

/// `test NAME ... ok`
fn passed_test(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    (result == "ok").then_some(name)
}

/// The name in a line of [`Tally::reasons`].
fn name_of(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(name, _)| name)
}

/// A test's name without the path of its module.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// `test NAME ... FAILED`, with or without a reason behind it.
fn failed_test(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    result.starts_with("FAILED").then_some(name)
}

/// `<word>: N passed, N failed, N skipped`
fn is_closing_line(line: &str) -> bool {
    let Some((word, rest)) = line.split_once(": ") else { return false };
    let parts: Vec<&str> = rest.split(", ").collect();
    !word.contains(' ')
        && parts.len() == 3
        && parts.iter().zip([" passed", " failed", " skipped"]).all(|(part, what)| {
            part.strip_suffix(what).is_some_and(|number| number.parse::<usize>().is_ok())
        })
}

fn number_before(line: &str, what: &str) -> usize {
    line.find(what)
        .map(|end| &line[..end])
        .and_then(|head| head.rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (usize, usize, usize) {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let tally = Tally::read(&lines);
        (tally.passed, tally.failed, tally.skipped)
    }

    #[test]
    fn reads_both_runners() {
        let libtest = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out";
        let failing = "test a::b ... FAILED\ntest result: FAILED. 5 passed; 2 failed; 0 ignored;";
        assert_eq!(read(libtest), (5, 0, 1));
        assert_eq!(read(failing), (5, 2, 0));
        assert_eq!(read(&format!("SKIP x: no root\n{libtest}\n{libtest}")), (9, 0, 3));
        assert_eq!(read("SKIP x: no\noci_runtime: 7 passed, 1 failed, 1 skipped"), (7, 1, 1));
        assert_eq!(read("a note: 7 passed, 1 failed, 1 skipped"), (0, 0, 0));
        assert_eq!(read("nothing at all"), (0, 0, 0));
    }

    #[test]
    fn what_ran_elsewhere_is_no_longer_skipped() {
        let lines = ["test m::a ... ok", "SKIP b: no", "test m::b ... ok", "test c ... SKIP: no"];
        let host = Tally::read(&lines.map(str::to_owned));
        assert_eq!(host.ran, BTreeSet::from(["a".to_owned()]));
        let mut skipped = Tally::skip("m::a", "no v1");
        skipped.add(Tally::skip("s/a", "no v2"));
        assert_eq!(skipped.forget(&host.ran), 1);
        assert_eq!(
            (skipped.skipped, skipped.reasons.as_slice()),
            (1, &["s/a: no v2".to_owned()][..])
        );
        assert_eq!(skipped.forget(&host.of_surface("s").ran), 1);
    }

    #[test]
    fn names_what_failed_and_why_some_did_not_run() {
        let lines =
            ["test a::b ... FAILED: left", "SKIP c: no crun", "test d ... ok"].map(str::to_owned);
        let tally = Tally::read(&lines);
        assert_eq!(tally.failures, ["a::b"]);
        assert_eq!(tally.reasons, ["c: no crun"]);
    }
}
