//! hako-runc: OCI runtime and container monitor.

#![forbid(unsafe_code)]

fn main() {}
