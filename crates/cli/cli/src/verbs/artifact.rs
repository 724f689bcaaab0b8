//! `artifact …`, `referrers`: what registries keep beside images.

use std::path::PathBuf;

use hako_engine::{
    registry::{self, Artifact, ArtifactFile, NewArtifact},
    time::Timestamp,
};
use hako_oci::{Descriptor, Reference};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    output::{Column, Format, Row, units::size},
    progress::{self, Out, Show},
    verb::{Topic, Verb},
};

use super::{NONE, inspect::indented, no_flags, print, ps::since};

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

fn name(word: &str) -> Result<Reference, Failure> {
    Ok(word.parse::<Reference>().map_err(invalid)?.with_default_tag())
}

/// `FILE` or `FILE:MEDIATYPE`; a file that is called so counts first.
fn file(word: &str, kind: Option<&str>) -> ArtifactFile {
    let whole = || ArtifactFile { path: word.into(), media_type: kind.map(str::to_owned) };
    match word.rsplit_once(':') {
        Some((path, kind)) if kind.contains('/') && !PathBuf::from(word).exists() => {
            ArtifactFile { path: path.into(), media_type: Some(kind.to_owned()) }
        }
        _ => whole(),
    }
}

/// `KEY=VALUE`.
pub(super) fn annotation(value: &str) -> Result<(String, String), String> {
    let (key, value) = value
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| format!("{value:?} must be of the form key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Default)]
struct Make {
    new: NewArtifact,
    file_type: Option<String>,
    append: bool,
    replace: bool,
    quiet: bool,
    subject: Option<String>,
}

const TYPE: Flag<Make> =
    Flag::one("type", None, "string", "What the artifact is, as a media type", |o, v| {
        o.new.kind = Some(v.into());
        Ok(())
    });
const ARTIFACT_TYPE: Flag<Make> =
    Flag::one("artifact-type", None, "string", "What the artifact is, as a media type", |o, v| {
        o.new.kind = Some(v.into());
        Ok(())
    });
const FILE_TYPE: Flag<Make> =
    Flag::one("file-type", None, "string", "Media type of files that name none", |o, v| {
        o.file_type = Some(v.into());
        Ok(())
    });

const ADD_FLAGS: &[Group<Make>] = &[Group {
    heading: "Options",
    flags: &[
        TYPE,
        ARTIFACT_TYPE,
        FILE_TYPE,
        Flag::many("annotation", None, "key=value", "Annotation of each of the files", |o, v| {
            o.new.file_annotations.extend([annotation(v)?]);
            Ok(())
        }),
        Flag::switch("append", Some('a'), "Add to the artifact of this name", |o, v| {
            o.append = v == "true";
            Ok(())
        }),
        Flag::switch("replace", None, "Take the place of the artifact of this name", |o, v| {
            o.replace = v == "true";
            Ok(())
        }),
    ],
}];

/// `artifact add`.
pub(super) const ADD: Verb = Verb {
    paths: &["artifact add"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME FILE[:MEDIATYPE] [FILE...]",
    about: "Make an artifact of files, in the store",
    more: "",
    words: Completes::File,
    count: (2, usize::MAX),
    flags: || flag::describe(ADD_FLAGS),
    run: |app, verb, args| {
        let mut make = Make::default();
        let words = verb.parse(ADD_FLAGS, Order::Anywhere, args, &mut make)?;
        make.new.files = words[1..].iter().map(|w| file(w, make.file_type.as_deref())).collect();
        let engine = app.engine()?;
        let digest =
            engine.add_artifact(&name(&words[0])?, &make.new, make.append, make.replace)?;
        print(&format!("{digest}\n"))?;
        success()
    },
};

const ATTACH_FLAGS: &[Group<Make>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one("subject", None, "REF", "The image in a registry that it is about", |o, v| {
            o.subject = Some(v.into());
            Ok(())
        }),
        ARTIFACT_TYPE,
        TYPE,
        FILE_TYPE,
        Flag::many("annotation", Some('a'), "key=value", "Annotation of the artifact", |o, v| {
            o.new.annotations.extend([annotation(v)?]);
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Say only its digest", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

/// `artifact attach`.
pub(super) const ATTACH: Verb = Verb {
    paths: &["artifact attach"],
    topic: Topic::Images,
    usage: "[OPTIONS] --subject REF [FILE[:MEDIATYPE]...]",
    about: "Push files to a registry that are about an image there",
    more: "`hako referrers REF` lists them. A registry that keeps no such lists gets one under a tag\n\
           that is made of the image's digest.",
    words: Completes::File,
    count: (0, usize::MAX),
    flags: || flag::describe(ATTACH_FLAGS),
    run: |app, verb, args| {
        let mut make = Make::default();
        let words = verb.parse(ATTACH_FLAGS, Order::Anywhere, args, &mut make)?;
        let subject = make.subject.ok_or_else(|| Failure::new("--subject is missing"))?;
        if make.new.kind.is_none() {
            return Err(Failure::new("--artifact-type is missing: say what is attached"));
        }
        if words.is_empty() && make.new.annotations.is_empty() {
            return Err(Failure::new("neither files nor annotations to attach"));
        }
        make.new.files = words.iter().map(|w| file(w, make.file_type.as_deref())).collect();
        let show = Show::new(progress::PUSH, Out::Stdout, make.quiet, None);
        let engine = app.engine()?;
        let attached = engine.attach_artifact(&name(&subject)?, &make.new, &show);
        let attached = attached.inspect_err(|_| show.end())?;
        match make.quiet {
            true => print(&format!("{}\n", attached.digest))?,
            false => show.say(&format!("Digest: {}", attached.digest)),
        }
        success()
    },
};

#[derive(Default)]
struct Transfer {
    quiet: bool,
}

const TRANSFER_FLAGS: &[Group<Transfer>] = &[Group {
    heading: "Options",
    flags: &[Flag::switch("quiet", Some('q'), "Say only its digest", |o, v| {
        o.quiet = v == "true";
        Ok(())
    })],
}];

/// `artifact push`.
pub(super) const PUSH: Verb = Verb {
    paths: &["artifact push"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME",
    about: "Send an artifact to a registry",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(TRANSFER_FLAGS),
    run: |app, verb, args| {
        let mut options = Transfer::default();
        let words = verb.parse(TRANSFER_FLAGS, Order::Anywhere, args, &mut options)?;
        let show = Show::new(progress::PUSH, Out::Stdout, options.quiet, None);
        let pushed = app.engine()?.push_artifact(&name(&words[0])?, &show);
        let pushed = pushed.inspect_err(|_| show.end())?;
        match options.quiet {
            true => print(&format!("{}\n", pushed.digest))?,
            false => show.say(&format!("Digest: {}", pushed.digest)),
        }
        success()
    },
};

/// `artifact pull`.
pub(super) const PULL: Verb = Verb {
    paths: &["artifact pull"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME",
    about: "Fetch an artifact from a registry into the store",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(TRANSFER_FLAGS),
    run: |app, verb, args| {
        let mut options = Transfer::default();
        let words = verb.parse(TRANSFER_FLAGS, Order::Anywhere, args, &mut options)?;
        let show = Show::new(progress::PULL, Out::Stdout, options.quiet, None);
        let digest = app.engine()?.pull_artifact(&name(&words[0])?, &show);
        let digest = digest.inspect_err(|_| show.end())?;
        match options.quiet {
            true => print(&format!("{digest}\n"))?,
            false => show.say(&format!("Digest: {digest}")),
        }
        success()
    },
};

#[derive(Default)]
struct List {
    format: String,
    no_trunc: bool,
    quiet: bool,
}

const LIST_FLAGS: &[Group<List>] = &[Group {
    heading: "Options",
    flags: &[
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
        Flag::switch("no-trunc", None, "Do not cut digests", |o, v| {
            o.no_trunc = v == "true";
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Show digests only", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

const COLUMNS: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("Type", "TYPE"),
    ("Created", "CREATED"),
    ("Size", "SIZE"),
];
const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Created}}\t{{.Size}}";

/// `artifact ls`.
pub(super) const LIST: Verb = Verb {
    paths: &["artifact ls", "artifact list"],
    topic: Topic::Images,
    usage: "[OPTIONS]",
    about: "List artifacts in the store",
    more: "Fields of a template:\n  .Repository .Tag .Digest .Type .Created .Size",
    words: Completes::Nothing,
    count: (0, 0),
    flags: || flag::describe(LIST_FLAGS),
    run: |app, verb, args| {
        let mut options = List::default();
        verb.parse(LIST_FLAGS, Order::Anywhere, args, &mut options)?;
        let format = Format::parse(&options.format, TABLE)?;
        let artifacts = app.engine()?.artifacts()?;
        let digest = |artifact: &Artifact| match options.no_trunc {
            true => artifact.descriptor.digest.to_string(),
            false => artifact.descriptor.digest.short().to_owned(),
        };
        let now = Timestamp::now();
        let row = |artifact: &Artifact| {
            let made = artifact.created().map(|seconds| Timestamp { seconds, nanoseconds: 0 });
            Row::default()
                .field("Repository", artifact.name.familiar_name())
                .field("Tag", artifact.name.tag().unwrap_or_default())
                .field("Digest", digest(artifact))
                .field("Type", artifact.manifest.artifact_type.as_deref().unwrap_or_default())
                .field(
                    "Created",
                    made.map_or("N/A".into(), |made| format!("{} ago", since(made, now))),
                )
                .field("Size", size(artifact.size_bytes(), 3))
        };
        match options.quiet {
            true => print(&artifacts.iter().map(|a| digest(a) + "\n").collect::<String>())?,
            false => {
                let rows: Vec<Row> = artifacts.iter().map(row).collect();
                print(&format.render(COLUMNS, &rows)?)?;
            }
        }
        success()
    },
};

/// `artifact inspect`.
pub(super) const INSPECT: Verb = Verb {
    paths: &["artifact inspect"],
    topic: Topic::Images,
    usage: "NAME",
    about: "Print an artifact's manifest, name and digest",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let artifact = app.engine()?.artifact(&words[0])?;
        let manifest: Value = serde_json::to_value(&artifact.manifest).map_err(invalid)?;
        let digest = artifact.descriptor.digest.to_string();
        let document =
            json!({"Manifest": manifest, "Name": artifact.name.to_string(), "Digest": digest});
        print(&(indented(&document)? + "\n"))?;
        success()
    },
};

/// `artifact rm`.
pub(super) const REMOVE: Verb = Verb {
    paths: &["artifact rm", "artifact remove"],
    topic: Topic::Images,
    usage: "NAME [NAME...]",
    about: "Remove artifacts from the store",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        for word in &words {
            print(&format!("{}\n", engine.remove_artifact(word)?))?;
        }
        success()
    },
};

#[derive(Default)]
struct Extract {
    title: Option<String>,
    digest: Option<String>,
}

const EXTRACT_FLAGS: &[Group<Extract>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one("title", None, "string", "Only the file of this title", |o: &mut Extract, v| {
            o.title = Some(v.into());
            Ok(())
        }),
        Flag::one("digest", None, "string", "Only the file of this digest", |o, v| {
            o.digest = Some(v.into());
            Ok(())
        }),
    ],
}];

/// `artifact extract`.
pub(super) const EXTRACT: Verb = Verb {
    paths: &["artifact extract"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME PATH",
    about: "Write an artifact's files to a directory, or its only one to a file",
    more: "Titles that lead out of the directory are refused.",
    words: Completes::Nothing,
    count: (2, 2),
    flags: || flag::describe(EXTRACT_FLAGS),
    run: |app, verb, args| {
        let mut options = Extract::default();
        let words = verb.parse(EXTRACT_FLAGS, Order::Anywhere, args, &mut options)?;
        let (title, digest) = (options.title.as_deref(), options.digest.as_deref());
        app.engine()?.extract_artifact(&words[0], words[1].as_ref(), title, digest)?;
        success()
    },
};

#[derive(Default)]
struct Referrers {
    kind: Option<String>,
    format: String,
}

const REFERRERS_FLAGS: &[Group<Referrers>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one(
            "artifact-type",
            None,
            "string",
            "Only artifacts of this type",
            |o: &mut Referrers, v| {
                o.kind = Some(v.into());
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

const REFERRER_COLUMNS: &[Column] = &[
    ("Digest", "DIGEST"),
    ("Type", "ARTIFACT TYPE"),
    ("MediaType", "MEDIA TYPE"),
    ("Size", "SIZE"),
];
const REFERRER_TABLE: &str = "{{.Digest}}\t{{.Type}}\t{{.Size}}";

/// `referrers`.
pub(super) const REFERRERS: Verb = Verb {
    paths: &["referrers", "artifact referrers", "image referrers"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "List what is about an image in its registry: signatures, lists of contents",
    more: "Fields of a template:\n  .Digest .Type .MediaType .Size .Annotations",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(REFERRERS_FLAGS),
    run: |_, verb, args| {
        let mut options = Referrers::default();
        let words = verb.parse(REFERRERS_FLAGS, Order::Anywhere, args, &mut options)?;
        let format = Format::parse(&options.format, REFERRER_TABLE)?;
        let found = registry::referrers(&name(&words[0])?, options.kind.as_deref())?;
        let row = |found: &Descriptor| {
            Row::default()
                .field("Digest", found.digest.to_string())
                .field("Type", found.artifact_type.as_deref().unwrap_or_default())
                .field("MediaType", found.media_type.as_str())
                .field("Size", size(found.size, 3))
                .field("Annotations", json!(found.annotations))
        };
        let rows: Vec<Row> = found.iter().map(row).collect();
        print(&format.render(REFERRER_COLUMNS, &rows)?)?;
        success()
    },
};
