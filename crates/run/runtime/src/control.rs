//! Containers by their ID, from what is stored of them.

use std::path::Path;

use hako_cgroup::{Host, Join, Request};
use hako_oci::state::State;

use crate::manage::Container;
use crate::state::{self, StateDir};
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
    let container = Container::load(state_root, id)?;
    Ok(Stored { document: container.state()?, created_at: container.file.created })
}

/// Sends a signal to the container's first process.
pub fn kill(state_root: &Path, id: &str, signal: i32) -> Result<()> {
    Container::load(state_root, id)?.kill(signal, false)
}

/// Removes what is left of a container; with `force` one that runs, too, and one whose making was
/// cut short so that only its directory and cgroups are there.
pub fn delete(state_root: &Path, id: &str, force: bool) -> Result<()> {
    match Container::load(state_root, id) {
        Ok(container) => container.delete(force),
        Err(e @ (Error::NotFound(_) | Error::Document { .. })) if force => {
            match StateDir::open(state_root, id) {
                Ok(dir) => {
                    remove_cgroup(state_root, id)?;
                    dir.remove()
                }
                Err(Error::NotFound(_)) => Err(e),
                Err(other) => Err(other),
            }
        }
        Err(e) => Err(e),
    }
}

/// Removes the cgroups that the making of a container began with. Its process, if there was one
/// already, ended with its maker.
fn remove_cgroup(state_root: &Path, id: &str) -> Result<()> {
    if let Some(planned) = state::read_planned(state_root, id)? {
        if planned.exists() {
            planned.kill_all()?;
        }
        return Ok(planned.remove()?);
    }
    // Where that is missing or half written, no cgroup was made.
    let Ok(spec) = state::read_config(state_root, id) else { return Ok(()) };
    let path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    let request = Request { path, id, resources: None, join: Join::All };
    match hako_cgroup::Plan::new(&Host::detect()?, &request) {
        Ok(plan) => Ok(plan.remove_unused()?),
        // What cannot be planned was not made.
        Err(hako_cgroup::Error::Invalid { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
