//! What a user can ask of a container: every flag of `run` that shapes its config.json.
//!
//! A value of these types is already checked as far as it can be checked alone; what only makes
//! sense beside the image, the machine, or another option is checked by [`crate::bundle`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use hako_oci::runtime::{DeviceCgroup, Rlimit};
use serde::{Deserialize, Serialize};

/// A user's wishes. `Default` is `docker run IMAGE` without a flag.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunOptions {
    /// Words after the image; the image's command where empty.
    pub command: Vec<String>,
    /// `--entrypoint`: one word, the empty word for "none"; the image's where absent.
    pub entrypoint: Option<Vec<String>>,
    /// `--env-file` and `-e`, in the order of their effect.
    pub env: Vec<EnvChange>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub stdin_open: bool,
    /// `-v`, `--mount`, `--tmpfs`.
    pub mounts: Vec<MountRequest>,
    /// `--read-only`.
    pub rootfs_readonly: bool,
    /// `--cap-add`: `ALL` or names as `CAP_CHOWN`, made by [`crate::capability::parse`].
    pub cap_add: Vec<String>,
    /// `--cap-drop`, as `cap_add`.
    pub cap_drop: Vec<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `--security-opt`.
    pub security: Security,
    /// `--memory`, `--cpus` and kin.
    pub limits: Limits,
    /// `--ulimit`.
    pub ulimits: Vec<Rlimit>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--device`.
    pub devices: Vec<DeviceRequest>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<DeviceCgroup>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--init`.
    pub init: bool,
    /// `--network`.
    pub network: NetworkMode,
    /// `--pid`.
    pub pid: NamespaceMode,
    /// `--ipc`.
    pub ipc: IpcMode,
    /// `--uts`.
    pub uts: NamespaceMode,
    /// Whether `--userns=host` was said: no other user namespace is known yet.
    pub userns_host: bool,
    /// `--cgroupns`; where absent, private on cgroup v2 and the host's on v1, as Docker.
    pub cgroupns: Option<CgroupnsMode>,
    /// `--cgroup-parent`; `/hako` where absent.
    pub cgroup_parent: Option<String>,
    /// `--shm-size`; 64 MiB where absent.
    pub shm_bytes: Option<u64>,
    /// `--stop-signal`, a number.
    pub stop_signal: Option<i32>,
    /// `--stop-timeout` in seconds; -1 waits for ever.
    pub stop_timeout_seconds: Option<i64>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--label` and `--label-file`.
    pub labels: BTreeMap<String, String>,
    /// `--add-host`: names and addresses, as they go into /etc/hosts.
    pub extra_hosts: Vec<ExtraHost>,
    /// `--dns`, `--dns-search`, `--dns-option`.
    pub dns: Dns,
}

/// One change to the image's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvChange {
    /// `NAME=value`.
    Set(String, String),
    /// `NAME` that the caller does not have: taken away from the image's.
    Unset(String),
}

/// One mount that a user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountRequest {
    /// Absolute, clean path in the container.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Whether it is read-only.
    pub readonly: bool,
}

/// What a [`MountRequest`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A path of the host.
    Bind(Bind),
    /// A volume, which the engine must resolve.
    Volume(VolumeRef),
    /// Memory.
    Tmpfs(Tmpfs),
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Whether a missing source becomes a directory: yes for `-v`, no for `--mount`.
    pub create: bool,
    /// Propagation, `rprivate` where absent.
    pub propagation: Option<String>,
    /// What becomes of mounts beneath the source.
    pub recursive: BindRecursive,
    /// `z` or `Z`: an SELinux relabel that was asked for.
    pub relabel: Option<Relabel>,
}

/// `bind-recursive` of `--mount`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BindRecursive {
    /// Mounts beneath come along, read-only with the bind where the kernel can.
    #[default]
    Enabled,
    /// Mounts beneath stay out.
    Disabled,
    /// Mounts beneath come along and stay writable.
    Writable,
    /// Mounts beneath come along and must become read-only.
    Readonly,
}

/// How content is labelled for SELinux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relabel {
    /// `z`: shared among containers.
    Shared,
    /// `Z`: this container's alone.
    Private,
}

/// A volume by name, or a new one without a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeRef {
    /// Its name; anonymous where absent.
    pub name: Option<String>,
    /// Whether the image's content is left out of a new volume.
    pub nocopy: bool,
    /// A directory within the volume.
    pub subpath: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
    /// Labels of a new volume.
    pub labels: BTreeMap<String, String>,
}

/// A memory file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tmpfs {
    /// Mount options as written, checked; later ones win over Docker's defaults.
    pub options: Vec<String>,
}

/// `--security-opt`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Security {
    /// `seccomp=`.
    pub seccomp: SeccompChoice,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `apparmor=`.
    pub apparmor: Option<String>,
    /// `label=` words, in order.
    pub labels: Vec<String>,
    /// `systempaths=unconfined`: nothing of /proc and /sys is masked or read-only.
    pub system_paths_unconfined: bool,
}

/// `--security-opt seccomp=`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeccompChoice {
    /// Docker's profile (none where privileged).
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// The text of a profile file, Docker's or the runtime specification's form.
    Profile(String),
}

/// `--memory`, `--cpus` and kin. Zero has been turned into absence.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// `--memory`.
    pub memory_bytes: Option<i64>,
    /// `--memory-swap`; -1 for no limit.
    pub memory_swap_bytes: Option<i64>,
    /// `--memory-reservation`.
    pub memory_reservation_bytes: Option<i64>,
    /// `--memory-swappiness`.
    pub memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cpus`, in billionths.
    pub nano_cpus: Option<i64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<i64>,
    /// `--cpu-quota`.
    pub cpu_quota: Option<i64>,
    /// `--cpu-period`.
    pub cpu_period: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; -1 for no limit.
    pub pids: Option<i64>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u16>,
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRequest {
    /// Device or directory of devices on the host.
    pub host: PathBuf,
    /// Path in the container.
    pub container: PathBuf,
    /// Some of `rwm`.
    pub access: String,
}

/// `--network`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// A network namespace with a loopback interface only.
    #[default]
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// `--pid`, `--uts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// `--ipc`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IpcMode {
    /// Its own, with its own /dev/shm.
    #[default]
    Private,
    /// Its own, which others may join.
    Shareable,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Another container's, which is shareable.
    Container(String),
}

/// `--cgroupns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupnsMode {
    /// The host's.
    Host,
    /// Its own.
    Private,
}

/// `--add-host NAME:ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraHost {
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
}

/// What goes into /etc/resolv.conf beside or instead of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dns {
    /// Servers; the host's where empty.
    pub servers: Vec<String>,
    /// Search domains; the host's where empty, none where `.`.
    pub search: Vec<String>,
    /// Options; the host's where empty.
    pub options: Vec<String>,
}
