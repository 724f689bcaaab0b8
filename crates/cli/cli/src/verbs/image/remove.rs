//! `rmi`, `untag`, `image prune`, `tag`, `image verify`.

use std::io::{self, BufRead as _, Read as _};

use hako_docker::image::DeleteItem;
use hako_engine::Summary;
use hako_oci::Reference;

use crate::failure::say;
use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    output::units::size,
    verb::{Topic, Verb},
};

use super::{
    super::{NONE, no_flags, print},
    filter::{self, Filters},
};

#[derive(Default)]
struct RemoveImage {
    force: bool,
}

const REMOVE_FLAGS: &[Group<RemoveImage>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("force", Some('f'), "Remove it with all its names", |o, v| {
            o.force = v == "true";
            Ok(())
        }),
        Flag::switch(
            "no-prune",
            None,
            "Keep parents without names (there are none)",
            |_, _| Ok(()),
        ),
    ],
}];

/// `rmi`.
pub(in crate::verbs) const REMOVE: Verb = Verb {
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
pub(in crate::verbs) const VERIFY: Verb = Verb {
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
pub(in crate::verbs) const TAG: Verb = Verb {
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

/// `untag`.
pub(in crate::verbs) const UNTAG: Verb = Verb {
    paths: &["untag", "image untag"],
    topic: Topic::Images,
    usage: "IMAGE [NAME...]",
    about: "Take names from an image, and keep the image",
    more: "Without NAME, all of them.",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: no_flags,
    run: |app, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        let mut names = Vec::new();
        for word in &words[1..] {
            let name = word.parse::<Reference>();
            let name =
                name.map_err(|e| Failure::new(format!("parsing reference {word:?}: {e}")))?;
            names.push(name.with_default_tag());
        }
        app.engine()?.untag(&words[0], &names)?;
        success()
    },
};

#[derive(Default)]
struct Prune {
    all: bool,
    force: bool,
    filters: Filters,
}

const PRUNE_FLAGS: &[Group<Prune>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch(
            "all",
            Some('a'),
            "Remove all images without a container, not only those without a name",
            |o: &mut Prune, v| {
                o.all = v == "true";
                Ok(())
            },
        ),
        Flag::many("filter", None, "filter", filter::PRUNE_HELP, |o, v| {
            o.filters.add(v, filter::PRUNE_KEYS)
        }),
        Flag::switch("force", Some('f'), "Do not ask", |o, v| {
            o.force = v == "true";
            Ok(())
        }),
    ],
}];

/// `image prune`.
pub(in crate::verbs) const PRUNE: Verb = Verb {
    paths: &["image prune"],
    topic: Topic::Images,
    usage: "[OPTIONS]",
    about: "Remove images that nothing uses",
    more: "Times of until= are RFC 3339, seconds since 1970, or durations back from now as 24h.",
    words: Completes::Nothing,
    count: (0, 0),
    flags: || flag::describe(PRUNE_FLAGS),
    run: |app, verb, args| {
        let mut options = Prune::default();
        verb.parse(PRUNE_FLAGS, Order::Anywhere, args, &mut options)?;
        // As in Docker, dangling=false means all.
        let all = options.all || options.filters.dangling() == Some(false);
        if !options.force {
            let what = match all {
                true => "all images without at least one container associated to them",
                false => "all dangling images",
            };
            if !confirmed(&format!("WARNING! This will remove {what}."))? {
                return success();
            }
        }
        let engine = app.engine()?;
        let filters = options.filters.resolve(&engine)?;
        let picks = |image: &Summary| filters.picks(image);
        let (items, freed) = engine.prune_images(all, &picks)?;
        if !items.is_empty() {
            let line = |item: &DeleteItem| match item {
                DeleteItem::Untagged(name) => format!("untagged: {name}\n"),
                DeleteItem::Deleted(id) => format!("deleted: {id}\n"),
            };
            let lines: String = items.iter().map(line).collect();
            print(&format!("Deleted Images:\n{lines}\n"))?;
        }
        print(&format!("Total reclaimed space: {}\n", size(freed, 4)))?;
        success()
    },
};

/// Whether somebody who was asked says yes.
pub(in crate::verbs) fn confirmed(question: &str) -> Result<bool, Failure> {
    print(&format!("{question}\nAre you sure you want to continue? [y/N] "))?;
    let mut line = String::new();
    let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line);
    read.map_err(|e| Failure::new(format!("reading the answer: {e}")))?;
    Ok(line.trim().eq_ignore_ascii_case("y") || line.trim().eq_ignore_ascii_case("yes"))
}

/// Nobody's yes is longer.
const ANSWER_BYTES_MAX: u64 = 1 << 10;
