//! Pulling from a registry that behaves, and from one that has its moods.

use std::{
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use hako_tests::{
    Case, command,
    image::{Image, architecture},
    registry::{Body, Content, Reply, Request},
};
use serde_json::json;

use crate::{Client, large, serving, with_app};

const PULL: &str = "docker pull(1)";
const SPEC: &str = "distribution: Pull";
const CONF: &str = "registries.conf(5)";

pub(crate) const CASES: &[Case] = &[
    Case::new("pull-says-what-docker-says", PULL, "lines, digest and status as Docker's", || {
        let client = Client::new();
        let (registry, content) = with_app(|_, _| None);
        let name = format!("{}/app:1", registry.host());
        let layer = content.largest();
        let short = &layer[7..19];
        let pulled = client.call(&["pull", &name]);
        let lines: Vec<&str> = pulled.ok().lines().collect();
        assert_eq!(lines[0], "1: Pulling from app");
        assert!(lines.contains(&format!("{short}: Pulling fs layer").as_str()), "{lines:?}");
        assert!(lines.contains(&format!("{short}: Pull complete").as_str()), "{lines:?}");
        let end = lines.len();
        assert!(lines[end - 3].starts_with("Digest: sha256:"), "{lines:?}");
        assert_eq!(lines[end - 2], format!("Status: Downloaded newer image for {name}"));
        assert_eq!(lines[end - 1], name);
        let again = client.call(&["pull", &name]);
        again.says(&format!("Status: Image is up to date for {name}"));
        client.call(&["pull", "-q", &name]).prints(&name);
        client.call(&["run", "--rm", &name, "cat", "/etc/os-release"]).says("hako-test");
    }),
    Case::new("pull-default-tag", PULL, "a name without tag means latest, and says so", || {
        let client = Client::new();
        let (registry, _) = serving(Content::of(&large(), "app", "latest"), |_, _| None);
        let name = format!("{}/app", registry.host());
        client.call(&["pull", &name]).says("Using default tag: latest");
    }),
    Case::new("pull-again-asks-once", SPEC, "an image that is here costs one HEAD", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, _| None);
        let name = format!("{}/app:1", registry.host());
        client.call(&["pull", "-q", &name]).ok();
        let before = registry.seen().len();
        client.call(&["pull", "-q", &name]).ok();
        let after: Vec<String> = registry.seen()[before..].iter().map(Request::line).collect();
        assert_eq!(after, ["GET /v2/", "HEAD /v2/app/manifests/1"]);
    }),
    Case::new("pull-by-digest", PULL, "by digest: no tag, and its digest is kept", || {
        let client = Client::new();
        let content = Content::default();
        let digest = content.add(&large(), "app", "1");
        let (registry, _) = serving(content, |_, _| None);
        let name = format!("{}/app@{digest}", registry.host());
        client.call(&["pull", &name]).says(&format!("Digest: {digest}"));
        client.call(&["images", "--digests"]).says(&digest).says("<none>");
        let format = "{{json .RepoDigests}} {{json .RepoTags}}";
        let inspected = client.call(&["image", "inspect", "-f", format, &name]);
        inspected.prints(&format!("[\"{name}\"] []"));
        client.call(&["rmi", &name]).says("Untagged").says("Deleted");
        client.has_nothing();
    }),
    Case::new("pull-platform", PULL, "the image of an index that fits, or was asked for", || {
        let client = Client::new();
        let content = Content::default();
        let mut entries = Vec::new();
        for architecture in ["riscv64", architecture()] {
            let mut image = large();
            image.config = json!({"Labels": {"for": architecture}});
            let digest = content.add(&image, "app", architecture);
            let size = content.manifest_bytes(&format!("app@{digest}")).map(|bytes| bytes.len());
            entries.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            }));
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        let digest = content.put_manifest("app", "1", kind, index.to_string().into_bytes());
        let (registry, _) = serving(content, |_, _| None);
        let name = format!("{}/app:1", registry.host());
        // What the name stands for is the index.
        client.call(&["pull", &name]).says(&format!("Digest: {digest}"));
        let format = "{{index .Config.Labels \"for\"}}";
        client.call(&["image", "inspect", "-f", format, &name]).prints(architecture());
        let other = client.call(&["pull", "--platform", "linux/s390x", &name]);
        other.exits(1).complains("no image for platform linux/s390x");
    }),
    Case::new("pull-all-tags", PULL, "-a pulls every tag", || {
        let client = Client::new();
        let content = Content::of(&large(), "app", "1");
        content.add(&Image::busybox("app:2"), "app", "2");
        let (registry, _) = serving(content, |_, _| None);
        let name = format!("{}/app", registry.host());
        client.call(&["pull", "-a", "-q", &name]).ok();
        client.call(&["images", "--format", "tag={{.Tag}}"]).says("tag=1").says("tag=2");
        client.call(&["pull", "-a", &format!("{name}:1")]).fails();
    }),
    Case::new(
        "run-pulls-what-is-missing",
        "docker run(1)",
        "--pull missing, always, never",
        || {
            let client = Client::new();
            let (registry, _) = with_app(|_, _| None);
            let name = format!("{}/app:1", registry.host());
            client.call(&["run", "--rm", "--pull", "never", &name, "true"]).exits(125);
            assert_eq!(registry.seen().len(), 0);
            let ran = client.call(&["run", "--rm", &name, "echo", "hello"]);
            ran.exits(0);
            assert!(
                ran.stderr.contains(&format!("Unable to find image '{name}' locally")),
                "{ran}"
            );
            assert_eq!(ran.stdout, "hello\n", "standard output is the container's alone");
            let before = registry.seen().len();
            client.call(&["run", "--rm", &name, "true"]).ok();
            assert_eq!(registry.seen().len(), before, "an image that is here asks nobody");
            client.call(&["run", "--rm", "-q", "--pull", "always", &name, "true"]).ok();
            assert!(registry.seen().len() > before);
        },
    ),
    Case::new("pull-absent", PULL, "what is not there is said in Docker's words", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, _| None);
        let host = registry.host();
        client
            .call(&["pull", &format!("{host}/app:2")])
            .exits(1)
            .complains(&format!("manifest for {host}/app:2 not found: manifest unknown"));
        client
            .call(&["run", "--rm", &format!("{host}/nosuch"), "true"])
            .exits(125)
            .complains("manifest unknown");
        client.has_nothing();
    }),
    Case::new("pull-nobody-there", PULL, "a registry that does not answer is named", || {
        let client = Client::new();
        client
            .call(&["pull", "127.0.0.1:1/app:1"])
            .exits(1)
            .complains("dial 127.0.0.1:1: connect: connection refused");
    }),
    Case::new("pull-resumes-by-range", SPEC, "a cut transfer goes on where it ended", || {
        let client = Client::new();
        let (registry, content) = serving(Content::of(&large(), "app", "1"), |content, request| {
            let digest = content.largest();
            if !request.path().ends_with(&digest) {
                return None;
            }
            // A third at a time, whatever was asked for.
            let bytes = content.blob(&digest);
            let range = request.header("range");
            let from = range.map_or(0, |r| r[6..].trim_end_matches('-').parse().expect("a range"));
            let rest = &bytes[from..];
            let piece = rest.len().min(bytes.len() / 3 + 1);
            let body = match piece == rest.len() {
                true => Body::Bytes(rest.to_vec()),
                false => Body::Cut(rest[..piece].to_vec(), rest.len() as u64),
            };
            let shown = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let status = if from == 0 { 200 } else { 206 };
            Some(Reply::with(status, body).header("Content-Range", shown))
        });
        client.call(&["pull", "-q", &format!("{}/app:1", registry.host())]).ok();
        let blob = format!("GET /v2/app/blobs/{}", content.largest());
        let seen = registry.seen();
        let asked = seen.iter().filter(|request| request.line() == blob);
        let ranges: Vec<Option<&str>> = asked.map(|request| request.header("range")).collect();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert!(ranges[0].is_none() && ranges[1..].iter().all(Option::is_some), "{ranges:?}");
    }),
    Case::new("pull-resumes-without-ranges", SPEC, "so it does where ranges are ignored", || {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let client = Client::new();
        let (registry, _) = serving(Content::of(&large(), "app", "1"), |content, request| {
            let digest = content.largest();
            let bytes = content.blob(&digest);
            let asked = || ASKED.fetch_add(1, Ordering::SeqCst);
            request.path().ends_with(&digest).then(|| match asked() {
                0 => Reply::with(200, Body::Cut(bytes[..200_000].to_vec(), bytes.len() as u64)),
                _ => Reply::new(200, bytes),
            })
        });
        client.call(&["pull", "-q", &format!("{}/app:1", registry.host())]).ok();
    }),
    Case::new(
        "pull-big-in-ranges",
        SPEC,
        "a big blob comes in several ranges, or in one piece",
        || {
            static REFUSED: AtomicUsize = AtomicUsize::new(0);
            let mut image = large();
            let zeros = hako_tests::archive::Entry::file("zeros", 0o644, vec![0; 40 << 20]);
            image.layers.push(hako_tests::archive::tar(&[zeros]));
            let (registry, content) =
                serving(Content::of(&image, "app", "1"), |content, request| {
                    // The second time, ranges in the middle are refused.
                    let range = request.header("range")?;
                    let digest = content.largest();
                    let late =
                        range == "bytes=16777216-20971519" && request.path().ends_with(&digest);
                    (late && REFUSED.fetch_add(1, Ordering::SeqCst) > 0)
                        .then(|| Reply::new(416, ""))
                });
            let name = format!("{}/app:1", registry.host());
            for _ in 0..2 {
                let client = Client::new();
                client.call(&["pull", "-q", &name]).ok();
            }
            let blob = format!("GET /v2/app/blobs/{}", content.largest());
            let seen = registry.seen();
            let asked = seen.iter().filter(|request| request.line() == blob);
            let ranges: Vec<&str> = asked.filter_map(|request| request.header("range")).collect();
            assert!(ranges.contains(&"bytes=8388608-12582911"), "{ranges:?}");
            assert!(ranges.contains(&"bytes=16777216-"), "the rest in one piece: {ranges:?}");
        },
    ),
    Case::new("pull-waits-when-asked-to", SPEC, "429 with Retry-After, and 503, pass", || {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let client = Client::new();
        let (registry, _) = with_app(|_, request| {
            request.path().contains("/blobs/").then_some(())?;
            let busy = Reply::error(429, "TOOMANYREQUESTS", "slow down");
            match ASKED.fetch_add(1, Ordering::SeqCst) {
                0 => Some(busy.header("Retry-After", "0")),
                1 => Some(Reply::new(503, "<html>")),
                _ => None,
            }
        });
        client.call(&["pull", "-q", &format!("{}/app:1", registry.host())]).ok();
    }),
    Case::new("pull-limit-is-told", SPEC, "a limit of hours is an error at once", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, request| {
            let reply = Reply::error(429, "TOOMANYREQUESTS", "You have reached your limit");
            request.path().contains("/manifests/").then(|| reply.header("Retry-After", "21600"))
        });
        client
            .call(&["pull", &format!("{}/app:1", registry.host())])
            .exits(1)
            .complains("toomanyrequests")
            .complains("You have reached your limit");
        assert_eq!(registry.count("GET /v2/app/manifests/"), 1);
    }),
    Case::new("pull-many-at-once", SPEC, "pulls of one image fetch each blob once", || {
        let client = Client::new();
        let (registry, content) = with_app(|_, _| None);
        let name = format!("{}/app:1", registry.host());
        let children: Vec<_> = (0..6)
            .map(|_| {
                let mut command = client.command(&["pull", "-q", &name]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().expect("hako starts")
            })
            .collect();
        for child in children {
            command::finish(child, "hako pull".to_owned()).ok();
        }
        let layer = format!("GET /v2/app/blobs/{}", content.largest());
        assert_eq!(registry.count(&layer), 1);
        client.call(&["run", "--rm", &name, "true"]).ok();
    }),
    Case::new("pull-from-mirror", CONF, "mirrors first, the registry if they fail", || {
        let client = Client::new();
        let (mirror, _) = serving(Content::of(&large(), "hub/library/app", "1"), |_, _| None);
        let (own, _) = serving(Content::of(&large(), "library/other", "1"), |_, _| None);
        let text = format!(
            "[[registry]]\nprefix = \"example.test\"\nlocation = \"{}\"\n\
             [[registry.mirror]]\nlocation = \"{}/hub\"\n",
            own.host(),
            mirror.host(),
        );
        client.hako.place().write("registries.conf", text);
        client.call(&["pull", "-q", "example.test/library/app:1"]).ok();
        let listed = client.call(&["images", "--format", "{{.Repository}}"]);
        listed.prints("example.test/library/app");
        assert_eq!(own.seen().len(), 0);
        client.call(&["pull", "-q", "example.test/library/other:1"]).ok();
        let absent = client.call(&["pull", "example.test/library/nosuch:1"]);
        absent.exits(1).complains("(mirror: ");
    }),
    Case::new("pull-blocked", CONF, "a blocked registry is not asked", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, _| None);
        let text = format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.host());
        client.hako.place().write("registries.conf", text);
        client.call(&["pull", &format!("{}/app:1", registry.host())]).complains("is blocked");
        assert_eq!(registry.seen().len(), 0);
    }),
    Case::new("pull-short-name", CONF, "an alias names another registry", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, _| None);
        let target = format!("{}/app", registry.host());
        let text = format!("[aliases]\n\"tool\" = \"{target}\"\n");
        client.hako.place().write("registries.conf", text);
        client.call(&["pull", "-q", "tool:1"]).prints(&format!("{target}:1"));
        client.call(&["run", "--rm", "-q", "tool:1", "echo", "found"]).says("found");
    }),
    Case::new(
        "pull-hosts-toml",
        "containerd hosts.md",
        "its hosts, their paths and headers",
        || {
            let client = Client::new();
            let (registry, _) = serving(Content::of(&large(), "app", "1"), |content, request| {
                let target = format!("/v2{}", request.target.strip_prefix("/proxy/cache")?);
                let is_ours = request.header("x-tenant") == Some("blue");
                is_ours.then(|| content.answer(&Request { target, ..request.clone() }))
            });
            let text = format!(
                "server = \"http://127.0.0.1:1\"\n[host.\"http://{0}/proxy/cache\"]\n\
             override_path = true\ncapabilities = [\"pull\", \"resolve\"]\n\
             [host.\"http://{0}/proxy/cache\".header]\nx-tenant = \"blue\"\n",
                registry.host()
            );
            client.write(".config/hako/certs.d/example.test/hosts.toml", &text);
            client.call(&["pull", "-q", "example.test/app:1"]).ok();
        },
    ),
];
