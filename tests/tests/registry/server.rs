//! A server under test, and a client that can say anything.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hako_tests::{binary, command, place::Place};
use serde_json::Value;

/// A client that hears nothing for so long has met a defect.
const PATIENCE: Duration = Duration::from_secs(60);

/// `hako registry serve` on a free port.
pub(crate) struct Server {
    child: Child,
    pub host: String,
    pub root: PathBuf,
    pub log: Arc<Mutex<Vec<String>>>,
    arguments: Vec<String>,
    pub place: Place,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        let place = Place::new("registry");
        let root = place.join("root");
        Server::in_place(place, &root, arguments)
    }

    /// One whose store is elsewhere.
    pub(crate) fn start_at(root: &std::path::Path, arguments: &[&str]) -> Server {
        Server::in_place(Place::new("registry"), root, arguments)
    }

    fn in_place(place: Place, root: &std::path::Path, arguments: &[&str]) -> Server {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let log = Arc::default();
        let (child, host) = spawn(root, &arguments, &log);
        Server { child, host, root: root.to_owned(), log, arguments, place }
    }

    /// Kills it with SIGKILL and starts another on the same store.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        (self.child, self.host) = spawn(&self.root, &self.arguments, &self.log);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is our child");
        self.child.wait().expect("it is our child").code()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it is our child");
    }

    /// Peak of its resident memory, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("VmHWM is there");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).expect("it reads headers");
        // A server that refuses may close before it read all.
        drop(stream.write_all(body));
        Reply::read(&mut stream, method == "HEAD")
    }

    /// One request with a body whose length is not told.
    #[track_caller]
    pub(crate) fn ask_chunked(&self, line: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it reads headers");
        for part in body.chunks(1000) {
            let head = format!("{:x}\r\n", part.len());
            let sent =
                [head.as_bytes(), part, b"\r\n"].iter().try_for_each(|b| stream.write_all(b));
            sent.expect("it reads");
        }
        stream.write_all(b"0\r\n\r\n").expect("it reads");
        Reply::read(&mut stream, false)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], b"")
    }

    /// Pushes a blob in one request; gives its digest.
    #[track_caller]
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.ask(&format!("POST /v2/{repository}/blobs/uploads/?digest={digest}"), &[], bytes)
            .is(201);
        digest
    }

    /// Begins an upload; gives its path.
    #[track_caller]
    pub(crate) fn begin(&self, repository: &str) -> String {
        let reply = self.ask(&format!("POST /v2/{repository}/blobs/uploads/"), &[], b"");
        reply.is(202).header("Location").to_owned()
    }

    /// Pushes a manifest of these blobs, with more fields; gives its bytes and its digest.
    #[track_caller]
    pub(crate) fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        more: Value,
    ) -> (Vec<u8>, String) {
        let config = self.push_blob(repository, b"{}");
        let layer = self.push_blob(repository, b"layer");
        let mut manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5 }],
        });
        for (name, value) in more.as_object().expect("an object") {
            manifest[name] = value.clone();
        }
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let name = if tag.is_empty() { digest.as_str() } else { tag };
        let path = format!("PUT /v2/{repository}/manifests/{name}");
        self.ask(&path, &[("Content-Type", OCI_MANIFEST)], &bytes).is(201);
        (bytes, digest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
        let log = self.log.lock().expect("nobody panicked with it");
        let text = log.join("\n");
        if !std::thread::panicking() {
            assert!(!text.contains("panicked at"), "the server panicked\n{text}");
        } else {
            eprintln!("the server's log:\n{text}");
        }
    }
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Starts it, and reads where it listens from the first line of its log.
fn spawn(
    root: &std::path::Path,
    arguments: &[String],
    log: &Arc<Mutex<Vec<String>>>,
) -> (Child, String) {
    let mut command = Command::new(binary::hako());
    command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]).arg(root);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hako starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = lines.next().expect("it says something").expect("UTF-8");
    let host = serde_json::from_str::<Value>(&first).ok().and_then(|line| {
        (line["event"] == "listening").then(|| line["address"].as_str().map(str::to_owned))?
    });
    let Some(host) = host else {
        drop((child.kill(), child.wait()));
        panic!("it does not listen: {first}");
    };
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            log.lock().expect("nobody panicked with it").push(line);
        }
    });
    (child, host)
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn read(stream: &mut TcpStream, is_head: bool) -> Reply {
        Reply::read_from(&mut BufReader::new(stream), is_head)
    }

    /// The next of several on one connection.
    #[track_caller]
    pub(crate) fn next(reader: &mut BufReader<TcpStream>) -> Reply {
        Reply::read_from(reader, false)
    }

    #[track_caller]
    fn read_from(reader: &mut impl BufRead, is_head: bool) -> Reply {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            let count = reader.read_line(&mut line).expect("an answer in time");
            assert!(count > 0, "it hung up; so far: {head:?}");
            let line = line.trim_end().to_owned();
            match line.is_empty() {
                true if head == ["HTTP/1.1 100 Continue"] => head.clear(),
                true => break,
                false => head.push(line),
            }
        }
        let status = head[0].split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let pairs = head[1..].iter().filter_map(|line| line.split_once(": "));
        let headers = pairs.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.find("content-length").and_then(|l| l.parse::<u64>().ok());
        if !is_head && !matches!(status, 204 | 304) {
            match length {
                Some(length) => {
                    reader.take(length).read_to_end(&mut reply.body).expect("a body in time");
                    assert_eq!(reply.body.len() as u64, length, "the body was cut");
                }
                None => {
                    reader.read_to_end(&mut reply.body).expect("a body in time");
                }
            }
        }
        reply
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Reply {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        assert_eq!(self.status, status, "{:?}\n{body}", self.headers);
        self
    }

    /// Refused with this status and the specification's JSON with this code.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str) -> &Reply {
        self.is(status);
        assert_eq!(self.json()["errors"][0]["code"], code, "{:?}", self.json());
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// `sha256:…` of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

/// `sha512:…` of bytes.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha512:{}", hex(&sha2::Sha512::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Waits until the log has a line with this in it.
pub(crate) fn wait_for_line(server: &Server, text: &str) {
    command::wait_until(&format!("a line with {text}"), || {
        server.log.lock().expect("nobody panicked with it").iter().any(|line| line.contains(text))
    });
}
