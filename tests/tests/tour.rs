//! The README's tour, run as printed: each `$` line of its `console` blocks below "## Tour".
//!
//! Lines that follow a command in its block are output that it must show, in order; a line `...`
//! stands for anything. A comment (`# …`) behind a command is not part of it. What a person types
//! at a terminal is written as a block of its own, as `>` lines after a command with `-it`.

#![forbid(unsafe_code)]

use std::process::Command;

use hako_tests::{Case, binary, command, install::Hako, pty::Terminal, skip};

/// One command with what it must show and what is typed into it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    typed: Vec<String>,
    shows: Vec<String>,
}

/// Reads the steps out of the README.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut in_tour, mut in_block) = (false, false);
    for line in readme.lines() {
        if line.starts_with("## ") && !in_block {
            in_tour = line.to_lowercase().contains("tour");
        } else if line.starts_with("```") {
            in_block = !in_block && in_tour && line == "```console";
        } else if in_block {
            if let Some(command) = line.strip_prefix("$ ") {
                let command = command.split("  # ").next().unwrap_or(command).trim().to_owned();
                steps.push(Step { command, typed: Vec::new(), shows: Vec::new() });
            } else if let Some(step) = steps.last_mut() {
                match line.strip_prefix("> ") {
                    Some(typed) => step.typed.push(typed.to_owned()),
                    None if line.trim().is_empty() || line.trim() == "..." => {}
                    None => step.shows.push(line.trim().to_owned()),
                }
            }
        }
    }
    steps
}

/// Whether each of these lines is shown, in this order; a `…` in a line stands for anything.
fn shows(text: &str, lines: &[String]) -> Result<(), String> {
    let mut rest = text;
    for line in lines {
        for part in line.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            match rest.find(part) {
                Some(place) => rest = &rest[place + part.len()..],
                None => return Err(format!("{part:?} is not shown in:\n{text}")),
            }
        }
    }
    Ok(())
}

fn tour() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is below the root");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("there is a README.md");
    let steps = steps(&readme);
    assert!(
        steps.len() >= 10,
        "the README's tour has {} commands: is it still found?",
        steps.len()
    );

    let hako = Hako::new();
    let archives = binary::data("archives");
    // The tour is typed in a directory with the archives, `hako` on the path, and a store of its own.
    let directory = hako.place().directory("tour");
    for entry in std::fs::read_dir(&archives).expect("the archives can be listed").flatten() {
        std::os::unix::fs::symlink(entry.path(), directory.join(entry.file_name()))
            .expect("our own directory");
    }
    let bin = binary::hako();
    let path = bin.parent().expect("a program is in a directory").to_string_lossy().into_owned();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());

    for step in &steps {
        if step.command.starts_with("cargo ") || step.command.starts_with("export PATH") {
            // Building has a step of its own, and the path is set.
            continue;
        }
        let mut shell = Command::new("sh");
        // Both streams in one, in the order that a person sees.
        let script = format!("exec 2>&1; cd '{}' && {}", directory.display(), step.command);
        shell.args(["-c", &script]);
        shell.env("PATH", &path);
        for (name, value) in hako.command(&[]).get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let (code, text) = if step.command.contains("-it ") {
            let mut terminal = Terminal::start(&shell);
            for typed in &step.typed {
                terminal.expect("#");
                terminal.send(&format!("{typed}\n"));
            }
            terminal.finish()
        } else {
            let output = command::run(&mut shell);
            output.is_sane();
            (output.code, format!("{}{}", output.stdout, output.stderr))
        };
        if let Err(problem) = shows(&text, &step.shows) {
            panic!("$ {}\nexit code {code}\n{problem}", step.command);
        }
        // A line that is to fail says so by showing how.
        let may_fail = step.command.contains("||") || !step.shows.is_empty();
        assert!(code == 0 || may_fail, "$ {}\nexit code {code}\n{text}", step.command);
    }
}

fn reads_steps() {
    let readme = "# x\n```console\n$ not in the tour\n```\n## A tour\n```console\n$ one a  # why\nout … end\n...\n\
                  $ two -it x\n> typed\n```\ntext\n```sh\n$ no\n```\n## Next\n```console\n$ no\n```\n";
    let step = |command: &str, typed: &[&str], shows: &[&str]| Step {
        command: command.to_owned(),
        typed: typed.iter().map(|text| (*text).to_owned()).collect(),
        shows: shows.iter().map(|text| (*text).to_owned()).collect(),
    };
    assert_eq!(
        steps(readme),
        [step("one a", &[], &["out … end"]), step("two -it x", &["typed"], &[])]
    );
    assert!(shows("a out 12 end b", &["out … end".to_owned()]).is_ok());
    assert!(shows("end out", &["out … end".to_owned()]).is_err());
}

const CASES: &[Case] = &[
    Case::new(
        "tour-is-understood",
        "README.md",
        "commands, output and typed lines are told apart",
        reads_steps,
    ),
    Case::new("tour", "README.md", "every line of the tour does what is printed", || {
        if !rustix::process::geteuid().is_root() {
            skip!("not root");
        }
        tour();
    }),
];

fn main() -> std::process::ExitCode {
    hako_tests::run("tour", &[CASES])
}
