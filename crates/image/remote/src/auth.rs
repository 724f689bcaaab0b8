//! Showing who we are: what a host asked for, and the tokens that it was satisfied with.
//!
//! A token is asked for when a host wants one, for all that is about to be done, and used until it
//! ends or is refused. Credentials go to the host that they belong to and to the server of tokens
//! that it names; never over plain HTTP where the host itself spoke TLS.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use crate::{
    Error, Result,
    challenge::{Challenge, Scopes},
    client::Core,
    config::credentials::{self, Credentials, basic},
    endpoint::Endpoint,
    error::Said,
    send::{Answer, Headers},
    url::{Origin, Scheme, Url, encode},
};

/// A token lives at least as long, whatever its server says (distribution's token specification).
const LIFE_MIN: Duration = Duration::from_secs(60);
/// So much earlier than it ends it is not used any more.
const MARGIN: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: usize = 128 << 10;
/// Tokens kept for one host.
const TOKENS_MAX: usize = 64;
const CLIENT_ID: &str = "hako";

/// What is known of each host.
#[derive(Debug, Default)]
pub(crate) struct Known {
    hosts: Mutex<HashMap<Origin, Arc<tokio::sync::Mutex<Host>>>>,
}

#[derive(Debug, Default)]
struct Host {
    challenge: Option<Challenge>,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
struct Token {
    scopes: Scopes,
    header: HeaderValue,
    ends: Instant,
}

/// What a server of tokens answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Known {
    fn host(&self, origin: &Origin) -> Arc<tokio::sync::Mutex<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(origin.clone()).or_default())
    }
}

impl Core {
    /// The header that shows `origin` who we are, as far as it is known to ask for one.
    pub(crate) async fn authorization(
        &self,
        endpoint: &Endpoint,
        origin: &Origin,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        let host = self.known.host(origin);
        // Held while a token is fetched: the others of this host need the same one.
        let mut host = host.lock().await;
        let Some(challenge) = host.challenge.clone() else { return Ok(None) };
        let now = Instant::now();
        host.tokens.retain(|token| token.ends > now);
        if let Some(token) = host.tokens.iter().find(|token| token.scopes.covers(scopes)) {
            return Ok(Some(token.header.clone()));
        }
        let (credentials, trouble) = match self.credentials(endpoint, origin) {
            Ok(credentials) => (credentials, None),
            // What is for everybody can be had without.
            Err(error) => (None, Some(error)),
        };
        match (challenge, credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                secret(&basic(&user, &password)).map(Some)
            }
            (Challenge::Basic, _) => trouble.map_or(Ok(None), Err),
            (Challenge::Bearer { .. }, Some(Credentials::Token(token))) => {
                secret(&format!("Bearer {token}")).map(Some)
            }
            (Challenge::Bearer { realm, service, .. }, credentials) => {
                let fetched =
                    self.token(endpoint, origin, &realm, service.as_deref(), scopes, credentials);
                let token = match (fetched.await, trouble) {
                    (Err(Error::Unauthorized { .. }), Some(trouble)) => return Err(trouble),
                    (fetched, _) => fetched?,
                };
                let header = token.header.clone();
                if host.tokens.len() == TOKENS_MAX {
                    host.tokens.remove(0);
                }
                host.tokens.push(token);
                Ok(Some(header))
            }
        }
    }

    /// Learns from a 401 what the host asks for. Whether asking it again can help.
    pub(crate) async fn learn(
        &self,
        origin: &Origin,
        answer: &Answer,
        sent: Option<&HeaderValue>,
        scopes: &mut Scopes,
    ) -> bool {
        let headers = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let Some(challenge) = Challenge::best(headers.filter_map(|value| value.to_str().ok()))
        else {
            return false;
        };
        let host = self.known.host(origin);
        let mut host = host.lock().await;
        if let Challenge::Bearer { scope: Some(scope), .. } = &challenge {
            scopes.add(&Scopes::parse(scope));
        }
        // What was sent was not enough, or not any more.
        host.tokens.retain(|token| Some(&token.header) != sent);
        let again = sent.is_none() || matches!(challenge, Challenge::Bearer { .. });
        host.challenge = Some(challenge);
        again
    }

    /// Whether a host asked for a user name and password, and there are none to give.
    pub(crate) async fn lacks_basic(&self, endpoint: &Endpoint) -> bool {
        let host = self.known.host(&endpoint.origin);
        let host = host.lock().await;
        host.challenge == Some(Challenge::Basic)
            && matches!(self.credentials(endpoint, &endpoint.origin), Ok(None))
    }

    fn credentials(&self, endpoint: &Endpoint, origin: &Origin) -> Result<Option<Credentials>> {
        if *origin != endpoint.origin {
            return credentials::find(&self.config, &origin.authority());
        }
        match &self.given {
            Some(given) => Ok(Some(given.clone())),
            None => credentials::find(&self.config, &endpoint.called),
        }
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        origin: &Origin,
        realm: &str,
        service: Option<&str>,
        scopes: &Scopes,
        credentials: Option<Credentials>,
    ) -> Result<Token> {
        let odd = |why: String| Error::Protocol { url: origin.authority(), why };
        let mut url: Url = realm
            .parse()
            .map_err(|e| odd(format!("it names a server of tokens whose address is none: {e}")))?;
        let is_open = url.origin.scheme == Scheme::Http && !url.origin.is_loopback();
        if is_open && origin.scheme == Scheme::Https && credentials.is_some() {
            let why = format!("credentials are not sent to {} over plain HTTP", url.shown());
            return Err(odd(why));
        }
        let mut headers = Headers::new();
        let mut form = None;
        match &credentials {
            Some(Credentials::Identity(refresh)) => {
                let joined: Vec<String> = scopes.words().collect();
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("service", service.unwrap_or_default()),
                    ("client_id", CLIENT_ID),
                    ("scope", &joined.join(" ")),
                    ("refresh_token", refresh),
                ];
                let fields = fields.map(|(name, value)| format!("{name}={}", encode(value)));
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, kind);
                form = Some(Bytes::from(fields.join("&")));
            }
            other => {
                if let Some(service) = service {
                    url = url.with_query("service", service);
                }
                for scope in scopes.words() {
                    url = url.with_query("scope", &scope);
                }
                if let Some(Credentials::Password { user, password }) = other {
                    url = url.with_query("account", user);
                    headers.insert(AUTHORIZATION, secret(&basic(user, password))?);
                }
            }
        }
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let asked = Instant::now();
        let answer = self.exchange(endpoint, method, &url, &headers, form).await?;
        let shown = answer.url.shown();
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            let reason = answer.said(&self.config).await;
            return Err(match status {
                401 | 403 | 400 => Error::Unauthorized { registry: origin.authority(), reason },
                429 => Error::TooManyRequests { registry: origin.authority(), reason },
                _ => {
                    Error::Status { what: "asking for a token".into(), url: shown, status, reason }
                }
            });
        }
        let bytes = answer.bytes(&self.config, TOKEN_BYTES_MAX).await?;
        let odd = |why: String| Error::Protocol { url: shown.clone(), why };
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|e| odd(format!("its token: {e}")))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| odd("there is no token in its answer".into()))?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or(0).min(1 << 20)).max(LIFE_MIN);
        let header = secret(&format!("Bearer {token}"))
            .map_err(|_| odd("its token has characters that no header may have".into()))?;
        Ok(Token { scopes: scopes.clone(), header, ends: asked + life - MARGIN })
    }
}

/// A header that is not shown when requests are.
fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Unauthorized {
        registry: "credentials".into(),
        reason: Said::text("they have characters that no header may have"),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
