//! What files hold, remembered: a file that looks as it did is not read again.
//!
//! ```text
//! "hako-digests-1\n"
//! device inode size mtime_s mtime_ns ctime_s ctime_ns (7 × 8 bytes) sha256 (32 bytes), each file
//! sha256 of all before it
//! ```
//!
//! A file looks as it did if device, inode, size and both times are the same. One that was changed
//! within the clock's grain of being read could be changed again without looking so; it is not
//! remembered.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use hako_sys::fs::Stat;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

const MAGIC: &[u8] = b"hako-digests-1\n";
const NUMBERS: usize = 7;
const RECORD_BYTES: usize = NUMBERS * 8 + 32;
/// What is remembered of one context at most: some two million files.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Changes within this of now are not told apart by their times, on any file system.
const GRAIN_SECONDS: i64 = 2;
const BUFFER_BYTES: usize = 128 << 10;

pub(crate) type Sha = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks([u64; NUMBERS]);

impl Looks {
    fn of(stat: &Stat) -> Looks {
        Looks([
            stat.dev,
            stat.ino,
            stat.size,
            stat.mtime.seconds.cast_unsigned(),
            stat.mtime.nanos.into(),
            stat.ctime.seconds.cast_unsigned(),
            stat.ctime.nanos.into(),
        ])
    }

    fn file(&self) -> (u64, u64) {
        (self.0[0], self.0[1])
    }
}

/// The digests of a context's files.
pub(crate) struct FileDigests {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    files: HashMap<(u64, u64), (Looks, Sha)>,
    is_changed: bool,
}

impl FileDigests {
    /// Opens what is remembered in the file at `path`. One that is not there, or is not whole, is
    /// no loss.
    pub(crate) fn open(path: PathBuf) -> Result<FileDigests> {
        let bytes = match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(FILE_BYTES_MAX)
                    .read_to_end(&mut bytes)
                    .map_err(Error::io("read", &path))?;
                bytes
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let files = whole(&bytes).map(decode).unwrap_or_default();
        Ok(FileDigests { path, known: Mutex::new(Known { files, is_changed: false }) })
    }

    /// The digest of a file that looks like this, if it is remembered.
    pub(crate) fn get(&self, stat: &Stat) -> Option<Sha> {
        let looks = Looks::of(stat);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.files.get(&looks.file()).filter(|(seen, _)| *seen == looks).map(|(_, sha)| *sha)
    }

    /// Reads a file, and remembers what it holds.
    pub(crate) fn read(&self, file: &mut File, stat: &Stat, now: i64) -> io::Result<Sha> {
        let sha = sha256_of(file)?;
        if stat.ctime.seconds.max(stat.mtime.seconds) + GRAIN_SECONDS < now {
            let looks = Looks::of(stat);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.files.insert(looks.file(), (looks, sha));
            known.is_changed = true;
        }
        Ok(sha)
    }

    /// Writes what is new. Whoever writes last has remembered most.
    pub(crate) fn save(&self) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_changed {
            return Ok(());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.reserve(known.files.len() * RECORD_BYTES);
        for (looks, sha) in known.files.values() {
            looks.0.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            bytes.extend_from_slice(sha);
        }
        let sha: Sha = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&sha);
        write_beside(&self.path, &bytes).map_err(Error::io("write", &self.path))?;
        known.is_changed = false;
        Ok(())
    }
}

/// The records of a file that is as it was written.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sha) = bytes.split_last_chunk::<32>()?;
    let records = content.strip_prefix(MAGIC)?;
    (Sha256::digest(content)[..] == sha[..]).then_some(records)
}

fn decode(bytes: &[u8]) -> HashMap<(u64, u64), (Looks, Sha)> {
    bytes
        .chunks_exact(RECORD_BYTES)
        .map(|record| {
            let (numbers, sha) = record.split_at(NUMBERS * 8);
            let mut looks = Looks([0; NUMBERS]);
            for (number, bytes) in looks.0.iter_mut().zip(numbers.chunks_exact(8)) {
                *number = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            }
            (looks.file(), (looks, sha.try_into().unwrap_or_default()))
        })
        .collect()
}

/// Nobody sees half of it. It is not flushed: what a power cut makes of it is not whole.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

/// The digest of everything from here to the end.
pub(crate) fn sha256_of(file: &mut File) -> io::Result<Sha> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("digests"), dir.path().join("file"));
        fs::write(&file, "content").unwrap();
        let root = hako_root::Root::open(dir.path()).unwrap();
        let stat = root.metadata("file".as_ref()).unwrap();
        let digests = FileDigests::open(path.clone()).unwrap();
        let read = |now| digests.read(&mut File::open(&file).unwrap(), &stat, now).unwrap();
        // Within the clock's grain it could change again unseen.
        let sha = read(stat.ctime.seconds);
        assert_eq!(digests.get(&stat), None);
        assert_eq!(read(stat.ctime.seconds + GRAIN_SECONDS + 1), sha);
        digests.save().unwrap();
        let opened = || FileDigests::open(path.clone()).unwrap().get(&stat);
        assert_eq!(opened(), Some(sha));
        let mut bytes = fs::read(&path).unwrap();
        for at in [0, MAGIC.len(), bytes.len() - 1] {
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(opened(), None, "byte {at}");
            bytes[at] ^= 1;
        }
        fs::write(&path, &bytes[..MAGIC.len() + 7]).unwrap();
        assert_eq!(opened(), None);
    }
}
