//! Content store: immutable blobs, references, leases, garbage collection.

#![forbid(unsafe_code)]
