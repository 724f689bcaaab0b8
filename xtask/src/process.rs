//! Running a program while its output goes to a log and, in short, to the terminal.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

/// What a program left.
pub(crate) struct Ran {
    /// Whether its exit code was 0.
    pub(crate) success: bool,
    /// Everything it wrote, both streams in order, as lines.
    pub(crate) lines: Vec<String>,
}

/// Runs a command to its end; every line goes to `log`, and `show` decides which are printed.
pub(crate) fn run(
    command: &mut Command,
    log: &Path,
    show: fn(&str) -> bool,
) -> Result<Ran, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |call: &str, error: std::io::Error| format!("{call}({program}): {error}");
    let mut file =
        File::create(log).map_err(|error| format!("create({}): {error}", log.display()))?;
    let (reader, writer) = std::io::pipe().map_err(|error| failed("pipe", error))?;
    let other = writer.try_clone().map_err(|error| failed("pipe", error))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(other);
    let mut child = command.spawn().map_err(|error| failed("spawn", error))?;
    // The command keeps the writing ends: without this the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut lines = Vec::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|error| failed("read", error))? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        writeln!(file, "{text}").map_err(|error| format!("write({}): {error}", log.display()))?;
        if show(&text) {
            println!("    {text}");
        }
        lines.push(text);
    }
    let status = child.wait().map_err(|error| failed("wait", error))?;
    Ok(Ran { success: status.success(), lines })
}

/// Runs a command on the terminal.
pub(crate) fn run_shown(command: &mut Command) -> Result<bool, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("spawn({program}): {error}"))?;
    Ok(status.success())
}

/// Whether a program can be started with `--version`.
pub(crate) fn exists(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
