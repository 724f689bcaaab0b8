//! Tasks of the workspace: `cargo xtask <task>`.
//!
//! Each task is one row of [`TASKS`]. A task runs programs, shows what they say, and decides one
//! exit code: 0 when everything that ran passed, 1 when something failed, 2 for a wrong call.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod fuzz;
mod matrix;
mod process;
mod table;
mod tally;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// What a task returns: whether everything that ran passed.
type Outcome = Result<bool, String>;

/// One task of `cargo xtask`.
struct Task {
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    run: fn(&Workspace, &[String]) -> Outcome,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        usage: "demo",
        help: "build the release binaries and run a container from the image inside them",
        run: demo::run,
    },
    Task {
        name: "test",
        usage: "test [STEP...] [-- FILTER...]",
        help: "run every check and test, or only these steps (`test --list` names them)",
        run: test::run,
    },
    Task {
        name: "ci",
        usage: "ci",
        help: "say what this machine is and has, then run `test`",
        run: test::ci,
    },
    Task {
        name: "matrix",
        usage: "matrix [SURFACE...]",
        help: "run the runtime suites on hako-runc, runc and crun, and print them side by side",
        run: matrix::run,
    },
    Task {
        name: "bench",
        usage: "bench [NAME...]",
        help: "build for release and measure against peers (`bench --list` names the benches)",
        run: bench::run,
    },
    Task {
        name: "fuzz",
        usage: "fuzz [--seconds N] [TARGET...]",
        help: "feed mutated inputs to every parser of foreign bytes",
        run: fuzz::run,
    },
    Task {
        name: "vm",
        usage: "vm [OPTIONS] [TEST_PROGRAM...]",
        help: "run test programs in a virtual machine with cgroup v2 and AppArmor",
        run: |_, arguments| vm::run(arguments),
    },
];

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask TASK\n\n");
    for task in TASKS {
        text.push_str(&format!("  {:<34} {}\n", task.usage, task.help));
    }
    text
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    match Workspace::find().and_then(|workspace| (task.run)(&workspace, &rest)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}
