//! The reader: one pass over an archive, entry by entry.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use crate::{
    Error, Extent, Header, Kind, Result, Time,
    block::{self, BLOCK, Block, Format},
    pax::{self, Overrides},
    sparse::{self, PaxMap},
};

/// How much of an archive's claims a [`Reader`] is ready to hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one extension header: PAX records (which hold extended attributes), a long name.
    pub extension_bytes_max: u64,
    /// Extents of one sparse file.
    pub extents_max: usize,
}

impl Default for Limits {
    /// 1 MiB, as in Go; a million extents.
    fn default() -> Limits {
        Limits { extension_bytes_max: 1 << 20, extents_max: 1 << 20 }
    }
}

/// Skips by seeking, and answers how far it came.
type Seeker<R> = fn(&mut R, u64) -> io::Result<u64>;

/// Reads the entries of an archive.
///
/// After the end marker it stops: what follows is not looked at, and stays in the stream.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// How many bytes of the archive were consumed.
    position: u64,
    /// Stored bytes of the current entry that were not read yet.
    remaining: u64,
    /// Zeros after them.
    padding: u64,
    limits: Limits,
    /// Seeks, and the length of a stream that can.
    seek: Option<(Seeker<R>, u64)>,
    global: Overrides,
    done: bool,
}

/// Extension headers before an entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Vec<u8>>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from its start.
    pub fn new(inner: R) -> Reader<R> {
        Reader::with_limits(inner, Limits::default())
    }

    /// Reads an archive from its start, within other limits.
    pub fn with_limits(inner: R, limits: Limits) -> Reader<R> {
        Reader {
            inner,
            position: 0,
            remaining: 0,
            padding: 0,
            limits,
            seek: None,
            global: Overrides::default(),
            done: false,
        }
    }

    /// How many bytes of the archive were consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives back the stream, wherever it stands.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` after the end marker, or where the stream ends between two entries.
    ///
    /// Content of the entry before that was not read is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_, R>>> {
        let mut extensions = Extensions::default();
        if self.done {
            return Ok(None);
        }
        loop {
            self.skip_content()?;
            let offset = self.position;
            let Some(block) = self.next_header()? else {
                self.done = true;
                let Extensions { pax, long_path, long_link } = extensions;
                if pax.or(long_path).or(long_link).is_some() {
                    return Err(Error::Extension { offset, why: "no entry follows it" });
                }
                return Ok(None);
            };
            match block.0[block::TYPE] {
                b'x' | b'X' => extensions.pax = Some(self.read_extension(offset, &block)?),
                b'g' => {
                    let records = self.read_extension(offset, &block)?;
                    let taken = self.global.take_global(&records);
                    taken.map_err(|why| Error::Extension { offset, why })?;
                }
                b'L' => {
                    let name = self.read_extension(offset, &block)?;
                    extensions.long_path = Some(block::until_nul(&name).to_vec());
                }
                b'K' => {
                    let name = self.read_extension(offset, &block)?;
                    extensions.long_link = Some(block::until_nul(&name).to_vec());
                }
                _ => {
                    let (header, extents) = self.start_entry(offset, &block, extensions)?;
                    let content_offset = self.position;
                    let stored = self.remaining;
                    return Ok(Some(Entry {
                        reader: self,
                        header,
                        extents,
                        content_offset,
                        stored,
                        cursor: Cursor::default(),
                    }));
                }
            }
        }
    }

    /// The next header block, `None` at the end marker or the stream's end.
    fn next_header(&mut self) -> Result<Option<Block>> {
        let offset = self.position;
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.is_zero() {
            // Two zero blocks are the marker; one at the very end is accepted.
            return match self.read_block()? {
                Some(block) if !block.is_zero() => {
                    Err(Error::Header { offset, why: "a lone zero block" })
                }
                _ => Ok(None),
            };
        }
        if !block.is_sealed() {
            return Err(Error::Header { offset, why: "its checksum is wrong" });
        }
        Ok(Some(block))
    }

    /// Puts block, extension headers and global records together, and stands before the content.
    fn start_entry(
        &mut self,
        offset: u64,
        block: &Block,
        extensions: Extensions,
    ) -> Result<(Header, Option<Vec<Extent>>)> {
        let number_error = |field| Error::Number { offset, field };
        let mut overrides = Overrides { sparse: Default::default(), ..self.global.clone() };
        if let Some(records) = &extensions.pax {
            let taken = overrides.take_local(records, self.limits.extents_max);
            taken.map_err(|why| Error::Extension { offset, why })?;
        }

        let number = |range, field| {
            let number = block.number(range).and_then(|n| u64::try_from(n).ok());
            number.ok_or(number_error(field))
        };
        let id = |over: Option<u64>, range, field| {
            let id = over.map_or_else(|| number(range, field), Ok)?;
            // The largest number means "unchanged" to chown(2).
            match u32::try_from(id) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => Err(number_error(field)),
            }
        };
        let size = match overrides.size {
            Some(size) => size,
            None => number(block::SIZE, "size")?,
        };
        let mtime = match overrides.mtime {
            Some(time) => time,
            None => {
                let seconds = block.number(block::MTIME).ok_or(number_error("mtime"))?;
                Time { seconds, nanos: 0 }
            }
        };
        let in_block = || join(block.prefix(), block.text(block::NAME));
        let over = extensions.long_path.filter(|p| !p.is_empty());
        let over = over.or(overrides.sparse.name.take()).or(overrides.path.take());
        let path = over.unwrap_or_else(in_block);
        let over = extensions.long_link.filter(|p| !p.is_empty()).or(overrides.link.take());
        let link = over.unwrap_or_else(|| block.text(block::LINK).to_vec());
        let kind = kind(block.0[block::TYPE], &path);
        let device = match kind {
            Kind::Char | Kind::Block if block.format() != Format::V7 => {
                let device = |range, field| {
                    u32::try_from(number(range, field)?).map_err(|_| number_error(field))
                };
                (device(block::DEVMAJOR, "devmajor")?, device(block::DEVMINOR, "devminor")?)
            }
            _ => (0, 0),
        };
        let mut header = Header {
            path,
            kind,
            mode: (number(block::MODE, "mode")? & 0o7777) as u32,
            uid: id(overrides.uid, block::UID, "uid")?,
            gid: id(overrides.gid, block::GID, "gid")?,
            mtime,
            size,
            link,
            device,
            xattrs: std::mem::take(&mut overrides.xattrs),
        };
        if kind.is_header_only() {
            header.size = 0;
        }
        self.remaining = header.size;
        self.padding = padding(header.size);
        // Refused before anything is allocated or skipped: no stream has an end there.
        if offset.checked_add(header.size).is_none_or(|end| end > i64::MAX as u64) {
            return Err(number_error("size"));
        }
        let extents = self.start_sparse(offset, block, &overrides, &mut header)?;
        Ok((header, extents))
    }

    /// Reads the map of a sparse file, however it is written.
    fn start_sparse(
        &mut self,
        offset: u64,
        block: &Block,
        overrides: &Overrides,
        header: &mut Header,
    ) -> Result<Option<Vec<Extent>>> {
        let sparse_error = |why| Error::Sparse { offset, why };
        let (extents, size) = if block.0[block::TYPE] == b'S' {
            let size = block.number(block::GNU_REAL_SIZE).and_then(|n| u64::try_from(n).ok());
            let size = size.ok_or(Error::Number { offset, field: "real size" })?;
            (self.read_old_map(offset, block)?, size)
        } else {
            match overrides.sparse.map().map_err(sparse_error)? {
                (PaxMap::None, _) => return Ok(None),
                (PaxMap::Records(extents), size) => (extents, size),
                (PaxMap::Content, size) => (self.read_content_map(offset)?, size),
            }
        };
        if header.kind != Kind::File {
            return Err(sparse_error("belongs to no regular file"));
        }
        sparse::validate(&extents, size, self.remaining).map_err(sparse_error)?;
        header.size = size;
        Ok(Some(extents))
    }

    /// The map of an old GNU sparse file: in its header block and the blocks that follow.
    fn read_old_map(&mut self, offset: u64, block: &Block) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut table = block.field(block::GNU_SPARSE).to_vec();
        let mut extended = block.0[block::GNU_EXTENDED] != 0;
        loop {
            for entry in table.chunks_exact(24) {
                if entry[0] == 0 {
                    break;
                }
                let number = |field| block::number(field).and_then(|n| u64::try_from(n).ok());
                let (Some(start), Some(length)) = (number(&entry[..12]), number(&entry[12..]))
                else {
                    return Err(Error::Sparse { offset, why: "has an invalid number" });
                };
                if extents.len() >= self.limits.extents_max {
                    return Err(self.too_many_extents(offset));
                }
                extents.push(Extent { offset: start, length });
            }
            if !extended {
                return Ok(extents);
            }
            let block = self.read_block()?.ok_or(Error::Truncated { offset: self.position })?;
            extended = block.0[504] != 0;
            table.clear();
            table.extend_from_slice(&block.0[..504]);
        }
    }

    /// The map of a PAX 1.0 sparse file: decimal lines in whole blocks before the content.
    fn read_content_map(&mut self, offset: u64) -> Result<Vec<Extent>> {
        let sparse_error = |why| Error::Sparse { offset, why };
        let mut lines = Lines { block: Vec::new(), position: 0 };
        let count = lines.next(self, offset)?;
        let limit = self.limits.extents_max;
        if usize::try_from(count).map_or(true, |count| count > limit) {
            return Err(self.too_many_extents(offset));
        }
        let mut extents = Vec::new();
        for _ in 0..count {
            let start = lines.next(self, offset)?;
            let length = lines.next(self, offset)?;
            if start.checked_add(length).is_none() {
                return Err(sparse_error("overflows"));
            }
            extents.push(Extent { offset: start, length });
        }
        Ok(extents)
    }

    fn too_many_extents(&self, offset: u64) -> Error {
        Error::Limit { offset, what: "a sparse map", limit: self.limits.extents_max as u64 }
    }

    /// The content of an extension header: records or a name.
    fn read_extension(&mut self, offset: u64, block: &Block) -> Result<Vec<u8>> {
        let size = block.number(block::SIZE).and_then(|n| u64::try_from(n).ok());
        let size = size.ok_or(Error::Number { offset, field: "size" })?;
        let limit = self.limits.extension_bytes_max;
        if size > limit {
            return Err(Error::Limit { offset, what: "an extension header", limit });
        }
        // read_to_end grows with what is there, not with what was claimed.
        let mut content = Vec::new();
        let read = (&mut self.inner).take(size).read_to_end(&mut content)?;
        self.position += read as u64;
        if (read as u64) < size {
            return Err(Error::Truncated { offset: self.position });
        }
        self.padding = padding(size);
        self.skip_content()?;
        Ok(content)
    }

    /// One block; `None` at the stream's end.
    fn read_block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::Truncated { offset: self.position }),
                Ok(n) => {
                    filled += n;
                    self.position += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Some(Block(block)))
    }

    /// Skips what is left of the current entry.
    fn skip_content(&mut self) -> Result<()> {
        let content = std::mem::take(&mut self.remaining);
        self.skip(content)?;
        // The zeros after the last content may be missing: Go reads such archives, so they exist.
        let padding = std::mem::take(&mut self.padding);
        if padding > 0 && !self.fill()?.is_empty() {
            self.skip(padding)?;
        }
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        const WORTH_A_SEEK: u64 = 256 << 10;
        if let Some((seek, length)) = self.seek
            && bytes >= WORTH_A_SEEK
        {
            if length.saturating_sub(self.position) < bytes {
                return Err(Error::Truncated { offset: length });
            }
            seek(&mut self.inner, bytes)?;
            self.position += bytes;
            return Ok(());
        }
        while bytes > 0 {
            let available = self.fill()?.len() as u64;
            if available == 0 {
                return Err(Error::Truncated { offset: self.position });
            }
            let n = available.min(bytes);
            self.consume(n as usize);
            bytes -= n;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        // The buffer is asked for twice because the first borrow cannot leave the loop.
        loop {
            match self.inner.fill_buf() {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.position += n as u64;
    }
}

impl<R: BufRead + Seek> Reader<R> {
    /// Reads an archive that starts where the stream stands, and seeks over content that nobody
    /// reads.
    pub fn seekable(mut inner: R) -> Result<Reader<R>> {
        let start = inner.stream_position()?;
        let length = inner.seek(SeekFrom::End(0))?.saturating_sub(start);
        inner.seek(SeekFrom::Start(start))?;
        let seek: Seeker<R> = |inner, bytes| {
            let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
            inner.seek(SeekFrom::Current(bytes))
        };
        Ok(Reader { seek: Some((seek, length)), ..Reader::new(inner) })
    }
}

/// Decimal lines of a PAX 1.0 map.
struct Lines {
    block: Vec<u8>,
    position: usize,
}

impl Lines {
    fn next<R: BufRead>(&mut self, reader: &mut Reader<R>, offset: u64) -> Result<u64> {
        let sparse_error = |why| Error::Sparse { offset, why };
        let mut digits = [0; 20];
        let mut count = 0;
        loop {
            if self.position == self.block.len() {
                if reader.remaining < BLOCK as u64 {
                    return Err(sparse_error("is cut off"));
                }
                let block = reader.read_block()?;
                let block = block.ok_or(Error::Truncated { offset: reader.position })?;
                reader.remaining -= BLOCK as u64;
                self.block.clear();
                self.block.extend_from_slice(&block.0);
                self.position = 0;
            }
            let byte = self.block[self.position];
            self.position += 1;
            if byte == b'\n' {
                let number = pax::decimal(&digits[..count]);
                return number.ok_or(sparse_error("has an invalid number"));
            }
            *digits.get_mut(count).ok_or(sparse_error("has an invalid number"))? = byte;
            count += 1;
        }
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn join(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn kind(byte: u8, path: &[u8]) -> Kind {
    match byte {
        // v7 had no type for directories.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    }
}

/// Where reading an entry's content stands.
#[derive(Debug, Default)]
struct Cursor {
    /// Position in the file.
    offset: u64,
    /// The extent in which the stored bytes stand, and how many of them were read.
    extent: usize,
    read: u64,
}

/// One entry. Reading it gives the content of its file, with zeros in the holes.
#[derive(Debug)]
pub struct Entry<'a, R> {
    reader: &'a mut Reader<R>,
    header: Header,
    extents: Option<Vec<Extent>>,
    content_offset: u64,
    stored: u64,
    cursor: Cursor,
}

impl<R: BufRead> Entry<'_, R> {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Gives the header away and leaves the content.
    pub fn into_header(self) -> Header {
        self.header
    }

    /// Where the stored bytes begin in the archive.
    pub fn content_offset(&self) -> u64 {
        self.content_offset
    }

    /// How many bytes are stored; less than the file's size where it is sparse.
    pub fn stored_bytes(&self) -> u64 {
        self.stored
    }

    /// Where the stored bytes belong in the file, if it is sparse.
    pub fn extents(&self) -> Option<&[Extent]> {
        self.extents.as_deref()
    }

    /// Gives what is stored and was not read yet to `f`, piece by piece, each with its place in
    /// the file. Nothing is copied, holes are left out.
    pub fn for_each_piece<E: From<Error>>(
        &mut self,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((place, length)) = self.next_run() {
            let available = self.reader.fill().map_err(Error::from)?;
            let n = (available.len() as u64).min(length) as usize;
            if n == 0 {
                return Err(Error::Truncated { offset: self.reader.position }.into());
            }
            f(place, &available[..n])?;
            self.took(n);
        }
        Ok(())
    }

    /// Where the next stored bytes belong, and how many there are in a row.
    fn next_run(&mut self) -> Option<(u64, u64)> {
        let Some(extents) = &self.extents else {
            let left = self.reader.remaining;
            return (left > 0).then(|| (self.header.size - left, left));
        };
        loop {
            let extent = extents.get(self.cursor.extent)?;
            if self.cursor.read < extent.length {
                let place = extent.offset + self.cursor.read;
                return Some((place, extent.length - self.cursor.read));
            }
            self.cursor.extent += 1;
            self.cursor.read = 0;
        }
    }

    fn took(&mut self, n: usize) {
        self.reader.consume(n);
        self.reader.remaining -= n as u64;
        self.cursor.read += n as u64;
    }
}

impl<R: BufRead> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.header.size - self.cursor.offset;
        let wanted = (buffer.len() as u64).min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let (place, length) = self.next_run().unwrap_or((self.header.size, 0));
        let n = if place > self.cursor.offset {
            let n = wanted.min(place - self.cursor.offset) as usize;
            buffer[..n].fill(0);
            n
        } else {
            let wanted = wanted.min(length) as usize;
            let n = self.reader.inner.read(&mut buffer[..wanted])?;
            if n == 0 {
                return Err(Error::Truncated { offset: self.reader.position }.into());
            }
            self.reader.position += n as u64;
            self.reader.remaining -= n as u64;
            self.cursor.read += n as u64;
            n
        };
        self.cursor.offset += n as u64;
        Ok(n)
    }
}
