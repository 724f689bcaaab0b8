//! A signature packet, and whether a key made it over some bytes.

use ring::{
    digest,
    signature::{self as algorithms, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};

use super::{
    certificate::{Key, Material},
    packet::{Bytes, length},
};

/// What a signature says (RFC 9580, section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// These bytes.
    Binary,
    /// This text, however its lines end.
    Text,
    /// That key and name belong together.
    Certification,
    SubkeyBinding,
    PrimaryBinding,
    DirectKey,
    KeyRevocation,
    SubkeyRevocation,
    Other,
}

const KINDS: &[(u8, Kind)] = &[
    (0x00, Kind::Binary),
    (0x01, Kind::Text),
    (0x10, Kind::Certification),
    (0x11, Kind::Certification),
    (0x12, Kind::Certification),
    (0x13, Kind::Certification),
    (0x18, Kind::SubkeyBinding),
    (0x19, Kind::PrimaryBinding),
    (0x1f, Kind::DirectKey),
    (0x20, Kind::KeyRevocation),
    (0x28, Kind::SubkeyRevocation),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// Keys that may sign files.
pub(super) const FLAG_SIGN: u8 = 0x02;

/// A version 4 signature.
#[derive(Debug, Clone)]
pub(super) struct Signature<'a> {
    pub kind: Kind,
    pub created: u64,
    /// Seconds after `created`.
    expires_after: Option<u64>,
    /// Of the key that it is about, in seconds after that was made.
    pub key_expires_after: Option<u64>,
    pub key_flags: Option<u8>,
    /// The signature by a subkey that it wants to belong to its primary key.
    pub embedded: Option<&'a [u8]>,
    issuer_fingerprint: Option<&'a [u8]>,
    issuer_id: Option<&'a [u8]>,
    algorithm: u8,
    hash: Hash,
    /// What is hashed behind the content.
    trailer: Vec<u8>,
    /// The algorithm's numbers.
    numbers: &'a [u8],
}

impl<'a> Signature<'a> {
    /// Reads a packet. The error says why it cannot be relied upon.
    pub(super) fn parse(body: &'a [u8]) -> Result<Signature<'a>, String> {
        let mut bytes = Bytes(body);
        match bytes.u8() {
            Some(4) => {}
            Some(version) => return Err(format!("it is of version {version}")),
            None => return Err("it is empty".into()),
        }
        let broken = || "it is broken".to_owned();
        let kind = bytes.u8().ok_or_else(broken)?;
        let kind = KINDS.iter().find(|(n, _)| *n == kind).map_or(Kind::Other, |(_, kind)| *kind);
        let algorithm = bytes.u8().ok_or_else(broken)?;
        let hash = match bytes.u8().ok_or_else(broken)? {
            2 => Hash::Sha1,
            8 => Hash::Sha256,
            9 => Hash::Sha384,
            10 => Hash::Sha512,
            1 => return Err("it is over MD5, which is weak".into()),
            other => return Err(format!("it is over hash algorithm {other}")),
        };
        let hashed_length = usize::from(bytes.u16().ok_or_else(broken)?);
        let hashed = bytes.take(hashed_length).ok_or_else(broken)?;
        let unhashed_length = usize::from(bytes.u16().ok_or_else(broken)?);
        let unhashed = bytes.take(unhashed_length).ok_or_else(broken)?;
        // The first bytes of the hash, which say nothing that the signature does not.
        bytes.take(2).ok_or_else(broken)?;

        let before = 6 + hashed_length;
        let mut trailer = body[..before].to_vec();
        trailer.extend_from_slice(&[4, 0xff]);
        trailer.extend_from_slice(&u32::try_from(before).map_err(|_| broken())?.to_be_bytes());
        let mut signature = Signature {
            kind,
            created: 0,
            expires_after: None,
            key_expires_after: None,
            key_flags: None,
            embedded: None,
            issuer_fingerprint: None,
            issuer_id: None,
            algorithm,
            hash,
            trailer,
            numbers: bytes.0,
        };
        signature.read_subpackets(hashed, true)?;
        signature.read_subpackets(unhashed, false)?;
        Ok(signature)
    }

    /// What is not signed itself is only asked whose signature it is, and for what checks itself.
    fn read_subpackets(&mut self, area: &'a [u8], is_hashed: bool) -> Result<(), String> {
        let broken = || "it is broken".to_owned();
        let mut bytes = Bytes(area);
        while !bytes.0.is_empty() {
            let length = length(&mut bytes).ok_or_else(broken)?;
            let mut inner = Bytes(bytes.take(length).ok_or_else(broken)?);
            let kind = inner.u8().ok_or_else(broken)?;
            let is_critical = kind & 0x80 != 0;
            let seconds = |mut b: Bytes<'_>| b.u32().map(u64::from).ok_or_else(broken);
            match (kind & 0x7f, is_hashed) {
                (2, true) => self.created = seconds(inner)?,
                (3, true) => self.expires_after = Some(seconds(inner)?).filter(|s| *s > 0),
                (9, true) => self.key_expires_after = Some(seconds(inner)?).filter(|s| *s > 0),
                (27, true) => self.key_flags = Some(inner.0.first().copied().unwrap_or(0)),
                (16, _) => self.issuer_id = self.issuer_id.or(Some(inner.0)),
                (33, _) => self.issuer_fingerprint = inner.0.split_first().map(|(_, f)| f),
                (32, _) => self.embedded = Some(inner.0),
                // Known, and without meaning for who signed what: whether others may copy it,
                // preferences, notations, policies, names, reasons, features.
                (4..=7 | 10..=12 | 20..=26 | 28..=31 | 34..=35 | 39, _) if !is_critical => {}
                (4 | 7 | 11 | 21..=26 | 28..=31 | 34, true) => {}
                (kind, true) if is_critical => {
                    return Err(format!("it has the critical subpacket {kind}, which is unknown"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it says that this key made it.
    pub(super) fn names(&self, key: &Key) -> bool {
        match (self.issuer_fingerprint, self.issuer_id) {
            (Some(fingerprint), _) => fingerprint == key.fingerprint_bytes(),
            (None, Some(id)) => key.fingerprint_bytes().ends_with(id) && id.len() == 8,
            (None, None) => false,
        }
    }

    /// The key that it says made it.
    pub(super) fn issuer_shown(&self) -> String {
        let issuer = self.issuer_fingerprint.or(self.issuer_id).unwrap_or_default();
        issuer.iter().take(32).map(|byte| format!("{byte:02X}")).collect()
    }

    /// Why it does not count for a file, if it does not.
    pub(super) fn why_weak(&self, now: u64) -> Option<String> {
        if self.hash == Hash::Sha1 {
            return Some("it is over SHA-1, which is weak".into());
        }
        self.is_expired(now).then(|| "it has expired".into())
    }

    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires_after.is_some_and(|seconds| self.created.saturating_add(seconds) <= now)
    }

    /// Whether this key made it over this content.
    pub(super) fn is_by(&self, key: &Key, mut content: Vec<u8>) -> bool {
        content.extend_from_slice(&self.trailer);
        let mut numbers = Bytes(self.numbers);
        match (&key.material, self.algorithm) {
            (Material::Rsa { n, e }, 1 | 3) => {
                let parameters: &RsaParameters = match self.hash {
                    Hash::Sha1 => &algorithms::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                    Hash::Sha256 => &algorithms::RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &algorithms::RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &algorithms::RSA_PKCS1_2048_8192_SHA512,
                };
                let signature = numbers.mpi().and_then(|s| padded(s, n.len()));
                let key = RsaPublicKeyComponents { n, e };
                signature.is_some_and(|s| key.verify(parameters, &content, &s).is_ok())
            }
            (Material::Ed25519(point), 22 | 27) => {
                let signature = match self.algorithm {
                    22 => numbers.mpi().zip(numbers.mpi()).and_then(|(r, s)| pair(r, s, 32)),
                    _ => numbers.take(64).map(<[u8]>::to_vec),
                };
                // EdDSA signs the hash as if it were the text.
                let hash = digest::digest(self.hash.algorithm(), &content);
                let key = UnparsedPublicKey::new(&algorithms::ED25519, point);
                signature.is_some_and(|s| key.verify(hash.as_ref(), &s).is_ok())
            }
            (Material::P256(point), 19) if self.hash == Hash::Sha256 => {
                let key = UnparsedPublicKey::new(&algorithms::ECDSA_P256_SHA256_FIXED, point);
                let signature = numbers.mpi().zip(numbers.mpi()).and_then(|(r, s)| pair(r, s, 32));
                signature.is_some_and(|s| key.verify(&content, &s).is_ok())
            }
            (Material::P384(point), 19) if self.hash == Hash::Sha384 => {
                let key = UnparsedPublicKey::new(&algorithms::ECDSA_P384_SHA384_FIXED, point);
                let signature = numbers.mpi().zip(numbers.mpi()).and_then(|(r, s)| pair(r, s, 48));
                signature.is_some_and(|s| key.verify(&content, &s).is_ok())
            }
            _ => false,
        }
    }
}

impl Hash {
    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

/// A number with zeros before it.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length.checked_sub(number.len())?];
    bytes.extend_from_slice(number);
    Some(bytes)
}

fn pair(r: &[u8], s: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut both = padded(r, length)?;
    both.extend(padded(s, length)?);
    Some(both)
}
