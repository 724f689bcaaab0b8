//! `docker version` and `docker info`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null_default;

/// `docker version --format json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// This program as a client.
    pub client: Client,
    /// The engine.
    pub server: Option<Server>,
}

/// The client's half of [`Version`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Client {
    /// Version of the program.
    pub version: String,
    /// Version of the API that it speaks.
    pub api_version: String,
    /// The commit it was built from.
    pub git_commit: String,
    /// When it was built.
    pub build_time: String,
    /// Operating system.
    pub os: String,
    /// Processor.
    pub arch: String,
    /// What else it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context: String,
}

/// The engine's half of [`Version`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Server {
    /// Who makes it.
    pub platform: Named,
    /// Its parts.
    #[serde(deserialize_with = "null_default")]
    pub components: Vec<Component>,
    /// Version of the engine.
    pub version: String,
    /// Version of the API that it speaks.
    pub api_version: String,
    /// Oldest version of the API that it speaks.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// The commit it was built from.
    pub git_commit: String,
    /// Operating system.
    pub os: String,
    /// Processor.
    pub arch: String,
    /// The kernel.
    pub kernel_version: String,
    /// When it was built.
    pub build_time: String,
}

/// Go's `struct{ Name string }`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// A part of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What else it says of itself.
    #[serde(deserialize_with = "null_default")]
    pub details: BTreeMap<String, String>,
}

/// `docker info --format json`. Fields of swarm and of Windows are not among them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// ID of the installation.
    #[serde(rename = "ID")]
    pub id: String,
    /// How many containers there are.
    pub containers: u64,
    /// How many of them run.
    pub containers_running: u64,
    /// How many are paused.
    pub containers_paused: u64,
    /// How many are stopped.
    pub containers_stopped: u64,
    /// How many images there are.
    pub images: u64,
    /// The snapshotter.
    pub driver: String,
    /// What the snapshotter says of itself, name and value.
    #[serde(deserialize_with = "null_default")]
    pub driver_status: Vec<[String; 2]>,
    /// Whether memory can be limited.
    pub memory_limit: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether processor time can be limited, by period.
    #[serde(rename = "CpuCfsPeriod")]
    pub cpu_cfs_period: bool,
    /// Whether processor time can be limited, by quota.
    #[serde(rename = "CpuCfsQuota")]
    pub cpu_cfs_quota: bool,
    /// Whether processor time can be shared by weight.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Whether processors can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Whether the number of processes can be limited.
    pub pids_limit: bool,
    /// Whether the kernel forwards packets of IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Whether this is a debug build.
    pub debug: bool,
    /// Open files of this process.
    pub n_fd: u64,
    /// Whether the out-of-memory killer can be turned off.
    pub oom_kill_disable: bool,
    /// What time it is.
    pub system_time: String,
    /// How containers log.
    pub logging_driver: String,
    /// Who makes cgroups.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// The kernel.
    pub kernel_version: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Version of the distribution.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// Operating system, in Go's words.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// Processor, in the kernel's words.
    pub architecture: String,
    /// How many processors.
    #[serde(rename = "NCPU")]
    pub ncpu: u64,
    /// How much memory.
    pub mem_total: u64,
    /// The store.
    pub docker_root_dir: String,
    /// Host name.
    pub name: String,
    /// Labels of the installation.
    #[serde(deserialize_with = "null_default")]
    pub labels: Vec<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// Version of the engine.
    pub server_version: String,
    /// Runtimes by name.
    #[serde(deserialize_with = "null_default")]
    pub runtimes: BTreeMap<String, Runtime>,
    /// The runtime that is used where none is named.
    pub default_runtime: String,
    /// What is put before a container's process by `--init`.
    pub init_binary: String,
    /// Security features in use, as `name=seccomp,profile=builtin`.
    #[serde(deserialize_with = "null_default")]
    pub security_options: Vec<String>,
    /// What is missing, with its consequence.
    #[serde(deserialize_with = "null_default")]
    pub warnings: Vec<String>,
}

/// A runtime of [`Info`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Where its program is.
    pub path: String,
}
