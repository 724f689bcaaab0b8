//! Compression of blobs, recognised by their first bytes.
//!
//! A blob may be several compressed members in a row (`cat a.gz b.gz`, the frames of zstd:chunked).
//! After the last one only zeros may follow: anything else is content that some other program
//! could see, and so an error.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::raw::{Decoder as ZstdContext, Operation as _};

/// How a blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// How many first bytes [`Compression::detect`] wants.
pub(crate) const MAGIC_LEN: usize = 10;

/// The most memory that decompressing xz may take, which any dictionary of `xz -9` fits.
const XZ_MEMORY_KIB_MAX: u32 = 128 << 10;

/// The largest window of zstd (2^27 bytes), as the zstd program has it.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    /// The compression of a blob that starts with these bytes, of which at least 10 should be
    /// given where the blob has as many. Whatever is not recognised is not compressed.
    pub fn detect(start: &[u8]) -> Compression {
        const BLOCK: &[u8] = &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
        const END: &[u8] = &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            // A file in a tar may be called "BZh9".
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
                if rest.starts_with(BLOCK) || rest.starts_with(END) =>
            {
                Compression::Bzip2
            }
            _ => Compression::None,
        }
    }

    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
        }
    }

    /// Whether a member can start with this byte.
    fn may_start(self, byte: u8) -> bool {
        match self {
            Compression::None => false,
            Compression::Gzip => byte == 0x1f,
            Compression::Zstd => matches!(byte, 0x28 | 0x50..=0x5f),
            Compression::Xz => byte == 0xfd,
            Compression::Bzip2 => byte == b'B',
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Recognises the compression of a stream, and answers its content.
///
/// The content ends in an error where the stream is broken, cut off, or followed by anything but
/// zeros. How long it may get is for the caller to bound.
pub fn decompress<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut start = Vec::with_capacity(MAGIC_LEN);
    let mut reader = reader;
    (&mut reader).take(MAGIC_LEN as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    let whole = io::Cursor::new(start).chain(reader);
    if compression == Compression::None {
        return Ok((compression, Box::new(whole)));
    }
    let buffered = io::BufReader::with_capacity(256 << 10, whole);
    if compression == Compression::Zstd {
        return Ok((compression, Box::new(ZstdFrames::new(buffered)?)));
    }
    Ok((compression, Box::new(Members { compression, state: State::Between(buffered) })))
}

/// Whether another member follows. What is neither that, nor zeros until the end, is an error.
fn next_member(reader: &mut impl BufRead, compression: Compression) -> io::Result<bool> {
    let mut zeros = 0u64;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        match available.first() {
            None => return Ok(false),
            Some(0) => {
                let n = available.iter().position(|&b| b != 0).unwrap_or(available.len());
                reader.consume(n);
                zeros += n as u64;
            }
            Some(&byte) if zeros == 0 && compression.may_start(byte) => return Ok(true),
            Some(_) => {
                let text = format!("{compression} data is followed by something else");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
}

/// Names the format in an error of its decoder.
fn decoder_error(compression: Compression, e: io::Error) -> io::Error {
    match e.raw_os_error() {
        // Not the decoder's: reading the blob failed.
        Some(_) => e,
        None => io::Error::new(e.kind(), format!("{compression} data: {e}")),
    }
}

/// Members that each have a decoder of their own.
struct Members<R: BufRead> {
    compression: Compression,
    state: State<R>,
}

enum State<R: BufRead> {
    Between(R),
    Gzip(Box<GzDecoder<R>>),
    Xz(Box<XzReader<R>>),
    Bzip2(BzDecoder<R>),
    Ended,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.state {
                State::Ended => return Ok(0),
                State::Between(reader) => {
                    let more = next_member(reader, self.compression)?;
                    self.state = match std::mem::replace(&mut self.state, State::Ended) {
                        State::Between(reader) if more => start(reader, self.compression),
                        _ => return Ok(0),
                    };
                    continue;
                }
                State::Gzip(decoder) => decoder.read(buffer),
                State::Xz(decoder) => decoder.read(buffer),
                State::Bzip2(decoder) => decoder.read(buffer),
            };
            match read.map_err(|e| decoder_error(self.compression, e))? {
                0 => {
                    self.state = match std::mem::replace(&mut self.state, State::Ended) {
                        State::Gzip(decoder) => State::Between(decoder.into_inner()),
                        State::Xz(decoder) => State::Between(decoder.into_inner()),
                        State::Bzip2(decoder) => State::Between(decoder.into_inner()),
                        ended @ (State::Between(_) | State::Ended) => ended,
                    };
                }
                n => return Ok(n),
            }
        }
    }
}

fn start<R: BufRead>(reader: R, compression: Compression) -> State<R> {
    match compression {
        Compression::Gzip => State::Gzip(Box::new(GzDecoder::new(reader))),
        Compression::Xz => {
            State::Xz(Box::new(XzReader::new_mem_limit(reader, false, XZ_MEMORY_KIB_MAX)))
        }
        Compression::Bzip2 => State::Bzip2(BzDecoder::new(reader)),
        // ZstdFrames reads these, and nothing decodes those.
        Compression::Zstd | Compression::None => State::Ended,
    }
}

/// Frames of zstd, of which there may be thousands: one context reads them all.
struct ZstdFrames<R> {
    reader: R,
    context: ZstdContext<'static>,
    inside: bool,
    /// Whether the context may hold content that no longer needs input.
    pending: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(reader: R) -> io::Result<ZstdFrames<R>> {
        let mut context = ZstdContext::new()?;
        context.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
        Ok(ZstdFrames { reader, context, inside: false, pending: false })
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if !next_member(&mut self.reader, Compression::Zstd)? {
                    return Ok(0);
                }
                self.context.reinit()?;
                self.inside = true;
            }
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if input.is_empty() && !self.pending {
                let text = "zstd data: ends inside a frame";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            let status = self.context.run_on_buffers(input, buffer);
            let status = status.map_err(|e| decoder_error(Compression::Zstd, e))?;
            self.reader.consume(status.bytes_read);
            // Nothing remaining means that the frame is complete and flushed.
            self.inside = status.remaining != 0;
            // A full buffer may have left more inside.
            self.pending = self.inside && status.bytes_written == buffer.len();
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Compression::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let level = bzip2::Compression::fast();
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn read(blob: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = decompress(blob)?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        Ok((compression, content))
    }

    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    fn sample() -> Vec<u8> {
        (0..300_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect()
    }

    #[test]
    fn every_format_is_recognised_and_read() {
        let sample = sample();
        for compression in ALL.into_iter().chain([Compression::None]) {
            for content in [&sample[..], b"", b"x"] {
                let blob = compress(compression, content);
                assert_eq!(read(&blob).unwrap(), (compression, content.to_vec()), "{compression}");
            }
        }
    }

    #[test]
    fn members_in_a_row_are_one_content() {
        for compression in ALL {
            let parts = [compress(compression, b"one "), compress(compression, b""), {
                compress(compression, b"two")
            }];
            assert_eq!(read(&parts.concat()).unwrap().1, b"one two", "{compression}");
        }
        // Frames that other programs keep for themselves.
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"own"].concat();
        let frame = compress(Compression::Zstd, b"content");
        for blob in [[&skipped[..], &frame].concat(), [&frame[..], &skipped].concat()] {
            assert_eq!(read(&blob).unwrap(), (Compression::Zstd, b"content".to_vec()));
        }
    }

    #[test]
    fn zeros_may_follow_and_nothing_else() {
        for compression in ALL {
            let blob = compress(compression, b"content");
            let padded = [&blob[..], &[0; 100_000]].concat();
            assert_eq!(read(&padded).unwrap().1, b"content", "{compression}");
            let hidden = compress(compression, b"hidden");
            for after in [&b"garbage"[..], b"\n", &[&[0; 512][..], &hidden].concat(), &hidden[..1]]
            {
                let e = read(&[&blob[..], after].concat()).unwrap_err();
                assert!(e.to_string().starts_with(compression.name()), "{compression}: {e}");
            }
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        for compression in ALL {
            let blob = compress(compression, &sample());
            for cut in (10..blob.len()).step_by(blob.len() / 97 + 1).chain([blob.len() - 1]) {
                assert!(read(&blob[..cut]).is_err(), "{compression}: {cut} of {}", blob.len());
            }
        }
    }

    #[test]
    fn every_changed_byte_is_noticed_or_harmless() {
        for compression in ALL {
            let sample = &sample()[..20_000];
            let blob = compress(compression, sample);
            for place in (0..blob.len()).step_by(blob.len() / 89 + 1) {
                let mut blob = blob.clone();
                blob[place] ^= 0x10;
                if let Ok((found, content)) = read(&blob)
                    && found == compression
                    // zstd's checksum is optional, and off here.
                    && compression != Compression::Zstd
                {
                    assert_eq!(content, sample, "{compression}: byte {place}");
                }
            }
        }
    }

    #[test]
    fn memory_that_is_only_claimed_is_refused() {
        // A window of 2^31 bytes in the frame's header.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
        assert!(read(&[&frame[..], &[0; 64]].concat()).is_err());
        // A dictionary of 4 GiB - 1 in the block's header (property 40), with its checksums right.
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = 512 << 20;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(b"x").unwrap();
        assert!(read(&encoder.finish().unwrap()).is_err());
    }
}
