//! Why a Dockerfile cannot be read, in BuildKit's words, and where.

use std::fmt;

use crate::{
    expand, go,
    source::{Lines, Span},
    suggest,
};

/// An error, and the place it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub problem: Box<Problem>,
    /// The lines of the instruction.
    pub lines: Lines,
    /// The words that are wrong, where it is some.
    pub span: Option<Span>,
    /// Whether it was the text that could not be read, or an instruction of it: BuildKit's
    /// messages differ.
    pub(crate) of_instruction: bool,
}

impl Error {
    /// An error of some lines.
    pub fn new(problem: impl Into<Problem>, lines: Lines) -> Error {
        Error { problem: Box::new(problem.into()), lines, span: None, of_instruction: false }
    }

    /// The same, of these words.
    pub fn at(mut self, span: Span) -> Error {
        if !span.is_empty() {
            self.span = Some(span);
        }
        self
    }

    pub(crate) fn of_instruction(mut self) -> Error {
        self.of_instruction = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of_instruction {
            write!(f, "dockerfile parse error on line {}: ", self.lines.first)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for Error {}

/// What is wrong with a Dockerfile. Texts are BuildKit's, because scripts look for them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // Each says what it is.
pub enum Problem {
    // The text.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    #[error("file with no instructions")]
    NoInstructions,
    #[error("dockerfile contains no stages to build")]
    NoStages,
    #[error("dockerfile line greater than max allowed size of 65535")]
    LongLine,
    #[error("line is not valid UTF-8")]
    NotUtf8,
    #[error("only one {0} parser directive can be used")]
    DirectiveTwice(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", go::quote(.0))]
    NoEqualsSign(String),

    // Instructions.
    #[error("unknown instruction: {name}{}", suggest::hint(.near.as_deref()))]
    UnknownInstruction { name: String, near: Option<String> },
    #[error("no build stage in current context")]
    NoStage,
    #[error("{0} requires at least one argument")]
    AtLeastOneArgument(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOneArgument(&'static str),
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be \
         determined"
    )]
    NoDestination(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        go::quote(.0)
    )]
    StageName(String),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildOnbuild,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("onbuild trigger should be a single expression")]
    OnbuildExpression,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", go::quote(.0))]
    HealthcheckType(String),
    #[error("Interval {} cannot be less than 1ms", go::quote(.0))]
    ShortInterval(&'static str),
    #[error("{0}")]
    Duration(#[from] go::DurationError),
    #[error("strconv.ParseInt: parsing {}: {why}", go::quote(.text))]
    Retries { text: String, why: &'static str },
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,

    // Flags.
    #[error("arg should start with -- : {0}")]
    NotAFlag(String),
    #[error("unknown flag: {name}{}", suggest::hint(*.near))]
    UnknownFlag { name: String, near: Option<&'static str> },
    #[error("duplicate flag specified: {0}")]
    FlagTwice(String),
    #[error("missing a value on flag: {0}")]
    FlagValue(String),
    #[error("expecting boolean value for flag {0}, not: {1}")]
    FlagBoolean(String, String),
    #[error("invalid network mode {}", go::quote(.0))]
    Network(String),
    #[error("security {} is not valid", go::quote(.0))]
    Security(String),
    #[error("failed to parse csv {0}: {1}")]
    Csv(&'static str, &'static str),
    #[error("invalid field '{0}' must be a key=value pair")]
    Field(String),
    #[error("unexpected key '{key}' in '{field}'{}", suggest::hint(*.near))]
    Key { key: String, field: String, near: Option<&'static str> },
    #[error("device name already set to {0}")]
    DeviceName(String),
    #[error("invalid value for {0}: {1}")]
    KeyValue(String, String),
    #[error("invalid value {1} for {0}")]
    KeyNumber(&'static str, String),
    #[error("unexpected key '{0}' for mount type '{1}'")]
    KeyForType(String, &'static str),
    #[error("unsupported mount type {}{}", go::quote(.name), suggest::hint(*.near))]
    MountType { name: String, near: Option<&'static str> },
    #[error("unsupported sharing value {}{}", go::quote(.name), suggest::hint(*.near))]
    Sharing { name: String, near: Option<&'static str> },
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    MountFromVariable,
    #[error("{0} not allowed for {1:?} type mounts")]
    NotForMount(&'static str, &'static str),
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount. one of source, target required")]
    SecretNothing,
    #[error("both source and id can't be set")]
    SecretSourceAndId,
    #[error("invalid cache sharing set for {0} mount")]
    SharingForType(&'static str),
    #[error("invalid mount target {}", go::quote(.0))]
    MountTarget(String),

    // What instructions mean.
    #[error(transparent)]
    Expand(#[from] expand::Error),
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    #[error("failed to process arguments for platform {0}: {1}")]
    PlatformArguments(String, expand::Error),
    #[error("empty platform value from expression {expression}{}", suggest::hint(.near.as_deref()))]
    EmptyPlatform { expression: String, near: Option<String> },
    #[error("failed to parse platform {expression}: {why}{}", suggest::hint(.near.as_deref()))]
    Platform { expression: String, why: hako_oci::platform::Error, near: Option<String> },
    #[error("failed to parse stage name {}: {why}", go::quote(.name))]
    Base { name: String, why: hako_oci::reference::Error },
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG \
         from global scope as a workaround"
    )]
    FromVariable,
    #[error("invalid stage index {0}")]
    StageIndex(i64),
    #[error("circular dependency detected on stage: {0}")]
    Circular(String),
    #[error(
        "cannot copy from stage {}, it needs to be defined before current stage {}",
        go::quote(.from),
        go::quote(.stage)
    )]
    LaterStage { from: String, stage: String },
    #[error(
        "cannot mount from stage {}, it needs to be defined before current stage {}",
        go::quote(.from),
        go::quote(.stage)
    )]
    LaterMount { from: String, stage: String },
    #[error("target stage {} could not be found{}", go::quote(.name), suggest::hint(.near.as_deref()))]
    Target { name: String, near: Option<String> },
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Chmod(String),
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumKind,
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    #[error("invalid port: {}: {why}", go::quote(.port))]
    Port { port: String, why: String },
    #[error("{0}")]
    PortRange(String),
    #[error("invalid signal: {0}")]
    Signal(String),
    #[error("parsing produced an invalid run command: {0:?}")]
    RunHeredoc(Vec<String>),
}
