//! All that a token may bring with it, for the fuzzer: none of it may panic, or be believed.

use crate::{
    keys::Key,
    token::{Access, Verifier},
};

/// Reads `input` as a token, and as each of its parts.
pub fn read(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let verifier = Verifier::of("issuer", "service", Key::ed25519(&[9; 32]));
    assert!(verifier.check(&text).is_none(), "nobody signed it");
    crate::token::read(input);
    crate::keys::read(input);
    if let Some(access) = Access::parse(&text) {
        assert!(access.covers(&access));
    }
}
