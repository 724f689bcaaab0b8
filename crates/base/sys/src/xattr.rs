//! Extended attributes, by descriptor.
//!
//! The `f*xattr` calls refuse `O_PATH` descriptors, the only ones that symbolic links and devices
//! have. For these `*_path` goes through /proc/self/fd, whose magic link leads to the very inode.

use std::{
    ffi::{CStr, CString},
    os::fd::BorrowedFd,
};

use rustix::fs::{self as sys, XattrFlags};

use crate::{Result, fs::proc_fd};

/// The most bytes that the kernel keeps in one value (`XATTR_SIZE_MAX`) or list (`XATTR_LIST_MAX`).
const SIZE_MAX: usize = 65536;

/// fsetxattr(2): sets or replaces.
pub fn fset(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    Ok(sys::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// setxattr(2) on what an `O_PATH` descriptor stands for, be it a symbolic link.
pub fn set_path(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    Ok(sys::setxattr(proc_fd(fd).as_c_str(), name, value, XattrFlags::empty())?)
}

/// fremovexattr(2).
pub fn fremove(fd: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    Ok(sys::fremovexattr(fd, name)?)
}

/// fgetxattr(2): the whole value.
pub fn fget(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    whole(|buffer| sys::fgetxattr(fd, name, buffer))
}

/// getxattr(2) on what an `O_PATH` descriptor stands for.
pub fn get_path(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    let path = proc_fd(fd);
    whole(|buffer| sys::getxattr(path.as_c_str(), name, buffer))
}

/// flistxattr(2): all names.
pub fn flist(fd: BorrowedFd<'_>) -> Result<Vec<CString>> {
    Ok(names(&whole(|buffer| sys::flistxattr(fd, buffer))?))
}

/// listxattr(2) on what an `O_PATH` descriptor stands for.
pub fn list_path(fd: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let path = proc_fd(fd);
    Ok(names(&whole(|buffer| sys::listxattr(path.as_c_str(), buffer))?))
}

/// flistxattr(2) without an allocation: the names, each with its NUL.
pub fn list_into<'b>(fd: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let n = sys::flistxattr(fd, &mut *buffer)?;
    Ok(&buffer[..n])
}

/// fgetxattr(2) without an allocation.
pub fn get_into<'b>(fd: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let n = sys::fgetxattr(fd, name, &mut *buffer)?;
    Ok(&buffer[..n])
}

/// One call with the largest size the kernel can answer: a value that grows between asking for
/// its size and reading it cannot be missed.
fn whole(get: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; SIZE_MAX];
    let len = get(&mut buffer)?;
    buffer.truncate(len);
    buffer.shrink_to_fit();
    Ok(buffer)
}

fn names(list: &[u8]) -> Vec<CString> {
    list.split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::{
        Errno,
        fs::{OpenFlags, cwd, openat},
    };

    #[test]
    fn values_come_back_whole() {
        let fd = openat(cwd(), c"/tmp", OpenFlags::TMPFILE | OpenFlags::RDWR, 0o600).unwrap();
        let fd = fd.as_fd();
        if fset(fd, c"user.hako.probe", b"") == Err(Errno::EOPNOTSUPP) {
            eprintln!("SKIP values_come_back_whole: no user xattrs in /tmp");
            return;
        }
        let value: Vec<u8> = (0..2000u32).map(|n| n as u8).collect();
        fset(fd, c"user.hako.long", &value).unwrap();
        assert_eq!(fget(fd, c"user.hako.long").unwrap(), value);
        assert_eq!(get_path(fd, c"user.hako.probe").unwrap(), b"");
        let mut list = flist(fd).unwrap();
        list.sort();
        assert!(list.contains(&c"user.hako.long".to_owned()));
        assert!(list.contains(&c"user.hako.probe".to_owned()));
        fremove(fd, c"user.hako.long").unwrap();
        assert_eq!(fget(fd, c"user.hako.long"), Err(Errno::ENODATA));
        set_path(fd, c"user.hako.path", b"x").unwrap();
        assert!(list_path(fd).unwrap().contains(&c"user.hako.path".to_owned()));
    }
}
