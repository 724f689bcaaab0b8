//! Why nothing goes together, for people.

use std::fmt;

use crate::Error;

/// Why a package could not be taken.
#[derive(Debug, Clone)]
pub(super) enum Why {
    /// It is there in another version.
    OtherVersion { by: usize, chosen: String },
    /// It is against what is there.
    Against { by: usize, relation: String, chosen: String },
    /// What is there is against it.
    Opposed { by: usize, relation: String, chosen: String },
}

impl Why {
    /// The choice that is in the way.
    pub(super) fn by(&self) -> usize {
        match self {
            Why::OtherVersion { by, .. } | Why::Against { by, .. } | Why::Opposed { by, .. } => *by,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::OtherVersion { chosen, .. } => write!(f, "{chosen} is chosen already"),
            Why::Against { relation, chosen, .. } => {
                write!(f, "it conflicts with {relation}, and {chosen} is chosen already")
            }
            Why::Opposed { relation, chosen, .. } => {
                write!(f, "{chosen}, which is chosen already, conflicts with {relation}")
            }
        }
    }
}

/// Who wanted it, and who wanted those.
#[derive(Debug, Clone)]
pub(super) struct Chain(pub Vec<String>);

/// The first clause that could not be satisfied: the one that is in the way of the best choices.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub suite: String,
    pub chain: Chain,
    pub clause: String,
    /// Packages of the names in the clause, whatever their versions.
    pub known: Vec<String>,
    /// Packages that would do, and why they cannot be taken.
    pub refused: Vec<(String, Why)>,
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        Error::Unsatisfiable(self.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { suite, chain: Chain(chain), clause, known, refused } = self;
        match chain.first() {
            Some(by) => write!(f, "{by} needs {clause}")?,
            None => write!(f, "{clause} is asked for")?,
        }
        match (refused.is_empty(), known.is_empty()) {
            (false, _) => {
                for (n, (package, why)) in refused.iter().enumerate() {
                    f.write_str(if n == 0 { ", but " } else { "; " })?;
                    write!(f, "{package} cannot be taken: {why}")?;
                }
            }
            (true, false) => write!(f, ", but {suite} has only {}", known.join(", "))?,
            (true, true) => write!(f, ", which no package of {suite} provides")?,
        }
        match chain.get(1..).unwrap_or_default() {
            [] => Ok(()),
            above => write!(f, "; wanted by {}", above.join(", which is wanted by ")),
        }
    }
}
