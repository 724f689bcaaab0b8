//! Paths resolved by the kernel beneath a directory that is held open.

#![forbid(unsafe_code)]
