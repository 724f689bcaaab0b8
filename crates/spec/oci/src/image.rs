//! Index, manifest, configuration and layout (OCI Image Specification 1.1), and Docker's
//! documents of the same shape. Unknown fields survive; exact bytes are the content store's
//! business, because a digest is of bytes, not of values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Descriptor, Digest, media_type, null_default};

/// `oci-layout`: marks a directory as an image layout (image-layout.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// Version of the layout, `1.0.0`.
    pub image_layout_version: String,
}

/// Image index or Docker manifest list (image-index.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the index is, when it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Manifests, or further indexes. Docker 25 writes `null` for none.
    #[serde(deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// What the index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Arbitrary metadata.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Image manifest, OCI or Docker schema 2 (manifest.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the manifest is, when it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// What the manifest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Arbitrary metadata.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Image configuration (config.md), Docker's too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor, in Go's words.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Processor variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// The layers' diff IDs.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields this version does not know, as Docker's `container_config`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `config` object of an image: what `docker run` starts from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User and group, by name or number.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports it listens on, as `80/tcp`.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Environment, `NAME=value`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is executed, before `cmd`.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the command where there is no entrypoint.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The layers of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Digests of the uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A command may be written as one string, which is then its only word: Docker did so once.
fn words<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No JSON, or not of this shape.
    #[error("{document}: invalid JSON: {source}")]
    Json {
        /// Which kind of document.
        document: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Docker's schema 1, or something that nobody has defined.
    #[error("{document}: unsupported schema version {version}, want 2")]
    SchemaVersion {
        /// Which kind of document.
        document: &'static str,
        /// The version it claims.
        version: u32,
    },
    /// The document says that it is another kind.
    #[error("{document}: its media type is {found:?}")]
    MediaType {
        /// Which kind of document.
        document: &'static str,
        /// The type it claims.
        found: String,
    },
    /// The document can be read as two kinds, and means something else to each reader
    /// (CVE-2021-41190).
    #[error("{document}: ambiguous, for it has `{field}` too")]
    Ambiguous {
        /// Which kind of document.
        document: &'static str,
        /// The other kind's field.
        field: &'static str,
    },
    /// The configuration is of something that has no file system of layers.
    #[error("image configuration: unknown rootfs type {0:?}, want \"layers\"")]
    RootFs(String),
}

impl Default for Index {
    /// An OCI index without entries.
    fn default() -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

impl Index {
    /// Reads an index or manifest list.
    pub fn parse(bytes: &[u8]) -> Result<Index, Error> {
        let document = "image index";
        check_version(document, json::<Versioned>(document, bytes)?.schema_version)?;
        let index: Index = json(document, bytes)?;
        check_type(document, index.media_type.as_deref(), media_type::is_index)?;
        check_only(document, &index.extra, &["layers", "config", "fsLayers"])?;
        Ok(index)
    }
}

impl Manifest {
    /// Reads an image manifest.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        let document = "image manifest";
        // The version first: a document of schema 1 has none of the fields of schema 2.
        check_version(document, json::<Versioned>(document, bytes)?.schema_version)?;
        let manifest: Manifest = json(document, bytes)?;
        check_type(document, manifest.media_type.as_deref(), media_type::is_manifest)?;
        check_only(document, &manifest.extra, &["manifests", "fsLayers"])?;
        Ok(manifest)
    }
}

impl ImageConfig {
    /// Reads an image configuration.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, Error> {
        let config: ImageConfig = json("image configuration", bytes)?;
        match config.rootfs.kind.as_str() {
            "layers" | "" => Ok(config),
            other => Err(Error::RootFs(other.into())),
        }
    }
}

/// What every manifest has since schema 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    schema_version: u32,
}

fn json<'a, T: Deserialize<'a>>(document: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { document, source })
}

fn check_version(document: &'static str, version: u32) -> Result<(), Error> {
    match version {
        2 => Ok(()),
        _ => Err(Error::SchemaVersion { document, version }),
    }
}

fn check_type(
    document: &'static str,
    found: Option<&str>,
    fits: fn(&str) -> bool,
) -> Result<(), Error> {
    match found {
        Some(found) if !found.is_empty() && !fits(found) => {
            Err(Error::MediaType { document, found: found.into() })
        }
        _ => Ok(()),
    }
}

fn check_only(
    document: &'static str,
    extra: &Map<String, Value>,
    foreign: &[&'static str],
) -> Result<(), Error> {
    match foreign.iter().find(|field| extra.get(**field).is_some_and(|value| !value.is_null())) {
        Some(field) => Err(Error::Ambiguous { document, field }),
        None => Ok(()),
    }
}

/// The chain ID of a stack of diff IDs (config.md, "Layer ChainID"); `None` of an empty stack.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    Some(rest.iter().fold(first.clone(), |parent, diff_id| {
        Digest::sha256(format!("{parent} {diff_id}").as_bytes())
    }))
}
