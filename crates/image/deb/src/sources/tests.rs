use std::fs;

use super::*;

/// A root with these files in `/etc/apt`.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join("etc/apt").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn shown(sources: &Sources) -> Vec<String> {
    let line = |s: &Source| format!("{} {} {}", s.uri, s.suite, s.components.join(","));
    sources.sources.iter().map(line).collect()
}

const DEB822: &str = "Types: deb deb-src\n# a comment\nURIs: http://a.example/debian/\n\
    Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /usr/share/keyrings/a.gpg\n\n\
    Types: deb\nURIs: http://s.example/security\nSuites: bookworm-security\nComponents: main\n\
    Architectures: amd64 arm64\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\n\
    Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n\n\
    Types: deb-src\nURIs: http://src.example\nSuites: bookworm\nComponents: main\n";

#[test]
fn a_machine_s_files() {
    let files = [
        ("sources.list", "# old\ndeb [arch=amd64 trusted=yes] http://b.example x main # more\n"),
        ("sources.list.d/debian.sources", DEB822),
        ("sources.list.d/c.list", "deb-src http://c bookworm main\ndeb file:/srv/c ./\n"),
        ("sources.list.d/d.list.save", "broken"),
    ];
    let dir = root(&files);
    let sources = Sources::of_machine(dir.path(), "bookworm", Settings::default()).unwrap();
    assert_eq!(
        shown(&sources),
        [
            "http://a.example/debian bookworm main,contrib",
            "http://a.example/debian bookworm-updates main,contrib",
            "http://s.example/security bookworm-security main",
        ]
    );
    assert_eq!(sources.sources[0].signed_by, [SignedBy::File("/usr/share/keyrings/a.gpg".into())]);
    let SignedBy::Key(key) = &sources.sources[2].signed_by[0] else { panic!("no key") };
    assert_eq!(key.trim_start(), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n");
    let x = Sources::of_machine(dir.path(), "x", Settings::default()).unwrap();
    assert!(x.sources[0].trusted && x.sources[0].architectures == ["amd64"]);
    let error = Sources::of_machine(dir.path(), "sid", Settings::default()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("bookworm, bookworm-security, bookworm-updates, x"), "{error}");
    // What belongs to a suite is none itself.
    assert!(Sources::of_machine(dir.path(), "book", Settings::default()).is_err());
}

#[test]
fn what_is_no_source() {
    let cases = [
        ("deb http://a", "no suite"),
        ("deb http://a x", "no components"),
        ("deb nothing x main", "no address"),
        ("rpm http://a x main", "neither deb nor deb-src"),
        ("deb [trusted=perhaps] http://a x main", "neither yes nor no"),
        ("deb [trusted] http://a x main", "without a value"),
        ("deb [trusted=yes http://a x main", "no ] closes"),
        ("deb [signed-by=a.gpg] http://a x main", "neither a keyring"),
        ("deb http://a ../x main", "no suite's name"),
        ("deb http://a x ../main", "a component that is none"),
    ];
    for (line, want) in cases {
        let dir = root(&[("sources.list", line)]);
        let error = Sources::of_machine(dir.path(), "x", Settings::default()).unwrap_err();
        assert!(error.to_string().contains(want), "{line}: {error}");
    }
}

#[test]
fn given_sources() {
    let given = Given {
        mirrors: vec!["http://a.example/debian//".into()],
        suites: vec!["trixie".into(), "trixie-updates".into()],
        components: vec!["main".into()],
        keyrings: vec!["/k.gpg".into()],
        trusted: false,
    };
    let sources = Sources::given(&given, Settings::default()).unwrap();
    assert_eq!(
        shown(&sources),
        ["http://a.example/debian trixie main", "http://a.example/debian trixie-updates main"]
    );
    assert!(Sources::given(&Given { suites: vec![], ..given }, Settings::default()).is_err());
}

#[test]
fn keyrings_that_nobody_named() {
    let dir = root(&[("trusted.gpg.d/old.gpg", "a keybox"), ("trusted.gpg.d/b.gpg~", "")]);
    let keys = include_bytes!("../openpgp/testdata/rsa.asc");
    fs::write(dir.path().join("etc/apt/trusted.gpg.d/good.asc"), keys).unwrap();
    fs::write(dir.path().join("etc/apt/sources.list"), "deb http://a x main\n").unwrap();
    let mut sources = Sources::of_machine(dir.path(), "x", Settings::default()).unwrap();
    assert_eq!(sources.keyrings.len(), 2);
    assert!(!sources.keyring(&sources.sources[0]).unwrap().is_empty());
    // One that was named must be one.
    let old = dir.path().join("etc/apt/trusted.gpg.d/old.gpg");
    sources.sources[0].signed_by = vec![SignedBy::File(old)];
    assert!(sources.keyring(&sources.sources[0]).is_err());
    // One key of all that are there.
    let wanted = vec![SignedBy::Fingerprint("0123456789ABCDEF".into())];
    sources.sources[0].signed_by = wanted;
    assert!(sources.keyring(&sources.sources[0]).unwrap().is_empty());
}
