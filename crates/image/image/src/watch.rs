//! What a transfer tells while it goes on.

use hako_oci::{Descriptor, Digest};

/// How far a blob came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It will be transferred.
    Waiting,
    /// It is where it should be already.
    Present,
    /// So many bytes of it are there.
    Bytes(u64),
    /// All of it is there.
    Arrived,
    /// It is there, and unpacked.
    Complete,
    /// It came from another repository of the same registry.
    Mounted,
}

/// Is told what happens; by several threads at once.
pub trait Watch: Sync {
    /// A layer came to a step.
    fn layer(&self, layer: &Descriptor, step: Step);

    /// Whether the transfer should rather end.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// The manifest or index was found: from here on it is known what there is to transfer.
    fn manifest(&self, digest: &Digest);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watch for Silent {
    fn layer(&self, _: &Descriptor, _: Step) {}

    fn manifest(&self, _: &Digest) {}
}
