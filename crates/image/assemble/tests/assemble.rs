//! What packages become, and which do not become anything.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, io::Write as _, path::PathBuf};

use hako_assemble::{Assembly, Error, Style, unpack};
use hako_tar::{Header, Kind, Reader, Time, Writer};

/// A package: its control file's further fields, its control members, and entries as
/// `path`, `path/`, `path -> target`, `path = other path`; a mode may stand before, as `4755 `.
struct Package<'a> {
    name: &'a str,
    fields: &'a str,
    members: &'a [(&'a str, &'a str)],
    entries: &'a [&'a str],
}

const fn package<'a>(name: &'a str, fields: &'a str, entries: &'a [&'a str]) -> Package<'a> {
    Package { name, fields, members: &[], entries }
}

fn deb(package: &Package<'_>) -> Vec<u8> {
    let Package { name, fields, members, entries } = package;
    let mut control = Writer::new(Vec::new());
    let text = format!("Package: {name}\nVersion: 1.0\nArchitecture: all\n{fields}");
    for (name, text) in members.iter().copied().chain([("control", text.as_str())]) {
        let mut header = Header::new(format!("./{name}"), Kind::File, 0o644);
        header.size = text.len() as u64;
        control.append(&header, text.as_bytes()).unwrap();
    }
    let mut data = Writer::new(Vec::new());
    for entry in *entries {
        let mut words: Vec<&str> = entry.split(' ').collect();
        let mode = words[0].parse::<u32>().ok().map(|_| words.remove(0));
        let mode = mode.map(|mode| u32::from_str_radix(mode, 8).unwrap());
        let path = format!("./{}", words[0]);
        let mut header = match words[1..] {
            ["->", target] => {
                let mut header = Header::new(path, Kind::Symlink, 0o777);
                header.link = target.into();
                header
            }
            ["=", other] => {
                let mut header = Header::new(path, Kind::HardLink, 0o644);
                header.link = format!("./{other}").into();
                header
            }
            ["device"] => Header::new(path, Kind::Char, 0o644),
            _ if path.ends_with('/') => Header::new(path, Kind::Directory, mode.unwrap_or(0o755)),
            _ => Header::new(path, Kind::File, mode.unwrap_or(0o644)),
        };
        header.mtime = Time { seconds: 1_600_000_000 + name.len() as i64, nanos: 7 };
        header.uid = 0;
        let content = format!("{name}:{}", words[0]);
        if header.kind == Kind::File {
            header.size = content.len() as u64;
        }
        data.append(&header, content.as_bytes()).unwrap();
    }
    let mut deb = b"!<arch>\n".to_vec();
    let members: [(&str, &[u8]); 3] = [
        ("debian-binary", b"2.0\n"),
        ("control.tar", &control.finish().unwrap()),
        ("data.tar", &data.finish().unwrap()),
    ];
    for (name, bytes) in members {
        writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100644, bytes.len())
            .unwrap();
        deb.extend(bytes);
        deb.extend(&b"\n"[..bytes.len() % 2]);
    }
    deb
}

fn assemble(packages: &[Package<'_>], style: Style) -> Result<Assembly, Error> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = packages
        .iter()
        .map(|package| {
            let path = dir.path().join(format!("{}.deb", package.name));
            fs::write(&path, deb(package)).unwrap();
            path
        })
        .collect();
    let unpacked = unpack(&paths, dir.path(), &|_| {})?;
    let requires = vec![Vec::new(); packages.len()];
    let base = BTreeSet::from(["base-files".to_owned()]);
    Assembly::new(unpacked, &requires, &base, style, None)
}

/// The entries of a layer, files with their content where it is of a package.
fn listing(assembly: &Assembly, group: usize) -> Vec<String> {
    let mut tar = Vec::new();
    assembly.write(group, &mut tar).unwrap();
    let mut reader = Reader::new(&tar[..]);
    let mut lines = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
        let header = entry.header();
        let path = String::from_utf8_lossy(&header.path).into_owned();
        let link = String::from_utf8_lossy(&header.link).into_owned();
        if path.starts_with("var/lib/") || path == "var/" {
            continue;
        }
        lines.push(match header.kind {
            Kind::Directory => format!("{path} {:o}", header.mode),
            Kind::Symlink => format!("{path} -> {link}"),
            Kind::HardLink => format!("{path} = {link}"),
            _ => format!("{path} {:o} {content}", header.mode),
        });
    }
    lines
}

/// What is in all layers of these packages.
fn check(packages: &[Package<'_>], want: &[&str]) {
    let assembly = assemble(packages, Style::Distroless).unwrap();
    let lines: Vec<String> =
        (0..assembly.groups().len()).flat_map(|group| listing(&assembly, group)).collect();
    let lines: Vec<&String> = lines
        .iter()
        .filter(|line| {
            !["etc/passwd", "etc/group", "etc/ 755", "home/"].iter().any(|p| line.starts_with(p))
        })
        .collect();
    assert_eq!(lines, want);
}

fn check_refused(packages: &[Package<'_>], want: &str) {
    let error = assemble(packages, Style::Distroless).expect_err(want);
    assert!(error.to_string().contains(want), "{error}");
}

#[test]
fn what_goes_to_bin_goes_to_usr_bin() {
    check(
        &[package("dash", "", &["", "bin/", "bin/dash", "bin/sh -> dash", "bin/a = bin/dash"])],
        &[
            "bin -> usr/bin",
            "usr/ 755",
            "usr/bin/ 755",
            "usr/bin/dash 644 dash:bin/dash",
            "usr/bin/sh -> dash",
            "usr/bin/a = usr/bin/dash",
        ],
    );
    // The link itself, as newer packages have it, and libraries for both.
    check(
        &[
            package("libaa", "", &["lib/", "lib/a.so", "usr/", "usr/lib/", "usr/lib/b.so"]),
            package("usr-links", "", &["lib -> usr/lib", "usr/", "usr/lib/"]),
        ],
        &[
            "lib -> usr/lib",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/a.so 644 libaa:lib/a.so",
            "usr/lib/b.so 644 libaa:usr/lib/b.so",
        ],
    );
}

#[test]
fn links_to_directories_are_followed() {
    check(
        &[
            package("aa", "", &["d/", "d/real/", "d/link -> real"]),
            package("bb", "", &["d/", "d/link/", "d/link/file"]),
        ],
        &["d/ 755", "d/link -> real", "d/real/ 755", "d/real/file 644 bb:d/link/file"],
    );
    // Within the root, and not for ever.
    check(
        &[package("aa", "", &["out -> ../../srv"]), package("bb", "", &["out/evil"])],
        &["out -> ../../srv", "srv/ 755", "srv/evil 644 bb:out/evil"],
    );
    check_refused(
        &[package("aa", "", &["loop -> loop"]), package("bb", "", &["loop/x"])],
        "\"loop/x\" is behind links in a circle",
    );
}

#[test]
fn the_first_package_says_how_a_directory_looks() {
    check(
        &[package("aa", "", &["1777 tmp/"]), package("bb", "", &["755 tmp/", "4755 tmp/x"])],
        &["tmp/ 1777", "tmp/x 4755 bb:tmp/x"],
    );
}

#[test]
fn files_belong_to_one_package() {
    let entries = &["f"];
    for (a, b, want) in [
        ("Replaces: bb\n", "", Some("f 644 aa:f")),
        ("", "Replaces: xx, aa (<< 2)\n", Some("f 644 bb:f")),
        ("", "Replaces: aa (<< 0.9)\n", None),
        ("", "Replaces: a\n", None),
        ("", "", None),
    ] {
        let packages = [package("aa", a, entries), package("bb", b, entries)];
        match want {
            Some(want) => check(&packages, &[want]),
            None => check_refused(
                &packages,
                "package bb: trying to overwrite '/f', which is also in package aa 1.0",
            ),
        }
    }
    check_refused(
        &[package("aa", "", &["f/", "f/x"]), package("bb", "", &["f"])],
        "trying to overwrite '/f'",
    );
    check_refused(&[package("aa", "", &["f", "f/x"])], "trying to overwrite '/f'");
    check_refused(
        &[package("aa", "", &["f", "g"]), package("bb", "", &["f/x"])],
        "trying to overwrite '/f', which is also in package aa",
    );
}

#[test]
fn what_no_package_has_is_refused() {
    for (entry, want) in [
        ("../etc/passwd", "leads out of its directory"),
        ("a/../../x", "leads out of its directory"),
        ("dev/null device", "is a device"),
        ("usr/.wh.bin", "is a whiteout"),
        ("a = ../../etc/shadow", "leads out of its directory"),
    ] {
        check_refused(&[package("aa", "", &[entry])], want);
    }
}

#[test]
fn layers_do_not_depend_on_other_layers() {
    let base = package("base-files", "", &["etc/", "etc/issue", "1777 tmp/", "var/", "var/run/"]);
    let large = |name| Package {
        name,
        fields: "Installed-Size: 5000\n",
        members: &[],
        entries: &["usr/", "usr/bin/"],
    };
    let tars = |packages: &[Package<'_>]| -> Vec<(String, Vec<u8>)> {
        let assembly = assemble(packages, Style::Distroless).unwrap();
        let tar = |group: usize| {
            let mut tar = Vec::new();
            assembly.write(group, &mut tar).unwrap();
            tar
        };
        (0..assembly.groups().len())
            .map(|group| (assembly.groups()[group].name.clone(), tar(group)))
            .collect()
    };
    let one = tars(&[package("zz", "", &["z"]), large("aa"), base]);
    let base = package("base-files", "", &["etc/", "etc/issue", "1777 tmp/", "var/", "var/run/"]);
    let other = tars(&[large("aa"), large("bb"), base]);
    let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), ["base", "aa", "small packages"]);
    assert_eq!(names(&other), ["base", "aa", "bb"]);
    assert_eq!(one[..2], other[..2]);
}

#[test]
fn scanners_are_told_the_truth() {
    let package = Package {
        name: "aa",
        fields: "Maintainer: me\nDescription: one\n two\n",
        members: &[("conffiles", "/etc/aa.conf\n"), ("postinst", "#!/bin/sh\n")],
        entries: &["etc/", "etc/aa.conf", "usr/", "usr/aa"],
    };
    let assembly = assemble(&[package], Style::Distroless).unwrap();
    let mut tar = Vec::new();
    assembly.write(0, &mut tar).unwrap();
    let mut reader = Reader::new(&tar[..]);
    let mut found = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let path = String::from_utf8_lossy(&entry.header().path).into_owned();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        if path.starts_with("var/lib/dpkg/status.d/aa") {
            found.push((path, text));
        }
    }
    let status = "Package: aa\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n\
                  Maintainer: me\nDescription: one\n two\n";
    // md5sum of "aa:usr/aa"; configuration files have none, as in packages.
    let sums = "41ef0f50c7bc6f8b64a0acbf25b7b9db  usr/aa\n";
    assert_eq!(found[0], ("var/lib/dpkg/status.d/aa".into(), status.into()));
    assert_eq!(found[1], ("var/lib/dpkg/status.d/aa.md5sums".into(), sums.into()));
}

#[test]
fn dpkg_finds_its_database() {
    let package = Package {
        name: "aa",
        fields: "Multi-Arch: same\n",
        members: &[
            ("conffiles", "/etc/aa.conf\n"),
            ("triggers", "interest-noawait ldconfig\ninterest /usr/share/x\nactivate y\n"),
        ],
        entries: &["", "etc/", "etc/aa.conf", "bin/x"],
    };
    let assembly = assemble(&[package], Style::Dpkg).unwrap();
    let state = assembly.dpkg_state().unwrap();
    let text = |name: &str| String::from_utf8(state[name].clone()).unwrap();
    assert!(text("status").starts_with("Package: aa\nStatus: install ok unpacked\n"));
    assert!(text("status").contains("\nConffiles:\n /etc/aa.conf "));
    assert_eq!(text("triggers/ldconfig"), "aa:all/noawait\n");
    assert_eq!(text("triggers/File"), "/usr/share/x aa:all\n");
    let mut tar = Vec::new();
    assembly.write(0, &mut tar).unwrap();
    let tar = String::from_utf8_lossy(&tar).into_owned();
    assert!(tar.contains("var/lib/dpkg/info/aa:all.list"));
    assert!(tar.contains("/.\n/etc\n/etc/aa.conf\n/bin/x\n"));
}
