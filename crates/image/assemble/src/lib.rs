//! Images from Debian packages: what is in their files becomes layers.
//!
//! ```text
//! .deb files ── unpack ──> Unpacked ── Assembly::new ──> groups ── Assembly::write ──> tars
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `unpack` | packages taken apart |
//! | `tree` | which package has which path, by dpkg's rules |
//! | `group` | which packages share a layer |
//! | `layer` | a group as a tar |
//! | `users`, `base`, `alternatives`, `certificates` | what maintainer scripts would make |
//! | `database`, `dpkg` | the packages told to scanners, and to dpkg |
//!
//! The same packages give the same bytes, whoever puts them together, where and when. Packages are
//! not trusted: what is in them decides what is in the tars, and nothing else.

#![forbid(unsafe_code)]

mod alternatives;
mod base;
mod certificates;
mod database;
mod dpkg;
mod error;
mod group;
mod layer;
mod tree;
mod unpack;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

pub use crate::{
    dpkg::DATABASE,
    error::{Error, Result},
    group::Group,
    unpack::{Unpacked, unpack},
    users::NONROOT,
};
use crate::{group::Facts, layer::Made, tree::Tree};

/// The package that is read for its users and groups, and is not part of an image without dpkg.
pub const USERS: &str = users::PACKAGE;

/// What is put together beside the files of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// What maintainer scripts would make, as far as programs need it, and a database for scanners:
    /// nothing is run, and the image needs neither a shell nor dpkg.
    Distroless,
    /// dpkg's database with all packages unpacked: their scripts are run afterwards.
    Dpkg,
}

/// Packages that were put together.
#[derive(Debug)]
pub struct Assembly {
    packages: Vec<Unpacked>,
    tree: Tree,
    groups: Vec<Group>,
    /// By group.
    made: Vec<Vec<Made>>,
    date_max: Option<i64>,
}

impl Assembly {
    /// Puts packages together. `requires` says of each what it needs; `base` names those that are
    /// lowest in every image of the kind. No file will be younger than `date_max`, in seconds since
    /// 1970.
    pub fn new(
        packages: Vec<Unpacked>,
        requires: &[Vec<usize>],
        base: &BTreeSet<String>,
        style: Style,
        date_max: Option<i64>,
    ) -> Result<Assembly> {
        let tree = Tree::new(&packages)?;
        let facts: Vec<Facts<'_>> = packages
            .iter()
            .zip(requires)
            .map(|(package, requires)| Facts::of(package, requires, base.contains(package.name())))
            .collect();
        let mut groups = group::divide(&facts);
        if style == Style::Distroless {
            // Read, not installed.
            groups.iter_mut().for_each(|group| {
                group.packages.retain(|&number| packages[number].name() != USERS);
            });
            groups.retain(|group| !group.packages.is_empty());
        }
        let mut alternatives = match style {
            Style::Distroless => alternatives::make(&packages, &tree),
            Style::Dpkg => BTreeMap::new(),
        };
        let mut made = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let mut ours: Vec<Made> = Vec::new();
            for &member in &group.packages {
                let package = &packages[member];
                ours.extend(
                    tree.merged[member]
                        .iter()
                        .map(|&name| Made::link(name, [b"usr/", name].concat())),
                );
                match style {
                    Style::Dpkg => ours.extend(dpkg::info(package)?),
                    Style::Distroless => {
                        ours.extend(base::make(package, &tree));
                        ours.extend(certificates::make(package)?);
                        ours.extend(database::make(package)?);
                        ours.extend(alternatives.remove(&member).unwrap_or_default());
                    }
                }
                if package.name() == base::PACKAGE {
                    ours.extend(base::links());
                }
            }
            if style == Style::Distroless && number == 0 {
                ours.extend(users::make(&packages)?);
            }
            for one in &mut ours {
                // Packages may have links where we have directories.
                let circle = || Error::entry("?", &one.header.path, "is behind links in a circle");
                one.header.path = tree.resolve(&one.header.path, false).ok_or_else(circle)?;
            }
            made.push(ours);
        }
        Ok(Assembly { packages, tree, groups, made, date_max })
    }

    /// The layers, lowest first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The packages, in the order in which they were given.
    pub fn packages(&self) -> &[Unpacked] {
        &self.packages
    }

    /// When the youngest of the packages' files was changed, seconds since 1970: the date of all
    /// that is made of them.
    pub fn date(&self) -> i64 {
        let date = self.packages.iter().map(Unpacked::date).max().unwrap_or(0);
        date.min(self.date_max.unwrap_or(date)).max(0)
    }

    /// Writes a layer.
    pub fn write(&self, group: usize, out: impl Write) -> Result<()> {
        let (packages, made) = (&self.groups[group].packages, &self.made[group]);
        layer::write(&self.packages, &self.tree, packages, made, self.date_max, out)
    }

    /// dpkg's database as it is before anything is configured: the files that are not of one
    /// package, by their paths below [`DATABASE`].
    pub fn dpkg_state(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        dpkg::state(&self.packages)
    }
}
