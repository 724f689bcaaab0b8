//! Overlays that are mounted nowhere: they live as long as a descriptor of them.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use hako_root::Root;
use hako_sys::{Errno, mount};

use crate::{Error, Result};

/// Longest value of one fsconfig(2) parameter, its NUL included.
const VALUE_SIZE_MAX: usize = 256;

/// Directories to join, top first, and where writes go.
pub(crate) struct Stack<'a> {
    pub lower: &'a [PathBuf],
    /// Upper and work directory; read-only without.
    pub writable: Option<(&'a Path, &'a Path)>,
    pub userxattr: bool,
}

impl Stack<'_> {
    /// Mounts the overlay, and gives its root.
    pub(crate) fn mount(&self, name: &Path) -> Result<Root> {
        let context = Context { layers: self.lower.len() };
        let fs = mount::fsopen(c"overlay").map_err(|e| context.error("fsopen", e, None))?;
        match self.configure_by_one(&context, fs.as_fd()) {
            // Before Linux 6.5 there is no lowerdir+: all of them are one value.
            Err(Error::Mount { source: Errno::EINVAL, .. }) => {
                let fs = mount::fsopen(c"overlay").map_err(|e| context.error("fsopen", e, None))?;
                let _dirs = self.configure_at_once(&context, fs.as_fd())?;
                self.finish(&context, fs.as_fd(), name)
            }
            configured => {
                configured?;
                self.finish(&context, fs.as_fd(), name)
            }
        }
    }

    fn configure_by_one(&self, context: &Context, fs: BorrowedFd<'_>) -> Result<()> {
        for dir in self.lower {
            context.set(fs, c"lowerdir+", &c_string(dir.as_os_str().as_bytes()))?;
        }
        Ok(())
    }

    /// By descriptors, which are short; they must stay open until the superblock is made.
    fn configure_at_once(&self, context: &Context, fs: BorrowedFd<'_>) -> Result<Vec<File>> {
        let dirs = self
            .lower
            .iter()
            .map(|dir| File::open(dir).map_err(Error::io("open", dir)))
            .collect::<Result<Vec<File>>>()?;
        let value = dirs
            .iter()
            .map(|dir| format!("/proc/self/fd/{}", dir.as_raw_fd()))
            .collect::<Vec<String>>()
            .join(":");
        if value.len() >= VALUE_SIZE_MAX {
            return Err(context.error("fsconfig lowerdir", Errno::E2BIG, None));
        }
        context.set(fs, c"lowerdir", &c_string(value.as_bytes()))?;
        Ok(dirs)
    }

    fn finish(&self, context: &Context, fs: BorrowedFd<'_>, name: &Path) -> Result<Root> {
        if let Some((upper, work)) = self.writable {
            context.set(fs, c"upperdir", &c_string(upper.as_os_str().as_bytes()))?;
            context.set(fs, c"workdir", &c_string(work.as_os_str().as_bytes()))?;
        }
        if self.userxattr {
            mount::fsconfig_flag(fs, c"userxattr")
                .map_err(|e| context.error("fsconfig userxattr", e, Some(fs)))?;
        }
        mount::fsconfig_create(fs).map_err(|e| context.error("fsconfig create", e, Some(fs)))?;
        let attributes = if self.writable.is_some() { 0 } else { mount::attr::RDONLY };
        let fd: OwnedFd =
            mount::fsmount(fs, attributes).map_err(|e| context.error("fsmount", e, Some(fs)))?;
        Ok(Root::from_fd(fd, name))
    }
}

struct Context {
    layers: usize,
}

impl Context {
    fn set(&self, fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
        mount::fsconfig_string(fs, key, value).map_err(|e| self.error("fsconfig", e, Some(fs)))
    }

    fn error(&self, call: &'static str, source: Errno, fs: Option<BorrowedFd<'_>>) -> Error {
        let mut buffer = [0; 512];
        let log = fs.map_or(&[][..], |fs| mount::fs_log(fs, &mut buffer));
        let log = String::from_utf8_lossy(log).trim_end().to_owned();
        Error::Mount { layers: self.layers, call, source, log }
    }
}

/// Paths of the store hold no NUL: they came from the kernel or from hexadecimal digits.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}
