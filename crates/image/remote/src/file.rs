//! Plain files of web servers that are no registries: the archives of distributions.
//!
//! Connections, proxies, certificates, redirects, patience and bounds are those of registries. There
//! are no tokens; a name and password go to the origin that they are given for.

use hyper::{
    StatusCode,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderName,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
    },
};
use tokio::time::sleep;

use crate::{
    Client, Config, Error, Result, Sink,
    blob::first_byte,
    challenge::Scopes,
    config::{credentials::basic, hosts::Certificates},
    endpoint::Endpoint,
    repository::promised,
    send::{Answer, Call, Pace, REDIRECTS_MAX},
    url::{Scheme, Url},
};

/// Cuts in a row that brought nothing, before it is given up.
const CUTS_MAX: u32 = 4;
/// Cuts altogether.
const CUTS_ALTOGETHER_MAX: u32 = 100;

/// Fetches files. Its functions block, and may be called by any number of threads at once.
#[derive(Debug)]
pub struct Files {
    client: Client,
}

/// A file that is wanted.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// Its address.
    pub url: String,
    /// Name and password for that origin.
    pub login: Option<(String, String)>,
    /// The first byte that is wanted.
    pub from: u64,
    /// How long it is, where that is known: it is then exactly so long, and cuts are mended.
    pub size: Option<u64>,
    /// A file longer than this is refused.
    pub bytes_max: u64,
    /// What is already here, if it has not changed since.
    pub unless: Stamp,
}

/// By what a server tells whether a file has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// It is what is already here.
    Unchanged,
    /// The sink has it.
    Whole(Stamp),
}

impl Files {
    /// Of a configuration, proxies, certificates and patience matter.
    pub fn open(mut config: Config) -> Result<Files> {
        config.registries_files.clear();
        config.auth_files.clear();
        Ok(Files { client: Client::open(config, None)? })
    }

    /// Fetches a file. The sink gets its bytes in order, or this fails; whether they are the right
    /// ones is the caller's to check.
    pub fn get(&self, wanted: &Get, sink: &mut Sink<'_>) -> Result<Got> {
        self.client.runtime.block_on(async {
            let (mut at, mut cuts, mut all) = (wanted.from, 0, 0);
            loop {
                let before = at;
                let error = match self.stream(wanted, &mut at, sink).await {
                    Err(error) if error.is_passing() => error,
                    done => return done,
                };
                // Of a file whose length is not known nobody can say that it is still the same.
                let may_go_on = wanted.size.is_some() || at == wanted.from;
                all += 1;
                cuts = if at > before { 0 } else { cuts + 1 };
                if !may_go_on || cuts >= CUTS_MAX || all >= CUTS_ALTOGETHER_MAX {
                    return Err(error);
                }
                sleep(std::time::Duration::from_millis(200 << cuts)).await;
            }
        })
    }

    /// One connection's worth of a file; `at` says how far it came.
    async fn stream(&self, wanted: &Get, at: &mut u64, sink: &mut Sink<'_>) -> Result<Got> {
        if wanted.size == Some(*at) && *at > 0 {
            return Ok(Got::Whole(Stamp::default()));
        }
        let what = "fetching";
        let mut answer = self.ask(what, wanted, *at).await?;
        let shown = answer.url.shown();
        let odd = |why: String| Error::Protocol { url: shown.clone(), why };
        let mut skip = match answer.status {
            StatusCode::NOT_MODIFIED if wanted.unless != Stamp::default() => {
                return Ok(Got::Unchanged);
            }
            StatusCode::OK => *at,
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
                if first_byte(range) != Some(*at) {
                    return Err(odd(format!("asked for bytes from {at} on, it sends {range:?}")));
                }
                0
            }
            _ => return Err(answer.refusal(&self.client.core.config, what).await),
        };
        if let Some(encoding) =
            answer.header(CONTENT_ENCODING.as_str()).filter(|e| *e != "identity")
        {
            return Err(odd(format!("it sends the file in the encoding {encoding:?}, unasked")));
        }
        let bytes_max = wanted.size.unwrap_or(wanted.bytes_max).min(wanted.bytes_max);
        let too_long = || odd(format!("it is longer than {bytes_max} bytes"));
        if let Some(length) = promised(&answer) {
            let whole = length.saturating_add(*at - skip);
            match wanted.size {
                Some(size) if whole != size => {
                    return Err(odd(format!("want {size} bytes, it sends {whole}")));
                }
                _ if whole > bytes_max => return Err(too_long()),
                _ => {}
            }
        }
        let text = |name: HeaderName| answer.header(name.as_str()).map(str::to_owned);
        let stamp = Stamp { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        let mut pace = Pace::new(self.client.core.config.stall);
        while let Some(mut bytes) = answer.next(what, &mut pace).await? {
            if skip > 0 {
                let skipped = skip.min(bytes.len() as u64);
                skip -= skipped;
                drop(bytes.split_to(skipped as usize));
            }
            if bytes.len() as u64 > bytes_max - *at {
                return Err(too_long());
            }
            sink(&bytes).map_err(Error::Content)?;
            *at += bytes.len() as u64;
        }
        match wanted.size {
            Some(size) if *at < size => {
                let source = std::io::Error::other(format!("it ended after {at} of {size} bytes"));
                Err(Error::Connection { what: what.into(), url: shown, source })
            }
            _ => Ok(Got::Whole(stamp)),
        }
    }

    /// The answer at the end of all redirects.
    async fn ask(&self, what: &'static str, wanted: &Get, at: u64) -> Result<Answer> {
        let wrong = |e| Error::Protocol { url: wanted.url.clone(), why: format!("{e}") };
        let mut url: Url = wanted.url.parse().map_err(wrong)?;
        let home = url.origin.clone();
        let mut redirects = 0;
        loop {
            let endpoint = Endpoint::bare(url.origin.clone(), Certificates::default());
            let mut call = Call::get(what, url.clone(), Scopes::default())
                .header(ACCEPT_ENCODING, "identity")?;
            if at > 0 {
                call = call.header(RANGE, &format!("bytes={at}-"))?;
            }
            if let Some(etag) = &wanted.unless.etag {
                call = call.header(IF_NONE_MATCH, etag)?;
            }
            if let Some(time) = &wanted.unless.last_modified {
                call = call.header(IF_MODIFIED_SINCE, time)?;
            }
            if let Some((name, password)) = wanted.login.as_ref().filter(|_| url.origin == home) {
                call = call.header(AUTHORIZATION, &basic(name, password))?;
            }
            let answer = self.client.core.exchange_once(&endpoint, &call).await?;
            if !matches!(answer.status.as_u16(), 301..=303 | 307 | 308) {
                return Ok(answer);
            }
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                let (what, url) = (what.into(), url.shown());
                return Err(Error::Redirects { what, url, limit: REDIRECTS_MAX });
            }
            let next = answer.location()?;
            if url.origin.scheme == Scheme::Https
                && next.origin.scheme == Scheme::Http
                && !next.origin.is_loopback()
            {
                let why = format!("it redirects from TLS to plain HTTP, {}", next.shown());
                return Err(Error::Protocol { url: url.shown(), why });
            }
            url = next;
        }
    }
}
