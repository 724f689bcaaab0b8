//! The snapshotters of one store, and which of them makes what is new.
//!
//! ```text
//! snapshotter -> erofs or overlay   what was chosen when the store was made
//! layers/ active/ ...               the overlay snapshotter's
//! erofs/                            the EROFS snapshotter's
//! ```
//!
//! An active snapshot stays with the snapshotter that made it. Somebody who forces the other one
//! gets new snapshots of that, beside the old ones; layers are made for it again when they are
//! wanted.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use hako_oci::{Digest, runtime::Mount};
use hako_root::Root;

use crate::{
    ActiveOptions, Chain, Erofs, Error, Hold, Layer, LiveChains, Overlay, Result, Shared,
    Snapshotter, lock::Named,
};

/// A snapshotter by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Overlay`]
    Overlay,
    /// [`Erofs`]
    Erofs,
    /// [`Erofs`] where the kernel can mount files of the store, else [`Overlay`].
    Auto,
}

/// All snapshotters by name.
pub const KINDS: &[(&str, Kind)] =
    &[("overlay", Kind::Overlay), ("erofs", Kind::Erofs), ("auto", Kind::Auto)];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// Docker's and podman's names for the same are taken as well.
    fn from_str(word: &str) -> Result<Kind> {
        let known = match word {
            "overlay2" | "overlayfs" => "overlay",
            word => word,
        };
        let kind = KINDS.iter().find(|(name, _)| *name == known);
        kind.map(|&(_, kind)| kind).ok_or_else(|| Error::Kind(word.to_owned()))
    }
}

/// Both snapshotters.
#[derive(Debug)]
pub struct Stores {
    chosen: Kind,
    forced: bool,
    overlay: Overlay,
    /// Where it was ever used.
    erofs: Option<Erofs>,
}

impl Stores {
    /// Opens the snapshotters of a store. `forced` makes what is new; without it, that is what was
    /// chosen when the store was made.
    pub fn open(dir: &Path, forced: Option<Kind>) -> Result<Stores> {
        let overlay = Overlay::open(dir)?;
        let erofs_dir = dir.join("erofs");
        let is_there = erofs_dir.is_dir();
        let chosen = match forced {
            None => chosen(dir, &overlay)?,
            Some(Kind::Auto) if is_there || probe(&overlay).is_ok() => Kind::Erofs,
            Some(Kind::Auto) => Kind::Overlay,
            Some(kind) => kind,
        };
        if forced == Some(Kind::Erofs) && !is_there {
            probe(&overlay)?;
        }
        let erofs = match chosen == Kind::Erofs || is_there {
            true => Some(Erofs::open(&erofs_dir)?),
            false => None,
        };
        Ok(Stores { chosen, forced: forced.is_some(), overlay, erofs })
    }

    /// Why new snapshots are of the kind that they are.
    pub fn reason(&self) -> String {
        match (self.forced, self.chosen) {
            (true, _) => "as asked for".to_owned(),
            (false, Kind::Erofs | Kind::Auto) => {
                "the kernel mounts layers without unpacking them".to_owned()
            }
            (false, Kind::Overlay) => {
                "layers are unpacked, as the store was made where the kernel could not mount them"
                    .to_owned()
            }
        }
    }

    fn chosen(&self) -> &dyn Snapshotter {
        match (&self.erofs, self.chosen) {
            (Some(erofs), Kind::Erofs) => erofs,
            _ => &self.overlay,
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Snapshotter> {
        let overlay: &dyn Snapshotter = &self.overlay;
        std::iter::once(overlay).chain(self.erofs.iter().map(|erofs| erofs as &dyn Snapshotter))
    }

    /// The snapshotter that made an active snapshot.
    fn owner(&self, key: &str) -> Result<&dyn Snapshotter> {
        match &self.erofs {
            Some(erofs) if erofs.has_key(key)? => Ok(erofs),
            _ => Ok(&self.overlay),
        }
    }
}

/// What the store remembers; where it is new, what the kernel can.
fn chosen(dir: &Path, overlay: &Overlay) -> Result<Kind> {
    let path: PathBuf = dir.join("snapshotter");
    loop {
        match fs::read_link(&path) {
            Ok(word) => return word.to_string_lossy().parse(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("readlink", &path)(e)),
        }
        let kind = match probe(overlay) {
            Ok(()) => Kind::Erofs,
            Err(_) => Kind::Overlay,
        };
        // A link is made whole or not at all; somebody else's counts as well.
        match std::os::unix::fs::symlink(kind.to_string(), &path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("symlink", &path)(e));
            }
            _ => {}
        }
    }
}

/// Whether the kernel can. Tried where a sweep finds what a kill leaves of it.
fn probe(store: &Overlay) -> Result<()> {
    let place = store.staging().join(format!("erofs-{}", std::process::id()));
    let _lock = Named::take(place.with_extension("lock"))?;
    let probed = Erofs::probe(&place);
    store.discard(&place)?;
    probed
}

impl Snapshotter for Stores {
    fn name(&self) -> &'static str {
        self.chosen().name()
    }

    fn hold(&self) -> Result<Hold> {
        let holds = self.all().map(|store| store.hold()).collect::<Result<Vec<Hold>>>()?;
        Ok(Hold::all(holds))
    }

    fn ensure_layers(&self, layers: &[Layer<'_>]) -> Result<Chain> {
        self.chosen().ensure_layers(layers)
    }

    fn has(&self, chain: &Chain) -> bool {
        self.chosen().has(chain)
    }

    fn layer_bytes(&self, id: &Digest) -> Result<Option<u64>> {
        for store in self.all() {
            if let Some(bytes) = store.layer_bytes(id)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn prepare(&self, key: &str, chain: &Chain, options: ActiveOptions) -> Result<()> {
        if self.keys()?.iter().any(|there| there == key) {
            return Err(Error::KeyExists(key.to_owned()));
        }
        self.chosen().prepare(key, chain, options)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.owner(key)?.mounts(key)
    }

    fn shared(&self, key: &str, others: &[PathBuf]) -> Result<Option<Shared>> {
        self.owner(key)?.shared(key, others)
    }

    fn view(&self, key: &str) -> Result<Root> {
        self.owner(key)?.view(key)
    }

    fn view_chain(&self, chain: &Chain) -> Result<Root> {
        self.chosen().view_chain(chain)
    }

    fn changes(&self, key: &str) -> Result<Root> {
        self.owner(key)?.changes(key)
    }

    fn usage_bytes(&self, key: &str) -> Result<u64> {
        self.owner(key)?.usage_bytes(key)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.owner(key)?.remove(key)
    }

    fn keys(&self) -> Result<Vec<String>> {
        let keys = self.all().map(|store| store.keys()).collect::<Result<Vec<Vec<String>>>>()?;
        Ok(keys.concat())
    }

    fn gc(&self, live: &mut LiveChains<'_>) -> Result<Option<u64>> {
        let mut freed = None;
        for store in self.all() {
            if let Some(bytes) = store.gc(live)? {
                freed = Some(freed.unwrap_or(0) + bytes);
            }
        }
        Ok(freed)
    }

    fn sweep(&self) -> Result<()> {
        self.all().try_for_each(|store| store.sweep())
    }

    fn verify(&self, chain: &Chain) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for store in self.all().filter(|store| store.has(chain)) {
            faults.extend(store.verify(chain)?);
        }
        Ok(faults)
    }
}
