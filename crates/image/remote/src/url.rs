//! Addresses: absolute `http` and `https` URLs, and what a `Location` means relative to one.
//!
//! Only what registries need: no user information (credentials never come from a URL that a
//! server chose), no fragments, and a host that is a name or an IP address.

use std::{fmt, net::IpAddr, str::FromStr};

/// The longest address that is believed. Signed addresses of object stores need a few thousand.
const BYTES_MAX: usize = 16 << 10;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Who answers: what credentials belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub scheme: Scheme,
    /// Lower case, an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
}

/// An absolute address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Url {
    pub origin: Origin,
    /// From the first slash on, with the query.
    pub path: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it has characters that addresses may not have")]
    Characters,
    #[error("it is neither http nor https")]
    Scheme,
    #[error("it carries a user name or password")]
    UserInfo,
    #[error("its host is none")]
    Host,
    #[error("its port is none")]
    Port,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Origin {
    /// `host` or `host:port`, as the header `Host` and file names have it.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == self.scheme.port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// The origin that `host[:port]` means under this scheme.
    pub(crate) fn parse(scheme: Scheme, authority: &str) -> Result<Origin, UrlError> {
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or(UrlError::Host)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Host)?;
                (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(UrlError::Host);
        }
        let port = match port {
            None => scheme.port(),
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().map_err(|_| UrlError::Port)?
            }
            Some(_) => return Err(UrlError::Port),
        };
        Ok(Origin { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host is this machine, by its name or address.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl Url {
    /// The address of a path at an origin. `path` begins with a slash.
    pub(crate) fn at(origin: &Origin, path: impl Into<String>) -> Url {
        Url { origin: origin.clone(), path: path.into() }
    }

    /// What a `Location` means that came from this address.
    pub(crate) fn join(&self, location: &str) -> Result<Url, UrlError> {
        check(location)?;
        let location = location.split('#').next().unwrap_or_default();
        if let Some(rest) = location.strip_prefix("//") {
            return parse_after_scheme(self.origin.scheme, rest);
        }
        // A scheme is all before a colon that comes before any slash, question mark or dot.
        let end = location.find(|c: char| !c.is_ascii_alphanumeric() && !"+-".contains(c));
        if end.is_some_and(|at| location[at..].starts_with(':')) {
            return location.parse();
        }
        let base = self.path.split('?').next().unwrap_or("/");
        let path = match location {
            "" => self.path.clone(),
            l if l.starts_with('/') => l.to_owned(),
            l if l.starts_with('?') => format!("{base}{l}"),
            l => format!("{}{l}", &base[..base.rfind('/').map_or(0, |at| at + 1)]),
        };
        Ok(Url { origin: self.origin.clone(), path })
    }

    /// The same with one more `name=value` in its query.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Url {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&encode(value));
        self
    }

    /// The address as people may see it: without its query, where signatures and tokens stand.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let path: String = path.chars().take(200).collect();
        format!("{}://{}{path}", self.origin.scheme.name(), self.origin.authority())
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(s: &str) -> Result<Url, UrlError> {
        check(s)?;
        let (scheme, rest) = s.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        parse_after_scheme(scheme, rest.split('#').next().unwrap_or_default())
    }
}

fn parse_after_scheme(scheme: Scheme, rest: &str) -> Result<Url, UrlError> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let origin = Origin::parse(scheme, &rest[..end])?;
    let path = match &rest[end..] {
        path if path.starts_with('/') => path.to_owned(),
        query => format!("/{query}"),
    };
    Ok(Url { origin, path })
}

fn check(text: &str) -> Result<(), UrlError> {
    if text.len() > BYTES_MAX {
        return Err(UrlError::TooLong);
    }
    match text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
        true => Ok(()),
        false => Err(UrlError::Characters),
    }
}

/// A value as it may stand in a query or form.
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for b in value.bytes() {
        match b.is_ascii_alphanumeric() || b"-._~:/,".contains(&b) {
            true => text.push(char::from(b)),
            false => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.origin.scheme.name(), self.origin.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases: &[(&str, Result<&str, UrlError>)] = &[
            ("https://r.example/v2/", Ok("https://r.example/v2/")),
            ("HTTPS://R.Example:443", Ok("https://r.example/")),
            ("http://[::1]:5000/x?y=1#z", Ok("http://[::1]:5000/x?y=1")),
            ("http://a?b", Ok("http://a/?b")),
            ("ftp://a/", Err(UrlError::Scheme)),
            ("file:///etc/passwd", Err(UrlError::Scheme)),
            ("https://user:secret@a/", Err(UrlError::UserInfo)),
            ("https:///x", Err(UrlError::Host)),
            ("https://a:99999/", Err(UrlError::Port)),
            ("https://a:+1/", Err(UrlError::Port)),
            ("https://[::1/", Err(UrlError::Host)),
            ("https://a/\r\nX: y", Err(UrlError::Characters)),
            ("https://é/", Err(UrlError::Characters)),
        ];
        for (text, want) in cases {
            let got = text.parse::<Url>().map(|url| url.to_string());
            assert_eq!(got, want.clone().map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn locations() {
        let base: Url = "https://r.example:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        let cases = [
            ("/v2/b?c=d", "https://r.example:5000/v2/b?c=d"),
            ("//other/x", "https://other/x"),
            ("http://other/x", "http://other/x"),
            ("uuid?s=1", "https://r.example:5000/v2/a/blobs/uploads/uuid?s=1"),
            ("?s=2", "https://r.example:5000/v2/a/blobs/uploads/?s=2"),
            ("sha256:ab", "neither"),
            ("javascript:1", "neither"),
        ];
        for (location, want) in cases {
            match base.join(location) {
                Ok(url) => assert_eq!(url.to_string(), want, "{location}"),
                Err(e) => assert!(e.to_string().contains(want), "{location}: {e}"),
            }
        }
        let digest = Url::at(&base.origin, "/u").with_query("digest", "sha256:ab+c");
        assert_eq!(digest.path, "/u?digest=sha256:ab%2Bc");
        assert_eq!(digest.with_query("x", "y").path, "/u?digest=sha256:ab%2Bc&x=y");
    }

    #[test]
    fn loopback() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "example", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_addresses_survive(text in ".{0,80}", location in ".{0,80}") {
            if let Ok(url) = text.parse::<Url>() {
                proptest::prop_assert_eq!(url.to_string().parse::<Url>(), Ok(url.clone()));
                if let Ok(joined) = url.join(&location) {
                    proptest::prop_assert!(joined.path.starts_with('/'));
                }
            }
        }
    }
}
