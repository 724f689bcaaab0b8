//! How a container is: derived from locks and records, never stored.
//!
//! | monitor's lock | exit record | status |
//! |---|---|---|
//! | held | – | running |
//! | free, and the runtime has its state | – | exited: the monitor was killed |
//! | free | there | exited |
//! | free | absent, or of a start that failed | created |
//!
//! A record is older than a running container's start, and replaced at its end.

use std::{fs, io, os::fd::AsFd as _, path::Path};

use hako_monitor::ExitRecord;
use hako_sys::fs::{Lock, try_flock};

use crate::{Container, Engine, Error, Result};

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Made, and never ran; how the last attempt to start it failed.
    Created(Option<ExitRecord>),
    /// Its monitor lives.
    Running(Running),
    /// It ended.
    Exited(ExitRecord),
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Its first process on the host; `None` in the moment between the monitor's start and the
    /// process's, and between their ends.
    pub pid: Option<i32>,
    /// When it was started, RFC 3339; empty where `pid` is `None`.
    pub started_at: String,
    /// Whether it is frozen.
    pub paused: bool,
}

impl Status {
    /// Docker's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Created(_) => "created",
            Status::Running(running) if running.paused => "paused",
            Status::Running(_) => "running",
            Status::Exited(_) => "exited",
        }
    }

    /// Whether its monitor lives.
    pub fn is_running(&self) -> bool {
        matches!(self, Status::Running(_))
    }
}

impl Engine {
    /// How the container is at this moment.
    pub fn status(&self, container: &Container) -> Result<Status> {
        if self.monitor_lives(&container.id)? {
            return Ok(Status::Running(self.running(&container.id)?));
        }
        if let Some(record) = self.killed(&container.id)? {
            return match self.monitor_lives(&container.id)? {
                // It was started since we looked.
                true => Ok(Status::Running(self.running(&container.id)?)),
                false => Ok(Status::Exited(record)),
            };
        }
        match self.exit_record(&container.id)? {
            Some(record) if !record.started_at.is_empty() => Ok(Status::Exited(record)),
            attempt => Ok(Status::Created(attempt)),
        }
    }

    fn running(&self, id: &str) -> Result<Running> {
        match hako_runtime::state(&self.places.runtime_root(), id) {
            Ok(state) => Ok(Running {
                pid: state.document.pid,
                started_at: state.created_at,
                paused: state.document.status == hako_oci::state::Status::Paused,
            }),
            Err(hako_runtime::Error::NotFound(_)) => Ok(Running::default()),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the monitor of the container holds its lock.
    pub(crate) fn monitor_lives(&self, id: &str) -> Result<bool> {
        let path = self.places.run_dir(id).join(hako_monitor::config::LOCK_NAME);
        let file = match fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(Error::io("open", &path))?,
        };
        let free = try_flock(file.as_fd(), Lock::Shared)
            .map_err(|e| Error::io("flock", &path)(e.into()))?;
        Ok(!free)
    }

    /// How the container ended the last time; `None` if it never did.
    pub(crate) fn exit_record(&self, id: &str) -> Result<Option<ExitRecord>> {
        read_json(&self.exit_file(id), id)
    }

    pub(crate) fn exit_file(&self, id: &str) -> std::path::PathBuf {
        self.places.container_dir(id).join("exit.json")
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, id: &str) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Record { id: id.to_owned(), source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}
