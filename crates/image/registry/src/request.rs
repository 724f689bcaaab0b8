//! What a request asks for: paths, queries and ranges, parsed without effects.
//!
//! Paths are read from their right end, because names may have any number of components, and
//! components may be called `blobs` or `manifests`. Each component is decoded by itself and then
//! held to its grammar, in which there is neither `/` nor `..`: no request can name a file.

use hako_oci::{Digest, reference};

use crate::refusal::{Code, Refusal};

/// The longest name of a repository.
pub const NAME_BYTES_MAX: usize = 255;

/// A repository's name, which follows the grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository(String);

impl Repository {
    /// `None` where it does not follow the grammar.
    pub fn parse(name: &str) -> Option<Repository> {
        (name.len() <= NAME_BYTES_MAX && reference::is_path(name))
            .then(|| Repository(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The end of a manifest's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// A moving name.
    Tag(String),
    /// A fixed one.
    Digest(Digest),
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry?
    Root,
    /// `/v2/_catalog`.
    Catalog,
    /// `/metrics`.
    Metrics,
    /// `/v2/<name>/tags/list`.
    Tags(Repository),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(Repository, ManifestName),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(Repository, Digest),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<id>`.
    Upload(Repository, String),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(Repository, Digest),
}

/// Why a path means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// No path of a registry.
    Unknown,
    /// The name does not follow the grammar.
    Name(String),
    /// The tag does not.
    Tag(String),
    /// The digest does not, or is of an algorithm that nobody registered.
    Digest(String),
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Refusal {
        match error {
            RouteError::Unknown => Refusal::new(Code::NameUnknown, "no such path"),
            RouteError::Name(name) => Refusal::new(Code::NameInvalid, name),
            RouteError::Tag(tag) => Refusal::new(Code::TagInvalid, tag),
            RouteError::Digest(why) => Refusal::new(Code::DigestInvalid, why),
        }
    }
}

/// What `path` means.
pub fn route(path: &str) -> Result<Route, RouteError> {
    match path {
        "/v2" | "/v2/" => return Ok(Route::Root),
        "/v2/_catalog" => return Ok(Route::Catalog),
        "/metrics" => return Ok(Route::Metrics),
        _ => {}
    }
    let rest = path.strip_prefix("/v2/").ok_or(RouteError::Unknown)?;
    let parts: Option<Vec<String>> = rest.split('/').map(decode).collect();
    let parts = parts.ok_or(RouteError::Unknown)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    // The longest forms first: an upload's ID is no digest, and `uploads` is none either.
    match parts.as_slice() {
        [name @ .., "tags", "list"] => Ok(Route::Tags(repository(name)?)),
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
            Ok(Route::Uploads(repository(name)?))
        }
        [name @ .., "blobs", "uploads", id] => {
            Ok(Route::Upload(repository(name)?, (*id).to_owned()))
        }
        [name @ .., "blobs", digest_text] => {
            Ok(Route::Blob(repository(name)?, digest(digest_text)?))
        }
        [name @ .., "referrers", digest_text] => {
            Ok(Route::Referrers(repository(name)?, digest(digest_text)?))
        }
        [name @ .., "manifests", end] => {
            Ok(Route::Manifest(repository(name)?, manifest_name(end)?))
        }
        _ => Err(RouteError::Unknown),
    }
}

fn repository(parts: &[&str]) -> Result<Repository, RouteError> {
    let name = parts.join("/");
    Repository::parse(&name).ok_or(RouteError::Name(name))
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(|e| RouteError::Digest(format!("{e}")))
}

/// A tag or a digest. What has a colon was meant as a digest.
fn manifest_name(text: &str) -> Result<ManifestName, RouteError> {
    if text.contains(':') {
        return digest(text).map(ManifestName::Digest);
    }
    match reference::is_tag(text) {
        true => Ok(ManifestName::Tag(text.to_owned())),
        false => Err(RouteError::Tag(text.to_owned())),
    }
}

/// A query's parameters, decoded, in order. `+` stays what it is: media types are full of it.
pub fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Without `%XX`; `None` where that is no UTF-8 or no escape.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2)?;
        let digit = |b: u8| char::from(b).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

/// What a `Range` header comes to for content of a known size (RFC 9110, 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranged {
    /// All of it: there is no range, or one that may be ignored.
    Whole,
    /// From the first to the last of these bytes, both of which are there.
    Part(u64, u64),
    /// Nothing of it is there.
    Unsatisfiable,
}

/// Reads a `Range` header. What is not understood, and more than one range, is ignored, as the
/// standard allows; a range that ends before it begins has nothing in it.
pub fn range(header: Option<&str>, size: u64) -> Ranged {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Ranged::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Ranged::Whole };
    match (number(first.trim()), number(last.trim())) {
        // By RFC 9110 it is no range at all; the specification's conformance suite wants 416.
        (Some(first), Some(last)) if first > last => Ranged::Unsatisfiable,
        (Some(first), _)
            if first >= size && (last.trim().is_empty() || number(last.trim()).is_some()) =>
        {
            Ranged::Unsatisfiable
        }
        (Some(first), Some(last)) => Ranged::Part(first, last.min(size - 1)),
        (Some(first), None) if last.trim().is_empty() => Ranged::Part(first, size - 1),
        (None, Some(0)) if first.trim().is_empty() => Ranged::Unsatisfiable,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Ranged::Unsatisfiable,
        (None, Some(count)) if first.trim().is_empty() => {
            Ranged::Part(size - count.min(size), size - 1)
        }
        _ => Ranged::Whole,
    }
}

/// A chunk's `Content-Range`: `<first>-<last>`, also in HTTP's own form `bytes <first>-<last>/<size>`.
/// `None` where it is neither, or ends before it begins.
pub fn content_range(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// Decimal digits and nothing else.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn told(path: &str) -> String {
        match route(path) {
            Ok(Route::Tags(name)) => format!("tags {}", name.as_str()),
            Ok(Route::Manifest(name, ManifestName::Tag(tag))) => {
                format!("manifest {} {tag}", name.as_str())
            }
            Ok(Route::Manifest(name, ManifestName::Digest(d))) => {
                format!("manifest {} @{}", name.as_str(), d.short())
            }
            Ok(Route::Blob(name, d)) => format!("blob {} {}", name.as_str(), d.short()),
            Ok(Route::Uploads(name)) => format!("uploads {}", name.as_str()),
            Ok(Route::Upload(name, id)) => format!("upload {} {id}", name.as_str()),
            Ok(Route::Referrers(name, d)) => format!("referrers {} {}", name.as_str(), d.short()),
            Ok(other) => format!("{other:?}"),
            Err(e) => format!("{e:?}").split('(').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn paths() {
        let long = "a/".repeat(140);
        for (path, want) in [
            ("/v2/", "Root"),
            ("/v2", "Root"),
            ("/v2/_catalog", "Catalog"),
            ("/v2/a/tags/list", "tags a"),
            ("/v2/a/b/c/tags/list", "tags a/b/c"),
            ("/v2/tags/list/tags/list", "tags tags/list"),
            ("/v2/a/manifests/latest", "manifest a latest"),
            ("/v2/a/manifests/manifests/v1", "manifest a/manifests v1"),
            ("/v2/a/manifests/sha256:HEX", "manifest a @e3b0c44298fc"),
            ("/v2/a/manifests/sha256%3AHEX", "manifest a @e3b0c44298fc"),
            ("/v2/a/blobs/sha256:HEX", "blob a e3b0c44298fc"),
            ("/v2/a/blobs/uploads/", "uploads a"),
            ("/v2/a/blobs/uploads", "uploads a"),
            ("/v2/a/blobs/uploads/1-2", "upload a 1-2"),
            ("/v2/a/blobs/blobs/uploads/", "uploads a/blobs"),
            ("/v2/a/referrers/sha256:HEX", "referrers a e3b0c44298fc"),
            ("/v2/a/manifests/.x", "Tag"),
            ("/v2/a/manifests/sha256:abc", "Digest"),
            ("/v2/a/manifests/md5:HEX", "Digest"),
            ("/v2/a/blobs/HEX", "Digest"),
            ("/v2/A/tags/list", "Name"),
            ("/v2/../tags/list", "Name"),
            ("/v2/a/../b/tags/list", "Name"),
            ("/v2/a%2F..%2Fb/tags/list", "Name"),
            ("/v2/a//b/tags/list", "Name"),
            ("/v2//tags/list", "Name"),
            ("/v2/tags/list", "Name"),
            ("/v2/a/tags", "Unknown"),
            ("/v2/a%zz/tags/list", "Unknown"),
            ("/v2/%ff/tags/list", "Unknown"),
            ("/", "Unknown"),
            ("/v1/a", "Unknown"),
            (&format!("/v2/{long}a/tags/list"), "Name"),
        ] {
            assert_eq!(told(&path.replace("HEX", HEX)), want, "{path}");
        }
    }

    #[test]
    fn ranges() {
        use Ranged::{Part, Unsatisfiable, Whole};
        for (header, size, want) in [
            ("bytes=0-0", 10, Part(0, 0)),
            ("bytes=2-5", 10, Part(2, 5)),
            ("bytes=2-", 10, Part(2, 9)),
            ("bytes=-3", 10, Part(7, 9)),
            ("bytes=-30", 10, Part(0, 9)),
            ("bytes=5-500", 10, Part(5, 9)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-11", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=5-2", 10, Unsatisfiable),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("items=0-1", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=0-99999999999999999999999", 10, Whole),
        ] {
            assert_eq!(range(Some(header), size), want, "{header} of {size}");
        }
        assert_eq!(range(None, 10), Whole);
        for (header, want) in [
            ("0-9", Some((0, 9))),
            ("bytes 5-9/*", Some((5, 9))),
            ("bytes=5-9", Some((5, 9))),
            (" 0-0 ", Some((0, 0))),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("", None),
            ("a-b", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(content_range(header), want, "{header}");
        }
    }

    #[test]
    fn queries() {
        let found = query("digest=sha256%3Aab&n=5&&artifactType=application/x+json&flag&bad=%z");
        let want = [
            ("digest", "sha256:ab"),
            ("n", "5"),
            ("artifactType", "application/x+json"),
            ("flag", ""),
        ];
        assert_eq!(found, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    proptest! {
        #[test]
        fn nothing_parsed_can_name_a_file(path in "(/v2)?/[a-z0-9%./:_A-Z-]{0,60}") {
            if let Ok(Route::Manifest(name, _) | Route::Tags(name)) = route(&path) {
                prop_assert!(name.as_str().split('/').all(|c| !c.is_empty() && !c.starts_with('.')));
            }
        }

        #[test]
        fn a_part_is_within(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Ranged::Part(first, last) = range(Some(&header), size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn anything_is_read(text in any::<String>()) {
            route(&text).ok();
            query(&text);
            content_range(&text);
            range(Some(&text), 7);
        }
    }
}
