//! Pulling, pushing and deleting manifests (OCI Distribution Specification 1.1).

use hako_content::{Error as StoreError, Kind, Names};
use hako_oci::{
    Descriptor, Digest,
    image::{Index, Manifest},
    media_type,
};
use hyper::{Response, StatusCode, body::Incoming};
use sha2::Digest as _;

use crate::{
    body::Body,
    catalog,
    refusal::{Code, Refusal},
    request::{ManifestName, Repository},
    server::{Asked, State, answer, block, chunk},
};

/// The longest manifest that is taken, as the specification proposes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// How many tags one push may set.
const TAGS_MAX: usize = 10;

/// Layers that may be missing: they are, by their type, not to be distributed.
const NOT_DISTRIBUTED: &[&str] = &[
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub(crate) fn get(
    state: &State,
    repository: &Repository,
    name: &ManifestName,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let descriptor = block(|| state.store.view(|names| find(names, repository, name)))?;
    let etag = format!("\"{}\"", descriptor.digest);
    let mut headers =
        vec![("Docker-Content-Digest", descriptor.digest.to_string()), ("ETag", etag.clone())];
    if asked.is_known(&etag) {
        return Ok(answer(StatusCode::NOT_MODIFIED, &headers, Body::empty()));
    }
    headers.push(("Content-Type", descriptor.media_type.clone()));
    headers.push(("Content-Length", descriptor.size.to_string()));
    let body = match asked.is_head {
        true => Body::empty(),
        false => Body::text(read(state, &descriptor)?),
    };
    Ok(answer(StatusCode::OK, &headers, body))
}

fn find(
    names: &Names<'_>,
    repository: &Repository,
    name: &ManifestName,
) -> Result<Descriptor, Refusal> {
    let found = match name {
        ManifestName::Tag(tag) => catalog::tag(names, repository, tag)?,
        ManifestName::Digest(digest) => catalog::manifest(names, repository, digest)?,
    };
    found.ok_or_else(|| missing(name))
}

fn missing(name: &ManifestName) -> Refusal {
    let detail = match name {
        ManifestName::Tag(tag) => tag.clone(),
        ManifestName::Digest(digest) => digest.to_string(),
    };
    Refusal::new(Code::ManifestUnknown, detail)
}

/// The document, verified again.
pub(crate) fn read(state: &State, descriptor: &Descriptor) -> Result<Vec<u8>, Refusal> {
    block(|| state.store.document(descriptor)).map_err(|e| match e {
        // Deleted and collected since its name was read.
        StoreError::Missing(digest) => Refusal::new(Code::ManifestUnknown, digest.to_string()),
        e => Refusal::fault(crate::refusal::chain(&e)),
    })
}

/// `DELETE /v2/<name>/manifests/<reference>`: a tag alone, or a manifest with all its tags.
pub(crate) fn delete(
    state: &State,
    repository: &Repository,
    name: &ManifestName,
) -> Result<Response<Body>, Refusal> {
    let removed = block(|| {
        state.store.update(|names| match name {
            ManifestName::Tag(tag) => catalog::remove_tag(names, repository, tag),
            ManifestName::Digest(digest) => catalog::remove_manifest(names, repository, digest),
        })
    })?;
    match removed {
        true => Ok(answer(StatusCode::ACCEPTED, &[("Content-Length", "0".into())], Body::empty())),
        false => Err(missing(name)),
    }
}

/// `PUT /v2/<name>/manifests/<reference>`; with a digest, `?tag=` may give it tags, and with a tag,
/// `?digest=` may say under which digest it is kept.
pub(crate) async fn put(
    state: &State,
    repository: &Repository,
    name: &ManifestName,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let (tags, expected) = named(name, asked)?;
    let bytes = receive(state, asked, body).await?;
    let document = Document::parse(asked.content_type.as_deref(), &bytes)?;
    let digest = match expected {
        None => Digest::sha256(&bytes),
        Some(expected) => {
            let actual = match expected.algorithm() {
                hako_oci::Algorithm::Sha256 => Digest::sha256(&bytes),
                hako_oci::Algorithm::Sha512 => {
                    Digest::from_sha512(sha2::Sha512::digest(&bytes).into())
                }
            };
            if actual != expected {
                let detail = format!("{expected}: content is {actual}");
                return Err(Refusal::new(Code::DigestInvalid, detail));
            }
            actual
        }
    };
    let descriptor = Descriptor::new(&document.media_type, digest, bytes.len() as u64);
    block(|| {
        let lease = state.store.lease()?;
        lease.put(&descriptor, bytes.as_slice())?;
        lease.publish(|names| {
            let needed = if state.options.sparse { &[][..] } else { &document.blobs };
            for blob in needed {
                if catalog::blob(names, repository, &blob.digest)?.is_none() {
                    return Err(Refusal::new(Code::ManifestBlobUnknown, blob.digest.to_string()));
                }
            }
            let subject = document.subject.as_ref();
            Ok(catalog::put_manifest(names, repository, &descriptor, &tags, subject)?)
        })
    })?;
    let mut headers = vec![
        ("Location", format!("/v2/{}/manifests/{}", repository.as_str(), descriptor.digest)),
        ("Docker-Content-Digest", descriptor.digest.to_string()),
        ("Content-Length", "0".to_owned()),
    ];
    if let Some(subject) = &document.subject {
        headers.push(("OCI-Subject", subject.to_string()));
    }
    if let ManifestName::Digest(_) = name {
        headers.extend(tags.iter().map(|tag| ("OCI-Tag", tag.clone())));
    }
    Ok(answer(StatusCode::CREATED, &headers, Body::empty()))
}

/// The tags and the digest that a push is to have.
fn named(name: &ManifestName, asked: &Asked) -> Result<(Vec<String>, Option<Digest>), Refusal> {
    match name {
        ManifestName::Tag(tag) => {
            let digest = asked.query("digest").map(str::parse).transpose();
            let digest = digest.map_err(|e| Refusal::new(Code::DigestInvalid, format!("{e}")))?;
            Ok((vec![tag.clone()], digest))
        }
        ManifestName::Digest(digest) => {
            let tags: Vec<String> = asked.queries("tag").map(str::to_owned).collect();
            if tags.len() > TAGS_MAX {
                let refusal = Refusal::new(Code::TagInvalid, format!("more than {TAGS_MAX} tags"));
                return Err(refusal.status(StatusCode::URI_TOO_LONG));
            }
            if let Some(bad) = tags.iter().find(|tag| !hako_oci::reference::is_tag(tag)) {
                return Err(Refusal::new(Code::TagInvalid, bad));
            }
            Ok((tags, Some(digest.clone())))
        }
    }
}

async fn receive(state: &State, asked: &Asked, body: &mut Incoming) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        Refusal::new(Code::SizeInvalid, format!("more than {MANIFEST_BYTES_MAX} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if asked.content_length.is_some_and(|length| length > MANIFEST_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(part) = chunk(state, body).await? {
        if bytes.len() + part.len() > MANIFEST_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// What a manifest of this type is about, if it is one.
pub(crate) fn subject(media_type: &str, bytes: &[u8]) -> Result<Option<Digest>, Refusal> {
    Ok(Document::parse(Some(media_type), bytes)?.subject)
}

/// What matters of a manifest that is pushed.
#[derive(Debug)]
struct Document {
    media_type: String,
    /// What must be in the repository.
    blobs: Vec<Descriptor>,
    subject: Option<Digest>,
}

impl Document {
    fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Document, Refusal> {
        let invalid = |why: String| Refusal::new(Code::ManifestInvalid, why);
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            media_type: Option<String>,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        let is_known = |t: &str| Kind::of(t) != Kind::Leaf;
        let header = content_type.map(|t| t.split(';').next().unwrap_or_default().trim());
        let media_type = match (header.filter(|t| is_known(t)), head.media_type) {
            (Some(header), Some(own)) if own != header => {
                return Err(invalid(format!("it is {own:?}, and was sent as {header:?}")));
            }
            (Some(header), _) => header.to_owned(),
            (None, Some(own)) if is_known(&own) => own,
            (None, own) => {
                let own = own.as_deref().or(header).unwrap_or_default().to_owned();
                return Err(invalid(format!("unsupported media type {own:?}")));
            }
        };
        let (blobs, subject) = if media_type::is_index(&media_type) {
            let index = Index::parse(bytes).map_err(|e| invalid(e.to_string()))?;
            // Manifests that it lists may be anywhere, or come later: a sparse index.
            (Vec::new(), index.subject)
        } else {
            let manifest = Manifest::parse(bytes).map_err(|e| invalid(e.to_string()))?;
            let mut blobs = manifest.layers;
            blobs.retain(|layer| !NOT_DISTRIBUTED.contains(&layer.media_type.as_str()));
            blobs.push(manifest.config);
            (blobs, manifest.subject)
        };
        Ok(Document { media_type, blobs, subject: subject.map(|s| s.digest) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_what_both_say() {
        let blob =
            |kind: &str| json!({ "mediaType": kind, "digest": Digest::sha256(b"x"), "size": 1 });
        let manifest = |own: Option<&str>| {
            let mut m = json!({
                "schemaVersion": 2, "config": blob("c"),
                "layers": [blob("l"), blob(NOT_DISTRIBUTED[0])], "subject": blob("s"),
            });
            if let Some(own) = own {
                m["mediaType"] = own.into();
            }
            m.to_string()
        };
        let oci = media_type::OCI_MANIFEST;
        for (header, text, want) in [
            (Some(oci), manifest(Some(oci)), Some(oci)),
            (Some(oci), manifest(None), Some(oci)),
            (None, manifest(Some(oci)), Some(oci)),
            (Some("application/json; charset=utf-8"), manifest(Some(oci)), Some(oci)),
            (Some(media_type::DOCKER_MANIFEST), manifest(Some(oci)), None),
            (None, manifest(None), None),
            (Some("application/json"), manifest(None), None),
            (Some(media_type::OCI_INDEX), manifest(None), None),
            (Some(oci), "{".into(), None),
            (Some(oci), "[]".into(), None),
            (Some(oci), String::new(), None),
        ] {
            let parsed = Document::parse(header, text.as_bytes());
            assert_eq!(parsed.as_ref().ok().map(|d| d.media_type.as_str()), want, "{text}");
            if let Ok(document) = parsed {
                assert_eq!(document.blobs.len(), 2, "the layer and the configuration");
                assert!(document.subject.is_some());
            }
        }
    }
}
