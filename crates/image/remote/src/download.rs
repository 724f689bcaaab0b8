//! A file of any server, as `import` and `load` may name one: with the same proxies, certificates,
//! bounds and patience as registries.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::{Buf as _, Bytes};
use tokio::runtime::Runtime;

use crate::{
    Client, Error, Result,
    challenge::Scopes,
    config::hosts::certificates,
    endpoint::Endpoint,
    send::{Answer, Call, Pace},
    url::Url,
};

const WHAT: &str = "downloading";

/// A file that comes while it is read. It is as long as its server says, or reading it fails.
pub struct Download {
    runtime: Arc<Runtime>,
    answer: Answer,
    pace: Pace,
    piece: Bytes,
}

impl Client {
    /// Begins to fetch the file at an `http` or `https` address.
    pub fn download(&self, address: &str) -> Result<Download> {
        let odd = |e| Error::Protocol { url: address.to_owned(), why: format!("{e}") };
        let url: Url = address.parse().map_err(odd)?;
        let authority = url.origin.authority();
        let certificates = certificates(&self.core.config.certs_dirs, &authority)?;
        let endpoint = Endpoint::bare(url.origin.clone(), certificates);
        let call = Call::get(WHAT, url, Scopes::default());
        let answer = self.runtime.block_on(async {
            let answer = self.core.send(&endpoint, &call).await?;
            match answer.status.is_success() {
                true => Ok(answer),
                false => Err(answer.refusal(&self.core.config, WHAT).await),
            }
        })?;
        let (runtime, pace) = (Arc::clone(&self.runtime), Pace::new(self.core.config.stall));
        Ok(Download { runtime, answer, pace, piece: Bytes::new() })
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let next = self.runtime.block_on(self.answer.next(WHAT, &mut self.pace));
            self.piece = next.map_err(io::Error::other)?.unwrap_or_default();
        }
        let n = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
