//! A small mutator: seeds, cut, joined, flipped, and sprinkled with words that parsers look for.

/// A repeatable stream of numbers (xorshift).
pub struct Random(u64);

impl Random {
    /// A stream for this seed.
    pub fn new(seed: u64) -> Self {
        // Spread, so that neighbouring seeds are far apart; never zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below this; 0 for 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if bound == 0 { 0 } else { (self.0 >> 11) as usize % bound }
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// Words that are special to one parser or another.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"/",
    b"..",
    b"../",
    b"//",
    b":",
    b"@",
    b"=",
    b"-1",
    b"0",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0",
    b"sha256:",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"\"\"",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b".wh.",
    b".wh..wh..opq",
    b"size=",
    b"path=",
    b"linkpath=",
    b"GNU.sparse.major=1\n",
    b"GNU.sparse.map=",
    b"SCHILY.xattr.",
    b"ustar\0",
    b"\x1f\x8b\x08\0",
    b"\x28\xb5\x2f\xfd",
    b"BZh9",
    b"\xfd7zXZ\0",
    b"SCMP_ACT_ERRNO",
    b"SCMP_CMP_MASKED_EQ",
    b"CAP_",
    b"RLIMIT_",
    b"type=bind,",
    b"%",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
];

/// Makes one input out of seeds.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = random.pick(seeds).cloned().unwrap_or_default();
    // Mostly small changes: an input that is nearly right gets furthest.
    let changes = 1 + random.below(4) * random.below(4);
    for _ in 0..changes {
        change(random, &mut bytes, seeds);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let length = bytes.len();
    let place = random.below(length + 1);
    match random.below(9) {
        0 if length > 0 => bytes[place.min(length - 1)] ^= 1 << random.below(8),
        1 if length > 0 => bytes[place.min(length - 1)] = random.below(256) as u8,
        2 => bytes.insert(place, random.below(256) as u8),
        3 => {
            let word = random.pick(WORDS).copied().unwrap_or_default();
            let end = (place + if random.below(2) == 0 { word.len() } else { 0 }).min(length);
            bytes.splice(place..end, word.iter().copied());
        }
        4 => drop(bytes.drain(place..(place + 1 + random.below(64)).min(length).max(place))),
        5 => {
            let end = (place + random.below(600)).min(length);
            let copy = bytes[place..end].to_vec();
            let target = random.below(bytes.len() + 1);
            bytes.splice(target..target, copy);
        }
        6 => {
            // The start of this, the end of another.
            let other = random.pick(seeds).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            bytes.truncate(place);
            bytes.extend(&other[from..]);
        }
        7 => bytes.truncate(place),
        _ => {
            // A digit becomes another: sizes, ids, versions.
            let digits: Vec<usize> =
                (0..length).filter(|&index| bytes[index].is_ascii_digit()).collect();
            if let Some(&index) = random.pick(&digits) {
                bytes[index] = b'0' + random.below(10) as u8;
            }
        }
    }
}

/// Makes the checksums of a tar's headers right again, so that what is behind them is reached.
pub fn mend_tar(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = vec![b"one".to_vec(), b"two 12".to_vec()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| mutate(&mut random, &seeds, 50)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= 50));
    }
}
