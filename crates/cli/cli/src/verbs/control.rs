//! `stop`, `kill`, `wait`, `rm`, `rename`.

use std::time::Duration;

use crate::failure::say;
use crate::{
    App,
    failure::{Failure, Outcome, success},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    verb::{Topic, Verb},
};

use super::{NONE, for_each, no_flags, print};

const MANY: (usize, usize) = (1, usize::MAX);

#[derive(Default)]
struct Stop {
    signal: Option<i32>,
    seconds: Option<i64>,
}

fn parse_signal(text: &str) -> Result<i32, String> {
    hako_engine::signal::parse(text).ok_or_else(|| format!("Invalid signal: {text}"))
}

const STOP_FLAGS: &[Group<Stop>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one("signal", Some('s'), "string", "Signal to send first", |o, v| {
            o.signal = Some(parse_signal(v)?);
            Ok(())
        }),
        Flag::one("time", Some('t'), "int", "Seconds until it is killed; -1 waits", |o, v| {
            o.seconds = Some(parse_integer(v)?);
            Ok(())
        }),
        Flag::one("timeout", None, "int", "The same as --time", |o, v| {
            o.seconds = Some(parse_integer(v)?);
            Ok(())
        }),
    ],
}];

/// `stop`.
pub(super) const STOP: Verb = Verb {
    paths: &["stop", "container stop"],
    topic: Topic::Common,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Ask containers to end, and kill those that do not",
    more: "The signal is the one of --signal, --stop-signal of `run`, or the image's; SIGTERM\n\
           otherwise. After 10 seconds, or --time, SIGKILL follows.",
    words: Completes::Nothing,
    count: MANY,
    flags: || flag::describe(STOP_FLAGS),
    run: |app, verb, args| {
        let mut options = Stop::default();
        let words = verb.parse(STOP_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        for_each(&engine, &words, |container| {
            engine.stop(container, options.signal, grace(options.seconds, container))
        })
    },
};

/// How long a container has to end by itself; `None` without limit.
pub(super) fn grace(asked: Option<i64>, container: &hako_engine::Container) -> Option<Duration> {
    const DEFAULT_SECONDS: i64 = 10;
    let seconds = asked.or(container.record.options.stop_timeout_seconds);
    u64::try_from(seconds.unwrap_or(DEFAULT_SECONDS)).ok().map(Duration::from_secs)
}

struct Kill {
    signal: i32,
}

const KILL_FLAGS: &[Group<Kill>] = &[Group {
    heading: "Options",
    flags: &[Flag::one("signal", Some('s'), "string", "Signal to send (default KILL)", |o, v| {
        o.signal = parse_signal(v)?;
        Ok(())
    })],
}];

/// `kill`.
pub(super) const KILL: Verb = Verb {
    paths: &["kill", "container kill"],
    topic: Topic::Containers,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Send a signal to containers",
    more: "",
    words: Completes::Nothing,
    count: MANY,
    flags: || flag::describe(KILL_FLAGS),
    run: |app, verb, args| {
        let mut options = Kill { signal: hako_engine::signal::SIGKILL };
        let words = verb.parse(KILL_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        for_each(&engine, &words, |container| engine.kill(container, options.signal))
    },
};

/// `wait`.
pub(super) const WAIT: Verb = Verb {
    paths: &["wait", "container wait"],
    topic: Topic::Containers,
    usage: "CONTAINER [CONTAINER...]",
    about: "Wait until containers have ended, and print their exit codes",
    more: "",
    words: Completes::Nothing,
    count: MANY,
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        let mut code = 0;
        for word in &words {
            match engine.find(word).and_then(|container| engine.wait(&container)) {
                Ok(exit) => print(&format!("{}\n", exit.code))?,
                Err(error) => {
                    say!("Error: {error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    },
};

#[derive(Default)]
struct Remove {
    force: bool,
}

const REMOVE_FLAGS: &[Group<Remove>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("force", Some('f'), "Kill those that run", |o, v| {
            o.force = v == "true";
            Ok(())
        }),
        Flag::switch("volumes", Some('v'), "Remove their anonymous volumes too", |_, _| {
            // There are none in this version: a request for one is refused by `run`.
            Ok(())
        }),
    ],
}];

/// `rm`.
pub(super) const REMOVE: Verb = Verb {
    paths: &["rm", "container rm", "container remove"],
    topic: Topic::Common,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove containers",
    more: "",
    words: Completes::Nothing,
    count: MANY,
    flags: || flag::describe(REMOVE_FLAGS),
    run: |app, verb, args| {
        let mut options = Remove::default();
        let words = verb.parse(REMOVE_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        // With --force a container that is gone already is no failure, as in Docker.
        let (words, absent): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| {
            let found = engine.find(word);
            !(options.force && matches!(found, Err(hako_engine::Error::NoContainer(_))))
        });
        for word in absent {
            say!("Error: No such container: {word}");
        }
        match words.is_empty() {
            true => success(),
            false => for_each(&engine, &words, |c| engine.remove(c, options.force)),
        }
    },
};

/// `rename`.
pub(super) const RENAME: Verb = Verb {
    paths: &["rename", "container rename"],
    topic: Topic::Containers,
    usage: "CONTAINER NEW_NAME",
    about: "Give a container another name",
    more: "",
    words: Completes::Nothing,
    count: (2, 2),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        engine.rename(&engine.find(&words[0])?, &words[1])?;
        success()
    },
};

/// `container cleanup`: what a monitor runs after a container with `--rm` that nobody waits for.
pub(super) const CLEANUP: Verb = Verb {
    paths: &["container cleanup"],
    topic: Topic::Internal,
    usage: "ID",
    about: "Remove what a container with --rm leaves (run by its monitor)",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: no_flags,
    run: cleanup,
};

fn cleanup(app: &App, verb: &Verb, args: &[String]) -> Outcome {
    let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
    app.engine()?.cleanup(&words[0]).map_err(Failure::from)?;
    success()
}
