//! Fuzz targets: every parser of bytes that come from elsewhere.
//!
//! A target is a plain function over bytes that must not panic, hang, or take memory without
//! bound; where there is more that must hold (what is printed parses to the same), it asserts it.
//! Two programs feed them: libFuzzer, and `hako-fuzz` on the stable compiler.

#![forbid(unsafe_code)]

pub mod mutate;
pub mod targets;
