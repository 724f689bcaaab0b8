//! `export`.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    verb::{Topic, Verb},
};

use super::image::write_file;

#[derive(Default)]
struct Export {
    output: Option<PathBuf>,
}

const FLAGS: &[Group<Export>] = &[Group {
    heading: "Options",
    flags: &[Flag::one(
        "output",
        Some('o'),
        "string",
        "Write to a file, not to stdout",
        |o: &mut Export, v| {
            o.output = Some(v.into());
            Ok(())
        },
    )
    .completes(Completes::File)],
}];

/// `export`.
pub(super) const EXPORT: Verb = Verb {
    paths: &["export", "container export"],
    topic: Topic::Containers,
    usage: "[OPTIONS] CONTAINER",
    about: "Write the files of a container as a tar",
    more: "What is mounted in it is not among them. `hako import` makes an image of the tar.",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let mut options = Export::default();
        let words = verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let container = engine.find(&words[0])?;
        match options.output {
            Some(path) => {
                write_file(&path, |out| Ok(engine.export(&container, out)?))?;
            }
            None if io::stdout().is_terminal() => {
                return Err(Failure::new(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            None => engine.export(&container, &mut io::stdout().lock())?,
        }
        success()
    },
};
