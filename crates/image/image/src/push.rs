//! Pushing: from the content store to a registry, byte by byte as it is, but for layers that are not
//! compressed: these are, on the way, as Docker and Podman do it.

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
use hako_oci::{Descriptor, Digest, Platform, Reference, image::Index};
use hako_remote::{Document, Pushed, Repository};

use crate::{
    Error, ImageStore, Result, Step, Travel, Watch,
    names::{self, Catalog, Tag},
    recompress::recompress,
};

/// Blobs that are pushed at once.
const PUSHES: usize = 4;
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;

/// How to push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Only the image for this platform, and no index.
    pub platform: Option<Platform>,
    /// All images of an index, or it fails.
    pub all_platforms: bool,
    /// How layers travel.
    pub travel: Travel,
}

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
pub(crate) struct Plan {
    /// Manifests and indexes, those that others refer to first; the last is what the tag means.
    pub(crate) documents: Vec<Document>,
    /// Configurations and layers, each once.
    blobs: Vec<Descriptor>,
    /// Those of them that are known to be there.
    there: Vec<Digest>,
    only_platform: bool,
}

/// What planning needs to know.
pub(crate) struct Planner<'p> {
    lease: &'p Lease,
    repository: &'p Repository,
    travel: Travel,
    pub(crate) plan: Plan,
    /// What turned out not to be here.
    missing: Option<Digest>,
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
        options: &PushOptions,
        watch: &dyn Watch,
    ) -> Result<PushedImage> {
        let lease = self.content().lease()?;
        let pushed = self.push_held(repository, name, options, watch, &lease);
        let released = lease.release();
        let pushed = pushed?;
        released?;
        Ok(pushed)
    }

    fn push_held(
        &self,
        repository: &Repository,
        name: &Reference,
        options: &PushOptions,
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
        let chosen = match &options.platform {
            None => None,
            Some(wanted) => Some(self.resolve_for(&name.to_string(), wanted)?.descriptor().clone()),
        };
        let planner = Planner::new(lease, repository, options.travel);
        let plan = match chosen {
            Some(manifest) => planner.all_of(&manifest)?,
            None => planner.of_tag(known, image, name, options.all_platforms)?,
        };
        let sources = sources(&catalog, name, lease);
        let (digest, size) = plan.send(repository, lease, &sources, tag, watch)?;
        let only_platform = plan.only_platform;
        Ok(PushedImage { name: name.clone(), digest, size, only_platform })
    }
}

impl Plan {
    /// Sends what is planned, and gives the digest and size of what `word` means there then.
    pub(crate) fn send(
        &self,
        repository: &Repository,
        lease: &Lease,
        sources: &BTreeMap<Digest, String>,
        word: &str,
        watch: &dyn Watch,
    ) -> Result<(Digest, u64)> {
        let Some((top, beneath)) = self.documents.split_last() else {
            return Err(Error::NoTag(repository.name().familiar()));
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.blobs.iter().cloned().partition(|blob| self.there.contains(&blob.digest));
        for layer in &self.blobs {
            watch.layer(layer, Step::Waiting);
        }
        for layer in &known {
            watch.layer(layer, Step::Present);
        }
        push_blobs(repository, lease, &unknown, sources, watch)?;
        for document in beneath {
            repository.put_manifest(&document.descriptor.digest.to_string(), document)?;
        }
        repository.put_manifest(word, top)?;
        Ok((top.descriptor.digest.clone(), top.descriptor.size))
    }
}

impl<'p> Planner<'p> {
    pub(crate) fn new(lease: &'p Lease, repository: &'p Repository, travel: Travel) -> Planner<'p> {
        let plan = Plan {
            documents: Vec::new(),
            blobs: Vec::new(),
            there: Vec::new(),
            only_platform: false,
        };
        Planner { lease, repository, travel, plan, missing: None }
    }

    /// All that is beneath a document, which must be here.
    pub(crate) fn all_of(mut self, root: &Descriptor) -> Result<Plan> {
        match self.add(root, 0)? {
            Some(_) => Ok(self.plan),
            None => {
                let missing = self.missing.unwrap_or_else(|| root.digest.clone());
                Err(Error::Content(hako_content::Error::Missing(missing)))
            }
        }
    }

    /// All that a tag stands for, or, where the rest of an index is not here, this machine's image.
    fn of_tag(
        mut self,
        tag: &Tag,
        image: Option<Descriptor>,
        name: &Reference,
        all_platforms: bool,
    ) -> Result<Plan> {
        if self.add(&tag.target, 0)?.is_some() {
            return Ok(self.plan);
        }
        let missing = self.missing.take().unwrap_or_else(|| tag.target.digest.clone());
        if all_platforms {
            return Err(Error::Incomplete { name: name.familiar(), digest: missing });
        }
        let image = image.ok_or(Error::Content(hako_content::Error::Missing(missing)))?;
        let mut planner = Planner::new(self.lease, self.repository, self.travel);
        planner.plan.only_platform = true;
        planner.all_of(&image)
    }

    /// Adds a document and all beneath it, and gives what it is there; `None` where something of it
    /// is not here.
    pub(crate) fn add(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Option<Descriptor>> {
        if depth > DEPTH_MAX {
            return Err(Error::IndexDepth(descriptor.digest.clone()));
        }
        if !self.lease.keep(descriptor)? {
            self.missing = Some(descriptor.digest.clone());
            return Ok(None);
        }
        let bytes = self.lease.store().document(descriptor)?;
        let mut document = Document { descriptor: descriptor.clone(), bytes };
        let kind = Kind::of(&descriptor.media_type);
        let damaged =
            |why: &str| Error::Damaged { name: descriptor.digest.to_string(), why: why.to_owned() };
        match kind {
            Kind::Leaf => return Err(damaged("it is neither a manifest nor an index")),
            Kind::Index => {
                let parsed = Index::parse(&document.bytes);
                let mut index = parsed.map_err(|e| damaged(&e.to_string()))?;
                let before = index.clone();
                for entry in &mut index.manifests {
                    let Some(there) = self.add(entry, depth + 1)? else { return Ok(None) };
                    *entry = there;
                }
                // What stays is sent byte by byte.
                if index != before {
                    let path = descriptor.digest.to_string();
                    document.bytes = serde_json::to_vec(&index)
                        .map_err(|source| Error::Json { path, source })?;
                    let new = Descriptor::of(&descriptor.media_type, &document.bytes);
                    (document.descriptor.digest, document.descriptor.size) = (new.digest, new.size);
                }
            }
            Kind::Manifest => {
                let below = children(kind, &document.bytes);
                for child in below.ok_or_else(|| damaged("its manifest is none"))? {
                    if !self.lease.keep(&child)? {
                        self.missing = Some(child.digest);
                        return Ok(None);
                    }
                }
                let repository = self.repository;
                let mut is_there = |blob: &Descriptor| Ok(repository.has_blob(blob)?);
                let again = recompress(self.lease, &document, self.travel, &mut is_there)?;
                if let Some((new, there)) = again {
                    document = new;
                    self.plan.there.extend(there.into_iter().map(|blob| blob.digest));
                }
                for child in children(kind, &document.bytes).unwrap_or_default() {
                    if !self.plan.blobs.iter().any(|known| known.digest == child.digest) {
                        self.plan.blobs.push(child);
                    }
                }
            }
        }
        let descriptor = document.descriptor.clone();
        let mut known = self.plan.documents.iter();
        if !known.any(|known| known.descriptor.digest == descriptor.digest) {
            self.plan.documents.push(document);
        }
        Ok(Some(descriptor))
    }
}

/// For each blob, another repository of the same registry that has it, as far as is known here.
pub(crate) fn sources(
    catalog: &Catalog,
    name: &Reference,
    lease: &Lease,
) -> BTreeMap<Digest, String> {
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

pub(crate) fn push_blobs(
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
