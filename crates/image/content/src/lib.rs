//! Content store: immutable blobs named by their digest, references, leases, garbage collection.
//!
//! ```text
//! blobs/<algorithm>/<hex>  complete, verified, read-only
//! ingest/<id>              partial; flock'd by its writer
//! partial/<algorithm>-<hex> the beginning of that blob, fetched from far; kept when its writer dies
//! leases/<id>              flock'd by its owner; what it keeps stands in the database
//! upload/<name>            a blob whose digest is told at its end; outlives its writers
//! trash/<id>               was a blob; being deleted
//! ```
//!
//! A blob enters `blobs/` by rename(2), after its digest was checked and its bytes were synced: no
//! reader ever sees half a blob, and no power cut leaves one. An ingest or a lease whose `flock`
//! is free has a dead owner; [`Store::sweep`] and [`Store::collect`] remove it. So a process may be
//! killed at any instant.
//!
//! # Why collecting never takes what somebody just stored
//!
//! A blob is alive if a reference or a live lease reaches it through manifests and indexes. All
//! that makes a blob alive, and the step that takes blobs away, happen in write transactions of
//! the database, of which there is one at a time on the whole machine:
//!
//! - *keep* ([`Lease::keep`], and every put): writes the row (lease, digest), commits, and only
//!   **then** looks whether the blob is there, or renames it into place;
//! - *name* ([`Names::set`]): looks whether the blob is there and writes the row in one transaction;
//! - *take* ([`Store::collect`]): computes what is alive and renames the rest to `trash/`, in one
//!   transaction. What was renamed is deleted afterwards; nothing comes back from `trash/`.
//!
//! Whichever of keep and take commits first, the other sees it. Keep first: take finds the row,
//! and the row's lease is locked, because a lease is locked before its first row is written.
//! Take first: keep finds the blob absent and stores it anew. There is no third order. If take is
//! killed in the middle, it has renamed some dead blobs and not others; each is still either a
//! whole blob or no blob. What is alive can only have been made so before, or after by keep, which
//! looks again.
//!
//! Only what was dead both before a [`Db::sync`] and in the transaction is taken: so no power cut
//! brings back a reference to a blob that is gone.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let db = Arc::new(hako_db::Db::open(&dir.path().join("hako.db"))?);
//! let store = hako_content::Store::open(&dir.path().join("content"), db)?;
//!
//! let lease = store.lease()?;
//! let hello = lease.put_bytes("text/plain", b"hello")?;
//! lease.publish(|names| names.set("greeting", &hello, &BTreeMap::new()))?;
//!
//! assert_eq!(store.collect()?.blobs, 0);
//! store.update(|names| names.remove("greeting"))?;
//! assert_eq!(store.collect()?.blobs, 1);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod blob;
mod children;
mod collect;
mod derived;
mod error;
mod ingest;
mod lease;
mod names;
mod owned;
mod partial;
mod upload;
mod verify;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hako_db::Db;
use hako_oci::{Algorithm, Descriptor, Digest};

pub use blob::Blob;
pub use children::{Kind, children};
pub use collect::Collected;
pub use error::Error;
pub use ingest::Ingest;
pub use lease::Lease;
pub use names::{Named, Names};
pub use partial::Partial;
pub use upload::{Hashed, Upload};
pub use verify::Verified;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest manifest, index or configuration that is read at all. Registries take 4 MiB.
pub const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE reference (
        name TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        labels TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lease (
        id TEXT NOT NULL,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        PRIMARY KEY (id, digest, media_type)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE derived (
        source TEXT NOT NULL,
        how TEXT NOT NULL,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (source, how)
    ) STRICT, WITHOUT ROWID;
",
];

/// The store. Cloning makes another handle to the same one.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    db: Arc<Db>,
}

impl Store {
    /// Opens the store in `dir`, and makes it where there is none. `dir`'s parent must exist.
    pub fn open(dir: &Path, db: Arc<Db>) -> Result<Store> {
        let store = Store { inner: Arc::new(Inner { dir: dir.to_owned(), db }) };
        // `trash` is made last: where it is, the others are.
        if !dir.join("trash").is_dir() {
            for part in ["", "blobs", "blobs/sha256", "blobs/sha512", "ingest", "leases", "trash"] {
                let path = dir.join(part);
                match private_dir(&path) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(Error::io("mkdir", &path, e));
                    }
                    _ => {}
                }
            }
        }
        store.db().migrate("content", MIGRATIONS)?;
        Ok(store)
    }

    /// Opens a store with a database of its own, for somebody who throws `dir` away afterwards.
    pub fn scratch(dir: &Path) -> Result<Store> {
        let db = Arc::new(Db::open(&dir.join("hako.db"))?);
        Store::open(&dir.join("content"), db)
    }

    /// Opens a blob for reading.
    pub fn blob(&self, digest: &Digest) -> Result<Blob> {
        Blob::open(digest, &self.blob_path(digest))
    }

    /// The size of a blob, `None` where it is absent.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("stat", &path, e)),
        }
    }

    /// The bytes of a manifest, an index or a configuration: bounded, and verified again.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > DOCUMENT_BYTES_MAX {
            return Err(Error::DocumentTooLarge {
                digest: descriptor.digest.clone(),
                size: descriptor.size,
            });
        }
        self.blob(&descriptor.digest)?.read_verified(descriptor)
    }

    /// Where a blob is or would be. For those who hand a blob to the kernel; all others open it.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    fn db(&self) -> &Db {
        &self.inner.db
    }

    fn part(&self, name: &str) -> PathBuf {
        self.inner.dir.join(name)
    }

    /// Makes the names of all blobs that were renamed into place survive a power cut.
    fn sync_names(&self) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let path = self.part("blobs").join(algorithm.name());
            fs::File::open(&path)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| Error::io("fsync", &path, e))?;
        }
        Ok(())
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}
