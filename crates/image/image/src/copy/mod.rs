//! Copying an image from one place to another, byte by byte, without a store between them.
//!
//! ```text
//! docker://NAME[:TAG|@DIGEST]        a registry
//! oci:DIRECTORY[:REF]                an OCI image layout
//! oci-archive:FILE[:REF]             the same in a tar
//! docker-archive:FILE[:NAME:TAG]     what docker load reads
//! dir:DIRECTORY                      manifest.json, and blobs by their digits, as skopeo has it
//! NAME[:TAG]                         the store
//! ```
//!
//! A [`Source`](source::Source) has documents and blobs by digest, a [`Sink`](sink::Sink) takes them;
//! what goes between is verified on the way, and whatever a digest names stays what it was.

mod place;
mod sink;
mod source;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hako_content::{Kind, children};
use hako_oci::{Descriptor, Digest, Platform, Reference, image::Index, media_type};
use hako_remote::{Client, Document};

pub use self::place::Place;
use self::{sink::Sink, source::Source};
use crate::{Error, ImageStore, Result, Watch, pull::choose};

/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;
/// Blobs that are copied at once, where the sink can take them so.
const COPIES: usize = 4;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// All images of an index, and not only one.
    pub all: bool,
    /// Which one; that for this machine where absent.
    pub platform: Option<Platform>,
    /// What is about it as well, and what is about that; from registry to registry.
    pub referrers: bool,
}

/// How far referrers of referrers are followed.
const REFERRERS_DEPTH_MAX: usize = 4;
/// How many are copied with one image.
const REFERRERS_MAX: usize = 1000;

/// What a copy needs beside its two places.
pub struct Copier<'c> {
    /// For registries.
    pub client: &'c Client,
    /// For names in the store, where one of the places is one.
    pub store: Option<&'c ImageStore>,
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").finish_non_exhaustive()
    }
}

/// What is copied.
struct Plan {
    /// Those that others refer to first; the last is the root.
    documents: Vec<Document>,
    blobs: Vec<Descriptor>,
}

impl Copier<'_> {
    /// Copies an image, and gives the descriptor of what it is at its new place.
    pub fn copy(
        &self,
        from: &Place,
        to: &Place,
        options: &CopyOptions,
        watch: &dyn Watch,
    ) -> Result<Descriptor> {
        let source = Source::open(self, from)?;
        let mut root = source.root()?;
        if media_type::is_index(&root.descriptor.media_type) && !options.all {
            root = one_of(&source, root, options)?;
        }
        let descriptor = root.descriptor.clone();
        watch.manifest(&descriptor.digest);
        let mut plan = Plan { documents: Vec::new(), blobs: Vec::new() };
        add(&mut plan, &source, root, 0)?;
        let sink = Sink::create(self, to, from)?;
        for blob in &plan.blobs {
            watch.layer(blob, crate::Step::Waiting);
        }
        copy_blobs(&source, &sink, &plan.blobs, watch)?;
        let copied: Vec<Digest> =
            plan.documents.iter().map(|document| document.descriptor.digest.clone()).collect();
        sink.finish(plan.documents)?;
        if options.referrers {
            let (Place::Registry(from), Place::Registry(to)) = (from, to) else {
                return Err(Error::Referrers);
            };
            self.copy_referrers(from, to, copied, watch)?;
        }
        Ok(descriptor)
    }

    /// Copies what is about manifests that were copied.
    fn copy_referrers(
        &self,
        from: &Reference,
        to: &Reference,
        mut subjects: Vec<Digest>,
        watch: &dyn Watch,
    ) -> Result<()> {
        let repository = self.client.repository(from)?;
        let mut done: BTreeSet<Digest> = subjects.iter().cloned().collect();
        let at = |name: &Reference, digest: &Digest| -> Result<Place> {
            Ok(Place::Registry(name.name().parse::<Reference>()?.with_digest(digest.clone())))
        };
        let options = CopyOptions { all: true, ..CopyOptions::default() };
        for _ in 0..REFERRERS_DEPTH_MAX {
            let mut next = Vec::new();
            for subject in &subjects {
                for found in repository.referrers(subject, None)? {
                    if !done.insert(found.digest.clone()) {
                        continue;
                    }
                    if done.len() > REFERRERS_MAX {
                        let limit = REFERRERS_MAX as u64;
                        return Err(Error::Limit { what: "referrers", limit });
                    }
                    let (from, to) = (at(from, &found.digest)?, at(to, &found.digest)?);
                    self.copy(&from, &to, &options, watch)?;
                    next.push(found.digest);
                }
            }
            subjects = next;
        }
        Ok(())
    }
}

/// The image of an index that is wanted.
fn one_of(source: &Source, root: Document, options: &CopyOptions) -> Result<Document> {
    let host = Platform::host();
    let wanted = options.platform.as_ref().unwrap_or(&host);
    let mut document = root;
    for depth in 0.. {
        if !media_type::is_index(&document.descriptor.media_type) {
            break;
        }
        if depth == DEPTH_MAX {
            return Err(Error::IndexDepth(document.descriptor.digest));
        }
        let path = document.descriptor.digest.to_string();
        let index =
            Index::parse(&document.bytes).map_err(|source| Error::Document { path, source })?;
        document = source.document(&choose(index.manifests, wanted)?)?;
    }
    Ok(document)
}

fn add(plan: &mut Plan, source: &Source, document: Document, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::IndexDepth(document.descriptor.digest));
    }
    let known = |plan: &Plan, digest| plan.documents.iter().any(|d| d.descriptor.digest == digest);
    if known(plan, document.descriptor.digest.clone()) {
        return Ok(());
    }
    let kind = Kind::of(&document.descriptor.media_type);
    let Some(below) = children(kind, &document.bytes) else {
        let why = "it is neither a manifest nor an index".into();
        return Err(Error::Damaged { name: document.descriptor.digest.to_string(), why });
    };
    for child in below {
        match kind {
            Kind::Index => {
                let document = source.document(&child)?;
                add(plan, source, document, depth + 1)?;
            }
            _ if plan.blobs.iter().any(|blob| blob.digest == child.digest) => {}
            _ => plan.blobs.push(child),
        }
    }
    plan.documents.push(document);
    Ok(())
}

fn copy_blobs(
    source: &Source,
    sink: &Sink<'_>,
    blobs: &[Descriptor],
    watch: &dyn Watch,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let open = |at: u64| -> io::Result<Box<dyn Read + Send>> { source.blob(blob, at) };
            if let Err(error) = sink.put(blob, &open, watch) {
                next.store(blobs.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        let many = if sink.takes_many() { COPIES.min(blobs.len()) } else { 1 };
        for _ in 1..many {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}
