//! hako's command line.

#![forbid(unsafe_code)]
