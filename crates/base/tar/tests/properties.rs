//! What holds for all archives: round trips, and no bytes that panic or take memory.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, io::Read as _};

use hako_tar::{Error, Header, Kind, Limits, Reader, Time, Writer};
use proptest::{collection::vec, prelude::*};

fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = vec(prop_oneof![Just(b'/'), 1u8..=255, b'a'..=b'z'], 1..300);
    prop_oneof![name, "[a-z]{1,9}(/[a-z]{1,60}){0,5}".prop_map(String::into_bytes)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        1 => Just(Kind::HardLink),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::Char),
        1 => Just(Kind::Block),
        1 => Just(Kind::Directory),
        1 => Just(Kind::Fifo),
    ]
}

prop_compose! {
    fn entry()(
        path in path(),
        kind in kind(),
        mode in 0..=0o7777u32,
        uid in prop_oneof![0..70_000u32, 0..u32::MAX],
        gid in prop_oneof![0..70_000u32, 0..u32::MAX],
        seconds in prop_oneof![0..2_000_000_000i64, -i64::MAX..i64::MAX],
        nanos in prop_oneof![Just(0u32), 0..1_000_000_000u32],
        link in path(),
        device in (0..4096u32, 0..1_000_000u32),
        xattrs in proptest::collection::btree_map("[a-z.]{1,40}", vec(any::<u8>(), 0..200), 0..3),
        content in vec(any::<u8>(), 0..2000),
    ) -> (Header, Vec<u8>) {
        let mut header = Header::new(path, kind, mode);
        header.uid = uid;
        header.gid = gid;
        header.mtime = Time { seconds, nanos };
        header.xattrs = xattrs
            .into_iter()
            .map(|(name, value)| (name.into_bytes(), value))
            .collect::<BTreeMap<_, _>>();
        let mut content = content;
        match kind {
            Kind::File => header.size = content.len() as u64,
            _ => content.clear(),
        }
        match kind {
            Kind::HardLink | Kind::Symlink => header.link = link,
            Kind::Char | Kind::Block => header.device = device,
            Kind::Directory if !header.path.ends_with(b"/") => header.path.push(b'/'),
            _ => {}
        }
        (header, content)
    }
}

fn write(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.append(header, &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads all there is and answers how many bytes of content came, at most `most`.
fn read_all(archive: &[u8], most: u64) -> Result<u64, Error> {
    let limits = Limits { extension_bytes_max: 4096, extents_max: 64 };
    let mut reader = Reader::with_limits(archive, limits);
    let mut total = 0;
    while let Some(entry) = reader.next_entry()? {
        let mut stored = 0;
        let mut entry = entry;
        total += std::io::copy(&mut (&mut entry).take(most), &mut std::io::sink())?;
        entry.for_each_piece(|_, piece| {
            stored += piece.len();
            Ok::<_, Error>(())
        })?;
        assert!(stored <= archive.len());
    }
    assert!(reader.position() <= archive.len() as u64);
    Ok(total)
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in vec(entry(), 0..5)) {
        let archive = write(&entries);
        prop_assert_eq!(&archive, &write(&entries));
        let mut reader = Reader::new(&archive[..]);
        for (header, content) in &entries {
            let mut entry = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(entry.header(), header);
            let start = entry.content_offset() as usize;
            prop_assert_eq!(&archive[start..start + content.len()], &content[..]);
            let mut read = Vec::new();
            entry.read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, content);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
        prop_assert_eq!(reader.position(), archive.len() as u64);

        let mut seekable = Reader::seekable(std::io::Cursor::new(&archive)).unwrap();
        for (header, _) in &entries {
            let read = seekable.next_entry().unwrap().unwrap().into_header();
            prop_assert_eq!(&read, header);
        }
        prop_assert!(seekable.next_entry().unwrap().is_none());
    }

    #[test]
    fn every_cut_is_noticed(entries in vec(entry(), 1..4), cut in any::<proptest::sample::Index>()) {
        let archive = write(&entries);
        let end = archive.len() - 1024;
        let cut = cut.index(end);
        // Cut between two entries, an archive is only shorter.
        let mut reader = Reader::new(&archive[..cut]);
        let mut count = 0;
        let result = loop {
            match reader.next_entry() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break Ok(count),
                Err(e) => break Err(e),
            }
        };
        if let Ok(count) = result {
            prop_assert!(count < entries.len() || cut + 512 > end);
        }
    }

    #[test]
    fn arbitrary_bytes_are_only_refused(bytes in vec(any::<u8>(), 0..4096)) {
        let _result = read_all(&bytes, 1 << 20);
    }

    #[test]
    fn broken_headers_are_only_refused(
        entries in vec(entry(), 1..3),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut archive = write(&entries);
        for (place, byte) in changes {
            let place = place.index(archive.len());
            archive[place] = byte;
        }
        seal(&mut archive);
        let _result = read_all(&archive, 1 << 20);
    }

    #[test]
    fn sparse_headers_are_only_refused(
        table in vec((0u64..5000, 0u64..600), 0..5),
        size in 0u64..2000,
        real_size in 0u64..9000,
        extended in any::<bool>(),
        tail in vec(any::<u8>(), 0..2048),
    ) {
        let mut block = [0u8; 512];
        block[..4].copy_from_slice(b"file");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = b'S';
        block[257..265].copy_from_slice(b"ustar  \0");
        for (i, (offset, length)) in table.iter().take(4).enumerate() {
            let start = 386 + i * 24;
            block[start..start + 11].copy_from_slice(format!("{offset:011o}").as_bytes());
            block[start + 12..start + 23].copy_from_slice(format!("{length:011o}").as_bytes());
        }
        block[482] = extended.into();
        block[483..494].copy_from_slice(format!("{real_size:011o}").as_bytes());
        let mut archive = [&block[..], &tail].concat();
        seal(&mut archive);
        let _result = read_all(&archive, 1 << 20);
    }
}

/// Gives every block that could be a header a right checksum, so that what is behind it is tried.
fn seal(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
