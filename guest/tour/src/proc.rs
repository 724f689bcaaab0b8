//! What the kernel says of a process under `/proc/self`, parsed.

use std::{fs, io};

/// The eight namespaces, by their file in `/proc/self/ns`, and what each isolates.
pub(crate) const NAMESPACES: &[(&str, &str)] = &[
    ("pid", "process numbers"),
    ("mnt", "mounts"),
    ("net", "network"),
    ("ipc", "shared memory, queues"),
    ("uts", "host name"),
    ("user", "users, capabilities"),
    ("cgroup", "cgroup paths"),
    ("time", "boot clocks"),
];

/// The inode number of one of our namespaces, which is its identity.
pub(crate) fn namespace_id(name: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
    parse_namespace_link(link.to_str()?)
}

/// `pid:[4026531836]`
fn parse_namespace_link(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

/// `/proc/PID/status`, by field.
pub(crate) struct Status(String);

impl Status {
    /// Our own.
    pub(crate) fn read() -> io::Result<Status> {
        fs::read_to_string("/proc/self/status").map(Status)
    }

    /// The value of a field, without blanks around it.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim()))
    }

    /// A field that is a hexadecimal mask.
    pub(crate) fn mask(&self, field: &str) -> Option<u64> {
        u64::from_str_radix(self.get(field)?, 16).ok()
    }
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) root: String,
    pub(crate) point: String,
    pub(crate) options: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) super_options: String,
}

impl Mount {
    /// Whether the mount itself is read-only.
    pub(crate) fn is_readonly(&self) -> bool {
        self.options.split(',').any(|o| o == "ro")
    }

    /// `36 35 98:0 /root /point opts [tag...] - kind source superopts`
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.splitn(3, ' ');
        Some(Mount {
            root: unescape(left.get(3)?),
            point: unescape(left.get(4)?),
            options: (*left.get(5)?).to_owned(),
            kind: right.next()?.to_owned(),
            source: unescape(right.next()?),
            super_options: right.next().unwrap_or_default().to_owned(),
        })
    }
}

/// All mounts of our mount namespace, in order.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(Mount::parse).collect())
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Rows of `/proc/self/limits` that a container's user may have set: name, soft, hard.
pub(crate) fn limits(text: &str) -> Vec<(String, String, String)> {
    // Columns are at fixed offsets: 26 for the name, 21 each for the limits.
    let column = |line: &str, from: usize, to: usize| {
        line.get(from..to.min(line.len())).unwrap_or_default().trim().to_owned()
    };
    text.lines()
        .skip(1)
        .map(|line| (column(line, 0, 26), column(line, 26, 47), column(line, 47, 68)))
        .filter(|(name, ..)| !name.is_empty())
        .collect()
}

/// A row of `/proc/self/uid_map` in words.
pub(crate) fn id_map(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut n = line.split_whitespace().map(str::parse::<u64>);
            let (inside, outside, size) = (n.next()?.ok()?, n.next()?.ok()?, n.next()?.ok()?);
            Some(match (inside, outside, size) {
                (0, 0, 4_294_967_295) => "every id is the host's own".to_owned(),
                _ => format!("{inside}..{} are {outside}..", inside + size.saturating_sub(1)),
            })
        })
        .collect()
}

/// Names of interfaces in `/proc/net/dev`.
pub(crate) fn interfaces(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    text.lines().skip(2).filter_map(name).collect()
}

/// Local IPv4 addresses in `/proc/net/fib_trie`, once each.
pub(crate) fn addresses_v4(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = "";
    for line in text.lines() {
        if let Some((_, address)) = line.split_once("-- ") {
            last = address.trim();
        } else if line.contains("/32 host LOCAL") && !found.iter().any(|f| f == last) {
            found.push(last.to_owned());
        }
    }
    found
}

/// Addresses in `/proc/net/if_inet6`: interface and address.
pub(crate) fn addresses_v6(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
            let prefix = u8::from_str_radix(fields.get(2)?, 16).ok()?;
            let name = (*fields.get(5)?).to_owned();
            Some((name, format!("{}/{prefix}", std::net::Ipv6Addr::from(bits))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_links() {
        assert_eq!(parse_namespace_link("pid:[4026531836]"), Some(4_026_531_836));
        assert_eq!(parse_namespace_link("pid:4026531836"), None);
    }

    #[test]
    fn mountinfo_lines() {
        let line = r"22 21 0:5 / /a\040b ro,nosuid master:1 - tmpfs my\134src rw,size=64k";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point.as_str(), mount.source.as_str()), ("/a b", r"my\src"));
        assert_eq!((mount.kind.as_str(), mount.is_readonly()), ("tmpfs", true));
        assert_eq!(Mount::parse("garbage"), None);
    }

    #[test]
    fn id_maps_in_words() {
        assert_eq!(id_map("         0          0 4294967295\n"), ["every id is the host's own"]);
        assert_eq!(id_map("0 100000 65536\n"), ["0..65535 are 100000.."]);
    }

    #[test]
    fn limit_columns() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 20000                files     \n";
        assert_eq!(limits(text), [("Max open files".into(), "1024".into(), "20000".into())]);
    }

    #[test]
    fn addresses() {
        let trie = "Local:\n  |-- 127.0.0.0\n     /8 host LOCAL\n  |-- 127.0.0.1\n     /32 host LOCAL\n  \
                    |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 10.0.0.255\n     /32 link BROADCAST\n";
        assert_eq!(addresses_v4(trie), ["127.0.0.1"]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(addresses_v6(v6), [("lo".to_owned(), "::1/128".to_owned())]);
        let dev = "Inter-|   Receive\n face |bytes\n    lo:       0\n  eth0: 12\n";
        assert_eq!(interfaces(dev), ["lo", "eth0"]);
    }
}
