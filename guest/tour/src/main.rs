//! The program inside the embedded image `hako:tour`.
//!
//! Called without arguments it prints what isolation it sees; otherwise it is a handful of small
//! tools, chosen by the name it was called by or by its first argument, so that everything hako
//! does to a container can be shown without a shell and without a network.

#![forbid(unsafe_code)]

mod capability;
mod cgroup;
#[cfg(test)]
mod names;
mod page;
mod proc;
mod report;
mod tools;
mod trial;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called_as = args.first().map(|a| base_name(&a.to_string_lossy())).unwrap_or_default();
    let rest = args.get(1..).unwrap_or_default();
    match tools::find(&called_as) {
        Some(tool) => tools::run(tool, rest),
        None => tour(rest),
    }
}

/// `tour` itself: the report, or the tool its first argument names.
fn tour(args: &[OsString]) -> ExitCode {
    let Some(first) = args.first() else {
        return report::print();
    };
    let name = first.to_string_lossy();
    if name == "--help" || name == "help" {
        return tools::help();
    }
    match tools::find(&name) {
        Some(tool) => tools::run(tool, &args[1..]),
        None => {
            eprintln!("tour: no tool {name:?}; `tour --help` lists them");
            ExitCode::from(127)
        }
    }
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}
