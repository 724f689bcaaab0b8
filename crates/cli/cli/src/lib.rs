//! hako's command line.

#![forbid(unsafe_code)]

pub mod template;
