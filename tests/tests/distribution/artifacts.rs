//! What registries keep beside images: artifacts, and what is about an image.

use std::sync::atomic::{AtomicBool, Ordering};

use hako_tests::{
    Case,
    archive::sha256,
    registry::{Content, Reply},
};
use serde_json::{Value, json};

use crate::{Client, serving, with_app};

const ARTIFACT: &str = "podman artifact(1)";
const REFERRERS: &str = "distribution: Listing Referrers";
const PUSHING: &str = "distribution: Pushing Manifests with Subject";

/// A file of the client's.
fn file(client: &Client, name: &str, content: &str) -> String {
    client.hako.place().write(name, content).to_string_lossy().into_owned()
}

/// The tag under which clients keep the list for `app:1`.
fn list_tag(content: &Content) -> String {
    let manifest = content.manifest_bytes("app:1").expect("it is there");
    format!("sha256-{}", sha256(&manifest))
}

fn list(content: &Content) -> Value {
    let bytes = content.manifest_bytes(&format!("app:{}", list_tag(content)));
    serde_json::from_slice(&bytes.expect("a list")).expect("JSON")
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "artifact-round",
        ARTIFACT,
        "made, pushed, pulled, taken out: the same files",
        || {
            let client = Client::new();
            let (registry, content) = serving(Content::default(), |_, _| None);
            let name = format!("{}/models/tiny:1", registry.host());
            let (a, b) = (file(&client, "a.txt", "first"), file(&client, "b.json", "{}"));
            let typed = format!("{b}:application/json");
            let made = client.call(&["artifact", "add", "--type", "a/model", &name, &a]);
            assert!(made.ok().starts_with("sha256:"));
            client.call(&["artifact", "add", "--append", &name, &typed]).ok();
            client
                .call(&["artifact", "add", &name, &a])
                .exits(1)
                .complains("artifact already exists");
            client.call(&["artifact", "add", "-a", &name, &a]).exits(1).complains("a.txt");
            client.call(&["artifact", "ls"]).says("REPOSITORY").says("models/tiny");
            client.call(&["artifact", "push", &name]).says("Digest: sha256:");
            let bytes = content.manifest_bytes("models/tiny:1").expect("it was pushed");
            let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(manifest["artifactType"], "a/model");
            assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
            assert_eq!(manifest["layers"][1]["mediaType"], "application/json");
            let other = Client::new();
            let digest = format!("sha256:{}", sha256(&bytes));
            other.call(&["artifact", "pull", "-q", &name]).prints(&digest);
            let inspected = other.call(&["artifact", "inspect", &name]);
            let inspected: Value = serde_json::from_str(inspected.ok()).expect("JSON");
            assert_eq!(inspected["Digest"], digest.as_str());
            assert_eq!(inspected["Manifest"], manifest);
            let out = other.hako.place().directory("out");
            other.call(&["artifact", "extract", &name, &out.to_string_lossy()]).ok();
            assert_eq!(std::fs::read_to_string(out.join("a.txt")).expect("written"), "first");
            assert_eq!(std::fs::read_to_string(out.join("b.json")).expect("written"), "{}");
            let one = out.join("one");
            let words = ["artifact", "extract", "--title", "a.txt", &name, &one.to_string_lossy()];
            other.call(&words).ok();
            assert_eq!(std::fs::read_to_string(one).expect("written"), "first");
            // It is kept while it has a name, and no longer.
            other.call(&["image", "prune", "-a", "-f"]).ok();
            other.call(&["artifact", "inspect", &name]).ok();
            other.call(&["artifact", "rm", &name]).prints(&digest);
            other
                .call(&["artifact", "inspect", &name])
                .exits(1)
                .complains("artifact does not exist");
            other.has_nothing();
        },
    ),
    Case::new(
        "artifact-hostile",
        "issue: failing well",
        "titles that lead out write nothing",
        || {
            let client = Client::new();
            let content = Content::default();
            let blob = b"evil".to_vec();
            let digest = format!("sha256:{}", sha256(&blob));
            let config = b"{}".to_vec();
            let config_digest = format!("sha256:{}", sha256(&config));
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "x/y", "digest": config_digest, "size": 2},
                "layers": [{
                    "mediaType": "x/z", "digest": digest, "size": 4,
                    "annotations": {"org.opencontainers.image.title": "../../evil"},
                }],
            });
            content.blobs.lock().expect("ours").extend([(digest, blob), (config_digest, config)]);
            let kind = "application/vnd.oci.image.manifest.v1+json";
            content.put_manifest("bad", "1", kind, manifest.to_string().into_bytes());
            let (registry, _) = serving(content, |_, _| None);
            let name = format!("{}/bad:1", registry.host());
            client.call(&["artifact", "pull", "-q", &name]).ok();
            let out = client.hako.place().directory("a/b/out");
            client
                .call(&["artifact", "extract", &name, &out.to_string_lossy()])
                .exits(1)
                .complains("leads out of it");
            assert!(!client.hako.place().join("a/evil").exists());
            assert_eq!(std::fs::read_dir(out).expect("ours").count(), 0);
        },
    ),
    Case::new("attach-to-tag", PUSHING, "a registry without lists gets one under a tag", || {
        let client = Client::new();
        let (registry, content) = with_app(|_, _| None);
        let name = format!("{}/app:1", registry.host());
        let sbom = file(&client, "sbom.json", "{}");
        let attach = |kind: &str| {
            let typed = format!("{sbom}:application/json");
            let words = ["artifact", "attach", "-q", "--subject", &name, "--artifact-type", kind];
            let output = client.call(&[&words[..], &["-a", "k=v", &typed]].concat());
            output.ok().trim().to_owned()
        };
        let (first, second) = (attach("a/sbom"), attach("a/signature"));
        let list = list(&content);
        let digests: Vec<&Value> =
            list["manifests"].as_array().expect("a list").iter().map(|e| &e["digest"]).collect();
        assert_eq!(digests, [&json!(first), &json!(second)]);
        assert_eq!(list["manifests"][0]["artifactType"], "a/sbom");
        assert_eq!(list["manifests"][0]["annotations"]["k"], "v");
        let format = ["--format", "{{.Digest}} {{.Type}}"];
        client
            .call(&[&["referrers"], &format[..], &[&name]].concat())
            .prints(&format!("{first} a/sbom\n{second} a/signature"));
        client
            .call(&[&["referrers", "--artifact-type", "a/sbom"], &format[..], &[&name]].concat())
            .prints(&format!("{first} a/sbom"));
        client.call(&["images", "-q"]).prints("");
    }),
    Case::new("attach-together", PUSHING, "what others write meanwhile is not lost", || {
        static FIRST: AtomicBool = AtomicBool::new(true);
        let client = Client::new();
        let (registry, content) = with_app(|content, request| {
            let is_list = request.method == "PUT" && request.path().contains("/manifests/sha256-");
            if !is_list || !FIRST.swap(false, Ordering::SeqCst) {
                return None;
            }
            // Just after this one is written, somebody else writes what he read before.
            let reply = content.answer(request);
            let other = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{}", "a".repeat(64)), "size": 5,
                    "artifactType": "x/other",
                }],
            });
            let tag = request.path().rsplit('/').next().unwrap_or_default();
            let kind = "application/vnd.oci.image.index.v1+json";
            content.put_manifest("app", tag, kind, other.to_string().into_bytes());
            Some(reply)
        });
        let name = format!("{}/app:1", registry.host());
        let note = file(&client, "note", "x");
        let attach = ["artifact", "attach", "--subject", &name, "--artifact-type", "x/mine", &note];
        client.call(&attach).ok();
        let list = list(&content);
        let kinds: Vec<&Value> = list["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|e| &e["artifactType"])
            .collect();
        assert_eq!(kinds, [&json!("x/other"), &json!("x/mine")]);
    }),
    Case::new("attach-if-match", PUSHING, "a list that changed meanwhile is read again", || {
        static WRITES: AtomicBool = AtomicBool::new(true);
        let client = Client::new();
        let (registry, content) = with_app(|content, request| {
            if !request.path().contains("/manifests/sha256-") {
                return None;
            }
            if request.method == "GET" {
                let reply = content.answer(request);
                let mark = if WRITES.load(Ordering::SeqCst) { "\"one\"" } else { "\"two\"" };
                return Some(reply.header("ETag", mark));
            }
            // There is a list, and it is not the one that was read.
            let mark = request.header("if-match").unwrap_or_default().to_owned();
            let stale = mark == "\"one\"" && WRITES.swap(false, Ordering::SeqCst);
            stale.then(|| Reply::error(412, "PRECONDITION", "it changed"))
        });
        let name = format!("{}/app:1", registry.host());
        let note = file(&client, "note", "x");
        let attach = |kind: &str| {
            let words =
                ["artifact", "attach", "-q", "--subject", &name, "--artifact-type", kind, &note];
            client.call(&words).ok();
        };
        attach("x/one");
        attach("x/two");
        assert_eq!(list(&content)["manifests"].as_array().map(Vec::len), Some(2));
        assert!(!WRITES.load(Ordering::SeqCst), "the mark was sent");
    }),
    Case::new("attach-to-api", PUSHING, "a registry that keeps lists itself gets no tag", || {
        let client = Client::new();
        let (registry, content) = with_app(|content, request| {
            let is_put = request.method == "PUT" && request.path().contains("/manifests/sha256:");
            is_put.then(|| content.answer(request).header("OCI-Subject", "sha256:whatever"))
        });
        let name = format!("{}/app:1", registry.host());
        let note = file(&client, "note", "x");
        let attach = ["artifact", "attach", "--subject", &name, "--artifact-type", "x/y", &note];
        client.call(&attach).ok();
        assert_eq!(content.manifest_bytes(&format!("app:{}", list_tag(&content))), None);
    }),
    Case::new(
        "copy-referrers",
        REFERRERS,
        "copy --referrers takes what is about an image along",
        || {
            let client = Client::new();
            let (registry, content) = with_app(|_, _| None);
            let (far, far_content) = serving(Content::default(), |_, _| None);
            let name = format!("{}/app:1", registry.host());
            let note = file(&client, "note", "x");
            let attach = |subject: &str, kind: &str| {
                let words = [
                    "artifact",
                    "attach",
                    "-q",
                    "--subject",
                    subject,
                    "--artifact-type",
                    kind,
                    &note,
                ];
                client.call(&words).ok().trim().to_owned()
            };
            let sbom = attach(&name, "a/sbom");
            // About what is about it.
            let signature = attach(&format!("{}/app@{sbom}", registry.host()), "a/signature");
            let to = format!("docker://{}/copy:1", far.host());
            client.call(&["copy", "-q", "--referrers", &format!("docker://{name}"), &to]).ok();
            for digest in [&sbom, &signature] {
                let there = far_content.manifest_bytes(&format!("copy@{digest}"));
                assert_eq!(there, content.manifest_bytes(&format!("app@{digest}")));
            }
            let listed = format!("{}/copy:1", far.host());
            client.call(&["referrers", "--format", "{{.Digest}}", &listed]).prints(&sbom);
            let layout = format!("oci:{}", client.hako.place().join("layout").display());
            client
                .call(&["copy", "-r", &format!("docker://{name}"), &layout])
                .exits(1)
                .complains("--referrers needs registries on both sides");
        },
    ),
    Case::new("attach-words", ARTIFACT, "what is missing is said", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, _| None);
        let name = format!("{}/app:1", registry.host());
        let note = file(&client, "note", "x");
        client.call(&["artifact", "attach", &note]).exits(1).complains("--subject is missing");
        let attach = |rest: &[&str]| {
            client.call(&[&["artifact", "attach", "--subject", &name], rest].concat())
        };
        attach(&[&note]).exits(1).complains("--artifact-type is missing");
        attach(&["--artifact-type", "x/y"]).exits(1).complains("neither files nor annotations");
        attach(&["--artifact-type", "x/y", "/nonexistent"]).exits(1).complains("open /nonexistent");
        client.call(&["artifact", "pull", "-q", &format!("{}/none:1", registry.host())]).exits(1);
    }),
];
