//! The cgroup as seen from inside: where it is mounted, and which limits its files show.

use std::{fs, path::PathBuf};

use crate::proc::Mount;

/// How the cgroup file systems are laid out.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Mode {
    V1,
    V2,
    Hybrid,
    NotMounted,
}

impl Mode {
    /// In words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Mode::V1 => "v1, one hierarchy a controller",
            Mode::V2 => "v2, one hierarchy",
            Mode::Hybrid => "hybrid, v1 controllers beside a v2 hierarchy",
            Mode::NotMounted => "not mounted here",
        }
    }

    /// Judged by what is mounted.
    pub(crate) fn of(mounts: &[Mount]) -> Mode {
        let has = |kind: &str| mounts.iter().any(|m| m.kind == kind);
        match (has("cgroup"), has("cgroup2")) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (false, false) => Mode::NotMounted,
        }
    }
}

/// A limit: its label, the file that tells it on v2, and on v1 its controller and file.
struct Limit {
    label: &'static str,
    v2: &'static str,
    v1: (&'static str, &'static str),
    show: fn(&str) -> String,
}

const LIMITS: &[Limit] = &[
    Limit {
        label: "memory",
        v2: "memory.max",
        v1: ("memory", "memory.limit_in_bytes"),
        show: bytes,
    },
    Limit {
        label: "memory used",
        v2: "memory.current",
        v1: ("memory", "memory.usage_in_bytes"),
        show: bytes,
    },
    Limit { label: "processor", v2: "cpu.max", v1: ("cpu", "cpu.cfs_quota_us"), show: quota },
    Limit { label: "cpu weight", v2: "cpu.weight", v1: ("cpu", "cpu.shares"), show: plain },
    Limit {
        label: "cpuset",
        v2: "cpuset.cpus.effective",
        v1: ("cpuset", "cpuset.effective_cpus"),
        show: plain,
    },
    Limit { label: "processes", v2: "pids.max", v1: ("pids", "pids.max"), show: plain },
    Limit { label: "processes now", v2: "pids.current", v1: ("pids", "pids.current"), show: plain },
];

/// Every limit that can be read: label and value.
pub(crate) fn limits(mounts: &[Mount], membership: &str) -> Vec<(&'static str, String)> {
    let read = |dir: Option<PathBuf>, file: &str| {
        let text = fs::read_to_string(dir?.join(file)).ok()?;
        // cpu.max is one line "quota period"; v1 has the period in a file of its own.
        Some(text.trim().to_owned())
    };
    LIMITS
        .iter()
        .filter_map(|limit| {
            let (controller, file) = limit.v1;
            let dir = directory(mounts, membership, Some(controller));
            let value = match read(dir.clone(), file) {
                Some(quota) if file == "cpu.cfs_quota_us" => {
                    format!("{quota} {}", read(dir, "cpu.cfs_period_us")?)
                }
                Some(value) => value,
                None => read(directory(mounts, membership, None), limit.v2)?,
            };
            Some((limit.label, (limit.show)(&value)))
        })
        .collect()
}

/// The directory of our cgroup in the v1 hierarchy of `controller`, or in the v2 hierarchy.
fn directory(mounts: &[Mount], membership: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = match controller {
            Some(name) => controllers.split(',').any(|c| c == name),
            None => controllers.is_empty(),
        };
        ours.then_some(path)
    })?;
    let mount = mounts.iter().find(|m| match controller {
        Some(name) => m.kind == "cgroup" && m.super_options.split(',').any(|o| o == name),
        None => m.kind == "cgroup2",
    })?;
    // The mount may show only the part of the hierarchy below its root.
    let below = match mount.root.as_str() {
        "/" => path,
        root => path.strip_prefix(root).unwrap_or(""),
    };
    Some(PathBuf::from(&mount.point).join(below.trim_start_matches('/')))
}

fn plain(value: &str) -> String {
    if value == "max" { "no limit".into() } else { value.into() }
}

/// v1 writes "no limit" as the largest page-aligned number.
fn bytes(value: &str) -> String {
    const UNLIMITED: u64 = 1 << 60;
    match value.parse::<u64>() {
        Ok(n) if n >= UNLIMITED => "no limit".into(),
        Ok(n) if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        Ok(n) => format!("{} KiB", n >> 10),
        Err(_) => plain(value),
    }
}

/// `quota period` in microseconds.
fn quota(value: &str) -> String {
    let mut fields = value.split_whitespace().map(str::parse::<f64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(quota)), Some(Ok(period))) if quota > 0.0 && period > 0.0 => {
            format!("{:.2} of a core", quota / period)
        }
        _ => "no limit".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, root: &str, point: &str, super_options: &str) -> Mount {
        let s = str::to_owned;
        Mount {
            root: s(root),
            point: s(point),
            options: s("rw"),
            kind: s(kind),
            source: s("cgroup"),
            super_options: s(super_options),
        }
    }

    #[test]
    fn directories_follow_the_mounts_root() {
        let mounts = [
            mount("cgroup", "/", "/c/memory", "rw,memory"),
            mount("cgroup", "/x", "/c/cpu", "rw,cpu,cpuacct"),
            mount("cgroup2", "/", "/c/unified", "rw"),
        ];
        let membership = "3:cpu,cpuacct:/x/y\n2:memory:/\n0::/z\n";
        let dir = |c| directory(&mounts, membership, c).map(|d| d.display().to_string());
        assert_eq!(dir(Some("memory")).unwrap(), "/c/memory/");
        assert_eq!(dir(Some("cpu")).unwrap(), "/c/cpu/y");
        assert_eq!(dir(None).unwrap(), "/c/unified/z");
        assert_eq!(dir(Some("pids")), None);
        assert_eq!(Mode::of(&mounts), Mode::Hybrid);
        assert_eq!(Mode::of(&[]), Mode::NotMounted);
    }

    #[test]
    fn values_in_words() {
        assert_eq!(bytes("9223372036854771712"), "no limit");
        assert_eq!(bytes("max"), "no limit");
        assert_eq!(bytes("67108864"), "64.0 MiB");
        assert_eq!(quota("50000 100000"), "0.50 of a core");
        assert_eq!(quota("max 100000"), "no limit");
        assert_eq!(quota("-1 100000"), "no limit");
    }
}
