//! `cargo xtask bench`: builds for release and runs the benches against Debian's peers.

use crate::{
    Outcome,
    process::run_shown,
    workspace::{EMBEDDED, Workspace},
};

/// Builds `hako`, `hako-runc` as it is shipped, and the bench runner; then runs it.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    const BUILDS: &[&[&str]] = &[
        &["build", "--release", "--package", "hako", "--package", "hako-benches"],
        &["build", "--profile", EMBEDDED, "--package", "hako-runc"],
    ];
    for words in BUILDS {
        if !run_shown(workspace.cargo().args(*words))? {
            return Ok(false);
        }
    }
    let mut command = std::process::Command::new(workspace.binary("release", "hako-bench"));
    command
        .args(arguments)
        .current_dir(workspace.root())
        .env("HAKO_BENCH_OUT", workspace.scratch("bench")?);
    for (variable, profile, name) in
        [("HAKO_BIN", "release", "hako"), ("HAKO_RUNC_BIN", EMBEDDED, "hako-runc")]
    {
        if std::env::var_os(variable).is_none() {
            command.env(variable, workspace.binary(profile, name));
        }
    }
    run_shown(&mut command)
}
