//! From an image's configuration and a user's wishes to config.json.
//!
//! Pure: what must be read (users, the machine's traits, devices) comes in as [`Facts`], and the
//! result is data. Parsers of Docker's flag grammars live here too, one module per subject, so
//! that a grammar and its meaning are tested together; error texts are Docker's.

#![forbid(unsafe_code)]

mod facts;
mod options;

pub use facts::{Facts, Machine};
pub use options::*;
