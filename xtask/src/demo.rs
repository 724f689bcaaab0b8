//! `cargo xtask demo`: from a fresh clone to a running container, with no network and no registry.

use crate::{Outcome, process::run_shown, workspace::Workspace};

/// Builds the release binary and runs the image that it carries, in a store of its own.
///
/// The store lives in a fresh directory that is removed again, so that trying hako out leaves
/// nothing and meets no other installation.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    println!("building hako for release (the first time takes some minutes)");
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "hako"]);
    if !run_shown(&mut build)? {
        return Ok(false);
    }
    let hako = workspace.binary("release", "hako");
    let place = std::env::temp_dir().join(format!("hako-demo-{}", std::process::id()));
    let (root, run_root) = (place.join("root"), place.join("run"));
    let words = ["run", "--rm", "hako:tour"].map(str::to_owned);
    let words = if arguments.is_empty() { &words[..] } else { arguments };
    println!("\n$ hako {}\n", words.join(" "));
    let mut command = std::process::Command::new(&hako);
    command.arg("--root").arg(&root).arg("--run-root").arg(&run_root).args(words);
    let passed = run_shown(&mut command);
    let removed = std::fs::remove_dir_all(&place);
    if passed? {
        removed.map_err(|error| format!("remove({}): {error}", place.display()))?;
        println!("\nhako is {}", hako.display());
        return Ok(true);
    }
    Ok(false)
}
