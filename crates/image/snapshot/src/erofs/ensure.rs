//! Making what is missing of a chain: tars, listed while they are kept, and the chain's index.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hako_layer::Listing;
use hako_oci::Digest;

use super::{Erofs, LIMITS, TarRecord, index, layer_error, make_dir};
use crate::{
    Chain, Error, Layer, Result,
    lock::Named,
    overlay::{LayerRecord, write_record},
};

/// One call that makes what is missing of a chain. It holds the locks of all that it makes.
pub(super) struct Ensure<'e, 'l, 'a> {
    store: &'e Erofs,
    layers: &'l [Layer<'a>],
    chain: &'l Chain,
    missing: Vec<(usize, Named)>,
    /// By diff ID; sorted, so that nobody waits in a circle. Taken after those of `missing`.
    tars: BTreeMap<String, Named>,
}

impl<'e, 'l, 'a> Ensure<'e, 'l, 'a> {
    pub(super) fn new(store: &'e Erofs, layers: &'l [Layer<'a>], chain: &'l Chain) -> Result<Self> {
        let mut missing = Vec::new();
        // Lowest first: chains that share a layer share all below it.
        for (n, id) in chain.ids().iter().enumerate() {
            if !store.store.layer_dir(id).exists() {
                let lock = store.store.lock(id)?;
                if !store.store.layer_dir(id).exists() {
                    missing.push((n, lock));
                }
            }
        }
        let mut tars = BTreeMap::new();
        let wanted: BTreeMap<String, &Digest> = layers
            .iter()
            .map(|layer| (layer.diff_id.hex().to_owned(), &layer.diff_id))
            .filter(|(_, diff_id)| !store.tar_dir(diff_id).exists())
            .collect();
        for (name, diff_id) in wanted {
            let staged = store.staged_tar(diff_id);
            let lock = Named::take(staged.with_extension("lock"))?;
            if !store.tar_dir(diff_id).exists() {
                tars.insert(name, lock);
            }
        }
        Ok(Ensure { store, layers, chain, missing, tars })
    }

    pub(super) fn run(self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let result = self.make();
        if result.is_err() {
            // What cannot be removed now is removed by the next sweep: the first error counts.
            for layer in self.layers {
                if self.tars.contains_key(layer.diff_id.hex()) {
                    self.store.store.discard(&self.store.staged_tar(&layer.diff_id)).ok();
                }
            }
            for (n, _) in &self.missing {
                let staged = self.store.store.staging_dir(&self.chain.ids()[*n]);
                self.store.store.discard(&staged).ok();
            }
        }
        result
    }

    fn make(&self) -> Result<()> {
        let usable = |n: &usize| {
            let name = self.layers[*n].diff_id.hex();
            !self.tars.contains_key(name) && self.missing.iter().all(|(missing, _)| missing != n)
        };
        let there = (0..self.layers.len()).take_while(usable).count();
        let (below, count) = self.store.below(self.chain.ids(), there)?;
        let listings = self.list_all(count)?;
        let sizes: Vec<u64> = listings.iter().map(|(_, listing)| listing.size_bytes).collect();
        let mut unmerged = Some((below, listings));
        let store = &self.store.store;
        let Some(top) = self.chain.top() else { return Ok(()) };
        for (n, _) in &self.missing {
            let id = &self.chain.ids()[*n];
            let staged = store.staging_dir(id);
            store.discard(&staged)?;
            make_dir(&staged)?;
            if id == top
                && let Some((below, listings)) = unmerged.take()
            {
                index::write(&staged.join("index"), below, listings, top)?;
            }
            let diff_id = self.layers[*n].diff_id.clone();
            let parent = n.checked_sub(1).map(|below| self.chain.ids()[below].clone());
            let size_bytes = sizes[*n - count];
            write_record(&staged, &LayerRecord { diff_id, parent, size_bytes })?;
        }
        // Once for all: whatever is in its place survives a power cut.
        let staging = store.staging();
        let dir = File::open(&staging).map_err(Error::io("open", &staging))?;
        hako_sys::fs::syncfs(dir.as_fd()).map_err(|e| Error::io("syncfs", &staging)(e.into()))?;
        let mut moved = HashSet::new();
        for layer in self.layers {
            let name = layer.diff_id.hex();
            if self.tars.contains_key(name) && moved.insert(name) {
                let from = self.store.staged_tar(&layer.diff_id);
                let to = self.store.tar_dir(&layer.diff_id);
                fs::rename(&from, to).map_err(Error::io("rename", from))?;
            }
        }
        for (n, _) in &self.missing {
            let id = &self.chain.ids()[*n];
            let (from, to) = (store.staging_dir(id), store.layer_dir(id));
            fs::rename(&from, to).map_err(Error::io("rename", from))?;
        }
        Ok(())
    }

    /// What is in each layer from the `from`th on; tars that are not there are kept on the way, as
    /// many at once as there are processors.
    fn list_all(&self, from: usize) -> Result<Vec<(Digest, Arc<Listing>)>> {
        let first = |n: usize| {
            let id = &self.layers[n].diff_id;
            self.layers[from..n].iter().all(|layer| layer.diff_id != *id)
        };
        let jobs: Vec<usize> = (from..self.layers.len()).filter(|&n| first(n)).collect();
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
        let next = AtomicUsize::new(0);
        let results: Mutex<BTreeMap<usize, Result<Listing>>> = Mutex::default();
        let work = || {
            while let Some(&n) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.list_one(&self.layers[n]);
                if result.is_err() {
                    // The others need not begin what will be thrown away.
                    next.store(jobs.len(), Ordering::Relaxed);
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).insert(n, result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        let mut listings: BTreeMap<String, Arc<Listing>> = BTreeMap::new();
        for (n, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            listings.insert(self.layers[n].diff_id.hex().to_owned(), Arc::new(result?));
        }
        let listing = |layer: &Layer<'_>| {
            let listing = listings.get(layer.diff_id.hex()).cloned();
            Ok((layer.diff_id.clone(), listing.ok_or(Error::NoChain(layer.diff_id.clone()))?))
        };
        self.layers[from..].iter().map(listing).collect()
    }

    fn list_one(&self, layer: &Layer<'_>) -> Result<Listing> {
        let expected = &layer.diff_id;
        if !self.tars.contains_key(expected.hex()) {
            return self.store.list(expected);
        }
        let dir = self.store.staged_tar(expected);
        self.store.store.discard(&dir)?;
        make_dir(&dir)?;
        let (tar, sparse) = (dir.join("tar"), dir.join("sparse"));
        let create = |path: &Path| File::create_new(path).map_err(Error::io("create", path));
        let failed = |source| Error::Open { diff_id: expected.clone(), source };
        let sparse_file = create(&sparse)?;
        let linked = match (layer.stored)().map_err(failed)? {
            Some(stored) => link(&stored, &tar)?,
            None => None,
        };
        let (listing, tar_bytes) = match linked {
            Some(file) => hako_layer::keep_sparse(&file, &sparse_file, &LIMITS)
                .map(|listing| {
                    let bytes = listing.tar_bytes;
                    (listing, bytes)
                })
                .map_err(|source| layer_error(expected, source))?,
            None => {
                let reader = (layer.open)().map_err(failed)?;
                let (listing, digests) =
                    hako_layer::keep(reader, &create(&tar)?, &sparse_file, &LIMITS)
                        .map_err(|source| layer_error(expected, source))?;
                if digests.diff_id != *expected {
                    let (expected, actual) = (expected.clone(), digests.diff_id);
                    return Err(Error::DiffId { expected, actual });
                }
                (listing, digests.tar_bytes)
            }
        };
        if listing.sparse_bytes == 0 {
            fs::remove_file(&sparse).map_err(Error::io("remove", &sparse))?;
        }
        let (sparse_bytes, size_bytes) = (listing.sparse_bytes, listing.size_bytes);
        let record = TarRecord { tar_bytes, sparse_bytes, size_bytes };
        let path = dir.join("tar.json");
        let text = serde_json::to_vec(&record).map_err(|e| Error::io("encode", &path)(e.into()))?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(listing)
    }
}

/// Another name for a tar that is kept already; `None` where it cannot be used as it is: on another
/// file system, compressed, or not in whole blocks.
fn link(stored: &Path, tar: &Path) -> Result<Option<File>> {
    match fs::hard_link(stored, tar) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::TooManyLinks
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::Unsupported
            ) =>
        {
            return Ok(None);
        }
        linked => linked.map_err(Error::io("link", stored))?,
    }
    let file = File::open(tar).map_err(Error::io("open", tar))?;
    let bytes = file.metadata().map_err(Error::io("stat", tar))?.len();
    let is_tar = bytes % 512 == 0 && hako_layer::is_plain(&file).map_err(Error::io("read", tar))?;
    if !is_tar {
        fs::remove_file(tar).map_err(Error::io("remove", tar))?;
    }
    Ok(is_tar.then_some(file))
}
