//! All that reads an archive's words, for the fuzzer: none of it may panic.

use std::io::{self, Read};

use crate::{
    Control, Deb, Keyring, Selection, Source, Version, clauses, deb822, index::Index, net, openpgp,
    release::Release, sources, version,
};

/// Reads `input` as everything that people and archives write in lines.
pub fn words(input: &[u8]) {
    if let Ok(all) = deb822::paragraphs(input, false) {
        for paragraph in all {
            let again = deb822::paragraphs(paragraph.text().as_bytes(), false);
            assert_eq!(again.ok(), Some(vec![paragraph]), "what was read reads the same");
        }
    }
    let control = Control::parse(input);
    assert!(control.is_err() || !control.is_ok_and(|c| c.package().contains('/')));
    let text = String::from_utf8_lossy(input);
    if let Ok(clauses) = clauses(&text) {
        for clause in clauses {
            assert_eq!(clause.to_string().parse(), Ok(clause));
        }
    }
    let (a, b) = text.split_once('\n').unwrap_or((&text, "1"));
    assert_eq!(version::compare(a, b), version::compare(b, a).reverse());
    assert!(a.parse::<Version>().is_err() || !a.contains(['/', ' ', '\0']));
    sources::read_text(&text);
    net::read_words(&text);
    if let Ok(selection) = Selection::from_lock(input) {
        let again = selection.to_lock().and_then(|lock| Selection::from_lock(&lock));
        assert_eq!(again.ok(), Some(selection));
    }
    // An index is as short as what it was made of, and what was written can be read.
    let mut short = Vec::new();
    if Index::shorten(input, 1 << 20, "amd64", &mut short).is_ok() {
        assert!(Index::of(short).is_some());
    }
    let source = Source { suite: "test".into(), ..Source::default() };
    if let Ok(release) = Release::parse(&text, |_| true) {
        let dates = crate::release::Dates { check_valid_until: true, check_date: true, now: 0 };
        release.check(&source, dates).ok();
    }
}

/// Reads `input` as a package, to its end.
pub fn package(input: &[u8]) {
    if let Ok(deb) = Deb::open(input) {
        assert!(deb.members().contains_key("control"));
        // A small input becomes no more than this before it is told to stop.
        io::copy(&mut deb.into_data().take(64 << 20), &mut io::sink()).ok();
    }
}

/// Reads `input` as what is signed, as a signature, and as a keyring that signed it.
pub fn signed(input: &[u8], keyring: &[u8]) {
    let mut ring = Keyring::default();
    ring.add(input).ok();
    let mut good = Keyring::default();
    good.add(keyring).ok();
    for ring in [ring, good] {
        ring.verify(b"content", input, 1 << 31).ok();
        if let Ok(text) = openpgp::split(input) {
            assert!(!text.text.contains('\0'));
            ring.verify_clear(&text, 1 << 31).ok();
        }
    }
}
