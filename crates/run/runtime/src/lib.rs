//! The OCI runtime: plans a bundle, then makes it a process.

#![forbid(unsafe_code)]
