//! Running a program with a deadline, and looking at what it did.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A command may hang because of a defect: then it is killed and the test fails. Nothing that
/// works comes near this, on however slow a machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code; 128 + n where signal n killed it.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// Panics unless the exit code is 0; returns standard output.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.exits(0);
        &self.stdout
    }

    /// Panics unless this is the exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == code, "exit code {} in place of {code}\n{self}", self.code);
        self
    }

    /// Panics if the exit code is 0.
    #[track_caller]
    pub fn fails(&self) -> &Self {
        assert!(self.code != 0, "it should fail\n{self}");
        self
    }

    /// Panics unless standard output has this in it.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "standard output without {text:?}\n{self}");
        self
    }

    /// Panics unless standard error has this in it, in any case of letters.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        let found = self.stderr.to_lowercase().contains(&text.to_lowercase());
        assert!(found, "standard error without {text:?}\n{self}");
        self
    }

    /// Panics unless standard output, without white space at its ends, is this.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(self.code == 0, "exit code {}\n{self}", self.code);
        assert!(self.stdout.trim() == text.trim(), "standard output is not {text:?}\n{self}");
        self
    }

    /// Panics if a program of ours crashed: a panic's message, or a signal.
    #[track_caller]
    pub fn is_sane(&self) -> &Self {
        assert!(!self.stderr.contains("panicked at"), "it panicked\n{self}");
        assert!(![128 + 6, 128 + 11, 128 + 7, 128 + 4].contains(&self.code), "it crashed\n{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        writeln!(f, "exit code {}", self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let mut shown: String = text.chars().take(4000).collect();
            if shown.len() < text.len() {
                shown.push_str(" …");
            }
            writeln!(f, "{name}: {}", shown.trim_end())?;
        }
        Ok(())
    }
}

/// Runs it to its end, without input.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with(command, b"")
}

/// Runs it to its end with this as its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, input: &[u8]) -> Output {
    let text = shown(command);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("spawn({text}): {error}"));
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // A program that ends before it read everything closes the pipe: that is its right.
        let writer = scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input).is_ok()));
        let output = finish(child, text);
        drop(writer.join());
        output
    })
}

/// Waits for a program that runs already, and collects what it wrote into its pipes.
///
/// A grandchild that keeps a pipe open (a monitor that should not) would hold the reader for ever,
/// so the output counts as complete half a second after the program ended.
#[track_caller]
pub fn finish(mut child: Child, command: String) -> Output {
    let stdout = child.stdout.take().map(Reader::start);
    let stderr = child.stderr.take().map(Reader::start);
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < DEADLINE => pause(begun),
            Ok(None) => {
                drop((child.kill(), child.wait()));
                panic!("no end after {} s: {command}", DEADLINE.as_secs());
            }
            Err(error) => panic!("wait({command}): {error}"),
        }
    };
    Output {
        command,
        code: code_of(status),
        stdout: stdout.map(Reader::text).unwrap_or_default(),
        stderr: stderr.map(Reader::text).unwrap_or_default(),
    }
}

/// Short naps at first, longer ones later: most programs end within milliseconds.
fn pause(begun: Instant) {
    let nap = (begun.elapsed() / 8).clamp(Duration::from_micros(200), Duration::from_millis(20));
    thread::sleep(nap);
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

struct Reader {
    received: std::sync::mpsc::Receiver<Vec<u8>>,
}

impl Reader {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, received) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { received }
    }

    fn text(self) -> String {
        let mut bytes = Vec::new();
        while let Ok(part) = self.received.recv_timeout(Duration::from_millis(500)) {
            bytes.extend(part);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A command line as a person would type it.
pub fn shown(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if word.is_empty() || !word.chars().all(plain) { format!("'{word}'") } else { word }
    };
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    words.join(" ")
}

/// Waits until something is so; panics when it never is.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        pause(begun);
    }
}

/// Finds a program on PATH or in the places that only root has on it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from));
    places.map(|place| place.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_codes_and_signals_apart() {
        let sh = |script: &str| run(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("exit 3").code, 3);
        assert_eq!(sh("kill -9 $$").code, 137);
        sh("echo a; echo b >&2").prints("a").complains("B");
    }

    #[test]
    fn feeds_input() {
        run_with(&mut Command::new("cat"), &vec![b'x'; 1 << 20]).says("xxxx");
        run_with(&mut Command::new("true"), &vec![b'x'; 1 << 20]).exits(0);
    }
}
