//! The `json` of a layer directory: an image from before images had configurations.

use serde::{Deserialize, Serialize};

use crate::{Config, null_default};

/// What of `<id>/json` matters to whoever turns it into a configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Its name: 64 random digits.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub id: String,
    /// The image it was built on.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub parent: String,
    /// What its author remarked.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub comment: String,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// The container it was committed from.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub container: String,
    /// That container's configuration.
    #[serde(deserialize_with = "null_default")]
    pub container_config: Config,
    /// The Docker that made it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub docker_version: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub author: String,
    /// How a container of it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// Processor.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub architecture: String,
    /// Processor variant.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub variant: String,
    /// Operating system.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub os: String,
    /// Bytes of its layer.
    #[serde(rename = "Size", skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub size: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
