//! Where everything goes: decided for the whole image before a byte of it is written.

use std::collections::BTreeMap;

use crate::{
    Content, Error, Inode, Result, Tree,
    format::*,
    tree::{Reached, check_name},
};

/// An attribute: the number of its name's prefix, the rest of the name, the value.
pub(crate) type Xattr<'t> = (u8, &'t [u8], &'t [u8]);

/// A place that is decided.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// From the beginning of the image.
    pub(crate) offset: u64,
    /// Bytes of extended attributes after the inode.
    pub(crate) xattr_bytes: u64,
    pub(crate) body: Body,
}

/// Where an inode's own bytes are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Body {
    /// There are none, or they are a file's chunk.
    #[default]
    None,
    /// After the inode.
    Inline { size: u64 },
    /// In blocks from this one on.
    Blocks { size: u64, block: u32 },
}

pub(crate) struct Layout<'t> {
    pub(crate) reached: Reached,
    /// By number in the tree.
    pub(crate) places: Vec<Place>,
    /// Attributes that several inodes have, and their offset from `xattr_block`.
    pub(crate) shared: BTreeMap<Xattr<'t>, u64>,
    pub(crate) meta_block: u64,
    pub(crate) xattr_block: u64,
    pub(crate) data_block: u64,
    pub(crate) blocks: u64,
}

impl<'t> Layout<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Result<Layout<'t>> {
        check_devices(tree)?;
        let reached = tree.reach()?;
        let shared = shared_xattrs(tree, &reached)?;
        let meta_block = (SLOTS + SLOT * tree.devices.len() as u64).div_ceil(BLOCK);
        let mut places = vec![Place::default(); tree.inodes.len()];
        let mut cursor = meta_block * BLOCK;
        for &number in &reached.order {
            let inode = &tree.inodes[number];
            let place = place(inode, number, &shared, cursor)?;
            places[number] = place;
            cursor = align(end_of(inode, &place), NID_UNIT);
        }
        let xattr_block = cursor.div_ceil(BLOCK);
        let shared_bytes =
            shared.last_key_value().map_or(0, |(xattr, offset)| offset + xattr_bytes(xattr));
        let data_block = xattr_block + shared_bytes.div_ceil(BLOCK);
        let mut block = data_block;
        for &number in &reached.order {
            if let Body::Blocks { size, block: at } = &mut places[number].body {
                *at = block_number(block)?;
                block += size.div_ceil(BLOCK);
            }
        }
        block_number(block)?;
        let blocks = block;
        Ok(Layout { reached, places, shared, meta_block, xattr_block, data_block, blocks })
    }

    /// The number by which the image knows an inode.
    pub(crate) fn nid(&self, number: usize) -> u64 {
        (self.places[number].offset - self.meta_block * BLOCK) / NID_UNIT
    }
}

fn block_number(block: u64) -> Result<u32> {
    let limit = u64::from(NULL_BLOCK - 1);
    match u32::try_from(block) {
        Ok(number) if number < NULL_BLOCK => Ok(number),
        _ => Err(Error::TooLarge { what: "the number of blocks", limit }),
    }
}

fn check_devices(tree: &Tree) -> Result<()> {
    let limit = u64::from(u16::MAX);
    if tree.devices.len() as u64 > limit {
        return Err(Error::TooLarge { what: "the number of devices", limit });
    }
    for device in &tree.devices {
        if device.tag.len() > TAG_MAX {
            return Err(Error::TooLarge { what: "a device's tag", limit: TAG_MAX as u64 });
        }
        block_number(device.bytes.div_ceil(BLOCK))?;
    }
    Ok(())
}

/// Attributes that more than one inode has. They are sorted, so the last has the last offset.
fn shared_xattrs<'t>(tree: &'t Tree, reached: &Reached) -> Result<BTreeMap<Xattr<'t>, u64>> {
    let mut seen: BTreeMap<Xattr<'t>, u64> = BTreeMap::new();
    for &number in &reached.order {
        for xattr in xattrs(&tree.inodes[number]) {
            *seen.entry(xattr?).or_default() += 1;
        }
    }
    seen.retain(|_, inodes| *inodes > 1);
    let mut offset = 0;
    for (xattr, at) in &mut seen {
        *at = offset;
        offset += xattr_bytes(xattr);
    }
    if offset / XATTR_ENTRY > u64::from(u32::MAX) {
        let limit = u64::from(u32::MAX) * XATTR_ENTRY;
        return Err(Error::TooLarge { what: "the extended attributes", limit });
    }
    Ok(seen)
}

/// The attributes of an inode in the format's terms.
pub(crate) fn xattrs(inode: &Inode) -> impl Iterator<Item = Result<Xattr<'_>>> {
    inode.xattrs.iter().map(|(name, value)| match split_xattr(name) {
        Some((prefix, rest)) if value.len() <= XATTR_VALUE_MAX => Ok((prefix, rest, &value[..])),
        _ => Err(Error::Xattr(name.clone())),
    })
}

pub(crate) fn xattr_bytes((_, name, value): &Xattr<'_>) -> u64 {
    align(XATTR_ENTRY + name.len() as u64 + value.len() as u64, XATTR_ENTRY)
}

fn place(
    inode: &Inode,
    number: usize,
    shared: &BTreeMap<Xattr<'_>, u64>,
    cursor: u64,
) -> Result<Place> {
    let too_many = || Error::TooLarge {
        what: "the extended attributes of an inode",
        limit: u64::from(u16::MAX) * XATTR_ENTRY,
    };
    let (mut xattr_size, mut shared_count) = (0, 0);
    for xattr in xattrs(inode) {
        let xattr = xattr?;
        if shared.contains_key(&xattr) {
            shared_count += 1;
            xattr_size += 4;
        } else {
            xattr_size += xattr_bytes(&xattr);
        }
    }
    if xattr_size > 0 {
        xattr_size += XATTR_HEADER;
    }
    if shared_count > u8::MAX.into() || xattr_size / XATTR_ENTRY > u16::MAX.into() {
        return Err(too_many());
    }
    let error = |why| Error::Tree { inode: number, why };
    let size = match &inode.content {
        Content::Directory(names) => directory_bytes(names)?,
        Content::Symlink(target) if target.len() > SYMLINK_MAX => {
            let limit = SYMLINK_MAX as u64;
            return Err(Error::TooLarge { what: "the target of a symbolic link", limit });
        }
        Content::Symlink(target) if target.is_empty() || target.contains(&0) => {
            return Err(error("is a symbolic link to nothing, or to a NUL"));
        }
        Content::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    let head = INODE + xattr_size;
    let mut place = Place { offset: cursor, xattr_bytes: xattr_size, body: Body::None };
    if size > 0 {
        place.body = Body::Blocks { size, block: 0 };
        // The bytes after an inode must not cross the end of a block. Where moving it a little
        // makes room, it is moved.
        if size <= BLOCK {
            let start = cursor + head;
            let room = BLOCK - start % BLOCK;
            let moved = if size <= room { 0 } else { align(room, NID_UNIT) };
            let start = start + moved;
            if size <= BLOCK - start % BLOCK {
                place.offset += moved;
                place.body = Body::Inline { size };
            }
        }
    }
    Ok(place)
}

/// Where what belongs to an inode ends.
fn end_of(inode: &Inode, place: &Place) -> u64 {
    let head = place.offset + INODE + place.xattr_bytes;
    match (&inode.content, place.body) {
        (Content::File { size: 1.., .. }, _) => align(head, CHUNK) + CHUNK,
        (_, Body::Inline { size }) => head + size,
        _ => head,
    }
}

/// Where each block of a directory ends among its sorted names, `.` and `..` included, and how many
/// bytes the last one has.
pub(crate) fn directory_blocks<'n>(names: impl Iterator<Item = &'n [u8]>) -> (Vec<usize>, u64) {
    let (mut ends, mut bytes, mut count) = (Vec::new(), 0, 0);
    for name in names {
        let needed = DIRENT + name.len();
        if bytes + needed > BLOCK as usize {
            ends.push(count);
            bytes = 0;
        }
        bytes += needed;
        count += 1;
    }
    ends.push(count);
    (ends, bytes as u64)
}

/// All names of a directory in the order of the format.
pub(crate) fn sorted_names(names: &BTreeMap<Vec<u8>, usize>) -> Vec<(&[u8], Option<usize>)> {
    let mut all: Vec<(&[u8], Option<usize>)> = vec![(b".", None), (b"..", None)];
    all.extend(names.iter().map(|(name, &child)| (&name[..], Some(child))));
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

fn directory_bytes(names: &BTreeMap<Vec<u8>, usize>) -> Result<u64> {
    for name in names.keys() {
        check_name(name)?;
    }
    let (ends, last) = directory_blocks(sorted_names(names).iter().map(|(name, _)| *name));
    Ok((ends.len() as u64 - 1) * BLOCK + last)
}
