//! The same archives, seen by GNU tar and Python's tarfile.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    fmt::Write as _,
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use hako_tar::{Header, Kind, Reader, Time, Writer};

/// One line for each entry: what two readers must agree on.
const PYTHON: &str = r#"
import sys, tarfile, zlib
kinds = {b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "hard", b"2": "sym",
         b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errors="surrogateescape") as tar:
    for m in tar:
        crc = 0
        if m.isreg():
            f = tar.extractfile(m)
            while True:
                b = f.read(1 << 16)
                if not b: break
                crc = zlib.crc32(b, crc)
        name = m.name.encode("utf-8", "surrogateescape").rstrip(b"/").hex()
        link = m.linkname.encode("utf-8", "surrogateescape").hex()
        size = m.size if m.isreg() else 0
        print(name, kinds[m.type], oct(m.mode), m.uid, m.gid, int(m.mtime // 1), size, link, crc)
"#;

fn describe(archive: &[u8]) -> String {
    let mut out = String::new();
    let mut reader = Reader::new(archive);
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut crc = crc::Crc::default();
        let mut buffer = [0; 4096];
        loop {
            match entry.read(&mut buffer).unwrap() {
                0 => break,
                n => crc.update(&buffer[..n]),
            }
        }
        let h = entry.header();
        let kind = match h.kind {
            Kind::File => "file",
            Kind::HardLink => "hard",
            Kind::Symlink => "sym",
            Kind::Char => "char",
            Kind::Block => "block",
            Kind::Directory => "dir",
            Kind::Fifo => "fifo",
            Kind::Other(_) => "other",
        };
        let path = h.path.strip_suffix(b"/").unwrap_or(&h.path);
        writeln!(
            out,
            "{} {kind} 0o{:o} {} {} {} {} {} {}",
            hex(path),
            h.mode,
            h.uid,
            h.gid,
            h.mtime.seconds,
            h.size,
            hex(&h.link),
            crc.value()
        )
        .unwrap();
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").unwrap();
        out
    })
}

/// CRC-32 as zlib computes it, for comparing contents with another program.
mod crc {
    #[derive(Default)]
    pub(crate) struct Crc(u32);

    impl Crc {
        pub(crate) fn update(&mut self, bytes: &[u8]) {
            let mut crc = !self.0;
            for &byte in bytes {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
                }
            }
            self.0 = !crc;
        }

        pub(crate) fn value(&self) -> u32 {
            self.0
        }
    }
}

/// The output of a program that reads `input`, or a note that it is missing.
fn run(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    let output = Command::new(program).args(args).stdin(file).stderr(Stdio::piped()).output();
    let output = match output {
        Ok(output) => output,
        Err(e) => {
            eprintln!("SKIP differential: {program}: {e}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    Some(output.stdout)
}

fn check_python(archive: &[u8]) {
    let Some(theirs) = run("python3", &["-c", PYTHON], archive) else { return };
    let theirs = String::from_utf8(theirs).unwrap();
    let ours = describe(archive);
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

const SPARSE_SIZE: u64 = 2_000_000;

/// A directory with everything that archives can express and a test may make.
fn sample(dir: &Path) {
    let long = "long-name-".repeat(9);
    let deep = dir.join(&long).join(&long).join(&long);
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join(format!("{long}{long}")), "deep").unwrap();
    symlink(format!("../{long}/{long}/{long}"), dir.join("long-link")).unwrap();
    std::fs::write(dir.join("hard"), vec![7; 1000]).unwrap();
    std::fs::hard_link(dir.join("hard"), dir.join("hard-2")).unwrap();
    std::fs::write(dir.join("caf\u{e9} \u{1f980}"), "unicode").unwrap();
    std::fs::write(dir.join("empty"), "").unwrap();
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(SPARSE_SIZE).unwrap();
    for n in 0..40 {
        sparse.write_all_at(b"data", n * 50_000 + 123).unwrap();
    }
    let hole = std::fs::File::create(dir.join("hole")).unwrap();
    hole.set_len(1 << 20).unwrap();
}

#[test]
fn what_gnu_tar_writes() {
    let base = tempfile::tempdir().unwrap();
    sample(base.path());
    let dir = base.path().to_str().unwrap();
    for args in [
        &["--format=v7"][..],
        &["--format=ustar"],
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--owner=3000000", "--group=4000000", "--mtime=@-12345"],
        &["--format=posix", "--owner=3000000", "--group=4000000", "--mtime=@-12345.5"],
    ] {
        // v7 and ustar leave out what they cannot hold, and say so.
        let exclude =
            if matches!(args[0], "--format=v7" | "--format=ustar") { "long*" } else { "" };
        let all =
            [args, &["--exclude", exclude, "--numeric-owner", "-C", dir, "-cf", "-", "."]].concat();
        let Some(archive) = run("tar", &all, b"") else { return };
        check_python(&archive);
        let (entries, is_sparse) = (describe(&archive), args.contains(&"--sparse"));
        assert!(entries.contains(&format!(" {SPARSE_SIZE} ")), "{args:?}: {entries}");
        assert_eq!(archive.len() < SPARSE_SIZE as usize, is_sparse, "{args:?}");
    }
}

fn header(path: &str, kind: Kind) -> Header {
    let mut header = Header::new(path, kind, 0o640);
    header.mtime = Time { seconds: 1_600_000_000, nanos: 0 };
    header
}

#[test]
fn what_we_write() {
    let mut writer = Writer::new(Vec::new());
    let long = "l".repeat(90);
    writer.append(&header("dir", Kind::Directory), std::io::empty()).unwrap();
    for path in [
        "dir/file".to_owned(),
        format!("{long}/{long}"),
        format!("{long}/{long}/{long}"),
        format!("{long}{long}{long}"),
        "caf\u{e9}".to_owned(),
    ] {
        let mut file = header(&path, Kind::File);
        (file.size, file.uid, file.gid) = (5, 3_000_000, 4_000_000);
        file.mtime = Time { seconds: -5, nanos: 250_000_000 };
        writer.append(&file, &b"hello"[..]).unwrap();
    }
    let mut link = header("link", Kind::Symlink);
    link.link = format!("{long}{long}").into_bytes();
    writer.append(&link, std::io::empty()).unwrap();
    link = header("hard", Kind::HardLink);
    link.link = b"dir/file".to_vec();
    writer.append(&link, std::io::empty()).unwrap();
    let mut device = header("null", Kind::Char);
    device.device = (1, 3);
    writer.append(&device, std::io::empty()).unwrap();
    writer.append(&header("fifo", Kind::Fifo), std::io::empty()).unwrap();
    let archive = writer.finish().unwrap();
    check_python(&archive);

    let Some(listing) = run("tar", &["--numeric-owner", "-tvf", "-"], &archive) else { return };
    let listing = String::from_utf8(listing).unwrap();
    assert_eq!(listing.lines().count(), 10, "{listing}");
    for part in
        ["3000000/4000000", " 1,3 ", "hard link to dir/file", &format!("{long}{long}{long}")]
    {
        assert!(listing.contains(part), "{part}: {listing}");
    }
}
