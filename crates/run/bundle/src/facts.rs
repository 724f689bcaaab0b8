//! What a bundle depends on beside image and options: given, never looked up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything around one container that its config.json depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The container's ID, 64 hexadecimal digits.
    pub id: &'a str,
    /// `/etc/passwd` of the image; empty where there is none.
    pub passwd: &'a [u8],
    /// `/etc/group` of the image; empty where there is none.
    pub group: &'a [u8],
    /// Directory of the host that holds `hosts`, `hostname` and `resolv.conf` of this container.
    pub files_dir: &'a Path,
    /// Directories of named volumes, and of anonymous ones by their target.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// Init processes of the containers whose namespaces are joined, by the word the user wrote.
    pub containers: &'a BTreeMap<String, i32>,
    /// The machine.
    pub machine: &'a Machine,
}

/// Traits of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Processors online.
    pub cpus: u32,
    /// Whether cgroup v2 has the controllers.
    pub cgroup_v2: bool,
    /// The bounding set: capabilities that can be given at all, a bit each.
    pub capabilities: u64,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}
