//! The round that the specification's conformance suite makes with each kind of content: push it,
//! list its tags, look at it, pull it, ask for its referrers, delete it.
//!
//! The suite is a program in Go that cannot be had everywhere; these rows make its requests and
//! have its expectations, as they are for 1.1 and for the draft after it, with every switch on.

use hako_tests::Case;
use serde_json::{Value, json};

use crate::server::{OCI_INDEX, OCI_MANIFEST, Reply, Server, sha256, sha512};

const SUITE: &str = "distribution-spec/conformance";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EXAMPLES: [&str; 2] = ["application/vnd.example.one.v1", "application/vnd.example.two.v1"];

pub(crate) const CASES: &[Case] = &[
    Case::new("data-image", SUITE, "an image", || round(&[], Set::image)),
    Case::new("data-uncompressed", SUITE, "an image of plain tars", || round(&[], uncompressed)),
    Case::new("data-large-manifest", SUITE, "a manifest of almost 4 MiB", || round(&[], large)),
    Case::new("data-index", SUITE, "an index of two platforms", || round(&[], Set::index)),
    Case::new("data-nested-index", SUITE, "an index of indexes", || round(&[], nested)),
    Case::new("data-empty-index", SUITE, "an index of nothing", || round(&[], empty_index)),
    Case::new("data-artifact", SUITE, "an artifact without subject", || round(&[], artifact)),
    Case::new("data-artifact-index", SUITE, "an index of artifacts", || round(&[], artifacts)),
    Case::new("data-empty-artifact", SUITE, "an artifact without content", || {
        round(&[], empty_artifact);
    }),
    Case::new("data-subject", SUITE, "an image, and what is about it", || round(&[], about)),
    Case::new("data-index-subject", SUITE, "an index about an index", || round(&[], about_index)),
    Case::new("data-missing-subject", SUITE, "a subject that is not there", || {
        round(&[], about_nothing);
    }),
    Case::new("data-data-field", SUITE, "descriptors with their content", || round(&[], data)),
    Case::new("data-nondistributable", SUITE, "layers that are elsewhere", || round(&[], foreign)),
    Case::new("data-custom-fields", SUITE, "fields that nobody knows", || round(&[], custom)),
    Case::new("data-no-layers", SUITE, "an image of no layers", || round(&[], no_layers)),
    Case::new("data-sparse", SUITE, "with --sparse, blobs and manifests may be missing", || {
        round(&["--sparse"], sparse);
    }),
    Case::new("data-sha512", SUITE, "all of it by sha512", || round(&[], by_sha512)),
    Case::new("data-tag-parameters", SUITE, "tags set by pushing a digest", || {
        round(&[], tag_parameters);
    }),
    Case::new("data-tag-parameters-sha512", SUITE, "the same by sha512", || {
        round(&[], tag_parameters_sha512);
    }),
    Case::new("blob-apis", SUITE, "every way to push a blob, by both algorithms", blob_apis),
    Case::new("blob-bad-digests", SUITE, "no way takes what is not its digest", bad_digests),
    Case::new("ranges", SUITE, "ranges are 206 with their bytes, or 416", ranges),
    Case::new("error-codes", SUITE, "what is missing or malformed is 404 or 400", error_codes),
    Case::new("tag-order-and-pages", SUITE, "tags in order, `n` and `last`", tag_pages),
    Case::new("warnings", "OCI Distribution 1.1: warnings", "every response has them", warnings),
];

/// What is pushed together.
#[derive(Default)]
struct Set {
    blobs: Vec<Vec<u8>>,
    manifests: Vec<Pushed>,
    /// Tags, and which manifest they are for.
    tags: Vec<(String, usize)>,
    sha512: bool,
    /// Whether tags are set while a digest is pushed.
    tag_parameters: bool,
    count: usize,
}

struct Pushed {
    kind: &'static str,
    bytes: Vec<u8>,
    digest: String,
    /// The digest of its subject, and what it must be listed as.
    about: Option<(String, Value)>,
}

impl Set {
    fn digest(&self, bytes: &[u8]) -> String {
        if self.sha512 { sha512(bytes) } else { sha256(bytes) }
    }

    fn blob(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let descriptor = json!({
            "mediaType": kind, "digest": self.digest(&bytes), "size": bytes.len(),
        });
        self.blobs.push(bytes);
        descriptor
    }

    /// Something that no other blob is.
    fn unique(&mut self, kind: &str) -> Value {
        self.count += 1;
        let bytes = format!("content {} of {kind}\n", self.count).repeat(40).into_bytes();
        self.blob(kind, bytes)
    }

    /// Adds a manifest, and gives its descriptor.
    fn manifest(&mut self, document: Value) -> Value {
        let is_index = document["mediaType"] == OCI_INDEX;
        let kind = if is_index { OCI_INDEX } else { OCI_MANIFEST };
        let bytes = document.to_string().into_bytes();
        let digest = self.digest(&bytes);
        let descriptor = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        let about = document["subject"]["digest"].as_str().map(|subject| {
            let mut listed = descriptor.clone();
            let own = &document["artifactType"];
            let own = if own.is_null() { &document["config"]["mediaType"] } else { own };
            for (name, value) in [("artifactType", own), ("annotations", &document["annotations"])]
            {
                if !value.is_null() {
                    listed[name] = value.clone();
                }
            }
            (subject.to_owned(), listed)
        });
        self.manifests.push(Pushed { kind, bytes, digest, about });
        descriptor
    }

    /// An image of these layers, with more fields.
    fn image_of(&mut self, layers: Vec<Value>, more: Value) -> Value {
        self.count += 1;
        let config = json!({
            "architecture": "amd64", "os": "linux", "x": self.count,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let image = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
        });
        self.manifest(with(image, more))
    }

    fn plain_image(&mut self) -> Value {
        let layers = vec![self.unique(LAYER), self.unique(LAYER)];
        self.image_of(layers, json!({}))
    }

    fn artifact_of(&mut self, kind: &str, more: Value) -> Value {
        let config = self.blob(EMPTY, b"{}".to_vec());
        let layers = [self.unique(kind)];
        let artifact = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "config": config, "layers": layers,
        });
        self.manifest(with(artifact, more))
    }

    fn index_of(&mut self, manifests: Vec<Value>, more: Value) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        self.manifest(with(index, more))
    }

    fn plain_index(&mut self) -> Value {
        let manifests = ["amd64", "arm64"].map(|architecture| {
            let platform = json!({ "os": "linux", "architecture": architecture });
            with(self.plain_image(), json!({ "platform": platform }))
        });
        self.index_of(manifests.into(), json!({}))
    }

    /// Tags what was added last.
    fn tag(&mut self, tag: &str) {
        self.tags.push((tag.to_owned(), self.manifests.len() - 1));
    }

    fn image(&mut self) {
        self.plain_image();
        self.tag("image");
    }

    fn index(&mut self) {
        self.plain_index();
        self.tag("index");
    }
}

fn with(mut document: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        document[name] = value.clone();
    }
    document
}

fn uncompressed(set: &mut Set) {
    let layers = vec![set.unique(TAR)];
    set.image_of(layers, json!({}));
    set.tag("uncompressed");
}

fn large(set: &mut Set) {
    let long = "A".repeat(10_000);
    let annotations: serde_json::Map<String, Value> =
        (0..390).map(|n| (format!("large-annotation-{n}"), json!(long))).collect();
    set.image_of(Vec::new(), json!({ "annotations": annotations }));
    set.tag("large");
}

fn nested(set: &mut Set) {
    let indexes = vec![set.plain_index(), set.plain_index()];
    set.index_of(indexes, json!({}));
    set.tag("nested");
}

fn empty_index(set: &mut Set) {
    set.index_of(Vec::new(), json!({}));
    set.tag("empty");
}

fn artifact(set: &mut Set) {
    set.artifact_of(EXAMPLES[0], json!({}));
    set.tag("artifact");
}

fn artifacts(set: &mut Set) {
    let parts = EXAMPLES.map(|kind| set.artifact_of(kind, json!({})));
    set.index_of(parts.into(), json!({ "artifactType": EXAMPLES[0] }));
    set.tag("artifacts");
}

fn empty_artifact(set: &mut Set) {
    let empty = set.blob(EMPTY, b"{}".to_vec());
    set.manifest(json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": EXAMPLES[0],
        "config": empty, "layers": [empty],
    }));
    set.tag("empty-artifact");
}

fn about(set: &mut Set) {
    let subject = set.plain_image();
    set.tag("image");
    let layers = vec![set.unique(LAYER)];
    set.image_of(layers, json!({ "subject": subject }));
    for (n, kind) in EXAMPLES.iter().enumerate() {
        let annotations = json!({ "org.example.n": n.to_string(), "org.example.same": "hello" });
        set.artifact_of(kind, json!({ "subject": subject, "annotations": annotations }));
        set.tag(&format!("about-{n}"));
    }
}

fn about_index(set: &mut Set) {
    let subject = set.plain_index();
    set.tag("index");
    let parts = EXAMPLES.map(|kind| set.artifact_of(kind, json!({})));
    let more = json!({
        "subject": subject, "artifactType": EXAMPLES[0], "annotations": { "org.example.a": "b" },
    });
    set.index_of(parts.into(), more);
    set.tag("about");
}

fn about_nothing(set: &mut Set) {
    let subject = json!({ "mediaType": OCI_MANIFEST, "digest": sha256(b"absent"), "size": 123 });
    set.artifact_of(EXAMPLES[0], json!({ "subject": subject }));
    set.tag("about");
}

fn data(set: &mut Set) {
    // `{}`, as base64 has it.
    let config = set.blob(CONFIG, b"{}".to_vec());
    let layers = vec![with(config, json!({ "data": "e30=", "mediaType": EXAMPLES[0] }))];
    set.image_of(layers, json!({}));
    set.tag("data");
}

fn foreign(set: &mut Set) {
    let layers = ["one", "two"].map(|name| {
        let digest = sha256(name.as_bytes());
        let url = format!("https://store.example.com/blobs/{digest}");
        json!({ "mediaType": FOREIGN, "digest": digest, "size": 123_456, "urls": [url] })
    });
    let mut layers = Vec::from(layers);
    layers.push(set.unique(LAYER));
    set.image_of(layers, json!({}));
    set.tag("foreign");
}

fn custom(set: &mut Set) {
    let more = json!({ "org.example.field": { "deep": [1.50, "x", null] } });
    let layers = vec![set.unique(LAYER)];
    let image = set.image_of(layers, more.clone());
    set.index_of(vec![image], more);
    set.tag("custom");
}

fn no_layers(set: &mut Set) {
    set.image_of(Vec::new(), json!({}));
    set.tag("no-layers");
}

fn sparse(set: &mut Set) {
    set.plain_image();
    set.tag("sparse-image");
    set.blobs.remove(0);
    let absent = json!({ "mediaType": OCI_MANIFEST, "digest": sha256(b"absent"), "size": 6 });
    let image = set.plain_image();
    set.index_of(vec![image, absent], json!({}));
    set.tag("sparse-index");
}

/// Only by digest: a tag alone is always of sha256.
fn by_sha512(set: &mut Set) {
    set.sha512 = true;
    set.plain_index();
}

fn tag_parameters(set: &mut Set) {
    set.tag_parameters = true;
    set.plain_index();
    for at in 0..set.manifests.len() {
        set.tags.push((format!("tag-{at}"), at));
    }
    set.tag("second");
}

fn tag_parameters_sha512(set: &mut Set) {
    set.sha512 = true;
    tag_parameters(set);
}

const ACCEPT: [(&str, &str); 2] = [("Accept", OCI_INDEX), ("Accept", OCI_MANIFEST)];

fn round(arguments: &[&str], fill: fn(&mut Set)) {
    let server = Server::start(arguments);
    let mut set = Set::default();
    fill(&mut set);
    let path = |rest: &str| format!("/v2/conformance/repo/{rest}");
    let blob = |bytes: &[u8]| path(&format!("blobs/{}", set.digest(bytes)));
    for (way, bytes) in WAYS.iter().cycle().zip(&set.blobs) {
        let digest = set.digest(bytes);
        same_blob(&server, way.1(&server, "conformance/repo", bytes, &digest).is(201), bytes);
    }
    for (at, manifest) in set.manifests.iter().enumerate() {
        let tags: Vec<&str> = match set.tag_parameters {
            true => set.tags.iter().filter(|t| t.1 == at).map(|t| t.0.as_str()).collect(),
            false => Vec::new(),
        };
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let line =
            format!("PUT {}?{}", path(&format!("manifests/{}", manifest.digest)), query.join("&"));
        let reply = pushed(&server, &line, manifest);
        let said: Vec<&str> =
            reply.headers.iter().filter(|(n, _)| n == "oci-tag").map(|(_, v)| v.as_str()).collect();
        assert_eq!(said, tags);
    }
    if !set.tag_parameters {
        for (tag, at) in &set.tags {
            let line = format!("PUT {}", path(&format!("manifests/{tag}")));
            pushed(&server, &line, &set.manifests[*at]);
        }
    }
    if !set.tags.is_empty() {
        let tags = server.get(&path("tags/list")).is(200).json()["tags"].clone();
        let tags = tags.as_array().expect("a list");
        assert!(set.tags.iter().all(|(tag, _)| tags.contains(&json!(tag))), "{tags:?}");
    }
    let digests = set.manifests.iter().map(|m| (m.digest.as_str(), m));
    let tags = set.tags.iter().map(|(tag, at)| (tag.as_str(), &set.manifests[*at]));
    for (name, manifest) in digests.chain(tags) {
        for method in ["HEAD", "GET"] {
            let line = format!("{method} {}", path(&format!("manifests/{name}")));
            same_manifest(server.ask(&line, &ACCEPT, b"").is(200), manifest, method == "HEAD");
        }
    }
    for bytes in &set.blobs {
        let head = server.ask(&format!("HEAD {}", blob(bytes)), &[], b"");
        assert_eq!(head.is(200).header("Content-Length"), bytes.len().to_string());
        assert_eq!(head.header("Docker-Content-Digest"), set.digest(bytes));
        let got = server.get(&blob(bytes));
        assert_eq!(got.header("Content-Length"), bytes.len().to_string());
        assert!(got.is(200).body == *bytes);
    }
    for (subject, listed) in set.manifests.iter().filter_map(|m| m.about.as_ref()) {
        let kind = listed["artifactType"].as_str().expect("a type");
        for query in ["", &format!("?artifactType={kind}")] {
            let reply = server.get(&path(&format!("referrers/{subject}{query}")));
            assert_eq!(reply.is(200).header("Content-Type"), OCI_INDEX);
            let index = reply.json();
            assert_eq!(
                (&index["mediaType"], &index["schemaVersion"]),
                (&json!(OCI_INDEX), &json!(2))
            );
            let manifests = index["manifests"].as_array().expect("a list");
            assert!(manifests.contains(listed), "{listed} in {manifests:?}");
            if !query.is_empty() {
                assert_eq!(reply.header("OCI-Filters-Applied"), "artifactType");
                assert!(manifests.iter().all(|m| m["artifactType"] == kind), "{manifests:?}");
            }
        }
    }
    let gone = |rest: String| {
        server.ask(&format!("DELETE {}", path(&rest)), &[], b"").is(202);
        server.ask(&format!("HEAD {}", path(&rest)), &ACCEPT, b"").is(404);
    };
    set.tags.iter().for_each(|(tag, _)| gone(format!("manifests/{tag}")));
    set.manifests.iter().rev().for_each(|m| gone(format!("manifests/{}", m.digest)));
    let mut digests: Vec<String> = set.blobs.iter().map(|bytes| set.digest(bytes)).collect();
    digests.sort();
    digests.dedup();
    digests.into_iter().for_each(|digest| gone(format!("blobs/{digest}")));
}

/// Pushes a manifest, looks at what is said of it, and follows `Location`.
#[track_caller]
fn pushed(server: &Server, line: &str, manifest: &Pushed) -> Reply {
    let reply = server.ask(line, &[("Content-Type", manifest.kind)], &manifest.bytes);
    assert_eq!(reply.is(201).header("Docker-Content-Digest"), manifest.digest);
    if let Some((subject, _)) = &manifest.about {
        assert_eq!(reply.header("OCI-Subject"), subject);
    }
    let place = format!("GET {}", reply.header("Location"));
    same_manifest(server.ask(&place, &ACCEPT, b"").is(200), manifest, false);
    reply
}

#[track_caller]
fn same_manifest(reply: &Reply, manifest: &Pushed, is_head: bool) {
    assert_eq!(reply.header("Content-Type"), manifest.kind);
    assert_eq!(reply.header("Content-Length"), manifest.bytes.len().to_string());
    assert_eq!(reply.header("Docker-Content-Digest"), manifest.digest);
    assert!(is_head || reply.body == manifest.bytes);
}

#[track_caller]
fn same_blob(server: &Server, created: &Reply, bytes: &[u8]) {
    assert!(server.get(created.header("Location")).is(200).body == bytes);
}

type Way = fn(&Server, &str, &[u8], &str) -> Reply;

const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

/// The ways to push a blob; what the last request was answered.
const WAYS: &[(&str, Way)] = &[
    ("post-only", |server, repository, bytes, digest| {
        server.ask(
            &format!("POST /v2/{repository}/blobs/uploads/?digest={digest}"),
            &[OCTETS],
            bytes,
        )
    }),
    ("post-put", |server, repository, bytes, digest| {
        let place = server.begin(repository);
        server.ask(&format!("PUT {place}?digest={digest}"), &[OCTETS], bytes)
    }),
    ("streamed", |server, repository, bytes, digest| {
        let place = server.begin(repository);
        let reply = server.ask_chunked(&format!("PATCH {place}"), bytes);
        let place = reply.is(202).header("Location").to_owned();
        server.ask(&format!("PUT {place}?digest={digest}"), &[OCTETS], b"")
    }),
    ("chunked", |server, repository, bytes, digest| {
        chunked(server, repository, bytes, digest, false, false)
    }),
    ("chunked-put", |server, repository, bytes, digest| {
        chunked(server, repository, bytes, digest, true, false)
    }),
    ("out-of-order", |server, repository, bytes, digest| {
        chunked(server, repository, bytes, digest, false, true)
    }),
    ("out-of-order-put", |server, repository, bytes, digest| {
        chunked(server, repository, bytes, digest, true, true)
    }),
];

/// Three chunks; the last may be the request that finishes it. `astray`, each is preceded by one
/// that does not belong there.
fn chunked(
    server: &Server,
    repository: &str,
    bytes: &[u8],
    digest: &str,
    put_last: bool,
    astray: bool,
) -> Reply {
    let mut place = server.begin(repository);
    let size = bytes.len() / 3 + 1;
    let send = |place: &str, start: usize| {
        let end = (start + size).min(bytes.len());
        let line = match put_last && end == bytes.len() {
            true => format!("PUT {place}?digest={digest}"),
            false => format!("PATCH {place}"),
        };
        let range = format!("{start}-{}", end - 1);
        (server.ask(&line, &[OCTETS, ("Content-Range", &range)], &bytes[start..end]), end)
    };
    let mut at = 0;
    while at < bytes.len() {
        if astray {
            let wrong = if at + size < bytes.len() { at + size } else { 0 };
            place = send(&place, wrong).0.is(416).header("Location").to_owned();
            let status = server.get(&place);
            place = status.is(204).header("Location").to_owned();
            assert_eq!(status.header("Range"), format!("0-{}", at.max(1) - 1));
        }
        let (reply, end) = send(&place, at);
        at = end;
        if put_last && at == bytes.len() {
            return reply;
        }
        place = reply.is(202).header("Location").to_owned();
    }
    server.ask(&format!("PUT {place}?digest={digest}"), &[OCTETS], b"")
}

fn blob_apis() {
    let server = Server::start(&[]);
    for hash in [sha256, sha512] {
        let mut contents: Vec<Vec<u8>> = vec![Vec::new(), b"{}".to_vec()];
        contents.extend((0..2).map(|n| (0..3067u32).map(|b| (b * 7 + n) as u8).collect()));
        for (name, push) in WAYS {
            for bytes in &contents {
                // Three chunks are more than some have bytes.
                if bytes.len() < 3 && name.contains("order")
                    || bytes.is_empty() && name.contains("put")
                {
                    continue;
                }
                let digest = hash(bytes);
                let blob = format!("/v2/repo1/blobs/{digest}");
                server.get(&blob).refuses(404, "BLOB_UNKNOWN");
                let reply = push(&server, "repo1", bytes, &digest);
                assert_eq!(reply.is(201).header("Docker-Content-Digest"), digest, "{name}");
                same_blob(&server, &reply, bytes);
                server.ask(&format!("DELETE {blob}"), &[], b"").is(202);
                server.ask(&format!("HEAD {blob}"), &[], b"").is(404);
            }
        }
        let bytes = b"mounted";
        let digest = hash(bytes);
        server.ask(&format!("POST /v2/repo2/blobs/uploads/?digest={digest}"), &[], bytes).is(201);
        for from in ["&from=repo2", ""] {
            let mount = format!("POST /v2/repo1/blobs/uploads/?mount={digest}{from}");
            let reply = server.ask(&mount, &[], b"");
            assert_eq!(reply.is(201).header("Docker-Content-Digest"), digest);
            same_blob(&server, &reply, bytes);
            server.ask(&format!("DELETE /v2/repo1/blobs/{digest}"), &[], b"").is(202);
        }
        let absent = hash(b"absent");
        let mount = format!("POST /v2/repo1/blobs/uploads/?mount={absent}&from=repo2");
        let place = server.ask(&mount, &[], b"").is(202).header("Location").to_owned();
        server.ask(&format!("PUT {place}?digest={absent}"), &[OCTETS], b"absent").is(201);
    }
    let place = server.begin("repo1");
    server.ask(&format!("DELETE {place}"), &[], b"").is(204);
}

fn bad_digests() {
    let server = Server::start(&[]);
    let bytes: Vec<u8> = (0..3072u32).map(|n| (n / 5) as u8).collect();
    for hash in [sha256, sha512] {
        let digest = hash(b"something else");
        for (name, push) in WAYS {
            let reply = push(&server, "repo1", &bytes, &digest);
            assert_eq!((reply.status, *name), (400, *name));
            reply.refuses(400, "DIGEST_INVALID");
            server.get(&format!("/v2/repo1/blobs/{digest}")).refuses(404, "BLOB_UNKNOWN");
        }
    }
    let (mut manifest, digest) = server.push_manifest("repo1", "", json!({}));
    server.ask(&format!("DELETE /v2/repo1/manifests/{digest}"), &[], b"").is(202);
    manifest.extend_from_slice(b"  ");
    let line = format!("PUT /v2/repo1/manifests/{digest}");
    server.ask(&line, &[("Content-Type", OCI_MANIFEST)], &manifest).refuses(400, "DIGEST_INVALID");
    server.get(&format!("/v2/repo1/manifests/{digest}")).refuses(404, "MANIFEST_UNKNOWN");
}

fn ranges() {
    let server = Server::start(&[]);
    let bytes: Vec<u8> = (0..2048u32).map(|n| (n % 251) as u8).collect();
    let line = format!("GET /v2/a/blobs/{}", server.push_blob("a", &bytes));
    for (range, part) in [
        ("500-1499", Some(500..1500)),
        ("500-", Some(500..2048)),
        ("-500", Some(1548..2048)),
        ("2000-5000", Some(2000..2048)),
        ("-5000", Some(0..2048)),
        ("0-0", Some(0..1)),
        ("500-0", None),
        ("5000-10000", None),
        ("2048-", None),
        ("-0", None),
    ] {
        let reply = server.ask(&line, &[("Range", &format!("bytes={range}"))], b"");
        let Some(part) = part else {
            assert_eq!(reply.is(416).header("Content-Range"), "bytes */2048", "{range}");
            continue;
        };
        let last = part.end - 1;
        assert_eq!(
            reply.is(206).header("Content-Range"),
            format!("bytes {}-{last}/2048", part.start)
        );
        assert_eq!(reply.header("Content-Length"), part.len().to_string());
        assert!(reply.body == bytes[part], "{range}");
    }
}

fn error_codes() {
    let server = Server::start(&[]);
    let none = sha256(b"none");
    let referrers = server.get(&format!("/v2/repo1/referrers/{none}"));
    assert_eq!(referrers.is(200).header("Content-Type"), OCI_INDEX);
    assert_eq!(referrers.json()["manifests"], json!([]));
    for (line, status, code) in [
        (format!("GET /v2/repo1/manifests/{none}"), 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/repo1/manifests/missing".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/repo1/manifests/sha256:baddigeststring".to_owned(), 400, "DIGEST_INVALID"),
        ("PUT /v2/repo1/manifests/sha256:baddigeststring".to_owned(), 400, "DIGEST_INVALID"),
        ("PUT /v2/repo1/manifests/sha256:totallywrong".to_owned(), 400, "DIGEST_INVALID"),
        (format!("GET /v2/repo1/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        (format!("DELETE /v2/repo1/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        (format!("DELETE /v2/repo1/manifests/{none}"), 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/repo1/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        server.ask(&line, &[("Content-Type", OCI_MANIFEST)], b"").refuses(status, code);
    }
    let long = (0..11).map(|n| format!("tag=t{n}")).collect::<Vec<_>>().join("&");
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let line = format!("PUT /v2/a/manifests/{}?{long}", sha256(index.as_bytes()));
    server.ask(&line, &[("Content-Type", OCI_INDEX)], index.as_bytes()).refuses(414, "TAG_INVALID");
}

fn tag_pages() {
    let server = Server::start(&[]);
    let names = ["test0", "TEST0", "test1", "TEST1", "test-2", "test_2", "test.2", "Zz", "1"];
    for name in names {
        server.push_manifest("a", name, json!({}));
    }
    let list = |query: &str| -> Vec<String> {
        let reply = server.get(&format!("/v2/a/tags/list{query}"));
        serde_json::from_value(reply.is(200).json()["tags"].clone()).expect("names")
    };
    let all = list("");
    let mut sorted = all.clone();
    sorted.sort_by_key(|tag| tag.to_lowercase());
    assert_eq!((all.len(), &all), (names.len(), &sorted));
    for n in 0..=names.len() {
        assert_eq!(list(&format!("?n={n}")), all[..n]);
    }
    for (at, last) in all.iter().enumerate() {
        assert_eq!(list(&format!("?last={last}")), all[at + 1..]);
        assert_eq!(list(&format!("?last={last}&n=1")), all[at + 1..].get(..1).unwrap_or_default());
    }
    // Following `Link` finds each of them once.
    let (mut path, mut found) = ("/v2/a/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let reply = server.get(&path);
        found.extend(reply.json()["tags"].as_array().expect("a list").clone());
        let Some(link) = reply.find("Link") else { break };
        let (target, parameters) = link[1..].split_once('>').expect("a link");
        assert_eq!(parameters, "; rel=\"next\"");
        path = target.to_owned();
    }
    assert_eq!(found, all.iter().map(|tag| json!(tag)).collect::<Vec<_>>());
}

fn warnings() {
    let server = Server::start(&["--warning", "moves on \"Friday\"", "--warning", "second"]);
    for path in ["/v2/", "/v2/a/tags/list", "/nowhere"] {
        let reply = server.get(path);
        let found: Vec<&str> =
            reply.headers.iter().filter(|(n, _)| n == "warning").map(|(_, v)| v.as_str()).collect();
        assert_eq!(found, ["299 - \"moves on \\\"Friday\\\"\"", "299 - \"second\""], "{path}");
    }
    let serve = ["registry", "serve", "--listen", "127.0.0.1:0", "--root"];
    let output = hako_tests::command::run(
        std::process::Command::new(hako_tests::binary::hako())
            .args(serve)
            .arg(server.place.join("other"))
            .args(["--warning", "two\nlines"]),
    );
    output.fails().complains("want printable ASCII");
}
