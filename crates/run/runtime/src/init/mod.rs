//! The new process, from its birth to its program: executes the plan's steps, in order.
//!
//! Between `clone3` and `execve` there are only system calls: nothing in this module or below it
//! allocates, takes a lock, panics or drops a descriptor that it did not open itself. When a step
//! fails, its number, the call and the error number go to the parent as one record.

mod copy;
mod device;
mod hook;
mod identity;
mod mount;
mod program;
mod text;
mod walk;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hako_sys::fs::{self, FileKind, OpenFlags, Resolve};
use hako_sys::mount::{self as mounts, Change, attr};
use hako_sys::{Errno, landlock, namespace, process, tty, unix};

pub(crate) use self::hook::{HookEnd, run as run_hook};
pub(crate) use self::text::Text;
use self::text::{Note, PathBuffer};
use self::walk::Make;
use crate::call::{At, Call, Did, Failure};
use crate::op::{ExecOp, Op, Step, Target};
use crate::plan::{FILE_RIGHTS, LandlockOp};
use crate::wire::{Message, Record};

/// Descriptors that the parent opened for the new process.
#[derive(Debug, Default)]
pub(crate) struct Fds {
    /// The host's procfs.
    pub(crate) proc: Option<OwnedFd>,
    /// `cgroup.procs` files that the process writes itself into.
    pub(crate) cgroup: Vec<File>,
    /// `tasks` files of resctrl, the same.
    pub(crate) rdt: Vec<File>,
    /// The cgroup of v2, in which the process is born.
    pub(crate) unified: Option<OwnedFd>,
    /// Namespaces to join.
    pub(crate) joined: Vec<OwnedFd>,
    /// Detached mounts.
    pub(crate) prepared: Vec<OwnedFd>,
    /// Standard input, output and error; the caller's own where absent.
    pub(crate) stdio: [Option<OwnedFd>; 3],
    /// Descriptors from 3 on.
    pub(crate) extra: Vec<OwnedFd>,
    /// The program, where it is not the container's.
    pub(crate) program: Option<OwnedFd>,
    /// The FIFO, open for reading and writing.
    pub(crate) gate: Option<OwnedFd>,
    /// Files for what hooks print.
    pub(crate) hook_output: [Option<File>; 2],
    /// Where a failure after the start is written.
    pub(crate) report: Option<OwnedFd>,
    /// Where the terminal's master is sent.
    pub(crate) console_socket: Option<OwnedFd>,
    /// Where the host's kernel file systems are, for a root that is not pivoted to.
    pub(crate) covered: Vec<std::ffi::CString>,
    /// The root of a container that does not live in its mount namespace's.
    pub(crate) root: Option<OwnedFd>,
}

/// How many descriptors [`Init::kept`] has.
const KEPT: usize = 6;

/// The state of the new process.
pub(crate) struct Init<'a> {
    steps: &'a [Step],
    exec: &'a ExecOp,
    fds: &'a Fds,
    sync: BorrowedFd<'a>,
    /// Copies of [`Init::kept`] beyond the numbers that the program inherits.
    moved: [Option<OwnedFd>; KEPT],
    /// Failures go to the report file, because the parent is gone.
    detached: bool,
    /// It is in the working directory.
    entered: bool,
    /// False when the kernel turned out to have no mount_setattr(2).
    has_set_attr: bool,
    rootfs: Option<OwnedFd>,
    dev: Option<OwnedFd>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    own_proc: Option<OwnedFd>,
    /// Which of the candidates is the program.
    program: usize,
    home: PathBuffer,
    note: Note,
}

impl<'a> Init<'a> {
    pub(crate) fn new(
        steps: &'a [Step],
        exec: &'a ExecOp,
        fds: &'a Fds,
        sync: BorrowedFd<'a>,
    ) -> Init<'a> {
        Init {
            steps,
            exec,
            fds,
            sync,
            moved: [const { None }; KEPT],
            detached: false,
            entered: false,
            // Asked at once: what is detached cannot be tried on, as older kernels change only what is attached.
            has_set_attr: hako_sys::mount::has_set_attr(sync),
            rootfs: None,
            dev: None,
            null: None,
            empty: None,
            terminal: None,
            own_proc: None,
            program: 0,
            home: PathBuffer::default(),
            note: Note::default(),
        }
    }

    /// Runs all steps. Does not return: the last step executes the program.
    pub(crate) fn run(mut self) -> ! {
        for (index, step) in self.steps.iter().enumerate() {
            if let Err(failure) = self.step(&step.op) {
                self.tell(index, failure);
                process::exit(1);
            }
        }
        process::exit(1)
    }

    fn tell(&self, step: usize, failure: Failure) {
        let record = Record { step: step as u32, call: failure.call, errno: failure.errno };
        let bytes = record.encode(self.note.get());
        let to = match (self.detached, self.report()) {
            (true, Some(report)) => report,
            _ => self.sync(),
        };
        // There is nobody else to tell; the exit status still says that it failed.
        if fs::write(to, &bytes).is_err() {
            process::exit(2);
        }
    }

    /// Descriptors that are needed until the program is executed: the socket to the parent, gate,
    /// report, program, files of hooks.
    fn kept(&self, which: usize) -> Option<BorrowedFd<'_>> {
        let original = match which {
            0 => Some(self.sync),
            1 => self.fds.gate.as_ref().map(AsFd::as_fd),
            2 => self.fds.report.as_ref().map(AsFd::as_fd),
            3 => self.fds.program.as_ref().map(AsFd::as_fd),
            4 => self.fds.hook_output[0].as_ref().map(AsFd::as_fd),
            _ => self.fds.hook_output[1].as_ref().map(AsFd::as_fd),
        };
        self.moved.get(which).and_then(|moved| moved.as_ref()).map(AsFd::as_fd).or(original)
    }

    fn sync(&self) -> BorrowedFd<'_> {
        self.kept(0).unwrap_or(self.sync)
    }

    fn gate(&self) -> Option<BorrowedFd<'_>> {
        self.kept(1)
    }

    fn report(&self) -> Option<BorrowedFd<'_>> {
        self.kept(2)
    }

    /// The program, where it is not the container's.
    pub(super) fn outside_program(&self) -> Option<BorrowedFd<'_>> {
        self.kept(3)
    }

    fn step(&mut self, op: &Op) -> Did {
        match op {
            Op::Signals => {
                process::umask(0);
                process::reset_signals().at(Call::Signals)
            }
            Op::NotDumpable => hako_sys::cred::set_dumpable(false).at(Call::Dumpable),
            Op::Session => process::setsid().at(Call::Setsid),
            Op::AwaitMaps | Op::AwaitCgroup => self.await_go(),
            Op::RootHere => {
                let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
                self.rootfs = Some(fs::openat(fs::cwd(), c"/", flags, 0).at(Call::Open)?);
                Ok(())
            }
            Op::Unmount(place) => self.unmount(place),
            Op::Done => process::exit(0),
            Op::BecomeRoot { uid, gid, groups } => identity::become_root(*uid, *gid, *groups),
            Op::Join { kind, slot } => match self.fds.joined.get(*slot) {
                Some(fd) => namespace::setns(fd.as_fd(), kind.flag()).at(Call::Setns),
                None => Err(Errno::EBADF).at(Call::Setns),
            },
            Op::EnterCgroup => enter_all(&self.fds.cgroup),
            Op::EnterDelegated { procs } => {
                let file = fs::openat(fs::cwd(), procs, OpenFlags::WRONLY, 0).at(Call::Open)?;
                fs::write(file.as_fd(), b"0").at(Call::Write).map(drop)
            }
            Op::EnterRdt => enter_all(&self.fds.rdt),
            Op::NetDevice { .. } => {
                let socket = hako_sys::netlink::open().at(Call::Netlink)?;
                self.say(Message::Network, Some(socket.as_fd()))?;
                self.await_go()
            }
            Op::Unshare(kind) => namespace::unshare(kind.flag()).at(Call::Unshare),
            Op::Keyring(name) => identity::new_keyring(name),
            Op::Hostname(name) => process::set_hostname(name).at(Call::Sethostname),
            Op::Loopback => hako_sys::net::loopback_up().at(Call::IfFlags),
            Op::Domainname(name) => process::set_domainname(name).at(Call::Setdomainname),
            Op::ProcWrite { path, value, clamp } => match self.proc_write(path, value.to_bytes()) {
                Err(Failure { errno: Errno::EPERM | Errno::EACCES, .. }) if *clamp => Ok(()),
                other => other,
            },
            Op::Directory(target) => walk::ensure(self.root()?, target, Make::Directory).map(drop),
            Op::PropagateAll(p, all) => mounts::set_propagation(c"/", *p, *all).at(Call::Mount),
            Op::PrivateParent(paths) => self.private_parent(paths),
            Op::BindRoot { path } => self.bind_root(path),
            Op::MountRoot { path, fs } => self.mount_root(path, fs),
            Op::Mount(op) => self.mount(op),
            Op::MountCgroups { tmpfs, set, dirs } => self.mount_cgroups(tmpfs, *set, dirs),
            Op::Device(device) => self.device(device),
            Op::Link { dir, name, to, replace } => self.link(dir, name, to, *replace),
            Op::Console { ptmx, console, size } => self.console(ptmx, console.as_ref(), *size),
            Op::AwaitRuntimeHooks => {
                self.say(Message::RuntimeHooks, None)?;
                self.await_go()
            }
            Op::Hook(hook) => self.hook(hook),
            Op::ReadonlyPath(target) => self.readonly_path(target),
            Op::MaskedPath(target) => self.masked_path(target),
            Op::RootReadonly => {
                let root = process::dup_above(self.root()?, 3).at(Call::Dup)?;
                self.set_attr(root.as_fd(), &Change { set: attr::RDONLY, ..Change::default() })
            }
            Op::RootPropagation(p, all) => mounts::set_propagation(c"/", *p, *all).at(Call::Mount),
            Op::Pivot => self.pivot(),
            Op::MoveRoot => self.move_root(),
            Op::Chroot { path } => {
                process::chroot(path).at(Call::Chroot)?;
                process::chdir(c"/").at(Call::Chdir)
            }
            Op::EnterRoot => match &self.fds.root {
                Some(root) => {
                    process::fchdir(root.as_fd()).at(Call::Chdir)?;
                    process::chroot(c".").at(Call::Chroot)
                }
                None => Err(Errno::EBADF).at(Call::Chroot),
            },
            Op::Descriptors { preserve } => self.descriptors(*preserve),
            Op::Rlimit { resource, limit, clamp } => identity::set_limit(*resource, *limit, *clamp),
            Op::Scheduler(a) => hako_sys::rlimit::set_scheduler(a).at(Call::SchedSetattr),
            Op::IoPriority { class, priority } => {
                hako_sys::rlimit::set_io_priority(*class, *priority).at(Call::IoPrio)
            }
            Op::Affinity(bits) => hako_sys::rlimit::set_affinity(bits).at(Call::Affinity),
            Op::MemoryPolicy { mode, nodes } => {
                hako_sys::rlimit::set_memory_policy(*mode, nodes).at(Call::Mempolicy)
            }
            Op::Personality(domain) => {
                hako_sys::rlimit::set_personality(*domain).at(Call::Personality)
            }
            Op::OwnStdio { uid } => identity::own_stdio(*uid),
            Op::Bounding(keep) => hako_sys::cred::limit_bounding(*keep).at(Call::Bounding),
            Op::Umask(mask) => {
                process::umask(*mask);
                Ok(())
            }
            Op::User { uid, gid, groups } => identity::set_user(*uid, *gid, groups.as_deref()),
            Op::Capabilities { sets, ambient } => identity::set_capabilities(sets, *ambient),
            Op::NoNewPrivs => hako_sys::cred::set_no_new_privs().at(Call::NoNewPrivs),
            Op::Chdir { target, path, late } => self.chdir(target, path, *late),
            Op::ParentDeathSignal(signal) => self.parent_death_signal(*signal),
            Op::Find => self.find(),
            Op::AwaitStart { fifo } => self.await_start(*fifo),
            Op::Landlock(rules) => self.landlock(rules),
            Op::RecordSeccomp(insns) => self.record_seccomp(insns),
            Op::Seccomp { insns, flags } => self.seccomp(insns, *flags),
            Op::Exec => self.execute(),
        }
    }

    /// One byte to the parent, with a descriptor if there is one.
    fn say(&self, message: Message, fd: Option<BorrowedFd<'_>>) -> Did {
        let byte = [message as u8];
        match fd {
            Some(fd) => unix::send_with_fds(self.sync(), &byte, &[fd]),
            None => fs::write(self.sync(), &byte).map(|_| ()),
        }
        .at(Call::SendFd)
    }

    /// Waits for the parent's word. When it is gone instead, so are we.
    fn await_go(&self) -> Did {
        match fs::read(self.sync(), &mut [0u8; 1]).at(Call::Accept)? {
            0 => process::exit(1),
            _ => Ok(()),
        }
    }

    fn await_start(&mut self, fifo: bool) -> Did {
        self.say(Message::Created, None)?;
        // With a FIFO: until what is stored of the container is complete. Who is killed before leaves
        // nothing that waits here for ever.
        self.await_go()?;
        if !fifo {
            return Ok(());
        }
        let Some(gate) = self.gate() else { return Err(Errno::EBADF).at(Call::Gate) };
        // Open for writing here too: the end of the process that starts us is no end of file.
        let n = fs::read(gate, &mut [0u8; 1]).at(Call::Gate)?;
        self.detached = true;
        if n == 1 { Ok(()) } else { Err(Errno::EPIPE).at(Call::Gate) }
    }

    /// Writes to a file of the host's procfs without following or crossing anything.
    fn proc_write(&mut self, path: &std::ffi::CStr, value: &[u8]) -> Did {
        let resolve = Resolve::BENEATH | Resolve::NO_MAGICLINKS | Resolve::NO_XDEV;
        let opened = match &self.fds.proc {
            Some(proc) => fs::openat2(proc.as_fd(), path, OpenFlags::WRONLY, 0, resolve),
            None => Err(Errno::EXDEV),
        };
        let file = match opened {
            // The host's procfs is absent, or something covers the file: one of our own, then,
            // that nobody else ever sees (CVE-2025-52881).
            Err(Errno::EXDEV) => {
                let proc = match &self.own_proc {
                    Some(proc) => proc,
                    None => {
                        let context = mounts::fsopen(c"proc").at(Call::Fsopen)?;
                        mounts::fsconfig_create(context.as_fd()).at(Call::FsconfigCreate)?;
                        let safe = attr::NOSUID | attr::NODEV | attr::NOEXEC;
                        let proc = mounts::fsmount(context.as_fd(), safe).at(Call::Fsmount)?;
                        self.own_proc.insert(proc)
                    }
                };
                fs::openat2(proc.as_fd(), path, OpenFlags::WRONLY, 0, resolve).at(Call::Openat2)?
            }
            other => other.at(Call::Openat2)?,
        };
        let written = fs::write(file.as_fd(), value).at(Call::Write)?;
        if written == value.len() { Ok(()) } else { Err(Errno::EIO).at(Call::Write) }
    }

    /// The directory, remembered while it is the same one: /dev.
    fn directory(&mut self, target: &Target) -> Did<BorrowedFd<'_>> {
        if target.path.as_bytes() != b"dev" || self.dev.is_none() {
            self.dev = Some(walk::ensure(self.root()?, target, Make::Directory)?);
        }
        let dir = self.dev.as_ref().map(AsFd::as_fd).ok_or(Errno::EBADF).at(Call::Openat2)?;
        Ok(dir)
    }

    fn link(
        &mut self,
        dir: &Target,
        name: &std::ffi::CStr,
        to: &std::ffi::CStr,
        replace: bool,
    ) -> Did {
        let dir = self.directory(dir)?;
        match fs::symlinkat(to, dir, name) {
            Err(Errno::EEXIST) if replace => {
                fs::unlinkat(dir, name, fs::AtFlags::empty()).at(Call::Symlink)?;
                fs::symlinkat(to, dir, name).at(Call::Symlink)
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e).at(Call::Symlink),
        }
    }

    fn console(
        &mut self,
        ptmx: &Target,
        console: Option<&Target>,
        size: Option<(u16, u16)>,
    ) -> Did {
        let flags = OpenFlags::RDWR | OpenFlags::NOCTTY;
        let master = match &self.rootfs {
            Some(root) => {
                let resolve = Resolve::IN_ROOT | Resolve::NO_SYMLINKS;
                fs::openat2(root.as_fd(), &ptmx.path, flags, 0, resolve).at(Call::Ptmx)?
            }
            // As seen from the container's root, which is already this process's.
            None => {
                fs::openat2(fs::cwd(), &ptmx.path, flags, 0, Resolve::NO_SYMLINKS).at(Call::Ptmx)?
            }
        };
        // What an image put there is no pty (CVE-2025-52565).
        if fs::fstatfs(master.as_fd()).at(Call::Fstatfs)?.magic != mounts::DEVPTS_MAGIC {
            return Err(Errno::ENODEV).at(Call::NotDevpts);
        }
        tty::unlock(master.as_fd()).at(Call::Terminal)?;
        let terminal = tty::peer(master.as_fd()).at(Call::Terminal)?;
        if let Some((rows, columns)) = size {
            tty::set_window_size(master.as_fd(), tty::WindowSize { rows, columns })
                .at(Call::TerminalSize)?;
        }
        match &self.fds.console_socket {
            Some(socket) => {
                unix::send_with_fds(socket.as_fd(), b"/dev/ptmx", &[master.as_fd()])
                    .at(Call::SendFd)?;
            }
            None => self.say(Message::Console, Some(master.as_fd()))?,
        }
        if let Some(console) = console {
            let place = walk::ensure(self.root()?, console, Make::File)?;
            let how = mounts::OpenTree { clone: true, ..mounts::OpenTree::default() };
            let tree = mounts::open_tree(terminal.as_fd(), c"", how).at(Call::OpenTree)?;
            mounts::move_mount(tree.as_fd(), place.as_fd()).at(Call::MoveMount)?;
        }
        self.terminal = Some(terminal);
        Ok(())
    }

    fn hook(&mut self, hook: &crate::op::HookOp) -> Did {
        let mut output = [0u8; 200];
        let environment = match hook.of_process {
            true => (&self.exec.environment, self.home()),
            false => (&hook.environment, None),
        };
        let files = [self.kept(4), self.kept(5)];
        let (end, used) = run_hook(hook, environment, process::pid(), None, files, &mut output);
        match end {
            HookEnd::Succeeded => Ok(()),
            HookEnd::Failed(call, errno) => Err(errno).at(call),
            other => {
                self.note.set(output.get(..used).unwrap_or_default());
                Err(other.as_errno()).at(Call::Hook)
            }
        }
    }

    /// Standard descriptors and the caller's extra ones take their numbers; every other one is
    /// closed, but for the three that lead to the parent, and the program.
    fn descriptors(&mut self, preserve: u32) -> Did {
        let extra = self.fds.extra.len() as i32;
        let first_free = 3 + extra.max(preserve as i32);
        for i in 0..KEPT {
            let low = self.kept(i).filter(|fd| fd.as_raw_fd() < first_free);
            if let Some(fd) = low {
                self.moved[i] = Some(process::dup_above(fd, first_free).at(Call::Dup)?);
            }
        }
        // Sources whose numbers are targets of others are first moved away.
        let lifted = |fd: BorrowedFd<'_>| process::dup_above(fd, first_free).at(Call::Dup);
        for (target, source) in self.fds.stdio.iter().enumerate() {
            let source = match (&self.terminal, source) {
                (Some(terminal), _) => terminal,
                (None, Some(source)) => source,
                (None, None) => continue,
            };
            if source.as_raw_fd() < 3 && source.as_raw_fd() != target as i32 {
                let copy = lifted(source.as_fd())?;
                process::dup_to(copy.as_fd(), target as i32).at(Call::Dup)?;
            } else {
                process::dup_to(source.as_fd(), target as i32).at(Call::Dup)?;
            }
        }
        if let Some(terminal) = &self.terminal {
            tty::set_controlling(terminal.as_fd()).at(Call::TerminalControl)?;
        }
        // All are copied up before one is copied down, because they may be in each other's way.
        let mut copies: [Option<OwnedFd>; 64] = [const { None }; 64];
        if self.fds.extra.len() > copies.len() {
            return Err(Errno::EMFILE).at(Call::Dup);
        }
        for (copy, fd) in copies.iter_mut().zip(&self.fds.extra) {
            *copy = Some(lifted(fd.as_fd())?);
        }
        for (i, copy) in copies.iter().flatten().enumerate() {
            process::dup_to(copy.as_fd(), 3 + i as i32).at(Call::Dup)?;
        }
        let mut keep = [0; KEPT];
        for (i, number) in keep.iter_mut().enumerate() {
            *number = self.kept(i).map_or(0, |fd| fd.as_raw_fd());
        }
        let closed = process::close_all_from(first_free, &mut keep).at(Call::CloseRange);
        // They are closed; their owners must not close the numbers again.
        copies.into_iter().flatten().for_each(std::mem::forget);
        for fd in [
            &mut self.rootfs,
            &mut self.dev,
            &mut self.null,
            &mut self.empty,
            &mut self.terminal,
            &mut self.own_proc,
        ] {
            std::mem::forget(fd.take());
        }
        closed
    }

    fn landlock(&mut self, rules: &LandlockOp) -> Did {
        let ruleset = landlock::create_ruleset(&rules.handled).at(Call::LandlockCreate)?;
        for (path, allowed) in &rules.beneath {
            let result =
                fs::openat(fs::cwd(), path, OpenFlags::PATH, 0).at(Call::Open).and_then(|fd| {
                    let directory =
                        fs::fstat(fd.as_fd()).at(Call::Fstat)?.kind == FileKind::Directory;
                    // What only a directory can allow would be an error on anything else.
                    let allowed = if directory { *allowed } else { allowed & FILE_RIGHTS };
                    match allowed {
                        0 => Ok(()),
                        _ => landlock::allow_beneath(ruleset.as_fd(), fd.as_fd(), allowed)
                            .at(Call::LandlockRule),
                    }
                });
            if result.is_err() {
                self.note.set(path.to_bytes());
                return result;
            }
        }
        for (port, allowed) in &rules.ports {
            landlock::allow_port(ruleset.as_fd(), *port, *allowed).at(Call::LandlockRule)?;
        }
        landlock::restrict_self(ruleset.as_fd()).at(Call::LandlockRestrict)
    }

    fn record_seccomp(&self, insns: &[hako_sys::seccomp::Insn]) -> Did {
        let sync = process::dup_above(self.sync(), crate::record::SYNC).at(Call::Dup)?;
        if sync.as_raw_fd() != crate::record::SYNC {
            return Err(Errno::EMFILE).at(Call::Dup);
        }
        let flags = hako_sys::seccomp::FLAG_NEW_LISTENER;
        let listener = hako_sys::seccomp::load(insns, flags).at(Call::Seccomp)?;
        let listener = listener.ok_or(Errno::EBADF).at(Call::Seccomp)?;
        let sent = unix::send_with_fds(sync.as_fd(), &[Message::Record as u8], &[listener.as_fd()]);
        // Closing them would be recorded as the program's need; execve closes them.
        std::mem::forget((sync, listener));
        sent.at(Call::SendFd)
    }

    fn seccomp(&self, insns: &[hako_sys::seccomp::Insn], flags: u32) -> Did {
        let listener = hako_sys::seccomp::load(insns, flags).at(Call::Seccomp)?;
        if let Some(listener) = listener {
            self.say(Message::Seccomp, Some(listener.as_fd()))?;
            // The listener must be in place before the first call that it is asked about.
            self.await_go()?;
        }
        Ok(())
    }
}

/// Enters the groups that these files are of.
fn enter_all(files: &[File]) -> Did {
    for file in files {
        // "0" is whoever writes; the permission is that of the parent, who opened the file.
        fs::write(file.as_fd(), b"0").at(Call::Write)?;
    }
    Ok(())
}
