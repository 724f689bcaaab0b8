//! Makes a finished deflate stream one that another can follow (RFC 1951).
//!
//! libdeflate makes whole streams: the last block says that it is the last, and ends at any bit. To
//! find that block all codes have to be walked over, which takes a small part of the time that it
//! takes to find them. Then its mark is taken away, and an empty stored block goes to the next byte.

/// What a code stands for, as far as walking over it goes.
const LITERAL: u16 = 0x20;
const MATCH: u16 = 0x40;
const END: u16 = 0x60;
const KIND: u16 = 0x60;
/// How many bits the code and what belongs to it take.
const BITS: u16 = 0x1f;

/// Extra bits of the codes for lengths, 257 to 285.
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// The order in which lengths of code length codes come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const CODE_BITS_MAX: usize = 15;

/// The same stream without an end, up to a whole byte; `None` of what is no deflate stream.
pub(crate) fn open_end(mut stream: Vec<u8>) -> Option<Vec<u8>> {
    let (last, end) = last_block(&stream)?;
    stream[last / 8] &= !(1 << (last % 8));
    // What follows the end in its byte is not of the stream.
    stream.truncate(end.div_ceil(8));
    if end % 8 != 0
        && let Some(byte) = stream.last_mut()
    {
        *byte &= (1 << (end % 8)) - 1;
    }
    // Three zero bits: a stored block that is not the last; then to the next byte.
    stream.resize((end + 3).div_ceil(8), 0);
    stream.extend_from_slice(&[0, 0, 0xff, 0xff]);
    Some(stream)
}

/// Where the last block begins and where it ends, in bits.
fn last_block(stream: &[u8]) -> Option<(usize, usize)> {
    let mut bits = Bits { stream, at: 0 };
    let mut tables = Tables::default();
    loop {
        let start = bits.at;
        let is_last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => {
                bits.at = bits.at.div_ceil(8) * 8;
                let (length, check) = (bits.take(16)?, bits.take(16)?);
                if length != !check & 0xffff {
                    return None;
                }
                bits.at += 8 * length as usize;
            }
            1 => {
                tables.fixed()?;
                tables.walk(&mut bits)?;
            }
            2 => {
                tables.dynamic(&mut bits)?;
                tables.walk(&mut bits)?;
            }
            _ => return None,
        }
        if bits.at > 8 * stream.len() {
            return None;
        }
        if is_last {
            return Some((start, bits.at));
        }
    }
}

struct Bits<'s> {
    stream: &'s [u8],
    at: usize,
}

impl Bits<'_> {
    /// At least 57 bits from here on; zeros behind the end.
    fn peek(&self) -> u64 {
        let from = self.at / 8;
        let word = match self.stream.get(from..from + 8) {
            Some(bytes) => {
                let mut word = [0; 8];
                word.copy_from_slice(bytes);
                word
            }
            None => {
                let rest = self.stream.get(from..).unwrap_or_default();
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                word
            }
        };
        u64::from_le_bytes(word) >> (self.at % 8)
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let value = self.peek() & ((1 << count) - 1);
        self.at += count;
        (self.at <= 8 * self.stream.len()).then_some(value as u32)
    }
}

/// A table of all words of as many bits as the longest code has.
#[derive(Default)]
struct Table {
    entries: Vec<u16>,
    mask: u64,
}

impl Table {
    /// `lengths` of the codes, and what stands in the table for each symbol: a kind, and bits that
    /// follow its code.
    fn fill(&mut self, lengths: &[u8], entry: impl Fn(usize) -> u16) -> Option<()> {
        let longest = usize::from(lengths.iter().copied().max().unwrap_or(0)).max(1);
        self.entries.clear();
        self.entries.resize(1 << longest, 0);
        self.mask = (1 << longest) - 1;
        let mut count = [0usize; CODE_BITS_MAX + 1];
        lengths.iter().for_each(|length| count[usize::from(*length)] += 1);
        count[0] = 0;
        let (mut next, mut code) = ([0usize; CODE_BITS_MAX + 1], 0);
        for bits in 1..=CODE_BITS_MAX {
            code = (code + count[bits - 1]) << 1;
            next[bits] = code;
        }
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let bits = usize::from(*length);
            let code = next[bits];
            next[bits] += 1;
            if code >> bits != 0 {
                return None;
            }
            let reversed = (code as u32).reverse_bits() as usize >> (32 - bits);
            let value = entry(symbol) + u16::from(*length);
            for word in (reversed..self.entries.len()).step_by(1 << bits) {
                self.entries[word] = value;
            }
        }
        Some(())
    }

    fn find(&self, word: u64) -> u16 {
        self.entries[(word & self.mask) as usize]
    }
}

#[derive(Default)]
struct Tables {
    literals: Table,
    distances: Table,
}

impl Tables {
    fn set(&mut self, literals: &[u8], distances: &[u8]) -> Option<()> {
        self.literals.fill(literals, |symbol| match symbol {
            0..256 => LITERAL,
            256 => END,
            symbol => MATCH + LENGTH_EXTRA.get(symbol - 257).copied().map_or(0, u16::from),
        })?;
        let extra = |symbol: usize| (symbol / 2).saturating_sub(1) as u16;
        self.distances.fill(distances, |symbol| LITERAL + extra(symbol))
    }

    fn fixed(&mut self) -> Option<()> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.set(&lengths, &[5; 30])
    }

    fn dynamic(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let literals = bits.take(5)? as usize + 257;
        let distances = bits.take(5)? as usize + 1;
        let mut lengths = [0; 19];
        for position in 0..bits.take(4)? as usize + 4 {
            lengths[ORDER[position]] = bits.take(3)? as u8;
        }
        let mut codes = Table::default();
        // The symbol stands above the bits.
        codes.fill(&lengths, |symbol| (symbol as u16) << 5)?;
        let mut all: Vec<u8> = Vec::with_capacity(literals + distances);
        while all.len() < literals + distances {
            let found = codes.find(bits.peek());
            let length = usize::from(found & BITS);
            if length == 0 {
                return None;
            }
            bits.take(length)?;
            let (value, times) = match found >> 5 {
                16 => (*all.last()?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                18 => (0, 11 + bits.take(7)?),
                length => (length as u8, 1),
            };
            all.resize(all.len() + times as usize, value);
        }
        if all.len() > literals + distances {
            return None;
        }
        self.set(&all[..literals], &all[literals..])
    }

    /// Over all codes of a block.
    fn walk(&self, bits: &mut Bits<'_>) -> Option<()> {
        let end = 8 * bits.stream.len();
        while bits.at < end {
            let word = bits.peek();
            let found = self.literals.find(word);
            let length = usize::from(found & BITS);
            bits.at += length;
            match found & KIND {
                LITERAL => {}
                MATCH => {
                    // A length is at most 20 bits of the word.
                    let distance = self.distances.find(word >> length);
                    if distance == 0 {
                        return None;
                    }
                    bits.at += usize::from(distance & BITS);
                }
                END => return Some(()),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_stream() {
        for bytes in [&[][..], &[0x07], &[0x01, 1, 0, 0, 0], &[0x05, 0xff, 0xff, 0xff], &[0x03]] {
            assert_eq!(open_end(bytes.to_vec()), None, "{bytes:x?}");
        }
        assert_eq!(open_end(vec![3, 0]), Some(vec![2, 0, 0, 0, 0xff, 0xff]));
        // Stored: "a".
        let stored = vec![1, 1, 0, 0xfe, 0xff, b'a'];
        assert_eq!(open_end(stored), Some(vec![0, 1, 0, 0xfe, 0xff, b'a', 0, 0, 0, 0xff, 0xff]));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _either = open_end(bytes);
        }
    }
}
