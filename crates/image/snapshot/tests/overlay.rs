//! The suite of every snapshotter, for the overlay snapshotter, and what is its own.

use hako_snapshot::Overlay;

hako_snapshot::testsuite!(overlay, |dir| Overlay::open(dir).unwrap());
