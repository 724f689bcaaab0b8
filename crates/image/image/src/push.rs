//! Pushing: from the content store to a registry, byte by byte as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hako_content::{Kind, Lease, children};
use hako_oci::{Descriptor, Digest, Reference};
use hako_remote::{Document, Pushed, Repository};

use crate::{
    Error, ImageStore, Result, Step, Watch,
    names::{self, Catalog, Tag},
};

/// Blobs that are pushed at once.
const PUSHES: usize = 4;
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;

/// An image that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// Its name, with its tag.
    pub name: Reference,
    /// Digest of the manifest or index that the tag stands for there.
    pub digest: Digest,
    /// That document's bytes.
    pub size: u64,
    /// Whether the name is of several platforms here and only this machine's was pushed, because
    /// the others are not here.
    pub only_platform: bool,
}

/// What is to be pushed for one tag.
struct Plan {
    /// Manifests and indexes, those that others refer to first; the last is what the tag means.
    documents: Vec<Document>,
    /// Configurations and layers, each once.
    blobs: Vec<Descriptor>,
    only_platform: bool,
}

impl ImageStore {
    /// The tags that a repository has here.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let tags = self.content().view(|names| names::repository(names, &repository.name()))?;
        Ok(tags.into_iter().map(|(name, _)| name).filter(|name| name.tag().is_some()).collect())
    }

    /// Pushes what `name`, which has a tag, stands for to its repository.
    pub fn push(
        &self,
        repository: &Repository,
        name: &Reference,
        watch: &dyn Watch,
    ) -> Result<PushedImage> {
        let lease = self.content().lease()?;
        let pushed = self.push_held(repository, name, watch, &lease);
        let released = lease.release();
        let pushed = pushed?;
        released?;
        Ok(pushed)
    }

    fn push_held(
        &self,
        repository: &Repository,
        name: &Reference,
        watch: &dyn Watch,
        lease: &Lease,
    ) -> Result<PushedImage> {
        let no_tag = || Error::NoTag(name.familiar());
        let tag = name.tag().ok_or_else(no_tag)?;
        let (catalog, image) = self.content().view(|names| {
            let catalog = names::catalog(names)?;
            let image = match catalog.tags.get(name) {
                Some(tag) => names::image(names, &tag.image)?,
                None => None,
            };
            Ok::<_, Error>((catalog, image))
        })?;
        let known = catalog.tags.get(name).ok_or_else(no_tag)?;
        let plan = plan(lease, known, image)?;
        for layer in &plan.blobs {
            watch.layer(layer, Step::Waiting);
        }
        let sources = sources(&catalog, name, lease);
        push_blobs(repository, lease, &plan.blobs, &sources, watch)?;
        let Some((top, beneath)) = plan.documents.split_last() else { return Err(no_tag()) };
        for document in beneath {
            repository.put_manifest(&document.descriptor.digest.to_string(), document)?;
        }
        repository.put_manifest(tag, top)?;
        Ok(PushedImage {
            name: name.clone(),
            digest: top.descriptor.digest.clone(),
            size: top.descriptor.size,
            only_platform: plan.only_platform,
        })
    }
}

/// All that a tag stands for, or, where the rest of an index is not here, this machine's image.
fn plan(lease: &Lease, tag: &Tag, image: Option<Descriptor>) -> Result<Plan> {
    let mut plan = Plan { documents: Vec::new(), blobs: Vec::new(), only_platform: false };
    if add(&mut plan, lease, &tag.target, 0)? {
        return Ok(plan);
    }
    plan = Plan { documents: Vec::new(), blobs: Vec::new(), only_platform: true };
    match image {
        Some(manifest) if add(&mut plan, lease, &manifest, 0)? => Ok(plan),
        _ => Err(Error::Content(hako_content::Error::Missing(tag.image.clone()))),
    }
}

/// Adds a document and all beneath it; false where something is not here.
fn add(plan: &mut Plan, lease: &Lease, descriptor: &Descriptor, depth: usize) -> Result<bool> {
    if depth > DEPTH_MAX {
        return Err(Error::IndexDepth(descriptor.digest.clone()));
    }
    if !lease.keep(descriptor)? {
        return Ok(false);
    }
    let bytes = lease.store().document(descriptor)?;
    let kind = Kind::of(&descriptor.media_type);
    let Some(below) = children(kind, &bytes) else {
        let why = "it is neither a manifest nor an index".into();
        return Err(Error::Damaged { name: descriptor.digest.to_string(), why });
    };
    for child in below {
        if kind == Kind::Index {
            if !add(plan, lease, &child, depth + 1)? {
                return Ok(false);
            }
        } else if !plan.blobs.iter().any(|known| known.digest == child.digest) {
            if !lease.keep(&child)? {
                return Ok(false);
            }
            plan.blobs.push(child);
        }
    }
    if !plan.documents.iter().any(|known| known.descriptor.digest == descriptor.digest) {
        plan.documents.push(Document { descriptor: descriptor.clone(), bytes });
    }
    Ok(true)
}

/// For each blob, another repository of the same registry that has it, as far as is known here.
fn sources(catalog: &Catalog, name: &Reference, lease: &Lease) -> BTreeMap<Digest, String> {
    let mut sources = BTreeMap::new();
    for (other, tag) in &catalog.tags {
        if other.domain() != name.domain() || other.path() == name.path() || !tag.exact {
            continue;
        }
        let Some(manifest) = catalog.images.get(&tag.image) else { continue };
        // What cannot be read here is no source; it is sent then.
        let Ok(bytes) = lease.store().document(manifest) else { continue };
        for blob in children(Kind::of(&manifest.media_type), &bytes).unwrap_or_default() {
            sources.entry(blob.digest).or_insert_with(|| other.path().to_owned());
        }
    }
    sources
}

fn push_blobs(
    repository: &Repository,
    lease: &Lease,
    blobs: &[Descriptor],
    sources: &BTreeMap<Digest, String>,
    watch: &dyn Watch,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let from = sources.get(&blob.digest).map(String::as_str);
            if let Err(error) = push_blob(repository, lease, blob, from, watch) {
                next.store(blobs.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        let distinct: BTreeSet<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
        for _ in 1..PUSHES.min(distinct.len()) {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

fn push_blob(
    repository: &Repository,
    lease: &Lease,
    blob: &Descriptor,
    from: Option<&str>,
    watch: &dyn Watch,
) -> Result<()> {
    let open = |at: u64| -> std::io::Result<Box<dyn Read + Send>> {
        let mut content = lease.store().blob(&blob.digest).map_err(std::io::Error::other)?;
        content.seek(SeekFrom::Start(at))?;
        Ok(Box::new(content))
    };
    let mut progress = |bytes| watch.layer(blob, Step::Bytes(bytes));
    let step = match repository.push_blob(blob, from, &open, &mut progress)? {
        Pushed::Present => Step::Present,
        Pushed::Mounted => Step::Mounted,
        Pushed::Uploaded => Step::Arrived,
    };
    watch.layer(blob, step);
    Ok(())
}
