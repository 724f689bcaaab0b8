//! Clients that mean ill or hang, and a server that is killed: bounded, clear errors, nothing half.

use std::{fs, io::Write, thread};

use hako_tests::Case;
use serde_json::json;

use crate::server::{OCI_INDEX, Reply, Server, sha256, wait_for_line};

const ISSUE: &str = "issue: failing well";

pub(crate) const CASES: &[Case] = &[
    Case::new("killed-while-uploading", ISSUE, "an upload goes on at the next server", killed),
    Case::new(
        "killed-anywhere",
        ISSUE,
        "what was acknowledged before SIGKILL is there after it, whole",
        killed_anywhere,
    ),
    Case::new(
        "slow-senders",
        ISSUE,
        "a body that stands still is 408, and kept as far as it came",
        slow,
    ),
    Case::new("many-uploads", ISSUE, "open uploads are bounded: 429", many_uploads),
    Case::new(
        "big-headers",
        ISSUE,
        "headers and paths are bounded, in number and bytes",
        big_headers,
    ),
    Case::new("lying-lengths", ISSUE, "what is cut or mangled stores nothing", lying),
    Case::new("two-writers", ISSUE, "one request appends to an upload at a time: 409", two_writers),
    Case::new("garbage", ISSUE, "abandoned uploads and blobs go, beside pushes that stay", garbage),
    Case::new(
        "endless-manifest",
        ISSUE,
        "a manifest without end is refused in bounded memory",
        endless,
    ),
    Case::new("terminate", ISSUE, "SIGTERM ends it with 0, and its store is whole", terminate),
];

fn killed() {
    let mut server = Server::start(&[]);
    let (manifest, _) = server.push_manifest("a", "v1", json!({}));
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n / 3) as u8).collect();
    let digest = sha256(&bytes);
    for cut in [0, 1, 65_537, 1_500_000] {
        let place = server.begin("a");
        if cut > 0 {
            let range = format!("0-{}", cut - 1);
            server
                .ask(&format!("PATCH {place}"), &[("Content-Range", &range)], &bytes[..cut])
                .is(202);
        }
        // And one that is in the middle of sending.
        let mut stream = server.connect();
        let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        server.kill_and_restart();
        let received = server.get(&place);
        let received = received.is(204).header("Range");
        assert_eq!(received, format!("0-{}", cut.max(1) - 1));
        let finish = format!("PUT {place}?digest={digest}");
        server.ask(&finish, &[], &bytes[cut..]).is(201);
        assert!(server.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
        server.ask(&format!("DELETE /v2/a/blobs/{digest}"), &[], b"").is(202);
        assert_eq!(server.get("/v2/a/manifests/v1").is(200).body, manifest);
    }
    all_blobs_are_whole(&server);
}

/// Every blob of the store is what its name says.
fn all_blobs_are_whole(server: &Server) {
    for entry in fs::read_dir(server.root.join("content/blobs/sha256")).expect("a store") {
        let path = entry.expect("a store").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(sha256(&fs::read(&path).expect("a blob")), format!("sha256:{name}"));
    }
}

fn killed_anywhere() {
    let mut server = Server::start(&[]);
    for round in 0..12u64 {
        let host = server.host.clone();
        let pushing = thread::spawn(move || {
            let mut sent = 0;
            for n in 0..500u64 {
                let bytes = vec![(round * 31 + n) as u8; 20_000 + n as usize];
                let head = format!(
                    "POST /v2/k/blobs/uploads/?digest={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n",
                    sha256(&bytes),
                    bytes.len()
                );
                let Ok(mut stream) = std::net::TcpStream::connect(&host) else { break };
                let mut answer = Vec::new();
                let done = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&bytes))
                    .and_then(|()| std::io::Read::read_to_end(&mut stream, &mut answer));
                if done.is_err() || !answer.starts_with(b"HTTP/1.1 201") {
                    break;
                }
                sent = n + 1;
            }
            sent
        });
        thread::sleep(std::time::Duration::from_millis(10 + round * 17));
        server.kill_and_restart();
        let sent = pushing.join().expect("it does not panic");
        // What was said to be there is, and is what its name says.
        for n in 0..sent {
            let bytes = vec![(round * 31 + n) as u8; 20_000 + n as usize];
            let path = format!("/v2/k/blobs/{}", sha256(&bytes));
            assert!(server.get(&path).is(200).body == bytes, "{path}");
        }
    }
    all_blobs_are_whole(&server);
}

fn slow() {
    let server = Server::start(&["--stall-timeout", "200ms"]);
    let place = server.begin("a");
    let mut stream = server.connect();
    let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n12345");
    stream.write_all(head.as_bytes()).expect("it reads");
    Reply::read(&mut stream, false).refuses(408, "BLOB_UPLOAD_INVALID");
    assert_eq!(server.get(&place).is(204).header("Range"), "0-4");
}

fn many_uploads() {
    let server = Server::start(&["--max-uploads", "20"]);
    let places: Vec<String> = (0..20).map(|_| server.begin("a")).collect();
    let begin = "POST /v2/a/blobs/uploads/";
    server.ask(begin, &[], b"").refuses(429, "TOOMANYREQUESTS").header("Retry-After");
    server.ask(&format!("DELETE {}", places[0]), &[], b"").is(204);
    server.ask(begin, &[], b"").is(202);
    // What is not an upload is not held up.
    server.push_blob("a", b"at once");
}

fn big_headers() {
    let server = Server::start(&[]);
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(4 << 20));
    for headers in [many, long] {
        let mut stream = server.connect();
        drop(stream.write_all(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()));
        let mut start = [0; 12];
        // An answer, or the end: no third.
        if std::io::Read::read_exact(&mut stream, &mut start).is_ok() {
            assert_eq!(&start, b"HTTP/1.1 431");
        }
    }
    let path = format!("GET /v2/{}/tags/list", "a/".repeat(2000) + "a");
    server.ask(&path, &[], b"").refuses(400, "NAME_INVALID");
    server.get("/v2/").is(200);
}

fn lying() {
    let server = Server::start(&[]);
    let digest = sha256(b"whole");
    for head in [
        format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nwho"
        ),
        format!(
            "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: {OCI_INDEX}\r\nContent-Length: 50\r\n\r\n{{}}"
        ),
        format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nwhole"
        ),
        "GET /v2/\0 HTTP/1.1\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(),
    ] {
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).expect("it reads");
        drop(stream);
    }
    server.get(&format!("/v2/a/blobs/{digest}")).refuses(404, "BLOB_UNKNOWN");
    server.get("/v2/a/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    hako_tests::command::wait_until("ingests are gone", || {
        fs::read_dir(server.root.join("content/ingest")).expect("a store").next().is_none()
    });
}

fn two_writers() {
    let server = Server::start(&[]);
    let place = server.begin("a");
    let mut first = server.connect();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab"
    );
    first.write_all(head.as_bytes()).expect("it reads");
    hako_tests::command::wait_until("the first one appends", || {
        server.get(&place).is(204).header("Range") == "0-1"
    });
    server.ask(&format!("PATCH {place}"), &[], b"xy").refuses(409, "BLOB_UPLOAD_INVALID");
    first.write_all(b"cd").expect("it reads");
    assert_eq!(Reply::read(&mut first, false).is(202).header("Range"), "0-3");
}

fn garbage() {
    let server =
        Server::start(&["--gc-interval", "1s", "--gc-grace", "0s", "--upload-timeout", "0s"]);
    let place = server.begin("a");
    let loose = sha256(b"loose");
    server.push_blob("a", b"loose");
    // Pushed by digest, as nothing is that could be collected between blobs and manifest.
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let kind = [("Content-Type", OCI_INDEX)];
    let pushing: Vec<String> = (0..20).map(|n| format!("/v2/r{n}/manifests/v1")).collect();
    thread::scope(|scope| {
        for path in &pushing {
            let (server, index) = (&server, &index);
            scope.spawn(move || {
                server.ask(&format!("PUT {path}"), &kind, index.as_bytes()).is(201).status
            });
        }
    });
    wait_for_line(&server, "\"blobs\":1");
    server.get(&format!("/v2/a/blobs/{loose}")).refuses(404, "BLOB_UNKNOWN");
    hako_tests::command::wait_until("the upload is gone", || server.get(&place).status == 404);
    for path in &pushing {
        assert_eq!(server.get(path).is(200).body, index.as_bytes());
    }
}

fn endless() {
    let server = Server::start(&[]);
    let before = server.peak_kib();
    let mut stream = server.connect();
    let head = format!(
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: {OCI_INDEX}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let part = vec![b' '; 1 << 20];
    for _ in 0..200 {
        let head = format!("{:x}\r\n", part.len());
        let sent =
            [head.as_bytes(), &part, b"\r\n"].into_iter().try_for_each(|b| stream.write_all(b));
        if sent.is_err() {
            break;
        }
    }
    let grown = server.peak_kib() - before;
    assert!(grown < 64 << 10, "it grew by {grown} KiB");
    server.get("/v2/a/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
}

fn terminate() {
    let mut server = Server::start(&[]);
    let (bytes, _) = server.push_manifest("a", "v1", json!({}));
    assert_eq!(server.terminate(), Some(0));
    server.kill_and_restart();
    assert_eq!(server.get("/v2/a/manifests/v1").is(200).body, bytes);
}
