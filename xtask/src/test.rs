//! `cargo xtask test`: every check of the project, one row of [`STEPS`] each.
//!
//! A step writes its whole output to `target/xtask/test/<step>.log`; the terminal shows what
//! failed. The last line says how many tests passed, failed and were skipped; what was skipped is
//! listed with its reason.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Outcome, demo, fuzz,
    process::{self, Ran, exists},
    table,
    tally::Tally,
    vm,
    workspace::Workspace,
};

/// How a step finds out what passed.
enum Action {
    /// One cargo command that passes or fails as a whole.
    Check(&'static [&'static str]),
    /// The same, if this cargo subcommand is installed.
    CheckIf(&'static str, &'static [&'static str]),
    /// `cargo test` with these arguments: its tests are counted.
    Tests(&'static [&'static str]),
    /// One integration test of `hako-tests`.
    Surface,
    /// This one on layers that are unpacked, where the kernel would not make it necessary.
    Unpacked(&'static str),
    /// The suite in a virtual machine.
    Machine,
    /// The README's first command.
    Demo,
    /// Every fuzz target for some seconds.
    Fuzz(u32),
}

struct Step {
    name: &'static str,
    help: &'static str,
    action: Action,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        help: "the code is formatted",
        action: Action::Check(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "clippy",
        help: "no warning of the compiler or of clippy",
        action: Action::Check(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step {
        name: "deny",
        help: "licences, bans, sources of dependencies (deny.toml)",
        action: Action::CheckIf(
            "deny",
            &["deny", "--offline", "check", "licenses", "bans", "sources"],
        ),
    },
    Step {
        name: "build",
        help: "the binaries that the integration tests drive",
        action: Action::Check(&["build", "--package", "hako"]),
    },
    Step {
        name: "unit",
        help: "tests beside the code, and the architecture's",
        action: Action::Tests(&[
            "--workspace",
            "--exclude",
            "hako-tests",
            "--lib",
            "--bins",
            "--tests",
        ]),
    },
    Step {
        name: "doc",
        help: "examples in the documentation",
        action: Action::Tests(&["--workspace", "--doc"]),
    },
    Step {
        name: "harness",
        help: "the harness itself",
        action: Action::Tests(&["--package", "hako-tests", "--lib"]),
    },
    Step { name: "oci_runtime", help: "the OCI runtime specification", action: Action::Surface },
    Step { name: "adversarial", help: "attacks on the runtime", action: Action::Surface },
    Step {
        name: "cgroup2",
        help: "limits of cgroup v2, where its controllers are",
        action: Action::Surface,
    },
    Step {
        name: "apparmor",
        help: "AppArmor profiles, where the kernel enforces them",
        action: Action::Surface,
    },
    Step {
        name: "selinux",
        help: "SELinux labels, where the kernel enforces them",
        action: Action::Surface,
    },
    Step {
        name: "docker_cli",
        help: "hako's command line, with Docker's meaning",
        action: Action::Surface,
    },
    Step {
        name: "builder",
        help: "Dockerfiles: what they become, what is done again, what is left behind",
        action: Action::Surface,
    },
    Step {
        name: "distribution",
        help: "registries: pull, push, login, and a registry that lies",
        action: Action::Surface,
    },
    Step { name: "hostile", help: "hostile images and layers", action: Action::Surface },
    Step { name: "crash", help: "SIGKILL at any instant", action: Action::Surface },
    Step {
        name: "docker_cli_unpacked",
        help: "the command line, on layers that are unpacked",
        action: Action::Unpacked("docker_cli"),
    },
    Step {
        name: "hostile_unpacked",
        help: "hostile images and layers, unpacked",
        action: Action::Unpacked("hostile"),
    },
    Step {
        name: "engines",
        help: "podman, Docker and containerd on hako-runc",
        action: Action::Surface,
    },
    Step { name: "registry", help: "hako registry serve", action: Action::Surface },
    Step { name: "packages", help: "images from Debian packages", action: Action::Surface },
    Step { name: "tour", help: "the README's tour, as printed", action: Action::Surface },
    Step {
        name: "vm",
        help: "cgroup v2, AppArmor, SELinux, systemd, an old kernel, in a virtual machine (tests/vm)",
        action: Action::Machine,
    },
    Step {
        name: "fuzz",
        help: "every parser of foreign bytes, some seconds each",
        action: Action::Fuzz(5),
    },
    Step { name: "demo", help: "the README's first command, for release", action: Action::Demo },
];

/// Runs all steps, or those named; words after `--` filter tests by name.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let mut words = arguments.split(|word| word == "--");
    let names = words.next().unwrap_or_default();
    let filters = words.next().unwrap_or_default();
    if names.iter().any(|name| name == "--list") {
        let rows: Vec<_> =
            STEPS.iter().map(|step| vec![step.name.to_owned(), step.help.to_owned()]).collect();
        table::print(&["step", "checks"], &rows);
        return Ok(true);
    }
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        return Err(format!("no step {unknown:?}: `cargo xtask test --list` names them"));
    }
    let chosen = |step: &&Step| match names {
        [] => true,
        names => names.iter().any(|name| name == step.name),
    };

    let mut rows = Vec::new();
    let mut total = Tally::default();
    let mut broken = Vec::new();
    for step in STEPS.iter().filter(chosen) {
        println!("==> {}: {}", step.name, step.help);
        let begun = Instant::now();
        let (tally, success) = perform(workspace, step, filters, &total)?;
        rows.push(row(step.name, &tally, success, begun.elapsed()));
        if !success {
            broken.push(step.name);
        }
        if matches!(step.action, Action::Machine) {
            let inside = total.forget(&tally.ran);
            println!("    {inside} tests that this host cannot run ran in the virtual machine");
        }
        total.add(tally);
    }
    Ok(report(&rows, &total, &broken))
}

/// Says what this machine is, then runs everything.
pub(crate) fn ci(workspace: &Workspace, arguments: &[String]) -> Outcome {
    const FACTS: &[(&str, &[&str])] = &[
        ("uname", &["-srm"]),
        ("rustc", &["--version"]),
        ("gcc", &["-dumpfullversion"]),
        ("runc", &["--version"]),
        ("crun", &["--version"]),
        ("podman", &["--version"]),
        ("dockerd", &["--version"]),
        ("containerd", &["--version"]),
        ("skopeo", &["--version"]),
        ("umoci", &["--version"]),
        ("id", &["-u"]),
    ];
    for (program, flags) in FACTS {
        let said = match Command::new(program).args(*flags).output() {
            Ok(output) => {
                String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned()
            }
            Err(error) => format!("missing: {error}"),
        };
        println!("{program:>10}  {said}");
    }
    run(workspace, arguments)
}

fn row(name: &str, tally: &Tally, success: bool, took: Duration) -> Vec<String> {
    let numbers = [tally.passed, tally.failed, tally.skipped];
    let mut cells = vec![name.to_owned()];
    cells.extend(numbers.map(|number| number.to_string()));
    cells.push(format!("{:.0} s", took.as_secs_f64()));
    cells.push(if success { "ok" } else { "FAILED" }.to_owned());
    cells
}

/// The summary: a table, what was skipped and why, what failed, and the closing line.
fn report(rows: &[Vec<String>], total: &Tally, broken: &[&str]) -> bool {
    println!();
    table::print(&["step", "passed", "failed", "skipped", "took", ""], rows);
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &total.reasons {
        let (test, reason) = line.split_once(": ").unwrap_or(("", line));
        reasons.entry(reason).or_default().push(test);
    }
    if !reasons.is_empty() {
        println!("\nskipped:");
    }
    for (reason, tests) in reasons {
        println!("  {:>4} {reason}: {}", tests.len(), shortened(&tests));
    }
    if !broken.is_empty() {
        println!("\nfailed steps: {}", broken.join(", "));
    }
    for name in &total.failures {
        println!("  failed: {name}");
    }
    // A step can fail without a failed test: a test binary that died, a build that broke.
    let failed = total.failed.max(broken.len());
    println!("\n{} passed, {failed} failed, {} skipped", total.passed, total.skipped);
    broken.is_empty() && failed == 0
}

/// The first few names, and how many more there are.
fn shortened(tests: &[&str]) -> String {
    const SHOWN: usize = 6;
    let mut text = tests[..tests.len().min(SHOWN)].join(", ");
    if tests.len() > SHOWN {
        text.push_str(&format!(" and {} more", tests.len() - SHOWN));
    }
    text
}

/// Runs one step: what it counted, and whether it passed as a whole.
fn perform(
    workspace: &Workspace,
    step: &Step,
    filters: &[String],
    so_far: &Tally,
) -> Result<(Tally, bool), String> {
    let log = workspace.scratch("test")?.join(format!("{}.log", step.name));
    let tally = match &step.action {
        Action::Check(arguments) => {
            let ran = process::run(workspace.cargo().args(*arguments), &log, |_| false)?;
            if !ran.success {
                show_end(&ran, 200);
            }
            Tally::check(step.name, ran.success)
        }
        Action::CheckIf(subcommand, arguments) => {
            if exists("cargo", &[subcommand, "--version"]) {
                let ran = process::run(workspace.cargo().args(*arguments), &log, |_| false)?;
                if !ran.success {
                    show_end(&ran, 200);
                }
                Tally::check(step.name, ran.success)
            } else {
                Tally::skip(step.name, &format!("cargo {subcommand} is not installed"))
            }
        }
        Action::Tests(arguments) => {
            let mut cargo = workspace.cargo();
            cargo.arg("test").args(*arguments).args(["--no-fail-fast", "--"]).args(filters);
            return counted(workspace, cargo.arg("--show-output"), &log);
        }
        Action::Surface => {
            let mut cargo = workspace.cargo();
            cargo
                .args(["test", "--package", "hako-tests", "--test", step.name, "--"])
                .args(filters);
            let (tally, success) = counted(workspace, &mut cargo, &log)?;
            return Ok((tally.of_surface(step.name), success));
        }
        Action::Unpacked(test) => {
            let mut cargo = workspace.cargo();
            cargo.args(["test", "--package", "hako-tests", "--test", test, "--"]);
            cargo.args(filters).env("HAKO_SNAPSHOTTER", "overlay");
            return counted(workspace, &mut cargo, &log);
        }
        Action::Machine => return vm::step(so_far),
        Action::Demo => Tally::check(step.name, demo::run(workspace, &[])?),
        Action::Fuzz(seconds) => return fuzz::step(workspace, *seconds),
    };
    let success = tally.failed == 0;
    Ok((tally, success))
}

/// Runs tests with what they look for in the environment.
fn counted(
    workspace: &Workspace,
    command: &mut Command,
    log: &std::path::Path,
) -> Result<(Tally, bool), String> {
    if std::env::var_os("HAKO_BIN").is_none() {
        command.env("HAKO_BIN", workspace.binary("debug", "hako"));
    }
    // The runtime is tested as it is shipped. Where hako is not built, its tests skip by themselves.
    if std::env::var_os("HAKO_RUNC_BIN").is_none()
        && let Ok(path) = workspace.shipped_runtime()
    {
        // The monitor's own tests know it by the other name; what it weighs only says this build.
        command.env("HAKO_RUNC_BIN", &path).env("HAKO_RUNC", path);
    }
    let ran = process::run(command, log, |line| {
        line.starts_with("test result: ")
            || line.ends_with(" skipped")
            || line.contains(" ... FAILED")
    })?;
    let tally = Tally::read(&ran.lines);
    if !ran.success {
        show_failures(&ran);
    }
    Ok((tally, ran.success))
}

/// Prints what the runner said about failed tests: everything between `failures:` and the result.
fn show_failures(ran: &Ran) {
    let mut inside = false;
    let mut shown = 0;
    for line in &ran.lines {
        inside = (inside || line == "failures:") && !line.starts_with("test result: ");
        if inside || line.starts_with("error") {
            println!("    | {line}");
            shown += 1;
        }
    }
    if shown == 0 {
        show_end(ran, 100);
    }
}

fn show_end(ran: &Ran, count: usize) {
    for line in &ran.lines[ran.lines.len().saturating_sub(count)..] {
        println!("    | {line}");
    }
}
