//! EROFS indexes: a file system whose content stays where it is, in other files.
//!
//! [`write`] makes an image of a [`Tree`] that has everything but the content of regular files.
//! Each of these is a run of bytes in one of the tree's [`Device`]s, which the kernel is given at
//! mount time (`device=`, in order). With blocks of 512 bytes the devices can be tar files.
//!
//! The same tree gives the same bytes. [`read`] takes such an image apart again, and believes
//! nothing of it.
//!
//! ```
//! use hako_erofs::{Content, Device, Extent, Inode, Tree};
//!
//! let mut tree = Tree::new(Inode::directory(0o755));
//! tree.devices.push(Device { tag: b"layer".to_vec(), bytes: 10240 });
//! let extent = Extent { device: 0, block: 1 };
//! let hosts = tree.add(Inode::new(0o644, Content::File { size: 20, extent: Some(extent) }));
//! tree.link(0, b"hosts", hosts)?;
//!
//! let mut image = Vec::new();
//! hako_erofs::write(&tree, &mut image)?;
//! assert_eq!(hako_erofs::read(&image)?, tree);
//! # Ok::<(), hako_erofs::Error>(())
//! ```

#![forbid(unsafe_code)]

mod error;
mod format;
mod layout;
mod reader;
mod tree;
mod writer;

pub use crate::{
    error::{Error, Result},
    format::{BLOCK, NAME_MAX, SYMLINK_MAX, XATTR_VALUE_MAX},
    reader::read,
    tree::{Content, Device, Extent, Inode, Time, Tree},
    writer::write,
};
