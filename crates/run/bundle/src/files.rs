//! The files that every container gets from outside of its image: hosts, hostname, resolv.conf.

use std::net::IpAddr;

use crate::options::{Dns, ExtraHost, NetworkMode};

/// Names of the files in [`crate::Facts::files_dir`], and their place in the container.
pub const FILES: &[(&str, &str)] =
    &[("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// A name or address that cannot stand in these files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// `--add-host` without name or address.
    #[error("bad format for add-host: {0:?}")]
    AddHost(String),
    /// `--add-host` with an address that is none.
    #[error("invalid IP address in add-host: {0:?}")]
    AddHostAddress(String),
    /// `--dns` with an address that is none.
    #[error("{0} is not an ip address")]
    Dns(String),
    /// `--dns-search` or `--dns-option` with blanks or controls in it.
    #[error("invalid domain: {0:?}")]
    Domain(String),
}

/// Reads `--add-host NAME:ADDRESS` or `NAME=ADDRESS`.
pub fn parse_extra_host(text: &str) -> Result<ExtraHost, FilesError> {
    // An address of IPv6 has colons too, so the first separator counts.
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| FilesError::AddHost(text.into()))?;
    if !is_word(name) {
        return Err(FilesError::AddHost(text.into()));
    }
    let unbracketed = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address: IpAddr = unbracketed
        .unwrap_or(address)
        .parse()
        .map_err(|_| FilesError::AddHostAddress(address.into()))?;
    Ok(ExtraHost { name: name.into(), address: address.to_string() })
}

/// Reads `--dns`.
pub fn parse_dns(text: &str) -> Result<String, FilesError> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(FilesError::Dns(text.into())),
    }
}

/// Reads `--dns-search` or `--dns-option`.
pub fn parse_dns_word(text: &str) -> Result<String, FilesError> {
    if is_word(text) { Ok(text.into()) } else { Err(FilesError::Domain(text.into())) }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

/// `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// `/etc/hosts`. `host` is the host's own, which counts where the network is the host's.
pub fn hosts(network: &NetworkMode, extra: &[ExtraHost], host: &str) -> String {
    let mut text = match network {
        NetworkMode::Host if !host.is_empty() => host.to_owned(),
        _ => "127.0.0.1\tlocalhost\n\
              ::1\tlocalhost ip6-localhost ip6-loopback\n\
              fe00::\tip6-localnet\n\
              ff00::\tip6-mcastprefix\n\
              ff02::1\tip6-allnodes\n\
              ff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for ExtraHost { name, address } in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// `/etc/resolv.conf`. `host` is the host's own: it is taken over, except for what `dns` says
/// otherwise, and for servers on the host's loopback where the container has another.
pub fn resolv_conf(network: &NetworkMode, dns: &Dns, host: &str) -> String {
    let loopback_is_other = *network != NetworkMode::Host;
    let mut lines: Vec<String> = Vec::new();
    for line in host.lines() {
        let mut words = line.split_whitespace();
        let keep = match (words.next(), words.next()) {
            (Some("nameserver"), Some(server)) => {
                let on_loopback = loopback_is_other
                    && server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                dns.servers.is_empty() && !on_loopback
            }
            (Some("search" | "domain"), _) => dns.search.is_empty(),
            (Some("options"), _) => dns.options.is_empty(),
            _ => true,
        };
        if keep {
            lines.push(line.to_owned());
        }
    }
    lines.extend(dns.servers.iter().map(|server| format!("nameserver {server}")));
    // A lone dot means "search nowhere".
    if !dns.search.is_empty() && dns.search != ["."] {
        lines.push(format!("search {}", dns.search.join(" ")));
    }
    if !dns.options.is_empty() {
        lines.push(format!("options {}", dns.options.join(" ")));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts() {
        let ok = |name: &str, address: &str| {
            Ok(ExtraHost { name: name.into(), address: address.into() })
        };
        for (text, expected) in [
            ("a:10.0.0.1", ok("a", "10.0.0.1")),
            ("a=10.0.0.1", ok("a", "10.0.0.1")),
            ("a:::1", ok("a", "::1")),
            ("a=[::1]", ok("a", "::1")),
            ("a", Err(FilesError::AddHost("a".into()))),
            (":1.1.1.1", Err(FilesError::AddHost(":1.1.1.1".into()))),
            ("a\nb:1.1.1.1", Err(FilesError::AddHost("a\nb:1.1.1.1".into()))),
            ("a:1.1.1.1\n", Err(FilesError::AddHostAddress("1.1.1.1\n".into()))),
            ("a:", Err(FilesError::AddHostAddress("".into()))),
        ] {
            assert_eq!(parse_extra_host(text), expected, "{text:?}");
        }
        assert!(parse_dns("8.8.8.8x").is_err());
        assert!(parse_dns_word("a b").is_err());
        assert!(parse_dns_word("a\nnameserver").is_err());
    }

    #[test]
    fn the_files() {
        let extra = [ExtraHost { name: "db".into(), address: "10.0.0.1".into() }];
        let own = hosts(&NetworkMode::None, &extra, "1.2.3.4 secret\n");
        assert!(own.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(own.ends_with("10.0.0.1\tdb\n") && !own.contains("secret"));
        let shared = hosts(&NetworkMode::Host, &extra, "1.2.3.4 name");
        assert_eq!(shared, "1.2.3.4 name\n10.0.0.1\tdb\n");

        let host = "# c\nnameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch a b\noptions edns0\n";
        let none = Dns::default();
        for (network, dns, expected) in [
            (NetworkMode::Host, none.clone(), host),
            (
                NetworkMode::None,
                none.clone(),
                "# c\nnameserver 10.1.1.1\nsearch a b\noptions edns0\n",
            ),
            (
                NetworkMode::None,
                Dns { servers: vec!["9.9.9.9".into()], search: vec![".".into()], ..none.clone() },
                "# c\noptions edns0\nnameserver 9.9.9.9\n",
            ),
            (
                NetworkMode::Host,
                Dns {
                    search: vec!["x".into(), "y".into()],
                    options: vec!["rotate".into()],
                    ..none
                },
                "# c\nnameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch x y\noptions rotate\n",
            ),
        ] {
            assert_eq!(resolv_conf(&network, &dns, host), expected);
        }
    }
}
