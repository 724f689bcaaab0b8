//! Which system calls a run needs: a second filter asks about each, and a process beside the
//! container answers yes, and writes them down. The container's own profile is in force as ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use hako_seccomp::{Arch, Call};
use hako_sys::Errno;
use hako_sys::notify;
use hako_sys::poll::{PollFd, poll};
use hako_sys::process::{Child, CloneHow, Cloned, ExitStatus, clone3};
use hako_sys::seccomp::{Insn, action};
use serde_json::{Value, json};

use crate::{Error, Result};

/// The descriptor over which the new process hands out its listener: the one call that nobody can
/// be asked about yet. A program's own call on this number would be missed, and no program gets so
/// far up with nothing but `sendmsg`.
pub(crate) const SYNC: i32 = 233;

/// The filter that asks about every call.
pub(crate) fn filter() -> Result<Vec<Insn>> {
    let unknown =
        || Error::Unsupported("seccomp does not know this machine's architecture".to_owned());
    let arch = Arch::native().ok_or_else(unknown)?;
    let sendmsg = Call::find("sendmsg").and_then(|c| c.number(arch)).ok_or_else(unknown)?;
    let low_half = if cfg!(target_endian = "big") { 20 } else { 16 };
    let load = |k| Insn { code: 0x20, jump_true: 0, jump_false: 0, k };
    let unless = |k, jump_false| Insn { code: 0x15, jump_true: 0, jump_false, k };
    let give = |k| Insn { code: 0x06, jump_true: 0, jump_false: 0, k };
    Ok(vec![
        load(4),
        unless(arch.audit(), 5),
        load(0),
        unless(sendmsg, 3),
        load(low_half),
        unless(SYNC as u32, 1),
        give(action::ALLOW),
        give(action::USER_NOTIF),
    ])
}

/// The process that answers and writes down.
#[derive(Debug)]
pub struct Recorder(Child);

impl Recorder {
    /// Starts it. It ends, and the profile is written, when the last process of the container has
    /// ended. `skip`: as many calls of seccomp(2) are the runtime's own, of this run alone.
    pub(crate) fn start(listener: OwnedFd, file: &File, skip: usize) -> Result<Recorder> {
        let how = CloneHow { namespaces: 0, cgroup: None };
        match clone3(&how).map_err(|e| Error::call("clone3", "seccomp recorder", e))? {
            Cloned::Parent(child) => Ok(Recorder(child)),
            Cloned::Child => {
                let recorded = record(&listener, skip);
                let written = recorded.and_then(|calls| {
                    let mut file = file;
                    let text = format!("{:#}\n", profile(&calls));
                    file.write_all(text.as_bytes()).map_err(|e| Errno::of(&e))
                });
                // Of an errno, the lowest byte is all there is.
                hako_sys::process::exit(written.err().map_or(0, Errno::raw) & 0xff)
            }
        }
    }

    /// Waits until the profile is written.
    pub fn finish(self) -> Result<()> {
        let status = hako_sys::process::wait(self.0.pidfd.as_fd())
            .map_err(|e| Error::call("waitid", "seccomp recorder", e))?;
        match status {
            ExitStatus::Exited(0) => Ok(()),
            ExitStatus::Exited(code) => {
                Err(Error::call("record", "seccomp profile", Errno::from_raw(code)))
            }
            ExitStatus::Signaled(number) => Err(Error::Unsupported(format!(
                "the seccomp recorder was killed by signal {number}"
            ))),
        }
    }
}

type Calls = BTreeMap<u32, BTreeSet<u32>>;

fn record(listener: &OwnedFd, skip: usize) -> hako_sys::Result<Calls> {
    let own =
        Arch::native().and_then(|arch| Some((arch.audit(), Call::find("seccomp")?.number(arch)?)));
    let (mut calls, mut skip) = (Calls::new(), skip);
    loop {
        let mut fds = [PollFd::readable(listener.as_fd())];
        poll(&mut fds, None)?;
        // Hung up: nobody is left who could ask.
        if fds[0].is_hung_up() {
            return Ok(calls);
        }
        if !fds[0].is_readable() {
            continue;
        }
        let Some(asked) = notify::receive(listener.as_fd())? else { continue };
        let number = asked.number as u32;
        if skip > 0 && own == Some((asked.arch, number)) {
            skip -= 1;
        } else {
            calls.entry(asked.arch).or_default().insert(number);
        }
        notify::allow(listener.as_fd(), asked.id)?;
    }
}

/// The profile that allows these calls, and refuses all others as Docker's does.
fn profile(calls: &Calls) -> Value {
    let (mut architectures, mut names) = (Vec::new(), BTreeSet::new());
    for (audit, numbers) in calls {
        // x32 shares its audit number with x86_64; the numbers tell them apart.
        for arch in Arch::all().filter(|arch| arch.audit() == *audit) {
            let known = Call::all()
                .filter(|call| call.number(arch).is_some_and(|number| numbers.contains(&number)));
            let before = names.len();
            names.extend(known.map(Call::name));
            if names.len() > before || Some(arch) == Arch::native() {
                architectures.push(arch.name());
            }
        }
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_name_calls_of_each_architecture() {
        let number = |arch: Arch, name: &str| Call::find(name).unwrap().number(arch).unwrap();
        let calls = Calls::from([
            (Arch::X86_64.audit(), BTreeSet::from([number(Arch::X86_64, "read"), 0x7fff_0000])),
            (Arch::X86.audit(), BTreeSet::from([number(Arch::X86, "socketcall")])),
        ]);
        let profile = profile(&calls);
        assert_eq!(profile["syscalls"][0]["names"], json!(["read", "socketcall"]));
        let architectures = profile["architectures"].as_array().unwrap();
        for name in ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] {
            assert!(architectures.contains(&json!(name)), "{profile}");
        }
        assert!(!architectures.contains(&json!("SCMP_ARCH_X32")), "{profile}");
        let parsed: hako_oci::runtime::Seccomp = serde_json::from_value(profile).unwrap();
        hako_seccomp::compile(&parsed).unwrap();
    }

    #[test]
    fn jumps_of_the_filter_end_at_the_question() {
        let filter = filter().unwrap();
        for (at, insn) in filter.iter().enumerate().filter(|(_, insn)| insn.code == 0x15) {
            let to = at + 1 + usize::from(insn.jump_false);
            assert_eq!(filter[to].k, action::USER_NOTIF, "{at}");
        }
    }
}
