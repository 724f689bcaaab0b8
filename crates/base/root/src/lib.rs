//! Paths resolved by the kernel beneath a directory that is held open.
//!
//! A tree that an image or a container filled may hold any symbolic link anywhere, and may change
//! while it is looked at. [`Root`] takes such paths: `openat2(RESOLVE_IN_ROOT |
//! RESOLVE_NO_MAGICLINKS)` walks them as if the directory were `/`, so that `..` and absolute links
//! end inside. [`Dir`] takes single names in a directory that is already held, and follows nothing.
//!
//! No function here walks out of its directory, waits on a FIFO, opens a device, or reads more
//! than it was told.
//!
//! ```
//! # fn main() -> hako_root::Result<()> {
//! # let base = std::env::temp_dir();
//! use hako_root::Root;
//!
//! let root = Root::open(&base)?;
//! let dir = root.mkdir_all("hako-root-doc/etc".as_ref(), 0o755)?;
//! dir.symlink(c"/hako-root-doc/etc/group", c"passwd")?;
//! // An absolute link of the tree leads to the tree's file, never to the host's.
//! assert!(root.read("hako-root-doc/etc/passwd".as_ref(), 1 << 20).unwrap_err().is_not_found());
//! root.remove_all("hako-root-doc".as_ref())?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod dir;
mod error;
mod remove;
mod walk;

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::Read as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path, PathBuf},
};

pub use hako_sys::fs::{FileKind, OpenFlags, RenameFlags, Stat, Timespec};
use hako_sys::{
    Errno,
    fs::{self, Resolve},
};

pub use crate::{
    dir::{Dir, Entry},
    error::{Error, Result},
    walk::Usage,
};

/// How every path of a [`Root`] is resolved.
const IN_ROOT: Resolve = Resolve::IN_ROOT.union(Resolve::NO_MAGICLINKS);

/// A directory as the root of all paths.
///
/// Paths may be relative or absolute: both start here.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
}

impl Root {
    /// Opens a directory of the host, whose path is trusted.
    pub fn open(path: &Path) -> Result<Root> {
        let c = c_path(path, path)?;
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        let fd =
            fs::openat(fs::cwd(), &c, flags, 0).map_err(|e| Error::call("open", path, "", e))?;
        Ok(Root { dir: Dir::new(fd, path.into()) })
    }

    /// Takes a directory's descriptor, such as that of a mount; `name` is what errors call it.
    pub fn from_fd(fd: OwnedFd, name: impl Into<PathBuf>) -> Root {
        Root { dir: Dir::new(fd, name.into()) }
    }

    /// The directory's descriptor, usually `O_PATH`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.fd()
    }

    /// What errors call this root.
    pub fn name(&self) -> &Path {
        self.dir.name()
    }

    /// The root as a directory of names.
    pub fn as_dir(&self) -> &Dir {
        &self.dir
    }

    /// Another handle of the same directory.
    pub fn try_clone(&self) -> Result<Root> {
        Ok(Root { dir: self.dir.try_clone()? })
    }

    /// openat2(2) as it is. `flags` decide what a FIFO or device does: prefer [`Root::open_file`].
    pub fn open_at(&self, path: &Path, flags: OpenFlags, create_mode: u32) -> Result<OwnedFd> {
        self.openat2(path, flags, create_mode, IN_ROOT)
    }

    /// Opens a regular file, following links inside the root; anything else is
    /// [`Error::NotFile`]. `flags` may create it, with mode 0644.
    pub fn open_file(&self, path: &Path, flags: OpenFlags) -> Result<File> {
        if flags.contains(OpenFlags::CREAT) {
            // NONBLOCK: a FIFO that is already there must not make us wait.
            let flags = flags | OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
            let fd = self.open_at(path, flags, 0o644)?;
            self.check_is_file(path, fd.as_fd())?;
            return Ok(fd.into());
        }
        // A device acts when it is opened; a place in the tree does not.
        let place = self.open_at(path, OpenFlags::PATH, 0)?;
        self.check_is_file(path, place.as_fd())?;
        let fd = fs::reopen(place.as_fd(), flags).map_err(|e| self.error("open", path, e))?;
        Ok(fd.into())
    }

    /// The content of a regular file of at most `limit` bytes; more is [`Error::TooLarge`].
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_file(path, OpenFlags::RDONLY)?;
        let mut content = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|e| self.error("read", path, Errno::of(&e)))?;
        if content.len() as u64 > limit {
            return Err(Error::TooLarge { root: self.name().into(), path: path.into(), limit });
        }
        Ok(content)
    }

    /// What a path leads to, following links inside the root.
    pub fn metadata(&self, path: &Path) -> Result<Stat> {
        let place = self.open_at(path, OpenFlags::PATH, 0)?;
        fs::fstat(place.as_fd()).map_err(|e| self.error("fstat", path, e))
    }

    /// What a path names, be it a link itself.
    pub fn symlink_metadata(&self, path: &Path) -> Result<Stat> {
        let place = self.open_at(path, OpenFlags::PATH | OpenFlags::NOFOLLOW, 0)?;
        fs::fstat(place.as_fd()).map_err(|e| self.error("fstat", path, e))
    }

    /// What the symbolic link at this path says.
    pub fn readlink(&self, path: &Path) -> Result<PathBuf> {
        let place = self.open_at(path, OpenFlags::PATH | OpenFlags::NOFOLLOW, 0)?;
        let target =
            fs::readlinkat(place.as_fd(), c"").map_err(|e| self.error("readlinkat", path, e))?;
        Ok(path_of(target))
    }

    /// A directory, following links inside the root.
    pub fn open_dir(&self, path: &Path) -> Result<Dir> {
        let fd = self.open_at(path, OpenFlags::PATH | OpenFlags::DIRECTORY, 0)?;
        Ok(Dir::new(fd, self.name().join(relative(path))))
    }

    /// A directory reached without following any link: one in the way is `ELOOP`.
    pub fn open_dir_nofollow(&self, path: &Path) -> Result<Dir> {
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        let fd = self.openat2(path, flags, 0, IN_ROOT | Resolve::NO_SYMLINKS)?;
        Ok(Dir::new(fd, self.name().join(relative(path))))
    }

    /// The directory that holds a path's last name, and that name: what a file is made with.
    ///
    /// Links on the way are followed inside the root, the last name is not looked at. A path that
    /// ends in `..` or names the root is [`Error::Name`].
    pub fn parent(&self, path: &Path) -> Result<(Dir, CString)> {
        let name = path.file_name().ok_or_else(|| self.bad_name(path))?;
        let name = CString::new(name.as_bytes()).map_err(|_| self.bad_name(path))?;
        let dir = match path.parent() {
            Some(parent) if parent != Path::new("") => self.open_dir(parent)?,
            _ => self.dir.try_clone()?,
        };
        Ok((dir, name))
    }

    /// Makes every directory of the path that is missing, and opens the last.
    ///
    /// What is there is followed inside the root; what is missing is made name by name along held
    /// descriptors, so nobody can put a link between making and entering one. A dangling link in
    /// the way is an error.
    pub fn mkdir_all(&self, path: &Path, permissions: u32) -> Result<Dir> {
        let names: Vec<_> = relative(path).components().collect();
        let prefix = |len: usize| names[..len].iter().collect::<PathBuf>();
        let mut len = names.len();
        let mut dir = loop {
            match self.open_dir(&prefix(len)) {
                Ok(dir) => break dir,
                Err(e) if e.is_not_found() && len > 0 => len -= 1,
                Err(e) => return Err(e),
            }
        };
        for name in &names[len..] {
            let Component::Normal(name) = name else { return Err(self.bad_name(path)) };
            let name = CString::new(name.as_bytes()).map_err(|_| self.bad_name(path))?;
            match dir.mkdir(&name, permissions) {
                Err(e) if e.errno() == Some(Errno::EEXIST) => {}
                made => made?,
            }
            dir = dir.open_dir(&name)?;
        }
        Ok(dir)
    }

    /// Removes a file, or a directory with everything in it. Nothing there is fine. The path's
    /// last name is never followed. See [`Dir::remove_all`].
    pub fn remove_all(&self, path: &Path) -> Result<()> {
        match self.parent(path) {
            Ok((dir, name)) => dir.remove_all(&name),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn openat2(
        &self,
        path: &Path,
        flags: OpenFlags,
        mode: u32,
        resolve: Resolve,
    ) -> Result<OwnedFd> {
        // The kernel takes no empty path; the root is ".".
        let path = if path == Path::new("") { Path::new(".") } else { path };
        let c = c_path(self.name(), path)?;
        fs::openat2(self.fd(), &c, flags, mode, resolve).map_err(|e| self.error("openat2", path, e))
    }

    fn check_is_file(&self, path: &Path, fd: BorrowedFd<'_>) -> Result<()> {
        let stat = fs::fstat(fd).map_err(|e| self.error("fstat", path, e))?;
        match stat.kind {
            FileKind::File => Ok(()),
            kind => Err(Error::NotFile { root: self.name().into(), path: path.into(), kind }),
        }
    }

    fn error(&self, call: &'static str, path: &Path, e: Errno) -> Error {
        Error::call(call, self.name(), path, e)
    }

    fn bad_name(&self, path: &Path) -> Error {
        Error::Name { root: self.name().into(), path: path.into() }
    }
}

/// The path without a leading slash.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn c_path(root: &Path, path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Name { root: root.into(), path: path.into() })
}

fn path_of(c: CString) -> PathBuf {
    std::ffi::OsString::from_vec(c.into_bytes()).into()
}

fn path_of_ref(c: &CStr) -> PathBuf {
    std::ffi::OsStr::from_bytes(c.to_bytes()).into()
}
