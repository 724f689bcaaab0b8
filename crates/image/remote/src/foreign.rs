//! All that reads a registry's words, for the fuzzer: none of it may panic.

use crate::{
    blob, challenge,
    error::Said,
    repository, upload,
    url::{Origin, Scheme, Url},
};

/// Reads `input` as everything that a registry may send beside content.
pub fn read(input: &[u8]) {
    let _kind = repository::kind_of("", input);
    let _said = Said::of(400, input);
    let text = String::from_utf8_lossy(input);
    let _challenge = challenge::Challenge::best(text.lines());
    let scopes = challenge::Scopes::parse(&text);
    assert!(scopes.covers(&scopes));
    let _ranges = (blob::first_byte(&text), upload::last_byte(&text), repository::next_page(&text));
    let origin = Origin { scheme: Scheme::Https, host: "r.example".into(), port: 443 };
    if let Ok(url) = Url::at(&origin, "/v2/a?b").join(&text) {
        let again: Url = url.to_string().parse().expect("what was read can be read again");
        assert_eq!(again, url);
        assert!(url.path.starts_with('/'));
    }
}
