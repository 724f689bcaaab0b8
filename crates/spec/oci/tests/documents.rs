//! Real and malformed manifests and indexes: each is read as what it is, or refused for its reason.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use hako_oci::image::{Error, ImageConfig, Index, Manifest};
use serde_json::Value;

/// What a document is.
enum Is {
    Manifest {
        layers: usize,
    },
    Index {
        manifests: usize,
    },
    /// Neither, with the beginning of the error as a manifest, and as an index.
    Neither(&'static str, &'static str),
}

const NOT_JSON: &str = "invalid JSON";
const SCHEMA_1: &str = "unsupported schema version 1";

/// File, and what it is.
const DOCUMENTS: &[(&str, Is)] = &[
    ("non-json.manifest.json", Is::Neither(NOT_JSON, NOT_JSON)),
    ("oci1.index.everything.json", Is::Index { manifests: 1 }),
    ("oci1.index.zstd-selection.json", Is::Index { manifests: 6 }),
    ("oci1.index.zstd-selection2.json", Is::Index { manifests: 10 }),
    ("oci1index.json", Is::Index { manifests: 3 }),
    ("ocilist-variants.json", Is::Index { manifests: 6 }),
    // Its configuration's digest is an empty string, which is none.
    ("ociv1.artifact.json", Is::Neither("invalid digest", "missing field `manifests`")),
    ("ociv1.encrypted.manifest.json", Is::Manifest { layers: 3 }),
    ("ociv1.everything.json", Is::Manifest { layers: 1 }),
    ("ociv1.image.index.json", Is::Index { manifests: 2 }),
    ("ociv1.invalid.mediatype.manifest.json", Is::Manifest { layers: 3 }),
    ("ociv1.manifest.json", Is::Manifest { layers: 3 }),
    ("ociv1.nondistributable.gzip.manifest.json", Is::Manifest { layers: 1 }),
    ("ociv1.nondistributable.manifest.json", Is::Manifest { layers: 1 }),
    ("ociv1.nondistributable.zstd.manifest.json", Is::Manifest { layers: 1 }),
    ("ociv1.uncompressed.manifest.json", Is::Manifest { layers: 3 }),
    ("ociv1.zstd.manifest.json", Is::Manifest { layers: 3 }),
    ("ociv1nomime.artifact.json", Is::Neither("invalid digest", "missing field `manifests`")),
    ("ociv1nomime.image.index.json", Is::Index { manifests: 2 }),
    ("ociv1nomime.manifest.json", Is::Manifest { layers: 3 }),
    ("schema2-to-schema1-by-docker.json", Is::Neither(SCHEMA_1, SCHEMA_1)),
    ("schema2list-variants.json", Is::Index { manifests: 4 }),
    ("schema2list.json", Is::Index { manifests: 7 }),
    ("unknown-version.manifest.json", Is::Neither("unsupported schema version 99999", "unsupp")),
    ("v2list.everything.json", Is::Index { manifests: 1 }),
    ("v2list.manifest.json", Is::Index { manifests: 5 }),
    ("v2s1-invalid-signatures.manifest.json", Is::Neither(SCHEMA_1, SCHEMA_1)),
    ("v2s1-unsigned.manifest.json", Is::Neither(SCHEMA_1, SCHEMA_1)),
    ("v2s1.everything.json", Is::Neither(SCHEMA_1, SCHEMA_1)),
    ("v2s1.manifest.json", Is::Neither(SCHEMA_1, SCHEMA_1)),
    ("v2s2.everything.json", Is::Manifest { layers: 1 }),
    ("v2s2.manifest.json", Is::Manifest { layers: 3 }),
    ("v2s2.nondistributable.gzip.manifest.json", Is::Manifest { layers: 1 }),
    ("v2s2.nondistributable.manifest.json", Is::Manifest { layers: 1 }),
    ("v2s2.uncompressed.manifest.json", Is::Manifest { layers: 3 }),
    ("v2s2nomime.manifest.json", Is::Manifest { layers: 0 }),
];

fn data(test: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("HAKO_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data"),
    };
    let dir = root.join("manifests");
    if !dir.exists() {
        eprintln!("SKIP {test}: no {} (set HAKO_TEST_DATA)", dir.display());
        return None;
    }
    Some(dir)
}

#[test]
fn every_document_is_read_as_what_it_is() {
    let Some(dir) = data("every_document_is_read_as_what_it_is") else { return };
    assert_eq!(fs::read_dir(&dir).unwrap().count(), DOCUMENTS.len(), "each has its line");
    for (name, is) in DOCUMENTS {
        let bytes = fs::read(dir.join(name)).unwrap();
        let (manifest, index) = (Manifest::parse(&bytes), Index::parse(&bytes));
        let refused = |error: Error, text: &str| {
            assert!(error.to_string().contains(text), "{name}: {error}");
        };
        match is {
            Is::Manifest { layers } => {
                let manifest = manifest.unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(manifest.layers.len(), *layers, "{name}");
                assert_same(name, &bytes, &serde_json::to_value(&manifest).unwrap());
                index.unwrap_err();
            }
            Is::Index { manifests } => {
                let index = index.unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(index.manifests.len(), *manifests, "{name}");
                assert_same(name, &bytes, &serde_json::to_value(&index).unwrap());
                manifest.unwrap_err();
            }
            Is::Neither(as_manifest, as_index) => {
                refused(manifest.unwrap_err(), as_manifest);
                refused(index.unwrap_err(), as_index);
            }
        }
    }
}

/// Nothing is lost, known or not.
fn assert_same(name: &str, bytes: &[u8], again: &Value) {
    let mut before: Value = serde_json::from_slice(bytes).unwrap();
    drop_empty(&mut before);
    let mut again = again.clone();
    drop_empty(&mut again);
    assert_eq!(before, again, "{name}");
}

/// An empty list or map and none at all mean the same.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, v| match v {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                _ => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

#[test]
fn documents_with_two_meanings_are_refused() {
    let descriptor = serde_json::json!({ "mediaType": "x", "size": 1,
        "digest": format!("sha256:{}", "a".repeat(64)) });
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": descriptor, "layers": [] });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [] });
    let with = |document: &Value, field: &str, value: Value| {
        let mut document = document.clone();
        document[field] = value;
        document.to_string().into_bytes()
    };
    let ambiguous = |e: Error| matches!(e, Error::Ambiguous { .. });
    assert!(ambiguous(
        Manifest::parse(&with(&manifest, "manifests", index["manifests"].clone())).unwrap_err()
    ));
    assert!(ambiguous(Manifest::parse(&with(&manifest, "fsLayers", 1.into())).unwrap_err()));
    assert!(ambiguous(
        Index::parse(&with(&index, "layers", manifest["layers"].clone())).unwrap_err()
    ));
    assert!(ambiguous(Index::parse(&with(&index, "config", descriptor)).unwrap_err()));
    Index::parse(&with(&index, "layers", Value::Null)).unwrap();
    // A type that contradicts the fields.
    let wrong = with(&manifest, "mediaType", hako_oci::media_type::OCI_INDEX.into());
    assert!(matches!(Manifest::parse(&wrong), Err(Error::MediaType { .. })));
    let wrong = with(&index, "mediaType", hako_oci::media_type::DOCKER_MANIFEST.into());
    assert!(matches!(Index::parse(&wrong), Err(Error::MediaType { .. })));
    // The same field twice: which one counts?
    let twice = manifest.to_string().replacen('{', "{\"layers\":[],", 1);
    assert!(matches!(Manifest::parse(twice.as_bytes()), Err(Error::Json { .. })));
}

#[test]
fn bombs_are_errors() {
    let open = |n: usize| format!("{{\"schemaVersion\":2,\"config\":{}", "[".repeat(n));
    for depth in [200, 1 << 20] {
        for bomb in [open(depth), format!("{{\"x\":{}", "{\"a\":".repeat(depth)), "[".repeat(depth)]
        {
            let bytes = bomb.as_bytes();
            Manifest::parse(bytes).unwrap_err();
            Index::parse(bytes).unwrap_err();
            ImageConfig::parse(bytes).unwrap_err();
        }
    }
}

#[test]
fn configurations_are_read_as_go_reads_them() {
    // (`config` field, works)
    let cases = [
        (r#"null"#, true),
        (r#"{}"#, true),
        (r#"{"Env":null,"Cmd":null,"Volumes":null,"Labels":null,"User":null}"#, true),
        (r#"{"Cmd":"one","Entrypoint":["a","b"]}"#, true),
        (r#"{"Volumes":{"/a":{}},"ExposedPorts":{"80/tcp":{}}}"#, true),
        (r#"{"Env":"A=1"}"#, false),
        (r#"{"Cmd":[1]}"#, false),
        (r#"[]"#, false),
    ];
    for (config, works) in cases {
        let text = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":null}},"config":{config}}}"#);
        assert_eq!(ImageConfig::parse(text.as_bytes()).is_ok(), works, "{config}");
    }
    let other = br#"{"rootfs":{"type":"layers+base","diff_ids":[]}}"#;
    assert!(matches!(ImageConfig::parse(other), Err(Error::RootFs(_))));
}
