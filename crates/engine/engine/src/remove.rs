//! Removing containers, with everything that belongs to them.

use std::{fs, io};

use hako_root::Root;
use hako_snapshot::Snapshotter as _;

use crate::{Container, Engine, Error, Result, Running, Status};

impl Engine {
    /// Removes a container. One that runs is killed with `force`, and refused without.
    pub fn remove(&self, container: &Container, force: bool) -> Result<()> {
        self.end_for_removal(container, force)?;
        if container.record.auto_remove {
            // Its owner is about to remove it, and its monitor waits for that: not with our lock.
            self.wait_monitor(&container.id)?;
        }
        // A monitor with `--rm` may be removing it by itself just now: then it is gone, and well.
        let op = match self.lock_container(container) {
            Err(Error::NoContainer(_)) => return Ok(()),
            locked => locked?,
        };
        // Somebody may have started it while we waited for the lock; from now on nobody can.
        self.end_for_removal(container, force)?;
        self.wait_monitor(&container.id)?;
        self.bury(&container.id)?;
        self.forget(container)?;
        drop(op);
        Ok(())
    }

    /// Ends a container that runs. One whose process is gone only has a monitor that tidies up.
    fn end_for_removal(&self, container: &Container, force: bool) -> Result<()> {
        match self.status(container)? {
            Status::Running(Running { pid: Some(_), .. }) if !force => {
                Err(Error::Running(container.name.clone()))
            }
            Status::Running(_) if force => self.kill_and_wait(container),
            _ => Ok(()),
        }
    }

    /// Removes a container whose end its monitor has just reported, while the monitor still waits
    /// for us.
    pub(crate) fn remove_ended(&self, container: &Container) -> Result<()> {
        let _op = match self.lock_container(container) {
            Err(Error::NoContainer(_)) => return Ok(()),
            locked => locked?,
        };
        self.remove_run_dir(&container.id)?;
        self.forget(container)
    }

    /// What the monitor runs at the end of a container with `--rm` that nobody owns.
    pub fn cleanup(&self, id: &str) -> Result<()> {
        match self.find(id) {
            Ok(container) if container.record.auto_remove => self.remove_ended(&container),
            Ok(_) | Err(Error::NoContainer(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The row goes first: a kill after it leaves files that a sweep finds without a row.
    fn forget(&self, container: &Container) -> Result<()> {
        match self.containers().remove(&container.id) {
            // On a full disk there is no room to note that something goes. What goes makes it.
            Err(Error::Database(e)) if matches!(*e, hako_db::Error::Full { .. }) => {
                self.remove_files(&container.id)?;
                self.containers().remove(&container.id)?;
                Ok(())
            }
            removed => {
                removed?;
                self.remove_files(&container.id)
            }
        }
    }

    pub(crate) fn remove_files(&self, id: &str) -> Result<()> {
        self.remove_run_dir(id)?;
        self.snapshots()?.remove(id)?;
        let dir = self.places.container_dir(id);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io("remove", dir)),
        }
    }

    /// Nothing is mounted there: the container's mounts were its own namespace's.
    pub(crate) fn remove_run_dir(&self, id: &str) -> Result<()> {
        let containers = Root::open(&self.places.run_root.join("containers"))?;
        match containers.remove_all(id.as_ref()) {
            Err(e) if e.is_not_found() => Ok(()),
            removed => Ok(removed?),
        }
    }
}
