//! `registry gc`.

use std::{path::PathBuf, time::Duration};

use hako_engine::{
    Places,
    serve::{self, Ages},
};

use crate::{
    failure::success,
    flag::{self, Completes, Flag, Group, Order},
    verb::{Topic, Verb},
};

use super::{NONE_WORDS, print, serve::duration};

struct Collect {
    root: Option<PathBuf>,
    ages: Ages,
    dry_run: bool,
}

const FLAGS: &[Group<Collect>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one("root", None, "DIR", "The store (default: hako's own)", |o: &mut Collect, v| {
            o.root = Some(v.into());
            Ok(())
        })
        .completes(Completes::Directory),
        Flag::switch("dry-run", Some('d'), "Say what would go, and leave it", |o, v| {
            o.dry_run = v == "true";
            Ok(())
        }),
        Flag::one(
            "gc-grace",
            None,
            "duration",
            "Keep blobs that no manifest names for so long (default 24h)",
            |o, v| {
                o.ages.blob = duration(v)?;
                Ok(())
            },
        ),
        Flag::one(
            "upload-timeout",
            None,
            "duration",
            "Keep uploads that nobody continues for so long (default 168h)",
            |o, v| {
                o.ages.upload = duration(v)?;
                Ok(())
            },
        ),
    ],
}];

/// `registry gc`.
pub(super) const COLLECT: Verb = Verb {
    paths: &["registry gc", "registry garbage-collect"],
    topic: Topic::Images,
    usage: "[OPTIONS]",
    about: "Remove what no manifest of a registry names",
    more: "A server does this by itself, now and then; it may go on serving meanwhile. Blobs that\n\
           were pushed lately stay: their manifest may be about to come.",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let ages = Ages { upload: hours(168), blob: hours(24), pulled: None };
        let mut asked = Collect { root: None, ages, dry_run: false };
        verb.parse(FLAGS, Order::Anywhere, args, &mut asked)?;
        let root = match asked.root {
            Some(root) => root,
            None => Places::resolve(app.globals.root.clone(), app.globals.run_root.clone())?.root,
        };
        let (did, collected) = match asked.dry_run {
            true => ("Would remove", serve::would_collect(&root, asked.ages)?),
            false => ("Removed", serve::collect(&root, asked.ages)?),
        };
        let (blobs, bytes) = (collected.blobs, collected.bytes);
        print(&format!(
            "{did} {blobs} blobs, {bytes} bytes, {} uploads\n",
            collected.uploads.len()
        ))?;
        success()
    },
};
