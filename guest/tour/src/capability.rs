//! Names of capabilities, in the order of their numbers (capability.h).

const NAMES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The names of the capabilities in a mask as /proc/self/status writes it; a number for one that
/// this table does not know.
pub(crate) fn names(mask: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| mask & (1 << bit) != 0)
        .map(|bit| NAMES.get(bit).map_or_else(|| format!("{bit}"), |name| (*name).to_owned()))
        .collect()
}

/// How many capabilities this table knows.
pub(crate) fn count() -> usize {
    NAMES.len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(super::names(1 << 13 | 1 << 22), ["net_raw", "sys_boot"]);
        assert_eq!(super::names(1 << 40 | 1 << 41), ["checkpoint_restore", "41"]);
        // Docker's default set.
        assert_eq!(
            super::names(0xa804_25fb).join(" "),
            "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw \
             sys_chroot mknod audit_write setfcap"
        );
    }
}
