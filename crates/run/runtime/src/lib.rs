//! The OCI runtime: plans a bundle, then makes it a process.
//!
//! [`Plan::new`] decides (pure, all checks), [`create`] acts, [`Created::start`] lets the program
//! run. The library keeps no global state and can be used from any process.

#![forbid(unsafe_code)]

mod call;
mod container;
mod control;
mod cover;
mod error;
mod exec;
mod features;
mod hooks;
mod hotplug;
mod init;
mod lsm;
mod manage;
mod net;
mod op;
mod options;
mod plan;
mod rdt;
mod record;
mod spawn;
mod state;
mod update;
mod wire;

pub use container::{Created, Running, create};
pub use control::{Stored, delete, kill, state};
pub use error::{Error, Result};
pub use exec::{ExecOptions, Executed};
pub use features::{features, template};
pub use hako_cgroup::Join;
pub use hako_sys::process::ExitStatus;
pub use manage::{Container, Listed};
pub use op::Step;
pub use options::{CgroupDriver, Console, Gate, Options, RefusedLimits, Stdio};
pub use plan::{Plan, check_id};
pub use record::Recorder;
pub use state::rfc3339;
pub use update::Changes;
