//! A container and its one cgroup.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use hako_tests::{bundle::Bundle, command, runtime::Container, skip};
use serde_json::{Value, json};

pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Skips the test where v2 is not the hierarchy that has these controllers.
pub(crate) fn needs(controllers: &[&str]) {
    let available = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
        .unwrap_or_else(|_| skip!("{ROOT} is not cgroup v2"));
    for controller in controllers {
        if !available.split_whitespace().any(|name| name == *controller) {
            skip!("cgroup v2 has no {controller} controller here");
        }
    }
}

/// A container whose cgroup is `/<id>`, running `script`, with these resources besides the default device rules.
pub(crate) fn container(script: &str, resources: Value) -> Container {
    let mut container = Container::new(Bundle::sh(script));
    let path = format!("/{}", container.id());
    container.bundle.spec["linux"]["cgroupsPath"] = json!(path);
    if let Value::Object(members) = resources {
        for (name, value) in members {
            container.bundle.spec["linux"]["resources"][name] = value;
        }
    }
    container
}

/// A container's cgroup, seen from outside.
pub(crate) fn cgroup(container: &Container) -> PathBuf {
    Path::new(ROOT).join(container.id())
}

/// A file of a cgroup, without white space at its ends.
#[track_caller]
pub(crate) fn read(cgroup: &Path, file: &str) -> String {
    let path = cgroup.join(file);
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("read({}): {error}", path.display())).trim().to_owned()
}

/// Processes of a cgroup and those beneath it.
pub(crate) fn processes(cgroup: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// The value behind a key in a file of `key value` or `key: value` lines.
pub(crate) fn counter(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|word| word.trim_end_matches(':') == key)?;
            words.next()?.parse().ok()
        })
        .unwrap_or_else(|| panic!("no {key} in:\n{text}"))
}

/// Creates and starts it.
#[track_caller]
pub(crate) fn start(container: &Container) {
    container.create().ok();
    container.start().ok();
}

/// Calls a verb that not every runtime has; skips the test where it is unknown.
#[track_caller]
pub(crate) fn verb(container: &Container, words: &[&str]) -> command::Output {
    let output = container.call(words);
    if output.code != 0 && output.stderr.contains("no such command") {
        skip!("no such command: {}", words[0]);
    }
    output
}

/// Whether cgroups here can have a file: a kernel may be older than the file.
pub(crate) fn has_file(file: &str) -> bool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = Path::new(ROOT);
    let controller = file.split('.').next().unwrap_or(file);
    fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
        .unwrap_or_else(|error| panic!("+{controller}: {error}"));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let probe = root.join(format!("hako-probe-{}-{number}", std::process::id()));
    fs::create_dir(&probe).expect("a cgroup of our own can be made");
    let found = probe.join(file).exists();
    fs::remove_dir(&probe).expect("a cgroup of our own can be removed");
    found
}

/// Waits until the container has said this.
#[track_caller]
pub(crate) fn wait_for(container: &Container, text: &str) {
    command::wait_until(&format!("the container says {text:?}"), || {
        container.output().contains(text)
    });
}
