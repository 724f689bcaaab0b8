//! How a container ended, and the record of it.

use serde::{Deserialize, Serialize};

/// How a container's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code as Docker counts: 128+n after signal n.
    pub code: i32,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed something in it for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
}

/// The exit record, written once, atomically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// How it ended; a container that could not be started has the code only.
    #[serde(flatten)]
    pub exit: Exit,
    /// Its process on the host; 0 where none was started.
    pub pid: i32,
    /// When it was started, RFC 3339 with nanoseconds; empty where it was not.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// What went wrong; empty where nothing did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
