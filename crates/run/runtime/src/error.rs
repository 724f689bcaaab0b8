//! What can go wrong, as values that a caller can act on.

use std::path::PathBuf;

use hako_oci::state::Status;
use hako_sys::Errno;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something that is not valid.
    #[error("config.json: {field}: {reason}")]
    Config {
        /// Path of the value, as `linux.namespaces[2].type`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document is not what it should be.
    #[error("{}: {reason}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A call of the runtime itself failed, before or beside the container.
    #[error("{call}({object}): {errno}")]
    Call {
        /// The system call, or what was being done.
        call: &'static str,
        /// What it was done to.
        object: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A step in the new process failed.
    #[error("{field}: {call}({object}): {errno}{note}")]
    Step {
        /// Index in the plan's steps.
        step: usize,
        /// The system call.
        call: &'static str,
        /// What it was done to.
        object: String,
        /// The value of config.json that asked for it.
        field: String,
        /// Why it failed.
        errno: Errno,
        /// What else is known: the file system's own words, or a hint; empty or ` (…)`.
        note: String,
    },
    /// The container's program cannot be executed.
    #[error("exec: {program:?}: {}", exec_reason(program, *errno, *searched))]
    Exec {
        /// `process.args[0]`.
        program: String,
        /// Whether it was looked up in `PATH`.
        searched: bool,
        /// Why not.
        errno: Errno,
    },
    /// The new process died without a word.
    #[error("container's process ended during set-up: {0}")]
    Died(String),
    /// A hook failed.
    #[error("error running {kind} hook #{index}: {path}: {reason}")]
    Hook {
        /// As `createRuntime`.
        kind: &'static str,
        /// Index in its list.
        index: usize,
        /// Its program.
        path: String,
        /// How it ended, and what it printed.
        reason: String,
    },
    /// The ID cannot name a container.
    #[error(
        "invalid container ID format: {0:?}: 1 to 1024 of letters, digits and _+-. are allowed, and not '.' or '..'"
    )]
    InvalidId(String),
    /// There is a container of this ID.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// There is none.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// The container is in a state that forbids the operation.
    #[error("{}", state_reason(verb, id, *status))]
    State {
        /// The operation.
        verb: &'static str,
        /// The container.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Another process works on the container.
    #[error("container {0} is being changed by another process")]
    Busy(String),
    /// The container's control groups could not be made, changed or removed.
    #[error(transparent)]
    Cgroup(#[from] hako_cgroup::Error),
    /// The seccomp profile cannot be compiled.
    #[error("config.json: {0}")]
    Seccomp(#[from] hako_seccomp::Error),
    /// What was asked for cannot be had here.
    #[error("{0}")]
    Unsupported(String),
}

/// Engines find their exit codes in these words, which are runc's.
fn exec_reason(program: &str, errno: Errno, searched: bool) -> String {
    match errno {
        Errno::ENOENT if searched => "executable file not found in $PATH".to_owned(),
        Errno::ENOENT => format!("stat {program}: no such file or directory"),
        Errno::ENOTDIR => format!("stat {program}: not a directory"),
        Errno::EACCES => "permission denied".to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        // Docker knows the second half before 23, and either one since.
        Errno::EISDIR => "is a directory: permission denied".to_owned(),
        other => other.to_string(),
    }
}

/// The words that scripts around runc look for, where it has some.
fn state_reason(verb: &str, id: &str, status: Status) -> String {
    match (verb, status) {
        ("start", Status::Stopped) => "cannot start a container that has stopped".to_owned(),
        ("start", Status::Running) => "cannot start an already running container".to_owned(),
        ("kill" | "update", Status::Stopped) => "container not running".to_owned(),
        ("exec", Status::Stopped) => "cannot exec in a stopped container".to_owned(),
        ("exec", Status::Paused) => {
            "cannot exec in a paused container (use --ignore-paused to override)".to_owned()
        }
        ("pause", _) => "container not running or created".to_owned() + ": " + status.as_str(),
        ("resume", _) => "container not paused".to_owned(),
        ("delete", _) => {
            format!("cannot delete container {id} that is not stopped: {}", status.as_str())
        }
        _ => format!("cannot {verb} container {id}: it is {}", status.as_str()),
    }
}

impl Error {
    /// Exit status of a command that failed so, after the shell's and Docker's custom: 127 where
    /// the program was not found, 126 where it cannot be executed, 125 for the rest.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Exec { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Error::Exec { .. } => 126,
            _ => 125,
        }
    }

    /// The field of config.json that it is about, as `mounts[3].options[0]`, where there is one.
    pub fn field(&self) -> Option<String> {
        match self {
            Error::Config { field, .. } | Error::Step { field, .. } => Some(field.clone()),
            Error::Hook { kind, index, .. } => Some(format!("hooks.{kind}[{index}]")),
            Error::Exec { .. } => Some("process.args[0]".to_owned()),
            // Their words begin with the field, where they have one.
            Error::Cgroup(_) | Error::Seccomp(_) => {
                let text = self.to_string();
                let text = text.strip_prefix("config.json: ").unwrap_or(&text);
                let field = text.split(": ").next().filter(|field| field.starts_with("linux."));
                field.map(str::to_owned)
            }
            _ => None,
        }
    }

    /// Whether the container itself was at fault, or its surroundings, when its process was made:
    /// neither the command nor the state that it was given to.
    pub fn is_of_process(&self) -> bool {
        use Error::{Call, Cgroup, Died, Exec, Hook, Step};
        matches!(self, Call { .. } | Cgroup(_) | Died(_) | Exec { .. } | Hook { .. } | Step { .. })
    }

    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Config { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn call(call: &'static str, object: impl Into<String>, errno: Errno) -> Error {
        Error::Call { call, object: object.into(), errno }
    }

    pub(crate) fn io(
        call: &'static str,
        object: impl AsRef<std::path::Path>,
        error: &std::io::Error,
    ) -> Error {
        Error::call(call, object.as_ref().display().to_string(), Errno::of(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_engines_search() {
        let exec = |program: &str, errno| {
            let searched = !program.contains('/');
            Error::Exec { program: program.to_owned(), searched, errno }.to_string()
        };
        assert_eq!(exec("x", Errno::ENOENT), "exec: \"x\": executable file not found in $PATH");
        assert_eq!(exec("/x", Errno::ENOENT), "exec: \"/x\": stat /x: no such file or directory");
        assert_eq!(exec("/x", Errno::EACCES), "exec: \"/x\": permission denied");
        assert!(exec("/bin", Errno::EISDIR).ends_with("permission denied"));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let exec = |errno| Error::Exec { program: "x".into(), searched: true, errno };
        assert_eq!(exec(Errno::ENOENT).exit_code(), 127);
        assert_eq!(exec(Errno::EACCES).exit_code(), 126);
        assert_eq!(exec(Errno::ENOEXEC).exit_code(), 126);
        assert_eq!(Error::NotFound("x".into()).exit_code(), 125);
    }
}
