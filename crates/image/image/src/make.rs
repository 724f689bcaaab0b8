//! Images that are made here: of layers that are in the store already, and a configuration.

use hako_content::Lease;
use hako_oci::{Descriptor, Digest, Reference};

use crate::{
    ImageStore, Loaded, Result,
    load::{Stored, publish, write_manifest},
};

/// An image that nothing describes yet.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The bytes of its configuration (OCI Image Specification, config.md), whose digest becomes
    /// its ID. Its diff IDs are those of `layers`.
    pub config: Vec<u8>,
    /// Its layers, lowest first, all of them kept by the lease.
    pub layers: Vec<Descriptor>,
    /// The names that it gets; an image without one is dangling.
    pub names: Vec<Reference>,
}

impl ImageStore {
    /// Writes a manifest for an image, and gives it its names. The lease, which keeps its layers,
    /// ends with that. Equal images have equal manifests.
    ///
    /// Unpack it before, and hold the snapshots meanwhile, if it is to be run at once.
    pub fn publish(&self, lease: Lease, image: NewImage) -> Result<Loaded> {
        let id = Digest::sha256(&image.config);
        let manifest = write_manifest(&lease, &image.config, image.layers)?;
        let names = image.names.into_iter().map(Reference::with_default_tag).collect();
        let target = manifest.clone();
        lease.publish(|names_of_store| {
            publish(names_of_store, Stored { id, names, manifest, target, exact: false })
        })
    }
}
