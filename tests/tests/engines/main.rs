//! Foreign engines on hako-runc: what they promise their users holds, as it does with runc.
//!
//! Each row starts an engine of its own, with its own roots, sockets and cgroup parent, in the
//! sandbox's namespaces, and stops it. `HAKO_TEST_RUNTIME=runc` shows what the engine can do here at
//! all; where a row's promise depends on that, the row asks runc itself before it skips.

#![forbid(unsafe_code)]

mod containerd;
mod docker;
mod podman;
mod served;

use std::{
    fs,
    path::{Path, PathBuf},
};

use hako_tests::{binary, leak, place::Place, runtime, skip};

/// The runtime that the engines use.
fn runtime_under_test() -> PathBuf {
    if !rustix::process::geteuid().is_root() {
        skip!("not root");
    }
    if !hako_tests::sandbox::is_inside() {
        skip!("no sandbox");
    }
    match runtime::name_under_test().as_str() {
        "hako-runc" => binary::hako_runc(),
        path if path.contains('/') => path.into(),
        tool => binary::tool(tool),
    }
}

/// Runs a promise with the runtime under test. Where it does not hold, runc is asked: if it does not
/// hold there either, it is the engine that cannot do it here, and the row skips.
fn or_as_runc(under_test: &Path, promise: impl Fn(&Path) -> Result<(), String>) {
    let Err(problem) = promise(under_test) else { return };
    match promise(&binary::tool("runc")) {
        Ok(()) => panic!("it holds with runc: {problem}"),
        Err(same) => skip!("it does not hold with runc either: {same}"),
    }
}

/// For rows that look into files of cgroup v1.
fn legacy_only() {
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        skip!("no cgroup v1");
    }
}

/// Removes an engine's mounts, which some leave when they end; its last processes may still make
/// some (podman's `container cleanup`, which conmon runs).
fn unmount(place: &Place) {
    let own = place.path().to_string_lossy().into_owned();
    let is_of_engine = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&own)
    };
    for _ in 0..500 {
        if !leak::pids().into_iter().any(is_of_engine) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for point in place.mounts().iter().rev() {
        let flags = rustix::mount::UnmountFlags::DETACH;
        if let Err(error) = rustix::mount::unmount(point.as_str(), flags) {
            eprintln!("umount({point}): {error}");
        }
    }
}

/// What a daemon complained about.
fn complaints(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let told = |line: &&str| line.contains("level=error") || line.contains("level=fatal");
    log.lines().filter(told).collect::<Vec<_>>().join("\n")
}

/// Removes an engine's cgroup with those below it; what is busy stays, and is found as a leak.
fn remove_cgroups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    // What an engine leaves behind (podman's conmon) may be just going.
    for _ in 0..100 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

fn main() -> std::process::ExitCode {
    hako_tests::run("engines", &[podman::CASES, docker::CASES, containerd::CASES])
}
