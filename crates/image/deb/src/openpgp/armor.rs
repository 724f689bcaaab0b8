//! ASCII armor (RFC 9580, section 6.2).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{PgpError, form};

const BEGIN: &str = "-----BEGIN PGP ";
const END: &str = "-----END PGP ";
const DASHES: &str = "-----";

/// Whether this is armored: the first byte of a packet has its highest bit set.
pub(super) fn is_armored(bytes: &[u8]) -> bool {
    bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(u8::is_ascii)
}

/// The content of all blocks of this kind, in a row. Blocks of other kinds are an error; text
/// around blocks is not.
pub(super) fn decode_all(bytes: &[u8], kind: &str) -> Result<Vec<u8>, PgpError> {
    let text = str::from_utf8(bytes).map_err(|_| form("its armor is no text"))?;
    let mut lines = text.lines().map(str::trim_end);
    let mut binary = Vec::new();
    let mut blocks = 0;
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix(BEGIN).and_then(|l| l.strip_suffix(DASHES)) else {
            continue;
        };
        if found != kind {
            return Err(form(format!("it has a {found:?}, want a {kind:?}")));
        }
        blocks += 1;
        let mut body = String::new();
        let mut in_headers = true;
        loop {
            let line = lines.next().ok_or_else(|| form("its armor has no end"))?;
            if line.strip_prefix(END).and_then(|l| l.strip_suffix(DASHES)) == Some(kind) {
                break;
            }
            // Headers are told by their colon; the empty line behind them is missing in some.
            if in_headers && (line.is_empty() || line.contains(": ")) {
                in_headers = !line.is_empty();
                continue;
            }
            in_headers = false;
            // The checksum finds accidents only, and RFC 9580 gave it up.
            if line.starts_with('=') && line.len() == 5 {
                continue;
            }
            body.push_str(line);
        }
        let decoded = STANDARD.decode(body).map_err(|e| form(format!("its armor is broken: {e}")));
        binary.extend(decoded?);
    }
    match blocks {
        0 => Err(form(format!("there is no {kind:?} in it"))),
        _ => Ok(binary),
    }
}
