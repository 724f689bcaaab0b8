//! `images`, `load`, `save`, `rmi`, `tag`, `history`.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use hako_docker::image::{DeleteItem, HistoryItem};
use hako_engine::{Engine, Source, Summary, time::Timestamp};
use hako_oci::Reference;

use crate::failure::say;
use crate::{
    App,
    failure::{Failure, Outcome, success},
    flag::{self, Completes, Flag, Group, Order},
    output::{
        Column, Format, Row, bars,
        clock::{go_time, rfc3339},
        units::{ellipsis, size},
    },
    verb::{Topic, Verb},
};

use super::{NONE, no_flags, print, ps::since};

#[derive(Default)]
struct Images {
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    format: String,
    filters: Vec<(String, String)>,
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
        Flag::many(
            "filter",
            Some('f'),
            "filter",
            "reference=PATTERN, dangling=true|false, label=KEY[=VALUE]",
            |o, v| {
                let bad = || format!("bad format of filter (expected name=value): {v:?}");
                let (key, value) = v.split_once('=').ok_or_else(bad)?;
                if !["reference", "dangling", "label"].contains(&key) {
                    return Err(format!("invalid filter '{key}'"));
                }
                if key == "dangling" && flag::parse_bool(value).is_none() {
                    return Err(format!("invalid filter 'dangling={value}'"));
                }
                o.filters.push((key.to_owned(), value.to_owned()));
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
pub(super) const IMAGES: Verb = Verb {
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
    options.filters.extend(words.into_iter().map(|word| ("reference".to_owned(), word)));
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for summary in app.engine()?.image_list()? {
        if !passes(&options.filters, &summary) {
            continue;
        }
        let id = match options.no_trunc {
            true => summary.id.to_string(),
            false => summary.id.short().to_owned(),
        };
        let patterns = options.filters.iter().filter(|(key, _)| key == "reference");
        let patterns: Vec<&str> = patterns.map(|(_, pattern)| pattern.as_str()).collect();
        let named = |name: &&Reference| {
            let familiar = name.familiar();
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &familiar))
        };
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

/// The first twelve digits.
fn short(id: &str) -> String {
    id.split_once(':').map_or(id, |(_, hex)| hex).chars().take(12).collect()
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

fn passes(filters: &[(String, String)], image: &Summary) -> bool {
    let any_reference = filters.iter().filter(|(key, _)| key == "reference");
    let mut references = any_reference.peekable();
    let by_name = references.peek().is_none()
        || references
            .any(|(_, pattern)| image.names.iter().any(|name| matches(pattern, &name.familiar())));
    by_name
        && filters.iter().all(|(key, value)| match key.as_str() {
            "dangling" => {
                let dangling = image.names.is_empty() && image.digests.is_empty();
                flag::parse_bool(value) == Some(dangling)
            }
            "label" => {
                let (name, wanted) = match value.split_once('=') {
                    Some((name, wanted)) => (name, Some(wanted)),
                    None => (value.as_str(), None),
                };
                let found = image.labels.get(name);
                found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
            }
            _ => true,
        })
}

/// A name or pattern, with or without tag, against a familiar name with tag.
fn matches(pattern: &str, tagged: &str) -> bool {
    let name = tagged.rsplit_once(':').map_or(tagged, |(name, _)| name);
    glob(pattern.as_bytes(), tagged.as_bytes()) || glob(pattern.as_bytes(), name.as_bytes())
}

/// `*` and `?` within one component, as Go's `path.Match` without classes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last star was, and where its match could be taken up again one byte later.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => (p, t) = (p + 1, t + 1),
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) if text[from] != b'/' => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[derive(Default)]
struct Load {
    input: Option<PathBuf>,
    quiet: bool,
}

const LOAD_FLAGS: &[Group<Load>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one(
            "input",
            Some('i'),
            "string",
            "Read a file or directory, not stdin",
            |o: &mut Load, v| {
                o.input = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::switch("quiet", Some('q'), "Say only which images were loaded", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

/// `load`.
pub(super) const LOAD: Verb = Verb {
    paths: &["load", "image load"],
    topic: Topic::Common,
    usage: "[OPTIONS]",
    about: "Load images from an archive",
    more: "What `docker save`, podman and skopeo write: docker archives of any age, OCI archives\n\
           and OCI layout directories, compressed with gzip, zstd, xz or bzip2, or not at all.",
    words: Completes::Nothing,
    count: (0, 0),
    flags: || flag::describe(LOAD_FLAGS),
    run: |app, verb, args| {
        let mut options = Load::default();
        verb.parse(LOAD_FLAGS, Order::Anywhere, args, &mut options)?;
        if options.input.is_none() && io::stdin().is_terminal() {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        let engine = app.engine()?;
        let source = match options.input {
            Some(path) => Source::Path(path),
            None => Source::Stream(Box::new(io::stdin())),
        };
        let watched = !options.quiet && io::stdout().is_terminal();
        let images = engine.load(source, watched.then(bars::layers))?;
        let mut text = String::new();
        for loaded in images {
            for (name, old) in &loaded.renamed {
                text += &format!(
                    "The image {} already exists, renaming the old one with ID {old} to empty string\n",
                    name.familiar()
                );
            }
            for name in &loaded.names {
                text += &format!("Loaded image: {}\n", name.familiar());
            }
            if loaded.names.is_empty() {
                text += &format!("Loaded image ID: {}\n", loaded.id);
            }
        }
        print(&text)?;
        success()
    },
};

#[derive(Default)]
struct Save {
    output: Option<PathBuf>,
}

const SAVE_FLAGS: &[Group<Save>] = &[Group {
    heading: "Options",
    flags: &[Flag::one(
        "output",
        Some('o'),
        "string",
        "Write to a file, not to stdout",
        |o: &mut Save, v| {
            o.output = Some(v.into());
            Ok(())
        },
    )
    .completes(Completes::File)],
}];

/// `save`.
pub(super) const SAVE: Verb = Verb {
    paths: &["save", "image save"],
    topic: Topic::Images,
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Write images as an archive that docker, podman and skopeo load",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(SAVE_FLAGS),
    run: |app, verb, args| {
        let mut options = Save::default();
        let words = verb.parse(SAVE_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        match options.output {
            Some(path) => save_to(&engine, &words, &path)?,
            None if io::stdout().is_terminal() => {
                return Err(Failure::new(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            None => engine.save(&words, &mut io::stdout().lock())?,
        }
        success()
    },
};

/// Writes beside the file and renames: what was there is replaced by something whole, or stays.
fn save_to(engine: &Engine, words: &[String], path: &Path) -> Result<(), Failure> {
    let about = |e: io::Error| Failure::new(format!("open {}: {e}", path.display()));
    // A device or a pipe cannot be replaced: it is written to.
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(about)?;
        return Ok(engine.save(words, &mut file)?);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = File::create_new(&beside).map_err(about)?;
    let saved = engine
        .save(words, &mut file)
        .map_err(Failure::from)
        .and_then(|()| file.flush().and_then(|()| std::fs::rename(&beside, path)).map_err(about));
    if saved.is_err()
        && let Err(error) = std::fs::remove_file(&beside)
    {
        say!("hako: {}: {error}", beside.display());
    }
    saved
}

#[derive(Default)]
struct RemoveImage {
    force: bool,
}

const REMOVE_FLAGS: &[Group<RemoveImage>] = &[Group {
    heading: "Options",
    flags: &[Flag::switch("force", Some('f'), "Remove it with all its names", |o, v| {
        o.force = v == "true";
        Ok(())
    })],
}];

/// `rmi`.
pub(super) const REMOVE: Verb = Verb {
    paths: &["rmi", "image rm", "image remove"],
    topic: Topic::Images,
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove images",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(REMOVE_FLAGS),
    run: |app, verb, args| {
        let mut options = RemoveImage::default();
        let words = verb.parse(REMOVE_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let mut code = 0;
        for word in &words {
            match engine.remove_image(word, options.force) {
                Ok(items) => {
                    let line = |item: &DeleteItem| match item {
                        DeleteItem::Untagged(name) => format!("Untagged: {name}\n"),
                        DeleteItem::Deleted(id) => format!("Deleted: {id}\n"),
                    };
                    print(&items.iter().map(line).collect::<String>())?;
                }
                Err(error) if error.is_no_image() && options.force => {
                    say!("Error: No such image: {word}");
                }
                Err(error) => {
                    say!("Error: {error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    },
};

/// `image verify`.
pub(super) const VERIFY: Verb = Verb {
    paths: &["image verify"],
    topic: Topic::Images,
    usage: "[IMAGE...]",
    about: "Read everything that is kept of images again, and say what is broken",
    more: "Without IMAGE, all images. Layers that were unpacked to directories have no digest:\n\
           of those, the blobs that they were made of are read.\n",
    words: Completes::Nothing,
    count: (0, usize::MAX),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        let words: Vec<String> = match words.is_empty() {
            true => engine.image_list()?.iter().map(|image| image.id.to_string()).collect(),
            false => words,
        };
        let mut code = 0;
        for word in &words {
            match engine.image(word).and_then(|image| engine.verify_image(&image)) {
                Ok(faults) if faults.is_empty() => print(&format!("{word}: OK\n"))?,
                Ok(faults) => {
                    code = 1;
                    for fault in faults {
                        print(&format!("{word}: {fault}\n"))?;
                    }
                }
                Err(error) => {
                    say!("Error: {error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    },
};

/// `tag`.
pub(super) const TAG: Verb = Verb {
    paths: &["tag", "image tag"],
    topic: Topic::Images,
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image another name",
    more: "",
    words: Completes::Nothing,
    count: (2, 2),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let target: Reference = words[1]
            .parse()
            .map_err(|e| Failure::new(format!("parsing reference {:?}: {e}", words[1])))?;
        app.engine()?.tag(&words[0], &target)?;
        success()
    },
};

struct History {
    human: bool,
    no_trunc: bool,
    quiet: bool,
    format: String,
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
pub(super) const HISTORY: Verb = Verb {
    paths: &["history", "image history"],
    topic: Topic::Images,
    usage: "[OPTIONS] IMAGE",
    about: "Show how an image was made",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(HISTORY_FLAGS),
    run: |app, verb, args| {
        let mut options =
            History { human: true, no_trunc: false, quiet: false, format: String::new() };
        let words = verb.parse(HISTORY_FLAGS, Order::Anywhere, args, &mut options)?;
        let table = if options.human { HISTORY_TABLE } else { HISTORY_TABLE_EXACT };
        let format = Format::parse(&options.format, table)?;
        let engine = app.engine()?;
        let items = engine.history(&engine.image(&words[0])?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("alpine", "alpine:3.10", true),
            ("alpine:3.10", "alpine:3.10", true),
            ("alpine:3.*", "alpine:3.10", true),
            ("al*", "alpine:3.10", true),
            ("*", "a/b:1", false),
            ("*/*", "a/b:1", true),
            ("a?pine", "alpine:1", true),
            ("alp", "alpine:1", false),
            ("*ne", "alpine:1", true),
            ("a*i*e", "alpine:1", true),
            ("", "alpine:1", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn filters() {
        let image = Summary {
            id: hako_oci::Digest::sha256(b""),
            names: vec!["a:1".parse().unwrap()],
            digests: Vec::new(),
            created: 0,
            size_bytes: 0,
            labels: std::collections::BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            platform: hako_oci::Platform::host(),
        };
        let check = |key: &str, value: &str| passes(&[(key.into(), value.into())], &image);
        assert!(check("reference", "a") && !check("reference", "b"));
        assert!(check("dangling", "false") && !check("dangling", "true"));
        assert!(check("label", "k") && check("label", "k=v"));
        assert!(!check("label", "x") && !check("label", "k=w"));
    }

    #[test]
    fn ids_are_cut() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
