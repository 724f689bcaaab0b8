//! `process`: what container's first process and `exec` have in common.

use std::collections::HashSet;
use std::ffi::CString;

use hako_oci::runtime::{Capabilities, Process, Scheduler, Seccomp};
use hako_sys::cred::{CapSet, CapSets, capability};
use hako_sys::process::StringArray;
use hako_sys::rlimit::{Limit, RLIMITS, SchedAttr};

use super::Extensions;
use super::builder::{Builder, c_string, number_list, target};
use super::landlock::landlock;
use crate::op::{ExecOp, Op};
use crate::{Error, RefusedLimits, Result};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of the surroundings changes the steps of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// What config paths start with: `process`.
    pub(crate) field: &'a str,
    pub(crate) refused_limits: RefusedLimits,
    pub(crate) preserve: u32,
    pub(crate) parent_death_signal: Option<i32>,
    /// Whether setgroups(2) is denied in the user namespace.
    pub(crate) no_groups: bool,
    /// The container's user namespace is not the caller's.
    pub(crate) user_namespace: bool,
    /// The caller's supplementary groups stay.
    pub(crate) keep_groups: bool,
    /// Makes the working directory where it is missing, as runc and crun do.
    pub(crate) make_cwd: bool,
}

/// What a process cannot undo: rules of Landlock, a filter of its system calls. In this order,
/// because the filter may not allow making the rules.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    landlock: Option<Op>,
    record: Option<Op>,
    seccomp: Option<Op>,
}

impl Guards {
    /// `version` is that of the kernel's Landlock, which is asked where it is absent.
    pub(crate) fn new(
        b: &mut Builder,
        profile: Option<&Seccomp>,
        extensions: &Extensions,
        version: Option<u32>,
    ) -> Result<Guards> {
        let landlock = match (&extensions.landlock, version) {
            (None, _) => None,
            (Some(text), Some(version)) => landlock(b, text, version)?,
            (Some(text), None) => {
                let version = hako_sys::landlock::version()
                    .map_err(|e| Error::call("landlock_create_ruleset", "version", e))?;
                landlock(b, text, version)?
            }
        };
        let seccomp = match (&extensions.filter, profile) {
            (Some(insns), _) => Some(Op::Seccomp { insns: insns.clone(), flags: 0 }),
            (None, Some(profile)) => Some(seccomp_op(b, profile, extensions)?),
            (None, None) => None,
        };
        Ok(Guards { landlock, record: None, seccomp })
    }

    /// The same, and every system call is recorded.
    pub(crate) fn recorded(mut self) -> Result<Guards> {
        const NEW_LISTENER: u32 = hako_sys::seccomp::FLAG_NEW_LISTENER;
        if let Some(Op::Seccomp { flags, .. }) = &self.seccomp
            && flags & NEW_LISTENER != 0
        {
            let why = "a process has one listener, and recording needs it";
            return Err(Error::config("linux.seccomp.listenerPath", why));
        }
        self.record = Some(Op::RecordSeccomp(crate::record::filter()?));
        Ok(self)
    }

    /// Whether somebody gets a listener of the filter.
    pub(crate) fn notifies(&self) -> bool {
        const NEW_LISTENER: u32 = hako_sys::seccomp::FLAG_NEW_LISTENER;
        matches!(&self.seccomp, Some(Op::Seccomp { flags, .. }) if flags & NEW_LISTENER != 0)
    }

    pub(crate) fn push(self, b: &mut Builder) {
        if let Some(op) = self.landlock {
            b.push(format!("annotations[{:?}]", super::landlock::ANNOTATION), op);
        }
        // First: the other may not allow a second one, and its own loading is known.
        if let Some(op) = self.record {
            b.push("linux.seccomp", op);
        }
        if let Some(op) = self.seccomp {
            b.push("linux.seccomp", op);
        }
    }
}

fn seccomp_op(b: &mut Builder, profile: &Seccomp, extensions: &Extensions) -> Result<Op> {
    let has = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if has(&profile.listener_metadata) && !has(&profile.listener_path) {
        return Err(Error::config(
            "linux.seccomp.listenerMetadata",
            "must not be set without listenerPath",
        ));
    }
    let program = hako_seccomp::compile(profile)?;
    if !program.unknown.is_empty() {
        let unknown = program.unknown.join(", ");
        if extensions.fail_unknown_syscall {
            return Err(Error::config(
                "linux.seccomp.syscalls",
                format!("unknown system calls {unknown}"),
            ));
        }
        b.warnings.push(format!("linux.seccomp: ignoring unknown system calls {unknown}"));
    }
    Ok(Op::Seccomp { insns: program.filter, flags: program.flags })
}

/// Everything after the namespaces and mounts: limits, descriptors, user, capabilities. What comes
/// between (`ready`) is the caller's: waiting for start, the guards that come late, hooks.
pub(crate) fn steps(
    b: &mut Builder,
    process: &Process,
    around: &Surroundings<'_>,
    guards: Guards,
    ready: impl FnOnce(&mut Builder, Guards) -> Result<()>,
) -> Result<()> {
    let f = around.field;
    check(process, f)?;
    for i in 0..process.rlimits.len() {
        b.push(format!("{f}.rlimits[{i}]"), rlimit(f, process, i, around)?);
    }
    if let Some(scheduler) = &process.scheduler {
        b.push(format!("{f}.scheduler"), Op::Scheduler(sched_attr(f, scheduler)?));
    }
    if let Some(io) = &process.io_priority {
        let class = match io.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => {
                return Err(Error::config(
                    format!("{f}.ioPriority.class"),
                    format!("unknown class {other:?}"),
                ));
            }
        };
        let priority = u8::try_from(io.priority)
            .ok()
            .filter(|p| *p <= 7)
            .ok_or_else(|| Error::config(format!("{f}.ioPriority.priority"), "is not 0 to 7"))?;
        b.push(format!("{f}.ioPriority"), Op::IoPriority { class, priority });
    }
    let no_new_privs = process.no_new_privileges;
    // Descriptors of the host are gone before a path of the container is walked (CVE-2024-21626).
    b.push(f, Op::Descriptors { preserve: around.preserve });
    if process.user.uid != 0 || around.user_namespace {
        b.push(format!("{f}.user"), Op::OwnStdio { uid: process.user.uid });
    }
    let cwd = c_string(&format!("{f}.cwd"), &process.cwd)?;
    let cwd_field = format!("{f}.cwd");
    let missing = around.make_cwd.then(|| target(&cwd_field, &process.cwd)).transpose()?;
    b.push(cwd_field.clone(), Op::Chdir { target: missing, path: cwd.clone(), late: false });
    // Without no_new_privs, only a privileged process may load a filter.
    let (early, late) =
        if no_new_privs { (Guards::default(), guards) } else { (guards, Guards::default()) };
    if no_new_privs {
        b.push(format!("{f}.noNewPrivileges"), Op::NoNewPrivs);
    }
    early.push(b);
    let none = Capabilities::default();
    let (sets, ambient, bounding) =
        capabilities(b, f, process.capabilities.as_ref().unwrap_or(&none));
    b.push(format!("{f}.capabilities.bounding"), Op::Bounding(bounding));
    b.push(
        format!("{f}.user"),
        Op::User {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: (!around.no_groups && !around.keep_groups)
                .then(|| process.user.additional_gids.clone()),
        },
    );
    if around.no_groups && !around.keep_groups && !process.user.additional_gids.is_empty() {
        return Err(Error::config(
            format!("{f}.user.additionalGids"),
            "groups cannot be set: the user namespace was made without privileges (setgroups is denied)",
        ));
    }
    b.push(format!("{f}.capabilities"), Op::Capabilities { sets, ambient });
    b.push(format!("{f}.user.umask"), Op::Umask(umask(f, process)?));
    // As the user the directory may be visible where it was not before, and must be in any case.
    b.push(cwd_field, Op::Chdir { target: None, path: cwd, late: true });
    if let Some(signal) = around.parent_death_signal {
        // After the credentials: changing those clears it.
        b.push("", Op::ParentDeathSignal(signal));
    }
    b.push(format!("{f}.args"), Op::Find);
    ready(b, late)?;
    b.push(format!("{f}.args"), Op::Exec);
    Ok(())
}

fn check(process: &Process, f: &str) -> Result<()> {
    if !process.cwd.starts_with('/') {
        return Err(Error::config(
            format!("{f}.cwd"),
            format!("{:?} is not an absolute path", process.cwd),
        ));
    }
    if process.args.is_empty() {
        return Err(Error::config(format!("{f}.args"), "must not be empty"));
    }
    // setresuid(-1) would leave the ID as it is.
    for (name, id) in [("uid", process.user.uid), ("gid", process.user.gid)] {
        if id == u32::MAX {
            return Err(Error::config(format!("{f}.user.{name}"), "4294967295 is no ID"));
        }
    }
    if let Some(i) = process.user.additional_gids.iter().position(|g| *g == u32::MAX) {
        return Err(Error::config(format!("{f}.user.additionalGids[{i}]"), "4294967295 is no ID"));
    }
    if let Some(adj) = process.oom_score_adj
        && !(-1000..=1000).contains(&adj)
    {
        return Err(Error::config(
            format!("{f}.oomScoreAdj"),
            format!("{adj} is not between -1000 and 1000"),
        ));
    }
    Ok(())
}

fn umask(f: &str, process: &Process) -> Result<u32> {
    match process.user.umask {
        None => Ok(0o022),
        Some(mask) if mask <= 0o777 => Ok(mask),
        Some(mask) => {
            Err(Error::config(format!("{f}.user.umask"), format!("{mask:o} is more than 777")))
        }
    }
}

fn rlimit(f: &str, process: &Process, i: usize, around: &Surroundings<'_>) -> Result<Op> {
    let limit = &process.rlimits[i];
    let field = || format!("{f}.rlimits[{i}]");
    let resource = RLIMITS.iter().position(|n| *n == limit.kind).ok_or_else(|| {
        Error::config(format!("{}.type", field()), format!("unknown limit {:?}", limit.kind))
    })?;
    if process.rlimits[..i].iter().any(|earlier| earlier.kind == limit.kind) {
        return Err(Error::config(
            format!("{}.type", field()),
            format!("{} is there twice", limit.kind),
        ));
    }
    if limit.soft > limit.hard {
        return Err(Error::config(
            field(),
            format!("soft limit {} is above hard limit {}", limit.soft, limit.hard),
        ));
    }
    Ok(Op::Rlimit {
        resource: resource as u32,
        limit: Limit { soft: limit.soft, hard: limit.hard },
        clamp: around.refused_limits == RefusedLimits::Clamp,
    })
}

/// Policies and flags of sched_setattr(2).
const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const SCHED_FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Policies, as `features` could print them.
fn sched_attr(f: &str, s: &Scheduler) -> Result<SchedAttr> {
    let field = |name: &str| format!("{f}.scheduler.{name}");
    let policy = find(POLICIES, &s.policy)
        .ok_or_else(|| Error::config(field("policy"), format!("unknown policy {:?}", s.policy)))?;
    let mut flags = 0;
    for flag in &s.flags {
        flags |= find(SCHED_FLAGS, flag)
            .ok_or_else(|| Error::config(field("flags"), format!("unknown flag {flag:?}")))?;
    }
    let nice = s.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::config(field("nice"), format!("{nice} is not between -20 and 19")));
    }
    let realtime = matches!(s.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    let priority = s.priority.unwrap_or(0);
    if priority != 0 && !realtime {
        return Err(Error::config(field("priority"), "only SCHED_FIFO and SCHED_RR have one"));
    }
    let deadline = s.runtime.is_some() || s.deadline.is_some() || s.period.is_some();
    if deadline && s.policy != "SCHED_DEADLINE" {
        return Err(Error::config(
            field("policy"),
            "runtime, deadline and period are of SCHED_DEADLINE",
        ));
    }
    Ok(SchedAttr {
        size: 0,
        policy,
        flags,
        nice,
        priority: u32::try_from(priority)
            .map_err(|_| Error::config(field("priority"), "is negative"))?,
        runtime: s.runtime.unwrap_or(0),
        deadline: s.deadline.unwrap_or(0),
        period: s.period.unwrap_or(0),
    })
}

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(w, _)| *w == word).map(|(_, v)| *v)
}

/// The sets for capset(2), the ambient set, the bounding set; all empty where the process says
/// nothing (as runc and crun). Unknown names are warned about, as the specification demands.
fn capabilities(b: &mut Builder, f: &str, caps: &Capabilities) -> (CapSets, CapSet, CapSet) {
    let mut unknown = Vec::new();
    let mut set = |names: &[String]| {
        names.iter().fold(CapSet::default(), |set, name| match capability(name) {
            Some(c) => CapSet(set.0 | 1 << c),
            None => {
                if !unknown.contains(name) {
                    unknown.push(name.clone());
                }
                set
            }
        })
    };
    let sets = CapSets {
        effective: set(&caps.effective),
        permitted: set(&caps.permitted),
        inheritable: set(&caps.inheritable),
    };
    let (ambient, bounding) = (set(&caps.ambient), set(&caps.bounding));
    if !unknown.is_empty() {
        b.warnings.push(format!(
            "{f}.capabilities: ignoring unknown or unavailable {}",
            unknown.join(", ")
        ));
    }
    // Only what is permitted and inheritable can be ambient; runc and crun drop the rest silently,
    // and Docker's configurations count on it.
    let ambient = ambient.intersect(sets.permitted).intersect(sets.inheritable);
    (sets, ambient, bounding)
}

/// Prepares the program: environment, candidates in `PATH`.
pub(crate) fn exec_op(f: &str, process: &Process, extra_env: &[String]) -> Result<ExecOp> {
    let (environment, home, path) = environment(f, process, extra_env)?;
    let args: Vec<CString> = process
        .args
        .iter()
        .enumerate()
        .map(|(i, a)| c_string(&format!("{f}.args[{i}]"), a))
        .collect::<Result<_>>()?;
    let program = process.args.first().map_or("", String::as_str);
    let field = format!("{f}.args[0]");
    let candidates = if program.contains('/') {
        vec![c_string(&field, program)?]
    } else if program.is_empty() {
        Vec::new()
    } else {
        let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
        path.split(':')
            .map(|dir| {
                c_string(&field, &format!("{}/{program}", if dir.is_empty() { "." } else { dir }))
            })
            .collect::<Result<_>>()?
    };
    Ok(ExecOp {
        candidates,
        arguments: StringArray::new(args),
        environment: StringArray::new(environment),
        home_of: (!home).then_some(process.user.uid),
    })
}

/// The environment (of doubled names the last counts), whether it has a home, and its `PATH`.
fn environment(
    f: &str,
    process: &Process,
    extra: &[String],
) -> Result<(Vec<CString>, bool, Option<String>)> {
    let (mut home, mut path) = (false, None);
    let mut seen = HashSet::new();
    let mut reversed = Vec::new();
    let all = process.env.iter().chain(extra);
    for (i, entry) in all.enumerate().collect::<Vec<_>>().into_iter().rev() {
        let field = || format!("{f}.env[{i}]");
        let Some((name, value)) = entry.split_once('=') else {
            return Err(Error::config(field(), format!("{entry:?} has no '='")));
        };
        if name.is_empty() {
            return Err(Error::config(field(), format!("{entry:?} has no name")));
        }
        if !seen.insert(name) {
            continue;
        }
        match name {
            "HOME" if value.is_empty() => continue,
            "HOME" => home = true,
            "PATH" => path = Some(value.to_owned()),
            _ => {}
        }
        reversed.push(c_string(&field(), entry)?);
    }
    reversed.reverse();
    Ok((reversed, home, path))
}

/// Bits of `execCPUAffinity`.
pub(crate) fn affinity(field: &str, list: Option<&String>) -> Result<Option<Vec<u64>>> {
    match list {
        Some(list) if !list.is_empty() => Ok(Some(number_list(field, list, 8192)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use hako_oci::runtime::Rlimit;

    use super::*;

    fn process(env: &[&str], args: &[&str]) -> Process {
        let strings = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect();
        Process { cwd: "/".into(), env: strings(env), args: strings(args), ..Process::default() }
    }

    fn env_of(env: &[&str]) -> (Vec<String>, bool) {
        let (env, home, _) = environment("process", &process(env, &[]), &[]).unwrap();
        (env.into_iter().map(|e| e.into_string().unwrap()).collect(), home)
    }

    #[test]
    fn the_last_of_doubled_names_counts() {
        assert_eq!(env_of(&["A=1", "B=2", "A=3"]), (vec!["B=2".into(), "A=3".into()], false));
        assert_eq!(env_of(&["HOME="]), (vec![], false));
        assert_eq!(env_of(&["HOME=/r", "E="]), (vec!["HOME=/r".into(), "E=".into()], true));
        for bad in ["A", "=x", "A=\0"] {
            assert!(environment("process", &process(&[bad], &[]), &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn programs_are_looked_for_in_path() {
        let candidates = |env: &[&str], program: &str| -> Vec<String> {
            let op = exec_op("process", &process(env, &[program]), &[]).unwrap();
            op.candidates.iter().map(|c| c.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(candidates(&["PATH=/a::/b"], "x"), ["/a/x", "./x", "/b/x"]);
        assert_eq!(candidates(&["PATH=/a"], "./x"), ["./x"]);
        assert_eq!(candidates(&[], "x").len(), 6);
        assert!(candidates(&["PATH=/a"], "").is_empty());
    }

    #[test]
    fn bad_processes_name_the_field() {
        let around = Surroundings {
            field: "process",
            refused_limits: RefusedLimits::Fail,
            preserve: 0,
            parent_death_signal: None,
            no_groups: false,
            make_cwd: true,
            keep_groups: false,
            user_namespace: false,
        };
        let good = process(&[], &["sh"]);
        let limit = |kind: &str, soft, hard| Rlimit { kind: kind.into(), soft, hard };
        let cases: [(&str, Process); 9] = [
            ("process.cwd", Process { cwd: "x".into(), ..good.clone() }),
            ("process.args", Process { args: vec![], ..good.clone() }),
            ("process.user.uid", {
                let mut p = good.clone();
                p.user.uid = u32::MAX;
                p
            }),
            ("process.user.additionalGids[0]", {
                let mut p = good.clone();
                p.user.additional_gids = vec![u32::MAX];
                p
            }),
            ("process.user.umask", {
                let mut p = good.clone();
                p.user.umask = Some(0o1000);
                p
            }),
            ("process.oomScoreAdj", Process { oom_score_adj: Some(1001), ..good.clone() }),
            (
                "process.rlimits[0].type",
                Process { rlimits: vec![limit("NOFILE", 1, 1)], ..good.clone() },
            ),
            (
                "process.rlimits[0]",
                Process { rlimits: vec![limit("RLIMIT_NOFILE", 2, 1)], ..good.clone() },
            ),
            (
                "process.rlimits[1].type",
                Process { rlimits: vec![limit("RLIMIT_CPU", 1, 1); 2], ..good.clone() },
            ),
        ];
        for (want, process) in cases {
            match steps(
                &mut Builder::default(),
                &process,
                &around,
                Guards::default(),
                |_, _| Ok(()),
            ) {
                Err(Error::Config { field, .. }) => assert_eq!(field, want),
                other => panic!("{want}: {other:?}"),
            }
        }
        assert!(
            steps(&mut Builder::default(), &good, &around, Guards::default(), |_, _| Ok(()))
                .is_ok()
        );
    }

    #[test]
    fn unknown_capabilities_are_warned_about_and_ambient_is_within_inheritable() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let caps = Capabilities {
            permitted: names(&["CAP_KILL", "CAP_FOO"]),
            ambient: names(&["CAP_KILL"]),
            ..Capabilities::default()
        };
        let mut b = Builder::default();
        let (sets, ambient, bounding) = capabilities(&mut b, "process", &caps);
        assert_eq!(
            (sets.permitted, sets.inheritable.0, ambient.0, bounding.0),
            (CapSet(1 << 5), 0, 0, 0)
        );
        assert!(b.warnings[0].contains("CAP_FOO"));
    }
}
