//! Processes in a freezer of v1 that is not their container's: frozen, they do not even die.

use std::path::PathBuf;

use crate::host::{Controller, Host};
use crate::{Result, sys};

/// Somebody's cgroup that is thawed for a moment; dropped, it is frozen again.
#[derive(Debug)]
pub struct Thawed {
    state: PathBuf,
}

/// Thaws the v1 freezer that this process is in; `None` where it is in none, or that is not frozen.
pub fn thaw_around(pid: i32) -> Result<Option<Thawed>> {
    let own = match sys::read_optional(&PathBuf::from(format!("/proc/{pid}/cgroup"))) {
        Ok(Some(own)) => own,
        // It has ended.
        Ok(None) | Err(crate::Error::Read { source: hako_sys::Errno::ESRCH, .. }) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let mountinfo = sys::read("/proc/self/mountinfo".as_ref())?;
    let host = Host::parse(&mountinfo, &own);
    let Some(freezer) = host.v1.iter().find(|h| h.controllers.contains(Controller::Freezer)) else {
        return Ok(None);
    };
    let state = freezer.own.join("freezer.state");
    // The root has no such file.
    match sys::read_optional(&state)? {
        Some(text) if text.trim() != "THAWED" => {}
        _ => return Ok(None),
    }
    let failed = |source| crate::Error::Write {
        path: state.clone(),
        value: "THAWED".to_owned(),
        field: "freezer".to_owned(),
        source,
    };
    sys::write(&state, "THAWED").map_err(failed)?;
    Ok(Some(Thawed { state }))
}

impl Drop for Thawed {
    fn drop(&mut self) {
        // Its owner may have removed it meanwhile.
        if self.state.exists() {
            sys::write(&self.state, "FROZEN").ok();
        }
    }
}
