//! What `--no-pivot` must take away: the host's file systems of the kernel.
//!
//! Without pivot_root(2) the old root stays in the container's mount namespace, beneath the new one.
//! A procfs or sysfs there, which nothing covers, would let a user namespace of the container's mount
//! another one without masks: the kernel allows what is visible already.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where such file systems are mounted outside of the root filesystem, those on top first.
pub(crate) fn outside(rootfs: &Path) -> Result<Vec<CString>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(list(&text, rootfs))
}

fn list(mountinfo: &[u8], rootfs: &Path) -> Vec<CString> {
    let mut found: Vec<CString> = mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            // 36 35 98:0 /root /mount/point rw,noatime master:1 - type source options
            let mut words = line.split(|b| *b == b' ');
            let point = unescape(words.nth(4)?);
            let kind = words.skip_while(|word| *word != b"-").nth(1)?;
            let outside = !point.starts_with(rootfs);
            (outside && matches!(kind, b"proc" | b"sysfs"))
                .then(|| CString::new(point.into_os_string().into_vec()).ok())?
        })
        .collect();
    found.reverse();
    found
}

/// Spaces, tabs, newlines and backslashes are `\\ooo` there.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn procfs_and_sysfs_outside_of_the_root_are_found() {
        let mountinfo = b"1 0 8:1 / / rw - ext4 /dev/sda rw\n\
            2 1 0:5 / /proc rw,nosuid shared:5 - proc proc rw\n\
            3 1 0:6 / /sys rw - sysfs sysfs rw\n\
            4 1 0:7 / /a\\040b\\134 rw - proc proc rw\n\
            5 1 0:5 / /bundle/rootfs/proc rw - proc proc rw\n\
            6 1 0:8 / /bundle/rootfs2 rw - proc proc rw\nnonsense\n";
        let found = list(mountinfo, Path::new("/bundle/rootfs"));
        assert_eq!(found, [c"/bundle/rootfs2", c"/a b\\", c"/sys", c"/proc"].map(CString::from));
    }
}
