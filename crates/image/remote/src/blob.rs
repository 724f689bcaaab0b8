//! Blobs on their way here: resumed after every cut, from whichever endpoint goes on.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hako_oci::{Algorithm, Descriptor, Digest};
use hyper::{
    StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, RANGE},
};
use sha2::{Digest as _, Sha256, Sha512};
use tokio::time::sleep;

use crate::{
    Error, Repository, Result,
    endpoint::Endpoint,
    repository::{Use, promised},
    send::{Call, Pace},
};

/// Cuts in a row that brought next to nothing, before it is given up.
const CUTS_MAX: u32 = 5;
/// Less than this is next to nothing.
const PROGRESS_BYTES: u64 = 64 << 10;
/// Cuts altogether: a connection that breaks each time is no connection.
const CUTS_ALTOGETHER_MAX: u32 = 200;

/// From this size on a blob comes in ranges, so many of such a size at once.
const RANGES_BYTES_MIN: u64 = 32 << 20;
const RANGES: usize = 3;
const RANGE_BYTES: u64 = 4 << 20;

/// Takes what comes of a blob, in order. Its error ends the transfer.
pub type Sink<'s> =
    dyn FnMut(&[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send + 's;

impl Repository {
    /// Fetches the blob that `descriptor` describes, from its byte `from` on.
    ///
    /// `sink` gets exactly the bytes that are missing, or this fails. The digest is its business:
    /// only it has the beginning. What it got before a failure is as good as what comes after.
    pub fn fetch(&self, descriptor: &Descriptor, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        let mut at = from;
        self.wait(self.any_endpoint(Use::Pull, async |endpoint: &Endpoint| {
            let (mut cuts, mut all) = (0, 0);
            // One blob at a time: that bounds what waits in memory for what comes before it.
            if descriptor.size.saturating_sub(at) >= RANGES_BYTES_MIN
                && let Ok(_alone) = self.core.ranges.try_acquire()
            {
                self.in_ranges(endpoint, descriptor, &mut at, sink).await?;
            }
            loop {
                let before = at;
                let error = match self.stream(endpoint, descriptor, &mut at, sink).await {
                    Err(error) if error.is_passing() => error,
                    done => return done,
                };
                all += 1;
                cuts = if at - before >= PROGRESS_BYTES { 0 } else { cuts + 1 };
                if cuts >= CUTS_MAX || all >= CUTS_ALTOGETHER_MAX {
                    return Err(error);
                }
                sleep(std::time::Duration::from_millis(100 << cuts)).await;
            }
        }))
    }

    /// As much of a big blob as comes in several ranges at once, in order: where a registry or the
    /// way to it gives each connection its share, a few of them get more. Whatever is wrong with
    /// one of them, the rest comes by one connection.
    async fn in_ranges(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        at: &mut u64,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut next = *at;
        let mut under_way: VecDeque<Range> = VecDeque::new();
        loop {
            while under_way.len() < RANGES && next < descriptor.size {
                let end = (next + RANGE_BYTES).min(descriptor.size);
                under_way.push_back(self.range(endpoint, descriptor, next..end)?);
                next = end;
            }
            let Some(first) = under_way.pop_front() else { return Ok(()) };
            let Some(bytes) = first.await else { return Ok(()) };
            sink(&bytes).map_err(Error::Content)?;
            *at += bytes.len() as u64;
        }
    }

    fn range(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        range: std::ops::Range<u64>,
    ) -> Result<Range> {
        let url = endpoint.url(&format!("blobs/{}", descriptor.digest));
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let call = Call::get("pulling blob", url, self.scopes(endpoint, &["pull"]))
            .header(ACCEPT_ENCODING, "identity")?
            .header(RANGE, &wanted)?;
        let (core, endpoint) = (Arc::clone(&self.core), endpoint.clone());
        let length = (range.end - range.start) as usize;
        Ok(Range(tokio::spawn(async move {
            let answer = core.send(&endpoint, &call).await.ok()?;
            let starts = answer.header(CONTENT_RANGE.as_str()).and_then(first_byte);
            if answer.status != StatusCode::PARTIAL_CONTENT || starts != Some(range.start) {
                return None;
            }
            let bytes = answer.bytes(&core.config, length).await.ok()?;
            (bytes.len() == length).then_some(bytes)
        })))
    }

    /// A small blob, whole and verified.
    pub fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>> {
        let url = || self.shown(&descriptor.digest.to_string());
        if descriptor.size > bytes_max {
            let why = format!("it has {} bytes, more than {bytes_max}", descriptor.size);
            return Err(Error::Protocol { url: url(), why });
        }
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        self.fetch(descriptor, 0, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        let actual = match descriptor.digest.algorithm() {
            Algorithm::Sha256 => Digest::from_sha256(Sha256::digest(&bytes).into()),
            Algorithm::Sha512 => Digest::from_sha512(Sha512::digest(&bytes).into()),
        };
        match actual == descriptor.digest {
            true => Ok(bytes),
            false => {
                let expected = descriptor.digest.clone();
                Err(Error::DigestMismatch { url: url(), expected, actual })
            }
        }
    }

    /// One connection's worth of a blob; `at` says how far it came.
    async fn stream(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        at: &mut u64,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let Descriptor { digest, size, .. } = descriptor;
        if at == size && *size > 0 {
            return Ok(());
        }
        let what = "pulling blob";
        let url = endpoint.url(&format!("blobs/{digest}"));
        // Compressed on the way, it would be another blob.
        let mut call = Call::get(what, url, self.scopes(endpoint, &["pull"]))
            .header(ACCEPT_ENCODING, "identity")?;
        if *at > 0 {
            call = call.header(RANGE, &format!("bytes={at}-"))?;
        }
        let mut answer = self.core.send(endpoint, &call).await?;
        let shown = answer.url.shown();
        let odd = |why: String| Error::Protocol { url: shown.clone(), why };
        let mut skip = match answer.status {
            StatusCode::OK => *at,
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
                if first_byte(range) != Some(*at) {
                    return Err(odd(format!("asked for bytes from {at} on, it sends {range:?}")));
                }
                0
            }
            StatusCode::NOT_FOUND => {
                let reason = answer.said(&self.core.config).await;
                let repository = self.name().familiar_name();
                return Err(Error::NoBlob { digest: digest.clone(), repository, reason });
            }
            _ => return Err(self.refused(endpoint, answer, what, "pull", None).await),
        };
        if let Some(encoding) =
            answer.header(CONTENT_ENCODING.as_str()).filter(|e| *e != "identity")
        {
            return Err(odd(format!("it sends the blob in the encoding {encoding:?}, unasked")));
        }
        let wanted = size - *at + skip;
        if let Some(length) = promised(&answer)
            && length != wanted
        {
            return Err(odd(format!("blob {digest}: want {wanted} bytes, it sends {length}")));
        }
        let mut pace = Pace::new(self.core.config.stall);
        while let Some(mut bytes) = answer.next(what, &mut pace).await? {
            if skip > 0 {
                let skipped = skip.min(bytes.len() as u64);
                skip -= skipped;
                drop(bytes.split_to(skipped as usize));
            }
            if bytes.len() as u64 > size - *at {
                return Err(odd(format!("blob {digest}: want {size} bytes, it sends more")));
            }
            sink(&bytes).map_err(Error::Content)?;
            *at += bytes.len() as u64;
        }
        if *at < *size {
            let source = std::io::Error::other(format!("it ended after {at} of {size} bytes"));
            return Err(Error::Connection { what: what.into(), url: shown, source });
        }
        Ok(())
    }
}

/// A range that a task fetches; without anybody who wants it, it ends.
struct Range(tokio::task::JoinHandle<Option<Vec<u8>>>);

impl Future for Range {
    type Output = Option<Vec<u8>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.ok().flatten())
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The first byte of `bytes 5-9/10`.
pub(crate) fn first_byte(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::first_byte;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("", None),
            ("items 5-9/10", None),
        ];
        for (text, want) in cases {
            assert_eq!(first_byte(text), want, "{text}");
        }
    }
}
