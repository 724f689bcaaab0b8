//! `certs.d/<host>/`: containerd's `hosts.toml`, and certificates as Docker and podman lay them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{files_in, parse, read};
use crate::{
    Error, Result,
    url::{Scheme, Url},
};

/// Files that say whom to believe, and who we are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(crate) struct Certificates {
    /// Authorities beside those of the machine.
    pub authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub clients: Vec<(PathBuf, PathBuf)>,
    /// Whether the peer's certificate is not looked at.
    pub skip_verify: bool,
}

/// One host of a `hosts.toml`, or its server.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its address, with the path before `/v2/` or in its place.
    pub url: Url,
    /// Whether the address has the whole path, without `/v2`.
    pub override_path: bool,
    pub certificates: Certificates,
    pub headers: Vec<(String, String)>,
    pub can: Capabilities,
}

/// What a host is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub pull: bool,
    pub resolve: bool,
    pub push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Capabilities = Capabilities { pull: true, resolve: true, push: true };
}

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: Table,
    #[serde(flatten)]
    rest: Table,
}

#[derive(Deserialize)]
struct Fields {
    capabilities: Option<Vec<String>>,
    ca: Option<Value>,
    client: Option<Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: Table,
}

/// The hosts that a `hosts.toml` names for a registry, in order, the server last. `None` where no
/// such file is there.
pub(crate) fn hosts(dirs: &[PathBuf], host: &str) -> Result<Option<Vec<Host>>> {
    for dir in dirs {
        for name in [host.to_owned(), host.replace(':', "_"), "_default".into()] {
            let dir = dir.join(name);
            let path = dir.join("hosts.toml");
            if let Some(text) = read(&path)? {
                return parse_hosts(&dir, &path, &text, host).map(Some);
            }
        }
    }
    Ok(None)
}

fn parse_hosts(dir: &Path, path: &Path, text: &str, registry: &str) -> Result<Vec<Host>> {
    let File { server, host, rest } = parse(path, text)?;
    let mut hosts = Vec::new();
    for (name, fields) in host {
        hosts.push(one(dir, path, &name, fields)?);
    }
    let server = server.unwrap_or_else(|| registry.to_owned());
    hosts.push(one(dir, path, &server, Value::Table(rest))?);
    Ok(hosts)
}

fn one(dir: &Path, path: &Path, name: &str, fields: Value) -> Result<Host> {
    let wrong = |why: String| Error::Config { path: path.into(), why };
    let fields: Fields = fields.try_into().map_err(|e| wrong(format!("host {name:?}: {e}")))?;
    let text = match name.contains("://") {
        true => name.to_owned(),
        false => {
            let scheme = if crate::url::is_loopback(name.split(':').next().unwrap_or_default()) {
                Scheme::Http
            } else {
                Scheme::Https
            };
            format!("{}://{name}", scheme.name())
        }
    };
    let url: Url = text.parse().map_err(|e| wrong(format!("host {name:?}: {e}")))?;
    let can = match fields.capabilities {
        None => Capabilities::ALL,
        Some(list) => {
            let has = |what: &str| list.iter().any(|c| c.eq_ignore_ascii_case(what));
            Capabilities { pull: has("pull"), resolve: has("resolve"), push: has("push") }
        }
    };
    let file = |value: &Value| value.as_str().map(|text| dir.join(text));
    let mut certificates =
        Certificates { skip_verify: fields.skip_verify, ..Certificates::default() };
    let ca = match fields.ca {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    for ca in &ca {
        let ca = file(ca).ok_or_else(|| wrong(format!("host {name:?}: ca is no file name")))?;
        certificates.authorities.push(ca);
    }
    let client = match fields.client {
        None => Vec::new(),
        // A certificate and its key in one file, or pairs.
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    for client in &client {
        let pair = match client {
            Value::Array(pair) => match pair.as_slice() {
                [cert, key] => file(cert).zip(file(key).or_else(|| file(cert))),
                [both] => file(both).map(|both| (both.clone(), both)),
                _ => None,
            },
            both => file(both).map(|both| (both.clone(), both)),
        };
        let pair =
            pair.ok_or_else(|| wrong(format!("host {name:?}: client is no pair of file names")))?;
        certificates.clients.push(pair);
    }
    let mut headers = Vec::new();
    for (header, value) in fields.header {
        let values = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        for value in values {
            let value =
                value.as_str().ok_or_else(|| wrong(format!("header {header:?} is no text")))?;
            headers.push((header.clone(), value.to_owned()));
        }
    }
    Ok(Host { url, override_path: fields.override_path, certificates, headers, can })
}

/// The certificates that lie in directories named after a registry: `*.crt` are authorities,
/// `*.cert` with `*.key` are our own.
pub(crate) fn certificates(dirs: &[PathBuf], host: &str) -> Result<Certificates> {
    let mut found = Certificates::default();
    for dir in dirs {
        let dir = dir.join(host);
        found.authorities.extend(files_in(&dir, ".crt")?);
        for certificate in files_in(&dir, ".cert")? {
            let key = certificate.with_extension("key");
            if !key.exists() {
                let why = format!("there is no key {} with it", key.display());
                return Err(Error::Config { path: certificate, why });
            }
            found.clients.push((certificate, key));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_their_order() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example:5000/prefix"]
            capabilities = ["pull", "resolve"]
            ca = "ca.pem"
            client = [["c.pem", "k.pem"]]
            override_path = true
            [host."https://z.example:5000/prefix".header]
            x-token = ["a", "b"]
            [host."http://a.example"]
            skip_verify = true
        "#;
        let hosts =
            parse_hosts(Path::new("/d"), Path::new("/d/hosts.toml"), text, "docker.io").unwrap();
        let shown: Vec<String> = hosts.iter().map(|h| h.url.to_string()).collect();
        assert_eq!(
            shown,
            ["https://z.example:5000/prefix", "http://a.example/", "https://registry-1.docker.io/"]
        );
        let z = &hosts[0];
        assert!(z.override_path && z.can.pull && !z.can.push);
        assert_eq!(z.certificates.authorities, [PathBuf::from("/d/ca.pem")]);
        assert_eq!(z.certificates.clients, [("/d/c.pem".into(), "/d/k.pem".into())]);
        assert_eq!(z.headers, [("x-token".into(), "a".into()), ("x-token".into(), "b".into())]);
        assert!(hosts[1].certificates.skip_verify && hosts[2].can == Capabilities::ALL);
    }

    #[test]
    fn wrong_files_are_named() {
        for text in
            ["host = 1", "[host.\"ftp://x\"]", "[host.\"http://x\"]\nca = 1", "server = 'a b'"]
        {
            let error =
                parse_hosts(Path::new("/d"), Path::new("/d/hosts.toml"), text, "x").unwrap_err();
            assert!(error.to_string().starts_with("/d/hosts.toml: "), "{error}");
        }
    }
}
