//! Layers as tars, with an EROFS index of each chain.
//!
//! ```text
//! tars/<diff>/tar       a layer's uncompressed tar, in whole blocks; named by its diff ID
//! tars/<diff>/sparse    the content of its sparse files, if it has any
//! tars/<diff>/tar.json  the sizes of both
//! layers/<chain>/index  the file system of a chain, whose devices are the tars of its layers
//! layers/<chain>/layer.json, active/, staging/, trash/, gc.lock: as in an overlay store
//! ```
//!
//! Nothing is unpacked: a tar is written as it comes, and what it holds is listed on the way. The
//! layers of a chain are merged in memory (`hako_layer::Merge`), so that a container needs one
//! mount below its overlay however many layers its image has, and whiteouts are gone before the
//! kernel sees anything. The index of a chain is made when it is first wanted; of an image only the
//! whole chain is.
//!
//! Index and tars are files: the kernel mounts them without a loop device (Linux 6.12). Removing a
//! layer is removing two or three files.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hako_layer::{Limits, Listing, Merge};
use hako_oci::{Digest, runtime::Mount};
use hako_root::Root;
use serde::{Deserialize, Serialize};

use crate::{
    ActiveOptions, Chain, Error, Hold, Layer, LiveChains, Overlay, Result, SHARED_FD, Shared,
    Snapshotter,
    detached::{Image, Stack},
    lock::Named,
    overlay::{LayerRecord, read_record, write_record},
};

/// What a layer may have, held in memory while it is merged.
const LIMITS: Limits =
    Limits { tar_bytes_max: 256 << 30, content_bytes_max: 1 << 40, entries_max: 3_000_000 };

/// `tar.json`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TarRecord {
    /// Without the zeros that make it whole blocks.
    tar_bytes: u64,
    sparse_bytes: u64,
    /// Bytes of all files in it.
    size_bytes: u64,
}

/// The EROFS snapshotter.
#[derive(Debug)]
pub struct Erofs {
    dir: PathBuf,
    /// Everything that is not layers is as there.
    store: Overlay,
}

impl Erofs {
    /// Opens the directory of snapshots, and makes it where it is absent.
    pub fn open(dir: &Path) -> Result<Erofs> {
        let store = Overlay::open(dir)?;
        match fs::DirBuilder::new().mode(0o700).create(dir.join("tars")) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("mkdir", dir.join("tars"))(e))
            }
            _ => Ok(Erofs { dir: dir.to_owned(), store }),
        }
    }

    /// Whether the kernel can do what this needs, in this directory: mounts an image of one file
    /// below an overlay, nowhere. The error says why not.
    pub fn probe(dir: &Path) -> Result<()> {
        let store = Erofs::open(dir)?;
        let chain = Chain(vec![Digest::sha256(b"hako probes EROFS")]);
        let staged = store.store.staging().join(format!("probe-{}", std::process::id()));
        let _lock = Named::take(staged.with_extension("lock"))?;
        store.store.discard(&staged)?;
        make_dir(&staged)?;
        let probed = (|| {
            let (index, tar) = (staged.join("index"), staged.join("tar"));
            let listing = list_nothing(&tar)?;
            write_index(&index, &[(chain.0[0].clone(), listing)], &chain.0[0])?;
            let image = Image { index, devices: vec![tar] };
            let upper = staged.join("upper");
            make_dir(&upper)?;
            Stack { lower: &[upper], image: Some(&image), writable: None, userxattr: false }
                .mount(&staged)
                .map(drop)
        })();
        store.store.discard(&staged)?;
        probed
    }

    pub(crate) fn has_key(&self, key: &str) -> Result<bool> {
        Ok(self.store.active_dir(key)?.exists())
    }

    fn tar_dir(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("tars").join(diff_id.hex())
    }

    fn staged_tar(&self, diff_id: &Digest) -> PathBuf {
        self.store.staging().join(format!("tar-{}", diff_id.hex()))
    }

    fn index(&self, top: &Digest) -> PathBuf {
        self.store.layer_dir(top).join("index")
    }

    /// The diff IDs of a chain that is there, lowest first.
    fn diff_ids(&self, chain: &Chain) -> Result<Vec<Digest>> {
        let record = |id: &Digest| match read_record(&self.store.layer_dir(id)) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoChain(id.clone()))
            }
            record => Ok(record?.diff_id),
        };
        chain.ids().iter().map(record).collect()
    }

    fn image(&self, chain: &Chain) -> Result<Option<Image>> {
        let Some(top) = chain.top() else { return Ok(None) };
        let diff_ids = self.diff_ids(chain)?;
        let index = self.index(top);
        if !index.exists() {
            self.make_index(top, &diff_ids)?;
        }
        let mut devices = Vec::new();
        for diff_id in &diff_ids {
            let dir = self.tar_dir(diff_id);
            devices.push(dir.join("tar"));
            if read_tar_record(&dir)?.sparse_bytes > 0 {
                devices.push(dir.join("sparse"));
            }
        }
        Ok(Some(Image { index, devices }))
    }

    /// The index of a chain that is there as part of a longer one.
    fn make_index(&self, top: &Digest, diff_ids: &[Digest]) -> Result<()> {
        let _lock = self.store.lock(top)?;
        let index = self.index(top);
        if index.exists() {
            return Ok(());
        }
        let mut layers = Vec::new();
        for diff_id in diff_ids {
            layers.push((diff_id.clone(), self.list(diff_id)?));
        }
        let staged = self.store.staging_dir(top);
        self.store.discard(&staged)?;
        make_dir(&staged)?;
        let from = staged.join("index");
        write_index(&from, &layers, top)?;
        let file = File::open(&from).map_err(Error::io("open", &from))?;
        file.sync_all().map_err(Error::io("fsync", &from))?;
        fs::rename(&from, &index).map_err(Error::io("rename", &from))?;
        self.store.discard(&staged)
    }

    fn list(&self, diff_id: &Digest) -> Result<Listing> {
        let path = self.tar_dir(diff_id).join("tar");
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        hako_layer::list(&file, &LIMITS).map_err(|source| layer_error(diff_id, source))
    }
}

impl Snapshotter for Erofs {
    fn name(&self) -> &'static str {
        "erofs"
    }

    fn hold(&self) -> Result<Hold> {
        self.store.hold()
    }

    fn ensure_layers(&self, layers: &[Layer<'_>]) -> Result<Chain> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let chain = Chain::of(&diff_ids);
        if !self.has(&chain) {
            Ensure::new(self, layers, &chain)?.run()?;
        }
        Ok(chain)
    }

    fn has(&self, chain: &Chain) -> bool {
        self.store.has(chain)
    }

    fn layer_bytes(&self, id: &Digest) -> Result<Option<u64>> {
        self.store.layer_bytes(id)
    }

    fn prepare(&self, key: &str, chain: &Chain, options: ActiveOptions) -> Result<()> {
        let root = self.view_chain(chain)?;
        self.store.prepare_over(key, chain, options, |upper| {
            let to = Root::open(upper)?;
            hako_layer::copy_attributes(root.as_dir(), to.as_dir())
                .map_err(|source| Error::Attributes { path: upper.into(), source })
        })
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (_, chain, _) = self.store.read_active(key)?;
        let Some(image) = self.image(&chain)? else {
            let empty = format!("lowerdir+={}", self.dir.join("empty").display());
            return Ok(vec![self.store.mount_over(key, vec![empty])?]);
        };
        let mut options = vec!["ro".to_owned()];
        options.extend(image.devices.iter().map(|path| format!("device={}", path.display())));
        let below = Mount {
            destination: "/".into(),
            kind: Some("erofs".into()),
            source: Some(image.index.display().to_string()),
            options,
            ..Mount::default()
        };
        Ok(vec![below, self.store.mount_over(key, vec!["lowerdir+=.".to_owned()])?])
    }

    fn shared(&self, key: &str, others: &[PathBuf]) -> Result<Option<Shared>> {
        let (_, chain, _) = self.store.read_active(key)?;
        let Some(top) = chain.top() else { return Ok(None) };
        if !shares_mounts() {
            return Ok(None);
        }
        let theirs = others.iter().find_map(|other| Image::share(other, uuid(top)));
        let layers = match (theirs, self.image(&chain)?) {
            (Some(theirs), _) => theirs,
            (None, Some(image)) => image.mount()?,
            (None, None) => return Ok(None),
        };
        let lower = format!("lowerdir+=/proc/self/fd/{SHARED_FD}");
        Ok(Some(Shared { layers, mounts: vec![self.store.mount_over(key, vec![lower])?] }))
    }

    fn view(&self, key: &str) -> Result<Root> {
        let (dir, chain, _) = self.store.read_active(key)?;
        let image = self.image(&chain)?;
        let mut lower = vec![dir.join("fs")];
        if image.is_none() {
            lower.push(self.dir.join("empty"));
        }
        let userxattr = self.store.userxattr();
        Stack { lower: &lower, image: image.as_ref(), writable: None, userxattr }.mount(&dir)
    }

    fn view_chain(&self, chain: &Chain) -> Result<Root> {
        match self.image(chain)? {
            Some(image) => Ok(Root::from_fd(image.mount()?, &self.dir)),
            None => Ok(Root::open(&self.dir.join("empty"))?),
        }
    }

    fn changes(&self, key: &str) -> Result<Root> {
        self.store.changes(key)
    }

    fn usage_bytes(&self, key: &str) -> Result<u64> {
        self.store.usage_bytes(key)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.store.remove(key)
    }

    fn keys(&self) -> Result<Vec<String>> {
        self.store.keys()
    }

    fn gc(&self, live: &mut LiveChains<'_>) -> Result<Option<u64>> {
        let Some((_alone, _)) = self.store.remove_dead(live)? else { return Ok(None) };
        let mut needed = HashSet::new();
        for name in self.store.names("layers")? {
            let record = read_record(&self.dir.join("layers").join(name))?;
            needed.insert(record.diff_id.hex().to_owned());
        }
        let mut freed = 0;
        for name in self.store.names("tars")? {
            if !needed.contains(&name) {
                let dir = self.dir.join("tars").join(name);
                freed += read_tar_record(&dir)?.tar_bytes;
                self.store.discard(&dir)?;
            }
        }
        Ok(Some(freed))
    }

    fn sweep(&self) -> Result<()> {
        self.store.sweep()
    }

    fn verify(&self, chain: &Chain) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let diff_ids = self.diff_ids(chain)?;
        let mut layers = Vec::new();
        for diff_id in &diff_ids {
            let path = self.tar_dir(diff_id).join("tar");
            let record = read_tar_record(&self.tar_dir(diff_id))?;
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            let mut padding = Vec::new();
            let mut reader = &file;
            let digests = hako_layer::digest_tar((&mut reader).take(record.tar_bytes))
                .map_err(Error::io("read", &path))?;
            reader.read_to_end(&mut padding).map_err(Error::io("read", &path))?;
            if digests != *diff_id {
                faults.push(format!("layer {diff_id}: content is {digests}"));
            } else if padding.iter().any(|&byte| byte != 0) || padding.len() >= 512 {
                faults.push(format!("layer {diff_id}: {} is too long", path.display()));
            } else {
                let sparse = self.tar_dir(diff_id).join("sparse");
                let there = match record.sparse_bytes {
                    0 => None,
                    _ => Some(File::open(&sparse).map_err(Error::io("open", &sparse))?),
                };
                match hako_layer::check(&file, there.as_ref(), &LIMITS) {
                    Ok(listing) => layers.push((diff_id.clone(), listing)),
                    Err(e) => faults.push(format!("layer {diff_id}: {e}")),
                }
            }
        }
        // The index is made again: it is a function of the tars.
        if let (Some(top), true) = (chain.top(), layers.len() == diff_ids.len()) {
            let index = self.index(top);
            let mut compare = Compare { file: open_if_there(&index)?, differs: false };
            if compare.file.is_some() {
                merge(&layers)?
                    .write(uuid(top), &mut compare)
                    .map_err(|e| layer_error(diff_ids.last().unwrap_or(top), e))?;
                if compare.differs || compare.is_longer().map_err(Error::io("read", &index))? {
                    faults.push(format!("{} is not the index of its layers", index.display()));
                }
            }
        }
        Ok(faults)
    }
}

/// Compares what is written to it with a file.
struct Compare {
    file: Option<io::BufReader<File>>,
    differs: bool,
}

impl Compare {
    fn is_longer(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        Ok(file.read(&mut [0])? > 0)
    }
}

impl io::Write for Compare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(bytes.len()) };
        let mut there = vec![0; bytes.len()];
        match file.read_exact(&mut there) {
            Ok(()) => self.differs |= there != bytes,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.differs = true,
            Err(e) => return Err(e),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One call that makes what is missing of a chain. It holds the locks of all that it makes.
struct Ensure<'e, 'l, 'a> {
    store: &'e Erofs,
    layers: &'l [Layer<'a>],
    chain: &'l Chain,
    missing: Vec<(usize, Named)>,
    /// By diff ID; sorted, so that nobody waits in a circle. Taken after those of `missing`.
    tars: BTreeMap<String, Named>,
}

impl<'e, 'l, 'a> Ensure<'e, 'l, 'a> {
    fn new(store: &'e Erofs, layers: &'l [Layer<'a>], chain: &'l Chain) -> Result<Self> {
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

    fn run(self) -> Result<()> {
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
        let listings = self.list_all()?;
        let store = &self.store.store;
        let Some(top) = self.chain.top() else { return Ok(()) };
        for (n, _) in &self.missing {
            let id = &self.chain.ids()[*n];
            let staged = store.staging_dir(id);
            store.discard(&staged)?;
            make_dir(&staged)?;
            if id == top {
                write_index(&staged.join("index"), &listings, top)?;
            }
            let (diff_id, listing) = &listings[*n];
            let parent = n.checked_sub(1).map(|below| self.chain.ids()[below].clone());
            let size_bytes = listing.size_bytes;
            write_record(&staged, &LayerRecord { diff_id: diff_id.clone(), parent, size_bytes })?;
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

    /// What is in each layer; tars that are not there are kept on the way, as many at once as
    /// there are processors.
    fn list_all(&self) -> Result<Vec<(Digest, Listing)>> {
        let first = |n: usize| {
            let id = &self.layers[n].diff_id;
            self.layers[..n].iter().all(|layer| layer.diff_id != *id)
        };
        let jobs: Vec<usize> = (0..self.layers.len()).filter(|&n| first(n)).collect();
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
        let mut listings: BTreeMap<String, Listing> = BTreeMap::new();
        for (n, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            listings.insert(self.layers[n].diff_id.hex().to_owned(), result?);
        }
        let listing = |layer: &Layer<'_>| {
            let listing = listings.get(layer.diff_id.hex()).cloned();
            Ok((layer.diff_id.clone(), listing.ok_or(Error::NoChain(layer.diff_id.clone()))?))
        };
        self.layers.iter().map(listing).collect()
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
        let reader =
            (layer.open)().map_err(|source| Error::Open { diff_id: expected.clone(), source })?;
        let (listing, digests) =
            hako_layer::keep(reader, &create(&tar)?, &create(&sparse)?, &LIMITS)
                .map_err(|source| layer_error(expected, source))?;
        if digests.diff_id != *expected {
            let (expected, actual) = (expected.clone(), digests.diff_id);
            return Err(Error::DiffId { expected, actual });
        }
        if listing.sparse_bytes == 0 {
            fs::remove_file(&sparse).map_err(Error::io("remove", &sparse))?;
        }
        let record = TarRecord {
            tar_bytes: digests.tar_bytes,
            sparse_bytes: listing.sparse_bytes,
            size_bytes: listing.size_bytes,
        };
        let path = dir.join("tar.json");
        let text = serde_json::to_vec(&record).map_err(|e| Error::io("encode", &path)(e.into()))?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(listing)
    }
}

/// Whether the kernel copies mounts that are nowhere, and overlayfs takes them (Linux 6.15).
fn shares_mounts() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(|number| number.ok()).unwrap_or(0);
    (next(), next()) >= (6, 15)
}

fn merge(layers: &[(Digest, Listing)]) -> Result<Merge> {
    let mut merge = Merge::default();
    for (diff_id, listing) in layers {
        merge.add(listing, diff_id.hex()).map_err(|source| layer_error(diff_id, source))?;
    }
    Ok(merge)
}

fn write_index(path: &Path, layers: &[(Digest, Listing)], top: &Digest) -> Result<()> {
    let merge = merge(layers)?;
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    merge.write(uuid(top), &mut out).map_err(|source| match source {
        hako_layer::Error::Index(_) => {
            layer_error(layers.last().map_or(top, |(diff_id, _)| diff_id), source)
        }
        source => layer_error(top, source),
    })?;
    out.flush().map_err(Error::io("write", path))
}

/// What the probe has for a tar: one without entries.
fn list_nothing(tar: &Path) -> Result<Listing> {
    fs::write(tar, [0; 1024]).map_err(Error::io("write", tar))?;
    let file = File::open(tar).map_err(Error::io("open", tar))?;
    let id = Digest::sha256(&[0; 1024]);
    hako_layer::list(&file, &LIMITS).map_err(|source| layer_error(&id, source))
}

/// The beginning of the chain ID.
fn uuid(top: &Digest) -> [u8; 16] {
    let hex = top.hex().as_bytes();
    let digit = |n: usize| hex.get(n).and_then(|&b| (b as char).to_digit(16)).unwrap_or(0) as u8;
    std::array::from_fn(|n| digit(2 * n) << 4 | digit(2 * n + 1))
}

fn layer_error(diff_id: &Digest, source: hako_layer::Error) -> Error {
    Error::Layer { diff_id: diff_id.clone(), source }
}

fn read_tar_record(dir: &Path) -> Result<TarRecord> {
    let path = dir.join("tar.json");
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|e| Error::io("parse", &path)(e.into()))
}

fn open_if_there(path: &Path) -> Result<Option<io::BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(io::BufReader::with_capacity(256 << 10, file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", path)(e)),
    }
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(Error::io("mkdir", path))
}
