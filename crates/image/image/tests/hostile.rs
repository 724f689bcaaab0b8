//! Archives that are broken, odd or made to attack: a clear error, or the right image; and of what
//! is refused nothing stays.

// The tables' closures are changes, whose value means nothing.
#![allow(clippy::unwrap_used, clippy::semicolon_if_nothing_returned, clippy::type_complexity)]

mod common;

use common::{Make, Place, config, docker_archive, file, layer, place, tar};
use hako_image::{Error, Limits, LoadOptions, SaveOptions, Source};
use hako_oci::{Descriptor, Digest, media_type};
use proptest::prelude::*;
use serde_json::{Value, json};

/// An OCI archive of one image of one layer, whose documents `change` may change before they are
/// hashed.
struct Oci {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Value,
    entry: Value,
    more: Vec<Make>,
}

impl Oci {
    fn new() -> Oci {
        let layer = layer("a");
        let config = config(&[&layer]);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, &config),
            "layers": [Descriptor::of(media_type::OCI_LAYER, &layer)],
        });
        Oci { config, layer, manifest, entry: json!({}), more: Vec::new() }
    }

    fn archive(&self) -> Vec<u8> {
        let manifest = self.manifest.to_string().into_bytes();
        let mut entry =
            serde_json::to_value(Descriptor::of(media_type::OCI_MANIFEST, &manifest)).unwrap();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "a:1" });
        for (field, value) in self.entry.as_object().unwrap() {
            entry[field] = value.clone();
        }
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        let mut entries = vec![
            file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            file("index.json", index.to_string()),
        ];
        for blob in [&manifest, &self.config, &self.layer] {
            entries.push(file(
                format!("blobs/sha256/{}", Digest::sha256(blob).hex()),
                blob.as_slice(),
            ));
        }
        for more in &self.more {
            if let Make::File(path, content) = more {
                entries.push(file(path.as_str(), content.as_slice()));
            }
        }
        tar(&entries)
    }
}

/// Loads as a stream and as a file: both must say the same, and leave the same.
fn check(archive: Vec<u8>, expected: Result<&[&str], &str>, what: &str) {
    for stream in [false, true] {
        let place = place();
        let loaded = match stream {
            true => place.load_stream(archive.clone()),
            false => load_file(&place, &archive),
        };
        match (loaded, expected) {
            (Ok(loaded), Ok(names)) => {
                let found: Vec<String> =
                    loaded.iter().flat_map(|l| &l.names).map(|n| n.familiar()).collect();
                assert_eq!(found, names, "{what}, stream: {stream}");
            }
            (Err(e), Err(text)) => {
                assert!(e.to_string().contains(text), "{what}, stream: {stream}: {e}");
                place.assert_tidy(0);
                assert_eq!(place.layers(), 0, "{what}");
                assert_eq!(place.images.list().unwrap(), []);
            }
            (found, _) => panic!("{what}, stream: {stream}: want {expected:?}, got {found:?}"),
        }
    }
}

fn load_file(place: &Place, archive: &[u8]) -> Result<Vec<hako_image::Loaded>, Error> {
    let path = place.dir.path().join("archive");
    std::fs::write(&path, archive).unwrap();
    place.load(&path)
}

#[test]
fn docker_archives() {
    type Change = fn(&mut Vec<Make>);
    let manifest = |change: fn(&mut Value)| {
        let mut archive = docker_archive("a:1", &[&layer("a")]);
        let Make::File(_, bytes) = &archive[0] else { panic!() };
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        archive[0] = file("manifest.json", value.to_string());
        tar(&archive)
    };
    let manifests: [(fn(&mut Value), Result<&[&str], &str>); 18] = [
        (|_| {}, Ok(&["a:1"])),
        (|m| *m = Value::Null, Err("manifest cannot be null")),
        (|m| *m = json!([]), Ok(&[])),
        (|m| *m = json!({}), Err("manifest.json: invalid JSON")),
        (|m| m[0]["RepoTags"] = Value::Null, Ok(&[])),
        (|m| m[0]["RepoTags"] = json!(["a"]), Err("invalid tag \"a\"")),
        (|m| m[0]["RepoTags"] = json!(["A:1"]), Err("invalid tag \"A:1\"")),
        (|m| m[0]["RepoTags"] = json!(["../a:1"]), Err("invalid tag")),
        (|m| m[0]["RepoTags"] = json!(["b:1", "b:1", "c:2"]), Ok(&["b:1", "b:1", "c:2"])),
        (|m| m[0]["Config"] = json!("absent.json"), Err("absent.json is not in it")),
        (|m| m[0]["Config"] = json!(""), Err("is not in it")),
        (
            |m| m[0]["Config"] = json!("0/layer.tar"),
            Err("0/layer.tar: image configuration: invalid JSON"),
        ),
        (|m| m[0]["Config"] = json!("/x/../../config.json"), Ok(&["a:1"])),
        (|m| m[0]["Layers"] = json!([]), Err("layers length mismatch: expected 0, got 1")),
        (|m| m[0]["Layers"] = Value::Null, Err("layers length mismatch: expected 0, got 1")),
        (
            |m| m[0]["Layers"] = json!(["../../../etc/passwd"]),
            Err("../../../etc/passwd is not in it"),
        ),
        (|m| m[0]["Layers"] = json!(["config.json"]), Err("invalid diffID for layer 0: expected")),
        (|m| m[0]["Layers"] = json!(["0"]), Err("0 is not in it")),
    ];
    for (n, (change, expected)) in manifests.into_iter().enumerate() {
        check(manifest(change), expected, &format!("manifest {n}"));
    }

    let changes: [(Change, Result<&[&str], &str>); 13] = [
        // The order of entries means nothing.
        (|a| a.reverse(), Ok(&["a:1"])),
        // The last of two counts, as when it were extracted.
        (|a| a.insert(0, file("manifest.json", "null")), Ok(&["a:1"])),
        (|a| a.push(file("./manifest.json", "null")), Err("manifest cannot be null")),
        (|a| a.push(file("a/../../b", "x")), Err("has a name that leads out of it")),
        (
            |a| a.push(Make::Symlink("0/layer.tar".into(), "../1/layer.tar".into())),
            Err("0/layer.tar is not in it"),
        ),
        (
            |a| a.push(Make::Symlink("config.json".into(), "config.json".into())),
            Err("too many links"),
        ),
        (
            |a| a.push(Make::Symlink("config.json".into(), "/etc/passwd".into())),
            Err("config.json is not in it"),
        ),
        (|a| a.push(Make::Symlink("0".into(), "1".into())), Err("0/layer.tar is not in it")),
        (
            |a| {
                let Make::File(_, bytes) = a.pop().unwrap() else { panic!() };
                a.push(Make::Symlink("0".into(), "./x/../1".into()));
                a.push(Make::HardLink("1/layer.tar".into(), "deep/blob".into()));
                a.push(file("deep/blob", bytes));
            },
            Ok(&["a:1"]),
        ),
        (
            |a| a[1] = file("config.json", "{}"),
            Err("config.json: invalid image JSON, no RootFS key"),
        ),
        (|a| a[1] = file("config.json", r#"{"rootfs":null,"os":"linux"}"#), Err("no RootFS key")),
        (
            |a| {
                a[1] = file(
                    "config.json",
                    r#"{"os":"windows","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#,
                )
            },
            Err("cannot load windows image on linux"),
        ),
        (|a| a[1] = file("config.json", "[".repeat(1 << 20)), Err("invalid JSON")),
    ];
    for (n, (change, expected)) in changes.into_iter().enumerate() {
        let mut archive = docker_archive("a:1", &[&layer("a")]);
        change(&mut archive);
        check(tar(&archive), expected, &format!("change {n}"));
    }
    check(Vec::new(), Err("no images in it"), "nothing at all");
    check(b"this is no tar".to_vec(), Err("invalid archive"), "text");
    check(layer("etc/passwd"), Err("no images in it"), "what export writes");
}

#[test]
fn oci_archives() {
    type Change = fn(&mut Oci);
    let cases: [(Change, Result<&[&str], &str>); 22] = [
        (|_| {}, Ok(&["a:1"])),
        (|o| o.entry = json!({ "size": 1 }), Err("want 1 bytes, got 2")),
        (
            |o| o.entry = json!({ "size": 1_u64 << 40 }),
            Err("more than 8388608 bytes in a document"),
        ),
        (|o| o.entry = json!({ "size": -1 }), Err("index.json: image index: invalid JSON")),
        (
            |o| o.entry = json!({ "digest": "sha256:../x" }),
            Err("index.json: image index: invalid JSON"),
        ),
        (
            |o| o.entry = json!({ "digest": format!("sha256:{}", "0".repeat(64)) }),
            Err("is not in it"),
        ),
        (
            |o| o.entry = json!({ "mediaType": media_type::OCI_INDEX }),
            Err("missing field `manifests`"),
        ),
        (|o| o.entry = json!({ "mediaType": "application/x-signature" }), Ok(&[])),
        (
            |o| {
                o.entry =
                    json!({ "annotations": { "org.opencontainers.image.ref.name": "latest" } })
            },
            Ok(&[]),
        ),
        (
            |o| o.entry = json!({ "annotations": { "io.containerd.image.name": "x" } }),
            Ok(&["x:latest"]),
        ),
        (
            |o| o.entry = json!({ "annotations": { "io.containerd.image.name": "X" } }),
            Err("invalid tag \"X\""),
        ),
        (
            |o| {
                o.entry = json!({ "annotations": { "vnd.docker.reference.type": "attestation-manifest" } })
            },
            Ok(&[]),
        ),
        // Of another platform, but there is no other.
        (
            |o| o.entry = json!({ "platform": { "os": "linux", "architecture": "riscv64" } }),
            Ok(&["a:1"]),
        ),
        (|o| o.manifest["manifests"] = json!([]), Err("ambiguous")),
        (|o| o.manifest["schemaVersion"] = json!(1), Err("unsupported schema version 1")),
        (
            |o| o.manifest["config"]["mediaType"] = json!("application/vnd.helm"),
            Err("is not an image"),
        ),
        (
            |o| o.manifest["layers"][0]["mediaType"] = json!("application/x+encrypted"),
            Err("unsupported media type"),
        ),
        (|o| o.manifest["layers"][0]["size"] = json!(5), Err("want 5 bytes, got")),
        (
            |o| o.manifest["layers"][0]["digest"] = o.manifest["config"]["digest"].clone(),
            Err("bytes, got"),
        ),
        (|o| o.manifest["layers"] = json!([]), Err("layers length mismatch: expected 0, got 1")),
        (
            |o| o.more.push(file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#)),
            Err("unsupported version \"2.0.0\""),
        ),
        (
            |o| {
                let path = format!("blobs/sha256/{}", Digest::sha256(&o.layer).hex());
                let mut other = o.layer.clone();
                other[600] ^= 1;
                o.more.push(file(path, other));
            },
            Err(": content is sha256:"),
        ),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        let mut oci = Oci::new();
        change(&mut oci);
        check(oci.archive(), expected, &format!("case {n}"));
    }
}

#[test]
fn of_an_index_the_image_for_the_platform_is_taken() {
    // (platforms in the index, which are in the archive, which is loaded)
    let cases: [(&[&str], &[usize], Result<usize, &str>); 6] = [
        (&["arm64", "amd64"], &[0, 1], Ok(1)),
        (&["arm64", "amd64"], &[1], Ok(1)),
        // What is not there was left out for a reason; what is there is wanted.
        (&["arm64", "amd64"], &[0], Ok(0)),
        (
            &["arm64", "riscv64"],
            &[0, 1],
            Err("no image for platform linux/amd64; there is linux/arm64, linux/riscv64"),
        ),
        (&["amd64", "amd64"], &[0, 1], Ok(0)),
        (&["arm64"], &[], Err("is not in it")),
    ];
    for (platforms, present, expected) in cases {
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        let (mut manifests, mut ids) = (Vec::new(), Vec::new());
        for (n, architecture) in platforms.iter().enumerate() {
            let layer = layer(&format!("{n}"));
            let mut config: Value = serde_json::from_slice(&config(&[&layer])).unwrap();
            config["architecture"] = json!(architecture);
            let config = config.to_string().into_bytes();
            let manifest = json!({
                "schemaVersion": 2,
                "config": Descriptor::of(media_type::OCI_CONFIG, &config),
                "layers": [Descriptor::of(media_type::OCI_LAYER, &layer)],
            });
            let manifest = manifest.to_string().into_bytes();
            let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
            entry.platform = Some(format!("linux/{architecture}").parse().unwrap());
            manifests.push(entry);
            ids.push(Digest::sha256(&config));
            if present.contains(&n) {
                blobs.extend([layer, config, manifest]);
            }
        }
        let inner = json!({ "schemaVersion": 2, "manifests": manifests }).to_string().into_bytes();
        let mut entry = Descriptor::of(media_type::OCI_INDEX, &inner);
        entry.annotations.insert("io.containerd.image.name".into(), "docker.io/library/m:1".into());
        let target = entry.digest.clone();
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        blobs.push(inner);
        let mut entries = vec![file("index.json", index.to_string())];
        entries.extend(blobs.iter().map(|blob| {
            file(format!("blobs/sha256/{}", Digest::sha256(blob).hex()), blob.as_slice())
        }));
        let place = place();
        match (place.load_stream(tar(&entries)), expected) {
            (Ok(loaded), Ok(n)) => {
                assert_eq!(loaded[0].id, ids[n]);
                // The name stands for the index, and by its digest the image is found.
                let by_digest = format!("m@{target}");
                let image = place.images.resolve(&by_digest).unwrap();
                assert_eq!(image.id(), &ids[n]);
                assert_eq!(image.digests()[0].familiar(), by_digest);
                // It goes out as it came in.
                let mut saved = Vec::new();
                place.images.save(&["m:1"], &SaveOptions::default(), &mut saved).unwrap();
                let other = common::place();
                assert_eq!(other.load_stream(saved).unwrap()[0].id, ids[n]);
            }
            (Err(e), Err(text)) => assert!(e.to_string().contains(text), "{e}"),
            (found, _) => panic!("{platforms:?} {present:?}: {found:?}"),
        }
    }
}

#[test]
fn an_archive_that_ends_too_early_is_refused_wherever_it_ends() {
    let (a, b) = (layer("a"), layer("b"));
    let archive = tar(&docker_archive("a:1", &[&a, &b]));
    // Without the two blocks of zeros at its end it is whole.
    for end in (0..archive.len() - 1024).step_by(509) {
        let place = place();
        let error = place.load_stream(archive[..end].to_vec()).unwrap_err();
        place.assert_tidy(0);
        let known = matches!(
            error,
            Error::Tar(_) | Error::Read(_) | Error::NoLayout | Error::MissingEntry { .. }
        );
        assert!(known, "{end}: {error:?}");
    }
}

#[test]
fn a_compressed_archive_must_be_whole_to_its_last_byte() {
    let archive = tar(&docker_archive("a:1", &[&layer("a")]));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive).unwrap();
    let gzip = gzip.finish().unwrap();
    check(gzip.clone(), Ok(&["a:1"]), "gzip");
    check(gzip[..gzip.len() - 1].to_vec(), Err("cannot read the archive"), "without its end");
    let mut wrong = gzip.clone();
    let crc = wrong.len() - 8;
    wrong[crc] ^= 1;
    check(wrong, Err("cannot read the archive"), "with a wrong checksum");
    check([gzip.clone(), b"garbage".to_vec()].concat(), Err("cannot read the archive"), "followed");
    // Two members are one stream.
    let (one, two) = archive.split_at(archive.len() / 2);
    let members = [one, two].map(|part| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, part).unwrap();
        gzip.finish().unwrap()
    });
    check(members.concat(), Ok(&["a:1"]), "two members");
}

#[test]
fn archives_may_be_compressed_in_other_ways() {
    let archive = tar(&docker_archive("a:1", &[&layer("a")]));
    let zstd = zstd::encode_all(&archive[..], 3).unwrap();
    for (name, compressed) in [("zstd", zstd), ("bzip2", bzip2_of(&archive))] {
        check(compressed.clone(), Ok(&["a:1"]), name);
        let cut = compressed[..compressed.len() - 3].to_vec();
        check(cut, Err("data"), name);
        // A layer that there is no media type for is kept without its compression.
        let mut inner = docker_archive("a:1", &[&layer("a")]);
        inner[2] = file("0/layer.tar", bzip2_of(&layer("a")));
        let place = place();
        place.load_stream(tar(&inner)).unwrap();
        let layers = place.images.resolve("a:1").unwrap().manifest().layers.clone();
        assert_eq!(layers, [Descriptor::of(media_type::OCI_LAYER, &layer("a"))]);
    }
}

fn bzip2_of(bytes: &[u8]) -> Vec<u8> {
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut bzip2, bytes).unwrap();
    bzip2.finish().unwrap()
}

#[test]
fn layers_may_be_compressed_within_an_archive() {
    let plain = layer("a");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut archive = docker_archive("a:1", &[&plain]);
    archive[2] = file("0/layer.tar", gzip.clone());
    check(tar(&archive), Ok(&["a:1"]), "gzip");
    let place = place();
    place.load_stream(tar(&archive)).unwrap();
    let image = place.images.resolve("a:1").unwrap();
    // It is kept as it came.
    assert_eq!(image.manifest().layers[0], Descriptor::of(media_type::OCI_LAYER_GZIP, &gzip));
    archive[2] = file("0/layer.tar", gzip[..gzip.len() - 4].to_vec());
    check(tar(&archive), Err("layer sha256:"), "cut off");
    let other = layer("b");
    archive[1] = file("config.json", config(&[&other]));
    archive[2] = file("0/layer.tar", gzip);
    check(tar(&archive), Err("invalid diffID for layer 0"), "another layer");
}

#[test]
fn an_archive_stays_within_limits() {
    let archive = tar(&docker_archive("a:1", &[&vec![0; 1 << 20]]));
    let load = |limits: Limits| {
        let place = place();
        let options = LoadOptions { limits, ..common::options() };
        let source = Source::Stream(Box::new(std::io::Cursor::new(archive.clone())));
        let error = place.images.load(source, &options).unwrap_err();
        place.assert_tidy(0);
        error
    };
    let few = Limits { entries_max: 2, ..Limits::default() };
    assert!(matches!(load(few), Error::Limit { what: "entries", .. }));
    let small = Limits { bytes_max: 1 << 19, ..Limits::default() };
    assert!(matches!(load(small), Error::Limit { what: "bytes", .. }));
    let long = tar(&[file("x".repeat(20_000), "")]);
    check(long, Err("bytes in names"), "a long name");
    let huge = tar(&[file("manifest.json", vec![b' '; 9 << 20])]);
    check(huge, Err("more than 8388608 bytes in a document"), "a huge document");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is changed in an archive, loading it is an error or a sound image.
    #[test]
    fn changed_bytes_never_leave_a_broken_image(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        oci in any::<bool>(),
    ) {
        let mut archive = match oci {
            true => Oci::new().archive(),
            false => tar(&docker_archive("a:1", &[&layer("a"), &layer("b")])),
        };
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let place = place();
        match place.load_stream(archive) {
            Err(_) => {
                place.assert_tidy(0);
                prop_assert_eq!(place.layers(), 0);
            }
            Ok(loaded) => for loaded in loaded {
                let image = place.images.resolve(loaded.id.hex()).unwrap();
                prop_assert_eq!(&Digest::sha256(image.config_bytes()), image.id());
                prop_assert!(place.images.snapshots().has(&image.chain()));
            },
        }
    }

    /// The order of entries means nothing.
    #[test]
    fn entries_come_in_any_order(order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle()) {
        let (a, b, c) = (layer("a"), layer("b"), layer("c"));
        let archive = docker_archive("a:1", &[&a, &b, &c]);
        let id = Digest::sha256(&config(&[&a, &b, &c]));
        let mut archive: Vec<Option<Make>> = archive.into_iter().map(Some).collect();
        let shuffled: Vec<Make> = order.iter().map(|&n| archive[n].take().unwrap()).collect();
        let place = place();
        prop_assert_eq!(&place.load_stream(tar(&shuffled)).unwrap()[0].id, &id);
    }
}
