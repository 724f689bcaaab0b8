//! hako-runc: OCI runtime and container monitor.
//!
//! The command line of runc, and crun's where it adds: a table of verbs, each with its flags.

#![forbid(unsafe_code)]

mod args;
mod events;
mod foreground;
mod inspect;
mod log;
mod mounts;
mod notify;
mod pattern;
mod quantity;
mod run;
mod sealed;
mod tables;
mod update;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::Parser;

use crate::args::{Flag, Parsed, Stop, parse, switch, value};
use crate::log::Log;

/// Few system calls, little memory; see there.
#[global_allocator]
static ALLOCATOR: hako_sys::alloc::Arena = hako_sys::alloc::Arena::new();

/// Global options.
const GLOBAL: &[Flag] = &[
    value("root", None, "DIR", "directory of container state"),
    value(
        "log",
        None,
        "TO",
        "write the log to a FILE, journald:NAME or syslog:NAME instead of standard error",
    ),
    value("log-format", None, "FORMAT", "text or json"),
    switch("debug", None, "log more"),
    switch("systemd-cgroup", None, "the same as --cgroup-manager=systemd"),
    value(
        "cgroup-manager",
        None,
        "MANAGER",
        "who makes cgroups: cgroupfs (default), systemd or disabled",
    ),
    value(
        "rootless",
        None,
        "BOOL",
        "true: go on without a cgroup where none may be made and nothing is limited; auto (default): unless root",
    ),
    value("criu", None, "PATH", "ignored: there is no checkpoint"),
    switch("version", Some('v'), "print the version (also -V)"),
];

/// What all verbs know.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) root: PathBuf,
    pub(crate) log: Log,
    pub(crate) global: Parsed,
}

/// A failed command: its message, and its exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, status: 1 }
    }
}

impl From<hako_runtime::Error> for Failure {
    fn from(error: hako_runtime::Error) -> Failure {
        Failure { message: log::chain(&error), status: 1 }
    }
}

/// What a verb returns: the exit status.
pub(crate) type Outcome = Result<u8, Failure>;

/// A verb.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    /// One line.
    pub(crate) help: &'static str,
    /// What else its own help says; may be empty.
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) stop: Stop,
    pub(crate) run: fn(&Context, &Parsed) -> Outcome,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // What a container's `--init` executes is this program, by another name.
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == hako_monitor::init::NAME) {
        return init(arguments.collect());
    }
    if let Err(error) = hako_sys::process::set_name(c"hako-runc") {
        log::say(format_args!("hako-runc: prctl(PR_SET_NAME): {error}"));
        return ExitCode::FAILURE;
    }
    let mut parser = Parser::from_env();
    let (context, verb, parsed) = match understand(&mut parser) {
        Ok(Understood::Verb(context, verb, parsed)) => (context, verb, parsed),
        Ok(Understood::Said) => return ExitCode::SUCCESS,
        Err((log, message)) => {
            log.error(&message);
            return ExitCode::FAILURE;
        }
    };
    context.log.debug(&format!("{} {:?}", verb.name, parsed.positional));
    match (verb.run)(&context, &parsed) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            context.log.error(&failure.message);
            ExitCode::from(failure.status)
        }
    }
}

/// Process 1 of a container.
fn init(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    match hako_monitor::init::init(arguments) {
        // A status is one byte.
        Ok(status) => ExitCode::from(status as u8),
        Err(e) => {
            log::say(format_args!("{}: {e}", hako_monitor::init::NAME));
            ExitCode::from(125)
        }
    }
}

enum Understood {
    Verb(Box<Context>, &'static Verb, Parsed),
    /// Help or version was printed.
    Said,
}

fn understand(parser: &mut Parser) -> Result<Understood, (Log, String)> {
    let plain = |message| (Log::default(), message);
    // The verb is the first positional argument; the rest is parsed by its own table.
    let mut global = parse_global(parser).map_err(plain)?;
    if global.has("version") {
        return said(&inspect::version());
    }
    let name = match global.positional.pop() {
        Some(name) if !(global.help && name.is_empty()) => name,
        _ => {
            return said(&tables::help());
        }
    };
    let log = Log::open(global.get("log"), global.get("log-format"), global.has("debug"))
        .map_err(plain)?;
    let Some(verb) = tables::VERBS.iter().find(|v| v.name == name) else {
        if name == "help" || name == "h" {
            let of = parser.value().ok().and_then(|name| name.into_string().ok());
            let verb = of.and_then(|of| tables::VERBS.iter().find(|v| v.name == of));
            return said(&verb.map_or_else(tables::help, tables::help_of));
        }
        if std::iter::from_fn(|| parser.value().ok()).any(|word| word == "-h" || word == "--help") {
            return Err((log, format!("No help topic for '{name}'")));
        }
        return Err((log, format!("no such command: {name}")));
    };
    let parsed = match parse(parser, verb.flags, verb.stop) {
        Ok(parsed) => parsed,
        Err(message) => return Err((log, format!("{name}: {message}"))),
    };
    if parsed.help || global.help {
        return said(&tables::help_of(verb));
    }
    let root = match global.get("root") {
        Some(root) => std::path::absolute(root).unwrap_or_else(|_| PathBuf::from(root)),
        None => default_root(),
    };
    Ok(Understood::Verb(Box::new(Context { root, log, global }), verb, parsed))
}

/// Global flags up to the verb, which is left as the only positional argument.
fn parse_global(parser: &mut Parser) -> Result<Parsed, String> {
    args::parse_until_verb(parser, GLOBAL)
}

fn default_root() -> PathBuf {
    if hako_sys::cred::effective_uid() == 0 {
        return PathBuf::from("/run/hako-runc");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => Path::new(&dir).join("hako-runc"),
        None => PathBuf::from(format!("/tmp/hako-runc-{}", hako_sys::cred::effective_uid())),
    }
}

/// Prints help or version.
fn said(text: &str) -> Result<Understood, (Log, String)> {
    match std::io::stdout().lock().write_all(format!("{text}\n").as_bytes()) {
        // Whoever reads it has had enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err((Log::default(), format!("writing output: {e}")))
        }
        _ => Ok(Understood::Said),
    }
}
