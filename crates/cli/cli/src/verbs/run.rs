//! `run`.

use std::io::{self, IsTerminal};

use hako_engine::{Attachment, Container, Engine, StartRequest, Streams};

use crate::failure::say;
use crate::{
    App,
    attach::{self, Ended, Session, Signals},
    detach::DetachKeys,
    failure::{CODE_HAKO, Failure, Outcome, success},
    flag::{self, Completes, Order},
    verb::{Topic, Verb},
};

use super::{
    create::{self, engine_failure, refuse},
    print,
    run_flags::{self, Draft},
};

/// `run`.
pub(super) const RUN: Verb = Verb {
    paths: &["run", "container run"],
    topic: Topic::Common,
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make a container from an image and start it",
    more: "Options end at IMAGE: what follows it is the container's command.

Examples:
  hako run --rm hako:tour                          show what isolation a container has
  hako run --rm -it alpine:3.10 sh                 a shell in a container
  hako run -d --name web --memory 64m IMAGE        in the background, with a limit
  hako run --rm -v \"$PWD\":/src:ro -w /src IMAGE ls  on files of this machine
  hako run --rm --cap-drop ALL --cap-add NET_RAW IMAGE ping -c1 127.0.0.1

Exit status:
  125  hako itself failed        126  the command cannot be executed
  127  there is no such command  otherwise that of the command, 128+n after signal n",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(run_flags::RUN),
    run,
};

fn run(app: &App, verb: &Verb, args: &[String]) -> Outcome {
    let mut draft = Draft::default();
    let words = verb.parse(run_flags::RUN, Order::First, args, &mut draft)?;
    let refused = |message: String| refuse(&message, CODE_HAKO);
    let request = create::request(&mut draft, &words).map_err(refused)?;
    let mut session = session(&draft, request.record.attached)?;
    let engine = app.engine().map_err(all_125)?;
    let container = create::create(&engine, &draft, request)?;
    match draft.detach {
        true => detached(&engine, &container),
        false => {
            let signals = Signals::take()?;
            let request = StartRequest {
                streams: session.streams,
                size: session.tty.then(attach::window_size).flatten(),
                own: draft.auto_remove,
            };
            let attachment = start(&engine, &container, request)?;
            attached(&engine, attachment, &mut session, &signals)
        }
    }
}

/// Whatever fails before a container is there is hako's own failure.
fn all_125(failure: Failure) -> Failure {
    match failure {
        Failure::Failed { message, .. } => Failure::Failed { message, code: CODE_HAKO },
        other => other,
    }
}

fn detached(engine: &Engine, container: &Container) -> Outcome {
    start(engine, container, StartRequest::default())?;
    print(&format!("{}\n", container.id))?;
    success()
}

/// Starts it. A container that was to be removed at its end is removed when it has none.
fn start(
    engine: &Engine,
    container: &Container,
    request: StartRequest,
) -> Result<Attachment, Failure> {
    engine.start(container, request).map_err(|error| {
        let failure = engine_failure(error);
        if container.record.auto_remove
            && let Err(error) = engine.remove(container, true)
        {
            say!("hako: removing container {}: {error}", container.short_id());
        }
        failure
    })
}

fn session(draft: &Draft, [stdin, stdout, stderr]: [bool; 3]) -> Result<Session, Failure> {
    let tty = draft.options.tty;
    if tty && stdin && !draft.detach {
        check_terminal()?;
    }
    let keys = draft.detach_keys.as_deref().map_or(Ok(DetachKeys::default()), DetachKeys::parse);
    Ok(Session {
        streams: Streams { stdin, stdout, stderr },
        tty,
        sig_proxy: !draft.no_sig_proxy,
        detach_keys: keys.map_err(|message| refuse(&message, CODE_HAKO))?,
    })
}

/// A terminal inside makes no sense where there is none outside.
pub(super) fn check_terminal() -> Result<(), Failure> {
    match io::stdin().is_terminal() {
        true => Ok(()),
        false => {
            say!("the input device is not a TTY");
            Err(Failure::Said(1))
        }
    }
}

/// Takes part until the container has ended or the user has left; gives the code to exit with.
pub(super) fn attached(
    engine: &Engine,
    mut attachment: Attachment,
    session: &mut Session,
    signals: &Signals,
) -> Outcome {
    let ended = attach::run(&mut attachment, session, signals)?;
    let code = ended.code(&attachment.container.name);
    if matches!(ended, Ended::Exited(_)) {
        engine.finish(attachment)?;
    }
    Ok(code)
}
