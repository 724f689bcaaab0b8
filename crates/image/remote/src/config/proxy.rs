//! Proxies, by the variables that curl and Go's programs follow.

use std::net::IpAddr;

use crate::{
    Error, Result,
    config::credentials::basic,
    url::{Origin, Scheme, Url, is_loopback},
};

/// The proxies of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub origin: Origin,
    /// Whether it speaks SOCKS 5.
    pub socks: bool,
    /// A user's name and password for it.
    pub login: Option<(String, String)>,
}

/// Where SOCKS proxies are (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// One word of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    All,
    /// The host itself, and what ends in `.host`; only the latter where it was written `.host`.
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
    Network {
        address: IpAddr,
        bits: u32,
        port: Option<u16>,
    },
}

impl Proxies {
    pub(crate) fn of(var: &dyn Fn(&str) -> Option<String>) -> Result<Proxies> {
        let either = |name: &str| var(name).or_else(|| var(&name.to_lowercase()));
        let all = either("ALL_PROXY");
        let proxy =
            |name: &str| either(name).or_else(|| all.clone()).map(|text| Proxy::parse(&text));
        let direct = either("NO_PROXY").unwrap_or_default();
        Ok(Proxies {
            http: proxy("HTTP_PROXY").transpose()?,
            https: proxy("HTTPS_PROXY").transpose()?,
            direct: direct.split([',', ' ']).filter_map(Direct::parse).collect(),
        })
    }

    /// These, where others are named instead; an empty one means none.
    pub(super) fn with(mut self, http: Option<&str>, https: Option<&str>) -> Result<Proxies> {
        let one = |text: &str| match text {
            "" => Ok(None),
            text => Proxy::parse(text).map(Some),
        };
        if let Some(http) = http {
            self.http = one(http)?;
        }
        if let Some(https) = https {
            self.https = one(https)?;
        }
        Ok(self)
    }

    /// The proxy on the way to `target`. This machine is never asked for through one.
    pub(crate) fn for_origin(&self, target: &Origin) -> Option<&Proxy> {
        let proxy = match target.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        let is_direct = is_loopback(&target.host)
            || self.direct.iter().any(|direct| direct.covers(&target.host, target.port));
        (!is_direct).then_some(proxy)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Proxy> {
        // The password of a proxy is not shown.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
        let wrong = |why: &str| Error::Proxy { proxy: shown.clone(), why: why.into() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let socks = matches!(scheme, "socks5" | "socks5h");
        if !socks && !matches!(scheme, "http" | "https") {
            return Err(wrong("only http, https and socks5 proxies are supported"));
        }
        let scheme = if socks { "http" } else { scheme };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let url: Url = format!("{scheme}://{rest}").parse().map_err(|e| wrong(&format!("{e}")))?;
        let login = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decode(name), decode(password))
        });
        let mut origin = url.origin;
        let host = rest.split('/').next().unwrap_or(rest);
        let said_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if socks && !said_port {
            origin.port = SOCKS_PORT;
        }
        Ok(Proxy { origin, socks, login })
    }

    /// Value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<String> {
        let (name, password) = self.login.as_ref().filter(|_| !self.socks)?;
        Some(basic(name, password))
    }
}

/// `%41` is `A`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Direct {
    fn parse(word: &str) -> Option<Direct> {
        let word = word.trim().to_lowercase();
        if word.is_empty() {
            return None;
        }
        if word == "*" {
            return Some(Direct::All);
        }
        if let Some((address, bits)) = word.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse())
        {
            return Some(Direct::Network { address, bits, port: None });
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port))
                if port.parse::<u16>().is_ok() && word.parse::<IpAddr>().is_err() =>
            {
                (host.to_owned(), port.parse().ok())
            }
            _ => (word, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Some(Direct::Network { address, bits, port });
        }
        let host = host.strip_prefix('*').unwrap_or(host);
        let (suffix, itself) = match host.strip_prefix('.') {
            Some(suffix) => (suffix, false),
            None => (host, true),
        };
        Some(Direct::Name { suffix: suffix.to_owned(), itself, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Direct::All => true,
            Direct::Name { suffix, itself, port: only } => {
                let beneath = host.strip_suffix(suffix.as_str()).is_some_and(|r| r.ends_with('.'));
                only.is_none_or(|only| only == port) && (beneath || (*itself && host == suffix))
            }
            Direct::Network { address, bits, port: only } => {
                only.is_none_or(|only| only == port)
                    && host.parse().is_ok_and(|ip| within(ip, *address, *bits))
            }
        }
    }
}

fn within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    fn same(a: u128, b: u128, bits: u32, width: u32) -> bool {
        bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0)
    }
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), bits, 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), bits, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::of(&|name| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_chooses() {
        let p = proxies(&[
            ("https_proxy", "http://us%65r:p%40ss@proxy.example:3128"),
            (
                "NO_PROXY",
                "direct.example, .sub.example,10.0.0.0/8 192.168.1.1,p.example:5000,*.star.example",
            ),
        ])
        .unwrap();
        let through = |url: &str| p.for_origin(&url.parse::<Url>().unwrap().origin).is_some();
        for url in [
            "https://r.example/",
            "https://notdirect.example/",
            "https://sub.example/",
            "https://11.0.0.1/",
            "https://192.168.1.2/",
            "https://p.example/",
            "https://star.example/",
        ] {
            assert!(through(url), "{url}");
        }
        for url in [
            "http://r.example/",
            "https://direct.example/",
            "https://a.direct.example/",
            "https://a.sub.example/",
            "https://10.1.2.3/",
            "https://192.168.1.1:5000/",
            "https://p.example:5000/",
            "https://a.star.example/",
            "https://localhost:5000/",
            "https://[::1]/",
        ] {
            assert!(!through(url), "{url}");
        }
        let target = "https://r.example/".parse::<Url>().unwrap().origin;
        let proxy = p.for_origin(&target).unwrap();
        assert_eq!((proxy.origin.host.as_str(), proxy.origin.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization().as_deref(), Some(basic("user", "p@ss").as_str()));
    }

    #[test]
    fn wrong_proxies_are_named_without_their_password() {
        for text in ["socks4://u:secret@x:1", "http://u:secret@x:99999", "http://u:secret@"] {
            let error = proxies(&[("ALL_PROXY", text)]).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn socks_is_a_proxy_of_its_own_kind() {
        for (text, port) in [
            ("socks5://proxy.example", 1080),
            ("socks5h://me:pw@proxy.example:80", 80),
            ("socks5://[::1]", 1080),
            ("socks5h://[::1]:99/", 99),
        ] {
            let p = proxies(&[("ALL_PROXY", text)]).unwrap();
            let target = "https://r.example/".parse::<Url>().unwrap().origin;
            let proxy = p.for_origin(&target).unwrap();
            assert_eq!((proxy.socks, proxy.origin.port), (true, port), "{text}");
            assert_eq!(proxy.authorization(), None);
        }
    }
}
