//! `images`.

use hako_engine::{Summary, time::Timestamp};
use hako_oci::Reference;

use crate::{
    App,
    failure::{Outcome, success},
    flag::{self, Completes, Flag, Group, Order},
    output::{Column, Format, Row, clock::go_time, units::size},
    verb::{Topic, Verb},
};

use super::{
    super::{print, ps::since},
    filter::{self, Filters},
};

#[derive(Default)]
struct Images {
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    format: String,
    filters: Filters,
}

const IMAGES_FLAGS: &[Group<Images>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("all", Some('a'), "Show all images (there are no hidden ones)", |_, _| Ok(())),
        Flag::switch("quiet", Some('q'), "Show IDs only", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::switch("no-trunc", None, "Do not cut long values", |o, v| {
            o.no_trunc = v == "true";
            Ok(())
        }),
        Flag::switch("digests", None, "Show digests", |o, v| {
            o.digests = v == "true";
            Ok(())
        }),
        Flag::many("filter", Some('f'), "filter", filter::HELP, |o, v| {
            o.filters.add(v, filter::KEYS)
        }),
        Flag::one(
            "format",
            None,
            "string",
            "\"table [TEMPLATE]\", \"json\", or a template",
            |o, v| {
                o.format = v.into();
                Ok(())
            },
        ),
    ],
}];

const IMAGE_COLUMNS: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];
const IMAGE_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const IMAGE_DIGEST_TABLE: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const NO_NAME: &str = "<none>";

/// `images`.
pub(in crate::verbs) const IMAGES: Verb = Verb {
    paths: &["images", "image ls", "image list"],
    topic: Topic::Common,
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    more: "Fields of a template:\n  .Repository .Tag .Digest .ID .CreatedSince .CreatedAt .Size",
    words: Completes::Nothing,
    count: (0, 1),
    flags: || flag::describe(IMAGES_FLAGS),
    run: images,
};

fn images(app: &App, verb: &Verb, args: &[String]) -> Outcome {
    let mut options = Images::default();
    let words = verb.parse(IMAGES_FLAGS, Order::Anywhere, args, &mut options)?;
    let table = if options.digests { IMAGE_DIGEST_TABLE } else { IMAGE_TABLE };
    let format = Format::parse(&options.format, table)?;
    for word in words {
        options.filters.add_reference(word);
    }
    let engine = app.engine()?;
    let filters = options.filters.resolve(&engine)?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for summary in engine.image_list()? {
        if !filters.picks(&summary) {
            continue;
        }
        let id = match options.no_trunc {
            true => summary.id.to_string(),
            false => summary.id.short().to_owned(),
        };
        let named = |name: &&Reference| filters.names(name);
        for name in summary.names.iter().filter(named) {
            rows.push(row(&summary, Some(name), &id, now));
        }
        // What was pulled by digest alone has a repository, and no tag.
        let nameless =
            summary.digests.iter().filter(|d| summary.names.iter().all(|n| n.name() != d.name()));
        let nameless = nameless.filter(named);
        if summary.names.is_empty() && summary.digests.is_empty() {
            rows.push(row(&summary, None, &id, now));
        }
        for digest in nameless {
            rows.push(row(&summary, Some(digest), &id, now));
        }
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }
    match options.quiet {
        true => print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?,
        false => print(&format.render(IMAGE_COLUMNS, &rows)?)?,
    }
    success()
}

fn row(summary: &Summary, name: Option<&Reference>, id: &str, now: Timestamp) -> Row {
    let of_repository = |digest: &&Reference| name.is_none_or(|n| n.name() == digest.name());
    let digest = summary.digests.iter().find(of_repository).and_then(Reference::digest);
    let none = || NO_NAME.to_owned();
    let created = Timestamp { seconds: summary.created, nanoseconds: 0 };
    let bytes = size(summary.size_bytes, 3);
    Row::default()
        .field("Repository", name.map_or_else(none, Reference::familiar_name))
        .field("Tag", name.and_then(Reference::tag).unwrap_or(NO_NAME))
        .field("Digest", digest.map_or_else(none, ToString::to_string))
        .field("ID", id)
        .field("CreatedSince", format!("{} ago", since(created, now)))
        .field("CreatedAt", go_time(created))
        .field("Size", bytes.as_str())
        .field("VirtualSize", bytes)
        .field("SharedSize", "N/A")
        .field("UniqueSize", "N/A")
        .field("Containers", "N/A")
}
