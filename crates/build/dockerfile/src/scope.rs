//! Variables: what `ARG`, `ENV`, the platforms and the command line say, and what instructions are
//! with it.
//!
//! ```text
//! Global   platform arguments, then ARGs before the first FROM: what FROM may use
//! Scope    of one stage: its base's environment, then each ENV and ARG as it comes
//! ```
//!
//! A global `ARG` is seen in a stage only where the stage says `ARG` of that name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hako_oci::Platform;

use crate::{
    ast::{Arg, Copy, Dockerfile, Escape, Instruction, Kind, Pair, Place, Transfer},
    error::Error,
    expand::{self, Lexer, Vars},
    mount::{self, Mount},
    source::{Lines, Word},
};

/// Arguments of the scanner that are not given to commands.
const NOT_IN_ENVIRONMENT: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Proxies: taken from the command line without `ARG`, given to `RUN`, and kept out of the cache.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// `--build-arg`, by name.
pub type BuildArgs = BTreeMap<String, String>;

/// Variables in the order in which they were set first.
#[derive(Debug, Clone, Default)]
pub struct Env {
    entries: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Env {
    /// Reads `NAME=VALUE`s, as an image's configuration holds them.
    pub fn of_config<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Env {
        let mut env = Env::default();
        for entry in entries {
            let entry = entry.as_ref();
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            env.set(name, value);
        }
        env
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        match self.index.get(&name) {
            Some(at) => self.entries[*at].1 = value.into(),
            None => {
                self.index.insert(name.clone(), self.entries.len());
                self.entries.push((name, value.into()));
            }
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }
}

impl Vars for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.entries[*at].1.as_str())
    }
}

/// Where a build runs, and what for.
#[derive(Debug, Clone, PartialEq)]
pub struct Platforms {
    /// What it runs on.
    pub build: Platform,
    /// What its result is for.
    pub target: Platform,
}

impl Platforms {
    /// The variables that say so.
    fn variables(&self, target_stage: &str) -> Vec<(&'static str, String)> {
        let version = |platform: &Platform| platform.os_version.clone().unwrap_or_default();
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        let (build, target) = (&self.build, &self.target);
        vec![
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", version(build)),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", variant(build)),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", version(target)),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", variant(target)),
            ("TARGETSTAGE", target_stage.to_owned()),
        ]
    }
}

/// A global argument, for an outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalArg {
    /// Its name.
    pub name: String,
    /// Its value, or nothing where it has none.
    pub value: Option<String>,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Where it stands.
    pub lines: Lines,
    /// Other arguments that its default asks for.
    pub needs: BTreeSet<String>,
}

/// What `FROM` may use.
#[derive(Debug, Clone, Default)]
pub struct Global {
    /// Platform arguments and global `ARG`s that have a value.
    pub env: Env,
    /// All global `ARG`s, the last of each name.
    pub args: Vec<GlobalArg>,
    /// What was given on the command line.
    pub build_args: BuildArgs,
    escape: Escape,
}

impl Global {
    /// Evaluates the `ARG`s before the first `FROM`. `target` is the stage that is built, if it was
    /// named.
    pub fn new(
        file: &Dockerfile,
        platforms: &Platforms,
        build_args: &BuildArgs,
        target: Option<&str>,
    ) -> Result<Global, Error> {
        let last = file.stages.last().and_then(|stage| stage.name());
        let target = target.map(str::to_owned).or(last).filter(|name| !name.is_empty());
        let mut global = Global {
            env: Env::default(),
            args: Vec::new(),
            build_args: build_args.clone(),
            escape: file.escape,
        };
        for (name, value) in platforms.variables(target.as_deref().unwrap_or("default")) {
            let value = build_args.get(name).cloned().unwrap_or(value);
            global.env.set(name, value);
        }
        for instruction in &file.global_args {
            let Kind::Arg(args) = &instruction.kind else { continue };
            for arg in args {
                global.declare(arg, &instruction.place)?;
            }
        }
        Ok(global)
    }

    fn declare(&mut self, arg: &Arg, place: &Place) -> Result<(), Error> {
        let name = &arg.name.text;
        let mut needs = BTreeSet::new();
        let value = match (self.build_args.get(name), &arg.value) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(word)) => {
                let expansion =
                    self.expand(word).map_err(|why| Error::new(why, place.lines).at(word.span))?;
                needs = expansion.used;
                Some(expansion.text)
            }
            (None, None) => None,
        };
        if let Some(value) = &value {
            self.env.set(name.clone(), value.clone());
        }
        self.args.retain(|seen| seen.name != *name);
        self.args.push(GlobalArg {
            name: name.clone(),
            value,
            description: arg.description.clone(),
            lines: place.lines,
            needs,
        });
        Ok(())
    }

    /// Expands a word of a `FROM`.
    pub fn expand(&self, word: &Word) -> Result<expand::Expansion, expand::Error> {
        Lexer::new(self.escape.char()).word(&word.text, &self.env)
    }
}

/// Proxies that were given on the command line, as they were named.
pub fn proxies(build_args: &BuildArgs) -> impl Iterator<Item = (&str, &str)> {
    let is_proxy = |name: &str| PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name));
    let given = build_args.iter().filter(move |(name, _)| is_proxy(name));
    given.map(|(name, value)| (name.as_str(), value.as_str()))
}

/// An instruction whose variables are values.
#[derive(Debug, Clone, PartialEq)]
pub struct Expanded {
    /// The instruction. `ARG`s have the values that they have now, `EXPOSE` one word a port, and
    /// heredocs that are copied are what is written.
    pub kind: Kind,
    /// `RUN --mount`s.
    pub mounts: Vec<Mount>,
    /// Variables that it asked for and got.
    pub used: BTreeSet<String>,
    /// Variables that it asked for and that nobody set, each with the word that did.
    pub unset: Vec<(String, Word)>,
}

/// Variables of one stage, while its instructions are read in order.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    global: &'a Global,
    /// What instructions may use, and commands get: the base's environment, `ENV`s and `ARG`s.
    pub env: Env,
    /// `ARG`s so far, with their values: what goes into the history of a `RUN`.
    pub args: Vec<(String, Option<String>)>,
}

impl<'a> Scope<'a> {
    /// The scope of a stage upon an image with this environment.
    pub fn new(global: &'a Global, env: Env) -> Scope<'a> {
        Scope { global, env, args: Vec::new() }
    }

    /// Expands an instruction. `ENV` and `ARG` change the scope for those that follow.
    pub fn expand(&mut self, instruction: &Instruction) -> Result<Expanded, Error> {
        let mut run = Expansions {
            lexer: Lexer::new(self.global.escape.char()),
            env: &self.env,
            used: BTreeSet::new(),
            unset: Vec::new(),
            lines: instruction.place.lines,
        };
        let mut mounts = Vec::new();
        let kind = match &instruction.kind {
            Kind::Arg(args) => return self.args(args, instruction.place.lines),
            Kind::Env(pairs) => Kind::Env(run.pairs(pairs)?),
            Kind::Label(pairs) => Kind::Label(run.pairs(pairs)?),
            Kind::Copy(copy) => Kind::Copy(Copy {
                transfer: run.transfer(&copy.transfer)?,
                from: copy.from.clone(),
                parents: copy.parents,
            }),
            Kind::Add(add) => {
                let mut add = add.clone();
                add.transfer = run.transfer(&add.transfer)?;
                add.checksum = add.checksum.map(|word| run.word(&word)).transpose()?;
                Kind::Add(add)
            }
            Kind::Expose(ports) => Kind::Expose(run.split(ports)?),
            Kind::Volume(volumes) => {
                Kind::Volume(volumes.iter().map(|word| run.word(word)).collect::<Result<_, _>>()?)
            }
            Kind::Stopsignal(word) => Kind::Stopsignal(run.word(word)?),
            Kind::User(word) => Kind::User(run.word(word)?),
            Kind::Workdir(word) => Kind::Workdir(run.word(word)?),
            Kind::Run(command) => {
                for value in &command.mounts {
                    mounts.push(run.mount(value)?);
                }
                Kind::Run(command.clone())
            }
            kind @ (Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Maintainer(_)
            | Kind::Onbuild(_)
            | Kind::Shell(_)) => kind.clone(),
        };
        let (used, unset) = (run.used, run.unset);
        if let Kind::Env(pairs) = &kind {
            for pair in pairs {
                self.env.set(pair.key.text.clone(), pair.value.text.clone());
            }
        }
        let unset = self.not_declared(unset);
        Ok(Expanded { kind, mounts, used, unset })
    }

    /// Each argument sees those before it, on the same line too.
    fn args(&mut self, args: &[Arg], lines: Lines) -> Result<Expanded, Error> {
        let mut out = Vec::with_capacity(args.len());
        let (mut used, mut unset) = (BTreeSet::new(), Vec::new());
        for arg in args {
            let name = &arg.name.text;
            let given = self.global.build_args.get(name).cloned();
            let value = match (given, &arg.value) {
                (Some(value), _) => Some(value),
                (None, Some(word)) => {
                    let mut run = Expansions {
                        lexer: Lexer::new(self.global.escape.char()),
                        env: &self.env,
                        used: BTreeSet::new(),
                        unset: Vec::new(),
                        lines,
                    };
                    let value = run.word(word)?.text;
                    used.append(&mut run.used);
                    let missing = run.unset;
                    unset.extend(self.not_declared(missing));
                    Some(value)
                }
                (None, None) => self.global.env.get(name).map(str::to_owned),
            };
            if let Some(value) = &value
                && !NOT_IN_ENVIRONMENT.contains(&name.as_str())
            {
                self.env.set(name.clone(), value.clone());
            }
            self.args.push((name.clone(), value.clone()));
            let span = arg.value.as_ref().map_or(arg.name.span, |word| word.span);
            out.push(Arg { value: value.map(|value| Word::new(value, span)), ..arg.clone() });
        }
        Ok(Expanded { kind: Kind::Arg(out), mounts: Vec::new(), used, unset })
    }

    /// Those that no `ARG` declares: one that was declared without a value is not unknown.
    fn not_declared(&self, mut unset: Vec<(String, Word)>) -> Vec<(String, Word)> {
        unset.retain(|(name, _)| {
            !self.args.iter().any(|(declared, _)| declared == name)
                && !NOT_IN_ENVIRONMENT.contains(&name.as_str())
        });
        unset
    }

    /// An instruction as progress shows it: variables that are set are values, quotes stay.
    pub fn shown(&self, original: &str) -> String {
        let lexer =
            Lexer { raw_quotes: true, keep_unset: true, ..Lexer::new(self.global.escape.char()) };
        let shown = lexer.word(original, &self.env).map(|expansion| expansion.text);
        shown.unwrap_or_else(|_| original.to_owned())
    }
}

struct Expansions<'a> {
    lexer: Lexer,
    env: &'a Env,
    used: BTreeSet<String>,
    unset: Vec<(String, Word)>,
    lines: Lines,
}

impl Expansions<'_> {
    fn keep(&mut self, expansion: &expand::Expansion, word: &Word) {
        self.used.extend(expansion.used.iter().cloned());
        self.unset.extend(expansion.unset.iter().map(|name| (name.clone(), word.clone())));
    }

    fn word(&mut self, word: &Word) -> Result<Word, Error> {
        let expansion = self
            .lexer
            .word(&word.text, self.env)
            .map_err(|why| Error::new(why, self.lines).at(word.span))?;
        self.keep(&expansion, word);
        Ok(Word::new(expansion.text, word.span))
    }

    fn optional(&mut self, word: &Option<Word>) -> Result<Option<Word>, Error> {
        let word = word.as_ref().map(|word| self.word(word)).transpose()?;
        Ok(word.filter(|word| !word.text.is_empty()))
    }

    fn split(&mut self, words: &[Word]) -> Result<Vec<Word>, Error> {
        let mut out = Vec::new();
        for word in words {
            let (expansion, parts) = self
                .lexer
                .run(&word.text, self.env)
                .map_err(|why| Error::new(why, self.lines).at(word.span))?;
            // BuildKit does not look for unknown variables here.
            self.used.extend(expansion.used);
            out.extend(parts.into_iter().map(|part| Word::new(part, word.span)));
        }
        Ok(out)
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Result<Vec<Pair>, Error> {
        let pair = |pair: &Pair| {
            Ok(Pair { key: self.word(&pair.key)?, value: self.word(&pair.value)?, ..pair.clone() })
        };
        pairs.iter().map(pair).collect()
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<Transfer, Error> {
        let mut out = transfer.clone();
        out.chown = self.optional(&transfer.chown)?;
        out.chmod = self.optional(&transfer.chmod)?;
        for source in &mut out.sources {
            *source = self.word(source)?;
        }
        out.destination = self.word(&transfer.destination)?;
        for document in &mut out.documents {
            document.content = document.text();
            document.chomp = false;
            if !std::mem::take(&mut document.expand) {
                continue;
            }
            let text = String::from_utf8_lossy(&document.content).into_owned();
            let word = Word::new(text, document.span);
            let expansion = Lexer::heredoc()
                .word(&word.text, self.env)
                .map_err(|why| Error::new(why, self.lines).at(document.span))?;
            self.keep(&expansion, &word);
            document.content = expansion.text.into_bytes();
        }
        Ok(out)
    }

    fn mount(&mut self, value: &Word) -> Result<Mount, Error> {
        let (lexer, env) = (self.lexer, self.env);
        let mut found = Vec::new();
        let mut expand = |text: &str| {
            let expansion = lexer.word(text, env)?;
            let out = expansion.text.clone();
            found.push(expansion);
            Ok(out)
        };
        let mount = mount::parse(value, self.lines, Some(&mut expand))?;
        for expansion in &found {
            self.keep(expansion, value);
        }
        Ok(mount)
    }
}

#[cfg(test)]
mod tests;
