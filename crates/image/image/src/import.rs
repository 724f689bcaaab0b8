//! An image of one tar: `import`.

use std::io::Read;

use hako_oci::{
    Digest, Platform, Reference,
    image::{ContainerConfig, History, ImageConfig, RootFs},
    media_type,
};
use hako_snapshot::Layer;

use crate::{
    Error, ImageStore, Limits, NewImage, Result, change::change, load::diff_id_error, time,
};

/// What is to be made of a tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The image's name; one without a tag gets `latest`.
    pub name: Option<Reference>,
    /// Instructions of a Dockerfile for its configuration.
    pub changes: Vec<String>,
    /// The comment in its history.
    pub message: String,
    /// What it runs on; this machine's where absent.
    pub platform: Option<Platform>,
    /// What the tar may be.
    pub limits: Limits,
}

impl ImageStore {
    /// Makes an image whose only layer is this tar, compressed or not, and gives its ID.
    pub fn import(&self, tar: impl Read + Send, options: &ImportOptions) -> Result<Digest> {
        let name = options.name.clone().map(Reference::with_default_tag);
        if let Some(name) = name.as_ref().filter(|name| name.digest().is_some()) {
            return Err(Error::Tag(name.to_string()));
        }
        let mut container = ContainerConfig::default();
        change(&mut container, &options.changes)?;
        let imported = self.import_held(tar, options, name.as_ref(), container);
        if imported.is_err() {
            // As in `load`: nothing refers to what was stored.
            drop(self.collect());
        }
        imported
    }

    fn import_held(
        &self,
        tar: impl Read + Send,
        options: &ImportOptions,
        name: Option<&Reference>,
        container: ContainerConfig,
    ) -> Result<Digest> {
        let lease = self.content().lease()?;
        let _hold = self.snapshots().hold()?;
        let (_, tar) = hako_layer::decompress(tar).map_err(Error::Read)?;
        let layer = lease.put_unnamed(media_type::OCI_LAYER, options.limits.bytes_max, tar)?;
        let diff_ids = vec![layer.digest.clone()];
        let open = || match self.content().blob(&layer.digest) {
            Ok(blob) => Ok(Box::new(blob) as Box<dyn Read + Send>),
            Err(e) => Err(std::io::Error::other(e)),
        };
        let stored = || Ok(self.stored_tar(&layer.digest, &layer.digest));
        let unpacked = Layer::new(layer.digest.clone(), Box::new(open)).stored(Box::new(stored));
        self.snapshots().ensure_layers(&[unpacked]).map_err(|e| diff_id_error(e, &diff_ids))?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let created = Some(time::now());
        let comment = Some(options.message.clone()).filter(|message| !message.is_empty());
        let config = ImageConfig {
            created: created.clone(),
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: Some(container),
            rootfs: RootFs { kind: "layers".into(), diff_ids },
            history: vec![History { created, comment, ..History::default() }],
            ..ImageConfig::default()
        };
        let config = serde_json::to_vec(&config)
            .map_err(|source| Error::Json { path: "configuration".into(), source })?;
        let names = name.cloned().into_iter().collect();
        Ok(self.publish(lease, NewImage { config, layers: vec![layer], names })?.id)
    }
}
