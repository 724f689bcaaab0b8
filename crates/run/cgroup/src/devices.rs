//! Device access: rules of `linux.resources.devices`, made lines of cgroup v1 or a program of v2.
//!
//! Rules apply in order, on top of each other. What is left of them is a default and a list of
//! exceptions ([`Policy`]), which both versions can express, with v1's meaning: access is granted
//! (or refused, where all is allowed by default) by one exception alone.

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
                policy.add(Exception { kind, major, minor, access });
            }
        }
        Ok(policy)
    }

    /// Whether everything is allowed, so that nothing needs to be set up.
    pub fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
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
                *self = Policy { allow: rule.allow, exceptions: Vec::new() };
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
        if rule.allow == self.allow {
            return self.take(exception, path);
        }
        self.add(exception);
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
    fn take(&mut self, gone: Exception, path: &str) -> Result<()> {
        let within = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
        for e in self.exceptions.iter_mut().filter(|e| e.kind == gone.kind) {
            if within(gone.major, e.major) && within(gone.minor, e.minor) {
                e.access &= !gone.access;
            } else if within(e.major, gone.major)
                && within(e.minor, gone.minor)
                && e.access & gone.access != 0
            {
                // Neither version has an exception to an exception.
                return Err(Error::invalid(
                    path.to_owned(),
                    "takes back a part of what an earlier rule with wildcards gave".to_owned(),
                ));
            }
        }
        self.exceptions.retain(|e| e.access != 0);
        Ok(())
    }

    /// The lines of cgroup v1: file and value, in order.
    pub fn v1_lines(&self) -> Vec<(&'static str, String)> {
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
        lines
    }

    /// Whether this access is granted.
    pub fn permits(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let matches = |e: &&Exception| {
            e.kind == kind
                && e.major.is_none_or(|m| m == major)
                && e.minor.is_none_or(|m| m == minor)
        };
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
            _ => {
                let why = format!("{letter:?} is not `r`, `w` or `m`");
                return Err(Error::invalid(format!("{path}.access"), why));
            }
        }
    }
    Ok(access)
}
