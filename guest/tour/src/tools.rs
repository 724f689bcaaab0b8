//! The tools: what a shell and coreutils would be needed for otherwise.

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use crate::{proc, trial};

/// What a tool returns: the code to exit with, or what to complain about.
type Outcome = Result<ExitCode, String>;

/// One tool: everything about it in one place.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

const TOOLS: &[Tool] = &[
    Tool { name: "burn", usage: "SECONDS", about: "use a processor for a while", run: burn },
    Tool { name: "cat", usage: "[FILE...]", about: "copy files or stdin to stdout", run: cat },
    Tool { name: "echo", usage: "[WORD...]", about: "print the words", run: echo },
    Tool { name: "env", usage: "", about: "print the environment", run: env },
    Tool { name: "exec", usage: "PROGRAM [ARG...]", about: "become another program", run: exec },
    Tool { name: "exit", usage: "CODE", about: "exit with this code", run: exit },
    Tool { name: "false", usage: "", about: "fail", run: |_| Ok(ExitCode::FAILURE) },
    Tool { name: "hostname", usage: "", about: "print the host name", run: hostname },
    Tool { name: "id", usage: "", about: "print user and groups", run: id },
    Tool { name: "kill", usage: "[-SIGNAL] PID...", about: "send a signal", run: kill },
    Tool { name: "ls", usage: "[-l] [PATH...]", about: "list directories", run: ls },
    Tool { name: "mem", usage: "MIB [SECONDS]", about: "use that much memory", run: mem },
    Tool { name: "mounts", usage: "", about: "print the mounts", run: mounts },
    Tool { name: "ps", usage: "", about: "print the processes", run: ps },
    Tool { name: "pwd", usage: "", about: "print the working directory", run: pwd },
    Tool { name: "sleep", usage: "SECONDS", about: "wait", run: sleep },
    Tool { name: "spawn", usage: "COUNT", about: "run that many processes at once", run: spawn },
    Tool { name: "true", usage: "", about: "succeed", run: |_| Ok(ExitCode::SUCCESS) },
    Tool { name: "try", usage: "[WHAT...]", about: "try privileged things", run: trial::run },
    Tool { name: "tty", usage: "", about: "print the terminal and its size", run: tty },
    Tool { name: "write", usage: "FILE [WORD...]", about: "write the words to a file", run: write },
];

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// Runs a tool as a program: prints what went wrong, returns the code to exit with.
pub(crate) fn run(tool: &Tool, args: &[OsString]) -> ExitCode {
    let args: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let outcome = (tool.run)(&args).and_then(|code| match io::stdout().flush() {
        Ok(()) => Ok(code),
        Err(error) => Err(format!("stdout: {error}")),
    });
    outcome.unwrap_or_else(|problem| {
        eprintln!("{}: {problem}", tool.name);
        ExitCode::FAILURE
    })
}

/// Prints what there is.
pub(crate) fn help() -> ExitCode {
    println!("Usage: tour                  show what isolation this process sees");
    println!("       tour TOOL [ARG...]    use one of the tools\n");
    for tool in TOOLS {
        println!("  {:28} {}", format!("{} {}", tool.name, tool.usage), tool.about);
    }
    ExitCode::SUCCESS
}

fn done() -> Outcome {
    Ok(ExitCode::SUCCESS)
}

/// The first argument as a number.
fn number<T: std::str::FromStr>(args: &[String], what: &str) -> Result<T, String> {
    let word = args.first().ok_or_else(|| format!("{what} is missing"))?;
    word.parse().map_err(|_| format!("{what} {word:?} is no number"))
}

fn seconds(args: &[String]) -> Result<Duration, String> {
    let seconds: f64 = number(args, "SECONDS")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("SECONDS: {error}"))
}

fn about<T>(path: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| {
        let text = error.to_string();
        format!("{path}: {}", text.split(" (os error").next().unwrap_or(&text))
    })
}

fn burn(args: &[String]) -> Outcome {
    let time = seconds(args)?;
    let start = Instant::now();
    let mut rounds = 0u64;
    while start.elapsed() < time {
        rounds = std::hint::black_box(rounds + 1);
    }
    println!("{rounds} rounds");
    done()
}

fn cat(args: &[String]) -> Outcome {
    let mut out = io::stdout().lock();
    let stdin = ["-".to_owned()];
    for path in if args.is_empty() { &stdin } else { args } {
        let mut source: Box<dyn Read> = match path.as_str() {
            "-" => Box::new(io::stdin().lock()),
            path => Box::new(about(path, fs::File::open(path))?),
        };
        // In pieces, each written out at once: an interactive peer waits for its echo.
        let mut buffer = [0; 16 * 1024];
        loop {
            match about(path, source.read(&mut buffer))? {
                0 => break,
                n => {
                    let written = out.write_all(&buffer[..n]).and_then(|()| out.flush());
                    about("stdout", written)?;
                }
            }
        }
    }
    done()
}

fn echo(args: &[String]) -> Outcome {
    println!("{}", args.join(" "));
    done()
}

fn env(_: &[String]) -> Outcome {
    for (name, value) in std::env::vars_os() {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    done()
}

fn exec(args: &[String]) -> Outcome {
    let (program, args) = args.split_first().ok_or("PROGRAM is missing")?;
    let error = Command::new(program).args(args).exec();
    eprintln!("exec: {program}: {error}");
    Ok(ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
}

fn exit(args: &[String]) -> Outcome {
    Ok(ExitCode::from(number::<u8>(args, "CODE")?))
}

fn hostname(_: &[String]) -> Outcome {
    let path = "/proc/sys/kernel/hostname";
    print!("{}", about(path, fs::read_to_string(path))?);
    done()
}

fn id(_: &[String]) -> Outcome {
    let status = about("/proc/self/status", proc::Status::read())?;
    let effective = |field| status.get(field).and_then(|ids| ids.split_whitespace().nth(1));
    let named = |file: &str, id: &str| {
        // An image need not have these files.
        let text = fs::read_to_string(file).unwrap_or_default();
        let name = text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2) == Some(&id)).then(|| fields[0].to_owned())
        });
        name.map_or_else(|| id.to_owned(), |name| format!("{id}({name})"))
    };
    let (uid, gid) = (effective("Uid").unwrap_or("?"), effective("Gid").unwrap_or("?"));
    print!("uid={} gid={}", named("/etc/passwd", uid), named("/etc/group", gid));
    let groups: Vec<String> = std::iter::once(gid)
        .chain(status.get("Groups").unwrap_or_default().split_whitespace().filter(|g| *g != gid))
        .map(|g| named("/etc/group", g))
        .collect();
    println!(" groups={}", groups.join(","));
    done()
}

fn kill(args: &[String]) -> Outcome {
    const SIGNALS: &[(&str, i32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
    ];
    let (word, pids) = match args.split_first() {
        Some((first, rest)) if first.starts_with('-') => (&first[1..], rest),
        _ => ("TERM", args),
    };
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let number = SIGNALS.iter().find(|s| s.0 == name).map(|s| s.1).or(name.parse().ok());
    let signal = number
        .and_then(rustix::process::Signal::from_named_raw)
        .ok_or_else(|| format!("no signal {word:?}"))?;
    if pids.is_empty() {
        return Err("PID is missing".into());
    }
    for word in pids {
        let pid = word.parse().ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{word:?} is no process number"))?;
        about(word, rustix::process::kill_process(pid, signal).map_err(Into::into))?;
    }
    done()
}

fn ls(args: &[String]) -> Outcome {
    let long = args.iter().any(|a| a == "-l");
    let mut paths: Vec<&str> = args.iter().map(String::as_str).filter(|a| *a != "-l").collect();
    if let Some(flag) = paths.iter().find(|p| p.starts_with('-')) {
        return Err(format!("unknown flag {flag}"));
    }
    if paths.is_empty() {
        paths.push(".");
    }
    for path in &paths {
        // A link to a directory is the directory, unless it is itself to be shown.
        let meta = if long { fs::symlink_metadata(path) } else { fs::metadata(path) };
        if !about(path, meta)?.is_dir() {
            println!("{}", entry_line(Path::new(path), path, long)?);
            continue;
        }
        if paths.len() > 1 {
            println!("{path}:");
        }
        let mut names = Vec::new();
        for entry in about(path, fs::read_dir(path))? {
            names.push(about(path, entry)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        for name in names {
            println!("{}", entry_line(&Path::new(path).join(&name), &name, long)?);
        }
    }
    done()
}

fn entry_line(path: &Path, name: &str, long: bool) -> Result<String, String> {
    if !long {
        return Ok(name.to_owned());
    }
    let meta = about(name, fs::symlink_metadata(path))?;
    let kind = meta.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let size = match is_device {
        true => {
            let device = meta.rdev();
            format!("{}, {}", rustix::fs::major(device), rustix::fs::minor(device))
        }
        false => meta.size().to_string(),
    };
    let target = match kind.is_symlink() {
        true => format!(" -> {}", about(name, fs::read_link(path))?.display()),
        false => String::new(),
    };
    let (mode, links) = (mode_letters(meta.mode()), meta.nlink());
    Ok(format!("{mode} {links:3} {:5} {:5} {size:>10} {name}{target}", meta.uid(), meta.gid()))
}

/// `drwxr-xr-x` of a file mode.
fn mode_letters(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let mut letters = vec![kind];
    // Each triple ends in x, or in what its special bit makes of x.
    for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        letters.push(if bits & 4 != 0 { 'r' } else { '-' });
        letters.push(if bits & 2 != 0 { 'w' } else { '-' });
        letters.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => set.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    letters.into_iter().collect()
}

fn mem(args: &[String]) -> Outcome {
    let mib: usize = number(args, "MIB")?;
    let mut memory: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        // Not zeroes: those pages would be shared until written.
        memory.push(std::hint::black_box(vec![0xa5; 1 << 20]));
    }
    println!("{mib} MiB in use");
    if args.len() > 1 {
        std::thread::sleep(seconds(&args[1..])?);
    }
    drop(memory);
    done()
}

fn mounts(_: &[String]) -> Outcome {
    for m in about("/proc/self/mountinfo", proc::mounts())? {
        println!("{} on {} type {} ({})", m.source, m.point, m.kind, m.options);
    }
    done()
}

fn ps(_: &[String]) -> Outcome {
    let mut pids: Vec<u32> = Vec::new();
    for entry in about("/proc", fs::read_dir("/proc"))? {
        pids.extend(
            about("/proc", entry)?.file_name().to_str().and_then(|n| n.parse::<u32>().ok()),
        );
    }
    pids.sort_unstable();
    println!("{:>7} {:>7} {:>6} S COMMAND", "PID", "PPID", "UID");
    for pid in pids {
        // A process may end while we look at it.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let field = |name: &str| {
            let value = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|v| v.split_whitespace().next()).unwrap_or("?")
        };
        let words: Vec<_> = command.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        let command = match words.join(" ").trim_end() {
            "" => format!("[{}]", field("Name")),
            line => line.to_owned(),
        };
        println!("{pid:>7} {:>7} {:>6} {} {command}", field("PPid"), field("Uid"), field("State"));
    }
    done()
}

fn pwd(_: &[String]) -> Outcome {
    println!("{}", about("working directory", std::env::current_dir())?.display());
    done()
}

fn sleep(args: &[String]) -> Outcome {
    std::thread::sleep(seconds(args)?);
    done()
}

fn spawn(args: &[String]) -> Outcome {
    let count: usize = number(args, "COUNT")?;
    let mut children = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..count {
        match Command::new("/proc/self/exe").arg0("sleep").arg("60").spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                outcome = Err(format!("process {}: {error}", children.len() + 1));
                break;
            }
        }
    }
    println!("{} processes at once", children.len());
    for child in &mut children {
        about("kill", child.kill())?;
        about("wait", child.wait())?;
    }
    outcome.and_then(|()| done())
}

fn tty(_: &[String]) -> Outcome {
    if !io::stdin().is_terminal() {
        println!("not a tty");
        return Ok(ExitCode::FAILURE);
    }
    let name =
        about("stdin", rustix::termios::ttyname(io::stdin(), Vec::new()).map_err(Into::into));
    let size = rustix::termios::tcgetwinsize(io::stdin()).map_err(Into::into);
    let size = about("stdin", size)?;
    let name = name.map_or_else(|_| "?".to_owned(), |n| n.to_string_lossy().into_owned());
    println!("{name} {} rows {} columns", size.ws_row, size.ws_col);
    done()
}

fn write(args: &[String]) -> Outcome {
    let (path, words) = args.split_first().ok_or("FILE is missing")?;
    about(path, fs::write(path, words.join(" ") + "\n"))?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_a_link_for_each_tool() {
        assert!(crate::names::NAMES.is_sorted_by(|a, b| a < b));
        assert!(TOOLS.iter().map(|tool| tool.name).eq(crate::names::NAMES.iter().copied()));
    }

    #[test]
    fn modes_as_ls_writes_them() {
        assert_eq!(mode_letters(0o100_644), "-rw-r--r--");
        assert_eq!(mode_letters(0o041_777), "drwxrwxrwt");
        assert_eq!(mode_letters(0o104_755), "-rwsr-xr-x");
        assert_eq!(mode_letters(0o102_644), "-rw-r-Sr--");
        assert_eq!(mode_letters(0o020_666), "crw-rw-rw-");
    }
}
