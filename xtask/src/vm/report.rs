//! Turns what the guest says into cases, counts them, and prints them as a test runner does.
//!
//! Pure but for the printing: the machine feeds it lines.

use super::guest::{Job, Kind};

/// Begins a line of the harness itself; see tests/vm/init.
const RECORD: char = '\u{1e}';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
    Ignored,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
}

/// What one line of the guest means to the run as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Booted { release: String },
    Began,
    Ended,
    Done,
    Output,
}

pub(crate) struct Report<'a> {
    jobs: &'a [Job],
    current: Option<Running<'a>>,
    pub(crate) cases: Vec<Case>,
    pub(crate) jobs_ended: usize,
    /// Also prints the output of jobs that passed.
    verbose: bool,
}

struct Running<'a> {
    job: &'a Job,
    output: Vec<String>,
    leaks: Vec<String>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(jobs: &'a [Job], verbose: bool) -> Self {
        Self { jobs, current: None, cases: Vec::new(), jobs_ended: 0, verbose }
    }

    /// Takes one line of the guest's report.
    pub(crate) fn line(&mut self, line: &str) -> Progress {
        let Some(record) = line.strip_prefix(RECORD) else {
            if let Some(running) = &mut self.current {
                if self.verbose {
                    println!("    {line}");
                }
                running.output.push(line.to_owned());
            }
            return Progress::Output;
        };
        let (word, rest) = record.split_once(' ').unwrap_or((record, ""));
        match word {
            "boot" => Progress::Booted { release: rest.to_owned() },
            "begin" => {
                let job = rest.parse().ok().and_then(|number: usize| self.jobs.get(number));
                self.current =
                    job.map(|job| Running { job, output: Vec::new(), leaks: Vec::new() });
                if let Some(job) = job {
                    println!("vm: {}", job.name);
                }
                Progress::Began
            }
            "leak" => {
                if let Some(running) = &mut self.current {
                    running.leaks.push(rest.to_owned());
                }
                Progress::Output
            }
            "end" => {
                let status = rest.rsplit(' ').next().and_then(|status| status.parse().ok());
                self.end(status.unwrap_or(255));
                Progress::Ended
            }
            "done" => Progress::Done,
            _ => Progress::Output,
        }
    }

    /// The guest is gone: a job that was running has failed.
    pub(crate) fn lost(&mut self) {
        if self.current.is_some() {
            self.end(255);
        }
    }

    fn end(&mut self, status: i32) {
        let Some(running) = self.current.take() else {
            return;
        };
        self.jobs_ended += 1;
        let cases = running.cases(status);
        let failed = cases.iter().any(|case| case.outcome == Outcome::Failed);
        if failed && !self.verbose {
            for line in running.output.iter().filter(|line| !line.trim().is_empty()) {
                println!("    {line}");
            }
        }
        for case in cases {
            print_case(&case);
            self.cases.push(case);
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.cases.iter().filter(|case| case.outcome == outcome).count()
    }

    /// True where nothing failed and every job ran.
    pub(crate) fn passed(&self) -> bool {
        self.count(Outcome::Failed) == 0 && self.jobs_ended == self.jobs.len()
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "vm result: {}. {} passed; {} failed; {} skipped; {} ignored; {} of {} jobs ran",
            if self.passed() { "ok" } else { "FAILED" },
            self.count(Outcome::Passed),
            self.count(Outcome::Failed),
            self.count(Outcome::Skipped),
            self.count(Outcome::Ignored),
            self.jobs_ended,
            self.jobs.len(),
        )
    }
}

impl Running<'_> {
    fn cases(&self, status: i32) -> Vec<Case> {
        let mut cases = match self.job.kind {
            Kind::Command => Vec::new(),
            Kind::Tests => test_cases(&self.job.name, &self.output),
        };
        let told = cases.iter().any(|case| case.outcome == Outcome::Failed);
        if cases.is_empty() || (status != 0 && !told) {
            // A command; or tests that ended without saying which of them failed: a crash, the time limit.
            cases.push(self.whole(status));
        }
        if !self.leaks.is_empty() {
            cases.push(Case {
                name: format!("{} leaves nothing behind", self.job.name),
                outcome: Outcome::Failed,
                reason: self.leaks.join("; "),
            });
        }
        cases
    }

    fn whole(&self, status: i32) -> Case {
        let skip = self.output.iter().find_map(|line| line.strip_prefix("SKIP "));
        let (outcome, reason) = match (status, skip) {
            (0, Some(reason)) => (Outcome::Skipped, reason.to_owned()),
            (0, None) => (Outcome::Passed, String::new()),
            // What the guest's timeout(1) exits with, after TERM and after KILL.
            (124 | 137 | 143, _) => (
                Outcome::Failed,
                format!(
                    "exit code {status}: killed, perhaps by its limit of {} s",
                    self.job.seconds_max
                ),
            ),
            (255, _) => {
                (Outcome::Failed, "the guest ended while it ran, or exit code 255".to_owned())
            }
            _ => (Outcome::Failed, format!("exit code {status}")),
        };
        Case { name: self.job.name.clone(), outcome, reason }
    }
}

/// Reads `test NAME ... ok` lines, of Rust's harness and of ours, which gives a reason after a colon. With Rust's,
/// a test that cannot run prints `SKIP NAME: reason` and passes.
fn test_cases(job: &str, output: &[String]) -> Vec<Case> {
    let skips: Vec<(&str, &str)> = output
        .iter()
        .filter_map(|line| line.trim_start().strip_prefix("SKIP ")?.split_once(": "))
        .collect();
    let case_of = |line: &String| {
        let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let (word, reason) = result.split_once([':', ',']).unwrap_or((result, ""));
        let outcome = match word.trim_end() {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "ignored" => Outcome::Ignored,
            "SKIP" | "expected failure" => Outcome::Skipped,
            _ => return None,
        };
        // A test may name itself without its module's path.
        let short = name.rsplit("::").next().unwrap_or(name);
        let skip = skips.iter().find(|(who, _)| *who == name || *who == short);
        let (outcome, reason) = match (outcome, skip) {
            (Outcome::Passed, Some((_, reason))) => (Outcome::Skipped, *reason),
            _ => (outcome, reason.trim()),
        };
        Some(Case { name: format!("{job} {name}"), outcome, reason: reason.to_owned() })
    };
    output.iter().filter_map(case_of).collect()
}

fn print_case(case: &Case) {
    let word = match case.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "SKIP",
        Outcome::Ignored => "ignored",
    };
    if case.reason.is_empty() {
        println!("  test {} ... {word}", case.name);
    } else {
        println!("  test {} ... {word}: {}", case.name, case.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(kind: Kind) -> Vec<Job> {
        vec![Job { name: "j".into(), kind, script: String::new(), seconds_max: 9 }]
    }

    fn check(kind: Kind, lines: &[&str], expected: &[(&str, Outcome)], passed: bool) {
        let jobs = job(kind);
        let mut report = Report::new(&jobs, false);
        for line in lines {
            report.line(line);
        }
        report.lost();
        let cases: Vec<_> = report.cases.iter().map(|c| (c.name.as_str(), c.outcome)).collect();
        assert_eq!(cases, expected, "{lines:?}");
        assert_eq!(report.passed(), passed, "{lines:?}");
    }

    #[test]
    fn commands_are_judged_by_their_exit() {
        use Outcome::{Failed, Passed, Skipped};
        let kind = Kind::Command;
        check(kind, &["\u{1e}begin 0000", "x", "\u{1e}end 0000 0"], &[("j", Passed)], true);
        check(kind, &["\u{1e}begin 0000", "\u{1e}end 0000 3"], &[("j", Failed)], false);
        check(
            kind,
            &["\u{1e}begin 0000", "SKIP j: no", "\u{1e}end 0000 0"],
            &[("j", Skipped)],
            true,
        );
        check(
            kind,
            &["\u{1e}begin 0000", "SKIP j: no", "\u{1e}end 0000 1"],
            &[("j", Failed)],
            false,
        );
        // The guest died; the guest never began.
        check(kind, &["\u{1e}begin 0000", "x"], &[("j", Failed)], false);
        check(kind, &["\u{1e}boot 6.12"], &[], false);
    }

    #[test]
    fn leaks_fail() {
        let lines = ["\u{1e}begin 0000", "\u{1e}leak cgroup /x", "\u{1e}end 0000 0"];
        let expected = [("j", Outcome::Passed), ("j leaves nothing behind", Outcome::Failed)];
        check(Kind::Command, &lines, &expected, false);
    }

    #[test]
    fn test_programs_are_judged_by_their_cases() {
        use Outcome::{Failed, Ignored, Passed, Skipped};
        let kind = Kind::Tests;
        let begin = "\u{1e}begin 0000";
        check(
            kind,
            &[
                begin,
                "test a::one ... ok",
                "test two ... ignored, slow",
                "test a::three ... ok",
                "SKIP three: no swap",
                "test four-a ... SKIP: no profile: none",
                "test result: ok. 2 passed",
                "\u{1e}end 0000 0",
            ],
            &[
                ("j a::one", Passed),
                ("j two", Ignored),
                ("j a::three", Skipped),
                ("j four-a", Skipped),
            ],
            true,
        );
        check(kind, &[begin, "test x ... FAILED", "\u{1e}end 0000 101"], &[("j x", Failed)], false);
        // A crash is not hidden by the cases that passed before it.
        check(
            kind,
            &[begin, "test x ... ok", "\u{1e}end 0000 134"],
            &[("j x", Passed), ("j", Failed)],
            false,
        );
    }
}
