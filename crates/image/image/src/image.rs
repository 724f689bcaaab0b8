//! An image as a value: what its documents say, read once.

use hako_content::Store;
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{ImageConfig, Manifest},
};
use hako_snapshot::Chain;

use crate::{
    Error, Result,
    layout::platform_of,
    names::{Catalog, Tag},
    time::unix_seconds,
};

/// An image of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    id: Digest,
    names: Vec<Reference>,
    digests: Vec<Reference>,
    tagged: Option<String>,
    descriptor: Descriptor,
    manifest: Manifest,
    config: ImageConfig,
    config_bytes: Vec<u8>,
}

impl Image {
    /// Reads the image's documents. `tags` are those that mean it.
    pub(crate) fn read<'t>(
        store: &Store,
        id: &Digest,
        descriptor: Descriptor,
        tags: impl Iterator<Item = (&'t Reference, &'t Tag)>,
    ) -> Result<Image> {
        let damaged = |why: String| Error::Damaged { name: id.to_string(), why };
        let manifest = Manifest::parse(&store.document(&descriptor)?);
        let manifest = manifest.map_err(|e| damaged(e.to_string()))?;
        if manifest.config.digest != *id {
            return Err(damaged(format!("its manifest is of {}", manifest.config.digest)));
        }
        let config_bytes = store.document(&manifest.config)?;
        let config = ImageConfig::parse(&config_bytes).map_err(|e| damaged(e.to_string()))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(damaged("it has not as many layers as diff IDs".into()));
        }
        let (mut names, mut digests, mut tagged) = (Vec::new(), Vec::new(), None);
        for (reference, tag) in tags {
            // One that was pulled by digest has no name but that.
            if reference.tag().is_some() {
                names.push(reference.clone());
            }
            if tag.exact {
                digests.push(reference.clone().with_digest(tag.target.digest.clone()));
            }
            tagged = tagged.max(Some(tag.tagged.clone()));
        }
        names.sort();
        digests.sort();
        digests.dedup();
        let id = id.clone();
        Ok(Image { id, names, digests, tagged, descriptor, manifest, config, config_bytes })
    }

    /// One image of a catalog.
    pub(crate) fn of(store: &Store, catalog: &Catalog, id: &Digest) -> Result<Image> {
        let Some(manifest) = catalog.images.get(id) else {
            return Err(Error::NotFound(id.to_string()));
        };
        let tags = catalog.tags.iter().filter(|(_, tag)| tag.image == *id);
        Image::read(store, id, manifest.clone(), tags)
    }

    /// Digest of its configuration.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Its names, each with a tag.
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    /// Its names by digest, where its documents came as they are.
    pub fn digests(&self) -> &[Reference] {
        &self.digests
    }

    /// When it last got a name, RFC 3339.
    pub fn tagged(&self) -> Option<&str> {
        self.tagged.as_deref()
    }

    /// Its manifest's descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its configuration's bytes, whose digest is the image's ID.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The chain of its layers.
    pub fn chain(&self) -> Chain {
        Chain::of(&self.config.rootfs.diff_ids)
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        platform_of(&self.config)
    }

    /// When it was made, seconds since the epoch; 0 where it does not say.
    pub fn created(&self) -> i64 {
        self.config.created.as_deref().and_then(unix_seconds).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use hako_oci::image::Index;

    #[test]
    fn numbers_that_no_integer_holds_are_written_as_they_were_read() {
        let text = r#"{"schemaVersion":2,"manifests":[],"unknown":[118446744073709551616]}"#;
        let index = Index::parse(text.as_bytes()).unwrap();
        let written = serde_json::to_vec(&index).unwrap();
        assert_eq!(Index::parse(&written).unwrap(), index);
    }
}
