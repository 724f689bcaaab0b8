//! What stands in an archive that `docker save` wrote, beside the layers.

use std::collections::BTreeMap;

use hako_oci::Descriptor;
use serde::{Deserialize, Serialize};

use crate::null_default;

/// `manifest.json`: one item an image.
pub const MANIFEST: &str = "manifest.json";
/// `repositories`: all there was before `manifest.json`.
pub const REPOSITORIES: &str = "repositories";

/// One image of `manifest.json`. Paths are those of entries of the archive.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestItem {
    /// The image's configuration; its digest is the image's ID.
    pub config: String,
    /// Names with tags; `null` for none.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Layer tars, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<String>,
    /// ID of the image that this one was built on.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub parent: String,
    /// Where layers come from, by diff ID. Since Docker 25 for all layers.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_default"
    )]
    pub layer_sources: BTreeMap<String, Descriptor>,
}

/// `repositories`: repository → tag → ID of its topmost layer.
pub type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// Why `manifest.json` is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No JSON, or not of this shape.
    #[error("{file}: invalid JSON: {source}")]
    Json {
        /// Which file of the archive.
        file: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// `null`: Docker refuses it, for whoever wrote it meant to write images.
    #[error("invalid manifest, manifest cannot be null (but can be [])")]
    Null,
}

/// Reads `manifest.json`.
pub fn parse_manifest(bytes: &[u8]) -> Result<Vec<ManifestItem>, Error> {
    let items: Option<_> =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { file: MANIFEST, source })?;
    items.ok_or(Error::Null)
}

/// Reads `repositories`.
pub fn parse_repositories(bytes: &[u8]) -> Result<Repositories, Error> {
    let repositories: Option<_> = serde_json::from_slice(bytes)
        .map_err(|source| Error::Json { file: REPOSITORIES, source })?;
    Ok(repositories.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_as_docker_reads_them() {
        let item = r#"[{"Config":"c.json","RepoTags":null,"Layers":null,"Unknown":1}]"#;
        let items = parse_manifest(item.as_bytes()).unwrap();
        assert_eq!(items, [ManifestItem { config: "c.json".into(), ..Default::default() }]);
        assert_eq!(parse_manifest(b"[]").unwrap(), []);
        assert!(matches!(parse_manifest(b"null"), Err(Error::Null)));
        for bad in ["", "{}", "[{}]", "[1]", "[[[[", r#"[{"Config":1}]"#] {
            assert!(matches!(parse_manifest(bad.as_bytes()), Err(Error::Json { .. })), "{bad}");
        }
        let deep = "[".repeat(1 << 20);
        assert!(parse_manifest(deep.as_bytes()).is_err());
        assert!(parse_repositories(b"null").unwrap().is_empty());
        assert_eq!(parse_repositories(br#"{"a":{"b":"c"}}"#).unwrap()["a"]["b"], "c");
    }

    #[test]
    fn what_is_empty_is_left_out_except_names() {
        let item = ManifestItem { config: "c".into(), ..Default::default() };
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(text, r#"{"Config":"c","RepoTags":null,"Layers":[]}"#);
    }
}
