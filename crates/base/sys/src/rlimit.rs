//! Resource limits, priorities, scheduling, memory policy, personality.
//!
//! Nothing here allocates: all of it is called between `clone3` and `execve`.

use crate::Result;
use crate::process::check;

/// Names of `RLIMIT_*`, by their number.
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// Number of `RLIMIT_NOFILE` in [`RLIMITS`]. libc's constant is an `i32` with musl, a `u32` with glibc.
pub const NOFILE: u32 = 7;

/// A soft and a hard limit; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// What is in force.
    pub soft: u64,
    /// What the soft limit can be raised to.
    pub hard: u64,
}

/// The caller's limit of the resource with this number in [`RLIMITS`].
pub fn get(resource: u32) -> Result<Limit> {
    let mut old = Limit { soft: 0, hard: 0 };
    // SAFETY: prlimit64 writes one `struct rlimit64`, which `Limit` is, to `old`.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource as libc::c_long,
            std::ptr::null::<Limit>(),
            &raw mut old,
        )
    })?;
    Ok(old)
}

/// Sets a limit of the process `pid`, the caller where it is 0.
pub fn set(pid: i32, resource: u32, limit: Limit) -> Result<()> {
    // SAFETY: prlimit64 reads one `struct rlimit64`, which `Limit` is, from `limit`.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource as libc::c_long,
            &raw const limit,
            std::ptr::null_mut::<Limit>(),
        )
    })?;
    Ok(())
}

/// `struct sched_attr` of sched_setattr(2), its first version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    /// Size of this structure; [`set_scheduler`] fills it in.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Static priority of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub period: u64,
}

/// Sets the caller's scheduling policy: `sched_setattr(2)`.
pub fn set_scheduler(attributes: &SchedAttr) -> Result<()> {
    let attributes = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attributes };
    // SAFETY: the kernel reads `size` bytes of the structure, which is exactly its size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

/// Sets the caller's I/O class (1 real time, 2 best effort, 3 idle) and priority: `ioprio_set(2)`.
pub fn set_io_priority(class: u8, priority: u8) -> Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    let value = libc::c_long::from(class) << 13 | libc::c_long::from(priority);
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// Sets the caller's NUMA memory policy: `set_mempolicy(2)`, mode with its flags, and a bit per node.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes the number of bits plus one.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits from `nodes`, which has as many.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_long, pointer, bits) })?;
    Ok(())
}

/// Sets the caller's execution domain: `personality(2)`.
pub fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: no pointers; domains change what `uname` says and how new memory is laid out.
    check(unsafe { libc::syscall(libc::SYS_personality, domain as libc::c_long) })?;
    Ok(())
}

/// Sets the processors the caller may run on: `sched_setaffinity(2)`, a bit per processor.
pub fn set_affinity(processors: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads as many bytes as the slice has.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(processors), processors.as_ptr())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_lowered() {
        let core = RLIMITS.iter().position(|n| *n == "RLIMIT_CORE").unwrap() as u32;
        let limit = get(core).unwrap();
        set(0, core, Limit { soft: 0, hard: limit.hard }).unwrap();
        assert_eq!(get(core).unwrap().soft, 0);
    }
}
