//! Benchmarks against peers.

#![forbid(unsafe_code)]
