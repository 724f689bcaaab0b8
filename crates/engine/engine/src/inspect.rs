//! `inspect`: everything known of a container, as Docker's API says it.

use std::collections::BTreeMap;

use hako_bundle::{
    CgroupnsMode, IpcMode, MountRequest, MountSource, NamespaceMode, NetworkMode, SeccompChoice,
};
use hako_docker::{
    Config, HostConfig,
    config::Empty,
    container::{self, Endpoint, GraphDriver, MountPoint, NetworkSettings, State},
    host_config::{Device, LogConfig, RestartPolicy, Ulimit},
};
use hako_monitor::time::Timestamp;
use hako_snapshot::Snapshotter as _;

use crate::{Container, Engine, Result, Running, Status};

/// What Docker writes for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// The document of `docker inspect` for one container.
    pub fn inspect(&self, container: &Container) -> Result<container::Container> {
        let status = self.status(container)?;
        let record = &container.record;
        let dir = self.places().container_dir(&container.id);
        let file = |name: &str| dir.join(name).display().to_string();
        let mut argv = hako_bundle::args(&record.options, &record.config).unwrap_or_default();
        let path = if argv.is_empty() { String::new() } else { argv.remove(0) };
        let driver = self.snapshots()?.name().to_owned();
        Ok(container::Container {
            id: container.id.clone(),
            created: container.created(),
            path,
            args: argv,
            state: state(&status),
            image: container.image_id.to_string(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: match record.no_log {
                true => String::new(),
                false => self.log_path(&container.id).display().to_string(),
            },
            name: format!("/{}", container.name),
            driver: driver.clone(),
            platform: "linux".into(),
            app_armor_profile: record.options.security.apparmor.clone().unwrap_or_default(),
            host_config: host_config(container),
            graph_driver: GraphDriver { name: driver, data: None },
            mounts: record.options.mounts.iter().map(mount_point).collect(),
            config: config(container),
            network_settings: NetworkSettings {
                networks: BTreeMap::from([(
                    network_mode(&record.options.network),
                    Endpoint::default(),
                )]),
                ..NetworkSettings::default()
            },
            ..container::Container::default()
        })
    }
}

impl Container {
    /// When it was made, RFC 3339.
    pub fn created(&self) -> String {
        let second = 1_000_000_000;
        Timestamp {
            seconds: self.created_ns.div_euclid(second),
            nanoseconds: self.created_ns.rem_euclid(second) as u32,
        }
        .to_string()
    }
}

fn state(status: &Status) -> State {
    let mut state = State {
        status: status.word().into(),
        running: status.is_running(),
        paused: status.word() == "paused",
        started_at: NEVER.into(),
        finished_at: NEVER.into(),
        ..State::default()
    };
    let set = |field: &mut String, time: &str| {
        if !time.is_empty() {
            *field = time.to_owned();
        }
    };
    match status {
        Status::Created(None) => {}
        Status::Running(Running { pid, started_at, .. }) => {
            state.pid = pid.unwrap_or(0).into();
            set(&mut state.started_at, started_at);
        }
        Status::Created(Some(record)) | Status::Exited(record) => {
            state.exit_code = record.exit.code.into();
            state.oom_killed = record.exit.oom_killed;
            state.error = record.error.clone();
            set(&mut state.started_at, &record.started_at);
            set(&mut state.finished_at, &record.finished_at);
        }
    }
    state
}

fn config(container: &Container) -> Config {
    let (record, image) = (&container.record, &container.record.config);
    let options = &record.options;
    let command = match &options.command[..] {
        // An entrypoint of the user's own has no use for the image's arguments.
        [] if options.entrypoint.is_some() => None,
        [] => image.cmd.clone(),
        words => Some(words.to_vec()),
    };
    Config {
        hostname: options.hostname.clone().unwrap_or_else(|| container.short_id().to_owned()),
        domainname: options.domainname.clone().unwrap_or_default(),
        user: options.user.clone().unwrap_or_else(|| image.user.clone()),
        attach_stdin: record.attached[0],
        attach_stdout: record.attached[1],
        attach_stderr: record.attached[2],
        exposed_ports: empties(image.exposed_ports.keys()),
        tty: options.tty,
        open_stdin: options.stdin_open,
        stdin_once: record.attached[0],
        env: Some(hako_bundle::environment(options, image)),
        cmd: command,
        image: record.image.clone(),
        volumes: (!image.volumes.is_empty()).then(|| empties(image.volumes.keys())),
        working_dir: options.workdir.clone().unwrap_or_else(|| image.working_dir.clone()),
        entrypoint: options.entrypoint.clone().or_else(|| image.entrypoint.clone()),
        labels: Some(container.labels()),
        stop_signal: match options.stop_signal {
            Some(number) => number.to_string(),
            None => image.stop_signal.clone().unwrap_or_default(),
        },
        stop_timeout: options.stop_timeout_seconds,
        ..Config::default()
    }
}

fn empties<'a>(keys: impl Iterator<Item = &'a String>) -> BTreeMap<String, Empty> {
    keys.map(|key| (key.clone(), Empty {})).collect()
}

fn host_config(container: &Container) -> HostConfig {
    let record = &container.record;
    let options = &record.options;
    let limits = &options.limits;
    HostConfig {
        binds: some(options.mounts.iter().filter_map(bind).collect()),
        log_config: LogConfig {
            kind: if record.no_log { "none" } else { "json-file" }.into(),
            config: log_options(container),
        },
        network_mode: network_mode(&options.network),
        port_bindings: Some(BTreeMap::new()),
        restart_policy: RestartPolicy { name: "no".into(), maximum_retry_count: 0 },
        auto_remove: record.auto_remove,
        annotations: options.annotations.clone(),
        cap_add: some(options.cap_add.clone()),
        cap_drop: some(options.cap_drop.clone()),
        cgroupns_mode: match options.cgroupns {
            Some(CgroupnsMode::Host) => "host".into(),
            Some(CgroupnsMode::Private) | None => "private".into(),
        },
        dns: options.dns.servers.clone(),
        dns_options: options.dns.options.clone(),
        dns_search: options.dns.search.clone(),
        extra_hosts: some(
            options.extra_hosts.iter().map(|h| format!("{}:{}", h.name, h.address)).collect(),
        ),
        group_add: some(options.group_add.clone()),
        ipc_mode: ipc_mode(&options.ipc),
        oom_score_adj: options.oom_score_adj.unwrap_or(0).into(),
        pid_mode: namespace_mode(&options.pid),
        privileged: options.privileged,
        readonly_rootfs: options.rootfs_readonly,
        security_opt: some(security(container)),
        tmpfs: options.mounts.iter().filter_map(tmpfs).collect(),
        uts_mode: namespace_mode(&options.uts),
        userns_mode: if options.userns_host { "host" } else { "" }.into(),
        shm_size: options.shm_bytes.map_or(hako_bundle::SHM_BYTES_DEFAULT as i64, |n| n as i64),
        sysctls: options.sysctls.clone(),
        runtime: "hako-runc".into(),
        cpu_shares: limits.cpu_shares.unwrap_or(0),
        memory: limits.memory_bytes.unwrap_or(0),
        nano_cpus: limits.nano_cpus.unwrap_or(0),
        cgroup_parent: options.cgroup_parent.clone().unwrap_or_default(),
        blkio_weight: limits.blkio_weight.unwrap_or(0),
        cpu_period: limits.cpu_period.unwrap_or(0),
        cpu_quota: limits.cpu_quota.unwrap_or(0),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        devices: some(options.devices.iter().map(device).collect()),
        memory_reservation: limits.memory_reservation_bytes.unwrap_or(0),
        memory_swap: limits.memory_swap_bytes.unwrap_or(0),
        memory_swappiness: limits.memory_swappiness,
        oom_kill_disable: Some(limits.oom_kill_disable),
        pids_limit: limits.pids,
        ulimits: options.ulimits.iter().map(ulimit).collect(),
        init: options.init.then_some(true),
        ..HostConfig::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn bind(mount: &MountRequest) -> Option<String> {
    let MountSource::Bind(bind) = &mount.source else { return None };
    let mode = if mount.readonly { ":ro" } else { "" };
    Some(format!("{}:{}{mode}", bind.path.display(), mount.target))
}

fn tmpfs(mount: &MountRequest) -> Option<(String, String)> {
    let MountSource::Tmpfs(tmpfs) = &mount.source else { return None };
    Some((mount.target.clone(), tmpfs.options.join(",")))
}

fn security(container: &Container) -> Vec<String> {
    let security = &container.record.options.security;
    let mut words: Vec<String> = security.labels.iter().map(|l| format!("label={l}")).collect();
    match &security.seccomp {
        SeccompChoice::Default => {}
        SeccompChoice::Unconfined => words.push("seccomp=unconfined".into()),
        SeccompChoice::Profile(text) => words.push(format!("seccomp={text}")),
    }
    if let Some(profile) = &security.apparmor {
        words.push(format!("apparmor={profile}"));
    }
    if security.no_new_privileges {
        words.push("no-new-privileges".into());
    }
    words
}

fn device(device: &hako_bundle::DeviceRequest) -> Device {
    Device {
        path_on_host: device.host.display().to_string(),
        path_in_container: device.container.display().to_string(),
        cgroup_permissions: device.access.clone(),
    }
}

fn ulimit(limit: &hako_oci::runtime::Rlimit) -> Ulimit {
    Ulimit {
        name: limit.kind.trim_start_matches("RLIMIT_").to_lowercase(),
        // Docker writes "no limit" as -1.
        hard: limit.hard as i64,
        soft: limit.soft as i64,
    }
}

fn log_options(container: &Container) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    if let Some(bytes) = container.record.log_bytes_max {
        options.insert("max-size".into(), bytes.to_string());
    }
    if container.record.log_files_max > 0 {
        options.insert("max-file".into(), container.record.log_files_max.to_string());
    }
    options
}

fn mount_point(mount: &MountRequest) -> MountPoint {
    let mut point = MountPoint {
        destination: mount.target.clone(),
        mode: if mount.readonly { "ro".into() } else { String::new() },
        rw: !mount.readonly,
        ..MountPoint::default()
    };
    match &mount.source {
        MountSource::Bind(bind) => {
            point.kind = "bind".into();
            point.source = bind.path.display().to_string();
            point.propagation = bind.propagation.clone().unwrap_or_else(|| "rprivate".into());
        }
        MountSource::Tmpfs(_) => point.kind = "tmpfs".into(),
        MountSource::Volume(volume) => {
            point.kind = "volume".into();
            point.name = volume.name.clone().unwrap_or_default();
        }
    }
    point
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::Container(name) => format!("container:{name}"),
    }
}

fn namespace_mode(mode: &NamespaceMode) -> String {
    match mode {
        NamespaceMode::Private => String::new(),
        NamespaceMode::Host => "host".into(),
        NamespaceMode::Container(name) => format!("container:{name}"),
    }
}

fn ipc_mode(mode: &IpcMode) -> String {
    match mode {
        IpcMode::Private => "private".into(),
        IpcMode::Shareable => "shareable".into(),
        IpcMode::None => "none".into(),
        IpcMode::Host => "host".into(),
        IpcMode::Container(name) => format!("container:{name}"),
    }
}
