//! From an image's configuration and a user's wishes to config.json.
//!
//! [`decide`] is pure: what must be read (users, the machine's traits, devices) comes in, and the
//! result is data. Parsers of Docker's flag grammars live here too, one module per subject, so
//! that a grammar and its meaning are tested together; error texts are Docker's.
//!
//! ```
//! use std::{collections::BTreeMap, path::Path};
//!
//! use hako_bundle::{Facts, Machine, RunOptions, decide, mount};
//! use hako_oci::image::ContainerConfig;
//!
//! let options = RunOptions {
//!     command: vec!["serve".into()],
//!     user: Some("www".into()),
//!     mounts: vec![mount::parse_volume("/srv/data:/data:ro", Path::new("/"))?],
//!     ..RunOptions::default()
//! };
//! let facts = Facts {
//!     id: &"0123456789abcdef".repeat(4),
//!     passwd: b"www:x:33:33::/var/www:/bin/sh",
//!     group: b"",
//!     files_dir: Path::new("/var/lib/hako/containers/example"),
//!     volumes: &BTreeMap::new(),
//!     containers: &BTreeMap::new(),
//!     machine: &Machine::probe()?,
//! };
//! let bundle = decide(&options, &ContainerConfig::default(), &facts, &[])?;
//! let process = bundle.spec.process.expect("every bundle has a process");
//! assert_eq!(process.args, ["serve"]);
//! assert_eq!((process.user.uid, process.user.gid), (33, 33));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
pub use facts::{Facts, Machine, Neighbour};
pub use options::*;
pub use user::resolve_user;
