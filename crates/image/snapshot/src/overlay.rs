//! Layers as directories, joined by overlayfs.
//!
//! ```text
//! layers/<chain>/fs           a layer's files, with overlayfs' own whiteouts
//! layers/<chain>/layer.json   its diff ID, its parent, how many bytes it has
//! active/<key>/fs             what a container wrote
//! active/<key>/work           overlayfs' own
//! active/<key>/chain          chain IDs, lowest first, a line each; "volatile" if it is; "end"
//! staging/                    what is being made; its lock is beside it: <name>.lock
//! trash/                      what is being removed
//! gc.lock                     held shared by who is using chains that nothing refers to yet
//! marks -> trusted or user    the attributes that overlayfs's marks are in
//! ```
//!
//! `<chain>` is the hexadecimal part of a chain ID. A directory in `layers/` is complete: it was
//! renamed into place after its content was verified and written to disk, parents first.

use std::{
    fs,
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use hako_oci::{Digest, runtime::Mount};
use hako_root::Root;
use hako_sys::{Errno, xattr};
use serde::{Deserialize, Serialize};

use crate::{
    ActiveOptions, Chain, Error, Hold, Layer, LiveChains, Result, Shared, Snapshotter,
    detached::Stack, lock::Named, unpack,
};

const VOLATILE: &str = "volatile";

/// What must not depend on how the host's kernel was configured. An upper directory is to be a
/// plain set of changes: without an index, which refuses to be looked at through a second mount,
/// without files that have only metadata, and without redirections to other directories, which are
/// not followed either.
pub(crate) const OPTIONS: &[(&str, &str)] =
    &[("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")];
/// The last line of a chain file that is whole.
const CHAIN_END: &str = "end\n";
const LOCK_SUFFIX: &str = ".lock";

/// `layer.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerRecord {
    pub diff_id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    pub size_bytes: u64,
}

/// Where overlayfs keeps its marks: what the symbolic link `marks` says, which is made whole or not
/// at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`
    User,
}

const MARKS: &[(&str, Marks)] = &[("trusted", Marks::Trusted), ("user", Marks::User)];

fn known_marks(dir: &Path) -> Result<Option<Marks>> {
    let path = dir.join("marks");
    let word = match fs::read_link(&path) {
        Ok(word) => word,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("readlink", &path)(e)),
    };
    let known = MARKS.iter().find(|(known, _)| Path::new(known) == word);
    let unknown = || format!("unknown kind of marks {}", word.display());
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, unknown());
    match known {
        Some(&(_, marks)) => Ok(Some(marks)),
        None => Err(Error::io("readlink", &path)(unknown())),
    }
}

/// Asks the kernel, because in a user namespace even root is an ordinary user.
fn choose_marks(dir: &Path) -> Result<Marks> {
    let file = fs::File::open(dir).map_err(Error::io("open", dir))?;
    let word = match xattr::fset(file.as_fd(), c"trusted.hako.probe", b"") {
        Ok(()) => {
            xattr::fremove(file.as_fd(), c"trusted.hako.probe")
                .or_else(|e| if e == Errno::ENODATA { Ok(()) } else { Err(e) })
                .map_err(|e| Error::io("fremovexattr", dir)(e.into()))?;
            "trusted"
        }
        Err(Errno::EPERM) => "user",
        Err(e) => return Err(Error::io("fsetxattr", dir)(e.into())),
    };
    let path = dir.join("marks");
    match std::os::unix::fs::symlink(word, &path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("symlink", &path)(e));
        }
        _ => {}
    }
    // Another process may have been here first.
    known_marks(dir)?.ok_or_else(|| Error::io("readlink", &path)(io::ErrorKind::NotFound.into()))
}

fn make_dirs(dir: &Path) -> Result<()> {
    for name in ["layers", "active", "staging", "trash", "empty"] {
        let path = dir.join(name);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("mkdir", path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The overlay snapshotter.
#[derive(Debug)]
pub struct Overlay {
    dir: PathBuf,
    userxattr: bool,
}

impl Overlay {
    /// Opens the directory of snapshots, and makes it where it is absent.
    ///
    /// Without privileges overlayfs keeps its marks in `user.overlay.*`. Which it is, is found out
    /// when the directory is made: its layers can be read with that kind of marks only.
    pub fn open(dir: &Path) -> Result<Overlay> {
        // `marks` is made last.
        let marks = match known_marks(dir)? {
            Some(marks) => marks,
            None => {
                make_dirs(dir)?;
                choose_marks(dir)?
            }
        };
        Ok(Overlay { dir: dir.to_owned(), userxattr: marks == Marks::User })
    }

    pub(crate) fn userxattr(&self) -> bool {
        self.userxattr
    }

    pub(crate) fn layer_dir(&self, id: &Digest) -> PathBuf {
        self.dir.join("layers").join(id.hex())
    }

    pub(crate) fn staging_dir(&self, id: &Digest) -> PathBuf {
        self.dir.join("staging").join(id.hex())
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    /// A read-only view of layer directories, top first.
    pub(crate) fn join(&self, lower: &[PathBuf]) -> Result<Root> {
        match lower {
            // overlayfs joins two or more.
            [only] => Ok(Root::open(only)?),
            _ => Stack { lower, image: None, writable: None, userxattr: self.userxattr }
                .mount(&self.dir),
        }
    }

    pub(crate) fn lock(&self, id: &Digest) -> Result<Named> {
        Named::take(self.staging().join(format!("{}{LOCK_SUFFIX}", id.hex())))
    }

    fn gc_lock(&self) -> PathBuf {
        self.dir.join("gc.lock")
    }

    pub(crate) fn active_dir(&self, key: &str) -> Result<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if key.is_empty() || key.len() > 128 || !key.bytes().all(plain) {
            return Err(Error::Key(key.to_owned()));
        }
        Ok(self.dir.join("active").join(key))
    }

    /// The layer directories of a chain, top first; never empty.
    fn lower(&self, chain: &Chain) -> Result<Vec<PathBuf>> {
        if chain.ids().is_empty() {
            return Ok(vec![self.dir.join("empty")]);
        }
        let dirs: Vec<PathBuf> =
            chain.ids().iter().rev().map(|id| self.layer_dir(id).join("fs")).collect();
        for (dir, id) in dirs.iter().zip(chain.ids().iter().rev()) {
            if !dir.exists() {
                return Err(Error::NoChain(id.clone()));
            }
        }
        Ok(dirs)
    }

    pub(crate) fn read_active(&self, key: &str) -> Result<(PathBuf, Chain, ActiveOptions)> {
        let dir = self.active_dir(key)?;
        let path = dir.join("chain");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoKey(key.into())),
            read => read.map_err(Error::io("read", &path))?,
        };
        let broken = || Error::Broken(key.to_owned());
        // A power cut can leave the file short, or empty, which would mean another chain.
        let text = text.strip_suffix(CHAIN_END).ok_or_else(broken)?;
        let volatile = text.lines().any(|line| line == VOLATILE);
        let ids = text
            .lines()
            .filter(|line| *line != VOLATILE)
            .map(|line| line.parse::<Digest>().map_err(|_| broken()))
            .collect::<Result<Vec<Digest>>>()?;
        Ok((dir, Chain(ids), ActiveOptions { volatile }))
    }

    /// Moves a directory out of the way and removes it; a kill leaves it for [`Self::sweep`].
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let trash = self.dir.join("trash");
        for n in 0u32.. {
            let to = trash.join(format!("{name}.{}.{n}", std::process::id()));
            match fs::rename(path, &to) {
                Ok(()) => {
                    let relative = Path::new(to.file_name().unwrap_or_default());
                    return Ok(Root::open(&trash)?.remove_all(relative)?);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) => {}
                Err(e) => return Err(Error::io("rename", path)(e)),
            }
        }
        unreachable!("a free name among four billion")
    }

    /// Makes an active snapshot. `look` gives its root the looks of what is below.
    pub(crate) fn prepare_over(
        &self,
        key: &str,
        chain: &Chain,
        options: ActiveOptions,
        look: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let dir = self.active_dir(key)?;
        if dir.exists() {
            return Err(Error::KeyExists(key.to_owned()));
        }
        // Made beside its place, so that there is all of it or nothing. Layers' names have no
        // dash.
        let name = format!("active-{key}");
        let _lock = Named::take(self.staging().join(format!("{name}{LOCK_SUFFIX}")))?;
        let staged = self.staging().join(name);
        self.discard(&staged)?;
        let made = fill(&staged, chain, options, look).and_then(|()| {
            match fs::rename(&staged, &dir) {
                // Never over another: a directory that is not empty does not give way.
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Err(Error::KeyExists(key.to_owned()))
                }
                renamed => renamed.map_err(Error::io("rename", dir)),
            }
        });
        if made.is_err() {
            // The first error counts; what cannot be removed now, a sweep removes.
            self.discard(&staged).ok();
        }
        made
    }

    /// The overlay of an active snapshot over these layers, given as options.
    pub(crate) fn mount_over(&self, key: &str, mut options: Vec<String>) -> Result<Mount> {
        let (dir, _, active) = self.read_active(key)?;
        // The kernel takes a backslash in these two for an escape, and in `lowerdir+` for itself.
        let escape = |dir: PathBuf| dir.display().to_string().replace('\\', r"\\");
        options.push(format!("upperdir={}", escape(dir.join("fs"))));
        options.push(format!("workdir={}", escape(dir.join("work"))));
        options.extend(OPTIONS.iter().map(|(key, value)| format!("{key}={value}")));
        if self.userxattr {
            options.push("userxattr".to_owned());
        }
        if active.volatile {
            options.push(VOLATILE.to_owned());
            // The mark of a volatile mount that a crash interrupted would refuse the next one.
            let mark = dir.join("work/work/incompat");
            match fs::remove_dir_all(&mark) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", mark)(e));
                }
                _ => {}
            }
        }
        Ok(Mount {
            destination: "/".into(),
            kind: Some("overlay".into()),
            source: Some("overlay".into()),
            options,
            ..Mount::default()
        })
    }

    /// Removes layers that nothing needs, and returns what they were and what keeps others away;
    /// `None` while somebody holds.
    pub(crate) fn remove_dead(
        &self,
        live: &mut LiveChains<'_>,
    ) -> Result<Option<(Hold, Vec<LayerRecord>)>> {
        let Some(alone) = Hold::exclusive(&self.gc_lock())? else { return Ok(None) };
        let mut needed: std::collections::HashSet<String> = std::collections::HashSet::new();
        for key in self.keys()? {
            match self.read_active(&key) {
                Ok((_, chain, _)) => {
                    needed.extend(chain.ids().iter().map(|id| id.hex().to_owned()));
                }
                // Being removed just now, or beyond repair: it needs nothing.
                Err(Error::NoKey(_) | Error::Broken(_)) => {}
                Err(e) => return Err(e),
            }
        }
        for chain in live().map_err(Error::Live)? {
            needed.extend(chain.ids().iter().map(|id| id.hex().to_owned()));
        }
        let mut removed = Vec::new();
        // Children before parents, so that a kill in between leaves no layer without its parent.
        let mut dead: Vec<(PathBuf, LayerRecord)> = Vec::new();
        for name in self.names("layers")? {
            if !needed.contains(&name) {
                let dir = self.dir.join("layers").join(name);
                let record = read_record(&dir)?;
                dead.push((dir, record));
            }
        }
        while !dead.is_empty() {
            let parents: Vec<String> = dead
                .iter()
                .filter_map(|(_, record)| record.parent.as_ref().map(|p| p.hex().to_owned()))
                .collect();
            let is_leaf = |dir: &Path| !parents.iter().any(|p| Some(p.as_ref()) == dir.file_name());
            let (leaves, rest): (Vec<_>, Vec<_>) =
                dead.into_iter().partition(|(dir, _)| is_leaf(dir));
            if leaves.is_empty() {
                // Chain IDs are digests over their parents: a circle cannot be.
                return Err(Error::io("read", self.dir.join("layers"))(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "layer records name each other as parents",
                )));
            }
            for (dir, record) in leaves {
                self.discard(&dir)?;
                removed.push(record);
            }
            dead = rest;
        }
        Ok(Some((alone, removed)))
    }

    pub(crate) fn names(&self, sub: &str) -> Result<Vec<String>> {
        let dir = self.dir.join(sub);
        let entries = fs::read_dir(&dir).map_err(Error::io("read", &dir))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()
            .map_err(Error::io("read", &dir))
    }
}

impl Snapshotter for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn hold(&self) -> Result<Hold> {
        Hold::shared(&self.gc_lock())
    }

    fn ensure_layers(&self, layers: &[Layer<'_>]) -> Result<Chain> {
        unpack::ensure(self, layers)
    }

    fn has(&self, chain: &Chain) -> bool {
        // Parents come first: the top is there only if all are.
        chain.top().is_none_or(|top| self.layer_dir(top).exists())
    }

    fn layer_bytes(&self, id: &Digest) -> Result<Option<u64>> {
        let dir = self.layer_dir(id);
        match dir.exists() {
            true => Ok(Some(read_record(&dir)?.size_bytes)),
            false => Ok(None),
        }
    }

    fn prepare(&self, key: &str, chain: &Chain, options: ActiveOptions) -> Result<()> {
        let lower = self.lower(chain)?;
        self.prepare_over(key, chain, options, |upper| copy_attributes(&lower[0], upper))
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (_, chain, _) = self.read_active(key)?;
        let lower = self.lower(&chain)?;
        let lower = lower.iter().map(|d| format!("lowerdir+={}", d.display())).collect();
        Ok(vec![self.mount_over(key, lower)?])
    }

    /// Directories have one page cache anyway.
    fn shared(&self, _key: &str, _others: &[PathBuf]) -> Result<Option<Shared>> {
        Ok(None)
    }

    fn view(&self, key: &str) -> Result<Root> {
        let (dir, chain, _) = self.read_active(key)?;
        let below = self.lower(&chain)?;
        // Where nothing was written yet: one layer alone is a directory, and needs no mount.
        if !chain.ids().is_empty() && Root::open(&dir.join("fs"))?.as_dir().entries()?.is_empty() {
            return self.join(&below);
        }
        let mut lower = vec![dir.join("fs")];
        lower.extend(below);
        Stack { lower: &lower, image: None, writable: None, userxattr: self.userxattr }.mount(&dir)
    }

    fn view_chain(&self, chain: &Chain) -> Result<Root> {
        self.join(&self.lower(chain)?)
    }

    fn changes(&self, key: &str) -> Result<Root> {
        let (dir, _, _) = self.read_active(key)?;
        Ok(Root::open(&dir.join("fs"))?)
    }

    fn usage_bytes(&self, key: &str) -> Result<u64> {
        Ok(self.changes(key)?.as_dir().usage()?.bytes)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.discard(&self.active_dir(key)?)
    }

    fn keys(&self) -> Result<Vec<String>> {
        self.names("active")
    }

    fn gc(&self, live: &mut LiveChains<'_>) -> Result<Option<u64>> {
        let removed = self.remove_dead(live)?;
        Ok(removed.map(|(_, records)| records.iter().map(|record| record.size_bytes).sum()))
    }

    fn sweep(&self) -> Result<()> {
        let trash = self.dir.join("trash");
        for name in self.names("trash")? {
            Root::open(&trash)?.remove_all(Path::new(&name))?;
        }
        for name in self.names("staging")? {
            let id = name.strip_suffix(LOCK_SUFFIX).unwrap_or(&name);
            // Whoever unpacks this layer holds its lock; taking it removes its file, too.
            let lock = Named::try_take(self.staging().join(format!("{id}{LOCK_SUFFIX}")))?;
            if lock.is_some() {
                self.discard(&self.staging().join(id))?;
            }
        }
        Ok(())
    }

    /// A directory has no digest; that the layers are there is all that can be said.
    fn verify(&self, chain: &Chain) -> Result<Vec<String>> {
        let missing = chain.ids().iter().filter(|id| !self.layer_dir(id).exists());
        Ok(missing.map(|id| format!("layer {id} is not in the store")).collect())
    }
}

/// Makes what an active snapshot consists of.
fn fill(
    staged: &Path,
    chain: &Chain,
    options: ActiveOptions,
    look: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let make = |path: &Path, mode| {
        let made = fs::DirBuilder::new().mode(mode).create(path);
        made.map_err(Error::io("mkdir", path))
    };
    make(staged, 0o700)?;
    make(&staged.join("work"), 0o700)?;
    // The root of an overlay looks like its upper directory.
    make(&staged.join("fs"), 0o755)?;
    if chain.ids().is_empty() {
        let open = fs::Permissions::from_mode(0o755);
        let set = fs::set_permissions(staged.join("fs"), open);
        set.map_err(Error::io("chmod", staged.join("fs")))?;
    } else {
        look(&staged.join("fs"))?;
    }
    let mut text: String = chain.ids().iter().map(|id| format!("{id}\n")).collect();
    if options.volatile {
        text.push_str(VOLATILE);
        text.push('\n');
    }
    text.push_str(CHAIN_END);
    let path = staged.join("chain");
    fs::write(&path, text).map_err(Error::io("write", path))
}

/// Gives the directory `to` the looks of the directory `from`.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let (from, root) = (Root::open(from)?, Root::open(to)?);
    hako_layer::copy_attributes(from.as_dir(), root.as_dir())
        .map_err(|source| Error::Attributes { path: to.into(), source })
}

pub(crate) fn write_record(dir: &Path, record: &LayerRecord) -> Result<()> {
    let path = dir.join("layer.json");
    let text = serde_json::to_vec(record).map_err(|e| Error::io("encode", &path)(e.into()))?;
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&path)?;
        file.write_all(&text)
    };
    write().map_err(Error::io("write", &path))
}

pub(crate) fn read_record(dir: &Path) -> Result<LayerRecord> {
    let path = dir.join("layer.json");
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|e| Error::io("parse", &path)(e.into()))
}

/// The parent that a layer's record names.
pub(crate) fn parent_of(dir: &Path) -> Result<Option<Digest>> {
    Ok(read_record(dir)?.parent)
}
