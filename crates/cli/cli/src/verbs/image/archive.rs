//! `load`, `save`, `import`: images from and to archives.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use hako_engine::{
    Engine, ImportOptions, LoadOptions, SaveFormat, SaveOptions, Silent, Source,
    registry::{CopyOptions, CopyRequest, Place},
};
use hako_oci::{Platform, Reference};

use crate::failure::say;
use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    progress,
    verb::{Topic, Verb},
};

use super::{super::print, platform};

#[derive(Default)]
struct Load {
    input: Option<PathBuf>,
    quiet: bool,
    platform: Option<Platform>,
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
        Flag::one("platform", None, "string", "Load the image for this platform", |o, v| {
            o.platform = Some(platform(v)?);
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Say only which images were loaded", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

/// `load`.
pub(in crate::verbs) const LOAD: Verb = Verb {
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
            Some(path) => match path.to_str().filter(|path| is_address(path)) {
                Some(address) => Source::Stream(engine.download(address)?),
                None => Source::Path(path),
            },
            None => Source::Stream(Box::new(io::stdin())),
        };
        let watched = !options.quiet && io::stdout().is_terminal();
        let load = LoadOptions {
            platform: options.platform,
            progress: watched.then(progress::loading),
            ..LoadOptions::default()
        };
        let images = engine.load(source, &load)?;
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

/// How `save` may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    File(SaveFormat),
    OciDirectory,
    DockerDirectory,
}

const FORMS: &[(&str, Form)] = &[
    ("docker-archive", Form::File(SaveFormat::Docker)),
    ("oci-archive", Form::File(SaveFormat::Oci)),
    ("oci-dir", Form::OciDirectory),
    ("docker-dir", Form::DockerDirectory),
];

#[derive(Default)]
struct Save {
    output: Option<PathBuf>,
    platform: Option<Platform>,
    form: Option<Form>,
}

const SAVE_FLAGS: &[Group<Save>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one(
            "output",
            Some('o'),
            "string",
            "Write to a file, not to stdout",
            |o: &mut Save, v| {
                o.output = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::one("platform", None, "string", "Save the image for this platform", |o, v| {
            o.platform = Some(platform(v)?);
            Ok(())
        }),
        Flag::one(
            "format",
            None,
            "string",
            "oci-archive, docker-archive, oci-dir or docker-dir; a tar that is both archives unless given",
            |o: &mut Save, v| {
                let form = FORMS.iter().find(|(name, _)| *name == v).map(|(_, form)| *form);
                let names: Vec<&str> = FORMS.iter().map(|(name, _)| *name).collect();
                let wrong = || format!("unknown format {v:?}: want one of {}", names.join(", "));
                o.form = Some(form.ok_or_else(wrong)?);
                Ok(())
            },
        )
        .completes(Completes::Words(&["oci-archive", "docker-archive", "oci-dir", "docker-dir"])),
        Flag::switch("multi-image-archive", Some('m'), "Several images are one archive always", |_, _| {
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Say nothing, as always", |_, _| Ok(())),
    ],
}];

/// `save`.
pub(in crate::verbs) const SAVE: Verb = Verb {
    paths: &["save", "image save"],
    topic: Topic::Images,
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Write images as an archive that docker, podman and skopeo load",
    more: "A directory (oci-dir, docker-dir) holds one image, and needs --output.",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(SAVE_FLAGS),
    run: |app, verb, args| {
        let mut options = Save::default();
        let words = verb.parse(SAVE_FLAGS, Order::Anywhere, args, &mut options)?;
        let engine = app.engine()?;
        let format = match options.form {
            Some(Form::File(format)) => format,
            None => SaveFormat::Any,
            Some(form) => {
                let (Some(path), [word]) = (options.output, &words[..]) else {
                    return Err(Failure::new("a directory holds one image, and needs --output"));
                };
                save_directory(&engine, word, path, form, options.platform)?;
                return success();
            }
        };
        let save = SaveOptions { platform: options.platform, format };
        match options.output {
            Some(path) => {
                write_file(&path, |out| engine.save(&words, &save, out).map_err(Failure::from))?;
            }
            None if io::stdout().is_terminal() => {
                return Err(Failure::new(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            None => engine.save(&words, &save, &mut io::stdout().lock())?,
        }
        success()
    },
};

fn save_directory(
    engine: &Engine,
    word: &str,
    path: PathBuf,
    form: Form,
    platform: Option<Platform>,
) -> Result<(), Failure> {
    let tag = word.parse::<Reference>().ok().map(Reference::with_default_tag);
    let tag = tag.and_then(|name| name.tag().map(str::to_owned));
    let to = match form {
        Form::OciDirectory => Place::Layout(path, tag),
        _ => Place::Directory(path),
    };
    let options = CopyOptions { platform, ..CopyOptions::default() };
    engine.copy(&CopyRequest { from: Place::Store(word.into()), to, options }, &Silent)?;
    Ok(())
}

/// Writes beside the file and renames: what was there is replaced by something whole, or stays.
pub(in crate::verbs) fn write_file(
    path: &Path,
    write: impl Fn(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let about = |e: io::Error| Failure::new(format!("open {}: {e}", path.display()));
    // A device or a pipe cannot be replaced: it is written to.
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(about)?;
        return write(&mut file);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = File::create_new(&beside).map_err(about)?;
    let saved = write(&mut file)
        .and_then(|()| file.flush().and_then(|()| std::fs::rename(&beside, path)).map_err(about));
    if saved.is_err()
        && let Err(error) = std::fs::remove_file(&beside)
    {
        say!("hako: {}: {error}", beside.display());
    }
    saved
}

#[derive(Default)]
struct Import {
    options: ImportOptions,
    has_message: bool,
    quiet: bool,
    parts: [Option<String>; 3],
}

const IMPORT_FLAGS: &[Group<Import>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::many(
            "change",
            Some('c'),
            "list",
            "Instruction of a Dockerfile for the image's configuration, as 'CMD [\"sh\"]'",
            |o: &mut Import, v| {
                o.options.changes.push(v.into());
                Ok(())
            },
        ),
        Flag::one("message", Some('m'), "string", "Comment in the image's history", |o, v| {
            o.options.message = v.into();
            o.has_message = true;
            Ok(())
        }),
        Flag::one("platform", None, "string", "Platform of the image, as linux/amd64", |o, v| {
            o.options.platform = Some(platform(v)?);
            Ok(())
        }),
        Flag::one("os", None, "string", "Operating system of the image", |o, v| {
            o.parts[0] = Some(v.into());
            Ok(())
        }),
        Flag::one("arch", None, "string", "Architecture of the image", |o, v| {
            o.parts[1] = Some(v.into());
            Ok(())
        }),
        Flag::one("variant", None, "string", "Variant of the architecture", |o, v| {
            o.parts[2] = Some(v.into());
            Ok(())
        }),
        Flag::switch("quiet", Some('q'), "Say only the image's ID, as always", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
    ],
}];

/// `import`.
pub(in crate::verbs) const IMPORT: Verb = Verb {
    paths: &["import", "image import"],
    topic: Topic::Images,
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image of a tar of files",
    more: "The tar may be compressed with gzip, zstd, xz or bzip2. Instructions of --change:\n\
           CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR",
    words: Completes::File,
    count: (1, 2),
    flags: || flag::describe(IMPORT_FLAGS),
    run: |app, verb, args| {
        let mut import = Import::default();
        let words = verb.parse(IMPORT_FLAGS, Order::Anywhere, args, &mut import)?;
        let Import { mut options, has_message, parts: [os, arch, variant], .. } = import;
        if let Some(name) = words.get(1) {
            let invalid = |e| Failure::new(format!("invalid reference format: {e}"));
            options.name = Some(name.parse::<Reference>().map_err(invalid)?);
        }
        if os.is_some() || arch.is_some() || variant.is_some() {
            let mut platform = options.platform.unwrap_or_else(Platform::host);
            platform.os = os.unwrap_or(platform.os);
            platform.architecture = arch.unwrap_or(platform.architecture);
            platform.variant = variant.or(platform.variant);
            options.platform = Some(platform);
        }
        if !has_message {
            options.message = format!("Imported from {}", words[0]);
        }
        let engine = app.engine()?;
        let tar: Box<dyn Read + Send> = match words[0].as_str() {
            "-" => Box::new(io::stdin()),
            word if is_address(word) => engine.download(word)?,
            path => {
                let opened = File::open(path);
                Box::new(opened.map_err(|e| Failure::new(format!("open {path}: {e}")))?)
            }
        };
        print(&format!("{}\n", engine.import(tar, &options)?))?;
        success()
    },
};

fn is_address(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}
