//! Hooks that run in the runtime's namespaces: prestart, createRuntime, poststart, poststop.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hako_oci::runtime::Hook;
use hako_oci::state::State;
use hako_sys::fs::OpenFlags;

use crate::container::open_path;
use crate::init::{HookEnd, run_hook};
use crate::plan::hook_ops;
use crate::{Error, Result};

/// Annotations that name files for what hooks print: standard output, and error.
const OUTPUTS: [&str; 2] = ["run.oci.hooks.stdout", "run.oci.hooks.stderr"];

/// Opens a file that hooks append to; it is made where it is missing.
pub(crate) fn open_output(path: Option<&Path>) -> Result<Option<File>> {
    let Some(path) = path else { return Ok(None) };
    let mut options = File::options();
    let file = options.append(true).create(true).mode(0o700).open(path);
    Ok(Some(file.map_err(|e| Error::io("open", path, &e))?))
}

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
    let [stdout, stderr] = OUTPUTS.map(|name| state.annotations.get(name).map(Path::new));
    let files = [open_output(stdout)?, open_output(stderr)?];
    let files = files.each_ref().map(|file| file.as_ref().map(AsFd::as_fd));
    let mut first = Ok(());
    for hook in hook_ops(kind, list, state)? {
        let mut output = [0u8; 2048];
        let environment = (&hook.environment, None);
        let (end, used) = run_hook(&hook, environment, pid, Some(cwd.as_fd()), files, &mut output);
        if end == HookEnd::Succeeded {
            continue;
        }
        let reason = end.reason(hook.timeout.unwrap_or_default());
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
