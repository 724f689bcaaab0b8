//! Credential helpers: programs `docker-credential-<name>` that speak JSON on their pipes.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Deserialize;

use super::credentials::Credentials;
use crate::{Error, Result};

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say of a registry that they do not know.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A helper may ask its user for a password; it may not hang for ever.
const TIME_MAX: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What the helper knows of a registry.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let answer = match call(helper, "get", server)? {
        Ok(answer) => answer,
        Err(said) if said.contains(NOT_FOUND) => return Ok(None),
        Err(said) => return Err(failed(helper, said)),
    };
    let Answer { username, secret } =
        serde_json::from_str(&answer).map_err(|e| failed(helper, format!("its answer: {e}")))?;
    Ok(match (username.as_str(), secret.is_empty()) {
        ("", true) => None,
        (TOKEN_USER, _) => Some(Credentials::Identity(secret)),
        _ => Some(Credentials::Password { user: username, password: secret }),
    })
}

/// Lets the helper remember credentials.
pub(super) fn store(helper: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let (user, secret) = match credentials {
        Credentials::Password { user, password } => (user.as_str(), password),
        Credentials::Identity(token) | Credentials::Token(token) => (TOKEN_USER, token),
    };
    let question =
        serde_json::json!({ "ServerURL": server, "Username": user, "Secret": secret }).to_string();
    call(helper, "store", &question)?.map(drop).map_err(|said| failed(helper, said))
}

/// Lets the helper forget a registry.
pub(super) fn erase(helper: &str, server: &str) -> Result<()> {
    match call(helper, "erase", server)? {
        Err(said) if !said.contains(NOT_FOUND) => Err(failed(helper, said)),
        _ => Ok(()),
    }
}

fn failed(helper: &str, why: impl Into<String>) -> Error {
    Error::Helper { helper: helper.into(), why: why.into() }
}

/// Runs the helper; what it prints, and whether it succeeded.
fn call(helper: &str, verb: &str, question: &str) -> Result<Result<String, String>> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !helper.bytes().all(is_name) {
        return Err(failed(helper, "its name has characters that no program's name should have"));
    }
    let io = |e: std::io::Error| failed(helper, e.to_string());
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has ended already, and says why by its status.
        match stdin.write_all(question.as_bytes()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(io(e)),
            _ => {}
        }
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
            // Nobody waits any more when it took too long.
            sender.send(read.map(|_| answer)).ok();
        });
    }
    let answer = match receiver.recv_timeout(TIME_MAX) {
        Ok(answer) => answer.map_err(io)?,
        Err(_) => {
            child.kill().map_err(io)?;
            child.wait().map_err(io)?;
            return Err(failed(helper, format!("no answer for {} seconds", TIME_MAX.as_secs())));
        }
    };
    let status = child.wait().map_err(io)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match status.success() {
        true => Ok(Ok(answer)),
        false if answer.trim().is_empty() => Ok(Err(status.to_string())),
        false => Ok(Err(crate::error::Said::text(answer.trim()).to_string())),
    }
}
