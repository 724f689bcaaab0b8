//! A registry that does what a test tells it to: HTTP/1.1 on loopback, one thread a connection.
//!
//! [`Content`] is a well-behaved one in memory. A test answers some requests itself, with lies if
//! it likes ([`Body`]), and leaves the rest to the content.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{archive::sha256, image::Image};

/// What came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` ...
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body, as far as it came.
    pub body: Vec<u8>,
    /// Whether all of it came.
    pub whole: bool,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// `GET /v2/a/manifests/1`, to be matched.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// What follows them.
    pub body: Body,
}

/// A body, honest or not.
#[derive(Debug, Clone)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, of so many that are promised; then the connection is closed.
    Cut(Vec<u8>, u64),
    /// These bytes, of so many that are promised; then nothing, as long as the peer waits.
    Stall(Vec<u8>, u64),
    /// These bytes, those from one on only when it is said.
    Held(Vec<u8>, usize, Arc<AtomicBool>),
    /// One byte now and then, for ever, of so many that are promised.
    Trickle(u64),
    /// Zeros without end, as fast as they are taken.
    Endless,
    /// These bytes in place of an answer; then the connection is closed.
    Raw(Vec<u8>),
}

impl Reply {
    /// A reply with these bytes.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, headers: Vec::new(), body: Body::Bytes(body.into()) }
    }

    /// A reply with this for a body.
    pub fn with(status: u16, body: Body) -> Reply {
        Reply { status, headers: Vec::new(), body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// An error in the words of the specification.
    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        let body = json!({"errors": [{"code": code, "message": message}]});
        Reply::new(status, body.to_string()).header("Content-Type", "application/json")
    }

    /// To somewhere else.
    pub fn redirect(to: impl Into<String>) -> Reply {
        Reply::new(307, "").header("Location", to)
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server; dropping it ends it.
pub struct Registry {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Registry {
    /// Answers every request by this function.
    pub fn start(handle: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let (seen, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handle: Arc<Handler> = Arc::new(handle);
        let thread = {
            let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
                    let handle = Arc::clone(&handle);
                    // A peer that goes away in the middle is what many tests are about.
                    thread::spawn(move || serve(stream, &*handle, &seen, &ended).ok());
                }
            })
        };
        Registry { address, seen, ended, thread: Some(thread) }
    }

    /// `127.0.0.1:port`, as the beginning of a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        lock(&self.seen).clone()
    }

    /// How many requests there were whose line begins so.
    pub fn count(&self, line: &str) -> usize {
        self.seen().iter().filter(|request| request.line().starts_with(line)).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener; where that cannot be done it has ended.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    stream: TcpStream,
    handle: &Handler,
    seen: &Mutex<Vec<Request>>,
    ended: &AtomicBool,
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        lock(seen).push(request.clone());
        write_reply(&mut writer, &request, handle(&request), ended)?;
        if !request.whole {
            break;
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    // What does not begin like HTTP is TLS, which is refused at once.
    if !reader.fill_buf()?.first().is_some_and(u8::is_ascii_alphabetic) {
        return Ok(None);
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = BTreeMap::new();
    let mut request = Request { method, target, headers, body: Vec::new(), whole: true };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    let length: u64 = length.unwrap_or(0);
    let read = reader.take(length).read_to_end(&mut request.body);
    request.whole = read.is_ok() && request.body.len() as u64 == length;
    Ok(Some(request))
}

fn write_reply(
    writer: &mut TcpStream,
    request: &Request,
    reply: Reply,
    ended: &AtomicBool,
) -> io::Result<()> {
    let closed = || Err(io::ErrorKind::ConnectionAborted.into());
    if let Body::Raw(bytes) = &reply.body {
        writer.write_all(bytes)?;
        return closed();
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = match &reply.body {
        Body::Bytes(bytes) | Body::Held(bytes, ..) => Some(bytes.len() as u64),
        Body::Cut(_, length) | Body::Stall(_, length) | Body::Trickle(length) => Some(*length),
        Body::Endless | Body::Raw(_) => None,
    };
    match length {
        Some(_) if reply.status == 204 => {}
        Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        None => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match reply.body {
        Body::Bytes(bytes) => writer.write_all(&bytes),
        Body::Cut(bytes, _) => {
            writer.write_all(&bytes)?;
            closed()
        }
        Body::Stall(bytes, _) => {
            writer.write_all(&bytes)?;
            while !ended.load(Ordering::SeqCst) && is_open(writer) {
                thread::sleep(Duration::from_millis(20));
            }
            closed()
        }
        Body::Held(bytes, at, go) => {
            writer.write_all(&bytes[..at])?;
            while !go.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            writer.write_all(&bytes[at..])
        }
        Body::Trickle(_) => {
            while !ended.load(Ordering::SeqCst) {
                writer.write_all(b"x")?;
                thread::sleep(Duration::from_millis(50));
            }
            closed()
        }
        Body::Endless => {
            while !ended.load(Ordering::SeqCst) {
                writer.write_all(&[0; 64 << 10])?;
            }
            closed()
        }
        Body::Raw(_) => closed(),
    }
}

/// Whether the peer still waits.
fn is_open(stream: &TcpStream) -> bool {
    let quick = stream.set_read_timeout(Some(Duration::from_millis(1)));
    quick.is_ok()
        && match stream.peek(&mut [0]) {
            Ok(n) => n > 0,
            Err(e) => matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
}

/// A registry in memory, which follows the specification as far as clients need it.
#[derive(Debug, Default)]
pub struct Content {
    /// By digest, for all repositories.
    pub blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By `repository:tag` and `repository@digest`: type and bytes.
    pub manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    next: AtomicUsize,
}

impl Content {
    /// One that has this image as `repository:tag`.
    pub fn of(image: &Image, repository: &str, tag: &str) -> Content {
        let content = Content::default();
        content.add(image, repository, tag);
        content
    }

    /// Adds an image; returns its manifest's digest.
    pub fn add(&self, image: &Image, repository: &str, tag: &str) -> String {
        let mut index = Value::Null;
        let mut blobs = BTreeMap::new();
        for (name, bytes) in image.oci_layout() {
            match name.strip_prefix("blobs/sha256/") {
                Some(hex) => drop(blobs.insert(format!("sha256:{hex}"), bytes)),
                None if name == "index.json" => {
                    index = serde_json::from_slice(&bytes).expect("our own JSON");
                }
                None => {}
            }
        }
        let manifest = &index["manifests"][0];
        let digest = manifest["digest"].as_str().expect("our own index").to_owned();
        let kind = manifest["mediaType"].as_str().expect("our own index").to_owned();
        let bytes = blobs.remove(&digest).expect("our own layout");
        self.put_manifest(repository, tag, &kind, bytes);
        lock(&self.blobs).extend(blobs);
        digest
    }

    /// Adds a manifest under a tag or its digest; returns its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: Vec<u8>) -> String {
        let digest = format!("sha256:{}", sha256(&bytes));
        let mut manifests = lock(&self.manifests);
        let entry = (kind.to_owned(), bytes);
        manifests.insert(format!("{repository}@{digest}"), entry.clone());
        if !tag.contains(':') {
            manifests.insert(format!("{repository}:{tag}"), entry);
        }
        digest
    }

    /// The bytes of a manifest, by `repository:tag`.
    pub fn manifest_bytes(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.manifests).get(name).map(|(_, bytes)| bytes.clone())
    }

    /// The digest of the largest blob: a layer.
    pub fn largest(&self) -> String {
        let blobs = lock(&self.blobs);
        let found = blobs.iter().max_by_key(|(_, bytes)| bytes.len());
        found.map(|(digest, _)| digest.clone()).expect("there are blobs")
    }

    /// A blob's bytes.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        lock(&self.blobs).get(digest).cloned().expect("it is there")
    }

    /// The honest answer.
    pub fn answer(&self, request: &Request) -> Reply {
        let path = request.path().trim_start_matches("/v2/");
        if request.path() == "/v2/" {
            return Reply::new(200, "{}");
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return self.manifest(request, repository, reference);
        }
        if let Some((repository, rest)) = path.split_once("/blobs/uploads/") {
            return self.upload(request, repository, rest);
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return match lock(&self.blobs).get(digest) {
                None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
                Some(bytes) => ranged(request, bytes).header("Docker-Content-Digest", digest),
            };
        }
        if let Some((repository, _)) = path.split_once("/tags/list") {
            let prefix = format!("{repository}:");
            let manifests = lock(&self.manifests);
            let tags: Vec<&str> =
                manifests.keys().filter_map(|name| name.strip_prefix(&prefix)).collect();
            return Reply::new(200, json!({"name": repository, "tags": tags}).to_string());
        }
        Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry")
    }

    fn manifest(&self, request: &Request, repository: &str, reference: &str) -> Reply {
        if request.method == "PUT" {
            let kind = request.header("content-type").unwrap_or_default();
            let digest = self.put_manifest(repository, reference, kind, request.body.clone());
            return Reply::new(201, "").header("Docker-Content-Digest", digest);
        }
        let separator = if reference.contains(':') { '@' } else { ':' };
        let name = format!("{repository}{separator}{reference}");
        match lock(&self.manifests).get(&name) {
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            Some((kind, bytes)) => Reply::new(200, bytes.clone())
                .header("Content-Type", kind)
                .header("Docker-Content-Digest", format!("sha256:{}", sha256(bytes))),
        }
    }

    fn upload(&self, request: &Request, repository: &str, rest: &str) -> Reply {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(n, _)| *n == name).map(|(_, value)| value.to_owned())
        };
        let mut uploads = lock(&self.uploads);
        if request.method == "POST" {
            if let (Some(digest), Some(_)) = (parameter("mount"), parameter("from"))
                && lock(&self.blobs).contains_key(&digest)
            {
                return Reply::new(201, "").header("Docker-Content-Digest", digest);
            }
            let id = format!("upload-{}", self.next.fetch_add(1, Ordering::SeqCst));
            uploads.insert(id.clone(), Vec::new());
            // Relative, as registries may have it.
            let location = format!("/v2/{repository}/blobs/uploads/{id}?state=x");
            return Reply::new(202, "").header("Location", location).header("Range", "0-0");
        }
        let Some(bytes) = uploads.get_mut(rest) else {
            return Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        if request.method != "GET" {
            let first = request.header("content-range").and_then(|range| range.split('-').next());
            if first.is_some_and(|first| first.parse() != Ok(bytes.len())) {
                return Reply::error(416, "BLOB_UPLOAD_INVALID", "out of order");
            }
            bytes.extend_from_slice(&request.body);
        }
        let kept = format!("0-{}", bytes.len().saturating_sub(1));
        let location = format!("/v2/{repository}/blobs/uploads/{rest}?state=y");
        match request.method.as_str() {
            "PUT" => {
                let bytes = uploads.remove(rest).unwrap_or_default();
                let digest = format!("sha256:{}", sha256(&bytes));
                if parameter("digest").as_deref() != Some(&digest) {
                    return Reply::error(400, "DIGEST_INVALID", "content does not match");
                }
                lock(&self.blobs).insert(digest.clone(), bytes);
                Reply::new(201, "").header("Docker-Content-Digest", digest)
            }
            "PATCH" => Reply::new(202, "").header("Location", location).header("Range", kept),
            _ => Reply::new(204, "").header("Location", location).header("Range", kept),
        }
    }
}

/// Bytes, or those of them that were asked for.
pub fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return Reply::new(200, bytes).header("Accept-Ranges", "bytes");
    };
    let first: usize = first.parse().unwrap_or(0);
    let last = last.parse().unwrap_or(bytes.len() - 1).min(bytes.len() - 1);
    if first > last {
        return Reply::new(416, "");
    }
    let shown = format!("bytes {first}-{last}/{}", bytes.len());
    Reply::new(206, &bytes[first..=last]).header("Content-Range", shown)
}
