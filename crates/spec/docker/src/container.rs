//! `docker inspect` of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Config, HostConfig, null_default};

/// One container of `docker inspect`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What is executed.
    pub path: String,
    /// With which arguments.
    #[serde(deserialize_with = "null_default")]
    pub args: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// ID of its image.
    pub image: String,
    /// Its `/etc/resolv.conf` on the host.
    pub resolv_conf_path: String,
    /// Its `/etc/hostname` on the host.
    pub hostname_path: String,
    /// Its `/etc/hosts` on the host.
    pub hosts_path: String,
    /// Its log.
    pub log_path: String,
    /// Its name, after a slash.
    pub name: String,
    /// How often it was started again by policy.
    pub restart_count: i64,
    /// The snapshotter.
    pub driver: String,
    /// Operating system.
    pub platform: String,
    /// SELinux label of its files.
    pub mount_label: String,
    /// SELinux label of its processes.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Running `exec`s; `null` for none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What the host gives it.
    pub host_config: HostConfig,
    /// Where its files are.
    pub graph_driver: GraphDriver,
    /// Bytes that it wrote; with `--size` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of all its files; with `--size` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// What is mounted in it.
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<MountPoint>,
    /// What it runs.
    pub config: Config,
    /// Its network.
    pub network_settings: NetworkSettings,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// It runs; also while it is paused.
    pub running: bool,
    /// It is frozen.
    pub paused: bool,
    /// It is being started again.
    pub restarting: bool,
    /// The kernel killed a process of it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// It could not be removed.
    pub dead: bool,
    /// Its process on the host, 0 where it does not run.
    pub pid: i64,
    /// Its last exit code.
    pub exit_code: i64,
    /// Why it could not start.
    pub error: String,
    /// When it was last started, RFC 3339.
    pub started_at: String,
    /// When it last ended, RFC 3339.
    pub finished_at: String,
}

/// Where a snapshotter has something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// Its directories, by role; `null` for none.
    pub data: Option<BTreeMap<String, String>>,
    /// The snapshotter.
    pub name: String,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is mounted.
    pub source: String,
    /// Where.
    pub destination: String,
    /// Who keeps the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as the user wrote them.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// How mounts propagate.
    pub propagation: String,
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// The bridge.
    pub bridge: String,
    /// Name of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// The network namespace, as a file.
    pub sandbox_key: String,
    /// Published ports.
    pub ports: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    /// Address of the default network.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of that network's prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u32,
    /// Gateway of the default network.
    pub gateway: String,
    /// Address of the network card.
    pub mac_address: String,
    /// Networks by name.
    #[serde(deserialize_with = "null_default")]
    pub networks: BTreeMap<String, Endpoint>,
}

/// Where a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Address of the host.
    pub host_ip: String,
    /// Port of the host.
    pub host_port: String,
}

/// A container's end of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// Further names.
    pub aliases: Option<Vec<String>>,
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// This end of it.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Gateway.
    pub gateway: String,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of the network's prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u32,
    /// Gateway of IPv6.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Address of IPv6.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of that network's prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u32,
    /// Address of the network card.
    pub mac_address: String,
}
