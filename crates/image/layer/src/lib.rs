//! Layers: decompression, verification, application to a directory.
//!
//! A layer is a tar, usually compressed: the changes from the layers below it. [`apply`] reads one
//! in a single pass that decompresses it, computes the digest of the blob and the diff ID of the
//! tar, and puts its files beneath a [`Root`](hako_root::Root). Whoever made the layer is not
//! trusted; what the tree may come to hold, and what it may not, is told in [`mod@apply`].
//! [`write_changes`] goes the other way: what a container wrote becomes a layer.
//!
//! ```no_run
//! use hako_layer::{ApplyOptions, Onto, apply};
//! use hako_root::Root;
//!
//! let blob = std::fs::File::open("layer.tar.gz")?;
//! let dest = Root::open("rootfs".as_ref())?;
//! let options = ApplyOptions { onto: Onto::Base, ..ApplyOptions::default() };
//! let applied = apply(blob, &dest, &options)?;
//! println!("{} ({} bytes)", applied.diff_id, applied.size_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod apply;
mod attributes;
mod changes;
mod compress;
mod compression;
mod error;
mod joint;
mod listing;
mod merge;
mod name;
mod pack;
mod settle;
mod stream;
mod tree;

pub use crate::{
    apply::{Applied, ApplyOptions, Devices, Limits, Omitted, Onto, apply},
    attributes::is_kept,
    changes::{Change, WriteOptions, changes, is_opaque, write_changes, write_some_changes},
    compress::{Codec, CodecError, compress},
    compression::{Compression, decompress},
    error::{Error, Result},
    listing::{Listing, check, digest_tar, is_plain, keep, keep_sparse, list},
    merge::Merge,
    pack::pack,
    settle::{copy_attributes, settle},
    stream::{Digests, digest},
};
