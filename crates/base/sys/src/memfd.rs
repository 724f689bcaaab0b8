//! Sealed memory files: what runs from one cannot be overwritten by anybody.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::{Errno, Result};

/// `MFD_EXEC` (Linux 6.3): asked for where `vm.memfd_noexec` would make files non-executable.
const MFD_EXEC: u32 = 0x10;

/// A memory file that may be executed and sealed, named `name` in /proc.
pub fn create_executable(name: &CStr) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
        Ok(fd) => Ok(fd),
        // Kernels before 6.3 refuse the flag, and need it not.
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        Err(e) => Err(e.into()),
    }
}

/// Forbids every further change, this one included.
pub fn seal(fd: BorrowedFd<'_>) -> Result<()> {
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    Ok(rustix::fs::fcntl_add_seals(fd, all)?)
}

/// Whether `fd` is a memory file that nobody can change.
pub fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(all))
}

/// A sealed, executable copy of `file`.
pub fn sealed_copy(name: &CStr, file: &File) -> Result<OwnedFd> {
    let size = file.metadata().map_err(|e| Errno::of(&e))?.len();
    let copy = create_executable(name)?;
    let mut offset: u64 = 0;
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        match rustix::fs::sendfile(&copy, file, Some(&mut offset), left) {
            Ok(0) => return Err(Errno::EIO), // It shrank under us.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    rustix::fs::fchmod(&copy, rustix::fs::Mode::from_raw_mode(0o500))?;
    seal(rustix::fd::AsFd::as_fd(&copy))?;
    debug_assert!(copy.as_raw_fd() > 2, "standard descriptors must be open");
    Ok(copy)
}

/// Unmaps the unchanged pages of files that this process has mapped: its program, mostly, of which
/// a process that has finished starting needs little more. What is needed again comes back by
/// itself.
pub fn forget_file_pages() -> Result<()> {
    // First what, then at once: every page that is looked at in between comes back, with those
    // around it.
    let (ranges, count) = unchanged_file_ranges()?;
    for &(start, end) in &ranges[..count] {
        // SAFETY: the pages come from a file, cannot be written to, and none was ever changed:
        // whoever looks at them again sees the same bytes.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) };
    }
    Ok(())
}

/// Mappings of files that cannot be written to and have no page of their own.
fn unchanged_file_ranges() -> Result<([(usize, usize); 32], usize)> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").map_err(|e| Errno::of(&e))?;
    let (mut ranges, mut count, mut mapping) = ([(0, 0); 32], 0, None);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => {
                if let (Some(range), Some(place)) = (mapping.take(), ranges.get_mut(count)) {
                    *place = range;
                    count += 1;
                }
            }
            (Some(range), Some(permissions)) if !range.ends_with(':') => {
                let of_file = words.nth(2).is_some_and(|inode| inode != "0");
                let read_only = permissions.starts_with('r') && !permissions.contains('w');
                let bounds = range.split_once('-').and_then(|(start, end)| {
                    let number = |hex| usize::from_str_radix(hex, 16).ok();
                    Some((number(start)?, number(end)?))
                });
                mapping = bounds.filter(|_| of_file && read_only);
            }
            _ => {}
        }
    }
    Ok((ranges, count))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_pages() {
        let (ranges, count) = super::unchanged_file_ranges().unwrap();
        let here = super::forget_file_pages as fn() -> _ as usize;
        assert!(ranges[..count].iter().any(|(start, end)| (*start..*end).contains(&here)));
        super::forget_file_pages().unwrap();
        assert_eq!(super::unchanged_file_ranges().unwrap().1, count);
    }

    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(!is_sealed(file.as_fd()));
        let copy = sealed_copy(c"test", &file).unwrap();
        assert!(is_sealed(copy.as_fd()));
        let error = File::from(copy).write_all(b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
