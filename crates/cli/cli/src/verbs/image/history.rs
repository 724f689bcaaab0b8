//! `history`.

use hako_docker::image::HistoryItem;
use hako_engine::time::Timestamp;
use hako_oci::Platform;

use crate::{
    failure::success,
    flag::{self, Completes, Flag, Group, Order},
    output::{
        Column, Format, Row,
        clock::rfc3339,
        units::{ellipsis, size},
    },
    verb::{Topic, Verb},
};

use super::{
    super::{print, ps::since},
    platform,
};

struct History {
    human: bool,
    no_trunc: bool,
    quiet: bool,
    format: String,
    platform: Option<Platform>,
}

const HISTORY_FLAGS: &[Group<History>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("human", Some('H'), "Sizes and times for people (default true)", |o, v| {
            o.human = v == "true";
            Ok(())
        }),
        Flag::switch("no-trunc", None, "Do not cut long values", |o, v| {
            o.no_trunc = v == "true";
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Show IDs only", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::one("platform", None, "string", "Of the image for this platform", |o, v| {
            o.platform = Some(platform(v)?);
            Ok(())
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

const HISTORY_COLUMNS: &[Column] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
const HISTORY_TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HISTORY_TABLE_EXACT: &str =
    "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const CREATED_BY_WIDTH: usize = 45;

/// `history`.
pub(in crate::verbs) const HISTORY: Verb = Verb {
    paths: &["history", "image history"],
    topic: Topic::Images,
    usage: "[OPTIONS] IMAGE",
    about: "Show how an image was made",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(HISTORY_FLAGS),
    run: |app, verb, args| {
        let mut options = History {
            human: true,
            no_trunc: false,
            quiet: false,
            format: String::new(),
            platform: None,
        };
        let words = verb.parse(HISTORY_FLAGS, Order::Anywhere, args, &mut options)?;
        let table = if options.human { HISTORY_TABLE } else { HISTORY_TABLE_EXACT };
        let format = Format::parse(&options.format, table)?;
        let engine = app.engine()?;
        let items = engine.history(&engine.image_for(&words[0], options.platform.as_ref())?)?;
        let now = Timestamp::now();
        let rows: Vec<Row> = items.iter().map(|i| history_row(i, &options, now)).collect();
        match options.quiet {
            true => {
                let line = |i: &HistoryItem| history_id(i, options.no_trunc) + "\n";
                print(&items.iter().map(line).collect::<String>())?;
            }
            false => print(&format.render(HISTORY_COLUMNS, &rows)?)?,
        }
        success()
    },
};

fn history_id(item: &HistoryItem, no_trunc: bool) -> String {
    match item.id.starts_with('<') || no_trunc {
        true => item.id.clone(),
        false => short(&item.id),
    }
}

fn history_row(item: &HistoryItem, options: &History, now: Timestamp) -> Row {
    let created = Timestamp { seconds: item.created, nanoseconds: 0 };
    let bytes = u64::try_from(item.size).unwrap_or_default();
    // A tab would begin another column.
    let by = item.created_by.replace('\t', " ");
    let by = if options.no_trunc { by } else { ellipsis(&by, CREATED_BY_WIDTH) };
    Row::default()
        .field("ID", history_id(item, options.no_trunc))
        .field("CreatedSince", format!("{} ago", since(created, now)))
        .field("CreatedAt", rfc3339(created))
        .field("CreatedBy", by)
        .field("Size", if options.human { size(bytes, 3) } else { bytes.to_string() })
        .field("Comment", item.comment.as_str())
}

/// The first twelve digits.
fn short(id: &str) -> String {
    id.split_once(':').map_or(id, |(_, hex)| hex).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_cut() {
        assert_eq!(super::short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
