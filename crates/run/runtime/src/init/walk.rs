//! Places beneath the root filesystem: found, and made where they are missing, by the kernel's own
//! resolution. Nothing that a container or an image does with links can lead outside.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_sys::fs::{self, FileKind, OpenFlags, Resolve};
use hako_sys::{Errno, Result};

use crate::call::{At, Call, Did};
use crate::op::Target;

/// What a missing place becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Directory,
    File,
}

fn resolve(target: &Target) -> Resolve {
    // /proc and /sys must be what they seem (CVE-2019-19921, CVE-2023-27561).
    let links = if target.real { Resolve::NO_SYMLINKS } else { Resolve::NO_MAGICLINKS };
    Resolve::IN_ROOT | links
}

/// Opens a place, as a path only.
pub(super) fn open(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd> {
    let mut flags = OpenFlags::PATH;
    if target.no_follow {
        flags |= OpenFlags::NOFOLLOW;
    }
    fs::openat2(root, &target.path, flags, 0, resolve(target))
}

/// How many links that lead to something missing are followed on one way, as many as by the kernel.
const LINKS_MAX: u32 = 40;

/// Opens a place, which is made where it is missing, with the directories above it. A link that
/// leads to something missing is followed, within the root, and that is made.
pub(super) fn ensure(root: BorrowedFd<'_>, target: &Target, make: Make) -> Did<OwnedFd> {
    find_or_make(root, target, make).map(|(fd, _)| fd)
}

/// The same, and whether the place was there before.
pub(super) fn find_or_make(
    root: BorrowedFd<'_>,
    target: &Target,
    make: Make,
) -> Did<(OwnedFd, bool)> {
    match open(root, target) {
        Ok(fd) => return Ok((fd, true)),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e).at(Call::Openat2),
    }
    let mut way = Way::new(target.path.as_bytes()).at(Call::Openat2)?;
    let (mut dir, mut at, mut links): (Option<OwnedFd>, _, _) = (None, 0, 0);
    while let Some((start, end)) = way.name(at) {
        let here = dir.as_ref().map_or(root, AsFd::as_fd);
        let make = if way.name(end).is_none() { make } else { Make::Directory };
        // What is there is followed as the kernel would, within the root; what is missing is made
        // in the directory that we hold, and opened there without following anything.
        let open = |path: &CStr| fs::openat2(root, path, OpenFlags::PATH, 0, resolve(target));
        let next = match way.between(0, end, open) {
            Err(Errno::ENOENT) => way.between(start, end, |name| make_one(here, name, make))?,
            other => Some(other.at(Call::Openat2)?),
        };
        if next.is_some() {
            (dir, at) = (next, end);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::ELOOP).at(Call::Openat2);
        }
        let mut buffer = [0u8; Way::SIZE];
        let link = way
            .between(start, end, |name| fs::readlink_into(here, name, &mut buffer))
            .at(Call::Readlink)?;
        way.follow(start, end, link.to_bytes()).at(Call::Readlink)?;
        (dir, at) = (None, 0);
    }
    dir.map(|fd| (fd, false)).ok_or(Errno::ENOENT).at(Call::Openat2)
}

/// Makes one name, and opens it; `None` where there is a link, which leads to nothing.
fn make_one(dir: BorrowedFd<'_>, name: &CStr, make: Make) -> Did<Option<OwnedFd>> {
    let (made, call) = match make {
        Make::Directory => (fs::mkdirat(dir, name, 0o755), Call::Mkdir),
        Make::File => (fs::mknodat(dir, name, FileKind::File, 0o755, (0, 0)), Call::Mknod),
    };
    match made {
        // Somebody was faster, or there is a link; what is opened below tells.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e).at(call),
    }
    let flags = OpenFlags::PATH | OpenFlags::NOFOLLOW;
    let resolve = Resolve::BENEATH | Resolve::NO_SYMLINKS;
    let fd = fs::openat2(dir, name, flags, 0, resolve).at(Call::Openat2)?;
    let link = fs::fstat(fd.as_fd()).at(Call::Fstat)?.kind == FileKind::Symlink;
    Ok(if link { None } else { Some(fd) })
}

/// A path on the stack that is walked name by name, and in which a link's text replaces its name.
struct Way {
    bytes: [u8; Self::SIZE],
    end: usize,
}

impl Way {
    /// The kernel's own bound (`PATH_MAX`), with the NUL.
    const SIZE: usize = 4096;

    fn new(path: &[u8]) -> Result<Way> {
        let mut way = Way { bytes: [0; Self::SIZE], end: 0 };
        way.follow(0, 0, path)?;
        Ok(way)
    }

    /// Where the first name at or after `from` begins and ends.
    fn name(&self, from: usize) -> Option<(usize, usize)> {
        let start = from + self.bytes[from..self.end].iter().position(|b| *b != b'/')?;
        let rest = &self.bytes[start..self.end];
        Some((start, start + rest.iter().position(|b| *b == b'/').unwrap_or(rest.len())))
    }

    /// Calls `f` with this part of the path.
    fn between<T>(&mut self, start: usize, end: usize, f: impl FnOnce(&CStr) -> T) -> T {
        let after = std::mem::replace(&mut self.bytes[end], 0);
        let result = f(CStr::from_bytes_until_nul(&self.bytes[start..=end]).unwrap_or_default());
        self.bytes[end] = after;
        result
    }

    /// Replaces the name between by a link's text; with all before it, where that is absolute.
    fn follow(&mut self, start: usize, end: usize, link: &[u8]) -> Result<()> {
        let start = if link.first() == Some(&b'/') { 0 } else { start };
        let middle = start + link.len();
        let new_end = middle + (self.end - end);
        if new_end >= Self::SIZE {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes.copy_within(end..self.end, middle);
        self.bytes[start..middle].copy_from_slice(link);
        self.end = new_end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &[u8]) -> Vec<String> {
        let mut way = Way::new(path).unwrap();
        let (mut names, mut at) = (Vec::new(), 0);
        while let Some((start, end)) = way.name(at) {
            names.push(way.between(start, end, |name| name.to_str().unwrap().to_owned()));
            at = end;
        }
        names
    }

    #[test]
    fn ways_are_walked_name_by_name() {
        assert_eq!(names(b"a/b//c/"), ["a", "b", "c"]);
        assert_eq!(names(b"/"), [""; 0]);
        let long = [b'x'; Way::SIZE];
        assert!(Way::new(&long[1..]).is_ok());
        assert!(Way::new(&long).is_err());
    }

    #[test]
    fn links_replace_names() {
        for (link, after) in
            [("/x/y", "/x/y/c"), ("../z", "a/../z/c"), ("q", "a/q/c"), ("", "a//c")]
        {
            let mut way = Way::new(b"a/bb/c").unwrap();
            way.follow(2, 4, link.as_bytes()).unwrap();
            let end = way.end;
            assert_eq!(way.between(0, end, |p| p.to_str().unwrap().to_owned()), after);
        }
        let mut way = Way::new(b"a/bb/c").unwrap();
        assert_eq!(way.follow(2, 4, &[b'x'; Way::SIZE - 4]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn what_a_dangling_link_leads_to_is_made_within_the_root() {
        use std::os::unix::fs::symlink;
        let dir = std::env::temp_dir().join(format!("hako-walk-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/sub")).unwrap();
        let root = std::fs::File::open(dir.join("root")).unwrap();
        let at = |path: &str| crate::plan::target("x", path).unwrap();
        for (link, to) in [("abs", "/out/side"), ("up", "../../../top/side"), ("sub/rel", "next")] {
            symlink(to, dir.join("root").join(link)).unwrap();
            ensure(root.as_fd(), &at(link), Make::Directory).unwrap();
        }
        symlink("loop", dir.join("root/loop")).unwrap();
        assert!(ensure(root.as_fd(), &at("loop/x"), Make::File).is_err());
        assert!(ensure(root.as_fd(), &at("abs/deep/file"), Make::File).is_ok());
        for made in ["out/side/deep", "top/side", "sub/next"] {
            assert!(dir.join("root").join(made).is_dir(), "{made}");
        }
        let outside: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert_eq!(outside.len(), 1, "{outside:?}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
