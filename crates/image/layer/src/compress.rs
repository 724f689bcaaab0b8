//! Compressing: in parallel, and always to the same bytes.
//!
//! ```text
//! gzip   one member: each MiB is deflated for itself and ends on a byte, as after a flush
//! zstd   a frame for every 4 MiB
//! ```
//!
//! What is compressed together does not depend on how many processors there are, so that equal
//! content has equal digests wherever it is compressed. Members in a row would be simpler than one
//! member, and there are readers that stop after the first.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read, Write},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use libdeflater::{CompressionLvl, Compressor, Crc};

use crate::{Compression, joint};

/// Deflated for itself: what is lost at the seams is a hundredth.
const GZIP_BLOCK: usize = 1 << 20;
const ZSTD_BLOCK: usize = 4 << 20;
const THREADS_MAX: usize = 8;
/// No name, no time, no system that it was made on.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty block of fixed codes, which is the last.
const DEFLATE_END: [u8; 2] = [3, 0];

/// How to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec {
    format: Format,
    level: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Format {
    Gzip,
    Zstd,
}

/// A format that layers are not compressed with, or a level that it has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not one of them.
    #[error("unknown compression format {0:?}: want gzip, zstd or none")]
    Format(String),
    /// zstd:chunked is read, and not written.
    #[error("layers cannot be compressed as zstd:chunked by this version: want gzip, zstd or none")]
    Chunked,
    /// Out of range.
    #[error("compression level {level} of {format}: want {least} to {most}")]
    Level {
        /// The format.
        format: &'static str,
        /// What was asked for.
        level: i32,
        /// The least.
        least: i32,
        /// The most.
        most: i32,
    },
}

impl Codec {
    /// gzip, as small as `gzip -6` makes it.
    pub const GZIP: Codec = Codec { format: Format::Gzip, level: 5 };
    /// zstd at its own default.
    pub const ZSTD: Codec = Codec { format: Format::Zstd, level: 3 };

    /// The same at another level.
    pub fn with_level(self, level: i32) -> Result<Codec, CodecError> {
        let (least, most) = match self.format {
            Format::Gzip => (1, 12),
            Format::Zstd => (1, 22),
        };
        match (least..=most).contains(&level) {
            true => Ok(Codec { level, ..self }),
            false => {
                let format = self.compression().name();
                Err(CodecError::Level { format, level, least, most })
            }
        }
    }

    /// What a reader will find.
    pub fn compression(self) -> Compression {
        match self.format {
            Format::Gzip => Compression::Gzip,
            Format::Zstd => Compression::Zstd,
        }
    }

    fn block_bytes(self) -> usize {
        match self.format {
            Format::Gzip => GZIP_BLOCK,
            Format::Zstd => ZSTD_BLOCK,
        }
    }
}

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Codec, CodecError> {
        match text {
            "gzip" => Ok(Codec::GZIP),
            "zstd" => Ok(Codec::ZSTD),
            "zstd:chunked" => Err(CodecError::Chunked),
            other => Err(CodecError::Format(other.into())),
        }
    }
}

impl fmt::Display for Codec {
    /// Format, level, and the version of what this module makes of them: `gzip-5/1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}/1", self.compression(), self.level)
    }
}

/// A block on its way to a thread, and where its compressed bytes are to go.
struct Job {
    block: Vec<u8>,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses all of `from` into `to`, with all processors.
pub fn compress(mut from: impl Read, to: &mut dyn Write, codec: Codec) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(THREADS_MAX);
    let (jobs, work): (Sender<Job>, Receiver<Job>) = channel();
    let work = Mutex::new(work);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run(codec, &work));
        }
        // Ends the threads when it is dropped, however this ends.
        let jobs = jobs;
        let mut under_way: VecDeque<Receiver<io::Result<Vec<u8>>>> = VecDeque::new();
        let gone = |_| io::Error::other("a thread that compresses ended early");
        let next = |under_way: &mut VecDeque<Receiver<_>>, to: &mut dyn Write| {
            let Some(first) = under_way.pop_front() else { return Ok(()) };
            let bytes: Vec<u8> = first.recv().map_err(gone)??;
            to.write_all(&bytes)
        };
        let (mut checksum, mut total) = (Crc::new(), 0u64);
        if codec.format == Format::Gzip {
            to.write_all(&GZIP_HEADER)?;
        }
        loop {
            let mut block = Vec::with_capacity(codec.block_bytes());
            (&mut from).take(codec.block_bytes() as u64).read_to_end(&mut block)?;
            if block.is_empty() && (total > 0 || codec.format == Format::Gzip) {
                break;
            }
            let is_empty = block.is_empty();
            total += block.len() as u64;
            if codec.format == Format::Gzip {
                checksum.update(&block);
            }
            let (done, answer) = sync_channel(1);
            jobs.send(Job { block, done }).map_err(|_| gone(std::sync::mpsc::RecvError))?;
            under_way.push_back(answer);
            if under_way.len() > threads {
                next(&mut under_way, to)?;
            }
            if is_empty {
                break;
            }
        }
        while !under_way.is_empty() {
            next(&mut under_way, to)?;
        }
        if codec.format == Format::Gzip {
            to.write_all(&DEFLATE_END)?;
            to.write_all(&checksum.sum().to_le_bytes())?;
            to.write_all(&(total as u32).to_le_bytes())?;
        }
        to.flush()
    })
}

/// What one thread does, until there is no more.
fn run(codec: Codec, work: &Mutex<Receiver<Job>>) {
    let mut compressor = Worker::new(codec);
    loop {
        let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, done }) = job else { return };
        let bytes = match &mut compressor {
            Ok(worker) => worker.compress(&block),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        // Whoever stopped waiting wants none of it.
        done.send(bytes).ok();
    }
}

enum Worker {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Worker {
    fn new(codec: Codec) -> io::Result<Worker> {
        Ok(match codec.format {
            Format::Gzip => {
                let level = CompressionLvl::new(codec.level);
                let level = level.map_err(|_| io::Error::other("no such level of deflate"))?;
                Worker::Gzip(Compressor::new(level))
            }
            Format::Zstd => Worker::Zstd(zstd::bulk::Compressor::new(codec.level)?),
        })
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Worker::Gzip(compressor) => {
                let mut bytes = vec![0; compressor.deflate_compress_bound(block.len())];
                let length = compressor.deflate_compress(block, &mut bytes);
                let length = length.map_err(|e| io::Error::other(format!("deflate: {e}")))?;
                bytes.truncate(length);
                joint::open_end(bytes)
                    .ok_or_else(|| io::Error::other("deflate: its own blocks cannot be read"))
            }
            Worker::Zstd(compressor) => compressor.compress(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(content: &[u8], codec: Codec) -> Vec<u8> {
        let mut bytes = Vec::new();
        compress(content, &mut bytes, codec).unwrap();
        bytes
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        crate::decompress(bytes).unwrap().1.read_to_end(&mut content).unwrap();
        content
    }

    /// Text that repeats itself, noise, and zeros, over several blocks.
    fn mixed(bytes: usize) -> Vec<u8> {
        let mut state = 7u64;
        (0..bytes)
            .map(|n| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                match (n >> 16) % 4 {
                    0 => b"the same again and again "[n % 25],
                    1 => (state >> 56) as u8,
                    2 => b'a' + (state >> 60) as u8,
                    _ => 0,
                }
            })
            .collect()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for codec in [Codec::GZIP, Codec::ZSTD] {
            for bytes in [0, 1, 100, GZIP_BLOCK - 1, GZIP_BLOCK, 3 * GZIP_BLOCK + 5, 9 << 20] {
                let content = mixed(bytes);
                let first = packed(&content, codec);
                assert!(unpacked(&first) == content, "{codec} of {bytes} bytes");
                assert!(packed(&content, codec) == first, "{codec}: always the same bytes");
            }
        }
        for level in 1..=12 {
            let content = mixed(2 << 20);
            let codec = Codec::GZIP.with_level(level).unwrap();
            assert!(unpacked(&packed(&content, codec)) == content, "{codec}");
        }
    }

    #[test]
    fn gzip_is_one_member() {
        let content = mixed(5 << 20);
        let bytes = packed(&content, Codec::GZIP);
        let mut one = Vec::new();
        // This reader stops after the first member.
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut one).unwrap();
        assert!(one == content);
    }

    #[test]
    fn a_reader_or_writer_that_fails_ends_it() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = compress(Failing, &mut Vec::new(), Codec::GZIP).unwrap_err();
        assert_eq!(error.to_string(), "broken");
        let error = compress(&mixed(20 << 20)[..], &mut Failing, Codec::ZSTD).unwrap_err();
        assert_eq!(error.to_string(), "full");
    }

    #[test]
    fn formats_and_levels() {
        assert_eq!("gzip".parse(), Ok(Codec::GZIP));
        assert_eq!(Codec::GZIP.to_string(), "gzip-5/1");
        assert_eq!("zstd:chunked".parse::<Codec>(), Err(CodecError::Chunked));
        assert!("lz4".parse::<Codec>().is_err());
        assert!(Codec::GZIP.with_level(13).is_err() && Codec::ZSTD.with_level(0).is_err());
    }

    proptest! {
        #[test]
        fn blocks_of_any_content_join(
            content in proptest::collection::vec(any::<u8>(), 0..5000),
            times in 1usize..400,
            level in 1i32..=12,
        ) {
            let content = content.repeat(times);
            let codec = Codec::GZIP.with_level(level).unwrap();
            prop_assert!(unpacked(&packed(&content, codec)) == content);
        }
    }
}
