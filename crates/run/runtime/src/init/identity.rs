//! Who the new process is: user, groups, capabilities, keyring, limits.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use hako_sys::cred::{self, CapSet, CapSets};
use hako_sys::rlimit::{self, Limit};
use hako_sys::{Errno, fs, process};

use super::Init;
use crate::call::{At, Call, Did};

/// Becomes a user and group of a user namespace whose maps were just written, with all privileges.
pub(super) fn become_root(uid: u32, gid: u32, groups: bool) -> Did {
    if groups {
        cred::set_groups(&[]).at(Call::Setgroups)?;
    }
    cred::set_gid(gid).at(Call::Setgid)?;
    if uid == 0 {
        return cred::set_uid(0).at(Call::Setuid);
    }
    // The kernel lets capabilities go where it sees another user than 0: they are taken up again.
    let mine = cred::capabilities().at(Call::Capset)?;
    cred::keep_capabilities(true).at(Call::KeepCaps)?;
    cred::set_uid(uid).at(Call::Setuid)?;
    cred::keep_capabilities(false).at(Call::KeepCaps)?;
    cred::set_capabilities(&mine).at(Call::Capset)
}

/// A session keyring that the host's is not reachable from.
pub(super) fn new_keyring(name: &CStr) -> Did {
    let key = match cred::join_session_keyring(name) {
        Ok(key) => key,
        // A kernel without keys has nothing to share.
        Err(Errno::ENOSYS) => return Ok(()),
        Err(e) => return Err(e).at(Call::Keyring),
    };
    // The container's user must be able to search it (as runc).
    const USER_SEARCH: u32 = 0x0008_0000;
    let permissions = cred::key_permissions(key).at(Call::KeyPermissions)?;
    cred::set_key_permissions(key, permissions | USER_SEARCH).at(Call::KeyPermissions)
}

pub(super) fn set_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Did {
    if let Some(groups) = groups {
        cred::set_groups(groups).at(Call::Setgroups)?;
    }
    cred::set_gid(gid).at(Call::Setgid)?;
    if uid == 0 {
        return cred::set_uid(uid).at(Call::Setuid);
    }
    // What the configuration permits survives until capset; execve clears the flag again.
    cred::keep_capabilities(true).at(Call::KeepCaps)?;
    cred::set_uid(uid).at(Call::Setuid)?;
    cred::keep_capabilities(false).at(Call::KeepCaps)
}

pub(super) fn set_capabilities(sets: &CapSets, ambient: CapSet) -> Did {
    // What the caller has not cannot be given: as runc and crun, the rest of the sets holds.
    let mine = cred::capabilities().at(Call::Capset)?;
    let sets = CapSets {
        effective: sets.effective.intersect(mine.permitted).intersect(sets.permitted),
        permitted: sets.permitted.intersect(mine.permitted),
        inheritable: sets.inheritable.intersect(CapSet(mine.permitted.0 | mine.inheritable.0)),
    };
    cred::set_capabilities(&sets).at(Call::Capset)?;
    cred::clear_ambient().at(Call::Ambient)?;
    let ambient = ambient.intersect(sets.permitted).intersect(sets.inheritable);
    for capability in (0..64).filter(|c| ambient.has(*c)) {
        cred::raise_ambient(capability).at(Call::Ambient)?;
    }
    Ok(())
}

pub(super) fn set_limit(resource: u32, limit: Limit, clamp: bool) -> Did {
    match rlimit::set(0, resource, limit) {
        Err(Errno::EPERM) if clamp => {
            let now = rlimit::get(resource).at(Call::Prlimit)?;
            let hard = limit.hard.min(now.hard);
            rlimit::set(0, resource, Limit { soft: limit.soft.min(hard), hard }).at(Call::Prlimit)
        }
        other => other.at(Call::Prlimit),
    }
}

/// The container's user can open its own standard descriptors anew through /proc.
pub(super) fn own_stdio(uid: u32) -> Did {
    for number in 0..3 {
        let fd: BorrowedFd<'static> = match process::inherited(number) {
            Ok(fd) => fd,
            Err(Errno::EBADF) => continue,
            Err(e) => return Err(e).at(Call::Fchown),
        };
        let stat = fs::fstat(fd).at(Call::Fstat)?;
        // The null device is everybody's.
        if stat.uid == uid || stat.rdev == (1, 3) {
            continue;
        }
        match fs::fchown(fd, Some(uid), None) {
            // Not ours to give away (a user namespace, a read-only file system): it still works
            // as an open descriptor.
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e).at(Call::Fchown),
        }
    }
    Ok(())
}

impl Init<'_> {
    pub(super) fn parent_death_signal(&self, signal: i32) -> Did {
        cred::set_parent_death_signal(signal).at(Call::ParentDeathSignal)?;
        // The parent may have died just before: then the socket has no other end.
        if hako_sys::poll::poll(
            &mut [hako_sys::poll::PollFd::new(self.sync(), false, false)],
            Some(std::time::Duration::ZERO),
        )
        .at(Call::Poll)?
            > 0
        {
            process::exit(1);
        }
        Ok(())
    }
}
