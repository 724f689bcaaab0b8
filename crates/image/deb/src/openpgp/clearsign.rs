//! Texts that are signed in the clear (RFC 9580, section 7), as `InRelease` is.
//!
//! ```text
//! -----BEGIN PGP SIGNED MESSAGE-----
//! Hash: SHA256
//!
//! the text; a line that begins with a dash has "- " before it
//! -----BEGIN PGP SIGNATURE-----
//! ...
//! -----END PGP SIGNATURE-----
//! ```
//!
//! The file is this and nothing else: what stood before, between or behind it would be read by some
//! and signed by nobody.

use super::{PgpError, form};

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// A text and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clearsigned {
    /// The text as it was signed: lines without spaces at their ends.
    pub text: String,
    /// In armor.
    pub signature: String,
}

/// Takes a file apart. Nothing of it is believed yet.
pub(crate) fn split(bytes: &[u8]) -> Result<Clearsigned, PgpError> {
    let file = str::from_utf8(bytes).map_err(|_| form("it is no text"))?;
    if file.contains('\0') {
        return Err(form("there is a zero byte in it"));
    }
    // Not `str::lines`: a carriage return in the middle of a line ends none.
    let mut lines = file.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r']));
    if lines.next() != Some(BEGIN) {
        return Err(form("it does not begin with a signed message"));
    }
    loop {
        match lines.next() {
            Some("") => break,
            Some(header) if header.starts_with("Hash: ") => {}
            Some(_) => return Err(form("it has other headers than \"Hash\"")),
            None => return Err(form("it has no text")),
        }
    }
    let mut text = String::with_capacity(file.len());
    loop {
        let line = lines.next().ok_or_else(|| form("there is no signature in it"))?;
        match line {
            SIGNATURE => break,
            _ => match line.strip_prefix('-') {
                None => text.push_str(line),
                Some(escaped) => match escaped.strip_prefix(' ') {
                    Some(rest) => text.push_str(rest),
                    // A dash alone had its space trimmed.
                    None if escaped.is_empty() => {}
                    None => return Err(form("a line of its text begins with a dash")),
                },
            },
        }
        text.push('\n');
    }
    let mut signature = format!("{SIGNATURE}\n");
    loop {
        let line = lines.next().ok_or_else(|| form("its signature has no end"))?;
        if line.starts_with('-') && line != END {
            return Err(form("a line of its signature begins with a dash"));
        }
        signature.push_str(line);
        signature.push('\n');
        if line == END {
            break;
        }
    }
    match lines.all(str::is_empty) {
        true => Ok(Clearsigned { text, signature }),
        false => Err(form("something follows its signature")),
    }
}

impl Clearsigned {
    /// What is hashed: lines that end in CR LF, the last without.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let text = self.text.strip_suffix('\n').unwrap_or(&self.text);
        with_crlf(text.as_bytes())
    }
}

/// Ends lines in CR LF.
pub(super) fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + text.len() / 32);
    for (i, line) in text.split(|b| *b == b'\n').enumerate() {
        if i > 0 {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
    }
    bytes
}
