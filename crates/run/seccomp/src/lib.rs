//! Seccomp profiles compiled to BPF.
//!
//! [`compile`] turns `linux.seccomp` of `config.json` into a filter for the kernel: one program for
//! all architectures of the profile, deciding by a balanced tree. [`docker_default`] is the profile
//! that Docker gives to containers, and [`docker_profile`] reads the format in which Docker's users
//! write their own.
//!
//! ```
//! use hako_seccomp::compile;
//!
//! let profile = serde_json::from_str(
//!     r#"{"defaultAction": "SCMP_ACT_ALLOW",
//!         "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]}"#,
//! ).unwrap();
//! let program = compile(&profile).unwrap();
//! assert!(program.filter.len() < 20);
//! assert!(program.unknown.is_empty());
//! ```

#![forbid(unsafe_code)]

mod arch;
mod cache;
mod docker;
mod docker_default;
mod emit;
mod lower;
mod profile;
mod syscalls;

#[cfg(test)]
mod tests;

use hako_oci::runtime;
pub use hako_sys::seccomp::Insn;

pub use crate::{
    arch::{Arch, Call},
    cache::Cache,
    docker::{Context, ProfileError, docker_profile, kernel_version},
    docker_default::docker_default,
    profile::words,
};

/// Why a profile cannot be compiled. Paths are those of `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A word that the specification does not have.
    #[error("{path}: unknown {kind} {word:?}")]
    Word {
        /// What the word should be.
        kind: &'static str,
        /// The word.
        word: String,
        /// Where it stands.
        path: String,
    },
    /// A name, or a list of names, that is empty.
    #[error("{0}: is empty")]
    Empty(String),
    /// An argument that no system call has.
    #[error("{1}: {0} is not 0 to 5")]
    Argument(u32, String),
    /// An error number that the kernel cannot return.
    #[error("{path}: errnoRet {errno} is more than {max}")]
    Errno {
        /// The number.
        errno: u32,
        /// The greatest that there can be.
        max: u32,
        /// Where the action stands.
        path: String,
    },
    /// Every call would be asked about, those of the listener's set-up included.
    #[error("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default")]
    DefaultNotify,
    /// The process could no longer say what went wrong: it says so by write(2).
    #[error("{0}: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    WriteNotify(String),
    /// Notifications that nobody would read.
    #[error("linux.seccomp.listenerPath: is needed, because a rule has SCMP_ACT_NOTIFY")]
    NoListener,
    /// More instructions than the kernel takes.
    #[error("linux.seccomp: the program has {instructions} instructions, the kernel takes {max}")]
    TooLong {
        /// How many it has.
        instructions: usize,
        /// How many it may have.
        max: usize,
    },
    /// hako was compiled for an architecture without seccomp.
    #[error("linux.seccomp: not available on this architecture")]
    Unsupported,
}

impl Error {
    fn word(kind: &'static str, word: &str, path: String) -> Error {
        Error::Word { kind, word: word.to_owned(), path }
    }
}

/// A filter, and how it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions, for [`hako_sys::seccomp::load`].
    pub filter: Vec<Insn>,
    /// The flags to load it with. `FLAG_NEW_LISTENER` is among them where a rule notifies; the
    /// descriptor that loading returns then goes to `listener_path`.
    pub flags: u32,
    /// The socket that gets the listener.
    pub listener_path: Option<String>,
    /// What the listener is told with it.
    pub listener_metadata: Option<String>,
    /// Names in the profile that are no system call of any architecture that hako knows. Like
    /// runc and crun, hako leaves them out; whoever loads the program may want to say so.
    pub unknown: Vec<String>,
}

impl Program {
    /// Whether loading it returns a listener.
    pub fn notifies(&self) -> bool {
        self.flags & hako_sys::seccomp::FLAG_NEW_LISTENER != 0
    }
}

/// Compiles a profile for this machine and the further architectures that it lists.
pub fn compile(profile: &runtime::Seccomp) -> Result<Program, Error> {
    compile_for(Arch::native().ok_or(Error::Unsupported)?, profile)
}

/// Compiles a profile as on a machine of architecture `native`.
///
/// Calls of architectures that are neither `native` nor listed kill the process.
pub fn compile_for(native: Arch, source: &runtime::Seccomp) -> Result<Program, Error> {
    let profile = profile::Profile::new(native, source)?;
    let (groups, blocks) = lower::lower(&profile);
    let filter = emit::emit(&groups, &blocks, profile.default)?;
    Ok(Program {
        filter,
        flags: profile.flags,
        listener_path: source.listener_path.clone().filter(|p| !p.is_empty()),
        listener_metadata: source.listener_metadata.clone().filter(|m| !m.is_empty()),
        unknown: profile.unknown.iter().map(|&n| n.to_owned()).collect(),
    })
}
