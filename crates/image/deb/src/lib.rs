//! Debian archives: from a suite and names of packages to verified packages on disk.
//!
//! | module | subject |
//! |---|---|
//! | `version`, `relation`, `deb822`, `control` | the words of packages |
//! | `package` | a .deb: its control file and its files |
//! | `selection` | what was asked for, and what was selected |
//! | `sources` | archives, and whom to believe |
//! | `openpgp`, `release` | who signed what, and what that says |
//! | `archive`, `index` | what archives have |
//! | `resolve` | from names to packages that go together |
//! | `fetch`, `lock` | packages on their way here, and how to have the same again |
//! | `net`, `cache` | files from far, and those that are here |
//!
//! ```
//! let clauses = hako_deb::clauses("libc6 (>= 2.34), python3:any | python2").unwrap();
//! assert!(clauses[0].0[0].admits("2.36-9+deb12u10"));
//! ```

#![forbid(unsafe_code)]

mod architecture;
mod archive;
mod cache;
mod control;
mod deb822;
mod error;
mod fetch;
#[doc(hidden)]
pub mod foreign;
mod index;
mod lock;
mod net;
mod openpgp;
mod package;
mod relation;
mod release;
mod resolve;
mod selection;
mod sources;
mod version;

pub use crate::{
    architecture::{architecture_of, platform_of},
    archive::Archive,
    cache::Cache,
    control::{Control, MultiArch},
    deb822::{Deb822Error, Paragraph, Paragraphs, paragraphs},
    error::{Error, Result},
    fetch::fetch,
    net::{Method, Net},
    openpgp::{Keyring, PgpError},
    package::{Deb, Member},
    relation::{Clause, Operator, Relation, RelationError, clauses},
    selection::{Base, Origin, Request, Selected, Selection, Wanted, WantedError},
    sources::{Given, Settings, SignedBy, Source, Sources},
    version::{Version, VersionError},
};
