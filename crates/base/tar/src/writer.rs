//! The writer: the same entries give the same bytes.

use std::io::{self, Read, Write};

use crate::{
    Error, Header, Kind, Result,
    block::{self, BLOCK, Block, put_octal},
    pax,
};

/// Writes an archive: ustar, with a PAX header before an entry where ustar has no room for it.
///
/// Names of users and groups are not written: they mean something else on each machine.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(inner: W) -> Writer<W> {
        Writer { inner }
    }

    /// Adds an entry with exactly `header.size` bytes of `content`, which is not read for kinds
    /// that have none. A directory's path is stored with a slash at its end.
    pub fn append(&mut self, header: &Header, content: impl Read) -> Result<()> {
        let size = if header.kind.is_header_only() { 0 } else { header.size };
        let (block, records) = encode(header, size)?;
        if !records.is_empty() {
            let mut extension = Block([0; BLOCK]);
            put(&mut extension, block::NAME, &extension_name(&header.path));
            put_number(&mut extension, block::MODE, 0o644);
            put_number(&mut extension, block::SIZE, records.len() as u64);
            for field in [block::UID, block::GID, block::MTIME] {
                put_number(&mut extension, field, 0);
            }
            finish_block(&mut extension, b'x');
            self.inner.write_all(&extension.0)?;
            self.inner.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.inner.write_all(&block.0)?;
        let written = io::copy(&mut content.take(size), &mut self.inner)?;
        if written < size {
            return Err(Error::ContentShort { path: lossy(&header.path), missing: size - written });
        }
        self.pad(size)
    }

    /// Ends the archive with two zero blocks, and gives back the stream.
    pub fn finish(mut self) -> Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        Ok(self.inner.write_all(&[0; BLOCK][..padding])?)
    }
}

/// The header block, and the PAX records for what has no room in it.
fn encode(header: &Header, size: u64) -> Result<(Block, Vec<u8>)> {
    let unrepresentable = |what| Error::Unrepresentable { what, path: lossy(&header.path) };
    let mut block = Block([0; BLOCK]);
    let mut records = Vec::new();
    let mut path = header.path.clone();
    if header.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    if path.contains(&0) || header.link.contains(&0) {
        return Err(unrepresentable("a NUL in the path or link"));
    }
    if !put_path(&mut block, &path) {
        pax::push_record(&mut records, b"path", &path);
        put(&mut block, block::NAME, &path);
    }
    if !put(&mut block, block::LINK, &header.link) {
        pax::push_record(&mut records, b"linkpath", &header.link);
    }
    let numbers = [
        (block::UID, &b"uid"[..], u64::from(header.uid)),
        (block::GID, b"gid", u64::from(header.gid)),
        (block::SIZE, b"size", size),
    ];
    for (field, key, value) in numbers {
        if !put_number(&mut block, field.clone(), value) {
            put_number(&mut block, field, 0);
            pax::push_record(&mut records, key, value.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(header.mtime.seconds).ok();
    let fits = seconds.is_some_and(|s| put_number(&mut block, block::MTIME, s));
    if !fits {
        put_number(&mut block, block::MTIME, 0);
    }
    if !fits || header.mtime.nanos != 0 {
        let time = pax::format_time(header.mtime);
        pax::push_record(&mut records, b"mtime", time.as_bytes());
    }
    for (name, value) in &header.xattrs {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(unrepresentable("an extended attribute"));
        }
        pax::push_record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    put_number(&mut block, block::MODE, u64::from(header.mode & 0o7777));
    if matches!(header.kind, Kind::Char | Kind::Block) {
        let (major, minor) = header.device;
        let fits = put_number(&mut block, block::DEVMAJOR, major.into())
            && put_number(&mut block, block::DEVMINOR, minor.into());
        if !fits {
            return Err(unrepresentable("the device number"));
        }
    }
    finish_block(&mut block, type_byte(header.kind));
    Ok((block, records))
}

fn finish_block(block: &mut Block, type_byte: u8) {
    block.0[block::TYPE] = type_byte;
    block.0[block::MAGIC].copy_from_slice(block::MAGIC_USTAR);
    block.seal();
}

fn type_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(byte) => byte,
    }
}

/// Fills a field with as much as it holds; false where that is not all.
fn put(block: &mut Block, range: std::ops::Range<usize>, text: &[u8]) -> bool {
    let field = &mut block.0[range];
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
    n == text.len()
}

fn put_number(block: &mut Block, range: std::ops::Range<usize>, value: u64) -> bool {
    put_octal(&mut block.0[range], value)
}

/// Puts a path into the name, or into prefix and name around a slash; false where neither holds it.
fn put_path(block: &mut Block, path: &[u8]) -> bool {
    if path.len() <= block::NAME.len() {
        return put(block, block::NAME, path);
    }
    // The last slash that leaves a prefix short enough and a name that is not empty.
    let end = path.len().min(block::PREFIX.len() + 1);
    let slash = path[..end].iter().rposition(|&b| b == b'/');
    match slash {
        Some(slash) if slash > 0 && (1..=block::NAME.len()).contains(&(path.len() - slash - 1)) => {
            put(block, block::PREFIX, &path[..slash]);
            put(block, block::NAME, &path[slash + 1..])
        }
        _ => false,
    }
}

/// What a reader that knows no PAX would call the records.
fn extension_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let mut name = [&b"PaxHeaders.0/"[..], base].concat();
    name.truncate(block::NAME.len());
    name
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
