//! The way of a blob: read and decompress in one thread; hash the tar and use it in another.
//!
//! Inflating is the slowest part, so it has a thread for itself; hashing the tar goes with applying
//! it. Where nothing is to be inflated, that thread hashes. Buffers go back and forth: their number and size bound
//! the memory.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write as _},
    os::fd::AsFd as _,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use hako_oci::Digest;
use hako_sys::fs::Writeback;
use sha2::{Digest as _, Sha256};

use crate::{Compression, Error, Limits, Result, decompress};

const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 8;

/// What one pass over a blob computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// How the blob is compressed.
    pub compression: Compression,
    /// The digest of the tar in it.
    pub diff_id: Digest,
    /// The tar's size.
    pub tar_bytes: u64,
}

/// Reads a blob to its end and computes the digest of its tar, without applying it.
pub fn digest(blob: impl Read + Send, limits: &Limits) -> Result<Digests> {
    let ((), digests) = with_tar(blob, limits, None, |_| Ok(()))?;
    Ok(digests)
}

/// Lets `f` read the tar in a blob, and computes its digest. What `f` leaves is read, so that the
/// digest is of all of it. The tar is written to `copy`.
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
            writeback: Writeback::default(),
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
        let stopped = || Error::Stream(io::Error::other("the decompressor stopped early"));
        let Ok(Some((compression, plain_hasher))) = produced else { return Err(stopped()) };
        let hasher = hasher.or(plain_hasher).ok_or_else(stopped)?;
        let diff_id = Digest::from_sha256(hasher.finalize().into());
        Ok((value, Digests { compression, diff_id, tar_bytes: total }))
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

/// Reads the blob, and sends its content; hashes it where it is the tar itself. `None` when nobody
/// wants it any more, or after a failure, which was sent.
fn produce(
    blob: impl Read + Send,
    limit: u64,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
) -> Option<(Compression, Option<Sha256>)> {
    let result = (|| {
        let (compression, mut reader) = decompress(blob)?;
        let mut hasher = (compression == Compression::None).then(Sha256::new);
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
                return Ok(Some((compression, hasher)));
            }
            total += buffer.len() as u64;
            if total > limit {
                let what = "the size of the tar";
                return Err(io::Error::other(Error::Limit { what, limit }));
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer);
            }
            if full.send(Piece::Bytes(buffer)).is_err() {
                return Ok(None);
            }
        }
    })();
    match result {
        Ok(Some(done)) => {
            full.send(Piece::End).ok()?;
            Some(done)
        }
        Ok(None) => None,
        Err(e) => {
            full.send(Piece::Failed(e)).ok()?;
            None
        }
    }
}

/// The tar, as it comes from the decompressor.
pub(crate) struct TarStream<'c> {
    full: Receiver<Piece>,
    empty: SyncSender<Vec<u8>>,
    /// Gets the tar as well.
    copy: Option<&'c File>,
    writeback: Writeback,
    buffer: Vec<u8>,
    position: usize,
    total: u64,
    /// None where the blob is the tar: who reads it hashes it.
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
                        let failed = |e| io::Error::other(Error::Keep(e));
                        copy.write_all(&buffer).map_err(failed)?;
                        let grown = self.total + buffer.len() as u64;
                        self.writeback
                            .grown_to(copy.as_fd(), grown)
                            .map_err(|e| failed(e.into()))?;
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
