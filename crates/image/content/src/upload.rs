//! An upload: a blob that comes in parts, from requests that may be days and restarts of their server
//! apart, and whose digest is told at its end.
//!
//! ```text
//! upload/<name>   what came so far; flock'd while somebody appends
//! ```
//!
//! Unlike an ingest it outlives its writer, and unlike a partial blob it is nobody's but its
//! client's; [`Store::remove_stale_uploads`] takes those that
//! nobody continued. What a file holds is what counts: its hash state lives in memory, and is made
//! again from the file where that is lost.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use hako_oci::{Algorithm, Descriptor, Digest};

use crate::{Error, Lease, Result, Store, ingest::Hasher, owned, private_dir};

/// How much is read at once when a file is hashed again.
const BUFFER_BYTES: usize = 256 << 10;

/// An upload, open for appending by its only writer.
#[derive(Debug)]
pub struct Upload {
    file: File,
    path: PathBuf,
    hashed: Hashed,
}

/// How far an upload is hashed: kept between two parts, so that nothing is hashed twice.
#[derive(Debug, Clone)]
pub struct Hashed {
    hasher: Hasher,
    size: u64,
}

impl Hashed {
    /// Of nothing.
    pub fn new(algorithm: Algorithm) -> Hashed {
        Hashed { hasher: Hasher::new(algorithm), size: 0 }
    }
}

impl Store {
    /// Begins an upload. `name` is the caller's, and must be new and a file name.
    pub fn begin_upload(&self, name: &str, algorithm: Algorithm) -> Result<Upload> {
        let path = self.upload_path(name)?;
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create_new(true).mode(0o600).open(&path)
        };
        let file = match open() {
            // Stores made before there were uploads have no directory for them.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let dir = self.part("upload");
                match private_dir(&dir) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(Error::io("mkdir", &dir, e));
                    }
                    _ => open(),
                }
            }
            opened => opened,
        };
        let file = file.map_err(|e| Error::io("open", &path, e))?;
        lock(&file, name, &path)?;
        Ok(Upload { file, path, hashed: Hashed::new(algorithm) })
    }

    /// Continues an upload. `known` spares hashing again what it covers, if it covers
    /// all that is there.
    pub fn resume_upload(&self, name: &str, known: Hashed) -> Result<Upload> {
        let path = self.upload_path(name)?;
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoUpload(name.into()));
            }
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        lock(&file, name, &path)?;
        let metadata = file.metadata().map_err(|e| Error::io("stat", &path, e))?;
        // Between the two calls it may have become a blob, or been removed.
        if metadata.nlink() == 0 || !path.exists() {
            return Err(Error::NoUpload(name.into()));
        }
        let mut upload = Upload { file, path, hashed: known };
        if upload.hashed.size != metadata.len() {
            upload.hash_again(upload.hashed.hasher.algorithm())?;
        }
        Ok(upload)
    }

    /// How many bytes of an upload are there; `None` where there is no such.
    pub fn upload_size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.upload_path(name)?;
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("stat", &path, e)),
        }
    }

    /// Removes an upload, and says whether it was there. Its writer goes on into nothing.
    pub fn remove_upload(&self, name: &str) -> Result<bool> {
        let path = self.upload_path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("unlink", &path, e)),
        }
    }

    /// Names of all uploads.
    pub fn uploads(&self) -> Result<Vec<String>> {
        let dir = self.part("upload");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("readdir", &dir, e)),
        };
        entries
            .map(|entry| {
                let entry = entry.map_err(|e| Error::io("readdir", &dir, e))?;
                Ok(entry.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }

    /// Removes those to which nothing was appended for so long, and returns their names.
    pub fn remove_stale_uploads(&self, age: Duration) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        self.each_stale_upload(age, |name, path| {
            owned::remove(path)?;
            removed.push(name);
            Ok(())
        })?;
        Ok(removed)
    }

    /// The uploads that [`Store::remove_stale_uploads`] would remove.
    pub fn stale_uploads(&self, age: Duration) -> Result<Vec<String>> {
        let mut stale = Vec::new();
        self.each_stale_upload(age, |name, _| {
            stale.push(name);
            Ok(())
        })?;
        Ok(stale)
    }

    fn each_stale_upload(
        &self,
        age: Duration,
        mut act: impl FnMut(String, &std::path::Path) -> Result<()>,
    ) -> Result<()> {
        let now = SystemTime::now();
        for name in self.uploads()? {
            let path = self.part("upload").join(&name);
            // Locked, it is in use, however slowly.
            let Some(file) = owned::claim(&path)? else { continue };
            let modified = file
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map_err(|e| Error::io("stat", &path, e))?;
            if now.duration_since(modified).unwrap_or_default() >= age {
                act(name, &path)?;
            }
        }
        Ok(())
    }

    fn upload_path(&self, name: &str) -> Result<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        match !name.is_empty() && name.len() <= 200 && name.bytes().all(plain) {
            true => Ok(self.part("upload").join(name)),
            false => Err(Error::NoUpload(name.into())),
        }
    }
}

impl Upload {
    /// Bytes that are there.
    pub fn size(&self) -> u64 {
        self.hashed.size
    }

    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.hashed.hasher.update(bytes);
        self.hashed.size += bytes.len() as u64;
        Ok(())
    }

    /// Leaves it for another time.
    pub fn suspend(self) -> Hashed {
        self.hashed
    }

    /// Makes it the blob `digest`, kept by `lease`. If it is another, it stays what it was.
    pub fn commit_as(&mut self, lease: &Lease, digest: &Digest) -> Result<Descriptor> {
        if self.hashed.hasher.algorithm() != digest.algorithm() {
            self.hash_again(digest.algorithm())?;
        }
        let actual = self.hashed.hasher.clone().finish();
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        let descriptor = Descriptor::new("application/octet-stream", actual, self.hashed.size);
        // First the lease, then the look: see the head of this crate.
        if lease.keep(&descriptor)? {
            owned::remove(&self.path)?;
            return Ok(descriptor);
        }
        let failed = |call, e| Error::io(call, &self.path, e);
        self.file.set_permissions(Permissions::from_mode(0o400)).map_err(|e| failed("chmod", e))?;
        self.file.sync_all().map_err(|e| failed("fsync", e))?;
        let blob = lease.store().blob_path(digest);
        fs::rename(&self.path, &blob).map_err(|e| Error::io("rename", &blob, e))?;
        Ok(descriptor)
    }

    fn hash_again(&mut self, algorithm: Algorithm) -> Result<()> {
        let failed = |call, e| Error::io(call, &self.path, e);
        let mut hashed = Hashed::new(algorithm);
        let mut buffer = vec![0; BUFFER_BYTES];
        self.file.seek(SeekFrom::Start(0)).map_err(|e| failed("lseek", e))?;
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hashed.hasher.update(&buffer[..n]);
                    hashed.size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("read", e)),
            }
        }
        self.hashed = hashed;
        Ok(())
    }
}

fn lock(file: &File, name: &str, path: &std::path::Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::UploadBusy(name.into())),
        Err(TryLockError::Error(e)) => Err(Error::io("flock", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn store(dir: &std::path::Path) -> Store {
        let db = Arc::new(hako_db::Db::open(&dir.join("hako.db")).unwrap());
        Store::open(&dir.join("content"), db).unwrap()
    }

    #[test]
    fn parts_become_the_blob_that_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut upload = store.begin_upload("a", Algorithm::Sha256).unwrap();
        upload.append(b"hel").unwrap();
        assert!(matches!(
            store.resume_upload("a", Hashed::new(Algorithm::Sha256)),
            Err(Error::UploadBusy(_))
        ));
        let hashed = upload.suspend();
        // With what is known, without it, and with less than is there: the file decides.
        for known in [hashed.clone(), Hashed::new(Algorithm::Sha256), hashed] {
            let upload = store.resume_upload("a", known).unwrap();
            assert_eq!(upload.size(), 3);
        }
        let mut upload = store.resume_upload("a", Hashed::new(Algorithm::Sha256)).unwrap();
        upload.append(b"lo").unwrap();
        let lease = store.lease().unwrap();
        let wrong = Digest::sha256(b"other");
        assert!(matches!(upload.commit_as(&lease, &wrong), Err(Error::DigestMismatch { .. })));
        assert_eq!(store.upload_size("a").unwrap(), Some(5));
        let sha512 = {
            use sha2::Digest as _;
            Digest::from_sha512(sha2::Sha512::digest(b"hello").into())
        };
        let descriptor = upload.commit_as(&lease, &sha512).unwrap();
        assert_eq!(descriptor.size, 5);
        assert_eq!(store.document(&descriptor).unwrap(), b"hello");
        assert_eq!(store.upload_size("a").unwrap(), None);
        drop(upload);
        assert!(matches!(
            store.resume_upload("a", Hashed::new(Algorithm::Sha256)),
            Err(Error::NoUpload(_))
        ));
    }

    #[test]
    fn only_what_nobody_holds_goes_stale() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(store.remove_stale_uploads(Duration::ZERO).unwrap().is_empty());
        let held = store.begin_upload("held", Algorithm::Sha256).unwrap();
        drop(store.begin_upload("left", Algorithm::Sha256).unwrap());
        assert!(store.remove_stale_uploads(Duration::from_secs(3600)).unwrap().is_empty());
        assert_eq!(store.stale_uploads(Duration::ZERO).unwrap(), ["left"]);
        assert_eq!(store.remove_stale_uploads(Duration::ZERO).unwrap(), ["left"]);
        assert_eq!(store.uploads().unwrap(), ["held"]);
        drop(held);
        assert!(store.remove_upload("held").unwrap());
        assert!(!store.remove_upload("held").unwrap());
        for bad in ["", "../x", "a/b", ".", "a.b"] {
            assert!(matches!(store.remove_upload(bad), Err(Error::NoUpload(_))), "{bad}");
        }
    }
}
