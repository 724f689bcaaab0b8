//! A repository: its manifests, blobs, tags and referrers, from whichever endpoint has them.

use std::{future::Future, sync::Arc};

use hako_oci::{Algorithm, Descriptor, Digest, Reference, media_type};
use hyper::{
    Method,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LINK},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::runtime::Runtime;

use crate::{
    Client, Error, Result,
    challenge::Scopes,
    client::Core,
    endpoint::Endpoint,
    error::Said,
    send::{Answer, Call, Payload},
};

/// The longest manifest that is read. Registries take 4 MiB.
pub const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// Pages of a list that are read, and tags of all pages together.
const PAGES_MAX: usize = 1000;
const TAGS_MAX: usize = 1_000_000;
const PAGE_BYTES_MAX: usize = 16 << 20;
const PAGE_TAGS: &str = "1000";

/// All that a manifest may be.
const MANIFEST_TYPES: &[&str] = &[
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];
/// What registries give whoever asks for nothing newer.
const OLD_TYPES: &[&str] = &[
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest or index, byte by byte as the registry has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its digest, size and type.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A repository of a registry.
#[derive(Debug)]
pub struct Repository {
    pub(crate) core: Arc<Core>,
    runtime: Arc<Runtime>,
    name: Reference,
    mirrors: Vec<Endpoint>,
    registry: Endpoint,
}

/// What an endpoint is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Resolve,
    Pull,
}

impl Repository {
    pub(crate) fn new(
        client: &Client,
        name: &Reference,
        mirrors: Vec<Endpoint>,
        registry: Endpoint,
    ) -> Repository {
        let (core, runtime) = (Arc::clone(&client.core), Arc::clone(&client.runtime));
        Repository { core, runtime, name: name.clone(), mirrors, registry }
    }

    /// Its name, as it was asked for.
    pub fn name(&self) -> &Reference {
        &self.name
    }

    /// The manifest of a tag or digest. Its digest is checked where it is known, and computed where
    /// it is not.
    pub fn manifest(&self, reference: &str) -> Result<Document> {
        let digest = reference.parse::<Digest>().ok();
        let usage = if digest.is_some() { Use::Pull } else { Use::Resolve };
        self.wait(self.any_endpoint(usage, async |endpoint: &Endpoint| {
            self.fetch_manifest(endpoint, reference, digest.as_ref()).await
        }))
    }

    /// The digest of a tag, without its manifest; `None` where the registry does not say.
    pub fn resolve(&self, tag: &str) -> Result<Option<Digest>> {
        self.wait(self.any_endpoint(Use::Resolve, async |endpoint: &Endpoint| {
            let mut call = self.manifest_call(endpoint, tag)?;
            call.method = Method::HEAD;
            let answer = self.core.send(endpoint, &call).await?;
            match answer.status {
                status if status.is_success() => {
                    Ok(answer.header("docker-content-digest").and_then(|text| text.parse().ok()))
                }
                // It says no more than that: with GET, it says why.
                _ => self
                    .fetch_manifest(endpoint, tag, None)
                    .await
                    .map(|d| Some(d.descriptor.digest)),
            }
        }))
    }

    /// All tags, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        self.wait(self.any_endpoint(Use::Resolve, async |endpoint: &Endpoint| {
            let mut tags = Vec::new();
            let mut url = endpoint.url("tags/list").with_query("n", PAGE_TAGS);
            for _ in 0..PAGES_MAX {
                let call = Call::get("listing tags", url, self.scopes(endpoint, &["pull"]));
                let answer = self.core.send(endpoint, &call).await?;
                if !answer.status.is_success() {
                    return Err(self.refused(endpoint, answer, "listing tags", "pull", None).await);
                }
                let (from, link) =
                    (answer.url.clone(), answer.header(LINK.as_str()).and_then(next_page));
                let next = link.map(|link| from.join(&link));
                let bytes = answer.bytes(&self.core.config, PAGE_BYTES_MAX).await?;
                let odd = |why: String| Error::Protocol { url: from.shown(), why };
                let page: Page = serde_json::from_slice(&bytes).map_err(|e| odd(e.to_string()))?;
                tags.extend(page.tags.unwrap_or_default());
                if tags.len() > TAGS_MAX {
                    return Err(odd(format!("it has more than {TAGS_MAX} tags")));
                }
                match next {
                    None => return Ok(tags),
                    Some(next) => url = next.map_err(|e| odd(format!("its next page: {e}")))?,
                }
                // The next page is of this registry: credentials go with it.
                if url.origin != endpoint.origin {
                    return Err(odd(format!("its next page is elsewhere, {}", url.shown())));
                }
            }
            Err(Error::Protocol { url: url.shown(), why: format!("more than {PAGES_MAX} pages") })
        }))
    }

    /// Stores a manifest under a tag or its digest. Where it is about another and the registry does not
    /// keep such lists itself, it is added to the list under the other's tag.
    pub fn put_manifest(&self, reference: &str, document: &Document) -> Result<()> {
        self.wait(async {
            let endpoint = self.core.settled(&self.registry).await?;
            let url = endpoint.url(&format!("manifests/{reference}"));
            let scopes = self.scopes(&endpoint, &["pull", "push"]);
            let mut call = Call::new("pushing manifest", Method::PUT, url, scopes)
                .header(CONTENT_TYPE, &document.descriptor.media_type)?;
            call.body = Payload::Bytes(document.bytes.clone().into());
            let answer = self.core.send(&endpoint, &call).await?;
            if !answer.status.is_success() {
                return Err(self.refused(&endpoint, answer, call.what, "push", None).await);
            }
            let said =
                answer.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
            match said {
                Some(actual) if actual != document.descriptor.digest => {
                    let expected = document.descriptor.digest.clone();
                    Err(Error::DigestMismatch { url: answer.url.shown(), expected, actual })
                }
                _ => self.refer(&endpoint, document, &answer).await,
            }
        })
    }

    /// Deletes a manifest by digest, or a tag.
    pub fn delete_manifest(&self, reference: &str) -> Result<()> {
        self.delete("deleting manifest", &format!("manifests/{reference}"))
    }

    /// Deletes a blob.
    pub fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.delete("deleting blob", &format!("blobs/{digest}"))
    }

    fn delete(&self, what: &'static str, rest: &str) -> Result<()> {
        self.wait(async {
            let endpoint = self.core.settled(&self.registry).await?;
            let scopes = self.scopes(&endpoint, &["delete"]);
            let call = Call::new(what, Method::DELETE, endpoint.url(rest), scopes);
            let answer = self.core.send(&endpoint, &call).await?;
            match answer.status.is_success() {
                true => Ok(()),
                false => Err(self.refused(&endpoint, answer, what, "delete", None).await),
            }
        })
    }

    pub(crate) fn manifest_call(
        &self,
        endpoint: &Endpoint,
        reference: &str,
    ) -> Result<Call<'static>> {
        let url = endpoint.url(&format!("manifests/{reference}"));
        Call::get("pulling manifest", url, self.scopes(endpoint, &["pull"]))
            .header(ACCEPT, &MANIFEST_TYPES.join(", "))
    }

    pub(crate) async fn fetch_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        digest: Option<&Digest>,
    ) -> Result<Document> {
        let call = self.manifest_call(endpoint, reference)?;
        let answer = self.core.send(endpoint, &call).await?;
        if !answer.status.is_success() {
            let asked = self.shown(reference);
            return Err(self.refused(endpoint, answer, call.what, "pull", Some(&asked)).await);
        }
        let url = answer.url.shown();
        let kind = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let said: Option<Digest> =
            answer.header("docker-content-digest").and_then(|d| d.parse().ok());
        let bytes = answer.bytes(&self.core.config, MANIFEST_BYTES_MAX).await?;
        let odd = |why: String| Error::Protocol { url: url.clone(), why };
        let expected = digest.or(said.as_ref());
        let actual = digest_of(expected.map_or(Algorithm::Sha256, Digest::algorithm), &bytes);
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(Error::DigestMismatch { url, expected: expected.clone(), actual });
        }
        let media_type = kind_of(&kind, &bytes).map_err(odd)?;
        let descriptor = Descriptor::new(&media_type, actual, bytes.len() as u64);
        Ok(Document { descriptor, bytes })
    }

    /// A tag or digest of this repository, for people.
    pub(crate) fn shown(&self, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        format!("{}{separator}{reference}", self.name.familiar_name())
    }

    pub(crate) fn scopes(&self, endpoint: &Endpoint, actions: &[&str]) -> Scopes {
        Scopes::repository(&endpoint.repository, actions)
    }

    /// The registry itself, which is the only one that is pushed to.
    pub(crate) async fn to_push(&self) -> Result<Endpoint> {
        self.core.settled(&self.registry).await
    }

    /// Asks the mirrors, and then the registry; the first success counts.
    pub(crate) async fn any_endpoint<T>(
        &self,
        usage: Use,
        mut ask: impl AsyncFnMut(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut others = Vec::new();
        for endpoint in &self.mirrors {
            let able = match usage {
                Use::Resolve => endpoint.can.resolve,
                Use::Pull => endpoint.can.pull,
            };
            if !able {
                continue;
            }
            let asked = async {
                let endpoint = self.core.settled(endpoint).await?;
                ask(&endpoint).await
            };
            match asked.await {
                // The caller's own failure is not the mirror's.
                Err(error @ Error::Content(_)) => return Err(error),
                Err(error) => others.push(error),
                done => return done,
            }
        }
        let asked = async {
            let endpoint = self.core.settled(&self.registry).await?;
            ask(&endpoint).await
        };
        match asked.await {
            Err(error) if !others.is_empty() && !matches!(error, Error::Content(_)) => {
                Err(Error::AllFailed { primary: Box::new(error), others })
            }
            done => done,
        }
    }

    /// Runs on the caller's thread, with connections on the client's.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The error that an answer is.
    pub(crate) async fn refused(
        &self,
        endpoint: &Endpoint,
        answer: Answer,
        what: &str,
        action: &'static str,
        reference: Option<&str>,
    ) -> Error {
        let (status, url) = (answer.status.as_u16(), answer.url.clone());
        let mut reason = answer.said(&self.core.config).await;
        let repository = self.name.familiar_name();
        match (status, reference) {
            (401, _) if self.core.lacks_basic(endpoint).await => {
                reason = Said::text("no basic auth credentials");
                Error::Denied { action, repository, reason }
            }
            (401 | 403, _) => Error::Denied { action, repository, reason },
            (404, Some(reference)) => Error::NoManifest { reference: reference.into(), reason },
            (429, _) => Error::TooManyRequests { registry: url.origin.authority(), reason },
            _ => Error::Status { what: what.into(), url: url.shown(), status, reason },
        }
    }
}

/// The digest of bytes.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::from_sha512(Sha512::digest(bytes).into()),
    }
}

/// What a manifest is: what it says of itself, which must not contradict the header; a document
/// that could be read as two kinds is a trap (CVE-2021-41190).
pub(crate) fn kind_of(header: &str, bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kinds {
        schema_version: Option<u64>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let is_known = |kind: &str| MANIFEST_TYPES.contains(&kind);
    if OLD_TYPES.contains(&header) {
        return Err("it is an image of schema version 1, which nobody makes since 2017: \
                    push the image again with a newer client"
            .into());
    }
    let kinds: Kinds =
        serde_json::from_slice(bytes).map_err(|e| format!("its manifest is no JSON: {e}"))?;
    if kinds.schema_version == Some(1) {
        return Err("it is an image of schema version 1".into());
    }
    match kinds.media_type {
        Some(own) if is_known(header) && own != header => {
            Err(format!("its manifest says it is {}, its header {header}", Said::text(&own)))
        }
        Some(own) => Ok(own),
        None if is_known(header) => Ok(header.to_owned()),
        None => match (kinds.manifests.is_some(), kinds.config.is_some()) {
            (true, false) => Ok(media_type::OCI_INDEX.into()),
            (false, true) => Ok(media_type::OCI_MANIFEST.into()),
            _ => {
                Err(format!("its answer is no manifest, but {:?}", Said::text(header).to_string()))
            }
        },
    }
}

/// The address of the next page in a `Link` header (RFC 8288).
pub(crate) fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=next" | "rel=\"next\"")
        });
        is_next.then(|| target.to_owned())
    })
}

/// The length that an answer promises.
pub(crate) fn promised(answer: &Answer) -> Option<u64> {
    answer.header(CONTENT_LENGTH.as_str())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        assert_eq!(
            next_page("</v2/a/tags/list?last=x&n=2>; rel=\"next\"").as_deref(),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_page("<x>; rel=prev, <y>; rel=next").as_deref(), Some("y"));
        assert_eq!(next_page("<x>"), None);
        assert_eq!(next_page("x; rel=next"), None);
    }

    #[test]
    fn kinds_that_contradict_each_other_are_refused() {
        let (m, i) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
        let cases = [
            (m, r#"{"schemaVersion":2,"config":{}}"#, Ok(m)),
            ("text/plain", r#"{"schemaVersion":2,"config":{}}"#, Ok(m)),
            ("application/json", r#"{"schemaVersion":2,"manifests":[]}"#, Ok(i)),
            ("", r#"{"schemaVersion":2,"manifests":[],"config":{}}"#, Err("no manifest")),
            (m, r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#, Err("header")),
            ("text/html", "<html>", Err("no JSON")),
            (OLD_TYPES[1], "{}", Err("schema version 1")),
            ("", r#"{"schemaVersion":1}"#, Err("schema version 1")),
        ];
        for (header, body, want) in cases {
            match (kind_of(header, body.as_bytes()), want) {
                (Ok(kind), Ok(want)) => assert_eq!(kind, want),
                (Err(why), Err(want)) => assert!(why.contains(want), "{why}"),
                (got, want) => panic!("{header} {body}: {got:?}, want {want:?}"),
            }
        }
    }
}
