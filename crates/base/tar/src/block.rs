//! The 512-byte header block: its fields, numbers and checksum.
//!
//! ```text
//!   0 name 100     156 type 1        265 user 32         345 prefix 155 (ustar; 131 in star)
//! 100 mode 8       157 link 100      297 group 32        345 atime 12, 357 ctime 12 (GNU, star: at 476)
//! 108 uid 8        257 magic 6       329 devmajor 8      386 sparse 4 × (12 + 12), 482 more,
//! 116 gid 8        263 version 2     337 devminor 8      483 real size 12 (GNU)
//! 124 size 12, 136 mtime 12, 148 checksum 8              508 "tar\0" (star)
//! ```

use std::ops::Range;

pub(crate) const BLOCK: usize = 512;

pub(crate) const NAME: Range<usize> = 0..100;
pub(crate) const MODE: Range<usize> = 100..108;
pub(crate) const UID: Range<usize> = 108..116;
pub(crate) const GID: Range<usize> = 116..124;
pub(crate) const SIZE: Range<usize> = 124..136;
pub(crate) const MTIME: Range<usize> = 136..148;
pub(crate) const CHECKSUM: Range<usize> = 148..156;
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK: Range<usize> = 157..257;
pub(crate) const MAGIC: Range<usize> = 257..265;
pub(crate) const DEVMAJOR: Range<usize> = 329..337;
pub(crate) const DEVMINOR: Range<usize> = 337..345;
pub(crate) const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_ATIME: Range<usize> = 345..357;
const GNU_CTIME: Range<usize> = 357..369;
pub(crate) const GNU_SPARSE: Range<usize> = 386..482;
pub(crate) const GNU_EXTENDED: usize = 482;
pub(crate) const GNU_REAL_SIZE: Range<usize> = 483..495;

pub(crate) const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";
const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

/// A header block.
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

/// Which layout the fields after the magic have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Block {
    pub(crate) fn field(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    /// A text field: up to its first NUL.
    pub(crate) fn text(&self, range: Range<usize>) -> &[u8] {
        until_nul(self.field(range))
    }

    pub(crate) fn number(&self, range: Range<usize>) -> Option<i64> {
        number(self.field(range))
    }

    pub(crate) fn format(&self) -> Format {
        let magic = self.field(MAGIC);
        if magic == MAGIC_GNU {
            Format::Gnu
        } else if magic.starts_with(b"ustar\0") {
            if self.field(STAR_TRAILER) == b"tar\0" { Format::Star } else { Format::Ustar }
        } else {
            Format::V7
        }
    }

    /// What stands before the name.
    pub(crate) fn prefix(&self) -> &[u8] {
        match self.format() {
            Format::Ustar => self.text(PREFIX),
            Format::Star => self.text(STAR_PREFIX),
            Format::V7 => b"",
            Format::Gnu => {
                // Go before 1.8, and so Docker of that time, wrote a ustar prefix under the GNU
                // magic. There it is where two numbers should be.
                let is_time = |range| number(self.field(range)).is_some();
                let prefix = self.text(PREFIX);
                let is_prefix = !is_time(GNU_ATIME) || !is_time(GNU_CTIME);
                if is_prefix && prefix.is_ascii() { prefix } else { b"" }
            }
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK]
    }

    /// Whether the checksum is right: of unsigned bytes, or of signed ones as some Unixes summed.
    pub(crate) fn is_sealed(&self) -> bool {
        let Some(sum) = octal(self.field(CHECKSUM)) else { return false };
        let (unsigned, signed) = self.sums();
        i64::try_from(sum).is_ok_and(|sum| sum == unsigned || sum == signed)
    }

    pub(crate) fn seal(&mut self) {
        let (unsigned, _) = self.sums();
        let digits = format!("{unsigned:06o}\0 ");
        self.0[CHECKSUM].copy_from_slice(digits.as_bytes());
    }

    fn sums(&self) -> (i64, i64) {
        let mut sums = (0, 0);
        for (i, &byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&i) { b' ' } else { byte };
            sums.0 += i64::from(byte);
            sums.1 += i64::from(byte.cast_signed());
        }
        sums
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|&b| b == 0).map_or(bytes, |end| &bytes[..end])
}

/// A number in base 256 (top bit set, two's complement) or octal.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field).and_then(|n| i64::try_from(n).ok());
    }
    // The bit below the top is the sign; widen it into the top bit.
    let first = if first & 0x40 == 0 { first & 0x7f } else { first };
    let negative = first & 0x80 != 0;
    let fill = if negative { 0xff } else { 0 };
    let bytes = std::iter::once(first).chain(rest.iter().copied());
    let mut value = if negative { -1i64 } else { 0 };
    let digits = field.len();
    for (i, byte) in bytes.enumerate() {
        if digits - i > 8 && byte != fill {
            return None;
        }
        value = (value << 8) | i64::from(byte);
    }
    // Eight bytes may themselves have a top bit that contradicts the sign.
    ((value < 0) == negative).then_some(value)
}

/// An octal number among spaces and NULs; nothing is 0.
pub(crate) fn octal(field: &[u8]) -> Option<u64> {
    let is_blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value = 0u64;
    for &digit in &digits[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Writes an octal number with a final NUL; false where it does not fit.
pub(crate) fn put_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    if digits * 3 < 64 && value >> (digits * 3) != 0 {
        return false;
    }
    for (i, byte) in field[..digits].iter_mut().enumerate() {
        *byte = b'0' + (value >> ((digits - 1 - i) * 3) & 7) as u8;
    }
    field[digits] = 0;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_numbers() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o77777777)),
            (b"644\0junk", Some(0o644)),
            (b"8", None),
            (b"-1", None),
            (b"0x1", None),
            (b"7777777777777777777777777", None),
        ] {
            assert_eq!(octal(field), want, "{field:?}");
        }
    }

    #[test]
    fn base_256_numbers() {
        for (field, want) in [
            (&[0x80, 0, 0, 1][..], Some(1)),
            (&[0x80, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0], Some(0x20_0000_0000)),
            (&[0xff, 0xff, 0xff, 0xff], Some(-1)),
            (&[0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0xc0, 0, 0, 0], Some(-0x4000_0000)),
            (&[0xbf, 0xff, 0xff, 0xff], Some(0x3fff_ffff)),
            // i64::MAX fits twelve bytes, one more does not.
            (&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(i64::MAX)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(i64::MIN)),
            (&[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }

    #[test]
    fn put_octal_is_read_back() {
        for value in [0, 7, 8, 0o7777777, 0o77777777777] {
            let mut field = [b'x'; 12];
            assert!(put_octal(&mut field, value));
            assert_eq!(octal(&field), Some(value));
        }
        assert!(!put_octal(&mut [0; 8], 0o10000000));
        assert!(!put_octal(&mut [0; 12], 0o100000000000));
    }
}
