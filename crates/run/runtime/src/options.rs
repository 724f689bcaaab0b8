//! What a caller decides beside config.json.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hako_oci::runtime::Mount;

/// Options of [`crate::Plan::new`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The container's ID.
    pub id: String,
    /// Where states are kept (`--root`): the container's is in `<state_root>/<id>/`.
    pub state_root: PathBuf,
    /// Mounts that make the root filesystem, made in the container's own mount namespace at
    /// `root.path` before everything else. When its last process is gone, so are they.
    pub rootfs_mounts: Vec<Mount>,
    /// How the waiting process is told to start.
    pub gate: Gate,
    /// Where the terminal's master goes, if the process has a terminal.
    pub console: Console,
    /// How many descriptors after the standard three the process inherits (`--preserve-fds`).
    pub preserve_fds: u32,
    /// Move the root instead of pivoting to it: for root file systems in an initramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// What happens where the kernel does not let a limit be raised.
    pub refused_limits: RefusedLimits,
    /// The signal that the process gets when the calling *thread* ends; `None` for none.
    pub parent_death_signal: Option<i32>,
    /// How control groups are made.
    pub cgroup: CgroupDriver,
    /// Whether a cgroup that the caller may not make is no error, where it limits nothing.
    pub cgroup_optional: bool,
    /// The cgroups of this machine; looked at by [`crate::Plan::new`] where absent.
    pub cgroups: Option<hako_cgroup::Host>,
    /// Whether the container joins every hierarchy of cgroup v1, or only those it needs.
    pub join_cgroups: hako_cgroup::Join,
    /// Version of the kernel's Landlock; asked of it by [`crate::Plan::new`] where absent.
    pub landlock: Option<u32>,
    /// Whether the container is told of a `NOTIFY_SOCKET` (sd_notify(3)): in the directory that
    /// [`crate::Container::notify_dir`] names, where the caller listens.
    pub notify: bool,
    /// Where a seccomp profile is written that allows what the container does, and nothing else;
    /// see [`crate::Running::take_recorder`]. The caller must have no threads.
    pub record_seccomp: Option<PathBuf>,
    /// Environment added to the process's own.
    pub extra_env: Vec<String>,
    /// Whether the caller is root, and need not ask newuidmap(1) for IDs.
    pub privileged: bool,
}

impl Options {
    /// The defaults for a container of this ID.
    pub fn new(id: impl Into<String>, state_root: impl Into<PathBuf>) -> Options {
        Options {
            id: id.into(),
            state_root: state_root.into(),
            rootfs_mounts: Vec::new(),
            gate: Gate::Handle,
            console: Console::Return,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            refused_limits: RefusedLimits::Fail,
            parent_death_signal: None,
            cgroup: CgroupDriver::Cgroupfs,
            cgroup_optional: hako_sys::cred::effective_uid() != 0,
            cgroups: None,
            join_cgroups: hako_cgroup::Join::Needed,
            landlock: None,
            notify: false,
            record_seccomp: None,
            extra_env: Vec::new(),
            privileged: hako_sys::cred::effective_uid() == 0,
        }
    }
}

/// How a created process is told to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// By the [`crate::Created`] of the process that made it.
    Handle,
    /// By any process, through a FIFO in the container's state directory.
    Fifo,
}

/// Where a terminal's master goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// To the caller: [`crate::Created::take_console`].
    Return,
    /// To a Unix socket (`--console-socket`).
    Socket(PathBuf),
}

/// What happens where the kernel does not let a resource limit be raised, or the out-of-memory
/// score be lowered: root without CAP_SYS_RESOURCE, or an ordinary user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedLimits {
    /// An error that explains.
    Fail,
    /// As near as the kernel allows.
    Clamp,
}

/// How control groups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// By this runtime, in the file system.
    Cgroupfs,
    /// By systemd.
    Systemd,
    /// Not at all: the process stays in the caller's.
    Disabled,
}

/// The standard descriptors of the new process; `None` is the caller's own.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input, output and error.
    pub fds: [Option<OwnedFd>; 3],
    /// What the process gets as descriptors 3 and up, instead of the caller's own
    /// ([`Options::preserve_fds`] counts those).
    pub extra: Vec<OwnedFd>,
    /// What is executed in place of `process.args[0]`, which then is only its name: a program from
    /// outside of the container (an init), which must be sealed (memfd) or the container could
    /// write to it.
    pub program: Option<OwnedFd>,
}
