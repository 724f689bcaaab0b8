//! References: what a person types to name an image.
//!
//! The grammar is that of the distribution project's `reference` package, with Docker's
//! normalisation: `alpine` means `docker.io/library/alpine:latest`.

use std::{fmt, str::FromStr};

use crate::Digest;

/// The registry that a reference without one means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The longest repository path, with its domain, that registries accept.
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A normalised reference: domain and path, and a tag or a digest or both.
///
/// ```
/// use hako_oci::Reference;
///
/// let r: Reference = "alpine:3.10".parse().unwrap();
/// assert_eq!(r.to_string(), "docker.io/library/alpine:3.10");
/// assert_eq!(r.familiar(), "alpine:3.10");
/// assert_eq!("localhost:5000/a/b".parse::<Reference>().unwrap().tag(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The name is longer than registries accept.
    #[error("repository name must not be more than 255 characters")]
    NameTooLong,
    /// 64 hexadecimal digits are an image ID, not a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    ImageId(String),
    /// The part after `@` is no digest.
    #[error("invalid reference format: {0}")]
    Digest(#[from] crate::digest::Error),
}

impl Reference {
    /// The registry, as `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within its registry, as `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, where one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same with the tag `latest` where neither tag nor digest was written.
    pub fn with_default_tag(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same with another tag and no digest. Fails if `tag` is no tag.
    pub fn with_tag(mut self, tag: &str) -> Result<Reference, Error> {
        if !is_tag(tag) {
            return Err(Error::Format);
        }
        self.tag = Some(tag.into());
        self.digest = None;
        Ok(self)
    }

    /// The same by digest alone.
    pub fn with_digest(mut self, digest: Digest) -> Reference {
        self.tag = None;
        self.digest = Some(digest);
        self
    }

    /// The repository as people are shown it: without `docker.io/library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The reference as people are shown it.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut s: String) -> String {
        if let Some(tag) = &self.tag {
            s.push(':');
            s.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            s.push('@');
            s.push_str(&digest.to_string());
        }
        s
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(s: &str) -> Result<Reference, Error> {
        if is_image_id(s) {
            return Err(Error::ImageId(s.into()));
        }
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (s, None),
        };
        // The tag's colon comes after the last slash; an earlier one is a port.
        let tag_at = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[tag_at..].find(':') {
            Some(colon) => (&rest[..tag_at + colon], Some(&rest[tag_at + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(Error::Format);
        }
        let (domain, path) = split_domain(name);
        if !is_domain(domain) {
            return Err(Error::Format);
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
            return Err(Error::Uppercase(path));
        }
        if !is_path(&path) {
            return Err(Error::Format);
        }
        if domain.len() + 1 + path.len() > NAME_LEN_MAX {
            return Err(Error::NameTooLong);
        }
        Ok(Reference { domain: domain.into(), path, tag: tag.map(str::to_owned), digest })
    }
}

/// The first component is a domain if it has a dot or a colon, is `localhost`, or has capitals.
fn split_domain(name: &str) -> (&str, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    match domain == DEFAULT_DOMAIN && !path.contains('/') {
        true => (domain, format!("library/{path}")),
        false => (domain, path.to_owned()),
    }
}

fn is_image_id(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether this is a tag: at most 128 letters, digits, `_`, `.` and `-`, the last two not first.
pub fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match s.as_bytes() {
        [first, rest @ ..] => {
            word(*first)
                && rest.len() < TAG_LEN_MAX
                && rest.iter().all(|&b| word(b) || b == b'.' || b == b'-')
        }
        [] => false,
    }
}

fn is_domain(s: &str) -> bool {
    let (host, port) = match s.strip_prefix('[').and_then(|s| s.split_once(']')) {
        Some((v6, rest)) => {
            if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if rest.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match s.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (s, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether this is a repository's path within its registry: components of lower-case letters and
/// digits, joined by `.`, `_`, `__` or dashes. Says nothing of its length.
pub fn is_path(s: &str) -> bool {
    s.split('/').all(|component| {
        let alnum = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
        let bytes = component.as_bytes();
        let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
        let separators_fit = component
            .split(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase())
            .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'));
        alnum(first) && alnum(last) && separators_fit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let cases = [
            ("alpine", "docker.io/library/alpine", "alpine"),
            ("alpine:3.10", "docker.io/library/alpine:3.10", "alpine:3.10"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/a/b:x", "docker.io/a/b:x", "a/b:x"),
            ("localhost/a", "localhost/a", "localhost/a"),
            ("localhost:5000/a:1", "localhost:5000/a:1", "localhost:5000/a:1"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (
                "reg.example/a__b/c--d:T_1.x-y",
                "reg.example/a__b/c--d:T_1.x-y",
                "reg.example/a__b/c--d:T_1.x-y",
            ),
            ("Host/a", "Host/a", "Host/a"),
        ];
        for (input, full, familiar) in cases {
            let r: Reference = input.parse().unwrap_or_else(|e| panic!("{input}: {e}"));
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (full, familiar));
            assert_eq!(full.parse::<Reference>().unwrap(), r, "round trip of {input}");
        }
    }

    #[test]
    fn digests_and_tags_go_together() {
        let d = Digest::sha256(b"");
        let r: Reference = format!("a:1@{d}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (Some("1"), Some(&d)));
    }

    #[test]
    fn everything_else_is_refused() {
        let id = "a".repeat(64);
        let long = "a/".repeat(130) + "a";
        let tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            ":",
            "a:",
            "@",
            "a@",
            "a@sha256:12",
            "A",
            "a/B",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a b",
            "a:b c",
            "a:-x",
            "host:port/a",
            "a.b:/c",
            "[::1/a",
            "é",
            &id,
            &long,
            &tag,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(matches!("Alpine".parse::<Reference>(), Err(Error::Uppercase(_))));
    }
}
