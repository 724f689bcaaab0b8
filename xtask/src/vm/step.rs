//! The virtual machine as a step of `cargo xtask test`: some boots within a bounded time.
//!
//! Each boot runs what no host has together: cgroup v2 with every controller and AppArmor, systemd, SELinux, an old
//! kernel. In the first one also run the rows that this host had to skip.

use std::time::{Duration, Instant};

use super::error::Error;
use super::report::{Case, Outcome};
use super::{Options, Wanted, boot_and_test};
use crate::tally::Tally;

/// No boot begins after this: what is left is reported as skipped. On an idle machine all take half of it.
const BEGIN_WITHIN: Duration = Duration::from_secs(360);

/// One boot: its name, its options, and surfaces of which only these rows are run.
struct Boot {
    name: &'static str,
    words: &'static [&'static str],
    rows: &'static [(&'static str, &'static [&'static str])],
    /// Surfaces of which the rows run that the host skipped.
    skipped_of: &'static [&'static str],
}

const BOOTS: &[Boot] = &[
    Boot {
        name: "6.12",
        words: &[
            "--test",
            "hako-tests:cgroup2",
            "--test",
            "hako-tests:apparmor",
            "--test",
            "hako-cgroup:kernel",
        ],
        rows: &[],
        skipped_of: &["oci_runtime", "adversarial"],
    },
    Boot {
        name: "6.12, systemd",
        words: &["--systemd", "--test", "hako-cgroup:systemd"],
        rows: &[],
        skipped_of: &[],
    },
    Boot {
        name: "6.12, SELinux",
        words: &["--selinux", "--test", "hako-tests:selinux"],
        rows: &[],
        skipped_of: &[],
    },
    Boot {
        name: "5.10",
        words: &["--kernel", "5.10", "--test", "hako-cgroup:kernel"],
        rows: &[("oci_runtime", OLD_KERNEL)],
        skipped_of: &[],
    },
];

/// Rows that take the other way on an old kernel (docs/kernel.md).
const OLD_KERNEL: &[&str] = &[
    "mount-bind-implied",
    "mount-bind-ro",
    "mount-bind-flags",
    "mount-propagation-shared",
    "process-has-no-other-descriptors",
    "notify-socket",
    "rootless",
    "rootless-devices",
    "rootless-life",
];

/// Runs the boots: what was counted, and whether all that ran passed. `host` is what ran before this, outside.
pub(crate) fn run(host: &Tally) -> Result<(Tally, bool), String> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut passed = true;
    for boot in BOOTS {
        let name = format!("vm/{}", boot.name);
        if begun.elapsed() > BEGIN_WITHIN {
            let reason = format!("{} s were used up before", BEGIN_WITHIN.as_secs());
            tally.add(Tally::skip(&name, &reason));
            continue;
        }
        let words = boot.words.iter().map(|word| (*word).to_owned());
        let options = Options::parse(words).map_err(|error| error.to_string())?;
        let mut options = options.ok_or("no options, and yet help was asked for")?;
        for (surface, rows) in boot.rows {
            let rows = rows.iter().map(|row| (*row).to_owned()).collect();
            options.wanted.push(Wanted::Rows(format!("hako-tests:{surface}"), rows));
        }
        for surface in boot.skipped_of {
            let rows = skipped(host, surface);
            if !rows.is_empty() {
                options.wanted.push(Wanted::Rows(format!("hako-tests:{surface}"), rows));
            }
        }
        match boot_and_test(&options) {
            Err(error @ Error::Unavailable { .. }) => {
                tally.add(Tally::skip(&name, &error.to_string()));
            }
            Err(error) => return Err(format!("{name}: {error}")),
            Ok(run) => {
                passed &= run.passed;
                tally.add(counted(&name, &run.cases));
            }
        }
    }
    // What an old kernel has not, or one without v1, is no loss where another one ran it.
    let elsewhere = tally.ran.clone();
    tally.forget(&elsewhere);
    tally.forget(&host.ran);
    Ok((tally, passed))
}

/// Rows of a surface that could not run on this host.
fn skipped(host: &Tally, surface: &str) -> Vec<String> {
    let row = |line: &String| {
        let (name, _) = line.split_once(": ")?;
        Some(name.strip_prefix(surface)?.strip_prefix('/')?.to_owned())
    };
    host.reasons.iter().filter_map(row).collect()
}

/// What a boot's cases come to.
fn counted(boot: &str, cases: &[Case]) -> Tally {
    let mut tally = Tally::default();
    for case in cases {
        let name = plain(&case.name);
        match case.outcome {
            Outcome::Passed => {
                tally.passed += 1;
                tally.ran.insert(name);
            }
            Outcome::Failed => {
                tally.failed += 1;
                tally.failures.push(format!("{boot} {}", case.name));
            }
            Outcome::Skipped | Outcome::Ignored => {
                tally.skipped += 1;
                tally.reasons.push(format!("{name}: {}", case.reason));
            }
        }
    }
    tally
}

/// A case's name as the host's runners print it: `surface/row`, or the last part of a path.
fn plain(name: &str) -> String {
    match name.strip_prefix("hako-tests ").and_then(|rest| rest.split_once(' ')) {
        Some((surface, row)) => format!("{surface}/{row}"),
        None => crate::tally::last_part(name.rsplit(' ').next().unwrap_or(name)).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_the_host_skipped_are_found() {
        let mut host = Tally::skip("oci_runtime/memory-swap", "no such controller: here");
        host.add(Tally::skip("adversarial/x", "no"));
        host.add(Tally::skip("oci_runtime", "no sandbox"));
        assert_eq!(skipped(&host, "oci_runtime"), ["memory-swap"]);
    }

    #[test]
    fn cases_have_the_names_of_the_host() {
        for (name, expected) in [
            ("hako-tests cgroup2 memory-limit", "cgroup2/memory-limit"),
            ("hako-cgroup kernel devices_by_lines", "devices_by_lines"),
            ("hako-cgroup wire::tests::x", "x"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn every_boot_is_understood() {
        for boot in BOOTS {
            assert!(
                Options::parse(boot.words.iter().map(|word| (*word).to_owned())).unwrap().is_some()
            );
        }
    }
}
