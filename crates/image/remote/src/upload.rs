//! Blobs on their way there: looked for, mounted from another repository, or uploaded.
//!
//! An upload is one PUT of all bytes, as containerd does it. One that breaks goes on with PATCH
//! where the registry kept what it got, and begins anew where it did not. A registry (or what
//! stands before it) that refuses so much at once gets pieces.

use std::{
    io::{self, Read},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hako_oci::{Descriptor, Digest};
use http_body_util::BodyExt;
use hyper::{
    Method, StatusCode,
    body::{Body as HttpBody, Frame, SizeHint},
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use tokio::time::{interval, sleep};

use crate::{
    Error, Repository, Result,
    challenge::Scopes,
    endpoint::Endpoint,
    net::Body,
    repository::promised,
    send::{Answer, Call, Payload},
    url::{Scheme, Url},
};

const OCTETS: &str = "application/octet-stream";
/// Read and handed over at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Uploads of one blob that are begun.
const ATTEMPTS_MAX: u32 = 4;
/// Breaks of one upload that are mended.
const BREAKS_MAX: u32 = 20;
/// Pieces for a registry that does not take all at once.
const PIECE_BYTES: u64 = 16 << 20;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// Opens a blob's content at a byte, as often as it takes.
pub type Open<'o> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync + 'o;

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Present,
    /// It was in another repository of the same registry.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// Where the pieces of an upload go.
struct Session {
    url: Url,
    /// The least that a piece must have (OCI-Chunk-Min-Length).
    piece_bytes_min: u64,
}

impl Repository {
    /// Whether the repository has this blob: one question.
    pub fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        self.wait(async {
            let endpoint = self.to_push().await?;
            self.is_there(&endpoint, descriptor).await
        })
    }

    /// Makes sure that the repository has a blob. `from` names repositories of the same registry
    /// that may have it; `progress` is told how many bytes were sent, now and then.
    pub fn push_blob(
        &self,
        descriptor: &Descriptor,
        from: Option<&str>,
        open: &Open<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Pushed> {
        self.wait(async {
            let endpoint = self.to_push().await?;
            if self.is_there(&endpoint, descriptor).await? {
                return Ok(Pushed::Present);
            }
            let mut from = from;
            let mut attempt = 1;
            loop {
                let Some(session) = self.begin(&endpoint, &descriptor.digest, from.take()).await?
                else {
                    return Ok(Pushed::Mounted);
                };
                let sent = self.send_all(&endpoint, descriptor, session, open, progress).await;
                match sent {
                    Err(error) if error.is_passing() && attempt < ATTEMPTS_MAX => {
                        sleep(Duration::from_millis(200 << attempt)).await;
                        attempt += 1;
                    }
                    sent => return sent.map(|()| Pushed::Uploaded),
                }
            }
        })
    }

    async fn is_there(&self, endpoint: &Endpoint, descriptor: &Descriptor) -> Result<bool> {
        let url = endpoint.url(&format!("blobs/{}", descriptor.digest));
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        let call = Call::new("looking for blob", Method::HEAD, url, scopes);
        let answer = self.core.send(endpoint, &call).await?;
        match answer.status {
            // Who may not look may not push either; the answer to that says why, as this one cannot.
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            // One of another size is not it, whatever it is called.
            status if status.is_success() => {
                Ok(promised(&answer).is_none_or(|size| size == descriptor.size))
            }
            _ => Err(self.refused(endpoint, answer, call.what, "push", None).await),
        }
    }

    /// Begins an upload, unless the blob could be mounted.
    async fn begin(
        &self,
        endpoint: &Endpoint,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Option<Session>> {
        let url = endpoint.url("blobs/uploads/");
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        if let Some(from) = from {
            let mount =
                url.clone().with_query("mount", &digest.to_string()).with_query("from", from);
            let mut both = scopes.clone();
            both.add(&Scopes::repository(from, &["pull"]));
            let call = Call::new("mounting blob", Method::POST, mount, both);
            // Not being allowed to is no failure: the blob is sent then.
            match self.core.send(endpoint, &call).await {
                Ok(answer) if answer.status == StatusCode::CREATED => return Ok(None),
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    return Session::of(&answer, endpoint).map(Some);
                }
                Ok(_) | Err(Error::Unauthorized { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let call = Call::new("starting upload", Method::POST, url, scopes);
        let answer = self.core.send(endpoint, &call).await?;
        match answer.status {
            StatusCode::ACCEPTED => Session::of(&answer, endpoint).map(Some),
            _ => Err(self.refused(endpoint, answer, call.what, "push", None).await),
        }
    }

    /// Sends all of a blob, over breaks.
    async fn send_all(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        mut session: Session,
        open: &Open<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        let Descriptor { digest, size, .. } = descriptor;
        let (mut at, mut pieces) = (0, false);
        for _ in 0..BREAKS_MAX {
            let piece = PIECE_BYTES.max(session.piece_bytes_min);
            // A beginning is there already, or all at once was too much: a piece, or the rest.
            let sent = if pieces && *size - at > piece {
                self.piece(endpoint, &mut session, at..at + piece, open, progress).await
            } else if at > 0 && at < *size {
                self.piece(endpoint, &mut session, at..*size, open, progress).await
            } else {
                self.finish(endpoint, &session, digest, at..*size, open, progress).await
            };
            match sent {
                Ok(Sent::All) => return Ok(()),
                Ok(Sent::To(end)) => at = end,
                Ok(Sent::TooMuch) if !pieces && *size > PIECE_BYTES => {
                    // What it got of it, it threw away.
                    pieces = true;
                    session = match self.begin(endpoint, digest, None).await? {
                        Some(session) => session,
                        None => return Ok(()),
                    };
                    at = 0;
                }
                Ok(Sent::TooMuch) => {
                    let why = format!("it takes no {piece} bytes of blob {digest} at once");
                    return Err(Error::Protocol { url: session.url.shown(), why });
                }
                Err(error) if error.is_passing() => {
                    match self.status(endpoint, &mut session).await {
                        Some(kept) if kept > at && kept <= *size => at = kept,
                        // Nothing new was kept, or it cannot say: the upload begins anew.
                        _ => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
            progress(at);
        }
        let source = io::Error::other("the upload broke again and again");
        let (what, url) = ("uploading blob".into(), session.url.shown());
        Err(Error::Connection { what, url, source })
    }

    /// Sends a part with PATCH.
    async fn piece(
        &self,
        endpoint: &Endpoint,
        session: &mut Session,
        part: std::ops::Range<u64>,
        open: &Open<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Sent> {
        let range = format!("{}-{}", part.start, part.end - 1);
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        let call = Call::new("uploading blob", Method::PATCH, session.url.clone(), scopes)
            .header(CONTENT_RANGE, &range)?;
        let answer = self.send_part(endpoint, call, part.clone(), open, progress).await?;
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Sent::TooMuch),
            status if status.is_success() => {
                let kept = answer.header(RANGE.as_str()).and_then(last_byte).map(|last| last + 1);
                *session = Session::of(&answer, endpoint)?;
                match kept {
                    Some(kept) if kept > part.end => {
                        let why = format!("it has {kept} bytes of {} that were sent", part.end);
                        Err(Error::Protocol { url: session.url.shown(), why })
                    }
                    kept => Ok(Sent::To(kept.unwrap_or(part.end))),
                }
            }
            _ => Err(self.refused(endpoint, answer, "uploading blob", "push", None).await),
        }
    }

    /// Sends the rest, which may be all or nothing, and names the blob.
    async fn finish(
        &self,
        endpoint: &Endpoint,
        session: &Session,
        digest: &Digest,
        part: std::ops::Range<u64>,
        open: &Open<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Sent> {
        let url = session.url.clone().with_query("digest", &digest.to_string());
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        let call = Call::new("uploading blob", Method::PUT, url, scopes);
        let answer = self.send_part(endpoint, call, part, open, progress).await?;
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Sent::TooMuch),
            status if status.is_success() => {
                let said = answer.header("docker-content-digest").and_then(|d| d.parse().ok());
                match said.filter(|actual: &Digest| actual != digest) {
                    None => Ok(Sent::All),
                    Some(actual) => {
                        let expected = digest.clone();
                        Err(Error::DigestMismatch { url: answer.url.shown(), expected, actual })
                    }
                }
            }
            _ => Err(self.refused(endpoint, answer, "uploading blob", "push", None).await),
        }
    }

    async fn send_part(
        &self,
        endpoint: &Endpoint,
        call: Call<'_>,
        part: std::ops::Range<u64>,
        open: &Open<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Answer> {
        let size = part.end - part.start;
        let sent = Arc::new(AtomicU64::new(0));
        let make = || -> Result<Body> {
            sent.store(0, Ordering::Relaxed);
            let from = open(part.start).map_err(Error::content)?;
            let (left, sent) = (size, Arc::clone(&sent));
            Ok(FileBody { from, left, sent }.boxed_unsync())
        };
        let mut call =
            call.header(CONTENT_TYPE, OCTETS)?.header(CONTENT_LENGTH, &size.to_string())?;
        // Mended by whoever knows what was kept.
        call.attempts = 1;
        if size > 0 {
            call.body = Payload::Stream { size, sent: &sent, open: &make };
        }
        let mut sending = std::pin::pin!(self.core.send(endpoint, &call));
        let mut ticks = interval(TICK);
        loop {
            let answered = std::future::poll_fn(|cx| {
                if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                    return Poll::Ready(Some(answer));
                }
                ticks.poll_tick(cx).map(|_| None)
            });
            match answered.await {
                Some(answer) => return answer,
                None => progress(part.start + sent.load(Ordering::Relaxed)),
            }
        }
    }

    /// How much of an upload the registry kept; `None` where it cannot say.
    async fn status(&self, endpoint: &Endpoint, session: &mut Session) -> Option<u64> {
        let scopes = self.scopes(endpoint, &["pull", "push"]);
        let call = Call::get("looking for the upload", session.url.clone(), scopes);
        let answer = self.core.send(endpoint, &call).await.ok()?;
        if !answer.status.is_success() {
            return None;
        }
        let kept = answer.header(RANGE.as_str()).and_then(last_byte)? + 1;
        *session = Session::of(&answer, endpoint).ok()?;
        Some(kept)
    }
}

/// How far an upload came.
enum Sent {
    /// The blob is there.
    All,
    /// So many bytes are there.
    To(u64),
    /// It was too much at once.
    TooMuch,
}

impl Session {
    fn of(answer: &Answer, endpoint: &Endpoint) -> Result<Session> {
        let mut url = answer.location()?;
        // A registry behind something that speaks TLS for it may not know that it is spoken.
        if endpoint.origin.scheme == Scheme::Https
            && url.origin.scheme == Scheme::Http
            && url.origin.host == endpoint.origin.host
        {
            url.origin = endpoint.origin.clone();
        }
        let least = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Session { url, piece_bytes_min: least.unwrap_or(0).min(1 << 30) })
    }
}

/// The last byte of `0-99` or `bytes=0-99`. Registries say `0-0` for none, too: one byte more or
/// less is sent again or refused, and the upload then begins anew.
pub(crate) fn last_byte(range: &str) -> Option<u64> {
    let range = range.trim();
    range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?.1.parse().ok()
}

/// A file as the body of a request.
struct FileBody {
    from: Box<dyn Read + Send>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = (BUFFER_BYTES as u64).min(self.left) as usize;
        let mut bytes = BytesMut::zeroed(wanted);
        // What is sent may come from a connection that the same threads have to keep going.
        let read = tokio::task::block_in_place(|| self.from.read(&mut bytes));
        Poll::Ready(Some(match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes.truncate(n);
                self.left -= n as u64;
                self.sent.fetch_add(n as u64, Ordering::Relaxed);
                Ok(Frame::data(bytes.freeze()))
            }
            Err(e) => Err(e),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::last_byte;

    #[test]
    fn ranges() {
        assert_eq!(last_byte("0-99"), Some(99));
        assert_eq!(last_byte("bytes=0-99"), Some(99));
        assert_eq!(last_byte("99"), None);
        assert_eq!(last_byte(""), None);
    }
}
