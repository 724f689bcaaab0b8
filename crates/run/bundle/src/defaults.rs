//! What Docker gives a container unasked (moby's daemon/oci/defaults, as of Docker 28): mounts,
//! masked and read-only paths, device rules, kernel parameters.

use hako_oci::runtime::{DeviceCgroup, Mount};

/// Where programs are looked for when nobody says.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of /dev/shm when nobody says.
pub const SHM_BYTES_DEFAULT: u64 = 64 << 20;

/// Seconds that `stop` waits when nobody says.
pub(crate) const STOP_TIMEOUT_SECONDS: i64 = 10;

/// Where hako's init pretends to be; Docker's path, which people grep for.
pub(crate) const INIT_PATH: &str = "/sbin/docker-init";

/// Destination, type, source, options.
const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

/// Paths that read as nothing.
pub(crate) const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that are read-only.
pub(crate) const READONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whether allowed, type, major, minor, access. Making device nodes is harmless: opening them is
/// what counts.
const DEVICE_RULES: &[(bool, &str, i64, i64, &str)] = &[
    (false, "a", -1, -1, "rwm"),
    (true, "c", -1, -1, "m"),
    (true, "b", -1, -1, "m"),
    (true, "c", 1, 3, "rwm"),    // null
    (true, "c", 1, 5, "rwm"),    // zero
    (true, "c", 1, 7, "rwm"),    // full
    (true, "c", 1, 8, "rwm"),    // random
    (true, "c", 1, 9, "rwm"),    // urandom
    (true, "c", 5, 0, "rwm"),    // tty
    (true, "c", 5, 1, "rwm"),    // console
    (true, "c", 5, 2, "rwm"),    // ptmx
    (true, "c", 136, -1, "rwm"), // pts
];

/// Parameters of a network namespace of the container's own: ping without raw sockets, and low
/// ports without a capability.
pub(crate) const NETWORK_SYSCTLS: &[(&str, &str)] =
    &[("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// The default mounts, without what a particular container changes about them.
pub(crate) fn mounts() -> Vec<Mount> {
    MOUNTS
        .iter()
        .map(|(destination, kind, source, options)| Mount {
            destination: (*destination).into(),
            kind: Some((*kind).into()),
            source: Some((*source).into()),
            options: options.iter().map(|option| (*option).into()).collect(),
            ..Mount::default()
        })
        .collect()
}

/// The default device rules.
pub(crate) fn device_rules() -> Vec<DeviceCgroup> {
    DEVICE_RULES
        .iter()
        .map(|&(allow, kind, major, minor, access)| device_rule(allow, kind, major, minor, access))
        .collect()
}

/// One device rule; -1 is any number.
pub(crate) fn device_rule(
    allow: bool,
    kind: &str,
    major: i64,
    minor: i64,
    access: &str,
) -> DeviceCgroup {
    let number = |n: i64| (n >= 0).then_some(n);
    DeviceCgroup {
        allow,
        kind: Some(kind.into()),
        major: number(major),
        minor: number(minor),
        access: Some(access.into()),
    }
}
