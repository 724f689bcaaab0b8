//! What is about a manifest: signatures, lists of contents, and whatever else is attached to it
//! (distribution specification, "Listing Referrers" and "Pushing Manifests with Subject").
//!
//! A registry that keeps such lists says so when a manifest with a subject is pushed. For any other
//! its clients keep an index under a tag that is made of the subject's digest, and change it one
//! after the other: by `If-Match` where the registry has it, and by looking again in any case.

use hako_oci::{
    Descriptor, Digest,
    image::{Index, Manifest},
    media_type,
};
use hyper::{
    Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH},
};
use serde::Deserialize;

use crate::{
    Document, Error, Repository, Result,
    endpoint::Endpoint,
    repository::{MANIFEST_BYTES_MAX, Use},
    send::{Answer, Call, Payload},
};

/// How often a list is written that others write at the same time.
const WRITES_MAX: usize = 8;

impl Repository {
    /// What is about the manifest of this digest, of one type or of all.
    pub fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let found = self.wait(self.any_endpoint(Use::Resolve, async |endpoint: &Endpoint| {
            let mut url = endpoint.url(&format!("referrers/{digest}"));
            if let Some(kind) = artifact_type {
                url = url.with_query("artifactType", kind);
            }
            let call = Call::get("listing referrers", url, self.scopes(endpoint, &["pull"]))
                .header(ACCEPT, media_type::OCI_INDEX)?;
            let answer = self.core.send(endpoint, &call).await?;
            let odd = |why: String| Error::Protocol { url: call.url.shown(), why };
            let bytes = match answer.status {
                StatusCode::NOT_FOUND => {
                    // A registry without this: its clients keep a list under a tag.
                    match self.fetch_manifest(endpoint, &tag_of(digest), None).await {
                        Ok(document) => document.bytes,
                        Err(error) if error.is_absent() => return Ok(Vec::new()),
                        Err(error) => return Err(error),
                    }
                }
                status if status.is_success() => {
                    answer.bytes(&self.core.config, MANIFEST_BYTES_MAX).await?
                }
                _ => {
                    let what = "listing referrers";
                    return Err(self.refused(endpoint, answer, what, "pull", None).await);
                }
            };
            Ok(Index::parse(&bytes).map_err(|e| odd(e.to_string()))?.manifests)
        }))?;
        let wanted = |found: &Descriptor| {
            artifact_type.is_none_or(|kind| found.artifact_type.as_deref() == Some(kind))
        };
        Ok(found.into_iter().filter(wanted).collect())
    }

    /// Adds a manifest that was pushed to the list of what is about its subject, unless the registry
    /// said that it has done so.
    pub(crate) async fn refer(
        &self,
        endpoint: &Endpoint,
        document: &Document,
        answer: &Answer,
    ) -> Result<()> {
        if answer.header("oci-subject").is_some() {
            return Ok(());
        }
        let Some((subject, entry)) = entry(document) else { return Ok(()) };
        let tag = tag_of(&subject);
        for _ in 0..WRITES_MAX {
            let (mut index, mark) = self.list(endpoint, &tag).await?;
            if index.manifests.iter().any(|known| known.digest == entry.digest) {
                return Ok(());
            }
            index.manifests.push(entry.clone());
            self.write_list(endpoint, &tag, &index, mark.as_deref()).await?;
            // Whether somebody else wrote meanwhile shows only when it is read again.
        }
        let why = format!("others write the list of referrers {tag} again and again");
        Err(Error::Protocol { url: endpoint.url(&format!("manifests/{tag}")).shown(), why })
    }

    /// The list under a tag, empty where there is none, and what marks its version.
    async fn list(&self, endpoint: &Endpoint, tag: &str) -> Result<(Index, Option<String>)> {
        let call = self.manifest_call(endpoint, tag)?;
        let answer = self.core.send(endpoint, &call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((Index::default(), None));
        }
        if !answer.status.is_success() {
            let what = "listing referrers";
            return Err(self.refused(endpoint, answer, what, "pull", None).await);
        }
        // A weak mark is no match for a change (RFC 9110, 13.1.1).
        let mark = answer.header(ETAG.as_str()).filter(|mark| mark.starts_with('"'));
        let mark = mark.map(str::to_owned);
        let url = answer.url.shown();
        let bytes = answer.bytes(&self.core.config, MANIFEST_BYTES_MAX).await?;
        let index = Index::parse(&bytes);
        let index = index.map_err(|e| Error::Protocol { url, why: e.to_string() })?;
        Ok((index, mark))
    }

    /// Writes a list, unless it is not the marked version any more.
    async fn write_list(
        &self,
        endpoint: &Endpoint,
        tag: &str,
        index: &Index,
        mark: Option<&str>,
    ) -> Result<()> {
        let url = endpoint.url(&format!("manifests/{tag}"));
        let odd = |why: String| Error::Protocol { url: url.shown(), why };
        let bytes = serde_json::to_vec(index).map_err(|e| odd(e.to_string()))?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(odd(format!("its list would be longer than {MANIFEST_BYTES_MAX} bytes")));
        }
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        let what = "listing a referrer";
        let mut call = Call::new(what, Method::PUT, url.clone(), scopes)
            .header(CONTENT_TYPE, media_type::OCI_INDEX)?;
        if let Some(mark) = mark {
            call = call.header(IF_MATCH, mark)?;
        }
        call.body = Payload::Bytes(bytes.into());
        let answer = self.core.send(endpoint, &call).await?;
        match answer.status {
            StatusCode::PRECONDITION_FAILED => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(endpoint, answer, what, "push", None).await),
        }
    }
}

/// Where lists are kept for a registry that keeps none.
fn tag_of(digest: &Digest) -> String {
    // As long as a tag may be.
    format!("{:.32}-{:.64}", digest.algorithm().name(), digest.hex())
}

/// What a document is about, and what the list of that says of the document.
fn entry(document: &Document) -> Option<(Digest, Descriptor)> {
    #[derive(Deserialize)]
    struct About {
        subject: Option<Descriptor>,
    }
    let about: About = serde_json::from_slice(&document.bytes).ok()?;
    let subject = about.subject?.digest;
    let Descriptor { media_type, digest, size, .. } = &document.descriptor;
    let mut entry = Descriptor::new(media_type, digest.clone(), *size);
    match Manifest::parse(&document.bytes) {
        Ok(manifest) => {
            let kind = manifest.artifact_type.unwrap_or(manifest.config.media_type);
            entry.artifact_type = Some(kind);
            entry.annotations = manifest.annotations;
        }
        Err(_) => {
            let index = Index::parse(&document.bytes).ok()?;
            entry.artifact_type = index.artifact_type;
            entry.annotations = index.annotations;
        }
    }
    Some((subject, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_what_a_manifest_is() {
        let subject = Digest::sha256(b"subject");
        let about = format!(
            r#"{{"mediaType":"{}","digest":"{subject}","size":7}}"#,
            media_type::OCI_MANIFEST
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/config","digest":"{subject}","size":2}},
                "layers":[],"subject":{about},"annotations":{{"k":"v"}}}}"#
        );
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
        let document = Document { descriptor, bytes: manifest.into_bytes() };
        let (of, found) = entry(&document).unwrap();
        assert_eq!(of, subject);
        assert_eq!(found.artifact_type.as_deref(), Some("a/config"));
        assert_eq!(found.annotations["k"], "v");
        let plain = Document { bytes: b"{}".to_vec(), ..document };
        assert_eq!(entry(&plain), None);
        assert_eq!(tag_of(&subject), format!("sha256-{}", subject.hex()));
    }
}
