//! Landlock: a process gives up access to files, ports and other processes, for itself and all it
//! will start (Linux 5.13; landlock(7)).
//!
//! Nothing here allocates: it is called between `clone3` and `execve`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::process::check;
use crate::{Errno, Result};

/// What a ruleset denies where no rule allows it (`struct landlock_ruleset_attr`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handled {
    /// Access to files.
    pub fs: u64,
    /// Access to TCP ports (version 4).
    pub net: u64,
    /// What reaches processes outside (version 6).
    pub scoped: u64,
}

impl Handled {
    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        *self == Handled::default()
    }
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed: u64,
    port: u64,
}

const RULE_PATH_BENEATH: libc::c_long = 1;
const RULE_NET_PORT: libc::c_long = 2;
const CREATE_RULESET_VERSION: libc::c_long = 1;

/// The version of Landlock that the kernel has; 0 where it has none, or has it turned off.
pub fn version() -> Result<u32> {
    let null = std::ptr::null::<Handled>();
    // SAFETY: with this flag the kernel takes no attributes: a null pointer and size 0.
    let asked = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, null, 0usize, CREATE_RULESET_VERSION)
    });
    match asked {
        Ok(version) => Ok(version as u32),
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(0),
        Err(e) => Err(e),
    }
}

/// A ruleset without rules, which denies all that it handles.
pub fn create_ruleset(handled: &Handled) -> Result<OwnedFd> {
    // An older kernel takes a longer structure whose end is zero.
    // SAFETY: `handled` has the size given, and lives through the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(handled),
            size_of::<Handled>(),
            0 as libc::c_long,
        )
    })?;
    // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Allows these accesses to a file, or to all beneath a directory.
pub fn allow_beneath(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, allowed: u64) -> Result<()> {
    let rule = PathBeneath { allowed, parent: path.as_raw_fd() };
    // SAFETY: `rule` is the structure of this type of rule, and lives through the call.
    unsafe { add_rule(ruleset, RULE_PATH_BENEATH, (&raw const rule).cast()) }
}

/// Allows these accesses to a TCP port.
pub fn allow_port(ruleset: BorrowedFd<'_>, port: u16, allowed: u64) -> Result<()> {
    let rule = NetPort { allowed, port: port.into() };
    // SAFETY: `rule` is the structure of this type of rule, and lives through the call.
    unsafe { add_rule(ruleset, RULE_NET_PORT, (&raw const rule).cast()) }
}

/// # Safety
///
/// `rule` points to a structure of the type that `kind` names.
unsafe fn add_rule(
    ruleset: BorrowedFd<'_>,
    kind: libc::c_long,
    rule: *const libc::c_void,
) -> Result<()> {
    let flags: libc::c_long = 0;
    // SAFETY: the caller promises that the kernel finds the structure that it expects.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), kind, rule, flags)
    })?;
    Ok(())
}

/// Puts the calling thread under the ruleset, for good. It must have no_new_privs, or
/// CAP_SYS_ADMIN in its user namespace.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    let flags: libc::c_long = 0;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_thread_loses_what_it_handles() {
        if version().unwrap() == 0 {
            eprintln!("SKIP a_thread_loses_what_it_handles: no Landlock");
            return;
        }
        let dir = std::env::temp_dir().join(format!("hako-landlock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("f"), "x").unwrap();
        let inside = dir.clone();
        // The thread's alone, and gone with it.
        let (allowed, denied) = std::thread::spawn(move || {
            crate::cred::set_no_new_privs().unwrap();
            const READ_FILE: u64 = 1 << 2;
            let ruleset = create_ruleset(&Handled { fs: READ_FILE, ..Handled::default() }).unwrap();
            let path = std::fs::File::open(&inside).unwrap();
            allow_beneath(ruleset.as_fd(), path.as_fd(), READ_FILE).unwrap();
            restrict_self(ruleset.as_fd()).unwrap();
            let open = |path: &std::path::Path| std::fs::File::open(path).is_ok();
            (open(&inside.join("f")), !open("/etc/passwd".as_ref()))
        })
        .join()
        .unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert!(allowed && denied);
        assert_eq!(create_ruleset(&Handled::default()).unwrap_err(), Errno::from_raw(libc::ENOMSG));
    }
}
