//! `build`, and what concerns its cache.

mod call;
mod context;
mod flags;
mod plain;
mod prune;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hako_dockerfile::call::Method;
use hako_engine::build::Request;

use crate::failure::say;
use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Order},
    verb::{Topic, Verb},
};

use super::print;
use context::Given;
use flags::{BUILD_FLAGS, Build, Output};
pub(in crate::verbs) use prune::{DF, PRUNE};

/// `build`.
pub(in crate::verbs) const BUILD: Verb = Verb {
    paths: &["build", "image build", "builder build", "buildx build"],
    topic: Topic::Common,
    usage: "[OPTIONS] PATH | -",
    about: "Build an image from a Dockerfile",
    more: "PATH is the context: the directory that COPY and ADD copy from, without what its\n\
           .dockerignore leaves out. It is read in place. With - the Dockerfile comes on stdin, and\n\
           there is no context; with -f - it comes on stdin, too, and PATH is the context.\n\
           \n\
           The same files and Dockerfile give the same image, to the digest: files get the time of\n\
           SOURCE_DATE_EPOCH, or else of the base image.\n\
           \n\
           hako build -t app .\n\
           hako build -t app --target test --build-arg VERSION=2 --why .\n\
           hako build --check .",
    words: Completes::Directory,
    count: (1, 1),
    flags: || flag::describe(BUILD_FLAGS),
    run: |app, verb, args| {
        let mut options = Build::default();
        let words = verb.parse(BUILD_FLAGS, Order::Anywhere, args, &mut options)?;
        let given = Given::read(&words[0], options.file.as_deref())?;
        if options.call.method != Method::Build {
            // What is in the store helps; checking needs nothing of it.
            return call::answer(app.engine().ok(), &given, &options, options.call);
        }
        let named = options.build_args.get("SOURCE_DATE_EPOCH").cloned();
        let epoch = match named.or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok()) {
            Some(text) => Some(epoch(&text)?),
            None => None,
        };
        let request = Request {
            dockerfile: given.dockerfile.clone(),
            context: given.context.clone(),
            ignore: given.ignore.clone(),
            epoch,
            ..options.request()
        };
        let engine = app.engine()?;
        let canceled = Arc::new(AtomicBool::new(false));
        crate::interrupt::on_interrupt(&canceled)?;
        let progress = plain::Plain::new(options.output);
        let built = match engine.build(&request, options.pull, &progress, &canceled) {
            Ok(built) => built,
            Err(error) => {
                progress.failed();
                if canceled.load(Ordering::Relaxed) && !progress.has_failed() {
                    say!("ERROR: failed to solve: canceled");
                    return Err(Failure::Said(130));
                }
                if let hako_engine::Error::Build(error) = &error
                    && let Some(lines) = error.lines()
                {
                    say!("{}", given.excerpt(lines));
                }
                say!("ERROR: failed to solve: {error}");
                return Err(Failure::Said(1));
            }
        };
        if let Some(path) = &options.iidfile {
            fs::write(path, built.id.to_string())
                .map_err(|e| Failure::new(format!("write {}: {e}", path.display())))?;
        }
        match options.output {
            Output::Quiet => print(&format!("{}\n", built.id))?,
            Output::Plain => {
                say!("image {}", built.id);
                for name in &built.names {
                    say!("naming to {name} done");
                }
            }
        }
        success()
    },
};

/// Seconds since 1970, up to the last that a date can be written for.
fn epoch(text: &str) -> Result<i64, Failure> {
    const LAST: i64 = 253_402_300_799;
    text.parse().ok().filter(|seconds| (0..=LAST).contains(seconds)).ok_or_else(|| {
        Failure::new(format!("invalid SOURCE_DATE_EPOCH: {text:?}: not seconds since 1970"))
    })
}
