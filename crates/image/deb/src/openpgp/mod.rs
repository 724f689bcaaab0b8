//! OpenPGP, as far as archives are signed with it: who signed a text (RFC 4880, RFC 9580).
//!
//! There is no encryption here, no trust and no secret key: a [`Keyring`] has the certificates that
//! are believed, and [`Keyring::verify`] says whether one of them signed these bytes. What computes
//! is ring, which TLS uses too.
//!
//! Taken: version 4 keys and signatures by RSA (from 2048 bits), Ed25519, ECDSA with P-256 and
//! P-384, over SHA-256, SHA-384 and SHA-512. Everything older is refused, as apt refuses it; only
//! what a certificate says of itself may be signed over SHA-1, for the keyring itself is trusted.

mod armor;
mod certificate;
mod clearsign;
mod packet;
mod signature;

use std::fmt;

pub(crate) use clearsign::{Clearsigned, split};

use certificate::Certificate;
use packet::{Packets, Tag};
use signature::{Kind, Signature};

/// Signatures of one text that are looked at.
const SIGNATURES_MAX: usize = 16;
/// Certificates of one keyring. Debian's has some dozens.
const CERTIFICATES_MAX: usize = 1000;

/// Why a text counts as unsigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PgpError {
    /// It is not what OpenPGP's packets, armor or clear-signed texts look like.
    #[error("{0}")]
    Form(String),
    /// There is no signature that could be checked.
    #[error("there is no signature that could be checked")]
    Unsigned,
    /// A known key did not sign this.
    #[error("the signature of key {0} does not match: the content was changed")]
    Bad(String),
    /// Signed, but by nobody who is believed.
    #[error("it is signed with {}, which the keyring does not have", Keys(.0))]
    UnknownKey(Vec<String>),
    /// Signed by a key that counts no more, or by an algorithm that never should have.
    #[error("its signature cannot be relied upon: {0}")]
    Unusable(String),
}

struct Keys<'a>(&'a [String]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "key " } else { "keys " })?;
        f.write_str(&self.0.join(", "))
    }
}

fn form(why: impl Into<String>) -> PgpError {
    PgpError::Form(why.into())
}

/// Certificates that are believed.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
}

impl Keyring {
    /// Adds what is in a keyring file, in binary or armored. Keys of kinds that are not supported
    /// are left out, for keyrings keep very old ones.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), PgpError> {
        let binary = match armor::is_armored(bytes) {
            true => armor::decode_all(bytes, "PUBLIC KEY BLOCK")?,
            false => bytes.to_vec(),
        };
        let found = Certificate::read_all(&binary)?;
        if self.certificates.len() + found.len() > CERTIFICATES_MAX {
            return Err(form(format!("it has more than {CERTIFICATES_MAX} certificates")));
        }
        self.certificates.extend(found);
        Ok(())
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Keeps only the certificates that have a key of one of these fingerprints or long key IDs, in
    /// upper case.
    pub fn retain(&mut self, wanted: &[String]) {
        let is_wanted = |fingerprint: &str| {
            wanted.iter().any(|w| w == fingerprint || (w.len() == 16 && fingerprint.ends_with(w)))
        };
        self.certificates.retain(|c| c.keys().any(|key| is_wanted(&key.fingerprint())));
    }

    /// Whether a certificate of the ring signed `content`, a file beside its signature. `now` is in
    /// seconds since 1970. Gives the fingerprint of the key.
    pub fn verify(&self, content: &[u8], signature: &[u8], now: u64) -> Result<String, PgpError> {
        let binary = match armor::is_armored(signature) {
            true => armor::decode_all(signature, "SIGNATURE")?,
            false => signature.to_vec(),
        };
        self.check(&binary, now, |kind| match kind {
            Kind::Binary => Some(content.to_vec()),
            Kind::Text => Some(clearsign::with_crlf(content)),
            _ => None,
        })
    }

    /// The same for a text that was signed in the clear.
    pub(crate) fn verify_clear(&self, text: &Clearsigned, now: u64) -> Result<String, PgpError> {
        let binary = armor::decode_all(text.signature.as_bytes(), "SIGNATURE")?;
        self.check(&binary, now, |kind| match kind {
            Kind::Text => Some(text.signed_bytes()),
            _ => None,
        })
    }

    /// Each signature by a known key must be good, and there must be one.
    fn check(
        &self,
        binary: &[u8],
        now: u64,
        content: impl Fn(Kind) -> Option<Vec<u8>>,
    ) -> Result<String, PgpError> {
        let (mut good, mut unknown, mut unusable) = (None, Vec::new(), Vec::new());
        for (i, packet) in Packets::new(binary).enumerate() {
            let packet = packet?;
            if i == SIGNATURES_MAX || packet.tag != Tag::SIGNATURE {
                return Err(form("its signature has packets that are no signatures, or too many"));
            }
            let signature = match Signature::parse(packet.body) {
                Ok(signature) => signature,
                Err(why) => {
                    unusable.push(why);
                    continue;
                }
            };
            let Some(bytes) = content(signature.kind) else {
                unusable.push("it is not of a kind that signs files".to_owned());
                continue;
            };
            match self.signer(&signature, now) {
                Signer::Unknown => unknown.push(signature.issuer_shown()),
                Signer::Unusable(why) => unusable.push(why),
                Signer::Key(key) => {
                    if let Some(why) = signature.why_weak(now) {
                        unusable.push(why);
                        continue;
                    }
                    if !signature.is_by(key, bytes) {
                        return Err(PgpError::Bad(key.fingerprint()));
                    }
                    good.get_or_insert_with(|| key.fingerprint());
                }
            }
        }
        match (good, unusable.is_empty(), unknown.is_empty()) {
            (Some(fingerprint), ..) => Ok(fingerprint),
            (None, false, _) => Err(PgpError::Unusable(unusable.join("; "))),
            (None, true, false) => Err(PgpError::UnknownKey(unknown)),
            (None, true, true) => Err(PgpError::Unsigned),
        }
    }

    /// The key that a signature says it is of.
    fn signer(&self, signature: &Signature<'_>, now: u64) -> Signer<'_> {
        let mut found = Signer::Unknown;
        for certificate in &self.certificates {
            for key in certificate.keys().filter(|key| signature.names(key)) {
                match certificate.why_not(key, now) {
                    None => return Signer::Key(key),
                    Some(why) => {
                        found = Signer::Unusable(format!("key {} {why}", key.fingerprint()));
                    }
                }
            }
        }
        found
    }
}

enum Signer<'a> {
    Unknown,
    Unusable(String),
    Key(&'a certificate::Key),
}

#[cfg(test)]
mod tests;
