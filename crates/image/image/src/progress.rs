//! How far loading is, for somebody who watches.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use hako_oci::Digest;

/// One layer that is being unpacked.
#[derive(Debug, Clone, Copy)]
pub struct LayerProgress<'a> {
    /// Its diff ID.
    pub diff_id: &'a Digest,
    /// How much of it was read.
    pub bytes: u64,
    /// How much of it there is.
    pub bytes_total: u64,
}

/// Somebody who is told of each step, by several threads at once. What cannot be seen is not told:
/// layers that were there already.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(LayerProgress<'_>) + Send + Sync>);

impl Progress {
    /// Calls `told` with each step. It is called often, and should return soon.
    pub fn new(told: impl Fn(LayerProgress<'_>) + Send + Sync + 'static) -> Progress {
        Progress(Arc::new(told))
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// A layer's reader that tells how far it is.
pub(crate) struct Told<R> {
    reader: R,
    progress: Progress,
    diff_id: Digest,
    bytes: u64,
    bytes_total: u64,
}

impl<R> Told<R> {
    pub(crate) fn new(reader: R, progress: Progress, diff_id: Digest, bytes_total: u64) -> Told<R> {
        Told { reader, progress, diff_id, bytes: 0, bytes_total }
    }
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes += read as u64;
        let (diff_id, bytes, bytes_total) = (&self.diff_id, self.bytes, self.bytes_total);
        (self.progress.0)(LayerProgress { diff_id, bytes, bytes_total });
        Ok(read)
    }
}
