//! The life of a monitor, from its lock to its last word.
//!
//! 1. It locks `lock`: from now on the container has a monitor. It leaves its caller's session, and
//!    becomes the reaper of whatever the container leaves behind.
//! 2. It makes the container, in this process, and answers `Started` or `Failed`.
//! 3. It moves bytes until the container's process has ended.
//! 4. It writes the exit record, then removes cgroup and runtime state, then lets go of the lock
//!    (unless a clean-up is still to come), then says `Exited`: whoever hears that finds everything
//!    in its final state.
//! 5. A client that said `Own` cleans up; without one, or when it goes or stays too long without `Cleaned`,
//!    the monitor becomes `on_exit`.
//!
//! When a monitor is killed, its container must not live on without log and exit record. The
//! container's process therefore gets SIGKILL when the monitor ends (PR_SET_PDEATHSIG), and all
//! others of its PID namespace with it. That signal is lost when the process takes it back or
//! executes a set-user-ID program; it is the quick way, not the sure one. The sure one is the lock:
//! a run directory whose lock is free has no monitor, and the next command that changes containers
//! kills whatever is in its cgroup.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hako_oci::runtime::{IdMapping, Spec};
use hako_runtime::{Plan, Running, Stdio};
use hako_sys::fs::{Lock, flock};
use hako_sys::signal::{
    self, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SignalFd, SignalSet,
};
use hako_sys::{Errno, cred, memfd, poll, process, tty, unix};

use crate::clients::Clients;
use crate::config::{Config, LOCK_NAME, SOCKET_NAME};
use crate::exit::{Exit, ExitRecord};
use crate::log::Writer;
use crate::protocol::{Event, Failure};
use crate::pump::{Io, Pump};
use crate::time::Timestamp;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Why a monitor could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A file.
    #[error("{call}({}): {source}", path.display())]
    File {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A document.
    #[error("{}: {source}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A call of the monitor about itself.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The container.
    #[error(transparent)]
    Runtime(#[from] hako_runtime::Error),
}

/// Runs the monitor of the run directory `dir`, until there is nothing left for it to do. `first`
/// is its first client, which has sent its requests already; it may be one of the standard
/// descriptors, which all become /dev/null. But for a directory as standard output: that is the
/// container's layers, mounted nowhere else, which `rootfs_mounts` name by this descriptor. It is
/// held as long as the monitor lives, so that others can share it.
///
/// An error was told to the first client, too.
pub fn run(dir: &Path, first: OwnedFd) -> Result<(), MonitorError> {
    let moved = process::dup_above(first.as_fd(), 3)
        .map_err(|source| MonitorError::Call { call: "fcntl(F_DUPFD)", source })?;
    drop(first);
    let mut clients = Clients::new(Some(moved));
    // Before anything is opened: it would get one of their numbers.
    let outcome = detach_stdio(Layers::Held)
        .and_then(|()| Monitor::open(dir))
        .and_then(|(monitor, spec, lock)| monitor.run(spec, lock, &mut clients));
    match outcome {
        Ok(Some(on_exit)) => {
            detach_stdio(Layers::Released)?;
            Err(become_program(&on_exit))
        }
        Ok(None) => Ok(()),
        Err(e) => {
            // There may be nobody left to hear it; the caller does.
            clients.announce(&Event::Failed(failure(&e)), std::time::Instant::now());
            Err(e)
        }
    }
}

/// A monitor that holds its lock.
struct Monitor {
    dir: PathBuf,
    config: Config,
    listener: OwnedFd,
    signals: SignalFd,
    mask_before: SignalSet,
}

impl Monitor {
    /// The monitor, its container's configuration, and the lock that says that it lives.
    fn open(dir: &Path) -> Result<(Monitor, Spec, File), MonitorError> {
        let lock = take_lock(dir)?;
        let call = |call| move |source| MonitorError::Call { call, source };
        match process::setsid() {
            // The leader of a process group cannot; then it is no part of its caller's group.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(e) => return Err(call("setsid")(e)),
        }
        cred::set_child_subreaper(true).map_err(call("prctl(PR_SET_CHILD_SUBREAPER)"))?;
        let signals = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM];
        let mask_before = signal::block(&signals).map_err(call("sigprocmask"))?;
        let signals = SignalFd::new(&signals).map_err(call("signalfd"))?;
        let config: Config = read_document(&dir.join(crate::config::CONFIG_NAME))?;
        let spec: Spec = read_document(&dir.join("config.json"))?;
        let listener = listen(dir)?;
        let dir = dir.to_owned();
        Ok((Monitor { dir, config, listener, signals, mask_before }, spec, lock))
    }

    /// What is to be executed at the end, if anything.
    fn run(
        &self,
        spec: Spec,
        lock: File,
        clients: &mut Clients,
    ) -> Result<Option<OnExit>, MonitorError> {
        let call = |source| MonitorError::Call { call: "poll", source };
        let log = match self.config.log.clone() {
            Some(log) => {
                let path = log.path.clone();
                Some(Writer::open(log).map_err(file("open", &path))?)
            }
            None => None,
        };
        let taken = std::mem::take(clients);
        let mut pump = Pump::new(taken, log, &self.listener, &self.signals);
        let mut running = match self.start(&spec, &mut pump) {
            Ok(running) => running,
            Err(e) => {
                *clients = std::mem::take(&mut pump.clients);
                return Err(e);
            }
        };
        let mut record = ExitRecord {
            exit: Exit { code: 0, signal: None, oom_killed: false },
            pid: running.pid(),
            started_at: Timestamp::now().to_string(),
            finished_at: String::new(),
            error: String::new(),
        };
        pump.clients.announce(&Event::Started { pid: running.pid() }, std::time::Instant::now());

        // It may be long until its end.
        drop(spec);
        running.shrink();
        if let Err(e) = pump.run(running.pidfd()) {
            // A monitor that cannot watch its container must not leave it alone.
            record.error = call(e).to_string();
            running.kill(SIGKILL)?;
        }
        let status = running.wait()?;
        record.finished_at = Timestamp::now().to_string();
        record.exit = Exit {
            code: status.code(),
            signal: match status {
                process::ExitStatus::Signaled(number) => Some(number),
                process::ExitStatus::Exited(_) => None,
            },
            oom_killed: running.oom_kills()? > 0,
        };
        self.finish(pump, running, record, lock)
    }

    /// Makes the container and lets it run.
    fn start(&self, spec: &Spec, pump: &mut Pump<'_>) -> Result<Running, MonitorError> {
        let size = pump.listen();
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        let (io, mut stdio) = match terminal {
            true => (Io::default(), Stdio::default()),
            false => pipes(&self.config, spec)?,
        };
        pump.io = io;
        pump.stdin_once = self.config.stdin_once && !terminal;
        pump.tied = self.config.tied;
        let mut options =
            hako_runtime::Options::new(self.config.id.clone(), self.config.runtime_root.clone());
        options.rootfs_mounts.clone_from(&self.config.rootfs_mounts);
        options.parent_death_signal = Some(SIGKILL);
        if self.config.init {
            stdio.program = Some(own_program()?);
        }
        let plan = Plan::new(spec, &self.dir, &options)?;
        let mut created = hako_runtime::create(plan, stdio)?;
        if let Some(console) = created.take_console() {
            let call = |call| move |source| MonitorError::Call { call, source };
            poll::set_nonblocking(console.as_fd()).map_err(call("fcntl(O_NONBLOCK)"))?;
            if let Some(size) = size {
                tty::set_window_size(console.as_fd(), size).map_err(call("ioctl(TIOCSWINSZ)"))?;
            }
            pump.io.console = Some(console);
        }
        pump.pid = created.pid();
        Ok(created.start()?)
    }

    fn finish(
        &self,
        mut pump: Pump<'_>,
        running: Running,
        mut record: ExitRecord,
        lock: File,
    ) -> Result<Option<OnExit>, MonitorError> {
        let mut errors = Vec::new();
        let mut note = |error: Option<String>| errors.extend(error);
        let drained = |e: Errno| format!("output is incomplete: {e}");
        note(pump.drain().err().map(drained));
        pump.end_output();
        if let Some(lost) = pump.log.as_ref().map(Writer::lost).filter(|lost| lost.bytes > 0) {
            let cause = lost.cause.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            note(Some(format!("{} bytes of output are not in the log{cause}", lost.bytes)));
        }
        record.error = std::iter::once(std::mem::take(&mut record.error))
            .filter(|error| !error.is_empty())
            .chain(errors)
            .collect::<Vec<_>>()
            .join("; ");
        // An owner removes the container, and the record with it: no need to wait for the disk.
        let durable = !pump.clients.have_owner();
        let written = write_record(&self.config.exit_file, &record, durable);
        let deleted = running.delete();
        let reaped = reap_all();

        let on_exit = OnExit { argv: self.config.on_exit.clone(), mask: self.mask_before };
        let lock = (pump.clients.have_owner() || !on_exit.argv.is_empty()).then_some(lock);
        let said = pump.farewell(&Event::Exited(record.exit));
        let cleaned = pump.clients.have_cleaned();
        drop(lock);
        written?;
        deleted?;
        reaped?;
        said.map_err(|source| MonitorError::Call { call: "poll", source })?;
        Ok((!cleaned && !on_exit.argv.is_empty()).then_some(on_exit))
    }
}

/// Reaps whom the container left behind.
fn reap_all() -> Result<(), MonitorError> {
    let call = |source| MonitorError::Call { call: "waitid", source };
    while process::reap_other(0).map_err(call)?.is_some() {}
    Ok(())
}

/// What follows the container.
struct OnExit {
    argv: Vec<String>,
    mask: SignalSet,
}

/// Replaces this process; returns only when that failed.
fn become_program(on_exit: &OnExit) -> MonitorError {
    if let Err(source) = signal::set_mask(&on_exit.mask) {
        return MonitorError::Call { call: "sigprocmask", source };
    }
    let Some((program, arguments)) = on_exit.argv.split_first() else {
        return MonitorError::Call { call: "execve", source: Errno::EINVAL };
    };
    file("execve", Path::new(program))(Command::new(program).args(arguments).exec())
}

fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MonitorError {
    move |source| MonitorError::File { call, path: path.to_owned(), source }
}

fn read_document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, MonitorError> {
    let bytes = fs::read(path).map_err(file("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| MonitorError::Document { path: path.to_owned(), source })
}

/// Waits for the lock: those who look whether it is free hold it for a moment.
fn take_lock(dir: &Path) -> Result<File, MonitorError> {
    let path = dir.join(LOCK_NAME);
    loop {
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file("open", &path))?;
        flock(lock.as_fd(), Lock::Exclusive).map_err(|e| file("flock", &path)(e.into()))?;
        // Whoever had it may have removed the directory: then this is not the lock any more.
        let ours = lock.metadata().map_err(file("stat", &path))?;
        let there = fs::metadata(&path).map_err(file("stat", &path))?;
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            lock.set_len(0).map_err(file("truncate", &path))?;
            writeln!(lock, "{}", process::pid()).map_err(file("write", &path))?;
            return Ok(lock);
        }
    }
}

fn listen(dir: &Path) -> Result<OwnedFd, MonitorError> {
    let path = dir.join(SOCKET_NAME);
    // We hold the lock, so this is a dead monitor's.
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file("unlink", &path)(e)),
        _ => {}
    }
    let dir_fd = File::open(dir).map_err(file("open", dir))?;
    unix::listen_at(dir_fd.as_fd(), SOCKET_NAME, BACKLOG).map_err(|e| file("bind", &path)(e.into()))
}

/// What becomes of layers on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Held,
    Released,
}

/// Lets go of the caller's terminal and files.
fn detach_stdio(layers: Layers) -> Result<(), MonitorError> {
    let path = Path::new("/dev/null");
    let call = |call| move |source| MonitorError::Call { call, source };
    let null = {
        // Where it gets one of the three numbers itself, that is free again after this.
        let null = File::options().read(true).write(true).open(path).map_err(file("open", path))?;
        process::dup_above(null.as_fd(), 3).map_err(call("fcntl(F_DUPFD)"))?
    };
    let stdout = io::stdout();
    let is_layers = hako_sys::fs::fstat(stdout.as_fd())
        .is_ok_and(|stat| stat.kind == hako_sys::fs::FileKind::Directory);
    for fd in 0..3 {
        if fd == 1 && is_layers && layers == Layers::Held {
            continue;
        }
        process::dup_to(null.as_fd(), fd).map_err(call("dup2"))?;
    }
    Ok(())
}

/// Pipes for the container, and our ends of them.
fn pipes(config: &Config, spec: &Spec) -> Result<(Io, Stdio), MonitorError> {
    let owner = owner(spec);
    let pipe = || -> Result<(OwnedFd, OwnedFd), MonitorError> {
        let (reader, writer) =
            io::pipe().map_err(|e| MonitorError::Call { call: "pipe2", source: Errno::of(&e) })?;
        // So that the container's user can open /dev/stdin, /dev/stdout, /dev/stderr.
        let (uid, gid) = owner;
        fchown(&reader, Some(uid), Some(gid))
            .map_err(|e| MonitorError::Call { call: "fchown", source: Errno::of(&e) })?;
        Ok((reader.into(), writer.into()))
    };
    let ours = |fd: OwnedFd| -> Result<OwnedFd, MonitorError> {
        poll::set_nonblocking(fd.as_fd())
            .map_err(|source| MonitorError::Call { call: "fcntl(O_NONBLOCK)", source })?;
        Ok(fd)
    };
    let (mut io, mut stdio) = (Io::default(), Stdio::default());
    if config.stdin_open {
        let (reader, writer) = pipe()?;
        (stdio.fds[0], io.stdin) = (Some(reader), Some(ours(writer)?));
    }
    let (reader, writer) = pipe()?;
    (stdio.fds[1], io.stdout) = (Some(writer), Some(ours(reader)?));
    let (reader, writer) = pipe()?;
    (stdio.fds[2], io.stderr) = (Some(writer), Some(ours(reader)?));
    Ok((io, stdio))
}

/// This program, for the container's init, in memory that nobody can write to.
fn own_program() -> Result<OwnedFd, MonitorError> {
    let path = Path::new("/proc/self/exe");
    let program = File::open(path).map_err(file("open", path))?;
    if memfd::is_sealed(program.as_fd()) {
        return Ok(program.into());
    }
    memfd::sealed_copy(c"hako-init", &program)
        .map_err(|source| MonitorError::Call { call: "memfd_create", source })
}

/// The container's user and group, as the host counts them.
fn owner(spec: &Spec) -> (u32, u32) {
    let user = spec.process.as_ref().map(|process| (process.user.uid, process.user.gid));
    let (uid, gid) = user.unwrap_or_default();
    let map = |mappings: Option<&Vec<IdMapping>>, id: u32| {
        let mappings = mappings.map(Vec::as_slice).unwrap_or_default();
        mappings
            .iter()
            .find(|m| id >= m.container_id && id - m.container_id < m.size)
            .map_or(id, |m| m.host_id + (id - m.container_id))
    };
    let linux = spec.linux.as_ref();
    (map(linux.map(|l| &l.uid_mappings), uid), map(linux.map(|l| &l.gid_mappings), gid))
}

/// Writes the record beside its place and renames it: nobody sees half of it.
fn write_record(path: &Path, record: &ExitRecord, durable: bool) -> Result<(), MonitorError> {
    let json = serde_json::to_vec(record)
        .map_err(|source| MonitorError::Document { path: path.to_owned(), source })?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || -> io::Result<()> {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&json)?;
        if durable {
            file.sync_data()?;
        }
        Ok(())
    };
    write().map_err(file("write", &beside))?;
    fs::rename(&beside, path).map_err(file("rename", path))
}

/// The error as fields.
fn failure(error: &MonitorError) -> Failure {
    use hako_runtime::Error as R;
    let (call, object, errno) = match error {
        MonitorError::File { call, path, source } => {
            ((*call).to_owned(), path.display().to_string(), Some(Errno::of(source)))
        }
        MonitorError::Call { call, source } => ((*call).to_owned(), String::new(), Some(*source)),
        MonitorError::Runtime(
            R::Call { call, object, errno } | R::Step { call, object, errno, .. },
        ) => ((*call).to_owned(), object.clone(), Some(*errno)),
        MonitorError::Runtime(R::Exec { program, errno, .. }) => {
            ("execve".to_owned(), program.clone(), Some(*errno))
        }
        MonitorError::Document { path, .. } => {
            ("parse".to_owned(), path.display().to_string(), None)
        }
        MonitorError::Runtime(_) => Default::default(),
    };
    Failure {
        call,
        object,
        errno: errno.map(Errno::raw),
        message: error.to_string(),
        exit_code: match error {
            MonitorError::Runtime(e) => e.exit_code(),
            _ => 125,
        },
    }
}
