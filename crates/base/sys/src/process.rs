//! Processes: clone3, execve, pidfds, waitid, descriptors closed in bulk.
//!
//! What a child calls between [`clone3`] and [`execve`] allocates nothing and takes no locks.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::{Errno, Result};

/// Names this process (`PR_SET_NAME`), in what `ps` and `/proc/PID/comm` show. What is executed
/// through a descriptor has that descriptor's number for a name.
pub fn set_name(name: &CStr) -> Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// The result of a raw system call made through libc.
pub(crate) fn check(ret: libc::c_long) -> Result<i64> {
    if ret >= 0 { Ok(ret) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    // SAFETY: errno is a thread-local that always exists; the child of a clone has its own copy.
    Errno::from_raw(unsafe { *libc::__errno_location() })
}

/// `struct clone_args` of clone3(2), up to the cgroup (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// How [`clone3`] makes a child.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneHow<'a> {
    /// `CLONE_NEW*` of [`crate::namespace`].
    pub namespaces: u64,
    /// The cgroup (v2) that the child is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Who returned from [`clone3`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process. It must end in [`execve`] or [`exit`], never in a return to code that
    /// believes to be the only one.
    Child,
    /// The process that called.
    Parent(Child),
}

/// A child process, held by descriptor: its ID cannot be taken over by another.
#[derive(Debug)]
pub struct Child {
    /// Its ID in the caller's PID namespace.
    pub pid: i32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Makes a child like fork(2) does (a copy of memory and descriptors), in new namespaces.
///
/// The child of a process that has threads must not take locks, thus not allocate: a thread that
/// held one does not exist there. It is a deadlock, not undefined behaviour, to do so.
pub fn clone3(how: &CloneHow<'_>) -> Result<Cloned> {
    raw_clone3(how, 0, libc::SIGCHLD as u64)
}

/// fork(2): as [`clone3`] without anything new, also where a seccomp profile knows no clone3, as
/// Docker's, which cannot look into its arguments.
pub fn fork() -> Result<Cloned> {
    // SAFETY: the child runs on a copy of this stack and memory; what holds of it is said at
    // [`clone3`], and the same `Cloned::Child` says it to the caller.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = pid as i32;
            // Nobody reaps it before we return, so the number is still its own.
            Ok(Cloned::Parent(Child { pid, pidfd: pidfd_open(pid)? }))
        }
    }
}

fn raw_clone3(how: &CloneHow<'_>, extra: u64, exit_signal: u64) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArgs {
        flags: how.namespaces | extra | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = how.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, so both sides return into
    // valid frames; `arguments` has the size given, and the kernel writes one int to `pidfd`.
    match check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>())
    })? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid: pid as i32, pidfd }))
        }
    }
}

/// Like [`clone3`], but the child is born where `prepare` went: for namespaces that a process
/// cannot enter itself, only its children can (PID, time, and those below a joined user namespace).
///
/// `prepare` runs in a process of its own, which shares only the descriptor table with the caller:
/// the caller's own namespaces stay as they are. It must not allocate, and must not close
/// descriptors that it did not open. What it returns as an error is this function's error.
pub fn clone3_from(
    how: &CloneHow<'_>,
    prepare: impl FnOnce() -> std::result::Result<(), Stage>,
) -> std::result::Result<Cloned, Stage> {
    let (mut reader, mut writer) =
        std::io::pipe().map_err(|e| Stage { step: 0, errno: Errno::of(&e) })?;
    let own = |errno| Stage { step: 0, errno };
    match raw_clone3(&CloneHow::default(), libc::CLONE_FILES as u64, libc::SIGCHLD as u64)
        .map_err(own)?
    {
        Cloned::Child => {
            // The parent death signal and the like are init's business, not this helper's.
            let result = prepare().and_then(|()| {
                // A sibling of this process: the caller's child. Its exit signal is this one's.
                raw_clone3(how, libc::CLONE_PARENT as u64, 0).map_err(own)
            });
            let mut message = [0u8; 16];
            match result {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent(child)) => {
                    message[..4].copy_from_slice(&child.pid.to_ne_bytes());
                    message[4..8].copy_from_slice(&child.pidfd.as_raw_fd().to_ne_bytes());
                    // The descriptor belongs to the caller, with whom the table is shared.
                    std::mem::forget(child.pidfd);
                }
                Err(stage) => {
                    message[8..12].copy_from_slice(&stage.errno.raw().to_ne_bytes());
                    message[12..16].copy_from_slice(&stage.step.to_ne_bytes());
                }
            }
            let status = i32::from(writer.write_all(&message).is_err());
            exit(status)
        }
        Cloned::Parent(helper) => {
            let mut message = [0u8; 16];
            // The helper shares this table, so the pipe has no end of file to wait for: when it
            // dies without a word, its pidfd says so.
            let answer = read_unless_dead(&mut reader, &helper.pidfd, &mut message);
            wait(helper.pidfd.as_fd()).map_err(own)?;
            if !answer.map_err(own)? {
                return Err(own(Errno::ECHILD));
            }
            let word = |i: usize| {
                let mut bytes = [0u8; 4];
                bytes.copy_from_slice(&message[i..i + 4]);
                i32::from_ne_bytes(bytes)
            };
            if word(8) != 0 {
                return Err(Stage { step: word(12), errno: Errno::from_raw(word(8)) });
            }
            // SAFETY: the helper opened this descriptor in the shared table and gave it up.
            let pidfd = unsafe { OwnedFd::from_raw_fd(word(4)) };
            Ok(Cloned::Parent(Child { pid: word(0), pidfd }))
        }
    }
}

/// Where [`clone3_from`] failed: the step that `prepare` named, or 0 for the cloning itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// A number that means something to whoever wrote `prepare`; not 0.
    pub step: i32,
    /// Why.
    pub errno: Errno,
}

/// Reads a whole message; `false` when the process died before it wrote one.
fn read_unless_dead(
    pipe: &mut std::io::PipeReader,
    process: &OwnedFd,
    message: &mut [u8],
) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut fds = [PollFd::new(pipe, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => break,
            Ok(_) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    pipe.read_exact(message).map_err(|e| Errno::of(&e))?;
    Ok(true)
}

/// Strings in the form that execve(2) takes, made before the child exists.
#[derive(Debug)]
pub struct StringArray {
    /// Owns what `pointers` point to; a `CString` does not move its bytes.
    strings: Vec<CString>,
    /// One per string, then one spare and one closing null.
    pointers: Vec<Cell<*const c_char>>,
}

// SAFETY: the pointers lead to heap memory that the same value owns and never changes.
unsafe impl Send for StringArray {}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<CString>) -> StringArray {
        let null = || Cell::new(std::ptr::null());
        let pointers =
            strings.iter().map(|s| Cell::new(s.as_ptr())).chain([null(), null()]).collect();
        StringArray { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr().cast()
    }
}

/// Runs a program in place of the caller; returns only when that failed. `extra` is one more
/// string of the environment. Allocates nothing.
pub fn execve(
    path: &CStr,
    arguments: &StringArray,
    environment: &StringArray,
    extra: Option<&CStr>,
) -> Errno {
    let spare = &environment.pointers[environment.strings.len()];
    spare.set(extra.map_or(std::ptr::null(), CStr::as_ptr));
    // SAFETY: both arrays end with null and point to C strings that live through the call
    // (`extra` is borrowed for as long).
    unsafe {
        libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr())
    };
    let errno = last_errno();
    spare.set(std::ptr::null());
    errno
}

/// Runs the program that `fd` is open on; returns only when that failed.
pub fn fexecve(fd: BorrowedFd<'_>, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: as in `execve`; the path is a static C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Ends the calling process at once; nothing is flushed, no destructor runs.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group does not return and takes no pointers.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    // The call cannot fail; the compiler wants to see it.
    std::process::abort()
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// What a shell reports: the status, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(status) => status,
            ExitStatus::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits until a child has ended, and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<ExitStatus> {
    loop {
        match wait_with(pidfd, 0) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reaps a child if it has ended.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> Result<Option<ExitStatus>> {
    wait_with(pidfd, libc::WNOHANG)
}

fn wait_with(pidfd: BorrowedFd<'_>, flags: i32) -> Result<Option<ExitStatus>> {
    // SAFETY: all-zero is a valid siginfo_t; the kernel fills it in, and the accessors below are
    // for the SIGCHLD layout, which is what waitid writes.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            &raw mut info,
            libc::WEXITED | flags,
            std::ptr::null_mut::<libc::rusage>(),
        ))?;
        if info.si_pid() == 0 {
            return Ok(None);
        }
        Ok(Some(match info.si_code {
            libc::CLD_EXITED => ExitStatus::Exited(info.si_status()),
            _ => ExitStatus::Signaled(info.si_status()),
        }))
    }
}

/// Reaps one ended child other than `except`, and says which. For subreapers and for PID 1, which
/// inherit children that they do not know.
pub fn reap_other(except: i32) -> Result<Option<i32>> {
    let peek = |which: libc::idtype_t, id: i32, flags: i32| {
        // SAFETY: all-zero is a valid siginfo_t; the kernel fills it in, and si_pid is for the
        // SIGCHLD layout, which is what waitid writes.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            check(libc::syscall(
                libc::SYS_waitid,
                which,
                id,
                &raw mut info,
                libc::WEXITED | libc::WNOHANG | flags,
                std::ptr::null_mut::<libc::rusage>(),
            ))?;
            Ok::<i32, Errno>(info.si_pid())
        }
    };
    // Looked at first, and reaped by number then: nobody else reaps, so it is still this one.
    match peek(libc::P_ALL, 0, libc::WNOWAIT) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(pid) if pid == except => Ok(None),
        Ok(pid) => peek(libc::P_PID, pid, 0).map(Some),
        Err(e) => Err(e),
    }
}

/// A descriptor of the process `pid`, which must not be reaped meanwhile.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal (any number that the kernel takes; 0 only asks).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo makes the kernel fill in what kill(2) would.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Whether the process has ended (it may be not yet reaped).
pub fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(ready > 0)
}

/// Starts a session.
pub fn setsid() -> Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Puts the caller into a new process group of its own.
pub fn new_process_group() -> Result<()> {
    Ok(rustix::process::setpgid(None, None)?)
}

/// The caller's ID in its own PID namespace. Never cached.
pub fn pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Marks every descriptor from `first` on to be closed by execve: `close_range(2)`.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_long = 4;
    // SAFETY: nothing is closed now, so no owner of a descriptor is surprised.
    match check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_long,
            u32::MAX as libc::c_long,
            CLOSE_RANGE_CLOEXEC,
        )
    }) {
        // Linux 5.9 and 5.10 know the call but not the flag.
        Err(Errno::EINVAL | Errno::ENOSYS) => close_on_exec_one_by_one(first),
        other => other.map(|_| ()),
    }
}

fn close_on_exec_one_by_one(first: u32) -> Result<()> {
    let limit = crate::rlimit::get(crate::rlimit::NOFILE)?.soft.min(1 << 20) as u32;
    for fd in first..limit {
        // SAFETY: F_SETFD on any number is harmless; EBADF says that there is none.
        match check(unsafe {
            libc::syscall(libc::SYS_fcntl, fd as libc::c_long, libc::F_SETFD, libc::FD_CLOEXEC)
        }) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on but those in `keep`, whose order does not matter:
/// `close_range(2)` (Linux 5.9).
///
/// For the child of a clone: owners in its copy of memory must never be dropped afterwards.
pub fn close_all_from(first: RawFd, keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut from = first;
    for kept in keep.iter().copied().filter(|fd| *fd >= first) {
        close_range(from, kept - 1)?;
        from = kept + 1;
    }
    close_range(from, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the caller promises that no owner of these descriptors runs any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Makes `fd` inherited by execve, or not.
pub fn set_inherited(fd: BorrowedFd<'_>, inherited: bool) -> Result<()> {
    let flag = if inherited { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: F_SETFD changes a flag of a descriptor that is borrowed here.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFD, flag) })?;
    Ok(())
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    Ok(rustix::process::chdir(path)?)
}

/// fchdir(2).
pub fn fchdir(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(rustix::process::fchdir(fd)?)
}

/// chroot(2).
pub fn chroot(path: &CStr) -> Result<()> {
    Ok(rustix::process::chroot(path)?)
}

/// Whether the current directory is below the current root: one that came in through a leaked
/// descriptor is not, and getcwd(2) says so.
pub fn cwd_is_inside() -> Result<bool> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the buffer's length.
    match check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) }) {
        Ok(_) => Ok(path[0] == b'/'),
        // Below the root, but deeper than a path can say.
        Err(Errno::ERANGE) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Sets the file mode creation mask; returns the old one.
pub fn umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Sets the host name of the UTS namespace.
pub fn set_hostname(name: &CStr) -> Result<()> {
    Ok(rustix::system::sethostname(name.to_bytes())?)
}

/// Sets the NIS domain name of the UTS namespace.
pub fn set_domainname(name: &CStr) -> Result<()> {
    Ok(rustix::system::setdomainname(name.to_bytes())?)
}

/// What a program that was executed expects, whatever the caller's habits: no signal blocked, and
/// `SIGPIPE`, which Rust programs ignore, back at its default.
pub fn reset_signals() -> Result<()> {
    // Sizes and layout are the kernel's: an action of four words, a mask of one.
    let default_action = [0u64; 4];
    let empty_mask = 0u64;
    // SAFETY: both calls read structures of the size the kernel defines, all zero: default
    // disposition, no flags, no restorer, empty masks.
    unsafe {
        check(libc::syscall(
            libc::SYS_rt_sigaction,
            libc::SIGPIPE,
            default_action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            8,
        ))?;
        check(libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty_mask,
            std::ptr::null_mut::<u64>(),
            8,
        ))?;
    }
    Ok(())
}

/// Makes `fd` available under the number `target`, inherited by execve.
///
/// For the child of a clone: it replaces whatever `target` was.
pub fn dup_to(fd: BorrowedFd<'_>, target: RawFd) -> Result<()> {
    if fd.as_raw_fd() == target {
        // dup3 refuses equal numbers; only the flag has to go.
        // SAFETY: F_SETFD changes a flag of a descriptor that is borrowed here.
        check(unsafe { libc::syscall(libc::SYS_fcntl, target, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: the caller is a child that has no owner of `target` left to run.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), target, 0) })?;
    Ok(())
}

/// A copy of `fd` with a number of at least `lowest`, close-on-exec.
pub fn dup_above(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, owned by nobody yet.
    unsafe {
        let new =
            check(libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest))?;
        Ok(OwnedFd::from_raw_fd(new as i32))
    }
}

/// A borrowed descriptor that the caller of this *process* handed down by number (`LISTEN_FDS`,
/// `--preserve-fds`); `EBADF` where there is none.
pub fn inherited(fd: RawFd) -> Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD on any number is harmless.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD) })?;
    // SAFETY: it is open, it came from outside, and nothing in this process owns or closes it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes over a descriptor that the caller of this *process* handed down by number.
pub fn take_inherited(fd: RawFd) -> Result<OwnedFd> {
    inherited(fd)?;
    // SAFETY: it is open and came from outside; whoever calls this claims the number for itself.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(how: &CloneHow<'_>, child: impl FnOnce() -> i32) -> Child {
        match clone3(how).unwrap() {
            Cloned::Child => exit(child()),
            Cloned::Parent(child) => child,
        }
    }

    #[test]
    fn exit_and_signal_are_told_apart() {
        let child = spawn(&CloneHow::default(), || 7);
        assert_eq!(wait(child.pidfd.as_fd()), Ok(ExitStatus::Exited(7)));
        let child = spawn(&CloneHow::default(), || {
            loop {
                std::thread::sleep(std::time::Duration::from_secs(100));
            }
        });
        assert_eq!(has_ended(child.pidfd.as_fd()), Ok(false));
        pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL).unwrap();
        let status = wait(child.pidfd.as_fd()).unwrap();
        assert_eq!((status, status.code()), (ExitStatus::Signaled(9), 137));
    }

    #[test]
    fn environment_gets_the_extra_string() {
        let arguments =
            StringArray::new(vec![c"sh".into(), c"-c".into(), c"test \"$A$B\" = 12".into()]);
        let environment = StringArray::new(vec![c"A=1".into()]);
        let child = spawn(&CloneHow::default(), || {
            execve(c"/bin/sh", &arguments, &environment, Some(c"B=2"));
            1
        });
        assert_eq!(wait(child.pidfd.as_fd()), Ok(ExitStatus::Exited(0)));
    }

    #[test]
    fn a_stage_fails_with_its_step_and_leaves_the_caller_alone() {
        let failure = Stage { step: 3, errno: Errno::EPERM };
        let result = clone3_from(&CloneHow::default(), || Err(failure));
        assert_eq!(result.map(|_| ()), Err(failure));
    }

    #[test]
    fn a_child_through_a_stage_is_the_callers_child() {
        match clone3_from(&CloneHow::default(), || Ok(())).unwrap() {
            Cloned::Child => exit(5),
            Cloned::Parent(child) => {
                assert_eq!(wait(child.pidfd.as_fd()), Ok(ExitStatus::Exited(5)));
            }
        }
    }
}
