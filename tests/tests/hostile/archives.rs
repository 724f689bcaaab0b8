//! Attacks by the archive around an image: names, links, digests, sizes.

use hako_tests::{
    Case,
    archive::{Entry, gzip, tar},
    image::{Files, Image, busybox_layer, pack},
};
use serde_json::{Value, json};

use super::Attack;

const ARCHIVE: &str = "SECURITY I: archives";

fn image() -> Image {
    Image::new("evil:1", vec![busybox_layer()])
}

/// Changes a JSON file of the archive.
fn change(files: &mut Files, name: &str, change: impl FnOnce(&mut Value)) {
    let file = files.iter_mut().find(|(file, _)| file == name).expect("the file is in the archive");
    let mut value = serde_json::from_slice(&file.1).expect("it is JSON");
    change(&mut value);
    file.1 = value.to_string().into_bytes();
}

/// The same, and what it describes: a blob gets the name of its new content, all the way up.
fn set(files: &mut Files, name: &str, content: Vec<u8>) {
    files.iter_mut().find(|(file, _)| file == name).expect("the file is in the archive").1 =
        content;
}

fn blob_of(files: &Files, what: &str) -> String {
    let (_, index) = files.iter().find(|(name, _)| name == "index.json").expect("an index");
    let index: Value = serde_json::from_slice(index).expect("it is JSON");
    let path = |digest: &Value| {
        format!("blobs/sha256/{}", digest.as_str().expect("a digest").trim_start_matches("sha256:"))
    };
    let manifest = path(&index["manifests"][0]["digest"]);
    if what == "manifest" {
        return manifest;
    }
    let (_, content) = files.iter().find(|(name, _)| *name == manifest).expect("a manifest");
    let value: Value = serde_json::from_slice(content).expect("it is JSON");
    path(if what == "config" { &value["config"]["digest"] } else { &value["layers"][0]["digest"] })
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "archive-layer-outside",
        ARCHIVE,
        "a manifest that names files of the host is refused",
        || {
            for absolute in [true, false] {
                let attack = Attack::new();
                let path = if absolute { attack.path() } else { attack.climbing() };
                let mut files = image().docker_archive();
                change(&mut files, "manifest.json", |value| {
                    value[0]["Layers"][0] = json!(format!("{path}/file"));
                });
                let output = attack.load_files(&files);
                attack.refused(&output);
                let mut files = image().docker_archive();
                change(&mut files, "manifest.json", |value| {
                    value[0]["Config"] = json!(format!("{path}/file"));
                });
                let output = attack.load_files(&files);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-layer-is-a-link",
        ARCHIVE,
        "a layer that is a link to a file of the host is refused",
        || {
            for kind in [b'1', b'2'] {
                let attack = Attack::new();
                let files = image().docker_archive();
                let entries: Vec<Entry> = files
                    .iter()
                    .map(|(name, data)| match name.ends_with("layer.tar") {
                        true => Entry {
                            kind,
                            link: format!("{}/file", attack.path()).into_bytes(),
                            ..Entry::file(name, 0o644, "")
                        },
                        false => Entry::file(name, 0o644, data.clone()),
                    })
                    .collect();
                let output = attack.load_bytes(&tar(&entries));
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-entries-outside",
        ARCHIVE,
        "entries with climbing names write nothing",
        || {
            let attack = Attack::new();
            let mut files = image().docker_archive();
            files.insert(0, (format!("{}/new", attack.climbing()), b"x".to_vec()));
            files.push((format!("{}/new", attack.path()), b"x".to_vec()));
            attack.load_files(&files);
        },
    ),
    Case::new(
        "archive-names",
        ARCHIVE,
        "hostile names are refused, or never shown as they are",
        || {
            for name in
                ["../../x:1", "a\nb:1", "\u{1b}[2Jx:1", "UPPER:1", "x:..", "-rf:1", "a:b:c:d", ""]
            {
                let attack = Attack::new();
                let mut evil = image();
                evil.names = vec![name.to_owned()];
                attack.load_image(&evil);
                let listed = attack.hako.call(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
                assert!(
                    !listed.ok().contains(['\u{1b}', '\0']) && !listed.stdout.contains("a\nb"),
                    "{listed}"
                );
            }
        },
    ),
    Case::new("archive-name-of-10-MB", ARCHIVE, "a name of 10 MB is refused", || {
        let attack = Attack::new();
        let mut evil = image();
        evil.names = vec!["x".repeat(10 << 20)];
        attack.load_image(&evil).fails();
    }),
    Case::new(
        "archive-diff-id",
        ARCHIVE,
        "a layer that is not what the configuration says is refused",
        || {
            let attack = Attack::new();
            let mut files = image().docker_archive();
            let config =
                files.iter().find(|(name, _)| name.ends_with(".json") && name != "manifest.json");
            let config = config.expect("a configuration").0.clone();
            change(&mut files, &config, |value| {
                value["rootfs"]["diff_ids"][0] = json!(format!("sha256:{}", "0".repeat(64)));
            });
            let output = attack.load_files(&files);
            attack.refused(&output);
        },
    ),
    Case::new(
        "archive-diff-ids-count",
        ARCHIVE,
        "more or fewer layers than the configuration says are refused",
        || {
            for layers in [json!([]), json!(null)] {
                let attack = Attack::new();
                let mut files = image().docker_archive();
                change(&mut files, "manifest.json", |value| value[0]["Layers"] = layers);
                let output = attack.load_files(&files);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-blob-digest",
        ARCHIVE,
        "a blob whose content has another digest is refused",
        || {
            for what in ["manifest", "config", "layer"] {
                let attack = Attack::new();
                let mut files = image().oci_layout();
                let name = blob_of(&files, what);
                let mut content =
                    files.iter().find(|(file, _)| *file == name).expect("the blob").1.clone();
                let last = content.len() - 1;
                content[last] = content[last].wrapping_add(1);
                set(&mut files, &name, content);
                let output = attack.load_files(&files);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-blob-size",
        ARCHIVE,
        "a blob of another size than its descriptor says is refused",
        || {
            for size in [json!(1), json!(-1), json!(u64::MAX), json!("5"), json!(1_u64 << 40)] {
                let attack = Attack::new();
                let mut files = image().oci_layout();
                change(&mut files, "index.json", |value| value["manifests"][0]["size"] = size);
                let output = attack.load_files(&files);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-blob-missing",
        ARCHIVE,
        "a blob that is not there is an error that names it",
        || {
            for what in ["manifest", "config", "layer"] {
                let attack = Attack::new();
                let mut files = image().oci_layout();
                let name = blob_of(&files, what);
                files.retain(|(file, _)| *file != name);
                let output = attack.load_files(&files);
                attack.refused(&output);
                output.complains(&name[13..25]);
            }
        },
    ),
    Case::new(
        "archive-digest-is-a-path",
        "CVE-2021-41103 and kin",
        "a digest that is a path is refused",
        || {
            let attack = Attack::new();
            let path = attack.climbing();
            for digest in [
                format!("sha256:{path}/file"),
                format!("{path}:x"),
                "sha256:..".to_owned(),
                "md5:x".to_owned(),
            ] {
                let mut files = image().oci_layout();
                change(&mut files, "index.json", |value| {
                    value["manifests"][0]["digest"] = json!(digest);
                });
                let output = attack.load_files(&files);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-manifest-and-index",
        "CVE-2021-41190",
        "a manifest that is an index too is refused",
        || {
            let attack = Attack::new();
            let mut files = image().oci_layout();
            let name = blob_of(&files, "manifest");
            let mut manifest: Value = serde_json::from_slice(
                &files.iter().find(|(file, _)| *file == name).expect("it").1,
            )
            .expect("JSON");
            manifest["manifests"] = json!([{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                                       "digest": format!("sha256:{}", "0".repeat(64)), "size": 2}]);
            let content = manifest.to_string().into_bytes();
            let hex = hako_tests::archive::sha256(&content);
            let size = content.len();
            files.retain(|(file, _)| *file != name);
            files.push((format!("blobs/sha256/{hex}"), content));
            change(&mut files, "index.json", |value| {
                value["manifests"][0]["digest"] = json!(format!("sha256:{hex}"));
                value["manifests"][0]["size"] = json!(size);
            });
            let output = attack.load_files(&files);
            attack.refused(&output);
        },
    ),
    Case::new("archive-index-of-itself", ARCHIVE, "an index that contains itself ends", || {
        let attack = Attack::new();
        let mut files = image().oci_layout();
        change(&mut files, "index.json", |value| {
            value["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
        });
        let output = attack.load_files(&files);
        attack.refused(&output);
    }),
    Case::new(
        "archive-truncated",
        ARCHIVE,
        "an archive that ends in the middle is refused",
        || {
            let bytes = pack(&image().docker_archive());
            let attack = Attack::new();
            for count in [1, 511, 513, 2000, bytes.len() / 2, bytes.len() - 3000] {
                let output = attack.load_bytes(&bytes[..count]);
                attack.refused(&output);
            }
            let packed = gzip(&bytes);
            for count in [1, 9, 10, 100, packed.len() / 2, packed.len() - 1] {
                let output = attack.load_bytes(&packed[..count]);
                attack.refused(&output);
            }
        },
    ),
    Case::new(
        "archive-file-twice",
        ARCHIVE,
        "of two manifests one counts, and the result is sound",
        || {
            let attack = Attack::new();
            let mut files = image().docker_archive();
            files.push(("manifest.json".to_owned(), b"[]".to_vec()));
            attack.load_files(&files);
        },
    ),
    Case::new(
        "archive-unknown-compression",
        ARCHIVE,
        "what looks compressed and is not is refused",
        || {
            let attack = Attack::new();
            for magic in
                [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9", b"\x04\x22\x4d\x18"]
            {
                let mut bytes = magic.to_vec();
                bytes.extend([0xa5; 4000]);
                let output = attack.load_bytes(&bytes);
                attack.refused(&output);
            }
        },
    ),
];
