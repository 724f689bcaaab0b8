//! Being told when memory ran out.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};

use hako_sys::{
    Errno, eventfd,
    poll::{PollFd, try_read},
};

use crate::{Cgroup, Controller, Error, Result, sys};

/// Tells when memory of a cgroup ran out. Wait for it with [`OomWatch::poll_fd`] among others, then
/// ask [`OomWatch::happened`].
#[derive(Debug)]
pub struct OomWatch {
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug)]
enum Kind {
    /// An eventfd that v1 adds to at each time, and when the cgroup is removed.
    V1(OwnedFd),
    /// v2's `memory.events`, and how many kills it told of.
    V2(File, u64),
}

impl Cgroup {
    /// Watches for memory running out; `None` where the memory controller is not joined.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let Some(d) = self.directory(Controller::Memory) else { return Ok(None) };
        let path = d.path.clone();
        if d.unified {
            let file = sys::open_read(&path.join("memory.events"))?;
            let kills = self.oom_kills()?.unwrap_or(0);
            return Ok(Some(OomWatch { kind: Kind::V2(file, kills), path }));
        }
        let control = sys::open_read(&path.join("memory.oom_control"))?;
        let events = eventfd::nonblocking()
            .map_err(|source| Error::Read { path: PathBuf::from("eventfd"), source })?;
        let file = path.join("cgroup.event_control");
        let value = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
        sys::write(&file, &value).map_err(|source| Error::Write {
            path: file,
            value,
            field: "events".to_owned(),
            source,
        })?;
        Ok(Some(OomWatch { kind: Kind::V1(events), path }))
    }
}

impl OomWatch {
    /// What to wait for.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match &self.kind {
            Kind::V1(events) => PollFd::readable(events.as_fd()),
            Kind::V2(file, _) => PollFd::urgent(file.as_fd()),
        }
    }

    /// Whether memory ran out since the last time. False when only the cgroup went away.
    pub fn happened(&mut self) -> Result<bool> {
        match &mut self.kind {
            Kind::V1(events) => {
                let mut count = [0; 8];
                if try_read(events.as_fd(), &mut count)
                    .map_err(|source| Error::Read { path: self.path.clone(), source })?
                    .is_none()
                {
                    return Ok(false);
                }
                // The removal counts as one.
                let removed = !self.path.join("memory.oom_control").exists();
                Ok(u64::from_ne_bytes(count) > u64::from(removed))
            }
            Kind::V2(file, before) => {
                // Reading from the start is also what makes the kernel tell of the next change.
                use std::os::unix::fs::FileExt;
                let mut buffer = [0; 4096];
                let n = match file.read_at(&mut buffer, 0) {
                    Ok(n) => n,
                    Err(e) if Errno::of(&e) == Errno::ENODEV => return Ok(false),
                    Err(e) => {
                        return Err(Error::Read { path: self.path.clone(), source: Errno::of(&e) });
                    }
                };
                let events = crate::stats::keyed(&String::from_utf8_lossy(&buffer[..n]));
                let kills = events.get("oom_kill").copied().unwrap_or(0);
                Ok(std::mem::replace(before, kills) < kills)
            }
        }
    }
}
