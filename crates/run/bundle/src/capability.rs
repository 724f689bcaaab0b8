//! Capabilities: their names, Docker's default set, `--cap-add` and `--cap-drop`.

use crate::facts::Machine;

/// A capability that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: {0:?}")]
pub struct UnknownCapability(pub String);

/// Every capability; the index is its number.
pub const NAMES: &[&str] = &hako_sys::cred::CAPABILITIES;

/// What Docker gives a container.
pub const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The word for all of them.
pub const ALL: &str = "ALL";

/// Reads one word of `--cap-add` or `--cap-drop`: any case, with or without `CAP_`, or `ALL`.
pub fn parse(text: &str) -> Result<String, UnknownCapability> {
    let upper = text.trim().to_ascii_uppercase();
    if upper == ALL {
        return Ok(upper);
    }
    let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if NAMES.contains(&&*name) { Ok(name) } else { Err(UnknownCapability(name)) }
}

/// Every capability that this machine can give.
pub fn all(machine: &Machine) -> Vec<&'static str> {
    set(true, &[], &[], machine.capabilities)
}

/// The set that a container gets. `add` and `drop` hold words that [`parse`] made; `available` is
/// the bounding set of the machine, beyond which "all" does not go.
pub(crate) fn set(
    privileged: bool,
    add: &[String],
    drop: &[String],
    available: u64,
) -> Vec<&'static str> {
    let has = |words: &[String], name: &str| words.iter().any(|word| word == name);
    let is_available = |name: &str| {
        NAMES.iter().position(|n| *n == name).is_some_and(|bit| available >> bit & 1 == 1)
    };
    let wanted = |name: &str| match (privileged, has(add, ALL), has(drop, ALL)) {
        (true, ..) => is_available(name),
        (_, true, _) => is_available(name) && !has(drop, name),
        (.., true) => has(add, name),
        _ => has(add, name) || (DEFAULT.contains(&name) && !has(drop, name)),
    };
    NAMES.iter().copied().filter(|name| wanted(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, expected) in [
            ("net_raw", Ok("CAP_NET_RAW")),
            ("CAP_NET_RAW", Ok("CAP_NET_RAW")),
            ("Cap_Bpf", Ok("CAP_BPF")),
            ("all", Ok("ALL")),
            ("foo", Err("CAP_FOO")),
            ("", Err("CAP_")),
            ("CAP_ALL", Err("CAP_ALL")),
        ] {
            let expected =
                expected.map(str::to_owned).map_err(|name: &str| UnknownCapability(name.into()));
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn sets() {
        let default: Vec<_> = NAMES.iter().copied().filter(|n| DEFAULT.contains(n)).collect();
        assert_eq!(default.len(), 14);
        let without = |dropped: &[&str]| -> Vec<_> {
            default.iter().copied().filter(|n| !dropped.contains(n)).collect()
        };
        let check = |privileged, add: &[&str], drop: &[&str], expected: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|w| parse(w).unwrap()).collect::<Vec<_>>();
            assert_eq!(set(privileged, &own(add), &own(drop), u64::MAX), expected);
        };
        check(false, &[], &[], &default);
        check(false, &[], &["CHOWN", "BPF"], &without(&["CAP_CHOWN"]));
        check(false, &["NET_RAW"], &["ALL"], &["CAP_NET_RAW"]);
        check(false, &[], &["ALL"], &[]);
        check(false, &["ALL"], &["CHOWN"], &NAMES[1..]);
        check(true, &[], &["ALL"], NAMES);
        // A word in both lists is added: Docker drops first.
        check(false, &["CHOWN"], &["CHOWN"], &default);
        // "All" is what the machine has; a name that was asked for is asked for.
        assert_eq!(set(true, &[], &[], 0b101), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
        let one = vec!["CAP_SYS_RESOURCE".to_string()];
        assert_eq!(set(false, &one, &[ALL.to_string()], 0), ["CAP_SYS_RESOURCE"]);
    }
}
