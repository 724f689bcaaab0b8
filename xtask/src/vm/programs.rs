//! Builds the programs that run in the guest, and asks cargo where they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{At, Error, Result};

/// A test executable that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// Package and target, as a person says it: `hako-cgroup`, `hako-tests oci_runtime`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where cargo would run it.
    pub(crate) package_dir: PathBuf,
}

/// What one cargo invocation built.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) tests: Vec<TestProgram>,
    /// Ordinary programs: tests know some of them by path.
    pub(crate) programs: Vec<PathBuf>,
}

/// Builds the tests of a package, or one of its test targets (`package:target`).
///
/// For this host's own target and profile: what `cargo test` has built already is used as it is.
pub(crate) fn tests(workspace: &Path, what: &str) -> Result<Built> {
    let (package, target) = what.split_once(':').unwrap_or((what, ""));
    let mut cargo = cargo(workspace);
    cargo.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--package",
        package,
    ]);
    match target {
        "" => {}
        "lib" => drop(cargo.arg("--lib")),
        target => drop(cargo.args(["--test", target])),
    }
    let built = read(&run(&mut cargo)?)?;
    if built.tests.is_empty() {
        return Err(Error::Usage(format!("{what}: cargo built no test of this name")));
    }
    Ok(built)
}

/// Builds one of our programs as the host's tests have it too: nothing is compiled twice.
pub(crate) fn program(workspace: &Path, name: &str) -> Result<PathBuf> {
    let mut cargo = cargo(workspace);
    cargo.args(["build", "--message-format=json-render-diagnostics", "--package", name]);
    let built = read(&run(&mut cargo)?)?;
    let program = built.programs.into_iter().find(|path| path.ends_with(name));
    program.ok_or_else(|| Error::Usage(format!("cargo built no {name}")))
}

fn cargo(workspace: &Path) -> Command {
    let ours = std::env::var_os("HAKO_CARGO").or_else(|| std::env::var_os("CARGO"));
    let mut cargo = Command::new(ours.unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).stderr(Stdio::inherit());
    cargo
}

/// Runs cargo with its own words on our standard error.
fn run(cargo: &mut Command) -> Result<Vec<u8>> {
    let done = cargo
        .stdout(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .at("run", Path::new("cargo"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    Err(Error::Command {
        command: format!("{cargo:?}"),
        status: done.status.to_string(),
        stderr: "see above".to_owned(),
    })
}

/// Finds executables among cargo's messages, one JSON document per line.
fn read(messages: &[u8]) -> Result<Built> {
    let mut built = Built::default();
    for line in messages.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
        let message: serde_json::Value = serde_json::from_slice(line)
            .map_err(|error| Error::Usage(format!("cargo's message is not JSON: {error}")))?;
        let text = |pointer: &str| message.pointer(pointer).and_then(|value| value.as_str());
        let Some(path) = text("/executable").map(PathBuf::from) else {
            continue;
        };
        if message.pointer("/profile/test").and_then(serde_json::Value::as_bool) != Some(true) {
            built.programs.push(path);
            continue;
        }
        let manifest = Path::new(text("/manifest_path").unwrap_or_default());
        let package_dir = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let package = text("/package_id").map_or("", package_name);
        let target = text("/target/name").unwrap_or_default();
        let name = match text("/target/kind/0") {
            Some("test") => format!("{package} {target}"),
            _ => package.to_owned(),
        };
        built.tests.push(TestProgram { name, path, package_dir });
    }
    Ok(built)
}

/// `path+file:///work/crates/run/cgroup#hako-cgroup@0.1.0`, or `...#0.1.0` where the directory says the name.
fn package_name(id: &str) -> &str {
    let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next().unwrap_or(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let messages = br#"{"reason":"compiler-artifact","executable":null,"profile":{"test":false}}
{"reason":"compiler-artifact","package_id":"path+file:///w/crates/run/cgroup#hako-cgroup@0.1.0","manifest_path":"/w/crates/run/cgroup/Cargo.toml","target":{"kind":["lib"],"name":"hako_cgroup"},"profile":{"test":true},"executable":"/w/target/debug/deps/hako_cgroup-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#0.1.0","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"vm"},"profile":{"test":true},"executable":"/w/target/debug/deps/vm-2"}
{"reason":"compiler-artifact","package_id":"path+file:///w/bin/hako-runc#0.1.0","manifest_path":"/w/bin/hako-runc/Cargo.toml","target":{"kind":["bin"],"name":"hako-runc"},"profile":{"test":false},"executable":"/w/target/debug/hako-runc"}
{"reason":"build-finished","success":true}
"#;
        let test = |name: &str, path: &str, dir: &str| TestProgram {
            name: name.into(),
            path: path.into(),
            package_dir: dir.into(),
        };
        assert_eq!(
            read(messages).unwrap(),
            Built {
                tests: vec![
                    test(
                        "hako-cgroup",
                        "/w/target/debug/deps/hako_cgroup-1",
                        "/w/crates/run/cgroup"
                    ),
                    test("tests vm", "/w/target/debug/deps/vm-2", "/w/tests"),
                ],
                programs: vec!["/w/target/debug/hako-runc".into()],
            }
        );
    }
}
