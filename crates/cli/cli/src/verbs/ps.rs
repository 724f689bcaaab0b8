//! `ps`.

use std::collections::BTreeMap;

use hako_engine::{Container, Status, options, time::Timestamp};

use crate::{
    App,
    failure::{Outcome, success},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    output::{
        Column, Format, Row,
        clock::go_time,
        units::{duration, ellipsis},
    },
    verb::{Topic, Verb},
};

use super::{NONE_WORDS, print};

#[derive(Default)]
struct Options {
    all: bool,
    quiet: bool,
    no_trunc: bool,
    last: Option<usize>,
    format: String,
    filters: Vec<Filter>,
}

const FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("all", Some('a'), "Show all containers, not only those that run", |o, v| {
            o.all = v == "true";
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Show IDs only", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::switch("no-trunc", None, "Do not cut long values", |o, v| {
            o.no_trunc = v == "true";
            Ok(())
        }),
        Flag::one("last", Some('n'), "int", "Show the newest ones, in any state", |o, v| {
            let number: i64 = parse_integer(v)?;
            o.last = usize::try_from(number).ok();
            Ok(())
        }),
        Flag::switch("latest", Some('l'), "Show the newest one, in any state", |o, v| {
            o.last = (v == "true").then_some(1);
            Ok(())
        }),
        Flag::many(
            "filter",
            Some('f'),
            "filter",
            "id=, name=, label=KEY[=VALUE], status=, exited=CODE, ancestor=IMAGE",
            |o, v| {
                o.filters.push(Filter::parse(v)?);
                Ok(())
            },
        ),
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

const COLUMNS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
];
const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const COMMAND_WIDTH: usize = 20;

/// `ps`.
pub(super) const PS: Verb = Verb {
    paths: &["ps", "container ls", "container list", "container ps"],
    topic: Topic::Common,
    usage: "[OPTIONS]",
    about: "List containers",
    more: "Fields of a template:\n  .ID .Image .Command .CreatedAt .RunningFor .Status .State \
           .Ports .Names .Labels .Mounts\n  .Networks .LocalVolumes, and .Label \"KEY\"",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run,
};

fn run(app: &App, verb: &Verb, args: &[String]) -> Outcome {
    let mut options = Options::default();
    verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
    let format = Format::parse(&options.format, TABLE)?;
    let engine = app.engine()?;
    let by_status = options.filters.iter().any(|f| matches!(f.kind, Kind::Status | Kind::Exited));
    let any_state = options.all || options.last.is_some() || by_status;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut ids = String::new();
    for container in engine.list()?.iter().take(options.last.unwrap_or(usize::MAX)) {
        let status = match engine.status(container) {
            // Removed since the list was made.
            Err(_) if engine.find(&container.id).is_err() => continue,
            status => status?,
        };
        if !(any_state || status.is_running()) || !passes(&options.filters, container, &status) {
            continue;
        }
        match options.quiet {
            true => {
                let id = if options.no_trunc { &container.id } else { container.short_id() };
                ids += &format!("{id}\n");
            }
            false => rows.push(row(container, &status, now, options.no_trunc)),
        }
    }
    match options.quiet {
        true => print(&ids)?,
        false => print(&format.render(COLUMNS, &rows)?)?,
    }
    success()
}

fn row(container: &Container, status: &Status, now: Timestamp, no_trunc: bool) -> Row {
    let record = &container.record;
    let command = words(options::args(&record.options, &record.config).unwrap_or_default());
    let command = if no_trunc { command } else { ellipsis(&command, COMMAND_WIDTH) };
    let id = if no_trunc { container.id.as_str() } else { container.short_id() };
    let labels = container.labels();
    let listed: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let created = created_at(container);
    let mounts: Vec<&str> = record.options.mounts.iter().map(|m| m.target.as_str()).collect();
    Row::with_labels(labels)
        .field("ID", id)
        .field("Image", record.image.as_str())
        .field("Command", format!("\"{}\"", escape(&command)))
        .field("CreatedAt", go_time(created))
        .field("RunningFor", format!("{} ago", since(created, now)))
        .field("Status", describe(status, now))
        .field("State", status.word())
        .field("Ports", "")
        .field("Names", container.name.as_str())
        .field("Labels", listed.join(","))
        .field("Mounts", mounts.join(","))
        .field("Networks", network(container))
        .field("LocalVolumes", "0")
        .field("Size", "0B")
}

/// As Docker's daemon joins them: words with blanks in quotes.
fn words(args: Vec<String>) -> String {
    let quoted = |(at, word): (usize, String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word,
    };
    args.into_iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

fn network(container: &Container) -> String {
    match &container.record.options.network {
        options::NetworkMode::None => "none".into(),
        options::NetworkMode::Host => "host".into(),
        options::NetworkMode::Container(name) => format!("container:{name}"),
    }
}

fn created_at(container: &Container) -> Timestamp {
    const BILLION: i64 = 1_000_000_000;
    Timestamp {
        seconds: container.created_ns.div_euclid(BILLION),
        nanoseconds: u32::try_from(container.created_ns.rem_euclid(BILLION)).unwrap_or_default(),
    }
}

/// As Go quotes what a terminal must not see.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect()
}

/// How long ago that was, in words.
pub(super) fn since(time: Timestamp, now: Timestamp) -> String {
    duration(u64::try_from(now.seconds - time.seconds).unwrap_or_default())
}

fn describe(status: &Status, now: Timestamp) -> String {
    let ago = |text: &str| Timestamp::parse(text).map_or("?".into(), |time| since(time, now));
    match status {
        Status::Created(_) => "Created".into(),
        Status::Running(running) => {
            let paused = if running.paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", ago(&running.started_at))
        }
        Status::Exited(record) => {
            format!("Exited ({}) {} ago", record.exit.code, ago(&record.finished_at))
        }
    }
}

/// `--filter KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    kind: Kind,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Name,
    Label,
    Status,
    Exited,
    Ancestor,
}

const STATES: &[&str] =
    &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Filter {
    fn parse(text: &str) -> Result<Filter, String> {
        let bad = || format!("bad format of filter (expected name=value): {text:?}");
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let kind = match key.trim().to_ascii_lowercase().as_str() {
            "id" => Kind::Id,
            "name" => Kind::Name,
            "label" => Kind::Label,
            "status" => Kind::Status,
            "exited" => Kind::Exited,
            "ancestor" => Kind::Ancestor,
            other => return Err(format!("invalid filter '{other}'")),
        };
        if kind == Kind::Status && !STATES.contains(&value) {
            return Err(format!("invalid filter 'status={value}'"));
        }
        Ok(Filter { kind, value: value.to_owned() })
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        let value = self.value.as_str();
        match self.kind {
            Kind::Id => facts.id.starts_with(value),
            Kind::Name => facts.name.contains(value.trim_start_matches('/')),
            Kind::Label => match value.split_once('=') {
                Some((key, wanted)) => facts.labels.get(key).is_some_and(|v| v == wanted),
                None => facts.labels.contains_key(value),
            },
            Kind::Status => facts.state == value,
            Kind::Exited => facts.exit_code.is_some_and(|code| code.to_string() == value),
            Kind::Ancestor => {
                let tagged = format!("{value}:latest");
                facts.image == value
                    || facts.image == tagged
                    || facts.image_id.trim_start_matches("sha256:").starts_with(value)
                    || facts.image_id == value
            }
        }
    }
}

/// What filters look at.
struct Facts<'a> {
    id: &'a str,
    name: &'a str,
    state: &'a str,
    image: &'a str,
    image_id: String,
    labels: BTreeMap<String, String>,
    exit_code: Option<i32>,
}

/// Filters of one kind are alternatives, except labels; kinds must all be met.
fn passes(filters: &[Filter], container: &Container, status: &Status) -> bool {
    let facts = Facts {
        id: &container.id,
        name: &container.name,
        state: status.word(),
        image: &container.record.image,
        image_id: container.image_id.to_string(),
        labels: container.labels(),
        exit_code: match status {
            Status::Exited(record) => Some(record.exit.code),
            _ => None,
        },
    };
    pass(filters, &facts)
}

fn pass(filters: &[Filter], facts: &Facts<'_>) -> bool {
    filters.iter().all(|filter| match filter.kind {
        Kind::Label => filter.matches(facts),
        kind => filters.iter().any(|other| other.kind == kind && other.matches(facts)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let facts = Facts {
            id: "abc",
            name: "web1",
            state: "exited",
            image: "alpine:3.10",
            image_id: "sha256:ff00".into(),
            labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
            exit_code: Some(3),
        };
        let check = |words: &[&str]| {
            let filters: Vec<Filter> = words.iter().map(|w| Filter::parse(w).unwrap()).collect();
            pass(&filters, &facts)
        };
        for good in [
            &[][..],
            &["id=ab"],
            &["name=web"],
            &["name=nope", "name=web"],
            &["label=a", "label=a=1"],
            &["status=exited", "exited=3"],
            &["ancestor=alpine:3.10"],
            &["ancestor=ff"],
        ] {
            assert!(check(good), "{good:?}");
        }
        for bad in [
            &["id=b"][..],
            &["name=web", "status=running"],
            &["label=a", "label=b"],
            &["label=a=2"],
            &["exited=0"],
            &["ancestor=alpine"],
        ] {
            assert!(!check(bad), "{bad:?}");
        }
        for wrong in ["", "name", "color=red", "status=asleep"] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(escape("a \"b\" \\ \x1b"), "a \\\"b\\\" \\\\ \\u{1b}");
    }
}
