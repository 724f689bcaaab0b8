//! The steps that a plan compiles to and that the new process executes, in order, and nothing else.
//!
//! Everything a step needs is here in the form that the kernel takes: the executor
//! ([`crate::init`]) allocates nothing.

use std::ffi::{CStr, CString};
use std::fmt;

use hako_sys::cred::{CapSet, CapSets};
use hako_sys::fs::FileKind;
use hako_sys::mount::Propagation;
use hako_sys::namespace::Kind;
use hako_sys::process::StringArray;
use hako_sys::rlimit::{Limit, RLIMITS, SchedAttr};

/// A step, and the value of config.json that asked for it.
#[derive(Debug)]
pub struct Step {
    /// What is done.
    pub(crate) op: Op,
    /// Path in config.json, as `mounts[3]`.
    pub(crate) field: String,
}

impl Step {
    /// Path of the value in config.json that asked for it, as `mounts[3]`.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.op, f)
    }
}

/// A place beneath the root filesystem.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Relative to the root, `.` for the root itself.
    pub(crate) path: CString,
    /// No symbolic link on the whole way: `/proc`, `/sys`.
    pub(crate) real: bool,
    /// No symbolic link at its end.
    pub(crate) no_follow: bool,
}

impl Target {
    pub(crate) fn is_root(&self) -> bool {
        self.path.as_bytes() == b"."
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_root() {
            true => f.write_str("/"),
            false => write!(f, "/{}", text(&self.path)),
        }
    }
}

/// A name in a directory beneath the root filesystem.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) dir: Target,
    pub(crate) name: CString,
}

/// A parameter of fsconfig(2).
#[derive(Debug, Clone)]
pub(crate) enum Param {
    Flag(CString),
    String(CString, CString),
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Param::Flag(key) => f.write_str(&text(key)),
            Param::String(key, value) => write!(f, "{}={}", text(key), text(value)),
        }
    }
}

/// The size of the page that mount(2) takes all options in, with their NUL.
pub(crate) const OPTIONS_SIZE: usize = 4096;

/// A new file system.
#[derive(Debug, Clone)]
pub(crate) struct NewFs {
    pub(crate) kind: CString,
    pub(crate) params: Vec<Param>,
    /// What /proc/mounts shows as the device.
    pub(crate) source: CString,
    /// A tmpfs without a mode takes the mode of what it covers.
    pub(crate) mode_of_target: bool,
    /// Lower layers of an overlay, top first, where they were given one by one.
    pub(crate) lower: Vec<CString>,
    /// `.` is among them: the target as it is below this mount.
    pub(crate) lower_is_target: bool,
    /// All parameters as mount(2) takes them.
    pub(crate) legacy: CString,
    /// All but the lower layers, which are too many: mount(2) gets them by descriptor.
    pub(crate) by_descriptor: bool,
    /// mount(2) is needed at once: a value is longer than fsconfig(2) takes.
    pub(crate) by_mount: bool,
    /// Where the relative paths among the values begin.
    pub(crate) base: Option<CString>,
    /// The SELinux label of its root, where it takes none as a parameter.
    pub(crate) label: Option<CString>,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file or directory of the caller's mount namespace.
    Bind {
        path: CString,
        recursive: bool,
        no_follow: bool,
        /// Index of a detached copy that the parent made.
        prepared: Option<usize>,
        /// Where a source that is a link becomes a link rather than a mount (crun's).
        copy_symlink: Option<Box<Place>>,
    },
    /// A new file system.
    New(NewFs),
    /// What is mounted there already.
    Remount,
}

/// A mount beneath the root filesystem.
#[derive(Debug, Clone)]
pub(crate) struct MountOp {
    pub(crate) target: Target,
    pub(crate) source: Source,
    /// Attributes of this mount: set, after those in `clear` were cleared.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// The same for all mounts below.
    pub(crate) set_all: u64,
    pub(crate) clear_all: u64,
    /// Propagation, and whether that of the mounts below.
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// What the target holds is copied into the new file system.
    pub(crate) copy_up: bool,
}

/// One hierarchy of cgroup v1 in the container's view.
#[derive(Debug, Clone)]
pub(crate) struct CgroupDir {
    /// Name below the mount, as `cpu,cpuacct`.
    pub(crate) name: CString,
    /// The container's directory in the host's hierarchy.
    pub(crate) source: CString,
    /// Links to it, as `cpu`.
    pub(crate) links: Vec<CString>,
}

/// A hook that the new process runs itself.
#[derive(Debug)]
pub(crate) struct HookOp {
    pub(crate) kind: &'static str,
    pub(crate) index: usize,
    pub(crate) path: CString,
    pub(crate) arguments: StringArray,
    pub(crate) environment: StringArray,
    /// The environment is the container's process's: a `startContainer` hook that has none itself.
    pub(crate) of_process: bool,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    /// The state document: its members, then how the process ID begins, then its end.
    pub(crate) state: [Vec<u8>; 3],
}

/// A device file.
#[derive(Debug, Clone)]
pub(crate) struct DeviceOp {
    pub(crate) dir: Target,
    pub(crate) name: CString,
    /// The whole path, for a bind of the host's.
    pub(crate) path: CString,
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) device: (u32, u32),
    pub(crate) owner: (u32, u32),
    /// Bound from the host, because a user namespace cannot make devices.
    pub(crate) bind: bool,
    /// Index of one that the parent made.
    pub(crate) prepared: Option<usize>,
}

/// The program and how it is found.
#[derive(Debug)]
pub(crate) struct ExecOp {
    /// What may be it, in order.
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: StringArray,
    pub(crate) environment: StringArray,
    /// `HOME` is taken from the container's passwd for this user.
    pub(crate) home_of: Option<u32>,
}

/// One step.
#[derive(Debug)]
pub(crate) enum Op {
    /// Default dispositions, empty mask, umask 0.
    Signals,
    /// Nobody can trace this process or open its files in /proc.
    NotDumpable,
    Session,
    /// Waits until the parent has written the maps of the user namespace.
    AwaitMaps,
    /// Waits until the parent has had its cgroup made around it, by systemd.
    AwaitCgroup,
    /// The root is where this process's root is.
    RootHere,
    /// Unmounts what is at a place.
    Unmount(Place),
    /// A filter that asks the recorder about every call.
    RecordSeccomp(Vec<hako_sys::seccomp::Insn>),
    /// Nothing more: the process ends well.
    Done,
    /// Becomes the user of the user namespace that has its privileges: 0, or where that is not
    /// mapped the first that is. Whether groups can be set.
    BecomeRoot {
        uid: u32,
        gid: u32,
        groups: bool,
    },
    /// Enters a namespace that the parent opened.
    Join {
        kind: Kind,
        slot: usize,
    },
    EnterCgroup,
    /// Moves on into a cgroup below its own.
    EnterDelegated {
        procs: CString,
    },
    /// Enters the groups of resctrl.
    EnterRdt,
    /// The parent moves a network device into this process's namespace.
    NetDevice {
        name: String,
        inside: String,
    },
    Unshare(Kind),
    Keyring(CString),
    Hostname(CString),
    /// The loopback interface of a new network namespace.
    Loopback,
    Domainname(CString),
    /// Writes to a file of the host's procfs, below `/proc/self` or `/proc/sys`.
    ProcWrite {
        path: CString,
        value: CString,
        /// EPERM and EACCES are ignored: the value as it was is the nearest.
        clamp: bool,
    },
    /// A directory beneath the root filesystem, made where it is missing.
    Directory(Target),
    /// Propagation of all mounts of the new namespace.
    PropagateAll(Propagation, bool),
    /// The mount that the root filesystem is on must not be shared: one of these.
    PrivateParent(Vec<CString>),
    /// The root filesystem becomes a mount of its own.
    BindRoot {
        path: CString,
    },
    /// The root filesystem is mounted.
    MountRoot {
        path: CString,
        fs: Box<MountOp>,
    },
    Mount(Box<MountOp>),
    /// cgroup v1 hierarchies, bound into a tmpfs.
    MountCgroups {
        tmpfs: Box<MountOp>,
        set: u64,
        dirs: Vec<CgroupDir>,
    },
    Device(Box<DeviceOp>),
    /// A link in a directory.
    Link {
        dir: Target,
        name: CString,
        to: CString,
        /// Whatever is there is replaced.
        replace: bool,
    },
    /// A new pty; its master is sent away, its other end is bound to /dev/console.
    Console {
        ptmx: Target,
        console: Option<Target>,
        size: Option<(u16, u16)>,
    },
    /// The parent runs hooks now.
    AwaitRuntimeHooks,
    Hook(Box<HookOp>),
    ReadonlyPath(Target),
    MaskedPath(Target),
    RootReadonly,
    RootPropagation(Propagation, bool),
    Pivot,
    MoveRoot,
    Chroot {
        path: CString,
    },
    /// Enters the root of the container's init, where that is not its mount namespace's.
    EnterRoot,
    /// Standard descriptors, and all others closed but the caller's extra ones.
    Descriptors {
        preserve: u32,
    },
    Rlimit {
        resource: u32,
        limit: Limit,
        clamp: bool,
    },
    Scheduler(SchedAttr),
    IoPriority {
        class: u8,
        priority: u8,
    },
    Affinity(Vec<u64>),
    MemoryPolicy {
        mode: u32,
        nodes: Vec<u64>,
    },
    Personality(u64),
    /// The standard descriptors become the user's.
    OwnStdio {
        uid: u32,
    },
    Bounding(CapSet),
    Umask(u32),
    User {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    Capabilities {
        sets: CapSets,
        ambient: CapSet,
    },
    NoNewPrivs,
    /// The directory must be in the container. The early try makes a missing one (`target`), the
    /// late one is made as the container's user.
    Chdir {
        target: Option<Target>,
        path: CString,
        late: bool,
    },
    ParentDeathSignal(i32),
    /// Looks for the program, so that `create` can say that there is none.
    Find,
    /// Says "created" and waits for "start", through the FIFO or by the parent.
    AwaitStart {
        fifo: bool,
    },
    /// Gives up access to what no rule allows.
    Landlock(Box<crate::plan::LandlockOp>),
    Seccomp {
        insns: Vec<hako_sys::seccomp::Insn>,
        flags: u32,
    },
    Exec,
}

fn text(s: &CStr) -> std::borrow::Cow<'_, str> {
    s.to_string_lossy()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Signals => f.write_str("signals to default, umask 0"),
            Op::NotDumpable => f.write_str("not dumpable"),
            Op::Session => f.write_str("new session"),
            Op::AwaitMaps => f.write_str("wait for the user namespace's maps"),
            Op::RecordSeccomp(_) => f.write_str("record system calls"),
            Op::RootHere => f.write_str("root of the mount namespace"),
            Op::Unmount(Place { dir, name }) => write!(f, "unmount {dir}/{}", text(name)),
            Op::Done => f.write_str("end"),
            Op::AwaitCgroup => f.write_str("wait for systemd's unit"),
            Op::BecomeRoot { uid, .. } => write!(f, "become user {uid} of the user namespace"),
            Op::Join { kind, .. } => write!(f, "join {} namespace", kind.info().word),
            Op::EnterCgroup => f.write_str("enter cgroup"),
            Op::EnterDelegated { procs } => write!(f, "enter delegated cgroup by {}", text(procs)),
            Op::EnterRdt => f.write_str("enter resctrl group"),
            Op::NetDevice { name, inside } => write!(f, "network device {name} as {inside}"),
            Op::Unshare(kind) => write!(f, "new {} namespace", kind.info().word),
            Op::Keyring(name) => write!(f, "session keyring {}", text(name)),
            Op::Hostname(name) => write!(f, "host name {}", text(name)),
            Op::Loopback => f.write_str("loopback interface"),
            Op::Domainname(name) => write!(f, "domain name {}", text(name)),
            Op::ProcWrite { path, value, .. } => {
                write!(f, "/proc/{} = {}", text(path), text(value))
            }
            Op::Directory(target) => write!(f, "directory {target}"),
            Op::PropagateAll(p, _) => write!(f, "/ is {}", p.word()),
            Op::PrivateParent(paths) => {
                write!(f, "private parent of {}", paths.first().map_or("/".into(), |p| text(p)))
            }
            Op::BindRoot { path } => write!(f, "root filesystem {}", text(path)),
            Op::MountRoot { path, fs } => write!(f, "{fs} as root filesystem at {}", text(path)),
            Op::Mount(m) => m.fmt(f),
            Op::MountCgroups { tmpfs, dirs, .. } => {
                write!(f, "{} cgroup hierarchies at {}", dirs.len(), tmpfs.target)
            }
            Op::Device(d) => {
                let (major, minor) = d.device;
                write!(f, "device {} {major}:{minor} {:o}", text(&d.path), d.mode)
            }
            Op::Link { dir, name, to, .. } => {
                write!(f, "link {dir}/{} -> {}", text(name), text(to))
            }
            Op::Console { console: Some(console), .. } => write!(f, "pty at {console}"),
            Op::Console { .. } => f.write_str("pty"),
            Op::AwaitRuntimeHooks => f.write_str("wait for the runtime's hooks"),
            Op::Hook(h) => write!(f, "{} hook {}", h.kind, text(&h.path)),
            Op::ReadonlyPath(t) => write!(f, "read-only {t}"),
            Op::MaskedPath(t) => write!(f, "masked {t}"),
            Op::RootReadonly => f.write_str("read-only /"),
            Op::RootPropagation(p, _) => write!(f, "/ is {} (inside)", p.word()),
            Op::Pivot => f.write_str("pivot to the root filesystem"),
            Op::MoveRoot => f.write_str("move the root filesystem to /"),
            Op::Chroot { .. } => f.write_str("chroot to the root filesystem"),
            Op::EnterRoot => f.write_str("enter the container's root"),
            Op::Descriptors { preserve } => write!(f, "descriptors 0 to {}", 2 + preserve),
            Op::Rlimit { resource, limit, .. } => {
                let name = RLIMITS.get(*resource as usize).copied().unwrap_or("RLIMIT_?");
                write!(f, "{name} {}:{}", limit.soft, limit.hard)
            }
            Op::Scheduler(a) => write!(f, "scheduling policy {}", a.policy),
            Op::IoPriority { class, priority } => {
                write!(f, "I/O class {class}, priority {priority}")
            }
            Op::Affinity(_) => f.write_str("processor affinity"),
            Op::MemoryPolicy { mode, .. } => write!(f, "memory policy {mode:#x}"),
            Op::Personality(domain) => write!(f, "personality {domain:#x}"),
            Op::OwnStdio { uid } => write!(f, "standard descriptors to user {uid}"),
            Op::Bounding(set) => write!(f, "bounding set {:#x}", set.0),
            Op::Umask(mask) => write!(f, "umask {mask:03o}"),
            Op::User { uid, gid, .. } => write!(f, "user {uid}, group {gid}"),
            Op::Capabilities { sets, .. } => write!(f, "capabilities {:#x}", sets.effective.0),
            Op::NoNewPrivs => f.write_str("no new privileges"),
            Op::Chdir { path, .. } => write!(f, "working directory {}", text(path)),
            Op::ParentDeathSignal(signal) => write!(f, "parent death signal {signal}"),
            Op::Find => f.write_str("find the program"),
            Op::AwaitStart { .. } => f.write_str("wait for start"),
            Op::Landlock(l) => {
                write!(f, "Landlock with {} rules", l.beneath.len() + l.ports.len())
            }
            Op::Seccomp { insns, .. } => {
                write!(f, "seccomp filter of {} instructions", insns.len())
            }
            Op::Exec => f.write_str("execute"),
        }
    }
}

impl fmt::Display for MountOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Bind { path, recursive, .. } => {
                write!(f, "{} {}", if *recursive { "rbind" } else { "bind" }, text(path))?;
            }
            Source::New(fs) => {
                f.write_str(&text(&fs.kind))?;
                for param in &fs.params {
                    write!(f, " {param}")?;
                }
            }
            Source::Remount => f.write_str("remount")?,
        }
        write!(f, " on {}", self.target)
    }
}
