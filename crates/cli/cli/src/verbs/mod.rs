//! The verbs, one module per verb or per family of them.

mod artifact;
mod build;
mod collect;
mod control;
mod create;
mod exec;
mod export;
mod image;
mod inspect;
mod logs;
mod manifest;
mod packages;
mod ps;
mod registry;
mod run;
mod run_flags;
mod serve;
mod start;
mod system;

use std::io::{self, Write};

use hako_engine::{Container, Engine};

use crate::failure::say;
use crate::{
    failure::{Failure, Outcome},
    flag::{FlagInfo, Group},
    verb::Verb,
};
pub(crate) use system::version_line;

/// All verbs; within a topic, in the order of the overview.
pub(crate) const ALL: &[&Verb] = &[
    &run::RUN,
    &ps::PS,
    &exec::EXEC,
    &logs::LOGS,
    &control::STOP,
    &control::REMOVE,
    &image::IMAGES,
    &build::BUILD,
    &image::LOAD,
    &registry::PULL,
    &registry::PUSH,
    &create::CREATE,
    &start::START,
    &start::RESTART,
    &start::ATTACH,
    &control::KILL,
    &control::WAIT,
    &control::RENAME,
    &export::EXPORT,
    &inspect::INSPECT,
    &inspect::CONTAINER_INSPECT,
    &control::CLEANUP,
    &image::SAVE,
    &image::IMPORT,
    &image::TAG,
    &image::UNTAG,
    &image::VERIFY,
    &image::REMOVE,
    &image::PRUNE,
    &image::HISTORY,
    &packages::FROM_PACKAGES,
    &build::DF,
    &build::PRUNE,
    &registry::COPY,
    &manifest::CREATE,
    &manifest::ADD,
    &manifest::ANNOTATE,
    &manifest::INSPECT,
    &manifest::REMOVE,
    &manifest::FORGET,
    &manifest::EXISTS,
    &manifest::PUSH,
    &artifact::ADD,
    &artifact::ATTACH,
    &artifact::LIST,
    &artifact::INSPECT,
    &artifact::PUSH,
    &artifact::PULL,
    &artifact::EXTRACT,
    &artifact::REMOVE,
    &artifact::REFERRERS,
    &registry::LOGIN,
    &registry::LOGOUT,
    &inspect::IMAGE_INSPECT,
    &serve::SERVE,
    &collect::COLLECT,
    &system::INFO,
    &system::VERSION,
    &system::COMPLETION,
    &system::MAN,
];

/// For verbs without flags.
fn no_flags() -> Vec<(&'static str, Vec<FlagInfo>)> {
    Vec::new()
}

/// Of verbs that take no words.
const NONE_WORDS: (usize, usize) = (0, 0);

/// A table without flags.
const NONE: &[Group<()>] = &[];

/// Writes to standard output, whole.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Does something with each container that a word names, and prints the word where that worked.
/// One that fails does not keep the others from theirs.
fn for_each(
    engine: &Engine,
    words: &[String],
    act: impl Fn(&Container) -> Result<(), hako_engine::Error> + Sync,
) -> Outcome {
    let one = |word: &String| engine.find(word).and_then(|container| act(&container));
    // At once: ten containers that take ten seconds to stop take ten seconds.
    let results: Vec<Result<(), hako_engine::Error>> = match words {
        [word] => vec![one(word)],
        words => std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = words.iter().map(|word| scope.spawn(move || one(word))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        }),
    };
    let mut code = 0;
    for (word, result) in words.iter().zip(results) {
        match result {
            Ok(()) => print(&format!("{word}\n"))?,
            Err(error) => {
                say!("Error: {error}");
                code = 1;
            }
        }
    }
    Ok(code)
}
