//! Where copied files go, and the layer that they become.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read, Write},
};

use hako_root::Root;
use hako_sys::fs::{FileKind, Stat};
use hako_tar::{Header, Kind, Time, Writer};
use sha2::{Digest as _, Sha256};

use super::{
    Entry, Ownership, Selection, Tree, archive,
    select::{by_names, clean, look, open, resolve, to_path},
};
use crate::{Error, Result, mode::Chmod};

/// How files are placed.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// Absolute. With a slash at its end it is a directory.
    pub(crate) destination: String,
    /// Whose everything becomes.
    pub(crate) owner: Option<(u32, u32)>,
    /// Which permissions everything gets.
    pub(crate) chmod: Option<Chmod>,
    /// Whether directories above the sources come along: those behind `/./` in a source.
    pub(crate) parents: bool,
    /// Whether archives become what is in them.
    pub(crate) unpack: bool,
    /// Seconds since the epoch: nothing is younger in the layer.
    pub(crate) epoch: i64,
}

/// Something that is copied.
#[derive(Clone, Copy)]
pub(crate) enum Source<'t> {
    /// What a source path means.
    Files(&'t Tree, &'t Selection),
    /// A file that stands in the Dockerfile.
    Inline(Inline<'t>),
}

/// A heredoc as a file.
#[derive(Clone, Copy)]
pub(crate) struct Inline<'t> {
    pub(crate) name: &'t str,
    pub(crate) content: &'t [u8],
}

/// A path of the layer.
struct Placed<'t> {
    header: Header,
    content: Content<'t>,
}

/// What a regular file's content is read from.
#[derive(Clone, Copy)]
enum Content<'t> {
    None,
    File(&'t Tree, &'t Entry),
    Bytes(&'t [u8]),
}

/// Paths sorted as a walk finds them.
#[derive(PartialEq, Eq)]
struct Order(Vec<u8>);

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Order) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Order) -> std::cmp::Ordering {
        by_names(&self.0, &other.0)
    }
}

/// A layer that is being put together over `base`.
struct Layer<'a, 't> {
    base: Option<&'a Root>,
    placement: &'a Placement,
    paths: BTreeMap<Order, Placed<'t>>,
    /// Archives whose entries follow, and the directories that they are unpacked in.
    archives: Vec<(&'t Tree, &'t Entry, Vec<u8>)>,
}

/// Writes a layer with the selected files over `base`, the file system that it will lie on; without
/// one, over anything. Their digests must be known: a file that is not what it was is an error.
pub(crate) fn place<W: Write>(
    base: Option<&Root>,
    sources: &[Source<'_>],
    placement: &Placement,
    out: W,
) -> Result<W> {
    let mut layer = Layer { base, placement, paths: BTreeMap::new(), archives: Vec::new() };
    for source in sources {
        match source {
            Source::Files(tree, selection) => layer.add(tree, selection)?,
            Source::Inline(file) => layer.add_inline(*file)?,
        }
    }
    layer.write(out)
}

/// Writes a layer with a directory and those above it, as far as the base has them not. Nothing is
/// written where it has all.
pub(crate) fn directory<W: Write>(
    base: &Root,
    path: &str,
    owner: (u32, u32),
    epoch: i64,
    out: W,
) -> Result<W> {
    let placement = Placement {
        destination: path.to_owned(),
        owner: Some(owner),
        chmod: None,
        parents: false,
        unpack: false,
        epoch,
    };
    let mut layer = Layer {
        base: Some(base),
        placement: &placement,
        paths: BTreeMap::new(),
        archives: Vec::new(),
    };
    let found = resolve(base, path.as_bytes())?;
    match found.stat {
        Some(stat) if stat.kind == FileKind::Directory => {}
        Some(_) => return Err(Error::NoDirectory(to_path(&found.path))),
        None => layer.directories(&found.path)?,
    }
    layer.write(out)
}

impl<'t> Layer<'_, 't> {
    /// Whether the destination is a directory whatever is there.
    fn is_directory(&self) -> bool {
        let destination = &self.placement.destination;
        destination.ends_with('/') || destination.ends_with("/.")
    }

    fn add_inline(&mut self, file: Inline<'t>) -> Result<()> {
        let mut path = self.resolve(self.placement.destination.as_bytes())?;
        if self.is_directory() || self.there(&path)? == Some(Kind::Directory) {
            path = join(&path, file.name.as_bytes());
        }
        if self.there(&path)? == Some(Kind::Directory) {
            return Err(Error::IsDirectory(to_path(&path)));
        }
        self.directories(split(&path).0)?;
        let (uid, gid) = self.placement.owner.unwrap_or_default();
        let mode = self.placement.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
        let mtime = Time { seconds: self.placement.epoch, nanos: 0 };
        let size = file.content.len() as u64;
        let header =
            Header { uid, gid, mtime, size, ..Header::new(path.clone(), Kind::File, mode) };
        self.paths.insert(Order(path), Placed { header, content: Content::Bytes(file.content) });
        Ok(())
    }

    fn add(&mut self, tree: &'t Tree, selection: &'t Selection) -> Result<()> {
        let mut destination = self.placement.destination.as_bytes().to_vec();
        let mut is_directory = self.is_directory();
        if self.placement.parents {
            let mut along: Vec<&[u8]> =
                clean(&selection.path).into_iter().skip(selection.pivot).collect();
            if !selection.is_directory() {
                along.pop();
            }
            destination = [&destination[..], b"/", &along.join(&b'/')].concat();
            is_directory = true;
        }
        let target = self.resolve(&destination)?;
        if self.placement.unpack
            && let [entry] = &selection.entries[..]
            && archive::is_archive(tree, entry)?
        {
            self.directories(&target)?;
            self.archives.push((tree, entry, target));
            return Ok(());
        }
        let there = self.there(&target)?;
        let is_directory = is_directory || there == Some(Kind::Directory);
        let top = if selection.is_directory() {
            if is_directory {
                self.directories(&target)?;
            }
            target
        } else if is_directory {
            self.directories(&target)?;
            join(&target, selection.base_name())
        } else {
            target
        };
        let (above, _) = split(&top);
        self.directories(above)?;
        let mut linked: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        for entry in &selection.entries {
            let path = if entry.name.is_empty() { top.clone() } else { join(&top, &entry.name) };
            self.entry(tree, entry, path, &mut linked)?;
        }
        Ok(())
    }

    /// Follows links of the base and of what was placed before.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        match self.base {
            Some(base) => Ok(resolve(base, path)?.path),
            None => Ok(clean(path).join(&b'/')),
        }
    }

    fn there(&self, path: &[u8]) -> Result<Option<Kind>> {
        if path.is_empty() {
            return Ok(Some(Kind::Directory));
        }
        if let Some(placed) = self.paths.get(&Order(path.to_vec())) {
            return Ok(Some(placed.header.kind));
        }
        let Some(base) = self.base else { return Ok(None) };
        Ok(look(base, path)?.and_then(|stat| kind_of(&stat)))
    }

    /// Makes sure that a directory and those above it are there: as they are in the base, else new.
    fn directories(&mut self, path: &[u8]) -> Result<()> {
        let names = clean(path);
        for len in 1..=names.len() {
            let path = names[..len].join(&b'/');
            let key = Order(path.clone());
            if let Some(placed) = self.paths.get(&key) {
                if placed.header.kind != Kind::Directory {
                    return Err(Error::NoDirectory(to_path(&path)));
                }
                continue;
            }
            let found = match self.base {
                Some(base) => look(base, &path)?,
                None => None,
            };
            let header = match found {
                Some(stat) if stat.kind == FileKind::Directory => Header {
                    uid: stat.uid,
                    gid: stat.gid,
                    mtime: self.mtime(&stat, Ownership::Kept),
                    ..Header::new(path, Kind::Directory, stat.mode)
                },
                Some(_) => return Err(Error::NoDirectory(to_path(&path))),
                None => {
                    let (uid, gid) = self.placement.owner.unwrap_or_default();
                    let mtime = Time { seconds: self.placement.epoch, nanos: 0 };
                    Header { uid, gid, mtime, ..Header::new(path, Kind::Directory, 0o755) }
                }
            };
            self.paths.insert(key, Placed { header, content: Content::None });
        }
        Ok(())
    }

    fn entry(
        &mut self,
        tree: &'t Tree,
        entry: &'t Entry,
        path: Vec<u8>,
        linked: &mut HashMap<(u64, u64), Vec<u8>>,
    ) -> Result<()> {
        let Some(kind) = kind_of(&entry.stat) else { return Ok(()) };
        let there = self.there(&path)?;
        match (kind, there) {
            (Kind::Directory, Some(there)) if there != Kind::Directory => {
                return Err(Error::NoDirectory(to_path(&path)));
            }
            (Kind::Directory, Some(_)) if entry.name.is_empty() => {
                // What the source is called stays outside; its directory keeps its looks.
                return self.directories(&path);
            }
            (Kind::Directory, _) | (_, None) => {}
            (_, Some(Kind::Directory)) => return Err(Error::IsDirectory(to_path(&path))),
            (_, Some(_)) => {}
        }
        let mut header = self.header(tree, entry, kind, path.clone());
        let mut content = match kind {
            Kind::File => Content::File(tree, entry),
            _ => Content::None,
        };
        if kind != Kind::Directory && entry.stat.nlink > 1 && tree.ownership() == Ownership::Kept {
            match linked.get(&(entry.stat.dev, entry.stat.ino)) {
                Some(first) => {
                    header.kind = Kind::HardLink;
                    header.link.clone_from(first);
                    header.size = 0;
                    header.xattrs.clear();
                    content = Content::None;
                }
                None => {
                    linked.insert((entry.stat.dev, entry.stat.ino), path.clone());
                }
            }
        }
        self.paths.insert(Order(path), Placed { header, content });
        Ok(())
    }

    fn header(&self, tree: &Tree, entry: &Entry, kind: Kind, path: Vec<u8>) -> Header {
        let stat = &entry.stat;
        let kept = match tree.ownership() {
            Ownership::Root => (0, 0),
            Ownership::Kept => (stat.uid, stat.gid),
        };
        let (uid, gid) = self.placement.owner.unwrap_or(kept);
        let mode = match (kind, &self.placement.chmod) {
            (Kind::Symlink, _) => 0o777,
            (_, Some(chmod)) => chmod.apply(stat.mode, kind == Kind::Directory),
            (_, None) => stat.mode,
        };
        Header {
            uid,
            gid,
            mtime: self.mtime(stat, tree.ownership()),
            size: if kind == Kind::File { stat.size } else { 0 },
            link: entry.link.clone(),
            device: stat.rdev,
            xattrs: entry.xattrs.clone(),
            ..Header::new(path, kind, mode)
        }
    }

    /// Two checkouts of the same files have different times; what stages made has times of its own.
    fn mtime(&self, stat: &Stat, ownership: Ownership) -> Time {
        let seconds = match ownership {
            Ownership::Root => self.placement.epoch,
            Ownership::Kept => stat.mtime.seconds.min(self.placement.epoch),
        };
        Time { seconds, nanos: 0 }
    }

    fn write<W: Write>(self, out: W) -> Result<W> {
        let mut tar = Writer::new(out);
        for placed in self.paths.values() {
            let path = &placed.header.path;
            if path.split(|&b| b == b'/').any(|name| name.starts_with(b".wh.")) {
                return Err(Error::Whiteout(to_path(path)));
            }
            match placed.content {
                Content::None => tar.append(&placed.header, io::empty())?,
                Content::Bytes(bytes) => tar.append(&placed.header, bytes)?,
                Content::File(tree, entry) => {
                    let file = open(tree, entry)?;
                    let mut content = Hashed::new(file);
                    tar.append(&placed.header, &mut content)?;
                    content.finish(entry)?;
                }
            }
        }
        for (tree, entry, target) in &self.archives {
            archive::append(tree, entry, target, self.placement, &mut tar)?;
        }
        Ok(tar.finish()?)
    }
}

/// A reader whose bytes are hashed on the way.
pub(super) struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R) -> Hashed<R> {
        Hashed { inner, hasher: Sha256::new() }
    }

    /// Whether the file that was read, to its end, is what it was when it was looked at.
    pub(super) fn finish(mut self, entry: &Entry) -> Result<()> {
        let failed = |e| Error::io("read", to_path(&entry.path))(e);
        io::copy(&mut self, &mut io::sink()).map_err(failed)?;
        let sha: [u8; 32] = self.hasher.finalize().into();
        match entry.sha {
            Some(known) if known != sha => Err(Error::Changed(to_path(&entry.path))),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

fn kind_of(stat: &Stat) -> Option<Kind> {
    Some(match stat.kind {
        FileKind::File => Kind::File,
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink,
        FileKind::Char => Kind::Char,
        FileKind::Block => Kind::Block,
        FileKind::Fifo => Kind::Fifo,
        FileKind::Socket | FileKind::Unknown => return None,
    })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
