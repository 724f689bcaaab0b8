//! Loading images from archives and directories.
//!
//! Layers go into the content store and, at the same time, into snapshots. Nothing has a name
//! until all of it is there; until then a lease and a hold keep it, and when loading fails, or is
//! killed, it is garbage.

use std::{collections::BTreeMap, thread};

use hako_content::{Lease, Names};
use hako_oci::{Descriptor, Digest, Platform, Reference, image::Manifest, media_type};
use hako_snapshot::Layer;

use crate::{
    Error, ImageStore, Limits, Progress, Result, Source,
    archive::Contents,
    layout::{self, Candidate, Documents, Exact, platform_of},
    names,
    storing::Storing,
};

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What an archive may claim.
    pub limits: Limits,
    /// Which image of an index; that for this machine where absent. Where it is said, the images of
    /// an archive without index must be for it, too.
    pub platform: Option<Platform>,
    /// Who watches.
    pub progress: Option<Progress>,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub id: Digest,
    /// The names that it got.
    pub names: Vec<Reference>,
    /// Names that it took from other images.
    pub renamed: Vec<(Reference, Digest)>,
}

/// An image that is in the store, and has no name yet.
pub(crate) struct Stored {
    pub(crate) id: Digest,
    pub(crate) names: Vec<Reference>,
    pub(crate) manifest: Descriptor,
    /// What its names stand for: the manifest, or an index.
    pub(crate) target: Descriptor,
    /// Whether the manifest came as it is, or was written here.
    pub(crate) exact: bool,
}

impl ImageStore {
    /// Loads all images of an archive or a layout directory.
    pub fn load(&self, source: Source, options: &LoadOptions) -> Result<Vec<Loaded>> {
        let lease = self.content().lease()?;
        let loaded = self.load_held(source, options, lease);
        if loaded.is_err() {
            // Nothing refers to what was stored. Should removing it fail too, the next sweep does
            // it; what went wrong first is what there is to say.
            drop(self.collect());
        }
        loaded
    }

    fn load_held(
        &self,
        source: Source,
        options: &LoadOptions,
        lease: Lease,
    ) -> Result<Vec<Loaded>> {
        let _hold = self.snapshots().hold()?;
        let contents = Contents::open(source, &lease, options.limits)?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let candidates = layout::find(&contents, &lease, &platform)?;
        if let Some(wanted) = &options.platform {
            for candidate in &candidates {
                let is = platform_of(&candidate.config);
                if !is.matches(wanted) {
                    let wanted = Box::new(wanted.clone());
                    return Err(Error::Platform { wanted, found: vec![is] });
                }
            }
        }
        let mut stored = Vec::new();
        for candidate in candidates {
            stored.push(self.store(&contents, &lease, candidate, options)?);
        }
        lease.publish(|names| stored.into_iter().map(|image| publish(names, image)).collect())
    }

    /// Stores and unpacks one image.
    fn store(
        &self,
        contents: &Contents,
        lease: &Lease,
        found: Candidate,
        options: &LoadOptions,
    ) -> Result<Stored> {
        let storing = Storing::new(contents, lease, &found, options.progress.as_ref());
        // Both read the archive, or what of it is in the store already: storing mostly waits for
        // the disk, unpacking for the processor.
        let layers = thread::scope(|scope| {
            let stored = scope.spawn(|| storing.run());
            let unpacked = self.unpack_layers(&storing);
            let layers = stored.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A wrong layer fails both; storing knows better which it is.
            let layers = layers?;
            unpacked.map(|()| layers)
        })?;
        let names = found.names;
        match found.documents {
            Documents::Exact(exact) => {
                let Exact { manifest, target, id } = *exact;
                Ok(Stored { id, names, manifest, target, exact: true })
            }
            Documents::None => {
                let id = Digest::sha256(&found.config_bytes);
                let manifest = write_manifest(lease, &found.config_bytes, layers)?;
                Ok(Stored { id, names, target: manifest.clone(), manifest, exact: false })
            }
        }
    }

    fn unpack_layers(&self, storing: &Storing<'_>) -> Result<()> {
        let layers = (0..storing.layers.len()).map(|index| {
            let open = move || storing.open(index);
            let stored = move || match storing.wait(index)? {
                Some(blob) => Ok(self.stored_tar(&blob, &storing.diff_ids[index])),
                None => Ok(None),
            };
            let diff_id = storing.diff_ids[index].clone();
            Layer::new(diff_id, Box::new(open)).stored(Box::new(stored))
        });
        let layers: Vec<Layer<'_>> = layers.collect();
        let ensured = self.snapshots().ensure_layers(&layers);
        ensured.map_err(|e| diff_id_error(e, storing.diff_ids))?;
        Ok(())
    }
}

/// A layer that is not what the configuration says, in Docker's words.
pub(crate) fn diff_id_error(error: hako_snapshot::Error, diff_ids: &[Digest]) -> Error {
    match error {
        hako_snapshot::Error::DiffId { expected, actual } => {
            let index = diff_ids.iter().position(|id| *id == expected).unwrap_or_default();
            Error::DiffId { index, expected, actual }
        }
        other => Error::Snapshot(other),
    }
}

/// Stores the configuration and the manifest of an image that has none.
pub(crate) fn write_manifest(
    lease: &Lease,
    config: &[u8],
    layers: Vec<Descriptor>,
) -> Result<Descriptor> {
    let config = lease.put_bytes(media_type::OCI_CONFIG, config)?;
    Ok(lease.put_bytes(media_type::OCI_MANIFEST, &manifest(config, layers)?)?)
}

/// The manifest of an image that has none. Equal images have equal manifests.
fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
        extra: serde_json::Map::new(),
    };
    serde_json::to_vec(&manifest).map_err(|source| Error::Json { path: "manifest".into(), source })
}

/// Gives an image its names, and says whose they were.
pub(crate) fn publish(names: &Names<'_>, image: Stored) -> Result<Loaded> {
    names::set_image(names, &image.id, &image.manifest)?;
    let mut renamed = Vec::new();
    for reference in &image.names {
        let tag = names::Tag::new(&image.id, image.target.clone(), image.exact);
        match names::set_tag(names, reference, &tag)? {
            Some(old) if old != image.id => renamed.push((reference.clone(), old)),
            _ => {}
        }
    }
    Ok(Loaded { id: image.id, names: image.names, renamed })
}
