//! `docker image inspect`, and what `history` and `rmi` print.

use hako_oci::Descriptor;
use serde::{Deserialize, Serialize};

use crate::{Config, container::GraphDriver, null_default};

/// One image of `docker image inspect`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Its names with tags.
    #[serde(deserialize_with = "null_default")]
    pub repo_tags: Vec<String>,
    /// Its names with digests.
    #[serde(deserialize_with = "null_default")]
    pub repo_digests: Vec<String>,
    /// The image it was built on, as far as it is known here.
    pub parent: String,
    /// A remark of its author.
    pub comment: String,
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// The Docker that made it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// How a container of it runs.
    pub config: Option<Config>,
    /// Processor.
    pub architecture: String,
    /// Processor variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Operating system version (Windows).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes of all its layers.
    pub size: i64,
    /// The same, as Docker before 25 had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Where its layers are.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What is known beside the image itself.
    pub metadata: Metadata,
    /// The manifest or index that the name stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff IDs, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub layers: Vec<String>,
}

/// What is known beside the image itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    /// When it got its last name, RFC 3339.
    pub last_tag_time: String,
}

/// One line of `docker image history`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// The image, or `<missing>`.
    pub id: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// Names of the image.
    pub tags: Option<Vec<String>>,
    /// Bytes of the layer.
    pub size: i64,
    /// A remark.
    pub comment: String,
}

/// One line of what `docker image rm` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteItem {
    /// A name is gone.
    Untagged(String),
    /// An image or a layer is gone.
    Deleted(String),
}
