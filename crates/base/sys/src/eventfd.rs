//! A counter as a descriptor, which the kernel or another process adds to.

use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;

use crate::Result;

/// A new one, at zero. A read that finds zero does not wait.
pub fn nonblocking() -> Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
