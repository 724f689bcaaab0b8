//! All packages that could be chosen: found by name when they are first asked for.

use std::{collections::HashMap, rc::Rc};

use crate::{
    Archive, Clause, Error, MultiArch, Relation, Result, Version,
    index::Entry,
    relation::{Operator, clauses},
    version,
};

/// A package that could be chosen, its relations read.
#[derive(Debug)]
pub(super) struct Package<'a> {
    pub name: String,
    pub entry: Entry<'a>,
    /// Which of the archive's places has it.
    pub place: usize,
    /// What it pre-depends on, then what it depends on.
    pub needs: Vec<Clause>,
    /// How many of those it needs already to be unpacked.
    pub pre: usize,
    pub recommends: Vec<Clause>,
    /// What it conflicts with and breaks: for who has all from scratch, there is no difference.
    pub against: Vec<Relation>,
    /// Names that it provides, with versions where it says so.
    pub provides: Vec<(String, Option<String>)>,
}

/// Packages by name.
pub(super) struct Universe<'a> {
    pub archive: &'a Archive,
    held: HashMap<String, Version>,
    named: HashMap<String, Rc<[Rc<Package<'a>>]>>,
    providing: HashMap<String, Rc<[Rc<Package<'a>>]>>,
}

impl<'a> Universe<'a> {
    pub(super) fn new(archive: &'a Archive) -> Universe<'a> {
        Universe { archive, held: HashMap::new(), named: HashMap::new(), providing: HashMap::new() }
    }

    /// From now on there is no other version of this package.
    pub(super) fn hold(&mut self, name: &str, version: Version) {
        self.held.insert(name.to_owned(), version);
    }

    /// The packages of this name: first of the higher priority, then of the higher version, then of
    /// the earlier source.
    pub(super) fn named(&mut self, name: &str) -> Result<Rc<[Rc<Package<'a>>]>> {
        if let Some(known) = self.named.get(name) {
            return Ok(Rc::clone(known));
        }
        let mut found = Vec::new();
        for (place, part) in self.archive.parts.iter().enumerate() {
            for entry in part.indexes.iter().flat_map(|index| index.named(name)) {
                found.push((place, part.pin, entry));
            }
        }
        if let Some(held) = self.held.get(name) {
            found.retain(|(.., entry)| version::compare(entry.version(), held.as_str()).is_eq());
        }
        // A stable sort: of equals, the earlier source stays first.
        found.sort_by(|(_, pin, entry), (_, other_pin, other)| {
            other_pin.cmp(pin).then_with(|| version::compare(other.version(), entry.version()))
        });
        found.dedup_by(|(.., b), (.., a)| version::compare(a.version(), b.version()).is_eq());
        let packages: Result<Rc<[_]>> = found
            .into_iter()
            .map(|(place, _, entry)| read(entry, place, &self.archive.architecture))
            .collect();
        let packages = packages?;
        self.named.insert(name.to_owned(), Rc::clone(&packages));
        Ok(packages)
    }

    /// The packages that provide this name: what no system is without, then what fewer systems are
    /// without, then by name; of one name, the better first.
    fn providing(&mut self, name: &str) -> Result<Rc<[Rc<Package<'a>>]>> {
        if let Some(known) = self.providing.get(name) {
            return Ok(Rc::clone(known));
        }
        let parts = self.archive.parts.iter().flat_map(|part| &part.indexes);
        let mut names: Vec<(bool, usize, &str)> = parts
            .flat_map(|index| index.providing(name))
            .map(|entry| (!entry.is_essential(), rank(entry.priority()), entry.name()))
            .collect();
        names.sort_unstable();
        let mut found: Vec<Rc<Package<'a>>> = Vec::new();
        for (.., provider) in names {
            for package in self.named(provider)?.iter() {
                let provides = package.provides.iter().any(|(provided, _)| provided == name);
                if provides && !found.iter().any(|known| Rc::ptr_eq(known, package)) {
                    found.push(Rc::clone(package));
                }
            }
        }
        let found: Rc<[_]> = found.into();
        self.providing.insert(name.to_owned(), Rc::clone(&found));
        Ok(found)
    }

    /// What can be this, the best first: packages of that name before those that provide it.
    pub(super) fn options(&mut self, relation: &Relation) -> Result<Vec<Rc<Package<'a>>>> {
        if !relation.is_for(&self.archive.architecture) {
            return Ok(Vec::new());
        }
        let mut options: Vec<Rc<Package<'a>>> = Vec::new();
        let real = self.named(&relation.name)?;
        let provided = self.providing(&relation.name)?;
        for package in real.iter().chain(provided.iter()) {
            if self.is(package, relation) && !options.iter().any(|o| Rc::ptr_eq(o, package)) {
                options.push(Rc::clone(package));
            }
        }
        Ok(options)
    }

    /// Whether a package is what a relation speaks of, in a system of one architecture.
    pub(super) fn is(&self, package: &Package<'_>, relation: &Relation) -> bool {
        let architecture_fits = match relation.qualifier.as_deref() {
            None | Some("native") => true,
            Some("any") => {
                matches!(package.entry.multi_arch(), MultiArch::Allowed | MultiArch::Foreign)
            }
            Some(other) => other == self.archive.architecture,
        };
        architecture_fits && is_named(package, relation)
    }

    /// What people may call the archive.
    pub(super) fn suite(&self) -> &str {
        &self.archive.suite
    }
}

/// The same, by name and version only.
pub(super) fn is_named(package: &Package<'_>, relation: &Relation) -> bool {
    let itself = package.name == relation.name && relation.admits(package.entry.version());
    itself
        || package.provides.iter().any(|(name, version)| {
            let version_fits = match (&relation.version, version) {
                (None, _) => true,
                // What is provided without a version is of none that could be asked for.
                (Some(_), None) => false,
                (Some(_), Some(version)) => relation.admits(version),
            };
            *name == relation.name && version_fits
        })
}

fn rank(priority: &str) -> usize {
    const PRIORITIES: &[&str] = &["required", "important", "standard", "optional", "extra"];
    PRIORITIES.iter().position(|p| *p == priority).unwrap_or(PRIORITIES.len())
}

fn read<'a>(entry: Entry<'a>, place: usize, architecture: &str) -> Result<Rc<Package<'a>>> {
    let wrong = |e: crate::RelationError| Error::Control {
        package: entry.name().to_owned(),
        why: e.to_string(),
    };
    let read = |field: &str| -> Result<Vec<Clause>> {
        let mut clauses = clauses(field).map_err(wrong)?;
        for clause in &mut clauses {
            clause.0.retain(|relation| relation.is_for(architecture));
        }
        clauses.retain(|clause| !clause.0.is_empty());
        Ok(clauses)
    };
    let mut needs = read(entry.pre_depends())?;
    let pre = needs.len();
    needs.extend(read(entry.depends())?);
    let mut against: Vec<Relation> = Vec::new();
    for clause in read(entry.conflicts())?.into_iter().chain(read(entry.breaks())?) {
        against.extend(clause.0);
    }
    let mut provides = Vec::new();
    for relation in read(entry.provides())?.into_iter().flat_map(|clause| clause.0) {
        let version = relation.version.filter(|(operator, _)| *operator == Operator::Equal);
        provides.push((relation.name, version.map(|(_, version)| version.as_str().to_owned())));
    }
    Ok(Rc::new(Package {
        name: entry.name().to_owned(),
        entry,
        place,
        needs,
        pre,
        recommends: read(entry.recommends())?,
        against,
        provides,
    }))
}

impl Package<'_> {
    /// `hello 2.10-3`
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.name, self.entry.version())
    }
}
