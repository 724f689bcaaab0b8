//! `builder du` and `builder prune`: what builds left to be used again.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use hako_engine::build::Record;

use crate::{
    failure::success,
    flag::{self, Completes, Flag, Group, Order},
    output::units,
    verb::{Topic, Verb},
    verbs::{NONE_WORDS, image::confirmed, no_flags, print},
};

/// `builder du`.
pub(in crate::verbs) const DF: Verb = Verb {
    paths: &["builder du", "buildx du"],
    topic: Topic::Images,
    usage: "",
    about: "Show what builds keep to be used again",
    more: "",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: no_flags,
    run: |app, verb, args| {
        verb.parse::<()>(&[], Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        let records = engine.build_records()?;
        let mut text =
            format!("{:<14}{:<12}{:<20}{:<8}{}\n", "ID", "SIZE", "LAST USED", "USES", "STEP");
        let mut total = 0;
        let mut seen = BTreeSet::new();
        for record in &records {
            // Two keys may lead to one layer.
            if record.layer_id().is_none_or(|id| seen.insert(id)) {
                total += record.bytes;
            }
            text += &format!(
                "{:<14}{:<12}{:<20}{:<8}{}\n",
                &record.key[..12],
                units::size(record.bytes, 4),
                units::duration(age_seconds(record)),
                record.uses,
                record.name,
            );
        }
        let caches = engine.build_caches_bytes()?;
        text += &format!("Caches of RUN --mount=type=cache:\t{}\n", units::size(caches, 4));
        text += &format!("Total:\t{}\n", units::size(total + caches, 4));
        print(&text)?;
        success()
    },
};

#[derive(Default)]
struct Prune {
    all: bool,
    force: bool,
}

const PRUNE_FLAGS: &[Group<Prune>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("all", Some('a'), "All of it, which is the default", |o: &mut Prune, v| {
            o.all = v == "true";
            Ok(())
        }),
        Flag::switch("force", Some('f'), "Do not ask", |o, v| {
            o.force = v == "true";
            Ok(())
        }),
    ],
}];

/// `builder prune`.
pub(in crate::verbs) const PRUNE: Verb = Verb {
    paths: &["builder prune", "buildx prune"],
    topic: Topic::Images,
    usage: "[OPTIONS]",
    about: "Remove what builds keep to be used again",
    more: "",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(PRUNE_FLAGS),
    run: |app, verb, args| {
        let mut options = Prune::default();
        verb.parse(PRUNE_FLAGS, Order::Anywhere, args, &mut options)?;
        if !options.force && !confirmed("WARNING! This will remove all build cache.")? {
            return success();
        }
        let engine = app.engine()?;
        let keys = engine.build_records()?.into_iter().map(|record| record.key).collect();
        let freed = engine.forget_builds(&keys)?;
        print(&format!("Total:\t{}\n", units::size(freed, 4)))?;
        success()
    },
};

fn age_seconds(record: &Record) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.saturating_sub(u64::try_from(record.used_ns / 1_000_000_000).unwrap_or(0))
}
