//! Tar: a reader for hostile archives and a reproducible writer.

#![forbid(unsafe_code)]
