//! Tokens: what somebody that is trusted says a client may do (Distribution's token specification:
//! JSON Web Tokens, RFC 7519, with a claim `access`).

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    keys::{Key, Trusted},
};

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// How far clocks may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Where clients get them.
    pub realm: String,
    /// What they must be for.
    pub service: String,
    /// Who must have made them.
    pub issuer: String,
    /// Files with certificates, public keys, or a set of JSON Web Keys.
    pub keys: Vec<PathBuf>,
}

/// What a token lets its owner do with one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub actions: Vec<String>,
}

impl Access {
    /// From a scope, as `repository:a/b:pull,push`.
    pub(crate) fn parse(scope: &str) -> Option<Access> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        // `repository(plugin)` is a repository.
        let kind = kind.split('(').next().unwrap_or_default();
        let actions = actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        Some(Access { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    /// Whether it gives all that `other` asks for.
    pub(crate) fn covers(&self, other: &Access) -> bool {
        let has = |wanted: &String| self.actions.iter().any(|a| a == wanted || a == "*");
        self.kind == other.kind && self.name == other.name && other.actions.iter().all(has)
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// Who a token is for, and what it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub subject: String,
    pub access: Vec<Access>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood: none are.
    crit: Option<serde::de::IgnoredAny>,
    /// A chain of certificates.
    x5c: Option<Vec<String>>,
    jwk: Option<Embedded>,
}

/// A key within a token: believed only by its chain, or where it is one of ours anyway.
#[derive(Deserialize)]
struct Embedded {
    x5c: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    #[serde(default)]
    access: Option<Vec<Access>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Believes tokens.
pub(crate) struct Verifier {
    issuer: String,
    service: String,
    trusted: Vec<Trusted>,
}

impl Verifier {
    pub(crate) fn new(tokens: &Tokens) -> Result<Verifier> {
        let trusted = tokens.keys.iter().map(|path| Trusted::read(path)).collect::<Result<_>>()?;
        Ok(Verifier { issuer: tokens.issuer.clone(), service: tokens.service.clone(), trusted })
    }

    /// Believes one key.
    pub(crate) fn of(issuer: &str, service: &str, key: Key) -> Verifier {
        let trusted = vec![Trusted::one(key)];
        Verifier { issuer: issuer.to_owned(), service: service.to_owned(), trusted }
    }

    /// What a token says, if it is to be believed now. Why not is nobody's business.
    pub(crate) fn check(&self, token: &str) -> Option<Bearer> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        self.check_at(token, now)
    }

    fn check_at(&self, token: &str, now: f64) -> Option<Bearer> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let signature = decode(signature)?;
        let is_signed = |key: &Key| key.verifies(&header.alg, signed.as_bytes(), &signature);
        let chain =
            header.x5c.or(header.jwk.and_then(|jwk| jwk.x5c)).map(|chain| certificates(&chain));
        let certified = |trusted: &Trusted| match &chain {
            Some(Some(chain)) => trusted.certified(chain),
            _ => None,
        };
        // Which key it was that signed is found out by trying: its name (`kid`) proves nothing.
        let is_believed = self.trusted.iter().any(|trusted| {
            trusted.keys.iter().any(is_signed) || certified(trusted).as_ref().is_some_and(is_signed)
        });
        if !is_believed {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let is_for_us = match &claims.aud {
            Audience::One(one) => *one == self.service,
            Audience::Many(many) => many.contains(&self.service),
        };
        let is_now = now < claims.exp + LEEWAY && claims.nbf.is_none_or(|nbf| now >= nbf - LEEWAY);
        (claims.iss == self.issuer && is_for_us && is_now)
            .then(|| Bearer { subject: claims.sub, access: claims.access.unwrap_or_default() })
    }
}

/// Reads a token's parts without believing them, for the fuzzer.
pub(crate) fn read(bytes: &[u8]) {
    let header = serde_json::from_slice::<Header>(bytes);
    let _chain = header.ok().and_then(|header| certificates(&header.x5c?));
    let _claims = serde_json::from_slice::<Claims>(bytes);
}

/// A chain: DER in base64, not of the URL's kind.
fn certificates(chain: &[String]) -> Option<Vec<CertificateDer<'static>>> {
    chain.iter().map(|text| Some(STANDARD.decode(text).ok()?.into())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };
    use serde_json::{Value, json};

    use super::*;

    const NOW: f64 = 1_700_000_000.0;

    fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn claims() -> Value {
        json!({
            "iss": "auth", "sub": "alice", "aud": "registry", "exp": NOW + 300.0, "nbf": NOW,
            "access": [{ "type": "repository", "name": "a/b", "actions": ["pull"] }],
        })
    }

    fn ed25519() -> (Ed25519KeyPair, Verifier) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let verifier = Verifier::of("auth", "registry", Key::ed25519(pair.public_key().as_ref()));
        (pair, verifier)
    }

    #[test]
    fn claims_decide() {
        let (pair, verifier) = ed25519();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "whoever" });
        let sign = |bytes: &[u8]| pair.sign(bytes).as_ref().to_vec();
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        for (claims, want) in [
            (claims(), true),
            (with("aud", json!(["x", "registry"])), true),
            (with("aud", json!(["x"])), false),
            (with("aud", json!("regist")), false),
            (without("aud"), false),
            (with("iss", json!("other")), false),
            (without("iss"), false),
            (with("exp", json!(NOW - 30.0)), true),
            (with("exp", json!(NOW - 61.0)), false),
            (with("exp", json!("never")), false),
            (without("exp"), false),
            (with("nbf", json!(NOW + 30.0)), true),
            (with("nbf", json!(NOW + 61.0)), false),
            (without("nbf"), true),
            (with("access", json!(null)), true),
            (with("access", json!("all")), false),
        ] {
            let token = token(&header, &claims, sign);
            assert_eq!(verifier.check_at(&token, NOW).is_some(), want, "{claims}");
        }
        let bearer = verifier.check_at(&token(&header, &claims(), sign), NOW).unwrap();
        assert_eq!(
            (bearer.subject.as_str(), bearer.access[0].to_string()),
            ("alice", "repository:a/b:pull".into())
        );
    }

    #[test]
    fn only_a_signature_of_a_trusted_key_by_its_own_algorithm_counts() {
        let (pair, verifier) = ed25519();
        let sign = |bytes: &[u8]| pair.sign(bytes).as_ref().to_vec();
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let public = URL_SAFE_NO_PAD.encode(other.public_key().as_ref());
        let of_other = |bytes: &[u8]| other.sign(bytes).as_ref().to_vec();
        // A key that lies in the token itself is nobody's word.
        let embedded =
            json!({ "alg": "EdDSA", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": public } });
        assert!(verifier.check_at(&token(&embedded, &claims(), of_other), NOW).is_none());
        for alg in ["none", "NONE", "", "HS256", "ES256", "RS256", "eddsa"] {
            let header = json!({ "alg": alg });
            assert!(verifier.check_at(&token(&header, &claims(), sign), NOW).is_none(), "{alg}");
            assert!(verifier.check_at(&token(&header, &claims(), |_| Vec::new()), NOW).is_none());
        }
        // The public key as a secret, which is what confused verifiers took.
        let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pair.public_key().as_ref());
        let by_hmac = |bytes: &[u8]| ring::hmac::sign(&hmac, bytes).as_ref().to_vec();
        assert!(
            verifier
                .check_at(&token(&json!({ "alg": "HS256" }), &claims(), by_hmac), NOW)
                .is_none()
        );
        let critical = json!({ "alg": "EdDSA", "crit": ["x"], "x": 1 });
        assert!(verifier.check_at(&token(&critical, &claims(), sign), NOW).is_none());
        let good = token(&json!({ "alg": "EdDSA" }), &claims(), sign);
        assert!(verifier.check_at(&good, NOW).is_some());
        let (head, signature) = good.rsplit_once('.').unwrap();
        let changed = format!("{}A.{signature}", &head[..head.len() - 1]);
        for bad in
            ["", ".", "..", "a.b.c", head, &changed, &format!("{good}="), &format!("{good}.x")]
        {
            assert!(verifier.check_at(bad, NOW).is_none(), "{bad}");
        }
    }

    #[test]
    fn keys_of_files_verify() {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y }] });
        // SubjectPublicKeyInfo of a P-256 key is always this and the point.
        let mut info = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00".to_vec();
        info.extend_from_slice(point);
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(&info)
        );
        let dir = tempfile::tempdir().unwrap();
        let sign = |bytes: &[u8]| pair.sign(&random, bytes).unwrap().as_ref().to_vec();
        for (name, text) in [("set.json", set.to_string()), ("key.pem", pem)] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let verifier = Verifier::new(&Tokens {
                realm: String::new(),
                service: "registry".into(),
                issuer: "auth".into(),
                keys: vec![path],
            })
            .unwrap();
            let good = token(&json!({ "alg": "ES256" }), &claims(), sign);
            assert!(verifier.check_at(&good, NOW).is_some(), "{name}");
            let bad = token(&json!({ "alg": "ES384" }), &claims(), sign);
            assert!(verifier.check_at(&bad, NOW).is_none());
        }
        for bad in [
            "",
            "{}",
            "{\"keys\":[]}",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let path = dir.path().join("bad");
            std::fs::write(&path, bad).unwrap();
            assert!(Trusted::read(&path).is_err(), "{bad}");
        }
    }

    #[test]
    fn access() {
        let has = |has: &str, wants: &str| {
            Access::parse(has).unwrap().covers(&Access::parse(wants).unwrap())
        };
        for (a, b, want) in [
            ("repository:a/b:pull,push", "repository:a/b:pull", true),
            ("repository:a/b:pull", "repository:a/b:pull,push", false),
            ("repository:a/b:*", "repository:a/b:delete", true),
            ("repository:a:pull", "repository:a/b:pull", false),
            ("repository:*:pull", "repository:a:pull", false),
            ("registry:catalog:*", "registry:catalog:*", true),
            ("repository(plugin):a:pull", "repository:a:pull", true),
            ("repository:host:5000/a:pull", "repository:host:5000/a:pull", true),
        ] {
            assert_eq!(has(a, b), want, "{a} {b}");
        }
        assert_eq!(Access::parse("nonsense"), None);
    }

    proptest! {
        #[test]
        fn anything_is_read(text in "[a-zA-Z0-9_.-]{0,80}") {
            prop_assert!(ed25519().1.check_at(&text, NOW).is_none());
        }
    }
}
