//! Connections, and the way from a request to its endpoint.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hako_content::Store;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Error, Log, Options, Result,
    access::{Entry, Metrics, cut, event},
    blobs,
    body::Body,
    collect,
    door::{self, Door, Granted},
    lists, manifests,
    proxy::{self, Proxy},
    refusal::{self, Code, Refusal},
    request::{self, Route, route},
    sendfile::{Files, Plain},
    stream::Stream,
    tls, uploads,
};

/// A connection's buffer, which also bounds its headers.
const BUFFER_BYTES: usize = 256 << 10;

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// Bytes of them in HTTP/2.
const HEADER_LIST_BYTES_MAX: u32 = 32 << 10;

/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 32;

/// How long a client may take over its handshake, or the headers of a request.
const GREETING: Duration = Duration::from_secs(30);

/// So much of a refused request's body is read and thrown away, so that its client reads the answer
/// in place of being cut off while it sends.
const DRAINED_BYTES_MAX: u64 = 8 << 20;

/// One server.
pub(crate) struct State {
    pub store: Store,
    pub options: Options,
    pub hashed: uploads::HashStates,
    pub metrics: Arc<Metrics>,
    pub proxy: Option<Proxy>,
    warnings: Vec<HeaderValue>,
    door: RwLock<Arc<Door>>,
    tls: RwLock<Option<TlsAcceptor>>,
    log: Log,
}

impl State {
    pub(crate) fn new(store: Store, options: Options, log: Log) -> Result<State> {
        let door = RwLock::new(Arc::new(Door::new(&options)?));
        let tls = RwLock::new(acceptor(&options)?);
        let warnings = refusal::warnings(&options.warnings)?;
        let proxy = options.upstream.as_ref().map(Proxy::new).transpose()?;
        let metrics = Arc::new(Metrics::default());
        metrics.uploads.store(store.uploads()?.len() as u64, Relaxed);
        let hashed = uploads::HashStates::default();
        Ok(State { store, options, hashed, metrics, proxy, warnings, door, tls, log })
    }

    /// Reads anew the files that say who may come in and who we are.
    fn reload(&self) -> Result<()> {
        let (door, tls) = (Arc::new(Door::new(&self.options)?), acceptor(&self.options)?);
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = door;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        Ok(())
    }

    /// Logs something that is no request.
    pub(crate) fn tell(&self, name: &str, fields: serde_json::Value) {
        event(&self.log, name, fields);
    }

    fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn scheme(&self) -> &'static str {
        if self.options.tls.is_some() { "https" } else { "http" }
    }
}

fn acceptor(options: &Options) -> Result<Option<TlsAcceptor>> {
    let files = options.tls.as_ref();
    files.map(|(certificates, key)| Ok(tls::config(certificates, key)?.into())).transpose()
}

/// Runs what blocks: on this thread, while others take over what it would have done.
pub(crate) fn block<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}

/// Serves until a signal says to stop.
pub(crate) async fn run(state: Arc<State>) -> Result<()> {
    let address = state.options.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
    let handler = |kind| signal(kind).map_err(|source| Error::Runtime { call: "signal", source });
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let hangup = handler(SignalKind::hangup())?;
    let scheme = state.scheme();
    event(&state.log, "listening", json!({ "address": address.to_string(), "scheme": scheme }));
    tokio::spawn(reload_for_ever(state.clone(), hangup));
    if !state.options.read_only {
        tokio::spawn(collect_for_ever(state.clone()));
    }

    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(state.options.connections_max.max(1)));
    {
        let mut accepting = pin!(accept(&state, &listener, &graceful, &room));
        poll_fn(|cx| {
            let stop = terminate.poll_recv(cx).is_ready() || interrupt.poll_recv(cx).is_ready();
            match stop || accepting.as_mut().poll(cx).is_ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
    drop(listener);
    event(
        &state.log,
        "stopping",
        json!({ "connections": state.metrics.connections.load(Relaxed) }),
    );
    let finished = timeout(state.options.shutdown, graceful.shutdown()).await.is_ok();
    event(&state.log, "stopped", json!({ "finished": finished }));
    Ok(())
}

/// Accepts for ever.
async fn accept(
    state: &Arc<State>,
    listener: &TcpListener,
    graceful: &GracefulShutdown,
    room: &Arc<Semaphore>,
) {
    loop {
        // Closed is what nobody makes this semaphore.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // A client that is gone already, or no descriptors: the next may fare better.
                event(&state.log, "accept", json!({ "error": e.to_string() }));
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (state, watcher) = (state.clone(), graceful.watcher());
        tokio::spawn(async move {
            let served = greet(&state, socket, remote, watcher).await;
            if let Err(why) = served {
                event(
                    &state.log,
                    "connection",
                    json!({
                        "remote": remote.to_string(), "error": why,
                    }),
                );
            }
            drop(permit);
        });
    }
}

/// TLS, where there is any, and then requests.
async fn greet(
    state: &Arc<State>,
    socket: TcpStream,
    remote: SocketAddr,
    watcher: Watcher,
) -> std::result::Result<(), String> {
    socket.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
    let (metrics, stall) = (state.metrics.clone(), state.options.stall);
    let Some(acceptor) = state.acceptor() else {
        let plain = Plain::new(socket);
        let files = Some(plain.files());
        let stream = Stream::new(plain, metrics, stall);
        return converse(state, stream, remote, watcher, false, files).await;
    };
    let greeted = timeout(GREETING, acceptor.accept(socket)).await;
    let tls = greeted.map_err(|_| "TLS: too slow".to_owned())?.map_err(|e| format!("TLS: {e}"))?;
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    converse(state, Stream::new(tls, metrics, stall), remote, watcher, is_http2, None).await
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    state: &Arc<State>,
    stream: S,
    remote: SocketAddr,
    watcher: Watcher,
    is_http2: bool,
    files: Option<Files>,
) -> std::result::Result<(), String> {
    let service = {
        let state = state.clone();
        service_fn(move |request| {
            let (state, files) = (state.clone(), files.clone());
            async move {
                let response = respond(&state, request, remote).await;
                Ok::<_, Infallible>(response.map(|body| body.sent_by(files)))
            }
        })
    };
    let io = TokioIo::new(stream);
    let served = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_send_buf_size(BUFFER_BYTES)
            .keep_alive_interval(Some(GREETING))
            .keep_alive_timeout(GREETING);
        watcher.watch(builder.serve_connection(io, service)).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(GREETING)
            .max_buf_size(BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .writev(true);
        watcher.watch(builder.serve_connection(io, service)).await
    };
    match served {
        // Clients hang up as they like.
        Err(e) if !e.is_incomplete_message() && !e.is_closed() && !e.is_timeout() => {
            Err(refusal::chain(&e))
        }
        _ => Ok(()),
    }
}

/// What is looked at of a request beside method, path and body.
pub(crate) struct Asked {
    pub is_head: bool,
    query: Vec<(String, String)>,
    pub content_length: Option<u64>,
    pub content_type: Option<String>,
    pub content_range: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
    if_none_match: Option<String>,
    /// What its client may do beside this.
    pub granted: Granted,
}

impl Asked {
    fn of(request: &Request<Incoming>) -> Asked {
        let text = |name: HeaderName| text(request.headers(), &name);
        Asked {
            is_head: request.method() == Method::HEAD,
            query: request::query(request.uri().query().unwrap_or_default()),
            // Of a chunked body it says nothing, and its header must not be believed.
            content_length: request.body().size_hint().exact(),
            content_type: text(header::CONTENT_TYPE),
            content_range: text(header::CONTENT_RANGE),
            range: text(header::RANGE),
            if_range: text(header::IF_RANGE),
            if_none_match: text(header::IF_NONE_MATCH),
            granted: Granted::All,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_query(query: &str) -> Asked {
        Asked {
            is_head: false,
            query: request::query(query),
            content_length: None,
            content_type: None,
            content_range: None,
            range: None,
            if_range: None,
            if_none_match: None,
            granted: Granted::All,
        }
    }

    /// A parameter's first value.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All its values.
    pub(crate) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client has it already.
    pub(crate) fn is_known(&self, etag: &str) -> bool {
        self.if_none_match.as_deref().is_some_and(|known| {
            known
                .split(',')
                .any(|k| matches!(k.trim(), "*") || k.trim().trim_start_matches("W/") == etag)
        })
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Answers one request.
async fn respond(
    state: &Arc<State>,
    request: Request<Incoming>,
    remote: SocketAddr,
) -> Response<Body> {
    let mut entry = Entry {
        log: state.log.clone(),
        metrics: state.metrics.clone(),
        begun: Instant::now(),
        remote,
        method: cut(request.method().as_str()),
        uri: cut(&request.uri().to_string()),
        version: format!("{:?}", request.version()),
        agent: cut(&text(request.headers(), &header::USER_AGENT).unwrap_or_default()),
        user: String::new(),
        status: 0,
        sent: 0,
        fault: None,
    };
    let method = request.method().clone();
    let mut asked = Asked::of(&request);
    let path = request.uri().path().to_owned();
    let authorization = text(request.headers(), &header::AUTHORIZATION);
    let authority = request.uri().authority().map(ToString::to_string);
    let here = authority.or_else(|| text(request.headers(), &header::HOST)).unwrap_or_default();
    let here = format!("{}://{here}", state.scheme());
    let mut body = request.into_body();

    let door = state.door();
    let answered = match &*door {
        Door::Issued(issuer) if path == door::TOKEN_PATH && method == Method::GET => {
            issuer.answer(authorization.as_deref(), &asked)
        }
        door => {
            let needed = door::needed(route(&path).ok().as_ref(), &method, &asked);
            match block(|| door.admit(authorization.as_deref(), &needed, &here)) {
                Ok(admitted) => {
                    entry.user = cut(&admitted.user);
                    asked.granted = admitted.granted;
                    dispatch(state, &method, &path, &asked, &mut body).await
                }
                Err(refusal) => Err(refusal),
            }
        }
    };
    if matches!(&answered, Err(refusal) if refusal.code == Code::Unauthorized)
        && authorization.is_some()
    {
        state.metrics.refused_logins.fetch_add(1, Relaxed);
    }
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => {
            drain(state, &mut body).await;
            entry.fault.clone_from(&refusal.fault);
            refused(&refusal, asked.is_head)
        }
    };
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("Docker-Distribution-API-Version", version);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for warning in &state.warnings {
        response.headers_mut().append(header::WARNING, warning.clone());
    }
    entry.status = response.status().as_u16();
    response.map(|body| body.logged(entry))
}

async fn dispatch(
    state: &Arc<State>,
    method: &Method,
    path: &str,
    asked: &Asked,
    body: &mut Incoming,
) -> std::result::Result<Response<Body>, Refusal> {
    let route = route(path)?;
    let (get, post) = (method == Method::GET || asked.is_head, method == Method::POST);
    let (put, patch) = (method == Method::PUT, method == Method::PATCH);
    let delete = method == Method::DELETE;
    if !get && state.options.read_only {
        return Err(Refusal::new(Code::Unsupported, "this registry is read-only"));
    }
    // Cancelling an upload deletes nothing that was ever there.
    if delete && !state.options.deletes && !matches!(route, Route::Upload(..)) {
        return Err(Refusal::new(Code::Unsupported, "this registry deletes nothing"));
    }
    let route = match (&state.proxy, route) {
        (Some(_), _) if !get => {
            return Err(Refusal::new(Code::Unsupported, "this registry is a pull-through cache"));
        }
        // What an upstream may know, too.
        (Some(proxy), Route::Tags(repository)) => {
            return proxy::tags(state, proxy, &repository, asked).await;
        }
        (Some(proxy), Route::Referrers(repository, subject)) => {
            return proxy::referrers(state, proxy, &repository, &subject, asked).await;
        }
        (Some(proxy), Route::Manifest(repository, name)) => {
            return proxy::manifest(state, proxy, &repository, &name, asked).await;
        }
        (Some(proxy), Route::Blob(repository, digest)) => {
            return proxy::blob(state, proxy, &repository, &digest, asked).await;
        }
        (_, route) => route,
    };
    match route {
        Route::Root if get => Ok(plain("{}", "application/json")),
        Route::Metrics if get => Ok(plain(state.metrics.text(), "text/plain; version=0.0.4")),
        Route::Catalog if get => lists::catalog(state, asked),
        Route::Tags(repository) if get => lists::tags(state, &repository, asked),
        Route::Referrers(repository, subject) if get => {
            lists::referrers(state, &repository, &subject, asked)
        }
        Route::Manifest(repository, name) if get => {
            manifests::get(state, &repository, &name, asked)
        }
        Route::Manifest(repository, name) if put => {
            manifests::put(state, &repository, &name, asked, body).await
        }
        Route::Manifest(repository, name) if delete => manifests::delete(state, &repository, &name),
        Route::Blob(repository, digest) if get => blobs::get(state, &repository, &digest, asked),
        Route::Blob(repository, digest) if delete => blobs::delete(state, &repository, &digest),
        Route::Uploads(repository) if post => uploads::begin(state, &repository, asked, body).await,
        Route::Upload(repository, id) if get => uploads::status(state, &repository, &id),
        Route::Upload(repository, id) if patch => {
            uploads::append(state, &repository, &id, asked, body).await
        }
        Route::Upload(repository, id) if put => {
            uploads::finish(state, &repository, &id, asked, body).await
        }
        Route::Upload(repository, id) if delete => uploads::cancel(state, &repository, &id),
        _ => Err(Refusal::new(Code::Unsupported, format!("{method} is not for this path"))),
    }
}

/// The next part of a body, for which its client has so long.
pub(crate) async fn chunk(
    state: &State,
    body: &mut Incoming,
) -> std::result::Result<Option<Bytes>, Refusal> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match timeout(state.options.stall, frame).await {
            Err(_) => {
                return Err(Refusal::new(Code::BlobUploadInvalid, "the body came too slowly")
                    .status(StatusCode::REQUEST_TIMEOUT)
                    .header("Connection", "close"));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(e))) => {
                return Err(Refusal::new(Code::BlobUploadInvalid, format!("body: {e}")));
            }
            // Trailers mean nothing here.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Throws away what is left of a body, as far as that is cheap.
async fn drain(state: &State, body: &mut Incoming) {
    let mut left = DRAINED_BYTES_MAX;
    while let Ok(Some(bytes)) = chunk(state, body).await {
        left = left.saturating_sub(bytes.len() as u64);
        if left == 0 {
            return;
        }
    }
}

/// A response.
pub(crate) fn answer(
    status: StatusCode,
    headers: &[(&'static str, String)],
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        // What cannot stand in a header came from a client, who does without it then.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(*name, value);
        }
    }
    response
}

fn plain(text: impl Into<Bytes>, kind: &str) -> Response<Body> {
    let text = text.into();
    let headers = [("Content-Type", kind.to_owned()), ("Content-Length", text.len().to_string())];
    answer(StatusCode::OK, &headers, Body::text(text))
}

fn refused(refusal: &Refusal, is_head: bool) -> Response<Body> {
    let text = refusal.json();
    let mut headers = vec![
        ("Content-Type", "application/json".to_owned()),
        ("Content-Length", text.len().to_string()),
    ];
    headers.extend(refusal.headers.iter().cloned());
    let body = if is_head { Body::empty() } else { Body::text(text) };
    answer(refusal.status, &headers, body)
}

/// SIGHUP: certificates, keys and users are read again. What was read before stays where that fails.
async fn reload_for_ever(state: Arc<State>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let error = block(|| state.reload()).err().map(|e| refusal::chain(&e));
        event(&state.log, "reloaded", json!({ "error": error }));
    }
}

/// Collects now and then.
async fn collect_for_ever(state: Arc<State>) {
    let mut ticks = tokio::time::interval(state.options.collect_every.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match block(|| collect::collect(&state.store, state.options.ages)) {
            Ok(collected) => {
                let metrics = &state.metrics;
                metrics.collections.fetch_add(1, Relaxed);
                metrics.collected_blobs.fetch_add(collected.blobs, Relaxed);
                metrics.collected_bytes.fetch_add(collected.bytes, Relaxed);
                for id in &collected.uploads {
                    uploads::ended(&state, id);
                }
                event(
                    &state.log,
                    "collected",
                    json!({
                        "uploads": collected.uploads.len(),
                        "blobs": collected.blobs,
                        "bytes": collected.bytes,
                    }),
                );
            }
            Err(e) => {
                event(&state.log, "collect", json!({ "error": refusal::chain(&e) }));
            }
        }
    }
}
