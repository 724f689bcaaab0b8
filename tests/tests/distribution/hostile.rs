//! A registry that lies, stalls, cuts, leads in circles and never ends: an error that says so, in
//! bounded time and memory, and nothing half stored.

use hako_tests::{
    Case,
    registry::{Body, Content, Registry, Reply, Request},
};
use serde_json::json;

use crate::{Client, with_app};

const LIES: &str = "issue: a registry that lies";
const TIME: &str = "issue: a registry that stalls, cuts, loops";
const SIZE: &str = "issue: a registry that sends bombs";

/// A registry that answers requests for the layer like this.
fn layer(
    answer: impl Fn(&Content, Vec<u8>, &Request) -> Reply + Send + Sync + 'static,
) -> Registry {
    let (registry, _) = with_app(move |content, request| {
        let digest = content.largest();
        let is_layer = request.path().ends_with(&format!("/blobs/{digest}"));
        is_layer.then(|| answer(content, content.blob(&digest), request))
    });
    registry
}

/// A registry that answers requests for the manifest like this.
fn manifest(answer: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static) -> Registry {
    let (registry, _) = with_app(move |content, request| {
        let is_manifest = request.path().ends_with("/manifests/1");
        is_manifest.then(|| answer(content.manifest_bytes("app:1").expect("it has one")))
    });
    registry
}

/// The pull fails and says this; nothing is in the store.
#[track_caller]
fn fails(registry: &Registry, text: &str) {
    let client = Client::new();
    client.call(&["pull", &format!("{}/app:1", registry.host())]).exits(1).complains(text);
    client.has_nothing();
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The manifest with something changed.
fn changed(bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Reply {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).expect("our own JSON");
    change(&mut value);
    Reply::new(200, value.to_string()).header("Content-Type", MANIFEST)
}

pub(crate) const CASES: &[Case] = &[
    Case::new("hostile-other-bytes", LIES, "a layer with other bytes than its digest", || {
        let registry = layer(|_, mut bytes, _| {
            bytes[20] ^= 1;
            Reply::new(200, bytes)
        });
        fails(&registry, "content is sha256:");
    }),
    Case::new("hostile-too-long", LIES, "a layer longer than the manifest says", || {
        let registry = layer(|_, mut bytes, _| {
            bytes.push(0);
            Reply::new(200, bytes)
        });
        fails(&registry, "it sends");
    }),
    Case::new("hostile-too-short", LIES, "a layer shorter than the manifest says", || {
        let registry = layer(|_, bytes, _| Reply::new(200, &bytes[..bytes.len() - 1]));
        fails(&registry, "it sends");
    }),
    Case::new("hostile-endless-layer", SIZE, "a layer without end and without a length", || {
        let registry = layer(|_, _, _| Reply::with(200, Body::Endless));
        fails(&registry, "it sends more");
    }),
    Case::new("hostile-wrong-range", LIES, "another range than was asked for", || {
        let registry = layer(|_, bytes, request| match request.header("range") {
            None => Reply::with(200, Body::Cut(bytes[..100_000].to_vec(), bytes.len() as u64)),
            Some(_) => Reply::new(206, bytes).header("Content-Range", "bytes 0-9/10"),
        });
        fails(&registry, "asked for bytes from 100000 on");
    }),
    Case::new("hostile-cuts", TIME, "a connection that breaks each time", || {
        let registry =
            layer(|_, bytes, _| Reply::with(200, Body::Cut(Vec::new(), bytes.len() as u64)));
        fails(&registry, "pulling blob");
        assert!(registry.count("GET /v2/app/blobs/") < 20);
    }),
    Case::new("hostile-stall", TIME, "a connection on which nothing more comes", || {
        let registry = layer(|_, bytes, _| {
            Reply::with(200, Body::Stall(bytes[..1000].to_vec(), bytes.len() as u64))
        });
        fails(&registry, "nothing came for 2 seconds");
    }),
    Case::new("hostile-trickle", TIME, "a byte now and then", || {
        let registry = layer(|_, bytes, _| Reply::with(200, Body::Trickle(bytes.len() as u64)));
        fails(&registry, "nothing came for 2 seconds");
    }),
    Case::new("hostile-redirect-loop", TIME, "redirects that lead to themselves", || {
        let registry = layer(|_, _, request| Reply::redirect(request.target.clone()));
        fails(&registry, "stopped after 10 redirects");
        assert!(registry.count("GET /v2/app/blobs/") < 20);
    }),
    Case::new("hostile-redirect-nowhere", LIES, "redirects to what is no web address", || {
        for to in ["file:///etc/passwd", "ftp://x/y", "http://a b/", "http://u:p@127.0.0.1/"] {
            let registry = layer(move |_, _, _| Reply::redirect(to));
            fails(&registry, "its Location is no address");
        }
    }),
    Case::new(
        "hostile-other-manifest",
        LIES,
        "a manifest with another digest than it says",
        || {
            let registry = manifest(|bytes| {
                let digest = format!("sha256:{}", "0".repeat(64));
                changed(&bytes, |_| {}).header("Docker-Content-Digest", digest)
            });
            fails(&registry, "content is sha256:");
        },
    ),
    Case::new("hostile-endless-manifest", SIZE, "a manifest without end", || {
        fails(&manifest(|_| Reply::with(200, Body::Endless)), "longer than");
    }),
    Case::new("hostile-deep-manifest", SIZE, "a manifest of brackets", || {
        let registry = manifest(|_| {
            let text = "{\"config\":".to_owned() + &"[".repeat(1 << 20);
            Reply::new(200, text).header("Content-Type", MANIFEST)
        });
        fails(&registry, "its manifest is no JSON");
    }),
    Case::new(
        "hostile-two-kinds",
        "CVE-2021-41190",
        "a manifest that is an index by its header",
        || {
            let registry = manifest(|bytes| {
                Reply::new(200, bytes)
                    .header("Content-Type", "application/vnd.oci.image.index.v1+json")
            });
            fails(&registry, "its manifest says it is");
        },
    ),
    Case::new("hostile-page", LIES, "a web page in place of a manifest", || {
        let registry = manifest(|_| Reply::new(200, "<html>").header("Content-Type", "text/html"));
        fails(&registry, "its manifest is no JSON");
    }),
    Case::new("hostile-huge-config", SIZE, "a configuration of a terabyte", || {
        let registry = manifest(|bytes| {
            changed(&bytes, |manifest| manifest["config"]["size"] = json!(1u64 << 40))
        });
        fails(&registry, "more than");
    }),
    Case::new("hostile-layer-count", LIES, "more layers than diff IDs", || {
        let registry = manifest(|bytes| {
            changed(&bytes, |manifest| {
                let layer = manifest["layers"][0].clone();
                manifest["layers"] = json!([layer, layer]);
            })
        });
        fails(&registry, "layers length mismatch");
    }),
    Case::new("hostile-headers", SIZE, "headers without end", || {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        for n in 0..100_000 {
            head.extend_from_slice(format!("x-{n}: {}\r\n", "y".repeat(50)).as_bytes());
        }
        fails(
            &manifest(move |_| Reply::with(200, Body::Raw(head.clone()))),
            "its answer is no HTTP",
        );
    }),
    Case::new("hostile-no-http", LIES, "something that is no HTTP", || {
        let registry = manifest(|_| Reply::with(200, Body::Raw(b"\x00\xffhello\r\n\r\n".to_vec())));
        fails(&registry, "its answer is no HTTP");
    }),
    Case::new(
        "hostile-error-text",
        LIES,
        "an error with control characters, and a long one",
        || {
            let registry = manifest(|_| {
                let text = format!("\u{1b}[2J{}", "x".repeat(20 << 10));
                Reply::error(400, "BAD", &text)
            });
            let client = Client::new();
            let failed = client.call(&["pull", &format!("{}/app:1", registry.host())]);
            failed.exits(1).complains("bad: \\u{1b}[2J");
            assert!(failed.stderr.len() < 2000, "{}", failed.stderr.len());
        },
    ),
    Case::new("hostile-token", SIZE, "a token without end, and one of control characters", || {
        for (body, text) in [
            (Body::Endless, "longer than"),
            (Body::Bytes(b"{\"token\":\"a\\r\\nX: y\"}".to_vec()), "no header may have"),
            (Body::Bytes(b"{}".to_vec()), "no token in its answer"),
        ] {
            let (registry, _) = with_app(move |_, request| {
                if request.path() == "/token" {
                    return Some(Reply::with(200, body.clone()));
                }
                let host = request.header("host").unwrap_or_default();
                let challenge = format!("Bearer realm=\"http://{host}/token\"");
                Some(Reply::error(401, "UNAUTHORIZED", "no").header("WWW-Authenticate", challenge))
            });
            fails(&registry, text);
        }
    }),
    Case::new("hostile-asks-for-ever", TIME, "a registry that no token satisfies", || {
        let (registry, _) = with_app(|_, request| {
            if request.path() == "/token" {
                return Some(Reply::new(200, "{\"token\":\"t\"}"));
            }
            let host = request.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            let denied = Reply::error(401, "DENIED", "requested access to the resource is denied");
            Some(denied.header("WWW-Authenticate", challenge))
        });
        fails(&registry, "repository does not exist or may require 'docker login': denied:");
        assert!(registry.seen().len() < 12, "{}", registry.seen().len());
    }),
];
