//! Errors: what was tried on which snapshot or file, and why it failed.

use std::path::PathBuf;

use hako_oci::Digest;
use hako_sys::Errno;

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a snapshot could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the store itself.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file in a snapshot.
    #[error(transparent)]
    Tree(#[from] hako_root::Error),
    /// A layer could not be unpacked.
    #[error("layer {diff_id}: {source}")]
    Layer {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: hako_layer::Error,
    },
    /// A directory could not be made to look like one of a layer.
    #[error("attributes of {}: {source}", path.display())]
    Attributes {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: hako_layer::Error,
    },
    /// A layer's content could not be opened.
    #[error("layer {diff_id}: open: {source}")]
    Open {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A layer's content is not what its name says.
    #[error("layer {expected}: content is {actual}")]
    DiffId {
        /// The diff ID that the image's configuration names.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The kernel refused to join layers.
    #[error("overlay of {layers} layers: {call}: {source}{}", detail(.log))]
    Mount {
        /// How many layers.
        layers: usize,
        /// The call.
        call: &'static str,
        /// Why.
        source: Errno,
        /// What the kernel said beside the number.
        log: String,
    },
    /// The kernel refused to mount the index of a chain.
    #[error("EROFS of {}: {call}: {source}{}", index.display(), detail(.log))]
    Image {
        /// The index.
        index: PathBuf,
        /// The call.
        call: &'static str,
        /// Why.
        source: Errno,
        /// What the kernel said beside the number.
        log: String,
    },
    /// Which layers are needed could not be told: none is removed.
    #[error("cannot tell which layers are needed: {0}")]
    Live(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A chain of which a layer is not unpacked.
    #[error("snapshot {0} is not in the store")]
    NoChain(Digest),
    /// No active snapshot of this key.
    #[error("no snapshot {0:?}")]
    NoKey(String),
    /// What the active snapshot was made of is lost: the machine stopped before it was on disk. It
    /// can only be removed.
    #[error("snapshot {0:?} was lost when the machine stopped; remove it")]
    Broken(String),
    /// The active snapshot is there already.
    #[error("snapshot {0:?} exists already")]
    KeyExists(String),
    /// No snapshotter has this name.
    #[error("unknown snapshotter {0:?}: it is overlay, erofs or auto")]
    Kind(String),
    /// A key that cannot be a file name.
    #[error("invalid snapshot key {0:?}")]
    Key(String),
}

fn detail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

impl Error {
    pub(crate) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { call, path, source }
    }
}
