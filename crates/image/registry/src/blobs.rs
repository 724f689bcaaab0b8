//! Pulling and deleting blobs (OCI Distribution Specification 1.1, "Pulling blobs").

use std::sync::Arc;

use hako_content::{Error as StoreError, Names};
use hako_oci::Digest;
use hyper::{Response, StatusCode};

use crate::{
    body::Body,
    catalog,
    collect::wants_touch,
    refusal::{Code, Refusal},
    request::{Ranged, Repository, range},
    sendfile::FilePart,
    server::{Asked, State, answer, block},
};

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(crate) fn get(
    state: &State,
    repository: &Repository,
    digest: &Digest,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let blob = block(|| {
        let linked = state.store.view(|names| catalog::blob(names, repository, digest))?;
        let Some(linked) = linked else {
            return Err(Refusal::new(Code::BlobUnknown, digest.to_string()));
        };
        let unknown = |e| match e {
            StoreError::Missing(_) => Refusal::new(Code::BlobUnknown, digest.to_string()),
            e => e.into(),
        };
        let blob = state.store.blob(digest).map_err(unknown)?;
        // Whoever asks may be about to push a manifest that names it.
        if !state.options.read_only && wants_touch(&linked, state.options.ages.blob) {
            let touch = |names: &Names<'_>| catalog::touch(names, repository, digest);
            state.store.update(touch).map_err(unknown)?;
        }
        Ok(blob)
    })?;
    let size = blob.size();
    answer_with(digest, size, asked, |offset, left| {
        Body::file(FilePart { file: Arc::new(blob.into_file()), offset, left })
    })
}

/// Answers with what was asked for of a blob's content: `body` gives so many bytes of it, from one
/// on.
pub(crate) fn answer_with(
    digest: &Digest,
    size: u64,
    asked: &Asked,
    body: impl FnOnce(u64, u64) -> Body,
) -> Result<Response<Body>, Refusal> {
    let etag = format!("\"{digest}\"");
    let mut headers = vec![
        ("Docker-Content-Digest", digest.to_string()),
        ("ETag", etag.clone()),
        ("Accept-Ranges", "bytes".to_owned()),
        ("Cache-Control", "max-age=31536000".to_owned()),
    ];
    if asked.is_known(&etag) {
        return Ok(answer(StatusCode::NOT_MODIFIED, &headers, Body::empty()));
    }
    headers.push(("Content-Type", "application/octet-stream".to_owned()));
    let whole = asked.if_range.as_ref().is_some_and(|condition| *condition != etag);
    let (status, offset, left) = match range(asked.range.as_deref().filter(|_| !whole), size) {
        Ranged::Whole => (StatusCode::OK, 0, size),
        Ranged::Part(first, last) => {
            headers.push(("Content-Range", format!("bytes {first}-{last}/{size}")));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Ranged::Unsatisfiable => {
            return Err(Refusal::new(Code::SizeInvalid, "no byte of the range is there")
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header("Content-Range", format!("bytes */{size}")));
        }
    };
    headers.push(("Content-Length", left.to_string()));
    let body = match asked.is_head {
        true => Body::empty(),
        false => body(offset, left),
    };
    Ok(answer(status, &headers, body))
}

/// `DELETE /v2/<name>/blobs/<digest>`: the repository has it no more; others may.
pub(crate) fn delete(
    state: &State,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response<Body>, Refusal> {
    match block(|| state.store.update(|names| catalog::unlink(names, repository, digest)))? {
        true => Ok(answer(StatusCode::ACCEPTED, &[("Content-Length", "0".into())], Body::empty())),
        false => Err(Refusal::new(Code::BlobUnknown, digest.to_string())),
    }
}
