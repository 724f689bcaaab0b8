//! Layers merged into one tree without being unpacked: what applying them one after another to a
//! directory would make, as an EROFS index that points into their tars.
//!
//! What [`apply`](crate::apply) does with directories on disk is done here with a tree in memory,
//! by the same rules (see there). Whiteouts hide what the layers below have and never what their
//! own layer makes; merged, nothing is left of them.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io::Write,
};

use hako_erofs::{Content, Device, Extent, Inode, Tree};
use hako_sys::Errno;
use hako_tar::{Header, Kind};

use crate::{
    Listing, Omitted,
    attributes::Attributes,
    error::{Error, Result},
    listing::{Listed, Place},
    name::{Plain, Role, role},
    tree::{LINKS_MAX, entry_error, to_path},
};

/// Names that are looked at in all: so that no layer keeps a processor busy for hours with
/// whiteouts of what stays, or with links that lead through links.
const WORK_MAX: u64 = 1 << 28;
/// As long as a path may be for the kernel.
const PATH_MAX: usize = 4095;
const ROOT: usize = 0;

/// A tree of layers, to which the next one is added on top.
#[derive(Debug)]
pub struct Merge {
    tree: Tree,
    /// Names that the layer being added made, by directory; of the lowest one that is all names.
    made: HashSet<(usize, Vec<u8>)>,
    /// Directories that it describes: no others get looks of their own from it.
    described: HashSet<usize>,
    /// The parent that was looked up last: archives go through a tree directory by directory.
    last: Option<(Plain, Parent)>,
    is_base: bool,
    work: u64,
    omitted: Omitted,
}

/// A directory, and its own name in the one above; none for the root.
#[derive(Debug, Clone)]
struct Parent {
    directory: usize,
    name: Option<(usize, Vec<u8>)>,
}

/// How a path came out: directories from the root, and what of it is missing.
struct Walked {
    stack: Vec<Parent>,
    missing: Vec<Vec<u8>>,
    /// Whether the first missing name came from a link's target.
    dangling: bool,
}

impl Default for Merge {
    fn default() -> Merge {
        Merge {
            tree: Tree::new(Inode::directory(0o755)),
            made: HashSet::new(),
            described: HashSet::new(),
            last: None,
            is_base: true,
            work: 0,
            omitted: Omitted::default(),
        }
    }
}

impl Merge {
    /// The tree of an index that [`write`](Merge::write) made: adding to it is adding to the layers
    /// that it was made of.
    pub fn of_index(index: &[u8]) -> Result<Merge> {
        let tree = hako_erofs::read(index)?;
        Ok(Merge { tree, is_base: false, ..Merge::default() })
    }

    /// Adds a layer over those that were added before. `tag` is kept with its tar in the index.
    ///
    /// At mount time the devices are, for each layer: its tar, then its sparse content if
    /// [`Listing::sparse_bytes`] is not 0.
    pub fn add(&mut self, layer: &Listing, tag: &str) -> Result<()> {
        let first = self.tree.devices.len();
        let device = |bytes| Device { tag: tag.as_bytes().to_vec(), bytes };
        self.tree.devices.push(device(layer.tar_bytes));
        if layer.sparse_bytes > 0 {
            self.tree.devices.push(device(layer.sparse_bytes));
        }
        for entry in &layer.entries {
            self.entry(entry, first)?;
        }
        self.made = HashSet::new();
        self.described.clear();
        self.last = None;
        self.is_base = false;
        Ok(())
    }

    /// What was left out so far.
    pub fn omitted(&self) -> Omitted {
        self.omitted
    }

    /// Writes the index, and returns its size. The same layers give the same bytes.
    pub fn write(mut self, uuid: [u8; 16], out: &mut impl Write) -> Result<u64> {
        self.tree.uuid = uuid;
        Ok(hako_erofs::write(&self.tree, out)?)
    }

    fn entry(&mut self, entry: &Listed, device: usize) -> Result<()> {
        let header = &entry.header;
        let path = plain(&header.path, &header.path, "leads out of the root")?;
        let role = role(&path)?;
        let Some((above, name)) = path.split() else {
            if header.kind != Kind::Directory {
                let why = "is the root, and no directory";
                return Err(Error::Path { path: to_path(&header.path), why });
            }
            let inode = self.inode(header, Content::Directory(BTreeMap::new()), &path)?;
            self.describe(ROOT, inode);
            return Ok(());
        };
        let is_whiteout = header.kind == Kind::Char && header.device == (0, 0);
        match role {
            Role::Aufs => return Ok(()),
            Role::Whiteout(hidden) => return self.hide(&above, Some(hidden)),
            Role::Opaque => return self.hide(&above, None),
            Role::Plain if is_whiteout => return self.hide(&above, Some(name)),
            Role::Plain => {}
        }
        if path.bytes().len() > PATH_MAX || name.len() > hako_erofs::NAME_MAX {
            return Err(entry_error("openat", &path, Errno::ENAMETOOLONG));
        }
        let parent = self.parent(&above)?.directory;
        let content = match header.kind {
            Kind::File => {
                let (device, block) = match entry.place {
                    Place::Tar(block) => (device, block),
                    Place::Sparse(block) => (device + 1, block),
                };
                let extent = (header.size > 0).then_some(Extent { device, block });
                Content::File { size: header.size, extent }
            }
            Kind::Directory => return self.directory(parent, name, header, &path),
            Kind::HardLink => return self.hard_link(parent, name, header, &path),
            Kind::Symlink if header.link.is_empty() => {
                return Err(entry_error("symlinkat", &path, Errno::ENOENT));
            }
            Kind::Symlink if header.link.contains(&0) => {
                let why = "links to a NUL";
                return Err(Error::Path { path: to_path(path.bytes()), why });
            }
            Kind::Symlink if header.link.len() > hako_erofs::SYMLINK_MAX => {
                return Err(entry_error("symlinkat", &path, Errno::ENAMETOOLONG));
            }
            Kind::Symlink => Content::Symlink(header.link.clone()),
            Kind::Fifo => Content::Fifo,
            Kind::Char | Kind::Block => {
                let (major, minor) = header.device;
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(entry_error("mknodat", &path, Errno::EINVAL));
                }
                match header.kind {
                    Kind::Char => Content::Char(major, minor),
                    _ => Content::Block(major, minor),
                }
            }
            Kind::Other(type_byte) => {
                return Err(Error::Type { path: to_path(path.bytes()), type_byte });
            }
        };
        let inode = self.inode(header, content, &path)?;
        let number = self.tree.add(inode);
        self.set_name(parent, name, number);
        Ok(())
    }

    fn directory(
        &mut self,
        parent: usize,
        name: &[u8],
        header: &Header,
        path: &Plain,
    ) -> Result<()> {
        let inode = self.inode(header, Content::Directory(BTreeMap::new()), path)?;
        match self.names(parent).get(name) {
            Some(&there) if self.is_directory(there) => {
                self.describe(there, inode);
                self.mark_made(parent, name);
            }
            _ => {
                let number = self.tree.add(inode);
                self.described.insert(number);
                self.set_name(parent, name, number);
            }
        }
        Ok(())
    }

    /// Another name for a file. Where its header says otherwise than the file, the last counts; a
    /// file of the layers below stays as it is there under its names that this layer does not
    /// mention, as it does when overlayfs copies it up.
    fn hard_link(
        &mut self,
        parent: usize,
        name: &[u8],
        header: &Header,
        path: &Plain,
    ) -> Result<()> {
        let target = plain(&header.link, &header.path, "links out of the root")?;
        let missing =
            || Error::Link { path: to_path(path.bytes()), target: to_path(target.bytes()) };
        let (above, target_name) = target.split().ok_or_else(missing)?;
        let walked = self.walk(&above)?;
        if !walked.missing.is_empty() {
            return Err(missing());
        }
        let above = walked.directory();
        let number = *self.names(above).get(target_name).ok_or_else(missing)?;
        if self.is_directory(number) {
            return Err(missing());
        }
        let there = &self.tree.inodes[number];
        let wanted = self.inode(header, there.content.clone(), path)?;
        let there = &self.tree.inodes[number];
        let is_like = (wanted.uid, wanted.gid, wanted.mtime) == (there.uid, there.gid, there.mtime)
            && wanted.mode == there.mode
            && wanted.xattrs.is_empty();
        let is_ours = self.is_base || self.made.contains(&(above, target_name.to_vec()));
        let is_itself = (above, target_name) == (parent, name);
        let number = if is_like {
            number
        } else {
            let mut changed = wanted;
            let mut xattrs = there.xattrs.clone();
            xattrs.append(&mut changed.xattrs);
            changed.xattrs = xattrs;
            if is_ours {
                self.tree.inodes[number] = changed;
                number
            } else {
                let copy = self.tree.add(changed);
                self.set_name(above, target_name, copy);
                copy
            }
        };
        if is_itself {
            self.mark_made(parent, name);
        } else {
            self.set_name(parent, name, number);
        }
        Ok(())
    }

    /// Hides a name, or all names, of the layers below in a directory.
    fn hide(&mut self, directory: &Plain, name: Option<&[u8]>) -> Result<()> {
        // Docker makes the directory, even if nothing is to be hidden in it.
        let parent = self.parent(directory)?.directory;
        if self.is_base {
            return Ok(());
        }
        self.last = None;
        let names: Vec<Vec<u8>> = match name {
            Some(name) => vec![name.to_vec()],
            None => self.names(parent).keys().cloned().collect(),
        };
        for name in names {
            let Some(&hidden) = self.names(parent).get(&name) else { continue };
            let keeps = self.prune(hidden)?;
            if !keeps && !self.made.contains(&(parent, name.clone())) {
                self.names_mut(parent).remove(&name);
            }
        }
        Ok(())
    }

    /// Takes everything out of a directory that this layer did not make. Answers whether something
    /// is left in it.
    fn prune(&mut self, top: usize) -> Result<bool> {
        if !self.is_directory(top) {
            return Ok(false);
        }
        // Each directory after the one that it is in.
        let mut directories = vec![top];
        let mut next = 0;
        while let Some(&directory) = directories.get(next) {
            next += 1;
            let names = self.names(directory).len() as u64;
            self.work(1 + names)?;
            let inner = self.names(directory).values().copied();
            let inner: Vec<usize> = inner.filter(|&child| self.is_directory(child)).collect();
            directories.extend(inner);
        }
        for &directory in directories.iter().rev() {
            let mut names = std::mem::take(self.names_mut(directory));
            names.retain(|name, child| {
                self.made.contains(&(directory, name.clone()))
                    || self.is_directory(*child) && !self.names(*child).is_empty()
            });
            let content = Content::Directory(names);
            if self.described.contains(&directory) {
                self.tree.inodes[directory].content = content;
            } else {
                // Hidden itself, the one below has no looks to give.
                self.tree.inodes[directory] = Inode { content, ..Inode::directory(0o755) };
            }
        }
        Ok(!self.names(top).is_empty())
    }

    fn mark_made(&mut self, parent: usize, name: &[u8]) {
        if !self.is_base {
            self.made.insert((parent, name.to_vec()));
        }
    }

    /// The directory of this path, through links, made where it is missing.
    fn parent(&mut self, path: &Plain) -> Result<Parent> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(parent.clone());
        }
        let mut walked = self.walk(path)?;
        if walked.dangling {
            return Err(entry_error("openat2", path, Errno::ENOENT));
        }
        for name in std::mem::take(&mut walked.missing) {
            if name.len() > hako_erofs::NAME_MAX || path.bytes().len() > PATH_MAX {
                return Err(entry_error("openat2", path, Errno::ENAMETOOLONG));
            }
            let above = walked.directory();
            let directory = self.tree.add(Inode::directory(0o755));
            self.set_name(above, &name, directory);
            walked.stack.push(Parent { directory, name: Some((above, name)) });
        }
        let parent = walked.stack.pop().unwrap_or(Parent { directory: ROOT, name: None });
        // A directory that the layer only implies is its own as well.
        if let Some(name) = &parent.name {
            self.mark_made(name.0, &name.1);
        }
        self.last = Some((path.clone(), parent.clone()));
        Ok(parent)
    }

    /// Walks a path name by name, through links; `..` and `/` end at the root.
    fn walk(&mut self, path: &Plain) -> Result<Walked> {
        let mut todo: VecDeque<(Vec<u8>, bool)> =
            path.names().map(|name| (name.to_vec(), false)).collect();
        let root = Parent { directory: ROOT, name: None };
        let mut walked = Walked { stack: vec![root], missing: Vec::new(), dangling: false };
        let mut links = 0;
        while let Some((name, from_link)) = todo.pop_front() {
            self.work(1)?;
            if !walked.missing.is_empty() {
                if name == b".." {
                    // A link's target that goes through what is not there.
                    walked.dangling = true;
                    break;
                }
                walked.missing.push(name);
                continue;
            }
            if name == b".." {
                walked.stack.truncate(walked.stack.len().saturating_sub(1).max(1));
                continue;
            }
            let above = walked.directory();
            let Some(&there) = self.names(above).get(&name) else {
                walked.dangling = from_link;
                walked.missing.push(name);
                continue;
            };
            match &self.tree.inodes[there].content {
                Content::Directory(_) => {
                    let name = Some((above, name));
                    walked.stack.push(Parent { directory: there, name });
                }
                Content::Symlink(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(entry_error("openat2", path, Errno::ELOOP));
                    }
                    if target.starts_with(b"/") {
                        walked.stack.truncate(1);
                    }
                    let names = target.split(|&b| b == b'/');
                    let names = names.filter(|name| !matches!(*name, b"" | b"."));
                    for name in names.rev() {
                        todo.push_front((name.to_vec(), true));
                    }
                }
                _ => {
                    let parent = walked.path(&name);
                    return Err(Error::Parent { path: to_path(path.bytes()), parent });
                }
            }
        }
        Ok(walked)
    }

    fn set_name(&mut self, parent: usize, name: &[u8], number: usize) {
        let before = self.names_mut(parent).insert(name.to_vec(), number);
        if before.is_some() {
            // A path that led through it leads elsewhere now.
            self.last = None;
        }
        self.mark_made(parent, name);
    }

    /// Gives a directory the looks of an inode, and leaves what is in it.
    fn describe(&mut self, directory: usize, mut inode: Inode) {
        let there = &mut self.tree.inodes[directory];
        std::mem::swap(&mut there.content, &mut inode.content);
        *there = inode;
        self.described.insert(directory);
    }

    fn inode(&mut self, header: &Header, content: Content, path: &Plain) -> Result<Inode> {
        let (attributes, dropped) = Attributes::new(&mut header.clone());
        let inode = attributes.inode(content);
        let (inode, refused) = inode.map_err(|(call, e)| entry_error(call, path, e))?;
        self.omitted.xattrs += dropped + refused;
        Ok(inode)
    }

    fn is_directory(&self, number: usize) -> bool {
        matches!(self.tree.inodes[number].content, Content::Directory(_))
    }

    fn names(&self, directory: usize) -> &BTreeMap<Vec<u8>, usize> {
        match &self.tree.inodes[directory].content {
            Content::Directory(names) => names,
            _ => unreachable!("inode {directory} is a directory"),
        }
    }

    fn names_mut(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.tree.inodes[directory].content {
            Content::Directory(names) => names,
            _ => unreachable!("inode {directory} is a directory"),
        }
    }

    fn work(&mut self, names: u64) -> Result<()> {
        self.work += names;
        if self.work > WORK_MAX {
            return Err(Error::Limit { what: "the work of merging", limit: WORK_MAX });
        }
        Ok(())
    }
}

impl Walked {
    fn directory(&self) -> usize {
        self.stack.last().map_or(ROOT, |parent| parent.directory)
    }

    fn path(&self, name: &[u8]) -> std::path::PathBuf {
        let mut path = Plain::default();
        for parent in &self.stack {
            if let Some((_, name)) = &parent.name {
                path.push(name);
            }
        }
        path.push(name);
        to_path(path.bytes())
    }
}

fn plain(path: &[u8], entry: &[u8], why: &'static str) -> Result<Plain> {
    Plain::new(path).ok_or_else(|| Error::Path { path: to_path(entry), why })
}
