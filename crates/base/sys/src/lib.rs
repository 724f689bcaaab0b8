//! System calls with types: the only crate with `unsafe` code.
//!
//! Every wrapper takes slices, `BorrowedFd`, `&CStr` and flag types, and returns `OwnedFd` and
//! [`Result`]. Wrappers that are called between `clone3` and `execve` allocate nothing and take no
//! locks; their module says so. One file holds one subject of the kernel.

#![warn(clippy::undocumented_unsafe_blocks)]

pub mod alloc;
pub mod bpf;
pub mod clock;
pub mod cred;
pub mod errno;
pub mod eventfd;
mod flags;
pub mod fs;
pub mod landlock;
pub mod loopdev;
pub mod memfd;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod notify;
pub mod pages;
pub mod poll;
pub mod process;
pub mod rlimit;
pub mod seccomp;
pub mod signal;
pub mod tty;
pub mod unix;
pub mod xattr;

pub use errno::{Errno, Result};
