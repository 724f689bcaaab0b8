//! Real archives: each gives the images that Docker gives, or Docker's error.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Make, data, file, layer, place, tar};

const ALPINE_310: &str = "sha256:af341ccd2df8b0e2d67cf8dd32e087bfda4e5756ebd1c76bbf3efa0dc246590e";
const ALPINE_311: &str = "sha256:a187dde48cd289ac374ad8539930628314bc581a481cdb41409c9289419ddb72";
const HELLO: &str = "sha256:ee301c921b8aadc002973b2e0c3da17d701dcd994b606769a7e6eaa100b81d44";
const ONE: &str = "sha256:6e0b05049ed9c17d02e1a55e80d6599dbfcce7f4f4b022e3c673e685789c470e";
const TWO: &str = "sha256:930705ce23e3b6ed4c08746b6fe880089c864fbaf62482702ae3fdd66b8c7fe9";
const THREE: &str = "sha256:d4c9adacde69c3d92446e0484cea29493e9fd573cf0c8febfc700d80c46697a4";

/// Archive, and its images with their names; or the error.
type Case =
    (&'static str, Result<&'static [(&'static str, &'static [&'static str])], &'static str>);

const CASES: &[Case] = &[
    ("alpine-310.tar.gz", Ok(&[(ALPINE_310, &["alpine:3.10"])])),
    ("alpine-311.tar.gz", Ok(&[(ALPINE_311, &["alpine:3.11"])])),
    ("hello-world-v25.tar", Ok(&[(HELLO, &[])])),
    ("test_image_1.tar", Ok(&[(ONE, &["bazel/v1/tarball:test_image_1"])])),
    ("test_image_2.tar", Ok(&[(TWO, &["bazel/v1/tarball:test_image_2"])])),
    ("test_load_manifest.tar", Ok(&[(ONE, &["bazel/v1/tarball:test_image_1"])])),
    (
        "test_link.tar",
        Ok(&[
            (ONE, &["bazel/v1/tarball:test_image_1"]),
            (THREE, &["bazel/v1/tarball:test_image_3"]),
        ]),
    ),
    // Of the oldest layout: it has no configuration, so its ID is that of the one Docker makes.
    ("no_manifest.tar", Ok(&[(LEGACY, &["bazel/v1/tarball:test_image"])])),
    ("null_manifest.tar", Err("invalid manifest, manifest cannot be null (but can be [])")),
    ("test_bundle.tar", Err("invalid tag \"test_image_2\"")),
];

/// Digest of the configuration that Docker's loader makes of `no_manifest.tar`.
const LEGACY: &str = "sha256:a2673db3c3d86a802c915e140274aed9d62464681af1371c881d7f5821b05645";

#[test]
fn every_archive_gives_what_docker_gives() {
    let Some(dir) = data("every_archive_gives_what_docker_gives", "archives") else { return };
    for (name, expected) in CASES {
        for stream in [false, true] {
            let place = place();
            let path = dir.join(name);
            let loaded = match stream {
                false => place.load(&path),
                true => place.load_stream(std::fs::read(&path).unwrap()),
            };
            let loaded = match (loaded, expected) {
                (Err(e), Err(text)) => {
                    assert_eq!(e.to_string(), *text, "{name}");
                    place.assert_tidy(0);
                    assert_eq!(place.layers(), 0, "{name}");
                    continue;
                }
                (loaded, _) => loaded.unwrap_or_else(|e| panic!("{name}: {e:?}")),
            };
            let found: Vec<(String, Vec<String>)> = loaded
                .iter()
                .map(|l| (l.id.to_string(), l.names.iter().map(|n| n.familiar()).collect()))
                .collect();
            let expected: Vec<(String, Vec<String>)> = expected
                .unwrap()
                .iter()
                .map(|(id, names)| (id.to_string(), names.iter().map(|n| n.to_string()).collect()))
                .collect();
            assert_eq!(found, expected, "{name} stream {stream}");
            for (id, names) in &found {
                for name in names.iter().chain([id]) {
                    assert_eq!(place.images.resolve(name).unwrap().id().to_string(), *id);
                }
            }
        }
    }
}

/// The same images as before `manifest.json` was written. The IDs are those that Docker 20.10 gives.
const LEGACY_CASES: &[(&str, &[(&str, &str)])] = &[
    (
        "alpine-310.tar.gz",
        &[(
            "alpine:3.10",
            "sha256:692833713fef708a5c07d21fd1c1825cdd0d44bfd1528f54c7e906f4733f8e35",
        )],
    ),
    (
        "test_link.tar",
        &[
            (
                "bazel/v1/tarball:test_image_3",
                "sha256:078d4b35e85b85553546e22c4b60c690b2cbc6a6a82d04987d6c22116dadaf35",
            ),
            (
                "bazel/v1/tarball:test_image_1",
                "sha256:95760bd3e157684eb15fb2e0ec854eb83cda22ed2a07114c9d173a633e2ebaab",
            ),
        ],
    ),
];

#[test]
fn images_of_the_oldest_layout_get_the_ids_that_docker_gives() {
    let test = "images_of_the_oldest_layout_get_the_ids_that_docker_gives";
    let Some(dir) = data(test, "archives") else { return };
    for (name, expected) in LEGACY_CASES {
        let old = without_manifest(&std::fs::read(dir.join(name)).unwrap());
        let place = place();
        let loaded = place.load_stream(old).unwrap();
        assert_eq!(loaded.len(), expected.len());
        for (name, id) in *expected {
            assert_eq!(place.images.resolve(name).unwrap().id().to_string(), *id, "{name}");
        }
    }
}

/// The archive without `manifest.json` and configurations.
fn without_manifest(archive: &[u8]) -> Vec<u8> {
    let (_, tar) = hako_layer::decompress(archive).unwrap();
    let mut reader = hako_tar::Reader::new(std::io::BufReader::new(tar));
    let mut writer = hako_tar::Writer::new(Vec::new());
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let header = entry.header().clone();
        if !header.path.contains(&b'/') && header.path.ends_with(b".json") {
            continue;
        }
        writer.append(&header, &mut entry).unwrap();
    }
    writer.finish().unwrap()
}

/// Two layers whose `json`s have what makes Go write JSON unlike others: characters of HTML, white
/// space, fractions of seconds, unknown fields before and after Docker kept them.
fn legacy_archive() -> Vec<Make> {
    let one = r#"{ "id": "1111", "created": "2015-01-02T03:04:05.678900000Z",
        "comment": "a <b> & c", "container_config": { "Hostname": "h",
        "Cmd": ["/bin/sh", "-c", "echo <x> && y"], "Labels": {"a":"b"}, "ExposedPorts": {"80/tcp":{}} },
        "config": null, "Unknown": {"z": 1}, "os": "linux", "Size": 5 }"#;
    let two = "{ \"id\": \"2222\", \"parent\": \"1111\", \"docker_version\": \"1.9.1\",
        \"created\": \"2015-01-02T03:04:06.100Z\", \"author\": \"me\",
        \"container_config\": { \"Cmd\": [\"x > y\"] },
        \"config\": { \"Cmd\": \"one string\", \"Env\": [\"A=\u{2028}\"] },
        \"Unknown\": { \"z\": 1.0, \"y\": \"<>\" }, \"throwaway\": true, \"os\": \"linux\" }";
    let repositories = r#"{"made":{"one":"1111","two":"2222"}}"#;
    vec![
        file("2222/json", two),
        file("2222/layer.tar", layer("two")),
        file("1111/json", one),
        file("1111/layer.tar", layer("one")),
        file("repositories", repositories),
    ]
}

#[test]
fn configurations_are_made_as_go_writes_them() {
    let place = place();
    let loaded = place.load_stream(tar(&legacy_archive())).unwrap();
    // As Docker 20.10 loads this very archive.
    let ids: Vec<String> = loaded.iter().map(|l| l.id.to_string()).collect();
    assert_eq!(ids, MADE);
}

const MADE: [&str; 2] = [
    "sha256:5beca7c1357d9ae82dfa1a5da06c356c8b2395dd58f2b12455a2b6005808b63b",
    "sha256:60c37d82dac9eecaf33f009eefaeb0c303a6dd1149f7b71ff9c4094dc3b909ee",
];

#[test]
fn broken_archives_of_the_oldest_layout_are_refused() {
    type Change = fn(&mut Vec<Make>);
    let cases: [(Change, &str); 5] = [
        (|a| a[4] = file("repositories", r#"{"x":{"y":"3333"}}"#), "invalid target ID: 3333"),
        (|a| drop(a.remove(2)), "invalid archive: 1111/json is not in it"),
        (|a| drop(a.remove(1)), "invalid archive: 2222/layer.tar is not in it"),
        (|a| a[2] = file("1111/json", r#"{"parent":"2222"}"#), "layer 1111 is its own ancestor"),
        (|a| a[4] = file("repositories", r#"{"X":{"y":"1111"}}"#), "invalid tag \"X:y\""),
    ];
    for (change, text) in cases {
        let mut archive = legacy_archive();
        change(&mut archive);
        let place = place();
        assert_eq!(place.load_stream(tar(&archive)).unwrap_err().to_string(), text);
        place.assert_tidy(0);
    }
}
