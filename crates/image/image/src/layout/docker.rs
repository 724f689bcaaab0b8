//! `manifest.json`: a list of images, each with its configuration, its layers and its names.
//!
//! Since Docker 25 the paths lead into `blobs/`, and an OCI layout stands beside. Where that has a
//! manifest of an image of the list, it is kept as it is, and with it the digest that registries
//! know; what is in the list decides nevertheless, as it does for Docker.

use std::collections::HashMap;

use hako_content::Lease;
use hako_docker::archive::{ManifestItem, parse_manifest};
use hako_oci::{
    Descriptor, Digest, Reference,
    image::{Index, Manifest},
    media_type,
};

use super::{Candidate, Documents, LayerFile, blob, blob_path, exact, oci};
use crate::{Error, Result, archive::Contents};

/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;

pub(super) fn find(contents: &Contents, lease: &Lease, bytes: &[u8]) -> Result<Vec<Candidate>> {
    let items = parse_manifest(bytes)?;
    let manifests = match contents.document(oci::INDEX, lease)? {
        Some(index) => manifests(contents, lease, &index)?,
        None => HashMap::new(),
    };
    items.into_iter().map(|item| candidate(contents, lease, item, &manifests)).collect()
}

fn candidate(
    contents: &Contents,
    lease: &Lease,
    item: ManifestItem,
    manifests: &HashMap<Digest, Descriptor>,
) -> Result<Candidate> {
    let config = contents.document_required(&item.config, lease)?;
    let mut names = Vec::new();
    for name in item.repo_tags.unwrap_or_default() {
        let reference: Reference = name.parse().map_err(|_| Error::Tag(name.clone()))?;
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(Error::Tag(name));
        }
        names.push(reference);
    }
    if let Some(manifest) = manifests.get(&Digest::sha256(&config)) {
        let bytes = blob(contents, lease, manifest)?;
        let mut candidate = exact(contents, lease, manifest.clone(), &bytes)?;
        if has_all(contents, lease, &candidate.layers)? {
            candidate.names = names;
            return Ok(candidate);
        }
    }
    let layers = item.layers.into_iter().map(|path| LayerFile { path, descriptor: None }).collect();
    Candidate::new(names, &item.config, config, layers, Documents::None)
}

fn has_all(contents: &Contents, lease: &Lease, layers: &[LayerFile]) -> Result<bool> {
    for layer in layers {
        if contents.find(&layer.path, lease)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The manifests of the OCI layout beside, by the digest of their configuration.
fn manifests(
    contents: &Contents,
    lease: &Lease,
    index: &[u8],
) -> Result<HashMap<Digest, Descriptor>> {
    let parse = |path: &str, bytes: &[u8]| {
        Index::parse(bytes).map_err(|source| Error::Document { path: path.into(), source })
    };
    let mut manifests = HashMap::new();
    let top = parse(oci::INDEX, index)?.manifests;
    let mut to_visit: Vec<_> = top.into_iter().map(|manifest| (manifest, 0)).collect();
    while let Some((descriptor, depth)) = to_visit.pop() {
        let path = blob_path(&descriptor.digest);
        let is_index = media_type::is_index(&descriptor.media_type);
        if !is_index && !media_type::is_manifest(&descriptor.media_type)
            || contents.find(&path, lease)?.is_none()
        {
            continue;
        }
        let bytes = blob(contents, lease, &descriptor)?;
        if !is_index {
            let manifest = Manifest::parse(&bytes);
            let manifest = manifest.map_err(|source| Error::Document { path, source })?;
            if media_type::is_config(&manifest.config.media_type) {
                manifests.entry(manifest.config.digest).or_insert(descriptor);
            }
        } else if depth < DEPTH_MAX {
            let inner = parse(&path, &bytes)?.manifests;
            to_visit.extend(inner.into_iter().map(|manifest| (manifest, depth + 1)));
        } else {
            return Err(Error::IndexDepth(descriptor.digest));
        }
    }
    Ok(manifests)
}
