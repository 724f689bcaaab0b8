//! Layers: decompression, verification, application to a directory.

#![forbid(unsafe_code)]
