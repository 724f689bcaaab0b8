//! Maps of sparse files: where in a file its stored bytes belong.
//!
//! Four encodings of the same thing: old GNU (in header blocks), PAX 0.0 (records
//! `GNU.sparse.offset` and `.numbytes` in turn), PAX 0.1 (one record `GNU.sparse.map`), PAX 1.0
//! (decimal lines at the start of the content).

use crate::pax::{Problem, decimal, number};

/// A run of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// What PAX records say of a sparse file.
#[derive(Debug, Clone, Default)]
pub(crate) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    real_size: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    has_map: bool,
}

/// Where the map of a PAX sparse file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PaxMap {
    /// The file is not sparse.
    None,
    /// In the records (0.0 and 0.1).
    Records(Vec<Extent>),
    /// At the start of the content (1.0).
    Content,
}

impl PaxSparse {
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        extents_max: usize,
    ) -> Result<(), Problem> {
        match key {
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"size" | b"realsize" => self.real_size = number(value)?,
            b"name" if value.contains(&0) => return Err("a path contains NUL"),
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"map" => {
                self.numbers.clear();
                self.has_map = true;
                for digits in value.split(|&b| b == b',') {
                    self.push(digits, extents_max)?;
                }
            }
            b"offset" | b"numbytes" => {
                let in_turn = (key == b"offset") == self.numbers.len().is_multiple_of(2);
                if !in_turn {
                    return Err("a sparse map's offsets and lengths are not in turn");
                }
                self.has_map = true;
                self.push(value, extents_max)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, digits: &[u8], extents_max: usize) -> Result<(), Problem> {
        if self.numbers.len() >= extents_max.saturating_mul(2) {
            return Err("a sparse map has too many extents");
        }
        self.numbers.push(decimal(digits).ok_or("a sparse map has an invalid number")?);
        Ok(())
    }

    /// Where the map is, and the size of the file.
    pub(crate) fn map(&self) -> Result<(PaxMap, u64), Problem> {
        let map = match (self.major, self.minor) {
            (Some(1), Some(0)) => PaxMap::Content,
            (Some(0), Some(0 | 1)) | (None, None) if self.has_map => {
                let (pairs, []) = self.numbers.as_chunks::<2>() else {
                    return Err("has an offset without a length");
                };
                let extent = |&[offset, length]: &[u64; 2]| Extent { offset, length };
                PaxMap::Records(pairs.iter().map(extent).collect())
            }
            (None, None) => return Ok((PaxMap::None, 0)),
            // Silence would give the content to the file as it is stored.
            _ => return Err("is of an unknown version"),
        };
        Ok((map, self.real_size.ok_or("has no file size")?))
    }
}

/// A map in order, without overlaps, inside the file, of exactly the stored bytes.
pub(crate) fn validate(extents: &[Extent], size: u64, stored: u64) -> Result<(), Problem> {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in extents {
        if extent.offset < end {
            return Err("has extents that overlap or are out of order");
        }
        end = extent.offset.checked_add(extent.length).ok_or("overflows")?;
        sum = sum.checked_add(extent.length).ok_or("overflows")?;
    }
    if end > size {
        return Err("reaches beyond the file's size");
    }
    if sum != stored {
        return Err("does not cover the stored bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs.iter().map(|&(offset, length)| Extent { offset, length }).collect()
    }

    #[test]
    fn maps_must_be_honest() {
        let check = |pairs, size, stored| validate(&extents(pairs), size, stored).is_ok();
        assert!(check(&[], 0, 0));
        assert!(check(&[], 1 << 40, 0));
        assert!(check(&[(0, 10), (10, 5), (100, 0)], 100, 15));
        assert!(!check(&[(0, 10), (9, 5)], 100, 15));
        assert!(!check(&[(10, 5), (0, 5)], 100, 10));
        assert!(!check(&[(0, 10)], 9, 10));
        assert!(!check(&[(0, 10)], 100, 11));
        assert!(!check(&[(u64::MAX, 2)], u64::MAX, 2));
        assert!(!check(&[(0, u64::MAX), (u64::MAX, 2)], u64::MAX, 1));
    }

    #[test]
    fn records_of_every_version() {
        let map = |records: &[(&str, &str)]| {
            let mut sparse = PaxSparse::default();
            for (key, value) in records {
                sparse.set(key.as_bytes(), value.as_bytes(), 3)?;
            }
            sparse.map()
        };
        let two = PaxMap::Records(extents(&[(0, 5), (10, 5)]));
        let pairs = [("size", "20"), ("offset", "0"), ("numbytes", "5"), ("offset", "10")];
        assert_eq!(map(&[&pairs[..], &[("numbytes", "5")]].concat()), Ok((two, 20)));
        assert!(map(&pairs).is_err());
        let two = PaxMap::Records(extents(&[(0, 5), (10, 5)]));
        assert_eq!(map(&[("size", "20"), ("map", "0,5,10,5")]), Ok((two, 20)));
        let content = [("major", "1"), ("minor", "0"), ("realsize", "7")];
        assert_eq!(map(&content), Ok((PaxMap::Content, 7)));
        assert_eq!(map(&[]), Ok((PaxMap::None, 0)));
        for bad in [
            &[("major", "1"), ("minor", "0")][..],
            &[("major", "2"), ("minor", "0"), ("realsize", "7")],
            &[("size", "20"), ("map", "0,5,10")],
            &[("size", "20"), ("map", "0,x")],
            &[("size", "20"), ("map", "0,1,2,3,4,5,6,7")],
            &[("size", "20"), ("numbytes", "1")],
            &[("map", "0,5")],
        ] {
            assert!(map(bad).is_err(), "{bad:?}");
        }
    }
}
