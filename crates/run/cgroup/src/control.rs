//! Freezing, signalling and listing the processes of a cgroup.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hako_sys::{Errno, signal};

use crate::{
    Cgroup, Controller, Error, Result,
    cgroup::parse_pids,
    sys::{self, errno},
};

const SIGKILL: i32 = 9;
/// How long to wait for the kernel to freeze or thaw: a process in an uninterruptible call holds
/// it up.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// The directory that lists all processes: v2's, which each is born in, or any of v1's.
    fn listing(&self) -> Option<&Path> {
        self.unified().or_else(|| self.directories().first().map(|d| d.path.as_path()))
    }

    /// All processes, those in cgroups that the container made included. None where it is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(path) = self.listing() {
            list(path, &mut pids)?;
        }
        Ok(pids)
    }

    /// Whether no process is left.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.pids()?.is_empty())
    }

    /// Stops all processes where they are, and returns when they have stopped.
    ///
    /// On a failure they run again.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true).inspect_err(|_| {
            // The first error is the one to tell.
            self.set_frozen(false).ok();
        })
    }

    /// Lets all processes run again.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether all processes are stopped.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.freezer()? {
            Freezer::Unified(path) => Ok(unified_frozen(path)?),
            Freezer::V1(path) => Ok(sys::read(&path.join("freezer.state"))?.trim() != "THAWED"),
        }
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        if let Some(path) = self.unified() {
            return Ok(Freezer::Unified(path));
        }
        if let Some(d) = self.directory(Controller::Freezer) {
            return Ok(Freezer::V1(&d.path));
        }
        let path = self.listing().unwrap_or(Path::new("")).to_owned();
        Err(Error::NoFreezer { path })
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let (path, file, value) = match self.freezer()? {
            Freezer::Unified(path) => (path, "cgroup.freeze", if frozen { "1" } else { "0" }),
            Freezer::V1(path) => (path, "freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
        };
        let start = Instant::now();
        let mut wait = Duration::from_micros(50);
        loop {
            // v1 misses processes that are being forked; writing again catches them.
            let file = path.join(file);
            sys::write(&file, value).map_err(|source| Error::Write {
                path: file,
                value: value.to_owned(),
                field: if frozen { "freeze" } else { "thaw" }.to_owned(),
                source,
            })?;
            let done = match self.freezer()? {
                Freezer::Unified(path) => unified_frozen(path)? == frozen,
                Freezer::V1(path) => sys::read(&path.join("freezer.state"))?.trim() == value,
            };
            if done {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::Timeout {
                    path: path.to_owned(),
                    state: if frozen { "frozen" } else { "thawed" },
                    milliseconds: PATIENCE.as_millis() as u64,
                });
            }
            thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(10));
        }
    }

    /// Kills every process, also those that are forked meanwhile and frozen ones. Returns when all
    /// were sent SIGKILL; they may still be ending.
    pub fn kill_all(&self) -> Result<()> {
        if let Some(path) = self.unified() {
            match sys::write(&path.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                // Before 5.14; or the cgroup is gone.
                Err(Errno::ENOENT) if !path.is_dir() => return Ok(()),
                Err(Errno::ENOENT) => {}
                Err(source) => {
                    return Err(Error::Write {
                        path: path.join("cgroup.kill"),
                        value: "1".to_owned(),
                        field: "kill".to_owned(),
                        source,
                    });
                }
            }
        }
        if self.is_empty()? {
            return Ok(());
        }
        // Frozen processes fork nothing, so one pass gets them all. Where they cannot be frozen,
        // passes are repeated until one finds nothing new.
        let frozen = self.freeze().is_ok();
        let result = self.kill_until_stable();
        if frozen {
            self.thaw()?;
        }
        result
    }

    fn kill_until_stable(&self) -> Result<()> {
        let mut killed = Vec::new();
        loop {
            let new: Vec<_> = self.pids()?.into_iter().filter(|p| !killed.contains(p)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                self.send(pid, SIGKILL)?;
                killed.push(pid);
            }
        }
    }

    /// Sends a signal to every process that is there now.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == SIGKILL {
            return self.kill_all();
        }
        self.pids()?.into_iter().try_for_each(|pid| self.send(pid, signal))
    }

    fn send(&self, pid: i32, signal: i32) -> Result<()> {
        match signal::send(pid, signal) {
            // It ended meanwhile.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => {
                let path = self.listing().unwrap_or(Path::new("")).to_owned();
                Err(Error::Signal { signal, pid, path, source })
            }
        }
    }
}

enum Freezer<'a> {
    Unified(&'a Path),
    V1(&'a Path),
}

fn unified_frozen(path: &Path) -> Result<bool> {
    let events = sys::read(&path.join("cgroup.events"))?;
    Ok(events.lines().any(|l| l == "frozen 1"))
}

fn list(path: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let procs = path.join("cgroup.procs");
    match sys::read_optional(&procs) {
        Ok(Some(text)) => pids.extend(parse_pids(&text).into_iter().filter(|&p| p != 0)),
        Ok(None) => return Ok(()),
        // A threaded cgroup: its processes stand in the parent that is their domain.
        Err(Error::Read { source: Errno::EOPNOTSUPP, .. }) => {}
        Err(e) => return Err(e),
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::Read { path: path.to_owned(), source: errno(&e) }),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&entry.path(), pids)?;
        }
    }
    Ok(())
}
