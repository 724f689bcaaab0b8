//! The OCI image and runtime documents as plain data.
//!
//! | module | specification |
//! |---|---|
//! | [`digest`], [`reference`], [`descriptor`] | what names and fetches content |
//! | [`image`] | OCI Image Specification 1.1: index, manifest, config, layout |
//! | [`runtime`] | OCI Runtime Specification 1.3: `config.json` |
//! | [`locate`] | lines and fields of a JSON text, for errors |
//! | [`state`] | OCI Runtime Specification 1.3: the container's state |
//!
//! Nothing here does I/O. Values that have an invariant ([`Digest`], [`Reference`], [`Platform`])
//! are parsed once and cannot be wrong afterwards.

#![forbid(unsafe_code)]

pub mod descriptor;
pub mod digest;
pub mod image;
pub mod locate;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod state;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest};
pub use platform::Platform;
pub use reference::Reference;

/// For fields with a default: Go writes `null` for empty lists and maps, and reads it as nothing.
fn null_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(d)?.unwrap_or_default())
}
