//! Docker's default profile, as a table.
//!
//! Docker keeps it as JSON with conditions on capabilities, architecture and kernel; a test compares
//! the two for every combination of those.

use hako_oci::runtime::{Seccomp, SeccompArg, SeccompRule};

use crate::{
    arch::Arch,
    docker::{self, Context},
};

/// A row of the table: calls, and when they may be made.
struct Row {
    /// Names, separated by spaces: one string is smaller than many.
    names: &'static str,
    /// Fails with this instead of being allowed.
    errno: Option<u32>,
    /// Argument, operator, value.
    argument: Option<(u32, &'static str, u64)>,
    when: When,
    unless: When,
}

/// What a row depends on; empty parts do not matter.
struct When {
    /// A capability in the bounding set.
    capability: &'static str,
    /// Architectures in Docker's words.
    arches: &'static [&'static str],
    /// The oldest kernel.
    kernel: Option<(u32, u32)>,
}

const ALWAYS: When = When { capability: "", arches: &[], kernel: None };

const fn allow(names: &'static str) -> Row {
    Row { names, errno: None, argument: None, when: ALWAYS, unless: ALWAYS }
}

impl Row {
    const fn capability(self, capability: &'static str) -> Row {
        Row { when: When { capability, ..ALWAYS }, ..self }
    }

    const fn arches(self, arches: &'static [&'static str]) -> Row {
        Row { when: When { arches, ..ALWAYS }, ..self }
    }

    const fn kernel(self, major: u32, minor: u32) -> Row {
        Row { when: When { kernel: Some((major, minor)), ..ALWAYS }, ..self }
    }

    const fn unless(self, capability: &'static str, arches: &'static [&'static str]) -> Row {
        Row { unless: When { capability, arches, kernel: None }, ..self }
    }

    const fn argument(self, index: u32, operator: &'static str, value: u64) -> Row {
        Row { argument: Some((index, operator, value)), ..self }
    }

    const fn errno(self, errno: u32) -> Row {
        Row { errno: Some(errno), ..self }
    }
}

/// Bits of clone's flags that make namespaces.
const CLONE_NEW: u64 = 0x7e02_0000;
const ENOSYS: u32 = 38;
const S390: &[&str] = &["s390", "s390x"];

const TABLE: [Row; 33] = [
    allow(
        "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
        chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
        clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close \
        close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
        epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
        eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 \
        fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat \
        fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
        fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue \
        futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents \
        getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
        getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
        getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid \
        getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr \
        getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
        ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get \
        ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset \
        landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount \
        listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 \
        madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
        mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify \
        mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
        mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
        name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause \
        pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll \
        ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
        pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
        recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
        removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq \
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity \
        sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min \
        sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
        seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
        sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid \
        setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
        setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit \
        set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 \
        setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd \
        signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs \
        statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee \
        tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
        timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
        timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask \
        uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
        vmsplice wait4 waitid waitpid write writev",
    ),
    allow("process_vm_readv process_vm_writev ptrace").kernel(4, 8),
    allow("socket").argument(0, "LT", 38),
    allow("socket").argument(0, "EQ", 39),
    allow("socket").argument(0, "GT", 40),
    allow("personality").argument(0, "EQ", 0),
    allow("personality").argument(0, "EQ", 8),
    allow("personality").argument(0, "EQ", 0x20000),
    allow("personality").argument(0, "EQ", 0x20008),
    allow("personality").argument(0, "EQ", 0xffffffff),
    allow("sync_file_range2 swapcontext").arches(&["ppc64le"]),
    allow("arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls")
        .arches(&["arm", "arm64"]),
    allow("arch_prctl").arches(&["amd64", "x32"]),
    allow("modify_ldt").arches(&["amd64", "x32", "x86"]),
    allow("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr").arches(S390),
    allow("riscv_flush_icache").arches(&["riscv64"]),
    allow("open_by_handle_at").capability("CAP_DAC_READ_SEARCH"),
    allow(
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns \
        syslog umount umount2 unshare",
    )
    .capability("CAP_SYS_ADMIN"),
    allow("clone").argument(0, "MASKED_EQ", CLONE_NEW).unless("CAP_SYS_ADMIN", S390),
    allow("clone").argument(1, "MASKED_EQ", CLONE_NEW).arches(S390).unless("CAP_SYS_ADMIN", &[]),
    allow("clone3").errno(ENOSYS).unless("CAP_SYS_ADMIN", &[]),
    allow("reboot").capability("CAP_SYS_BOOT"),
    allow("chroot").capability("CAP_SYS_CHROOT"),
    allow("delete_module init_module finit_module").capability("CAP_SYS_MODULE"),
    allow("acct").capability("CAP_SYS_PACCT"),
    allow("kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace")
        .capability("CAP_SYS_PTRACE"),
    allow("iopl ioperm").capability("CAP_SYS_RAWIO"),
    allow("settimeofday stime clock_settime clock_settime64").capability("CAP_SYS_TIME"),
    allow("vhangup").capability("CAP_SYS_TTY_CONFIG"),
    allow("get_mempolicy mbind set_mempolicy set_mempolicy_home_node").capability("CAP_SYS_NICE"),
    allow("syslog").capability("CAP_SYSLOG"),
    allow("bpf").capability("CAP_BPF"),
    allow("perf_event_open").capability("CAP_PERFMON"),
];

/// Further architectures of each: 32-bit programs run on 64-bit machines.
const FAMILIES: [(Arch, &[Arch]); 9] = {
    use Arch::*;
    [
        (X86_64, &[X86, X32]),
        (Aarch64, &[Arm]),
        (Mips64, &[Mips, Mips64n32]),
        (Mips64n32, &[Mips, Mips64]),
        (Mipsel64, &[Mipsel, Mipsel64n32]),
        (Mipsel64n32, &[Mipsel, Mipsel64]),
        (S390x, &[S390]),
        (Riscv64, &[]),
        (Loongarch64, &[]),
    ]
};

/// Docker's default profile for a container whose bounding set has `capabilities`.
pub fn docker_default(context: &Context<'_>) -> Seccomp {
    let family = FAMILIES.iter().find(|f| f.0 == context.arch);
    let architectures = family
        .into_iter()
        .flat_map(|(arch, others)| std::iter::once(arch).chain(*others))
        .map(|a| a.name())
        .collect();
    let syscalls = TABLE.iter().filter(|row| row.applies(context)).map(Row::rule).collect();
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(1),
        architectures,
        syscalls,
        ..Seccomp::default()
    }
}

impl Row {
    fn applies(&self, context: &Context<'_>) -> bool {
        let arch = docker::arch_name(context.arch);
        let When { capability, arches, kernel } = self.when;
        let included = (capability.is_empty() || context.has(capability))
            && (arches.is_empty() || arches.contains(&arch))
            && kernel.is_none_or(|k| context.kernel >= k);
        let When { capability, arches, .. } = self.unless;
        included && (capability.is_empty() || !context.has(capability)) && !arches.contains(&arch)
    }

    fn rule(&self) -> SeccompRule {
        let argument = |(index, op, value)| SeccompArg {
            index,
            value,
            value_two: 0,
            op: format!("SCMP_CMP_{op}"),
        };
        SeccompRule {
            names: self.names.split(' ').map(str::to_owned).collect(),
            action: if self.errno.is_some() { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" }
                .to_owned(),
            errno_ret: self.errno,
            args: self.argument.map(argument).into_iter().collect(),
        }
    }
}
