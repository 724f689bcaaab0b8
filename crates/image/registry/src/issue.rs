//! A server of tokens for users of our own (Distribution's token specification): what makes it
//! possible that everybody pulls and users push, which passwords alone do not, because clients
//! send none before they are asked for one.
//!
//! The key lives as long as the server: after a restart clients are asked to come again.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{Response, StatusCode};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use crate::{
    Error, Result, access,
    body::Body,
    door,
    keys::Key,
    login::Users,
    refusal::Refusal,
    server::{Asked, answer, block},
    token::{Access, Verifier},
};

const NAME: &str = "hako";

/// How long a token is good for, in seconds. Whoever has a password comes again.
const SECONDS: u64 = 300;

/// How many scopes one token has: a push that mounts names every repository it mounts from.
const SCOPES_MAX: usize = 64;

/// Gives tokens to users.
pub(crate) struct Issuer {
    pub users: Users,
    pub verifier: Verifier,
    pair: Ed25519KeyPair,
    anonymous_pull: bool,
}

impl Issuer {
    pub(crate) fn new(users: Users, anonymous_pull: bool) -> Result<Issuer> {
        let failed = |e: &dyn std::fmt::Display| Error::Runtime {
            call: "making a key",
            source: std::io::Error::other(e.to_string()),
        };
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|e| failed(&e))?;
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).map_err(|e| failed(&e))?;
        let verifier = Verifier::of(NAME, NAME, Key::ed25519(pair.public_key().as_ref()));
        Ok(Issuer { users, verifier, pair, anonymous_pull })
    }

    /// `GET /token?service=…&scope=…`: users get what they ask for, others what everybody may.
    pub(crate) fn answer(
        &self,
        authorization: Option<&str>,
        asked: &Asked,
    ) -> std::result::Result<Response<Body>, Refusal> {
        let user = block(|| self.users.check(authorization));
        if user.is_none() && (authorization.is_some() || !self.anonymous_pull) {
            return Err(door::basic());
        }
        let scopes = asked.queries("scope").flat_map(str::split_whitespace);
        let mut access: Vec<Access> = scopes.filter_map(Access::parse).take(SCOPES_MAX).collect();
        if user.is_none() {
            access.retain(|a| a.kind == "repository");
            access.iter_mut().for_each(|a| a.actions.retain(|action| action == "pull"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": NAME, "aud": NAME, "sub": user.unwrap_or_default(),
            "iat": now, "nbf": now, "exp": now + SECONDS, "access": access,
        });
        let token = self.sign(&claims);
        let text = json!({
            "token": token, "access_token": token, "expires_in": SECONDS, "issued_at": access::time(),
        })
        .to_string();
        let headers = [
            ("Content-Type", "application/json".to_owned()),
            ("Content-Length", text.len().to_string()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        Ok(answer(StatusCode::OK, &headers, Body::text(text)))
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({ "alg": "EdDSA", "typ": "JWT" });
        let signed = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
