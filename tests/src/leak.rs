//! What a run left behind: mounts, cgroups, processes, network namespaces, files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::sandbox;

/// Everything that a container could leave, as lines that a person can read.
pub struct Snapshot {
    seen: BTreeSet<String>,
}

impl Snapshot {
    /// Looks now. Outside of a sandbox only files can be told from those of others.
    pub fn take() -> Self {
        Self { seen: look() }
    }

    /// What is there now and was not then. A dying process gets two seconds to be gone.
    pub fn leaks(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let leaks: Vec<String> = look().difference(&self.seen).cloned().collect();
            if leaks.is_empty() || Instant::now() > deadline {
                return leaks;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn look() -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    files(&sandbox::base(), &mut seen);
    if sandbox::is_inside() {
        mounts(&mut seen);
        cgroups(Path::new("/sys/fs/cgroup"), &mut seen);
        processes(&mut seen);
        files(Path::new("/run"), &mut seen);
    }
    seen
}

/// Litter of peers that tests run: not ours to hold against hako. And the directory of hako-runc's
/// state where an engine names none, which stays as runc's does.
const OF_PEERS: &[&str] =
    &["hako-runc", "libpod", "containers", "crun", "runc", "netns", "docker", "containerd"];

fn files(directory: &Path, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if OF_PEERS.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        seen.insert(format!("file {}", entry.path().display()));
    }
}

fn mounts(seen: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let id = words.next().unwrap_or("");
        let point = words.nth(3).unwrap_or("");
        let kind =
            line.split_once(" - ").and_then(|(_, right)| right.split(' ').next()).unwrap_or("");
        seen.insert(format!("mount {id} {kind} {point}"));
    }
}

fn cgroups(directory: &Path, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // The one that all containers are in stays, as Docker's does.
            if entry.file_name() != "hako" {
                seen.insert(format!("cgroup {}", entry.path().display()));
            }
            cgroups(&entry.path(), seen);
        }
    }
}

fn processes(seen: &mut BTreeSet<String>) {
    for pid in pids() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        // Gone meanwhile, or a zombie that the sandbox's first process is about to reap.
        let Ok(stat) = fs::read_to_string(process.join("stat")) else { continue };
        let state = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next()).unwrap_or("");
        if state == "Z"
            && stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some("1")
        {
            continue;
        }
        let name = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .map_or("", |(name, _)| name);
        // Not its state: a process that is there all the time sleeps and runs.
        let command: String = command.trim().chars().take(160).collect();
        seen.insert(format!("process {pid} ({name}) {command}"));
    }
}

/// Every process that can be seen.
pub fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .collect()
}
