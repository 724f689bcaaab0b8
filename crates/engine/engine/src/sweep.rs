//! Mending what killed processes left.
//!
//! Nothing here guesses from time. What a living process works on is locked by it; what is not
//! locked, and that the database does not know or that has no monitor, is left over.

use std::{collections::HashSet, fs, io};

use hako_monitor::{Exit, ExitRecord};
use hako_root::Root;
use hako_snapshot::Snapshotter as _;
use hako_sys::fs::Lock;

use crate::{Engine, Error, Result, control::SIGKILL, lock};

/// Exit code of a container whose monitor was killed: it was killed with it.
const KILLED: i32 = 137;

impl Engine {
    /// Buries containers whose monitor died, and removes what half-made containers left. Costs a
    /// look at each run directory; every command that changes containers begins with it.
    pub fn sweep(&self) -> Result<()> {
        let running = self.dir_names(&self.places.run_root.join("containers"))?;
        for id in &running {
            self.sweep_run(id)?;
        }
        // While anybody makes a container, what has no row may get one.
        let creating = self.places.creating_lock();
        let Some(_alone) = lock::try_take(&creating, Lock::Exclusive)? else { return Ok(()) };
        let known: HashSet<String> = self.containers().ids()?.into_iter().collect();
        let mut seen = self.dir_names(&self.places.root.join("containers"))?;
        seen.extend(self.snapshots()?.keys()?);
        for id in seen.iter().filter(|id| !known.contains(*id)) {
            self.remove_files(id)?;
        }
        Ok(())
    }

    /// A run directory: its container runs, or has ended, or nobody knows it any more.
    fn sweep_run(&self, id: &str) -> Result<()> {
        if self.monitor_lives(id)? {
            return Ok(());
        }
        // Whoever starts or removes it holds this lock, and needs no help.
        let dir = self.places.container_dir(id);
        let _op = match dir.is_dir() {
            true => match lock::try_take(&self.op_lock(id), Lock::Exclusive) {
                Ok(Some(held)) => Some(held),
                Ok(None) => return Ok(()),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            },
            false => None,
        };
        if self.monitor_lives(id)? {
            return Ok(());
        }
        self.bury(id)?;
        match self.find(id) {
            Ok(container) if container.record.auto_remove => {
                self.containers().remove(id)?;
                self.remove_files(id)
            }
            Ok(_) => Ok(()),
            Err(Error::NoContainer(_)) => self.remove_files(id),
            Err(e) => Err(e),
        }
    }

    /// Ends what is left of a run that has no monitor: processes, cgroup, runtime state, run
    /// directory. Writes the exit record that the monitor could not. The caller holds the
    /// container's lock.
    pub(crate) fn bury(&self, id: &str) -> Result<()> {
        let killed = self.killed(id)?;
        match hako_runtime::delete(&self.places.runtime_root(), id, true) {
            Err(hako_runtime::Error::NotFound(_)) => {}
            deleted => deleted?,
        }
        if let Some(record) = killed {
            self.write_exit_record(id, &record)?;
        }
        self.remove_run_dir(id)
    }

    /// The record that the monitor of a container could not write, because it was killed: it removes
    /// the runtime's state after it wrote its record. Only where no monitor lives.
    pub(crate) fn killed(&self, id: &str) -> Result<Option<ExitRecord>> {
        match hako_runtime::state(&self.places.runtime_root(), id) {
            Ok(state) => Ok(Some(ExitRecord {
                exit: Exit { code: KILLED, signal: Some(SIGKILL), oom_killed: false },
                pid: 0,
                started_at: state.created_at,
                finished_at: hako_monitor::time::Timestamp::now().to_string(),
                error: "its monitor was killed".into(),
            })),
            Err(hako_runtime::Error::NotFound(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn write_exit_record(&self, id: &str, record: &ExitRecord) -> Result<()> {
        let path = self.exit_file(id);
        if !self.places.container_dir(id).is_dir() {
            return Ok(());
        }
        let beside = path.with_extension("json.new");
        let bytes = serde_json::to_vec(record)
            .map_err(|source| Error::Record { id: id.to_owned(), source })?;
        fs::write(&beside, bytes).map_err(Error::io("write", &beside))?;
        fs::rename(&beside, &path).map_err(Error::io("rename", beside))
    }

    fn dir_names(&self, dir: &std::path::Path) -> Result<Vec<String>> {
        let entries = Root::open(dir)?.as_dir().entries()?;
        Ok(entries.into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect())
    }

    /// Waits until a monitor that has reported its container's end has gone, too.
    pub(crate) fn wait_monitor(&self, id: &str) -> Result<()> {
        let path = self.places.run_dir(id).join(hako_monitor::config::LOCK_NAME);
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => match lock::take(&path, Lock::Shared) {
                // It was the last thing there.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
                taken => taken.map(drop),
            },
        }
    }
}
