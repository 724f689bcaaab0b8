//! Loop devices: files as block devices, read-only, for kernels that mount nothing else.
//!
//! A device is released by the kernel when its last user is gone: a descriptor, or a mount of it. So
//! no crash leaves one.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use crate::{
    Errno, Result,
    fs::{OpenFlags, cwd, openat},
};

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
/// Linux 5.8.
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// How often somebody else may be faster.
const TRIES_MAX: usize = 100;

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device that is there as long as this is, or a mount of it.
#[derive(Debug)]
pub struct Loop {
    number: u32,
    _device: OwnedFd,
}

impl Loop {
    /// Makes a file a device of blocks of `block_bytes`. `name` is what tools show of it.
    ///
    /// Errors are those of opening /dev/loop-control and /dev/loopN, and of ioctl_loop(4).
    pub fn attach(file: BorrowedFd<'_>, block_bytes: u32, name: &[u8]) -> Result<Loop> {
        let flags = OpenFlags::RDWR | OpenFlags::CLOEXEC;
        let control = openat(cwd(), c"/dev/loop-control", flags, 0)?;
        let mut tries = 0..TRIES_MAX;
        loop {
            let number = free(control.as_fd())?;
            // The digits of a number hold no NUL.
            let path = CString::new(device_path(number)).unwrap_or_default();
            let flags = OpenFlags::RDONLY | OpenFlags::CLOEXEC;
            let device = openat(cwd(), &path, flags, 0)?;
            match configure(device.as_fd(), file, block_bytes, name) {
                // Somebody else got the same number.
                Err(Errno::EBUSY) if tries.next().is_some() => {}
                done => return done.map(|()| Loop { number, _device: device }),
            }
        }
    }

    /// Its path in /dev.
    pub fn path(&self) -> String {
        device_path(self.number)
    }
}

fn device_path(number: u32) -> String {
    format!("/dev/loop{number}")
}

fn free(control: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument, and returns a number or -1.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _, 0) };
    u32::try_from(number).map_err(|_| Errno::of(&std::io::Error::last_os_error()))
}

fn configure(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    block_bytes: u32,
    name: &[u8],
) -> Result<()> {
    let mut file_name = [0; 64];
    // The last byte stays: it ends the name.
    for (to, from) in file_name[..63].iter_mut().zip(name) {
        *to = *from;
    }
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    // A descriptor is never negative.
    let fd = file.as_raw_fd() as u32;
    let config = Config { fd, block_size: block_bytes, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one loop_config, which has the layout of the kernel's and lives
    // until after the call; both descriptors are borrowed for its length.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } {
        0 => Ok(()),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }

    #[test]
    fn a_device_is_its_file_and_goes_with_its_owner() {
        let path = std::env::temp_dir().join(format!("hako-loop-{}", std::process::id()));
        std::fs::write(&path, vec![7; 4096]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let device = match Loop::attach(file.as_fd(), 512, b"hako tests this") {
            Ok(device) => device,
            Err(e) => {
                eprintln!("SKIP a_device_is_its_file_and_goes_with_its_owner: {e}");
                return;
            }
        };
        let mut read = Vec::new();
        std::fs::File::open(device.path()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, vec![7; 4096]);
        let other = Loop::attach(file.as_fd(), 512, b"").unwrap();
        assert_ne!(device.path(), other.path());
        let backing = format!("/sys/block/loop{}/loop/backing_file", device.number);
        assert!(std::fs::read_to_string(&backing).unwrap().contains("hako-loop-"));
        std::fs::remove_file(&path).unwrap();
        drop(device);
        // Whoever looks at all block devices may hold it for a moment.
        for _ in 0..500 {
            let held = std::fs::read_to_string(&backing);
            if !held.is_ok_and(|name| name.contains(path.to_str().unwrap())) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the device is still there");
    }
}
