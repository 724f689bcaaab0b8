//! Debian archives: from a suite and names of packages to verified packages on disk.
//!
//! | module | subject |
//! |---|---|
//! | `version`, `relation`, `deb822`, `control` | the words of packages |
//! | `package` | a .deb: its control file and its files |
//! | `selection` | what was asked for, and what was selected |
//!
//! ```
//! let clauses = hako_deb::clauses("libc6 (>= 2.34), python3:any | python2").unwrap();
//! assert!(clauses[0].0[0].admits("2.36-9+deb12u10"));
//! ```

#![forbid(unsafe_code)]

mod architecture;
mod control;
mod deb822;
mod error;
mod package;
mod relation;
mod selection;
mod version;

pub use crate::{
    architecture::{architecture_of, platform_of},
    control::{Control, MultiArch},
    deb822::{Deb822Error, Paragraph, Paragraphs, paragraphs},
    error::{Error, Result},
    package::{Deb, Member},
    relation::{Clause, Operator, Relation, RelationError, clauses},
    selection::{Base, Origin, Request, Selected, Selection, Wanted, WantedError},
    version::{Version, VersionError},
};
