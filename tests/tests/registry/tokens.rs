//! Tokens: those of a server elsewhere, which openssl plays here, and our own.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use hako_tests::{Case, binary, command, place::Place};
use serde_json::{Value, json};

use crate::{
    clients::{base64, hash_of, layout},
    server::{OCI_INDEX, Server, sha256, wait_for_line},
};

const SPEC: &str = "Distribution: token authentication";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "tokens",
        SPEC,
        "a token gives what it says, to whom it is for, while it lasts",
        tokens,
    ),
    Case::new(
        "token-chain",
        SPEC,
        "a certificate in a token counts if an authority signed it",
        chain,
    ),
    Case::new("token-mount", SPEC, "who may pull one repository learns nothing of others", mount),
    Case::new(
        "token-issuer",
        SPEC,
        "with --anonymous-pull everybody pulls, and users push",
        issuer,
    ),
    Case::new("token-issuer-skopeo", SPEC, "skopeo gets its tokens by itself", skopeo),
    Case::new("reload", "issue: TLS", "SIGHUP reads users and certificates again", reload),
];

struct Authority {
    place: Place,
    openssl: std::path::PathBuf,
}

impl Authority {
    fn new() -> Authority {
        let authority =
            Authority { place: Place::new("authority"), openssl: binary::tool("openssl") };
        let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority";
        authority.openssl(&format!("{words} -keyout root.key -out root.pem"));
        authority
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new(&self.openssl);
        command::run(command.args(words.split_whitespace()).current_dir(self.place.path())).ok();
    }

    fn serve(&self) -> Server {
        let bundle = self.place.join("root.pem");
        Server::start(&[
            "--auth-realm",
            "https://auth.example.org/token",
            "--auth-service",
            "registry",
            "--auth-issuer",
            "auth",
            "--auth-rootcertbundle",
            &bundle.to_string_lossy(),
        ])
    }

    /// `Bearer` and a token, signed by this key.
    fn sign(&self, key: &str, header: Value, claims: &Value) -> String {
        let part = |value: &Value| url(&base64(value.to_string().as_bytes()));
        let signed = format!("{}.{}", part(&header), part(claims));
        fs::write(self.place.join("signed"), &signed).expect("a place");
        self.openssl(&format!("dgst -sha256 -sign {key} -out signature signed"));
        let signature = fs::read(self.place.join("signature")).expect("openssl wrote it");
        format!("Bearer {signed}.{}", url(&base64(&signature)))
    }
}

/// The URL's kind of base64.
fn url(text: &str) -> String {
    text.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn claims(scopes: &[(&str, &[&str])]) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let access: Vec<Value> = scopes
        .iter()
        .map(|(name, actions)| json!({ "type": "repository", "name": name, "actions": actions }))
        .collect();
    json!({
        "iss": "auth", "aud": "registry", "sub": "alice", "nbf": now, "exp": now + 3600,
        "access": access,
    })
}

const PULL: &[&str] = &["pull"];
const PUSH: &[&str] = &["pull", "push"];

fn tokens() {
    let authority = Authority::new();
    let server = authority.serve();
    let rs256 = json!({ "alg": "RS256", "typ": "JWT" });
    let sign = |claims: &Value| authority.sign("root.key", rs256.clone(), claims);
    let challenge = |line: &str, token: Option<&str>| {
        let headers: Vec<(&str, &str)> = token.iter().map(|t| ("Authorization", *t)).collect();
        let reply = server.ask(line, &headers, b"");
        reply.refuses(401, "UNAUTHORIZED").header("WWW-Authenticate").to_owned()
    };
    let realm = "Bearer realm=\"https://auth.example.org/token\",service=\"registry\"";
    assert_eq!(challenge("GET /v2/", None), realm);
    let scope = "scope=\"repository:a/b:pull,push\"";
    let post = format!("POST /v2/a/b/blobs/uploads/?digest={}", sha256(b"x"));
    assert_eq!(challenge(&post, None), format!("{realm},{scope}"));

    let (push, pull) = (sign(&claims(&[("a/b", PUSH)])), sign(&claims(&[("a/b", PULL)])));
    let insufficient = format!("{realm},{scope},error=\"insufficient_scope\"");
    assert_eq!(challenge(&post, Some(&pull)), insufficient);
    server.ask(&post, &[("Authorization", &push)], b"x").is(201);
    let blob = format!("/v2/a/b/blobs/{}", sha256(b"x"));
    for token in [&push, &pull] {
        assert_eq!(
            server.ask(&format!("GET {blob}"), &[("Authorization", token)], b"").is(200).body,
            b"x"
        );
        challenge("GET /v2/a/tags/list", Some(token));
        challenge("GET /v2/_catalog", Some(token));
        challenge("GET /metrics", Some(token));
        let delete = challenge(&format!("DELETE {blob}"), Some(token));
        assert!(delete.contains("repository:a/b:delete"), "{delete}");
    }
    let delete = sign(&claims(&[("a/b", &["delete"])]));
    server.ask(&format!("DELETE {blob}"), &[("Authorization", &delete)], b"").is(202);

    let with = |name: &str, value: Value| {
        let mut claims = claims(&[("a/b", PUSH)]);
        claims[name] = value;
        sign(&claims)
    };
    let none = json!({ "alg": "none" });
    let unsigned = authority.sign("root.key", none.clone(), &claims(&[("a/b", PUSH)]));
    let empty = format!("{}.", unsigned.rsplit_once('.').expect("a token").0);
    for bad in [
        with("exp", json!(1_000)),
        with("nbf", json!(9_000_000_000u64)),
        with("aud", json!("others")),
        with("iss", json!("others")),
        unsigned,
        empty,
        format!("{push}x"),
        "Bearer nonsense".to_owned(),
        "Basic YWxpY2U6c2VjcmV0".to_owned(),
    ] {
        let told = challenge(&post, Some(&bad));
        assert!(told.ends_with("error=\"invalid_token\""), "{told}");
    }
    let log = server.log.lock().expect("nobody panicked with it").join("\n");
    assert!(log.contains("\"user\":\"alice\""), "{log}");
}

fn chain() {
    let authority = Authority::new();
    let server = authority.serve();
    authority
        .openssl("req -newkey rsa:2048 -nodes -subj /CN=signer -keyout leaf.key -out leaf.csr");
    fs::write(authority.place.join("v3"), "basicConstraints=CA:FALSE\n").expect("a place");
    let sign = "x509 -req -in leaf.csr -days 2 -CAcreateserial -extfile v3";
    authority.openssl(&format!("{sign} -CA root.pem -CAkey root.key -out leaf.pem"));
    let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority";
    authority.openssl(&format!("{words} -keyout other.key -out other.pem"));
    authority.openssl(&format!("{sign} -CA other.pem -CAkey other.key -out stranger.pem"));
    for (certificate, want) in [("leaf", 200), ("stranger", 401), ("other", 401)] {
        authority
            .openssl(&format!("x509 -in {certificate}.pem -outform DER -out {certificate}.der"));
        let der = fs::read(authority.place.join(format!("{certificate}.der"))).expect("openssl");
        let key = if certificate == "other" { "other.key" } else { "leaf.key" };
        let header = json!({ "alg": "RS256", "x5c": [base64(&der)] });
        let token = authority.sign(key, header, &claims(&[]));
        assert_eq!(
            server.ask("GET /v2/", &[("Authorization", &token)], b"").status,
            want,
            "{certificate}"
        );
    }
}

fn mount() {
    let authority = Authority::new();
    let server = authority.serve();
    let token = |scopes: &[(&str, &[&str])]| {
        authority.sign("root.key", json!({ "alg": "RS256" }), &claims(scopes))
    };
    let digest = sha256(b"secret");
    let all = token(&[("secret", PUSH), ("mine", PUSH)]);
    let post = format!("POST /v2/secret/blobs/uploads/?digest={digest}");
    server.ask(&post, &[("Authorization", &all)], b"secret").is(201);
    let mount = |from: &str, token: &str| {
        let line = format!("POST /v2/mine/blobs/uploads/?mount={digest}{from}");
        server.ask(&line, &[("Authorization", token)], b"").status
    };
    let mine = token(&[("mine", PUSH)]);
    assert_eq!((mount("", &mine), mount("&from=secret", &mine)), (202, 401));
    assert_eq!((mount("", &all), mount("&from=secret", &all)), (201, 201));
}

fn issuer() {
    let place = Place::new("users");
    let file = place.write("htpasswd", format!("alice:{}\n", hash_of(&place)));
    let server = Server::start(&["--htpasswd", &file.to_string_lossy(), "--anonymous-pull"]);
    let realm = "Bearer realm=\"http://x/token\",service=\"http://x\"";
    let challenge =
        server.get("/v2/").refuses(401, "UNAUTHORIZED").header("WWW-Authenticate").to_owned();
    assert_eq!(challenge, realm);
    let basic = |text: &str| format!("Basic {}", base64(text.as_bytes()));
    let get = |scope: &str, credentials: Option<&str>| {
        let header = credentials.map(basic);
        let headers: Vec<(&str, &str)> =
            header.iter().map(|h| ("Authorization", h.as_str())).collect();
        server.ask(&format!("GET /token?service=x&scope={scope}"), &headers, b"")
    };
    let scope = "repository:a:pull,push";
    get(scope, Some("alice:wrong")).refuses(401, "UNAUTHORIZED");
    let bearer = |reply: &crate::server::Reply| {
        let token = reply.is(200).json();
        assert_eq!((&token["token"], &token["expires_in"]), (&token["access_token"], &json!(300)));
        format!("Bearer {}", token["token"].as_str().expect("a token"))
    };
    let (alice, anybody) = (bearer(&get(scope, Some("alice:secret"))), bearer(&get(scope, None)));
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let put = |token: &str| {
        let headers = [("Content-Type", OCI_INDEX), ("Authorization", token)];
        server.ask("PUT /v2/a/manifests/v1", &headers, index.as_bytes())
    };
    put(&anybody).refuses(401, "UNAUTHORIZED");
    put(&alice).is(201);
    put(&basic("alice:secret")).is(201);
    put(&basic("alice:wrong")).is(401);
    for token in [&alice, &anybody] {
        server.ask("GET /v2/a/manifests/v1", &[("Authorization", token)], b"").is(200);
        server.ask("GET /v2/_catalog", &[("Authorization", token)], b"").is(401);
    }
    server.get("/v2/a/manifests/v1").is(401);
    let output =
        command::run(Command::new(binary::hako()).args(["registry", "serve", "--anonymous-pull"]));
    output.fails().complains("need --htpasswd");
}

fn skopeo() {
    let program = binary::tool("skopeo");
    let place = Place::new("users");
    let file = place.write("htpasswd", format!("alice:{}\n", hash_of(&place)));
    let server = Server::start(&["--htpasswd", &file.to_string_lossy(), "--anonymous-pull"]);
    let (from, to) = (place.directory("from"), place.directory("to"));
    layout(&from);
    let remote = format!("docker://{}/team/app:v1", server.host);
    let (from, to) = (format!("oci:{}", from.display()), format!("oci:{}:v1", to.display()));
    let skopeo = |words: &[&str]| {
        let mut command = Command::new(&program);
        command::run(command.arg("--insecure-policy").args(words).env("HOME", place.path()))
    };
    let plain = "--dest-tls-verify=false";
    skopeo(&["copy", plain, &from, &remote]).fails();
    skopeo(&["copy", plain, "--dest-creds", "alice:wrong", &from, &remote]).fails();
    skopeo(&["copy", plain, "--dest-creds", "alice:secret", &from, &remote]).ok();
    skopeo(&["copy", "--src-tls-verify=false", &remote, &to]).ok();
}

fn reload() {
    let place = Place::new("users");
    let hash = hash_of(&place);
    let file = place.write("htpasswd", format!("alice:{hash}\n"));
    let server = Server::start(&["--htpasswd", &file.to_string_lossy()]);
    let bob = format!("Basic {}", base64(b"bob:secret"));
    let ask = || server.ask("GET /v2/", &[("Authorization", &bob)], b"").status;
    assert_eq!(ask(), 401);
    place.write("htpasswd", "nonsense\n");
    server.hang_up();
    wait_for_line(&server, "want USER:BCRYPT");
    let alice = format!("Basic {}", base64(b"alice:secret"));
    server.ask("GET /v2/", &[("Authorization", &alice)], b"").is(200);
    place.write("htpasswd", format!("bob:{hash}\n"));
    server.hang_up();
    wait_for_line(&server, "\"event\":\"reloaded\",\"error\":null");
    assert_eq!(ask(), 200);
    server.ask("GET /v2/", &[("Authorization", &alice)], b"").is(401);
}
