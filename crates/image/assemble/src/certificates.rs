//! Certificate authorities, as `update-ca-certificates` and `openssl rehash` leave them in
//! `/etc/ssl/certs`: the bundle, a link for each, and links by the hash of their names.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha1::{Digest as _, Sha1};

use crate::{Error, Result, error::lossy, layer::Made, unpack::Unpacked};

const SOURCE: &[u8] = b"usr/share/ca-certificates/";
const TARGET: &str = "etc/ssl/certs";
const CERTIFICATE_BYTES_MAX: u64 = 64 << 10;
/// The bundle is held in memory while it is made.
const CERTIFICATES_MAX: usize = 1000;

/// What becomes of the certificates of a package.
pub(crate) fn make(package: &Unpacked) -> Result<Vec<Made>> {
    let mut entries: Vec<_> = package
        .entries
        .iter()
        .filter(|e| e.header.kind == hako_tar::Kind::File)
        .filter(|e| e.header.path.starts_with(SOURCE) && e.header.path.ends_with(b".crt"))
        .collect();
    entries.sort_by(|a, b| a.header.path.cmp(&b.header.path));
    if entries.len() > CERTIFICATES_MAX {
        let limit = CERTIFICATES_MAX as u64;
        let package = package.name().to_owned();
        return Err(Error::Limit { package, what: "certificates", limit });
    }
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let (mut bundle, mut list) = (Vec::new(), Vec::new());
    // Hashes go by the names of the links, in order.
    let mut links: BTreeMap<Vec<u8>, (Vec<u8>, u32)> = BTreeMap::new();
    for entry in entries {
        let path = &entry.header.path;
        let bad =
            |why| Error::Certificate { package: package.name().into(), path: lossy(path), why };
        let pem = package.read(entry, CERTIFICATE_BYTES_MAX)?;
        let hash = subject_hash(&der(&pem).map_err(bad)?).ok_or_else(|| bad("is damaged"))?;
        bundle.extend(&pem);
        if !pem.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        list.extend(&path[SOURCE.len()..]);
        list.push(b'\n');
        links.insert(link_name(path), ([b"/", &path[..]].concat(), hash));
    }
    let mut made = vec![
        Made::file("etc/ca-certificates.conf", 0o644, list),
        Made::file(format!("{TARGET}/ca-certificates.crt"), 0o644, bundle),
    ];
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for (name, (target, hash)) in links {
        let number = seen.entry(hash).and_modify(|n| *n += 1).or_default();
        made.push(Made::link(format!("{TARGET}/{hash:08x}.{number}"), name.clone()));
        made.push(Made::link([TARGET.as_bytes(), b"/", &name].concat(), target));
    }
    Ok(made)
}

/// `update-ca-certificates` makes names of files plain.
fn link_name(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let name = name.strip_suffix(b".crt").unwrap_or(name);
    let plain = name.iter().map(|b| match b {
        b' ' | b',' => b'_',
        b'(' | b')' => b'=',
        b => *b,
    });
    plain.chain(*b".pem").collect()
}

/// The one certificate of a file.
fn der(pem: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = str::from_utf8(pem).map_err(|_| "is no text")?;
    let (_, text) = text.split_once("-----BEGIN CERTIFICATE-----").ok_or("has no certificate")?;
    let (text, rest) = text.split_once("-----END CERTIFICATE-----").ok_or("is cut off")?;
    if rest.contains("-----BEGIN") {
        return Err("has several certificates");
    }
    let text: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(text).map_err(|_| "is damaged")
}

/// DER's tags that are met in names.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const VERSION: u8 = 0xa0;

/// The hash by which OpenSSL finds a certificate: SHA-1 of its subject, in which strings are made
/// UTF-8, lower case, and without superfluous spaces.
fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let (to_be_signed, _) = take(take(certificate, SEQUENCE)?.0, SEQUENCE)?;
    let mut left = to_be_signed;
    if left.first() == Some(&VERSION) {
        (_, left) = take(left, VERSION)?;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        (_, _, left) = any(left)?;
    }
    let (mut names, _) = take(left, SEQUENCE)?;
    let mut canonical = Vec::new();
    while !names.is_empty() {
        let (mut set, rest) = take(names, SET)?;
        names = rest;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, rest) = take(set, SEQUENCE)?;
            set = rest;
            let (oid_tag, oid, value) = any(attribute)?;
            let (tag, text, _) = any(value)?;
            let value = match utf8(tag, text) {
                Some(text) => encode(UTF8_STRING, canon(&text).as_bytes()),
                None => encode(tag, text),
            };
            attributes.push(encode(SEQUENCE, &[encode(oid_tag, oid), value].concat()));
        }
        // A set's encoding is ordered.
        attributes.sort();
        canonical.extend(encode(SET, &attributes.concat()));
    }
    let digest = Sha1::digest(&canonical);
    Some(u32::from_le_bytes(digest[..4].try_into().ok()?))
}

/// The text of a string type; `None` of what is no string.
fn utf8(tag: u8, text: &[u8]) -> Option<String> {
    let wide = |size: usize| {
        let number = |c: &[u8]| c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let whole = text.len().is_multiple_of(size);
        whole
            .then(|| text.chunks(size).map(|c| char::from_u32(number(c))).collect::<Option<_>>())?
    };
    match tag {
        // UTF8String
        UTF8_STRING => String::from_utf8(text.to_vec()).ok(),
        // PrintableString, T61String (read as Latin 1), IA5String, VisibleString
        0x13 | 0x14 | 0x16 | 0x1a => Some(text.iter().map(|&b| char::from(b)).collect()),
        // UniversalString
        0x1c => wide(4),
        // BMPString
        0x1e => wide(2),
        _ => None,
    }
}

fn canon(text: &str) -> String {
    let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

/// Content of a value that must have this tag, and what is behind it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what is behind it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (digits.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        long => {
            let digits = long.to_be_bytes();
            let digits = &digits[digits.iter().take_while(|b| **b == 0).count()..];
            bytes.push(0x80 + digits.len() as u8);
            bytes.extend(digits);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509`; the hash is what `openssl x509 -hash` says.
    const CERTIFICATE: &str = include_str!("certificates/test.crt");

    #[test]
    fn hashes_are_those_of_openssl() {
        let der = der(CERTIFICATE.as_bytes()).unwrap();
        let want = include_str!("certificates/test.hash").trim();
        assert_eq!(format!("{:08x}", subject_hash(&der).unwrap()), want);
    }

    #[test]
    fn cut_certificates_have_no_hash_and_do_no_harm() {
        let der = der(CERTIFICATE.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert_eq!(subject_hash(&der[..end]), None, "{end}");
        }
    }

    #[test]
    fn strings_become_canonical() {
        assert_eq!(canon("  A  b\tC "), "a b c");
        assert_eq!(utf8(0x1e, b"\0A\0\xe4").as_deref(), Some("A\u{e4}"));
        assert_eq!(utf8(0x1e, b"\0A\0"), None);
        assert_eq!(utf8(0x02, b"1"), None);
        assert_eq!(link_name(b"a/b/X (Y), Z.crt"), b"X_=Y=__Z.pem");
    }

    #[test]
    fn der_lengths() {
        assert_eq!(any(&[4, 0x82, 0, 1, 7, 8]), Some((4, &[7][..], &[8][..])));
        assert_eq!(any(&[4, 0x85, 0, 0, 0, 0, 1, 7]), None);
        assert_eq!(any(&[4, 2, 7]), None);
        assert_eq!(encode(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }
}
