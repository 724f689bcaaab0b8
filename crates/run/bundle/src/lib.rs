//! From an image's configuration and a user's wishes to config.json.
//!
//! [`decide`] is pure: what must be read (users, the machine's traits, devices) comes in, and the
//! result is data. Parsers of Docker's flag grammars live here too, one module per subject, so
//! that a grammar and its meaning are tested together; error texts are Docker's.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod capability;
mod defaults;
pub mod device;
pub mod env;
mod facts;
pub mod files;
pub mod limits;
pub mod mount;
mod mounts;
pub mod namespace;
mod options;
mod path;
pub mod quantity;
pub mod security;
pub mod sysctl;
pub mod ulimit;
pub mod user;

pub use bundle::{
    Bundle, Error, ROOTFS, args, bundle, check, decide, environment, joined_containers, stop_signal,
};
pub use defaults::SHM_BYTES_DEFAULT;
pub use facts::{Facts, Machine};
pub use options::*;
pub use user::resolve_user;
