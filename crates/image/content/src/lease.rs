//! Leases: what a living process keeps from being collected while nothing names it yet.

use std::{fs::File, io::Read, path::PathBuf};

use hako_oci::{Algorithm, Descriptor};

use crate::{Error, Ingest, Names, Result, Store, owned};

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Keeps all that is stored through it, as long as it lives and this process does.
///
/// Dropping it ends it too, but cannot say what goes wrong and leaves rows for the next collection.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: String,
    path: PathBuf,
    /// Locked: this is what says that the owner lives.
    _file: File,
}

impl Store {
    /// A new lease that keeps nothing yet.
    pub fn lease(&self) -> Result<Lease> {
        let (file, path) = owned::create(&self.part("leases"))?;
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Lease { store: self.clone(), id, path, _file: file })
    }
}

impl Lease {
    /// The store it is a lease of.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps what `descriptor` describes, and all that it refers to, if it is there: which is what
    /// this returns. What is absent now is kept from the moment it is stored.
    pub fn keep(&self, descriptor: &Descriptor) -> Result<bool> {
        let digest = &descriptor.digest;
        let row = (&self.id, digest.to_string(), &descriptor.media_type);
        self.store.db().write(|tx| {
            tx.execute(
                "INSERT OR IGNORE INTO lease (id, digest, media_type) VALUES (?1, ?2, ?3)",
                row,
            )
        })?;
        // A blob of another size is damaged, or the descriptor lies: storing it again tells which.
        Ok(self.store.size(digest)? == Some(descriptor.size))
    }

    /// Stores a blob. Ok means "it is in the store", not "this call put it there": where it was
    /// there already, `bytes` is not read.
    ///
    /// Reads at most one byte more than `expected.size`, and checks size and digest before the blob
    /// can be seen.
    pub fn put(&self, expected: &Descriptor, bytes: impl Read) -> Result<()> {
        if self.keep(expected)? {
            return Ok(());
        }
        let mut ingest = Ingest::create(self, expected.digest.algorithm(), expected.size)?;
        match copy(bytes, &mut ingest) {
            Err(Error::TooLarge { bytes_max }) => Err(Error::SizeMismatch {
                digest: expected.digest.clone(),
                expected: expected.size,
                actual: bytes_max + 1,
            }),
            Err(e) => Err(e),
            Ok(()) => ingest.commit_as(expected),
        }
    }

    /// Stores a blob of at most `bytes_max` bytes, whose digest is not known yet.
    pub fn put_unnamed(
        &self,
        media_type: &str,
        bytes_max: u64,
        bytes: impl Read,
    ) -> Result<Descriptor> {
        let mut ingest = self.ingest(bytes_max)?;
        copy(bytes, &mut ingest)?;
        ingest.commit(media_type)
    }

    /// Stores a document that is at hand.
    pub fn put_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.put(&descriptor, bytes)?;
        Ok(descriptor)
    }

    /// Begins a blob of at most `bytes_max` bytes that the caller writes, and then commits.
    pub fn ingest(&self, bytes_max: u64) -> Result<Ingest<'_>> {
        Ingest::create(self, Algorithm::Sha256, bytes_max)
    }

    /// Like [`Lease::ingest`], for a digest of another algorithm.
    pub fn ingest_as(&self, algorithm: Algorithm, bytes_max: u64) -> Result<Ingest<'_>> {
        Ingest::create(self, algorithm, bytes_max)
    }

    /// Ends the lease in the same transaction in which `name` gives its content names: from then on
    /// they keep it. All of it survives a power cut if the names do.
    pub fn publish<T, E: From<Error>>(
        self,
        name: impl FnOnce(&Names<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.store.sync_names()?;
        let value = self.store.update(|names| {
            let value = name(names)?;
            names.end_lease(&self.id)?;
            Ok::<T, E>(value)
        })?;
        owned::remove(&self.path)?;
        Ok(value)
    }

    /// Ends the lease. What nothing else keeps is garbage now.
    pub fn release(self) -> Result<()> {
        self.store.update(|names| names.end_lease(&self.id))?;
        owned::remove(&self.path)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Rows without a locked file keep nothing, so the rows may stay until the next collection;
        // and if the file cannot be removed, its lock is free from now on.
        drop(std::fs::remove_file(&self.path));
    }
}

fn copy(mut from: impl Read, to: &mut Ingest<'_>) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.append(&buffer[..n])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Source(e)),
        }
    }
}
