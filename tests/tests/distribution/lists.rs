//! Lists of images for several platforms, put together here.

use hako_tests::{Case, archive::sha256, command::Output, image::Image, registry::Content};
use serde_json::{Value, json};

use crate::{Client, serving};

const MANIFEST: &str = "docker manifest(1)";
const PODMAN: &str = "podman manifest(1)";

/// A busybox that says it is for this processor.
fn image(architecture: &str) -> Image {
    let mut image = Image::busybox("app:1");
    image.gzip = true;
    image.architecture = architecture.to_owned();
    image.config = json!({"Labels": {"for": architecture}});
    image
}

/// A registry with `app:amd64` and `app:arm64`.
fn two() -> Content {
    let content = Content::default();
    content.add(&image("amd64"), "app", "amd64");
    content.add(&image("arm64"), "app", "arm64");
    content
}

fn parsed(output: &Output) -> Value {
    serde_json::from_str(output.ok()).expect("JSON")
}

fn platforms(list: &Value) -> Vec<String> {
    let entries = list["manifests"].as_array().expect("a list");
    let word =
        |entry: &Value, key: &str| entry["platform"][key].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|e| word(e, "os") + "/" + &word(e, "architecture")).collect()
}

pub(crate) const CASES: &[Case] = &[
    Case::new("manifest-create-push", MANIFEST, "a list of images of the registry", || {
        let client = Client::new();
        let (registry, content) = serving(two(), |_, _| None);
        let host = registry.host();
        let (amd, arm) = (format!("{host}/app:amd64"), format!("{host}/app:arm64"));
        let list = format!("{host}/app:all");
        client
            .call(&["manifest", "create", &list, &amd, &arm])
            .prints(&format!("Created manifest list {list}"));
        let inspected = parsed(&client.call(&["manifest", "inspect", &list]));
        assert_eq!(platforms(&inspected), ["linux/amd64", "linux/arm64"]);
        client
            .call(&["manifest", "annotate", "--variant", "v8", "--os-version", "6", &list, &arm])
            .ok();
        let pushed = client.call(&["manifest", "push", "--purge", &list]);
        let bytes = content.manifest_bytes("app:all").expect("it was pushed");
        assert_eq!(pushed.ok().trim(), format!("sha256:{}", sha256(&bytes)));
        let list_there: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(list_there["manifests"][1]["platform"]["variant"], "v8");
        assert_eq!(list_there["manifests"][1]["platform"]["os.version"], "6");
        // Nothing but the list was sent: its images are there.
        assert_eq!(registry.count("PUT "), 1);
        assert_eq!(registry.count("POST "), 0);
        client.call(&["manifest", "exists", &list]).exits(1);
        client.call(&["pull", "-q", "--platform", "linux/arm64/v8", &list]).ok();
        client.call(&["image", "inspect", "-f", "{{.Architecture}}", &list]).prints("arm64");
    }),
    Case::new(
        "manifest-push-elsewhere",
        PODMAN,
        "its images are copied, mounted where they can be",
        || {
            let client = Client::new();
            let (registry, content) = serving(two(), |_, request| {
                let hidden = request.line().starts_with("HEAD /v2/other/blobs/");
                hidden.then(hidden_blob)
            });
            let (far, far_content) = serving(Content::default(), |_, _| None);
            let host = registry.host();
            let list = "localhost/made:1";
            client.call(&["manifest", "create", list]).ok();
            client
                .call(&["manifest", "add", list, &format!("docker://{host}/app:amd64")])
                .says("sha256:");
            client
                .call(&[
                    "index",
                    "add",
                    "--annotation",
                    "a=b",
                    "--os-features",
                    "x,y",
                    list,
                    &format!("{host}/app:arm64"),
                ])
                .ok();
            client.call(&["manifest", "push", list, &format!("docker://{host}/other:1")]).ok();
            let bytes = content.manifest_bytes("other:1").expect("it was pushed");
            let there: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(there["manifests"][1]["annotations"]["a"], "b");
            assert_eq!(there["manifests"][1]["platform"]["os.features"], json!(["x", "y"]));
            assert!(registry.count("POST /v2/other/blobs/uploads/?mount=") > 0);
            assert_eq!(registry.count("PUT /v2/other/blobs/"), 0, "nothing was sent");
            // Another registry has nothing of it.
            client
                .call(&[
                    "manifest",
                    "push",
                    "-q",
                    "-f",
                    "v2s2",
                    list,
                    &format!("{}/x:1", far.host()),
                ])
                .ok();
            let bytes = far_content.manifest_bytes("x:1").expect("it was pushed");
            let far_list: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(
                far_list["mediaType"],
                "application/vnd.docker.distribution.manifest.list.v2+json"
            );
            for entry in far_list["manifests"].as_array().expect("a list") {
                let digest = entry["digest"].as_str().expect("a digest");
                let child = content.manifest_bytes(&format!("app@{digest}"));
                assert_eq!(
                    far_content.manifest_bytes(&format!("x@{digest}")),
                    child,
                    "byte by byte"
                );
            }
        },
    ),
    Case::new("manifest-local", PODMAN, "images of the store are pushed with their list", || {
        let client = Client::new();
        let (registry, content) = serving(Content::default(), |_, _| None);
        for architecture in ["amd64", "arm64"] {
            let mut image = image(architecture);
            image.names = vec![format!("local:{architecture}")];
            image.gzip = false;
            let archive = client
                .hako
                .place()
                .write("image.tar", hako_tests::image::pack(&image.docker_archive()));
            client.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        }
        let list = format!("{}/app:1", registry.host());
        client.call(&["manifest", "create", &list, "local:amd64", "local:arm64"]).ok();
        client.call(&["manifest", "push", &list]).says("sha256:");
        let bytes = content.manifest_bytes("app:1").expect("it was pushed");
        let there: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(platforms(&there), ["linux/amd64", "linux/arm64"]);
        let digest = there["manifests"][0]["digest"].as_str().expect("a digest");
        let child =
            content.manifest_bytes(&format!("app@{digest}")).expect("pushed before the list");
        let child: Value = serde_json::from_slice(&child).expect("JSON");
        assert_eq!(child["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let other = Client::new();
        other.call(&["pull", "-q", "--platform", "linux/amd64", &list]).ok();
    }),
    Case::new(
        "manifest-all",
        PODMAN,
        "--all takes every image of a list, unknown fields survive",
        || {
            let client = Client::new();
            let content = Content::default();
            crate::copy::index(&content);
            let (registry, content) = serving(content, |_, _| None);
            let from = format!("{}/app:all", registry.host());
            client.call(&["manifest", "create", "--all", "l:1", &from]).ok();
            let list = parsed(&client.call(&["manifest", "inspect", "l:1"]));
            assert_eq!(platforms(&list).len(), 2);
            client.call(&["manifest", "create", "l:2", &from]).ok();
            let one = parsed(&client.call(&["manifest", "inspect", "l:2"]));
            assert_eq!(platforms(&one), [format!("linux/{}", hako_tests::image::architecture())]);
            let digest = list["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
            client.call(&["manifest", "remove", "l:1", &digest]).says("sha256:");
            let rest = parsed(&client.call(&["manifest", "inspect", "l:1"]));
            assert_eq!(platforms(&rest).len(), 1);
            // What an index of a registry says beside what is known stays.
            let bytes = content.manifest_bytes("app:all").expect("it is there");
            let mut odd: Value = serde_json::from_slice(&bytes).expect("JSON");
            odd["manifests"][0]["x-unknown"] = json!({"n": 1.5});
            content.put_manifest("app", "odd", crate::copy::INDEX, odd.to_string().into_bytes());
            client
                .call(&[
                    "manifest",
                    "create",
                    "--all",
                    "l:3",
                    &format!("{}/app:odd", registry.host()),
                ])
                .ok();
            let kept = parsed(&client.call(&["manifest", "inspect", "l:3"]));
            assert_eq!(kept["manifests"][0]["x-unknown"], json!({"n": 1.5}));
        },
    ),
    Case::new("manifest-words", MANIFEST, "what is not there, and what is there already", || {
        let client = Client::new();
        let (registry, _) = serving(two(), |_, _| None);
        let host = registry.host();
        let image = format!("{host}/app:amd64");
        client.call(&["manifest", "create", "l:1", &image]).ok();
        client
            .call(&["manifest", "create", "l:1", &image])
            .exits(1)
            .complains("refusing to amend an existing manifest list with no --amend flag");
        client.call(&["manifest", "create", "--amend", "l:1", &format!("{host}/app:arm64")]).ok();
        let list = parsed(&client.call(&["manifest", "inspect", "l:1"]));
        assert_eq!(platforms(&list).len(), 2);
        client
            .call(&["manifest", "add", "none:1", &image])
            .exits(1)
            .complains("No such manifest: none:1");
        client
            .call(&[
                "manifest",
                "annotate",
                "--os",
                "x",
                "l:1",
                &format!("sha256:{}", "0".repeat(64)),
            ])
            .exits(1)
            .complains("does not exist in l:1");
        client
            .call(&["manifest", "add", "l:1", &format!("{host}/none:1")])
            .exits(1)
            .complains("not found");
        // Of an image, too: what its registry says.
        client.call(&["manifest", "inspect", &image]).says("\"config\"");
        client.call(&["manifest", "exists", "l:1"]).exits(0);
        client.call(&["manifest", "rm", "l:1"]).prints("Untagged: l:1");
        client.call(&["manifest", "rm", "l:1"]).exits(1).complains("No such manifest: l:1");
    }),
];

fn hidden_blob() -> hako_tests::registry::Reply {
    hako_tests::registry::Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry")
}
