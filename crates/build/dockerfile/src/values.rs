//! Values that instructions check once they are expanded: ports, signals, permissions, and where a
//! source comes from.

use std::net::IpAddr;

use crate::error::Problem;

/// A port of an `EXPOSE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// `80/tcp`, one for each port of a range.
    pub ports: Vec<String>,
    /// Whether an address or a port of the host was named, which means nothing here.
    pub names_host: bool,
    /// Whether the protocol has capitals.
    pub upper_case: bool,
}

/// Reads a port: `[[ip:]hostport:]port[-port][/protocol]`.
pub fn port(text: &str) -> Result<Exposed, Problem> {
    let wrong = |why: &str| Problem::Port { port: text.to_owned(), why: why.to_owned() };
    let other = |why: String| Problem::PortRange(why);
    let (host, port) =
        text.rsplit_once(':').map_or((None, text), |(host, port)| (Some(host), port));
    let (ip, host_port) = match host {
        None => ("", ""),
        Some(host) => host.rsplit_once(':').unwrap_or(("", host)),
    };
    let (port, protocol) = port.split_once('/').unwrap_or((port, ""));
    if port.is_empty() {
        return Err(wrong("no port specified"));
    }
    let lower = protocol.to_lowercase();
    if !matches!(lower.as_str(), "" | "tcp" | "udp" | "sctp") {
        return Err(wrong(&format!("invalid proto: {protocol}")));
    }
    let address = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(other(format!("invalid IP address: {address}")));
    }
    let Some((first, last)) = range(port) else {
        return Err(other(format!("invalid containerPort: {port}")));
    };
    if !host_port.is_empty() {
        let Some((host_first, host_last)) = range(host_port) else {
            return Err(other(format!("invalid hostPort: {host_port}")));
        };
        if host_last - host_first != last - first && first != last {
            return Err(other(format!(
                "invalid ranges specified for container and host Ports: {port} and {host_port}"
            )));
        }
    }
    let protocol = if lower.is_empty() { "tcp" } else { lower.as_str() };
    Ok(Exposed {
        ports: (first..=last).map(|port| format!("{port}/{protocol}")).collect(),
        names_host: host.is_some() && !(ip.is_empty() && host_port.is_empty()),
        upper_case: lower != text.rsplit_once('/').map_or("", |(_, protocol)| protocol),
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Names of signals on Linux, without `SIG`.
const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether a `STOPSIGNAL` is a signal: a number, or a name with or without `SIG`.
pub fn signal(text: &str) -> Result<(), Problem> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, sign: char, most: u8| {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(sign));
        number
            .and_then(|number| number.parse().ok())
            .is_some_and(|number| (1..=most).contains(&number))
    };
    let known = match text.parse::<i64>() {
        Ok(number) => number != 0,
        Err(_) => {
            SIGNALS.contains(&name) || real_time("RTMIN", '+', 15) || real_time("RTMAX", '-', 14)
        }
    };
    if known { Ok(()) } else { Err(Problem::Signal(text.to_owned())) }
}

/// Permissions of a `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Octal.
    Octal(u32),
    /// As chmod(1) takes them: `u+rwX,go-w`.
    Symbolic(String),
}

/// Reads a `--chmod`.
pub fn mode(text: &str) -> Result<Mode, Problem> {
    let wrong = || Problem::Chmod(text.to_owned());
    if !text.starts_with('+')
        && let Ok(mode) = u32::from_str_radix(text, 8)
    {
        return if mode > 0o7777 { Err(wrong()) } else { Ok(Mode::Octal(mode)) };
    }
    let is_clause = |clause: &str| {
        let who = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        !who.is_empty()
            && who.split_inclusive(['+', '-', '=']).enumerate().all(|(at, part)| {
                let permissions = part.trim_end_matches(['+', '-', '=']);
                let copies = matches!(permissions, "u" | "g" | "o");
                (at > 0 || permissions.is_empty())
                    && (copies || permissions.chars().all(|ch| "rwxXst".contains(ch)))
            })
            && who.starts_with(['+', '-', '='])
    };
    if text.split(',').all(is_clause) { Ok(Mode::Symbolic(text.to_owned())) } else { Err(wrong()) }
}

/// Where a source of `ADD` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The context.
    Local,
    /// A URL.
    Http,
    /// A git repository.
    Git,
}

/// Tells where a source of `ADD` or `COPY` comes from.
pub fn source_kind(text: &str) -> SourceKind {
    let http = text.starts_with("http://") || text.starts_with("https://");
    if http {
        let path = text.split(['#', '?']).next().unwrap_or_default();
        return if path.ends_with(".git") { SourceKind::Git } else { SourceKind::Http };
    }
    let scp = text.split_once(':').is_some_and(|(host, path)| {
        host.split_once('@').is_some_and(|(user, host)| {
            let plain = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            };
            plain(user) && plain(host)
        }) && !path.is_empty()
    });
    if scp || text.starts_with("git://") || text.starts_with("ssh://") {
        return SourceKind::Git;
    }
    SourceKind::Local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (text, ports, names_host, upper_case) in [
            ("80", &["80/tcp"][..], false, false),
            ("80/udp", &["80/udp"], false, false),
            ("80/TCP", &["80/tcp"], false, true),
            ("80-82/sctp", &["80/sctp", "81/sctp", "82/sctp"], false, false),
            ("8080:80", &["80/tcp"], true, false),
            ("127.0.0.1:80:80", &["80/tcp"], true, false),
            ("[::1]:80:80", &["80/tcp"], true, false),
            ("127.0.0.1::80", &["80/tcp"], true, false),
            ("8000-8009:80", &["80/tcp"], true, false),
        ] {
            let exposed = port(text).unwrap();
            assert_eq!(exposed.ports, ports, "{text}");
            assert_eq!(
                (exposed.names_host, exposed.upper_case),
                (names_host, upper_case),
                "{text}"
            );
        }
        for (text, expected) in [
            ("", "invalid port: \"\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("x", "invalid containerPort: x"),
            ("80-70", "invalid containerPort: 80-70"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("300.1.1.1:1:1", "invalid IP address: 300.1.1.1"),
        ] {
            assert_eq!(port(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "sigusr1"] {
            assert_eq!(signal(text), Ok(()), "{text}");
        }
        for text in ["", "0", "SIGFOO", "RTMIN+16", "$SIG"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn permissions_in_both_forms() {
        assert_eq!(mode("0755"), Ok(Mode::Octal(0o755)));
        assert_eq!(mode("u+rwX,go-w"), Ok(Mode::Symbolic("u+rwX,go-w".into())));
        for text in ["a=rx", "+x", "=", "u=g", "u+r-w"] {
            assert!(matches!(mode(text), Ok(Mode::Symbolic(_))), "{text}");
        }
        for text in ["17777", "banana", "u", "u+q", ",", "9"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_of_all_kinds() {
        for (text, expected) in [
            ("a/b", SourceKind::Local),
            ("https://a/b.tar.gz", SourceKind::Http),
            ("https://a/b.git#main:sub", SourceKind::Git),
            ("https://a/b.git?ref=x", SourceKind::Git),
            ("git@example.org:a/b.git", SourceKind::Git),
            ("git://a/b", SourceKind::Git),
            ("a:b", SourceKind::Local),
            ("github.com/a/b", SourceKind::Local),
        ] {
            assert_eq!(source_kind(text), expected, "{text}");
        }
    }
}
