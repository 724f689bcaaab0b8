//! What is in a layer's tar, without content: enough to make an index that points into the tar.
//!
//! The content of most files is a run of blocks in the tar. That of sparse files is not: what is
//! stored of them goes to a file of its own, in its places, holes staying holes. There, each sparse
//! file begins at a multiple of 4096, in the order of the tar.

use std::{
    fs::File,
    io::{self, BufReader, Seek as _},
    os::unix::fs::FileExt as _,
};

use hako_oci::Digest;
use hako_tar::{Header, Kind};
use sha2::{Digest as _, Sha256};

use crate::{
    Compression, Digests, Limits,
    compression::MAGIC_LEN,
    error::{Error, Result},
    stream,
};

const BLOCK: u64 = hako_erofs::BLOCK;
/// Where files may begin that are kept apart: at pages.
const SPARSE_ALIGNMENT: u64 = 4096;
/// Bytes of all names, links and attributes together: what a listing may take of memory.
const TEXT_BYTES_MAX: u64 = 512 << 20;

/// Gets what is stored of sparse files, and where it belongs.
type Pieces<'p> = dyn Fn(&[u8], u64) -> io::Result<()> + 'p;

/// Where the content of a file begins, in blocks of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tar(u32),
    Sparse(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) header: Header,
    /// Where the content of a regular file is.
    pub(crate) place: Place,
}

/// The entries of a layer, and how large the files are that hold their content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    pub(crate) entries: Vec<Listed>,
    /// Bytes of all files together.
    pub size_bytes: u64,
    /// Bytes of the file with the content of sparse files; 0 where there are none.
    pub sparse_bytes: u64,
    /// Bytes of the tar, in whole blocks.
    pub tar_bytes: u64,
}

/// Keeps the tar of a layer, compressed or not, in `tar`, and the content of its sparse files in
/// `sparse`. Both are empty files.
///
/// The tar gets zeros at its end where it is not whole blocks. Nothing is flushed to disk.
pub fn keep(
    layer: impl io::Read + Send,
    tar: &File,
    sparse: &File,
    limits: &Limits,
) -> Result<(Listing, Digests)> {
    let write = |piece: &[u8], offset| sparse.write_all_at(piece, offset);
    let (mut listing, digests) = stream::with_tar(layer, limits, Some(tar), |stream| {
        list_entries(hako_tar::Reader::new(stream), Some(&write), limits)
    })?;
    listing.tar_bytes = digests.tar_bytes.next_multiple_of(BLOCK);
    tar.set_len(listing.tar_bytes).map_err(Error::Keep)?;
    sparse.set_len(listing.sparse_bytes).map_err(Error::Keep)?;
    Ok((listing, digests))
}

/// The same for a tar that is whole already, and whose digest somebody else checked: only what it
/// has of sparse files is written.
pub fn keep_sparse(tar: &File, sparse: &File, limits: &Limits) -> Result<Listing> {
    let write = |piece: &[u8], offset| sparse.write_all_at(piece, offset);
    let listing = list_with(tar, Some(&write), limits)?;
    sparse.set_len(listing.sparse_bytes).map_err(Error::Keep)?;
    Ok(listing)
}

/// Whether a layer is not compressed. The file's position stays.
pub fn is_plain(layer: &File) -> io::Result<bool> {
    let mut start = [0; MAGIC_LEN];
    let mut length = 0;
    while length < start.len() {
        match layer.read_at(&mut start[length..], length as u64)? {
            0 => break,
            n => length += n,
        }
    }
    Ok(Compression::detect(&start[..length]) == Compression::None)
}

/// The digest of a tar as it is kept.
pub fn digest_tar(mut tar: impl io::Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match tar.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The listing of a tar that was [kept](keep), after what was kept of its sparse files is compared
/// with it.
pub fn check(tar: &File, sparse: Option<&File>, limits: &Limits) -> Result<Listing> {
    let compare = |piece: &[u8], offset| {
        let mut there = vec![0; piece.len()];
        let differs = || io::Error::other("the content of a sparse file is not that in the tar");
        let file = sparse.ok_or_else(differs)?;
        file.read_exact_at(&mut there, offset)?;
        if there == piece { Ok(()) } else { Err(differs()) }
    };
    list_with(tar, Some(&compare), limits)
}

/// The listing of a tar that was [kept](keep), which skips all content.
pub fn list(tar: &File, limits: &Limits) -> Result<Listing> {
    list_with(tar, None, limits)
}

fn list_with(mut tar: &File, sparse: Option<&Pieces<'_>>, limits: &Limits) -> Result<Listing> {
    let tar_bytes = tar.metadata().map_err(Error::Keep)?.len();
    tar.rewind().map_err(Error::Keep)?;
    let reader = hako_tar::Reader::seekable(BufReader::with_capacity(64 << 10, tar))?;
    let listing = list_entries(reader, sparse, limits)?;
    Ok(Listing { tar_bytes, ..listing })
}

fn list_entries<R: io::BufRead>(
    mut reader: hako_tar::Reader<R>,
    sparse: Option<&Pieces<'_>>,
    limits: &Limits,
) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut text = 0u64;
    while let Some(mut entry) = reader.next_entry()? {
        let limit = limits.entries_max;
        if listing.entries.len() as u64 >= limit {
            return Err(Error::Limit { what: "the number of entries", limit });
        }
        let header = entry.header();
        let size = header.size;
        if header.kind == Kind::File {
            let limit = limits.content_bytes_max;
            listing.size_bytes = listing.size_bytes.saturating_add(size);
            if listing.size_bytes > limit {
                return Err(Error::Limit { what: "the size of the files", limit });
            }
        }
        let place = if entry.extents().is_some() {
            let start = listing.sparse_bytes;
            if let Some(sparse) = sparse {
                entry.for_each_piece(|offset, piece| {
                    sparse(piece, start + offset).map_err(Error::Keep)
                })?;
            }
            listing.sparse_bytes = (start + size).next_multiple_of(SPARSE_ALIGNMENT);
            Place::Sparse(block(start)?)
        } else if header.kind == Kind::File {
            Place::Tar(block(entry.content_offset())?)
        } else {
            Place::Tar(0)
        };
        let mut header = entry.into_header();
        header.path.shrink_to_fit();
        let xattrs: usize = header.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        text += (header.path.len() + header.link.len() + xattrs) as u64;
        if text > TEXT_BYTES_MAX {
            let (what, limit) = ("the size of names and attributes", TEXT_BYTES_MAX);
            return Err(Error::Limit { what, limit });
        }
        listing.entries.push(Listed { header, place });
    }
    Ok(listing)
}

/// Indexes count blocks in 32 bits: 2 TiB.
fn block(offset: u64) -> Result<u32> {
    let limit = u64::from(u32::MAX) * BLOCK;
    u32::try_from(offset / BLOCK).map_err(|_| Error::Limit { what: "the size of the tar", limit })
}
