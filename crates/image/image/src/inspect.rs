//! What `image inspect`, `image ls` and `history` show.

use std::collections::BTreeMap;

use hako_docker::{
    Config,
    container::GraphDriver,
    image::{HistoryItem, Metadata, RootFs},
};
use hako_oci::{Digest, Platform, Reference};
use serde::Deserialize;

use crate::{Error, Image, ImageStore, Result, time::unix_seconds};

/// An image as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its ID.
    pub id: Digest,
    /// Its names, each with a tag; none for a dangling image.
    pub names: Vec<Reference>,
    /// Its names by digest.
    pub digests: Vec<Reference>,
    /// When it was made, seconds since the epoch.
    pub created: i64,
    /// Bytes of the files in all its layers.
    pub size_bytes: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it runs on.
    pub platform: Platform,
}

/// What of a configuration only Docker has.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    docker_version: Option<String>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default, rename = "os.version")]
    os_version: Option<String>,
}

impl ImageStore {
    /// All images, the newest first.
    pub fn list(&self) -> Result<Vec<Summary>> {
        self.images()?.iter().map(|image| self.summary(image)).collect()
    }

    fn summary(&self, image: &Image) -> Result<Summary> {
        let config = image.config().config.as_ref();
        Ok(Summary {
            id: image.id().clone(),
            names: image.names().to_vec(),
            digests: image.digests().to_vec(),
            created: image.created(),
            size_bytes: self.size_bytes(image)?,
            labels: config.map(|config| config.labels.clone()).unwrap_or_default(),
            platform: image.platform(),
        })
    }

    /// `docker image inspect`.
    pub fn inspect(&self, image: &Image) -> Result<hako_docker::Image> {
        let docker: DockerConfig = serde_json::from_slice(image.config_bytes())
            .map_err(|e| Error::Damaged { name: image.id().to_string(), why: e.to_string() })?;
        let config = image.config();
        Ok(hako_docker::Image {
            id: image.id().to_string(),
            repo_tags: familiar(image.names()),
            repo_digests: familiar(image.digests()),
            parent: String::new(),
            comment: docker.comment.unwrap_or_default(),
            created: config.created.clone().unwrap_or_default(),
            docker_version: docker.docker_version.unwrap_or_default(),
            author: config.author.clone().unwrap_or_default(),
            config: docker.config,
            architecture: config.architecture.clone(),
            variant: config.variant.clone().unwrap_or_default(),
            os: config.os.clone(),
            os_version: docker.os_version.unwrap_or_default(),
            size: self.size_bytes(image)? as i64,
            virtual_size: None,
            graph_driver: GraphDriver { data: None, name: self.snapshots().name().into() },
            root_fs: RootFs {
                kind: "layers".into(),
                layers: config.rootfs.diff_ids.iter().map(Digest::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: image.tagged().unwrap_or(NEVER).into() },
            descriptor: Some(image.descriptor().clone()),
        })
    }

    /// `docker history`: the newest step first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryItem>> {
        let chain = image.chain();
        let mut layers = chain.ids().iter();
        let mut items = Vec::new();
        for step in &image.config().history {
            let size = match step.empty_layer {
                true => 0,
                // More steps than layers is the image's mistake, and no reason to show nothing.
                false => match layers.next() {
                    Some(layer) => self.layer_bytes(layer)?,
                    None => 0,
                },
            };
            items.push(HistoryItem {
                id: "<missing>".into(),
                created: step.created.as_deref().and_then(unix_seconds).unwrap_or(0),
                created_by: step.created_by.clone().unwrap_or_default(),
                tags: None,
                size: size as i64,
                comment: step.comment.clone().unwrap_or_default(),
            });
        }
        items.reverse();
        if let Some(newest) = items.first_mut() {
            newest.id = image.id().to_string();
            newest.tags = Some(familiar(image.names())).filter(|names| !names.is_empty());
        }
        Ok(items)
    }

    /// Bytes of the files in all its layers.
    pub fn size_bytes(&self, image: &Image) -> Result<u64> {
        image.chain().ids().iter().map(|layer| self.layer_bytes(layer)).sum()
    }

    /// A layer that is not unpacked has no size yet.
    fn layer_bytes(&self, chain_id: &Digest) -> Result<u64> {
        Ok(self.snapshots().layer_bytes(chain_id)?.unwrap_or(0))
    }
}

/// When a thing was tagged that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn familiar(names: &[Reference]) -> Vec<String> {
    names.iter().map(Reference::familiar).collect()
}
