//! hako: one binary for the whole container stack.

#![forbid(unsafe_code)]

fn main() {}
