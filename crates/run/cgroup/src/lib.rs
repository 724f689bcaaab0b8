//! Control groups: v1, v2, and both at once (hybrid).
//!
//! [`Host::detect`] looks at what is mounted; [`Plan::new`] decides, without any effect, which
//! directories to make and which values to write; [`Plan::create`] does it, and is undone when its
//! result is dropped before [`Created::keep`].
//!
//! Which v1 hierarchies a container joins: each costs mkdir, attach and rmdir, about 70 µs in all,
//! so it joins those that do something for it: `memory` always (what is used cannot be counted
//! afterwards), `devices`, and those that its limits need. Freezing, killing, processor time, the
//! number of threads and being born in the right cgroup come from v2, where that is mounted beside
//! v1; where it is not, `freezer`, `cpuacct` and `pids` are joined too. A later [`Cgroup::update`]
//! joins what it needs. [`Join::All`] joins everything, as runc does.
//!
//! Devices: where v1 has the controller it is used, also beside v2. An eBPF program takes as long
//! (the kernel checks it for 100 µs), and needs one more thing of the kernel.
//!
//! ```no_run
//! use hako_cgroup::{Host, Join, Plan, Request};
//!
//! let host = Host::detect()?;
//! let request = Request { path: Some("/hako/web"), id: "web", resources: None, join: Join::Needed };
//! let created = Plan::new(&host, &request)?.create()?;
//! created.cgroup().attach(std::process::id() as i32)?;
//! let cgroup = created.keep();
//! println!("{:?}", cgroup.pids()?);
//! # Ok::<(), hako_cgroup::Error>(())
//! ```

#![forbid(unsafe_code)]

mod cgroup;
mod control;
mod delegate;
mod device_program;
pub mod devices;
mod host;
mod oom;
mod plan;
#[cfg(test)]
mod plan_tests;
pub mod stats;
mod stats_more;
mod sys;
pub mod systemd;
mod thaw;
mod v1;
mod v2;

use std::path::PathBuf;

use hako_sys::Errno;

pub use crate::{
    cgroup::{Cgroup, Created},
    device_program::compile as device_program,
    host::{Controller, Controllers, Hierarchy, Host, Mode, Unified},
    oom::OomWatch,
    plan::{Directory, Join, Plan, Request, Write},
    thaw::{Thawed, thaw_around},
    v2::weight_of_shares,
};

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Fields are those of `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No hierarchy has the controller.
    #[error("{field}: this machine has no cgroup controller `{controller}`")]
    Missing {
        /// The controller.
        controller: Controller,
        /// What asks for it.
        field: String,
    },
    /// Something that only cgroup v1 can.
    #[error("{field}: cgroup v2 has no such limit")]
    NotInV2 {
        /// What asks for it.
        field: String,
    },
    /// Something that only cgroup v2 can, and only v1 is mounted.
    #[error("{field}: invalid configuration: needs cgroup v2, which is not mounted")]
    NoV2 {
        /// What asks for it.
        field: String,
    },
    /// A file of cgroup v2 whose controller v1 has taken.
    #[error("{field}: invalid configuration: cgroup v2 has no controller `{controller}` here")]
    NotOnV2 {
        /// The controller.
        controller: Controller,
        /// What asks for it.
        field: String,
    },
    /// A value that means nothing.
    #[error("{field}: {why}")]
    Invalid {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A directory could not be made.
    #[error("create cgroup {path}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The cgroup has processes of someone else.
    #[error("create cgroup {path}: container's cgroup is not empty: {pids} process(es) found")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// How many.
        pids: usize,
    },
    /// The cgroup is frozen: no process of it would ever run.
    #[error("create cgroup {path}: container's cgroup unexpectedly frozen")]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused a value.
    #[error("{field}: write {value:?} to {path}{}", hint(.path, *.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// What asks for it.
        field: String,
        /// Why.
        source: Errno,
    },
    /// A memory limit that is less than what is used.
    #[error("linux.resources.memory.limit: {limit} bytes are less than the {used} in use")]
    BelowUsage {
        /// The limit.
        limit: u64,
        /// What is used.
        used: u64,
    },
    /// A controller could not be handed down to a cgroup of v2.
    #[error("enable cgroup controllers {controllers:?} in {path}")]
    Enable {
        /// The file.
        path: PathBuf,
        /// The value.
        controllers: String,
        /// Why.
        source: Errno,
    },
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A process could not be moved.
    #[error("move process {pid} to cgroup {path}")]
    Attach {
        /// The process.
        pid: i32,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A cgroup could not be given to another user.
    #[error("give {path} to user {uid}")]
    Delegate {
        /// The directory or a file in it.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// Why.
        source: Errno,
    },
    /// The device program could not be loaded or attached.
    #[error("linux.resources.devices: {call} for {path}")]
    Devices {
        /// The call.
        call: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A process could not be sent a signal.
    #[error("send signal {signal} to process {pid} of cgroup {path}")]
    Signal {
        /// The signal.
        signal: i32,
        /// The process.
        pid: i32,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The kernel did not come to the state that was asked for.
    #[error("cgroup {path} is not {state} after {milliseconds} ms")]
    Timeout {
        /// The directory.
        path: PathBuf,
        /// The state.
        state: &'static str,
        /// How long it was waited for.
        milliseconds: u64,
    },
    /// Nothing can freeze this cgroup.
    #[error("cgroup of {path}: neither v2 nor the v1 freezer is there")]
    NoFreezer {
        /// One of its directories.
        path: PathBuf,
    },
    /// systemd could not be reached, or refused.
    #[error("systemd: {what}: {why}")]
    Systemd {
        /// What was to be done, or who was spoken to.
        what: String,
        /// What it said, or what went wrong.
        why: String,
    },
    /// Directories that are still there.
    #[error("remove cgroup {path}{}", more(*.others))]
    Remove {
        /// The first one.
        path: PathBuf,
        /// Why.
        source: Errno,
        /// How many more there are.
        others: usize,
    },
}

impl Error {
    pub(crate) fn invalid(field: String, why: String) -> Error {
        Error::Invalid { field, why }
    }

    /// Whether the kernel said that the caller may not.
    pub fn is_permission(&self) -> bool {
        let denied = |e: &Errno| matches!(*e, Errno::EPERM | Errno::EACCES | Errno::EROFS);
        match self {
            Error::Create { source, .. }
            | Error::Write { source, .. }
            | Error::Enable { source, .. }
            | Error::Attach { source, .. }
            | Error::Devices { source, .. } => denied(source),
            _ => false,
        }
    }
}

fn hint(path: &std::path::Path, errno: Errno) -> &'static str {
    match (path.file_name().and_then(|f| f.to_str()), errno) {
        (Some("memory.limit_in_bytes"), Errno::EBUSY) => " (the limit is below what is in use)",
        (Some(file), Errno::ENOENT) if file.contains("memsw") || file.contains("swap") => {
            " (the kernel does not account swap: swapaccount=1)"
        }
        _ => "",
    }
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more)") }
}
