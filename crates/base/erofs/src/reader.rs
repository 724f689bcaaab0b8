//! Reads images that [`write`](crate::write) made, for tests and for verification.
//!
//! Every offset is checked against the image, every inode and every byte of a directory is visited
//! once: the work is bounded by the image's size. The one thing that many may share, extended
//! attributes, has a bound of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{
    Content, Device, Error, Extent, Inode, Result, Time, Tree, format::*, tree::check_name,
};

/// Bytes of all extended attributes together, as often as they are shared.
const XATTRS_BYTES_MAX: u64 = 256 << 20;

/// Reads an image into a tree: breadth first, devices in whole blocks.
pub fn read(image: &[u8]) -> Result<Tree> {
    let image = Bytes(image);
    let error = |offset, why| Error::Format { offset, why };
    let s = SUPERBLOCK;
    if image.u32(s)? != MAGIC {
        return Err(error(s, "is no superblock of EROFS"));
    }
    if image.take(s + 12, 1)?[0] != BLOCK_BITS {
        return Err(error(s + 12, "are no blocks of 512 bytes"));
    }
    let devices = image.u16(s + 86)?;
    let incompat = INCOMPAT_CHUNKS | if devices > 0 { INCOMPAT_DEVICES } else { 0 };
    if image.u32(s + 80)? != incompat {
        return Err(error(s + 80, "are features that are not written here"));
    }
    if image.u16(s + 88)? as u64 * SLOT != SLOTS {
        return Err(error(s + 88, "is not where devices are written"));
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(image.take(s + 48, 16)?);
    let mut reader = Reader {
        image,
        meta: u64::from(image.u32(s + 40)?) * BLOCK,
        xattr: u64::from(image.u32(s + 44)?) * BLOCK,
        directory_bytes: 0,
        xattr_bytes: 0,
        tree: Tree { inodes: Vec::new(), devices: Vec::new(), uuid },
    };
    for n in 0..u64::from(devices) {
        let slot = SLOTS + n * SLOT;
        let tag = image.take(slot, TAG_MAX as u64)?;
        let length = tag.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        let bytes = u64::from(image.u32(slot + TAG_MAX as u64)?) * BLOCK;
        reader.tree.devices.push(Device { tag: tag[..length].to_vec(), bytes });
    }
    reader.walk(image.u16(s + 14)?.into())?;
    if reader.tree.inodes.len() as u64 != image.u64(s + 16)? {
        return Err(error(s + 16, "is not the number of inodes"));
    }
    Ok(reader.tree)
}

#[derive(Clone, Copy)]
struct Bytes<'i>(&'i [u8]);

impl<'i> Bytes<'i> {
    fn take(self, offset: u64, length: u64) -> Result<&'i [u8]> {
        let why = "the image ends";
        let end = offset.checked_add(length).ok_or(Error::Format { offset, why })?;
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        range.and_then(|(from, to)| self.0.get(from..to)).ok_or(Error::Format { offset, why })
    }

    fn array<const N: usize>(self, offset: u64) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(offset, N as u64)?);
        Ok(array)
    }

    fn u16(self, offset: u64) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(offset)?))
    }

    fn u32(self, offset: u64) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(offset)?))
    }

    fn u64(self, offset: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(offset)?))
    }
}

struct Reader<'i> {
    image: Bytes<'i>,
    meta: u64,
    xattr: u64,
    directory_bytes: u64,
    xattr_bytes: u64,
    tree: Tree,
}

/// An inode that was read, and what is still to be checked of it.
struct Raw {
    inode: Inode,
    links: u32,
    /// Names in a directory, with the inodes' numbers in the image and types.
    names: Vec<(Vec<u8>, u64, u8)>,
}

impl Reader<'_> {
    fn walk(&mut self, root: u64) -> Result<()> {
        let mut numbers: HashMap<u64, usize> = HashMap::from([(root, 0)]);
        // Links that an inode says it has, links that were found, its type.
        let mut links: Vec<(u32, u32, u8)> = Vec::new();
        let mut todo = VecDeque::from([(root, root)]);
        let mut types = vec![dirent_type(S_IFDIR)];
        while let Some((nid, parent)) = todo.pop_front() {
            let offset = self.offset(nid)?;
            let error = |why| Error::Format { offset, why };
            let raw = self.inode(nid, offset)?;
            let number = links.len();
            let kind = types[number];
            if kind != kind_of(&raw.inode.content) {
                return Err(error("is of another type than its name says"));
            }
            let is_directory = kind == dirent_type(S_IFDIR);
            links.push((raw.links, if nid == root { 2 } else { 0 }, kind));
            self.tree.inodes.push(raw.inode);
            let mut children = BTreeMap::new();
            let (mut dot, mut dot_dot) = (None, None);
            for (name, child, kind) in raw.names {
                match &name[..] {
                    b"." => dot = Some(child),
                    b".." => dot_dot = Some(child),
                    _ => {
                        check_name(&name)?;
                        let known = numbers.get(&child).copied();
                        if known.is_some() && kind == dirent_type(S_IFDIR) {
                            return Err(error("has a directory that has another name"));
                        }
                        let at = known.unwrap_or(types.len());
                        if known.is_none() {
                            numbers.insert(child, at);
                            types.push(kind);
                            todo.push_back((child, nid));
                        } else if types[at] != kind {
                            return Err(error("has a name of another type than the inode"));
                        }
                        children.insert(name, at);
                    }
                }
            }
            if is_directory {
                if dot != Some(nid) || dot_dot != Some(parent) {
                    return Err(error("has no . and .. of its own"));
                }
                self.tree.inodes[number].content = Content::Directory(children);
            }
        }
        for number in 0..self.tree.inodes.len() {
            let Content::Directory(children) = &self.tree.inodes[number].content else { continue };
            for &child in children.values() {
                let is_directory = types[child] == dirent_type(S_IFDIR);
                links[child].1 += if is_directory { 2 } else { 1 };
                links[number].1 += u32::from(is_directory);
            }
        }
        match links.iter().all(|(said, found, _)| said == found) {
            true => Ok(()),
            false => Err(Error::Format { offset: self.meta, why: "an inode miscounts its names" }),
        }
    }

    fn offset(&self, nid: u64) -> Result<u64> {
        let offset = nid.checked_mul(NID_UNIT).and_then(|o| o.checked_add(self.meta));
        offset.ok_or(Error::Format { offset: self.meta, why: "an inode is beyond all bounds" })
    }

    fn inode(&mut self, nid: u64, at: u64) -> Result<Raw> {
        let image = self.image;
        let error = |offset, why| Error::Format { offset, why };
        image.take(at, INODE)?;
        let format = image.u16(at)?;
        let (mode, size, value) = (image.u16(at + 4)?, image.u64(at + 8)?, image.u32(at + 16)?);
        if format & EXTENDED == 0 || image.u32(at + 20)? != nid as u32 {
            return Err(error(at, "is no inode as they are written here"));
        }
        let xattr_bytes = match u64::from(image.u16(at + 2)?) {
            0 => 0,
            count => XATTR_HEADER + (count - 1) * XATTR_ENTRY,
        };
        let body = at + INODE + xattr_bytes;
        let data_layout = format >> 1;
        let content = match mode & S_IFMT {
            S_IFREG => self.file(data_layout, size, value, body)?,
            S_IFDIR => Content::Directory(BTreeMap::new()),
            S_IFLNK => {
                if size == 0 || size > SYMLINK_MAX as u64 {
                    return Err(error(at, "is a link to nothing, or too long"));
                }
                let target = self.body(data_layout, size, value, body)?;
                if target.contains(&0) {
                    return Err(error(at, "is a link to a NUL"));
                }
                Content::Symlink(target.to_vec())
            }
            S_IFCHR | S_IFBLK => {
                let (major, minor) = decode_device(value);
                match mode & S_IFMT {
                    S_IFCHR => Content::Char(major, minor),
                    _ => Content::Block(major, minor),
                }
            }
            S_IFIFO => Content::Fifo,
            _ => return Err(error(at + 4, "is no type")),
        };
        let names = match content {
            Content::Directory(_) => {
                self.directory_bytes = self.directory_bytes.saturating_add(size);
                if self.directory_bytes > image.0.len() as u64 {
                    return Err(error(at, "has a directory that is larger than the image"));
                }
                directory(self.body(data_layout, size, value, body)?, at)?
            }
            _ => Vec::new(),
        };
        let mtime = Time { seconds: image.u64(at + 32)? as i64, nanos: image.u32(at + 40)? };
        if mtime.nanos >= 1_000_000_000 {
            return Err(error(at + 40, "is more than a second"));
        }
        let inode = Inode {
            mode: u32::from(mode & 0o7777),
            uid: image.u32(at + 24)?,
            gid: image.u32(at + 28)?,
            mtime,
            xattrs: self.xattrs(at + INODE, xattr_bytes)?,
            content,
        };
        Ok(Raw { inode, links: image.u32(at + 44)?, names })
    }

    fn file(&self, data_layout: u16, size: u64, value: u32, body: u64) -> Result<Content> {
        let error = |why| Error::Format { offset: body, why };
        if size == 0 {
            return Ok(Content::File { size, extent: None });
        }
        let bits = chunk_bits(size);
        if data_layout != LAYOUT_CHUNKS || bits > CHUNK_BITS_MAX || value != CHUNK_INDEXES | bits {
            return Err(error("is a file that is not one chunk"));
        }
        let index = align(body, CHUNK);
        let (device, block) = (self.image.u16(index + 2)?, self.image.u32(index + 4)?);
        if block == NULL_BLOCK {
            return Ok(Content::File { size, extent: None });
        }
        let device = usize::from(device).checked_sub(1);
        let device = device.filter(|&n| n < self.tree.devices.len());
        let device = device.ok_or(error("is on a device that is not there"))?;
        let end = u64::from(block) + size.div_ceil(BLOCK);
        if end > self.tree.devices[device].bytes / BLOCK {
            return Err(error("is a file beyond the end of its device"));
        }
        Ok(Content::File { size, extent: Some(Extent { device, block }) })
    }

    /// The bytes of a directory or a link.
    fn body(&self, data_layout: u16, size: u64, value: u32, inline: u64) -> Result<&[u8]> {
        match data_layout {
            LAYOUT_PLAIN => self.image.take(u64::from(value) * BLOCK, size),
            LAYOUT_INLINE if inline % BLOCK + size <= BLOCK => self.image.take(inline, size),
            _ => Err(Error::Format { offset: inline, why: "is not laid out as written here" }),
        }
    }

    fn xattrs(&mut self, at: u64, bytes: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut found = BTreeMap::new();
        if bytes == 0 {
            return Ok(found);
        }
        let image = self.image;
        let end = at + bytes;
        let shared = u64::from(image.take(at + 4, 1)?[0]);
        let mut own = at + XATTR_HEADER + shared * 4;
        let ids = (0..shared).map(|n| image.u32(at + XATTR_HEADER + n * 4));
        let mut offsets = Vec::new();
        for id in ids {
            offsets.push(self.xattr + u64::from(id?) * XATTR_ENTRY);
        }
        while own < end {
            offsets.push(own);
            let (name, value) = (image.take(own, 1)?[0], image.u16(own + 2)?);
            own += align(XATTR_ENTRY + u64::from(name) + u64::from(value), XATTR_ENTRY);
        }
        if own != end {
            return Err(Error::Format { offset: at, why: "has attributes beyond their room" });
        }
        for offset in offsets {
            let error = |why| Error::Format { offset, why };
            let [length, prefix] = image.array(offset)?;
            let value_bytes = u64::from(image.u16(offset + 2)?);
            let known = PREFIXES.iter().find(|(number, _)| *number == prefix);
            let (_, known) = known.ok_or(error("is an attribute of an unknown kind"))?;
            let rest = image.take(offset + XATTR_ENTRY, length.into())?;
            let value = image.take(offset + XATTR_ENTRY + u64::from(length), value_bytes)?;
            let name = [known, rest].concat();
            self.xattr_bytes += name.len() as u64 + value_bytes;
            if self.xattr_bytes > XATTRS_BYTES_MAX {
                let what = "the extended attributes";
                return Err(Error::TooLarge { what, limit: XATTRS_BYTES_MAX });
            }
            if split_xattr(&name).is_none() || found.insert(name, value.to_vec()).is_some() {
                return Err(error("is an attribute that cannot be, or is there twice"));
            }
        }
        Ok(found)
    }
}

fn kind_of(content: &Content) -> u8 {
    dirent_type(match content {
        Content::Directory(_) => S_IFDIR,
        Content::File { .. } => S_IFREG,
        Content::Symlink(_) => S_IFLNK,
        Content::Char(..) => S_IFCHR,
        Content::Block(..) => S_IFBLK,
        Content::Fifo => S_IFIFO,
    })
}

/// The names of a directory, which are sorted.
fn directory(bytes: &[u8], offset: u64) -> Result<Vec<(Vec<u8>, u64, u8)>> {
    let error = |why| Error::Format { offset, why };
    let mut names: Vec<(Vec<u8>, u64, u8)> = Vec::new();
    for block in bytes.chunks(BLOCK as usize) {
        let b = Bytes(block);
        let first = usize::from(b.u16(8)?);
        if first == 0 || first % DIRENT != 0 || first > block.len() {
            return Err(error("has a directory of broken blocks"));
        }
        let count = first / DIRENT;
        for n in 0..count {
            let entry = (n * DIRENT) as u64;
            let start = u64::from(b.u16(entry + 8)?);
            let name = match n + 1 < count {
                true => {
                    let end = u64::from(b.u16(entry + DIRENT as u64 + 8)?);
                    let length = end.checked_sub(start).ok_or(error("has names in no order"))?;
                    b.take(start, length)?
                }
                // The last one ends with the block, or before its padding.
                false => {
                    let rest = b.take(start, (block.len() as u64).saturating_sub(start))?;
                    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
                    &rest[..end]
                }
            };
            if names.last().is_some_and(|(last, ..)| &last[..] >= name) {
                return Err(error("has a directory that is not sorted"));
            }
            names.push((name.to_vec(), b.u64(entry)?, b.take(entry + 10, 1)?[0]));
        }
    }
    Ok(names)
}
