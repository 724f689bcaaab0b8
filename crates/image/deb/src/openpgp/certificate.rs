//! A certificate: a primary key, its names and subkeys, and what it says of them.

use ring::digest;

use super::{
    PgpError,
    packet::{Bytes, Packet, Packets, Tag},
    signature::{FLAG_SIGN, Kind, Signature},
};

/// Packets of one certificate that are looked at.
const PACKETS_MAX: usize = 10_000;

/// The numbers of a public key.
#[derive(Debug, Clone)]
pub(super) enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// A public key of version 4.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub material: Material,
    created: u64,
    /// The packet's body.
    body: Vec<u8>,
    fingerprint: Vec<u8>,
    standing: Standing,
}

/// What its certificate says of a key.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Whether the certificate says that the key belongs to it.
    is_bound: bool,
    is_revoked: bool,
    may_sign: bool,
    expires: Option<u64>,
    /// When that was said: the last word counts.
    said: u64,
}

/// A certificate whose own words were checked.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    primary: Key,
    subkeys: Vec<Key>,
}

const OID_ED25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

impl Key {
    /// A key of a kind that is supported.
    fn parse(body: &[u8]) -> Option<Key> {
        let mut bytes = Bytes(body);
        if bytes.u8()? != 4 {
            return None;
        }
        let created = u64::from(bytes.u32()?);
        let material = match bytes.u8()? {
            1 | 3 => Material::Rsa { n: bytes.mpi()?.to_vec(), e: bytes.mpi()?.to_vec() },
            27 => Material::Ed25519(bytes.take(32)?.to_vec()),
            algorithm @ (19 | 22) => {
                let length = bytes.u8()?;
                let oid = bytes.take(usize::from(length))?;
                let point = bytes.mpi()?;
                match (algorithm, oid, point.first()?, point.len()) {
                    (22, OID_ED25519, 0x40, 33) => Material::Ed25519(point[1..].to_vec()),
                    (19, OID_P256, 4, 65) => Material::P256(point.to_vec()),
                    (19, OID_P384, 4, 97) => Material::P384(point.to_vec()),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let mut key = Key {
            material,
            created,
            body: body.to_vec(),
            fingerprint: Vec::new(),
            standing: Standing::default(),
        };
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &key.hashed()?);
        key.fingerprint = hash.as_ref().to_vec();
        Some(key)
    }

    /// As signatures over keys hash it.
    fn hashed(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0x99];
        bytes.extend_from_slice(&u16::try_from(self.body.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        Some(bytes)
    }

    pub(super) fn fingerprint_bytes(&self) -> &[u8] {
        &self.fingerprint
    }

    pub(super) fn fingerprint(&self) -> String {
        self.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Takes what a valid signature says of this key, if it is the last word.
    fn take(&mut self, signature: &Signature<'_>, may_sign: bool) {
        if self.standing.is_bound && signature.created < self.standing.said {
            return;
        }
        self.standing = Standing {
            is_bound: true,
            is_revoked: self.standing.is_revoked,
            may_sign,
            expires: signature.key_expires_after.map(|s| self.created.saturating_add(s)),
            said: signature.created,
        };
    }
}

impl Certificate {
    /// All certificates of a keyring whose primary key is of a kind that is supported.
    pub(super) fn read_all(binary: &[u8]) -> Result<Vec<Certificate>, PgpError> {
        let mut certificates = Vec::new();
        let mut packets: Vec<Packet<'_>> = Vec::new();
        for packet in Packets::new(binary) {
            let packet = packet?;
            if packet.tag == Tag::PUBLIC_KEY {
                certificates.extend(Certificate::read(&packets));
                packets.clear();
            } else if packets.is_empty() {
                return Err(super::form("it is no keyring: it does not begin with a public key"));
            }
            if packets.len() < PACKETS_MAX {
                packets.push(packet);
            }
        }
        certificates.extend(Certificate::read(&packets));
        Ok(certificates)
    }

    fn read(packets: &[Packet<'_>]) -> Option<Certificate> {
        let (first, rest) = packets.split_first()?;
        let mut certificate = Certificate { primary: Key::parse(first.body)?, subkeys: Vec::new() };
        let hashed = certificate.primary.hashed()?;
        // What the signatures that follow are about: behind the key, this.
        let mut about = Some(hashed.clone());
        let mut at = Tag::PUBLIC_KEY;
        for packet in rest {
            match packet.tag {
                Tag::SIGNATURE => {
                    if let (Some(about), Ok(signature)) = (&about, Signature::parse(packet.body)) {
                        certificate.learn(at, about, &signature);
                    }
                }
                tag @ (Tag::USER_ID | Tag::USER_ATTRIBUTE) => {
                    let mut name = hashed.clone();
                    name.push(if tag == Tag::USER_ID { 0xb4 } else { 0xd1 });
                    name.extend_from_slice(&u32::try_from(packet.body.len()).ok()?.to_be_bytes());
                    name.extend_from_slice(packet.body);
                    (about, at) = (Some(name), tag);
                }
                Tag::PUBLIC_SUBKEY => {
                    at = packet.tag;
                    about = Key::parse(packet.body).and_then(|key| {
                        let mut both = hashed.clone();
                        both.extend(key.hashed()?);
                        certificate.subkeys.push(key);
                        Some(both)
                    });
                }
                // Trust packets and others of no meaning.
                _ => {}
            }
        }
        Some(certificate)
    }

    /// Takes what a signature says, if the primary key made it.
    fn learn(&mut self, at: Tag, about: &[u8], signature: &Signature<'_>) {
        let is_own =
            || signature.names(&self.primary) && signature.is_by(&self.primary, about.to_vec());
        let flags_sign = signature.key_flags.is_none_or(|flags| flags & FLAG_SIGN != 0);
        match (at, signature.kind) {
            (Tag::PUBLIC_KEY, Kind::KeyRevocation) if is_own() => {
                self.primary.standing.is_revoked = true;
            }
            (Tag::PUBLIC_KEY, Kind::DirectKey) | (Tag::USER_ID, Kind::Certification)
                if is_own() =>
            {
                self.primary.take(signature, flags_sign);
            }
            (Tag::PUBLIC_SUBKEY, Kind::SubkeyRevocation) if is_own() => {
                if let Some(subkey) = self.subkeys.last_mut() {
                    subkey.standing.is_revoked = true;
                }
            }
            (Tag::PUBLIC_SUBKEY, Kind::SubkeyBinding) if is_own() => {
                let Some(subkey) = self.subkeys.last_mut() else { return };
                // A key that signs must say itself that it belongs here: else somebody could adopt
                // another's key, and with it what that one signed.
                let embedded = signature.embedded.map(Signature::parse);
                let agreed = embedded.is_some_and(|back| {
                    back.is_ok_and(|back| {
                        back.kind == Kind::PrimaryBinding && back.is_by(subkey, about.to_vec())
                    })
                });
                let flagged = signature.key_flags.is_some_and(|flags| flags & FLAG_SIGN != 0);
                subkey.take(signature, flagged && agreed);
            }
            _ => {}
        }
    }

    /// The primary key and its subkeys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.primary).chain(&self.subkeys)
    }

    /// Why this key of it may not sign files now, if it may not.
    pub(super) fn why_not(&self, key: &Key, now: u64) -> Option<&'static str> {
        let ended = |key: &Key| {
            let Standing { is_bound, is_revoked, expires, .. } = key.standing;
            match (is_revoked, is_bound, expires.is_some_and(|at| at <= now)) {
                (true, ..) => Some("is revoked"),
                (_, false, _) => Some("has no valid signature of its owner"),
                (.., true) => Some("has expired"),
                _ => None,
            }
        };
        let may_not = (!key.standing.may_sign).then_some("is not for signing");
        ended(&self.primary).or_else(|| ended(key)).or(may_not)
    }
}
