//! Docker's documents as plain data, with exactly Docker's field names.
//!
//! | module | document |
//! |---|---|
//! | [`archive`] | `manifest.json` and `repositories` of what `docker save` writes |
//! | [`v1`] | the `json` of a layer directory, from before images had configurations |
//! | [`config`] | a container's `Config`: also `config` of an image, in Docker's own shape |
//! | [`container`] | `docker inspect` of a container |
//! | [`host_config`] | its `HostConfig` |
//! | [`image`] | `docker image inspect` |
//! | [`system`] | `docker version` and `docker info` |
//!
//! Nothing here does I/O. Lists and maps that Go writes as `null` when they are empty are read so.
//!
//! ```
//! let manifest = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["0/layer.tar"]}]"#;
//! let items = hako_docker::archive::parse_manifest(manifest)?;
//! assert_eq!(items[0].layers, ["0/layer.tar"]);
//! # Ok::<(), hako_docker::archive::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod archive;
pub mod config;
pub mod container;
pub mod host_config;
pub mod image;
pub mod system;
pub mod v1;

pub use config::Config;
pub use container::Container;
pub use host_config::HostConfig;
pub use image::Image;

/// Go writes `null` for empty lists and maps.
fn null_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(d)?.unwrap_or_default())
}
