//! One more process in a container.
//!
//! The joining is done by a process in between, which is not dumpable before it is in any namespace
//! of the container and has nothing open that is not close-on-exec (CVE-2016-9962).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_oci::runtime::Process;
use hako_oci::state::Status;
use hako_sys::namespace::{KINDS, Kind};
use hako_sys::process::{Child, ExitStatus};
use hako_sys::{Errno, unix};

use crate::container::open_path;
use crate::init::Fds;
use crate::manage::Container;
use crate::op::Op;
use crate::plan::{
    Builder, Extensions, Guards, Surroundings, affinity, exec_op, keyring, labels, process_steps,
    read_annotations,
};
use crate::spawn::{self, Birth, Said};
use crate::wire::Message;
use crate::{Console, Error, RefusedLimits, Result, Stdio};

/// Options of [`Container::exec`].
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// Where the terminal's master goes, if the process has a terminal.
    pub console: Console,
    /// How many descriptors after the standard three the process inherits.
    pub preserve_fds: u32,
    /// What happens where the kernel does not let a limit be raised.
    pub refused_limits: RefusedLimits,
    /// Environment added to the process's own.
    pub extra_env: Vec<String>,
    /// Cgroups below the container's: `path` for all hierarchies, or `controller,…:path` for some
    /// of v1.
    pub cgroups: Vec<String>,
    /// Also in a paused container, where it will wait.
    pub ignore_paused: bool,
    /// The signal that the process gets when the calling *thread* ends.
    pub parent_death_signal: Option<i32>,
}

impl Default for ExecOptions {
    fn default() -> ExecOptions {
        ExecOptions {
            console: Console::Return,
            preserve_fds: 0,
            refused_limits: RefusedLimits::Fail,
            extra_env: Vec::new(),
            cgroups: Vec::new(),
            ignore_paused: false,
            parent_death_signal: None,
        }
    }
}

/// A process that was executed in a container; a child of the calling process.
#[derive(Debug)]
pub struct Executed {
    child: Child,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    ours: bool,
}

impl Container {
    /// Runs a program in the container. Returns when it was executed, and fails if it could not be.
    pub fn exec(&self, process: &Process, options: &ExecOptions, stdio: Stdio) -> Result<Executed> {
        match self.status()? {
            Status::Running | Status::Created => {}
            Status::Paused if options.ignore_paused => {}
            status => return Err(self.wrong("exec", status)),
        }
        let Some(pidfd) = self.process()? else { return Err(self.wrong("exec", Status::Stopped)) };
        let mut spec = self.config()?;
        let extensions = read_annotations(&mut spec)?;
        let linux = spec.linux.as_ref();
        crate::lsm::check(process, linux)?;

        let mut b = Builder::default();
        self.steps(&mut b, process, options, linux, extensions)?;
        let exec = exec_op("process", process, &options.extra_env)?;

        let mut fds = Fds {
            stdio: stdio.fds,
            extra: stdio.extra,
            proc: Some(spawn::host_proc()?),
            ..Fds::default()
        };
        self.open_cgroups(options, &mut fds)?;
        if let Some(groups) = &self.file.rdt {
            fds.rdt = groups.open()?;
        }
        if self.joins_cgroup_namespace() {
            let path = format!("/proc/{}/ns/cgroup", self.file.pid);
            fds.joined
                .push(open_path(std::path::Path::new(&path), hako_sys::fs::OpenFlags::RDONLY)?);
            if hako_sys::process::has_ended(pidfd.as_fd()).unwrap_or(true) {
                // Then the number may have been somebody else's already.
                return Err(self.wrong("exec", Status::Stopped));
            }
        }
        if !self.file.pivots {
            let root = format!("/proc/{}/root", self.file.pid);
            let flags = hako_sys::fs::OpenFlags::PATH | hako_sys::fs::OpenFlags::DIRECTORY;
            fds.root = Some(open_path(std::path::Path::new(&root), flags)?);
        }
        if let (true, Console::Socket(path)) = (process.terminal, &options.console) {
            fds.console_socket = Some(connect(path)?);
        }
        let spawn = |fds: &Fds| {
            let birth = Birth {
                enter: self.entrances(pidfd.as_fd()),
                cgroup: fds.unified.as_ref().map(AsFd::as_fd),
                ..Birth::default()
            };
            spawn::spawn(&birth, &b.steps, &exec, fds)
        };
        let spawned = match (spawn(&fds), self.cgroup()) {
            // The container hands controllers down to cgroups of its own (an init system does), and
            // so takes no process itself: then beside its init.
            (Err(Error::Call { call: "clone3", errno: Errno::EBUSY, .. }), Some(cgroup))
                if options.cgroups.is_empty() =>
            {
                fds.unified = cgroup.open_unified_of(self.file.pid)?;
                spawn(&fds)?
            }
            // Which one it is to be was said: then beside its init is not what was asked for.
            (Err(Error::Call { call: "clone3", errno: errno @ Errno::EBUSY, .. }), _) => {
                let message = format!("error adding pid of the new process to cgroups: {errno}");
                return Err(Error::Unsupported(message));
            }
            (result, _) => result?,
        };
        drop(fds);
        let mut executed =
            Executed { child: spawned.child, console: None, warnings: b.warnings, ours: true };
        loop {
            match spawn::listen(spawned.sync.as_fd())? {
                Said::Message(Message::Console, Some(master)) => executed.console = Some(master),
                Said::Message(Message::Seccomp, Some(listener)) => {
                    let state =
                        hako_oci::state::State { pid: Some(self.file.pid), ..self.state()? };
                    crate::container::send_listener(linux, &state, executed.child.pid, &listener)?;
                    spawn::go(spawned.sync.as_fd())?;
                }
                Said::Message(..) => return Err(Error::call("recv", "new process", Errno::EPROTO)),
                Said::Failed(record, note) => {
                    let program = process.args.first().map_or("", String::as_str);
                    return Err(spawn::failure(&b.steps, program, &record, &note));
                }
                Said::Closed => return Ok(executed),
            }
        }
    }

    fn steps(
        &self,
        b: &mut Builder,
        process: &Process,
        options: &ExecOptions,
        linux: Option<&hako_oci::runtime::Linux>,
        extensions: Extensions,
    ) -> Result<()> {
        b.push("process", Op::Signals);
        b.push("process", Op::NotDumpable);
        b.push("process", Op::Session);
        let cpus = process.exec_cpu_affinity.as_ref();
        if let Some(bits) =
            affinity("process.execCPUAffinity.initial", cpus.and_then(|c| c.initial.as_ref()))?
        {
            b.push("process.execCPUAffinity.initial", Op::Affinity(bits));
        }
        b.push("linux.cgroupsPath", Op::EnterCgroup);
        if self.file.rdt.is_some() {
            b.push("linux.intelRdt", Op::EnterRdt);
        }
        let last = affinity("process.execCPUAffinity.final", cpus.and_then(|c| c.last.as_ref()))?;
        let bits = last.unwrap_or_else(|| crate::plan::ALL_CPUS.to_vec());
        b.push("process.execCPUAffinity.final", Op::Affinity(bits));
        if let Some(adj) = process.oom_score_adj {
            b.push("process.oomScoreAdj", crate::plan::oom_op(adj, options.refused_limits)?);
        }
        let user_namespace = self.file.namespaces & Kind::User.flag() != 0;
        let no_groups = user_namespace
            && linux.is_some_and(|l| crate::plan::groups_denied(l, self.file.owner == 0));
        if user_namespace {
            let groups = !no_groups && !extensions.keep_groups;
            let none = hako_oci::runtime::Linux::default();
            b.push("linux.namespaces", crate::plan::become_root(linux.unwrap_or(&none), groups));
        }
        if self.joins_cgroup_namespace() {
            b.push("linux.namespaces", Op::Join { kind: Kind::Cgroup, slot: 0 });
        }
        keyring(b, process, &self.file.id)?;
        if !self.file.pivots {
            b.push("root.path", Op::EnterRoot);
        }
        if process.terminal {
            let size = process.console_size.as_ref().map(|s| (s.height, s.width));
            let ptmx = crate::plan::target("process.terminal", "/dev/pts/ptmx")?;
            b.push("process.terminal", Op::Console { ptmx, console: None, size });
        }
        labels(b, process)?;
        let around = Surroundings {
            field: "process",
            refused_limits: options.refused_limits,
            preserve: options.preserve_fds,
            parent_death_signal: options.parent_death_signal,
            no_groups,
            make_cwd: false,
            keep_groups: extensions.keep_groups,
            user_namespace,
        };
        let profile = linux.and_then(|l| l.seccomp.as_ref());
        let guards = Guards::new(b, profile, &extensions, None)?;
        process_steps(b, process, &around, guards, |b, late| {
            late.push(b);
            Ok(())
        })
    }

    /// The cgroup namespace comes last, and is joined by the new process itself: where cgroups are
    /// delegated by namespace (`nsdelegate`), who is in one can be the parent of no process that is
    /// born into a cgroup while it is outside of that cgroup itself.
    fn joins_cgroup_namespace(&self) -> bool {
        self.file.namespaces & Kind::Cgroup.flag() != 0
    }

    /// How the other namespaces are entered: all at once by the pidfd; one by one where a user
    /// namespace takes the privileges that some of the others need.
    fn entrances<'a>(&self, pidfd: BorrowedFd<'a>) -> Vec<(BorrowedFd<'a>, u64)> {
        let all = self.file.namespaces & !Kind::Cgroup.flag();
        if all == 0 {
            return Vec::new();
        }
        if all & Kind::User.flag() == 0 {
            return vec![(pidfd, all)];
        }
        KINDS.iter().filter(|k| all & k.flag != 0).map(|k| (pidfd, k.flag)).collect()
    }

    fn open_cgroups(&self, options: &ExecOptions, fds: &mut Fds) -> Result<()> {
        let Some(cgroup) = self.cgroup() else { return Ok(()) };
        if options.cgroups.iter().all(|c| c == "/") {
            fds.unified = cgroup.open_unified()?;
            fds.cgroup = cgroup.open_v1()?;
            return Ok(());
        }
        let mut below = Vec::with_capacity(options.cgroups.len());
        for text in &options.cgroups {
            let (controllers, path) =
                text.split_once(':').map_or((None, text.as_str()), |(c, p)| (Some(c), p));
            let path = std::path::Path::new(path.trim_start_matches('/'));
            if path.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
                return Err(Error::Unsupported(format!(
                    "bad sub cgroup path: {} is not a sub cgroup path",
                    path.display()
                )));
            }
            let known = |name: &str| {
                let has = |d: &hako_cgroup::Directory| {
                    let names = d.mount.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                    names.split(',').any(|n| n == name)
                };
                name.is_empty() || cgroup.directories().iter().any(has)
            };
            if let Some(name) = controllers.and_then(|c| c.split(',').find(|name| !known(name))) {
                return Err(Error::Unsupported(format!(
                    "unknown controller {name} in --cgroup {text}"
                )));
            }
            below.push((controllers, path));
        }
        let not_in = |path: &std::path::Path, errno: Errno| {
            let path = path.display();
            Error::Unsupported(format!(
                "error adding pid of the new process to cgroups: open {path}: {errno}"
            ))
        };
        for directory in cgroup.directories() {
            let names = directory.mount.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let means = |(controllers, _): &&(Option<&str>, _)| {
                controllers.is_none_or(|list| {
                    list.split(',').any(|c| !c.is_empty() && names.split(',').any(|n| n == c))
                })
            };
            let dir = match below.iter().rev().find(means) {
                Some((_, path)) => directory.path.join(path),
                None => directory.path.clone(),
            };
            if directory.unified {
                let flags = hako_sys::fs::OpenFlags::RDONLY | hako_sys::fs::OpenFlags::DIRECTORY;
                fds.unified = Some(open_path(&dir, flags).map_err(|e| match e {
                    Error::Call { errno, .. } => not_in(&dir.join("cgroup.procs"), errno),
                    other => other,
                })?);
                continue;
            }
            let procs = dir.join("tasks");
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(&procs)
                .map_err(|e| not_in(&dir.join("cgroup.procs"), Errno::of(&e)))?;
            fds.cgroup.push(file);
        }
        Ok(())
    }
}

/// Connects to a Unix socket, whose path may be long.
pub(crate) fn connect(path: &std::path::Path) -> Result<OwnedFd> {
    let fail = |e| Error::call("connect", path.display().to_string(), e);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(fail(Errno::EINVAL));
    };
    let dir = if dir.as_os_str().is_empty() { std::path::Path::new(".") } else { dir };
    let dir = std::fs::File::open(dir).map_err(|e| fail(Errno::of(&e)))?;
    unix::connect_at(dir.as_fd(), name).map_err(fail)
}

impl Executed {
    /// Its ID in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Its descriptor. Readable (poll) when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The terminal's master, once, if it has a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What is not as the configuration wishes, and yet no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Waits until it has ended, and reaps it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = hako_sys::process::wait(self.pidfd())
            .map_err(|e| Error::call("waitid", "process", e))?;
        self.ours = false;
        Ok(status)
    }

    /// Says that the caller has reaped it by its descriptor.
    pub fn reaped(&mut self) {
        self.ours = false;
    }

    /// Leaves it to itself.
    pub fn leave(mut self) {
        self.ours = false;
    }
}

impl Drop for Executed {
    fn drop(&mut self) {
        if self.ours {
            // It may have ended already; then there is only the status to collect.
            let _ended = hako_sys::process::pidfd_send_signal(self.pidfd(), 9);
            let _reaped = hako_sys::process::wait(self.pidfd());
        }
    }
}
