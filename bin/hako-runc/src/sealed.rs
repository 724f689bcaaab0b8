//! The program runs from a sealed copy of itself wherever a container could reach its file.
//!
//! A container's program can be `/proc/self/exe`, or have it as its interpreter: then it executes
//! the runtime's file, and could later open that file for writing (CVE-2019-5736). What is sealed
//! in memory nobody can write. When hako runs this program it is sealed already.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use hako_sys::process::{StringArray, fexecve};
use hako_sys::{Errno, memfd};

/// Makes sure of it; returns only when this process runs sealed, or why it cannot.
pub(crate) fn ensure() -> Result<(), String> {
    let file = File::open("/proc/self/exe").map_err(|e| format!("open /proc/self/exe: {e}"))?;
    if memfd::is_sealed(file.as_fd()) {
        return Ok(());
    }
    let fail = |call: &str, e: Errno| format!("{call} (a sealed copy of the runtime): {e}");
    let copy = memfd::sealed_copy(c"hako-runc", &file).map_err(|e| fail("memfd_create", e))?;
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
    Err(fail("execveat", fexecve(copy.as_fd(), &arguments, &environment)))
}
