//! What a Dockerfile says, typed: stages of instructions, each of which knows its lines and words.
//!
//! Words are as they were written: variables are expanded later, stage by stage
//! ([`crate::scope`]), because what they are is known only then.

use std::time::Duration;

use crate::source::{Lines, Span, Word};

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// Parser directives, as they stand.
    pub directives: Vec<Directive>,
    /// What escapes, and continues a line.
    pub escape: Escape,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// Stages in order. A Dockerfile that was read has one at least.
    pub stages: Vec<Stage>,
    /// Instructions whose continuation lines have empty lines among them.
    pub empty_continuations: Vec<Lines>,
}

/// A parser directive, as `# syntax=docker/dockerfile:1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// `syntax`, `escape` or `check`.
    pub name: String,
    /// Everything behind the equals sign.
    pub value: String,
    /// The line it stands on.
    pub line: usize,
}

/// The character that escapes another, and a line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`.
    #[default]
    Backslash,
    /// A backtick, for Windows.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// Where an instruction stands, and how it was written.
#[derive(Debug, Clone)]
pub struct Place {
    /// The instruction's name as it was written.
    pub keyword: Word,
    /// All its lines, with those of its heredocs.
    pub lines: Lines,
    /// The instruction on one line, without its heredocs: what progress and history show.
    pub original: String,
    /// Comments directly above, without their number signs.
    pub comments: Vec<String>,
}

/// Where it stands is not what it says; how its name is cased is.
impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.keyword == other.keyword && self.comments == other.comments
    }
}

/// `FROM`, and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The `FROM`.
    pub place: Place,
    /// An image, an earlier stage, or `scratch`; with variables.
    pub base: Word,
    /// Its name as it was written. See [`Stage::name`].
    pub name: Option<Word>,
    /// `AS`, as it was written.
    pub as_keyword: Option<Word>,
    /// `--platform`, with variables.
    pub platform: Option<Word>,
    /// What follows.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The name that others know it by: lower case.
    pub fn name(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.text.to_lowercase())
    }

    /// What a comment above says of it: `# <name> <description>`.
    pub fn description(&self) -> Option<&str> {
        description(&self.place.comments, &self.name()?)
    }
}

/// The description of `name` among the comments above an instruction.
pub(crate) fn description<'a>(comments: &'a [String], name: &str) -> Option<&'a str> {
    let of = |comment: &'a String| comment.strip_prefix(name)?.strip_prefix(' ');
    comments.iter().find_map(of)
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Each is the instruction of that name.
pub enum Kind {
    Add(Add),
    Arg(Vec<Arg>),
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Vec<Word>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `NAME` or `NAME=VALUE` of an `ARG`.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Its name.
    pub name: Word,
    /// Its default, with quotes and variables.
    pub value: Option<Word>,
    /// What a comment above says of it.
    pub description: Option<String>,
}

/// `KEY=VALUE` of an `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Its name, with quotes and variables.
    pub key: Word,
    /// Its value, with quotes and variables.
    pub value: Word,
    /// Whether it was written as `KEY VALUE`.
    pub legacy: bool,
}

/// A command: a line for the shell, or the arguments themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandLine {
    /// Handed to the shell as it is.
    Shell(Word),
    /// `["a", "b"]`: executed without a shell.
    Exec(Vec<Word>),
}

/// Lines between `<<NAME` and `NAME`.
#[derive(Debug, Clone)]
pub struct Heredoc {
    /// What ends it; for `COPY` also the file's name.
    pub name: String,
    /// The number before `<<`.
    pub file_descriptor: u64,
    /// Whether variables in it are expanded: no part of the name was quoted.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines are not part of it.
    pub chomp: bool,
    /// Its lines as they stand, tabs included; not necessarily UTF-8.
    pub content: Vec<u8>,
    /// Where its lines stand.
    pub span: Span,
}

impl PartialEq for Heredoc {
    fn eq(&self, other: &Heredoc) -> bool {
        self.name == other.name
            && self.file_descriptor == other.file_descriptor
            && self.expand == other.expand
            && self.chomp == other.chomp
            && self.content == other.content
    }
}

impl Heredoc {
    /// Its content, without the tabs that `<<-` takes.
    pub fn text(&self) -> Vec<u8> {
        if self.chomp { crate::heredoc::without_tabs(&self.content) } else { self.content.clone() }
    }
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What is run. `<<NAME` is still in it.
    pub command: CommandLine,
    /// The heredocs it names, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, each as it was written: its values have variables.
    /// [`crate::mount::parse`] reads them.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The build's.
    #[default]
    Default,
    /// Nothing but loopback.
    None,
    /// The host's; needs the entitlement `network.host`.
    Host,
}

/// How a `RUN` is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// As containers are.
    #[default]
    Sandbox,
    /// With all privileges; needs the entitlement `security.insecure`.
    Insecure,
}

/// A CDI device of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`, a class, or a name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// What `COPY` and `ADD` copy, and where to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transfer {
    /// Paths, for `ADD` also URLs and git repositories.
    pub sources: Vec<Word>,
    /// Heredocs, each a file of its name.
    pub documents: Vec<Heredoc>,
    /// Where they go.
    pub destination: Word,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`: octal, or symbolic.
    pub chmod: Option<Word>,
    /// `--link`: in a layer of its own, independent of those below.
    pub link: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<Word>,
    /// Whether it was written as `["a", "b"]`.
    pub json: bool,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Add {
    /// What, and where to.
    pub transfer: Transfer,
    /// `--checksum`: a digest of a URL's content, or a commit.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`. Not said means no.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`. Not said means that archives from the context are unpacked, and those from
    /// URLs are not.
    pub unpack: Option<bool>,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Copy {
    /// What, and where to.
    pub transfer: Transfer,
    /// `--from`: a stage, its number, a named context or an image. Has no variables.
    pub from: Option<Word>,
    /// `--parents`: directories above sources are made too, from `/./` on.
    pub parents: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq)]
pub enum Healthcheck {
    /// `NONE`: the base image's is switched off.
    None,
    /// `CMD`.
    Check {
        /// What is run.
        command: CommandLine,
        /// `--interval`. Nothing and zero mean the default, here and below.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`.
        retries: Option<u32>,
    },
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    /// The instruction for later, with its heredocs: what the image's configuration holds.
    pub expression: String,
    /// The name of that instruction, as it was written.
    pub trigger: Word,
}

impl Kind {
    /// The instruction's name in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}
