//! `image from-packages`, and names of packages where an image is named.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hako_engine::packages::{ConfigChanges, PackagesRequest, PackagesStep, Sources, Variant};
use hako_oci::{Platform, Reference, platform};

use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order},
    output::units::size,
    verb::{Topic, Verb},
};

use super::print;

/// A terminal is written to no more often.
const REDRAW: Duration = Duration::from_millis(80);

#[derive(Default)]
struct FromPackages {
    suite: String,
    include: Vec<String>,
    variant: Option<Variant>,
    names: Vec<Reference>,
    recommends: bool,
    platform: Option<Platform>,
    lock: Option<PathBuf>,
    locked: bool,
    sources: Sources,
    config: ConfigChanges,
    quiet: bool,
}

const FLAGS: &[Group<FromPackages>] = &[
    Group {
        heading: "Packages",
        flags: &[
            Flag::one(
                "suite",
                None,
                "string",
                "Distribution's suite, as bookworm",
                |o: &mut FromPackages, v| {
                    o.suite = v.into();
                    Ok(())
                },
            ),
            Flag::many(
                "include",
                None,
                "list",
                "Packages, as python3,redis=5:7.0.15-1",
                |o: &mut FromPackages, v| {
                    let words = v.split(',').map(str::trim).filter(|word| !word.is_empty());
                    o.include.extend(words.map(str::to_owned));
                    Ok(())
                },
            ),
            Flag::one(
                "variant",
                None,
                "string",
                "minbase, distroless or static",
                |o: &mut FromPackages, v| {
                    o.variant = Some(v.parse().map_err(text)?);
                    Ok(())
                },
            )
            .completes(Completes::Words(&["minbase", "distroless", "static"])),
            Flag::switch(
                "recommends",
                None,
                "Take recommended packages as well",
                |o: &mut FromPackages, v| {
                    o.recommends = v == "true";
                    Ok(())
                },
            ),
            Flag::one(
                "platform",
                None,
                "string",
                "Platform of the image, as linux/amd64",
                |o: &mut FromPackages, v| {
                    o.platform = Some(v.parse().map_err(|e: platform::Error| e.to_string())?);
                    Ok(())
                },
            ),
        ],
    },
    Group {
        heading: "Lock file",
        flags: &[
            Flag::one(
                "lock",
                None,
                "file",
                "Versions and digests: used, or else written",
                |o: &mut FromPackages, v| {
                    o.lock = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::switch(
                "locked",
                None,
                "Fail where the lock file is missing",
                |o: &mut FromPackages, v| {
                    o.locked = v == "true";
                    Ok(())
                },
            ),
        ],
    },
    Group {
        heading: "Where packages come from",
        flags: &[
            Flag::many(
                "mirror",
                None,
                "url",
                "Archive, instead of what apt is configured for",
                |o: &mut FromPackages, v| {
                    o.sources.mirrors.push(v.into());
                    Ok(())
                },
            ),
            Flag::many(
                "mirror-suite",
                None,
                "string",
                "Further suite there, as bookworm-updates",
                |o: &mut FromPackages, v| {
                    o.sources.suites.push(v.into());
                    Ok(())
                },
            ),
            Flag::many(
                "components",
                None,
                "list",
                "Components there (default main)",
                |o: &mut FromPackages, v| {
                    o.sources.components.extend(v.split([',', ' ']).map(str::to_owned));
                    Ok(())
                },
            ),
            Flag::many(
                "keyring",
                None,
                "file",
                "Who may have signed it (default: apt's keyrings)",
                |o: &mut FromPackages, v| {
                    o.sources.keyrings.push(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::switch(
                "allow-unsigned",
                None,
                "Believe these mirrors unsigned",
                |o: &mut FromPackages, v| {
                    o.sources.trusted = v == "true";
                    Ok(())
                },
            ),
            Flag::one(
                "fetch",
                None,
                "string",
                "Who fetches: hako, or apt with all it is configured for",
                |o: &mut FromPackages, v| {
                    o.sources.apt = match v {
                        "hako" => false,
                        "apt" => true,
                        _ => return Err(format!("invalid value {v:?}: it is hako or apt")),
                    };
                    Ok(())
                },
            )
            .completes(Completes::Words(&["hako", "apt"])),
        ],
    },
    Group {
        heading: "Image",
        flags: &[
            Flag::many(
                "tag",
                Some('t'),
                "name",
                "Name of the image, as web:1.0",
                |o: &mut FromPackages, v| {
                    o.names.push(v.parse::<Reference>().map_err(text)?.with_default_tag());
                    Ok(())
                },
            ),
            Flag::one(
                "entrypoint",
                None,
                "command",
                "Program: words, or a JSON array",
                |o: &mut FromPackages, v| {
                    o.config.entrypoint = Some(command(v)?);
                    Ok(())
                },
            ),
            Flag::one(
                "cmd",
                None,
                "command",
                "Its arguments: words, or a JSON array",
                |o: &mut FromPackages, v| {
                    o.config.cmd = Some(command(v)?);
                    Ok(())
                },
            ),
            Flag::many(
                "env",
                Some('e'),
                "NAME=value",
                "Environment variable",
                |o: &mut FromPackages, v| {
                    match v.split_once('=') {
                        Some((name, _)) if !name.is_empty() => o.config.env.push(v.into()),
                        _ => return Err(format!("invalid environment variable: {v}")),
                    }
                    Ok(())
                },
            ),
            Flag::many("label", Some('l'), "NAME=value", "Label", |o: &mut FromPackages, v| {
                let (name, value) = v.split_once('=').unwrap_or((v, ""));
                o.config.labels.insert(name.into(), value.into());
                Ok(())
            }),
            Flag::one(
                "user",
                Some('u'),
                "string",
                "User, as nonroot (65532)",
                |o: &mut FromPackages, v| {
                    o.config.user = Some(v.into());
                    Ok(())
                },
            ),
            Flag::one(
                "workdir",
                Some('w'),
                "string",
                "Working directory",
                |o: &mut FromPackages, v| {
                    match v.starts_with('/') {
                        true => o.config.workdir = Some(v.into()),
                        false => {
                            return Err(format!("working directory '{v}' is no absolute path"));
                        }
                    }
                    Ok(())
                },
            ),
            Flag::switch(
                "quiet",
                Some('q'),
                "Print the image's ID only",
                |o: &mut FromPackages, v| {
                    o.quiet = v == "true";
                    Ok(())
                },
            ),
        ],
    },
];

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A command as Docker's files have it, without a shell: an array, or words.
fn command(text: &str) -> Result<Vec<String>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|e| format!("{text:?} is no array of words: {e}"));
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// `image from-packages`.
pub(super) const FROM_PACKAGES: Verb = Verb {
    paths: &["image from-packages"],
    topic: Topic::Images,
    usage: "--suite SUITE [OPTIONS]",
    about: "Make an image of a distribution's signed packages",
    more: "With --include, an image has those packages and what they need, and nothing else: no shell,\n\
           no package manager, no script was run (--variant distroless). Without, it is a small\n\
           system with apt (--variant minbase), configured in a container without a network.\n\
           --variant static has certificate authorities, time zones and users only.\n\n\
           Packages are those of the machine's apt sources, verified with its keyrings, unless\n\
           --mirror says otherwise. The same lock file gives the same image digest anywhere.\n\n\
           The name deb:SUITE/PACKAGE,... stands for such an image wherever one is named; deb:SUITE\n\
           for a small system, deb+VARIANT:SUITE/PACKAGE,... for another variant.\n\n\
           Examples:\n  \
           hako image from-packages --suite bookworm --include python3 -t python\n  \
           hako image from-packages --suite bookworm --include nginx --lock web.lock -t web\n  \
           hako run --rm -u nonroot deb:bookworm/python3 python3 -V\n\n\
           Environment:\n  \
           SOURCE_DATE_EPOCH    no file of the image is younger, in seconds since 1970",
    words: Completes::Nothing,
    count: super::NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let mut options = FromPackages::default();
        verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
        if options.suite.is_empty() {
            return Err(Failure::new("--suite is missing: name one, as --suite bookworm"));
        }
        if options.locked && options.lock.is_none() {
            return Err(Failure::new("--locked needs --lock FILE"));
        }
        let include =
            options.include.iter().map(|word| word.parse()).collect::<Result<Vec<_>, _>>();
        let include = include.map_err(|e| Failure::new(format!("--include: {e}")))?;
        let variant = options.variant.unwrap_or_else(|| Variant::default_for(&include));
        let request = PackagesRequest {
            suite: options.suite,
            include,
            variant,
            recommends: options.recommends,
            platform: options.platform,
            names: options.names,
            config: options.config,
            lock: options.lock,
            locked: options.locked,
            sources: options.sources,
            date_max: date_max()?,
        };
        let engine = app.engine()?;
        let steps = Steps::new(options.quiet);
        let made = engine.from_packages(&request, &|step| steps.step(step));
        steps.end();
        let made = made?;
        print(&format!("{}\n", made.id))?;
        success()
    },
};

/// What the environment says that nothing may be younger than.
fn date_max() -> Result<Option<i64>, Failure> {
    let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let invalid = || Failure::new(format!("SOURCE_DATE_EPOCH: {value:?} is no number of seconds"));
    value.parse::<u32>().map(|seconds| Some(i64::from(seconds))).map_err(|_| invalid())
}

/// Steps as people see them: a line for each, and on a terminal one that counts.
pub(super) struct Steps {
    quiet: bool,
    terminal: bool,
    total: AtomicU64,
    done: AtomicU64,
    /// When a line that counts was written, if one stands there.
    counting: Mutex<Option<Instant>>,
}

impl Steps {
    pub(super) fn new(quiet: bool) -> Steps {
        let terminal = io::stderr().is_terminal();
        let (total, done) = (AtomicU64::new(0), AtomicU64::new(0));
        Steps { quiet, terminal, total, done, counting: Mutex::default() }
    }

    pub(super) fn step(&self, step: PackagesStep<'_>) {
        match step {
            PackagesStep::Resolving => self.line("Reading package lists"),
            PackagesStep::Fetching(count, bytes) => {
                self.begin(bytes);
                self.line(&format!("Fetching {count} packages ({})", size(bytes, 4)));
            }
            PackagesStep::Fetched(bytes) => self.bytes(bytes),
            PackagesStep::Unpacking(count) => {
                self.begin(count as u64);
                self.line(&format!("Unpacking {count} packages"));
            }
            PackagesStep::Unpacked => self.count(),
            PackagesStep::Layer(name, layer) => {
                let (digest, bytes) = (layer.digest.short(), size(layer.size, 4));
                self.line(&format!("Layer {digest}: {name} ({bytes})"));
            }
            PackagesStep::Configuring => self.line("Configuring packages"),
        }
    }

    fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    fn bytes(&self, more: u64) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        self.show(&format!("Fetched {}/{}", size(done, 4), size(self.total(), 4)));
    }

    fn count(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(&format!("Unpacked {done}/{}", self.total()));
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// A line that the next one replaces.
    fn show(&self, text: &str) {
        if self.quiet || !self.terminal {
            return;
        }
        let mut counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        // Words that nobody can read cost more than they tell.
        if counting.is_none_or(|at| at.elapsed() >= REDRAW) {
            *counting = Some(Instant::now());
            write(&format!("\r\x1b[2K{text}"));
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        self.end();
        write(&format!("{text}\n"));
    }

    /// Takes away the line that counts.
    pub(super) fn end(&self) {
        let mut counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if counting.take().is_some() {
            write("\r\x1b[2K");
        }
    }
}

/// Progress that nobody can see is no reason to stop.
fn write(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_or_words() {
        let check = |text: &str, want: &[&str]| assert_eq!(command(text).unwrap(), want, "{text}");
        check("python3 -m http.server", &["python3", "-m", "http.server"]);
        check(r#"["sh", "-c", "a b"]"#, &["sh", "-c", "a b"]);
        check("", &[]);
        assert!(command("[1]").is_err() && command("[\"a\"").is_err());
    }
}
