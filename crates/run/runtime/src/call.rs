//! What a step in the new process was doing when it failed, as a number that crosses the pipe.

use hako_sys::Errno;

macro_rules! calls {
    ($($name:ident = $text:literal,)*) => {
        /// A system call, or a check, of the new process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Call { $($name,)* }

        const CALLS: &[(Call, &str)] = &[$((Call::$name, $text),)*];
    };
}

calls! {
    Accept = "recv",
    Access = "access",
    Affinity = "sched_setaffinity",
    Ambient = "prctl(PR_CAP_AMBIENT)",
    Bounding = "prctl(PR_CAPBSET_DROP)",
    Capset = "capset",
    Chdir = "chdir",
    Chroot = "chroot",
    Clone = "clone3",
    CloseRange = "close_range",
    Copy = "copy",
    CwdOutside = "getcwd",
    Dumpable = "prctl(PR_SET_DUMPABLE)",
    Dup = "dup3",
    Exec = "execve",
    Fchown = "fchown",
    Fsconfig = "fsconfig",
    FsconfigCreate = "fsconfig(CMD_CREATE)",
    Fsmount = "fsmount",
    Fsopen = "fsopen",
    Fstat = "fstat",
    Fstatfs = "fstatfs",
    Gate = "wait for start",
    Hook = "hook",
    IdMap = "mount_setattr(IDMAP)",
    IfFlags = "ioctl(SIOCSIFFLAGS)",
    IoPrio = "ioprio_set",
    KeepCaps = "prctl(PR_SET_KEEPCAPS)",
    Keyring = "keyctl(JOIN_SESSION_KEYRING)",
    KeyPermissions = "keyctl(SETPERM)",
    LandlockCreate = "landlock_create_ruleset",
    LandlockRestrict = "landlock_restrict_self",
    LandlockRule = "landlock_add_rule",
    Mempolicy = "set_mempolicy",
    Mkdir = "mkdirat",
    Mknod = "mknodat",
    Netlink = "socket(AF_NETLINK)",
    Mount = "mount",
    MountSetattr = "mount_setattr",
    MoveMount = "move_mount",
    NoNewPrivs = "prctl(PR_SET_NO_NEW_PRIVS)",
    NotDevpts = "fstatfs(devpts)",
    NotNull = "fstat(/dev/null)",
    NotProc = "fstatfs(proc)",
    Open = "open",
    OpenTree = "open_tree",
    Openat2 = "openat2",
    ParentDeathSignal = "prctl(PR_SET_PDEATHSIG)",
    Personality = "personality",
    PivotRoot = "pivot_root",
    Poll = "poll",
    Prlimit = "prlimit",
    Ptmx = "open(ptmx)",
    Readlink = "readlinkat",
    SchedSetattr = "sched_setattr",
    Seccomp = "seccomp",
    SendFd = "sendmsg",
    Setdomainname = "setdomainname",
    Setgid = "setresgid",
    Setgroups = "setgroups",
    Sethostname = "sethostname",
    Setns = "setns",
    Setsid = "setsid",
    Setuid = "setresuid",
    Setxattr = "fsetxattr(security.selinux)",
    Signals = "sigprocmask",
    Symlink = "symlinkat",
    Terminal = "ioctl(TIOCGPTPEER)",
    TerminalControl = "ioctl(TIOCSCTTY)",
    TerminalSize = "ioctl(TIOCSWINSZ)",
    Umount = "umount2",
    Unshare = "unshare",
    Write = "write",
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        CALLS[self as usize].1
    }

    pub(crate) fn from_number(number: u8) -> Option<Call> {
        CALLS.get(usize::from(number)).map(|(call, _)| *call)
    }
}

/// Why a step failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) call: Call,
    pub(crate) errno: Errno,
}

/// What a step returns.
pub(crate) type Did<T = ()> = std::result::Result<T, Failure>;

/// Names the call in an error.
pub(crate) trait At<T> {
    fn at(self, call: Call) -> Did<T>;
}

impl<T> At<T> for hako_sys::Result<T> {
    fn at(self, call: Call) -> Did<T> {
        self.map_err(|errno| Failure { call, errno })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, call: Call) -> Did<T> {
        self.map_err(|e| Failure { call, errno: Errno::of(&e) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_the_same_call() {
        for (i, (call, _)) in CALLS.iter().enumerate() {
            assert_eq!(*call as usize, i);
            assert_eq!(Call::from_number(i as u8), Some(*call));
        }
        assert_eq!(Call::from_number(255), None);
    }
}
