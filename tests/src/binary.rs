//! Finding the binaries under test, and the tools that tests use.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{command, skip};

/// `hako`; skips the test when it is not built.
pub fn hako() -> PathBuf {
    ours("HAKO_BIN", "hako")
}

/// `hako-runc`; skips the test when it is not built.
pub fn hako_runc() -> PathBuf {
    ours("HAKO_RUNC_BIN", "hako-runc")
}

fn ours(variable: &str, name: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from).or_else(|| beside_this_program(name));
    match path {
        Some(path) if path.is_file() => absolute(&path),
        Some(path) => skip!("{} is not there: build it, or set {variable}", path.display()),
        None => skip!("no {name} beside the test: build it, or set {variable}"),
    }
}

/// `target/<profile>/<name>`, from `target/<profile>/deps/<test>`.
fn beside_this_program(name: &str) -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let profile = program.parent().and_then(Path::parent)?;
    Some(profile.join(name))
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|error| panic!("canonicalize({}): {error}", path.display()))
}

/// A tool of the system; skips the test when it is not installed.
pub fn tool(name: &str) -> PathBuf {
    command::find(name).unwrap_or_else(|| skip!("{name} is not installed"))
}

/// A static busybox, the userland of test containers.
pub fn busybox() -> PathBuf {
    let path = tool("busybox");
    let said = command::run(std::process::Command::new("ldd").arg(&path));
    // `ldd` fails on what is static.
    if said.code == 0 && said.stdout.contains("=>") {
        skip!("{} is not static: install busybox-static", path.display());
    }
    path
}

/// Foreign test data, if it is there.
pub fn find_data(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("HAKO_TEST_DATA").map(PathBuf::from).unwrap_or_else(|| {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root");
        root.join("../shared/data")
    });
    let path = folder.join(name);
    path.exists().then(|| absolute(&path))
}

/// Foreign test data; skips the test when it is not there.
pub fn data(name: &str) -> PathBuf {
    find_data(name).unwrap_or_else(|| skip!("no test data {name}: set HAKO_TEST_DATA"))
}
