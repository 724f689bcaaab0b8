//! A pull-through cache: what is not here is had from an upstream registry, and kept for a time.
//!
//! A blob is sent while it is fetched: one thread appends to the store's partial file, which is
//! also the lock that lets one fetch at a time, and whoever asks reads the growing file. Its last
//! byte is given to nobody before its digest was checked, so that a lie cannot look complete.
//!
//! Tags are asked for each time, which costs one `HEAD`; where the upstream cannot be reached, what
//! is here counts, with a warning. Content is what its digest says, and is not asked for again.

use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use hako_content::Store;
use hako_oci::{Descriptor, Digest};
use hako_remote::{Client, Config, Credentials, Error as RemoteError, Repository as Remote};
use hyper::{Response, StatusCode, header};
use tokio::sync::{Semaphore, watch};

use crate::{
    Error, Result, blobs,
    body::Body,
    catalog, lists, manifests,
    refusal::{Code, Refusal, chain},
    request::{ManifestName, Repository},
    server::{Asked, State, block},
};

/// How many questions the upstream is asked at once, and how many blobs are fetched.
const QUESTIONS_MAX: usize = 64;
const FETCHES_MAX: usize = 16;

const BLOB: &str = "application/octet-stream";

/// Where what is not here comes from.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The registry's address, as `https://registry-1.docker.io`.
    pub address: String,
    /// User name, and a file with the password.
    pub user: Option<(String, PathBuf)>,
    /// How long manifests are kept that nobody asks for; `None` is for ever.
    pub ttl: Option<Duration>,
}

/// The upstream.
pub(crate) struct Proxy {
    client: Client,
    upstream: Upstream,
    questions: Semaphore,
    fetches: Arc<Semaphore>,
    /// What is being fetched.
    under_way: Mutex<HashMap<(Repository, Digest), Fetch>>,
}

/// A blob that comes.
type Fetch = watch::Receiver<Progress>;

/// How far a blob came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The file it is in, once it is known.
    pub file: Option<Arc<File>>,
    /// So many bytes may be read.
    pub there: u64,
    /// How it ended, where it has.
    pub ended: Option<std::result::Result<(), String>>,
}

impl Proxy {
    pub(crate) fn new(upstream: &Upstream) -> Result<Proxy> {
        let failed =
            |e: RemoteError| Error::Upstream { address: upstream.address.clone(), why: chain(&e) };
        let mut config = Config::from_env().map_err(failed)?;
        // Whoever runs this server has credentials that are not for its clients.
        config.auth_files.clear();
        let given = match &upstream.user {
            None => None,
            Some((user, path)) => {
                let password = std::fs::read_to_string(path)
                    .map_err(|source| Error::Read { path: path.clone(), source })?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some(Credentials::Password { user: user.clone(), password })
            }
        };
        let client = Client::open(config, given).map_err(failed)?;
        // Its address is looked at now, not with the first request.
        client.upstream(&upstream.address, "a").map_err(failed)?;
        Ok(Proxy {
            client,
            upstream: upstream.clone(),
            questions: Semaphore::new(QUESTIONS_MAX),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            under_way: Mutex::default(),
        })
    }

    fn remote(&self, repository: &Repository) -> std::result::Result<Remote, RemoteError> {
        self.client.upstream(&self.upstream.address, repository.as_str())
    }

    /// Asks the upstream something.
    async fn ask<T>(
        &self,
        state: &State,
        repository: &Repository,
        question: impl FnOnce(&Remote) -> std::result::Result<T, RemoteError>,
    ) -> std::result::Result<T, RemoteError> {
        let turn = self.questions.acquire().await;
        state.metrics.upstream_questions.fetch_add(1, Relaxed);
        let answer = block(|| question(&self.remote(repository)?));
        drop(turn);
        if answer.as_ref().is_err_and(|e| !e.is_absent()) {
            state.metrics.upstream_failures.fetch_add(1, Relaxed);
        }
        answer
    }

    /// The fetching of a blob, which begins if it is not under way.
    fn fetch(&self, state: &Arc<State>, repository: &Repository, expected: &Descriptor) -> Fetch {
        let key = (repository.clone(), expected.digest.clone());
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = under_way.get(&key) {
            return fetch.clone();
        }
        let (sender, fetch) = watch::channel(Progress::default());
        under_way.insert(key.clone(), fetch.clone());
        let (state, expected, fetches) =
            (Arc::clone(state), expected.clone(), Arc::clone(&self.fetches));
        tokio::spawn(async move {
            let turn = fetches.acquire_owned().await;
            let store = state.store.clone();
            let work = {
                let (state, sender) = (Arc::clone(&state), sender.clone());
                let repository = key.0.clone();
                move || match &state.proxy {
                    Some(proxy) => proxy.run(&state, &store, &repository, &expected, &sender),
                    None => Err("there is no upstream".to_owned()),
                }
            };
            let ended = tokio::task::spawn_blocking(work).await;
            let ended = ended.unwrap_or_else(|e| Err(format!("fetching: {e}")));
            drop(turn);
            if let Some(proxy) = &state.proxy {
                proxy.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
            if let Err(why) = &ended {
                state.metrics.upstream_failures.fetch_add(1, Relaxed);
                state.tell(
                    "upstream",
                    serde_json::json!({
                        "repository": key.0.as_str(), "digest": key.1.to_string(), "error": why,
                    }),
                );
            }
            sender.send_modify(|progress| progress.ended = Some(ended));
        });
        fetch
    }

    /// Fetches a blob, and says how far it came. Blocks.
    fn run(
        &self,
        state: &State,
        store: &Store,
        repository: &Repository,
        expected: &Descriptor,
        sender: &watch::Sender<Progress>,
    ) -> std::result::Result<(), String> {
        let failed = |e: &dyn std::error::Error| chain(e);
        let lease = store.lease().map_err(|e| failed(&e))?;
        if let Some(mut partial) = lease.claim(expected).map_err(|e| failed(&e))? {
            let file = Arc::new(partial.reader().map_err(|e| failed(&e))?);
            // The last byte waits for the digest.
            let readable = |there: u64| there.min(expected.size.saturating_sub(1));
            sender.send_modify(|progress| {
                progress.file = Some(file);
                progress.there = readable(partial.size());
            });
            let remote = self.remote(repository).map_err(|e| failed(&e))?;
            let from = partial.size();
            let mut sink = |bytes: &[u8]| {
                partial.append(bytes)?;
                state.metrics.upstream_bytes.fetch_add(bytes.len() as u64, Relaxed);
                sender.send_modify(|progress| progress.there = readable(partial.size()));
                Ok(())
            };
            remote.fetch(expected, from, &mut sink).map_err(|e| failed(&e))?;
            partial.commit().map_err(|e| failed(&e))?;
        }
        lease
            .publish(|names| catalog::link(names, repository, expected))
            .map_err(|e: hako_content::Error| failed(&e))?;
        sender.send_modify(|progress| progress.there = expected.size);
        Ok(())
    }
}

/// What a client is told of an upstream's failure.
fn refusal(error: &RemoteError, absent: Code, detail: &str) -> Refusal {
    match error {
        e if e.is_absent() => Refusal::new(absent, detail),
        RemoteError::Denied { .. } | RemoteError::Unauthorized { .. } => {
            Refusal { fault: Some(chain(error)), ..Refusal::new(Code::Denied, detail) }
        }
        RemoteError::TooManyRequests { .. } => {
            Refusal::new(Code::TooManyRequests, "the upstream registry is asked too often")
                .header("Retry-After", "60")
        }
        e => Refusal {
            detail: "the upstream registry does not answer".into(),
            ..Refusal::fault(chain(e))
        }
        .status(StatusCode::BAD_GATEWAY),
    }
}

/// `GET` and `HEAD` of a blob.
pub(crate) async fn blob(
    state: &Arc<State>,
    proxy: &Proxy,
    repository: &Repository,
    digest: &Digest,
    asked: &Asked,
) -> std::result::Result<Response<Body>, Refusal> {
    match blobs::get(state, repository, digest, asked) {
        Err(refusal) if refusal.code == Code::BlobUnknown => {}
        answered => return answered,
    }
    let unknown = || Refusal::new(Code::BlobUnknown, digest.to_string());
    let size = proxy.ask(state, repository, |remote| remote.blob_size(digest)).await;
    let size = size.map_err(|e| refusal(&e, Code::BlobUnknown, &digest.to_string()))?;
    let size = size.ok_or_else(unknown)?;
    if asked.is_head {
        return blobs::answer_with(digest, size, asked, |_, _| Body::empty());
    }
    let mut fetch = proxy.fetch(state, repository, &Descriptor::new(BLOB, digest.clone(), size));
    let begun = fetch.wait_for(|p| p.ended.is_some() || p.file.is_some()).await;
    // Its sender says how it ended before it goes.
    let progress = begun.map_err(|_| Refusal::fault("fetching ended"))?.clone();
    match (progress.ended, progress.file) {
        (None, Some(file)) => blobs::answer_with(digest, size, asked, |offset, left| {
            Body::growing(file, offset, left, fetch)
        }),
        (Some(Err(why)), _) => Err(Refusal {
            detail: "the upstream registry does not give the blob".into(),
            ..Refusal::fault(why)
        }
        .status(StatusCode::BAD_GATEWAY)),
        _ => blobs::get(state, repository, digest, asked),
    }
}

/// `GET` and `HEAD` of a manifest.
pub(crate) async fn manifest(
    state: &Arc<State>,
    proxy: &Proxy,
    repository: &Repository,
    name: &ManifestName,
    asked: &Asked,
) -> std::result::Result<Response<Body>, Refusal> {
    let here = |digest: &Digest| {
        block(|| state.store.view(|names| catalog::manifest(names, repository, digest)))
    };
    let by_digest = |digest: &Digest| {
        block(|| {
            state.store.update(|names| {
                catalog::touch_manifest(names, repository, digest, proxy.upstream.ttl)
            })
        })?;
        manifests::get(state, repository, &ManifestName::Digest(digest.clone()), asked)
    };
    let tag = match name {
        ManifestName::Digest(digest) if here(digest)?.is_some() => return by_digest(digest),
        ManifestName::Digest(digest) => {
            store_manifest(state, proxy, repository, &digest.to_string(), &[]).await?;
            return by_digest(digest);
        }
        ManifestName::Tag(tag) => tag,
    };
    let resolved = proxy.ask(state, repository, |remote| remote.resolve(tag)).await;
    let digest = match resolved {
        Ok(Some(digest)) if here(&digest)?.is_some() => {
            block(|| {
                state.store.update(|names| catalog::set_tag(names, repository, tag, &digest))
            })?;
            digest
        }
        Ok(_) => store_manifest(state, proxy, repository, tag, std::slice::from_ref(tag)).await?,
        Err(e) if e.is_absent() => {
            block(|| state.store.update(|names| catalog::remove_tag(names, repository, tag)))?;
            return Err(Refusal::new(Code::ManifestUnknown, tag));
        }
        Err(e) => {
            let found = block(|| state.store.view(|names| catalog::tag(names, repository, tag)))?;
            let found = found.ok_or_else(|| refusal(&e, Code::ManifestUnknown, tag))?;
            return by_digest(&found.digest).map(stale);
        }
    };
    by_digest(&digest)
}

/// Says that an answer may be out of date (RFC 7234, 5.5.2).
fn stale(mut response: Response<Body>) -> Response<Body> {
    let warning = header::HeaderValue::from_static("111 - \"Revalidation Failed\"");
    response.headers_mut().append(header::WARNING, warning);
    response
}

/// Fetches a manifest and keeps it; gives its digest.
async fn store_manifest(
    state: &State,
    proxy: &Proxy,
    repository: &Repository,
    reference: &str,
    tags: &[String],
) -> std::result::Result<Digest, Refusal> {
    let document = proxy.ask(state, repository, |remote| remote.manifest(reference)).await;
    let document = document.map_err(|e| refusal(&e, Code::ManifestUnknown, reference))?;
    let subject = manifests::subject(&document.descriptor.media_type, &document.bytes);
    let subject = subject.map_err(|refused| {
        Refusal::fault(format!("upstream's {reference}: {}", refused.detail))
            .status(StatusCode::BAD_GATEWAY)
    })?;
    let descriptor = document.descriptor;
    block(|| {
        let lease = state.store.lease()?;
        lease.put(&descriptor, document.bytes.as_slice())?;
        lease.publish(|names| {
            catalog::put_manifest(names, repository, &descriptor, tags, subject.as_ref())?;
            catalog::touch_manifest(names, repository, &descriptor.digest, proxy.upstream.ttl)
        })
    })?;
    Ok(descriptor.digest)
}

/// The tags of the upstream; those that are here where it does not answer.
pub(crate) async fn tags(
    state: &State,
    proxy: &Proxy,
    repository: &Repository,
    asked: &Asked,
) -> std::result::Result<Response<Body>, Refusal> {
    match proxy.ask(state, repository, Remote::tags).await {
        Ok(tags) => lists::tags_of(repository, asked, tags),
        Err(e) if e.is_absent() => Err(Refusal::new(Code::NameUnknown, repository.as_str())),
        Err(e) => {
            lists::tags(state, repository, asked).map(stale).map_err(|refused| match refused.code {
                Code::NameUnknown => refusal(&e, Code::NameUnknown, repository.as_str()),
                _ => refused,
            })
        }
    }
}

/// The upstream's referrers; those that are here where it does not answer.
pub(crate) async fn referrers(
    state: &State,
    proxy: &Proxy,
    repository: &Repository,
    subject: &Digest,
    asked: &Asked,
) -> std::result::Result<Response<Body>, Refusal> {
    match proxy.ask(state, repository, |remote| remote.referrers(subject, None)).await {
        Ok(found) => lists::referrers_of(asked, found),
        Err(e) if e.is_absent() => lists::referrers_of(asked, Vec::new()),
        Err(_) => lists::referrers(state, repository, subject, asked).map(stale),
    }
}
