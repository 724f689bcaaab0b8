//! Runs a table of cases and counts: passed, failed, skipped.
//!
//! ```text
//! usage: <surface> [--list] [--exact] [--nocapture] [FILTER...]
//! test <name> ... ok | SKIP: <reason> | FAILED | expected failure: <reason>
//! SKIP <name>: <reason>
//! <surface>: N passed, N failed, N skipped
//! ```
//! Cases run in a few threads; each one's panic is caught, told from a skip, and printed at the end
//! together with the others, under the case's specification section.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    caller::{self, Caller},
    leak, sandbox,
};

/// What a test throws to say that it cannot run here; see [`skip!`](crate::skip).
pub struct Skip(pub String);

/// One row of a surface's table.
pub struct Case {
    /// Its name, unique in the table; words joined by `-`.
    pub name: &'static str,
    /// What demands it: a section of a specification, a CVE, an issue.
    pub source: &'static str,
    /// The demand, in one sentence.
    pub must: &'static str,
    /// Peers that are known to fail it, as `(runtime, why)`: not an error when they do.
    pub peers_fail: &'static [(&'static str, &'static str)],
    /// Whether it must run while no other case does.
    pub alone: bool,
    /// By whom it is run, each for itself.
    pub callers: &'static [Caller],
    /// Does it, and panics where the demand is not met.
    pub run: fn(),
}

impl Case {
    /// A row.
    pub const fn new(
        name: &'static str,
        source: &'static str,
        must: &'static str,
        run: fn(),
    ) -> Self {
        Self { name, source, must, peers_fail: &[], alone: false, callers: &[Caller::Root], run }
    }

    /// It is run by ordinary users, too.
    #[must_use]
    pub const fn also_by_users(self) -> Self {
        self.by(&[Caller::Root, Caller::User, Caller::Subordinate])
    }

    /// By whom it is run.
    #[must_use]
    pub const fn by(mut self, callers: &'static [Caller]) -> Self {
        self.callers = callers;
        self
    }

    /// Peers that are known to fail it.
    #[must_use]
    pub const fn peers_fail(mut self, peers: &'static [(&'static str, &'static str)]) -> Self {
        self.peers_fail = peers;
        self
    }

    /// It changes or measures what the others see, so it runs by itself.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// A case as one caller runs it.
#[derive(Clone)]
struct Row<'a> {
    case: &'a Case,
    caller: Caller,
    name: String,
}

impl<'a> Row<'a> {
    fn of(case: &'a Case) -> impl Iterator<Item = Self> {
        let row =
            |caller: &Caller| Row { case, caller: *caller, name: format!("{}{caller}", case.name) };
        case.callers.iter().map(row)
    }
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
    ExpectedFailure(String),
}

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Options of a run, from the command line.
struct Options {
    list: bool,
    exact: bool,
    filters: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { list: false, exact: false, filters: Vec::new() };
        for argument in arguments {
            match argument.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                // Other flags of Rust's own runner change what is printed, not what is run.
                flag if flag.starts_with('-') => {}
                _ => options.filters.push(argument),
            }
        }
        options
    }

    fn chooses(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact { name == filter } else { name.contains(filter.as_str()) }
        };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}

/// The `main` of a surface.
pub fn run(surface: &str, tables: &[&[Case]]) -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    let cases: Vec<&Case> = tables.iter().flat_map(|table| table.iter()).collect();
    let rows = cases.iter().copied().flat_map(Row::of);
    let chosen: Vec<Row<'_>> = rows.filter(|row| options.chooses(&row.name)).collect();
    if let Some(twice) = twice(&cases) {
        eprintln!("{surface}: two cases are named {twice}");
        return ExitCode::FAILURE;
    }
    if options.list {
        for Row { case, name, .. } in &chosen {
            println!("{name:<44} {:<40} {}", case.source, case.must);
        }
        return ExitCode::SUCCESS;
    }
    match sandbox::enter(surface) {
        Ok(sandbox::Place::Inside) => {}
        Ok(sandbox::Place::Done(code)) => return code,
        Err(error) => {
            eprintln!("{surface}: cannot make a sandbox: {error}");
            return ExitCode::FAILURE;
        }
    }
    catch_messages();

    let before = leak::Snapshot::take();
    let mut results: Vec<(Row<'_>, Outcome)> = Vec::new();
    let (alone, together): (Vec<Row<'_>>, Vec<Row<'_>>) =
        chosen.into_iter().partition(|row| row.case.alone);
    results.extend(run_together(&together, jobs()));
    results.extend(run_together(&alone, 1));
    let leaks = before.leaks();

    report(surface, &results, &leaks)
}

fn jobs() -> usize {
    std::env::var("HAKO_TEST_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(4).max(1)
}

fn twice<'a>(cases: &[&'a Case]) -> Option<&'a str> {
    let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Keeps what a panic says for the report, in place of printing it at once.
fn catch_messages() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{place}: ")).unwrap_or_default();
        let message = format!("{place}{}", said(info.payload()));
        MESSAGE.with_borrow_mut(|kept| {
            // A panic while another one unwinds must not hide the first.
            if !kept.is_empty() {
                kept.push_str("\nthen ");
            }
            kept.push_str(&message);
        });
    }));
}

fn said(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if let Some(Skip(reason)) = payload.downcast_ref::<Skip>() {
        reason.clone()
    } else {
        "a panic without words".to_owned()
    }
}

fn run_together<'a>(rows: &[Row<'a>], jobs: usize) -> Vec<(Row<'a>, Outcome)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(rows.len()) {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    caller::set(row.caller);
                    let outcome = run_one(row.case);
                    print_line(&row.name, &outcome);
                    results
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .push((row.clone(), outcome));
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn run_one(case: &Case) -> Outcome {
    let runtime = crate::runtime::name_under_test();
    let known = case.peers_fail.iter().find(|(peer, _)| *peer == runtime).map(|(_, why)| *why);
    MESSAGE.take();
    match (panic::catch_unwind(AssertUnwindSafe(case.run)), known) {
        (Ok(()), _) => Outcome::Passed,
        (Err(payload), known) => {
            let message = MESSAGE.take();
            match (payload.downcast_ref::<Skip>(), known) {
                (Some(Skip(reason)), _) => Outcome::Skipped(reason.clone()),
                (None, Some(why)) => Outcome::ExpectedFailure(why.to_owned()),
                (None, None) => Outcome::Failed(message),
            }
        }
    }
}

fn print_line(name: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Passed => println!("test {name} ... ok"),
        Outcome::Failed(_) => println!("test {name} ... FAILED"),
        Outcome::Skipped(reason) => println!("test {name} ... SKIP: {reason}"),
        Outcome::ExpectedFailure(why) => println!("test {name} ... expected failure: {why}"),
    }
}

fn report(surface: &str, results: &[(Row<'_>, Outcome)], leaks: &[String]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut failures = String::new();
    for (Row { case, name, .. }, outcome) in results {
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Skipped(reason) => {
                skipped += 1;
                println!("SKIP {surface}/{name}: {reason}");
            }
            Outcome::ExpectedFailure(why) => {
                skipped += 1;
                println!("SKIP {surface}/{name}: known to fail on this peer: {why}");
            }
            Outcome::Failed(message) => {
                failed += 1;
                let Case { source, must, .. } = case;
                failures.push_str(&format!("\n---- {name} ({source})\n     {must}\n"));
                for line in message.lines() {
                    failures.push_str(&format!("     {line}\n"));
                }
            }
        }
    }
    if !leaks.is_empty() {
        failed += 1;
        println!("test nothing-is-left ... FAILED");
        failures.push_str("\n---- nothing-is-left (after all cases)\n");
        for leak in leaks {
            failures.push_str(&format!("     {leak}\n"));
        }
    }
    if failed > 0 {
        println!("\nfailures:\n{failures}");
    }
    println!("\n{surface}: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[Case] = &[
        Case::new("passes", "", "", || {}),
        Case::new("fails", "", "", || panic!("left {}", 1)),
        Case::new("skips", "", "", || crate::skip!("no {}", "tool")),
        Case::new("known", "", "", || panic!("x")).peers_fail(&[("hako-runc", "a known defect")]),
    ];

    #[test]
    fn tells_a_failure_from_a_skip() {
        catch_messages();
        let seen: Vec<String> = CASES
            .iter()
            .map(|case| match run_one(case) {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Failed(message) => {
                    format!("failed: {}", message.rsplit(": ").next().unwrap_or(""))
                }
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
                Outcome::ExpectedFailure(why) => format!("expected: {why}"),
            })
            .collect();
        drop(panic::take_hook());
        assert_eq!(
            seen,
            ["passed", "failed: left 1", "skipped: no tool", "expected: a known defect"]
        );
    }

    #[test]
    fn filters_by_part_or_exactly() {
        let options = |words: &[&str]| Options::parse(words.iter().map(|word| (*word).to_owned()));
        assert!(options(&[]).chooses("a-b"));
        assert!(options(&["b"]).chooses("a-b"));
        assert!(!options(&["--exact", "b"]).chooses("a-b"));
        assert!(options(&["--nocapture", "x", "a"]).chooses("a-b"));
    }
}
