//! hako's command line: Docker's verbs, flags, texts and exit codes over the engine.
//!
//! | module | subject |
//! |---|---|
//! | [`flag`] | pflag's grammar over tables of flags |
//! | [`verb`] | the table of verbs and the way to one |
//! | `verbs` | one module per verb, or per family of them |
//! | [`output`], [`template`] | rows, tables, `--format` |
//! | `progress` | pulls and pushes while they go on |
//! | `interrupt` | ^C for what goes on without a container |
//! | [`attach`], [`detach`] | the terminal and a container's monitor |
//! | [`describe`] | completions and man pages from the same tables |
//!
//! Only what a verb needs is opened: `hako --help` touches no file.

#![forbid(unsafe_code)]

pub mod attach;
pub mod describe;
pub mod detach;
pub mod failure;
pub mod flag;
pub mod help;
mod interrupt;
pub mod output;
mod progress;
pub mod template;
pub mod verb;
mod verbs;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

pub use hako_engine::Embedded;
use hako_engine::{Engine, Places};

use crate::{
    failure::{Failure, say},
    flag::{Completes, Flag, FlagError, Group, Order},
};

/// One run of hako: what it carries, and the flags before its verb.
pub struct App {
    embedded: Embedded,
    globals: Globals,
}

/// Flags before the verb.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    root: Option<PathBuf>,
    run_root: Option<PathBuf>,
    snapshotter: Option<String>,
    version: bool,
}

pub(crate) const GLOBAL: &[Group<Globals>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one(
            "root",
            None,
            "DIR",
            "Where images and containers are kept (HAKO_ROOT)",
            |g: &mut Globals, v| {
                g.root = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::Directory),
        Flag::one(
            "run-root",
            None,
            "DIR",
            "Where the state of running containers is kept (HAKO_RUN_ROOT)",
            |g: &mut Globals, v| {
                g.run_root = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::Directory),
        Flag::one(
            "snapshotter",
            None,
            "NAME",
            "How layers are kept: overlay, erofs or auto (HAKO_SNAPSHOTTER)",
            |g: &mut Globals, v| {
                g.snapshotter = Some(v.into());
                Ok(())
            },
        ),
        Flag::one(
            "storage-driver",
            None,
            "NAME",
            "The same, as Podman calls it",
            |g: &mut Globals, v| {
                g.snapshotter = Some(v.into());
                Ok(())
            },
        ),
        Flag::switch("version", Some('v'), "Print the version", |g, v| {
            g.version = v == "true";
            Ok(())
        }),
    ],
}];

impl App {
    /// The engine in the places the user means.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        let globals = &self.globals;
        let places = Places::resolve(globals.root.clone(), globals.run_root.clone())?;
        let engine = Engine::open(places, self.embedded)?;
        let named = std::env::var("HAKO_SNAPSHOTTER").ok().filter(|name| !name.is_empty());
        Ok(match globals.snapshotter.clone().or(named) {
            Some(name) => engine.with_snapshotter(&name)?,
            None => engine,
        })
    }
}

/// hako. Reads the process's arguments, prints, and says how to exit.
pub fn main(embedded: Embedded) -> ExitCode {
    let args: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let code = match args {
        Ok(args) => run(embedded, &args),
        Err(arg) => {
            say!("hako: argument {arg:?} is not UTF-8");
            return ExitCode::from(failure::CODE_HAKO);
        }
    };
    match code {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(141),
        Err(error) => {
            say!("hako: writing output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(embedded: Embedded, args: &[String]) -> io::Result<u8> {
    let mut globals = Globals::default();
    let words = match flag::parse(GLOBAL, Order::First, args, &mut globals) {
        Ok(words) => words,
        Err(FlagError::Help) => {
            help::overview(&mut io::stdout().lock())?;
            return Ok(0);
        }
        Err(error) => {
            say!("{error}\nSee 'hako --help'.");
            return Ok(failure::CODE_HAKO);
        }
    };
    if globals.version {
        writeln!(io::stdout(), "{}", verbs::version_line())?;
        return Ok(0);
    }
    verb::dispatch(&App { embedded, globals }, &words)
}
