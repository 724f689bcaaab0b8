//! `cargo xtask fuzz`: feeds mutated inputs to every parser of foreign bytes.
//!
//! The targets live in `fuzz/`, a workspace of its own. Each is a plain function over bytes, so it
//! runs in two ways: under libFuzzer (`cargo fuzz`, where a nightly compiler is installed), and
//! here, on the stable compiler, under the mutator of `fuzz/src/mutate.rs`.

use std::path::PathBuf;

use crate::{
    Outcome,
    process::{self, run_shown},
    tally::Tally,
    workspace::Workspace,
};

/// The seed of the tests: the same inputs each time, so that nothing but the change under test can
/// break them. Who looks for new ones runs `cargo xtask fuzz`, which takes another seed each time.
const SEED: u64 = 1;

/// `fuzz [--seconds N] [--seed N] [TARGET...]`
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let program = build(workspace)?;
    run_shown(std::process::Command::new(program).args(arguments).current_dir(workspace.root()))
}

/// The same as a step of `test`: one test for each target.
pub(crate) fn step(workspace: &Workspace, seconds: u32) -> Result<(Tally, bool), String> {
    let program = match build(workspace) {
        Ok(program) => program,
        Err(message) => {
            println!("    | {message}");
            return Ok((Tally::check("fuzz", false), false));
        }
    };
    let log = workspace.scratch("test")?.join("fuzz.log");
    let mut command = std::process::Command::new(program);
    command.args(["--seconds", &seconds.to_string(), "--seed", &SEED.to_string()]);
    command.current_dir(workspace.root());
    let telling = |line: &str| line.starts_with("test ") || line.contains("panicked at");
    let ran = process::run(&mut command, &log, telling)?;
    Ok((Tally::read(&ran.lines), ran.success))
}

fn build(workspace: &Workspace) -> Result<PathBuf, String> {
    let target = workspace.scratch("fuzz")?;
    let mut cargo = workspace.cargo();
    cargo.args([
        "build",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--bin",
        "hako-fuzz",
        "--target-dir",
    ]);
    if !run_shown(cargo.arg(&target))? {
        return Err("fuzz/ does not build".to_owned());
    }
    Ok(target.join("release/hako-fuzz"))
}
