//! The keys that tokens are believed by: of certificates (X.509, RFC 5280), in PEM, or of a JSON Web
//! Key Set (RFC 7517).
//!
//! A key is held as *ring* takes it: the content of a SubjectPublicKeyInfo's bit string. Which
//! algorithms it may be used with is the key's to say, never the token's alone.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::Deserialize;

use crate::{Error, Result};

/// So many keys are tried for a token at most.
const KEYS_MAX: usize = 100;

/// The longest chain of certificates in a token.
const CHAIN_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The algorithms of RFC 7518 and RFC 8037 that are believed. Neither `none` nor what a secret in
/// two hands signs is among them.
const ALGORITHMS: &[(&str, Kind, &dyn VerificationAlgorithm)] = &[
    ("RS256", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
    ("RS384", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
    ("RS512", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
    ("PS256", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA256),
    ("PS384", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA384),
    ("PS512", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA512),
    ("ES256", Kind::P256, &signature::ECDSA_P256_SHA256_FIXED),
    ("ES384", Kind::P384, &signature::ECDSA_P384_SHA384_FIXED),
    ("EdDSA", Kind::Ed25519, &signature::ED25519),
];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    kind: Kind,
    bytes: Vec<u8>,
}

/// The identifiers of a SubjectPublicKeyInfo's algorithm, as they stand in DER.
const IDENTIFIERS: &[(&[u8], &[u8], Kind)] = &[
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"", Kind::Rsa),
    (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x03\x01\x07", Kind::P256),
    (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2b\x81\x04\x00\x22", Kind::P384),
    (b"\x2b\x65\x70", b"", Kind::Ed25519),
];

impl Key {
    pub(crate) fn ed25519(bytes: &[u8]) -> Key {
        Key { kind: Kind::Ed25519, bytes: bytes.to_vec() }
    }

    /// From the content of a SubjectPublicKeyInfo.
    fn of_info(info: &[u8]) -> Option<Key> {
        let (identifier, rest) = element(0x30, info)?;
        let (bits, _) = element(0x03, rest)?;
        let (algorithm, parameters) = element(0x06, identifier)?;
        let curve = element(0x06, parameters).map_or(&b""[..], |(curve, _)| curve);
        let (.., kind) = IDENTIFIERS.iter().find(|(a, c, _)| *a == algorithm && *c == curve)?;
        // No bits are unused.
        Some(Key { kind: *kind, bytes: bits.strip_prefix(&[0])?.to_vec() })
    }

    fn of_certificate(certificate: &CertificateDer<'static>) -> Option<Key> {
        let mut store = RootCertStore::empty();
        store.add(certificate.clone()).ok()?;
        Key::of_info(store.roots.first()?.subject_public_key_info.as_ref())
    }

    /// Whether `signature` is of `message`, by an algorithm that is this key's.
    pub(crate) fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        ALGORITHMS.iter().any(|(name, kind, verification)| {
            *name == algorithm
                && *kind == self.kind
                && UnparsedPublicKey::new(*verification, &self.bytes)
                    .verify(message, signature)
                    .is_ok()
        })
    }
}

/// Keys that are trusted, and authorities whose certificates are.
pub(crate) struct Trusted {
    pub keys: Vec<Key>,
    authorities: Vec<CertificateDer<'static>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Trusted {
    /// One key and nothing else.
    pub(crate) fn one(key: Key) -> Trusted {
        Trusted { keys: vec![key], authorities: Vec::new(), verifier: None }
    }

    /// Reads certificates and public keys in PEM, or a key set.
    pub(crate) fn read(path: &Path) -> Result<Trusted> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let odd = |why: &str| Error::Keys { path: path.to_owned(), why: why.to_owned() };
        let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let trusted = if is_json { of_set(&bytes).map(Trusted::of) } else { of_pem(&bytes) };
        let trusted = trusted.map_err(|why| odd(&why))?;
        match trusted.keys.len() {
            0 => Err(odd("no key of RSA, P-256, P-384 or Ed25519")),
            n if n > KEYS_MAX => Err(odd("more than 100 keys")),
            _ => Ok(trusted),
        }
    }

    fn of(keys: Vec<Key>) -> Trusted {
        Trusted { keys, authorities: Vec::new(), verifier: None }
    }

    /// The key of the first certificate of a chain that leads to an authority of ours, now.
    pub(crate) fn certified(&self, chain: &[CertificateDer<'static>]) -> Option<Key> {
        let (own, others) = chain.split_first()?;
        if chain.len() > CHAIN_MAX {
            return None;
        }
        let is_ours = self.authorities.contains(own);
        let is_certified = || {
            let verifier = self.verifier.as_ref()?;
            verifier.verify_client_cert(own, others, UnixTime::now()).ok()
        };
        (is_ours || is_certified().is_some()).then(|| Key::of_certificate(own)).flatten()
    }
}

fn of_pem(bytes: &[u8]) -> std::result::Result<Trusted, String> {
    let authorities: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let mut keys: Vec<Key> = authorities.iter().filter_map(Key::of_certificate).collect();
    for info in SubjectPublicKeyInfoDer::pem_slice_iter(bytes) {
        let info = info.map_err(|e| e.to_string())?;
        keys.extend(element(0x30, &info).and_then(|(content, _)| Key::of_info(content)));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match roots.is_empty() {
        true => None,
        false => Some(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| e.to_string())?,
        ),
    };
    Ok(Trusted { keys, authorities, verifier })
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn of_set(bytes: &[u8]) -> std::result::Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    // A set may have keys for other uses; they are none of ours.
    Ok(set.keys.iter().filter_map(of_jwk).collect())
}

fn of_jwk(jwk: &Jwk) -> Option<Key> {
    let decode = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
    let point = |kind, size| {
        let (x, y) = (decode(&jwk.x)?, decode(&jwk.y)?);
        let bytes = [&[4][..], &x, &y].concat();
        (x.len() == size && y.len() == size).then_some(Key { kind, bytes })
    };
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => point(Kind::P256, 32),
        ("EC", Some("P-384")) => point(Kind::P384, 48),
        ("OKP", Some("Ed25519")) => Some(Key { kind: Kind::Ed25519, bytes: decode(&jwk.x)? }),
        ("RSA", _) => {
            let numbers = [integer(&decode(&jwk.n)?), integer(&decode(&jwk.e)?)].concat();
            Some(Key { kind: Kind::Rsa, bytes: wrapped(0x30, &numbers) })
        }
        _ => None,
    }
}

/// Reads bytes as each thing that a key comes in, for the fuzzer.
pub(crate) fn read(bytes: &[u8]) {
    let _keys = (Key::of_info(bytes), Key::of_certificate(&bytes.to_vec().into()));
    let _files = (of_set(bytes).is_ok(), of_pem(bytes).is_ok());
}

/// The content of the DER element of this type that `der` begins with, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// A DER element.
fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    der.extend_from_slice(content);
    der
}

/// A positive INTEGER in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    let sign = bytes.get(start).is_none_or(|b| *b >= 0x80);
    let zero = if sign { &[0][..] } else { &[] };
    wrapped(0x02, &[zero, &bytes[start..]].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements() {
        assert_eq!(element(0x30, b"\x30\x02ab+"), Some((&b"ab"[..], &b"+"[..])));
        let long = wrapped(0x04, &[7; 300]);
        assert_eq!(element(0x04, &long), Some((&[7; 300][..], &b""[..])));
        for bad in [&b""[..], b"\x30", b"\x30\x05ab", b"\x30\x80", b"\x30\x84\0\0\0\x01a"] {
            assert_eq!(element(0x30, bad), None, "{bad:?}");
        }
        assert_eq!(element(0x31, b"\x30\x00"), None);
        assert_eq!(integer(&[0, 0, 0x81]), [2, 2, 0, 0x81]);
        assert_eq!(integer(&[0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }

    #[test]
    fn a_key_set_gives_the_keys_that_can_be_used() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let set = serde_json::json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "a", "use": "sig" },
            { "kty": "EC", "crv": "P-384", "x": x, "y": x },
            { "kty": "EC", "crv": "secp256k1", "x": x, "y": x },
            { "kty": "OKP", "crv": "Ed25519", "x": x },
            { "kty": "RSA", "n": x, "e": "AQAB" },
            { "kty": "oct", "k": x },
        ] });
        let kinds: Vec<Kind> =
            of_set(set.to_string().as_bytes()).unwrap().iter().map(|k| k.kind).collect();
        assert_eq!(kinds, [Kind::P256, Kind::Ed25519, Kind::Rsa]);
    }

    proptest! {
        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            read(&bytes);
        }
    }
}
