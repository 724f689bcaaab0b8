//! What names of the content store mean to images.
//!
//! ```text
//! image/<ID>           → manifest                 every image, whatever names it has
//! tag/<domain/path:tag> → manifest or index       labels: `image` its ID, `tagged` when,
//!                                                 `exact` if the target came as it is
//! tag/<domain/path@digest>                        the same, pulled by its digest alone
//! ```
//!
//! An image without a tag is dangling. The manifest of an ID is the last that was loaded with it:
//! images of one ID have the same configuration, and so the same layers, however compressed.

use std::collections::BTreeMap;

use hako_content::{Named, Names};
use hako_oci::{Descriptor, Digest, Reference};

use crate::{Error, Result, time};

const IMAGE: &str = "image/";
const TAG: &str = "tag/";

/// A tag's target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tag {
    /// The image that it means here.
    pub image: Digest,
    /// Manifest or index.
    pub target: Descriptor,
    /// Whether the target's digest is one that registries may know.
    pub exact: bool,
    /// When it was given, RFC 3339.
    pub tagged: String,
}

impl Tag {
    pub(crate) fn new(image: &Digest, target: Descriptor, exact: bool) -> Tag {
        Tag { image: image.clone(), target, exact, tagged: time::now() }
    }
}

/// All images and all tags, as they are at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub images: BTreeMap<Digest, Descriptor>,
    pub tags: BTreeMap<Reference, Tag>,
}

pub(crate) fn catalog(names: &Names<'_>) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for named in names.with_prefix(IMAGE)? {
        let id = named.name[IMAGE.len()..].parse();
        let id = id.map_err(|e| damaged(&named, format!("{e}")))?;
        catalog.images.insert(id, named.target);
    }
    for named in names.with_prefix(TAG)? {
        let reference = named.name[TAG.len()..].parse();
        let reference: Reference = reference.map_err(|e| damaged(&named, format!("{e}")))?;
        catalog.tags.insert(reference, tag(named)?);
    }
    Ok(catalog)
}

/// The manifest of an image.
pub(crate) fn image(names: &Names<'_>, id: &Digest) -> Result<Option<Descriptor>> {
    Ok(names.get(&format!("{IMAGE}{id}"))?.map(|named| named.target))
}

/// IDs that begin with `prefix`, which has the algorithm before it.
pub(crate) fn images_with_prefix(names: &Names<'_>, prefix: &str) -> Result<Vec<Digest>> {
    let found = names.with_prefix(&format!("{IMAGE}{prefix}"))?;
    let id = |named: Named| {
        named.name[IMAGE.len()..].parse().map_err(|e| damaged(&named, format!("{e}")))
    };
    found.into_iter().map(id).collect()
}

pub(crate) fn get_tag(names: &Names<'_>, reference: &Reference) -> Result<Option<Tag>> {
    names.get(&format!("{TAG}{reference}"))?.map(tag).transpose()
}

/// The tags of one repository, and its names by digest.
pub(crate) fn repository(names: &Names<'_>, name: &str) -> Result<Vec<(Reference, Tag)>> {
    let mut tags = Vec::new();
    let by_digest = names.with_prefix(&format!("{TAG}{name}@"))?;
    for named in names.with_prefix(&format!("{TAG}{name}:"))?.into_iter().chain(by_digest) {
        let reference = named.name[TAG.len()..].parse();
        let reference: Reference = reference.map_err(|e| damaged(&named, format!("{e}")))?;
        tags.push((reference, tag(named)?));
    }
    // `localhost:5000/a` is found under `localhost`, whose tag 5000/a would be.
    tags.retain(|(reference, _)| reference.name() == name);
    Ok(tags)
}

pub(crate) fn set_image(names: &Names<'_>, id: &Digest, manifest: &Descriptor) -> Result<()> {
    Ok(names.set(&format!("{IMAGE}{id}"), manifest, &BTreeMap::new())?)
}

/// Sets a tag, and returns the image that it meant before.
pub(crate) fn set_tag(
    names: &Names<'_>,
    reference: &Reference,
    tag: &Tag,
) -> Result<Option<Digest>> {
    let before = get_tag(names, reference)?.map(|tag| tag.image);
    let mut labels = BTreeMap::from([
        ("image".to_owned(), tag.image.to_string()),
        ("tagged".to_owned(), tag.tagged.clone()),
    ]);
    if tag.exact {
        labels.insert("exact".into(), String::new());
    }
    names.set(&format!("{TAG}{reference}"), &tag.target, &labels)?;
    Ok(before)
}

pub(crate) fn remove_tag(names: &Names<'_>, reference: &Reference) -> Result<bool> {
    Ok(names.remove(&format!("{TAG}{reference}"))?)
}

pub(crate) fn remove_image(names: &Names<'_>, id: &Digest) -> Result<bool> {
    Ok(names.remove(&format!("{IMAGE}{id}"))?)
}

fn tag(named: Named) -> Result<Tag> {
    let image = named.labels.get("image").map(|id| id.parse());
    let image = match image {
        Some(Ok(image)) => image,
        Some(Err(e)) => return Err(damaged(&named, format!("label `image`: {e}"))),
        None => return Err(damaged(&named, "label `image` is missing".into())),
    };
    let tagged = named.labels.get("tagged").cloned().unwrap_or_default();
    let exact = named.labels.contains_key("exact");
    Ok(Tag { image, target: named.target, exact, tagged })
}

fn damaged(named: &Named, why: String) -> Error {
    Error::Damaged { name: named.name.clone(), why }
}
