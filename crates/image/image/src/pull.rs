//! Pulling: from a registry into the content store and, at the same time, into snapshots.
//!
//! Each blob is fetched by one process of the machine at a time ([`Lease::claim`]); what a killed one
//! had is gone on with. While a layer arrives it is unpacked from the growing file: a [`Follow`]
//! reads what is there and waits for more. Nothing that was unpacked is seen before its diff ID was
//! checked, and nothing has a name before all digests were.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hako_content::{DOCUMENT_BYTES_MAX, Lease, Store};
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{ImageConfig, Index, Manifest},
    media_type,
};
use hako_remote::{Document, Repository};
use hako_snapshot::Layer;

use crate::{
    Error, ImageStore, Result, Step, Watch,
    layout::{check_config, check_manifest, parse_config, platform_of},
    load::diff_id_error,
    names::{self, Tag},
};

/// Layers that are fetched at once.
const FETCHES: usize = 4;
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 3;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which image of an index; that for this machine where absent.
    pub platform: Option<Platform>,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name, with a tag or a digest.
    pub name: Reference,
    /// Its ID.
    pub id: Digest,
    /// Digest of what its name stands for.
    pub digest: Digest,
    /// Whether the name stood for something else before, or for nothing.
    pub is_new: bool,
}

/// The documents of an image, verified and stored.
struct Found {
    target: Descriptor,
    descriptor: Descriptor,
    manifest: Manifest,
    config: ImageConfig,
}

impl ImageStore {
    /// Pulls the image that `name` means, which has a tag or a digest, from its repository.
    pub fn pull(
        &self,
        repository: &Repository,
        name: &Reference,
        options: &PullOptions,
        watch: &dyn Watch,
    ) -> Result<Pulled> {
        let lease = self.content().lease()?;
        let pulled = self.pull_held(repository, name, options, watch, lease);
        if pulled.is_err() {
            // Nothing refers to what was stored; what is whole in part stays, to be gone on with.
            drop(self.collect());
        }
        pulled
    }

    fn pull_held(
        &self,
        repository: &Repository,
        name: &Reference,
        options: &PullOptions,
        watch: &dyn Watch,
        lease: Lease,
    ) -> Result<Pulled> {
        let _hold = self.snapshots().hold()?;
        let before = self.content().view(|names| names::get_tag(names, name))?;
        if let Some(tag) = &before
            && options.platform.is_none()
            && self.is_current(repository, name, tag, &lease)?
        {
            watch.manifest(&tag.target.digest);
            let (id, digest) = (tag.image.clone(), tag.target.digest.clone());
            return Ok(Pulled { name: name.clone(), id, digest, is_new: false });
        }
        let document = match (name.digest(), name.tag()) {
            (Some(digest), _) => repository.manifest(&digest.to_string())?,
            (None, tag) => repository.manifest(tag.unwrap_or("latest"))?,
        };
        watch.manifest(&document.descriptor.digest);
        let found = find(repository, &lease, document, options)?;
        self.fetch_layers(repository, &lease, &found, watch)?;
        let id = found.manifest.config.digest.clone();
        let digest = found.target.digest.clone();
        let tag = Tag::new(&id, found.target, true);
        lease.publish(|names| {
            names::set_image(names, &id, &found.descriptor)?;
            names::set_tag(names, name, &tag)
        })?;
        let is_new =
            before.is_none_or(|before| before.image != id || before.target.digest != digest);
        Ok(Pulled { name: name.clone(), id, digest, is_new })
    }

    /// Whether a name that is known here stands for the same there, and all of it is here: without
    /// fetching a manifest, which some registries count.
    fn is_current(
        &self,
        repository: &Repository,
        name: &Reference,
        tag: &Tag,
        lease: &Lease,
    ) -> Result<bool> {
        let Some(word) = name.tag().filter(|_| tag.exact && name.digest().is_none()) else {
            return Ok(false);
        };
        if repository.resolve(word)?.as_ref() != Some(&tag.target.digest) {
            return Ok(false);
        }
        let known = self.resolve(&tag.image.to_string());
        let Ok(image) = known else { return Ok(false) };
        let mut all = vec![&tag.target, image.descriptor(), &image.manifest().config];
        all.extend(&image.manifest().layers);
        for descriptor in all {
            if !lease.keep(descriptor)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches and unpacks all layers.
    fn fetch_layers(
        &self,
        repository: &Repository,
        lease: &Lease,
        found: &Found,
        watch: &dyn Watch,
    ) -> Result<()> {
        let layers = &found.manifest.layers;
        let arrivals: BTreeMap<&Digest, Arrival> =
            layers.iter().map(|layer| (&layer.digest, Arrival::new(layer))).collect();
        for layer in layers {
            watch.layer(layer, Step::Waiting);
        }
        let next = AtomicUsize::new(0);
        let list: Vec<&Arrival> = {
            // In the manifest's order: unpacking begins with the lowest.
            let mut seen = std::collections::BTreeSet::new();
            let unique = layers.iter().filter(|layer| seen.insert(&layer.digest));
            unique.filter_map(|layer| arrivals.get(&layer.digest)).collect()
        };
        let fetch = || -> Result<()> {
            while let Some(arrival) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fetched = arrival.fetch(repository, lease, watch);
                arrival.end(fetched.is_ok());
                if fetched.is_err() {
                    // The others need not begin what will be thrown away; whoever waits for them
                    // has to know.
                    next.store(list.len(), Ordering::Relaxed);
                    list.iter().for_each(|other| other.end_unbegun());
                    return fetched;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..FETCHES.min(list.len())).map(|_| scope.spawn(fetch)).collect();
            let unpacked = self.unpack_arriving(lease.store(), found, &arrivals, watch);
            if unpacked.is_err() {
                next.store(list.len(), Ordering::Relaxed);
            }
            let mut fetched = Ok(());
            for thread in threads {
                let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                fetched = fetched.and(one);
            }
            // What could not be fetched could not be unpacked either.
            fetched?;
            match unpacked {
                Err(_) if arrivals.values().any(|arrival| arrival.lock().again) => {
                    self.unpack_arriving(lease.store(), found, &arrivals, watch)
                }
                unpacked => unpacked,
            }
        })
    }

    fn unpack_arriving(
        &self,
        store: &Store,
        found: &Found,
        arrivals: &BTreeMap<&Digest, Arrival>,
        watch: &dyn Watch,
    ) -> Result<()> {
        let diff_ids = &found.config.rootfs.diff_ids;
        let layers: Vec<Layer<'_>> = found
            .manifest
            .layers
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| {
                let open = move || -> io::Result<Box<dyn Read + Send>> {
                    let arrival = arrivals.get(&layer.digest).ok_or(io::ErrorKind::NotFound)?;
                    arrival.open(store)
                };
                let stored = move || match layer.digest == *diff_id {
                    true => {
                        let arrival = arrivals.get(&layer.digest).ok_or(io::ErrorKind::NotFound)?;
                        arrival.wait()?;
                        Ok(self.stored_tar(&layer.digest, diff_id))
                    }
                    false => Ok(None),
                };
                Layer::new(diff_id.clone(), Box::new(open)).stored(Box::new(stored))
            })
            .collect();
        self.snapshots().ensure_layers(&layers).map_err(|e| diff_id_error(e, diff_ids))?;
        for layer in &found.manifest.layers {
            if let Some(arrival) = arrivals.get(&layer.digest)
                && arrival.arrived()
            {
                watch.layer(layer, Step::Complete);
            }
        }
        Ok(())
    }
}

/// Finds the image in what a name stands for, and stores its documents.
fn find(
    repository: &Repository,
    lease: &Lease,
    document: Document,
    options: &PullOptions,
) -> Result<Found> {
    let host = Platform::host();
    let wanted = options.platform.as_ref().unwrap_or(&host);
    let target = document.descriptor.clone();
    let mut document = document;
    for depth in 0.. {
        let Document { descriptor, bytes } = &document;
        lease.put(descriptor, &bytes[..])?;
        if media_type::is_manifest(&descriptor.media_type) {
            break;
        }
        let path = descriptor.digest.to_string();
        if !media_type::is_index(&descriptor.media_type) {
            let (digest, media_type) = (descriptor.digest.clone(), descriptor.media_type.clone());
            return Err(Error::NotAnImage { digest, media_type });
        }
        if depth == DEPTH_MAX {
            return Err(Error::IndexDepth(descriptor.digest.clone()));
        }
        let index = Index::parse(bytes).map_err(|source| Error::Document { path, source })?;
        let chosen = choose(index.manifests, wanted)?;
        let fetched = repository.manifest(&chosen.digest.to_string())?;
        if fetched.descriptor.size != chosen.size {
            return Err(hako_content::Error::SizeMismatch {
                digest: chosen.digest,
                expected: chosen.size,
                actual: fetched.descriptor.size,
            }
            .into());
        }
        document = fetched;
    }
    let Document { descriptor, bytes } = document;
    let path = descriptor.digest.to_string();
    let manifest = Manifest::parse(&bytes).map_err(|source| Error::Document { path, source })?;
    check_manifest(&descriptor.digest, &manifest)?;
    let config_bytes = match lease.keep(&manifest.config)? {
        true => lease.store().document(&manifest.config)?,
        false => repository.blob(&manifest.config, DOCUMENT_BYTES_MAX)?,
    };
    lease.put(&manifest.config, &config_bytes[..])?;
    let config = parse_config(&manifest.config.digest.to_string(), &config_bytes)?;
    check_config(&config, manifest.layers.len())?;
    if let Some(wanted) = &options.platform {
        let is = platform_of(&config);
        if !is.matches(wanted) {
            return Err(Error::Platform { wanted: Box::new(wanted.clone()), found: vec![is] });
        }
    }
    Ok(Found { target, descriptor, manifest, config })
}

/// The entry of an index for a platform.
pub(crate) fn choose(entries: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor> {
    let usable = |entry: &&Descriptor| {
        media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type)
    };
    let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.matches(wanted));
    if let Some(entry) = entries.iter().filter(usable).find(fits) {
        return Ok(entry.clone());
    }
    // One image that says nothing of its platform is for whoever asks.
    let unsaid: Vec<&Descriptor> =
        entries.iter().filter(usable).filter(|entry| entry.platform.is_none()).collect();
    match unsaid.as_slice() {
        [only] => Ok((*only).clone()),
        _ => {
            let found = entries.into_iter().filter_map(|entry| entry.platform).collect();
            Err(Error::Platform { wanted: Box::new(wanted.clone()), found })
        }
    }
}

/// A layer on its way.
struct Arrival {
    layer: Descriptor,
    shared: Arc<Shared>,
}

/// What its fetcher tells its readers.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where it grows; absent before it is begun, and where it was there already.
    file: Option<Arc<File>>,
    bytes: u64,
    /// Whether all of it is there, or never will be.
    ended: Option<bool>,
    begun: bool,
    /// Whether it was not there before.
    fetched: bool,
    /// Whether it was begun anew, so that what was read of it is worth nothing.
    again: bool,
}

impl Arrival {
    fn new(layer: &Descriptor) -> Arrival {
        Arrival { layer: layer.clone(), shared: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }

    fn end(&self, whole: bool) {
        self.change(|state| state.ended = Some(whole));
    }

    fn end_unbegun(&self) {
        self.change(|state| {
            if !state.begun {
                state.ended = Some(false);
            }
        });
    }

    fn arrived(&self) -> bool {
        self.lock().fetched
    }

    /// Makes sure that it is in the store.
    fn fetch(&self, repository: &Repository, lease: &Lease, watch: &dyn Watch) -> Result<()> {
        self.change(|state| state.begun = true);
        loop {
            let Some(mut partial) = lease.claim(&self.layer)? else {
                if !self.lock().fetched {
                    watch.layer(&self.layer, Step::Present);
                }
                return Ok(());
            };
            let resumed = partial.size();
            let file = Arc::new(partial.reader()?);
            self.change(|state| {
                state.fetched = true;
                state.bytes = resumed;
                state.file = Some(file);
            });
            watch.layer(&self.layer, Step::Bytes(resumed));
            repository.fetch(&self.layer, resumed, &mut |bytes| {
                if watch.is_cancelled() {
                    return Err(io::Error::from(io::ErrorKind::Interrupted).into());
                }
                partial.append(bytes)?;
                let size = partial.size();
                self.change(|state| state.bytes = size);
                watch.layer(&self.layer, Step::Bytes(size));
                Ok(())
            })?;
            match partial.commit() {
                // What was there from before was no beginning of it: all of it anew.
                Err(hako_content::Error::DigestMismatch { .. }) if resumed > 0 => {
                    self.change(|state| state.again = true);
                }
                done => {
                    done?;
                    watch.layer(&self.layer, Step::Arrived);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until all of it is in the store.
    fn wait(&self) -> io::Result<()> {
        match self.shared.wait(self.lock(), |_| false).ended {
            Some(true) => Ok(()),
            _ => Err(gone()),
        }
    }

    /// Its content, as far as it is there and as it comes.
    fn open(&self, store: &Store) -> io::Result<Box<dyn Read + Send>> {
        let state = self.shared.wait(self.lock(), |state| state.file.is_some());
        match (state.ended, &state.file) {
            (Some(false), _) => Err(gone()),
            (None, Some(file)) => {
                let (file, shared) = (Arc::clone(file), Arc::clone(&self.shared));
                Ok(Box::new(Follow { shared, file, at: 0 }))
            }
            _ => {
                drop(state);
                let blob = store.blob(&self.layer.digest).map_err(io::Error::other)?;
                Ok(Box::new(blob))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so, or nothing changes any more.
    fn wait<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        is_so: impl Fn(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        while state.ended.is_none() && !is_so(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

/// Reads a layer while it grows.
struct Follow {
    shared: Arc<Shared>,
    file: Arc<File>,
    at: u64,
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let state = self.shared.wait(self.shared.lock(), |state| state.bytes > at || state.again);
        if state.ended == Some(false) || state.again {
            return Err(gone());
        }
        let there = state.bytes.saturating_sub(at);
        drop(state);
        let wanted = there.min(buffer.len() as u64) as usize;
        let n = self.file.read_at(&mut buffer[..wanted], at)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn gone() -> io::Error {
    io::Error::other("its download failed")
}
