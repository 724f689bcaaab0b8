//! `monitor.json`, and the other names in a container's run directory.
//!
//! ```text
//! config.json    the OCI bundle
//! monitor.json   Config
//! lock           flock'ed exclusively by the monitor while it lives; its pid is in it
//! attach.sock    where clients connect, 0600
//! ```

use std::path::{Path, PathBuf};

use hako_oci::runtime::Mount;
use serde::{Deserialize, Serialize};

/// Name of [`Config`] in the run directory.
pub const CONFIG_NAME: &str = "monitor.json";
/// Name of the monitor's lock in the run directory.
pub const LOCK_NAME: &str = "lock";
/// Name of the socket in the run directory.
pub const SOCKET_NAME: &str = "attach.sock";

/// What a monitor is told to do. The run directory is the bundle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// The container's ID.
    pub id: String,
    /// State directory of the runtime.
    pub runtime_root: PathBuf,
    /// What is mounted on the bundle's root directory inside the container's mount namespace.
    pub rootfs_mounts: Vec<Mount>,
    /// Whether the container has a stdin other than /dev/null (`-i`).
    pub stdin_open: bool,
    /// Whether stdin ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// The log; none is kept where absent.
    pub log: Option<LogConfig>,
    /// Where the exit record goes.
    pub exit_file: PathBuf,
    /// What is executed after the container's end, when no client said `Own`.
    pub on_exit: Vec<String>,
    /// Whether the container's first process is hako's init (`--init`).
    pub init: bool,
    /// Whether the container is killed when nobody owns it any more: it is a step of something.
    pub tied: bool,
}

/// A log in Docker's json-file format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogConfig {
    /// The file; rotated ones are beside it as `.1`, `.2` and so on.
    pub path: PathBuf,
    /// Size at which it is rotated; never where absent.
    pub max_bytes: Option<u64>,
    /// How many files are kept, the current one included; 1 where 0.
    pub max_files: u32,
}

impl Config {
    /// The lock of the run directory `dir`.
    pub fn lock_path(dir: &Path) -> PathBuf {
        dir.join(LOCK_NAME)
    }

    /// The socket of the run directory `dir`.
    pub fn socket_path(dir: &Path) -> PathBuf {
        dir.join(SOCKET_NAME)
    }
}
