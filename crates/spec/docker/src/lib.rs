//! Docker's documents as plain data: archive manifests and inspect output.

#![forbid(unsafe_code)]
