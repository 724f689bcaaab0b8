//! The way of a blob: read, hash, decompress in one thread; hash the tar and use it in another.
//!
//! Inflating is the slowest part, so it has a thread for itself and for what comes before it;
//! hashing the tar goes with applying it. Buffers go back and forth: their number and size bound
//! the memory.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write as _},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use hako_oci::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Compression, Error, Limits, Result, decompress};

const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 8;

/// What one pass over a blob computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// The digest of the blob as it came.
    pub blob: Digest,
    /// The blob's size.
    pub blob_bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// The digest of the tar in it.
    pub diff_id: Digest,
    /// The tar's size.
    pub tar_bytes: u64,
}

/// Reads a blob to its end and computes its digests, without applying it.
pub fn digest(blob: impl Read + Send, limits: &Limits) -> Result<Digests> {
    let ((), digests) = with_tar(blob, limits, None, |_| Ok(()))?;
    Ok(digests)
}

/// Lets `f` read the tar in a blob, and computes the digests of both. What `f` leaves is read, so
/// that the digests are of all of it. The tar is written to `copy`.
pub(crate) fn with_tar<T>(
    blob: impl Read + Send,
    limits: &Limits,
    copy: Option<&File>,
    f: impl FnOnce(&mut TarStream<'_>) -> Result<T>,
) -> Result<(T, Digests)> {
    let (full_sender, full_receiver) = sync_channel(BUFFERS);
    let (empty_sender, empty_receiver) = sync_channel(BUFFERS);
    let limit = limits.tar_bytes_max;
    thread::scope(|scope| {
        let producer = thread::Builder::new()
            .name("decompress".to_owned())
            .spawn_scoped(scope, move || produce(blob, limit, &full_sender, &empty_receiver))
            .map_err(Error::Thread)?;
        let mut stream = TarStream {
            full: full_receiver,
            empty: empty_sender,
            copy,
            buffer: Vec::new(),
            position: 0,
            total: 0,
            hasher: None,
            ended: false,
        };
        let result = f(&mut stream).and_then(|value| {
            stream.drain().map_err(hako_tar::Error::from)?;
            Ok(value)
        });
        let TarStream { hasher, total, full, empty, .. } = stream;
        // A producer that still sends, or waits for a buffer, learns that nobody is there.
        drop((full, empty));
        let produced = producer.join();
        let value = result?;
        let Ok(Some((compression, blob_hasher, blob_bytes))) = produced else {
            return Err(Error::Stream(io::Error::other("the decompressor stopped early")));
        };
        let blob = Digest::from_sha256(blob_hasher.finalize().into());
        let diff_id = match hasher {
            Some(hasher) => Digest::from_sha256(hasher.finalize().into()),
            None => blob.clone(),
        };
        Ok((value, Digests { blob, blob_bytes, compression, diff_id, tar_bytes: total }))
    })
}

/// What the producer sends.
enum Piece {
    /// First of all.
    Start(Compression),
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

/// Reads and hashes the blob, and sends its content. `None` when nobody wants it any more, or
/// after a failure, which was sent.
fn produce(
    blob: impl Read + Send,
    limit: u64,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
) -> Option<(Compression, Sha256, u64)> {
    let mut source = Hashing { inner: blob, hasher: Sha256::new(), bytes: 0 };
    let result = (|| {
        let (compression, mut reader) = decompress(&mut source)?;
        if full.send(Piece::Start(compression)).is_err() {
            return Ok(None);
        }
        let mut total = 0u64;
        let mut made = 0;
        loop {
            let mut buffer = match empty.try_recv() {
                Ok(buffer) => buffer,
                Err(_) if made < BUFFERS => {
                    made += 1;
                    Vec::with_capacity(BUFFER)
                }
                Err(_) => match empty.recv() {
                    Ok(buffer) => buffer,
                    Err(_) => return Ok(None),
                },
            };
            buffer.clear();
            (&mut reader).take(BUFFER as u64).read_to_end(&mut buffer)?;
            if buffer.is_empty() {
                return Ok(Some(compression));
            }
            total += buffer.len() as u64;
            if total > limit {
                let what = "the size of the tar";
                return Err(io::Error::other(Error::Limit { what, limit }));
            }
            if full.send(Piece::Bytes(buffer)).is_err() {
                return Ok(None);
            }
        }
    })();
    match result {
        Ok(Some(compression)) => {
            full.send(Piece::End).ok()?;
            Some((compression, source.hasher, source.bytes))
        }
        Ok(None) => None,
        Err(e) => {
            full.send(Piece::Failed(e)).ok()?;
            None
        }
    }
}

struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The tar, as it comes from the decompressor.
pub(crate) struct TarStream<'c> {
    full: Receiver<Piece>,
    empty: SyncSender<Vec<u8>>,
    /// Gets the tar as well.
    copy: Option<&'c File>,
    buffer: Vec<u8>,
    position: usize,
    total: u64,
    /// None where the blob is the tar: it is hashed already.
    hasher: Option<Sha256>,
    ended: bool,
}

impl TarStream<'_> {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let n = self.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }

    fn next(&mut self) -> io::Result<()> {
        let used = std::mem::take(&mut self.buffer);
        self.position = 0;
        if used.capacity() > 0 {
            // The producer may be gone already, when everything was sent.
            self.empty.try_send(used).unwrap_or_default();
        }
        loop {
            match self.full.recv() {
                Ok(Piece::Start(Compression::None)) => {}
                Ok(Piece::Start(_)) => self.hasher = Some(Sha256::new()),
                Ok(Piece::Bytes(buffer)) => {
                    if let Some(mut copy) = self.copy {
                        copy.write_all(&buffer).map_err(|e| io::Error::other(Error::Keep(e)))?;
                    }
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&buffer);
                    }
                    self.total += buffer.len() as u64;
                    self.buffer = buffer;
                    return Ok(());
                }
                Ok(Piece::End) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(Piece::Failed(e)) => return Err(e),
                Err(_) => return Err(io::Error::other("the decompressor stopped early")),
            }
        }
    }
}

impl Read for TarStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for TarStream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() && !self.ended {
            self.next()?;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}
