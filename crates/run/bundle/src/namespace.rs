//! `--network`, `--pid`, `--ipc`, `--uts`, `--userns`, `--cgroupns`.

use crate::options::{CgroupnsMode, IpcMode, NamespaceMode, NetworkMode};

/// A mode nobody knows. Texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// Of `--network`.
    #[error(
        "network {0} not found: container networks are not supported yet; use none, host or container:NAME"
    )]
    Network(String),
    /// Of `--pid`.
    #[error("--pid: invalid PID mode")]
    Pid,
    /// Of `--ipc`.
    #[error("--ipc: invalid IPC mode")]
    Ipc,
    /// Of `--uts`.
    #[error("--uts: invalid UTS mode")]
    Uts,
    /// Of `--userns`.
    #[error("--userns: invalid USER mode")]
    User,
    /// Of `--userns`, in Podman's grammar.
    #[error("--userns={0}: user namespaces are not supported yet; only \"host\" is")]
    UserIds(String),
    /// Of `--cgroupns`.
    #[error("--cgroupns: invalid CGROUP mode")]
    Cgroup,
}

fn container(text: &str) -> Option<String> {
    text.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Reads `--network`.
pub fn parse_network(text: &str) -> Result<NetworkMode, NamespaceError> {
    match text {
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => container(text)
            .map(NetworkMode::Container)
            .ok_or_else(|| NamespaceError::Network(text.into())),
    }
}

/// Reads `--pid`.
pub fn parse_pid(text: &str) -> Result<NamespaceMode, NamespaceError> {
    match text {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        _ => container(text).map(NamespaceMode::Container).ok_or(NamespaceError::Pid),
    }
}

/// Reads `--uts`.
pub fn parse_uts(text: &str) -> Result<NamespaceMode, NamespaceError> {
    match text {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        _ => Err(NamespaceError::Uts),
    }
}

/// Reads `--ipc`.
pub fn parse_ipc(text: &str) -> Result<IpcMode, NamespaceError> {
    match text {
        "" | "private" => Ok(IpcMode::Private),
        "shareable" => Ok(IpcMode::Shareable),
        "none" => Ok(IpcMode::None),
        "host" => Ok(IpcMode::Host),
        _ => container(text).map(IpcMode::Container).ok_or(NamespaceError::Ipc),
    }
}

/// Reads `--userns`: true for `host`, which is where all containers are.
pub fn parse_userns(text: &str) -> Result<bool, NamespaceError> {
    match text.split(':').next() {
        _ if text.is_empty() => Ok(false),
        _ if text == "host" => Ok(true),
        Some("auto" | "keep-id" | "nomap" | "private" | "ns" | "container") => {
            Err(NamespaceError::UserIds(text.into()))
        }
        _ => Err(NamespaceError::User),
    }
}

/// Reads `--cgroupns`.
pub fn parse_cgroupns(text: &str) -> Result<Option<CgroupnsMode>, NamespaceError> {
    match text {
        "" => Ok(None),
        "host" => Ok(Some(CgroupnsMode::Host)),
        "private" => Ok(Some(CgroupnsMode::Private)),
        _ => Err(NamespaceError::Cgroup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(parse_network("none"), Ok(NetworkMode::None));
        assert_eq!(parse_network("container:x"), Ok(NetworkMode::Container("x".into())));
        let error = parse_network("foo").unwrap_err().to_string();
        assert!(error.starts_with("network foo not found: "), "{error}");
        assert!(parse_network("container:").is_err());
        assert_eq!(parse_pid("host"), Ok(NamespaceMode::Host));
        assert_eq!(parse_pid("x"), Err(NamespaceError::Pid));
        assert_eq!(parse_uts(""), Ok(NamespaceMode::Private));
        assert_eq!(parse_uts("container:x"), Err(NamespaceError::Uts));
        assert_eq!(parse_ipc("none"), Ok(IpcMode::None));
        assert_eq!(parse_ipc("x"), Err(NamespaceError::Ipc));
        assert_eq!(parse_cgroupns("private"), Ok(Some(CgroupnsMode::Private)));
        assert_eq!(parse_cgroupns("x"), Err(NamespaceError::Cgroup));
        for (text, expected) in [
            ("host", Ok(true)),
            ("", Ok(false)),
            ("host:1", Err(NamespaceError::User)),
            ("x", Err(NamespaceError::User)),
            ("keep-id:uid=1", Err(NamespaceError::UserIds("keep-id:uid=1".into()))),
        ] {
            assert_eq!(parse_userns(text), expected, "{text}");
        }
    }
}
