//! Streams: what compresses them, and reading ahead of their user.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use hako_layer::Compression;

/// Bytes read at once, and how many such buffers may wait.
const BUFFER_BYTES: usize = 256 << 10;
const BUFFERS: usize = 8;

/// What compresses a file that can be read anywhere.
pub(super) fn compression(file: &File) -> io::Result<Compression> {
    let mut magic = [0; 16];
    let mut filled = 0;
    while filled < magic.len() {
        match file.read_at(&mut magic[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(Compression::detect(&magic[..filled]))
}

/// Reads in a thread of its own, so that whoever makes the bytes and whoever uses them both work.
///
/// When it is dropped the thread ends, at the latest when the stream next gives something.
pub(crate) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    done: bool,
}

impl ReadAhead {
    pub(crate) fn new(mut from: impl Read + Send + 'static) -> ReadAhead {
        let (full_in, full) = sync_channel(BUFFERS);
        let (empty, empty_out) = sync_channel::<Vec<u8>>(BUFFERS);
        thread::spawn(move || {
            loop {
                let mut buffer = empty_out.try_recv().unwrap_or_default();
                buffer.resize(BUFFER_BYTES, 0);
                let read = match fill(&mut from, &mut buffer) {
                    Ok(n) => {
                        buffer.truncate(n);
                        Ok(buffer)
                    }
                    Err(e) => Err(e),
                };
                let last = !matches!(&read, Ok(buffer) if !buffer.is_empty());
                if full_in.send(read).is_err() || last {
                    return;
                }
            }
        });
        ReadAhead { full, empty, current: Vec::new(), position: 0, done: false }
    }
}

/// Fills the buffer as far as the stream goes without failing.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() && !self.done {
            let next = self.full.recv().unwrap_or(Ok(Vec::new()));
            // Where the thread does not want it back, it is freed.
            drop(self.empty.try_send(std::mem::take(&mut self.current)));
            self.position = 0;
            match next {
                Ok(next) => self.current = next,
                Err(e) => {
                    self.done = true;
                    return Err(e);
                }
            }
            self.done = self.current.is_empty();
        }
        let n = buffer.len().min(self.current.len() - self.position);
        buffer[..n].copy_from_slice(&self.current[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}
