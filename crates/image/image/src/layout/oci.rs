//! The OCI image layout (image-layout.md): `oci-layout`, `index.json`, `blobs/`.
//!
//! Each entry of `index.json` is an image, or an index of one image for several platforms, of which
//! one is chosen. The index stays what the image's name stands for.

use std::collections::BTreeMap;

use hako_content::Lease;
use hako_oci::{
    Descriptor, Platform, Reference,
    image::{Index, Layout},
    media_type,
};

use super::{Candidate, Documents, blob, blob_path, exact};
use crate::{Error, Result, archive::Contents};

/// What the layout's images are.
pub(super) const INDEX: &str = "index.json";
/// What says that it is a layout.
const LAYOUT: &str = "oci-layout";
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;
/// The whole name, as containerd and BuildKit write it.
const FULL_NAME: &str = "io.containerd.image.name";
/// The specification's name, which may be a whole one or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What BuildKit calls manifests that are about another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

pub(super) fn find(
    contents: &Contents,
    lease: &Lease,
    index: &[u8],
    platform: &Platform,
) -> Result<Vec<Candidate>> {
    check_version(contents, lease)?;
    let index = parse(INDEX, index)?;
    // Entries with one name are one image for several platforms, as is one nested index.
    let mut groups: BTreeMap<(usize, Option<String>), Vec<Descriptor>> = BTreeMap::new();
    for (n, entry) in index.manifests.into_iter().enumerate() {
        if !is_image_or_index(&entry) {
            continue;
        }
        let name = name(&entry);
        let same = groups.keys().find(|(_, known)| known.is_some() && *known == name);
        let key = same.cloned().unwrap_or((n, name));
        groups.entry(key).or_default().push(entry);
    }
    let mut candidates = Vec::new();
    for ((_, name), entries) in groups {
        let mut candidate = choose(contents, lease, entries, platform, 0)?;
        candidate.names.extend(name.map(reference).transpose()?);
        candidates.push(candidate);
    }
    Ok(candidates)
}

/// Reads what marks a layout, if it is there: containerd does without it too.
fn check_version(contents: &Contents, lease: &Lease) -> Result<()> {
    let Some(bytes) = contents.document(LAYOUT, lease)? else { return Ok(()) };
    let layout: Layout = serde_json::from_slice(&bytes)
        .map_err(|source| Error::Json { path: LAYOUT.into(), source })?;
    match layout.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(Error::LayoutVersion(other.into())),
    }
}

fn parse(path: &str, bytes: &[u8]) -> Result<Index> {
    Index::parse(bytes).map_err(|source| Error::Document { path: path.into(), source })
}

/// The image for `platform` among manifests and indexes that all are one image.
fn choose(
    contents: &Contents,
    lease: &Lease,
    entries: Vec<Descriptor>,
    platform: &Platform,
    depth: usize,
) -> Result<Candidate> {
    // What is not in the archive was left out of it by whoever made it for another platform.
    let mut present = Vec::new();
    for entry in &entries {
        if contents.find(&blob_path(&entry.digest), lease)?.is_some() {
            present.push(entry);
        }
    }
    let matching =
        |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.matches(platform));
    let one = match (present.iter().copied().find(matching), present.as_slice()) {
        (Some(entry), _) => entry.clone(),
        // An image for another platform may be loaded, where nothing says that another was meant.
        (None, [only]) => (*only).clone(),
        (None, []) if !entries.is_empty() => {
            return Err(Error::MissingEntry { path: blob_path(&entries[0].digest) });
        }
        (None, _) => {
            let found = entries.into_iter().filter_map(|entry| entry.platform).collect();
            return Err(Error::Platform { wanted: Box::new(platform.clone()), found });
        }
    };
    let bytes = blob(contents, lease, &one)?;
    if media_type::is_manifest(&one.media_type) {
        return exact(contents, lease, one, &bytes);
    }
    if depth >= DEPTH_MAX {
        return Err(Error::IndexDepth(one.digest));
    }
    let inner = parse(&blob_path(&one.digest), &bytes)?.manifests;
    let inner = inner.into_iter().filter(is_image_or_index).collect();
    let mut candidate = choose(contents, lease, inner, platform, depth + 1)?;
    if let Documents::Exact(exact) = &mut candidate.documents {
        exact.target = one;
    }
    Ok(candidate)
}

/// Whether an entry is an image, rather than something that is about one.
fn is_image_or_index(entry: &Descriptor) -> bool {
    let known =
        media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type);
    known && !entry.annotations.contains_key(REFERENCE_TYPE)
}

/// The name that an entry of `index.json` has, if it is a whole one: a tag alone names nothing.
fn name(entry: &Descriptor) -> Option<String> {
    let name = entry
        .annotations
        .get(FULL_NAME)
        .or_else(|| entry.annotations.get(REF_NAME).filter(|name| name.contains([':', '/'])))?;
    Some(name.clone())
}

fn reference(name: String) -> Result<Reference> {
    let reference: Reference = name.parse().map_err(|_| Error::Tag(name.clone()))?;
    match reference.digest() {
        // A name by digest moves nothing: the digest is the name already.
        Some(_) if reference.tag().is_none() => Err(Error::Tag(name)),
        _ => {
            let tag = reference.tag().unwrap_or("latest").to_owned();
            Ok(reference.with_tag(&tag)?)
        }
    }
}
