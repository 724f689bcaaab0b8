//! What can go wrong with a registry: what failed, in the registry's own words, and what to do.

use std::{fmt, io, path::PathBuf};

use hako_oci::Digest;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry did not give or take what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there, or may not be seen by us; registries do not say which.
    #[error(
        "{action} access denied for {repository}, repository does not exist or may require \
         'docker login': {reason}"
    )]
    Denied {
        /// `pull`, `push` or `delete`.
        action: &'static str,
        /// The repository, as people write it.
        repository: String,
        /// The registry's words.
        reason: Said,
    },
    /// User name and password, or what stands for them, are wrong.
    #[error("{registry}: unauthorized: {reason}")]
    Unauthorized {
        /// Who said so.
        registry: String,
        /// The registry's words.
        reason: Said,
    },
    /// There is no such manifest.
    #[error("manifest for {reference} not found: {reason}")]
    NoManifest {
        /// What was asked for.
        reference: String,
        /// The registry's words.
        reason: Said,
    },
    /// There is no such blob.
    #[error("blob {digest} not found in {repository}: {reason}")]
    NoBlob {
        /// Which.
        digest: Digest,
        /// Where.
        repository: String,
        /// The registry's words.
        reason: Said,
    },
    /// Too many requests, and waiting did not help.
    #[error("toomanyrequests: {registry}: {reason}")]
    TooManyRequests {
        /// Who said so.
        registry: String,
        /// The registry's words.
        reason: Said,
    },
    /// Another answer that is no success.
    #[error("{what}: {url}: {reason}")]
    Status {
        /// What was asked for.
        what: String,
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        reason: Said,
    },
    /// An answer that follows no specification, or a lie.
    #[error("{url}: {why}")]
    Protocol {
        /// Who.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Redirected in a circle, or very often.
    #[error("{what}: {url}: stopped after {limit} redirects")]
    Redirects {
        /// What was asked for.
        what: String,
        /// Where it ended.
        url: String,
        /// How many were followed.
        limit: usize,
    },
    /// The bytes are not what their name says.
    #[error("{url}: content is {actual}, want {expected}")]
    DigestMismatch {
        /// Where they came from.
        url: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// No connection could be made.
    #[error("dial {address}: {source}")]
    Connect {
        /// To whom.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate is not believed.
    #[error("tls: failed to verify certificate of {address}: x509: {why}")]
    Certificate {
        /// Whose.
        address: String,
        /// Why.
        why: String,
    },
    /// The connection broke.
    #[error("{what}: {url}: {source}")]
    Connection {
        /// What was asked for.
        what: String,
        /// Of whom.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing, or next to nothing, came for long.
    #[error("{what}: {url}: nothing came for {seconds} seconds")]
    Stalled {
        /// What was asked for.
        what: String,
        /// Of whom.
        url: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// A configuration file cannot be read or understood.
    #[error("{}: {why}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A registry that registries.conf forbids.
    #[error("registry {registry} is blocked in {}", path.display())]
    Blocked {
        /// Which.
        registry: String,
        /// Where it says so.
        path: PathBuf,
    },
    /// A proxy that cannot be used.
    #[error("proxy \"{proxy}\": {why}")]
    Proxy {
        /// As the environment has it.
        proxy: String,
        /// What is wrong with it.
        why: String,
    },
    /// A credential helper failed.
    #[error("credential helper docker-credential-{helper}: {why}")]
    Helper {
        /// Which.
        helper: String,
        /// How.
        why: String,
    },
    /// What is to be sent cannot be read, or what came not be written.
    #[error(transparent)]
    Content(Box<dyn std::error::Error + Send + Sync>),
    /// The machinery that waits for many connections could not be started.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// No registry of several had it.
    #[error("{primary}{}", Others(others))]
    AllFailed {
        /// The failure of the registry itself.
        primary: Box<Error>,
        /// Those of its mirrors.
        others: Vec<Error>,
    },
}

impl Error {
    pub(crate) fn content(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Content(e.into())
    }

    /// Whether the thing that was asked for is not there.
    pub fn is_absent(&self) -> bool {
        match self {
            Error::NoManifest { .. } | Error::NoBlob { .. } => true,
            Error::Status { status, .. } => *status == 404,
            Error::AllFailed { primary, .. } => primary.is_absent(),
            _ => false,
        }
    }

    /// Whether asking again may help: the fault of a connection or of a busy registry.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Connection { .. } | Error::Stalled { .. } | Error::TooManyRequests { .. } => {
                true
            }
            // Nobody there, or no such name: waiting does not help, but a network that comes up
            // does; one refused connection is told at once.
            Error::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
            Error::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// What a registry said, for people: bounded, and nothing for the terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said(String);

/// How much of a registry's words is shown.
const SHOWN_CHARS_MAX: usize = 500;

impl Said {
    /// From the body of an error (OCI Distribution Specification, "Error Codes"), or the status
    /// where the body says nothing. Where nothing was said, `code` with its own words.
    pub(crate) fn of(status: u16, body: &[u8]) -> Said {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Item>,
            // What servers of tokens say.
            #[serde(default)]
            details: Option<String>,
            #[serde(default)]
            error_description: Option<String>,
            #[serde(default)]
            message: Option<String>,
        }
        #[derive(serde::Deserialize)]
        struct Item {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let status = match status_text(status) {
            "" => format!("status {status}"),
            text => format!("status {status} {text}"),
        };
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Said::text(&status) };
        let mut sentences: Vec<String> = Vec::new();
        for Item { code, message } in body.errors {
            // Docker's way of writing them: `manifest unknown`, `denied: access is denied`.
            let code = code.replace('_', " ").to_lowercase();
            let sentence = match message.filter(|m| !m.is_empty()) {
                Some(message) if message.to_lowercase() == code || code.is_empty() => message,
                Some(message) => format!("{code}: {message}"),
                None => code,
            };
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        sentences
            .extend([body.details, body.error_description, body.message].into_iter().flatten());
        sentences.retain(|sentence| !sentence.is_empty());
        match sentences.is_empty() {
            true => Said::text(&status),
            false => Said::text(&sentences.join(", ")),
        }
    }

    pub(crate) fn text(text: &str) -> Said {
        let mut shown = String::new();
        let mut chars = text.chars();
        for c in chars.by_ref().take(SHOWN_CHARS_MAX) {
            match c.is_control() {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        if chars.next().is_some() {
            shown.push('…');
        }
        Said(shown)
    }
}

fn status_text(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct Others<'a>(&'a [Error]);

impl fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|other| write!(f, " (mirror: {other})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_quoted_as_docker_does() {
        let cases = [
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                "manifest unknown",
            ),
            (
                404,
                r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
                "name unknown: repository name not known to registry",
            ),
            (
                401,
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
                "denied: requested access to the resource is denied",
            ),
            (
                401,
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (500, "<html>", "status 500 Internal Server Error"),
            (599, "", "status 599"),
            (400, r#"{"errors":[]}"#, "status 400 Bad Request"),
            (400, "{\"errors\":[{\"code\":\"A\",\"message\":\"x\\u001b[2J\"}]}", "a: x\\u{1b}[2J"),
        ];
        for (status, body, want) in cases {
            assert_eq!(Said::of(status, body.as_bytes()).to_string(), want);
        }
        assert!(Said::text(&"é".repeat(1 << 20)).to_string().len() < 2000);
    }
}
