//! The init of `--init`: process 1 of a container, for programs that are no init.
//!
//! It runs the program as its child, passes signals on to it, reaps what others leave behind, and
//! ends as the program ended. Its binary is the runtime's own, executed from sealed memory: there
//! is no file of it in the container, and nothing that could be written to (CVE-2019-5736).

use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use hako_sys::poll::{PollFd, poll};
use hako_sys::process::{self, Child, Cloned, StringArray};
use hako_sys::signal::{
    self, SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGTTIN, SIGTTOU,
    SignalFd, SignalSet,
};
use hako_sys::{Errno, tty};

/// The name of `argv[0]` of an init.
pub const NAME: &str = "docker-init";

/// Where programs are looked for without `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Signals that an init keeps for itself: those that a fault of its own raises, and those of a
/// process in the background.
const OWN: &[i32] = &[SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU];

/// Why an init could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Nothing to run.
    #[error("no program to run")]
    NoProgram,
    /// A NUL byte.
    #[error("an argument or a variable has a NUL byte")]
    Nul,
    /// A call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
}

/// Runs `arguments` (without `argv[0]`, with or without a leading `--`) to its end; gives the exit
/// status that this process should end with.
pub fn init(arguments: Vec<OsString>) -> Result<i32, InitError> {
    let mut arguments: Vec<Vec<u8>> = arguments.into_iter().map(OsString::into_vec).collect();
    if arguments.first().is_some_and(|first| first == b"--") {
        arguments.remove(0);
    }
    let program = Program::new(arguments)?;
    let call = |call| move |source| InitError::Call { call, source };

    let passed: Vec<i32> = (1..=signal::RTMAX)
        .filter(|number| !OWN.contains(number) && !(32..signal::RTMIN).contains(number))
        .collect();
    let before = signal::block(&passed).map_err(call("sigprocmask"))?;
    let signals = SignalFd::new(&passed).map_err(call("signalfd"))?;
    // So that giving the terminal away does not stop us.
    for number in [SIGTTIN, SIGTTOU] {
        signal::set_disposition(number, signal::Disposition::Ignore).map_err(call("sigaction"))?;
    }
    let child = match process::fork().map_err(call("fork"))? {
        Cloned::Child => program.execute(&before),
        Cloned::Parent(child) => child,
    };
    attend(&child, &signals).map_err(call("waitid"))
}

/// Passes signals on and reaps, until the child has ended.
fn attend(child: &Child, signals: &SignalFd) -> Result<i32, Errno> {
    loop {
        poll(&mut [PollFd::readable(signals.as_fd())], None)?;
        while let Some(number) = signals.read()? {
            if number == SIGCHLD {
                if let Some(status) = process::try_wait(child.pidfd.as_fd())? {
                    return Ok(status.code());
                }
                while process::reap_other(child.pid)?.is_some() {}
                continue;
            }
            match process::pidfd_send_signal(child.pidfd.as_fd(), number) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A program with everything that executing it needs.
struct Program {
    /// Where it may be.
    candidates: Vec<CString>,
    arguments: StringArray,
    environment: StringArray,
}

impl Program {
    fn new(arguments: Vec<Vec<u8>>) -> Result<Program, InitError> {
        let name = arguments.first().filter(|name| !name.is_empty()).ok_or(InitError::NoProgram)?;
        let candidates = if name.contains(&b'/') {
            vec![name.clone()]
        } else {
            let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
            let join = |dir: &[u8]| [if dir.is_empty() { b"." } else { dir }, b"/", name].concat();
            path.as_bytes().split(|&b| b == b':').map(join).collect()
        };
        let environment = std::env::vars_os().map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            entry
        });
        let environment = environment.collect();
        let strings = |list: Vec<Vec<u8>>| -> Result<Vec<CString>, InitError> {
            list.into_iter().map(|s| CString::new(s).map_err(|_| InitError::Nul)).collect()
        };
        Ok(Program {
            candidates: strings(candidates)?,
            arguments: StringArray::new(strings(arguments)?),
            environment: StringArray::new(strings(environment)?),
        })
    }

    /// In the child: becomes the program, or ends as a shell would where it cannot.
    fn execute(&self, mask: &SignalSet) -> ! {
        let prepared = self.prepare(mask);
        let mut reason = prepared.err().unwrap_or(Errno::ENOENT);
        if prepared.is_ok() {
            for candidate in &self.candidates {
                match process::execve(candidate, &self.arguments, &self.environment, None) {
                    Errno::ENOENT | Errno::ENOTDIR => {}
                    errno => reason = errno,
                }
            }
        }
        let name = self.arguments.strings().first().map(|name| name.to_string_lossy());
        eprintln!("{NAME}: exec {}: {reason}", name.unwrap_or_default());
        process::exit(if reason == Errno::ENOENT { 127 } else { 126 })
    }

    /// A group of its own, in front of the terminal, with the signals as they were.
    fn prepare(&self, mask: &SignalSet) -> Result<(), Errno> {
        process::new_process_group()?;
        let stdin = process::inherited(0)?;
        match tty::set_foreground(stdin, process::pid()) {
            // No terminal, or not ours.
            Ok(()) | Err(Errno::ENOTTY | Errno::ENXIO | Errno::EPERM | Errno::EBADF) => {}
            Err(e) => return Err(e),
        }
        for number in [SIGTTIN, SIGTTOU] {
            signal::set_disposition(number, signal::Disposition::Default)?;
        }
        signal::set_mask(mask).map(drop)
    }
}
