//! Device access: rules of `linux.resources.devices`, made lines of cgroup v1 or a program of v2.
//!
//! Rules apply in order, on top of each other. What is left of them is mostly a default and a list
//! of exceptions, which both versions can express, with v1's meaning: access is granted (or refused,
//! where all is allowed by default) by one exception alone. A rule that takes back a part of what a
//! wider one gave needs the order itself; only v2 can have that.

use hako_oci::runtime::DeviceCgroup;

use crate::{Error, Result};

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Block.
    Block,
    /// Character.
    Char,
}

/// Some of read, write, mknod: bits of [`READ`], [`WRITE`], [`MKNOD`], as eBPF has them.
pub type Access = u8;
/// Creating device nodes.
pub const MKNOD: Access = 1;
/// Reading.
pub const READ: Access = 2;
/// Writing.
pub const WRITE: Access = 4;
const ALL: Access = MKNOD | READ | WRITE;

/// What differs from the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Kind of the devices.
    pub kind: Kind,
    /// Their major number; any where absent.
    pub major: Option<u32>,
    /// Their minor number; any where absent.
    pub minor: Option<u32>,
    /// Which access.
    pub access: Access,
}

/// What a list of rules comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether devices without an exception may be used.
    pub allow: bool,
    /// Exceptions: allowed ones where `allow` is false, refused ones where it is true.
    pub exceptions: Vec<Exception>,
    /// All rules in order, each with whether it allows, the default before them.
    pub(crate) ordered: Vec<(bool, Exception)>,
    /// The first rule that the exceptions cannot express.
    order_rule: Option<String>,
}

/// Devices that every container may use, as of runc and crun: any node may be made; null, zero,
/// full, random, urandom, tty, console, pseudo-terminals and tun may be opened.
const DEFAULT: [(Kind, Option<u32>, Option<u32>, Access); 12] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL),
    (Kind::Char, Some(1), Some(5), ALL),
    (Kind::Char, Some(1), Some(7), ALL),
    (Kind::Char, Some(1), Some(8), ALL),
    (Kind::Char, Some(1), Some(9), ALL),
    (Kind::Char, Some(5), Some(0), ALL),
    (Kind::Char, Some(5), Some(1), ALL),
    (Kind::Char, Some(5), Some(2), ALL),
    (Kind::Char, Some(136), None, ALL),
    (Kind::Char, Some(10), Some(200), ALL),
];

impl Policy {
    /// Applies rules in order, on a start where nothing is allowed, and then allows the devices
    /// that every container has.
    pub fn new(rules: &[DeviceCgroup]) -> Result<Policy> {
        let mut policy = Policy::default();
        for (i, rule) in rules.iter().enumerate() {
            policy.apply(rule, &format!("linux.resources.devices[{i}]"))?;
        }
        if !policy.allow {
            for (kind, major, minor, access) in DEFAULT {
                let exception = Exception { kind, major, minor, access };
                policy.ordered.push((true, exception));
                policy.add(exception);
            }
        }
        Ok(policy)
    }

    /// Everything is allowed.
    pub fn all() -> Policy {
        Policy { allow: true, ..Policy::default() }
    }

    /// Whether everything is allowed, so that nothing needs to be set up.
    pub fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    /// Whether only the rules in their order can express it.
    pub(crate) fn needs_order(&self) -> bool {
        self.order_rule.is_some()
    }

    fn apply(&mut self, rule: &DeviceCgroup, path: &str) -> Result<()> {
        let access = match access(rule.access.as_deref(), path)? {
            // Nothing named: nothing is given, and all is taken.
            0 if !rule.allow => ALL,
            access => access,
        };
        let number = |n: Option<i64>, field: &str| match n {
            None | Some(-1) => Ok(None),
            Some(n) => u32::try_from(n).map(Some).map_err(|_| {
                Error::invalid(format!("{path}.{field}"), format!("{n} is no device number"))
            }),
        };
        let (major, minor) = (number(rule.major, "major")?, number(rule.minor, "minor")?);
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => {
                if major.is_some() || minor.is_some() {
                    let why = "a rule for all devices takes no numbers".to_owned();
                    return Err(Error::invalid(path.to_owned(), why));
                }
                // As runc: whatever access it names, it is a new start.
                *self = Policy { allow: rule.allow, ..Policy::default() };
                return Ok(());
            }
            Some("c" | "u") => Kind::Char,
            Some("b") => Kind::Block,
            Some(other) => {
                return Err(Error::invalid(
                    format!("{path}.type"),
                    format!("{other:?} is not `a`, `b` or `c`"),
                ));
            }
        };
        let exception = Exception { kind, major, minor, access };
        self.ordered.push((rule.allow, exception));
        if rule.allow == self.allow {
            self.take(exception, path);
        } else {
            self.add(exception);
        }
        Ok(())
    }

    fn add(&mut self, new: Exception) {
        if new.access == 0 {
            return;
        }
        let same =
            |e: &&mut Exception| (e.kind, e.major, e.minor) == (new.kind, new.major, new.minor);
        match self.exceptions.iter_mut().find(same) {
            Some(e) => e.access |= new.access,
            None => self.exceptions.push(new),
        }
    }

    /// Takes access away from all exceptions that `gone` covers.
    fn take(&mut self, gone: Exception, path: &str) {
        let within = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        for e in self.exceptions.iter_mut().filter(|e| e.kind == gone.kind) {
            if within(gone.major, e.major) && within(gone.minor, e.minor) {
                e.access &= !gone.access;
            } else if meet(e.major, gone.major)
                && meet(e.minor, gone.minor)
                && e.access & gone.access != 0
            {
                // There is no exception to an exception.
                self.order_rule.get_or_insert_with(|| path.to_owned());
            }
        }
        self.exceptions.retain(|e| e.access != 0);
    }

    /// The lines of cgroup v1: file and value, in order.
    pub fn v1_lines(&self) -> Result<Vec<(&'static str, String)>> {
        if let Some(path) = &self.order_rule {
            let why = "takes back a part of what a wider rule gave, which only cgroup v2 can";
            return Err(Error::invalid(path.clone(), why.to_owned()));
        }
        let (all, each) = if self.allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut lines = Vec::with_capacity(self.exceptions.len() + 1);
        lines.push((all, "a".to_owned()));
        for e in &self.exceptions {
            let kind = match e.kind {
                Kind::Block => 'b',
                Kind::Char => 'c',
            };
            let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
            let mut line = format!("{kind} {}:{} ", number(e.major), number(e.minor));
            for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
                if e.access & bit != 0 {
                    line.push(letter);
                }
            }
            lines.push((each, line));
        }
        Ok(lines)
    }

    /// Whether this access is granted.
    pub fn permits(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let matches = |e: &&Exception| {
            e.kind == kind
                && e.major.is_none_or(|m| m == major)
                && e.minor.is_none_or(|m| m == minor)
        };
        if self.needs_order() {
            // The last rule about each access counts.
            return [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
                let about = |(_, e): &&(bool, Exception)| matches(&e) && e.access & bit != 0;
                self.ordered.iter().rev().find(about).map_or(self.allow, |r| r.0)
            });
        }
        let mut exceptions = self.exceptions.iter().filter(matches);
        if self.allow {
            !exceptions.any(|e| e.access & access != 0)
        } else {
            exceptions.any(|e| access & !e.access == 0)
        }
    }
}

fn access(text: Option<&str>, path: &str) -> Result<Access> {
    let mut access = 0;
    for letter in text.unwrap_or("").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // A type, and no access; runc takes it, and it means nothing.
            'a' => 0,
            _ => {
                let why = format!("{letter:?} is not `r`, `w` or `m`");
                return Err(Error::invalid(format!("{path}.access"), why));
            }
        }
    }
    Ok(access)
}
