//! The suite of every snapshotter, for the EROFS snapshotter, and what is its own.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hako_snapshot::Erofs;

/// A kernel that cannot mount an index leaves nothing to test.
fn open(dir: &Path) -> Erofs {
    Erofs::probe(dir).unwrap();
    Erofs::open(dir).unwrap()
}

hako_snapshot::testsuite!(erofs, open);
