//! Loading seccomp filters and asking what the kernel knows of them.
//!
//! [`load`] is called between `clone3` and `execve`: it allocates nothing and takes no locks.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::{Errno, Result};

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when true.
    pub jump_true: u8,
    /// How many instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

const _: () = {
    assert!(size_of::<Insn>() == size_of::<libc::sock_filter>());
    assert!(align_of::<Insn>() == align_of::<libc::sock_filter>());
};

/// The most instructions that the kernel takes in one filter.
pub const INSNS_MAX: usize = 4096;

/// Synchronise all threads of the process to the filter.
pub const FLAG_TSYNC: u32 = 1 << 0;
/// Log every action but ALLOW.
pub const FLAG_LOG: u32 = 1 << 1;
/// Do not turn on the mitigation of speculative store bypass.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Return a descriptor that user notifications are read from.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// TSYNC reports failure as ESRCH, so that it can be combined with NEW_LISTENER.
pub const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
/// Once a notification was received, only fatal signals interrupt the call.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// What a filter returns, without its 16 bits of data.
pub mod action {
    /// Kill the process.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// Kill the thread.
    pub const KILL_THREAD: u32 = 0x0000_0000;
    /// Send SIGSYS.
    pub const TRAP: u32 = 0x0003_0000;
    /// Fail with the error number in the data.
    pub const ERRNO: u32 = 0x0005_0000;
    /// Ask the listener.
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    /// Ask the tracer, giving it the data.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Allow and log.
    pub const LOG: u32 = 0x7ffc_0000;
    /// Allow.
    pub const ALLOW: u32 = 0x7fff_0000;
}

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_ACTION_AVAIL: libc::c_ulong = 2;

fn last() -> Errno {
    Errno::of(&std::io::Error::last_os_error())
}

fn seccomp(operation: libc::c_ulong, flags: u32, args: *mut libc::c_void) -> libc::c_long {
    // SAFETY: the two callers below pass an operation and the argument that it reads; neither
    // operation writes through the pointer or keeps it.
    unsafe { libc::syscall(libc::SYS_seccomp, operation, libc::c_ulong::from(flags), args) }
}

/// Loads a filter into the calling thread, `seccomp(SECCOMP_SET_MODE_FILTER)`.
///
/// Needs no_new_privs or CAP_SYS_ADMIN. With [`FLAG_NEW_LISTENER`] it returns the listener, which
/// is close-on-exec. Allocates nothing.
pub fn load(filter: &[Insn], flags: u32) -> Result<Option<OwnedFd>> {
    if filter.is_empty() || filter.len() > INSNS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut program = libc::sock_fprog {
        len: filter.len() as u16,
        // The kernel reads it only; the field is mutable because C has no better.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let rc = seccomp(SET_MODE_FILTER, flags, (&raw mut program).cast());
    if rc < 0 {
        return Err(last());
    }
    if flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a success is a descriptor that the kernel just made for us.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(rc as i32) }));
    }
    // With TSYNC a positive result names the thread that could not be synchronised.
    if rc > 0 { Err(Errno::ESRCH) } else { Ok(None) }
}

/// Whether the kernel knows this action (4.14 and later; an older one says it knows none).
pub fn action_available(action: u32) -> Result<bool> {
    let mut action = action;
    match seccomp(GET_ACTION_AVAIL, 0, (&raw mut action).cast()) {
        0 => Ok(true),
        _ => match last() {
            Errno::EOPNOTSUPP => Ok(false),
            e => Err(e),
        },
    }
}

/// Whether the kernel knows these flags of [`load`]. Loads nothing: the filter is a null pointer,
/// which the kernel looks at after the flags.
pub fn flags_available(flags: u32) -> bool {
    seccomp(SET_MODE_FILTER, flags, std::ptr::null_mut()) < 0 && last() == Errno::EFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_knows_its_own_actions_and_flags() {
        assert_eq!(action_available(action::ALLOW), Ok(true));
        assert_eq!(action_available(action::KILL_PROCESS), Ok(true));
        assert_eq!(action_available(0x7123_0000), Ok(false));
        assert!(flags_available(FLAG_LOG | FLAG_SPEC_ALLOW));
        assert!(!flags_available(1 << 31));
    }

    #[test]
    fn filters_out_of_bounds_are_refused_before_the_call() {
        let ret = Insn { code: 0x06, jump_true: 0, jump_false: 0, k: action::ALLOW };
        assert_eq!(load(&[], 0).unwrap_err(), Errno::EINVAL);
        assert_eq!(load(&vec![ret; INSNS_MAX + 1], 0).unwrap_err(), Errno::EINVAL);
    }
}
