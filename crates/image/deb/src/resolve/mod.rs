//! From names to packages that go together.
//!
//! | module | subject |
//! |---|---|
//! | `universe` | which packages can be what somebody needs, the best first |
//! | `search` | choosing, and taking back what does not go together |
//! | `explain` | why nothing does |
//! | `order` | what is configured before what |

mod explain;
mod order;
mod search;
mod universe;

use std::collections::BTreeSet;

use hako_oci::Digest;

use crate::{
    Archive, Base, Clause, Error, Relation, Request, Result, Selected, Selection, Wanted,
    relation::Operator,
};
use search::Search;
use universe::Universe;

impl Archive {
    /// Chooses packages: the best versions of all that is asked for, and of what they need.
    ///
    /// The same archives and the same request give the same selection.
    pub fn select(&self, request: &Request) -> Result<Selection> {
        let mut universe = Universe::new(self);
        for Wanted { name, version } in &request.include {
            if let Some(version) = version {
                universe.hold(name, version.clone());
            }
        }
        let mut search = Search::new(&mut universe);
        for name in self.base(request.base) {
            search.want(clause(&Wanted { name, version: None }));
        }
        for wanted in &request.include {
            search.want(clause(wanted));
        }
        search.run()?;
        if request.recommends {
            search.take_recommended()?;
        }
        let asked: BTreeSet<usize> = request
            .include
            .iter()
            .filter_map(|wanted| search.satisfied_by(&clause(wanted)))
            .collect();
        let edges = search.edges();
        let order =
            order::order(search.chosen().len(), &edges, |n| search.chosen()[n].name.as_str());
        let place = |n: usize| order.iter().position(|m| *m == n).unwrap_or_default();
        let places: Vec<usize> = (0..order.len()).map(place).collect();
        let mut packages = Vec::with_capacity(order.len());
        for n in order {
            let package = &search.chosen()[n];
            let entry = package.entry;
            let wrong = |why: String| Error::Control { package: package.name.clone(), why };
            let mut requires: Vec<usize> =
                edges.iter().filter(|e| e.from == n && e.to != n).map(|e| places[e.to]).collect();
            requires.sort_unstable();
            requires.dedup();
            let digest: Result<Digest, _> = format!("sha256:{}", entry.sha256()).parse();
            packages.push(Selected {
                name: package.name.clone(),
                version: entry.version().parse().map_err(|e| wrong(format!("{e}")))?,
                architecture: entry.architecture().to_owned(),
                origin: package.place,
                filename: entry.filename().to_owned(),
                size: entry.size(),
                digest: digest.map_err(|e| wrong(format!("{e}")))?,
                asked: asked.contains(&n),
                essential: entry.is_essential(),
                priority: entry.priority().to_owned(),
                requires,
            });
        }
        Ok(Selection {
            suite: self.suite.clone(),
            architecture: self.architecture.clone(),
            origins: self.parts.iter().map(|part| part.origin.clone()).collect(),
            packages,
        })
    }

    /// Names of the packages that are there unasked, in order.
    fn base(&self, base: Base) -> BTreeSet<String> {
        let is_in = |priority: &str, essential: bool| match base {
            Base::Nothing => false,
            Base::Essential => essential,
            Base::Required => essential || priority == "required",
        };
        let entries = self.parts.iter().filter(|_| base != Base::Nothing);
        let entries = entries.flat_map(|part| &part.indexes).flat_map(|index| index.entries());
        entries
            .filter(|entry| is_in(entry.priority(), entry.is_essential()))
            .map(|entry| entry.name().to_owned())
            .collect()
    }
}

/// What is asked for, in the words of packages.
fn clause(wanted: &Wanted) -> Clause {
    Clause(vec![Relation {
        name: wanted.name.clone(),
        qualifier: None,
        version: wanted.version.clone().map(|version| (Operator::Equal, version)),
        architectures: Vec::new(),
    }])
}

#[cfg(test)]
mod tests;
