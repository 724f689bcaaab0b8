//! Demands of the OCI Distribution Specification 1.1, one row each.

use hako_tests::Case;
use serde_json::json;

use crate::server::{OCI_INDEX, OCI_MANIFEST, Server, sha256, sha512};

const SPEC: &str = "OCI Distribution Specification 1.1";

pub(crate) const CASES: &[Case] = &[
    Case::new("ping", SPEC, "GET /v2/ is 200", ping),
    Case::new(
        "push-at-once",
        SPEC,
        "POST with digest, and POST then PUT, store a blob",
        push_at_once,
    ),
    Case::new("push-in-chunks", SPEC, "chunks in order are taken, others are 416", push_in_chunks),
    Case::new("push-streamed", SPEC, "PATCH of a body without length, then PUT", push_streamed),
    Case::new("upload-status-and-cancel", SPEC, "GET is 204 with Range, DELETE ends it", cancel),
    Case::new("mount", SPEC, "a blob of another repository is mounted: 201, else 202", mount),
    Case::new("blob-ranges", SPEC, "Range of a blob is 206, or 416", ranges),
    Case::new("sha512", SPEC, "content pushed by sha512 is kept by sha512", by_sha512),
    Case::new(
        "manifests",
        SPEC,
        "a manifest comes back as it was pushed, by tag and digest",
        manifests,
    ),
    Case::new(
        "manifest-refusals",
        SPEC,
        "what is no manifest, or names missing blobs, is refused",
        refusals,
    ),
    Case::new(
        "sparse-and-nondistributable",
        SPEC,
        "an index may be sparse; foreign layers absent",
        sparse,
    ),
    Case::new("tags", SPEC, "tags in order, in pages with Link", tags),
    Case::new("referrers", SPEC, "what is about a subject is listed and filtered", referrers),
    Case::new(
        "deletion",
        SPEC,
        "tags, manifests and blobs go with 202, and then are 404",
        deletion,
    ),
    Case::new("catalog", "Docker Registry HTTP API V2", "repositories in pages", catalog),
    Case::new(
        "unknown-and-invalid-names",
        SPEC,
        "404 and 400 with the specification's codes",
        names,
    ),
    Case::new("read-only", SPEC, "with --read-only and --no-delete changes are 405", read_only),
];

fn ping() {
    let server = Server::start(&[]);
    for path in ["/v2/", "/v2"] {
        let reply = server.get(path);
        assert_eq!(reply.is(200).header("Docker-Distribution-API-Version"), "registry/2.0");
    }
    assert!(
        String::from_utf8_lossy(&server.get("/metrics").is(200).body).contains("requests_total")
    );
}

fn push_at_once() {
    let server = Server::start(&[]);
    for bytes in [&b"hello"[..], b""] {
        let digest = sha256(bytes);
        for repository in ["a/once", "a/twice"] {
            let blob = format!("/v2/{repository}/blobs/{digest}");
            server.get(&blob).refuses(404, "BLOB_UNKNOWN");
            let reply = match repository {
                "a/once" => server.ask(
                    &format!("POST /v2/{repository}/blobs/uploads/?digest={digest}"),
                    &[],
                    bytes,
                ),
                _ => {
                    let place = server.begin(repository);
                    server.ask(&format!("PUT {place}?digest={digest}"), &[], bytes)
                }
            };
            assert_eq!(reply.is(201).header("Location"), blob);
            let got = server.get(&blob);
            assert_eq!(got.is(200).body, bytes);
            assert_eq!(got.header("Docker-Content-Digest"), digest);
            let head = server.ask(&format!("HEAD {blob}"), &[], b"");
            assert_eq!(head.is(200).header("Content-Length"), bytes.len().to_string());
        }
    }
    let other = sha256(b"other");
    let reply = server.ask(&format!("POST /v2/a/blobs/uploads/?digest={other}"), &[], b"not it");
    reply.refuses(400, "DIGEST_INVALID");
    let place = server.begin("a");
    server
        .ask(&format!("PUT {place}?digest={other}"), &[], b"not it")
        .refuses(400, "DIGEST_INVALID");
    server.ask(&format!("PUT {place}"), &[], b"not it").refuses(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/blobs/{other}")).refuses(404, "BLOB_UNKNOWN");
}

fn push_in_chunks() {
    let server = Server::start(&[]);
    let bytes = b"0123456789abcdef";
    let mut place = server.begin("a");
    let chunk = |place: &str, range: &str, part: &[u8]| {
        server.ask(&format!("PATCH {place}"), &[("Content-Range", range)], part)
    };
    let late = chunk(&place, "5-9", &bytes[5..10]);
    late.refuses(416, "BLOB_UPLOAD_INVALID").header("Location");
    for (range, part, received) in [("0-4", 0..5, "0-4"), ("5-9", 5..10, "0-9")] {
        let reply = chunk(&place, range, &bytes[part]);
        assert_eq!(reply.is(202).header("Range"), received);
        place = reply.header("Location").to_owned();
    }
    let again = chunk(&place, "0-4", &bytes[..5]);
    assert_eq!(again.refuses(416, "BLOB_UPLOAD_INVALID").header("Range"), "0-9");
    chunk(&place, "10-12", &bytes[10..16]).refuses(400, "SIZE_INVALID");
    chunk(&place, "x-y", &bytes[10..16]).refuses(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(server.get(&place).is(204).header("Range"), "0-9");
    let digest = sha256(bytes);
    let finish = format!("PUT {place}?digest={digest}");
    server
        .ask(&finish, &[("Content-Range", "9-15")], &bytes[9..])
        .refuses(416, "BLOB_UPLOAD_INVALID");
    server.ask(&finish, &[("Content-Range", "10-15")], &bytes[10..]).is(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).is(200).body, bytes);
    server.get(&place).refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

fn push_streamed() {
    use std::io::Write;
    let server = Server::start(&[]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    let place = server.begin("a");
    let mut stream = server.connect();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    for part in bytes.chunks(70_001) {
        stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).expect("it reads");
        stream.write_all(part).expect("it reads");
        stream.write_all(b"\r\n").expect("it reads");
    }
    stream.write_all(b"0\r\n\r\n").expect("it reads");
    let reply = crate::server::Reply::read(&mut stream, false);
    assert_eq!(reply.is(202).header("Range"), "0-2999999");
    let digest = sha256(&bytes);
    server.ask(&format!("PUT {place}?digest={digest}"), &[], b"").is(201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
}

fn cancel() {
    let server = Server::start(&[]);
    let place = server.begin("a");
    server.get(&place).is(204).header("Range");
    let elsewhere = place.replace("/v2/a/", "/v2/b/");
    server.get(&elsewhere).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    server.ask(&format!("DELETE {place}"), &[], b"").is(204);
    for line in ["GET", "PATCH", "DELETE"] {
        server.ask(&format!("{line} {place}"), &[], b"").refuses(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

fn mount() {
    let server = Server::start(&[]);
    let digest = server.push_blob("from/here", b"mounted");
    let mount = |to: &str, rest: &str| {
        server.ask(&format!("POST /v2/{to}/blobs/uploads/?mount={digest}{rest}"), &[], b"")
    };
    let reply = mount("to/there", "&from=from/here");
    assert_eq!(reply.is(201).header("Location"), format!("/v2/to/there/blobs/{digest}"));
    assert_eq!(server.get(&format!("/v2/to/there/blobs/{digest}")).is(200).body, b"mounted");
    mount("anonymous", "").is(201);
    mount("no/luck", "&from=no/such").is(202).header("Location");
    mount("bad", "&from=NO").refuses(400, "NAME_INVALID");
    let none = sha256(b"none");
    let reply = server.ask(&format!("POST /v2/a/blobs/uploads/?mount={none}"), &[], b"");
    reply.is(202).header("Location");
}

fn ranges() {
    let server = Server::start(&[]);
    let digest = server.push_blob("a", b"0123456789");
    let line = format!("GET /v2/a/blobs/{digest}");
    for (range, want, header) in [
        ("bytes=2-5", "2345", "bytes 2-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let reply = server.ask(&line, &[("Range", range)], b"");
        assert_eq!(reply.is(206).body, want.as_bytes(), "{range}");
        assert_eq!(reply.header("Content-Range"), header);
    }
    let beyond = server.ask(&line, &[("Range", "bytes=10-")], b"");
    assert_eq!(beyond.is(416).header("Content-Range"), "bytes */10");
    assert_eq!(server.ask(&line, &[("Range", "lines=1-2")], b"").is(200).body.len(), 10);
    let etag = server.ask(&line, &[], b"").header("ETag").to_owned();
    server.ask(&line, &[("If-None-Match", &etag)], b"").is(304);
}

fn by_sha512() {
    let server = Server::start(&[]);
    let bytes = b"of another algorithm";
    let digest = sha512(bytes);
    for begin in ["", "?digest-algorithm=sha512"] {
        let repository = format!("a{}", begin.len());
        let reply = server.ask(&format!("POST /v2/{repository}/blobs/uploads/{begin}"), &[], b"");
        let place = reply.is(202).header("Location");
        server.ask(&format!("PATCH {place}"), &[], &bytes[..5]).is(202);
        server.ask(&format!("PUT {place}?digest={digest}"), &[], &bytes[5..]).is(201);
        let got = server.get(&format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(got.is(200).header("Docker-Content-Digest"), digest);
        server
            .get(&format!("/v2/{repository}/blobs/{}", sha256(bytes)))
            .refuses(404, "BLOB_UNKNOWN");
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let by = sha512(index.as_bytes());
    let kind = [("Content-Type", OCI_INDEX)];
    server.ask(&format!("PUT /v2/a/manifests/{by}"), &kind, index.as_bytes()).is(201);
    let reply =
        server.ask(&format!("PUT /v2/a/manifests/big?digest={by}"), &kind, index.as_bytes());
    assert_eq!(reply.is(201).header("Docker-Content-Digest"), by);
    for name in [by.as_str(), "big"] {
        let reply = server.get(&format!("/v2/a/manifests/{name}"));
        assert_eq!(reply.is(200).header("Docker-Content-Digest"), by);
    }
}

fn manifests() {
    let server = Server::start(&[]);
    let (bytes, digest) =
        server.push_manifest("a/b", "v1", json!({ "x": { "unknown": [1.0, 2] } }));
    for name in ["v1", &digest] {
        for method in ["GET", "HEAD"] {
            let reply = server.ask(&format!("{method} /v2/a/b/manifests/{name}"), &[], b"");
            assert_eq!(reply.is(200).header("Content-Type"), OCI_MANIFEST);
            assert_eq!(reply.header("Docker-Content-Digest"), digest);
            assert_eq!(reply.header("Content-Length"), bytes.len().to_string());
            assert!(method == "HEAD" || reply.body == bytes);
        }
    }
    // By digest with tags, as the draft of 1.2 has it.
    let line = format!("PUT /v2/a/b/manifests/{digest}?tag=x&tag=y");
    let reply = server.ask(&line, &[("Content-Type", OCI_MANIFEST)], &bytes);
    let tags: Vec<&str> = reply
        .is(201)
        .headers
        .iter()
        .filter(|(n, _)| n == "oci-tag")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(tags, ["x", "y"]);
    assert_eq!(server.get("/v2/a/b/manifests/y").is(200).body, bytes);
    // A tag moves; what it stood for stays.
    let (_, second) = server.push_manifest("a/b", "v1", json!({ "annotations": { "a": "b" } }));
    assert_eq!(server.get("/v2/a/b/manifests/v1").header("Docker-Content-Digest"), second);
    server.get(&format!("/v2/a/b/manifests/{digest}")).is(200);
}

fn refusals() {
    let server = Server::start(&[]);
    let (bytes, digest) = server.push_manifest("a", "v1", json!({}));
    let kind = [("Content-Type", OCI_MANIFEST)];
    let put = |name: &str, kind: &[(&str, &str)], bytes: &[u8]| {
        server.ask(&format!("PUT /v2/{name}"), kind, bytes)
    };
    put("other/manifests/v1", &kind, &bytes).refuses(400, "MANIFEST_BLOB_UNKNOWN");
    server.get("/v2/other/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    put("a/manifests/v2", &kind, b"{").refuses(400, "MANIFEST_INVALID");
    put("a/manifests/v2", &kind, b"").refuses(400, "MANIFEST_INVALID");
    put("a/manifests/v2", &[("Content-Type", OCI_INDEX)], &bytes).refuses(400, "MANIFEST_INVALID");
    put("a/manifests/v2", &[("Content-Type", "text/plain")], b"{}")
        .refuses(400, "MANIFEST_INVALID");
    put(&format!("a/manifests/{}", sha256(b"")), &kind, &bytes).refuses(400, "DIGEST_INVALID");
    put("a/manifests/-v", &kind, &bytes).refuses(400, "TAG_INVALID");
    put(&format!("a/manifests/{digest}?tag=-"), &kind, &bytes).refuses(400, "TAG_INVALID");
    server.get("/v2/a/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
    put("a/manifests/big", &kind, &vec![b' '; (4 << 20) + 1]).refuses(413, "SIZE_INVALID");
}

fn sparse() {
    let server = Server::start(&[]);
    let absent = json!({ "mediaType": OCI_MANIFEST, "digest": sha256(b"absent"), "size": 6 });
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [absent] });
    let index = index.to_string();
    server.ask("PUT /v2/a/manifests/i", &[("Content-Type", OCI_INDEX)], index.as_bytes()).is(201);
    assert_eq!(server.get("/v2/a/manifests/i").is(200).body, index.as_bytes());
    let foreign = json!([{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": sha256(b"elsewhere"), "size": 9, "urls": ["https://example.org/layer"],
    }]);
    server.push_manifest("a", "foreign", json!({ "layers": foreign }));
}

fn tags() {
    let server = Server::start(&[]);
    server.get("/v2/a/tags/list").refuses(404, "NAME_UNKNOWN");
    for tag in ["v10", "V2", "a", "v1"] {
        server.push_manifest("a", tag, json!({}));
    }
    let list = |query: &str| server.get(&format!("/v2/a/tags/list{query}"));
    let all = list("");
    assert_eq!(all.is(200).json(), json!({ "name": "a", "tags": ["a", "v1", "v10", "V2"] }));
    assert_eq!(all.find("Link"), None);
    let page = list("?n=2");
    assert_eq!(page.is(200).json()["tags"], json!(["a", "v1"]));
    assert_eq!(page.header("Link"), "</v2/a/tags/list?last=v1&n=2>; rel=\"next\"");
    let page = list("?n=2&last=v1");
    assert_eq!((page.json()["tags"].clone(), page.find("Link")), (json!(["v10", "V2"]), None));
    assert_eq!(list("?last=v10").json()["tags"], json!(["V2"]));
    let none = list("?n=0");
    assert_eq!((none.is(200).json()["tags"].clone(), none.find("Link")), (json!([]), None));
    list("?n=x").refuses(400, "PAGINATION_NUMBER_INVALID");
}

fn referrers() {
    let server = Server::start(&[]);
    let (_, subject) = server.push_manifest("a", "v1", json!({}));
    let list = |query: &str| server.get(&format!("/v2/a/referrers/{subject}{query}"));
    assert_eq!(list("").is(200).header("Content-Type"), OCI_INDEX);
    assert_eq!(list("").json()["manifests"], json!([]));
    let about = json!({ "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 });
    let mut pushed = Vec::new();
    for kind in ["application/x+json", "application/y"] {
        let more =
            json!({ "subject": about, "artifactType": kind, "annotations": { "kind": kind } });
        let (bytes, digest) = server.push_manifest("a", "", more);
        pushed.push(digest.clone());
        let line = format!("PUT /v2/a/manifests/{digest}");
        let reply = server.ask(&line, &[("Content-Type", OCI_MANIFEST)], &bytes);
        assert_eq!(reply.is(201).header("OCI-Subject"), subject);
    }
    let all = list("").json();
    assert_eq!(all["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["mediaType"], OCI_INDEX);
    for query in ["?artifactType=application/x%2Bjson", "?artifactType=application/x+json"] {
        let filtered = list(query);
        assert_eq!(filtered.is(200).header("OCI-Filters-Applied"), "artifactType");
        let found = &filtered.json()["manifests"];
        assert_eq!(found.as_array().map(Vec::len), Some(1));
        assert_eq!(found[0]["digest"], pushed[0]);
        assert_eq!(found[0]["artifactType"], "application/x+json");
        assert_eq!(found[0]["annotations"]["kind"], "application/x+json");
    }
    // A subject may be missing, and a referrer without its own type has its configuration's.
    let absent = sha256(b"absent");
    let about = json!({ "mediaType": OCI_MANIFEST, "digest": absent, "size": 6 });
    server.push_manifest("a", "", json!({ "subject": about }));
    let found = server.get(&format!("/v2/a/referrers/{absent}")).json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.oci.image.config.v1+json");
    server.ask(&format!("DELETE /v2/a/manifests/{}", pushed[0]), &[], b"").is(202);
    assert_eq!(list("").json()["manifests"].as_array().map(Vec::len), Some(1));
    server.get("/v2/a/referrers/nonsense").refuses(400, "DIGEST_INVALID");
}

fn deletion() {
    let server = Server::start(&[]);
    let (_, digest) = server.push_manifest("a", "v1", json!({}));
    server.push_manifest("a", "v2", json!({}));
    let delete = |path: &str| server.ask(&format!("DELETE /v2/a/{path}"), &[], b"");
    delete("manifests/v1").is(202);
    delete("manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v2").is(200);
    delete(&format!("manifests/{digest}")).is(202);
    server.get("/v2/a/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/a/manifests/{digest}")).refuses(404, "MANIFEST_UNKNOWN");
    let layer = sha256(b"layer");
    server.get(&format!("/v2/a/blobs/{layer}")).is(200);
    delete(&format!("blobs/{layer}")).is(202);
    server.get(&format!("/v2/a/blobs/{layer}")).refuses(404, "BLOB_UNKNOWN");
    delete(&format!("blobs/{layer}")).refuses(404, "BLOB_UNKNOWN");
}

fn catalog() {
    let server = Server::start(&[]);
    for repository in ["b", "a/b", "a-b", "a"] {
        server.push_manifest(repository, "v1", json!({}));
    }
    assert_eq!(
        server.get("/v2/_catalog").json(),
        json!({ "repositories": ["a", "a-b", "a/b", "b"] })
    );
    let page = server.get("/v2/_catalog?n=2");
    assert_eq!(page.json(), json!({ "repositories": ["a", "a-b"] }));
    assert_eq!(page.header("Link"), "</v2/_catalog?last=a-b&n=2>; rel=\"next\"");
    assert_eq!(server.get("/v2/_catalog?n=2&last=a-b").json()["repositories"], json!(["a/b", "b"]));
}

fn names() {
    let server = Server::start(&[]);
    let digest = sha256(b"");
    for (line, status, code) in [
        ("GET /v2/no/such/manifests/v1", 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/no/such/tags/list", 404, "NAME_UNKNOWN"),
        ("GET /v2/NO/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a/%2e%2e/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a/manifests/sha256:short", 400, "DIGEST_INVALID"),
        ("GET /v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
        ("GET /v2/a/blobs/uploads/nonsense", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("DELETE /v2/a/tags/list", 405, "UNSUPPORTED"),
        ("PUT /v2/", 405, "UNSUPPORTED"),
        ("POST /v2/a/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"),
        ("GET /etc/passwd", 404, "NAME_UNKNOWN"),
    ] {
        server.ask(line, &[], b"").refuses(status, code);
    }
    server.ask(&format!("HEAD /v2/a/blobs/{digest}"), &[], b"").is(404);
}

fn read_only() {
    let server = Server::start(&["--no-delete"]);
    let (_, digest) = server.push_manifest("a", "v1", json!({}));
    let delete = format!("DELETE /v2/a/manifests/{digest}");
    server.ask(&delete, &[], b"").refuses(405, "UNSUPPORTED");
    let place = server.begin("a");
    server.ask(&format!("DELETE {place}"), &[], b"").is(204);
    let server = Server::start(&["--read-only"]);
    server.ask("POST /v2/a/blobs/uploads/", &[], b"").refuses(405, "UNSUPPORTED");
    server.ask(&delete, &[], b"").refuses(405, "UNSUPPORTED");
    server.get("/v2/").is(200);
}
