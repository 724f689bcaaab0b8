//! What an overlay's writable directory changes, in the order and form of a layer.
//!
//! ```text
//! character device 0:0           .wh.NAME: NAME of the layers below is gone
//! directory marked as opaque     .wh..wh..opq in it: everything below it is gone
//! anything else                  itself, with owner, permissions, attributes and time
//! ```
//!
//! Names come sorted, a directory before what is in it, so that the same changes give the same
//! bytes. Sockets are left out: they mean something to a running process only. What was marked as
//! opaque is said before the directory's new names, because appliers that read in order would
//! remove them again.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    io::{self, Write},
    os::fd::{AsFd as _, BorrowedFd},
};

use hako_root::{Dir, Root};
use hako_sys::{
    Errno,
    fs::{self, FileKind, OpenFlags, Stat},
    xattr,
};
use hako_tar::{Header, Kind, Time, Writer};

use crate::{
    attributes::is_kept,
    error::{Error, Result},
    name::{OPAQUE, PREFIX, Plain},
    tree::{entry_error, to_path},
};

/// Directories on the way down that are held open; those above are opened again on the way back.
const DIRECTORIES_HELD: usize = 64;
/// As long as a path may be for the kernel, which every applier needs.
const PATH_BYTES_MAX: usize = 4095;
/// overlayfs's mark of a directory that hides all below it, as root and in a user namespace.
const OPAQUE_MARKS: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

/// One change.
#[derive(Debug)]
pub enum Change<'a> {
    /// A name that is new, or whose content or attributes are; a directory also where something
    /// in it is.
    Entry {
        /// What it is now. Paths have no slash at the beginning or end.
        header: &'a Header,
        /// The content of a regular file: exactly [`Header::size`] bytes.
        content: Option<&'a File>,
    },
    /// A name that is gone.
    Removed {
        /// Its path.
        path: &'a [u8],
    },
    /// A directory, told of just before, of which everything is gone that the layers below have
    /// in it.
    Emptied {
        /// Its path; empty for the root.
        path: &'a [u8],
    },
}

/// How changes are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// What was changed later is written as changed at this time, in seconds since the epoch: the
    /// same work at another time then gives the same layer.
    pub mtime_max: Option<i64>,
}

/// Writes what the writable directory of an overlay changes as a layer's tar, and gives the
/// stream back.
///
/// Nobody should write to it meanwhile: a file that becomes shorter is an error.
pub fn write_changes<W: Write>(upper: &Root, out: W, options: WriteOptions) -> Result<W> {
    write_some_changes(upper, out, options, &mut |_| true)
}

/// Like [`write_changes`], for those changes that `keep` wants.
pub fn write_some_changes<W: Write>(
    upper: &Root,
    out: W,
    options: WriteOptions,
    keep: &mut dyn FnMut(&Change<'_>) -> bool,
) -> Result<W> {
    let mut tar = Writer::new(out);
    changes(upper, &mut |change| {
        if !keep(&change) {
            return Ok(());
        }
        match change {
            Change::Entry { header, content } => {
                let header = Header { mtime: clamp(header.mtime, options), ..header.clone() };
                match content {
                    Some(content) => tar.append(&header, content)?,
                    None => tar.append(&header, io::empty())?,
                }
            }
            Change::Removed { path } => tar.append(&whiteout(path), io::empty())?,
            Change::Emptied { path } => {
                let path = Plain::new(path).unwrap_or_default().join(OPAQUE);
                tar.append(&Header::new(path.bytes(), Kind::File, 0), io::empty())?;
            }
        }
        Ok(())
    })?;
    Ok(tar.finish()?)
}

/// Whole seconds, as Docker and containerd write them, and not after the bound.
fn clamp(mtime: Time, options: WriteOptions) -> Time {
    let seconds = options.mtime_max.map_or(mtime.seconds, |max| mtime.seconds.min(max));
    Time { seconds, nanos: 0 }
}

/// What says in a layer that a name is gone.
fn whiteout(path: &[u8]) -> Header {
    let name = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let path = [&path[..name], PREFIX, &path[name..]].concat();
    Header::new(path, Kind::File, 0)
}

/// A directory that is being gone through.
struct Frame {
    path: Plain,
    dir: Option<Dir>,
    /// The names that are still to come, in reverse order.
    names: Vec<CString>,
}

/// Tells `visit` every change in the writable directory of an overlay.
///
/// The root itself is no change, as for Docker: layers describe what is in it. A name that goes while
/// this looks was never there.
pub fn changes(upper: &Root, visit: &mut dyn FnMut(Change<'_>) -> Result<()>) -> Result<()> {
    // The first name of each file that has several, by device and inode.
    let mut linked: HashMap<(u64, u64), Plain> = HashMap::new();
    let top = upper.as_dir().try_clone()?;
    if opaque(top.fd(), &Plain::default())? {
        visit(Change::Emptied { path: b"" })?;
    }
    let mut frames = vec![Frame { path: Plain::default(), names: sorted(&top)?, dir: Some(top) }];
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.names.pop() else {
            frames.pop();
            continue;
        };
        let dir = match frame.dir.take() {
            Some(dir) => dir,
            None => upper.open_dir_nofollow(&to_path(frame.path.bytes()))?,
        };
        let path = frame.path.join(name.to_bytes());
        let stat = match dir.metadata(&name) {
            Ok(stat) => stat,
            Err(error) if error.is_not_found() => {
                frame.dir = Some(dir);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if stat.is_whiteout() {
            visit(Change::Removed { path: path.bytes() })?;
        } else if stat.kind == FileKind::Directory {
            let child = enter(&dir, &name, &path, &stat, visit)?;
            if let Some(above) = frames.len().checked_sub(DIRECTORIES_HELD) {
                frames[above].dir = None;
            }
            if let Some(frame) = frames.last_mut() {
                frame.dir = Some(dir);
            }
            frames.push(child);
            continue;
        } else {
            match file(&dir, &name, &path, &stat, &mut linked, visit) {
                Err(Error::Tree(error)) if error.is_not_found() => {
                    linked.remove(&(stat.dev, stat.ino));
                }
                done => done?,
            }
        }
        frame.dir = Some(dir);
    }
    Ok(())
}

fn enter(
    parent: &Dir,
    name: &CStr,
    path: &Plain,
    stat: &Stat,
    visit: &mut dyn FnMut(Change<'_>) -> Result<()>,
) -> Result<Frame> {
    let dir = parent.open_dir(name)?;
    visit(Change::Entry {
        header: &header(dir.fd(), path, Kind::Directory, stat)?,
        content: None,
    })?;
    if opaque(dir.fd(), path)? {
        visit(Change::Emptied { path: path.bytes() })?;
    }
    Ok(Frame { path: path.clone(), names: sorted(&dir)?, dir: Some(dir) })
}

fn file(
    dir: &Dir,
    name: &CStr,
    path: &Plain,
    stat: &Stat,
    linked: &mut HashMap<(u64, u64), Plain>,
    visit: &mut dyn FnMut(Change<'_>) -> Result<()>,
) -> Result<()> {
    let kind = match stat.kind {
        FileKind::File => Kind::File,
        FileKind::Symlink => Kind::Symlink,
        FileKind::Char => Kind::Char,
        FileKind::Block => Kind::Block,
        FileKind::Fifo => Kind::Fifo,
        FileKind::Socket | FileKind::Directory | FileKind::Unknown => return Ok(()),
    };
    if stat.nlink > 1 {
        if let Some(first) = linked.get(&(stat.dev, stat.ino)) {
            let header =
                Header { link: first.bytes().to_vec(), ..plain_header(path, Kind::HardLink, stat) };
            return visit(Change::Entry { header: &header, content: None });
        }
        linked.insert((stat.dev, stat.ino), path.clone());
    }
    if kind != Kind::File {
        let place = dir.open(name, OpenFlags::PATH, 0)?;
        let mut header = header(place.as_fd(), path, kind, stat)?;
        if kind == Kind::Symlink {
            header.link = dir.readlink(name)?.into_bytes();
        }
        return visit(Change::Entry { header: &header, content: None });
    }
    // NONBLOCK: whoever writes meanwhile may have put a FIFO there.
    let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
    let file = File::from(dir.open(name, flags, 0)?);
    let stat = fs::fstat(file.as_fd()).map_err(|e| entry_error("fstat", path, e))?;
    if stat.kind != FileKind::File {
        return Err(Error::Path {
            path: to_path(path.bytes()),
            why: "was replaced while it was read",
        });
    }
    let header = header(file.as_fd(), path, kind, &stat)?;
    visit(Change::Entry { header: &header, content: Some(&file) })
}

/// The names of a directory, last first.
fn sorted(dir: &Dir) -> Result<Vec<CString>> {
    let mut names: Vec<CString> = dir.entries()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn plain_header(path: &Plain, kind: Kind, stat: &Stat) -> Header {
    Header {
        uid: stat.uid,
        gid: stat.gid,
        mtime: Time { seconds: stat.mtime.seconds, nanos: stat.mtime.nanos },
        size: if kind == Kind::File { stat.size } else { 0 },
        device: stat.rdev,
        ..Header::new(path.bytes(), kind, stat.mode)
    }
}

/// The header of what a descriptor stands for, with the attributes that a layer may carry.
fn header(fd: BorrowedFd<'_>, path: &Plain, kind: Kind, stat: &Stat) -> Result<Header> {
    let bytes = path.bytes();
    if bytes.len() > PATH_BYTES_MAX {
        return Err(Error::Path { path: to_path(bytes), why: "is longer than 4095 bytes" });
    }
    let is_marker = |name: &[u8]| name.starts_with(PREFIX);
    if path.split().is_some_and(|(_, name)| is_marker(name)) {
        return Err(Error::Path {
            path: to_path(bytes),
            why: "begins with .wh., which means a removed file in a layer",
        });
    }
    let mut header = plain_header(path, kind, stat);
    // The kernel gives symbolic links none that a layer may carry.
    if kind == Kind::Symlink {
        return Ok(header);
    }
    let names = match xattr::list_path(fd) {
        Err(Errno::EOPNOTSUPP) => return Ok(header),
        names => names.map_err(|e| entry_error("listxattr", path, e))?,
    };
    for name in names.iter().filter(|name| is_kept(name.to_bytes())) {
        let value = xattr::get_path(fd, name).map_err(|e| entry_error("getxattr", path, e))?;
        header.xattrs.insert(name.to_bytes().to_vec(), value);
    }
    Ok(header)
}

fn opaque(fd: BorrowedFd<'_>, path: &Plain) -> Result<bool> {
    is_opaque(fd).map_err(|e| entry_error("getxattr", path, e))
}

/// Whether a directory of an overlay's writable layer hides all that is below it.
pub fn is_opaque(fd: BorrowedFd<'_>) -> hako_sys::Result<bool> {
    for mark in OPAQUE_MARKS {
        match xattr::get_path(fd, mark) {
            Ok(value) if value == b"y" => return Ok(true),
            // "x": names below may be marked as removed by attributes, which we never mount with.
            Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
