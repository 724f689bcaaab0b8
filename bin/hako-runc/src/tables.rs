//! The verbs, each with its flags: the whole command line as data.

use crate::args::{Flag, Stop, switch, value};
use crate::{Verb, events, inspect, mounts, run, update};

const CREATE: &[Flag] = &[
    value("bundle", Some('b'), "DIR", "directory of config.json (default: the current one)"),
    value("config", Some('f'), "FILE", "another name for config.json"),
    value("console-socket", None, "SOCKET", "where the terminal's master is sent"),
    value("pidfd-socket", None, "SOCKET", "where the process's pidfd is sent"),
    value("pid-file", None, "FILE", "where the process ID is written"),
    switch("no-subreaper", None, "ignored: orphans are never taken over"),
    switch("no-pivot", None, "move the root instead of pivoting"),
    switch("no-new-keyring", None, "keep the caller's session keyring"),
    value("preserve-fds", None, "N", "pass N more descriptors"),
    switch("clamp-limits", None, "where a limit cannot be raised, take the nearest"),
];

const RUN: &[Flag] = &[
    value("bundle", Some('b'), "DIR", "directory of config.json (default: the current one)"),
    value("config", Some('f'), "FILE", "another name for config.json"),
    value("console-socket", None, "SOCKET", "where the terminal's master is sent"),
    value("pidfd-socket", None, "SOCKET", "where the process's pidfd is sent"),
    value("pid-file", None, "FILE", "where the process ID is written"),
    switch("detach", Some('d'), "do not wait for the process"),
    switch("keep", None, "do not delete the container when it ended"),
    value("record-seccomp", None, "FILE", "write a seccomp profile of what it needed, and no more"),
    switch("no-subreaper", None, "ignored: orphans are never taken over"),
    switch("no-pivot", None, "move the root instead of pivoting"),
    switch("no-new-keyring", None, "keep the caller's session keyring"),
    value("preserve-fds", None, "N", "pass N more descriptors"),
    switch("clamp-limits", None, "where a limit cannot be raised, take the nearest"),
];

const EXEC: &[Flag] = &[
    value("console-socket", None, "SOCKET", "where the terminal's master is sent"),
    value("pidfd-socket", None, "SOCKET", "where the process's pidfd is sent"),
    value("pid-file", None, "FILE", "where the process ID is written"),
    switch("detach", Some('d'), "do not wait for the process"),
    switch("tty", Some('t'), "with a terminal"),
    value("cwd", None, "DIR", "working directory"),
    value("env", Some('e'), "NAME=VALUE", "environment"),
    value("user", Some('u'), "UID[:GID]", "user"),
    value("additional-gids", Some('g'), "GIDS", "supplementary groups"),
    value("process", Some('p'), "FILE", "process.json"),
    value("process-label", None, "LABEL", "SELinux label"),
    value("apparmor", None, "PROFILE", "AppArmor profile"),
    switch("no-new-privs", None, "no new privileges"),
    value("cap", Some('c'), "CAP", "one more capability"),
    value("preserve-fds", None, "N", "pass N more descriptors"),
    value(
        "cgroup",
        None,
        "[CONTROLLER,...:]PATH",
        "a cgroup below the container's; may be repeated",
    ),
    switch("ignore-paused", None, "also in a paused container"),
    switch("for-engine", None, "fail in an engine's words and codes: 126, 127"),
    switch("clamp-limits", None, "where a limit cannot be raised, take the nearest"),
];

const KILL: &[Flag] = &[
    switch("all", Some('a'), "every process of the container"),
    switch("regex", Some('r'), "the ID is a pattern"),
];
const DELETE: &[Flag] = &[
    switch("force", Some('f'), "kill it first"),
    switch("regex", Some('r'), "the ID is a pattern"),
];
const LIST: &[Flag] = &[
    value("format", Some('f'), "FORMAT", "table or json"),
    switch("quiet", Some('q'), "only IDs"),
];
const PS: &[Flag] = &[value("format", Some('f'), "FORMAT", "table or json")];
const SPEC: &[Flag] = &[
    value("bundle", Some('b'), "DIR", "where config.json is written"),
    value("config", Some('f'), "FILE", "another name for config.json"),
    value("file", None, "FILE", "the same"),
    switch("rootless", None, "for an ordinary user"),
];
const UPDATE: &[Flag] = &[
    value(
        "resources",
        Some('r'),
        "FILE",
        "take linux.resources from FILE, or from standard input (-)",
    ),
    value("memory", None, "BYTES", "limit of memory; -1 for none"),
    value("memory-reservation", None, "BYTES", "what it keeps when memory is short"),
    value("memory-swap", None, "BYTES", "limit of memory and swap together; -1 for none"),
    value("kernel-memory", None, "BYTES", "ignored, with a warning"),
    value("kernel-memory-tcp", None, "BYTES", "ignored, with a warning"),
    value(
        "cpu-share",
        None,
        "SHARES",
        "weight among others: 2 to 262144, 1024 where nothing is said",
    ),
    value("cpu-period", None, "MICROSECONDS", "period of the quota"),
    value("cpu-quota", None, "MICROSECONDS", "processor time in each period; -1 for no limit"),
    value("cpu-burst", None, "MICROSECONDS", "quota of earlier periods that may be used later"),
    value("cpu-rt-period", None, "MICROSECONDS", "period of realtime processes (cgroup v1)"),
    value("cpu-rt-runtime", None, "MICROSECONDS", "time of realtime processes (cgroup v1)"),
    value("cpu-idle", None, "0|1", "1: run only when nobody else wants to"),
    value("cpuset-cpus", None, "LIST", "processors: 0-3,7"),
    value("cpuset-mems", None, "LIST", "memory nodes"),
    value("pids-limit", None, "N", "number of processes and threads; -1 for no limit"),
    value("blkio-weight", None, "WEIGHT", "share of block devices: 10 to 1000"),
    value("l3-cache-schema", None, "SCHEMA", "Intel cache allocation: L3:0=f;1=f0"),
    value("mem-bw-schema", None, "SCHEMA", "Intel memory bandwidth allocation: MB:0=20;1=70"),
];
const EVENTS: &[Flag] = &[
    value("interval", None, "DURATION", "time between two statistics: 5s, 100ms (default 5s)"),
    switch("stats", None, "print statistics once"),
];
const PLAN: &[Flag] = &[
    value("bundle", Some('b'), "DIR", "directory of config.json (default: the current one)"),
    value("config", Some('f'), "FILE", "another name for config.json"),
    switch("json", None, "as JSON"),
    switch("no-pivot", None, "move the root instead of pivoting"),
    switch("no-new-keyring", None, "keep the caller's session keyring"),
];
const MOUNTS: &[Flag] =
    &[value("mount", None, "type=bind,src=DIR,dst=DIR", "a mount in words; may be repeated")];
/// Those of runc: accepted, so that who uses them is told what is missing and not what is wrong.
const CHECKPOINT: &[Flag] = &[
    value("image-path", None, "DIR", "where the images would be"),
    value("work-path", None, "DIR", "where CRIU's logs would be"),
    value("parent-path", None, "DIR", "earlier images"),
    switch("leave-running", Some('R'), "go on afterwards"),
    switch("tcp-established", None, "with TCP connections"),
    switch("tcp-skip-in-flight", None, "without half-open TCP connections"),
    switch("link-remap", None, "with unlinked files"),
    switch("ext-unix-sk", None, "with outside Unix sockets"),
    switch("shell-job", None, "with a terminal"),
    switch("lazy-pages", None, "copy memory later"),
    value("status-fd", None, "FD", "told when pages can be served"),
    value("page-server", None, "ADDRESS:PORT", "where memory is sent"),
    switch("file-locks", None, "with file locks"),
    switch("pre-dump", None, "memory only"),
    value("manage-cgroups-mode", None, "MODE", "soft, full, strict or ignore"),
    value("empty-ns", None, "KIND", "a namespace that is not kept"),
    switch("auto-dedup", None, "without double pages"),
    value("lsm-profile", None, "TYPE:NAME", "label of the processes"),
    value("lsm-mount-context", None, "LABEL", "label of the mounts"),
    value("bundle", Some('b'), "DIR", "directory of config.json"),
    value("config", Some('f'), "FILE", "another name for config.json"),
    value("console-socket", None, "SOCKET", "where the terminal's master is sent"),
    value("pid-file", None, "FILE", "where the process ID is written"),
    value("preserve-fds", None, "N", "pass N more descriptors"),
    switch("detach", Some('d'), "do not wait for the process"),
    switch("no-pivot", None, "move the root instead of pivoting"),
    switch("no-subreaper", None, "ignored"),
];
const MONITOR: &[Flag] = &[value("dir", None, "DIR", "directory of monitor.json")];

/// What `checkpoint` and `restore` say.
pub(crate) const NO_CHECKPOINT: &str = "hako-runc cannot checkpoint or restore containers: it does not use CRIU, and has no \
engine of its own for that yet. The flags are runc's, and do nothing.";

/// Every verb.
pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        usage: "ID",
        help: "make a container",
        about: "The process waits, with all of the container around it, for `start`.",
        flags: CREATE,
        stop: Stop::Never,
        run: run::create,
    },
    Verb {
        name: "start",
        usage: "ID",
        help: "run a created container's program",
        about: "With NOTIFY_SOCKET, it returns when the container has said READY=1, and tells the service
manager.",
        flags: &[],
        stop: Stop::Never,
        run: run::start,
    },
    Verb {
        name: "run",
        usage: "ID",
        help: "create, start, wait, delete",
        about: "Standard streams and signals are the process's, and its exit status is this command's. With
--detach it returns when the process runs.",
        flags: RUN,
        stop: Stop::Never,
        run: run::run,
    },
    Verb {
        name: "exec",
        usage: "ID COMMAND [ARG...]",
        help: "run one more process in a container",
        about: "With --process FILE, a process document takes the place of COMMAND and of all flags for single
fields. LISTEN_FDS and its descriptors are passed on, before those of --preserve-fds.",
        flags: EXEC,
        stop: Stop::After(2),
        run: run::exec,
    },
    Verb {
        name: "state",
        usage: "ID",
        help: "print the state",
        about: "",
        flags: &[],
        stop: Stop::Never,
        run: inspect::state,
    },
    Verb {
        name: "list",
        usage: "",
        help: "list containers",
        about: "--format json prints the states of all containers as one list.",
        flags: LIST,
        stop: Stop::Never,
        run: inspect::list,
    },
    Verb {
        name: "ps",
        usage: "ID [PS OPTIONS]",
        help: "list a container's processes",
        about: "PS OPTIONS go to ps(1), and -ef where there are none: its table must have a column PID. --format
json prints process IDs alone, and needs no ps.",
        flags: PS,
        stop: Stop::After(1),
        run: inspect::ps,
    },
    Verb {
        name: "kill",
        usage: "ID [SIGNAL]",
        help: "send a signal",
        about: "SIGNAL is a name, with or without SIG, or a number; TERM where there is none. KILL ends every
process of a container without a PID namespace of its own.",
        flags: KILL,
        stop: Stop::Never,
        run: run::kill,
    },
    Verb {
        name: "pause",
        usage: "ID",
        help: "stop all processes",
        about: "By cgroup.freeze, or on cgroup v1 alone by the freezer.",
        flags: &[],
        stop: Stop::Never,
        run: run::pause,
    },
    Verb {
        name: "resume",
        usage: "ID",
        help: "let all processes go on",
        about: "",
        flags: &[],
        stop: Stop::Never,
        run: run::resume,
    },
    Verb {
        name: "delete",
        usage: "ID",
        help: "remove a container",
        about: "With --force a container that is not there is no error.",
        flags: DELETE,
        stop: Stop::Never,
        run: run::delete,
    },
    Verb {
        name: "update",
        usage: "ID",
        help: "change the limits of a container",
        about: "BYTES may have a unit: 64m, 1.5g. What is not given stays as it is. FILE holds JSON as
linux.resources of config.json; with it, flags for single limits are ignored. Rules for
devices are never changed.",
        flags: UPDATE,
        stop: Stop::Never,
        run: update::update,
    },
    Verb {
        name: "events",
        usage: "ID",
        help: "print statistics again and again, and when memory ran out",
        about: "Each event is one line of JSON: {\"type\":\"stats\"|\"oom\",\"id\":ID,\"data\":...}. It ends with
the container.",
        flags: EVENTS,
        stop: Stop::Never,
        run: events::events,
    },
    Verb {
        name: "spec",
        usage: "",
        help: "write a config.json to begin with",
        about: "",
        flags: SPEC,
        stop: Stop::Never,
        run: inspect::spec,
    },
    Verb {
        name: "features",
        usage: "",
        help: "print what this runtime can do",
        about: "",
        flags: &[],
        stop: Stop::Never,
        run: inspect::features,
    },
    Verb {
        name: "mounts",
        usage: "add|remove ID [FILE|DESTINATION...]",
        help: "mount and unmount in a container that runs",
        about: "FILE (or -) is a list of mounts as in config.json. What is added is attached beneath the
container's root, whatever links there are in it. What config.json or `mounts add` mounted
can be removed, by a DESTINATION without symbolic links.",
        flags: MOUNTS,
        stop: Stop::Never,
        run: mounts::mounts,
    },
    Verb {
        name: "checkpoint",
        usage: "ID",
        help: "not available",
        about: NO_CHECKPOINT,
        flags: CHECKPOINT,
        stop: Stop::Never,
        run: inspect::no_checkpoint,
    },
    Verb {
        name: "restore",
        usage: "ID",
        help: "not available",
        about: NO_CHECKPOINT,
        flags: CHECKPOINT,
        stop: Stop::Never,
        run: inspect::no_checkpoint,
    },
    Verb {
        name: "plan",
        usage: "",
        help: "print what running a bundle would do, and do nothing",
        about: "",
        flags: PLAN,
        stop: Stop::Never,
        run: inspect::plan,
    },
    Verb {
        name: "monitor",
        usage: "",
        help: "stay beside a container (used by hako)",
        about: "",
        flags: MONITOR,
        stop: Stop::Never,
        run: run::monitor,
    },
];

fn line(left: &str, right: &str) -> String {
    format!("   {left:<30} {right}\n")
}

fn flag_lines(flags: &[Flag]) -> String {
    flags
        .iter()
        .map(|f| {
            let short = f.short.map(|c| format!("-{c}, ")).unwrap_or_default();
            let value = f.value.map(|v| format!(" {v}")).unwrap_or_default();
            line(&format!("{short}--{}{value}", f.long), f.help)
        })
        .collect()
}

/// The help of the whole program.
pub(crate) fn help() -> String {
    let verbs: String =
        VERBS.iter().map(|v| line(&format!("{} {}", v.name, v.usage), v.help)).collect();
    // Headings and the first lines are runc's: scripts look for them.
    format!(
        "NAME:\n   hako-runc - Open Container Initiative runtime\n\nUSAGE:\n   hako-runc [global options] \
         command [command options] [arguments...]\n\nCOMMANDS:\n{verbs}\nGLOBAL OPTIONS:\n{}",
        flag_lines(crate::GLOBAL)
    )
}

/// The help of one verb.
pub(crate) fn help_of(verb: &Verb) -> String {
    let options = if verb.flags.is_empty() {
        String::new()
    } else {
        format!("\nOPTIONS:\n{}", flag_lines(verb.flags))
    };
    let about = match verb.about {
        "" => String::new(),
        about => format!("\nDESCRIPTION:\n   {}\n", about.replace('\n', "\n   ")),
    };
    let (name, usage, help) = (verb.name, verb.usage, verb.help);
    format!(
        "NAME:\n   hako-runc {name} - {help}\n\nUSAGE:\n   hako-runc {name} [command options] {usage}\n\
         {about}{options}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_stand_once() {
        for (i, verb) in VERBS.iter().enumerate() {
            assert!(!VERBS[..i].iter().any(|v| v.name == verb.name), "{}", verb.name);
            for (j, flag) in verb.flags.iter().enumerate() {
                let earlier = &verb.flags[..j];
                assert!(
                    !earlier.iter().any(|f| f.long == flag.long),
                    "{} --{}",
                    verb.name,
                    flag.long
                );
                assert!(
                    flag.short.is_none() || !earlier.iter().any(|f| f.short == flag.short),
                    "{}",
                    flag.long
                );
            }
        }
    }
}
