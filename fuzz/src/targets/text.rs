//! What a person types, and the small files of a root filesystem.

use std::path::Path;

use hako_bundle::{device, env, files, mount, namespace, quantity, sysctl, ulimit};
use hako_oci::{Digest, Reference};

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

pub(super) fn references() -> Vec<Vec<u8>> {
    let mut seeds = bytes(&[
        "alpine",
        "alpine:3.10",
        "example.org:5000/a/b_c/d--e:v1.2",
        "localhost/x",
        "[::1]:5000/x:y",
    ]);
    seeds.push(format!("a/b:c@sha256:{HEX}").into_bytes());
    seeds
}

/// What is printed parses to the same, in the long and in the short form.
pub(super) fn reference(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
    let familiar = reference.familiar();
    assert_eq!(familiar.parse::<Reference>().as_ref(), Ok(&reference), "{text:?} as {familiar:?}");
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{HEX}");
    let mut seeds = bytes(&[
        "/v2/a/b/tags/list",
        "/v2/a/manifests/v1",
        "/v2/a/blobs/uploads/",
        "n=5&last=v1&artifactType=application/x%2Bjson",
        "bytes=5-9",
        "bytes=-3",
        "bytes 0-4/10",
    ]);
    for path in ["manifests", "blobs", "referrers"] {
        seeds.push(format!("/v2/a/{path}/{}", digest.replace(':', "%3A")).into_bytes());
    }
    seeds
}

pub(super) fn tokens() -> Vec<Vec<u8>> {
    bytes(&[
        "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJpc3N1ZXIiLCJhdWQiOiJzZXJ2aWNlIn0.AAAA",
        r#"{"alg":"RS256","x5c":["MAA="],"jwk":{"x5c":[]},"kid":"a"}"#,
        r#"{"iss":"a","aud":["b"],"exp":1.5,"access":[{"type":"repository","name":"a","actions":["pull"]}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AA","e":"AQAB"}]}"#,
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
        "repository:host:5000/a:pull,push",
    ])
}

/// What nobody signed is not believed, whatever it says.
pub(super) fn token(input: &[u8]) {
    hako_registry::foreign::read(input);
}

/// No request names a file, and no range leaves its content.
pub(super) fn request(input: &[u8]) {
    use hako_registry::request::{Ranged, Route, content_range, query, range, route};
    let Ok(text) = std::str::from_utf8(input) else { return };
    let name = match route(text) {
        Ok(
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Uploads(name)
            | Route::Upload(name, _)
            | Route::Referrers(name, _),
        ) => name,
        _ => {
            query(text);
            for size in [0, 1, 10, u64::MAX] {
                if let Ranged::Part(first, last) = range(Some(text), size) {
                    assert!(first <= last && last < size, "{text:?} of {size}");
                }
            }
            assert!(content_range(text).is_none_or(|(first, last)| first <= last), "{text:?}");
            return;
        }
    };
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    assert!(name.as_str().split('/').all(is_plain), "{text:?}");
}

pub(super) fn digests() -> Vec<Vec<u8>> {
    bytes(&[&format!("sha256:{HEX}"), &format!("sha512:{HEX}{HEX}"), "sha256:", "a+b.c:d"])
}

pub(super) fn digest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(
            digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()),
            "it is a file's name: {text:?}"
        );
    }
}

pub(super) fn flag_values() -> Vec<Vec<u8>> {
    bytes(&[
        "/a:/b:ro,z",
        "type=bind,source=/a,target=/b,readonly,bind-propagation=rshared",
        "type=tmpfs,destination=/x,tmpfs-size=64m,tmpfs-mode=1777",
        "/run:rw,size=64k,mode=1777",
        "nofile=100:200",
        "net.ipv4.ip_forward=1",
        "/dev/zero:/dev/x:rwm",
        "c 1:* rwm",
        "1.5g",
        "0.25",
        "container:web",
        "NAME=value",
        "host:10.0.0.1",
        "# comment\nA=1\n\nB\n",
    ])
}

/// Every grammar of a flag of `run` takes or refuses any text.
pub(super) fn flags(input: &[u8]) {
    drop(env::parse_file(input, |_| None));
    drop(env::parse_label_file(input));
    let Ok(text) = std::str::from_utf8(input) else { return };
    let directory = Path::new("/work dir");
    drop(mount::parse_volume(text, directory));
    drop(mount::parse_mount(text, directory));
    drop(mount::parse_tmpfs(text));
    drop(device::parse(text));
    drop(device::parse_rule(text));
    drop(env::parse(text, |_| None));
    drop(env::parse_label(text));
    drop(files::parse_extra_host(text));
    drop(files::parse_dns(text));
    drop(namespace::parse_network(text));
    drop(namespace::parse_pid(text));
    drop(namespace::parse_ipc(text));
    drop(namespace::parse_uts(text));
    drop(namespace::parse_userns(text));
    drop(namespace::parse_cgroupns(text));
    drop(sysctl::parse(text));
    drop(ulimit::parse(text));
    if let Ok(bytes) = quantity::parse_bytes(text) {
        assert!(bytes >= 0, "{text:?} is {bytes}");
    }
    drop(quantity::parse_bytes_or_unlimited(text));
    drop(quantity::parse_cpus(text));
}

pub(super) fn user_files() -> Vec<Vec<u8>> {
    bytes(&[
        "app\nroot:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n\0root:x:0:\naudio:x:29:app\n",
        "1000:audio\n:::\nx:x:x:x:x:x:x\n\0audio:x:4294967295:\n",
        "0\n\0",
    ])
}

/// First line: the user asked for; up to a zero byte: passwd; behind it: group.
pub(super) fn users(input: &[u8]) {
    let (wanted, rest) = split(input, b'\n');
    let (passwd, group) = split(rest, 0);
    let Ok(wanted) = std::str::from_utf8(wanted) else { return };
    if let Ok(user) = hako_bundle::resolve_user(wanted, passwd, group) {
        let shown = format!("{user:?}");
        // A line break would be a second variable, or a second entry.
        assert!(!shown.contains("\\n"), "{shown}");
    }
}

fn split(bytes: &[u8], at: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == at) {
        Some(place) => (&bytes[..place], &bytes[place + 1..]),
        None => (bytes, &[]),
    }
}

/// What registries say: errors, challenges, places, ranges, pages.
pub(super) fn answers() -> Vec<Vec<u8>> {
    [
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
        r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push""#,
        "Basic realm=\"x\", Bearer realm=y",
        "/v2/a/blobs/uploads/uuid?_state=abc",
        "https://store.example:8443/blob?signature=x%2By&expires=1",
        "//[::1]:5000/x",
        "bytes 5-9/10",
        "0-99",
        "</v2/a/tags/list?last=x&n=2>; rel=\"next\"",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// Nothing of it may panic, and an address that was read is one.
pub(super) fn answer(input: &[u8]) {
    hako_remote::foreign::read(input);
}
