//! Makes the build checks: walks through a Dockerfile as a build would, and says what is odd.
//!
//! What a file alone does not tell (a base image's environment, what `.dockerignore` leaves out)
//! is asked of [`Facts`]; what nobody knows is not complained about.

use std::collections::{BTreeMap, BTreeSet};

use hako_oci::{Platform, Reference};

use crate::{
    ast::{CommandLine, Dockerfile, Instruction, Kind, Stage, Transfer},
    directive,
    error::{Error, Problem},
    expand::Vars,
    glob, go,
    ignore::Matcher,
    instruction,
    node::{self, Node},
    rules::{self, Rule, Settings},
    scope::{BuildArgs, Env, Expanded, Global, Platforms, Scope},
    source::{Lines, Span, Word},
    stages::{self, Origin, Stages},
    suggest,
    values::{self, SourceKind},
};

/// A warning of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The check.
    pub rule: &'static Rule,
    /// What it found.
    pub message: String,
    /// The lines of the instruction.
    pub lines: Lines,
    /// The words it is about.
    pub span: Option<Span>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Warnings, in the order of lines.
    pub warnings: Vec<Warning>,
    /// What kept the rest from being checked.
    pub error: Option<Error>,
    /// Checks whose warnings are errors, because `error=true` was said.
    pub violations: Vec<&'static str>,
}

/// What the configuration of a base image says.
#[derive(Debug, Clone, Default)]
pub struct BaseImage {
    /// `NAME=VALUE`s.
    pub env: Vec<String>,
    /// Its shell; empty where it says none.
    pub shell: Vec<String>,
    /// Its triggers.
    pub onbuild: Vec<String>,
    /// What it is for.
    pub platform: Option<Platform>,
}

/// What a file alone does not tell.
pub trait Facts {
    /// The image of a name for a platform, if it is known.
    fn image(&self, name: &Reference, platform: &Platform) -> Option<BaseImage>;

    /// What the context leaves out.
    fn ignored(&self) -> Option<&Matcher>;
}

/// Nothing but the file is known.
#[derive(Debug, Clone, Copy)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn image(&self, _: &Reference, _: &Platform) -> Option<BaseImage> {
        None
    }

    fn ignored(&self) -> Option<&Matcher> {
        None
    }
}

/// What a build would be asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The stage to build. Without one all stages are checked.
    pub target: Option<String>,
    /// `--build-arg`s.
    pub build_args: BuildArgs,
    /// Where it runs, and what for.
    pub platforms: Platforms,
    /// Names of `--build-context`s.
    pub contexts: Vec<String>,
    /// Settings from outside, instead of those of the file.
    pub settings: Option<Settings>,
}

impl Request {
    /// A build of all for this machine.
    pub fn new() -> Request {
        let host = Platform::host();
        Request {
            target: None,
            build_args: BuildArgs::new(),
            platforms: Platforms { build: host.clone(), target: host },
            contexts: Vec::new(),
            settings: None,
        }
    }
}

impl Default for Request {
    fn default() -> Request {
        Request::new()
    }
}

/// Checks a file.
///
/// ```
/// use hako_dockerfile::check::{NoFacts, Request, check};
///
/// let report = check(b"FROM scratch AS Base\n", &Request::new(), &NoFacts)?;
/// assert_eq!(report.warnings[0].message, "Stage name 'Base' should be lowercase");
/// # Ok::<(), hako_dockerfile::rules::SettingsError>(())
/// ```
pub fn check(
    bytes: &[u8],
    request: &Request,
    facts: &dyn Facts,
) -> Result<Report, rules::SettingsError> {
    let settings = match &request.settings {
        Some(settings) => settings.clone(),
        None => Settings::parse(&directive::check(bytes).unwrap_or_default())?,
    };
    let mut linter = Linter { settings, request, facts, report: Report::default() };
    linter.report.error = linter.file(bytes).err();
    let mut report = linter.report;
    if linter.settings.error {
        let names: BTreeSet<_> = report.warnings.iter().map(|warning| warning.rule.name).collect();
        report.violations = names.into_iter().collect();
    }
    report.warnings.sort_by_key(|warning| warning.lines.first);
    Ok(report)
}

struct Linter<'a> {
    settings: Settings,
    request: &'a Request,
    facts: &'a dyn Facts,
    report: Report,
}

/// What is known where a stage ends, for those upon it.
#[derive(Clone, Default)]
struct After {
    /// Nothing where the base's environment is not known.
    env: Option<Env>,
    args: Vec<(String, Option<String>)>,
    has_shell: bool,
    workdir_set: bool,
    triggers: Vec<String>,
}

impl Linter<'_> {
    fn warn(&mut self, rule: &'static Rule, lines: Lines, span: Option<Span>, message: String) {
        if self.settings.wants(rule) {
            let span = span.filter(|span| !span.is_empty());
            self.report.warnings.push(Warning { rule, message, lines, span });
        }
    }

    fn file(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let nodes = node::parse(bytes)?;
        for lines in &nodes.empty_continuations {
            let message = "Empty continuation line".to_owned();
            self.warn(rules::NO_EMPTY_CONTINUATION, Lines::one(lines.last), None, message);
        }
        let all = nodes.nodes.clone();
        let file = instruction::of_nodes(nodes);
        // What was read before an error is warned of too.
        let end = file.as_ref().err().map_or(usize::MAX, |error| error.lines.first);
        for node in all.iter().filter(|node| node.lines.first <= end) {
            self.node(node, node.lines.first < end);
        }
        let file = file?;
        self.stage_names(&file);
        self.casing(&file);
        self.default_args(&file);
        let request = self.request;
        let target = request.target.as_deref();
        let global = Global::new(&file, &request.platforms, &request.build_args, target)?;
        for stage in &file.stages {
            self.from(stage, &global);
        }
        let mut stages = Stages::new(&file, &global, target, &request.contexts)?;
        let mut after: Vec<After> = Vec::new();
        for (at, stage) in file.stages.iter().enumerate() {
            let wanted = target.is_none() || stages.stages[at].reachable;
            let state = if wanted && !stages.is_replaced(at) {
                self.stage(at, stage, &global, &mut stages, &after)?
            } else {
                After::default()
            };
            after.push(state);
        }
        Ok(())
    }

    /// Checks that look at the words only.
    fn node(&mut self, node: &Node, is_right: bool) {
        let keyword = &node.keyword;
        match keyword.text.to_ascii_uppercase().as_str() {
            "MAINTAINER" => {
                let message =
                    "Maintainer instruction is deprecated in favor of using label".to_owned();
                self.warn(rules::MAINTAINER_DEPRECATED, node.lines, Some(keyword.span), message);
            }
            "FROM" => {
                let [_, as_keyword, name] = node.arguments.as_slice() else { return };
                if name.text != name.text.to_lowercase() {
                    let message = format!("Stage name '{name}' should be lowercase");
                    self.warn(rules::STAGE_NAME_CASING, node.lines, Some(name.span), message);
                }
                let matches = match casing(&keyword.text) {
                    None => true,
                    Some(Casing::Lower) => as_keyword.text == as_keyword.text.to_lowercase(),
                    Some(Casing::Upper) => as_keyword.text == as_keyword.text.to_uppercase(),
                };
                if !matches {
                    let message =
                        format!("'{as_keyword}' and '{keyword}' keywords' casing do not match");
                    self.warn(rules::FROM_AS_CASING, node.lines, Some(as_keyword.span), message);
                }
                if is_right {
                    self.description("FROM", &[name.text.to_lowercase()], node);
                }
            }
            "ARG" if is_right => {
                let name = |word: &Word| word.text.split('=').next().unwrap_or_default().to_owned();
                let names: Vec<_> = node.arguments.iter().map(name).collect();
                self.description("ARG", &names, node);
            }
            _ => {}
        }
    }

    fn description(&mut self, keyword: &str, names: &[String], node: &Node) {
        let (Some(comment), Some(first)) = (node.comments.last(), names.first()) else { return };
        let described = comment.split(' ').next().unwrap_or_default();
        if names.iter().any(|name| name == described) {
            return;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { first };
        let message =
            format!("Comment for {keyword} should follow the format: `# {example} <description>`");
        self.warn(rules::INVALID_DEFINITION_DESCRIPTION, node.lines, None, message);
    }

    fn stage_names(&mut self, file: &Dockerfile) {
        let mut seen = BTreeSet::new();
        for stage in &file.stages {
            let (Some(name), Some(word)) = (stage.name(), &stage.name) else { continue };
            let at = (stage.place.lines, Some(word.span));
            if matches!(name.as_str(), "context" | "scratch") {
                let message = format!(
                    "Stage name should not use the same name as reserved stage {}",
                    go::quote(&name)
                );
                self.warn(rules::RESERVED_STAGE_NAME, at.0, at.1, message);
            }
            if !seen.insert(name.clone()) {
                let message = format!(
                    "Duplicate stage name {}, stage names should be unique",
                    go::quote(&name)
                );
                self.warn(rules::DUPLICATE_STAGE_NAME, at.0, at.1, message);
            }
        }
    }

    fn casing(&mut self, file: &Dockerfile) {
        let places: Vec<_> = file
            .stages
            .iter()
            .flat_map(|stage| {
                let instructions = stage.instructions.iter().map(|one| &one.place);
                std::iter::once(&stage.place).chain(instructions)
            })
            .collect();
        let count = |wanted| {
            places.iter().filter(|place| casing(&place.keyword.text) == Some(wanted)).count()
        };
        let lower = count(Casing::Lower) > count(Casing::Upper);
        for place in places {
            let name = &place.keyword.text;
            let (right, wanted) = if lower {
                (name.to_lowercase(), "lowercase")
            } else {
                (name.to_uppercase(), "uppercase")
            };
            if *name != right {
                let message = format!(
                    "Command '{name}' should match the case of the command majority ({wanted})"
                );
                let span = Some(place.keyword.span);
                self.warn(rules::CONSISTENT_INSTRUCTION_CASING, place.lines, span, message);
            }
        }
    }

    /// Whether bases have names when nothing is given on the command line.
    fn default_args(&mut self, file: &Dockerfile) {
        let request = self.request;
        // What overrides a platform is not taken away, as it is no default of the file.
        let platforms: BuildArgs = request
            .build_args
            .iter()
            .filter(|(name, _)| name.starts_with("BUILD") || name.starts_with("TARGET"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let target = request.target.as_deref();
        let Ok(global) = Global::new(file, &request.platforms, &platforms, target) else { return };
        for stage in &file.stages {
            let Ok(base) = global.expand(&stage.base) else { return };
            if base.text.parse::<Reference>().is_err() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base
                );
                let span = Some(stage.base.span);
                self.warn(rules::INVALID_DEFAULT_ARG_IN_FROM, stage.place.lines, span, message);
            }
        }
    }

    fn from(&mut self, stage: &Stage, global: &Global) {
        let lines = stage.place.lines;
        self.undeclared(&stage.base, global, lines);
        let Some(platform) = &stage.platform else { return };
        self.undeclared(platform, global, lines);
        // What cannot be expanded is an error soon.
        let Ok(expansion) = global.expand(platform) else { return };
        let span = Some(platform.span);
        if expansion.unset.is_empty()
            && expansion.used.iter().eq(["TARGETPLATFORM"])
            && global.env.get("TARGETPLATFORM") == Some(&expansion.text)
        {
            let message = format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the \
                 default behavior"
            );
            self.warn(rules::REDUNDANT_TARGET_PLATFORM, lines, span, message);
        }
        if expansion.unset.is_empty()
            && expansion.used.is_empty()
            && let Ok(parsed) = stages::platform(&expansion.text)
        {
            let name = stage.name().unwrap_or_default();
            if !name.contains(&parsed.os) && !name.contains(&parsed.architecture) {
                let message = format!(
                    "FROM --platform flag should not use constant value {}",
                    go::quote(&expansion.text)
                );
                self.warn(rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, lines, span, message);
            }
        }
    }

    fn undeclared(&mut self, word: &Word, global: &Global, lines: Lines) {
        // An expansion that fails still asked for names.
        let unset = match global.expand(word) {
            Ok(expansion) => expansion.unset,
            Err(_) => return,
        };
        let declared = || global.args.iter().map(|arg| arg.name.as_str()).chain(global.env.names());
        for name in unset {
            if declared().any(|known| known == name) {
                continue;
            }
            let near = suggest::hint(suggest::nearest(&name, declared()));
            let message = format!("FROM argument '{name}' is not declared{near}");
            self.warn(rules::UNDEFINED_ARG_IN_FROM, lines, Some(word.span), message);
        }
    }

    fn stage(
        &mut self,
        at: usize,
        stage: &Stage,
        global: &Global,
        stages: &mut Stages,
        before: &[After],
    ) -> Result<After, Error> {
        let mut state = self.base(at, stage, stages, before);
        let known = state.env.is_some();
        let mut scope = Scope::new(global, state.env.take().unwrap_or_default());
        scope.args = std::mem::take(&mut state.args);
        let mut triggers = Vec::new();
        for expression in std::mem::take(&mut state.triggers) {
            let trigger = instruction::parse_trigger(&expression, &stage.place)?;
            stages.add_trigger(at, &trigger)?;
            triggers.push(trigger);
        }
        let mut last: BTreeMap<&str, (Lines, Span)> = BTreeMap::new();
        for instruction in triggers.iter().chain(&stage.instructions) {
            self.before_expansion(instruction);
            // What fails still asked for names; the error says the rest.
            let expanded = scope.expand(instruction)?;
            if known {
                self.undefined(instruction, &expanded, &scope);
            }
            self.once(instruction, &mut last);
            self.after_expansion(instruction, &expanded, &mut state)?;
            self.sources(at, instruction, &expanded, stages)?;
        }
        state.env = known.then_some(scope.env);
        state.args = scope.args;
        Ok(state)
    }

    /// What a stage begins with.
    fn base(&mut self, at: usize, stage: &Stage, stages: &Stages, before: &[After]) -> After {
        let resolved = &stages.stages[at];
        let mut state = match &resolved.base {
            Origin::Stage(base) => before.get(*base).cloned().unwrap_or_default(),
            Origin::Scratch => After { env: Some(Env::default()), ..After::default() },
            Origin::Context(_) | Origin::Packages(_) => After::default(),
            Origin::Image(name) => {
                let wanted = resolved.platform.as_ref().unwrap_or(&self.request.platforms.target);
                let Some(image) = self.facts.image(name, wanted) else { return After::default() };
                if let Some(actual) = &image.platform
                    && (actual.os != wanted.os || actual.architecture != wanted.architecture)
                {
                    let message = format!(
                        "Base image {} was pulled with platform {}, expected {} for current build",
                        resolved.base_name,
                        go::quote(&actual.to_string()),
                        go::quote(&wanted.to_string())
                    );
                    let span = Some(stage.base.span);
                    self.warn(rules::INVALID_BASE_IMAGE_PLATFORM, stage.place.lines, span, message);
                }
                After {
                    env: Some(Env::of_config(&image.env)),
                    has_shell: !image.shell.is_empty(),
                    triggers: image.onbuild,
                    ..After::default()
                }
            }
        };
        if let Some(env) = &mut state.env
            && env.get("PATH").is_none()
        {
            env.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        state
    }

    fn undefined(&mut self, instruction: &Instruction, expanded: &Expanded, scope: &Scope<'_>) {
        for (name, word) in &expanded.unset {
            let near = suggest::nearest(name, scope.env.names());
            let near = near.map(|near| format!("${near}"));
            let hint = suggest::hint(near.as_deref());
            let message = format!("Usage of undefined variable '${name}'{hint}");
            let lines = instruction.place.lines;
            self.warn(rules::UNDEFINED_VAR, lines, Some(word.span), message);
        }
    }

    fn before_expansion(&mut self, instruction: &Instruction) {
        let place = &instruction.place;
        match &instruction.kind {
            Kind::Env(pairs) | Kind::Label(pairs) => {
                let keyword = &place.keyword;
                for pair in pairs {
                    if pair.legacy {
                        let message = format!(
                            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} \
                             key value\" format"
                        );
                        let span = Some(pair.key.span.to(pair.value.span));
                        self.warn(rules::LEGACY_KEY_VALUE_FORMAT, place.lines, span, message);
                    }
                }
            }
            Kind::Arg(args) => {
                for arg in args {
                    self.secret("ARG", &arg.name, place.lines);
                }
            }
            _ => {}
        }
    }

    fn secret(&mut self, keyword: &str, name: &Word, lines: Lines) {
        if is_secret(&name.text) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {})",
                go::quote(&name.text)
            );
            self.warn(rules::SECRETS_USED_IN_ARG_OR_ENV, lines, Some(name.span), message);
        }
    }

    /// Of these only the last of a stage counts.
    fn once<'i>(
        &mut self,
        instruction: &'i Instruction,
        last: &mut BTreeMap<&'i str, (Lines, Span)>,
    ) {
        let name = instruction.kind.name();
        if !matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
            return;
        }
        let keyword = &instruction.place.keyword;
        if let Some((lines, span)) = last.insert(name, (instruction.place.lines, keyword.span)) {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only \
                 the last one will be used"
            );
            self.warn(rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, lines, Some(span), message);
        }
    }

    fn after_expansion(
        &mut self,
        instruction: &Instruction,
        expanded: &Expanded,
        state: &mut After,
    ) -> Result<(), Error> {
        let place = &instruction.place;
        let lines = place.lines;
        let error = |problem: Problem, word: &Word| Error::new(problem, lines).at(word.span);
        match &expanded.kind {
            Kind::Env(pairs) => {
                for pair in pairs {
                    self.secret("ENV", &pair.key, lines);
                }
            }
            Kind::Cmd(CommandLine::Shell(line)) | Kind::Entrypoint(CommandLine::Shell(line))
                if !state.has_shell =>
            {
                let message = format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to \
                     OS signals",
                    place.keyword
                );
                self.warn(rules::JSON_ARGS_RECOMMENDED, lines, Some(line.span), message);
            }
            Kind::Shell(_) => state.has_shell = true,
            Kind::Onbuild(onbuild) => state.triggers.push(onbuild.expression.clone()),
            Kind::Workdir(path) => {
                if !state.workdir_set && !path.text.starts_with('/') {
                    let message = format!(
                        "Relative workdir {} can have unexpected results if the base image changes",
                        go::quote(&path.text)
                    );
                    self.warn(rules::WORKDIR_RELATIVE_PATH, lines, Some(path.span), message);
                }
                state.workdir_set = true;
            }
            Kind::Expose(ports) => {
                for word in ports {
                    let exposed =
                        values::port(&word.text).map_err(|problem| error(problem, word))?;
                    if exposed.upper_case {
                        let message = format!(
                            "Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                        );
                        self.warn(rules::EXPOSE_PROTO_CASING, lines, Some(word.span), message);
                    }
                    if exposed.names_host {
                        let message = format!(
                            "EXPOSE instruction should not define an IP address or host-port \
                             mapping, found '{word}'"
                        );
                        self.warn(rules::EXPOSE_INVALID_FORMAT, lines, Some(word.span), message);
                    }
                }
            }
            Kind::Stopsignal(word) => {
                values::signal(&word.text).map_err(|problem| error(problem, word))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What `COPY`, `ADD` and mounts take, and from where.
    fn sources(
        &mut self,
        at: usize,
        instruction: &Instruction,
        expanded: &Expanded,
        stages: &Stages,
    ) -> Result<(), Error> {
        let place = &instruction.place;
        match &expanded.kind {
            Kind::Copy(copy) => {
                let error =
                    |problem, word: &Word| Err(Error::new(problem, place.lines).at(word.span));
                for source in &copy.transfer.sources {
                    match values::source_kind(&source.text) {
                        SourceKind::Git => return error(Problem::CopyGit, source),
                        SourceKind::Http => return error(Problem::CopyUrl, source),
                        SourceKind::Local => {}
                    }
                }
                self.permissions(&copy.transfer, place.lines)?;
                match &copy.from {
                    Some(from) => {
                        stages.copy_from(at, place, from)?;
                    }
                    None => self.left_out("Copy", &copy.transfer, place.lines),
                }
            }
            Kind::Add(add) => {
                self.permissions(&add.transfer, place.lines)?;
                if let Some(checksum) = &add.checksum {
                    let error = |problem| Err(Error::new(problem, place.lines).at(checksum.span));
                    match add.transfer.sources.as_slice() {
                        [one] if values::source_kind(&one.text) == SourceKind::Local => {
                            return error(Problem::ChecksumKind);
                        }
                        [_] => {}
                        _ => return error(Problem::ChecksumSources),
                    }
                }
                self.left_out("Add", &add.transfer, place.lines);
            }
            Kind::Run(_) => {
                for mount in &expanded.mounts {
                    stages.mount_from(at, place, mount)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn permissions(&self, transfer: &Transfer, lines: Lines) -> Result<(), Error> {
        let Some(word) = &transfer.chmod else { return Ok(()) };
        match values::mode(&word.text) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Error::new(problem, lines).at(word.span)),
        }
    }

    fn left_out(&mut self, verb: &str, transfer: &Transfer, lines: Lines) {
        let Some(matcher) = self.facts.ignored() else { return };
        // A directory that is left out may have exceptions in it.
        if matcher.is_empty() || matcher.has_exceptions() {
            return;
        }
        let mut found = Vec::new();
        for source in &transfer.sources {
            if values::source_kind(&source.text) != SourceKind::Local {
                continue;
            }
            let path = glob::clean(&source.text);
            let ignored = match path.as_str() {
                "." | "/" => matcher.ignores_all(),
                path => matcher.is_ignored(path.trim_start_matches('/')),
            };
            if ignored {
                found.push((path, source.span));
            }
        }
        for (path, span) in found {
            let message = format!(
                "Attempting to {verb} file {} that is excluded by .dockerignore",
                go::quote(&path)
            );
            self.warn(rules::COPY_IGNORED_FILE, lines, Some(span), message);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
}

fn casing(keyword: &str) -> Option<Casing> {
    if keyword == keyword.to_lowercase() {
        Some(Casing::Lower)
    } else {
        (keyword == keyword.to_uppercase()).then_some(Casing::Upper)
    }
}

/// Words of a name that say it is secret, and those that say it is not.
const SECRET: &[&str] = &[
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const NOT_SECRET: &[&str] = &["public", "file", "version"];

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(SECRET) && !has(NOT_SECRET)
}

#[cfg(test)]
mod tests;
