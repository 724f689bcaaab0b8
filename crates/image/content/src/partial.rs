//! Blobs that come from far away: kept in part when their fetcher dies, and fetched by one at a time.
//!
//! `partial/<algorithm>-<hex>` holds the first bytes of that blob and is `flock`'d by whoever fetches
//! it. The next one to want it goes on where it ended. A collection takes those that nobody has
//! touched for a day.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hako_oci::Descriptor;
use hako_sys::fs::Writeback;

use crate::{Error, Lease, Result, Store, ingest::Hasher, owned, private_dir};

const DIR: &str = "partial";
const BUFFER_BYTES: usize = 256 << 10;
/// How long a partial blob waits for somebody who goes on with it.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The beginning of a blob, with the right to make it longer. Dropping it leaves it for later.
#[derive(Debug)]
pub struct Partial<'l> {
    lease: &'l Lease,
    expected: Descriptor,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    writeback: Writeback,
}

impl Lease {
    /// The right to fetch a blob; `None` where it is in the store, and kept by this lease from now
    /// on. Waits while another process or thread fetches it.
    pub fn claim(&self, expected: &Descriptor) -> Result<Option<Partial<'_>>> {
        let dir = self.store().part(DIR);
        let name = format!("{}-{}", expected.digest.algorithm().name(), expected.digest.hex());
        let path = dir.join(name);
        loop {
            if self.keep(expected)? {
                return Ok(None);
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    match private_dir(&dir) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(Error::io("mkdir", &dir, e));
                        }
                        _ => {}
                    }
                    options.open(&path)
                }
                opened => opened,
            };
            let file = file.map_err(|e| Error::io("open", &path, e))?;
            file.lock().map_err(|e| Error::io("flock", &path, e))?;
            // Whoever had it before us made it a blob, or threw it away.
            if is_at(&file, &path)? {
                let hasher = Hasher::new(expected.digest.algorithm());
                let expected = expected.clone();
                let writeback = Writeback::default();
                let mut partial =
                    Partial { lease: self, expected, file, path, hasher, size: 0, writeback };
                partial.read_again()?;
                return Ok(Some(partial));
            }
        }
    }
}

/// Whether this file is what the name stands for.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().map_err(|e| Error::io("stat", path, e))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("stat", path, e)),
    }
}

impl Partial<'_> {
    /// How many bytes are there.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file, opened once more, to read what is there while it grows: it becomes the blob.
    ///
    /// A duplicate of our own descriptor would not do: it would hold our lock as long as it lives,
    /// against those who wait for it with what our reader waits for.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| self.io("open", e))
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.expected.size {
            return Err(self.wrong_size(size));
        }
        self.file.write_all(bytes).map_err(|e| self.io("write", e))?;
        let written = self.writeback.grown_to(self.file.as_fd(), size);
        written.map_err(|e| self.io("sync_file_range", e.into()))?;
        self.hasher.update(bytes);
        self.size = size;
        Ok(())
    }

    /// Makes it the blob. One that is not what it should be is thrown away.
    pub fn commit(self) -> Result<()> {
        if self.size != self.expected.size {
            return Err(self.wrong_size(self.size));
        }
        let actual = self.hasher.clone().finish();
        if actual != self.expected.digest {
            let expected = self.expected.digest.clone();
            self.discard()?;
            return Err(Error::DigestMismatch { expected, actual });
        }
        // First the lease, then the look: see the head of this crate.
        if self.lease.keep(&self.expected)? {
            return self.discard();
        }
        self.file.sync_all().map_err(|e| self.io("fsync", e))?;
        let blob = self.lease.store().blob_path(&self.expected.digest);
        fs::rename(&self.path, &blob).map_err(|e| Error::io("rename", &blob, e))?;
        // Only now: a partial blob that its next owner could not write would be in everybody's way.
        let read_only = Permissions::from_mode(0o400);
        self.file.set_permissions(read_only).map_err(|e| self.io("chmod", e))
    }

    /// Throws it away.
    pub fn discard(self) -> Result<()> {
        owned::remove(&self.path)
    }

    /// Hashes what another process left. More than there should be is nothing.
    fn read_again(&mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.hasher.update(&buffer[..n]);
                    self.size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io("read", e)),
            }
            if self.size > self.expected.size {
                self.file.set_len(0).map_err(|e| self.io("truncate", e))?;
                self.hasher = Hasher::new(self.expected.digest.algorithm());
                self.size = 0;
                break;
            }
        }
        self.file.seek(SeekFrom::Start(self.size)).map_err(|e| self.io("seek", e))?;
        Ok(())
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let digest = self.expected.digest.clone();
        Error::SizeMismatch { digest, expected: self.expected.size, actual }
    }

    fn io(&self, call: &'static str, e: io::Error) -> Error {
        Error::io(call, &self.path, e)
    }
}

impl Store {
    /// Removes partial blobs that nobody fetches: all of them, or those that are old.
    pub(crate) fn sweep_partial(&self, all: bool) -> Result<u64> {
        let dir = self.part(DIR);
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(|e| Error::io("readdir", &dir, e))?,
        };
        let mut freed = 0;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("readdir", &dir, e))?.path();
            let Some(file) = owned::claim(&path)? else { continue };
            let found = file.metadata().map_err(|e| Error::io("stat", &path, e))?;
            // A clock that was set back makes nothing old.
            let age =
                found.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if all || age.is_some_and(|age| age > AGE_MAX) {
                // Not what may have become a blob between the two looks.
                if is_at(&file, &path)? {
                    owned::remove(&path)?;
                    freed += found.len();
                }
            }
        }
        Ok(freed)
    }

    /// Removes partial blobs that nobody fetches just now, however young; gives their bytes.
    pub fn discard_partial(&self) -> Result<u64> {
        self.sweep_partial(true)
    }
}
