use std::io::Write;

use hako_tar::{Header, Writer};

use super::*;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new(*path, Kind::File, 0o755);
        header.size = content.len() as u64;
        writer.append(&header, *content).unwrap();
    }
    writer.finish().unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (name, content) in members {
        writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100644, content.len())
            .unwrap();
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

const CONTROL: &[u8] = b"Package: a\nVersion: 1\nArchitecture: all\n";

fn package(control: &[(&str, &[u8])], data: &[u8]) -> Vec<u8> {
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("_own", b"odd"),
        ("control.tar", &tar(control)),
        ("data.tar/", data),
    ])
}

#[test]
fn a_package_is_read() {
    let data = tar(&[("./etc/a", b"hello")]);
    let bytes = package(&[("./control", CONTROL), ("postinst", b"#!/bin/sh\n")], &data);
    let deb = Deb::open(&bytes[..]).unwrap();
    assert_eq!(deb.control().package(), "a");
    assert_eq!(deb.member("postinst").unwrap().mode, 0o755);
    let mut read = Vec::new();
    deb.into_data().read_to_end(&mut read).unwrap();
    assert_eq!(read, data);
}

#[test]
fn every_cut_is_an_error() {
    let data = tar(&[("./a", b"hello")]);
    let bytes = package(&[("control", CONTROL)], &data);
    for end in 0..bytes.len() {
        let whole = Deb::open(&bytes[..end])
            .and_then(|deb| deb.into_data().read_to_end(&mut Vec::new()).map_err(Error::ReadDeb));
        assert!(whole.is_err(), "cut at {end} of {}", bytes.len());
    }
}

#[test]
fn what_is_no_package() {
    let tarred = tar(&[("control", CONTROL)]);
    let bomb = zstd::encode_all(&tar(&[("md5sums", &[0; 20 << 20])])[..], 1).unwrap();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("no ar", b"PK\x03\x04 something".to_vec(), "no ar archive"),
        ("version", ar(&[("debian-binary", b"3.0\n")]), "version \"3.0\""),
        ("order", ar(&[("control.tar", &tarred)]), "first member"),
        (
            "order of tars",
            ar(&[("debian-binary", b"2.0\n"), ("data.tar", &tarred)]),
            "after the version comes \"data.tar\"",
        ),
        (
            "unknown member",
            ar(&[("debian-binary", b"2.0\n"), ("x", b"")]),
            "after the version comes \"x\"",
        ),
        (
            "compression",
            ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &tarred)]),
            "compressed with none",
        ),
        ("bomb", ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &bomb)]), "control.tar.zst"),
        ("no control", package(&[("postinst", b"")], b""), "no control file"),
        ("a path", package(&[("../control", CONTROL)], b""), "no plain file"),
        ("another path", package(&[("a/control", CONTROL)], b""), "no plain file"),
        ("twice", package(&[("control", CONTROL), ("./control", CONTROL)], b""), "twice"),
        ("a lie", package(&[("control", b"Package: a\n")], b""), "no field"),
    ];
    for (name, bytes, want) in cases {
        let error = Deb::open(&bytes[..]).expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(at in 0usize..2000, byte: u8) {
        let mut bytes = package(&[("control", CONTROL)], &tar(&[("./a", b"hello")]));
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(deb) = Deb::open(&bytes[..]) {
            let _ = deb.into_data().read_to_end(&mut Vec::new());
        }
    }
}
