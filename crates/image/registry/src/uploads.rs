//! Pushing blobs: at once, streamed, in chunks, or mounted from another repository
//! (OCI Distribution Specification 1.1, "Pushing blobs").
//!
//! An upload is an upload of the content store. Its name says which repository it is of and
//! how it is hashed, so nothing else needs to be remembered, and a new server continues it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use hako_content::{Error as StoreError, Hashed, Upload};
use hako_oci::{Algorithm, Descriptor, Digest};
use hyper::{Response, StatusCode, body::Incoming};

use crate::{
    body::Body,
    catalog,
    refusal::{Code, Refusal},
    request::{self, Repository},
    server::{Asked, State, answer, block, chunk},
};

/// How many hash states are kept; an upload without one is hashed again from its file.
const HASHED_MAX: usize = 4096;

const BLOB: &str = "application/octet-stream";

/// Hash states of uploads that nobody appends to at this moment.
#[derive(Default)]
pub(crate) struct HashStates(Mutex<HashMap<String, Hashed>>);

impl HashStates {
    fn take(&self, id: &str) -> Option<Hashed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    fn put(&self, id: &str, hashed: Hashed) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() < HASHED_MAX {
            states.insert(id.to_owned(), hashed);
        }
    }

    pub(crate) fn forget(&self, id: &str) {
        self.take(id);
    }
}

/// `POST /v2/<name>/blobs/uploads/`.
pub(crate) async fn begin(
    state: &State,
    repository: &Repository,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    if let Some(digest) = asked.query("mount") {
        let digest = parse_digest(digest)?;
        if let Some(mounted) = mount(state, repository, &digest, asked)? {
            return Ok(mounted);
        }
    } else if let Some(digest) = asked.query("digest") {
        let digest = parse_digest(digest)?;
        return at_once(state, repository, &digest, asked, body).await;
    }
    let algorithm = match asked.query("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => {
            return Err(Refusal::new(Code::DigestInvalid, format!("algorithm {other:?}")));
        }
    };
    if state.metrics.uploads.fetch_add(1, Relaxed) >= state.options.uploads_max {
        state.metrics.uploads.fetch_sub(1, Relaxed);
        let refusal = Refusal::new(Code::TooManyRequests, "too many uploads are open");
        return Err(refusal.header("Retry-After", "60"));
    }
    let id = new_id(repository, algorithm)?;
    let upload = block(|| state.store.begin_upload(&id, algorithm)).inspect_err(|_| {
        state.metrics.uploads.fetch_sub(1, Relaxed);
    })?;
    let size = upload.size();
    state.hashed.put(&id, upload.suspend());
    Ok(progress(StatusCode::ACCEPTED, repository, &id, size))
}

/// The blob that is there already; `None` where it is not, and an upload begins instead.
fn mount(
    state: &State,
    repository: &Repository,
    digest: &Digest,
    asked: &Asked,
) -> Result<Option<Response<Body>>, Refusal> {
    let from = match asked.query("from") {
        // Without a repository, any content of the store will do: what `hako build` made here
        // need not be sent. Whose token is for some repositories must not learn what others have.
        None => asked.granted.pulls(),
        Some(name) => {
            let from = Repository::parse(name).ok_or_else(|| Refusal::new(Code::NameInvalid, name));
            Some(vec![from?])
        }
    };
    block(|| {
        let is_there = state.store.view(|names| match &from {
            None => Ok(true),
            Some(repositories) => repositories.iter().try_fold(false, |found, from| {
                Ok::<_, Refusal>(found || catalog::blob(names, from, digest)?.is_some())
            }),
        })?;
        let Some(size) = state.store.size(digest)?.filter(|_| is_there) else { return Ok(None) };
        let descriptor = Descriptor::new(BLOB, digest.clone(), size);
        let lease = state.store.lease()?;
        if !lease.keep(&descriptor)? {
            return Ok(None);
        }
        lease.publish(|names| catalog::link(names, repository, &descriptor))?;
        Ok::<_, Refusal>(Some(created(repository, digest)))
    })
}

/// A whole blob in one request.
async fn at_once(
    state: &State,
    repository: &Repository,
    digest: &Digest,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let lease = block(|| state.store.lease())?;
    let mut ingest = block(|| lease.ingest_as(digest.algorithm(), u64::MAX))?;
    while let Some(bytes) = chunk(state, body).await? {
        block(|| ingest.append(&bytes))?;
    }
    if asked.content_length.is_some_and(|length| length != ingest.size()) {
        return Err(Refusal::new(Code::SizeInvalid, "body is not as long as announced"));
    }
    let descriptor = Descriptor::new(BLOB, digest.clone(), ingest.size());
    block(|| ingest.commit_as(&descriptor))?;
    block(|| lease.publish(|names| catalog::link(names, repository, &descriptor)))?;
    Ok(created(repository, digest))
}

/// `GET /v2/<name>/blobs/uploads/<id>`.
pub(crate) fn status(
    state: &State,
    repository: &Repository,
    id: &str,
) -> Result<Response<Body>, Refusal> {
    check_id(repository, id)?;
    let size = block(|| state.store.upload_size(id))?.ok_or_else(|| unknown(id))?;
    Ok(progress(StatusCode::NO_CONTENT, repository, id, size))
}

/// `DELETE /v2/<name>/blobs/uploads/<id>`.
pub(crate) fn cancel(
    state: &State,
    repository: &Repository,
    id: &str,
) -> Result<Response<Body>, Refusal> {
    check_id(repository, id)?;
    if !block(|| state.store.remove_upload(id))? {
        return Err(unknown(id));
    }
    ended(state, id);
    Ok(answer(StatusCode::NO_CONTENT, &[], Body::empty()))
}

/// `PATCH /v2/<name>/blobs/uploads/<id>`.
pub(crate) async fn append(
    state: &State,
    repository: &Repository,
    id: &str,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let mut upload = resume(state, repository, id)?;
    let appended = receive(state, repository, id, &mut upload, asked, body).await;
    let size = upload.size();
    state.hashed.put(id, upload.suspend());
    appended?;
    Ok(progress(StatusCode::ACCEPTED, repository, id, size))
}

/// `PUT /v2/<name>/blobs/uploads/<id>?digest=<digest>`.
pub(crate) async fn finish(
    state: &State,
    repository: &Repository,
    id: &str,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let digest = asked.query("digest");
    let digest = parse_digest(digest.ok_or_else(|| Refusal::new(Code::DigestInvalid, "missing"))?)?;
    let mut upload = resume(state, repository, id)?;
    if let Err(refusal) = receive(state, repository, id, &mut upload, asked, body).await {
        state.hashed.put(id, upload.suspend());
        return Err(refusal);
    }
    block(|| {
        let lease = state.store.lease()?;
        let descriptor = match upload.commit_as(&lease, &digest) {
            // It will never be right, and its client knows no more of it than we do.
            Err(e @ StoreError::DigestMismatch { .. }) => {
                if state.store.remove_upload(id)? {
                    ended(state, id);
                }
                return Err(e);
            }
            done => done?,
        };
        ended(state, id);
        lease.publish(|names| catalog::link(names, repository, &descriptor))
    })?;
    Ok(created(repository, &digest))
}

/// Opens an upload for appending.
fn resume(state: &State, repository: &Repository, id: &str) -> Result<Upload, Refusal> {
    let algorithm = check_id(repository, id)?;
    let known = state.hashed.take(id).unwrap_or_else(|| Hashed::new(algorithm));
    block(|| state.store.resume_upload(id, known)).map_err(|e| match e {
        StoreError::NoUpload(_) => unknown(id),
        StoreError::UploadBusy(_) => {
            Refusal::new(Code::BlobUploadInvalid, "another request appends")
                .status(StatusCode::CONFLICT)
        }
        e => e.into(),
    })
}

/// Appends the body, if it belongs where the upload ends.
async fn receive(
    state: &State,
    repository: &Repository,
    id: &str,
    upload: &mut Upload,
    asked: &Asked,
    body: &mut Incoming,
) -> Result<(), Refusal> {
    let begun = upload.size();
    let mut length = asked.content_length;
    if let Some(header) = &asked.content_range {
        let Some((first, last)) = request::content_range(header) else {
            return Err(Refusal::new(Code::BlobUploadInvalid, format!("range {header:?}")));
        };
        if first != begun {
            let place = place(repository, id);
            return Err(Refusal::new(Code::BlobUploadInvalid, format!("the next byte is {begun}"))
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header("Location", place)
                .header("Range", received(begun)));
        }
        let announced = last - first + 1;
        if length.is_some_and(|length| length != announced) {
            return Err(Refusal::new(Code::SizeInvalid, "range and length differ"));
        }
        length = Some(announced);
    }
    while let Some(bytes) = chunk(state, body).await? {
        // More than was announced must not become part of it.
        if length.is_some_and(|length| upload.size() - begun + bytes.len() as u64 > length) {
            return Err(Refusal::new(Code::SizeInvalid, "body is longer than announced"));
        }
        block(|| upload.append(&bytes))?;
    }
    match length {
        Some(length) if length != upload.size() - begun => {
            Err(Refusal::new(Code::SizeInvalid, "body is shorter than announced"))
        }
        _ => Ok(()),
    }
}

/// An upload is none any more.
pub(crate) fn ended(state: &State, id: &str) {
    state.hashed.forget(id);
    // Another server on the same store may have begun it.
    let one_less = |n: u64| Some(n.saturating_sub(1));
    if state.metrics.uploads.fetch_update(Relaxed, Relaxed, one_less).is_err() {
        debug_assert!(false, "one less than a number is one");
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, id)
}

/// 128 random bits, the beginning of the repository's digest, and how it is hashed.
fn new_id(repository: &Repository, algorithm: Algorithm) -> Result<String, Refusal> {
    let mut random = [0; 16];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if got != Ok(random.len()) {
        return Err(Refusal::fault("getrandom"));
    }
    Ok(format!("{:032x}-{}", u128::from_le_bytes(random), suffix(repository, algorithm)))
}

fn suffix(repository: &Repository, algorithm: Algorithm) -> String {
    let digest = Digest::sha256(repository.as_str().as_bytes());
    format!("{}-{}", &digest.hex()[..32], algorithm.name())
}

/// How an upload is hashed, if it is one of this repository.
fn check_id(repository: &Repository, id: &str) -> Result<Algorithm, Refusal> {
    let (random, rest) = id.split_once('-').ok_or_else(|| unknown(id))?;
    let is_hex = random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit());
    let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
    let found = algorithms.into_iter().find(|a| rest == suffix(repository, *a));
    found.filter(|_| is_hex).ok_or_else(|| unknown(id))
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|e| Refusal::new(Code::DigestInvalid, format!("{e}")))
}

fn place(repository: &Repository, id: &str) -> String {
    format!("/v2/{}/blobs/uploads/{id}", repository.as_str())
}

/// The bytes that are there, the way Docker's registry writes it: nothing is `0-0` too.
fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn progress(status: StatusCode, repository: &Repository, id: &str, size: u64) -> Response<Body> {
    let headers = [
        ("Location", place(repository, id)),
        ("Range", received(size)),
        ("Docker-Upload-UUID", id.to_owned()),
        ("Content-Length", "0".to_owned()),
    ];
    let headers = if status == StatusCode::NO_CONTENT { &headers[..3] } else { &headers };
    answer(status, headers, Body::empty())
}

fn created(repository: &Repository, digest: &Digest) -> Response<Body> {
    let headers = [
        ("Location", format!("/v2/{}/blobs/{digest}", repository.as_str())),
        ("Docker-Content-Digest", digest.to_string()),
        ("Content-Length", "0".to_owned()),
    ];
    answer(StatusCode::CREATED, &headers, Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_belongs_to_its_repository() {
        let (a, b) = (Repository::parse("a").unwrap(), Repository::parse("b").unwrap());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let id = new_id(&a, algorithm).unwrap();
            assert_eq!(check_id(&a, &id).unwrap(), algorithm);
            assert!(check_id(&b, &id).is_err());
            assert_ne!(id, new_id(&a, algorithm).unwrap());
        }
        for bad in ["", "-", "..", "../..", "x-y", "0-", &"-".repeat(300)] {
            assert!(check_id(&a, bad).is_err(), "{bad}");
        }
    }
}
