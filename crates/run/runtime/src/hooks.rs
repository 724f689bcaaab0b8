//! Hooks that run in the runtime's namespaces: prestart, createRuntime, poststart, poststop.

use std::os::fd::AsFd;
use std::path::Path;

use hako_oci::runtime::Hook;
use hako_oci::state::State;
use hako_sys::fs::OpenFlags;
use hako_sys::process::ExitStatus;

use crate::container::open_path;
use crate::init::{HookEnd, run_hook};
use crate::plan::hook_ops;
use crate::{Error, Result};

/// Runs the hooks of one kind in order; the first that fails ends it, but for `poststop`, where
/// all run and the first error is reported. `pid` 0 means that there is no process any more.
pub(crate) fn run(
    kind: &'static str,
    list: &[Hook],
    state: &State,
    pid: i32,
    bundle: &Path,
) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let cwd = open_path(bundle, OpenFlags::PATH | OpenFlags::DIRECTORY)?;
    let mut first = Ok(());
    for hook in hook_ops(kind, list, state)? {
        let mut output = [0u8; 2048];
        let (end, used) = run_hook(&hook, pid, Some(cwd.as_fd()), &mut output);
        let reason = match end {
            HookEnd::Succeeded => continue,
            HookEnd::Exited(ExitStatus::Exited(status)) => format!("exit status {status}"),
            HookEnd::Exited(ExitStatus::Signaled(number)) => format!("signal {number}"),
            HookEnd::TimedOut => format!("timed out after {} s", hook.timeout.unwrap_or_default()),
            HookEnd::Failed(call, errno) => format!("{}: {errno}", call.name()),
        };
        let words = String::from_utf8_lossy(output.get(..used).unwrap_or_default());
        let words = words.trim();
        let error = Error::Hook {
            kind,
            index: hook.index,
            path: hook.path.to_string_lossy().into_owned(),
            reason: if words.is_empty() { reason } else { format!("{reason}: {words}") },
        };
        if kind != "poststop" {
            return Err(error);
        }
        if first.is_ok() {
            first = Err(error);
        }
    }
    first
}
