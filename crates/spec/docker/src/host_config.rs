//! What a container is given by its host: `HostConfig` of `docker inspect`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{container::PortBinding, null_default};

/// What the host gives a container. Fields of Windows are not among them, except where scripts
/// read them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Bind mounts, as `-v` takes them; `null` for none.
    pub binds: Option<Vec<String>>,
    /// File that the container's ID was written to.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// How it logs.
    pub log_config: LogConfig,
    /// Its network: `none`, `host`, `default` ...
    pub network_mode: String,
    /// Published ports.
    pub port_bindings: Option<BTreeMap<String, Vec<PortBinding>>>,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Who keeps volumes.
    pub volume_driver: String,
    /// Containers whose volumes it has too.
    pub volumes_from: Option<Vec<String>>,
    /// Rows and columns of its terminal.
    pub console_size: [u16; 2],
    /// Annotations of the runtime specification.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub annotations: BTreeMap<String, String>,
    /// Capabilities more than the default.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities less than the default.
    pub cap_drop: Option<Vec<String>>,
    /// `private` or `host`.
    pub cgroupns_mode: String,
    /// Name servers.
    #[serde(deserialize_with = "null_default")]
    pub dns: Vec<String>,
    /// Options of the resolver.
    #[serde(deserialize_with = "null_default")]
    pub dns_options: Vec<String>,
    /// Domains to search.
    #[serde(deserialize_with = "null_default")]
    pub dns_search: Vec<String>,
    /// Further lines of `/etc/hosts`.
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups.
    pub group_add: Option<Vec<String>>,
    /// IPC namespace.
    pub ipc_mode: String,
    /// Parent cgroup.
    pub cgroup: String,
    /// Linked containers.
    pub links: Option<Vec<String>>,
    /// What the out-of-memory killer thinks of it.
    pub oom_score_adj: i64,
    /// PID namespace.
    pub pid_mode: String,
    /// Whether it may do nearly everything.
    pub privileged: bool,
    /// Whether all exposed ports are published.
    pub publish_all_ports: bool,
    /// Whether its root file system is read-only.
    pub readonly_rootfs: bool,
    /// Security options, as `seccomp=unconfined`.
    pub security_opt: Option<Vec<String>>,
    /// tmpfs mounts, by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub tmpfs: BTreeMap<String, String>,
    /// UTS namespace.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// User namespace.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub sysctls: BTreeMap<String, String>,
    /// The runtime.
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Weight of processor time.
    pub cpu_shares: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Weight of block input and output.
    pub blkio_weight: u16,
    /// The same by device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes a second to read, by device.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes a second to write, by device.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Operations a second to read, by device.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Operations a second to write, by device.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds of a period of processor time.
    pub cpu_period: i64,
    /// Microseconds of processor time in a period.
    pub cpu_quota: i64,
    /// The same for real-time processes.
    pub cpu_realtime_period: i64,
    /// The same for real-time processes.
    pub cpu_realtime_runtime: i64,
    /// Processors it may use.
    pub cpuset_cpus: String,
    /// Memory nodes it may use.
    pub cpuset_mems: String,
    /// Devices.
    pub devices: Option<Vec<Device>>,
    /// Rules for devices, as `c 1:3 rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Bytes of memory that reclaim leaves it.
    pub memory_reservation: i64,
    /// Bytes of memory and swap.
    pub memory_swap: i64,
    /// How eagerly the kernel swaps it.
    pub memory_swappiness: Option<i64>,
    /// Whether the out-of-memory killer spares it.
    pub oom_kill_disable: Option<bool>,
    /// How many processes.
    pub pids_limit: Option<i64>,
    /// Limits of its processes.
    #[serde(deserialize_with = "null_default")]
    pub ulimits: Vec<Ulimit>,
    /// Mounts, as `--mount` takes them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub mounts: Vec<Mount>,
    /// Paths that it cannot see.
    #[serde(deserialize_with = "null_default")]
    pub masked_paths: Vec<String>,
    /// Paths that it cannot write.
    #[serde(deserialize_with = "null_default")]
    pub readonly_paths: Vec<String>,
    /// Whether a small init is its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// How a container logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file`, `none` ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its options.
    #[serde(deserialize_with = "null_default")]
    pub config: BTreeMap<String, String>,
}

/// When a container is started again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// How often at most, after failures.
    pub maximum_retry_count: i64,
}

/// A weight of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// The device's file.
    pub path: String,
    /// The weight.
    pub weight: u16,
}

/// A rate of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// The device's file.
    pub path: String,
    /// The rate.
    pub rate: u64,
}

/// A device given to a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Device {
    /// On the host.
    pub path_on_host: String,
    /// In the container.
    pub path_in_container: String,
    /// `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// A limit of processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// As `nofile`.
    pub name: String,
    /// What a process may raise its limit to.
    pub hard: i64,
    /// What it begins with.
    pub soft: i64,
}

/// A mount, as `--mount` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where.
    pub target: String,
    /// Whether it cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}
