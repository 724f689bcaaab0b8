//! A walk over a tree of any shape, in bounded memory.
//!
//! A container can nest directories a million deep, where no path reaches and recursion overflows,
//! and can put a million directories into one. So the walk keeps a stack of its own, at most
//! [`FDS_MAX`] open descriptors (it comes back up by `..`, and checks that it arrived where it came
//! from), and at most [`BATCH`] names of each directory on the stack.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use hako_sys::{
    Errno,
    fs::{self, AtFlags, DirEntry, FileKind, OpenFlags, Resolve, Stat},
};

use crate::{Dir, Error, Result, path_of_ref};

const FDS_MAX: usize = 64;
const BATCH: usize = 1024;

/// A call that failed; the walk knows where.
pub(crate) type Failed = (&'static str, Errno);

/// What is done on a walk.
pub(crate) trait Visit {
    /// A name that is no directory, in the directory `dir`.
    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileKind) -> Result<(), Failed>;

    /// Opens a directory for reading, before its content is visited. `None` leaves it out.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Failed>;

    /// A directory whose content was visited. `Again` visits what is in it now.
    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Left, Failed>;
}

/// How a directory was left.
pub(crate) enum Left {
    Done,
    Again,
}

struct Frame {
    /// Open for the deepest [`FDS_MAX`] frames and the first.
    fd: Option<OwnedFd>,
    id: (u64, u64),
    name: CString,
    /// Directories found, still to be entered.
    pending: Vec<CString>,
    /// Where the listing goes on; `None` when it is through.
    position: Option<u64>,
}

impl Frame {
    fn new(fd: OwnedFd, name: CString) -> Result<Frame, Failed> {
        let stat = fs::fstat(fd.as_fd()).map_err(|e| ("fstat", e))?;
        let id = (stat.dev, stat.ino);
        Ok(Frame { fd: Some(fd), id, name, pending: Vec::new(), position: Some(0) })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("the deepest frame is open").as_fd()
    }
}

/// Opens for reading what an `O_PATH` descriptor of a directory stands for.
pub(crate) fn reopen(dir: BorrowedFd<'_>) -> hako_sys::Result<OwnedFd> {
    fs::openat(dir, c".", OpenFlags::RDONLY | OpenFlags::DIRECTORY, 0)
}

/// Opens a directory for reading, following nothing and entering no other mount.
pub(crate) fn open_here(dir: BorrowedFd<'_>, name: &CStr) -> hako_sys::Result<OwnedFd> {
    let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
    fs::openat2(dir, name, flags, 0, Resolve::NO_XDEV | Resolve::NO_SYMLINKS | Resolve::BENEATH)
}

/// Walks the tree whose top is `start`, of which `top` is the directory that errors name.
///
/// It goes on past failures and returns the first.
pub(crate) fn walk(top: &Dir, start: OwnedFd, visit: &mut impl Visit) -> Result<()> {
    let mut frames = Vec::new();
    let mut first_error = None;
    let frame = Frame::new(start, CString::default());
    frames.push(frame.map_err(|(call, e)| top.own_error(call, e))?);

    while let Some(frame) = frames.last_mut() {
        let mut failure = None;
        if let Some(name) = frame.pending.pop() {
            let entered = visit.enter(frame.fd(), &name);
            match entered.and_then(|fd| fd.map(|fd| Frame::new(fd, name.clone())).transpose()) {
                Ok(Some(child)) => {
                    frames.push(child);
                    if let Some(far) = frames.len().checked_sub(FDS_MAX + 1).filter(|&n| n > 0) {
                        frames[far].fd = None;
                    }
                }
                Ok(None) => {}
                Err(e) => failure = Some((e, Some(name))),
            }
        } else if let Some(position) = frame.position.take() {
            failure = list(frame, position, visit).err();
        } else {
            let frame = frames.pop().expect("the loop saw it");
            let Some(parent) = frames.last_mut() else { break };
            if parent.fd.is_none() {
                match come_back(&frame, parent.id) {
                    Ok(fd) => parent.fd = Some(fd),
                    Err(Some((call, e))) => {
                        return Err(
                            first_error.unwrap_or_else(|| error(top, &frames, None, call, e))
                        );
                    }
                    Err(None) => {
                        let (root, path) = (top.name().into(), path_of(&frames, Some(&frame.name)));
                        return Err(first_error.unwrap_or(Error::Moved { root, path }));
                    }
                }
            }
            match visit.leave(parent.fd(), &frame.name) {
                Ok(Left::Done) => {}
                Ok(Left::Again) => parent.pending.push(frame.name),
                Err(e) => failure = Some((e, Some(frame.name))),
            }
        }
        if let Some(((call, e), name)) = failure {
            first_error.get_or_insert_with(|| match e {
                Errno::EXDEV => Error::MountPoint {
                    root: top.name().into(),
                    path: path_of(&frames, name.as_deref()),
                },
                e => error(top, &frames, name.as_deref(), call, e),
            });
        }
    }
    first_error.map_or(Ok(()), Err)
}

type Listed = Result<(), (Failed, Option<CString>)>;

/// Lists from `position`: visits what is no directory, and collects at most a batch of those.
/// It goes on past failures and returns the first.
fn list(frame: &mut Frame, position: u64, visit: &mut impl Visit) -> Listed {
    let fd = frame.fd.take().expect("the deepest frame is open");
    let mut failure = None;
    let listed = fs::seek_entries(fd.as_fd(), position).and_then(|()| {
        fs::for_each_entry(fd.as_fd(), |entry| {
            match kind_of(fd.as_fd(), &entry) {
                Ok(FileKind::Directory) => frame.pending.push(entry.name.into()),
                Ok(kind) => {
                    if let Err(e) = visit.other(fd.as_fd(), entry.name, kind) {
                        failure.get_or_insert_with(|| (e, Some(entry.name.into())));
                    }
                }
                Err(Errno::ENOENT) => {}
                Err(e) => {
                    failure.get_or_insert_with(|| (("fstatat", e), Some(entry.name.into())));
                }
            }
            if frame.pending.len() < BATCH {
                return true;
            }
            frame.position = Some(entry.next);
            false
        })
    });
    frame.fd = Some(fd);
    listed.map_err(|e| (("getdents64", e), None))?;
    failure.map_or(Ok(()), Err)
}

fn kind_of(dir: BorrowedFd<'_>, entry: &DirEntry<'_>) -> hako_sys::Result<FileKind> {
    match entry.kind {
        FileKind::Unknown => Ok(fs::statat(dir, entry.name, AtFlags::SYMLINK_NOFOLLOW)?.kind),
        kind => Ok(kind),
    }
}

/// The parent of a directory that was walked, if it is still the one we came from.
fn come_back(child: &Frame, want: (u64, u64)) -> Result<OwnedFd, Option<Failed>> {
    let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
    let fd = fs::openat(child.fd(), c"..", flags, 0).map_err(|e| Some(("openat", e)))?;
    let stat = fs::fstat(fd.as_fd()).map_err(|e| Some(("fstat", e)))?;
    if (stat.dev, stat.ino) == want { Ok(fd) } else { Err(None) }
}

/// The path for an error: its end, if it is very long.
fn path_of(frames: &[Frame], name: Option<&CStr>) -> PathBuf {
    const SHOWN: usize = 32;
    let mut path = PathBuf::new();
    if frames.len() > SHOWN {
        path.push("...");
    }
    let names = frames.iter().skip(1.max(frames.len().saturating_sub(SHOWN)));
    path.extend(names.map(|f| path_of_ref(&f.name)));
    path.extend(name.map(path_of_ref));
    path
}

fn error(top: &Dir, frames: &[Frame], name: Option<&CStr>, call: &'static str, e: Errno) -> Error {
    Error::call(call, top.name(), path_of(frames, name), e)
}

/// What a tree occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes allocated on disk.
    pub bytes: u64,
    /// Files, directories, links, devices.
    pub inodes: u64,
}

impl Usage {
    fn add(&mut self, stat: &Stat) {
        self.bytes = self.bytes.saturating_add(stat.allocated);
        self.inodes += 1;
    }
}

struct Measure {
    usage: Usage,
    /// Inodes with several names, of which one was counted.
    counted: HashSet<(u64, u64)>,
}

impl Visit for Measure {
    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr, _: FileKind) -> Result<(), Failed> {
        match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.nlink > 1 && !self.counted.insert((stat.dev, stat.ino)) => Ok(()),
            Ok(stat) => {
                self.usage.add(&stat);
                Ok(())
            }
            // A container that runs removes files while they are counted.
            Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(("fstatat", e)),
        }
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Failed> {
        let fd = match open_here(dir, name) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::EXDEV) => return Ok(None),
            Err(e) => return Err(("openat2", e)),
        };
        self.usage.add(&fs::fstat(fd.as_fd()).map_err(|e| ("fstat", e))?);
        Ok(Some(fd))
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<Left, Failed> {
        Ok(Left::Done)
    }
}

/// What a directory and everything in it occupies.
pub(crate) fn usage(dir: &Dir) -> Result<Usage> {
    let start = reopen(dir.fd()).map_err(|e| dir.own_error("openat", e))?;
    let mut measure = Measure { usage: Usage::default(), counted: HashSet::new() };
    measure.usage.add(&dir.own_metadata()?);
    walk(dir, start, &mut measure)?;
    Ok(measure.usage)
}
