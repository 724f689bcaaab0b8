//! The files of an archive or of a directory, by path, as the layouts look them up.

mod directory;
mod path;
mod stream;
mod tar;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use hako_content::{DOCUMENT_BYTES_MAX, Lease};
use hako_layer::Compression;
use hako_oci::{Descriptor, Digest};

pub(crate) use self::path::clean;
pub(crate) use self::stream::ReadAhead;
use crate::{Error, Result};

/// Where images come from.
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// A stream, such as standard input.
    Stream(Box<dyn Read + Send>),
}

/// What an archive may claim before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its entries, decompressed.
    pub bytes_max: u64,
    /// How many entries.
    pub entries_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes_max: 256 << 30, entries_max: 100_000 }
    }
}

/// A file that was found.
pub(crate) struct Found {
    /// Its length.
    pub size: u64,
    /// Its name in the content store, where it is there already and kept by the load's lease.
    pub stored: Option<Digest>,
    /// Its content.
    pub reader: Box<dyn Read + Send>,
}

/// All files of an archive or directory. Looking one up follows links, but never out.
pub(crate) struct Contents {
    files: Files,
    limits: Limits,
}

enum Files {
    Tar(tar::Index),
    Directory(hako_root::Root),
}

impl Contents {
    /// Looks through the source. A stream is stored on the way, for it cannot be read twice.
    pub(crate) fn open(source: Source, lease: &Lease, limits: Limits) -> Result<Contents> {
        Ok(Contents { files: Files::open(source, lease, &limits)?, limits })
    }

    /// What an archive may claim.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The file at `path`, if there is one.
    pub(crate) fn find(&self, path: &str, lease: &Lease) -> Result<Option<Found>> {
        match &self.files {
            Files::Tar(index) => index.find(path, lease.store()),
            Files::Directory(root) => directory::find(root, path),
        }
    }

    /// The names in the archive's top directory that have something beneath them.
    pub(crate) fn top_directories(&self) -> Result<Vec<String>> {
        match &self.files {
            Files::Tar(index) => Ok(index.top_directories()),
            Files::Directory(root) => directory::top_directories(root),
        }
    }

    /// The bytes of a document, which must not be longer than a document may be.
    pub(crate) fn document(&self, path: &str, lease: &Lease) -> Result<Option<Vec<u8>>> {
        let Some(mut found) = self.find(path, lease)? else { return Ok(None) };
        let limit = DOCUMENT_BYTES_MAX;
        if found.size > limit {
            return Err(Error::Limit { what: "bytes in a document", limit });
        }
        let mut bytes = Vec::with_capacity(found.size as usize);
        (&mut found.reader).take(limit).read_to_end(&mut bytes).map_err(Error::Read)?;
        Ok(Some(bytes))
    }

    /// The same, where it must be there.
    pub(crate) fn document_required(&self, path: &str, lease: &Lease) -> Result<Vec<u8>> {
        self.document(path, lease)?.ok_or_else(|| Error::MissingEntry { path: path.into() })
    }

    /// Puts the file at `path` into the store as the blob that `expected` describes.
    pub(crate) fn put_as(&self, path: &str, lease: &Lease, expected: &Descriptor) -> Result<()> {
        if lease.keep(expected)? {
            return Ok(());
        }
        match self.find(path, lease)? {
            Some(found) => Ok(lease.put(expected, found.reader)?),
            None => Err(Error::MissingEntry { path: path.into() }),
        }
    }

    /// Puts the file at `path` into the store, whatever its digest is.
    pub(crate) fn put(&self, path: &str, lease: &Lease, media_type: &str) -> Result<Descriptor> {
        let Some(found) = self.find(path, lease)? else {
            return Err(Error::MissingEntry { path: path.into() });
        };
        if let Some(digest) = found.stored {
            let descriptor = Descriptor::new(media_type, digest, found.size);
            lease.keep(&descriptor)?;
            return Ok(descriptor);
        }
        Ok(lease.put_unnamed(media_type, found.size, found.reader)?)
    }
}

impl Files {
    fn open(source: Source, lease: &Lease, limits: &Limits) -> Result<Files> {
        let (path, file) = match source {
            Source::Stream(stream) => return Files::of_stream(stream, lease, limits),
            Source::Path(path) => match File::open(&path) {
                Ok(file) => (path, file),
                Err(source) => return Err(Error::Open { path, source }),
            },
        };
        let failed = |source| Error::Open { path: path.clone(), source };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Files::Directory(hako_root::Root::open(&path)?));
        }
        // A FIFO is a stream with a name.
        if !metadata.is_file() || stream::compression(&file).map_err(failed)? != Compression::None {
            return Files::of_stream(Box::new(file), lease, limits);
        }
        Ok(Files::Tar(tar::Index::of_file(file, lease, limits)?))
    }

    fn of_stream(stream: Box<dyn Read + Send>, lease: &Lease, limits: &Limits) -> Result<Files> {
        let decompressed = hako_layer::decompress(stream).map_err(Error::Read)?.1;
        // Decompressing has a thread of its own; this one hashes and writes.
        let mut reader = BufReader::with_capacity(256 << 10, ReadAhead::new(decompressed));
        let index = tar::Index::of_stream(&mut reader, lease, limits)?;
        // To the end: only there does a compressed stream say whether it was whole, and whoever
        // writes to a pipe expects to be read.
        let rest = limits.bytes_max;
        if io::copy(&mut reader.take(rest), &mut io::sink()).map_err(Error::Read)? == rest {
            return Err(Error::Limit { what: "bytes", limit: rest });
        }
        Ok(Files::Tar(index))
    }
}
