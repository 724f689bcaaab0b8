//! `copy` between all kinds of places: the manifest is the same everywhere.

use std::{fs, process::Command};

use hako_tests::{
    Case,
    archive::sha256,
    binary, command,
    image::{Image, architecture, pack},
    registry::Content,
};
use serde_json::json;

use crate::{Client, serving};

const COPY: &str = "skopeo copy(1)";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn app() -> Image {
    let mut image = Image::busybox("app:1");
    image.gzip = true;
    image
}

/// An index of two images in `app:all`; gives its digest.
pub(crate) fn index(content: &Content) -> String {
    let mut entries = Vec::new();
    for architecture in ["riscv64", architecture()] {
        let mut image = app();
        image.config = json!({"Labels": {"for": architecture}, "Cmd": ["sh"]});
        image.architecture = architecture.to_owned();
        let digest = content.add(&image, "app", architecture);
        let size = content.manifest_bytes(&format!("app@{digest}")).map(|bytes| bytes.len());
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    content.put_manifest("app", "all", INDEX, index.to_string().into_bytes())
}

pub(crate) const CASES: &[Case] = &[
    Case::new("copy-round", COPY, "registry, layout, archives, registry: one digest", || {
        let client = Client::new();
        let (registry, content) = serving(Content::of(&app(), "app", "1"), |_, _| None);
        let manifest = content.manifest_bytes("app:1").expect("it is there");
        let digest = format!("Digest: sha256:{}", sha256(&manifest));
        let at = |name: &str| client.hako.place().join(name).display().to_string();
        let places = [
            format!("docker://{}/app:1", registry.host()),
            format!("oci:{}:v1", at("layout")),
            format!("oci-archive:{}:v1", at("layout.tar")),
            format!("docker-archive:{}:app:1", at("docker.tar")),
            format!("docker://{}/copied/app:1", registry.host()),
        ];
        for pair in places.windows(2) {
            client.call(&["copy", &pair[0], &pair[1]]).says(&digest);
        }
        assert_eq!(content.manifest_bytes("copied/app:1"), Some(manifest));
        // What hako and skopeo make of the archive.
        client.call(&["load", "-i", &at("docker.tar")]).says("Loaded image: app:1");
        client.call(&["run", "--rm", "app:1", "cat", "/etc/os-release"]).says("hako-test");
        let mut skopeo = Command::new(binary::tool("skopeo"));
        skopeo.args(["inspect", "--raw", &places[1]]);
        assert_eq!(sha256(command::run(&mut skopeo).ok().as_bytes()), digest[15..]);
    }),
    Case::new("copy-needs-no-store", COPY, "no store is made where none is meant", || {
        let client = Client::new();
        let (registry, _) = serving(Content::of(&app(), "app", "1"), |_, _| None);
        let from = format!("docker://{}/app:1", registry.host());
        let to = format!("oci:{}", client.hako.place().join("layout").display());
        client.call(&["copy", "-q", &from, &to]).prints("");
        assert!(!client.hako.root().exists());
        let temporary = client.hako.place().join("tmp");
        client.call(&["copy", "-q", &to, &to]).ok();
        assert_eq!(fs::read_dir(temporary).expect("our own").count(), 0, "what it used is gone");
    }),
    Case::new("copy-all", COPY, "--all copies an index as it is, else one image of it", || {
        let client = Client::new();
        let content = Content::default();
        let digest = index(&content);
        let (registry, content) = serving(content, |_, _| None);
        let from = format!("docker://{}/app:all", registry.host());
        let to = |tag: &str| format!("docker://{}/copy:{tag}", registry.host());
        client.call(&["copy", "--all", &from, &to("all")]).says(&digest);
        assert_eq!(content.manifest_bytes("app:all"), content.manifest_bytes("copy:all"));
        client.call(&["copy", "--platform", "linux/riscv64", &from, &to("one")]).ok();
        assert_eq!(content.manifest_bytes("app:riscv64"), content.manifest_bytes("copy:one"));
        client.call(&["copy", "--platform", "linux/s390x", &from, &to("x")]).complains("s390x");
    }),
    Case::new("copy-store", COPY, "into the store and out of it", || {
        let client = Client::new();
        let (registry, content) = serving(Content::of(&app(), "app", "1"), |_, _| None);
        let from = format!("docker://{}/app:1", registry.host());
        client.call(&["copy", "-q", &from, "mine:1"]).ok();
        client.call(&["run", "--rm", "mine:1", "cat", "/etc/os-release"]).says("hako-test");
        let to = format!("docker://{}/back:1", registry.host());
        client.call(&["copy", "-q", "mine:1", &to]).ok();
        assert_eq!(content.manifest_bytes("app:1"), content.manifest_bytes("back:1"));
    }),
    Case::new("copy-docker-archive", COPY, "an archive without a manifest gets one", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, _| None);
        let archive = client.hako.place().write("old.tar", pack(&app().docker_archive()));
        let from = format!("docker-archive:{}", archive.display());
        let to = format!("docker://{}/app:1", registry.host());
        client.call(&["copy", "-q", &from, &to]).ok();
        let manifest = content.manifest_bytes("app:1").expect("it was pushed");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["config"]["digest"], app().id());
    }),
    Case::new("copy-wrong-bytes", "issue: a registry that lies", "nothing half is left", || {
        let client = Client::new();
        let (registry, _) = serving(Content::of(&app(), "app", "1"), |content, request| {
            let digest = content.largest();
            let mut bytes = content.blob(&digest);
            bytes[20] ^= 1;
            let reply = hako_tests::registry::Reply::new(200, bytes);
            request.path().ends_with(&digest).then_some(reply)
        });
        let from = format!("docker://{}/app:1", registry.host());
        let layout = client.hako.place().join("layout");
        let archive = client.hako.place().join("layout.tar");
        for to in
            [format!("oci:{}", layout.display()), format!("oci-archive:{}", archive.display())]
        {
            client.call(&["copy", "-q", &from, &to]).exits(1).complains("content is sha256:");
        }
        assert!(!archive.exists() && !layout.join("index.json").exists());
        for entry in fs::read_dir(client.hako.place().path()).expect("our own") {
            let name = entry.expect("our own").file_name();
            assert!(!name.to_string_lossy().contains(".part"), "{name:?}");
        }
    }),
    Case::new("copy-words", COPY, "places that are none", || {
        let client = Client::new();
        client.call(&["copy", "ostree:/x", "oci:y"]).exits(1).complains("is no place for an image");
        client.call(&["copy", "oci:/nonexistent", "oci:y"]).exits(1).complains("/nonexistent");
    }),
];
