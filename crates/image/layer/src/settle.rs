//! Making a layer that was applied alone fit the layers below it.
//!
//! Most layers describe all they need, and are applied in parallel before those below are there.
//! What is left for afterwards is little: directories that were only implied look like those
//! below, and whiteouts of nothing go, because overlayfs shows them in listings of directories
//! that it does not merge.

use std::os::fd::AsFd as _;

use hako_root::{Dir, Root};
use hako_sys::{
    Errno,
    fs::{self, OpenFlags, Timespec},
    xattr,
};

use crate::{
    apply::Applied,
    error::{Error, Result},
    name::Plain,
    tree::{c_name, entry_error, to_path},
};

/// Makes a layer that was applied [`Onto::Directory`](crate::Onto::Directory) fit `below`, the
/// view of all layers below it.
///
/// False means that it cannot: its links and parents lead into the layers below. The directory is
/// to be thrown away, and the layer applied [`Onto::Overlay`](crate::Onto::Overlay).
pub fn settle(layer: &Root, below: &Root, applied: &Applied) -> Result<bool> {
    if applied.loose.links {
        return Ok(false);
    }
    for (path, looks_settled) in &applied.loose.directories {
        let shown = to_path(path.bytes());
        match below.open_dir_nofollow(&shown) {
            Ok(_) if *looks_settled => {}
            Ok(like) => copy_attributes(&like, &layer.open_dir_nofollow(&shown)?)?,
            Err(e) => match e.errno() {
                Some(Errno::ENOENT) => {}
                // A link, which the path was to follow; or a file, which is an error.
                Some(Errno::ELOOP | Errno::ENOTDIR) => return Ok(false),
                _ => return Err(e.into()),
            },
        }
    }
    for path in &applied.loose.whiteouts {
        remove_if_stray(layer, below, path)?;
    }
    if !applied.has_root {
        copy_attributes(below.as_dir(), layer.as_dir())?;
    }
    Ok(true)
}

fn remove_if_stray(layer: &Root, below: &Root, path: &Plain) -> Result<()> {
    let Some((above, name)) = path.split() else { return Ok(()) };
    let (above, name) = (to_path(above.bytes()), c_name(name, path)?);
    let found = below.open_dir_nofollow(&above).and_then(|dir| dir.metadata(&name));
    match found {
        Ok(_) => return Ok(()),
        Err(e) => match e.errno() {
            Some(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {}
            _ => return Err(e.into()),
        },
    }
    let dir = layer.open_dir_nofollow(&above)?;
    let mtime = dir.own_metadata()?.mtime;
    dir.unlink(&name)?;
    set_mtime(&dir, mtime)
}

/// Gives a directory the owner, permissions, extended attributes and time of another.
pub fn copy_attributes(from: &Dir, to: &Dir) -> Result<()> {
    let open = |dir: &Dir| {
        let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
        fs::openat(dir.fd(), c".", flags, 0).map_err(|e| error("openat", dir, e))
    };
    let stat = from.own_metadata()?;
    let (from_fd, to_fd) = (open(from)?, open(to)?);
    let (source, target) = (from_fd.as_fd(), to_fd.as_fd());
    let failed = |call| move |e| error(call, to, e);
    fs::fchown(target, Some(stat.uid), Some(stat.gid)).map_err(failed("fchown"))?;
    fs::fchmod(target, stat.mode).map_err(failed("fchmod"))?;
    let names = match xattr::flist(source) {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names.map_err(|e| error("flistxattr", from, e))?,
    };
    for name in names {
        // Marks of an overlay are about its own layers; labels are the host's.
        let is_ours = [&b"trusted.overlay."[..], b"user.overlay.", b"security."]
            .iter()
            .any(|prefix| name.to_bytes().starts_with(prefix));
        if !is_ours {
            let value = xattr::fget(source, &name).map_err(|e| error("fgetxattr", from, e))?;
            xattr::fset(target, &name, &value).map_err(failed("fsetxattr"))?;
        }
    }
    set_mtime(to, stat.mtime)
}

fn set_mtime(dir: &Dir, mtime: Timespec) -> Result<()> {
    let at = fs::AtFlags::empty();
    fs::utimensat(dir.fd(), c".", mtime, mtime, at).map_err(|e| error("utimensat", dir, e))
}

fn error(call: &'static str, dir: &Dir, e: Errno) -> Error {
    match Plain::new(dir.name().as_os_str().as_encoded_bytes()) {
        Some(path) => entry_error(call, &path, e),
        None => entry_error(call, &Plain::default(), e),
    }
}
