//! Packages that are put together.

use std::collections::BTreeSet;

use hako_assemble::{Assembly, Style, unpack};
use hako_tar::{Header, Kind, Reader, Writer};

/// The input as the files of a package. It holds whatever a package has in it: what becomes a
/// layer leads nowhere else, and goes through nothing that is not a directory.
pub(super) fn assemble(input: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = ["aa", "bb"].map(|name| dir.path().join(name));
    let other: &[u8] = &super::images::tars()[0];
    for (path, data) in paths.iter().zip([input, other]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(path, deb(&name, data)).expect("a file");
    }
    let Ok(packages) = unpack(&paths, dir.path(), &|_| {}) else { return };
    let requires = [Vec::new(), vec![0]];
    let assembly = Assembly::new(packages, &requires, &BTreeSet::new(), Style::Distroless, None);
    let Ok(assembly) = assembly else { return };
    for group in 0..assembly.groups().len() {
        let mut tar = Vec::new();
        if assembly.write(group, &mut tar).is_ok() {
            check(&tar);
        }
    }
}

fn check(tar: &[u8]) {
    let mut reader = Reader::new(tar);
    let mut directories: BTreeSet<Vec<u8>> = BTreeSet::new();
    while let Some(entry) = reader.next_entry().expect("what was written can be read") {
        let header = entry.header();
        let path = header.path.strip_suffix(b"/").unwrap_or(&header.path);
        let names: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        assert!(names.iter().all(|name| !matches!(*name, b"" | b"." | b"..")), "{path:?}");
        let parent = names[..names.len() - 1].join(&b'/');
        assert!(parent.is_empty() || directories.contains(&parent), "{path:?}");
        if header.kind == Kind::Directory {
            directories.insert(path.to_vec());
        }
        assert!(!matches!(header.kind, Kind::Char | Kind::Block | Kind::Other(_)), "{path:?}");
    }
}

/// A package with these files.
fn deb(name: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("Package: {name}\nVersion: 1\nArchitecture: all\nReplaces: aa, bb\n");
    let mut control = Writer::new(Vec::new());
    let mut header = Header::new("./control", Kind::File, 0o644);
    header.size = text.len() as u64;
    control.append(&header, text.as_bytes()).expect("memory can be written");
    let control = control.finish().expect("memory can be written");
    let mut deb = b"!<arch>\n".to_vec();
    let members = [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", data)];
    for (name, bytes) in members {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len());
        deb.extend(header.into_bytes());
        deb.extend(bytes);
        deb.extend(&b"\n"[..bytes.len() % 2]);
    }
    deb
}
