//! `cargo xtask matrix`: the runtime suites on hako-runc and on its peers, side by side.

use std::collections::BTreeMap;

use crate::{Outcome, process, table, workspace::Workspace};

const RUNTIMES: &[&str] = &["hako-runc", "runc", "crun"];
const SURFACES: &[&str] = &["oci_runtime", "adversarial"];

/// Runs each suite on each runtime. Only hako-runc's failures fail the task.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let mut passed = true;
    for surface in SURFACES {
        if !arguments.is_empty() && !arguments.iter().any(|name| name == surface) {
            continue;
        }
        // One row a test, one column a runtime.
        let mut results: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
        for runtime in RUNTIMES {
            let log = workspace.scratch("matrix")?.join(format!("{surface}-{runtime}.log"));
            let mut cargo = workspace.cargo();
            cargo.args(["test", "--package", "hako-tests", "--test", surface]);
            cargo.env("HAKO_TEST_RUNTIME", runtime).env("HAKO_TEST_EVERY_ROW", "1");
            if std::env::var_os("HAKO_RUNC_BIN").is_none() {
                cargo.env("HAKO_RUNC_BIN", workspace.shipped_runtime()?);
            }
            let ran = process::run(&mut cargo, &log, |_| false)?;
            passed &= ran.success || *runtime != RUNTIMES[0];
            for line in &ran.lines {
                if let Some((name, result)) = test_line(line) {
                    results.entry(name.to_owned()).or_default().insert(runtime, result.to_owned());
                }
            }
        }
        let header: Vec<&str> = std::iter::once(*surface).chain(RUNTIMES.iter().copied()).collect();
        let mut rows = Vec::new();
        for (name, cells) in &results {
            let mut row = vec![name.clone()];
            row.extend(
                RUNTIMES
                    .iter()
                    .map(|runtime| cells.get(runtime).cloned().unwrap_or_else(|| "-".into())),
            );
            rows.push(row);
        }
        table::print(&header, &rows);
        println!();
    }
    Ok(passed)
}

/// `test NAME ... RESULT[: reason]`
fn test_line(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name, result.split(':').next().unwrap_or(result)))
}
