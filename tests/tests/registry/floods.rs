//! Clients that take or hold what others need: connections, time, memory, disk; and requests that
//! two readers could understand in two ways.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use hako_tests::{Case, binary, command, place::Place};
use serde_json::json;

use crate::server::{OCI_INDEX, Reply, Server, sha256, wait_for_line};

const ISSUE: &str = "issue: failing well";

pub(crate) const CASES: &[Case] = &[
    Case::new("slow-readers", ISSUE, "who takes nothing of a blob is cut off", slow_readers),
    Case::new(
        "connection-flood",
        ISSUE,
        "connections beyond the bound wait, and are served when others end",
        connection_flood,
    ),
    Case::new("request-smuggling", ISSUE, "a request has one end, or is refused", smuggling),
    Case::new(
        "reset-flood",
        "CVE-2023-44487",
        "HTTP/2 streams that are reset at once cost little",
        resets,
    ),
    Case::new(
        "content-encodings",
        ISSUE,
        "what is sent compressed is kept as it was sent",
        encodings,
    ),
    Case::new(
        "pipelined-blobs",
        ISSUE,
        "big blobs asked for at once come whole and in order",
        pipelined,
    ),
    Case::new(
        "disk-full",
        ISSUE,
        "507 on a full disk; nothing half, and what is there is served",
        disk_full,
    ),
    Case::new(
        "many-tags",
        ISSUE,
        "a long list of tags comes in pages and bounded memory",
        many_tags,
    ),
];

fn slow_readers() {
    let server = Server::start(&["--stall-timeout", "300ms"]);
    // More than the kernel takes for a client that does not read.
    let bytes = vec![5; 40 << 20];
    let digest = server.push_blob("a", &bytes);
    let head = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut clients: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(head.as_bytes()).expect("it reads");
    }
    let open = || {
        let text = String::from_utf8(server.get("/metrics").is(200).body.clone()).expect("text");
        let line = text
            .lines()
            .find(|l| l.starts_with("hako_registry_connections "))
            .expect("it is there");
        line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    // The one that asks is open, too.
    command::wait_until("they are cut off", || open() <= 1);
    for mut client in clients {
        let mut got = Vec::new();
        drop(client.read_to_end(&mut got));
        assert!(got.len() < bytes.len(), "{} bytes", got.len());
    }
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
}

fn connection_flood() {
    let server = Server::start(&["--max-connections", "4"]);
    let mut idle: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        Reply::read(stream, false).is(200);
    }
    // The kernel holds these; none of them is answered while the four are open.
    let mut waiting: Vec<TcpStream> = (0..30).map(|_| server.connect()).collect();
    for stream in &mut waiting {
        let head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(head).expect("the kernel takes it");
    }
    let quick = std::time::Duration::from_millis(100);
    waiting[0].set_read_timeout(Some(quick)).expect("a socket");
    assert!(waiting[0].read(&mut [0]).is_err(), "it was served beside the four");
    waiting[0].set_read_timeout(None).expect("a socket");
    drop(idle);
    for stream in &mut waiting {
        Reply::read(stream, false).is(200);
    }
}

fn smuggling() {
    let server = Server::start(&[]);
    let (inner, digest) =
        ("DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n", sha256(b"abcde"));
    server.push_manifest("a", "v1", json!({}));
    let post = format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\n");
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: \0\r\nContent-Length: 5\r\n",
    ] {
        let mut stream = server.connect();
        let text = format!("{post}{headers}\r\nabcde{inner}");
        stream.write_all(text.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        // One answer, a refusal, and the end: nothing that follows is taken for a request.
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers:?}: {answer}");
        server.get("/v2/a/manifests/v1").is(200);
        server.get(&format!("/v2/a/blobs/{digest}")).refuses(404, "BLOB_UNKNOWN");
    }
    // Of both, the chunks count (RFC 9112, 6.3): what the length hides is no part of the body.
    let mut stream = server.connect();
    let both = "Content-Length: 100\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    stream
        .write_all(format!("{post}{both}\r\n5\r\nabcde\r\n0\r\n\r\n{inner}").as_bytes())
        .expect("it reads");
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    server.get("/v2/a/manifests/v1").is(200);
}

/// Frames of HTTP/2 by hand, through openssl.
fn resets() {
    let openssl = binary::tool("openssl");
    let place = Place::new("tls");
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -subj /CN=registry -keyout key.pem -out cert.pem";
    command::run(Command::new(&openssl).args(words.split_whitespace()).current_dir(place.path()))
        .ok();
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    let server = Server::start(&[
        "--tls-cert",
        &cert.to_string_lossy(),
        "--tls-key",
        &key.to_string_lossy(),
    ]);
    let before = server.peak_kib();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut text = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    text.extend(frame(4, 0, 0, &[]));
    for n in 0..50_000u32 {
        // `:method GET`, `:scheme https`, `:path /` and `:authority x`, as HPACK has them; reset.
        text.extend(frame(1, 5, 2 * n + 1, &[0x82, 0x87, 0x84, 0x41, 1, b'x']));
        text.extend(frame(3, 0, 2 * n + 1, &8u32.to_be_bytes()));
    }
    let input = place.write("frames", text);
    let mut client = Command::new(&openssl);
    client.args(["s_client", "-quiet", "-alpn", "h2", "-connect", &server.host]);
    client.stdin(fs::File::open(input).expect("it is there")).stdout(Stdio::null());
    // It is cut off, or reads to its end.
    let status = client.stderr(Stdio::null()).status().expect("openssl starts");
    assert!(status.code().is_some());
    let grown = server.peak_kib() - before;
    assert!(grown < 32 << 10, "it grew by {grown} KiB");
    // The connection is ended, and hardly anything was answered on it.
    wait_for_line(&server, "http2 error");
    let log = server.log.lock().expect("nobody panicked with it").join("\n");
    let answered = log.matches("\"version\":\"HTTP/2.0\"").count();
    assert!(answered < 1000, "it answered {answered} of 50000");
    let curl = binary::tool("curl");
    let url = format!("https://{}/v2/", server.host);
    command::run(Command::new(curl).args(["-sSk", "--http2", &url])).prints("{}");
}

fn encodings() {
    let server = Server::start(&[]);
    // gzip of nothing, which must stay that.
    let bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    let digest = sha256(bytes);
    for encoding in ["gzip", "zstd", "identity"] {
        let headers = [("Content-Encoding", encoding), ("Accept-Encoding", "gzip")];
        let post = format!("POST /v2/{encoding}/blobs/uploads/?digest={digest}");
        server.ask(&post, &headers, bytes).is(201);
        let got = server.ask(&format!("GET /v2/{encoding}/blobs/{digest}"), &headers, b"");
        assert_eq!((got.is(200).body.as_slice(), got.find("Content-Encoding")), (&bytes[..], None));
    }
}

fn pipelined() {
    let server = Server::start(&[]);
    let blobs: Vec<Vec<u8>> = [3 << 20, 1, 1 << 20, (1 << 20) + 1, 0, 5_000_000]
        .iter()
        .enumerate()
        .map(|(at, size)| (0..*size).map(|n: usize| (n / 13 + at) as u8).collect())
        .collect();
    let mut stream = server.connect();
    let mut text = String::new();
    for bytes in &blobs {
        let digest = server.push_blob("a", bytes);
        let line = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n");
        let (first, last) = (bytes.len() / 3, bytes.len() / 2);
        text += &format!(
            "{line}\r\n{line}Range: bytes={first}-{last}\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
        );
    }
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut reader = std::io::BufReader::new(stream);
    for bytes in &blobs {
        assert!(Reply::next(&mut reader).is(200).body == *bytes, "{} bytes", bytes.len());
        let part = Reply::next(&mut reader);
        match bytes.len() {
            0 => assert_eq!(part.status, 416),
            n => assert!(part.is(206).body == bytes[n / 3..(n / 2).min(n - 1) + 1], "{n} bytes"),
        }
        assert_eq!(Reply::next(&mut reader).is(200).body, b"{}");
    }
}

fn disk_full() {
    let place = Place::new("full");
    let disk = place.directory("disk");
    let mut mount = Command::new(binary::tool("mount"));
    mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&disk);
    command::run(&mut mount).ok();
    let mut server = Server::start_at(&disk.join("root"), &[]);
    let (manifest, _) = server.push_manifest("a", "v1", json!({}));
    let small: Vec<u8> = (0..4_000_000u32).map(|n| (n / 17) as u8).collect();
    let kept = server.push_blob("a", &small);
    let big: Vec<u8> = (0..40_000_000u32).map(|n| (n / 19) as u8).collect();
    let digest = sha256(&big);
    for round in 0..2 {
        let post = format!("POST /v2/a/blobs/uploads/?digest={digest}");
        server.ask(&post, &[], &big).refuses(507, "UNKNOWN");
        let upload = server.begin("a");
        server.ask(&format!("PATCH {upload}"), &[], &big).refuses(507, "UNKNOWN");
        server.get(&format!("/v2/a/blobs/{digest}")).refuses(404, "BLOB_UNKNOWN");
        // Full as it is, what was there is served.
        assert_eq!(server.get("/v2/a/manifests/v1").is(200).body, manifest);
        assert!(server.get(&format!("/v2/a/blobs/{kept}")).is(200).body == small);
        if round == 0 {
            server.kill_and_restart();
            assert_eq!(server.get("/v2/a/manifests/v1").is(200).body, manifest);
        }
        server.ask(&format!("DELETE {upload}"), &[], b"").is(204);
        server.push_blob("a", format!("fits again {round}").as_bytes());
    }
    wait_for_line(&server, "\"status\":507");
    let ingests = fs::read_dir(disk.join("root/content/ingest")).expect("a store").count();
    assert_eq!(ingests, 0);
    drop(server);
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::empty()).expect("it is ours");
}

fn many_tags() {
    let server = Server::start(&[]);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let digest = sha256(index.as_bytes());
    for n in 0..300 {
        let tags: Vec<String> = (0..10).map(|m| format!("tag=t{:05}", n * 10 + m)).collect();
        let line = format!("PUT /v2/a/manifests/{digest}?{}", tags.join("&"));
        server.ask(&line, &[("Content-Type", OCI_INDEX)], index.as_bytes()).is(201);
    }
    let all = server.get("/v2/a/tags/list").is(200).json();
    assert_eq!(all["tags"].as_array().map(Vec::len), Some(3000));
    let page = server.get("/v2/a/tags/list?n=10&last=t02985");
    assert_eq!(
        (page.json()["tags"][9].clone(), page.find("Link").is_some()),
        (json!("t02995"), true)
    );
    for n in ["99999999999999999999", "-1", "1e3"] {
        server.get(&format!("/v2/a/tags/list?n={n}")).refuses(400, "PAGINATION_NUMBER_INVALID");
    }
    assert_eq!(server.get("/v2/a/tags/list?n=18446744073709551615").json()["tags"][0], "t00000");
    assert!(server.peak_kib() < 64 << 10, "{} KiB", server.peak_kib());
}
