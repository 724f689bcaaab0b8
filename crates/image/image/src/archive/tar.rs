//! The entries of a tar, by path.
//!
//! A file that can be read anywhere is only looked through: its entries are read in place when they
//! are wanted. Of a stream, small entries are held in memory and large ones are stored at once, so
//! the order of entries does not matter and no byte is written twice. What turns out to be no part
//! of an image is garbage when the load's lease ends.
//!
//! As on a file system that the tar was extracted to, the last of several entries of one path counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use hako_content::{Lease, Store};
use hako_oci::{Descriptor, Digest};
use hako_tar::{Entry, Kind, Reader};

use super::{Found, Limits, clean, path::is_inside};
use crate::{Error, Result};

/// Entries of a stream up to this size are held in memory ...
const SMALL_BYTES_MAX: u64 = 128 << 10;
/// ... as long as all of them together are no more than this.
const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// Names may need no more than this, and each of them no more than the kernel takes.
const NAMES_BYTES_MAX: u64 = 32 << 20;
const NAME_BYTES_MAX: u64 = 4096;
/// Links followed for one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// What a blob without a better type is called while nothing says what it is.
const ANY_TYPE: &str = "application/octet-stream";

type Path = Vec<Vec<u8>>;

/// Where an entry's content is.
#[derive(Debug, Clone)]
enum Item {
    Memory(Arc<[u8]>),
    Region {
        offset: u64,
        size: u64,
    },
    Stored {
        digest: Digest,
        size: u64,
    },
    /// Another path, from the archive's root.
    Link(Path),
}

/// All files and links of a tar.
#[derive(Debug)]
pub(crate) struct Index {
    items: BTreeMap<Path, Item>,
    file: Option<Arc<File>>,
}

/// What is counted while looking through.
struct Scan<'a> {
    items: BTreeMap<Path, Item>,
    lease: &'a Lease,
    limits: &'a Limits,
    entries: u64,
    bytes: u64,
    memory_bytes: u64,
    names_bytes: u64,
}

impl Index {
    /// Looks through a file, whose content stays where it is.
    pub(super) fn of_file(file: File, lease: &Lease, limits: &Limits) -> Result<Index> {
        let file = Arc::new(file);
        let region = Region { file: file.clone(), offset: 0, end: u64::MAX };
        let mut scan = Scan::new(lease, limits);
        let mut reader = Reader::seekable(BufReader::with_capacity(64 << 10, region))?;
        while let Some(entry) = reader.next_entry()? {
            // What is stored in pieces has no place that it could be read from.
            let region = entry.extents().is_none().then(|| entry.content_offset());
            scan.take(entry, region)?;
        }
        Ok(Index { items: scan.items, file: Some(file) })
    }

    /// Looks through a stream, whose content is kept in memory or stored.
    pub(super) fn of_stream(from: impl BufRead, lease: &Lease, limits: &Limits) -> Result<Index> {
        let mut scan = Scan::new(lease, limits);
        let mut reader = Reader::new(from);
        while let Some(entry) = reader.next_entry()? {
            scan.take(entry, None)?;
        }
        Ok(Index { items: scan.items, file: None })
    }

    /// The file at `path`, if there is one.
    pub(super) fn find(&self, path: &str, store: &Store) -> Result<Option<Found>> {
        let found =
            |size, reader: Box<dyn Read + Send>| Ok(Some(Found { size, stored: None, reader }));
        match self.resolve(path)? {
            None | Some(Item::Link(_)) => Ok(None),
            Some(Item::Memory(bytes)) => {
                found(bytes.len() as u64, Box::new(Cursor::new(bytes.clone())))
            }
            Some(&Item::Region { offset, size }) => {
                let Some(file) = self.file.clone() else { return Ok(None) };
                found(size, Box::new(Region { file, offset, end: offset + size }))
            }
            Some(Item::Stored { digest, size }) => {
                let reader = Box::new(store.blob(digest)?);
                Ok(Some(Found { size: *size, stored: Some(digest.clone()), reader }))
            }
        }
    }

    /// The names in the top directory that have something beneath them.
    pub(super) fn top_directories(&self) -> Vec<String> {
        let tops: BTreeSet<&Vec<u8>> =
            self.items.keys().filter(|path| path.len() > 1).map(|path| &path[0]).collect();
        tops.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// What a path leads to, over links at any of its components.
    fn resolve(&self, path: &str) -> Result<Option<&Item>> {
        let mut path = clean(path.as_bytes());
        for _ in 0..=LINKS_MAX {
            let linked = (1..=path.len()).find_map(|n| match self.items.get(&path[..n]) {
                Some(Item::Link(target)) => Some((n, target)),
                _ => None,
            });
            let Some((n, target)) = linked else { return Ok(self.items.get(&path)) };
            path = target.iter().chain(&path[n..]).cloned().collect();
        }
        Err(Error::Links { path: String::from_utf8_lossy(&path.join(&b'/')).into_owned() })
    }
}

impl Scan<'_> {
    fn new<'a>(lease: &'a Lease, limits: &'a Limits) -> Scan<'a> {
        let items = BTreeMap::new();
        Scan { items, lease, limits, entries: 0, bytes: 0, memory_bytes: 0, names_bytes: 0 }
    }

    /// Takes one entry; `region` is where its content can be read again.
    fn take<R: BufRead>(&mut self, mut entry: Entry<'_, R>, region: Option<u64>) -> Result<()> {
        let header = entry.header().clone();
        let shown = || String::from_utf8_lossy(&header.path).into_owned();
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(Error::Limit { what: "entries", limit: self.limits.entries_max });
        }
        let name_bytes = (header.path.len() + header.link.len()) as u64;
        self.names_bytes += name_bytes;
        if name_bytes > 2 * NAME_BYTES_MAX || self.names_bytes > NAMES_BYTES_MAX {
            return Err(Error::Limit { what: "bytes in names", limit: NAME_BYTES_MAX });
        }
        self.bytes = self.bytes.saturating_add(header.size);
        if self.bytes > self.limits.bytes_max {
            return Err(Error::Limit { what: "bytes", limit: self.limits.bytes_max });
        }
        if !is_inside(&header.path) {
            return Err(Error::EntryName(shown()));
        }
        let path = clean(&header.path);
        let item = match header.kind {
            Kind::File => match region {
                Some(offset) => Item::Region { offset, size: header.size },
                None => self.keep(&path, header.size, &mut entry)?,
            },
            Kind::HardLink => Item::Link(clean(&header.link)),
            Kind::Symlink => Item::Link(target(&path, &header.link)),
            // Directories are known by what is in them; nothing else is part of any image.
            _ => {
                self.items.remove(&path);
                return Ok(());
            }
        };
        self.items.insert(path, item);
        Ok(())
    }

    /// Keeps content that passes by once.
    fn keep(&mut self, path: &[Vec<u8>], size: u64, content: &mut impl Read) -> Result<Item> {
        if size <= SMALL_BYTES_MAX && self.memory_bytes + size <= MEMORY_BYTES_MAX {
            let mut bytes = Vec::with_capacity(size as usize);
            content.read_to_end(&mut bytes).map_err(Error::Read)?;
            self.memory_bytes += size;
            return Ok(Item::Memory(bytes.into()));
        }
        // A path may say its content's digest: what is in the store already is not written again.
        if let Some(digest) = blob_digest(path) {
            self.lease.put(&Descriptor::new(ANY_TYPE, digest.clone(), size), content)?;
            return Ok(Item::Stored { digest, size });
        }
        let stored = self.lease.put_unnamed(ANY_TYPE, size, content)?;
        Ok(Item::Stored { digest: stored.digest, size })
    }
}

/// The digest that the path of a blob in an OCI layout is made of.
fn blob_digest(path: &[Vec<u8>]) -> Option<Digest> {
    let [blobs, algorithm, hex] = path else { return None };
    if blobs != b"blobs" {
        return None;
    }
    let digest = format!("{}:{}", str::from_utf8(algorithm).ok()?, str::from_utf8(hex).ok()?);
    digest.parse().ok()
}

/// What a symbolic link at `path` leads to, from the archive's root and never out of it.
fn target(path: &[Vec<u8>], link: &[u8]) -> Path {
    if link.starts_with(b"/") {
        return clean(link);
    }
    let parent = &path[..path.len().saturating_sub(1)];
    clean(&[&parent.join(&b'/'), b"/".as_slice(), link].concat())
}

/// A part of a file, read without moving anybody else's position.
struct Region {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = (self.end - self.offset).min(buffer.len() as u64) as usize;
        let n = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        // The file was long enough when it was looked through.
        if n == 0 && wanted > 0 && self.end != u64::MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += n as u64;
        Ok(n)
    }
}

impl io::Seek for Region {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let base = match to {
            io::SeekFrom::Start(_) => 0,
            io::SeekFrom::Current(_) => self.offset,
            io::SeekFrom::End(_) => self.file.metadata()?.len(),
        };
        let moved = match to {
            io::SeekFrom::Start(n) => Some(n),
            io::SeekFrom::Current(n) | io::SeekFrom::End(n) => base.checked_add_signed(n),
        };
        self.offset = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}
