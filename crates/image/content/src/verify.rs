//! Bytes that pass by on their way to elsewhere, held to what describes them.

use std::io::{self, Read};

use hako_oci::Descriptor;

use crate::{Error, ingest::Hasher};

/// Reads exactly what a descriptor describes, or fails at the latest where it should end.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    expected: Descriptor,
    hasher: Option<Hasher>,
    size: u64,
}

impl<R: Read> Verified<R> {
    /// A reader that believes nothing.
    pub fn new(inner: R, expected: &Descriptor) -> Verified<R> {
        let hasher = Some(Hasher::new(expected.digest.algorithm()));
        Verified { inner, expected: expected.clone(), hasher, size: 0 }
    }

    fn check_end(&mut self) -> Result<(), Error> {
        let expected = &self.expected;
        if self.size != expected.size {
            let digest = expected.digest.clone();
            return Err(Error::SizeMismatch { digest, expected: expected.size, actual: self.size });
        }
        // Once: what was right stays right.
        match self.hasher.take().map(Hasher::finish) {
            Some(actual) if actual != expected.digest => {
                Err(Error::DigestMismatch { expected: expected.digest.clone(), actual })
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        self.size += n as u64;
        if n > 0 && self.size <= self.expected.size {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..n]);
            }
            // Whoever takes so many bytes as were promised may never ask for the end.
            if self.size < self.expected.size {
                return Ok(n);
            }
        }
        self.check_end().map_err(io::Error::other)?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_described_comes_through() {
        let expected = Descriptor::of("text/plain", b"hello");
        let read = |bytes: &[u8]| {
            let mut out = Vec::new();
            Verified::new(bytes, &expected).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(b"hello").unwrap(), b"hello");
        for wrong in [b"hellx".as_slice(), b"hell", b"hello!", b""] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        // One who takes no more than was promised is not deceived either.
        let mut five = [0; 5];
        assert!(Verified::new(b"hellx".as_slice(), &expected).read_exact(&mut five).is_err());
        let empty = Descriptor::of("text/plain", b"");
        assert_eq!(Verified::new(io::empty(), &empty).read(&mut five).unwrap(), 0);
    }
}
