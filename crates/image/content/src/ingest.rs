//! A blob on its way into the store: written to `ingest/`, hashed while it is written.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::{fd::AsFd as _, unix::fs::PermissionsExt},
    path::PathBuf,
};

use hako_oci::{Algorithm, Descriptor, Digest};
use hako_sys::fs::Writeback;
use sha2::Digest as _;

use crate::{Error, Lease, Result, owned};

/// A partial blob. Dropping it removes it.
#[derive(Debug)]
pub struct Ingest<'l> {
    lease: &'l Lease,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    bytes_max: u64,
    writeback: Writeback,
}

impl<'l> Ingest<'l> {
    pub(crate) fn create(
        lease: &'l Lease,
        algorithm: Algorithm,
        bytes_max: u64,
    ) -> Result<Ingest<'l>> {
        let (file, path) = owned::create(&lease.store().part("ingest"))?;
        Ok(Ingest {
            lease,
            file,
            path,
            hasher: Hasher::new(algorithm),
            size: 0,
            bytes_max,
            writeback: Writeback::default(),
        })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Like [`Write::write_all`], with this crate's errors.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.bytes_max {
            return Err(Error::TooLarge { bytes_max: self.bytes_max });
        }
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        let written = self.writeback.grown_to(self.file.as_fd(), size);
        written.map_err(|e| Error::io("sync_file_range", &self.path, e.into()))?;
        self.hasher.update(bytes);
        self.size = size;
        Ok(())
    }

    /// Makes it a blob, whatever its digest is.
    pub fn commit(self, media_type: &str) -> Result<Descriptor> {
        let digest = self.hasher.clone().finish();
        let descriptor = Descriptor::new(media_type, digest, self.size);
        self.settle(&descriptor)?;
        Ok(descriptor)
    }

    /// Makes it a blob, if it is the one that `expected` describes.
    pub fn commit_as(self, expected: &Descriptor) -> Result<()> {
        if self.size != expected.size {
            return Err(Error::SizeMismatch {
                digest: expected.digest.clone(),
                expected: expected.size,
                actual: self.size,
            });
        }
        let actual = self.hasher.clone().finish();
        if actual != expected.digest {
            return Err(Error::DigestMismatch { expected: expected.digest.clone(), actual });
        }
        self.settle(expected)
    }

    fn settle(self, descriptor: &Descriptor) -> Result<()> {
        // First the lease, then the look: see the head of this crate.
        if self.lease.keep(descriptor)? {
            return Ok(());
        }
        let failed = |call, e| Error::io(call, &self.path, e);
        self.file.set_permissions(Permissions::from_mode(0o400)).map_err(|e| failed("chmod", e))?;
        self.file.sync_all().map_err(|e| failed("fsync", e))?;
        let blob = self.lease.store().blob_path(&descriptor.digest);
        fs::rename(&self.path, &blob).map_err(|e| Error::io("rename", &blob, e))
    }
}

impl Write for Ingest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|e| match e {
            Error::Io { source, .. } => source,
            Error::Full { .. } => io::ErrorKind::StorageFull.into(),
            other => io::Error::other(other),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        // Gone already if it became a blob. If it cannot be removed now, the next sweep finds its
        // lock free; there is nobody to tell.
        drop(fs::remove_file(&self.path));
    }
}

/// Any of the registered algorithms, while streaming.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Hasher::Sha256(_) => Algorithm::Sha256,
            Hasher::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Sha512(h) => h.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(h) => Digest::from_sha256(h.finalize().into()),
            Hasher::Sha512(h) => Digest::from_sha512(h.finalize().into()),
        }
    }
}
