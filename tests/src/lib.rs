//! Integration tests by surface.

#![forbid(unsafe_code)]
