//! A container that this process makes: created, then running.
//!
//! Acting is a straight list; what was done is undone backwards by guards when a later part fails.
//! Dropping a [`Created`] kills and removes the container; [`Created::leave`] leaves it for others
//! to start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use hako_oci::runtime::Hook;
use hako_oci::state::{State, Status};
use hako_sys::fs::{self, OpenFlags};
use hako_sys::namespace::Kind;
use hako_sys::process::{Child, ExitStatus};
use hako_sys::{Errno, unix};

use crate::hooks;
use crate::init::Fds;
use crate::op::Op;
use crate::plan::Plan;
use crate::rdt::Groups;
use crate::record::Recorder;
use crate::spawn::{self, Birth, Said, Spawned};
use crate::state::{self, StateDir, StateFile};
use crate::wire::Message;
use crate::{Console, Error, Gate, Result, Stdio};

/// A container whose process waits to be started.
#[derive(Debug)]
pub struct Created {
    /// `None` only after it was started or left.
    inner: Option<Inner>,
}

/// A container whose process was started.
#[derive(Debug)]
pub struct Running {
    inner: Inner,
}

#[derive(Debug)]
struct Inner {
    plan: Plan,
    init: Init,
    sync: OwnedFd,
    state: StateDir,
    file: StateFile,
    console: Option<OwnedFd>,
    /// How many network devices were moved.
    moved: usize,
    /// Where calls are recorded, and who does it.
    record: Option<std::fs::File>,
    recorder: Option<Recorder>,
}

/// The container's process; killed and reaped when dropped, until it is let go.
#[derive(Debug)]
struct Init {
    child: Child,
    ours: std::cell::Cell<bool>,
}

impl Drop for Init {
    fn drop(&mut self) {
        if self.ours.get() {
            // It may have ended already; then there is only the status to collect.
            let pidfd = self.child.pidfd.as_fd();
            let _ended = hako_sys::process::pidfd_send_signal(pidfd, 9);
            let _reaped = hako_sys::process::wait(pidfd);
        }
    }
}

/// Makes a container: everything up to, but without, its program.
///
/// On an error nothing is left: no process, no cgroup, no state.
pub fn create(plan: Plan, stdio: Stdio) -> Result<Created> {
    check_host(&plan)?;
    let record = match &plan.options.record_seccomp {
        None => None,
        Some(path) => Some(std::fs::File::create(path).map_err(|e| Error::io("open", path, &e))?),
    };
    let state = StateDir::create(&plan.options.state_root, &plan.options.id)?;
    if plan.options.notify {
        state.make_notify()?;
    }
    // Before anything else is made: it says what, should we be killed (see `control::delete`).
    state.write_first_config(&plan.spec)?;
    if let Some(by_systemd) = plan.cgroup.as_ref().filter(|c| c.has_scope()) {
        state.write_planned(&by_systemd.planned())?;
    }
    let mut cgroup = create_cgroup(&plan)?;
    let mut rdt = RdtGuard::create(&plan)?;
    let mut fds = open_descriptors(&plan, &state, cgroup.as_ref().map(|c| c.cgroup()), stdio)?;
    if let Some(groups) = &rdt.0 {
        fds.rdt = groups.open()?;
    }
    let Spawned { child, sync } = spawn_init(&plan, &fds)?;
    let init = Init { child, ours: true.into() };

    if let Some(by_systemd) = plan.cgroup.as_ref().filter(|c| c.has_scope()) {
        cgroup = Some(delegated(&plan, by_systemd.create_around(init.child.pid)?)?);
        spawn::go(sync.as_fd())?;
    }
    if plan.namespaces.is_new(Kind::User) {
        let proc = fds
            .proc
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or(Errno::EBADF)
            .map_err(|e| Error::call("open", "/proc", e))?;
        let pid = init.child.pid;
        spawn::write_maps(
            proc,
            pid,
            &plan.uid_map,
            &plan.gid_map,
            plan.no_groups,
            plan.options.privileged,
        )?;
        spawn::go(sync.as_fd())?;
    }
    // While the process mounts, its state is written.
    let mut file = state_file(&plan, init.child.pid)?;
    file.cgroup = cgroup.as_ref().map(|c| c.cgroup().clone());
    file.rdt.clone_from(&rdt.0);
    let waits_for_hooks = plan.steps.iter().any(|s| matches!(s.op, Op::AwaitRuntimeHooks));
    file.creating = waits_for_hooks;
    state.write_state(&file)?;

    // From here on `destroy` takes it all away.
    cgroup.map(hako_cgroup::Created::keep);
    rdt.0 = None;
    let mut inner =
        Inner { plan, init, sync, state, file, console: None, moved: 0, record, recorder: None };
    match inner.until_created().and_then(|()| inner.announce()).and_then(|()| inner.created()) {
        Ok(()) => Ok(Created { inner: Some(inner) }),
        Err(error) => {
            // What went wrong first is what to report.
            drop(inner.destroy());
            Err(error)
        }
    }
}

/// What the plan needs of this machine, and has no better way to find missing.
fn check_host(plan: &Plan) -> Result<()> {
    if let Some(process) = &plan.spec.process {
        crate::lsm::check(process, plan.spec.linux.as_ref())?;
    }
    // Older kernels put only children into the new time namespace, not who executes a program.
    if plan.times_inside() && kernel_is_older_than((6, 3)) {
        return Err(Error::config(
            "linux.timeOffsets",
            "in a user namespace that was made without privileges they need Linux 6.3",
        ));
    }
    Ok(())
}

fn kernel_is_older_than(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    hako_seccomp::kernel_version(&release).is_some_and(|this| this < version)
}

/// Groups of resctrl, gone again when this is dropped.
struct RdtGuard(Option<Groups>);

impl RdtGuard {
    fn create(plan: &Plan) -> Result<RdtGuard> {
        let groups =
            plan.rdt.as_ref().map(|request| Groups::create(&crate::rdt::detect()?, request));
        Ok(RdtGuard(groups.transpose()?))
    }
}

impl Drop for RdtGuard {
    fn drop(&mut self) {
        if let Some(groups) = &self.0 {
            // What went wrong first is what to report.
            drop(groups.undo());
        }
    }
}

/// Makes the cgroups. An ordinary user who asks for no limits does without, where it may not
/// ([`crate::Options::cgroup_optional`]).
fn create_cgroup(plan: &Plan) -> Result<Option<hako_cgroup::Created>> {
    // systemd needs a process first.
    let Some(cgroup) = plan.cgroup.as_ref().filter(|c| !c.has_scope()) else { return Ok(None) };
    match cgroup.create() {
        Ok(created) => delegated(plan, created).map(Some),
        Err(e) if e.is_permission() && plan.options.cgroup_optional && cgroup.limits_nothing() => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// Gives the cgroup to who runs in it. An ordinary user can give nothing away, and owns it already.
/// One below it that the process will move to is made here, too.
fn delegated(plan: &Plan, created: hako_cgroup::Created) -> Result<hako_cgroup::Created> {
    if let Some(below) = plan.delegated()? {
        std::fs::create_dir_all(&below).map_err(|e| Error::io("mkdir", &below, &e))?;
    }
    if let (Some(uid), true) = (plan.cgroup_owner, plan.options.privileged) {
        created.cgroup().delegate(uid)?;
    }
    Ok(created)
}

fn open_descriptors(
    plan: &Plan,
    state: &StateDir,
    cgroup: Option<&hako_cgroup::Cgroup>,
    stdio: Stdio,
) -> Result<Fds> {
    let mut fds =
        Fds { stdio: stdio.fds, extra: stdio.extra, program: stdio.program, ..Fds::default() };
    if let Some(cgroup) = cgroup {
        fds.unified = cgroup.open_unified()?;
        fds.cgroup = cgroup.open_v1()?;
    }
    let wants_proc = plan.steps.iter().any(|s| matches!(s.op, Op::ProcWrite { .. }));
    if wants_proc || plan.namespaces.is_new(Kind::User) || !plan.time_offsets.is_empty() {
        fds.proc = Some(spawn::host_proc()?);
    }
    for join in &plan.namespaces.joined {
        fds.joined.push(spawn::open_namespace(join)?);
    }
    let hooks = &plan.hooks;
    if !hooks.create_container.is_empty() || !hooks.start_container.is_empty() {
        let extensions = &plan.extensions;
        fds.hook_output = [
            hooks::open_output(extensions.hooks_stdout.as_deref())?,
            hooks::open_output(extensions.hooks_stderr.as_deref())?,
        ];
    }
    fds.prepared = spawn::prepare_mounts(plan, &plan.prepared)?;
    if plan.steps.iter().any(|s| matches!(s.op, Op::MoveRoot)) {
        fds.covered = crate::cover::outside(&plan.rootfs)?;
    }
    if plan.options.gate == Gate::Fifo {
        fds.gate = Some(state.make_gate()?);
        fds.report = Some(state.make_failure()?);
    }
    if let (true, Console::Socket(path)) = (plan.terminal, &plan.options.console) {
        fds.console_socket = Some(crate::exec::connect(path)?);
    }
    Ok(fds)
}

fn spawn_init(plan: &Plan, fds: &Fds) -> Result<Spawned> {
    let mut birth = Birth { new: plan.namespaces.new & !Kind::Cgroup.flag(), ..Birth::default() };
    if plan.joins_by_stage() {
        let joined = plan.namespaces.joined.iter().zip(&fds.joined);
        for (join, fd) in joined.filter(|(join, _)| plan.joined_by_stage(join.kind)) {
            birth.enter.push((fd.as_fd(), join.kind.flag()));
        }
    }
    birth.cgroup = fds.unified.as_ref().map(AsFd::as_fd);
    match plan.times_inside() {
        true => birth.new &= !Kind::Time.flag(),
        false => birth.time_offsets = &plan.time_offsets,
    }
    spawn::spawn(&birth, &plan.steps, &plan.exec, fds)
}

fn state_file(plan: &Plan, pid: i32) -> Result<StateFile> {
    let stat = state::proc_stat(pid)?.ok_or_else(|| Error::Died("it was killed".to_owned()))?;
    let gate = plan.steps.iter().position(|s| matches!(s.op, Op::AwaitStart { .. })).unwrap_or(0);
    Ok(StateFile {
        oci_version: plan.state.oci_version.clone(),
        id: plan.options.id.clone(),
        pid,
        start_time: stat.start_time,
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        created: state::now(),
        owner: hako_sys::cred::effective_uid(),
        creating: false,
        namespaces: plan.namespaces.flags(),
        pivots: plan.pivots,
        gate_step: gate,
        late_steps: plan
            .steps
            .iter()
            .skip(gate + 1)
            .map(|step| (step.to_string(), step.field.clone()))
            .collect(),
        cgroup: None,
        rdt: None,
        annotations: plan.state.annotations.clone(),
    })
}

impl Inner {
    /// All is there: it stays when this process ends.
    fn created(&mut self) -> Result<()> {
        if self.file.creating {
            self.file.creating = false;
            self.state.write_state(&self.file)?;
        }
        self.state.keep();
        if self.plan.options.gate == Gate::Fifo {
            spawn::go(self.sync.as_fd())?;
        }
        // Others may kill, pause and delete it from here on.
        self.state.release();
        Ok(())
    }

    /// Gives a descriptor of the process to who asked for it by annotation.
    fn announce(&self) -> Result<()> {
        let Some(path) = &self.plan.extensions.pidfd_receiver else { return Ok(()) };
        let socket = crate::exec::connect(path)?;
        unix::send_with_fds(socket.as_fd(), b"pidfd", &[self.init.child.pidfd.as_fd()])
            .map_err(|e| Error::call("sendmsg", path.display().to_string(), e))
    }

    /// Serves the new process until it is created.
    fn until_created(&mut self) -> Result<()> {
        loop {
            match spawn::listen(self.sync.as_fd())? {
                Said::Message(Message::Created, _) => return Ok(()),
                Said::Message(Message::RuntimeHooks, _) => {
                    self.run_runtime_hooks()?;
                    spawn::go(self.sync.as_fd())?;
                }
                Said::Message(message, fd) => self.take(message, fd)?,
                Said::Failed(record, note) => return Err(self.failure(&record, &note)),
                Said::Closed => return Err(self.died()),
            }
        }
    }

    /// Waits until the program is executed.
    fn until_executed(&mut self) -> Result<()> {
        loop {
            match spawn::listen(self.sync.as_fd())? {
                Said::Message(message, fd) => self.take(message, fd)?,
                Said::Failed(record, note) => return Err(self.failure(&record, &note)),
                // The last thing it does: execve closed its end.
                Said::Closed => return Ok(()),
            }
        }
    }

    fn take(&mut self, message: Message, fd: Option<OwnedFd>) -> Result<()> {
        match (message, fd) {
            (Message::Console, Some(fd)) => {
                self.console = Some(fd);
                Ok(())
            }
            (Message::Network, Some(socket)) => {
                let device = self.plan.net_devices.get(self.moved);
                let device =
                    device.ok_or_else(|| Error::call("recv", "new process", Errno::EPROTO))?;
                crate::net::move_device(device, self.init.child.pid, socket)?;
                self.moved += 1;
                spawn::go(self.sync.as_fd())
            }
            (Message::Seccomp, Some(listener)) => {
                let linux = self.plan.spec.linux.as_ref();
                send_listener(linux, &self.plan.state, self.init.child.pid, &listener)?;
                spawn::go(self.sync.as_fd())
            }
            (Message::Record, Some(listener)) => {
                let is_filter = |s: &&crate::Step| matches!(s.op, Op::Seccomp { .. });
                let own = self.plan.steps.iter().filter(is_filter).count();
                let file = self
                    .record
                    .take()
                    .ok_or_else(|| Error::call("recv", "new process", Errno::EPROTO))?;
                self.recorder = Some(Recorder::start(listener, &file, own)?);
                Ok(())
            }
            _ => Err(Error::call("recv", "new process", Errno::EPROTO)),
        }
    }

    fn run_runtime_hooks(&mut self) -> Result<()> {
        let hooks = &self.plan.hooks;
        let lists: [(&'static str, &[Hook]); 2] =
            [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)];
        for (kind, list) in lists {
            self.run_hooks(kind, list, Status::Creating)?;
        }
        Ok(())
    }

    fn run_hooks(&self, kind: &'static str, list: &[Hook], status: Status) -> Result<()> {
        let state = State { status, ..self.plan.state.clone() };
        hooks::run(kind, list, &state, self.init.child.pid, &self.plan.bundle)
    }

    fn failure(&self, record: &crate::wire::Record, note: &str) -> Error {
        let program = self.plan.spec.process.as_ref().and_then(|p| p.args.first());
        spawn::failure(&self.plan.steps, program.map_or("", String::as_str), record, note)
    }

    fn died(&mut self) -> Error {
        self.init.ours.set(false);
        match hako_sys::process::wait(self.init.child.pidfd.as_fd()) {
            Ok(ExitStatus::Exited(status)) => Error::Died(format!("with status {status}")),
            Ok(ExitStatus::Signaled(9)) => {
                // runc's words for the likelier of the two.
                let likely = "container init was OOM-killed (memory limit too low?)";
                Error::Died(format!("{likely}, or somebody killed it"))
            }
            Ok(ExitStatus::Signaled(number)) => Error::Died(format!("by signal {number}")),
            Err(e) => Error::Died(format!("and cannot be waited for: {e}")),
        }
    }

    /// Kills the process and takes everything away. False when another process did so before.
    fn destroy(self) -> Result<bool> {
        let Inner { init, mut state, file, plan, .. } = self;
        drop(init);
        // Teardown goes on past a failure.
        let cgroup = file.cgroup.as_ref().map_or(Ok(()), |cgroup| {
            // Who lives in the PID namespace died with init.
            if !plan.namespaces.is_new(Kind::Pid) {
                cgroup.kill_all()?;
            }
            cgroup.remove()
        });
        let rdt = file.rdt.as_ref().map_or(Ok(()), Groups::remove);
        state.keep();
        let ours = state.remove_if_same(&plan.options.state_root, &file)?;
        cgroup?;
        rdt?;
        Ok(ours)
    }
}

impl Created {
    fn inner(&self) -> &Inner {
        // `inner` is taken only by the methods that consume `self`.
        self.inner.as_ref().unwrap_or_else(|| unreachable!("used after it was consumed"))
    }

    /// Its process, in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.inner().init.child.pid
    }

    /// Its process. Readable (poll) when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.inner().init.child.pidfd.as_fd()
    }

    /// The terminal's master, once, if the process has a terminal ([`Console::Return`]).
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.inner.as_mut().and_then(|inner| inner.console.take())
    }

    /// Lets the program run. Returns when it was executed; if it could not be, nothing is left.
    pub fn start(mut self) -> Result<Running> {
        let Some(mut inner) = self.inner.take() else { unreachable!("used after it was consumed") };
        let started = match inner.plan.options.gate {
            Gate::Handle => spawn::go(inner.sync.as_fd()).and_then(|()| inner.until_executed()),
            Gate::Fifo => {
                Err(Error::Unsupported("a container with a FIFO is started by its ID".to_owned()))
            }
        };
        let started = started.and_then(|()| {
            let hooks = &inner.plan.hooks.poststart;
            inner.run_hooks("poststart", hooks, Status::Running)
        });
        match started {
            Ok(()) => Ok(Running { inner }),
            Err(error) => {
                // What went wrong first is what to report.
                drop(inner.destroy());
                Err(error)
            }
        }
    }

    /// Leaves the container, for another process to start ([`Gate::Fifo`]).
    pub fn leave(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.init.ours.set(false);
        }
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // Nobody is left to hear of an error; `delete` finds what it names.
            drop(inner.destroy());
        }
    }
}

impl Running {
    /// Its process, in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.inner.init.child.pid
    }

    /// Its process. Readable (poll) when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.inner.init.child.pidfd.as_fd()
    }

    /// The terminal's master, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.inner.console.take()
    }

    /// Waits until the process has ended, and reaps it.
    pub fn wait(&self) -> Result<ExitStatus> {
        let status =
            hako_sys::process::wait(self.pidfd()).map_err(|e| Error::call("waitid", "init", e))?;
        self.inner.init.ours.set(false);
        Ok(status)
    }

    /// Reaps the process if it has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let status = hako_sys::process::try_wait(self.pidfd())
            .map_err(|e| Error::call("waitid", "init", e))?;
        if status.is_some() {
            self.inner.init.ours.set(false);
        }
        Ok(status)
    }

    /// Says that the caller has reaped the process by its descriptor.
    pub fn reaped(&self) {
        self.inner.init.ours.set(false);
    }

    /// Frees what only starting needed: who stays beside the container stays small.
    pub fn shrink(&mut self) {
        let plan = &mut self.inner.plan;
        (plan.steps, plan.prepared, plan.warnings) = Default::default();
        plan.spec = Default::default();
    }

    /// Who records the container's system calls, once ([`crate::Options::record_seccomp`]).
    pub fn take_recorder(&mut self) -> Option<Recorder> {
        self.inner.recorder.take()
    }

    /// Sends a signal to the process.
    pub fn kill(&self, number: i32) -> Result<()> {
        hako_sys::process::pidfd_send_signal(self.pidfd(), number)
            .map_err(|e| Error::call("pidfd_send_signal", number.to_string(), e))
    }

    /// How often the kernel killed a process of the container for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        let Some(cgroup) = &self.inner.file.cgroup else { return Ok(0) };
        Ok(cgroup.stats()?.memory.map_or(0, |m| m.oom_kills))
    }

    /// Removes what is left of the container: kills its process if it still runs, removes cgroup
    /// and state, and runs its `poststop` hooks.
    pub fn delete(self) -> Result<()> {
        let hooks = self.inner.plan.hooks.poststop.clone();
        let state = State { status: Status::Stopped, ..self.inner.plan.state.clone() };
        let bundle = self.inner.plan.bundle.clone();
        match self.inner.destroy()? {
            true => hooks::run("poststop", &hooks, &state, 0, &bundle),
            // Whoever removed it ran them.
            false => Ok(()),
        }
    }

    /// Leaves the container to itself; another process will delete it.
    pub fn leave(self) {
        self.inner.init.ours.set(false);
    }
}

/// Gives the seccomp listener to who asked for it, with the state of the container and the process
/// that is filtered (config-linux.md, "The Container Process State").
pub(crate) fn send_listener(
    linux: Option<&hako_oci::runtime::Linux>,
    state: &State,
    pid: i32,
    listener: &OwnedFd,
) -> Result<()> {
    let seccomp = linux.and_then(|l| l.seccomp.as_ref());
    let Some(path) = seccomp.and_then(|s| s.listener_path.as_deref()) else {
        return Err(Error::config("linux.seccomp.listenerPath", "is missing"));
    };
    let socket = crate::exec::connect(std::path::Path::new(path)).map_err(|e| {
        Error::Unsupported(format!(
            "failed to connect with seccomp agent specified in the seccomp profile: {e}"
        ))
    })?;
    let state = State { pid: state.pid.or(Some(pid)), ..state.clone() };
    let document = serde_json::json!({
        "ociVersion": state.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.and_then(|s| s.listener_metadata.clone()).unwrap_or_default(),
        "state": state,
    });
    unix::send_with_fds(socket.as_fd(), document.to_string().as_bytes(), &[listener.as_fd()])
        .map_err(|e| Error::call("sendmsg", path, e))
}

/// The path of a file as the kernel takes it.
pub(crate) fn open_path(path: &std::path::Path, flags: OpenFlags) -> Result<OwnedFd> {
    let fail = |e| Error::call("open", path.display().to_string(), e);
    let name =
        std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| fail(Errno::EINVAL))?;
    fs::openat(fs::cwd(), &name, flags, 0).map_err(fail)
}
