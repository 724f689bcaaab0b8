//! `start`, `restart`, `attach`.

use hako_engine::{Container, Engine, Error, StartRequest, Streams};

use crate::{
    attach::{self, Session, Signals},
    detach::DetachKeys,
    failure::{Failure, Outcome},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    verb::{Topic, Verb},
};

use super::{
    control::grace,
    create::engine_failure,
    for_each,
    run::{attached, check_terminal},
};

#[derive(Default)]
struct Start {
    attach: bool,
    interactive: bool,
    detach_keys: DetachKeys,
}

const START_FLAGS: &[Group<Start>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("attach", Some('a'), "Attach to its output, and forward signals", |o, v| {
            o.attach = v == "true";
            Ok(())
        }),
        Flag::switch("interactive", Some('i'), "Attach to its stdin", |o, v| {
            o.interactive = v == "true";
            Ok(())
        }),
        Flag::one("detach-keys", None, "string", "Keys that leave it running", |o, v| {
            o.detach_keys = DetachKeys::parse(v)?;
            Ok(())
        }),
    ],
}];

/// `start`.
pub(super) const START: Verb = Verb {
    paths: &["start", "container start"],
    topic: Topic::Containers,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start containers that were made, or have ended",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(START_FLAGS),
    run: |app, verb, args| {
        let mut options = Start::default();
        let words = verb.parse(START_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        if !options.attach && !options.interactive {
            return for_each(&engine, &words, |container| ensure_runs(&engine, container));
        }
        let [word] = words.as_slice() else {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        };
        let container = engine.find(word)?;
        let run_options = &container.record.options;
        let streams =
            Streams { stdin: options.interactive && run_options.stdin_open, ..Streams::OUTPUT };
        if run_options.tty && streams.stdin {
            check_terminal()?;
        }
        let tty = run_options.tty;
        let mut session =
            Session { streams, tty, sig_proxy: true, detach_keys: options.detach_keys };
        let signals = Signals::take()?;
        let size = tty.then(attach::window_size).flatten();
        let request = StartRequest { streams, size, own: container.record.auto_remove };
        match engine.start(&container, request) {
            // As in Docker: what was asked for is so already, but for being attached.
            Err(Error::AlreadyRunning(_)) => join(&engine, &container, &mut session, &signals),
            started => {
                let attachment = started.map_err(engine_failure)?;
                attached(&engine, attachment, &mut session, &signals)
            }
        }
    },
};

#[derive(Default)]
struct Restart {
    seconds: Option<i64>,
}

const RESTART_FLAGS: &[Group<Restart>] = &[Group {
    heading: "Options",
    flags: &[Flag::one(
        "time",
        Some('t'),
        "int",
        "Seconds until it is killed; -1 waits",
        |o, v| {
            o.seconds = Some(parse_integer(v)?);
            Ok(())
        },
    )],
}];

/// `restart`.
pub(super) const RESTART: Verb = Verb {
    paths: &["restart", "container restart"],
    topic: Topic::Containers,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop containers and start them again",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(RESTART_FLAGS),
    run: |app, verb, args| {
        let mut options = Restart::default();
        let words = verb.parse(RESTART_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        for_each(&engine, &words, |container| {
            engine.stop(container, None, grace(options.seconds, container))?;
            ensure_runs(&engine, container)
        })
    },
};

/// Starts a container. One that runs is what was asked for, as in Docker, whoever started it.
fn ensure_runs(engine: &Engine, container: &Container) -> Result<(), Error> {
    match engine.start(container, StartRequest::default()) {
        Err(Error::AlreadyRunning(_)) => Ok(()),
        started => started.map(drop),
    }
}

struct Attach {
    no_stdin: bool,
    sig_proxy: bool,
    detach_keys: DetachKeys,
}

const ATTACH_FLAGS: &[Group<Attach>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("no-stdin", None, "Do not attach to its stdin", |o, v| {
            o.no_stdin = v == "true";
            Ok(())
        }),
        Flag::switch("sig-proxy", None, "Hand signals to its process (default true)", |o, v| {
            o.sig_proxy = v == "true";
            Ok(())
        }),
        Flag::one("detach-keys", None, "string", "Keys that leave it running", |o, v| {
            o.detach_keys = DetachKeys::parse(v)?;
            Ok(())
        }),
    ],
}];

/// `attach`.
pub(super) const ATTACH: Verb = Verb {
    paths: &["attach", "container attach"],
    topic: Topic::Containers,
    usage: "[OPTIONS] CONTAINER",
    about: "Connect this terminal to a running container's",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(ATTACH_FLAGS),
    run: |app, verb, args| -> Outcome {
        let mut options =
            Attach { no_stdin: false, sig_proxy: true, detach_keys: DetachKeys::default() };
        let words = verb.parse(ATTACH_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let container = engine.find(&words[0])?;
        let run_options = &container.record.options;
        let stdin = run_options.stdin_open && !options.no_stdin;
        if run_options.tty && stdin {
            check_terminal()?;
        }
        let streams = Streams { stdin, ..Streams::OUTPUT };
        let signals = Signals::take()?;
        let mut session = Session {
            streams,
            tty: run_options.tty,
            sig_proxy: options.sig_proxy,
            detach_keys: options.detach_keys,
        };
        join(&engine, &container, &mut session, &signals)
    },
};

/// Takes part in a container that runs. It is not ours: its owner removes it, or its monitor does.
fn join(
    engine: &Engine,
    container: &Container,
    session: &mut Session,
    signals: &Signals,
) -> Outcome {
    let mut attachment = engine.attach(container, session.streams)?;
    if session.tty
        && let Some(size) = attach::window_size()
    {
        attachment.resize(size)?;
    }
    Ok(attach::run(&mut attachment, session, signals)?.code(&container.name))
}
