//! Pushing: what is asked for, what is sent, and how a broken upload goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use hako_tests::{
    Case,
    archive::sha256,
    image::pack,
    registry::{Content, Reply, Request},
};

use crate::{Client, large, serving, with_app};

const PUSH: &str = "docker push(1)";
const SPEC: &str = "distribution: Push";

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn manifest(content: &Content, name: &str) -> serde_json::Value {
    let bytes = content.manifest_bytes(name).expect("it was pushed");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Loads the large image under this name; gives its layer's digest.
fn load(client: &Client, name: &str) -> String {
    let mut image = large();
    image.names = vec!["large:1".to_owned()];
    let archive = client.hako.place().write("large.tar", pack(&image.oci_layout()));
    client.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
    client.call(&["tag", "large:1", name]).ok();
    format!("sha256:{}", sha256(&image.layers[0]))
}

pub(crate) const CASES: &[Case] = &[
    Case::new("push-says-what-docker-says", PUSH, "lines and digest as Docker's", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, _| None);
        let name = format!("{}/team/app:1", registry.host());
        let layer = load(&client, &name);
        let pushed = client.call(&["push", "--compression-format", "none", &name]);
        let host = registry.host();
        pushed.says(&format!("The push refers to repository [{host}/team/app]"));
        pushed.says(&format!("{}: Pushed", &layer[7..19]));
        let manifest = content.manifest_bytes("team/app:1").expect("it was pushed");
        let digest = format!("sha256:{}", sha256(&manifest));
        pushed.says(&format!("1: digest: {digest} size: {}", manifest.len()));
        client.call(&["push", "-q", &name]).prints(&name);
    }),
    Case::new(
        "push-unchanged-asks-once",
        PUSH,
        "one round trip for each blob that is there",
        || {
            let client = Client::new();
            let (registry, _) = serving(Content::default(), |_, _| None);
            let name = format!("{}/app:1", registry.host());
            load(&client, &name);
            client.call(&["push", "-q", &name]).ok();
            let before = registry.seen().len();
            client.call(&["push", &name]).says("Layer already exists");
            let seen = registry.seen();
            let mut lines: Vec<String> = seen[before..].iter().map(|r| r.method.clone()).collect();
            lines.sort();
            assert_eq!(lines, ["GET", "HEAD", "HEAD", "PUT"], "ping, two blobs, the manifest");
        },
    ),
    Case::new("push-mounts", SPEC, "a blob of another repository is mounted from there", || {
        let client = Client::new();
        // The registry says of no blob that another repository has it.
        let (registry, content) = with_app(|_, request| {
            let hidden = request.line().starts_with("HEAD /v2/copy/blobs/");
            hidden.then(|| Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"))
        });
        let host = registry.host();
        client.call(&["pull", "-q", &format!("{host}/app:1")]).ok();
        client.call(&["tag", &format!("{host}/app:1"), &format!("{host}/copy:1")]).ok();
        client.call(&["push", &format!("{host}/copy:1")]).says("Mounted");
        assert_eq!(registry.count("PUT /v2/copy/blobs/"), 0);
        assert!(registry.count("POST /v2/copy/blobs/uploads/?mount=sha256:") > 0);
        // What was pulled is what was pushed.
        assert_eq!(content.manifest_bytes("app:1"), content.manifest_bytes("copy:1"));
    }),
    Case::new("push-resumes", SPEC, "a broken upload goes on with what the registry kept", || {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |content, request| {
            let is_layer = request.method == "PUT" && request.body.len() > 100_000;
            if !is_layer || ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
                return None;
            }
            // Half of it is kept; the answer never comes.
            let half = Request {
                method: "PATCH".into(),
                body: request.body[..request.body.len() / 2].to_vec(),
                ..request.clone()
            };
            let path = half.path().to_owned();
            content.answer(&Request { target: path, ..half });
            Some(Reply::with(200, hako_tests::registry::Body::Raw(Vec::new())))
        });
        let name = format!("{}/app:1", registry.host());
        let layer = load(&client, &name);
        client.call(&["push", "-q", "--compression-format", "none", &name]).ok();
        assert_eq!(content.largest(), layer);
        assert_eq!(registry.count("PATCH "), 1, "the second half");
    }),
    Case::new("push-in-pieces", SPEC, "a registry that takes no whole blob gets pieces", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, request| {
            (request.body.len() > 20 << 20).then(|| Reply::new(413, "too large"))
        });
        let name = format!("{}/app:1", registry.host());
        let mut image = large();
        let zeros = hako_tests::archive::Entry::file("zeros", 0o644, vec![0; 40 << 20]);
        image.layers = vec![hako_tests::archive::tar(&[zeros])];
        image.names = vec!["large:1".to_owned()];
        let archive = client.hako.place().write("large.tar", pack(&image.oci_layout()));
        client.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        client.call(&["tag", "large:1", &name]).ok();
        client.call(&["push", "-q", "--compression-format", "none", &name]).ok();
        assert_eq!(content.largest(), format!("sha256:{}", sha256(&image.layers[0])));
        assert!(registry.count("PATCH ") >= 2);
    }),
    Case::new("push-absent", PUSH, "a name that nothing has", || {
        let client = Client::new();
        let (registry, _) = serving(Content::default(), |_, _| None);
        let name = format!("{}/app:1", registry.host());
        client
            .call(&["push", &name])
            .exits(1)
            .complains(&format!("An image does not exist locally with the tag: {name}"));
        assert_eq!(registry.seen().len(), 0);
    }),
    Case::new("push-denied", PUSH, "a registry that refuses is quoted", || {
        let client = Client::new();
        let (registry, _) = serving(Content::default(), |_, request| {
            let denied = Reply::error(403, "DENIED", "requested access to the resource is denied");
            (request.path() != "/v2/").then_some(denied)
        });
        let name = format!("{}/app:1", registry.host());
        load(&client, &name);
        client.call(&["push", &name]).exits(1).complains("push access denied").complains("denied:");
    }),
    Case::new("push-all-tags", PUSH, "-a pushes every tag of the repository", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, _| None);
        let name = format!("{}/app", registry.host());
        load(&client, &format!("{name}:1"));
        client.call(&["tag", "large:1", &format!("{name}:2")]).ok();
        client.call(&["push", "-a", "-q", &name]).ok();
        assert!(content.manifest_bytes("app:1").is_some());
        assert_eq!(content.manifest_bytes("app:1"), content.manifest_bytes("app:2"));
    }),
    Case::new("push-compresses", PUSH, "layers travel as gzip, always as the same bytes", || {
        let (registry, content) = serving(Content::default(), |_, _| None);
        let host = registry.host();
        let mut digests = Vec::new();
        for name in ["one/app:1", "two/app:1"] {
            let client = Client::new();
            let layer = load(&client, &format!("{host}/{name}"));
            client.call(&["push", "-q", &format!("{host}/{name}")]).ok();
            let manifest = manifest(&content, name);
            assert_eq!(manifest["layers"][0]["mediaType"], GZIP);
            let digest = manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
            let plain = hako_tests::archive::gunzip(&content.blob(&digest));
            assert_eq!(format!("sha256:{}", sha256(&plain)), layer);
            digests.push(digest);
            // What was pushed can be pulled, and is the same image.
            let other = Client::new();
            other.call(&["pull", "-q", &format!("{host}/{name}")]).ok();
            let id = ["images", "-q", "--no-trunc"];
            assert_eq!(other.call(&id).ok(), client.call(&id).ok());
        }
        assert_eq!(digests[0], digests[1]);
    }),
    Case::new(
        "push-compressed-unchanged",
        PUSH,
        "what was compressed once is only asked for, also when it is not kept",
        || {
            let client = Client::new();
            let (registry, _) = serving(Content::default(), |_, _| None);
            let name = format!("{}/app:1", registry.host());
            load(&client, &name);
            client.call(&["push", "-q", &name]).ok();
            // What nothing names is removed: the compressed layer.
            client.call(&["image", "prune", "-f"]).says("Total reclaimed space: 6");
            let before = registry.seen().len();
            client.call(&["push", &name]).says("Layer already exists");
            let seen = registry.seen();
            let mut lines: Vec<String> = seen[before..].iter().map(|r| r.method.clone()).collect();
            lines.sort();
            assert_eq!(lines, ["GET", "HEAD", "HEAD", "PUT"], "ping, two blobs, the manifest");
            let blobs = client.hako.root().join("content/blobs/sha256");
            let size = |entry: std::fs::DirEntry| entry.metadata().expect("our own").len();
            let entries = std::fs::read_dir(blobs).expect("the store");
            let large = entries.flatten().map(size).filter(|size| *size > 100_000);
            assert_eq!(large.count(), 1, "it was not compressed again");
        },
    ),
    Case::new(
        "push-zstd",
        "podman push(1)",
        "--compression-format and --force-compression",
        || {
            let client = Client::new();
            let (registry, content) = serving(Content::default(), |_, _| None);
            let name = format!("{}/app:1", registry.host());
            load(&client, &name);
            let push = |flags: &[&str]| {
                let words: Vec<&str> = ["push", "-q"].iter().chain(flags).copied().collect();
                client.call(&[&words[..], &[&name]].concat())
            };
            let kind = || manifest(&content, "app:1")["layers"][0]["mediaType"].clone();
            push(&["--compression-format", "zstd", "--compression-level", "19"]).ok();
            assert_eq!(kind(), "application/vnd.oci.image.layer.v1.tar+zstd");
            push(&["--compression-format", "none"]).ok();
            assert_eq!(kind(), "application/vnd.oci.image.layer.v1.tar");
            push(&["--compression-format", "zstd:chunked"]).exits(1).complains("zstd:chunked");
            push(&["--compression-format", "lz4"]).exits(1).complains("unknown compression format");
            push(&["--compression-level", "13"]).exits(1).complains("want 1 to 12");
            // What is compressed stays as it is, unless it is said.
            let other = Client::new();
            let (registry, content) = with_app(|_, _| None);
            let name = format!("{}/app:1", registry.host());
            other.call(&["pull", "-q", &name]).ok();
            let before = content.manifest_bytes("app:1");
            other.call(&["push", "-q", "--compression-format", "zstd", &name]).ok();
            assert_eq!(content.manifest_bytes("app:1"), before);
            let force =
                ["push", "-q", "--compression-format", "zstd", "--force-compression", &name];
            other.call(&force).ok();
            let kind = manifest(&content, "app:1")["layers"][0]["mediaType"].clone();
            assert_eq!(kind, "application/vnd.oci.image.layer.v1.tar+zstd");
            let third = Client::new();
            third.call(&["pull", "-q", &name]).ok();
            third.call(&["run", "--rm", &name, "true"]).ok();
        },
    ),
    Case::new("push-platforms", PUSH, "--platform and --all-platforms of an index", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, _| None);
        let host = registry.host();
        let digest = crate::copy::index(&content);
        let name = format!("{host}/app:all");
        client.call(&["pull", "-q", &name]).ok();
        client.call(&["push", "-q", "--all-platforms", &name]).exits(1).complains("is missing");
        client.call(&["pull", "-q", "--platform", "linux/riscv64", &name]).ok();
        let to = format!("{host}/copy:all");
        client.call(&["tag", &name, &to]).ok();
        client.call(&["push", "-q", "--all-platforms", &to]).ok();
        let pushed = content.manifest_bytes("copy:all").expect("it was pushed");
        assert_eq!(format!("sha256:{}", sha256(&pushed)), digest, "byte by byte");
        client.call(&["push", "-q", "--platform", "linux/riscv64", &to]).ok();
        let one = manifest(&content, "copy:all");
        assert!(one["config"].is_object(), "{one}");
        client
            .call(&["push", "--platform", "linux/s390x", &to])
            .exits(1)
            .complains("does not provide the specified platform (linux/s390x)");
    }),
];
