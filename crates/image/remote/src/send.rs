//! One request and its answer: credentials, redirects, patience, and bounds for all of them.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Version,
    body::Incoming,
    header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT},
};
use hyper_util::client::legacy;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Config, Error, Result,
    challenge::Scopes,
    client::Core,
    endpoint::Endpoint,
    error::Said,
    net::{Body, Failed},
    url::{Scheme, Url},
};

pub(crate) type Headers = HeaderMap;

/// Redirects that are followed, as containerd does.
pub(crate) const REDIRECTS_MAX: usize = 10;
/// How often something is asked for, all in all.
const ATTEMPTS_MAX: u32 = 5;
/// Waited before the second attempt; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// A registry that wants us to wait for longer is told about instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Of an error's body.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A body that brings less than this in the time that nothing may come for counts as stalled.
const TRICKLE_BYTES: u64 = 1 << 10;
/// How many times longer a registry may think about what it was sent.
const THINKING: u32 = 10;

/// What is asked for.
pub(crate) struct Call<'a> {
    /// For people: `pulling manifest`.
    pub what: &'static str,
    pub method: Method,
    pub url: Url,
    pub headers: Headers,
    pub body: Payload<'a>,
    pub scopes: Scopes,
    /// How often it may be tried.
    pub attempts: u32,
}

/// What is sent with it.
pub(crate) enum Payload<'a> {
    Empty,
    Bytes(Bytes),
    /// Made anew for each attempt, with what counts its progress.
    Stream {
        size: u64,
        sent: &'a AtomicU64,
        open: &'a (dyn Fn() -> Result<Body> + Sync),
    },
}

impl<'a> Call<'a> {
    pub(crate) fn new(what: &'static str, method: Method, url: Url, scopes: Scopes) -> Call<'a> {
        let (headers, body) = (Headers::new(), Payload::Empty);
        Call { what, method, url, headers, body, scopes, attempts: ATTEMPTS_MAX }
    }

    pub(crate) fn get(what: &'static str, url: Url, scopes: Scopes) -> Call<'a> {
        Call::new(what, Method::GET, url, scopes)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Call<'a>> {
        let value = HeaderValue::from_str(value).map_err(|_| Error::Protocol {
            url: self.url.shown(),
            why: format!("no header {name} can be made of {value:?}"),
        })?;
        self.headers.append(name, value);
        Ok(self)
    }
}

/// What came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: Headers,
    pub body: Incoming,
    /// Where it came from, after all redirects.
    pub url: Url,
}

impl Core {
    /// Asks, again where that may help, and gives the first answer that is neither a redirect nor a
    /// wish for credentials nor a passing failure.
    pub(crate) async fn send(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let pause = PAUSE * 2u32.pow(attempt - 1) + jitter();
            let (error, pause) = match self.send_once(endpoint, call).await {
                Ok(answer) if is_busy(answer.status) => {
                    let wish = retry_after(&answer.headers);
                    let error = answer.refusal(&self.config, call.what).await;
                    match wish {
                        Some(wish) if wish > RETRY_AFTER_MAX => return Err(error),
                        // Limits without a time to wait are of hours, not of seconds.
                        None if matches!(error, Error::TooManyRequests { .. }) && attempt > 2 => {
                            return Err(error);
                        }
                        wish => (error, wish.unwrap_or(pause)),
                    }
                }
                Err(error) if error.is_passing() => (error, pause),
                done => return done,
            };
            if attempt >= call.attempts {
                return Err(error);
            }
            attempt += 1;
            sleep(pause).await;
        }
    }

    async fn send_once(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer> {
        let mut scopes = call.scopes.clone();
        let (mut url, mut redirects, mut refused) = (call.url.clone(), 0, 0);
        loop {
            let at_home = url.origin == endpoint.origin;
            let mut headers = call.headers.clone();
            let authorization = self.authorization(endpoint, &url.origin, &scopes).await?;
            if let Some(authorization) = &authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            if at_home {
                self.add_own(endpoint, &mut headers)?;
            }
            let answer = self.raw(endpoint, call, &url, headers).await?;
            match answer.status {
                StatusCode::UNAUTHORIZED if refused < 2 => {
                    refused += 1;
                    let again =
                        self.learn(&url.origin, &answer, authorization.as_ref(), &mut scopes);
                    if !again.await {
                        return Ok(answer);
                    }
                    if !has_more(self, endpoint, &url, &scopes, authorization.as_ref()).await? {
                        return Ok(answer);
                    }
                }
                status if follows(status, &call.method) => {
                    redirects += 1;
                    if redirects > REDIRECTS_MAX {
                        let (what, url) = (call.what.into(), url.shown());
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
                _ => return Ok(answer),
            }
        }
    }

    /// A request to a server of tokens: no credentials but those given, no redirects.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        method: Method,
        url: &Url,
        headers: &Headers,
        body: Option<Bytes>,
    ) -> Result<Answer> {
        let mut call = Call::new("asking for a token", method, url.clone(), Scopes::default());
        call.body = body.map_or(Payload::Empty, Payload::Bytes);
        let mut attempt = 1;
        loop {
            match self.raw(endpoint, &call, url, headers.clone()).await {
                Ok(answer) if is_busy(answer.status) && attempt < ATTEMPTS_MAX => {}
                Err(error) if error.is_passing() && attempt < ATTEMPTS_MAX => {}
                done => return done,
            }
            sleep(PAUSE * 2u32.pow(attempt - 1) + jitter()).await;
            attempt += 1;
        }
    }

    /// One request without credentials, and without a second try.
    pub(crate) async fn exchange_once(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
    ) -> Result<Answer> {
        self.raw(endpoint, call, &call.url, call.headers.clone()).await
    }

    fn add_own(&self, endpoint: &Endpoint, headers: &mut Headers) -> Result<()> {
        for (name, value) in &endpoint.headers {
            let odd = |why: String| Error::Config { path: "hosts.toml".into(), why };
            let name: HeaderName = name.parse().map_err(|e| odd(format!("{name:?}: {e}")))?;
            let value = HeaderValue::from_str(value).map_err(|e| odd(format!("{name}: {e}")))?;
            headers.append(name, value);
        }
        Ok(())
    }

    /// One exchange, to the end of the answer's headers.
    async fn raw(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        url: &Url,
        headers: Headers,
    ) -> Result<Answer> {
        let what = call.what;
        let same_host = url.origin.authority() == endpoint.origin.authority();
        let pool = match same_host {
            true => self.pools.get(&self.config, &endpoint.certificates),
            false => self.pools.for_host(&self.config, &url.origin)?,
        };
        let mut builder = Request::builder().method(call.method.clone()).uri(url.to_string());
        // The pool makes of it what the connection speaks.
        builder = builder.version(Version::HTTP_11);
        let mut sent = None;
        let body: Body = match &call.body {
            Payload::Empty => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Payload::Bytes(bytes) => {
                Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync()
            }
            Payload::Stream { size, sent: counter, open } => {
                sent = Some((*counter, *size));
                open()?
            }
        };
        let odd = |e: hyper::http::Error| Error::Protocol { url: url.shown(), why: e.to_string() };
        let mut request = builder.body(body).map_err(odd)?;
        *request.headers_mut() = headers;
        let own = request.headers_mut();
        own.entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("hako/", env!("CARGO_PKG_VERSION"))));
        if let Ok(host) = HeaderValue::from_str(&url.origin.authority()) {
            own.insert(HOST, host);
        }
        if url.origin.scheme == Scheme::Http
            && let Some(proxy) = self.config.proxies.for_origin(&url.origin)
            && let Some(authorization) = &proxy.authorization()
            && let Ok(mut value) = HeaderValue::from_str(authorization)
        {
            value.set_sensitive(true);
            own.insert(hyper::header::PROXY_AUTHORIZATION, value);
        }
        let mut answer = pin!(pool.request(request));
        let stall = self.config.stall;
        let mut seen = 0;
        let mut quiet = Duration::ZERO;
        let response = loop {
            // While something is sent, an answer need not come; once all is, the registry thinks.
            match timeout_at(Instant::now() + stall, &mut answer).await {
                Ok(response) => break response.map_err(|e| failure(what, url, &e))?,
                Err(_) => quiet += stall,
            }
            let patience = match sent {
                None => stall,
                Some((counter, size)) => {
                    let now = counter.load(Ordering::Relaxed);
                    if now > seen {
                        quiet = Duration::ZERO;
                    }
                    seen = now;
                    if now >= size { stall * THINKING } else { stall }
                }
            };
            if quiet >= patience {
                let seconds = quiet.as_secs();
                return Err(Error::Stalled { what: what.into(), url: url.shown(), seconds });
            }
        };
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body, url: url.clone() })
    }
}

/// Whether there is something to show that was not shown yet.
async fn has_more(
    core: &Core,
    endpoint: &Endpoint,
    url: &Url,
    scopes: &Scopes,
    sent: Option<&HeaderValue>,
) -> Result<bool> {
    Ok(match core.authorization(endpoint, &url.origin, scopes).await? {
        None => false,
        Some(header) => Some(&header) != sent,
    })
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a redirect is followed: what changes something only where it stays the same request.
fn follows(status: StatusCode, method: &Method) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    }
}

fn retry_after(headers: &Headers) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// So that those who were sent away together do not come back together.
fn jitter() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::from(now.subsec_micros() % 100))
}

/// What went wrong with a connection.
fn failure(what: &str, url: &Url, error: &legacy::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Failed>().and_then(Failed::take) {
            return error;
        }
        cause = error.source();
    }
    broken(what, url, error)
}

/// The innermost cause, which is the one that says something.
fn broken(what: &str, url: &Url, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    let text = match inner.downcast_ref::<hyper::Error>() {
        Some(e) if e.is_incomplete_message() => "the connection was closed in the middle".into(),
        _ => inner.to_string(),
    };
    // What a peer sends that is no HTTP does not get better by asking again.
    let hyper = error.source().and_then(|e| e.downcast_ref::<hyper::Error>());
    if hyper.is_some_and(|e| e.is_parse()) {
        return Error::Protocol { url: url.shown(), why: format!("its answer is no HTTP: {text}") };
    }
    let source = io::Error::other(text);
    Error::Connection { what: what.into(), url: url.shown(), source }
}

impl Answer {
    /// The address that its `Location` means.
    pub(crate) fn location(&self) -> Result<Url> {
        let odd = |why: String| Error::Protocol { url: self.url.shown(), why };
        let text = self.headers.get(LOCATION).map(HeaderValue::to_str);
        match text {
            None => Err(odd(format!("its answer {} has no Location", self.status.as_u16()))),
            Some(Err(_)) => Err(odd("its Location is no address".into())),
            Some(Ok(text)) => {
                self.url.join(text).map_err(|e| odd(format!("its Location is no address: {e}")))
            }
        }
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// `pace` is the reader's: it bounds how long little or nothing may come.
    pub(crate) async fn next(&mut self, what: &str, pace: &mut Pace) -> Result<Option<Bytes>> {
        loop {
            let frame = match timeout_at(pace.ends, self.body.frame()).await {
                Err(_) => {
                    let seconds = pace.stall.as_secs();
                    let url = self.url.shown();
                    return Err(Error::Stalled { what: what.into(), url, seconds });
                }
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|e| broken(what, &self.url, &e))?,
            };
            // Trailers say nothing that we would believe.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                pace.took(bytes.len() as u64);
                return Ok(Some(bytes));
            }
        }
    }

    /// The whole body, which must be no longer than this.
    pub(crate) async fn bytes(mut self, config: &Config, bytes_max: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut pace = Pace::new(config.stall);
        while let Some(more) = self.next("reading", &mut pace).await? {
            if bytes.len() + more.len() > bytes_max {
                let why = format!("its answer is longer than {bytes_max} bytes");
                return Err(Error::Protocol { url: self.url.shown(), why });
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// What an answer says that is no success.
    pub(crate) async fn said(mut self, config: &Config) -> Said {
        let mut bytes = Vec::new();
        let mut pace = Pace::new(config.stall);
        while bytes.len() < ERROR_BYTES_MAX {
            // An error that cannot be read to its end is an error all the same.
            let Ok(Some(more)) = self.next("reading", &mut pace).await else { break };
            bytes.extend_from_slice(&more);
        }
        bytes.truncate(ERROR_BYTES_MAX);
        Said::of(self.status.as_u16(), &bytes)
    }

    /// The error that an answer is, where the repository does not matter.
    pub(crate) async fn refusal(self, config: &Config, what: &str) -> Error {
        let (status, url) = (self.status.as_u16(), self.url.clone());
        let reason = self.said(config).await;
        match status {
            401 => Error::Unauthorized { registry: url.origin.authority(), reason },
            429 => Error::TooManyRequests { registry: url.origin.authority(), reason },
            _ => Error::Status { what: what.into(), url: url.shown(), status, reason },
        }
    }
}

/// How fast a body must come: something, and more than a trickle.
pub(crate) struct Pace {
    stall: Duration,
    ends: Instant,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(stall: Duration) -> Pace {
        Pace { stall, ends: Instant::now() + stall, bytes: 0 }
    }

    fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= TRICKLE_BYTES {
            self.bytes = 0;
            self.ends = Instant::now() + self.stall;
        }
    }
}
