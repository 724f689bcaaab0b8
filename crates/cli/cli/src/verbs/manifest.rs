//! `manifest …`, also called `index …`: lists of images for several platforms.

use hako_engine::registry::{self, Annotate, Codec, ListPush, Member, Travel};
use hako_oci::{Digest, Reference, media_type};
use serde_json::Value;

use crate::{
    App,
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    progress::{self, Out, Show},
    verb::{Topic, Verb},
};

use super::{NONE, artifact::annotation, inspect::indented, no_flags, print};

fn name(word: &str) -> Result<Reference, Failure> {
    let parsed = word.parse::<Reference>();
    Ok(parsed.map_err(|e| Failure::new(e.to_string()))?.with_default_tag())
}

fn failed(error: impl Into<hako_engine::Error>) -> Failure {
    error.into().into()
}

#[derive(Default)]
struct Options {
    amend: bool,
    all: bool,
    annotate: Annotate,
}

const ALL: Flag<Options> =
    Flag::switch("all", None, "All images of a list, not only this machine's", |o, v| {
        o.all = v == "true";
        Ok(())
    });
const INSECURE: Flag<Options> =
    Flag::switch("insecure", None, "Accepted: registries.conf says which may be", |_, _| Ok(()));

const CREATE_FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("amend", Some('a'), "Add to a list that is there already", |o, v| {
            o.amend = v == "true";
            Ok(())
        }),
        ALL,
        INSECURE,
    ],
}];

const IMAGES: &str = "An image is looked for in the store, and then in its registry; docker://NAME means the\n\
                      latter. Only its manifest is fetched: pushing the list copies the rest.";

/// `manifest create`.
pub(super) const CREATE: Verb = Verb {
    paths: &["manifest create", "index create"],
    topic: Topic::Images,
    usage: "[OPTIONS] LIST [IMAGE...]",
    about: "Make a list of images for several platforms",
    more: IMAGES,
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(CREATE_FLAGS),
    run: |app, verb, args| {
        let mut options = Options::default();
        let words = verb.parse(CREATE_FLAGS, Order::Anywhere, args, &mut options)?;
        let list = name(&words[0])?;
        let engine = app.engine()?;
        let (images, client) = engine.lists()?;
        let members = members(&words[1..], &options);
        images.create_list(client, &list, &members, options.amend).map_err(failed)?;
        print(&format!("Created manifest list {list}\n"))?;
        success()
    },
};

fn members(words: &[String], options: &Options) -> Vec<Member> {
    let member = |image: &String| Member {
        image: image.clone(),
        all: options.all,
        annotate: options.annotate.clone(),
    };
    words.iter().map(member).collect()
}

const OS: Flag<Options> = Flag::one("os", None, "string", "Operating system", |o, v| {
    o.annotate.os = Some(v.into());
    Ok(())
});
const ARCH: Flag<Options> = Flag::one("arch", None, "string", "Architecture", |o, v| {
    o.annotate.architecture = Some(v.into());
    Ok(())
});
const VARIANT: Flag<Options> =
    Flag::one("variant", None, "string", "Variant of the architecture", |o, v| {
        o.annotate.variant = Some(v.into());
        Ok(())
    });
const OS_VERSION: Flag<Options> =
    Flag::one("os-version", None, "string", "Version of the operating system", |o, v| {
        o.annotate.os_version = Some(v.into());
        Ok(())
    });
const OS_FEATURES: Flag<Options> =
    Flag::many("os-features", None, "strings", "Features of the operating system", |o, v| {
        o.annotate.os_features.extend(v.split(',').map(str::to_owned));
        Ok(())
    });
const FEATURES: Flag<Options> =
    Flag::many("features", None, "strings", "Features of the processor", |o, v| {
        o.annotate.features.extend(v.split(',').map(str::to_owned));
        Ok(())
    });
const ANNOTATION: Flag<Options> =
    Flag::many("annotation", None, "key=value", "Annotation of the image in the list", |o, v| {
        o.annotate.annotations.extend([annotation(v)?]);
        Ok(())
    });

const ADD_FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[ALL, ANNOTATION, ARCH, FEATURES, INSECURE, OS, OS_FEATURES, OS_VERSION, VARIANT],
}];

/// `manifest add`.
pub(super) const ADD: Verb = Verb {
    paths: &["manifest add", "index add"],
    topic: Topic::Images,
    usage: "[OPTIONS] LIST IMAGE [IMAGE...]",
    about: "Add images to a list",
    more: IMAGES,
    words: Completes::Nothing,
    count: (2, usize::MAX),
    flags: || flag::describe(ADD_FLAGS),
    run: |app, verb, args| {
        let mut options = Options::default();
        let words = verb.parse(ADD_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let (images, client) = engine.lists()?;
        let members = members(&words[1..], &options);
        let digest = images.add_to_list(client, &name(&words[0])?, &members).map_err(failed)?;
        print(&format!("{digest}\n"))?;
        success()
    },
};

const ANNOTATE_FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[ANNOTATION, ARCH, FEATURES, OS, OS_FEATURES, OS_VERSION, VARIANT],
}];

/// `manifest annotate`.
pub(super) const ANNOTATE: Verb = Verb {
    paths: &["manifest annotate", "index annotate"],
    topic: Topic::Images,
    usage: "[OPTIONS] LIST IMAGE",
    about: "Say something else of an image in a list",
    more: "IMAGE is a digest, or the name that it was added by.",
    words: Completes::Nothing,
    count: (2, 2),
    flags: || flag::describe(ANNOTATE_FLAGS),
    run: |app, verb, args| {
        let mut options = Options::default();
        let words = verb.parse(ANNOTATE_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let (images, client) = engine.lists()?;
        let list = name(&words[0])?;
        images.annotate_list(client, &list, &words[1], &options.annotate).map_err(failed)?;
        success()
    },
};

const INSPECT_FLAGS: &[Group<Options>] = &[Group { heading: "Options", flags: &[INSECURE] }];

/// `manifest inspect`.
pub(super) const INSPECT: Verb = Verb {
    paths: &["manifest inspect", "index inspect"],
    topic: Topic::Images,
    usage: "[OPTIONS] NAME",
    about: "Print a list, or the manifest or index of an image",
    more: "A list of this name is looked for, then an image in the store, then one in a registry.",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(INSPECT_FLAGS),
    run: |app, verb, args| {
        let words = verb.parse(INSPECT_FLAGS, Order::Anywhere, args, &mut Options::default())?;
        let bytes = document(app, &words[0])?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new(format!("{}: {e}", words[0])))?;
        print(&(indented(&value)? + "\n"))?;
        success()
    },
};

fn document(app: &App, word: &str) -> Result<Vec<u8>, Failure> {
    let remote = word.strip_prefix("docker://");
    if remote.is_none() {
        let engine = app.engine()?;
        match engine.lists()?.0.list_bytes(word).map_err(hako_engine::Error::from) {
            Err(error) if error.is_no_image() => {}
            found => return Ok(found?),
        }
    }
    let mut names = registry::names(remote.unwrap_or(word))?.into_iter().peekable();
    loop {
        let Some(name) = names.next() else {
            return Err(Failure::new(format!("No such manifest: {word}")));
        };
        match registry::manifest(&name.with_default_tag()) {
            Err(_) if names.peek().is_some() => {}
            found => return Ok(found?),
        }
    }
}

/// `manifest remove`.
pub(super) const REMOVE: Verb = Verb {
    paths: &["manifest remove", "index remove"],
    topic: Topic::Images,
    usage: "LIST DIGEST",
    about: "Take an image out of a list",
    more: "",
    words: Completes::Nothing,
    count: (2, 2),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let digest: Digest =
            words[1].parse().map_err(|e| Failure::new(format!("{}: {e}", words[1])))?;
        let engine = app.engine()?;
        let (images, _) = engine.lists()?;
        let digest = images.remove_from_list(&name(&words[0])?, &digest).map_err(failed)?;
        print(&format!("{digest}\n"))?;
        success()
    },
};

/// `manifest rm`.
pub(super) const FORGET: Verb = Verb {
    paths: &["manifest rm", "index rm"],
    topic: Topic::Images,
    usage: "LIST [LIST...]",
    about: "Remove lists, but not the images in them",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        let (images, _) = engine.lists()?;
        for word in &words {
            let name = name(word)?;
            images.remove_list(&name).map_err(failed)?;
            print(&format!("Untagged: {}\n", name.familiar()))?;
        }
        success()
    },
};

/// `manifest exists`.
pub(super) const EXISTS: Verb = Verb {
    paths: &["manifest exists", "index exists"],
    topic: Topic::Images,
    usage: "LIST",
    about: "Exit with 0 if there is a list of this name, else with 1",
    more: "",
    words: Completes::Nothing,
    count: (1, 1),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let engine = app.engine()?;
        let there = engine.lists()?.0.has_list(&name(&words[0])?).map_err(failed)?;
        Ok(u8::from(!there))
    },
};

#[derive(Default)]
struct Push {
    options: ListPush,
    quiet: bool,
}

const PUSH_FLAGS: &[Group<Push>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch(
            "all",
            None,
            "Push the images of the list too, as always (default true)",
            |_, _| Ok(()),
        ),
        Flag::one(
            "format",
            Some('f'),
            "string",
            "As oci or v2s2 (default as it is)",
            |o: &mut Push, v| {
                o.options.media_type = Some(match v {
                    "oci" => media_type::OCI_INDEX,
                    "v2s2" | "docker" => media_type::DOCKER_LIST,
                    _ => return Err(format!("unknown format {v:?}: want oci or v2s2")),
                });
                Ok(())
            },
        )
        .completes(Completes::Words(&["oci", "v2s2"])),
        Flag::one(
            "compression-format",
            None,
            "string",
            "gzip, zstd or none, for layers that are not compressed (default gzip)",
            |o, v| {
                o.options.travel = match v {
                    "none" => Travel::AsIs,
                    v => Travel::Compressed(v.parse::<Codec>().map_err(|e| e.to_string())?),
                };
                Ok(())
            },
        ),
        Flag::switch(
            "insecure",
            None,
            "Accepted: registries.conf says which may be",
            |_, _| Ok(()),
        ),
        Flag::switch("purge", Some('p'), "Remove the list here when it is there", |o, v| {
            o.options.purge = v == "true";
            Ok(())
        }),
        Flag::switch("rm", None, "The same, as Podman calls it", |o, v| {
            o.options.purge = v == "true";
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Say only its digest", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

/// `manifest push`.
pub(super) const PUSH: Verb = Verb {
    paths: &["manifest push", "index push"],
    topic: Topic::Images,
    usage: "[OPTIONS] LIST [DESTINATION]",
    about: "Send a list and all images in it to a registry",
    more: "Images that are not here are copied from where they are, or mounted within a registry.",
    words: Completes::Nothing,
    count: (1, 2),
    flags: || flag::describe(PUSH_FLAGS),
    run: |app, verb, args| {
        let mut push = Push::default();
        let words = verb.parse(PUSH_FLAGS, Order::Anywhere, args, &mut push)?;
        let list = name(&words[0])?;
        let to = match words.get(1) {
            Some(word) => name(word.strip_prefix("docker://").unwrap_or(word))?,
            None => list.clone(),
        };
        let engine = app.engine()?;
        let (images, client) = engine.lists()?;
        let show = Show::new(progress::PUSH, Out::Stdout, push.quiet, None);
        let pushed = images.push_list(client, &list, &to, &push.options, &show);
        let digest = pushed.inspect_err(|_| show.end()).map_err(failed)?;
        show.end();
        print(&format!("{digest}\n"))?;
        success()
    },
};
