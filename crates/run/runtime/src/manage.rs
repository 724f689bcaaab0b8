//! A container that is there, made by whatever process: status, start, signals, removal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hako_oci::runtime::Spec;
use hako_oci::state::{State, Status};
use hako_sys::Errno;
use hako_sys::fs::{self, OpenFlags};
use hako_sys::namespace::Kind;
use hako_sys::poll::{PollFd, poll};

use crate::call::Call;
use crate::state::{self, StateDir, StateFile};
use crate::wire::Record;
use crate::{Error, Result, hooks, spawn};

/// How long a killed process may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A container in a state directory.
#[derive(Debug)]
pub struct Container {
    root: PathBuf,
    pub(crate) file: StateFile,
}

/// One line of `list`.
#[derive(Debug)]
pub struct Listed {
    /// The container's ID, its directory's name.
    pub id: String,
    /// The container; an error where its state cannot be read.
    pub container: Result<Container>,
}

impl Container {
    /// The container of this ID.
    pub fn load(state_root: &Path, id: &str) -> Result<Container> {
        Ok(Container { root: state_root.to_owned(), file: state::read_state(state_root, id)? })
    }

    /// All containers, by ID.
    pub fn list(state_root: &Path) -> Result<Vec<Listed>> {
        let entries = match std::fs::read_dir(state_root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("open", state_root, &e)),
        };
        let mut ids: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|id| crate::check_id(id).is_ok())
            .collect();
        ids.sort_unstable();
        let load = |id: String| Listed { container: Container::load(state_root, &id), id };
        // One that has gone meanwhile, or is only being made, is not listed.
        Ok(ids
            .into_iter()
            .map(load)
            .filter(|l| !matches!(l.container, Err(Error::NotFound(_))))
            .collect())
    }

    /// The directory of all states.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Its ID.
    pub fn id(&self) -> &str {
        &self.file.id
    }

    /// The directory of its bundle.
    pub fn bundle(&self) -> &Path {
        &self.file.bundle
    }

    /// The directory of its root filesystem, on the host.
    pub fn rootfs(&self) -> &Path {
        &self.file.rootfs
    }

    /// When it was created, as RFC 3339.
    pub fn created(&self) -> &str {
        &self.file.created
    }

    /// The user who made it.
    pub fn owner(&self) -> u32 {
        self.file.owner
    }

    /// Its process, as the host saw it; that may have ended.
    pub fn pid(&self) -> i32 {
        self.file.pid
    }

    /// The configuration that it was made of.
    pub fn config(&self) -> Result<Spec> {
        state::read_config(&self.root, &self.file.id)
    }

    /// A descriptor of its process; `None` when that has ended.
    pub fn process(&self) -> Result<Option<OwnedFd>> {
        state::live_process(&self.file)
    }

    /// Where it is in its life.
    pub fn status(&self) -> Result<Status> {
        if self.process()?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.file.creating {
            return Ok(Status::Creating);
        }
        if self.dir().join(state::GATE).exists() {
            return Ok(Status::Created);
        }
        if self.cgroup().is_some_and(|c| c.is_frozen().unwrap_or(false)) {
            return Ok(Status::Paused);
        }
        Ok(Status::Running)
    }

    /// The state document of the specification.
    pub fn state(&self) -> Result<State> {
        let status = self.status()?;
        Ok(self.state_as(status))
    }

    fn state_as(&self, status: Status) -> State {
        State {
            oci_version: self.file.oci_version.clone(),
            id: self.file.id.clone(),
            status,
            pid: (status != Status::Stopped).then_some(self.file.pid),
            bundle: self.file.bundle.to_string_lossy().into_owned(),
            annotations: self.file.annotations.clone(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.join(&self.file.id)
    }

    pub(crate) fn wrong(&self, verb: &'static str, status: Status) -> Error {
        Error::State { verb, id: self.file.id.clone(), status }
    }

    /// Its control groups, where it has any.
    pub fn cgroup(&self) -> Option<&hako_cgroup::Cgroup> {
        self.file.cgroup.as_ref()
    }

    /// Lets a created container's program run. Returns when it was executed, or why it was not.
    pub fn start(&self) -> Result<()> {
        let dir = StateDir::open(&self.root, &self.file.id)?;
        let status = self.status()?;
        if status != Status::Created {
            return Err(self.wrong("start", status));
        }
        let path = self.dir().join(state::GATE);
        let gate = match crate::container::open_path(&path, OpenFlags::WRONLY | OpenFlags::NONBLOCK)
        {
            // Nobody reads: the process is gone, or going.
            Err(Error::Call { errno: Errno::ENXIO, .. }) => {
                return Err(self.wrong("start", Status::Stopped));
            }
            other => other?,
        };
        fs::write(gate.as_fd(), b"s")
            .map_err(|e| Error::call("write", path.display().to_string(), e))?;
        // The process holds the FIFO until execve closes it, or it dies.
        let mut fds = [PollFd::new(gate.as_fd(), false, false)];
        while poll(&mut fds, None)
            .map_err(|e| Error::call("poll", path.display().to_string(), e))?
            == 0
        {}
        dir.remove_gate()?;
        if let Some(error) = self.failure()? {
            return Err(error);
        }
        // It runs: nobody has to wait for what hooks do meanwhile.
        drop(dir);
        let spec = self.config()?;
        if let Some(hooks) = spec.hooks.filter(|h| !h.poststart.is_empty()) {
            let state = self.state_as(Status::Running);
            let list = &hooks.poststart;
            hooks::run("poststart", list, &state, self.file.pid, self.bundle()).inspect_err(
                |_| {
                    // runtime.md, "Lifecycle", step 9: the container is stopped. That the hook
                    // failed is what to report, also of one that has ended by itself.
                    drop(self.kill(9, false));
                },
            )?;
        }
        Ok(())
    }

    /// What the process wrote when it failed after the start.
    fn failure(&self) -> Result<Option<Error>> {
        let path = self.dir().join(state::FAILURE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let Some((record, note)) = Record::decode(&bytes) else {
            return Err(Error::Document { path, reason: "is no failure record".to_owned() });
        };
        let spec = self.config()?;
        let note = String::from_utf8_lossy(note).trim().to_owned();
        let program =
            spec.process.as_ref().and_then(|p| p.args.first()).cloned().unwrap_or_default();
        let late = (record.step as usize).checked_sub(self.file.gate_step + 1);
        let late = late.and_then(|index| self.file.late_steps.get(index));
        Ok(Some(match record.call {
            Call::Exec => {
                Error::Exec { searched: !program.contains('/'), program, errno: record.errno }
            }
            Call::Hook => {
                let field = late.map_or("", |(_, field)| field.as_str());
                let number = field.split(['[', ']']).nth(1).and_then(|n| n.parse().ok());
                let index: usize = number.unwrap_or_default();
                let hooks = spec.hooks.unwrap_or_default().start_container;
                Error::Hook {
                    kind: "startContainer",
                    index,
                    path: hooks.get(index).map(|h| h.path.clone()).unwrap_or_default(),
                    reason: spawn::hook_reason(
                        record.errno,
                        hooks.get(index).and_then(|h| h.timeout).map(|t| t as u64),
                        &note,
                    ),
                }
            }
            call => Error::Step {
                step: record.step as usize,
                call: call.name(),
                object: late.map_or("after start", |(step, _)| step).to_owned(),
                field: late.map_or("process", |(_, field)| field).to_owned(),
                errno: record.errno,
                note: if note.is_empty() { note } else { format!(" ({note})") },
            },
        }))
    }

    /// Sends a signal to its process, or with `all` to every process of its cgroup.
    pub fn kill(&self, number: i32, all: bool) -> Result<()> {
        if all && let Some(cgroup) = self.cgroup() {
            return match number {
                9 => cgroup.kill_all(),
                _ => cgroup.signal_all(number),
            }
            .map_err(Error::from);
        }
        let Some(pidfd) = self.process()? else {
            return Err(self.wrong("kill", Status::Stopped));
        };
        // Without a PID namespace of its own nothing else ends its other processes.
        if number == 9
            && let Some(cgroup) = self.cgroup()
            && !self.owns_pid_namespace()?
        {
            return cgroup.kill_all().map_err(Error::from);
        }
        match hako_sys::process::pidfd_send_signal(pidfd.as_fd(), number) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Err(self.wrong("kill", Status::Stopped)),
            Err(e) => return Err(Error::call("pidfd_send_signal", self.file.pid.to_string(), e)),
        }
        // On v1 a frozen process does not even die. A cgroup that cannot be asked is gone, and its
        // processes with it.
        if number == 9
            && let Some(cgroup) = self.cgroup()
            && cgroup.is_frozen().unwrap_or(false)
        {
            cgroup.thaw()?;
        }
        Ok(())
    }

    fn owns_pid_namespace(&self) -> Result<bool> {
        if self.file.namespaces & Kind::Pid.flag() == 0 {
            return Ok(false);
        }
        let linux = self.config()?.linux.unwrap_or_default();
        Ok(linux.namespaces.iter().any(|n| n.kind == "pid" && n.path.is_none()))
    }

    /// Stops all its processes from running, until [`Container::resume`].
    pub fn pause(&self) -> Result<()> {
        let _lock = StateDir::open(&self.root, &self.file.id)?;
        match self.status()? {
            Status::Running | Status::Created => self.need_cgroup()?.freeze().map_err(Error::from),
            status => Err(self.wrong("pause", status)),
        }
    }

    /// Lets its processes run again.
    pub fn resume(&self) -> Result<()> {
        let _lock = StateDir::open(&self.root, &self.file.id)?;
        match self.status()? {
            Status::Paused => self.need_cgroup()?.thaw().map_err(Error::from),
            status => Err(self.wrong("resume", status)),
        }
    }

    pub(crate) fn need_cgroup(&self) -> Result<&hako_cgroup::Cgroup> {
        self.cgroup()
            .ok_or_else(|| Error::Unsupported(format!("container {} has no cgroup", self.file.id)))
    }

    /// The directory that the container has as `/run/notify`, of a container of this ID.
    pub fn notify_dir(state_root: &Path, id: &str) -> PathBuf {
        state_root.join(id).join(state::NOTIFY)
    }

    /// Its network's `/proc/net/dev`; `None` where it has no network of its own, or has ended.
    pub fn network_counters(&self) -> Result<Option<String>> {
        if self.file.namespaces & Kind::Network.flag() == 0 || self.process()?.is_none() {
            return Ok(None);
        }
        let path = format!("/proc/{}/net/dev", self.file.pid);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if matches!(Errno::of(&e), Errno::ENOENT | Errno::ESRCH | Errno::EINVAL) => {
                Ok(None)
            }
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    }

    /// IDs of its processes, on the host.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.cgroup() {
            Some(cgroup) => Ok(cgroup.pids()?),
            None => Ok(self.process()?.map(|_| self.file.pid).into_iter().collect()),
        }
    }

    /// Removes a container that has stopped, or was only created; with `force` any. Runs its
    /// `poststop` hooks.
    pub fn delete(&self, force: bool) -> Result<()> {
        let dir = match force {
            false => StateDir::open(&self.root, &self.file.id)?,
            // Whoever still makes it may wait for a hook that never ends.
            true => match StateDir::try_open(&self.root, &self.file.id)? {
                Some(dir) => dir,
                None => {
                    self.end_process()?;
                    self.open_within(KILL_PATIENCE)?
                }
            },
        };
        let status = self.status()?;
        if !force && !matches!(status, Status::Stopped | Status::Created) {
            return Err(Error::State { verb: "delete", id: self.file.id.clone(), status });
        }
        self.end_process()?;
        let spec = self.config();
        if let Some(cgroup) = self.cgroup() {
            cgroup.kill_all()?;
            cgroup.remove()?;
        }
        if let Some(groups) = &self.file.rdt {
            groups.remove()?;
        }
        dir.remove()?;
        let hooks = spec?.hooks.unwrap_or_default().poststop;
        hooks::run("poststop", &hooks, &self.state_as(Status::Stopped), 0, self.bundle())
    }

    /// The container's directory, once nobody else works on it.
    fn open_within(&self, patience: Duration) -> Result<StateDir> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(dir) = StateDir::try_open(&self.root, &self.file.id)? {
                return Ok(dir);
            }
            if Instant::now() >= deadline {
                return Err(Error::Busy(self.file.id.clone()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end_process(&self) -> Result<()> {
        let Some(pidfd) = self.process()? else { return Ok(()) };
        self.kill(9, false).or_else(|e| match e {
            Error::State { .. } => Ok(()),
            e => Err(e),
        })?;
        // Somebody may have moved it to a freezer of their own.
        let _thawed = match self.cgroup() {
            Some(_) => hako_cgroup::thaw_around(self.file.pid)?,
            None => None,
        };
        let deadline = Instant::now() + KILL_PATIENCE;
        while !hako_sys::process::has_ended(pidfd.as_fd())
            .map_err(|e| Error::call("poll", "pidfd", e))?
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Unsupported(format!("process {} does not die", self.file.pid)));
            }
            poll(&mut [PollFd::readable(pidfd.as_fd())], Some(left))
                .map_err(|e| Error::call("poll", "pidfd", e))?;
        }
        Ok(())
    }
}
