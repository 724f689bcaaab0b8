//! Applying a layer: entry by entry, onto an empty directory or onto the layers below.
//!
//! A layer's directory becomes a layer of overlayfs, so what it hides is written in overlayfs's
//! form: a character device 0:0, and an attribute on opaque directories. Whiteouts hide what the
//! layers *below* have; what the same layer makes stays, in whatever order the tar has them (OCI
//! Image Specification, layer.md).
//!
//! | in the tar | in the tree |
//! |---|---|
//! | absolute paths, `..` inside | beneath the root, by text alone as in Docker; leading out is an error |
//! | a parent that is a symbolic link | followed within the root, never out of it |
//! | an entry where something is | replaces it; a directory joins a directory |
//! | hard link | to what is at that path beneath the root, be it a symbolic link; outside is an error |
//! | character device 0:0 | a whiteout, which is what overlayfs takes it for |
//! | other devices | made, or left out where [`Devices::Omitted`] |
//! | `trusted.*`, `user.overlay.*`, `security.*` but capabilities | left out, and counted |
//! | set-user-ID, capabilities, owners, times to the nanosecond | kept |
//! | holes | stay holes |

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{BufRead, Read},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    rc::Rc,
};

use hako_oci::Digest;
use hako_root::Root;
use hako_sys::{
    Errno,
    fs::{self, AtFlags, FileKind, OpenFlags},
};
use hako_tar::{Entry, Header, Kind};

use crate::{
    Compression,
    attributes::Attributes,
    error::{Error, Result},
    name::{Plain, Role, role},
    stream,
    tree::{Found, Loose, Parent, Tree, c_name, entry_error, to_path},
};

/// What a layer is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// An empty directory, which becomes the lowest layer. There is nothing to hide.
    Base,
    /// An empty directory, which will lie over others. Where the layer builds on what it does not
    /// carry, [`Applied::needs_parent`] says so.
    Directory,
    /// The root of an overlay whose lower layers are those below this one, and whose upper layer
    /// becomes this one: what is hidden is removed, and overlayfs writes the whiteouts.
    Overlay,
}

/// What to do with devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// Make them.
    Made,
    /// Leave them out: in a user namespace nobody can make any.
    Omitted,
}

/// How much a layer may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar.
    pub tar_bytes_max: u64,
    /// Bytes of all files together, with their holes.
    pub content_bytes_max: u64,
    /// Entries.
    pub entries_max: u64,
}

impl Default for Limits {
    /// 256 GiB of tar, 1 TiB of files, twenty million entries.
    fn default() -> Limits {
        Limits { tar_bytes_max: 256 << 30, content_bytes_max: 1 << 40, entries_max: 20_000_000 }
    }
}

/// How to apply a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions {
    /// What it is applied to.
    pub onto: Onto,
    /// Whether opaque directories are marked with `user.overlay.*` (an overlay mounted with
    /// `userxattr`) instead of `trusted.overlay.*`.
    pub userxattr: bool,
    /// What to do with devices.
    pub devices: Devices,
    /// How much it may become.
    pub limits: Limits,
}

impl Default for ApplyOptions {
    fn default() -> ApplyOptions {
        ApplyOptions {
            onto: Onto::Directory,
            userxattr: false,
            devices: Devices::Made,
            limits: Limits::default(),
        }
    }
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Omitted {
    /// Devices.
    pub devices: u64,
    /// Extended attributes that a layer may not set, or that the file system has not.
    pub xattrs: u64,
}

/// A layer that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// How the blob is compressed.
    pub compression: Compression,
    /// Bytes of all files together.
    pub size_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Whether the directory is not yet what the layer means: the layer names paths whose parents
    /// it does not carry, or links to files below. [`settle`](crate::settle) may mend that; or
    /// the directory is thrown away, and the layer applied [`Onto::Overlay`] over those below it.
    /// Never set after that, nor of [`Onto::Base`].
    pub needs_parent: bool,
    /// Whether the layer describes its root directory. Where it does not, that is to look like the
    /// root of the layer below.
    pub has_root: bool,
    /// What was left out.
    pub omitted: Omitted,
    pub(crate) loose: Loose,
}

impl Applied {
    /// Whether nothing but the looks of its root is open until the layers below are there.
    pub fn stands_alone(&self) -> bool {
        self.loose == Loose::default()
    }
}

/// Applies a layer, compressed or not, to `dest`.
///
/// Nothing is flushed to disk: the caller does that once for all of it. After an error `dest`
/// holds a part of the layer.
pub fn apply(layer: impl Read + Send, dest: &Root, options: &ApplyOptions) -> Result<Applied> {
    let (outcome, digests) = stream::with_tar(layer, &options.limits, None, |tar| {
        let mut applier = Applier::new(dest, options);
        let mut tar = hako_tar::Reader::new(tar);
        while let Some(entry) = tar.next_entry()? {
            applier.entry(entry)?;
            if applier.below {
                // Applied again anyway: only the digests are still wanted.
                break;
            }
        }
        applier.finish()
    })?;
    let loose = match options.onto {
        Onto::Directory => outcome.tree.loose(outcome.below),
        Onto::Base | Onto::Overlay => Loose::default(),
    };
    Ok(Applied {
        diff_id: digests.diff_id,
        compression: digests.compression,
        size_bytes: outcome.bytes,
        entries: outcome.entries,
        needs_parent: loose.links || !loose.directories.is_empty(),
        has_root: outcome.has_root,
        omitted: outcome.omitted,
        loose,
    })
}

struct Applier<'a> {
    tree: Tree<'a>,
    options: &'a ApplyOptions,
    bytes: u64,
    entries: u64,
    /// Whether the layers below have to be there.
    below: bool,
    has_root: bool,
    omitted: Omitted,
}

/// An entry's place.
struct Place<'p> {
    parent: &'p Parent,
    name: CString,
    path: Plain,
}

impl<'a> Applier<'a> {
    fn new(dest: &'a Root, options: &'a ApplyOptions) -> Applier<'a> {
        Applier {
            tree: Tree::new(dest, options.onto, options.userxattr),
            options,
            bytes: 0,
            entries: 0,
            below: false,
            has_root: false,
            omitted: Omitted::default(),
        }
    }

    fn finish(mut self) -> Result<Applier<'a>> {
        if !self.below {
            self.omitted.xattrs += self.tree.finish()?;
        }
        Ok(self)
    }

    fn entry<R: BufRead>(&mut self, entry: Entry<'_, R>) -> Result<()> {
        self.entries += 1;
        let limit = self.options.limits.entries_max;
        if self.entries > limit {
            return Err(Error::Limit { what: "the number of entries", limit });
        }
        let header = entry.header();
        let path = plain(&header.path, &header.path, "leads out of the root")?;
        let role = role(&path)?;
        let Some((parent_path, name)) = path.split() else {
            return match header.kind {
                Kind::Directory => {
                    let attributes = self.attributes(&mut entry.into_header());
                    self.tree.made(path, Some(attributes));
                    self.has_root = true;
                    Ok(())
                }
                _ => Err(path_error(&path, "is the root, and no directory")),
            };
        };
        let is_whiteout = header.kind == Kind::Char && header.device == (0, 0);
        match role {
            Role::Aufs => return Ok(()),
            Role::Whiteout(hidden) => return self.hide(&parent_path, Some(hidden)),
            Role::Opaque => return self.hide(&parent_path, None),
            Role::Plain if is_whiteout => return self.hide(&parent_path, Some(name)),
            Role::Plain => {}
        }
        let parent = match self.tree.parent(&parent_path)? {
            Found::Parent(parent) => parent,
            Found::Below => {
                self.below = true;
                return Ok(());
            }
        };
        let place = Place {
            parent: &Rc::clone(&parent),
            name: c_name(name, &path)?,
            // Without links, so that a path is known by one name only.
            path: parent.path.join(name),
        };
        match header.kind {
            Kind::File => self.file(&place, entry),
            Kind::Directory => self.directory(place, entry.into_header()),
            Kind::HardLink => self.hard_link(&place, entry.into_header()),
            Kind::Symlink => {
                let header = entry.into_header();
                let target = CString::new(&header.link[..]);
                let target = target.map_err(|_| path_error(&place.path, "links to a NUL"))?;
                let make = || fs::symlinkat(&target, place.parent.fd(), &place.name);
                self.special(&place, header, "symlinkat", make)
            }
            Kind::Fifo => self.node(&place, entry.into_header(), FileKind::Fifo),
            Kind::Char => self.device(&place, entry.into_header(), FileKind::Char),
            Kind::Block => self.device(&place, entry.into_header(), FileKind::Block),
            Kind::Other(type_byte) => Err(Error::Type { path: to_path(path.bytes()), type_byte }),
        }
    }

    /// Hides a name, or all names, of the layers below in a directory.
    fn hide(&mut self, dir: &Plain, name: Option<&[u8]>) -> Result<()> {
        // Docker makes the directory, even if nothing is to be hidden in it.
        match self.tree.parent(dir)? {
            Found::Below => {
                self.below = true;
                Ok(())
            }
            // Overlayfs knows no opaque root: every name in it has to be hidden for itself.
            Found::Parent(dir)
                if name.is_none() && dir.path.is_root() && self.options.onto == Onto::Directory =>
            {
                self.below = true;
                Ok(())
            }
            Found::Parent(dir) => match name {
                None => self.tree.hide_content(&dir),
                Some(name) => {
                    let path = dir.path.join(name);
                    self.tree.hide(&dir, &c_name(name, &path)?, &path)
                }
            },
        }
    }

    fn directory(&mut self, place: Place<'_>, mut header: Header) -> Result<()> {
        self.tree.make_directory(place.parent, &place.name, &place.path)?;
        let attributes = self.attributes(&mut header);
        self.tree.made(place.path, Some(attributes));
        Ok(())
    }

    fn file<R: BufRead>(&mut self, place: &Place<'_>, mut entry: Entry<'_, R>) -> Result<()> {
        let size = entry.header().size;
        let limit = self.options.limits.content_bytes_max;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > limit {
            return Err(Error::Limit { what: "the size of the files", limit });
        }
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOFOLLOW;
        let open = || fs::openat(place.parent.fd(), &place.name, flags, 0o600);
        let file = File::from(self.make(place, "openat", open)?);
        let failed = |call, e: std::io::Error| entry_error(call, &place.path, Errno::of(&e));
        let mut end = 0;
        entry.for_each_piece(|offset, piece| {
            end = offset + piece.len() as u64;
            file.write_all_at(piece, offset).map_err(|e| failed("write", e))
        })?;
        if end < size {
            file.set_len(size).map_err(|e| failed("ftruncate", e))?;
        }
        let attributes = self.attributes(&mut entry.into_header());
        let set = attributes.set(file.as_fd());
        self.omitted.xattrs += set.map_err(|(call, e)| entry_error(call, &place.path, e))?;
        self.tree.made(place.path.clone(), None);
        Ok(())
    }

    fn hard_link(&mut self, place: &Place<'_>, mut header: Header) -> Result<()> {
        let target = plain(&header.link, &header.path, "links out of the root")?;
        let missing =
            || Error::Link { path: to_path(place.path.bytes()), target: to_path(target.bytes()) };
        let (above, name) = target.split().ok_or_else(missing)?;
        let name = c_name(name, &target)?;
        let above = match self.tree.existing_parent(&above)? {
            Some(Found::Parent(above)) => above,
            Some(Found::Below) => {
                self.below = true;
                return Ok(());
            }
            None => return Err(missing()),
        };
        let stat = match fs::statat(above.fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.kind == FileKind::Directory || stat.is_whiteout() => {
                return Err(missing());
            }
            Ok(stat) => stat,
            Err(Errno::ENOENT) if self.options.onto == Onto::Directory => {
                self.below = true;
                return Ok(());
            }
            Err(Errno::ENOENT) => return Err(missing()),
            Err(e) => return Err(entry_error("fstatat", &target, e)),
        };
        // To itself it is already.
        if above.path.join(name.to_bytes()) != place.path {
            let link = || {
                let (from, to) = (above.fd(), place.parent.fd());
                fs::linkat(from, &name, to, &place.name, AtFlags::empty())
            };
            self.make(place, "linkat", link)?;
        }
        self.tree.made(place.path.clone(), None);
        let attributes = self.attributes(&mut header);
        // Archives repeat what the first name said; where one says otherwise, the last counts.
        if !attributes.is_like(&stat) {
            self.set_by_name(place, &attributes, stat.kind == FileKind::Symlink)?;
        }
        Ok(())
    }

    fn device(&mut self, place: &Place<'_>, header: Header, kind: FileKind) -> Result<()> {
        match self.options.devices {
            Devices::Made => self.node(place, header, kind),
            Devices::Omitted => {
                self.omitted.devices += 1;
                Ok(())
            }
        }
    }

    fn node(&mut self, place: &Place<'_>, header: Header, kind: FileKind) -> Result<()> {
        let device = header.device;
        let make = || fs::mknodat(place.parent.fd(), &place.name, kind, 0o600, device);
        self.special(place, header, "mknodat", make)
    }

    /// Makes what is no file and no directory.
    fn special(
        &mut self,
        place: &Place<'_>,
        mut header: Header,
        call: &'static str,
        make: impl Fn() -> hako_sys::Result<()>,
    ) -> Result<()> {
        self.make(place, call, make)?;
        let attributes = self.attributes(&mut header);
        self.set_by_name(place, &attributes, header.kind == Kind::Symlink)?;
        self.tree.made(place.path.clone(), None);
        Ok(())
    }

    /// Makes a name, and first takes away what is there if something is.
    fn make<T>(
        &mut self,
        place: &Place<'_>,
        call: &'static str,
        make: impl Fn() -> hako_sys::Result<T>,
    ) -> Result<T> {
        let made = match make() {
            Err(Errno::EEXIST) => {
                self.tree.clear(place.parent, &place.name, &place.path)?;
                make()
            }
            made => made,
        };
        made.map_err(|e| entry_error(call, &place.path, e))
    }

    fn set_by_name(
        &mut self,
        place: &Place<'_>,
        attributes: &Attributes,
        is_link: bool,
    ) -> Result<()> {
        let name: &CStr = &place.name;
        let set = attributes.set_by_name(place.parent.fd(), name, is_link);
        self.omitted.xattrs += set.map_err(|(call, e)| entry_error(call, &place.path, e))?;
        Ok(())
    }

    fn attributes(&mut self, header: &mut Header) -> Attributes {
        let (attributes, dropped) = Attributes::new(header);
        self.omitted.xattrs += dropped;
        attributes
    }
}

fn plain(path: &[u8], entry: &[u8], why: &'static str) -> Result<Plain> {
    Plain::new(path).ok_or_else(|| Error::Path { path: to_path(entry), why })
}

fn path_error(path: &Plain, why: &'static str) -> Error {
    Error::Path { path: to_path(path.bytes()), why }
}
