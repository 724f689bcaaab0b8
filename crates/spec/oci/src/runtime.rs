//! `config.json` (OCI Runtime Specification 1.3, config.md and config-linux.md).
//!
//! Plain data, all of the Linux part. Unlike the image documents these types do not keep unknown
//! fields: a bundle is read, never written back, and the container's start path reads it.
//! Numbers that the specification leaves signed (`-1` means "unlimited") are `i64`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Version of the specification that hako writes.
pub const VERSION: &str = "1.3.0";

macro_rules! document {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
        }
    };
}

document!(
    /// The whole document.
    Spec {
        /// Version of the specification it follows.
        oci_version: String,
        /// The container's root filesystem.
        #[serde(skip_serializing_if = "Option::is_none")]
        root: Option<Root>,
        /// Mounts, in order.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        mounts: Vec<Mount>,
        /// The process; may be absent until `start`.
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// Host name in the UTS namespace.
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// NIS domain name in the UTS namespace.
        #[serde(skip_serializing_if = "Option::is_none")]
        domainname: Option<String>,
        /// Hooks.
        #[serde(skip_serializing_if = "Option::is_none")]
        hooks: Option<Hooks>,
        /// Arbitrary metadata.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        annotations: BTreeMap<String, String>,
        /// The Linux part.
        #[serde(skip_serializing_if = "Option::is_none")]
        linux: Option<Linux>,
        /// Parts for other systems; hako refuses bundles that need them.
        #[serde(skip_serializing_if = "Option::is_none")]
        windows: Option<Value>,
        /// See `windows`.
        #[serde(skip_serializing_if = "Option::is_none")]
        solaris: Option<Value>,
        /// See `windows`.
        #[serde(skip_serializing_if = "Option::is_none")]
        zos: Option<Value>,
        /// See `windows`.
        #[serde(skip_serializing_if = "Option::is_none")]
        freebsd: Option<Value>,
        /// For runtimes that use a virtual machine.
        #[serde(skip_serializing_if = "Option::is_none")]
        vm: Option<Value>,
    }
);

document!(
    /// `root`.
    Root {
        /// Path of the root filesystem, absolute or relative to the bundle.
        path: String,
        /// Whether it is read-only inside.
        #[serde(skip_serializing_if = "is_false")]
        readonly: bool,
    }
);

document!(
    /// One of `mounts`.
    Mount {
        /// Where it goes, in the container.
        destination: String,
        /// File system type.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Device, or path on the host; relative to the bundle.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Mount options as of fstab.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
        /// Mappings of an idmapped mount.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        uid_mappings: Vec<IdMapping>,
        /// Mappings of an idmapped mount.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        gid_mappings: Vec<IdMapping>,
    }
);

document!(
    /// `process`.
    Process {
        /// Whether it has a terminal.
        #[serde(skip_serializing_if = "is_false")]
        terminal: bool,
        /// The terminal's size.
        #[serde(skip_serializing_if = "Option::is_none")]
        console_size: Option<ConsoleSize>,
        /// Working directory, absolute.
        cwd: String,
        /// Environment, `NAME=value`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        /// Program and arguments.
        #[serde(deserialize_with = "null_default")]
        args: Vec<String>,
        /// Command line on Windows.
        #[serde(skip_serializing_if = "Option::is_none")]
        command_line: Option<String>,
        /// Who it runs as.
        user: User,
        /// Resource limits.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        rlimits: Vec<Rlimit>,
        /// AppArmor profile.
        #[serde(skip_serializing_if = "Option::is_none")]
        apparmor_profile: Option<String>,
        /// Capabilities.
        #[serde(skip_serializing_if = "Option::is_none")]
        capabilities: Option<Capabilities>,
        /// Whether privileges can be gained by executing.
        #[serde(skip_serializing_if = "is_false")]
        no_new_privileges: bool,
        /// Adjustment of the out-of-memory score.
        #[serde(skip_serializing_if = "Option::is_none")]
        oom_score_adj: Option<i32>,
        /// Scheduling policy and its parameters.
        #[serde(skip_serializing_if = "Option::is_none")]
        scheduler: Option<Scheduler>,
        /// SELinux label.
        #[serde(skip_serializing_if = "Option::is_none")]
        selinux_label: Option<String>,
        /// Input and output priority.
        #[serde(skip_serializing_if = "Option::is_none")]
        io_priority: Option<IoPriority>,
        /// Processors of `exec`ed processes.
        #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
        exec_cpu_affinity: Option<CpuAffinity>,
    }
);

document!(
    /// `process.consoleSize`, in characters.
    ConsoleSize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    }
);

document!(
    /// `process.user`.
    User {
        /// User ID in the container.
        uid: u32,
        /// Group ID in the container.
        gid: u32,
        /// File mode creation mask.
        #[serde(skip_serializing_if = "Option::is_none")]
        umask: Option<u32>,
        /// Supplementary groups.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        additional_gids: Vec<u32>,
        /// User name, on Windows.
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<String>,
    }
);

document!(
    /// One of `process.rlimits`.
    Rlimit {
        /// Name, as `RLIMIT_NOFILE`.
        #[serde(rename = "type")]
        kind: String,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    }
);

document!(
    /// `process.capabilities`: five sets of names as `CAP_CHOWN`.
    Capabilities {
        /// What can ever be had.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        bounding: Vec<String>,
        /// What is in force.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        effective: Vec<String>,
        /// What files can hand on.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        inheritable: Vec<String>,
        /// What can be put in force.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        permitted: Vec<String>,
        /// What survives an exec without privileges.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        ambient: Vec<String>,
    }
);

document!(
    /// `process.scheduler`, see sched_setattr(2).
    Scheduler {
        /// Policy, as `SCHED_BATCH`.
        policy: String,
        /// Nice value.
        #[serde(skip_serializing_if = "Option::is_none")]
        nice: Option<i32>,
        /// Static priority.
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i32>,
        /// Flags, as `SCHED_FLAG_RESET_ON_FORK`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
        /// Nanoseconds of a deadline policy.
        #[serde(skip_serializing_if = "Option::is_none")]
        runtime: Option<u64>,
        /// Nanoseconds of a deadline policy.
        #[serde(skip_serializing_if = "Option::is_none")]
        deadline: Option<u64>,
        /// Nanoseconds of a deadline policy.
        #[serde(skip_serializing_if = "Option::is_none")]
        period: Option<u64>,
    }
);

document!(
    /// `process.ioPriority`, see ioprio_set(2).
    IoPriority {
        /// Class, as `IOPRIO_CLASS_BE`.
        class: String,
        /// Priority within the class, 0 to 7.
        priority: i32,
    }
);

document!(
    /// `process.execCPUAffinity`: processor lists as `0-3,7`.
    CpuAffinity {
        /// Before the process enters the container's cgroup.
        #[serde(skip_serializing_if = "Option::is_none")]
        initial: Option<String>,
        /// After.
        #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
        last: Option<String>,
    }
);

document!(
    /// `hooks`.
    Hooks {
        /// Deprecated; in the runtime's namespaces, after the container's were made.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        prestart: Vec<Hook>,
        /// In the runtime's namespaces, before pivot_root.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        create_runtime: Vec<Hook>,
        /// In the container's namespaces, before pivot_root.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        create_container: Vec<Hook>,
        /// In the container, before the process.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        start_container: Vec<Hook>,
        /// In the runtime's namespaces, after the process was started.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        poststart: Vec<Hook>,
        /// In the runtime's namespaces, after the container was deleted.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        poststop: Vec<Hook>,
    }
);

document!(
    /// One hook.
    Hook {
        /// Absolute path of the program.
        path: String,
        /// Arguments, from `argv[0]`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
        /// Environment.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        /// Seconds until it is killed.
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<i64>,
    }
);

document!(
    /// `linux`.
    Linux {
        /// Namespaces, new or joined.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        namespaces: Vec<Namespace>,
        /// Users of the user namespace.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        uid_mappings: Vec<IdMapping>,
        /// Groups of the user namespace.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        gid_mappings: Vec<IdMapping>,
        /// Offsets of the time namespace, by clock.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        time_offsets: BTreeMap<String, TimeOffset>,
        /// Devices beyond the default ones.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        devices: Vec<Device>,
        /// Network devices moved into the container, by their name on the host.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        net_devices: BTreeMap<String, NetDevice>,
        /// Path of the cgroup.
        #[serde(skip_serializing_if = "Option::is_none")]
        cgroups_path: Option<String>,
        /// Limits.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Resources>,
        /// Intel RDT.
        #[serde(skip_serializing_if = "Option::is_none")]
        intel_rdt: Option<IntelRdt>,
        /// NUMA memory policy.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory_policy: Option<MemoryPolicy>,
        /// Kernel parameters.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        sysctl: BTreeMap<String, String>,
        /// System call filter.
        #[serde(skip_serializing_if = "Option::is_none")]
        seccomp: Option<Seccomp>,
        /// Propagation of the root mount: `shared`, `slave`, `private`, `unbindable`.
        #[serde(skip_serializing_if = "Option::is_none")]
        rootfs_propagation: Option<String>,
        /// Paths that read as nothing.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        masked_paths: Vec<String>,
        /// Paths that are read-only.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        readonly_paths: Vec<String>,
        /// SELinux context of the mounts.
        #[serde(skip_serializing_if = "Option::is_none")]
        mount_label: Option<String>,
        /// Execution domain.
        #[serde(skip_serializing_if = "Option::is_none")]
        personality: Option<Personality>,
    }
);

document!(
    /// One of `linux.namespaces`.
    Namespace {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
        #[serde(rename = "type")]
        kind: String,
        /// Namespace to join; a new one is made where absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    }
);

document!(
    /// A range of a user namespace's map.
    #[derive(Copy)]
    IdMapping {
        /// First ID in the container.
        #[serde(rename = "containerID")]
        container_id: u32,
        /// First ID on the host.
        #[serde(rename = "hostID")]
        host_id: u32,
        /// How many.
        size: u32,
    }
);

document!(
    /// One of `linux.timeOffsets`.
    TimeOffset {
        /// Seconds.
        secs: i64,
        /// Nanoseconds.
        nanosecs: u32,
    }
);

document!(
    /// One of `linux.devices`.
    Device {
        /// `c`, `u`, `b` or `p`.
        #[serde(rename = "type")]
        kind: String,
        /// Path in the container.
        path: String,
        /// Major number.
        #[serde(skip_serializing_if = "Option::is_none")]
        major: Option<i64>,
        /// Minor number.
        #[serde(skip_serializing_if = "Option::is_none")]
        minor: Option<i64>,
        /// Mode of the file.
        #[serde(skip_serializing_if = "Option::is_none")]
        file_mode: Option<u32>,
        /// Owner in the container.
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group in the container.
        #[serde(skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    }
);

document!(
    /// One of `linux.netDevices`.
    NetDevice {
        /// Name in the container.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    }
);

document!(
    /// `linux.resources`.
    Resources {
        /// Files of cgroup v2, written as they are.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        unified: BTreeMap<String, String>,
        /// Access to devices, in order.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        devices: Vec<DeviceCgroup>,
        /// Number of processes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pids: Option<Pids>,
        /// Block devices.
        #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
        block_io: Option<BlockIo>,
        /// Memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        /// Processors.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<Cpu>,
        /// Huge pages.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        hugepage_limits: Vec<HugepageLimit>,
        /// RDMA, by device.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
        rdma: BTreeMap<String, Rdma>,
        /// Class and priorities of network traffic.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    }
);

document!(
    /// One of `linux.resources.devices`.
    DeviceCgroup {
        /// Whether access is allowed.
        allow: bool,
        /// `a`, `c` or `b`; all where absent.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Major number; all where absent or -1.
        #[serde(skip_serializing_if = "Option::is_none")]
        major: Option<i64>,
        /// Minor number; all where absent or -1.
        #[serde(skip_serializing_if = "Option::is_none")]
        minor: Option<i64>,
        /// Some of `rwm`.
        #[serde(skip_serializing_if = "Option::is_none")]
        access: Option<String>,
    }
);

document!(
    /// `linux.resources.pids`.
    Pids {
        /// The most processes; -1 for no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<i64>,
    }
);

document!(
    /// `linux.resources.memory`, in bytes; -1 for no limit.
    Memory {
        /// Hard limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<i64>,
        /// Soft limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        reservation: Option<i64>,
        /// Memory and swap together.
        #[serde(skip_serializing_if = "Option::is_none")]
        swap: Option<i64>,
        /// Kernel memory (deprecated).
        #[serde(skip_serializing_if = "Option::is_none")]
        kernel: Option<i64>,
        /// TCP buffers (deprecated).
        #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
        kernel_tcp: Option<i64>,
        /// Tendency to swap, 0 to 100.
        #[serde(skip_serializing_if = "Option::is_none")]
        swappiness: Option<u64>,
        /// Whether the out-of-memory killer is off (v1).
        #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
        disable_oom_killer: Option<bool>,
        /// Whether children's memory counts (v1).
        #[serde(skip_serializing_if = "Option::is_none")]
        use_hierarchy: Option<bool>,
        /// Whether to refuse limits below the present usage.
        #[serde(skip_serializing_if = "Option::is_none")]
        check_before_update: Option<bool>,
    }
);

document!(
    /// `linux.resources.cpu`.
    Cpu {
        /// Relative weight, 2 to 262144.
        #[serde(skip_serializing_if = "Option::is_none")]
        shares: Option<u64>,
        /// Microseconds of processor time a period.
        #[serde(skip_serializing_if = "Option::is_none")]
        quota: Option<i64>,
        /// Microseconds that can be saved up.
        #[serde(skip_serializing_if = "Option::is_none")]
        burst: Option<u64>,
        /// Microseconds of a period.
        #[serde(skip_serializing_if = "Option::is_none")]
        period: Option<u64>,
        /// Microseconds of real-time a period.
        #[serde(skip_serializing_if = "Option::is_none")]
        realtime_runtime: Option<i64>,
        /// Microseconds of a real-time period.
        #[serde(skip_serializing_if = "Option::is_none")]
        realtime_period: Option<u64>,
        /// Processors, as `0-3,7`.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpus: Option<String>,
        /// Memory nodes.
        #[serde(skip_serializing_if = "Option::is_none")]
        mems: Option<String>,
        /// Whether it is SCHED_IDLE (1) or not (0).
        #[serde(skip_serializing_if = "Option::is_none")]
        idle: Option<i64>,
    }
);

document!(
    /// `linux.resources.blockIO`.
    BlockIo {
        /// Weight, 10 to 1000.
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// Weight of leaves.
        #[serde(skip_serializing_if = "Option::is_none")]
        leaf_weight: Option<u16>,
        /// Weights by device.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        weight_device: Vec<WeightDevice>,
        /// Bytes a second.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        throttle_read_bps_device: Vec<ThrottleDevice>,
        /// Bytes a second.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        throttle_write_bps_device: Vec<ThrottleDevice>,
        /// Operations a second.
        #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        /// Operations a second.
        #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }
);

document!(
    /// A weight of one block device.
    WeightDevice {
        /// Major number.
        major: i64,
        /// Minor number.
        minor: i64,
        /// Weight, 10 to 1000.
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// Weight of leaves.
        #[serde(skip_serializing_if = "Option::is_none")]
        leaf_weight: Option<u16>,
    }
);

document!(
    /// A rate of one block device.
    ThrottleDevice {
        /// Major number.
        major: i64,
        /// Minor number.
        minor: i64,
        /// Bytes or operations a second.
        rate: u64,
    }
);

document!(
    /// One of `linux.resources.hugepageLimits`.
    HugepageLimit {
        /// Size, as `2MB`.
        page_size: String,
        /// Bytes.
        limit: u64,
    }
);

document!(
    /// One of `linux.resources.rdma`.
    Rdma {
        /// The most handles.
        #[serde(skip_serializing_if = "Option::is_none")]
        hca_handles: Option<u32>,
        /// The most objects.
        #[serde(skip_serializing_if = "Option::is_none")]
        hca_objects: Option<u32>,
    }
);

document!(
    /// `linux.resources.network`.
    Network {
        /// Class of its packets.
        #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
        class_id: Option<u32>,
        /// Priorities by interface.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        priorities: Vec<InterfacePriority>,
    }
);

document!(
    /// One of `linux.resources.network.priorities`.
    InterfacePriority {
        /// Interface.
        name: String,
        /// Priority.
        priority: u32,
    }
);

document!(
    /// `linux.intelRdt`.
    IntelRdt {
        /// Class of service.
        #[serde(rename = "closID", skip_serializing_if = "Option::is_none")]
        clos_id: Option<String>,
        /// Lines of `schemata`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        schemata: Vec<String>,
        /// Cache lines of `schemata`.
        #[serde(skip_serializing_if = "Option::is_none")]
        l3_cache_schema: Option<String>,
        /// Memory bandwidth lines of `schemata`.
        #[serde(skip_serializing_if = "Option::is_none")]
        mem_bw_schema: Option<String>,
        /// Whether to make a monitoring group.
        #[serde(skip_serializing_if = "is_false")]
        enable_monitoring: bool,
    }
);

document!(
    /// `linux.memoryPolicy`, see set_mempolicy(2).
    MemoryPolicy {
        /// Mode, as `MPOL_BIND`.
        mode: String,
        /// Nodes, as `0-3,7`.
        nodes: String,
        /// Flags, as `MPOL_F_STATIC_NODES`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
    }
);

document!(
    /// `linux.seccomp`. Words are kept as written; `hako-seccomp` gives them meaning.
    Seccomp {
        /// What happens to calls that no rule names.
        default_action: String,
        /// The error number of the default action.
        #[serde(skip_serializing_if = "Option::is_none")]
        default_errno_ret: Option<u32>,
        /// Architectures, as `SCMP_ARCH_X86_64`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        architectures: Vec<String>,
        /// Flags, as `SECCOMP_FILTER_FLAG_LOG`.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
        /// Socket that gets the notification descriptor.
        #[serde(skip_serializing_if = "Option::is_none")]
        listener_path: Option<String>,
        /// Opaque data for the listener.
        #[serde(skip_serializing_if = "Option::is_none")]
        listener_metadata: Option<String>,
        /// Rules.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        syscalls: Vec<SeccompRule>,
    }
);

document!(
    /// One of `linux.seccomp.syscalls`.
    SeccompRule {
        /// System calls by name.
        #[serde(deserialize_with = "null_default")]
        names: Vec<String>,
        /// What happens to them.
        action: String,
        /// The error number of the action.
        #[serde(skip_serializing_if = "Option::is_none")]
        errno_ret: Option<u32>,
        /// Conditions that must all hold.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        args: Vec<SeccompArg>,
    }
);

document!(
    /// One condition of a rule.
    SeccompArg {
        /// Index of the argument, 0 to 5.
        index: u32,
        /// Value.
        value: u64,
        /// Second value, of SCMP_CMP_MASKED_EQ.
        #[serde(skip_serializing_if = "is_zero")]
        value_two: u64,
        /// Operator, as `SCMP_CMP_EQ`.
        op: String,
    }
);

document!(
    /// `linux.personality`.
    Personality {
        /// `LINUX` or `LINUX32`.
        domain: String,
        /// None are defined.
        #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
    }
);

fn is_false(b: &bool) -> bool {
    !b
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Go programs write `null` for empty lists and maps.
fn null_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}
