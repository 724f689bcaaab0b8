//! Runs the whole test program in namespaces of its own.
//!
//! The program starts itself again (`sandbox.sh`) in new mount, PID, cgroup, network, UTS and IPC
//! namespaces. Inside, the cgroup mounts show the sandbox's own cgroups as roots, and every mount is
//! shared as on a machine with systemd. So a test sees exactly what is its own, several runs never
//! meet, and when the run ends the kernel kills and unmounts what is left; the first instance then
//! removes the cgroups.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

const SCRIPT: &str = include_str!("sandbox.sh");

/// Set inside; holds the base directory.
const INSIDE: &str = "HAKO_TESTS_INSIDE";

/// Where the caller is after [`enter`].
pub enum Place {
    /// In the sandbox (or where none can be made): run the tests.
    Inside,
    /// Outside, and the tests have run inside: end with this.
    Done(ExitCode),
}

/// Whether this process runs in a sandbox of its own.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Where tests keep their files: removed when the run ends.
pub fn base() -> PathBuf {
    match env::var_os(INSIDE) {
        Some(base) => base.into(),
        None => base_of(std::process::id()),
    }
}

/// Where a run keeps what many tests read; part of [`base`].
pub fn shared() -> PathBuf {
    base().join("shared")
}

fn base_of(pid: u32) -> PathBuf {
    env::temp_dir().join(format!("hako-tests-{pid}"))
}

/// Enters the sandbox; who is not root stays outside, and tests that need one skip.
pub fn enter(surface: &str) -> io::Result<Place> {
    make(surface, crate::runtime::wants_legacy_cgroups())
}

/// Enters a sandbox without the v2 hierarchy, where v1 ones are there.
pub fn enter_with_legacy_cgroups(surface: &str) -> io::Result<Place> {
    make(surface, true)
}

fn make(surface: &str, legacy: bool) -> io::Result<Place> {
    let refused = env::var_os("HAKO_TEST_SANDBOX").is_some_and(|value| value == "0");
    if is_inside() || refused || !rustix::process::geteuid().is_root() {
        fs::create_dir_all(shared())?;
        return Ok(Place::Inside);
    }
    let pid = std::process::id();
    let base = base_of(pid);
    fs::create_dir_all(&base)?;
    let cgroups = Cgroups::create(&format!("hako-tests-{surface}-{pid}"))?;

    let status = Command::new("sh")
        .args(["-c", SCRIPT, "sandbox", "move", &cgroups.listing()])
        .arg(&base)
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, &base)
        .env("HAKO_TESTS_SCRIPT", SCRIPT)
        .envs(legacy.then_some(("HAKO_TESTS_LEGACY", "1")))
        .status()?;
    cgroups.remove()?;
    fs::remove_dir_all(&base)?;
    Ok(Place::Done(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => {
            eprintln!("{surface}: {status}");
            ExitCode::FAILURE
        }
    }))
}

/// A cgroup in every mounted hierarchy.
struct Cgroups {
    /// `(name of the hierarchy as mount -o takes it, directory)`; the unified one has no name.
    hierarchies: Vec<(String, PathBuf)>,
}

impl Cgroups {
    fn create(name: &str) -> io::Result<Self> {
        let mut hierarchies = Vec::new();
        for (hierarchy, mount_point) in mounted_hierarchies()? {
            let directory = mount_point.join(name);
            fs::create_dir(&directory)?;
            // A v1 cpuset takes no process before it has processors and memory nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (mount_point.join(file), directory.join(file));
                if !hierarchy.is_empty() && from.exists() {
                    fs::write(to, fs::read_to_string(from)?)?;
                }
            }
            hierarchies.push((hierarchy, directory));
        }
        Ok(Self { hierarchies })
    }

    fn listing(&self) -> String {
        let lines: Vec<String> = self
            .hierarchies
            .iter()
            .map(|(name, directory)| format!("{name}:{}", directory.display()))
            .collect();
        lines.join("\n")
    }

    /// Removes them, deepest first; the processes inside died with their PID namespace.
    fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        for (_, directory) in &self.hierarchies {
            while let Err(error) = remove_cgroup(directory) {
                if Instant::now() > deadline {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("rmdir({}): {error}", directory.display()),
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

fn remove_cgroup(directory: &Path) -> io::Result<()> {
    let frozen = directory.join("freezer.state");
    if fs::read_to_string(&frozen).is_ok_and(|state| state.trim() != "THAWED") {
        fs::write(frozen, "THAWED")?;
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// Cgroup hierarchies, as `(name, mount point)`.
fn mounted_hierarchies() -> io::Result<Vec<(String, PathBuf)>> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    // `12:cpu,cpuacct:/path` and `0::/path`.
    let names: BTreeSet<&str> = own.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let mut found = Vec::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), mut right) = (left.split(' ').nth(4), right.split(' ')) else { continue };
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        let name = match kind {
            "cgroup2" => Some(String::new()),
            "cgroup" => names
                .iter()
                .find(|name| !name.is_empty() && holds(options, name))
                .map(|name| (*name).into()),
            _ => None,
        };
        if let Some(name) = name
            && !found.iter().any(|(other, _)| *other == name)
        {
            found.push((name, PathBuf::from(point)));
        }
    }
    Ok(found)
}

/// Whether a hierarchy's super block options have all of its controllers.
fn holds(options: &str, name: &str) -> bool {
    name.split(',').all(|controller| options.split(',').any(|option| option == controller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_hierarchy_once() {
        let found = mounted_hierarchies().expect("the kernel's own files can be read");
        let names: BTreeSet<_> = found.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), found.len());
        assert!(found.iter().all(|(_, point)| point.is_dir()), "{found:?}");
    }

    #[test]
    fn a_hierarchy_is_known_by_its_controllers() {
        assert!(holds("rw,cpu,cpuacct", "cpu,cpuacct"));
        assert!(holds("rw,name=systemd", "name=systemd"));
        assert!(!holds("rw,cpuset", "cpu"));
    }
}
