//! `inspect`, `container inspect`, `image inspect`.

use hako_engine::{Engine, Error};
use hako_oci::Platform;
use serde::Serialize;
use serde_json::Value;

use crate::failure::say;
use crate::{
    App,
    failure::{Failure, Outcome},
    flag::{self, Completes, Flag, Group, Order},
    template::{Context, Template},
    verb::{Topic, Verb},
};

use super::{image::platform, print};

/// What may be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Container,
    Image,
}

struct Options {
    kind: Kind,
    format: Option<String>,
    platform: Option<Platform>,
}

const FORMAT: Flag<Options> =
    Flag::one("format", Some('f'), "string", "\"json\", or a Go template", |o, v| {
        o.format = Some(v.into());
        Ok(())
    });

const FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        FORMAT,
        Flag::one(
            "type",
            None,
            "string",
            "Look for a container or an image only",
            |o: &mut Options, v| {
                o.kind = match v {
                    "container" => Kind::Container,
                    "image" => Kind::Image,
                    _ => return Err(format!("{v:?} is not a valid value for --type")),
                };
                Ok(())
            },
        )
        .completes(Completes::Words(&["container", "image"])),
    ],
}];

const OF_ONE_KIND: &[Group<Options>] = &[Group { heading: "Options", flags: &[FORMAT] }];

const OF_IMAGES: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        FORMAT,
        Flag::one("platform", None, "string", "The image for this platform", |o, v| {
            o.platform = Some(platform(v)?);
            Ok(())
        }),
    ],
}];

const MORE: &str = "Examples:
  hako inspect --format '{{.State.Pid}}' web
  hako inspect --format '{{json .Config.Env}}' web
  hako inspect --format '{{range .Mounts}}{{.Destination}} {{end}}' web";

/// Fields that hold maps: an absent key is no mistake in the template.
const MAPS: &[&str] = &[
    "Labels",
    "Annotations",
    "Networks",
    "Ports",
    "ExposedPorts",
    "Volumes",
    "Sysctls",
    "Tmpfs",
    "Data",
    "Config",
];

/// `inspect`.
pub(super) const INSPECT: Verb = Verb {
    paths: &["inspect"],
    topic: Topic::Containers,
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Print everything that is known of containers and images",
    more: MORE,
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| run(app, verb, FLAGS, Kind::Any, args),
};

/// `container inspect`.
pub(super) const CONTAINER_INSPECT: Verb = Verb {
    paths: &["container inspect"],
    topic: Topic::Internal,
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Print everything that is known of containers",
    more: MORE,
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(OF_ONE_KIND),
    run: |app, verb, args| run(app, verb, OF_ONE_KIND, Kind::Container, args),
};

/// `image inspect`.
pub(super) const IMAGE_INSPECT: Verb = Verb {
    paths: &["image inspect"],
    topic: Topic::Internal,
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Print everything that is known of images",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(OF_IMAGES),
    run: |app, verb, args| run(app, verb, OF_IMAGES, Kind::Image, args),
};

fn run(app: &App, verb: &Verb, flags: &[Group<Options>], kind: Kind, args: &[String]) -> Outcome {
    let mut options = Options { kind, format: None, platform: None };
    let words = verb.parse(flags, Order::Anywhere, args, &mut options)?;
    let format = options.format.as_deref().filter(|f| !f.is_empty());
    let template = match format {
        Some("json") | None => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let engine = app.engine()?;
    let mut documents = Vec::new();
    let mut absent = Vec::new();
    for word in &words {
        match look(&engine, &options, word)? {
            Some(document) => documents.push(document),
            None => absent.push(word),
        }
    }
    match (&template, format) {
        (Some(template), _) => {
            let context = Context { maps: MAPS, ..Context::default() };
            for document in &documents {
                print(&(template.render(document, &context)? + "\n"))?;
            }
        }
        (None, Some(_)) => print(&(Value::Array(documents).to_string() + "\n"))?,
        (None, None) => print(&(indented(&Value::Array(documents))? + "\n"))?,
    }
    let what = match options.kind {
        Kind::Any => "object",
        Kind::Container => "container",
        Kind::Image => "image",
    };
    for word in &absent {
        say!("Error: No such {what}: {word}");
    }
    Ok(u8::from(!absent.is_empty()))
}

/// Containers come first: an image whose name is a container's must be asked for with `--type`.
fn look(engine: &Engine, options: &Options, word: &str) -> Result<Option<Value>, Failure> {
    let kind = options.kind;
    if kind != Kind::Image {
        match engine.find(word) {
            Ok(container) => return document(&engine.inspect(&container)?).map(Some),
            Err(Error::NoContainer(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind != Kind::Container {
        match engine.image_for(word, options.platform.as_ref()) {
            Ok(image) => return document(&engine.inspect_image(&image)?).map(Some),
            Err(error) if error.is_no_image() => {}
            // What cannot name an image names none.
            Err(_) if kind == Kind::Any => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn document(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::new(format!("JSON: {e}")))
}

/// Docker's indent is four blanks.
pub(super) fn indented(value: &Value) -> Result<String, Failure> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(|e| Failure::new(format!("JSON: {e}")))?;
    String::from_utf8(out).map_err(|e| Failure::new(format!("JSON: {e}")))
}
