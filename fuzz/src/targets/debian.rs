//! What archives of Debian packages send, and what people write about them.

use hako_tar::{Header, Kind, Writer};

const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

/// What signed by which key: gpg's work, which the crate's own tests have too.
macro_rules! signed {
    ($($name:literal),*) => {
        [$(&include_bytes!(concat!("../../../crates/image/deb/src/openpgp/testdata/", $name))[..]),*]
    };
}

pub(super) fn texts() -> Vec<Vec<u8>> {
    let package = format!(
        "Package: a\nVersion: 1:2.0~rc1-3\nArchitecture: amd64\nProvides: x (= 1), y\n\
         Depends: b (>= 2) | c:any [!i386],\n d\nFilename: pool/a.deb\nSize: 5\nSHA256: {HEX}\n\n"
    );
    let release = format!(
        "Suite: test\nCodename: test\nDate: Sat, 10 Jun 2023 08:53:33 UTC\n\
         Valid-Until: Sat, 17 Jun 2023 08:53:33 UTC\nSHA256:\n {HEX} 5 main/binary-amd64/Packages.xz\n"
    );
    let lock = format!(
        "{{\"version\":1,\"suite\":\"s\",\"architecture\":\"amd64\",\"sources\":[{{\"uri\":\"http://a\",\
         \"suite\":\"s\",\"components\":[\"main\"],\"release\":\"sha256:{HEX}\",\"date\":1}}],\"packages\":\
         [{{\"name\":\"a\",\"version\":\"1\",\"architecture\":\"all\",\"source\":0,\"filename\":\"p/a\",\
         \"size\":5,\"digest\":\"sha256:{HEX}\",\"requires\":[]}}]}}"
    );
    let others = [
        "1.0~rc1-1\n1:1.0-1+b1",
        "deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://a.example/debian s/updates main x",
        "Types: deb\nURIs: http://a\nSuites: s s-updates\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n x\n",
        "machine http://a.example/debian login me password x",
        "https://u:p@a.example/x",
    ];
    let others = others.map(str::to_owned);
    [package.clone(), package.repeat(2), release, lock]
        .into_iter()
        .chain(others)
        .map(String::into_bytes)
        .collect()
}

pub(super) fn words(input: &[u8]) {
    hako_deb::foreign::words(input);
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new(*path, Kind::File, 0o644);
        header.size = content.len() as u64;
        writer.append(&header, *content).expect("in memory");
    }
    writer.finish().expect("in memory")
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let length = content.len();
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`\n", 0, 0, 0, 100_644);
        bytes.extend(header.bytes());
        bytes.extend_from_slice(content);
        bytes.extend(std::iter::repeat_n(b'\n', length % 2));
    }
    bytes
}

pub(super) fn packages() -> Vec<Vec<u8>> {
    let control = tar(&[
        ("./control", b"Package: a\nVersion: 1\nArchitecture: all\n"),
        ("./postinst", b"#!/bin/sh\n"),
    ]);
    let data = tar(&[("./etc/a", b"hello")]);
    let whole = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)]);
    let odd = ar(&[
        ("debian-binary", b"2.0\n"),
        ("_own", b"x"),
        ("control.tar/", &control),
        ("data.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"),
    ]);
    vec![whole, odd]
}

pub(super) fn package(input: &[u8]) {
    hako_deb::foreign::package(input);
}

pub(super) fn signatures() -> Vec<Vec<u8>> {
    let files = signed!(
        "rsa.signed",
        "sub.signed",
        "p256.signed",
        "two.signed",
        "rsa.detached",
        "sub.detached",
        "sub.asc",
        "revoked.asc",
        "dsa.gpg",
        "ring.gpg"
    );
    files.map(<[u8]>::to_vec).to_vec()
}

pub(super) fn signed(input: &[u8]) {
    hako_deb::foreign::signed(input, signed!("ring.gpg")[0]);
}
