//! Credentials: user and group IDs, capabilities, no_new_privs, keyrings, dumpable.
//!
//! Nothing here allocates or takes a lock. Every call changes the calling *thread* only, as the
//! kernel defines it: they are for the single-threaded child of a clone, where libc's wrappers
//! would try to signal threads that did not come along.

use std::ffi::CStr;

use crate::process::check;
use crate::{Errno, Result};

/// Names of the capabilities, by their number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Number of the capability with this name (`CAP_CHOWN`).
pub fn capability(name: &str) -> Option<u8> {
    CAPABILITIES.iter().position(|n| *n == name).map(|i| i as u8)
}

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// All that this crate knows.
    pub const ALL: CapSet = CapSet((1 << CAPABILITIES.len()) - 1);

    /// Whether the capability is in the set.
    pub fn has(self, capability: u8) -> bool {
        self.0 >> capability & 1 == 1
    }

    /// The set without what `other` lacks.
    pub fn intersect(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// The names in the set, lowest number first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CAPABILITIES
            .into_iter()
            .enumerate()
            .filter(move |(i, _)| self.has(*i as u8))
            .map(|(_, n)| n)
    }
}

/// The three sets of capset(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    /// In force.
    pub effective: CapSet,
    /// Can be put in force.
    pub permitted: CapSet,
    /// Can be handed on through files.
    pub inheritable: CapSet,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// The caller's capabilities: `capget(2)`.
pub fn capabilities() -> Result<CapSets> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 writes two `struct __user_cap_data_struct` of three words each.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let set = |i: usize| CapSet(u64::from(data[0][i]) | u64::from(data[1][i]) << 32);
    Ok(CapSets { effective: set(0), permitted: set(1), inheritable: set(2) })
}

/// Sets the caller's capabilities: `capset(2)`.
pub fn set_capabilities(sets: &CapSets) -> Result<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |shift: u32| {
        [sets.effective, sets.permitted, sets.inheritable].map(|s| (s.0 >> shift) as u32)
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two `struct __user_cap_data_struct` of three words each.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

fn prctl(option: i32, a: u64, b: u64) -> Result<i64> {
    // SAFETY: every caller in this module passes an option whose arguments are plain numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            option as libc::c_long,
            a as libc::c_long,
            b as libc::c_long,
            0 as libc::c_long,
            0 as libc::c_long,
        )
    })
}

/// Whether the capability is in the bounding set; `None` where the kernel does not know it.
pub fn bounding_has(capability: u8) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0).ok().map(|v| v == 1)
}

/// Takes everything that is not in `keep` out of the bounding set.
pub fn limit_bounding(keep: CapSet) -> Result<()> {
    for capability in 0..64u8 {
        if keep.has(capability) {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0) {
            Ok(_) => {}
            // Past the last capability of this kernel.
            Err(Errno::EINVAL) if usize::from(capability) > 30 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Clears the ambient set.
pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    Ok(())
}

/// Adds to the ambient set; the capability must be permitted and inheritable.
pub fn raise_ambient(capability: u8) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability))?;
    Ok(())
}

/// Whether permitted capabilities survive the change to an ordinary user.
pub fn keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0)?;
    Ok(())
}

/// From here on no execve gives privileges.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    Ok(())
}

/// Whether others of the same user can trace the caller and read its /proc files.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable), 0)?;
    Ok(())
}

/// The signal the caller gets when the thread that made it ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0)?;
    Ok(())
}

/// Whether orphans below become the caller's children.
pub fn set_child_subreaper(on: bool) -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on), 0)?;
    Ok(())
}

/// Sets real, effective and saved user ID.
pub fn set_uid(uid: u32) -> Result<()> {
    let uid = uid as libc::c_long;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Sets real, effective and saved group ID.
pub fn set_gid(gid: u32) -> Result<()> {
    let gid = gid as libc::c_long;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// Sets the supplementary groups.
pub fn set_groups(gids: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads as many `gid_t` (u32) as the slice has.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) })?;
    Ok(())
}

/// The caller's effective user ID.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The caller's effective group ID.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Leaves the session keyring for a new one of this name; returns its serial number.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the name is a C string that lives through the call.
    Ok(check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })?
        as i32)
}

/// Sets the permissions of a key.
pub fn set_key_permissions(key: i32, permissions: u32) -> Result<()> {
    const SETPERM: libc::c_long = 5;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, key, permissions as libc::c_long) })?;
    Ok(())
}

/// The permissions of a key.
pub fn key_permissions(key: i32) -> Result<u32> {
    const DESCRIBE: libc::c_long = 6;
    let mut text = [0u8; 256];
    // SAFETY: the kernel writes at most the buffer's length.
    let n = check(unsafe {
        libc::syscall(libc::SYS_keyctl, DESCRIBE, key, text.as_mut_ptr(), text.len())
    })?;
    // type;uid;gid;permissions;name
    let text = &text[..(n as usize).min(text.len())];
    let field = text.split(|b| *b == b';').nth(3).ok_or(Errno::EIO)?;
    field.iter().try_fold(0u32, |n, b| {
        let digit = (*b as char).to_digit(16).ok_or(Errno::EIO)?;
        Ok(n << 4 | digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(capability("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability("SYS_ADMIN"), None);
        assert_eq!(CapSet(1 << 13 | 1).names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_NET_RAW"]);
        assert!(CapSet::ALL.has(40) && !CapSet::ALL.has(41));
    }

    #[test]
    fn the_callers_sets_are_consistent() {
        let sets = capabilities().unwrap();
        assert_eq!(sets.effective.intersect(sets.permitted), sets.effective);
    }
}
