//! Layers as tars, with an EROFS index of each chain.
//!
//! ```text
//! tars/<diff>/tar       a layer's uncompressed tar, in whole blocks; named by its diff ID. A blob that
//!                       is such a tar is the same file
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
//! whole chain is. Where a part of the chain has one, the layers over that are added to it: the
//! bytes are the same.
//!
//! Index and tars are files: the kernel mounts them as they are (Linux 6.12), or as loop devices,
//! which go with their last mount (Linux 6.4, where EROFS takes blocks of 512 bytes). Removing a
//! layer is removing two or three files.

mod ensure;
mod index;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use hako_layer::{Limits, Listing, Merge};
use hako_oci::{Digest, runtime::Mount};
use hako_root::Root;
use serde::{Deserialize, Serialize};

use self::ensure::Ensure;
use crate::{
    ActiveOptions, Chain, Error, Hold, Layer, LiveChains, Overlay, Result, SHARED_FD, Shared,
    Snapshotter,
    detached::{Image, Loops, Stack},
    lock::Named,
    overlay::read_record,
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
    by_loop: bool,
    /// By index: devices that somebody is about to mount. They are the same for all who do.
    loops: Mutex<BTreeMap<PathBuf, Loops>>,
}

impl Erofs {
    /// Opens the directory of snapshots, and makes it where it is absent.
    pub fn open(dir: &Path) -> Result<Erofs> {
        let store = Overlay::open(dir)?;
        match fs::DirBuilder::new().mode(0o700).create(dir.join("tars")) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("mkdir", dir.join("tars"))(e))
            }
            _ => Ok(Erofs { dir: dir.to_owned(), store, by_loop: false, loops: Mutex::default() }),
        }
    }

    /// The same with loop devices, where the kernel would do without.
    #[must_use]
    pub fn by_loop(self) -> Erofs {
        Erofs { by_loop: true, ..self }
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
            let layers = vec![(chain.0[0].clone(), Arc::new(listing))];
            index::write(&index, Merge::default(), layers, &chain.0[0])?;
            let image = Image { index, devices: vec![tar], by_loop: false };
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
            self.make_index(chain.ids(), &diff_ids)?;
        }
        let mut devices = Vec::new();
        for diff_id in &diff_ids {
            let dir = self.tar_dir(diff_id);
            devices.push(dir.join("tar"));
            if read_tar_record(&dir)?.sparse_bytes > 0 {
                devices.push(dir.join("sparse"));
            }
        }
        Ok(Some(Image { index, devices, by_loop: self.by_loop }))
    }

    /// The image as another process can mount it: of files, or of devices that are held here.
    fn mountable(&self, image: Image) -> Result<Image> {
        let mut held = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loops) = held.get(&image.index) {
            return Ok(loops.image());
        }
        let Some(loops) = image.mount_with_loops()?.1 else { return Ok(image) };
        let devices = loops.image();
        held.insert(image.index, loops);
        Ok(devices)
    }

    /// The index of a chain that is there as part of a longer one.
    fn make_index(&self, ids: &[Digest], diff_ids: &[Digest]) -> Result<()> {
        let Some(top) = ids.last() else { return Ok(()) };
        let _lock = self.store.lock(top)?;
        let index = self.index(top);
        if index.exists() {
            return Ok(());
        }
        let (below, count) = self.below(ids, ids.len() - 1)?;
        let mut layers = Vec::new();
        for diff_id in &diff_ids[count..] {
            layers.push((diff_id.clone(), Arc::new(self.list(diff_id)?)));
        }
        let staged = self.store.staging_dir(top);
        self.store.discard(&staged)?;
        make_dir(&staged)?;
        let from = staged.join("index");
        index::write(&from, below, layers, top)?;
        let file = File::open(&from).map_err(Error::io("open", &from))?;
        file.sync_all().map_err(Error::io("fsync", &from))?;
        fs::rename(&from, &index).map_err(Error::io("rename", &from))?;
        self.store.discard(&staged)
    }

    /// What the index of the longest part of a chain says that has one: at most `count_max` layers,
    /// and how many they are. A chain that grows by a layer is not read from the beginning.
    fn below(&self, ids: &[Digest], count_max: usize) -> Result<(Merge, usize)> {
        for count in (1..=count_max).rev() {
            let path = self.index(&ids[count - 1]);
            match fs::read(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // One that is damaged is for `verify` to tell: what counts are the tars.
                index => match Merge::of_index(&index.map_err(Error::io("read", &path))?) {
                    Ok(merge) => return Ok((merge, count)),
                    Err(_) => break,
                },
            }
        }
        Ok((Merge::default(), 0))
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
        let image = self.mountable(image)?;
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
        let theirs = others.iter().find_map(|other| Image::share(other, index::uuid(top)));
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
        let is_there = |index: &PathBuf, _: &mut Loops| index.exists();
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).retain(is_there);
        let mut needed = HashSet::new();
        for name in self.store.names("layers")? {
            let record = read_record(&self.dir.join("layers").join(name))?;
            needed.insert(record.diff_id.hex().to_owned());
        }
        let mut freed = 0;
        for name in self.store.names("tars")? {
            if !needed.contains(&name) {
                let dir = self.dir.join("tars").join(name);
                let tar = dir.join("tar");
                let metadata = fs::metadata(&tar).map_err(Error::io("stat", &tar))?;
                // What is a blob as well stays.
                if metadata.nlink() == 1 {
                    freed += metadata.len();
                }
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
                    Ok(listing) => layers.push((diff_id.clone(), Arc::new(listing))),
                    Err(e) => faults.push(format!("layer {diff_id}: {e}")),
                }
            }
        }
        // The index is made again: it is a function of the tars.
        if let (Some(top), true) = (chain.top(), layers.len() == diff_ids.len()) {
            let index = self.index(top);
            let mut compare =
                index::Compare { file: index::open_if_there(&index)?, differs: false };
            if compare.file.is_some() {
                index::add(Merge::default(), layers)?
                    .write(index::uuid(top), &mut compare)
                    .map_err(|e| layer_error(diff_ids.last().unwrap_or(top), e))?;
                if compare.differs || compare.is_longer().map_err(Error::io("read", &index))? {
                    faults.push(format!("{} is not the index of its layers", index.display()));
                }
            }
        }
        Ok(faults)
    }
}

/// Whether the kernel copies mounts that are nowhere, and overlayfs takes them (Linux 6.15).
fn shares_mounts() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(|number| number.ok()).unwrap_or(0);
    (next(), next()) >= (6, 15)
}

/// What the probe has for a tar: one without entries.
fn list_nothing(tar: &Path) -> Result<Listing> {
    fs::write(tar, [0; 1024]).map_err(Error::io("write", tar))?;
    let file = File::open(tar).map_err(Error::io("open", tar))?;
    let id = Digest::sha256(&[0; 1024]);
    hako_layer::list(&file, &LIMITS).map_err(|source| layer_error(&id, source))
}

fn layer_error(diff_id: &Digest, source: hako_layer::Error) -> Error {
    Error::Layer { diff_id: diff_id.clone(), source }
}

fn read_tar_record(dir: &Path) -> Result<TarRecord> {
    let path = dir.join("tar.json");
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|e| Error::io("parse", &path)(e.into()))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(Error::io("mkdir", path))
}
