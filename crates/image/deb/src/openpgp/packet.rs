//! Packets (RFC 9580, section 4), and the numbers in them.

use super::{PgpError, form};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub u8);

impl Tag {
    pub(super) const SIGNATURE: Tag = Tag(2);
    pub(super) const PUBLIC_KEY: Tag = Tag(6);
    pub(super) const USER_ID: Tag = Tag(13);
    pub(super) const PUBLIC_SUBKEY: Tag = Tag(14);
    pub(super) const USER_ATTRIBUTE: Tag = Tag(17);
}

/// A packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub tag: Tag,
    pub body: &'a [u8],
}

/// Packets in a row.
pub(super) struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Packets<'a> {
        Packets { rest: bytes }
    }

    fn read(&mut self) -> Option<Packet<'a>> {
        let mut bytes = Bytes(self.rest);
        let first = bytes.u8()?;
        let (tag, length) = match first >> 6 {
            // The old format; its last kind of length goes on to the end of the file.
            0b10 => {
                let length = match first & 3 {
                    0 => usize::from(bytes.u8()?),
                    1 => usize::from(bytes.u16()?),
                    2 => usize::try_from(bytes.u32()?).ok()?,
                    _ => return None,
                };
                (first >> 2 & 15, length)
            }
            // Lengths from 224 on are those of parts, which keys and signatures have not.
            0b11 => (first & 63, length(&mut bytes)?),
            _ => return None,
        };
        let body = bytes.take(length)?;
        self.rest = bytes.0;
        Some(Packet { tag: Tag(tag), body })
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PgpError>;

    fn next(&mut self) -> Option<Result<Packet<'a>, PgpError>> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            self.rest = &[];
        }
        Some(read.ok_or_else(|| form("it is no row of OpenPGP packets")))
    }
}

/// A length of one, two or five bytes.
pub(super) fn length(bytes: &mut Bytes<'_>) -> Option<usize> {
    match bytes.u8()? {
        first @ 0..=191 => Some(usize::from(first)),
        first @ 192..=223 => {
            Some(((usize::from(first) - 192) << 8) + usize::from(bytes.u8()?) + 192)
        }
        255 => usize::try_from(bytes.u32()?).ok(),
        _ => None,
    }
}

/// Bytes that are taken from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A number of any length, without its leading zeros.
    pub(super) fn mpi(&mut self) -> Option<&'a [u8]> {
        let bits = usize::from(self.u16()?);
        let number = self.take(bits.div_ceil(8))?;
        let zeros = number.iter().position(|b| *b != 0).unwrap_or(number.len());
        Some(&number[zeros..])
    }
}
