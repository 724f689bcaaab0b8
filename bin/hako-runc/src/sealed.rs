//! The program runs from a file that nobody can write, wherever a container could reach it.
//!
//! A container's program can be `/proc/self/exe`, or have it as its interpreter: then it executes
//! the runtime's file, and could later open that file for writing (CVE-2019-5736). What it finds
//! instead is a read-only mount that belongs to no namespace, or where the kernel or missing
//! privileges do not allow that, a copy in memory that is sealed. The mount costs a tenth of a
//! millisecond, the copy more than one, and its memory. hako starts this program in the same way.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use hako_sys::mount::{ViewState, read_only_view, view_state};
use hako_sys::process::{StringArray, fexecve};
use hako_sys::{Errno, memfd};

/// How often, a millisecond apart, is looked whether whoever started us lets go of its view.
const LOOKS: u32 = 20;

/// Makes sure of it; returns only when this process cannot be written, or why that cannot be.
pub(crate) fn ensure() -> Result<(), String> {
    let file = File::open("/proc/self/exe").map_err(|e| format!("open /proc/self/exe: {e}"))?;
    if memfd::is_sealed(file.as_fd()) || is_final(&file) {
        return Ok(());
    }
    let protected = protected(&file)
        .map_err(|e| format!("memfd_create (a sealed copy of the runtime): {e}"))?;
    let strings = |list: Vec<Vec<u8>>| -> Result<StringArray, String> {
        let strings: Result<Vec<CString>, _> = list.into_iter().map(CString::new).collect();
        strings.map(StringArray::new).map_err(|_| "an argument has a NUL byte".to_owned())
    };
    let arguments = strings(std::env::args_os().map(OsStringExt::into_vec).collect())?;
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    });
    let environment = strings(environment.collect())?;
    let error = fexecve(protected.as_fd(), &arguments, &environment);
    Err(format!("execveat (a protected copy of the runtime): {error}"))
}

fn is_final(file: &File) -> bool {
    for _ in 0..LOOKS {
        match view_state(file.as_fd()) {
            Ok(ViewState::Final) => return true,
            // Its starter is about to close it.
            Ok(ViewState::Held) => std::thread::sleep(Duration::from_millis(1)),
            Ok(ViewState::None) | Err(_) => return false,
        }
    }
    false
}

fn protected(file: &File) -> Result<OwnedFd, Errno> {
    // Only one whose mount is its own: a view of a view is not to be had.
    read_only_view(file.as_fd()).or_else(|_| memfd::sealed_copy(c"hako-runc", file))
}
