//! `cargo xtask bench`: builds for release and runs the benches against Debian's peers.

use crate::{Outcome, process::run_shown, workspace::Workspace};

/// Builds `hako`, which holds hako-runc as it is shipped, and the bench runner; then runs it.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "hako", "--package", "hako-benches"]);
    if !run_shown(&mut build)? {
        return Ok(false);
    }
    let mut command = std::process::Command::new(workspace.binary("release", "hako-bench"));
    command
        .args(arguments)
        .current_dir(workspace.root())
        .env("HAKO_BENCH_OUT", workspace.scratch("bench")?);
    let binaries = [
        ("HAKO_BIN", workspace.binary("release", "hako")),
        ("HAKO_RUNC_BIN", workspace.shipped_runtime()?),
    ];
    for (variable, path) in binaries {
        if std::env::var_os(variable).is_none() {
            command.env(variable, path);
        }
    }
    run_shown(&mut command)
}
