//! The tree that a layer is applied to: how parents are found, and what gives way to an entry.
//!
//! Nobody else changes the tree meanwhile. Still every path is resolved by the kernel beneath the
//! root, without following a link; only where one is in the way is the path walked name by name,
//! with links read and their targets walked in turn, `..` and `/` ending at the root.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    rc::Rc,
};

use hako_root::{Dir, Root};
use hako_sys::{
    Errno,
    fs::{self, AtFlags, FileKind, OpenFlags, Resolve, Stat},
    xattr,
};

use crate::{
    Onto,
    attributes::Attributes,
    error::{Error, Result},
    name::Plain,
};

/// As many as path resolution in the kernel follows.
pub(crate) const LINKS_MAX: u32 = 40;

/// Parents that are held open. Archives go through a tree directory by directory.
const PARENTS_HELD: usize = 16;

/// A directory that entries are made in.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) dir: Dir,
    /// Its path without links.
    pub(crate) path: Plain,
}

impl Parent {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.fd()
    }
}

/// What became of looking for a parent.
#[derive(Debug)]
pub(crate) enum Found {
    Parent(Rc<Parent>),
    /// It is, or may be, in the layers below, which are not here.
    Below,
}

pub(crate) struct Tree<'a> {
    root: &'a Root,
    onto: Onto,
    opaque: &'static CStr,
    /// The parents used last, by the path that asked for them; the latest first.
    parents: VecDeque<(Plain, Rc<Parent>)>,
    /// Directories of this layer, whose attributes are set when everything in them is made.
    directories: BTreeMap<Plain, Attributes>,
    /// Onto an overlay: every path this layer made, which its whiteouts do not concern.
    made: BTreeSet<Plain>,
    /// In a directory: what was hidden, and in which directories everything.
    whiteouts: BTreeSet<Plain>,
    opaques: BTreeSet<Plain>,
    /// Directories that entries were put into without being described. Below, there may be a link
    /// in such a place, which leads those entries elsewhere; true where that is all there is to
    /// ask, false where the looks of a directory are wanted too.
    implied: BTreeMap<Plain, bool>,
}

/// What a layer in a directory leaves open until the layers below are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Loose {
    /// Whether links or parents lead into the layers below.
    pub(crate) links: bool,
    /// Directories that entries were put into without being described; true where their looks are
    /// settled.
    pub(crate) directories: Vec<(Plain, bool)>,
    /// Whiteouts.
    pub(crate) whiteouts: Vec<Plain>,
}

/// How a path came out when it was walked name by name.
struct Walked {
    path: Plain,
    /// Of `path`, the part that exists.
    exists: Plain,
    /// Whether the first missing name came from a link's target.
    dangling: bool,
    /// Whether what ends `exists` is a whiteout of this layer.
    whiteout: bool,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: &'a Root, onto: Onto, userxattr: bool) -> Tree<'a> {
        Tree {
            root,
            onto,
            opaque: if userxattr { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" },
            parents: VecDeque::new(),
            directories: BTreeMap::new(),
            made: BTreeSet::new(),
            whiteouts: BTreeSet::new(),
            opaques: BTreeSet::new(),
            implied: BTreeMap::new(),
        }
    }

    /// The directory of this path, made where it is missing.
    pub(crate) fn parent(&mut self, path: &Plain) -> Result<Found> {
        let found = self.look_up(path, true)?.unwrap_or(Found::Below);
        if let (Onto::Overlay, Found::Parent(parent)) = (self.onto, &found) {
            // A directory that the layer only implies is its own as well.
            self.made.insert(parent.path.clone());
        }
        Ok(found)
    }

    /// The directory of this path; `None` where it is missing.
    pub(crate) fn existing_parent(&mut self, path: &Plain) -> Result<Option<Found>> {
        self.look_up(path, false)
    }

    fn look_up(&mut self, path: &Plain, make: bool) -> Result<Option<Found>> {
        if let Some(at) = self.parents.iter().position(|(asked, _)| asked == path) {
            if at > 0
                && let Some(held) = self.parents.remove(at)
            {
                self.parents.push_front(held);
            }
            return Ok(Some(Found::Parent(Rc::clone(&self.parents[0].1))));
        }
        let parent = match self.open_dir(path) {
            Ok(dir) => Parent { dir, path: path.clone() },
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {
                match self.find_or_make(path, make)? {
                    Some(parent) => parent,
                    // In the layers below there may be a link, a directory, or nothing.
                    None if self.onto == Onto::Directory => return Ok(Some(Found::Below)),
                    None => return Ok(None),
                }
            }
            Err(e) => return Err(entry_error("openat2", path, e)),
        };
        let parent = Rc::new(parent);
        self.parents.truncate(PARENTS_HELD - 1);
        self.parents.push_front((path.clone(), Rc::clone(&parent)));
        Ok(Some(Found::Parent(parent)))
    }

    fn find_or_make(&mut self, path: &Plain, make: bool) -> Result<Option<Parent>> {
        let walked = self.walk(path)?;
        let mut path = walked.exists.clone();
        if walked.whiteout && make {
            // This layer hid the name, and now makes it anew: nothing of the layers below shows.
            let (above, name) =
                walked.exists.split().ok_or_else(|| not_a_directory(&path, &path))?;
            let above_dir = self.open(&above)?;
            let name = c_name(name, &walked.exists)?;
            above_dir.unlink(&name)?;
            self.whiteouts.remove(&walked.exists);
            self.make_implied(&above_dir, &name, &walked.exists)?;
            let dir = self.open(&walked.exists)?;
            self.set_opaque(dir.fd(), &walked.exists)?;
        }
        if walked.exists == walked.path {
            return Ok(Some(Parent { dir: self.open(&path)?, path }));
        }
        if !make {
            return Ok(None);
        }
        if walked.dangling {
            return match self.onto {
                Onto::Directory => Ok(None),
                _ => Err(entry_error("openat2", &walked.path, Errno::ENOENT)),
            };
        }
        let mut dir = self.open(&path)?;
        let missing = walked.path.names().skip(walked.exists.names().count());
        for name in missing {
            path.push(name);
            let name = c_name(name, &path)?;
            self.make_implied(&dir, &name, &path)?;
            if !walked.whiteout {
                self.implied.insert(path.clone(), false);
            }
            dir = dir.open_dir(&name)?;
        }
        Ok(Some(Parent { dir, path }))
    }

    /// A directory that the layer does not describe, as Docker makes it.
    fn make_implied(&self, dir: &Dir, name: &CStr, path: &Plain) -> Result<()> {
        dir.mkdir(name, 0o755)?;
        // Neither the umask nor a set-group-ID bit above may shape it.
        let set = fs::chownat(dir.fd(), name, Some(0), Some(0), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|e| entry_error("fchownat", path, e))?;
        dir.set_permissions(name, 0o755)?;
        Ok(())
    }

    /// Walks a path name by name, through links.
    fn walk(&self, path: &Plain) -> Result<Walked> {
        // Each name, and whether it came from a link.
        let mut todo: VecDeque<(Vec<u8>, bool)> =
            path.names().map(|name| (name.to_vec(), false)).collect();
        let mut walked = Walked {
            path: Plain::default(),
            exists: Plain::default(),
            dangling: false,
            whiteout: false,
        };
        let mut links = 0;
        while let Some((name, from_link)) = todo.pop_front() {
            if walked.path != walked.exists || walked.whiteout {
                // Beneath something missing there is nothing to look at.
                if name == b".." {
                    // A link's target that goes through it.
                    walked.dangling = true;
                    break;
                }
                walked.path.push(&name);
                continue;
            }
            if name == b".." {
                walked.path.pop();
                walked.exists.pop();
                continue;
            }
            walked.path.push(&name);
            let place = match self.place(&walked.path) {
                Ok(place) => place,
                Err(Errno::ENOENT) => {
                    walked.dangling = from_link;
                    continue;
                }
                Err(e) => return Err(entry_error("openat2", path, e)),
            };
            let stat = fs::fstat(place.as_fd()).map_err(|e| entry_error("fstat", path, e))?;
            match stat.kind {
                FileKind::Directory => walked.exists.push(&name),
                FileKind::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(entry_error("openat2", path, Errno::ELOOP));
                    }
                    let target = fs::readlinkat(place.as_fd(), c"")
                        .map_err(|e| entry_error("readlinkat", path, e))?;
                    let target = target.to_bytes();
                    walked.path.pop();
                    if target.starts_with(b"/") {
                        walked.path = Plain::default();
                        walked.exists = Plain::default();
                    }
                    let names = target.split(|&b| b == b'/');
                    let names = names.filter(|name| !matches!(*name, b"" | b"."));
                    for name in names.rev() {
                        todo.push_front((name.to_vec(), true));
                    }
                }
                FileKind::Char if stat.is_whiteout() && self.onto == Onto::Directory => {
                    walked.exists.push(&name);
                    walked.whiteout = true;
                }
                _ => return Err(not_a_directory(path, &walked.path)),
            }
        }
        Ok(walked)
    }

    fn place(&self, path: &Plain) -> hako_sys::Result<std::os::fd::OwnedFd> {
        let resolve = Resolve::IN_ROOT | Resolve::NO_MAGICLINKS | Resolve::NO_SYMLINKS;
        let flags = OpenFlags::PATH | OpenFlags::NOFOLLOW;
        fs::openat2(self.root.fd(), &c_path(path)?, flags, 0, resolve)
    }

    fn open_dir(&self, path: &Plain) -> hako_sys::Result<Dir> {
        let resolve = Resolve::IN_ROOT | Resolve::NO_MAGICLINKS | Resolve::NO_SYMLINKS;
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        let fd = fs::openat2(self.root.fd(), &c_path(path)?, flags, 0, resolve)?;
        Ok(Dir::new(fd, self.root.name().join(to_path(path.bytes()))))
    }

    fn open(&self, path: &Plain) -> Result<Dir> {
        self.open_dir(path).map_err(|e| entry_error("openat2", path, e))
    }

    /// Remembers what the layer made, and what is to be set on it at the end.
    pub(crate) fn made(&mut self, path: Plain, directory: Option<Attributes>) {
        if self.onto == Onto::Overlay {
            self.made.insert(path.clone());
        }
        if let Some(attributes) = directory {
            self.directories.insert(path, attributes);
        }
    }

    /// Makes the directory, or lets one that is there be it.
    pub(crate) fn make_directory(
        &mut self,
        parent: &Parent,
        name: &CStr,
        path: &Plain,
    ) -> Result<()> {
        match fs::mkdirat(parent.fd(), name, 0o700) {
            Err(Errno::EEXIST) => {}
            made => return made.map_err(|e| entry_error("mkdirat", path, e)),
        }
        let stat = parent.dir.metadata(name)?;
        if stat.kind == FileKind::Directory {
            return Ok(());
        }
        self.remove(parent, name, path, &stat)?;
        fs::mkdirat(parent.fd(), name, 0o700).map_err(|e| entry_error("mkdirat", path, e))?;
        if self.onto == Onto::Directory {
            // What was here hid the directory below; this one must not let it show again.
            self.set_opaque(parent.dir.open_dir(name)?.fd(), path)?;
        }
        Ok(())
    }

    /// Takes away what is at the place of an entry that is no directory.
    pub(crate) fn clear(&mut self, parent: &Parent, name: &CStr, path: &Plain) -> Result<()> {
        let stat = parent.dir.metadata(name)?;
        self.remove(parent, name, path, &stat)
    }

    fn remove(&mut self, parent: &Parent, name: &CStr, path: &Plain, stat: &Stat) -> Result<()> {
        match stat.kind {
            FileKind::Directory => {
                self.forget(path);
                parent.dir.remove_all(name)?;
            }
            _ => parent.dir.unlink(name)?,
        }
        if matches!(stat.kind, FileKind::Directory | FileKind::Symlink) {
            // A path that led through it leads elsewhere now.
            self.parents.clear();
        }
        self.made.remove(path);
        self.whiteouts.remove(path);
        Ok(())
    }

    /// Forgets a directory and everything in it.
    fn forget(&mut self, path: &Plain) {
        let beneath = path.beneath();
        let described: Vec<_> =
            self.directories.range(beneath.clone()).map(|(path, _)| path.clone()).collect();
        for path in described.iter().chain([path]) {
            self.directories.remove(path);
        }
        // What was put into them may have belonged elsewhere, still.
        for (_, looks_settled) in self.implied.range_mut(beneath.clone()) {
            *looks_settled = true;
        }
        if let Some(looks_settled) = self.implied.get_mut(path) {
            *looks_settled = true;
        }
        for set in [&mut self.made, &mut self.whiteouts, &mut self.opaques] {
            let gone: Vec<_> = set.range(beneath.clone()).chain([path]).cloned().collect();
            for path in &gone {
                set.remove(path);
            }
        }
    }

    /// Hides a name of the layers below.
    pub(crate) fn hide(&mut self, parent: &Parent, name: &CStr, path: &Plain) -> Result<()> {
        match self.onto {
            Onto::Base => Ok(()),
            Onto::Overlay => self.hide_in_overlay(vec![path.clone()]),
            Onto::Directory => {
                match fs::mknodat(parent.fd(), name, FileKind::Char, 0o600, (0, 0)) {
                    // What this layer made stays, and hides what is below: a directory needs help.
                    Err(Errno::EEXIST) => {}
                    made => {
                        self.whiteouts.insert(path.clone());
                        return made.map_err(|e| entry_error("mknodat", path, e));
                    }
                }
                match parent.dir.metadata(name)?.kind {
                    FileKind::Directory => {
                        // Hidden itself, the one below has no looks to give.
                        if let Some(looks_settled) = self.implied.get_mut(path) {
                            *looks_settled = true;
                        }
                        self.set_opaque(parent.dir.open_dir(name)?.fd(), path)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Hides everything of the layers below in a directory.
    pub(crate) fn hide_content(&mut self, dir: &Parent) -> Result<()> {
        match self.onto {
            Onto::Base => Ok(()),
            Onto::Directory => self.set_opaque(dir.fd(), &dir.path),
            Onto::Overlay => {
                let names = dir.dir.entries()?;
                let paths = names.iter().map(|e| dir.path.join(e.name.to_bytes()));
                self.hide_in_overlay(paths.collect())
            }
        }
    }

    /// Removes paths and everything in them, except for what this layer made.
    fn hide_in_overlay(&mut self, mut paths: Vec<Plain>) -> Result<()> {
        while let Some(path) = paths.pop() {
            let Some((above, name)) = path.split() else { continue };
            let above = self.open(&above)?;
            let name = c_name(name, &path)?;
            let holds_ours = self.made.range(path.beneath()).next().is_some();
            if !holds_ours && !self.made.contains(&path) {
                let removed = above.remove_all(&name);
                self.parents.clear();
                removed?;
                continue;
            }
            let is_directory = match above.metadata(&name) {
                Ok(stat) => stat.kind == FileKind::Directory,
                Err(e) if e.is_not_found() => false,
                Err(e) => return Err(e.into()),
            };
            if is_directory {
                let names = above.open_dir(&name)?.entries()?;
                paths.extend(names.iter().map(|e| path.join(e.name.to_bytes())));
            }
        }
        Ok(())
    }

    fn set_opaque(&mut self, dir: BorrowedFd<'_>, path: &Plain) -> Result<()> {
        let set = xattr::set_path(dir, self.opaque, b"y");
        set.map_err(|e| entry_error("setxattr", path, e))?;
        self.opaques.insert(path.clone());
        Ok(())
    }

    /// What is left open, after [`Tree::finish`].
    pub(crate) fn loose(self, links: bool) -> Loose {
        Loose {
            links,
            directories: self.implied.into_iter().collect(),
            whiteouts: self.whiteouts.into_iter().collect(),
        }
    }

    /// In an opaque directory, and beneath it, there is nothing left to hide or to look like.
    fn settle_opaques(&mut self) -> Result<()> {
        for opaque in std::mem::take(&mut self.opaques) {
            let beneath = opaque.beneath();
            let stray: Vec<_> = self.whiteouts.range(beneath.clone()).cloned().collect();
            for path in stray {
                let Some((above, name)) = path.split() else { continue };
                self.open(&above)?.unlink(&c_name(name, &path)?)?;
                self.whiteouts.remove(&path);
            }
            for (_, looks_settled) in self.implied.range_mut(beneath) {
                *looks_settled = true;
            }
        }
        Ok(())
    }

    /// Sets what directories get when everything in them is made; the deepest first, because
    /// their parents may become unreadable. Answers how many extended attributes were refused.
    pub(crate) fn finish(&mut self) -> Result<u64> {
        self.settle_opaques()?;
        for (path, looks_settled) in &mut self.implied {
            *looks_settled |= self.directories.contains_key(path);
        }
        let mut directories: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
        directories.sort_by_key(|(path, _)| std::cmp::Reverse(path.names().count()));
        let mut refused = 0;
        for (path, attributes) in directories {
            let resolve = Resolve::IN_ROOT | Resolve::NO_MAGICLINKS | Resolve::NO_SYMLINKS;
            let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
            let fd = c_path(&path)
                .and_then(|c| fs::openat2(self.root.fd(), &c, flags, 0, resolve))
                .map_err(|e| entry_error("openat2", &path, e))?;
            refused +=
                attributes.set(fd.as_fd()).map_err(|(call, e)| entry_error(call, &path, e))?;
        }
        Ok(refused)
    }
}

pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

pub(crate) fn c_name(name: &[u8], path: &Plain) -> Result<CString> {
    CString::new(name).map_err(|_| entry_error("openat2", path, Errno::EINVAL))
}

fn c_path(path: &Plain) -> hako_sys::Result<CString> {
    let bytes = if path.is_root() { b"." } else { path.bytes() };
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

pub(crate) fn entry_error(call: &'static str, path: &Plain, source: Errno) -> Error {
    Error::Entry { call, path: to_path(path.bytes()), source }
}

fn not_a_directory(path: &Plain, parent: &Plain) -> Error {
    Error::Parent { path: to_path(path.bytes()), parent: to_path(parent.bytes()) }
}
