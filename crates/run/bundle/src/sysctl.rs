//! `--sysctl NAME=value`: only what belongs to a namespace of the container.

use crate::options::{IpcMode, NetworkMode};

/// A kernel parameter that a container may not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It belongs to no namespace, or is no assignment.
    #[error("sysctl '{0}' is not allowed")]
    NotAllowed(String),
    /// Its namespace is the host's.
    #[error("sysctl {name:?} is not allowed in the host's {namespace} namespace")]
    HostNamespace {
        /// Its name.
        name: String,
        /// `network` or `ipc`.
        namespace: &'static str,
    },
}

/// Parameters of the IPC namespace.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

#[derive(PartialEq)]
enum Owner {
    Ipc,
    Network,
}

fn owner(name: &str) -> Option<Owner> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(Owner::Ipc)
    } else if name.starts_with("net.") {
        Some(Owner::Network)
    } else {
        None
    }
}

/// Reads one assignment. Slashes and dots mean the same, as for sysctl(8).
pub fn parse(text: &str) -> Result<(String, String), SysctlError> {
    let not_allowed = || SysctlError::NotAllowed(text.into());
    let (name, value) = text.split_once('=').ok_or_else(not_allowed)?;
    // "a/b" names what "a.b" names; a name with ".." or empty parts names nothing.
    let name = name.trim().replace('/', ".");
    let well_formed = name.split('.').all(|part| !part.is_empty()) && !name.contains('\0');
    if !well_formed || owner(&name).is_none() {
        return Err(not_allowed());
    }
    Ok((name, value.trim().into()))
}

/// Checks that `name` belongs to a namespace that is the container's own.
pub(crate) fn check(name: &str, network: &NetworkMode, ipc: &IpcMode) -> Result<(), SysctlError> {
    let host = |namespace| Err(SysctlError::HostNamespace { name: name.into(), namespace });
    match owner(name) {
        None => Err(SysctlError::NotAllowed(name.into())),
        Some(Owner::Network) if *network == NetworkMode::Host => host("network"),
        Some(Owner::Ipc) if *ipc == IpcMode::Host => host("ipc"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_ones() {
        for (text, expected) in [
            ("net.ipv4.ip_forward=1", Some(("net.ipv4.ip_forward", "1"))),
            ("net/ipv4/ip_forward=1", Some(("net.ipv4.ip_forward", "1"))),
            ("kernel.sem=1 2 3", Some(("kernel.sem", "1 2 3"))),
            ("fs.mqueue.msg_max=", Some(("fs.mqueue.msg_max", ""))),
            ("kernel.hostname=x", None),
            ("kernel.core_pattern=|/x", None),
            ("net.ipv4.ip_forward", None),
            ("net.../core_pattern=1", None),
            ("net.", None),
            ("net.=1", None),
            ("fs.file-max=1", None),
            ("vm.swappiness=1", None),
            ("=1", None),
            ("", None),
        ] {
            let expected = expected
                .map(|(name, value): (&str, &str)| (name.to_string(), value.to_string()))
                .ok_or_else(|| SysctlError::NotAllowed(text.into()));
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn not_in_the_hosts_namespace() {
        use {IpcMode as I, NetworkMode as N};
        for (name, network, ipc, allowed) in [
            ("net.core.somaxconn", N::None, I::Host, true),
            ("net.core.somaxconn", N::Host, I::Private, false),
            ("kernel.sem", N::Host, I::Private, true),
            ("kernel.sem", N::None, I::Host, false),
            ("fs.mqueue.msg_max", N::None, I::Host, false),
            ("vm.swappiness", N::None, I::Private, false),
        ] {
            assert_eq!(check(name, &network, &ipc).is_ok(), allowed, "{name}");
        }
    }
}
