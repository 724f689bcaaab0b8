//! Giving a v2 cgroup away, so that who runs in it may divide it further (cgroups(7), "Delegation").
//!
//! The directory and the files that the kernel names for this change owner. The files that hold the
//! cgroup's own limits do not: whoever it is given to divides what there is, and gets no more of it.

use std::{os::unix::fs::chown, path::Path};

use hako_sys::Errno;

use crate::{Cgroup, Error, Result, sys};

/// The kernel's list (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// What is on it for as long as it exists, for where it cannot be read.
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes `uid` the owner of the v2 cgroup. Does nothing where there is none.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let Some(dir) = self.unified() else { return Ok(()) };
        let list = sys::read_optional(Path::new(LIST))?;
        for file in list.as_deref().unwrap_or(ALWAYS).lines().filter(|name| is_file_name(name)) {
            let path = dir.join(file);
            match chown(&path, Some(uid), None).map_err(|e| sys::errno(&e)) {
                // Some files are there only with their controller.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(source) => return Err(Error::Delegate { path, uid, source }),
            }
        }
        chown(dir, Some(uid), None).map_err(|e| Error::Delegate {
            path: dir.to_owned(),
            uid,
            source: sys::errno(&e),
        })
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != ".."
}
