//! Programs loaded into the kernel: each into a thread of its own, which ends with its test.
#![allow(clippy::unwrap_used)] // Helpers of tests panic as tests do.

use std::{
    os::fd::OwnedFd,
    process::{Command, Output},
};

use hako_oci::runtime::Seccomp;
use hako_seccomp::{Arch, Context, compile, docker_default};
use hako_sys::{Errno, seccomp, signal};

/// Runs `f` in a thread under a profile; `None` where this process may not load one.
fn under<T: Send + 'static>(
    test: &str,
    profile: &Seccomp,
    f: impl FnOnce(Option<OwnedFd>) -> T + Send + 'static,
) -> Option<T> {
    let program = compile(profile).unwrap();
    let thread = std::thread::spawn(move || match seccomp::load(&program.filter, program.flags) {
        Ok(listener) => Ok(f(listener)),
        Err(e) => Err(e),
    });
    match thread.join().unwrap() {
        Ok(value) => Some(value),
        // Neither CAP_SYS_ADMIN nor no_new_privs.
        Err(Errno::EACCES) => {
            eprintln!("SKIP {test}: may not load a filter");
            None
        }
        Err(e) => panic!("{e:?}"),
    }
}

fn profile(json: &str) -> Seccomp {
    serde_json::from_str(json).unwrap()
}

/// Docker's default profile with the capabilities of Docker's default containers.
fn docker() -> Seccomp {
    let capabilities = ["CAP_SYS_CHROOT".to_owned()];
    docker_default(&Context {
        capabilities: &capabilities,
        arch: Arch::native().unwrap(),
        kernel: (6, 0),
    })
}

#[test]
fn kill_says_operation_not_permitted() {
    let lecture = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let own = std::process::id() as i32;
    let result =
        under("kill_says_operation_not_permitted", &lecture, move |_| signal::send(own, 0));
    if let Some(result) = result {
        assert_eq!(result, Err(Errno::EPERM));
        assert_eq!(signal::send(own, 0), Ok(())); // Other threads are free.
    }
}

#[test]
fn the_errno_of_the_rule_is_returned() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": [],
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 75,
                          "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    let own = std::process::id() as i32;
    let results = under("the_errno_of_the_rule_is_returned", &profile, move |_| {
        // SIGURG is ignored by default.
        (signal::send(own, 0), signal::send(own, 23))
    });
    if let Some(results) = results {
        assert_eq!(results, (Err(Errno::EOVERFLOW), Ok(())));
    }
}

#[test]
fn a_rule_that_notifies_gives_a_listener() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/listener",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    let listener = under("a_rule_that_notifies_gives_a_listener", &profile, |l| l.is_some());
    assert_ne!(listener, Some(false));
}

/// Runs a python program under a profile; `None` where that cannot be.
fn python(test: &'static str, profile: &Seccomp, program: &'static str) -> Option<Output> {
    let run = move |_| Command::new("python3").args(["-c", program]).output();
    match under(test, profile, run)? {
        Ok(output) => Some(output),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIP {test}: python3 is not installed");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn dockers_default_lets_ordinary_programs_run_and_no_more() {
    let name = "dockers_default_lets_ordinary_programs_run_and_no_more";
    if Arch::native() != Some(Arch::X86_64) {
        return eprintln!("SKIP {name}: has system call numbers of x86_64");
    }
    let program = "
import ctypes, os, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def errno(number, *args):
    ctypes.set_errno(0)
    r = libc.syscall(*[ctypes.c_long(a) for a in (number,) + args])
    return ctypes.get_errno() if r < 0 else 0
subprocess.run(['true'], check=True)
t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()
socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
print('mount', errno(165, 0, 0, 0, 0, 0))
print('unshare', errno(272, 0x10000000))
print('clone3', errno(435, 0, 0))
print('newer', errno(999))
print('keyctl', errno(250, 0, 0))
for family in (38, 40):
    for high in (0, 1 << 32):
        print('socket', family, errno(41, high | family, 5, 0))
print('socket', 1, errno(41, (1 << 32) | 1, 1, 0))
print('personality', errno(135, 0x0040000), errno(135, 0xffffffff))
";
    let Some(output) = python(name, &docker(), program) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "thread",
            "mount 1",
            "unshare 1",
            "clone3 38",
            "newer 38",
            "keyctl 1",
            // High bits that the kernel drops do not help.
            "socket 38 1",
            "socket 38 1",
            "socket 40 1",
            "socket 40 1",
            "socket 1 0",
            "personality 1 0",
        ],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn another_architecture_is_no_way_around() {
    let name = "another_architecture_is_no_way_around";
    if Arch::native() != Some(Arch::X86_64) {
        return eprintln!("SKIP {name}: has system call numbers of x86_64");
    }
    // kill by its x32 number; with only x86_64 in the profile every x32 call kills.
    let program = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(ctypes.c_long(0x40000000 + 62), os.getpid(), 0)
print('alive')
";
    let lecture = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let Some(output) = python(name, &lecture, program) else { return };
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(output.status.signal(), Some(31), "{output:?}"); // SIGSYS
    assert!(output.stdout.is_empty());
}
