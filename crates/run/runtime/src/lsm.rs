//! Security modules: what a label needs of the kernel.

use hako_oci::runtime::{Linux, Process};

use crate::{Error, Result};

/// Magic number of selinuxfs.
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

/// Refuses labels where nothing would enforce them.
pub(crate) fn check(process: &Process, linux: Option<&Linux>) -> Result<()> {
    let set = |label: Option<&str>| label.is_some_and(|label| !label.is_empty());
    let labels = [
        ("process.selinuxLabel", process.selinux_label.as_deref()),
        ("linux.mountLabel", linux.and_then(|linux| linux.mount_label.as_deref())),
    ];
    match labels.into_iter().find(|(_, label)| set(*label)) {
        Some((field, _)) if !selinux_enabled() => Err(Error::config(
            field,
            "selinux label is specified in config, but selinux is disabled or not supported",
        )),
        _ => Ok(()),
    }
}

fn selinux_enabled() -> bool {
    hako_sys::fs::statfs(c"/sys/fs/selinux").is_ok_and(|fs| fs.magic == SELINUX_MAGIC)
}
