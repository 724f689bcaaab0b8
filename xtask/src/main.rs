//! Build, test, bench and demo tasks of the workspace.

#![forbid(unsafe_code)]

mod vm;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((task, rest)) if task == "vm" => vm::run(rest),
        _ => Err("usage: cargo xtask vm [OPTIONS] [TEST_PROGRAM...]".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
