//! The layouts of archives and directories: each finds the images in the files it knows.
//!
//! | layout | known by | written by |
//! |---|---|---|
//! | [`docker`] | `manifest.json` | `docker save` since 1.10, and most others |
//! | [`oci`] | `index.json` | tools of OCI; beside `manifest.json` Docker since 25 |
//! | [`legacy`] | `repositories` | `docker save` before 1.10 |

mod docker;
mod go_json;
mod legacy;
mod oci;

use hako_content::{DOCUMENT_BYTES_MAX, Lease};
use hako_docker::archive;
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{ImageConfig, Manifest},
    media_type,
};

use crate::{Error, Result, archive::Contents};

/// An image that was found, and of which nothing but documents was read.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Its names, each with a tag.
    pub names: Vec<Reference>,
    /// The configuration's bytes, and what they say.
    pub config_bytes: Vec<u8>,
    pub config: ImageConfig,
    /// Its layers, lowest first: as many as the configuration has diff IDs.
    pub layers: Vec<LayerFile>,
    /// Its documents, as far as there are any.
    pub documents: Documents,
}

/// A layer in an archive.
#[derive(Debug, Clone)]
pub(crate) struct LayerFile {
    /// Where.
    pub path: String,
    /// What a manifest says of it.
    pub descriptor: Option<Descriptor>,
}

/// What describes an image beside its configuration.
#[derive(Debug)]
pub(crate) enum Documents {
    /// Nothing: a manifest is to be written for it.
    None,
    /// A manifest.
    Exact(Box<Exact>),
}

/// Documents that came with an image, and are stored already.
#[derive(Debug)]
pub(crate) struct Exact {
    pub manifest: Descriptor,
    /// What its names stand for: the manifest, or an index that it was chosen from.
    pub target: Descriptor,
    /// Digest of its configuration.
    pub id: Digest,
}

/// Finds the images.
pub(crate) fn find(
    contents: &Contents,
    lease: &Lease,
    platform: &Platform,
) -> Result<Vec<Candidate>> {
    if let Some(manifest) = contents.document(archive::MANIFEST, lease)? {
        return docker::find(contents, lease, &manifest);
    }
    if let Some(index) = contents.document(oci::INDEX, lease)? {
        return oci::find(contents, lease, &index, platform);
    }
    if let Some(repositories) = contents.document(archive::REPOSITORIES, lease)? {
        return legacy::find(contents, lease, &repositories);
    }
    Err(Error::NoLayout)
}

impl Candidate {
    /// Puts together what was found, and checks that it fits.
    fn new(
        names: Vec<Reference>,
        config_path: &str,
        config_bytes: Vec<u8>,
        layers: Vec<LayerFile>,
        documents: Documents,
    ) -> Result<Candidate> {
        let config = parse_config(config_path, &config_bytes)?;
        check_config(&config, layers.len())?;
        Ok(Candidate { names, config_bytes, config, layers, documents })
    }
}

/// Whether this is a configuration of so many layers that can run here.
pub(crate) fn check_config(config: &ImageConfig, layers: usize) -> Result<()> {
    if !matches!(config.os.as_str(), "linux" | "") {
        return Err(Error::Os { os: config.os.clone() });
    }
    let diff_ids = config.rootfs.diff_ids.len();
    match layers == diff_ids {
        true => Ok(()),
        false => Err(Error::LayerCount { layers, diff_ids }),
    }
}

/// What an image of this configuration runs on.
pub(crate) fn platform_of(config: &ImageConfig) -> Platform {
    let mut platform = Platform::new(&config.os, &config.architecture);
    platform.variant.clone_from(&config.variant);
    platform
}

/// Whether this is the manifest of an image whose layers can be unpacked.
pub(crate) fn check_manifest(digest: &Digest, manifest: &Manifest) -> Result<()> {
    if !media_type::is_config(&manifest.config.media_type) {
        let media_type = manifest.config.media_type.clone();
        return Err(Error::NotAnImage { digest: digest.clone(), media_type });
    }
    match manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        None => Ok(()),
        Some(Descriptor { digest, media_type, .. }) => {
            Err(Error::LayerType { digest: digest.clone(), media_type: media_type.clone() })
        }
    }
}

/// Reads a configuration, with Docker's word for one that is of no image.
pub(crate) fn parse_config(path: &str, bytes: &[u8]) -> Result<ImageConfig> {
    ImageConfig::parse(bytes).map_err(|source| {
        // A document without the field fails in the field's name, whatever else it has.
        let without = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(bytes)
            .is_ok_and(|map| map.get("rootfs").is_none_or(serde_json::Value::is_null));
        match without {
            true => Error::NoRootFs(path.into()),
            false => Error::Document { path: path.into(), source },
        }
    })
}

/// Where a blob is in an OCI layout.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// What an exact manifest says of an image, as a candidate without names.
fn exact(
    contents: &Contents,
    lease: &Lease,
    manifest: Descriptor,
    bytes: &[u8],
) -> Result<Candidate> {
    let path = blob_path(&manifest.digest);
    let parsed = Manifest::parse(bytes).map_err(|source| Error::Document { path, source })?;
    check_manifest(&manifest.digest, &parsed)?;
    let mut layers = Vec::new();
    for layer in parsed.layers {
        layers.push(LayerFile { path: blob_path(&layer.digest), descriptor: Some(layer) });
    }
    let config_path = blob_path(&parsed.config.digest);
    let config = blob(contents, lease, &parsed.config)?;
    let id = parsed.config.digest;
    let documents = Documents::Exact(Box::new(Exact { target: manifest.clone(), manifest, id }));
    Candidate::new(Vec::new(), &config_path, config, layers, documents)
}

/// The bytes of a document of an OCI layout, verified.
fn blob(contents: &Contents, lease: &Lease, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > DOCUMENT_BYTES_MAX {
        return Err(Error::Limit { what: "bytes in a document", limit: DOCUMENT_BYTES_MAX });
    }
    contents.put_as(&blob_path(&descriptor.digest), lease, descriptor)?;
    Ok(lease.store().document(descriptor)?)
}
