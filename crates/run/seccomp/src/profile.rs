//! A profile with its words turned into values: actions, operators, calls, architectures.

use hako_oci::runtime;
use hako_sys::seccomp as sys;

use crate::{
    Error,
    arch::{Arch, Call},
};

/// `SECCOMP_RET_DATA` of EPERM: the error number where a profile gives none.
const EPERM: u32 = 1;
pub(crate) const ENOSYS: u32 = 38;
/// The kernel answers no greater error number.
const ERRNO_MAX: u32 = 4095;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

const OPS: [(&str, Op); 7] = [
    ("SCMP_CMP_NE", Op::Ne),
    ("SCMP_CMP_LT", Op::Lt),
    ("SCMP_CMP_LE", Op::Le),
    ("SCMP_CMP_EQ", Op::Eq),
    ("SCMP_CMP_GE", Op::Ge),
    ("SCMP_CMP_GT", Op::Gt),
    ("SCMP_CMP_MASKED_EQ", Op::MaskedEq),
];

/// What the word means, and whether `errnoRet` is part of it.
const ACTIONS: [(&str, u32, bool); 9] = [
    ("SCMP_ACT_KILL", sys::action::KILL_THREAD, false),
    ("SCMP_ACT_KILL_PROCESS", sys::action::KILL_PROCESS, false),
    ("SCMP_ACT_KILL_THREAD", sys::action::KILL_THREAD, false),
    ("SCMP_ACT_TRAP", sys::action::TRAP, false),
    ("SCMP_ACT_ERRNO", sys::action::ERRNO, true),
    ("SCMP_ACT_TRACE", sys::action::TRACE, true),
    ("SCMP_ACT_ALLOW", sys::action::ALLOW, false),
    ("SCMP_ACT_LOG", sys::action::LOG, false),
    ("SCMP_ACT_NOTIFY", sys::action::USER_NOTIF, false),
];

const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", sys::FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", sys::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", sys::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", sys::FLAG_WAIT_KILLABLE_RECV),
];

/// The words of the specification that [`crate::compile`] takes: for `features`.
pub mod words {
    /// Actions.
    pub fn actions() -> impl Iterator<Item = &'static str> {
        super::ACTIONS.iter().map(|a| a.0)
    }

    /// Operators.
    pub fn operators() -> impl Iterator<Item = &'static str> {
        super::OPS.iter().map(|o| o.0)
    }

    /// Architectures.
    pub fn architectures() -> impl Iterator<Item = String> {
        super::Arch::all().map(super::Arch::name)
    }

    /// Flags that it understands.
    pub fn flags() -> impl Iterator<Item = &'static str> {
        super::FLAGS.iter().map(|f| f.0)
    }

    /// Flags that the running kernel takes as well.
    pub fn supported_flags() -> impl Iterator<Item = &'static str> {
        super::FLAGS
            .iter()
            .filter(|&&(_, bit)| {
                // The kernel takes WAIT_KILLABLE_RECV only beside NEW_LISTENER.
                let with = match bit {
                    super::sys::FLAG_WAIT_KILLABLE_RECV => super::sys::FLAG_NEW_LISTENER,
                    _ => 0,
                };
                super::sys::flags_available(bit | with)
            })
            .map(|f| f.0)
    }
}

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    pub(crate) argument: u32,
    pub(crate) op: Op,
    /// The value, or the mask of MASKED_EQ.
    pub(crate) value: u64,
    /// What the masked argument must be.
    pub(crate) masked: u64,
}

/// What happens to one call when all conditions hold.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) call: Call,
    /// Value that the filter returns.
    pub(crate) action: u32,
    /// Range of [`Profile::conditions`].
    pub(crate) conditions: std::ops::Range<usize>,
}

/// A profile whose every word was understood.
#[derive(Debug)]
pub(crate) struct Profile<'a> {
    /// Value that the filter returns when no rule matches.
    pub(crate) default: u32,
    /// The native architecture first, each once.
    pub(crate) arches: Vec<Arch>,
    /// In the profile's order, without those that only say the default again.
    pub(crate) rules: Vec<Rule>,
    pub(crate) conditions: Vec<Condition>,
    /// Every call that the profile names, also where it says the default again.
    pub(crate) named: Vec<Call>,
    /// Names of no call, in the profile's order.
    pub(crate) unknown: Vec<&'a str>,
    pub(crate) flags: u32,
    pub(crate) notifies: bool,
}

impl<'a> Profile<'a> {
    pub(crate) fn new(native: Arch, source: &'a runtime::Seccomp) -> Result<Profile<'a>, Error> {
        let default = action(&source.default_action, source.default_errno_ret)
            .map_err(|e| e.at("linux.seccomp.defaultAction"))?;
        if default == sys::action::USER_NOTIF {
            return Err(Error::DefaultNotify);
        }
        let mut arches = vec![native];
        for (i, name) in source.architectures.iter().enumerate() {
            let arch = Arch::parse(name).ok_or_else(|| {
                Error::word("architecture", name, format!("linux.seccomp.architectures[{i}]"))
            })?;
            if !arches.contains(&arch) {
                arches.push(arch);
            }
        }
        let mut flags = 0;
        for (i, name) in source.flags.iter().enumerate() {
            let (_, bit) = FLAGS
                .iter()
                .find(|f| f.0 == name)
                .ok_or_else(|| Error::word("flag", name, format!("linux.seccomp.flags[{i}]")))?;
            flags |= bit;
        }
        // As runc: the mitigation of speculative store bypass is not what a profile asks for.
        if source.flags.is_empty() {
            flags = sys::FLAG_SPEC_ALLOW;
        }

        let mut profile = Profile {
            default,
            arches,
            rules: Vec::new(),
            conditions: Vec::new(),
            named: Vec::new(),
            unknown: Vec::new(),
            flags,
            notifies: false,
        };
        for (i, rule) in source.syscalls.iter().enumerate() {
            profile.add(i, rule)?;
        }
        if profile.notifies {
            if source.listener_path.as_deref().unwrap_or("").is_empty() {
                return Err(Error::NoListener);
            }
            // A filter with a listener is of one thread only (the kernel's TSYNC reports its
            // failures where the descriptor would be); the container's init has one.
            profile.flags = profile.flags & !sys::FLAG_TSYNC | sys::FLAG_NEW_LISTENER;
        } else {
            profile.flags &= !sys::FLAG_WAIT_KILLABLE_RECV;
        }
        Ok(profile)
    }

    fn add(&mut self, i: usize, rule: &'a runtime::SeccompRule) -> Result<(), Error> {
        let at = |field: &str| format!("linux.seccomp.syscalls[{i}].{field}");
        let action = action(&rule.action, rule.errno_ret).map_err(|e| e.at(&at("action")))?;
        if rule.names.is_empty() {
            return Err(Error::Empty(at("names")));
        }
        let mut conditions = Vec::with_capacity(rule.args.len());
        let mut seen = 0u8;
        let mut twice = false;
        for (j, arg) in rule.args.iter().enumerate() {
            if arg.index > 5 {
                return Err(Error::Argument(arg.index, at(&format!("args[{j}].index"))));
            }
            let (_, op) = *OPS
                .iter()
                .find(|o| o.0 == arg.op)
                .ok_or_else(|| Error::word("operator", &arg.op, at(&format!("args[{j}].op"))))?;
            twice |= seen >> arg.index & 1 == 1;
            seen |= 1 << arg.index;
            conditions.push(Condition {
                argument: arg.index,
                op,
                value: arg.value,
                masked: arg.value_two,
            });
        }
        let first = self.conditions.len();
        self.conditions.extend(conditions);
        let all = first..self.conditions.len();
        for (j, name) in rule.names.iter().enumerate() {
            if name.is_empty() {
                return Err(Error::Empty(at(&format!("names[{j}]"))));
            }
            let found = match self.named.last() {
                Some(&previous) => Call::find_after(name, previous),
                None => Call::find(name),
            };
            let Some(call) = found else {
                if !self.unknown.contains(&name.as_str()) {
                    self.unknown.push(name);
                }
                continue;
            };
            self.named.push(call);
            // As runc: a rule that says what happens anyway is no rule, and so outranks none.
            if action == self.default {
                continue;
            }
            if action == sys::action::USER_NOTIF && name == "write" {
                return Err(Error::WriteNotify(at(&format!("names[{j}]"))));
            }
            self.notifies |= action == sys::action::USER_NOTIF;
            if twice {
                // As runc and crun: several conditions on one argument are rules of their own.
                for k in all.clone() {
                    self.rules.push(Rule { call, action, conditions: k..k + 1 });
                }
            } else {
                self.rules.push(Rule { call, action, conditions: all.clone() });
            }
        }
        Ok(())
    }

    /// What happens to calls that are newer than the newest that the profile names.
    ///
    /// Programs try new calls and fall back when they hear ENOSYS; EPERM they believe. As runc,
    /// profiles that forbid by default answer ENOSYS to what their author could not have known.
    pub(crate) fn newer(&self) -> u32 {
        match self.default & 0xffff_0000 {
            sys::action::ALLOW | sys::action::LOG | sys::action::TRACE => self.default,
            _ => sys::action::ERRNO | ENOSYS,
        }
    }
}

enum ActionError {
    Word(String),
    Errno(u32, u32),
}

impl ActionError {
    fn at(self, path: &str) -> Error {
        match self {
            ActionError::Word(word) => Error::word("action", &word, path.to_owned()),
            ActionError::Errno(errno, max) => Error::Errno { errno, max, path: path.to_owned() },
        }
    }
}

fn action(word: &str, errno: Option<u32>) -> Result<u32, ActionError> {
    let (_, action, takes_errno) =
        *ACTIONS.iter().find(|a| a.0 == word).ok_or_else(|| ActionError::Word(word.to_owned()))?;
    if !takes_errno {
        return Ok(action);
    }
    let data = errno.unwrap_or(EPERM);
    let max = if action == sys::action::ERRNO { ERRNO_MAX } else { 0xffff };
    if data > max { Err(ActionError::Errno(data, max)) } else { Ok(action | data) }
}
