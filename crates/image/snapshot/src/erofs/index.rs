//! The index of a chain: made of listings, or of the index of the chain below, and compared.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Write as _},
    path::Path,
    sync::Arc,
};

use hako_layer::{Listing, Merge};
use hako_oci::Digest;

use super::layer_error;
use crate::{Error, Result};

/// Adds layers to what is below them. Each listing goes when it is merged: of a large image they
/// take as much memory as the tree.
pub(super) fn add(mut below: Merge, layers: Vec<(Digest, Arc<Listing>)>) -> Result<Merge> {
    for (diff_id, listing) in layers {
        below.add(&listing, diff_id.hex()).map_err(|source| layer_error(&diff_id, source))?;
    }
    Ok(below)
}

/// The index of some layers over what is below them.
pub(super) fn write(
    path: &Path,
    below: Merge,
    layers: Vec<(Digest, Arc<Listing>)>,
    top: &Digest,
) -> Result<()> {
    let last = layers.last().map_or(top, |(diff_id, _)| diff_id).clone();
    let merge = add(below, layers)?;
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    merge.write(uuid(top), &mut out).map_err(|source| match source {
        hako_layer::Error::Index(_) => layer_error(&last, source),
        source => layer_error(top, source),
    })?;
    out.flush().map_err(Error::io("write", path))
}

/// The beginning of the chain ID.
pub(super) fn uuid(top: &Digest) -> [u8; 16] {
    let hex = top.hex().as_bytes();
    let digit = |n: usize| hex.get(n).and_then(|&b| (b as char).to_digit(16)).unwrap_or(0) as u8;
    std::array::from_fn(|n| digit(2 * n) << 4 | digit(2 * n + 1))
}

/// Compares what is written to it with a file.
pub(super) struct Compare {
    pub(super) file: Option<io::BufReader<File>>,
    pub(super) differs: bool,
}

impl Compare {
    pub(super) fn is_longer(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        Ok(file.read(&mut [0])? > 0)
    }
}

impl io::Write for Compare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(bytes.len()) };
        let mut there = vec![0; bytes.len()];
        match file.read_exact(&mut there) {
            Ok(()) => self.differs |= there != bytes,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.differs = true,
            Err(e) => return Err(e),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn open_if_there(path: &Path) -> Result<Option<io::BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(io::BufReader::with_capacity(256 << 10, file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", path)(e)),
    }
}
