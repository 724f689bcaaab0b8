//! Who we are to a registry: docker's `config.json` and containers' `auth.json`.
//!
//! ```text
//! {"auths": {"quay.io/team": {"auth": base64("user:password"), "identitytoken": ...}},
//!  "credHelpers": {"quay.io": "pass"}, "credsStore": "desktop"}
//! ```
//!
//! The key with the longest path that the name begins with counts (containers-auth.json(5)).

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{keychain, read};
use crate::{Config, Error, Result};

/// What shows who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token, which Docker calls identity token.
    Identity(String),
    /// A token that the registry takes as it is.
    Token(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// What Docker calls its registry in files of credentials.
const DOCKER_KEYS: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];
/// How Docker writes it there.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";

/// The header's value for a user name and a password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The credentials for a repository, as `quay.io/team/app`, or for a registry alone.
pub(crate) fn find(config: &Config, name: &str) -> Result<Option<Credentials>> {
    for path in &config.auth_files {
        let Some(text) = read(path)? else { continue };
        let file = parse(path, &text)?;
        if let Some(found) = find_in(path, &file, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let file: Map<String, Value> = serde_json::from_str(text)
        .map_err(|e| Error::Config { path: path.into(), why: e.to_string() })?;
    // The oldest format is the inner object alone.
    match path.file_name().is_some_and(|name| name == ".dockercfg") && !file.contains_key("auths") {
        true => Ok(Map::from_iter([("auths".to_owned(), Value::Object(file))])),
        false => Ok(file),
    }
}

fn find_in(path: &Path, file: &Map<String, Value>, name: &str) -> Result<Option<Credentials>> {
    let keys = keys(name);
    let object = |field: &str| file.get(field).and_then(Value::as_object);
    let helper = keys
        .iter()
        .find_map(|key| {
            let (server, helper) =
                object("credHelpers")?.iter().find(|(server, _)| normal(server) == *key)?;
            Some((helper.as_str()?, server.clone()))
        })
        .or_else(|| {
            let store = file.get("credsStore")?.as_str().filter(|store| !store.is_empty())?;
            let host = name.split('/').next().unwrap_or(name);
            let server = if is_docker(host) { DOCKER_SERVER } else { host };
            Some((store, server.to_owned()))
        });
    if let Some((helper, server)) = helper
        && let Some(found) = keychain::get(helper, &server)?
    {
        return Ok(Some(found));
    }
    let Some(auths) = object("auths") else { return Ok(None) };
    for key in &keys {
        for (server, entry) in auths.iter().filter(|(server, _)| normal(server) == *key) {
            if let Some(found) = entry_credentials(path, server, entry)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The keys under which credentials for a name may stand, the most precise first.
fn keys(name: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = name;
    loop {
        keys.push(rest.to_owned());
        match rest.rfind('/') {
            Some(slash) => rest = &rest[..slash],
            None => break,
        }
    }
    if is_docker(rest) {
        keys.extend(DOCKER_KEYS.iter().map(|key| (*key).to_owned()));
    }
    keys
}

fn is_docker(host: &str) -> bool {
    DOCKER_KEYS.contains(&host)
}

/// A key without scheme and without the version that Docker once wrote after it.
fn normal(server: &str) -> &str {
    let server =
        server.strip_prefix("https://").or(server.strip_prefix("http://")).unwrap_or(server);
    let server = server.trim_end_matches('/');
    server.strip_suffix("/v1").or(server.strip_suffix("/v2")).unwrap_or(server)
}

fn entry_credentials(path: &Path, server: &str, entry: &Value) -> Result<Option<Credentials>> {
    let text =
        |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(token.into())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::Token(token.into())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Password { user: user.into(), password: password.into() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let wrong = || Error::Config {
        path: path.into(),
        why: format!("the credentials for {server} are not base64 of user:password"),
    };
    let bytes = STANDARD.decode(auth).map_err(|_| wrong())?;
    let auth = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (user, password) = auth.split_once(':').ok_or_else(wrong)?;
    let password = password.trim_end_matches('\0');
    Ok(Some(Credentials::Password { user: user.into(), password: password.into() }))
}

/// Where credentials were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In this file, readable by whoever may read it.
    File(PathBuf),
    /// With this credential helper.
    Helper(String),
}

/// Remembers credentials for a registry.
pub(crate) fn store(config: &Config, registry: &str, credentials: &Credentials) -> Result<Stored> {
    let path = login_file(config)?;
    let mut file = parse(&path, &read(&path)?.unwrap_or_default())?;
    let server = server_name(registry);
    if let Some(helper) = helper_of(&file, registry) {
        keychain::store(&helper, &server, credentials)?;
        object(&mut file, "auths").insert(server, Value::Object(Map::new()));
        write(&path, &file)?;
        return Ok(Stored::Helper(helper));
    }
    let mut entry = Map::new();
    match credentials {
        Credentials::Password { user, password } => {
            entry.insert("auth".into(), STANDARD.encode(format!("{user}:{password}")).into());
        }
        Credentials::Identity(token) => {
            entry.insert("identitytoken".into(), token.as_str().into());
        }
        Credentials::Token(token) => {
            entry.insert("registrytoken".into(), token.as_str().into());
        }
    }
    object(&mut file, "auths").insert(server, Value::Object(entry));
    write(&path, &file)?;
    Ok(Stored::File(path))
}

/// Forgets the credentials for a registry, and says whether there were any.
pub(crate) fn erase(config: &Config, registry: &str) -> Result<bool> {
    let path = login_file(config)?;
    let Some(text) = read(&path)? else { return Ok(false) };
    let mut file = parse(&path, &text)?;
    let mut found = false;
    if let Some(helper) = helper_of(&file, registry) {
        found |= keychain::get(&helper, &server_name(registry))?.is_some();
        keychain::erase(&helper, &server_name(registry))?;
    }
    let keys = keys(registry);
    let auths = object(&mut file, "auths");
    let before = auths.len();
    auths.retain(|server, _| !keys.iter().any(|key| key == normal(server)));
    found |= auths.len() < before;
    if auths.len() < before {
        write(&path, &file)?;
    }
    Ok(found)
}

fn login_file(config: &Config) -> Result<PathBuf> {
    config.login_file.clone().ok_or_else(|| Error::Config {
        path: "config.json".into(),
        why: "HOME is not set: name a directory with DOCKER_CONFIG".into(),
    })
}

fn server_name(registry: &str) -> String {
    if is_docker(registry) { DOCKER_SERVER.into() } else { registry.into() }
}

fn helper_of(file: &Map<String, Value>, registry: &str) -> Option<String> {
    let keys = keys(registry);
    let own = file.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        helpers.iter().find(|(server, _)| keys.iter().any(|key| key == normal(server)))
    });
    let helper = own.map(|(_, helper)| helper).or_else(|| file.get("credsStore"));
    helper.and_then(Value::as_str).filter(|helper| !helper.is_empty()).map(str::to_owned)
}

fn object<'f>(file: &'f mut Map<String, Value>, field: &str) -> &'f mut Map<String, Value> {
    let value = file.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it was made an object just now"),
    }
}

/// Writes beside it and renames: whoever reads meanwhile sees the old one or the new one whole.
fn write(path: &Path, file: &Map<String, Value>) -> Result<()> {
    let failed = |e: io::Error| Error::Config { path: path.into(), why: e.to_string() };
    // Where it is a link, as dotfiles often are, what it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let text = serde_json::to_string_pretty(file).map_err(|e| failed(e.into()))?;
    if let Some(dir) = path.parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let written = (|| {
        let mut options = std::fs::File::options();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    written.map_err(|e| {
        // What is in the way of writing is what there is to say.
        std::fs::remove_file(&beside).ok();
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_longest_key_counts() {
        let auth = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "quay.io": {{"auth": "{}"}},
                "quay.io/team": {{"auth": "{}"}},
                "quay.io/team/app": {{"identitytoken": "refresh"}},
                "reg.example:5000": {{"username": "u", "password": "p:x"}},
                "empty.example": {{}}
            }}}}"#,
            auth("hub:a"),
            auth("host:b"),
            auth("team:c:d"),
        );
        let file = file(&text);
        let found = |name: &str| match find_in(Path::new("f"), &file, name).unwrap() {
            None => "none".to_owned(),
            Some(Credentials::Password { user, password }) => format!("{user} {password}"),
            Some(Credentials::Identity(token) | Credentials::Token(token)) => token,
        };
        let cases = [
            ("docker.io/library/alpine", "hub a"),
            ("docker.io", "hub a"),
            ("quay.io/other/app", "host b"),
            ("quay.io/team/web", "team c:d"),
            ("quay.io/team/app", "refresh"),
            ("quay.io/teams/app", "host b"),
            ("reg.example:5000/x", "u p:x"),
            ("reg.example/x", "none"),
            ("empty.example/x", "none"),
        ];
        for (name, want) in cases {
            assert_eq!(found(name), want, "{name}");
        }
    }

    #[test]
    fn what_is_no_user_and_password_is_named() {
        let error = find_in(Path::new("f"), &file(r#"{"auths":{"a.b":{"auth":"!"}}}"#), "a.b");
        assert!(error.unwrap_err().to_string().contains("a.b"));
    }

    #[test]
    fn logging_in_and_out_leaves_the_rest_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.json");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(&path, r#"{"z":1,"auths":{"x.example":{"auth":"eDp5"}},"a":[2]}"#).unwrap();
        let mut config = Config::from_env().unwrap();
        config.auth_files = vec![path.clone()];
        config.login_file = Some(path.clone());
        let me = Credentials::Password { user: "me".into(), password: "secret".into() };
        assert_eq!(store(&config, "docker.io", &me).unwrap(), Stored::File(path.clone()));
        assert_eq!(find(&config, "docker.io/library/x").unwrap(), Some(me));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(DOCKER_SERVER) && text.contains("x.example"));
        assert!(erase(&config, "docker.io").unwrap() && !erase(&config, "docker.io").unwrap());
        let text: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text.to_string(), r#"{"z":1,"auths":{"x.example":{"auth":"eDp5"}},"a":[2]}"#);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
