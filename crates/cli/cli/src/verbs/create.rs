//! `create`, and what `run` shares with it: from flags to a container.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use hako_engine::{
    Container, CreateRequest, Engine, Error, PullOptions, Record, TOUR, options,
    packages::PackagesName,
};
use hako_oci::{Digest, Platform, Reference, platform, reference};

use crate::failure::say;
use crate::{
    failure::{CODE_HAKO, Failure, success},
    flag::{self, Completes, Order},
    progress::Out,
    verb::{Topic, Verb},
};

use super::{
    packages::Steps,
    print, registry,
    run_flags::{self, Draft, Pull, Stream},
};

/// `create`.
pub(super) const CREATE: Verb = Verb {
    paths: &["create", "container create"],
    topic: Topic::Containers,
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make a container without starting it",
    more: "",
    words: Completes::Nothing,
    count: (1, usize::MAX),
    flags: || flag::describe(run_flags::CREATE),
    run: |app, verb, args| {
        let mut draft = Draft::default();
        let words = verb.parse(run_flags::CREATE, Order::First, args, &mut draft)?;
        let request = request(&mut draft, &words).map_err(|e| refuse(&e, 1))?;
        let container = create(&app.engine()?, &draft, request).map_err(|e| with_code(e, 1))?;
        print(&format!("{}\n", container.id))?;
        success()
    },
};

/// What the engine is asked for.
pub(super) fn request(draft: &mut Draft, words: &[String]) -> Result<CreateRequest, String> {
    draft.finish()?;
    let (image, command) = words.split_first().ok_or("IMAGE is missing")?;
    if PackagesName::is_one(image) {
        image.parse::<PackagesName>().map_err(|e| e.to_string())?;
    // An ID is no reference, and names an image all the same.
    } else if let Err(error) = image.parse::<Reference>()
        && !matches!(error, reference::Error::ImageId(_))
        && image.parse::<Digest>().is_err()
    {
        return Err(error.to_string());
    }
    draft.options.command = command.to_vec();
    if let Some(text) = &draft.platform {
        let wanted: Platform = text.parse().map_err(|e: platform::Error| e.to_string())?;
        let host = Platform::host();
        if !host.matches(&wanted) {
            return Err(format!("cannot run {wanted} on {host}: emulation is not in this version"));
        }
    }
    if let Some(path) = &draft.cidfile
        && path.exists()
    {
        return Err(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            path.display()
        ));
    }
    let attached = |stream| draft.attach.contains(&stream);
    let attached = match (draft.detach, draft.attach.is_empty()) {
        (true, true) => [false; 3],
        (true, false) => {
            return Err("conflicting options: cannot specify both --attach and --detach".into());
        }
        (false, true) => [draft.options.stdin_open, true, true],
        (false, false) => {
            [attached(Stream::Stdin), attached(Stream::Stdout), attached(Stream::Stderr)]
        }
    };
    let mut record = Record {
        image: image.clone(),
        options: draft.options.clone(),
        auto_remove: draft.auto_remove,
        attached,
        ..Record::default()
    };
    log(draft, &mut record)?;
    Ok(CreateRequest { name: draft.name.clone(), record })
}

fn log(draft: &Draft, record: &mut Record) -> Result<(), String> {
    match draft.log_driver.as_deref() {
        None | Some("" | "json-file") => {}
        Some("none") => record.no_log = true,
        Some(other) => return Err(format!("logger: no log driver named '{other}' is registered")),
    }
    record.log_files_max = 1;
    for (name, value) in &draft.log_options {
        match name.as_str() {
            "max-size" => {
                let bytes = options::quantity::parse_bytes(value).map_err(|e| e.to_string())?;
                record.log_bytes_max = u64::try_from(bytes).ok().filter(|n| *n > 0);
            }
            "max-file" => record.log_files_max = flag::parse_integer(value)?,
            _ => return Err(format!("unknown log opt '{name}' for json-file log driver")),
        }
    }
    Ok(())
}

/// Makes the container and writes the `--cidfile`.
pub(super) fn create(
    engine: &Engine,
    draft: &Draft,
    request: CreateRequest,
) -> Result<Container, Failure> {
    let mut request = request;
    if let Ok(name) = request.record.image.parse::<PackagesName>() {
        make_of_packages(engine, draft, &name)?;
        return created(engine, draft, engine.create(request).map_err(engine_failure)?);
    }
    let image = request.record.image.parse::<Reference>().map(Reference::with_default_tag);
    // What hako carries inside itself is nowhere else, and an ID alone cannot be asked for.
    let image = image.ok().filter(|_| request.record.image != TOUR);
    if draft.pull == Pull::Always
        && let Some(image) = &image
    {
        pull(engine, draft, &mut request, image)?;
    }
    let container = match (engine.create(request.clone()), image) {
        (Err(error), Some(image)) if error.is_no_image() && draft.pull == Pull::Missing => {
            say!("Unable to find image '{}' locally", image.familiar());
            pull(engine, draft, &mut request, &image)?;
            engine.create(request).map_err(engine_failure)?
        }
        (created, _) => created.map_err(engine_failure)?,
    };
    created(engine, draft, container)
}

/// Makes sure that there is an image of these packages.
fn make_of_packages(engine: &Engine, draft: &Draft, name: &PackagesName) -> Result<(), Failure> {
    if draft.pull == Pull::Never {
        return engine.image(&name.to_string()).map(drop).map_err(engine_failure);
    }
    let platform = draft.platform.as_deref().and_then(|text| text.parse().ok());
    let steps = Steps::new(draft.quiet);
    let fresh = draft.pull == Pull::Always;
    let made = engine.image_of_packages(name, platform, fresh, &|step| steps.step(step));
    steps.end();
    made.map(drop).map_err(engine_failure)
}

/// Writes the `--cidfile`.
fn created(engine: &Engine, draft: &Draft, container: Container) -> Result<Container, Failure> {
    if let Some(path) = &draft.cidfile {
        write_new(path, &container.id).map_err(|e| {
            let mut message =
                format!("failed to write the container ID to the file: {}: {e}", path.display());
            // Nobody knows of it.
            if let Err(error) = engine.remove(&container, false) {
                message += &format!("; removing container {}: {error}", container.id);
            }
            refuse(&message, CODE_HAKO)
        })?;
    }
    Ok(container)
}

/// Like `File::create_new`: a file that appeared meanwhile is another container's.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    File::create_new(path)?.write_all(text.as_bytes())
}

/// Pulls the image that a container is to be made of, which may have another name than was typed.
fn pull(
    engine: &Engine,
    draft: &Draft,
    request: &mut CreateRequest,
    image: &Reference,
) -> Result<(), Failure> {
    let typed = &request.record.image;
    let platform = draft.platform.as_deref().and_then(|text| text.parse().ok());
    let options = PullOptions { platform };
    let pulled = registry::first(engine, typed, &options, Out::Stderr, draft.quiet);
    let pulled = pulled.map_err(engine_failure)?;
    if pulled.name != *image {
        request.record.image = pulled.name.to_string();
    }
    Ok(())
}

/// A failure that the flags or words are to blame for.
pub(super) fn refuse(message: &str, code: u8) -> Failure {
    Failure::Refused { message: message.to_owned(), code }
}

/// The engine's failure, with the exit code of `run`.
pub(super) fn engine_failure(error: Error) -> Failure {
    let code = u8::try_from(error.exit_code()).unwrap_or(CODE_HAKO);
    refuse(&error.to_string(), code)
}

fn with_code(failure: Failure, code: u8) -> Failure {
    match failure {
        Failure::Refused { message, .. } => Failure::Failed { message, code },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<CreateRequest, String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut draft = Draft::default();
        let words = flag::parse(run_flags::RUN, Order::First, &args, &mut draft).unwrap();
        request(&mut draft, &words)
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_made() {
        for (line, want) in [
            ("--platform windows/amd64 a", "emulation"),
            ("--platform linux a", "invalid platform"),
            ("--log-driver syslog a", "no log driver named"),
            ("--log-opt colour=red a", "unknown log opt"),
            ("-d -a stdout a", "--detach"),
            ("--cidfile / a", "container ID file found"),
            ("UPPER", "must be lowercase"),
            ("a:b:c", "invalid reference format"),
        ] {
            let error = check(line).expect_err(line);
            assert!(error.contains(want), "{line}: {error}");
        }
        let id = "a".repeat(64);
        assert!(check(&id).is_ok() && check(&format!("sha256:{id}")).is_ok());
    }

    #[test]
    fn attached_streams_follow_the_flags() {
        let attached = |line| check(line).unwrap().record.attached;
        assert_eq!(attached("a"), [false, true, true]);
        assert_eq!(attached("-i a"), [true; 3]);
        assert_eq!(attached("-di a"), [false; 3]);
        assert_eq!(attached("-a stderr a"), [false, false, true]);
    }

    #[test]
    fn logs_have_bounds() {
        let record = check("--log-opt max-size=10m --log-opt max-file=3 a").unwrap().record;
        assert_eq!((record.log_bytes_max, record.log_files_max), (Some(10 << 20), 3));
        assert!(check("--log-driver none a").unwrap().record.no_log);
    }
}
