//! The OCI image and runtime documents as plain data.
//!
//! | module | specification |
//! |---|---|
//! | [`digest`], [`reference`], [`descriptor`] | what names and fetches content |
//! | [`image`] | OCI Image Specification 1.1: index, manifest, config, layout |
//! | [`runtime`] | OCI Runtime Specification 1.3: `config.json` |
//! | [`state`] | OCI Runtime Specification 1.3: the container's state |
//!
//! Nothing here does I/O. Values that have an invariant ([`Digest`], [`Reference`], [`Platform`])
//! are parsed once and cannot be wrong afterwards.

#![forbid(unsafe_code)]

pub mod descriptor;
pub mod digest;
pub mod image;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod state;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest};
pub use platform::Platform;
pub use reference::Reference;
