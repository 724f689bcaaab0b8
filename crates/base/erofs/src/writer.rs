//! Writes an image, front to back, as [`Layout`] decided it.

use std::io::Write;

use crate::{
    Content, Error, Inode, Result, Tree,
    format::*,
    layout::{Body, Layout, Place, Xattr, directory_blocks, sorted_names, xattrs},
};

/// Writes the image of a tree, and returns how many bytes it has. The same tree gives the same
/// bytes.
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<u64> {
    let layout = Layout::new(tree)?;
    let mut out = Output { inner: out, position: 0 };
    out.pad_to(SUPERBLOCK)?;
    superblock(tree, &layout, &mut out)?;
    for device in &tree.devices {
        let mut slot = [0; SLOT as usize];
        slot[..device.tag.len()].copy_from_slice(&device.tag);
        let blocks = device.bytes.div_ceil(BLOCK) as u32;
        slot[TAG_MAX..TAG_MAX + 4].copy_from_slice(&blocks.to_le_bytes());
        out.put(&slot)?;
    }
    for &number in &layout.reached.order {
        inode(tree, &layout, number, &mut out)?;
    }
    out.pad_to(layout.xattr_block * BLOCK)?;
    for xattr in layout.shared.keys() {
        put_xattr(xattr, &mut out)?;
    }
    out.pad_to(layout.data_block * BLOCK)?;
    for &number in &layout.reached.order {
        if let Body::Blocks { .. } = layout.places[number].body {
            body(tree, &layout, number, &mut out)?;
            out.pad_to(align(out.position, BLOCK))?;
        }
    }
    out.pad_to(layout.blocks * BLOCK)?;
    Ok(out.position)
}

/// Knows where it is.
struct Output<'w, W> {
    inner: &'w mut W,
    position: u64,
}

impl<W: Write> Output<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to `position`.
    fn pad_to(&mut self, position: u64) -> Result<()> {
        debug_assert!(self.position <= position, "{} is behind {position}", self.position);
        while self.position < position {
            let n = (position - self.position).min(BLOCK) as usize;
            self.put(&[0; BLOCK as usize][..n])?;
        }
        Ok(())
    }
}

fn superblock(tree: &Tree, layout: &Layout<'_>, out: &mut Output<'_, impl Write>) -> Result<()> {
    let devices = tree.devices.len() as u16;
    let incompat = INCOMPAT_CHUNKS | if devices > 0 { INCOMPAT_DEVICES } else { 0 };
    let mut s = Vec::with_capacity(SUPERBLOCK_BYTES as usize);
    s.extend(MAGIC.to_le_bytes());
    s.extend(0u32.to_le_bytes()); // checksum, which no feature bit says there is
    s.extend(COMPAT_MTIME.to_le_bytes());
    s.extend([BLOCK_BITS, 0]);
    s.extend((layout.nid(0) as u16).to_le_bytes()); // The root comes first.
    s.extend((layout.reached.order.len() as u64).to_le_bytes());
    s.extend([0; 12]); // when it was made
    s.extend((layout.blocks as u32).to_le_bytes());
    s.extend((layout.meta_block as u32).to_le_bytes());
    s.extend((layout.xattr_block as u32).to_le_bytes());
    s.extend(tree.uuid);
    s.extend([0; 16]); // the volume's name
    s.extend(incompat.to_le_bytes());
    s.extend([0; 2]); // compression
    s.extend(devices.to_le_bytes());
    s.extend(((SLOTS / SLOT) as u16).to_le_bytes());
    s.resize(SUPERBLOCK_BYTES as usize, 0);
    out.put(&s)
}

fn mode_of(inode: &Inode) -> u16 {
    let kind = match &inode.content {
        Content::Directory(_) => S_IFDIR,
        Content::File { .. } => S_IFREG,
        Content::Symlink(_) => S_IFLNK,
        Content::Char(..) => S_IFCHR,
        Content::Block(..) => S_IFBLK,
        Content::Fifo => S_IFIFO,
    };
    kind | (inode.mode & 0o7777) as u16
}

fn inode(
    tree: &Tree,
    layout: &Layout<'_>,
    number: usize,
    out: &mut Output<'_, impl Write>,
) -> Result<()> {
    let (inode, place) = (&tree.inodes[number], layout.places[number]);
    let error = |why| Error::Tree { inode: number, why };
    if inode.mtime.nanos >= 1_000_000_000 {
        return Err(error("has more than a second of nanoseconds"));
    }
    let (mut data_layout, mut size, mut value, mut chunk) = (LAYOUT_PLAIN, 0, 0, None);
    match (&inode.content, place.body) {
        (Content::File { size: bytes @ 1.., extent }, _) => {
            let bits = chunk_bits(*bytes);
            if bits > CHUNK_BITS_MAX {
                let limit = BLOCK << CHUNK_BITS_MAX;
                return Err(Error::TooLarge { what: "the size of a file", limit });
            }
            (data_layout, size, value) = (LAYOUT_CHUNKS, *bytes, CHUNK_INDEXES | bits);
            let (device, block) = match extent {
                None => (0, NULL_BLOCK),
                Some(extent) => {
                    let device = tree.devices.get(extent.device);
                    let device = device.ok_or(error("is on a device that is not there"))?;
                    let end = u64::from(extent.block) + bytes.div_ceil(BLOCK);
                    if end > device.bytes.div_ceil(BLOCK) {
                        return Err(error("is beyond the end of its device"));
                    }
                    (extent.device as u16 + 1, extent.block)
                }
            };
            let mut index = [0; CHUNK as usize];
            index[2..4].copy_from_slice(&device.to_le_bytes());
            index[4..].copy_from_slice(&block.to_le_bytes());
            chunk = Some(index);
        }
        (Content::Char(major, minor) | Content::Block(major, minor), _) => {
            let device = encode_device(*major, *minor);
            value = device.ok_or(error("is a device with a number that is too large"))?;
        }
        (_, Body::Inline { size: bytes }) => (data_layout, size) = (LAYOUT_INLINE, bytes),
        (_, Body::Blocks { size: bytes, block }) => (size, value) = (bytes, block),
        _ => {}
    }
    let xattr_count = match place.xattr_bytes {
        0 => 0,
        bytes => (bytes - XATTR_HEADER) / XATTR_ENTRY + 1,
    };
    out.pad_to(place.offset)?;
    let mut i = Vec::with_capacity(INODE as usize);
    i.extend((EXTENDED | data_layout << 1).to_le_bytes());
    i.extend((xattr_count as u16).to_le_bytes());
    i.extend(mode_of(inode).to_le_bytes());
    i.extend([0; 2]);
    i.extend(size.to_le_bytes());
    i.extend(value.to_le_bytes());
    i.extend((layout.nid(number) as u32).to_le_bytes()); // inode number for 32-bit stat
    i.extend(inode.uid.to_le_bytes());
    i.extend(inode.gid.to_le_bytes());
    i.extend(inode.mtime.seconds.to_le_bytes());
    i.extend(inode.mtime.nanos.to_le_bytes());
    i.extend(layout.reached.links[number].to_le_bytes());
    i.resize(INODE as usize, 0);
    out.put(&i)?;
    put_xattrs(inode, layout, &place, out)?;
    if let Some(index) = chunk {
        out.pad_to(align(out.position, CHUNK))?;
        out.put(&index)?;
    }
    match place.body {
        Body::Inline { .. } => body(tree, layout, number, out),
        _ => Ok(()),
    }
}

fn put_xattrs(
    inode: &Inode,
    layout: &Layout<'_>,
    place: &Place,
    out: &mut Output<'_, impl Write>,
) -> Result<()> {
    if place.xattr_bytes == 0 {
        return Ok(());
    }
    let (mut shared, mut own) = (Vec::new(), Vec::new());
    for xattr in xattrs(inode) {
        let xattr = xattr?;
        match layout.shared.get(&xattr) {
            Some(offset) => shared.push((offset / XATTR_ENTRY) as u32),
            None => own.push(xattr),
        }
    }
    let mut header = [0; XATTR_HEADER as usize];
    header[4] = shared.len() as u8;
    out.put(&header)?;
    for id in shared {
        out.put(&id.to_le_bytes())?;
    }
    own.iter().try_for_each(|xattr| put_xattr(xattr, out))
}

fn put_xattr((prefix, name, value): &Xattr<'_>, out: &mut Output<'_, impl Write>) -> Result<()> {
    out.put(&[name.len() as u8, *prefix])?;
    out.put(&(value.len() as u16).to_le_bytes())?;
    out.put(name)?;
    out.put(value)?;
    out.pad_to(align(out.position, XATTR_ENTRY))
}

/// The bytes of a directory or a symbolic link.
fn body(
    tree: &Tree,
    layout: &Layout<'_>,
    number: usize,
    out: &mut Output<'_, impl Write>,
) -> Result<()> {
    let names = match &tree.inodes[number].content {
        Content::Directory(names) => sorted_names(names),
        Content::Symlink(target) => return out.put(target),
        _ => return Ok(()),
    };
    let (ends, _) = directory_blocks(names.iter().map(|(name, _)| *name));
    let mut start = 0;
    for (n, &end) in ends.iter().enumerate() {
        if n > 0 {
            out.pad_to(align(out.position, BLOCK))?;
        }
        let block = &names[start..end];
        start = end;
        let mut offset = block.len() * DIRENT;
        for (name, child) in block {
            let child = match child {
                Some(child) => *child,
                None if *name == b"." => number,
                None => layout.reached.parents[number],
            };
            let kind = dirent_type(mode_of(&tree.inodes[child]));
            out.put(&layout.nid(child).to_le_bytes())?;
            out.put(&(offset as u16).to_le_bytes())?;
            out.put(&[kind, 0])?;
            offset += name.len();
        }
        for (name, _) in block {
            out.put(name)?;
        }
    }
    Ok(())
}
