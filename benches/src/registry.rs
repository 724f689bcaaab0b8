//! Pushing to and pulling from a registry on loopback: ours, and Debian's docker-registry.
//!
//! What counts is the server: its processor time for each gibibyte. The client is this process, and
//! hashes what it pulls, as all clients do: one that reads faster than it is sent to has the server's
//! kernel wake it for each packet, which is then most of what is measured.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hako_tests::{archive::sha256, command, place::Place};
use serde_json::json;
use sha2::Digest as _;

use crate::{
    peers,
    report::{Table, ratio, shown},
};

/// Half of the blobs cannot be compressed, half can; neither server should care.
const BLOBS: u64 = 8;
const BLOB_BYTES: usize = 128 << 20;
/// Each is pulled so often.
const PULLS: u64 = 2;
const ROUNDS: usize = 3;

/// What clients written in Go read at once.
const PART_BYTES: usize = 32 << 10;

const GIB: f64 = (1u64 << 30) as f64;

/// One kind of server.
struct Kind {
    name: &'static str,
    program: PathBuf,
}

/// What one round cost.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kb: u64,
}

pub(crate) fn run() -> Result<Table, String> {
    let hako = peers::ours("HAKO_BIN").ok_or("HAKO_BIN names no program")?;
    let mut kinds = vec![Kind { name: "hako registry serve", program: hako }];
    let mut table =
        Table::new(&["", "rounds", "wall/GiB", "cpu/GiB", "peak RSS", "wall ×", "cpu ×"]);
    match command::find("docker-registry") {
        Some(program) => kinds.push(Kind { name: "docker-registry", program }),
        None => table.note("docker-registry is not there".to_owned()),
    }
    let mut costs = vec![(Vec::new(), Vec::new()); kinds.len()];
    for _ in 0..ROUNDS {
        for (kind, (pushes, pulls)) in kinds.iter().zip(&mut costs) {
            let (push, pull) = round(kind).map_err(|error| format!("{}: {error}", kind.name))?;
            pushes.push(push);
            pulls.push(pull);
        }
    }
    for what in ["push", "pull"] {
        let of = |costs: &(Vec<Cost>, Vec<Cost>)| {
            let costs = if what == "push" { &costs.0 } else { &costs.1 };
            let least = |of: fn(&Cost) -> Duration| costs.iter().map(of).min().unwrap_or_default();
            let peak_kb = costs.iter().map(|cost| cost.peak_kb).max().unwrap_or(0);
            Cost { wall: least(|cost| cost.wall), cpu: least(|cost| cost.cpu), peak_kb }
        };
        let first = of(&costs[0]);
        for (kind, costs) in kinds.iter().zip(&costs) {
            let Cost { wall, cpu, peak_kb } = of(costs);
            let (walls, cpus) = (ratio(wall, first.wall), ratio(cpu, first.cpu));
            table.row(
                vec![
                    format!("{what} {}", kind.name),
                    ROUNDS.to_string(),
                    shown(wall),
                    shown(cpu),
                    format!("{:.1} MB", peak_kb as f64 / 1024.0),
                    format!("{walls:.2}"),
                    format!("{cpus:.2}"),
                ],
                json!({
                    "name": kind.name, "group": what, "peak_kb": peak_kb,
                    "wall_us_per_gib": wall.as_micros() as u64,
                    "cpu_us_per_gib": cpu.as_micros() as u64,
                    "wall_ratio": walls, "cpu_ratio": cpus,
                }),
            );
        }
    }
    Ok(table)
}

/// A new server with an empty store: what a push, and then a pull of each gibibyte costs it.
fn round(kind: &Kind) -> Result<(Cost, Cost), String> {
    let place = Place::new("bench-registry");
    let server = Server::start(kind, &place)?;
    let mut connection = Connection::open(&server.host)?;
    let mut digests = Vec::new();
    let (mut wall, before) = (Duration::ZERO, server.cpu()?);
    for n in 0..BLOBS {
        let blob = blob(n);
        let digest = format!("sha256:{}", sha256(&blob));
        let begun = Instant::now();
        connection.push(&digest, &blob)?;
        wall += begun.elapsed();
        digests.push(digest);
    }
    let cpu = server.cpu()?;
    let push = server.cost(wall, cpu - before, BLOBS)?;
    let begun = Instant::now();
    for digest in (0..PULLS).flat_map(|_| &digests) {
        connection.pull(digest)?;
    }
    let wall = begun.elapsed();
    let pull = server.cost(wall, server.cpu()? - cpu, BLOBS * PULLS)?;
    Ok((push, pull))
}

/// Bytes that no other blob begins with.
fn blob(n: u64) -> Vec<u8> {
    let mut state = n + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(BLOB_BYTES);
    while bytes.len() < BLOB_BYTES {
        match n % 2 {
            0 => bytes.extend_from_slice(&next().to_le_bytes()),
            _ => bytes.extend_from_slice(format!("line {} of {n}\n", next() % 1000).as_bytes()),
        }
    }
    bytes.truncate(BLOB_BYTES);
    bytes
}

struct Server {
    child: Child,
    host: String,
}

impl Server {
    fn start(kind: &Kind, place: &Place) -> Result<Server, String> {
        let port = free_port()?;
        let host = format!("127.0.0.1:{port}");
        let root = place.directory("root");
        let mut command = Command::new(&kind.program);
        match kind.name {
            "docker-registry" => {
                let file = place.write("config.yml", config(&root, &host));
                command.arg("serve").arg(file);
            }
            _ => {
                command.args(["registry", "serve", "--listen", &host, "--root"]).arg(&root);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| error.to_string())?;
        let server = Server { child, host };
        command::wait_until("it listens", || TcpStream::connect(&server.host).is_ok());
        Ok(server)
    }

    /// Processor time of all its threads so far, in steps of 10 ms.
    fn cpu(&self) -> Result<Duration, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let fields = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks: Vec<u64> =
            fields.split(' ').skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
        match ticks[..] {
            [user, system] => Ok(Duration::from_millis((user + system) * 10)),
            _ => Err(format!("{path}: {text:?}")),
        }
    }

    fn cost(&self, wall: Duration, cpu: Duration, blobs: u64) -> Result<Cost, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        let peak_kb = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let gib = blobs as f64 * BLOB_BYTES as f64 / GIB;
        Ok(Cost {
            wall: wall.div_f64(gib),
            cpu: cpu.div_f64(gib),
            peak_kb: peak_kb.ok_or_else(|| format!("{path}: no VmHWM"))?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the server: {error}");
        }
    }
}

fn config(root: &Path, host: &str) -> String {
    format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  \
         filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
        root.display()
    )
}

fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// A client, as cheap as can be.
struct Connection {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(host: &str) -> Result<Connection, String> {
        let writer = TcpStream::connect(host).map_err(|error| error.to_string())?;
        let reader =
            BufReader::with_capacity(PART_BYTES, writer.try_clone().map_err(|e| e.to_string())?);
        Ok(Connection { writer, reader })
    }

    /// As docker does it: begin, send, finish.
    fn push(&mut self, digest: &str, blob: &[u8]) -> Result<(), String> {
        let begun = self.ask("POST /v2/bench/blobs/uploads/", &[], 202)?;
        let place = location(&begun)?;
        let sent = self.ask(&format!("PATCH {place}"), blob, 202)?;
        let place = location(&sent)?;
        let separator = if place.contains('?') { '&' } else { '?' };
        self.ask(&format!("PUT {place}{separator}digest={digest}"), &[], 201)?;
        Ok(())
    }

    fn pull(&mut self, digest: &str) -> Result<(), String> {
        let head = self.ask(&format!("GET /v2/bench/blobs/{digest}"), &[], 200)?;
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut left: usize =
            length.and_then(|length| length.parse().ok()).ok_or("no Content-Length")?;
        if left != BLOB_BYTES {
            return Err(format!("{left} bytes came"));
        }
        let (mut hasher, mut buffer) = (sha2::Sha256::new(), vec![0; PART_BYTES]);
        while left > 0 {
            let count = left.min(buffer.len());
            let count =
                self.reader.read(&mut buffer[..count]).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("it hung up".to_owned());
            }
            hasher.update(&buffer[..count]);
            left -= count;
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match digest.strip_prefix("sha256:") == Some(&hex) {
            true => Ok(()),
            false => Err(format!("{digest} is {hex}")),
        }
    }

    /// One request; gives the head of the answer, in lower case where that does not matter.
    fn ask(&mut self, line: &str, body: &[u8], want: u16) -> Result<Vec<String>, String> {
        let failed = |error: std::io::Error| format!("{line}: {error}");
        let length = body.len();
        let mut head = format!("{line} HTTP/1.1\r\nHost: bench\r\n");
        if !line.starts_with("GET") {
            head +=
                &format!("Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n");
        }
        self.writer.write_all(format!("{head}\r\n").as_bytes()).map_err(failed)?;
        self.writer.write_all(body).map_err(failed)?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).map_err(failed)?;
            match line.trim_end() {
                "" => break,
                line => match line.split_once(": ") {
                    Some((name, value)) => {
                        lines.push(format!("{}: {value}", name.to_ascii_lowercase()));
                    }
                    None => lines.push(line.to_owned()),
                },
            }
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
        match status {
            Some(status) if status == want => Ok(lines),
            _ => Err(format!("{line}: {lines:?}")),
        }
    }
}

/// Where the next request of an upload goes: a path.
fn location(head: &[String]) -> Result<String, String> {
    let place = head.iter().find_map(|line| line.strip_prefix("location: "));
    let place = place.ok_or_else(|| format!("no Location: {head:?}"))?;
    Ok(match place.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => place.to_owned(),
    })
}
