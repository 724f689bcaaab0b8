//! A blob, open for reading.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hako_oci::{Algorithm, Descriptor, Digest};

use crate::{Error, Result, ingest::Hasher};

/// An open blob. It can be read to its end even when it is collected meanwhile.
#[derive(Debug)]
pub struct Blob {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Blob {
    pub(crate) fn open(digest: &Digest, path: &Path) -> Result<Blob> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(digest.clone()));
            }
            Err(e) => return Err(Error::io("open", path, e)),
        };
        let size = file.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        Ok(Blob { file, path: path.to_owned(), size })
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of what is there now, from the beginning to the end.
    pub fn digest(mut self, algorithm: Algorithm) -> Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", &self.path, e)),
            }
        }
    }

    /// The open file.
    pub fn into_file(self) -> File {
        self.file
    }

    pub(crate) fn read_verified(mut self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        let mismatch = |actual| Error::SizeMismatch {
            digest: digest.clone(),
            expected: descriptor.size,
            actual,
        };
        if self.size != descriptor.size {
            return Err(mismatch(self.size));
        }
        let mut bytes = Vec::with_capacity(self.size as usize);
        let mut limited = (&mut self.file).take(descriptor.size + 1);
        limited.read_to_end(&mut bytes).map_err(|e| Error::io("read", &self.path, e))?;
        if bytes.len() as u64 != descriptor.size {
            return Err(mismatch(bytes.len() as u64));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        match actual == *digest {
            true => Ok(bytes),
            false => Err(Error::DigestMismatch { expected: digest.clone(), actual }),
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
