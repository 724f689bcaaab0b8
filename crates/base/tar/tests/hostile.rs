//! Archives made to deceive, byte by byte.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::io::Read as _;

use hako_tar::{Error, Kind, Reader};

/// A header block with a right checksum.
struct Block([u8; 512]);

impl Block {
    fn new(name: &str, kind: u8, size: u64) -> Block {
        let mut block = Block([0; 512]);
        block.put(0, name.as_bytes());
        block.put(100, b"0000644\0");
        block.put(124, format!("{size:011o}\0").as_bytes());
        block.put(257, b"ustar\x0000");
        block.0[156] = kind;
        block.seal()
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Block {
        self.put(at, bytes);
        self.seal()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(mut self) -> Block {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|&b| u32::from(b)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self
    }
}

fn content(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    padded
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let mut length = key.len() + value.len() + 4;
    while format!("{length} {key}={value}\n").len() != length {
        length += 1;
    }
    format!("{length} {key}={value}\n").into_bytes()
}

fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let records = records.iter().flat_map(|(k, v)| record(k, v)).collect::<Vec<_>>();
    [&Block::new("pax", kind, records.len() as u64).0[..], &content(&records)].concat()
}

fn archive(parts: &[&[u8]]) -> Vec<u8> {
    let mut archive = parts.concat();
    archive.extend_from_slice(&[0; 1024]);
    archive
}

/// Every entry as `path=content`.
fn list(archive: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(archive);
    let mut list = Vec::new();
    while let Some(mut entry) = reader.next_entry()? {
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let path = entry.header().path.escape_ascii().to_string();
        list.push(format!("{path}={}", content.escape_ascii()));
    }
    Ok(list)
}

fn check(parts: &[&[u8]], want: &[&str]) {
    assert_eq!(list(&archive(parts)).unwrap(), want);
}

fn refuse(parts: &[&[u8]], why: &str) {
    let e = list(&archive(parts)).unwrap_err().to_string();
    assert!(e.contains(why), "{e:?} does not say {why:?}");
}

/// CVE-2025-62518 (tarmageddon): a PAX size beside a header size of zero made the archive inside
/// be read as entries.
#[test]
fn a_pax_size_covers_what_it_says() {
    let inner = archive(&[&Block::new("smuggled", b'0', 0).0]);
    let size = inner.len().to_string();
    let pax = pax(b'x', &[("size", &size)]);
    let outer = Block::new("outer", b'0', 0);
    let listed = list(&archive(&[&pax, &outer.0, &inner])).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].starts_with("outer=smuggled"));
    // The other way round: a header size that PAX takes back.
    let small = pax_size("0");
    let outer = Block::new("outer", b'0', 512);
    check(&[&small, &outer.0, &Block::new("next", b'0', 0).0], &["outer=", "next="]);
}

fn pax_size(size: &str) -> Vec<u8> {
    pax(b'x', &[("size", size)])
}

#[test]
fn a_pax_size_is_not_that_of_the_long_name_between() {
    let name = Block::new("././@LongLink", b'L', 5);
    let file = Block::new("file", b'0', 3);
    check(
        &[&pax_size("4"), &name.0, &content(b"long\0"), &file.0, &content(b"1234")],
        &["long=1234"],
    );
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in ["-1", "9223372036854775808", "18446744073709551616", "1e3", "0x10", " 1"] {
        refuse(&[&pax_size(size), &Block::new("file", b'0', 0).0], "invalid number");
    }
    refuse(&[&pax_size("9223372036854775807"), &Block::new("file", b'0', 0).0], "invalid size");
    let negative = Block::new("file", b'0', 0).with(124, &[0xff; 12]);
    refuse(&[&negative.0], "invalid size");
    let huge = Block::new("file", b'0', 0).with(124, &[0x80, 0, 0, 0, 0x7f, 255, 255, 255]);
    refuse(&[&huge.0], "truncated");
}

#[test]
fn owners_that_cannot_be_are_refused() {
    for id in ["-1", "4294967295", "4294967296"] {
        let e = list(&archive(&[&pax(b'x', &[("uid", id)]), &Block::new("f", b'0', 0).0]));
        assert!(e.is_err(), "{id}");
    }
    check(&[&pax(b'x', &[("gid", "4294967294")]), &Block::new("f", b'0', 0).0], &["f="]);
}

#[test]
fn links_and_directories_have_no_content() {
    // As in Go, whatever the size field says.
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let entry = Block::new("entry", kind, 512);
        check(&[&entry.0, &Block::new("next", b'0', 0).0], &["entry=", "next="]);
    }
    let v7_directory = Block::new("dir/", 0, 512);
    check(&[&v7_directory.0, &Block::new("next", b'0', 0).0], &["dir/=", "next="]);
}

#[test]
fn global_headers() {
    let file = Block::new("file", b'0', 0);
    let comment = pax(b'g', &[("comment", "0123"), ("uid", "7")]);
    check(&[&comment, &file.0], &["file="]);
    for key in ["path", "linkpath", "size", "GNU.sparse.map"] {
        refuse(&[&pax(b'g', &[(key, "1")]), &file.0], "a global header sets");
    }
    let with_uid = archive(&[&comment, &file.0, &pax(b'x', &[("uid", "9")]), &file.0, &file.0]);
    let mut reader = Reader::new(&with_uid[..]);
    for uid in [7, 9, 7] {
        assert_eq!(reader.next_entry().unwrap().unwrap().header().uid, uid);
    }
}

#[test]
fn extension_headers_are_bounded() {
    let file = Block::new("file", b'0', 0);
    for kind in [b'x', b'g', b'L', b'K'] {
        let claim = Block::new("big", kind, 1 << 33);
        refuse(&[&claim.0, &file.0], "exceeds");
        let cut = Block::new("cut", kind, 1 << 19);
        refuse(&[&cut.0, &file.0], "truncated");
    }
    refuse(&[&pax(b'x', &[("path", "a")])], "no entry follows");
    // Long names without end only replace each other.
    let name = [&Block::new("././@LongLink", b'L', 2).0[..], &content(b"n\0")].concat();
    let many = name.repeat(1000);
    check(&[&many, &file.0], &["n="]);
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let file = Block::new("file", b'0', 4);
    let sparse = |records: &[(&str, &str)]| {
        list(&archive(&[&pax(b'x', records), &file.0, &content(b"abcd")]))
    };
    let good = [("GNU.sparse.size", "8"), ("GNU.sparse.map", "1,2,6,2")];
    assert_eq!(sparse(&good).unwrap(), ["file=\\x00ab\\x00\\x00\\x00cd"]);
    for map in ["0,4,8,1", "4,4,0,0", "0,5", "0,3", "6,4", "0,2,1,2", "9223372036854775807,4"] {
        let e = sparse(&[("GNU.sparse.size", "8"), ("GNU.sparse.map", map)]);
        assert!(matches!(e, Err(Error::Sparse { .. })), "{map}: {e:?}");
    }
    // A claim of a billion extents costs nothing.
    let count = content(b"1000000000\n");
    let many = Block::new("file", b'0', count.len() as u64);
    let records =
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "8")];
    refuse(&[&pax(b'x', &records), &many.0, &count], "exceeds");
    let on_a_link = Block::new("link", b'2', 0);
    refuse(&[&pax(b'x', &good), &on_a_link.0], "belongs to no regular file");
}

#[test]
fn ends() {
    let file = Block::new("file", b'0', 3);
    let next = Block::new("next", b'0', 0);
    let whole = [&file.0[..], &content(b"abc")].concat();
    // Without marker, with half of one, without the last padding.
    assert_eq!(list(&whole).unwrap(), ["file=abc"]);
    assert_eq!(list(&[&whole[..], &[0; 512]].concat()).unwrap(), ["file=abc"]);
    assert_eq!(list(&whole[..515]).unwrap(), ["file=abc"]);
    for cut in [511, 513, 514, 516, 700] {
        assert!(matches!(list(&whole[..cut]), Err(Error::Truncated { .. })), "{cut}");
    }
    let lone = [&whole[..], &[0; 512], &next.0].concat();
    assert!(list(&lone).unwrap_err().to_string().contains("a lone zero block"));
    // What follows the marker is nobody's.
    let after = [&archive(&[&whole]), &next.0[..]].concat();
    assert_eq!(list(&after).unwrap(), ["file=abc"]);
    assert!(list(&[b'x'; 512]).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn old_formats() {
    // Signed checksums, and a prefix that old Go wrote under the GNU magic.
    let name = "caf\u{e9}";
    let mut signed = Block::new(name, b'0', 0);
    signed.put(148, b"        ");
    let sum: i32 = signed.0.iter().map(|&b| i32::from(b.cast_signed())).sum();
    signed.put(148, format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(list(&archive(&[&signed.0])).unwrap(), ["caf\\xc3\\xa9="]);
    let old_go = Block::new("name", b'0', 0).with(257, b"ustar  \0").with(345, b"some/prefix");
    check(&[&old_go.0], &["some/prefix/name="]);
    let gnu =
        Block::new("name", b'0', 0).with(257, b"ustar  \0").with(345, b"00000000001 00000000002 ");
    check(&[&gnu.0], &["name="]);
    let star =
        Block::new("name", b'0', 0).with(345, b"prefix").with(476, b"junk").with(508, b"tar\0");
    check(&[&star.0], &["prefix/name="]);
    let v7 = Block::new("name", 0, 0).with(257, &[0; 8]).with(345, b"junk");
    check(&[&v7.0], &["name="]);
    let unknown = Block::new("volume", b'V', 0);
    let bytes = archive(&[&unknown.0]);
    let mut reader = Reader::new(&bytes[..]);
    assert_eq!(reader.next_entry().unwrap().unwrap().header().kind, Kind::Other(b'V'));
}
