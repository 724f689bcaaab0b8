//! The format on disk, as far as it is used here (Linux, `fs/erofs/erofs_fs.h`). Little endian.
//!
//! ```text
//!     0  zeros, for boot loaders
//!  1024  superblock, 128 bytes
//!  1152  device slots, 128 bytes each: tag[64], size in blocks u32, 0 u32, zeros
//!  META  inodes, at multiples of 32 bytes from here: an inode's number ("nid") is that multiple
//! XATTR  extended attributes that several inodes share, at multiples of 4 bytes from here
//!  DATA  blocks of directories and symbolic links that were too large to lie with their inodes
//! ```
//! META, XATTR and DATA begin at blocks of 512 bytes. What follows an inode, in this order:
//!
//! ```text
//! inode     64 bytes, the extended form
//! xattrs    if any: zeros[4], number of shared ones u8, zeros[7], shared ones u32 each (offset / 4
//!           from XATTR), then the others. An attribute: length of its name u8, prefix u8, length
//!           of its value u16, name without prefix, value, up to a multiple of 4
//! content   of a regular file, at a multiple of 8: one chunk: 0 u16, device u16 (from 1), block u32
//!           of a small directory or link: its bytes, which never cross the end of a block
//! ```
//! A directory is blocks of entries, sorted by name over all: entries of 12 bytes (nid u64, offset
//! of the name in the block u16, type u8, 0 u8), then their names; the first offset says how many
//! there are. `.` and `..` are among them.
//!
//! The whole content of a file is one chunk of 512 << n bytes, the smallest n that holds it: the
//! last block of a chunk may lie beyond the file's end, and is not read there.

/// Block size: that of tar.
pub const BLOCK: u64 = 512;
/// The longest name in a directory.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link.
pub const SYMLINK_MAX: usize = 4095;
/// The longest value of an extended attribute.
pub const XATTR_VALUE_MAX: usize = 65535;

pub(crate) const BLOCK_BITS: u8 = 9;
pub(crate) const SUPERBLOCK: u64 = 1024;
pub(crate) const SUPERBLOCK_BYTES: u64 = 128;
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
pub(crate) const SLOT: u64 = 128;
pub(crate) const SLOTS: u64 = SUPERBLOCK + SUPERBLOCK_BYTES;
pub(crate) const TAG_MAX: usize = 64;
/// Times are of contents, not of inodes.
pub(crate) const COMPAT_MTIME: u32 = 0x2;
pub(crate) const INCOMPAT_CHUNKS: u32 = 0x4;
pub(crate) const INCOMPAT_DEVICES: u32 = 0x8;

pub(crate) const INODE: u64 = 64;
pub(crate) const NID_UNIT: u64 = 32;
/// The extended form, in bit 0 of an inode's format; the layout of its content is above that.
pub(crate) const EXTENDED: u16 = 1;
pub(crate) const LAYOUT_PLAIN: u16 = 0;
pub(crate) const LAYOUT_INLINE: u16 = 2;
pub(crate) const LAYOUT_CHUNKS: u16 = 4;
/// A chunk says its device beside its block; the low five bits are its size.
pub(crate) const CHUNK_INDEXES: u32 = 0x20;
pub(crate) const CHUNK_BITS_MAX: u32 = 31;
pub(crate) const CHUNK: u64 = 8;
/// No block: a hole.
pub(crate) const NULL_BLOCK: u32 = u32::MAX;

pub(crate) const DIRENT: usize = 12;
pub(crate) const XATTR_HEADER: u64 = 12;
pub(crate) const XATTR_ENTRY: u64 = 4;

pub(crate) const S_IFMT: u16 = 0o170000;
pub(crate) const S_IFIFO: u16 = 0o010000;
pub(crate) const S_IFCHR: u16 = 0o020000;
pub(crate) const S_IFDIR: u16 = 0o040000;
pub(crate) const S_IFBLK: u16 = 0o060000;
pub(crate) const S_IFREG: u16 = 0o100000;
pub(crate) const S_IFLNK: u16 = 0o120000;

/// Prefixes of extended attributes' names, by number. The two access control lists are names of
/// their own.
pub(crate) const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The number of a name's prefix, and the rest of it.
pub(crate) fn split_xattr(name: &[u8]) -> Option<(u8, &[u8])> {
    let (number, rest) =
        PREFIXES.iter().find_map(|&(number, prefix)| Some((number, name.strip_prefix(prefix)?)))?;
    let is_whole = !matches!(number, 2 | 3);
    (rest.is_empty() != is_whole && rest.len() <= NAME_MAX && !rest.contains(&0))
        .then_some((number, rest))
}

/// As in directories.
pub(crate) fn dirent_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        _ => 7,
    }
}

/// The kernel's `new_encode_dev`: 12 bits of major number around 20 of minor.
pub(crate) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20)
        .then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

pub(crate) fn decode_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & !0xff)
}

/// The smallest chunk that holds `size` bytes: its power of two above a block.
pub(crate) fn chunk_bits(size: u64) -> u32 {
    let blocks = size.div_ceil(BLOCK).max(1);
    blocks.next_power_of_two().trailing_zeros()
}

pub(crate) fn align(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}
