//! `exec`.

use hako_engine::{
    ExecRequest,
    options::{self, EnvChange},
};

use crate::{
    failure::{CODE_HAKO, Failure},
    flag::{self, Completes, Flag, Group, Order},
    verb::{Topic, Verb},
};

use super::{
    run::check_terminal,
    run_flags::{from_environment, read},
};

#[derive(Default)]
struct Options {
    request: ExecRequest,
    env: Vec<EnvChange>,
    file_env: Vec<EnvChange>,
}

const FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("interactive", Some('i'), "Keep stdin open", |o, v| {
            o.request.stdin_open = v == "true";
            Ok(())
        }),
        Flag::switch("tty", Some('t'), "Give it a terminal", |o, v| {
            o.request.tty = v == "true";
            Ok(())
        }),
        Flag::switch("detach", Some('d'), "Run it in the background", |o, v| {
            o.request.detach = v == "true";
            Ok(())
        }),
        Flag::many(
            "env",
            Some('e'),
            "list",
            "Set a variable, or take NAME's value from here",
            |o, v| {
                o.env.push(options::env::parse(v, from_environment).map_err(|e| e.to_string())?);
                Ok(())
            },
        ),
        Flag::many(
            "env-file",
            None,
            "list",
            "Set variables from the lines of a file",
            |o: &mut Options, v| {
                let bytes = read(v.as_ref())?;
                let changes = options::env::parse_file(&bytes, from_environment);
                o.file_env.extend(changes.map_err(|e| format!("{v}: {e}"))?);
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::one("workdir", Some('w'), "string", "Working directory", |o, v| {
            o.request.workdir = Some(v.into());
            Ok(())
        }),
        Flag::one(
            "user",
            Some('u'),
            "string",
            "User by name or number, as user[:group]",
            |o, v| {
                o.request.user = Some(v.into());
                Ok(())
            },
        ),
        Flag::switch("privileged", None, "Give it all capabilities", |o, v| {
            o.request.privileged = v == "true";
            Ok(())
        }),
    ],
}];

/// `exec`.
pub(super) const EXEC: Verb = Verb {
    paths: &["exec", "container exec"],
    topic: Topic::Common,
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Run one more program in a running container",
    more: "",
    words: Completes::Nothing,
    count: (2, usize::MAX),
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let mut options = Options::default();
        let words = verb.parse(FLAGS, Order::First, args, &mut options)?;
        let (word, command) = words.split_first().ok_or_else(|| Failure::new("no container"))?;
        let mut request = options.request;
        request.command = command.to_vec();
        // What the caller does not have is not passed on.
        request.env = options
            .file_env
            .into_iter()
            .chain(options.env)
            .filter_map(|change| match change {
                EnvChange::Set(name, value) => Some(format!("{name}={value}")),
                EnvChange::Unset(_) => None,
            })
            .collect();
        if request.tty && request.stdin_open && !request.detach {
            check_terminal()?;
        }
        let engine = app.engine()?;
        let container = engine.find(word)?;
        // On success this process is hako-runc from here on, and its exit code ours.
        match engine.exec(&container, &request) {
            Ok(never) => match never {},
            Err(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(CODE_HAKO);
                let code = if code == CODE_HAKO { 1 } else { code };
                Err(Failure::Failed { message: error.to_string(), code })
            }
        }
    },
};
