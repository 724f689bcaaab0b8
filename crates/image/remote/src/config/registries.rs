//! `registries.conf`, version 2 (containers-registries.conf(5)): which places an image name means.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use hako_oci::Reference;
use serde::Deserialize;

use super::{files_in, parse, read};
use crate::{Error, Result};

/// All such files together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registries {
    registries: Vec<Registry>,
    aliases: BTreeMap<String, String>,
    search: Vec<String>,
}

/// A place that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host, with its port.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// Whether certificates are not looked at, and plain HTTP is taken.
    pub insecure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    unqualified_search_registries: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
    /// The file that says so.
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: FromMirror,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FromMirror {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl Registries {
    /// Reads the first of `files` that exists, and the directory `.d` beside each of them.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Registries> {
        let mut all = Registries::default();
        for path in files {
            if let Some(text) = read(path)? {
                all.add(path, &text)?;
                break;
            }
        }
        // The system's first, so that the user's win.
        for path in files.iter().rev() {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".d");
            for path in files_in(Path::new(&beside), ".conf")? {
                if let Some(text) = read(&path)? {
                    all.add(&path, &text)?;
                }
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<()> {
        let wrong = |why: String| Error::Config { path: path.into(), why };
        let file: File = parse(path, text)?;
        for mut registry in file.registry {
            registry.path = path.into();
            let prefix = registry.prefix.take().or_else(|| registry.location.clone());
            let prefix = prefix.filter(|prefix| !prefix.is_empty());
            let prefix =
                prefix.ok_or_else(|| wrong("a registry has neither prefix nor location".into()))?;
            if prefix.contains('*') && !prefix.starts_with("*.") || prefix[1..].contains('*') {
                return Err(wrong(format!(
                    "prefix {prefix:?}: only \"*.\" at its beginning is a wildcard"
                )));
            }
            if prefix.starts_with('*') && registry.location.is_some() && prefix.contains('/') {
                return Err(wrong(format!(
                    "prefix {prefix:?}: a wildcard is for hosts, without path"
                )));
            }
            registry.prefix = Some(prefix);
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        self.aliases.extend(file.aliases);
        if let Some(search) = file.unqualified_search_registries {
            self.search = search;
        }
        Ok(())
    }

    /// What a name without a registry stands for here: an alias's target, the name in each of the
    /// registries to search, or, where nothing is configured, Docker's meaning alone.
    pub(crate) fn short_name(&self, typed: &str) -> Result<Vec<Reference>> {
        let name: Reference = typed.parse().map_err(|_| bad_name(typed))?;
        let domain = name.domain();
        let written = typed.strip_prefix(domain).is_some_and(|rest| rest.starts_with('/'))
            || typed.starts_with("index.docker.io/");
        if written {
            return Ok(vec![name]);
        }
        let end = typed.find('@').unwrap_or(typed.len());
        let end = typed[..end].rfind(':').unwrap_or(end);
        let (short, rest) = typed.split_at(end);
        let parse = |text: String| text.parse::<Reference>().map_err(|_| bad_name(&text));
        if let Some(target) = self.aliases.get(short).filter(|target| !target.is_empty()) {
            return Ok(vec![parse(format!("{target}{rest}"))?]);
        }
        if self.search.is_empty() {
            return Ok(vec![name]);
        }
        self.search.iter().map(|registry| parse(format!("{registry}/{typed}"))).collect()
    }

    /// Mirrors in their order, and last the registry itself.
    pub(crate) fn places(&self, name: &Reference) -> Result<(Vec<Place>, Place)> {
        let full = name.to_string();
        let found = self.registries.iter().filter_map(|registry| {
            let prefix = registry.prefix.as_deref()?;
            Some((matches(prefix, &full)?, prefix, registry))
        });
        let Some((matched, prefix, registry)) = found.max_by_key(|(_, prefix, _)| prefix.len())
        else {
            let (host, repository) = (name.domain().to_owned(), name.path().to_owned());
            return Ok((Vec::new(), Place { host, repository, insecure: false }));
        };
        if registry.blocked {
            let path = registry.path.clone();
            return Err(Error::Blocked { registry: prefix.into(), path });
        }
        let bare = name.name();
        let rest = &bare[matched.min(bare.len())..];
        let place = |location: &str, insecure| -> Result<Place> {
            let whole = format!("{}{rest}", location.trim_end_matches('/'));
            let (host, repository) = whole.split_once('/').ok_or_else(|| Error::Config {
                path: registry.path.clone(),
                why: format!("location {location:?} leaves no repository for {bare}"),
            })?;
            Ok(Place { host: host.into(), repository: repository.into(), insecure })
        };
        let by_digest = name.digest().is_some();
        let mut mirrors = Vec::new();
        for mirror in &registry.mirror {
            let wanted = match mirror.pull_from_mirror {
                FromMirror::All => by_digest || !registry.mirror_by_digest_only,
                FromMirror::DigestOnly => by_digest,
                FromMirror::TagOnly => !by_digest && !registry.mirror_by_digest_only,
            };
            if wanted {
                mirrors.push(place(&mirror.location, mirror.insecure)?);
            }
        }
        let location = registry.location.as_deref().filter(|location| !location.is_empty());
        Ok((mirrors, place(location.unwrap_or(&bare[..matched]), registry.insecure)?))
    }
}

fn bad_name(name: &str) -> Error {
    Error::Protocol { url: name.into(), why: "invalid reference format".into() }
}

/// How much of the name a prefix matches, if it does: up to the end of a component.
fn matches(prefix: &str, name: &str) -> Option<usize> {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host_end = name.find('/')?;
        return name[..host_end].ends_with(suffix).then_some(host_end);
    }
    let rest = name.strip_prefix(prefix)?;
    // After a host, a colon begins a port, which makes it another registry.
    let ends = rest.starts_with(['/', '@']) || (rest.starts_with(':') && prefix.contains('/'));
    (rest.is_empty() || ends).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["first.example", "docker.io"]
        short-name-mode = "permissive"
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library/special"
        location = "other.example/x/special"
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
        [[registry]]
        location = "bad.example"
        blocked = true
        [aliases]
        fedora = "registry.example/fedora/fedora"
    "#;

    fn registries(text: &str) -> Result<Registries> {
        let mut registries = Registries::default();
        registries.add(Path::new("registries.conf"), text)?;
        Ok(registries)
    }

    #[test]
    fn the_longest_prefix_says_where_a_name_is() {
        let conf = registries(CONF).unwrap();
        let places = |name: &str| -> String {
            match conf.places(&name.parse::<Reference>().unwrap().with_default_tag()) {
                Err(e) => e.to_string(),
                Ok((mirrors, place)) => mirrors
                    .iter()
                    .chain([&place])
                    .map(|p| {
                        format!("{}/{}{}", p.host, p.repository, if p.insecure { "!" } else { "" })
                    })
                    .collect::<Vec<_>>()
                    .join(" "),
            }
        };
        let d = hako_oci::Digest::sha256(b"");
        let cases = [
            ("alpine", "mirror.example/hub/library/alpine! docker.io/library/alpine".to_owned()),
            (&format!("alpine@{d}"),
             "mirror.example/hub/library/alpine! digests.example/library/alpine docker.io/library/alpine".into()),
            ("special:1", "other.example/x/special".into()),
            ("special2:1", "mirror.example/hub/library/special2! docker.io/library/special2".into()),
            ("a.b.corp.example/x/y", "a.b.corp.example/x/y!".into()),
            ("corp.example/x/y", "corp.example/x/y".into()),
            ("bad.example/x", "registry bad.example is blocked in registries.conf".into()),
            ("bad.example:5000/x", "bad.example:5000/x".into()),
        ];
        for (name, want) in cases {
            assert_eq!(places(name), want, "{name}");
        }
    }

    #[test]
    fn short_names() {
        let names = |conf: &Registries, typed: &str| {
            let names = conf.short_name(typed).unwrap();
            names.iter().map(Reference::to_string).collect::<Vec<_>>().join(" ")
        };
        let conf = registries(CONF).unwrap();
        let cases = [
            ("fedora:40", "registry.example/fedora/fedora:40"),
            ("a/b:1", "first.example/a/b:1 docker.io/a/b:1"),
            ("docker.io/a", "docker.io/library/a"),
            ("localhost:5000/a", "localhost:5000/a"),
        ];
        for (typed, want) in cases {
            assert_eq!(names(&conf, typed), want, "{typed}");
        }
        assert_eq!(names(&Registries::default(), "fedora"), "docker.io/library/fedora");
    }

    #[test]
    fn wrong_files_are_named() {
        for text in
            ["[[registry]]\n", "[[registry]]\nprefix='a*'\n", "x = [", "[[registry]]\nlocation=1"]
        {
            let error = registries(text).unwrap_err().to_string();
            assert!(error.starts_with("registries.conf: "), "{error}");
        }
    }
}
