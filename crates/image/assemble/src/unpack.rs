//! Packages taken apart: what they say of themselves, their entries in memory, and the content of
//! their files in a nameless file on disk.
//!
//! A package's archive is compressed as one, and its files are wanted in another order: so it is
//! decompressed once, all packages at once, and its content is read from there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use hako_deb::{Control, Deb, Member};
use hako_tar::{Header, Kind, Reader};

use crate::{Error, Result, error::lossy};

/// Entries of all packages; each is some 300 bytes in memory.
const ENTRIES_MAX: usize = 1_000_000;
/// How many packages are decompressed at once.
const THREADS_MAX: usize = 4;
const BUFFER_BYTES: usize = 128 << 10;

/// A package whose content is at hand.
#[derive(Debug)]
pub struct Unpacked {
    pub(crate) control: Control,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) entries: Vec<Entry>,
    content: File,
    /// When the newest of its files was last changed.
    pub(crate) date: i64,
}

/// One entry of a package.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As in the archive, with a path without `./` before and `/` behind it; empty for the root.
    pub header: Header,
    /// Where its content begins in the package's file.
    offset: u64,
}

impl Unpacked {
    /// The package's name.
    pub fn name(&self) -> &str {
        self.control.package()
    }

    /// What it says of itself.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// When the newest of its files was last changed, seconds since 1970.
    pub fn date(&self) -> i64 {
        self.date
    }

    /// Whether it has this control file: `postinst`.
    pub fn has(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    /// The name of the source package that it was built from.
    pub(crate) fn source(&self) -> &str {
        let source = self.control.get("Source").unwrap_or(self.name());
        source.split_whitespace().next().unwrap_or(self.name())
    }

    /// The text of one of its control files.
    pub(crate) fn member(&self, name: &str) -> Option<&[u8]> {
        self.members.get(name).map(|member| &member.bytes[..])
    }

    /// The file at a path as it stands in the package.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|e| e.header.kind == Kind::File && e.header.path == path)
    }

    pub(crate) fn content(&self, entry: &Entry) -> Content<'_> {
        Content { file: &self.content, offset: entry.offset, left: entry.header.size }
    }

    /// The content of a file that is at most `bytes_max` long.
    pub(crate) fn read(&self, entry: &Entry, bytes_max: u64) -> Result<Vec<u8>> {
        if entry.header.size > bytes_max {
            return Err(Error::entry(self.name(), &entry.header.path, "is too long"));
        }
        let mut bytes = Vec::new();
        let read = self.content(entry).read_to_end(&mut bytes);
        read.map_err(Error::io("read", lossy(&entry.header.path)))?;
        Ok(bytes)
    }
}

/// The content of one file.
pub(crate) struct Content<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..n], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Takes packages apart, in the order of their files' names. What is in their files is kept in
/// nameless files in `scratch`.
pub fn unpack(
    debs: &[PathBuf],
    scratch: &Path,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Unpacked>> {
    let next = AtomicUsize::new(0);
    let entries = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Unpacked)>> {
        let mut unpacked = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(deb) = debs.get(index) else { return Ok(unpacked) };
            let one = one(deb, scratch, &entries);
            // The others need not begin what will be thrown away.
            unpacked.push((index, one.inspect_err(|_| next.store(debs.len(), Ordering::Relaxed))?));
            done(index);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut unpacked = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut unpacked = work();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            unpacked = unpacked.and_then(|mut all| {
                all.extend(other?);
                Ok(all)
            });
        }
        unpacked
    })?;
    unpacked.sort_by_key(|(index, _)| *index);
    Ok(unpacked.into_iter().map(|(_, unpacked)| unpacked).collect())
}

fn one(path: &Path, scratch: &Path, entries_total: &AtomicUsize) -> Result<Unpacked> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let content = tempfile::tempfile_in(scratch).map_err(Error::io("open", scratch))?;
    one_from(file, &path.display().to_string(), content, entries_total)
}

pub(crate) fn one_from(
    deb: impl Read + Send,
    place: &str,
    content: File,
    entries_total: &AtomicUsize,
) -> Result<Unpacked> {
    let deb = Deb::open(deb).map_err(|source| Error::Deb { package: place.into(), source })?;
    let control = deb.control().clone();
    let members = deb.members().clone();
    let package = control.package().to_owned();
    let tar_error = |source| Error::Tar { package: package.clone(), source };
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, deb.into_data()));
    let mut entries = Vec::new();
    let (mut offset, mut date) = (0, 0);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    while let Some(mut entry) = reader.next_entry().map_err(tar_error)? {
        if entries_total.fetch_add(1, Ordering::Relaxed) >= ENTRIES_MAX {
            let limit = ENTRIES_MAX as u64;
            return Err(Error::Limit { package, what: "files", limit });
        }
        let mut header = entry.header().clone();
        let bad = |why| Error::entry(&package, &entry.header().path, why);
        if entry.extents().is_some() {
            return Err(bad("is a sparse file, which packages cannot have"));
        }
        check(&mut header).map_err(bad)?;
        date = date.max(header.mtime.seconds);
        let size = header.size;
        // dpkg ignores extended attributes as well.
        header.xattrs.clear();
        entries.push(Entry { header, offset });
        entry
            .for_each_piece(|_, piece| {
                if buffer.len() + piece.len() > BUFFER_BYTES {
                    write(&content, &mut buffer)?;
                }
                buffer.extend_from_slice(piece);
                Ok::<(), hako_tar::Error>(())
            })
            .map_err(tar_error)?;
        offset += size;
    }
    write(&content, &mut buffer).map_err(|e| tar_error(e.into()))?;
    Ok(Unpacked { control, members, entries, content, date })
}

fn write(mut file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    file.write_all(buffer)?;
    buffer.clear();
    Ok(())
}

/// Makes paths plain, and refuses what no package has: names that lead out of the root, devices,
/// whiteouts.
fn check(header: &mut Header) -> Result<(), &'static str> {
    header.path = plain(&header.path)?;
    match header.kind {
        Kind::File | Kind::Directory | Kind::Symlink | Kind::Fifo => {}
        Kind::HardLink => header.link = plain(&header.link)?,
        Kind::Char | Kind::Block => return Err("is a device"),
        Kind::Other(_) => return Err("is of an unknown kind"),
    }
    if header.kind == Kind::Symlink && (header.link.is_empty() || header.link.contains(&0)) {
        return Err("is a symbolic link to nowhere");
    }
    match header.path.is_empty() && header.kind != Kind::Directory {
        true => Err("is the root, and no directory"),
        false => Ok(()),
    }
}

/// A path without `./` before and `/` behind it.
fn plain(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::with_capacity(path.len());
    for name in path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return Err("leads out of its directory");
        }
        if name.contains(&0) {
            return Err("has a zero byte in its name");
        }
        // In a layer it would take another file away instead of being one.
        if name.starts_with(b".wh.") {
            return Err("is a whiteout");
        }
        if !plain.is_empty() {
            plain.push(b'/');
        }
        plain.extend_from_slice(name);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_or_refused() {
        let check = |path: &str| plain(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(check("./usr/bin/"), Ok("usr/bin".into()));
        assert_eq!(check("./"), Ok(String::new()));
        assert_eq!(check("/etc//passwd"), Ok("etc/passwd".into()));
        assert_eq!(check("./..a/b.."), Ok("..a/b..".into()));
        for bad in
            ["../etc/passwd", "./usr/../../etc", "a/..", "a\0b", "usr/.wh.bin", ".wh..wh..opq"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_devices() {
        for (kind, ok) in [(Kind::File, true), (Kind::Char, false), (Kind::Other(b'?'), false)] {
            assert_eq!(check(&mut Header::new("./a", kind, 0o644)).is_ok(), ok);
        }
        assert!(check(&mut Header::new("./", Kind::File, 0o644)).is_err());
        assert!(check(&mut Header::new("./a", Kind::Symlink, 0o777)).is_err());
    }
}
