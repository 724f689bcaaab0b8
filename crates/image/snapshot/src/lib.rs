//! Snapshots: mountable filesystem states made of layers.
//!
//! A [`Snapshotter`] keeps two kinds of state. *Committed* ones are layers, named by their chain ID
//! and immutable. *Active* ones belong to a container: a writable directory over a chain, named by
//! the container's ID. What it gives back are mounts, as data: nothing here appears in any mount
//! namespace. Who wants to look into a snapshot gets a detached mount ([`Snapshotter::view`]).
//!
//! [`Overlay`] unpacks layers to directories and joins them with overlayfs. [`Erofs`] keeps them as
//! tars, merges them into an index that the kernel mounts, and puts one overlay over that. Every
//! implementation passes the same tests: [`testsuite!`].

#![forbid(unsafe_code)]

mod detached;
mod erofs;
mod error;
mod lock;
mod overlay;
mod stores;
#[doc(hidden)]
pub mod suite;
mod unpack;

use std::{io::Read, os::fd::OwnedFd, path::PathBuf};

use hako_oci::{Digest, image::chain_id, runtime::Mount};
use hako_root::Root;

pub use crate::{
    erofs::Erofs,
    error::{Error, Result},
    lock::Hold,
    overlay::Overlay,
    stores::{KINDS, Kind, Stores},
};

/// A stack of layers by their chain IDs, lowest first (OCI Image Specification, config.md, "Layer
/// ChainID"). Empty for an image without layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain(Vec<Digest>);

impl Chain {
    /// The chain of these diff IDs.
    pub fn of(diff_ids: &[Digest]) -> Chain {
        Chain((1..=diff_ids.len()).filter_map(|n| chain_id(&diff_ids[..n])).collect())
    }

    /// The chain IDs, lowest first.
    pub fn ids(&self) -> &[Digest] {
        &self.0
    }

    /// The chain ID of the whole stack.
    pub fn top(&self) -> Option<&Digest> {
        self.0.last()
    }
}

/// Says which chains are needed, when asked.
pub type LiveChains<'a> =
    dyn FnMut() -> Result<Vec<Chain>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What a layer's bytes can be read from, as often as it takes.
pub type OpenLayer<'a> = dyn Fn() -> std::io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// Where a layer's tar lies as a file that never changes, if it does.
pub type StoredTar<'a> = dyn Fn() -> std::io::Result<Option<PathBuf>> + Sync + 'a;

/// A layer that may have to be unpacked.
pub struct Layer<'a> {
    /// Digest of its uncompressed tar: what the content must turn out to have.
    pub diff_id: Digest,
    /// Opens its content, compressed or not.
    pub open: Box<OpenLayer<'a>>,
    stored: Box<StoredTar<'a>>,
}

impl<'a> Layer<'a> {
    /// The layer of this diff ID.
    pub fn new(diff_id: Digest, open: Box<OpenLayer<'a>>) -> Layer<'a> {
        Layer { diff_id, open, stored: Box::new(|| Ok(None)) }
    }

    /// The same layer, whose tar may be kept as a file already. Who keeps tars as well links to it
    /// and does not read it: the answer, which may take its time, is a file whose digest was
    /// compared with the diff ID.
    #[must_use]
    pub fn stored(mut self, stored: Box<StoredTar<'a>>) -> Layer<'a> {
        self.stored = stored;
        self
    }
}

/// How an active snapshot is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActiveOptions {
    /// It is thrown away after its first use, and never written to disk in order. Without this,
    /// unmounting flushes the whole file system: milliseconds at best, and as long as others have
    /// much to write. With it, what is there after a crash of the machine is worth nothing.
    pub volatile: bool,
}

/// Where a process that mounts holds what it shares: as its standard output.
pub const SHARED_FD: i32 = 1;

/// Layers that are mounted already.
#[derive(Debug)]
pub struct Shared {
    /// The mount, which is nowhere.
    pub layers: OwnedFd,
    /// What is to be mounted, in order, on a container's root directory.
    pub mounts: Vec<Mount>,
}

/// Keeps filesystem states. Many processes may use one directory at once.
pub trait Snapshotter: Send + Sync {
    /// Name of the implementation, as `info` shows it.
    fn name(&self) -> &'static str;

    /// Keeps [`gc`](Snapshotter::gc) away until it is dropped: held from before a chain is looked
    /// up until something that garbage collection sees refers to it.
    fn hold(&self) -> Result<Hold>;

    /// Makes sure that every layer is there, and returns their chain.
    ///
    /// Missing ones are unpacked in parallel; each exactly once, however many processes ask.
    /// A layer whose content does not have its diff ID is refused, and nothing of it stays.
    fn ensure_layers(&self, layers: &[Layer<'_>]) -> Result<Chain>;

    /// Whether every layer of the chain is there.
    fn has(&self, chain: &Chain) -> bool;

    /// Bytes of the files in the layer of this chain ID; `None` where it is not unpacked.
    fn layer_bytes(&self, id: &Digest) -> Result<Option<u64>>;

    /// Makes the active snapshot `key` over `chain`. Its name must be new.
    fn prepare(&self, key: &str, chain: &Chain, options: ActiveOptions) -> Result<()>;

    /// What is to be mounted, in order, on a container's root directory. Options with long values
    /// come one by one, as `lowerdir+=`, for fsconfig(2). `lowerdir+=.` means what the mounts before
    /// it made of that directory.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// The layers below an active snapshot as a mount, and what is to be mounted instead of
    /// [`mounts`](Snapshotter::mounts) by a process that holds it as [`SHARED_FD`]. `others` are
    /// paths of such descriptors of other processes, whose layers may be the same: these share one
    /// page cache, as long as one of them lives. `None` where there is nothing to share.
    fn shared(&self, key: &str, others: &[PathBuf]) -> Result<Option<Shared>>;

    /// The active snapshot as a read-only tree, mounted nowhere. What a running container writes
    /// meanwhile may or may not show.
    fn view(&self, key: &str) -> Result<Root>;

    /// The committed snapshot of a chain as a read-only tree, mounted nowhere.
    fn view_chain(&self, chain: &Chain) -> Result<Root>;

    /// What was written to the active snapshot, in overlayfs's own form: what
    /// [`hako_layer::changes`] reads.
    fn changes(&self, key: &str) -> Result<Root>;

    /// Bytes on disk of what was written to the active snapshot.
    fn usage_bytes(&self, key: &str) -> Result<u64>;

    /// Removes an active snapshot; succeeds when it is gone. It must not be mounted.
    fn remove(&self, key: &str) -> Result<()>;

    /// Keys of all active snapshots.
    fn keys(&self) -> Result<Vec<String>>;

    /// Removes layers that neither `live` nor an active snapshot needs, and returns how many bytes
    /// that freed. Does nothing and returns `None` while somebody [holds](Snapshotter::hold).
    fn gc(&self, live: &mut LiveChains<'_>) -> Result<Option<u64>>;

    /// Removes what processes left that were killed.
    fn sweep(&self) -> Result<()>;

    /// Reads everything that is kept of a chain again, and says what is not as it was made. What is
    /// kept in a form that has no digest is not looked at.
    fn verify(&self, chain: &Chain) -> Result<Vec<String>>;
}
