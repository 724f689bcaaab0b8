//! `--network`, `--pid`, `--ipc`, `--uts`, `--userns`, `--cgroupns`.

use crate::options::{CgroupnsMode, IpcMode, NamespaceMode, NetworkMode, UsernsMode};

/// A mode nobody knows. Texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// Of `--network`.
    #[error("network {0} not found")]
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

/// Reads `--userns`: `host`, or `remap:FIRST:SIZE` for the host's ids `FIRST`… as 0….
pub fn parse_userns(text: &str) -> Result<UsernsMode, NamespaceError> {
    if matches!(text, "" | "host") {
        return Ok(UsernsMode::Host);
    }
    let remap = || {
        let (first, size) = text.strip_prefix("remap:")?.split_once(':')?;
        let number = |word: &str| match word.bytes().all(|b| b.is_ascii_digit()) {
            true => word.parse::<u32>().ok(),
            false => None,
        };
        let (first, size) = (number(first)?, number(size)?);
        // The last ID is -1 for the kernel, which is nobody.
        (size > 0 && first.checked_add(size).is_some()).then_some(UsernsMode::Remap { first, size })
    };
    remap().ok_or(NamespaceError::User)
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
        assert_eq!(parse_network("foo").unwrap_err().to_string(), "network foo not found");
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
            ("host", Ok(UsernsMode::Host)),
            ("remap:100000:65536", Ok(UsernsMode::Remap { first: 100000, size: 65536 })),
            ("remap:1:0", Err(NamespaceError::User)),
            ("remap:4294967295:1", Err(NamespaceError::User)),
            ("remap:-1:1", Err(NamespaceError::User)),
            ("remap:1", Err(NamespaceError::User)),
            ("private", Err(NamespaceError::User)),
        ] {
            assert_eq!(parse_userns(text), expected, "{text}");
        }
    }
}
