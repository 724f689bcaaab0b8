//! Snapshots: mountable filesystem states made of layers.

#![forbid(unsafe_code)]
