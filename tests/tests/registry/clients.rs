//! Other programs as clients: skopeo, hako itself, and a user with a password.

use std::{fs, path::Path, process::Command};

use hako_tests::{
    Case,
    archive::{Entry, tar},
    binary, command,
    image::{Image, unpack},
    install::Hako,
};

use crate::server::{Server, sha256};

const PEERS: &str = "issue: peers";

pub(crate) const CASES: &[Case] = &[
    Case::new("skopeo-round-trip", PEERS, "what skopeo copies in comes out byte by byte", skopeo),
    Case::new("podman-round-trip", PEERS, "podman pulls what was pushed, and pushes it", podman),
    Case::new(
        "hako-round-trip",
        PEERS,
        "hako copy pushes and pulls, and both sides agree",
        hako_copy,
    ),
    Case::new("htpasswd", PEERS, "only users with the right password come in", htpasswd),
    Case::new("tls", PEERS, "TLS with a certificate of its own, HTTP/2 and HTTP/1.1", tls),
];

/// An image of two layers in a layout directory, and the digest of its manifest.
pub(crate) fn layout(dir: &Path) -> String {
    let layer = |name: &str, size: usize| {
        let bytes: Vec<u8> = (0..size).map(|n| (n * 31 % 251) as u8).collect();
        tar(&[Entry::file(name, 0o644, bytes)])
    };
    let image = Image::new("example:v1", vec![layer("a", 1_500_000), layer("b", 10)]);
    unpack(&image.oci_layout(), dir);
    let index = fs::read(dir.join("index.json")).expect("a layout");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
}

/// Every blob of the one is in the other, the same.
fn same_blobs(from: &Path, to: &Path) {
    for entry in fs::read_dir(from.join("blobs/sha256")).expect("a layout") {
        let path = entry.expect("a layout").path();
        let name = path.file_name().expect("a name");
        let copy = fs::read(to.join("blobs/sha256").join(name)).expect("the same blob");
        assert!(fs::read(&path).expect("a blob") == copy, "{}", path.display());
    }
}

fn skopeo() {
    let program = binary::tool("skopeo");
    let server = Server::start(&[]);
    let (from, to) = (server.place.directory("from"), server.place.directory("to"));
    let digest = layout(&from);
    let skopeo = |words: &[&str]| {
        let mut command = Command::new(&program);
        command::run(
            command.args(["--insecure-policy"]).args(words).env("HOME", server.place.path()),
        )
    };
    let remote = format!("docker://{}/team/app:v1", server.host);
    let oci = |dir: &Path| format!("oci:{}:v1", dir.display());
    let (plain_to, plain_from) = ("--dest-tls-verify=false", "--src-tls-verify=false");
    let source = format!("oci:{}", from.display());
    skopeo(&["copy", "--preserve-digests", plain_to, &source, &remote]).ok();
    skopeo(&["copy", "--preserve-digests", plain_from, &remote, &oci(&to)]).ok();
    same_blobs(&from, &to);
    let inspected = skopeo(&["inspect", "--tls-verify=false", &remote]);
    assert!(inspected.ok().contains(&digest), "{inspected}");
    let tags = skopeo(&["list-tags", "--tls-verify=false", &remote[..remote.len() - 3]]);
    assert!(tags.ok().contains("\"v1\""), "{tags}");
    // Once more elsewhere: its blobs are mounted, or known.
    let again = format!("docker://{}/team/again:v2", server.host);
    skopeo(&["copy", plain_to, &source, &again]).ok();
    skopeo(&["delete", "--tls-verify=false", &remote]).ok();
    server.get("/v2/team/app/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    server.get("/v2/team/again/manifests/v2").is(200);
}

fn podman() {
    let program = binary::tool("podman");
    let server = Server::start(&[]);
    let from = server.place.directory("from");
    layout(&from);
    let copied = command::run(
        Command::new(binary::hako())
            .args(["copy", &format!("oci:{}", from.display())])
            .arg(format!("docker://{}/team/app:v1", server.host))
            .env("HOME", server.place.path()),
    );
    copied.ok();
    let podman = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--root").arg(server.place.join("storage"));
        command.arg("--runroot").arg(server.place.join("run"));
        command.args(["--storage-driver", "vfs"]).args(words);
        command::run(command.env("HOME", server.place.path()))
    };
    let name = |repository: &str| format!("{}/{repository}:v1", server.host);
    podman(&["pull", "--tls-verify=false", &name("team/app")]).ok();
    podman(&["push", "--tls-verify=false", &name("team/app"), &name("podman/app")]).ok();
    podman(&["rmi", "--force", "--all"]).ok();
    podman(&["pull", "--tls-verify=false", &name("podman/app")]).ok();
}

fn hako_copy() {
    let hako = Hako::new();
    let server = Server::start(&[]);
    let (from, to) = (hako.place().directory("from"), hako.place().join("to"));
    layout(&from);
    let copy = |source: &str, sink: &str| {
        command::run(hako.command(&["copy", source, sink]).env("HOME", hako.place().path()))
    };
    let remote = format!("docker://{}/a/b:v1", server.host);
    copy(&format!("oci:{}", from.display()), &remote).ok();
    copy(&remote, &format!("oci:{}", to.display())).ok();
    same_blobs(&from, &to);
}

fn htpasswd() {
    // `alice` with `secret`, at bcrypt's lowest cost.
    let users = "alice:$2y$04$BwaFB0aFB0aFB0aFB0aFBu";
    let place = hako_tests::place::Place::new("users");
    let file = place.write("htpasswd", format!("{users}\n"));
    // A line that is no bcrypt is refused in words.
    let output = command::run(Command::new(binary::hako()).args([
        "registry",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--root",
        &place.join("root").to_string_lossy(),
        "--htpasswd",
        &file.to_string_lossy(),
    ]));
    output.fails().complains("htpasswd:1: want USER:BCRYPT");

    let hash = hash_of(&place);
    let file = place.write("htpasswd", format!("# users\nalice:{hash}\n"));
    let server = Server::start(&["--htpasswd", &file.to_string_lossy()]);
    let basic = |text: &str| format!("Basic {}", base64(text.as_bytes()));
    for path in ["/v2/", "/metrics", "/v2/a/tags/list", "/v2/_catalog"] {
        let reply = server.get(path);
        let challenge = reply.refuses(401, "UNAUTHORIZED").header("WWW-Authenticate");
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
    for (credentials, status) in [("alice:secret", 200), ("alice:wrong", 401), ("bob:secret", 401)]
    {
        let header = basic(credentials);
        assert_eq!(server.ask("GET /v2/", &[("Authorization", &header)], b"").status, status);
    }
    let digest = sha256(b"x");
    let post = format!("POST /v2/a/blobs/uploads/?digest={digest}");
    server.ask(&post, &[], b"x").refuses(401, "UNAUTHORIZED");
    server.ask(&post, &[("Authorization", &basic("alice:secret"))], b"x").is(201);
}

/// bcrypt of `secret`, by whoever can make it here.
pub(crate) fn hash_of(place: &hako_tests::place::Place) -> String {
    let python = binary::tool("python3");
    let script = "import crypt; print(crypt.crypt('secret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))";
    let output = command::run(
        Command::new(python).args(["-W", "ignore", "-c", script]).current_dir(place.path()),
    );
    let hash = output.stdout.trim().to_owned();
    if output.code != 0 || hash.len() != 60 {
        hako_tests::skip!("python3 cannot make a bcrypt hash");
    }
    hash
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let n = part.iter().enumerate().fold(0u32, |n, (at, b)| n | u32::from(*b) << (16 - 8 * at));
        for at in 0..4 {
            match at <= part.len() {
                true => text.push(DIGITS[(n >> (18 - 6 * at)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

fn tls() {
    let (openssl, curl) = (binary::tool("openssl"), binary::tool("curl"));
    let place = hako_tests::place::Place::new("tls");
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -subj /CN=registry -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem";
    command::run(Command::new(openssl).args(words.split_whitespace()).current_dir(place.path()))
        .ok();
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let server = Server::start(&["--tls-cert", &cert, "--tls-key", &key]);
    for (version, want) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = format!("https://{}/v2/a/blobs/uploads/?digest={}", server.host, sha256(b"tls"));
        let mut command = Command::new(&curl);
        command.args(["-sS", "--cacert", &cert, version, "-X", "POST", "--data-binary", "tls"]);
        command.args(["-w", "%{http_version} %{http_code}", &url]);
        command::run(&mut command).prints(&format!("{want} 201"));
    }
    let output =
        command::run(Command::new(binary::hako()).args(["registry", "serve", "--tls-cert", &cert]));
    output.fails().complains("belong together");
}
