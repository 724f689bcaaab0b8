//! A pull-through cache, before a registry of ours and before one that lies, stalls or is gone.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hako_tests::{
    Case, binary, command,
    place::Place,
    registry::{Body, Content, Registry, Reply as Answer, ranged},
};
use serde_json::json;

use crate::{
    clients::{base64, hash_of, layout},
    server::{OCI_MANIFEST, Server, sha256, wait_for_line},
};

const ISSUE: &str = "issue: pull-through cache";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "proxy",
        ISSUE,
        "what the upstream has comes through, and stays when it is gone",
        through,
    ),
    Case::new("proxy-tags-move", ISSUE, "tags are asked for each time, content once", tags_move),
    Case::new(
        "proxy-streams",
        ISSUE,
        "bytes are given while they come, to many clients, and fetched once",
        streams,
    ),
    Case::new("proxy-goes-on", ISSUE, "a blob that was cut is fetched on from there", goes_on),
    Case::new("proxy-lies", ISSUE, "what is not its digest is never whole, and not kept", lies),
    Case::new(
        "proxy-refusals",
        ISSUE,
        "what the upstream refuses, and what cannot be pushed",
        refusals,
    ),
    Case::new(
        "proxy-credentials",
        ISSUE,
        "the upstream gets its password, and none of ours",
        credentials,
    ),
    Case::new("proxy-ttl", ISSUE, "what nobody asks for goes", ttl),
    Case::new("proxy-podman", ISSUE, "podman pulls through it", podman),
];

fn before(host: &str, more: &[&str]) -> Server {
    let address = format!("http://{host}");
    Server::start(&[&["--proxy", &address], more].concat())
}

fn through() {
    let mut upstream = Server::start(&[]);
    let (manifest, digest) = upstream.push_manifest("team/app", "v1", json!({}));
    let about = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len() });
    let (_, about) =
        upstream.push_manifest("team/app", "", json!({ "subject": about, "artifactType": "a/b" }));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 11) as u8).collect();
    let blob = format!("/v2/team/app/blobs/{}", upstream.push_blob("team/app", &bytes));
    let cache = before(&upstream.host, &[]);
    let head = cache.ask(&format!("HEAD {blob}"), &[], b"");
    assert_eq!(head.is(200).header("Content-Length"), "3000000");
    let part = cache.ask(&format!("GET {blob}"), &[("Range", "bytes=5-9")], b"");
    assert_eq!(part.is(206).body, bytes[5..10]);
    assert!(cache.get(&blob).is(200).body == bytes);
    for name in ["v1", &digest] {
        let path = format!("/v2/team/app/manifests/{name}");
        assert_eq!(
            cache.ask(&format!("HEAD {path}"), &[], b"").is(200).header("Docker-Content-Digest"),
            digest
        );
        let got = cache.get(&path);
        assert_eq!((got.is(200).body.as_slice(), got.find("Warning")), (manifest.as_slice(), None));
    }
    assert_eq!(cache.get("/v2/team/app/tags/list?n=5").is(200).json()["tags"], json!(["v1"]));
    let referrers = format!("/v2/team/app/referrers/{digest}");
    let found = cache.get(&format!("{referrers}?artifactType=a/b"));
    assert_eq!(found.is(200).json()["manifests"][0]["digest"], about);
    assert_eq!(found.header("OCI-Filters-Applied"), "artifactType");
    assert_eq!(cache.get(&format!("{referrers}?artifactType=x")).json()["manifests"], json!([]));
    let layer = format!("/v2/team/app/blobs/{}", sha256(b"layer"));
    assert_eq!(cache.get(&layer).is(200).body, b"layer");

    upstream.kill();
    let stale = cache.get("/v2/team/app/manifests/v1");
    assert_eq!(
        (stale.is(200).body.as_slice(), stale.header("Warning")),
        (manifest.as_slice(), "111 - \"Revalidation Failed\"")
    );
    assert!(cache.get(&blob).is(200).body == bytes);
    assert_eq!(cache.get("/v2/team/app/tags/list").is(200).json()["tags"], json!(["v1"]));
    cache.get(&format!("/v2/team/app/blobs/{}", sha256(b"{}"))).refuses(502, "UNKNOWN");
    cache.get("/v2/team/app/manifests/v2").refuses(502, "UNKNOWN");
    cache.get("/v2/other/tags/list").refuses(502, "UNKNOWN");
}

fn tags_move() {
    let upstream = Server::start(&[]);
    let (_, first) = upstream.push_manifest("a", "v1", json!({}));
    let cache = before(&upstream.host, &[]);
    let digest =
        || cache.get("/v2/a/manifests/v1").is(200).header("Docker-Content-Digest").to_owned();
    assert_eq!((digest(), digest()), (first.clone(), first.clone()));
    let (_, second) = upstream.push_manifest("a", "v1", json!({ "annotations": { "n": "2" } }));
    assert_eq!((digest(), digest()), (second.clone(), second));
    upstream.push_manifest("a", "v1", json!({}));
    assert_eq!(digest(), first);
    let log = upstream.log.lock().expect("nobody panicked with it").join("\n");
    let gets = log.matches("\"method\":\"GET\",\"uri\":\"/v2/a/manifests/").count();
    assert_eq!(gets, 2, "each manifest once\n{log}");
    upstream.ask("DELETE /v2/a/manifests/v1", &[], b"").is(202);
    cache.get("/v2/a/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    cache.get(&format!("/v2/a/manifests/{first}")).is(200);
}

/// A registry with one blob, which it gives as `body` says.
fn with_blob(
    bytes: &[u8],
    body: impl Fn(usize) -> Body + Send + Sync + 'static,
) -> (Registry, String) {
    let digest = sha256(bytes);
    let (content, path) = (Content::default(), format!("/v2/a/blobs/{digest}"));
    let (blob, bytes) = (path.clone(), bytes.to_vec());
    let count = std::sync::atomic::AtomicUsize::new(0);
    let registry = Registry::start(move |request| match request.method.as_str() {
        "GET" if request.path() == blob => match request.header("range") {
            Some(_) => ranged(request, &bytes),
            None => Answer::with(200, body(count.fetch_add(1, Ordering::SeqCst))),
        },
        "HEAD" if request.path() == blob => Answer::new(200, bytes.clone()),
        _ => content.answer(request),
    });
    (registry, path)
}

fn streams() {
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    let go = Arc::new(AtomicBool::new(false));
    let (held, flag) = (bytes.clone(), Arc::clone(&go));
    let (upstream, path) =
        with_blob(&bytes, move |_| Body::Held(held.clone(), 600_000, flag.clone()));
    let cache = before(&upstream.host(), &[]);
    let mut clients: Vec<_> = (0..4).map(|_| cache.connect()).collect();
    let mut received = vec![Vec::new(); clients.len()];
    for (client, received) in clients.iter_mut().zip(&mut received) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(head.as_bytes()).expect("it reads");
        // The first bytes are here before the upstream sent the last.
        while received.len() < 600_000 {
            let mut part = [0; 8192];
            let count = client.read(&mut part).expect("bytes in time");
            assert!(count > 0, "it hung up after {}", received.len());
            received.extend_from_slice(&part[..count]);
        }
    }
    go.store(true, Ordering::SeqCst);
    for (client, received) in clients.iter_mut().zip(&mut received) {
        client.read_to_end(received).expect("the rest");
        assert!(received.ends_with(&bytes));
    }
    assert_eq!(upstream.count(&format!("GET {path}")), 1);
    assert!(cache.get(&path).is(200).body == bytes);
    assert_eq!(upstream.count(&format!("GET {path}")), 1);
}

fn goes_on() {
    let bytes: Vec<u8> = (0..500_000u32).map(|n| (n / 3) as u8).collect();
    let cut = bytes.clone();
    let (upstream, path) = with_blob(&bytes, move |_| Body::Cut(cut[..200_000].to_vec(), 500_000));
    let cache = before(&upstream.host(), &[]);
    assert!(cache.get(&path).is(200).body == bytes);
    let ranges: Vec<_> =
        upstream.seen().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert!(
        ranges.iter().all(|range| range == "bytes=200000-") && !ranges.is_empty(),
        "{ranges:?}"
    );
}

fn lies() {
    let bytes = vec![7; 300_000];
    let (upstream, path) = with_blob(&bytes, |_| Body::Bytes(vec![8; 300_000]));
    let cache = before(&upstream.host(), &[]);
    for _ in 0..2 {
        let mut client = cache.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(head.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        // Cut off: an error or an end, as the kernel has it.
        drop(client.read_to_end(&mut answer));
        let start = answer.windows(4).position(|w| w == b"\r\n\r\n");
        let length = start.map_or(0, |at| answer.len() - at - 4);
        assert!(length < 300_000, "all of {length} bytes");
    }
    wait_for_line(&cache, "\"event\":\"upstream\"");
    let log = cache.log.lock().expect("nobody panicked with it").join("\n");
    assert!(log.contains("content is sha256:"), "{log}");
    let blobs =
        std::fs::read_dir(cache.root.join("content/blobs/sha256")).expect("a store").count();
    let partial = std::fs::read_dir(cache.root.join("content/partial")).expect("a store").count();
    assert_eq!((blobs, partial), (0, 0));
}

fn refusals() {
    let upstream = Registry::start(|request| match request.path() {
        "/v2/denied/manifests/v1" => Answer::error(403, "DENIED", "no"),
        "/v2/html/manifests/v1" => Answer::new(200, "<html>").header("Content-Type", "text/html"),
        "/v2/broken/manifests/v1" => Answer::error(400, "UNKNOWN", "broken"),
        path if path.starts_with("/v2/none/") => Answer::error(404, "NAME_UNKNOWN", "none"),
        _ => Answer::new(200, "{}"),
    });
    let cache = before(&upstream.host(), &[]);
    for (path, status, code) in [
        ("/v2/denied/manifests/v1", 403, "DENIED"),
        ("/v2/html/manifests/v1", 502, "UNKNOWN"),
        ("/v2/broken/manifests/v1", 502, "UNKNOWN"),
        ("/v2/none/manifests/v1", 404, "MANIFEST_UNKNOWN"),
        ("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
    ] {
        cache.get(path).refuses(status, code);
    }
    cache.get(&format!("/v2/none/blobs/{}", sha256(b""))).refuses(404, "BLOB_UNKNOWN");
    for line in ["POST /v2/a/blobs/uploads/", "PUT /v2/a/manifests/v1", "DELETE /v2/a/manifests/v1"]
    {
        cache.ask(line, &[], b"").refuses(405, "UNSUPPORTED");
    }
    for (words, complaint) in [
        (&["--proxy", "ftp://x"][..], "neither http nor https"),
        (&["--proxy", "http://x", "--read-only"], "exclude each other"),
        (&["--proxy", "http://x", "--proxy-username", "a"], "belong together"),
    ] {
        let mut command = std::process::Command::new(binary::hako());
        let root = cache.place.join("other");
        command
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(root)
            .args(words);
        command::run(&mut command).fails().complains(complaint);
    }
}

fn credentials() {
    let place = Place::new("users");
    let file = place.write("htpasswd", format!("alice:{}\n", hash_of(&place)));
    let password = place.write("password", "secret\n");
    let upstream = Server::start(&["--htpasswd", &file.to_string_lossy(), "--auth-token-issuer"]);
    let digest = sha256(b"x");
    let alice = format!("Basic {}", base64(b"alice:secret"));
    let post = format!("POST /v2/a/blobs/uploads/?digest={digest}");
    upstream.ask(&post, &[("Authorization", &alice)], b"x").is(201);
    let path = format!("/v2/a/blobs/{digest}");
    before(&upstream.host, &[]).get(&path).refuses(403, "DENIED");
    let cache = before(
        &upstream.host,
        &["--proxy-username", "alice", "--proxy-password-file", &password.to_string_lossy()],
    );
    assert_eq!(cache.get(&path).is(200).body, b"x");
}

fn ttl() {
    let mut upstream = Server::start(&[]);
    upstream.push_manifest("a", "v1", json!({}));
    let cache =
        before(&upstream.host, &["--proxy-ttl", "1s", "--gc-interval", "1s", "--gc-grace", "0s"]);
    let layer = format!("/v2/a/blobs/{}", sha256(b"layer"));
    cache.get("/v2/a/manifests/v1").is(200);
    cache.get(&layer).is(200);
    upstream.kill();
    let is_empty = || {
        let blobs = std::fs::read_dir(cache.root.join("content/blobs/sha256"));
        blobs.expect("a store").next().is_none()
    };
    command::wait_until("all of it went", is_empty);
    cache.get(&layer).refuses(502, "UNKNOWN");
    cache.get("/v2/a/manifests/v1").refuses(502, "UNKNOWN");
}

fn podman() {
    let program = binary::tool("podman");
    let upstream = Server::start(&[]);
    let from = upstream.place.directory("from");
    layout(&from);
    let mut copy = std::process::Command::new(binary::hako());
    copy.args(["copy", &format!("oci:{}", from.display())]);
    copy.arg(format!("docker://{}/team/app:v1", upstream.host)).env("HOME", upstream.place.path());
    command::run(&mut copy).ok();
    let cache = before(&upstream.host, &[]);
    let mut podman = std::process::Command::new(&program);
    podman.arg("--root").arg(cache.place.join("storage")).env("HOME", cache.place.path());
    podman.arg("--runroot").arg(cache.place.join("run")).args(["--storage-driver", "vfs"]);
    podman.args(["pull", "--tls-verify=false", &format!("{}/team/app:v1", cache.host)]);
    command::run(&mut podman).ok();
}
