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

#[cfg(test)]
mod tests {
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
