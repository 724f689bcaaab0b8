//! What is kept of a container, for other processes and later commands.
//!
//! ```text
//! <state root>/<id>/          flock'd by whoever changes the container
//!   state.json                written beside and renamed: always whole
//!   config.json               the configuration as it was
//!   exec.fifo                 while the process waits for `start`
//!   notify/notify.sock        where the container says that it is ready, if anybody wants to know
//!   failure                   what went wrong after `start` (see wire.rs)
//! ```
//!
//! The status is not stored: it follows from the process, the FIFO and the freezer.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hako_oci::runtime::Spec;
use hako_sys::fs::{self, Lock};
use hako_sys::{Errno, process};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Name of the FIFO.
pub(crate) const GATE: &str = "exec.fifo";
/// Name of the failure record.
pub(crate) const FAILURE: &str = "failure";
/// The directory with the container's end of sd_notify(3).
pub(crate) const NOTIFY: &str = "notify";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// The cgroup that systemd is about to make, as long as there is no state.
const PLANNED: &str = "cgroup.json";

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateFile {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// The container's process, in the PID namespace of who made it.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot: tells it from a later process of that number.
    pub(crate) start_time: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// Who made it.
    pub(crate) owner: u32,
    /// Hooks still run.
    pub(crate) creating: bool,
    /// `CLONE_NEW*` of the namespaces that are not the host's.
    pub(crate) namespaces: u64,
    /// The root is that of the mount namespace.
    pub(crate) pivots: bool,
    /// Index of the step that waits for the start.
    pub(crate) gate_step: usize,
    /// The steps after it, with their fields, for the error of one that fails.
    #[serde(default)]
    pub(crate) late_steps: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<hako_cgroup::Cgroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<crate::rdt::Groups>,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

/// A container's directory, locked until it is released.
#[derive(Debug)]
pub(crate) struct StateDir {
    pub(crate) path: PathBuf,
    dir: Option<File>,
    /// Removed when dropped.
    pending: bool,
}

impl StateDir {
    /// Makes the directory of a new container. It is removed when this is dropped, until [`StateDir::keep`].
    pub(crate) fn create(root: &Path, id: &str) -> Result<StateDir> {
        let path = root.join(id);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        for attempt in 0..2 {
            match builder.create(&path) {
                Ok(()) => {
                    let dir = lock(&path)?.ok_or_else(|| Error::Busy(id.to_owned()))?;
                    return Ok(StateDir { path, dir: Some(dir), pending: true });
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && attempt == 0 => {
                    let mut parents = std::fs::DirBuilder::new();
                    parents.mode(0o700).recursive(true);
                    parents.create(root).map_err(|e| Error::io("mkdir", root, &e))?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    // One that was being made when its maker was killed is nobody's.
                    if let Ok(Some(dir)) = lock(&path)
                        && !path.join(STATE).exists()
                    {
                        return Ok(StateDir { path, dir: Some(dir), pending: true });
                    }
                    return Err(Error::Exists(id.to_owned()));
                }
                Err(e) => return Err(Error::io("mkdir", &path, &e)),
            }
        }
        Err(Error::NotFound(id.to_owned()))
    }

    /// The directory of a container that is there, locked; waits for who works on it.
    pub(crate) fn open(root: &Path, id: &str) -> Result<StateDir> {
        crate::plan::check_id(id)?;
        let path = root.join(id);
        let dir = open_dir(&path, id)?;
        fs::flock(dir.as_fd(), Lock::Exclusive)
            .map_err(|e| Error::call("flock", path.display().to_string(), e))?;
        Ok(StateDir { path, dir: Some(dir), pending: false })
    }

    /// The same; `None` while somebody works on it.
    pub(crate) fn try_open(root: &Path, id: &str) -> Result<Option<StateDir>> {
        crate::plan::check_id(id)?;
        let path = root.join(id);
        let dir = open_dir(&path, id)?;
        let ours = fs::try_flock(dir.as_fd(), Lock::Exclusive)
            .map_err(|e| Error::call("flock", path.display().to_string(), e))?;
        Ok(ours.then_some(StateDir { path, dir: Some(dir), pending: false }))
    }

    /// From here on it stays.
    pub(crate) fn keep(&mut self) {
        self.pending = false;
    }

    /// Lets others work on the container: nobody holds the lock while it runs.
    pub(crate) fn release(&mut self) {
        self.dir = None;
    }

    fn dir(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        let released = || Error::call("open", self.path.display().to_string(), Errno::EBADF);
        self.dir.as_ref().map(AsFd::as_fd).ok_or_else(released)
    }

    pub(crate) fn write_state(&self, state: &StateFile) -> Result<()> {
        let bytes = serde_json::to_vec(state).map_err(|e| self.document(STATE, &e.to_string()))?;
        self.write(STATE, &bytes)
    }

    pub(crate) fn write_config(&self, spec: &Spec) -> Result<()> {
        let bytes = serde_json::to_vec(spec).map_err(|e| self.document(CONFIG, &e.to_string()))?;
        self.write(CONFIG, &bytes)
    }

    /// The same where nobody reads yet: before there is a state.
    pub(crate) fn write_first_config(&self, spec: &Spec) -> Result<()> {
        let bytes = serde_json::to_vec(spec).map_err(|e| self.document(CONFIG, &e.to_string()))?;
        let path = self.path.join(CONFIG);
        write_file(&path, &bytes).map_err(|e| Error::io("write", &path, &e))
    }

    /// What cgroup there will be, where only systemd's unit tells: before there is a state.
    pub(crate) fn write_planned(&self, cgroup: &hako_cgroup::Cgroup) -> Result<()> {
        let bytes =
            serde_json::to_vec(cgroup).map_err(|e| self.document(PLANNED, &e.to_string()))?;
        self.write(PLANNED, &bytes)
    }

    fn document(&self, name: &str, reason: &str) -> Error {
        Error::Document { path: self.path.join(name), reason: reason.to_owned() }
    }

    /// Beside, then renamed: a reader sees the old or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, beside) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        let written = write_file(&beside, bytes).and_then(|()| std::fs::rename(&beside, &path));
        written.map_err(|e| Error::io("write", &path, &e))
    }

    /// A new directory for a socket that the container may write to.
    pub(crate) fn make_notify(&self) -> Result<()> {
        let path = self.path.join(NOTIFY);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o755).create(&path).map_err(|e| Error::io("mkdir", &path, &e))
    }

    /// A new FIFO, open at both ends.
    pub(crate) fn make_gate(&self) -> Result<OwnedFd> {
        let object = || self.path.join(GATE).display().to_string();
        fs::mknodat(self.dir()?, c"exec.fifo", fs::FileKind::Fifo, 0o600, (0, 0))
            .map_err(|e| Error::call("mkfifo", object(), e))?;
        fs::openat(self.dir()?, c"exec.fifo", fs::OpenFlags::RDWR, 0)
            .map_err(|e| Error::call("open", object(), e))
    }

    /// A new, empty file for a failure.
    pub(crate) fn make_failure(&self) -> Result<OwnedFd> {
        let flags = fs::OpenFlags::RDWR | fs::OpenFlags::CREAT | fs::OpenFlags::TRUNC;
        fs::openat(self.dir()?, c"failure", flags, 0o600)
            .map_err(|e| Error::call("open", self.path.join(FAILURE).display().to_string(), e))
    }

    pub(crate) fn remove_gate(&self) -> Result<()> {
        match fs::unlinkat(self.dir()?, c"exec.fifo", fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(Error::call("unlink", self.path.join(GATE).display().to_string(), e)),
        }
    }

    /// Removes it, once the lock is ours again and if it still is the same container's: another
    /// process may have deleted that, and made a new one of its name. Whether it was.
    pub(crate) fn remove_if_same(self, root: &Path, state: &StateFile) -> Result<bool> {
        if self.dir.is_some() {
            return self.remove().map(|()| true);
        }
        match StateDir::open(root, &state.id) {
            Ok(dir) => match read_state(root, &state.id) {
                Ok(now) if (now.pid, now.start_time) == (state.pid, state.start_time) => {
                    dir.remove().map(|()| true)
                }
                _ => Ok(false),
            },
            Err(Error::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn remove(mut self) -> Result<()> {
        self.pending = false;
        remove(&self.path)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.pending {
            // The error that led here is the one to report.
            drop(remove(&self.path));
        }
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

fn remove(path: &Path) -> Result<()> {
    // Its own few files, not whatever may be below.
    let beside = [".config.json.new", ".state.json.new", ".cgroup.json.new"];
    for name in [GATE, FAILURE, CONFIG, PLANNED].into_iter().chain(beside).chain([STATE]) {
        match std::fs::remove_file(path.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("unlink", path.join(name), &e));
            }
            _ => {}
        }
    }
    // The container sees this one, and may have written there.
    match std::fs::remove_dir_all(path.join(NOTIFY)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("rmdir", path.join(NOTIFY), &e));
        }
        _ => {}
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("rmdir", path, &e)),
        _ => Ok(()),
    }
}

fn open_dir(path: &Path, id: &str) -> Result<File> {
    File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound(id.to_owned()),
        _ => Error::io("open", path, &e),
    })
}

/// Opens and locks without waiting; `None` when another has it.
fn lock(path: &Path) -> Result<Option<File>> {
    let dir = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    match fs::try_flock(dir.as_fd(), Lock::Exclusive) {
        Ok(true) => Ok(Some(dir)),
        Ok(false) => Ok(None),
        Err(e) => Err(Error::call("flock", path.display().to_string(), e)),
    }
}

/// Reads `state.json` without a lock.
pub(crate) fn read_state(root: &Path, id: &str) -> Result<StateFile> {
    crate::plan::check_id(id)?;
    let path = root.join(id).join(STATE);
    let bytes = read(&path, id)?;
    parse_state(&bytes).map_err(|e| Error::Document { path, reason: e.to_string() })
}

/// The bytes of a `state.json`.
pub(crate) fn parse_state(bytes: &[u8]) -> serde_json::Result<StateFile> {
    serde_json::from_slice(bytes)
}

/// Reads the configuration as it was.
pub(crate) fn read_config(root: &Path, id: &str) -> Result<Spec> {
    let path = root.join(id).join(CONFIG);
    let bytes = read(&path, id)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Document { path, reason: e.to_string() })
}

/// The cgroup that was planned, if one was to be systemd's.
pub(crate) fn read_planned(root: &Path, id: &str) -> Result<Option<hako_cgroup::Cgroup>> {
    let path = root.join(id).join(PLANNED);
    match read(&path, id) {
        Err(Error::NotFound(_)) => Ok(None),
        bytes => serde_json::from_slice(&bytes?)
            .map(Some)
            .map_err(|e| Error::Document { path, reason: e.to_string() }),
    }
}

fn read(path: &Path, id: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound(id.to_owned()),
        _ => Error::io("read", path, &e),
    })
}

/// What /proc says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// It is a zombie, dead, or on its way there (an init waits there for all of its namespace).
    pub(crate) ended: bool,
    pub(crate) start_time: u64,
}

/// Reads `/proc/<pid>/stat`; `None` when there is no such process.
pub(crate) fn proc_stat(pid: i32) -> Result<Option<ProcStat>> {
    let path = format!("/proc/{pid}/stat");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(parse_stat(&bytes)),
        Err(e) if matches!(Errno::of(&e), Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(Error::io("read", &path, &e)),
    }
}

fn parse_stat(bytes: &[u8]) -> Option<ProcStat> {
    // The name, in parentheses, may hold anything, parentheses and spaces too.
    let after = bytes.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = bytes[after..].split(|b| *b == b' ').filter(|f| !f.is_empty());
    let state = *fields.next()?.first()?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.trim().parse::<u64>().ok();
    // The state is field 3 of the line, flags field 9, the start time field 22.
    const PF_EXITING: u64 = 0x4;
    let flags = number(fields.nth(5)?)?;
    let start_time = number(fields.nth(12)?)?;
    Some(ProcStat {
        ended: matches!(state, b'Z' | b'X' | b'x') || flags & PF_EXITING != 0,
        start_time,
    })
}

/// A descriptor of the container's process, `None` when it has ended or its number is another's.
pub(crate) fn live_process(state: &StateFile) -> Result<Option<OwnedFd>> {
    // First the descriptor, then the look: between the two the number cannot change hands.
    let pidfd = match process::pidfd_open(state.pid) {
        Ok(fd) => fd,
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(e) => return Err(Error::call("pidfd_open", state.pid.to_string(), e)),
    };
    let alive = proc_stat(state.pid)?
        .is_some_and(|stat| stat.start_time == state.start_time && !stat.ended);
    Ok(alive.then_some(pidfd))
}

/// Now, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days from civil, backwards (H. Hinnant): years begin in March, eras have 146097 days.
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_hostile_names() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        for name in ["cat", "a) Z 1", "((", ") "] {
            let line = format!("42 ({name}) {rest}\n");
            assert_eq!(
                parse_stat(line.as_bytes()),
                Some(ProcStat { ended: false, start_time: 777 }),
                "{name}"
            );
        }
        for bad in ["", "42 (x", "42 (x) S 1 2"] {
            assert_eq!(parse_stat(bad.as_bytes()), None);
        }
    }

    #[test]
    fn own_process_is_alive() {
        let pid = std::process::id() as i32;
        assert!(proc_stat(pid).unwrap().unwrap().start_time > 0);
        assert_eq!(proc_stat(i32::MAX).unwrap(), None);
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(1_795_447_123, 0), "2026-11-23T15:18:43.000000000Z");
    }

    #[test]
    fn directories_are_made_once_and_removed_unless_kept() {
        let root = std::env::temp_dir().join(format!("hako-state-{}", std::process::id()));
        let first = StateDir::create(&root, "a").unwrap();
        assert!(matches!(StateDir::create(&root, "a"), Err(Error::Exists(_))));
        drop(first);
        assert!(!root.join("a").exists());
        assert!(matches!(StateDir::open(&root, "a").map(|_| ()), Err(Error::NotFound(_))));
        let mut kept = StateDir::create(&root, "a").unwrap();
        kept.keep();
        drop(kept);
        // Nobody holds it and it has no state: left by a killed maker, taken over.
        StateDir::create(&root, "a").unwrap().remove().unwrap();
        std::fs::remove_dir(&root).unwrap();
    }
}
