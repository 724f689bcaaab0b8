//! The images of a store: finding, naming, unpacking.

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc};

use hako_content::{Names, Store};
use hako_oci::{
    Digest, Platform, Reference,
    image::{Index, Manifest},
    media_type,
};
use hako_snapshot::{Chain, Layer, Snapshotter};

use crate::{
    Error, Image, Result,
    load::diff_id_error,
    names::{self, Tag},
    pull::choose,
};

/// Images: documents and layers in a content store, file systems in a snapshotter.
#[derive(Clone)]
pub struct ImageStore {
    content: Store,
    snapshots: Arc<dyn Snapshotter>,
}

impl ImageStore {
    /// The images of these two stores.
    pub fn new(content: Store, snapshots: Arc<dyn Snapshotter>) -> ImageStore {
        ImageStore { content, snapshots }
    }

    /// The content store.
    pub fn content(&self) -> &Store {
        &self.content
    }

    /// The snapshotter.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        &*self.snapshots
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        // Within the transaction: an image that is removed meanwhile is there until its end.
        let mut images: Vec<Image> = self.content.view(|names| {
            let catalog = names::catalog(names)?;
            catalog.images.keys().map(|id| Image::of(&self.content, &catalog, id)).collect()
        })?;
        images.sort_by(|a, b| b.created().cmp(&a.created()).then_with(|| a.id().cmp(b.id())));
        Ok(images)
    }

    /// The image that `name` means: a name with or without tag, a name by digest, or an ID or the
    /// beginning of one.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        self.content.view(|names| {
            let id = resolve(names, name)?;
            let catalog = names::catalog(names)?;
            Image::of(&self.content, &catalog, &id)
        })
    }

    /// The image for a platform among those that `name` means: the image itself, or another of the
    /// index that its name stands for, as far as that is here.
    pub fn resolve_for(&self, name: &str, wanted: &Platform) -> Result<Image> {
        let image = self.resolve(name)?;
        if image.platform().matches(wanted) {
            return Ok(image);
        }
        let absent =
            || Error::OtherPlatform { name: name.into(), wanted: Box::new(wanted.clone()) };
        let tag = self.content.view(|names| tag_of(names, name))?.ok_or_else(absent)?;
        if !media_type::is_index(&tag.target.media_type) {
            return Err(absent());
        }
        let bytes = self.content.document(&tag.target)?;
        let damaged = |e| Error::Document { path: tag.target.digest.to_string(), source: e };
        let index = Index::parse(&bytes).map_err(damaged)?;
        let entry = choose(index.manifests, wanted).map_err(|_| absent())?;
        match self.content.size(&entry.digest)? {
            Some(size) if size == entry.size => {}
            _ => return Err(absent()),
        }
        let manifest = Manifest::parse(&self.content.document(&entry)?);
        let id = manifest.map_err(damaged)?.config.digest;
        self.resolve(&id.to_string()).map_err(|_| absent())
    }

    /// Gives the image that `source` means another name, and takes it from whoever had it.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<Option<Digest>> {
        let target = target.clone().with_default_tag();
        if target.tag().is_none() || target.digest().is_some() {
            return Err(Error::Tag(target.to_string()));
        }
        self.content.update(|names| {
            let id = resolve(names, source)?;
            // A name may stand for more than the image: an index of it for several platforms.
            let tag = match tag_of(names, source)? {
                Some(tag) => Tag::new(&id, tag.target, tag.exact),
                None => match names::image(names, &id)? {
                    Some(manifest) => Tag::new(&id, manifest, false),
                    None => return Err(Error::NotFound(source.into())),
                },
            };
            let before = names::set_tag(names, &target, &tag)?;
            Ok(before.filter(|before| *before != id))
        })
    }

    /// Makes sure that the image is unpacked. Hold the snapshots from before
    /// [`resolve`](ImageStore::resolve) until something uses the chain.
    pub fn unpack(&self, image: &Image) -> Result<Chain> {
        let blobs = image.manifest().layers.iter().map(|layer| &layer.digest);
        let layers: Vec<_> = blobs.zip(&image.config().rootfs.diff_ids).collect();
        self.unpack_stack(&layers)
    }

    /// The same for layers of no image: each a blob of the store, and its diff ID.
    pub fn unpack_stack(&self, layers: &[(&Digest, &Digest)]) -> Result<Chain> {
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, diff_id)| (*diff_id).clone()).collect();
        let chain = Chain::of(&diff_ids);
        if self.snapshots.has(&chain) {
            return Ok(chain);
        }
        let layers: Vec<Layer<'_>> = layers
            .iter()
            .map(|(blob, diff_id)| {
                let open = || match self.content.blob(blob) {
                    Ok(blob) => Ok(Box::new(blob) as Box<dyn io::Read + Send>),
                    Err(e) => Err(io::Error::other(e)),
                };
                let stored = || Ok(self.stored_tar(blob, diff_id));
                Layer::new((*diff_id).clone(), Box::new(open)).stored(Box::new(stored))
            })
            .collect();
        self.snapshots.ensure_layers(&layers).map_err(|e| diff_id_error(e, &diff_ids))
    }

    /// Where the tar of a layer lies, if its blob, which is in the store, is that tar.
    pub(crate) fn stored_tar(&self, blob: &Digest, diff_id: &Digest) -> Option<PathBuf> {
        (blob == diff_id).then(|| self.content.blob_path(diff_id))
    }

    /// Removes blobs and layers that no image needs, and returns how many bytes that freed.
    pub fn collect(&self) -> Result<u64> {
        let blobs = self.content.collect()?.bytes;
        let mut live = || Ok(self.images()?.iter().map(Image::chain).collect());
        let layers = self.snapshots.gc(&mut live)?.unwrap_or(0);
        Ok(blobs + layers)
    }

    /// Removes what processes left that were killed. Cheap where there is nothing.
    pub fn sweep(&self) -> Result<()> {
        self.content.sweep()?;
        Ok(self.snapshots.sweep()?)
    }

    /// Chain IDs of all images.
    pub(crate) fn live_layers(&self) -> Result<BTreeSet<Digest>> {
        let images = self.images()?;
        Ok(images.iter().flat_map(|image| image.chain().ids().to_vec()).collect())
    }
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").field("content", &self.content).finish_non_exhaustive()
    }
}

/// The ID of the image that `name` means.
pub(crate) fn resolve(names: &Names<'_>, name: &str) -> Result<Digest> {
    if let Some(id) = full_id(name) {
        return match names::image(names, &id)? {
            Some(_) => Ok(id),
            None => Err(Error::NotFound(name.into())),
        };
    }
    if let Some(tag) = tag_of(names, name)? {
        return Ok(tag.image);
    }
    by_id_prefix(names, name)
}

/// The tag that `name` is, if it is one.
pub(crate) fn tag_of(names: &Names<'_>, name: &str) -> Result<Option<Tag>> {
    let Ok(reference) = name.parse::<Reference>() else { return Ok(None) };
    let Some(digest) = reference.digest() else {
        return names::get_tag(names, &reference.with_default_tag());
    };
    // A digest alone decides; a tag beside it only says what the image was called once.
    let tags = names::repository(names, &reference.name())?;
    Ok(tags.into_iter().map(|(_, tag)| tag).find(|tag| tag.target.digest == *digest))
}

/// `sha256:` and all its digits, or the digits alone.
fn full_id(name: &str) -> Option<Digest> {
    name.parse().or_else(|_| format!("sha256:{name}").parse()).ok()
}

fn by_id_prefix(names: &Names<'_>, name: &str) -> Result<Digest> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.is_empty() || !digits.bytes().all(is_hex) {
        return Err(no_such_image(name));
    }
    let mut ids = names::images_with_prefix(names, &format!("sha256:{digits}"))?;
    match ids.len() {
        0 => Err(no_such_image(name)),
        1 => Ok(ids.remove(0)),
        _ => Err(Error::AmbiguousId { prefix: name.into(), ids }),
    }
}

/// Docker says which tag it looked for.
fn no_such_image(name: &str) -> Error {
    match name.parse::<Reference>() {
        Ok(reference) => Error::NotFound(reference.with_default_tag().familiar()),
        Err(_) => Error::NotFound(name.into()),
    }
}
