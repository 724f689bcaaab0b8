//! Containers by their ID, from what is stored of them.

use std::path::Path;

use hako_oci::state::State;

use crate::{Error, Result};

/// What is stored of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its state, as of now.
    pub document: State,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// The state of the container `id`.
pub fn state(state_root: &Path, id: &str) -> Result<Stored> {
    let _ = state_root;
    Err(Error::NotFound(id.to_owned()))
}

/// Sends a signal to the container's first process.
pub fn kill(state_root: &Path, id: &str, signal: i32) -> Result<()> {
    let _ = (state_root, signal);
    Err(Error::NotFound(id.to_owned()))
}

/// Removes what is left of a container; with `force` one that runs, too.
pub fn delete(state_root: &Path, id: &str, force: bool) -> Result<()> {
    let _ = (state_root, force);
    Err(Error::NotFound(id.to_owned()))
}
