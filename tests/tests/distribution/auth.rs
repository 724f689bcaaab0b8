//! Showing a registry who one is, and nobody else.

use hako_tests::{
    Case, command,
    registry::{Reply, Request},
};

use crate::{Client, with_app};

const TOKENS: &str = "distribution: token authentication";
const LOGIN: &str = "docker login(1)";

/// `Basic` of `me:secret`.
const ME: &str = "Basic bWU6c2VjcmV0";
const SECRETS: &[&str] = &["bWU6c2VjcmV0", "secret", "good-token", "refresh-me"];

/// Asks for a token of this registry itself, and gives one to `me`.
fn tokens(request: &Request) -> Option<Reply> {
    let host = request.header("host").unwrap_or_default();
    if request.path() == "/token" {
        let by_refresh =
            String::from_utf8_lossy(&request.body).contains("refresh_token=refresh-me");
        return Some(match request.header("authorization") == Some(ME) || by_refresh {
            true => Reply::new(200, r#"{"token":"good-token","expires_in":300}"#),
            false => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        });
    }
    if request.header("authorization") == Some("Bearer good-token") {
        return None;
    }
    let challenge = format!(
        "Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:app:pull\""
    );
    let refused = Reply::error(401, "UNAUTHORIZED", "authentication required");
    Some(refused.header("WWW-Authenticate", challenge))
}

fn basic(request: &Request) -> Option<Reply> {
    let refused = Reply::error(401, "UNAUTHORIZED", "authentication required");
    (request.header("authorization") != Some(ME))
        .then(|| refused.header("WWW-Authenticate", "Basic realm=\"test\""))
}

fn log_in(client: &Client, host: &str, password: &str) -> command::Output {
    let words = ["login", "-u", "me", "--password-stdin", host];
    command::run_with(&mut client.command(&words), password.as_bytes())
}

pub(crate) const CASES: &[Case] = &[
    Case::new("login-basic", LOGIN, "asks the registry, keeps what it takes", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, request| basic(request));
        let (host, name) = (registry.host(), format!("{}/app:1", registry.host()));
        let refused = client.call(&["pull", &name]);
        refused.exits(1).complains("pull access denied for").complains("no basic auth credentials");
        log_in(&client, &host, "wrong\n").exits(1).complains("unauthorized");
        let file = client.hako.place().join("home/.docker/config.json");
        assert!(!file.exists(), "what was refused is not kept");
        log_in(&client, &host, "secret\n").says("Login Succeeded");
        client.call(&["pull", "-q", &name]).ok();
        let logout = client.call(&["logout", &host]);
        logout.prints(&format!("Removing login credentials for {host}"));
        client.call(&["logout", &host]).prints(&format!("Not logged in to {host}"));
        client.call(&["pull", "-q", &name]).exits(1);
    }),
    Case::new("login-words", LOGIN, "wrong ways to log in", || {
        let client = Client::new();
        client.call(&["login", "--password-stdin", "x"]).complains("--username");
        client.call(&["login", "-u", "me", "x"]).complains("non TTY device");
    }),
    Case::new("auth-token", TOKENS, "a token is fetched, and used for all requests", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, request| tokens(request));
        let name = format!("{}/app:1", registry.host());
        client.call(&["pull", &name]).exits(1).complains("incorrect username or password");
        log_in(&client, &registry.host(), "secret").says("Login Succeeded");
        let before = registry.count("GET /token");
        client.call(&["pull", "-q", &name]).ok();
        assert_eq!(registry.count("GET /token"), before + 1);
        let asked = registry.seen();
        let asked = asked.iter().rfind(|request| request.path() == "/token").expect("it was");
        assert!(asked.target.contains("scope=repository:app:pull"), "{}", asked.target);
        assert!(asked.target.contains("service=test"), "{}", asked.target);
    }),
    Case::new("auth-refresh", TOKENS, "an identity token is exchanged by OAuth2", || {
        let client = Client::new();
        let (registry, _) = with_app(|_, request| tokens(request));
        let host = registry.host();
        let text = format!(r#"{{"auths":{{"{host}":{{"identitytoken":"refresh-me"}}}}}}"#);
        client.write(".docker/config.json", &text);
        client.call(&["pull", "-q", &format!("{host}/app:1")]).ok();
        let seen = registry.seen();
        let asked = seen.iter().find(|request| request.path() == "/token").expect("it was");
        let form = String::from_utf8_lossy(&asked.body);
        assert!(form.contains("grant_type=refresh_token"), "{form}");
    }),
    Case::new(
        "auth-longest-prefix",
        "containers-auth.json(5)",
        "the most precise entry counts",
        || {
            let client = Client::new();
            let (registry, _) = with_app(|_, request| basic(request));
            let host = registry.host();
            let text = format!(
                r#"{{"auths":{{"{host}":{{"auth":"eDp5"}},"{host}/app":{{"auth":"bWU6c2VjcmV0"}}}}}}"#
            );
            client.write("containers/auth.json", &text);
            client.call(&["pull", "-q", &format!("{host}/app:1")]).ok();
        },
    ),
    Case::new(
        "auth-helper",
        LOGIN,
        "a credential helper is asked, and one that fails is told",
        || {
            let client = Client::new();
            let (registry, _) = with_app(|_, request| basic(request));
            let host = registry.host();
            let bin = client.hako.place().directory("bin");
            let script = "#!/bin/sh\nread -r server\necho \"{\\\"Username\\\":\\\"me\\\",\\\"Secret\\\":\\\"secret\\\"}\"\n";
            for (name, script) in [("good", script), ("bad", "#!/bin/sh\necho locked\nexit 1\n")] {
                let path = bin.join(format!("docker-credential-{name}"));
                std::fs::write(&path, script).expect("our own file");
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&path, mode).expect("our own file");
            }
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
            let pull = |helper: &str| {
                client.write(".docker/config.json", &format!(r#"{{"credsStore":"{helper}"}}"#));
                let name = format!("{host}/app:1");
                command::run(client.command(&["pull", "-q", &name]).env("PATH", &path))
            };
            pull("bad").exits(1).complains("docker-credential-bad: locked");
            pull("../good").exits(1).complains("credential helper");
            pull("good").ok();
        },
    ),
    Case::new("auth-stays-home", "GHSA-742w-89gc-8m9c", "redirects get no credentials", || {
        let client = Client::new();
        let (store, content) = with_app(|_, _| None);
        let elsewhere = store.host();
        let (registry, _) = with_app(move |_, request| {
            if let Some(refused) = tokens(request) {
                return Some(refused);
            }
            let is_blob = request.path().contains("/blobs/");
            is_blob
                .then(|| Reply::redirect(format!("http://{elsewhere}{}?signed=1", request.path())))
        });
        let text = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.host());
        client.write(".docker/config.json", &text);
        client.call(&["pull", "-q", &format!("{}/app:1", registry.host())]).ok();
        assert!(store.count(&format!("GET /v2/app/blobs/{}", content.largest())) == 1);
        for request in store.seen() {
            let shown = format!("{request:?}");
            for secret in SECRETS {
                assert!(!shown.contains(secret), "{secret} went elsewhere: {shown}");
            }
        }
    }),
];
