//! Choosing: one package after another, each because of a clause that nothing satisfies yet.
//!
//! Clauses that leave no choice of a package come first, so that what has to be there anyway decides
//! about alternatives. Where nothing fits, the search goes back to the last choice that has to do
//! with it (conflict-directed backjumping), and takes the next best there. A chosen package and the
//! choice that brought it have the same number.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    explain::{Chain, Failure, Why},
    order::Edge,
    universe::{Package, Universe, is_named},
};
use crate::{Clause, Error, Relation, Result};

/// Choices, all in all. A thousand packages need a thousand; what needs many more is a puzzle.
const CHOICES_MAX: usize = 200_000;

/// Who needs something: a chosen package, or the person who asked (`None`), and which of its
/// clauses.
#[derive(Debug, Clone, Copy)]
struct Need {
    by: Option<usize>,
    clause: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Needs,
    Recommends,
}

/// A choice that was made.
struct Choice<'a> {
    need: Need,
    /// What could be taken instead.
    rest: std::vec::IntoIter<Rc<Package<'a>>>,
    /// The earlier choices because of which others could not be taken.
    blame: BTreeSet<usize>,
    /// How long lists were before.
    hard: (usize, usize),
    soft: (usize, usize),
}

/// Clauses that wait, in order; those before `next` are dealt with.
#[derive(Default)]
struct Queue {
    needs: Vec<Need>,
    next: usize,
}

impl Queue {
    fn mark(&self) -> (usize, usize) {
        (self.needs.len(), self.next)
    }

    fn back_to(&mut self, (length, next): (usize, usize)) {
        self.needs.truncate(length);
        self.next = next;
    }

    fn take(&mut self) -> Option<Need> {
        let need = self.needs.get(self.next).copied();
        self.next += usize::from(need.is_some());
        need
    }
}

/// A search under way.
pub(super) struct Search<'u, 'a> {
    universe: &'u mut Universe<'a>,
    wanted: Vec<Clause>,
    chosen: Vec<Rc<Package<'a>>>,
    choices: Vec<Choice<'a>>,
    /// Chosen packages by their names, and by what they provide.
    present: HashMap<String, Vec<usize>>,
    /// Chosen packages that are against somebody of this name.
    hostile: HashMap<String, Vec<usize>>,
    hard: Queue,
    soft: Queue,
    made: usize,
    failure: Option<Failure>,
}

impl<'u, 'a> Search<'u, 'a> {
    pub(super) fn new(universe: &'u mut Universe<'a>) -> Search<'u, 'a> {
        Search {
            universe,
            wanted: Vec::new(),
            chosen: Vec::new(),
            choices: Vec::new(),
            present: HashMap::new(),
            hostile: HashMap::new(),
            hard: Queue::default(),
            soft: Queue::default(),
            made: 0,
            failure: None,
        }
    }

    /// What was chosen, in the order of choosing.
    pub(super) fn chosen(&self) -> &[Rc<Package<'a>>] {
        &self.chosen
    }

    /// Asks for something.
    pub(super) fn want(&mut self, clause: Clause) {
        let need = Need { by: None, clause: self.wanted.len(), kind: Kind::Needs };
        self.wanted.push(clause);
        self.hard.needs.push(need);
    }

    /// Chooses until nobody needs anything more.
    pub(super) fn run(&mut self) -> Result<()> {
        match self.run_above(0)? {
            true => Ok(()),
            false => Err(self.failure.take().map_or(Error::Puzzle, Failure::into_error)),
        }
    }

    /// Adds what chosen packages recommend, as far as it can be had without taking anything back.
    pub(super) fn take_recommended(&mut self) -> Result<()> {
        let mut by = 0;
        while by < self.chosen.len() {
            for clause in 0..self.chosen[by].recommends.len() {
                let floor = self.chosen.len();
                let (hard, soft) = (self.hard.mark(), self.soft.mark());
                self.soft.needs.push(Need { by: Some(by), clause, kind: Kind::Recommends });
                if !self.run_above(floor)? {
                    self.undo_to(floor);
                    self.hard.back_to(hard);
                    self.soft.back_to(soft);
                }
            }
            by += 1;
        }
        Ok(())
    }

    /// The chosen package that is what a clause speaks of.
    pub(super) fn satisfied_by(&self, clause: &Clause) -> Option<usize> {
        clause.0.iter().find_map(|relation| self.satisfies(relation))
    }

    /// Who needs whom.
    pub(super) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, package) in self.chosen.iter().enumerate() {
            for (n, clause) in package.needs.iter().enumerate() {
                if let Some(to) = self.satisfied_by(clause) {
                    edges.push(Edge { from, to, pre: n < package.pre });
                }
            }
        }
        edges
    }

    fn satisfies(&self, relation: &Relation) -> Option<usize> {
        let present = self.present.get(&relation.name)?;
        let fits = |n: &&usize| self.universe.is(&self.chosen[**n], relation);
        // The package itself before those that stand in for it.
        let itself = |n: &&usize| self.chosen[**n].name == relation.name;
        present.iter().filter(fits).find(itself).or_else(|| present.iter().find(fits)).copied()
    }

    fn clause(&self, need: Need) -> &Clause {
        match (need.by, need.kind) {
            (None, _) => &self.wanted[need.clause],
            (Some(by), Kind::Needs) => &self.chosen[by].needs[need.clause],
            (Some(by), Kind::Recommends) => &self.chosen[by].recommends[need.clause],
        }
    }

    /// Chooses without touching the first `floor` choices; false where nothing goes together.
    fn run_above(&mut self, floor: usize) -> Result<bool> {
        while let Some((need, has_waited)) = self.next_need() {
            let clause = self.clause(need).clone();
            if self.satisfied_by(&clause).is_some() {
                continue;
            }
            let mut options: Vec<Rc<Package<'a>>> = Vec::new();
            for relation in &clause.0 {
                for option in self.universe.options(relation)? {
                    if !options.iter().any(|known| Rc::ptr_eq(known, &option)) {
                        options.push(option);
                    }
                }
            }
            // What leaves a choice waits until all that leaves none is chosen.
            let mut names = options.iter().map(|option| option.name.as_str());
            let first = names.next();
            if !has_waited && names.any(|name| Some(name) != first) {
                self.soft.needs.push(need);
                continue;
            }
            let choice = Choice {
                need,
                rest: options.into_iter(),
                blame: BTreeSet::new(),
                hard: self.hard.mark(),
                soft: self.soft.mark(),
            };
            if !self.choose(choice, floor)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What comes next, and whether it has waited for others to be chosen.
    fn next_need(&mut self) -> Option<(Need, bool)> {
        let hard = self.hard.take().map(|need| (need, false));
        hard.or_else(|| self.soft.take().map(|need| (need, true)))
    }

    /// Takes the best of a choice that goes with all others, or goes back and takes another there.
    fn choose(&mut self, mut choice: Choice<'a>, floor: usize) -> Result<bool> {
        loop {
            self.made += 1;
            if self.made > CHOICES_MAX {
                return Err(Error::Puzzle);
            }
            let mut refused = Vec::new();
            let taken = loop {
                let Some(option) = choice.rest.next() else { break None };
                match self.opponent(&option) {
                    None => break Some(option),
                    Some(why) => {
                        choice.blame.insert(why.by());
                        refused.push((option.shown(), why));
                    }
                }
            };
            if let Some(package) = taken {
                self.take(choice, package);
                return Ok(true);
            }
            if self.failure.is_none() && choice.need.kind == Kind::Needs {
                self.failure = Some(self.explain(choice.need, refused)?);
            }
            // Whoever wanted it is to blame too.
            let mut blame = choice.blame;
            blame.extend(choice.need.by);
            let Some(back) = blame.pop_last().filter(|back| *back >= floor) else {
                return Ok(false);
            };
            choice = match self.undo_to(back) {
                Some(undone) => undone,
                None => return Ok(false),
            };
            choice.blame.extend(blame);
        }
    }

    /// Why a package does not go with those that are chosen.
    fn opponent(&self, package: &Package<'a>) -> Option<Why> {
        let named = self.present.get(&package.name).into_iter().flatten();
        for n in named {
            if self.chosen[*n].name == package.name {
                return Some(Why::OtherVersion { by: *n, chosen: self.chosen[*n].shown() });
            }
        }
        for relation in &package.against {
            for n in self.present.get(&relation.name).into_iter().flatten() {
                let other = &self.chosen[*n];
                if other.name != package.name && is_named(other, relation) {
                    let (relation, chosen) = (relation.to_string(), other.shown());
                    return Some(Why::Against { by: *n, relation, chosen });
                }
            }
        }
        let names = package.provides.iter().map(|(name, _)| name).chain([&package.name]);
        for name in names {
            for n in self.hostile.get(name).into_iter().flatten() {
                let other = &self.chosen[*n];
                if let Some(relation) = other.against.iter().find(|r| is_named(package, r)) {
                    let (relation, chosen) = (relation.to_string(), other.shown());
                    return Some(Why::Opposed { by: *n, relation, chosen });
                }
            }
        }
        None
    }

    fn take(&mut self, choice: Choice<'a>, package: Rc<Package<'a>>) {
        let n = self.chosen.len();
        for name in names_of(&package) {
            self.present.entry(name).or_default().push(n);
        }
        for relation in &package.against {
            self.hostile.entry(relation.name.clone()).or_default().push(n);
        }
        for clause in 0..package.needs.len() {
            self.hard.needs.push(Need { by: Some(n), clause, kind: Kind::Needs });
        }
        self.chosen.push(package);
        self.choices.push(choice);
    }

    /// Takes back all choices from this one on; gives it.
    fn undo_to(&mut self, n: usize) -> Option<Choice<'a>> {
        let mut last = None;
        while self.chosen.len() > n {
            let package = self.chosen.pop()?;
            for name in names_of(&package) {
                if let Some(present) = self.present.get_mut(&name) {
                    present.pop();
                }
            }
            for relation in &package.against {
                if let Some(hostile) = self.hostile.get_mut(&relation.name) {
                    hostile.pop();
                }
            }
            let choice = self.choices.pop()?;
            self.hard.back_to(choice.hard);
            self.soft.back_to(choice.soft);
            last = Some(choice);
        }
        last
    }

    fn explain(&mut self, need: Need, refused: Vec<(String, Why)>) -> Result<Failure> {
        let mut chain = Vec::new();
        let mut by = need.by;
        while let Some(n) = by {
            chain.push(self.chosen[n].shown());
            by = self.choices[n].need.by;
        }
        let clause = self.clause(need).clone();
        let mut known = Vec::new();
        for relation in &clause.0 {
            let versions = self.universe.named(&relation.name)?;
            known.extend(versions.iter().map(|package| package.shown()));
        }
        let suite = self.universe.suite().to_owned();
        Ok(Failure { suite, chain: Chain(chain), clause: clause.to_string(), known, refused })
    }
}

/// Its own name and those that it provides, each once.
fn names_of(package: &Package<'_>) -> BTreeSet<String> {
    let provided = package.provides.iter().map(|(name, _)| name.clone());
    provided.chain([package.name.clone()]).collect()
}
