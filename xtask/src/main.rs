//! Build, test, bench and demo tasks of the workspace.

#![forbid(unsafe_code)]

fn main() {}
