//! Files on their way into an image: which are meant, what they hold, where they go.
//!
//! ```text
//! Tree ── select ──▶ Selection ── digest ──▶ key of the step
//!                        └────── place ────▶ layer
//! ```
//!
//! A [`Tree`] is a directory of the host that is a build's context, or the root file system of
//! another stage or image. Nothing of a context is copied before it is needed, and nothing at all
//! where the same files were copied before.

mod archive;
mod digests;
mod place;
mod select;
mod tree;

pub(crate) use digests::FileDigests;
pub(crate) use place::{Inline, Placement, Source, directory, place};
pub(crate) use select::{Entry, Selection, clean, fill_digests, look, select, to_path};
pub(crate) use tree::{Ownership, Tree};
