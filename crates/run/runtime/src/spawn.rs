//! The parent's side of a new process: descriptors, namespaces, maps, hooks, and what it says.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use hako_oci::runtime::IdMapping;
use hako_sys::fs::{self, OpenFlags, Resolve};
use hako_sys::mount::{self, Change, OpenTree, attr};
use hako_sys::namespace::{self, Kind};
use hako_sys::process::{Child, CloneHow, Cloned, Stage, clone3, clone3_from};
use hako_sys::{Errno, unix};

use crate::call::Call;
use crate::init::{Fds, Init};
use crate::op::{ExecOp, Op, Step};
use crate::plan::{IdMap, Join, Plan, Prepared};
use crate::wire::{FAILED, Message, RECORD_SIZE, Record};
use crate::{Error, Result};

/// The host's procfs, checked to be one.
pub(crate) fn host_proc() -> Result<OwnedFd> {
    let flags = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
    let proc =
        fs::openat(fs::cwd(), c"/proc", flags, 0).map_err(|e| Error::call("open", "/proc", e))?;
    let stat = fs::fstatfs(proc.as_fd()).map_err(|e| Error::call("fstatfs", "/proc", e))?;
    if stat.magic != mount::PROC_MAGIC {
        return Err(Error::Unsupported("/proc is not a procfs".to_owned()));
    }
    Ok(proc)
}

/// Writes a file of the host's procfs.
pub(crate) fn write_proc(proc: BorrowedFd<'_>, path: &str, value: &[u8]) -> Result<()> {
    let object = || format!("/proc/{path}");
    let name = std::ffi::CString::new(path)
        .map_err(|_| Error::call("openat2", object(), Errno::EINVAL))?;
    let resolve = Resolve::BENEATH | Resolve::NO_MAGICLINKS | Resolve::NO_XDEV;
    let file = fs::openat2(proc, &name, OpenFlags::WRONLY, 0, resolve)
        .map_err(|e| Error::call("openat2", object(), e))?;
    let n = fs::write(file.as_fd(), value).map_err(|e| Error::call("write", object(), e))?;
    if n == value.len() { Ok(()) } else { Err(Error::call("write", object(), Errno::EIO)) }
}

/// Opens a namespace's file, and checks that it is of the kind.
pub(crate) fn open_namespace(join: &Join) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(join.path.as_os_str().as_bytes())
        .map_err(|_| Error::config(format!("{}.path", join.field), "has a NUL byte"))?;
    let fail = |call: &'static str, e: Errno| Error::Step {
        step: 0,
        call,
        object: join.path.display().to_string(),
        field: format!("{}.path", join.field),
        errno: e,
        note: String::new(),
    };
    let fd = fs::openat(fs::cwd(), &path, OpenFlags::RDONLY, 0).map_err(|e| fail("open", e))?;
    match namespace::kind_of(fd.as_fd()) {
        Ok(kind) if kind == Some(join.kind) => Ok(fd),
        Ok(_) => Err(Error::config(
            format!("{}.path", join.field),
            format!("{} is no {} namespace", join.path.display(), join.kind.info().word),
        )),
        Err(e) => Err(fail("ioctl(NS_GET_NSTYPE)", e)),
    }
}

/// Makes the detached mounts that a plan wants from its parent.
pub(crate) fn prepare_mounts(plan: &Plan, prepared: &[Prepared]) -> Result<Vec<OwnedFd>> {
    prepared.iter().map(|p| prepare_mount(plan, p)).collect()
}

fn prepare_mount(plan: &Plan, wanted: &Prepared) -> Result<OwnedFd> {
    let fail = |call: &'static str, e: Errno| Error::Step {
        step: 0,
        call,
        object: wanted.path.to_string_lossy().into_owned(),
        field: wanted.field.clone(),
        errno: e,
        note: String::new(),
    };
    if let Some(device) = &wanted.device {
        match make_device(device) {
            Ok(tree) => return Ok(tree),
            // Before Linux 6.15 what is mounted nowhere cannot be bound; or a security module of
            // an outer container forbids making devices. Then it is the host's.
            Err(Errno::EINVAL | Errno::EPERM) => {
                return host_device(device, &wanted.path).map_err(|e| fail("open", e));
            }
            Err(e) => return Err(fail("mknodat", e)),
        }
    }
    let how = OpenTree { clone: true, recursive: wanted.recursive, no_follow: wanted.no_follow };
    let tree = match &wanted.namespace {
        Some(namespace) => copy_from(namespace, &wanted.path, how),
        None => mount::open_tree(fs::cwd(), &wanted.path, how),
    };
    let tree = tree.map_err(|e| fail("open_tree", e))?;
    if let Some(map) = &wanted.id_map {
        let userns = map_namespace(plan, map)?;
        let change = Change {
            set: attr::IDMAP,
            userns: Some(userns.as_fd()),
            recursive: map.recursive,
            ..Change::default()
        };
        mount::set_attr(tree.as_fd(), &change).map_err(|e| fail("mount_setattr(IDMAP)", e))?;
    }
    Ok(tree)
}

/// Attributes of a mount of one device.
pub(crate) const DEVICE_ATTRIBUTES: u64 = attr::NOSUID | attr::NOEXEC;

/// A device of the container's own, in a file system that nobody else sees.
fn make_device(wanted: &crate::plan::NewDevice) -> hako_sys::Result<OwnedFd> {
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_string(context.as_fd(), c"nr_inodes", c"2")?;
    mount::fsconfig_create(context.as_fd())?;
    let dir = mount::fsmount(context.as_fd(), DEVICE_ATTRIBUTES)?;
    let name = c"device";
    fs::mknodat(dir.as_fd(), name, wanted.kind, 0o600, wanted.device)?;
    let (uid, gid) = wanted.owner;
    let how = fs::AtFlags::SYMLINK_NOFOLLOW;
    fs::chownat(dir.as_fd(), name, Some(uid), Some(gid), how)?;
    let tree =
        mount::open_tree(dir.as_fd(), name, OpenTree { clone: true, ..OpenTree::default() })?;
    // Now, because mknod(2) heeds this process's umask, and chown(2) takes bits away.
    fs::chmod_path(tree.as_fd(), wanted.mode)?;
    Ok(tree)
}

/// The host's device, whose mode, owner and times the container cannot change.
fn host_device(wanted: &crate::plan::NewDevice, path: &CStr) -> hako_sys::Result<OwnedFd> {
    let device = fs::openat(fs::cwd(), path, OpenFlags::PATH, 0)?;
    let stat = fs::fstat(device.as_fd())?;
    if stat.kind != wanted.kind || stat.rdev != wanted.device {
        return Err(Errno::ENODEV);
    }
    let how = OpenTree { clone: true, ..OpenTree::default() };
    let tree = mount::open_tree(device.as_fd(), c"", how)?;
    let change = Change { set: DEVICE_ATTRIBUTES | attr::RDONLY, ..Change::default() };
    mount::set_attr(tree.as_fd(), &change)?;
    Ok(tree)
}

/// A copy of a mount that is in another mount namespace, made by a process that joins it. The path
/// is of that namespace's making: no link in it is followed.
fn copy_from(namespace: &CStr, path: &CStr, how: OpenTree) -> hako_sys::Result<OwnedFd> {
    let namespace = fs::openat(fs::cwd(), namespace, OpenFlags::RDONLY, 0)?;
    let (ours, theirs) = unix::pair()?;
    let copy = || {
        namespace::setns(namespace.as_fd(), Kind::Mount.flag())?;
        let resolve = Resolve::NO_SYMLINKS | Resolve::NO_MAGICLINKS;
        let place = fs::openat2(fs::cwd(), path, OpenFlags::PATH, 0, resolve)?;
        let tree = mount::open_tree(place.as_fd(), c"", how)?;
        unix::send_with_fds(theirs.as_fd(), &[0], &[tree.as_fd()])
    };
    match clone3(&CloneHow { namespaces: 0, cgroup: None })? {
        Cloned::Child => {
            let errno = copy().err().map_or(0, Errno::raw);
            // Of an errno, the lowest byte is all there is.
            hako_sys::process::exit(errno & 0xff)
        }
        Cloned::Parent(child) => {
            let status = hako_sys::process::wait(child.pidfd.as_fd())?;
            match status.code() {
                0 => unix::receive_with_fds(ours.as_fd(), &mut [0; 1])?.1.pop().ok_or(Errno::EIO),
                code => Err(Errno::from_raw(code)),
            }
        }
    }
}

/// A user namespace with these maps: that of a process that exists only to have it.
fn map_namespace(plan: &Plan, map: &IdMap) -> Result<OwnedFd> {
    let uids = if map.uids.is_empty() { &plan.uid_map } else { &map.uids };
    let gids = if map.gids.is_empty() { &plan.gid_map } else { &map.gids };
    if uids.is_empty() || gids.is_empty() {
        return Err(Error::Unsupported(
            "an idmap without mappings needs a user namespace".to_owned(),
        ));
    }
    let (reader, writer) = std::io::pipe().map_err(|e| Error::io("pipe", "", &e))?;
    let how = CloneHow { namespaces: Kind::User.flag(), cgroup: None };
    match clone3(&how).map_err(|e| Error::call("clone3", "user namespace", e))? {
        Cloned::Child => {
            // Alive until the other end of the pipe is gone, be it with the parent.
            drop(writer);
            let waited = fs::read(reader.as_fd(), &mut [0u8; 1]);
            hako_sys::process::exit(i32::from(waited.is_err()))
        }
        Cloned::Parent(child) => {
            let proc = host_proc()?;
            let made =
                write_maps(proc.as_fd(), child.pid, uids, gids, false, true).and_then(|()| {
                    let path = std::ffi::CString::new(format!("{}/ns/user", child.pid))
                        .map_err(|_| Error::call("open", "ns/user", Errno::EINVAL))?;
                    fs::openat(proc.as_fd(), &path, OpenFlags::RDONLY, 0)
                        .map_err(|e| Error::call("open", "ns/user", e))
                });
            drop(writer);
            hako_sys::process::wait(child.pidfd.as_fd())
                .map_err(|e| Error::call("waitid", "user namespace", e))?;
            made
        }
    }
}

/// Writes the maps of a new user namespace, by newuidmap(1) and newgidmap(1) where the caller may
/// not do it itself.
pub(crate) fn write_maps(
    proc: BorrowedFd<'_>,
    pid: i32,
    uids: &[IdMapping],
    gids: &[IdMapping],
    no_groups: bool,
    privileged: bool,
) -> Result<()> {
    if no_groups {
        write_proc(proc, &format!("{pid}/setgroups"), b"deny")?;
    }
    for (file, helper, map) in [("uid_map", "newuidmap", uids), ("gid_map", "newgidmap", gids)] {
        let own = if file == "uid_map" {
            hako_sys::cred::effective_uid()
        } else {
            hako_sys::cred::effective_gid()
        };
        let simple = matches!(map, [m] if m.size == 1 && m.host_id == own);
        if privileged || simple {
            let lines: String = map
                .iter()
                .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
                .collect();
            write_proc(proc, &format!("{pid}/{file}"), lines.as_bytes())?;
            continue;
        }
        let mut command = std::process::Command::new(helper);
        command.arg(pid.to_string());
        for m in map {
            command.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
        }
        let output = command.output().map_err(|e| {
            Error::Unsupported(format!(
                "{helper} is needed for more IDs than the caller's own, and cannot be run: {}",
                Errno::of(&e)
            ))
        })?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Unsupported(format!("{helper}: {}", words.trim())));
        }
    }
    Ok(())
}

/// What [`spawn`] makes.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) child: Child,
    /// The parent's end.
    pub(crate) sync: OwnedFd,
}

/// Where a new process is born.
#[derive(Debug, Default)]
pub(crate) struct Birth<'a> {
    /// `CLONE_NEW*` of new namespaces.
    pub(crate) new: u64,
    /// Namespaces that have to be entered by a process in between, in order: each a descriptor
    /// and the `CLONE_NEW*` to enter by it.
    pub(crate) enter: Vec<(BorrowedFd<'a>, u64)>,
    /// Lines for the offsets of a new time namespace.
    pub(crate) time_offsets: &'a [u8],
    /// The v2 cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Makes the process; in it, this function does not return.
pub(crate) fn spawn(
    birth: &Birth<'_>,
    steps: &[Step],
    exec: &ExecOp,
    fds: &Fds,
) -> Result<Spawned> {
    let (ours, theirs) = unix::pair().map_err(|e| Error::call("socketpair", "", e))?;
    let how = CloneHow { namespaces: birth.new, cgroup: birth.cgroup };
    let cloned = if birth.enter.is_empty() && birth.time_offsets.is_empty() {
        clone3(&how).map_err(|e| Error::call("clone3", namespaces_text(birth.new), e))?
    } else {
        spawn_from_stage(birth, how, fds)?
    };
    match cloned {
        Cloned::Child => {
            // Or it would hold the other end itself, and never see that its maker is gone.
            drop(ours);
            Init::new(steps, exec, fds, theirs.as_fd()).run()
        }
        Cloned::Parent(child) => Ok(Spawned { child, sync: ours }),
    }
}

/// Steps of the process in between, for its error.
const STAGE_DUMPABLE: i32 = 1;
const STAGE_UNSHARE: i32 = 2;
const STAGE_OFFSETS: i32 = 3;
const STAGE_ENTER: i32 = 10;

fn spawn_from_stage(birth: &Birth<'_>, mut how: CloneHow<'_>, fds: &Fds) -> Result<Cloned> {
    let new_time = !birth.time_offsets.is_empty();
    if new_time {
        // Offsets can be set only before a process is in it.
        how.namespaces &= !Kind::Time.flag();
    }
    let at = |step| move |errno| Stage { step, errno };
    let cloned = clone3_from(&how, || {
        // Before it can be seen from a namespace that is not ours alone (CVE-2016-9962).
        hako_sys::cred::set_dumpable(false).map_err(at(STAGE_DUMPABLE))?;
        enter_all(&birth.enter)?;
        if new_time {
            namespace::unshare(Kind::Time.flag()).map_err(at(STAGE_UNSHARE))?;
            let proc = fds.proc.as_ref().ok_or(Errno::EBADF).map_err(at(STAGE_OFFSETS))?;
            let file = fs::openat(proc.as_fd(), c"self/timens_offsets", OpenFlags::WRONLY, 0)
                .map_err(at(STAGE_OFFSETS))?;
            fs::write(file.as_fd(), birth.time_offsets).map_err(at(STAGE_OFFSETS))?;
            // The table is shared with the parent: not left open there.
            drop(file);
        }
        Ok(())
    });
    cloned.map_err(|stage| match stage.step {
        STAGE_UNSHARE => Error::call("unshare", "time namespace", stage.errno),
        STAGE_OFFSETS => Error::Step {
            step: 0,
            call: "write",
            object: "/proc/self/timens_offsets".to_owned(),
            field: "linux.timeOffsets".to_owned(),
            errno: stage.errno,
            note: String::new(),
        },
        STAGE_DUMPABLE => Error::call("prctl(PR_SET_DUMPABLE)", "0", stage.errno),
        step if step >= STAGE_ENTER => {
            let flags =
                birth.enter.get((step - STAGE_ENTER) as usize).map_or(0, |(_, flags)| *flags);
            Error::call("setns", namespaces_text(flags), stage.errno)
        }
        _ => Error::call("clone3", namespaces_text(how.namespaces), stage.errno),
    })
}

/// Enters all; those that need privileges which end at the user namespace's door come before it,
/// those that need the ones it gives come after.
fn enter_all(enter: &[(BorrowedFd<'_>, u64)]) -> std::result::Result<(), Stage> {
    let user = Kind::User.flag();
    let joins_user = enter.iter().any(|(_, flags)| *flags == user);
    let mut entered = 0u64;
    for round in 0..2 {
        for (i, (fd, flags)) in enter.iter().enumerate() {
            if entered >> i & 1 == 1 || (round == 0 && joins_user && *flags == user) {
                continue;
            }
            match namespace::setns(*fd, *flags) {
                Ok(()) => entered |= 1 << i,
                Err(Errno::EPERM) if round == 0 && joins_user => {}
                Err(errno) => return Err(Stage { step: STAGE_ENTER + i as i32, errno }),
            }
        }
    }
    Ok(())
}

fn namespaces_text(flags: u64) -> String {
    let words: Vec<&str> =
        namespace::KINDS.iter().filter(|k| flags & k.flag != 0).map(|k| k.word).collect();
    match words.is_empty() {
        true => "no new namespace".to_owned(),
        false => format!("{} namespace", words.join(", ")),
    }
}

/// What the new process said.
#[derive(Debug)]
pub(crate) enum Said {
    Message(Message, Option<OwnedFd>),
    Failed(Record, String),
    /// It executed its program, or is gone.
    Closed,
}

/// Waits for its next word.
pub(crate) fn listen(sync: BorrowedFd<'_>) -> Result<Said> {
    let fail = |e| Error::call("recv", "new process", e);
    let mut byte = [0u8; 1];
    let (n, fds) = loop {
        match unix::receive_with_fds(sync, &mut byte) {
            Err(Errno::EINTR) => {}
            // It died with words of ours unread.
            Err(Errno::ECONNRESET) => return Ok(Said::Closed),
            other => break other.map_err(fail)?,
        }
    };
    if n == 0 {
        return Ok(Said::Closed);
    }
    if byte[0] != FAILED {
        let message = Message::from_byte(byte[0]).ok_or(Errno::EPROTO).map_err(fail)?;
        return Ok(Said::Message(message, fds.into_iter().next()));
    }
    let mut record = [0u8; RECORD_SIZE];
    record[0] = FAILED;
    let mut have = 1;
    while have < RECORD_SIZE {
        match fs::read(sync, &mut record[have..]).map_err(fail)? {
            0 => return Ok(Said::Closed),
            n => have += n,
        }
    }
    let (record, note) = Record::decode(&record).ok_or(Errno::EPROTO).map_err(fail)?;
    Ok(Said::Failed(record, String::from_utf8_lossy(note).trim().to_owned()))
}

/// Lets it go on.
pub(crate) fn go(sync: BorrowedFd<'_>) -> Result<()> {
    unix::send_all(sync, b"G").map_err(|e| Error::call("send", "new process", e))
}

/// The error that a record stands for.
pub(crate) fn failure(steps: &[Step], program: &str, record: &Record, note: &str) -> Error {
    let Some(step) = steps.get(record.step as usize) else {
        return Error::call("new process", format!("step {}", record.step), record.errno);
    };
    if record.call == Call::Exec {
        return Error::Exec {
            program: program.to_owned(),
            searched: !program.contains('/'),
            errno: record.errno,
        };
    }
    if let Op::Hook(hook) = &step.op
        && record.call == Call::Hook
    {
        return Error::Hook {
            kind: hook.kind,
            index: hook.index,
            path: hook.path.to_string_lossy().into_owned(),
            reason: hook_reason(record.errno, hook.timeout, note),
        };
    }
    let hint = if note.is_empty() { hint(&step.op, record).to_owned() } else { note.to_owned() };
    Error::Step {
        step: record.step as usize,
        call: record.call.name(),
        object: step.op.to_string(),
        field: step.field.clone(),
        errno: record.errno,
        note: if hint.is_empty() { hint } else { format!(" ({hint})") },
    }
}

/// How a hook of the new process ended, in words.
pub(crate) fn hook_reason(errno: Errno, timeout: Option<u64>, output: &str) -> String {
    let reason = crate::init::HookEnd::from_errno(errno).reason(timeout.unwrap_or_default());
    if output.is_empty() { reason } else { format!("{reason}: {output}") }
}

/// What a person can make of a failure.
fn hint(op: &Op, record: &Record) -> &'static str {
    match (op, record.call, record.errno) {
        (Op::Rlimit { .. }, Call::Prlimit, Errno::EPERM) => {
            "raising a hard limit needs CAP_SYS_RESOURCE, which the caller has not; ask for less, or allow clamping"
        }
        (Op::ProcWrite { path, .. }, _, Errno::EACCES | Errno::EPERM)
            if path.to_bytes().ends_with(b"oom_score_adj") =>
        {
            "lowering it needs CAP_SYS_RESOURCE, which the caller has not"
        }
        (Op::ProcWrite { path, .. }, _, Errno::ENOENT | Errno::EINVAL)
            if path.to_bytes() == b"self/attr/apparmor/exec" =>
        {
            "AppArmor is not enabled in this kernel, or has no such profile"
        }
        (Op::ProcWrite { path, .. }, _, Errno::EINVAL)
            if matches!(path.to_bytes(), b"self/attr/exec" | b"self/attr/keycreate") =>
        {
            "the loaded SELinux policy knows no such label"
        }
        (Op::Landlock(_), Call::LandlockRestrict, Errno::EPERM) => {
            "it needs process.noNewPrivileges, or CAP_SYS_ADMIN"
        }
        (_, Call::NotNull, _) => "the host's /dev/null is not the null device",
        (_, Call::NotDevpts, _) => "/dev/pts/ptmx in the container is not on a devpts",
        (_, Call::NotProc, _) => "it is not a proc file system",
        (_, Call::CwdOutside, _) => "the working directory is outside of the container's root",
        (Op::User { .. }, _, Errno::EINVAL) => "the ID is not mapped in the user namespace",
        (_, Call::Openat2, Errno::ELOOP) => {
            "a symbolic link where none may be: proc and sys must be mounted on ordinary directory"
        }
        _ => "",
    }
}
