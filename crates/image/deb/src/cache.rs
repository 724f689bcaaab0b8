//! What was fetched, by its digest: packages and indexes.
//!
//! ```text
//! pool/<sha256>        a package; verified whenever it is used
//! index/<sha256>       an index in short, by the digest of the file that it was made of
//! release/<key>        the last good release of a suite, and when it was that (<key>.stamp)
//! partial/<sha256>     the beginning of a file; flock'd by whoever fetches it, who goes on with it
//! ```
//!
//! Files get their names by rename(2). Nothing is synced: what a power cut left is found broken
//! when it is verified, and fetched again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hako_oci::Digest;
use hako_remote::Stamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, net::Sink, sources};

const BUFFER_BYTES: usize = 256 << 10;
/// A release that is longer is none.
pub(crate) const RELEASE_BYTES_MAX: u64 = 16 << 20;

/// The cache, in a directory of its own. Many processes may use it at once.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// A part of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Pool,
    Index,
    Release,
    Partial,
}

impl Part {
    const ALL: [Part; 4] = [Part::Pool, Part::Index, Part::Release, Part::Partial];

    fn name(self) -> &'static str {
        match self {
            Part::Pool => "pool",
            Part::Index => "index",
            Part::Release => "release",
            Part::Partial => "partial",
        }
    }
}

/// A release that was good, as it was served.
#[derive(Debug)]
pub(crate) struct KnownRelease {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
}

#[derive(Serialize, Deserialize)]
struct StampFile {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Cache {
    /// Opens the cache in `dir`, and makes it where there is none. `dir`'s parent must exist.
    pub fn open(dir: &Path) -> Result<Cache> {
        let parts = Part::ALL.iter().map(|part| dir.join(part.name()));
        for path in [dir.to_owned()].into_iter().chain(parts) {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("mkdir", path, e));
                }
                _ => {}
            }
        }
        Ok(Cache { dir: dir.into() })
    }

    /// Removes packages and indexes that nobody has used for so long; gives their bytes.
    pub fn prune(&self, age: Duration) -> Result<u64> {
        let mut freed = 0;
        for part in Part::ALL {
            let dir = self.dir.join(part.name());
            for entry in fs::read_dir(&dir).map_err(|e| Error::io("readdir", &dir, e))? {
                let path = entry.map_err(|e| Error::io("readdir", &dir, e))?.path();
                let file = match File::open(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    file => file.map_err(|e| Error::io("open", &path, e))?,
                };
                let metadata = file.metadata().map_err(|e| Error::io("stat", &path, e))?;
                let used = metadata.modified().map_err(|e| Error::io("stat", &path, e))?;
                let is_old = SystemTime::now().duration_since(used).is_ok_and(|a| a >= age);
                // Whoever fetches it holds its lock.
                if !is_old || file.try_lock().is_err() {
                    continue;
                }
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io("unlink", &path, e));
                    }
                    _ => freed += metadata.len(),
                }
            }
        }
        Ok(freed)
    }

    pub(crate) fn path(&self, part: Part, name: &str) -> PathBuf {
        self.dir.join(part.name()).join(name)
    }

    /// The file of this digest and size, fetched if it is not here. `fetch` is called with the
    /// bytes that are here already, to send the rest; one process at a time.
    pub(crate) fn ensure(
        &self,
        part: Part,
        digest: &Digest,
        size: u64,
        what: &str,
        mut fetch: impl FnMut(u64, &mut Sink<'_>) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(part, digest.hex());
        if is_there(&path, digest, size)? {
            return Ok(path);
        }
        let partial = self.path(Part::Partial, digest.hex());
        let mut file = claim(&partial)?;
        // Whoever had it before us may have fetched it.
        if is_there(&path, digest, size)? {
            return Ok(path);
        }
        let failed = |call: &'static str| {
            let partial = partial.clone();
            move |e| Error::io(call, partial, e)
        };
        loop {
            let mut hasher = Sha256::new();
            file.rewind().map_err(failed("seek"))?;
            let mut at = hash_into(&mut hasher, &mut file).map_err(failed("read"))?;
            if at > size {
                file.set_len(0).map_err(failed("truncate"))?;
                continue;
            }
            let before = at;
            let fetched = fetch(at, &mut |bytes: &[u8]| {
                at = at.saturating_add(bytes.len() as u64);
                if at > size {
                    return Err(too_long(what, size));
                }
                hasher.update(bytes);
                file.write_all(bytes).map_err(failed("write"))
            });
            if fetched.is_err() && at == 0 {
                fs::remove_file(&partial).map_err(failed("unlink"))?;
            }
            fetched?;
            let actual = Digest::from_sha256(hasher.finalize().into());
            if actual == *digest {
                fs::rename(&partial, &path).map_err(|e| Error::io("rename", &path, e))?;
                return Ok(path);
            }
            // Its beginning, which somebody else left, may be what is wrong with it.
            file.set_len(0).map_err(failed("truncate"))?;
            if before == 0 {
                fs::remove_file(&partial).map_err(failed("unlink"))?;
                let (what, expected) = (what.to_owned(), digest.clone());
                return Err(Error::DigestMismatch { what, expected, actual });
            }
        }
    }

    /// The last good release of a suite.
    pub(crate) fn release(&self, key: &str) -> Result<Option<KnownRelease>> {
        let path = self.path(Part::Release, key);
        let bytes = match sources::read(&path, RELEASE_BYTES_MAX) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            bytes => bytes?,
        };
        // One without the other, or of two writers: then it is asked for unconditionally.
        let stamp = sources::read(&self.path(Part::Release, &format!("{key}.stamp")), 64 << 10);
        let stamp: Option<StampFile> = stamp.ok().and_then(|b| serde_json::from_slice(&b).ok());
        let stamp = stamp.map_or_else(Stamp::default, |s| Stamp {
            etag: s.etag,
            last_modified: s.last_modified,
        });
        Ok(Some(KnownRelease { bytes, stamp }))
    }

    /// Remembers a release that is good.
    pub(crate) fn set_release(&self, key: &str, bytes: &[u8], stamp: &Stamp) -> Result<()> {
        let stamp_path = self.path(Part::Release, &format!("{key}.stamp"));
        // First without a stamp: a stamp must never stand beside another release than its own.
        match fs::remove_file(&stamp_path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("unlink", &stamp_path, e));
            }
            _ => {}
        }
        self.write(Part::Release, key, bytes)?;
        let Stamp { etag, last_modified } = stamp.clone();
        let json = serde_json::to_vec(&StampFile { etag, last_modified });
        let json = json.map_err(|e| Error::io("write", &stamp_path, e.into()))?;
        self.write(Part::Release, &format!("{key}.stamp"), &json)
    }

    /// The right to make something, until the guard is dropped. Waits for others.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.path(Part::Partial, &format!("{name}.lock"));
        Ok(Lock { _file: claim(&path)?, path })
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write(&self, part: Part, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(part, name, |file| {
            let path = self.path(part, name);
            file.write_all(bytes).map_err(|e| Error::io("write", path, e))
        })
    }

    /// The same, of a file that does not fit into memory.
    pub(crate) fn write_with(
        &self,
        part: Part,
        name: &str,
        fill: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(part, name);
        let temporary = self.path(Part::Partial, &format!("{name}.new"));
        let mut file = claim(&temporary)?;
        file.set_len(0).map_err(|e| Error::io("truncate", &temporary, e))?;
        fill(&mut file)?;
        fs::rename(&temporary, &path).map_err(|e| Error::io("rename", &path, e))
    }
}

/// A right that ends when this is dropped, or its process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: who waits for it finds that it is not the file of that name any more. One
        // that stays hurts nobody.
        fs::remove_file(&self.path).ok();
    }
}

fn too_long(what: &str, size: u64) -> Error {
    let why = format!("it is longer than the {size} bytes that the index says");
    Error::Fetch { what: what.into(), why }
}

/// Opens a file that nobody else has locked, and locks it. Waits for others.
fn claim(path: &Path) -> Result<File> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(|e| Error::io("open", path, e))?;
        file.lock().map_err(|e| Error::io("flock", path, e))?;
        let ours = file.metadata().map_err(|e| Error::io("stat", path, e))?;
        // Whoever had it before us gave it its name, or threw it away.
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("stat", path, e));
            }
            _ => {}
        }
    }
}

/// Whether a file is here and what it should be. One that is not is thrown away; one that is is
/// marked as used.
fn is_there(path: &Path, digest: &Digest, size: u64) -> Result<bool> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(|e| Error::io("open", path, e))?,
    };
    let found = file.metadata().map_err(|e| Error::io("stat", path, e))?;
    let mut hasher = Sha256::new();
    if found.len() == size {
        hash_into(&mut hasher, &mut file).map_err(|e| Error::io("read", path, e))?;
        if Digest::from_sha256(hasher.finalize().into()) == *digest {
            // For `prune`; a cache that may only be read is as good.
            file.set_modified(SystemTime::now()).ok();
            return Ok(true);
        }
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, e)),
        _ => Ok(false),
    }
}

fn hash_into(hasher: &mut Sha256, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("deb")).unwrap();
        (dir, cache)
    }

    #[test]
    fn a_file_is_fetched_once_and_resumed() {
        let (_dir, cache) = cache();
        let content = b"hello, world";
        let digest = Digest::sha256(content);
        let get = |fetch: &dyn Fn(u64, &mut Sink<'_>) -> Result<()>| {
            cache.ensure(Part::Pool, &digest, content.len() as u64, "it", fetch)
        };
        let cut = |from: u64, sink: &mut Sink<'_>| {
            assert_eq!(from, 0);
            sink(b"hello")?;
            Err(Error::Deb("cut".into()))
        };
        assert!(get(&cut).is_err());
        let rest = |from: u64, sink: &mut Sink<'_>| sink(&content[from as usize..]);
        let path = get(&rest).unwrap();
        let none = |_: u64, _: &mut Sink<'_>| panic!("it is here");
        assert_eq!(get(&none).unwrap(), path);
        // What a power cut or a disk did to it is found.
        fs::write(&path, "hello, w0rld").unwrap();
        get(&rest).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        fs::remove_file(&path).unwrap();
        for wrong in [&b"hello, w0rld"[..], b"hello, world!", b"hello"] {
            let lie = |_: u64, sink: &mut Sink<'_>| sink(wrong);
            assert!(get(&lie).is_err());
            assert!(!path.exists());
        }
    }

    #[test]
    fn many_want_one() {
        let (_dir, cache) = cache();
        let content = vec![7; 1 << 20];
        let digest = Digest::sha256(&content);
        let fetches = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    cache
                        .ensure(Part::Pool, &digest, 1 << 20, "it", |from, sink| {
                            fetches.fetch_add(1, Ordering::Relaxed);
                            sink(&content[from as usize..])
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(fetches.into_inner(), 1);
        assert_eq!(cache.prune(Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(cache.prune(Duration::ZERO).unwrap(), 1 << 20);
    }

    #[test]
    fn releases() {
        let (_dir, cache) = cache();
        assert!(cache.release("a").unwrap().is_none());
        let stamp = Stamp { etag: Some("\"x\"".into()), last_modified: None };
        cache.set_release("a", b"1", &stamp).unwrap();
        cache.set_release("a", b"2", &stamp).unwrap();
        let known = cache.release("a").unwrap().unwrap();
        assert_eq!((known.bytes, known.stamp), (b"2".to_vec(), stamp));
    }
}
