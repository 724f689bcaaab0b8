//! What a bundle depends on beside image and options: given, never looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::capability;

/// Everything around one container that its config.json depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The container's ID, 64 hexadecimal digits.
    pub id: &'a str,
    /// `/etc/passwd` of the image; empty where there is none.
    pub passwd: &'a [u8],
    /// `/etc/group` of the image; empty where there is none.
    pub group: &'a [u8],
    /// Directory of the host that holds `hosts`, `hostname` and `resolv.conf` of this container.
    pub files_dir: &'a Path,
    /// Directories of volumes: by name, and of anonymous ones by their target.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// Containers whose namespaces are joined, by the word the user wrote.
    pub containers: &'a BTreeMap<String, Neighbour>,
    /// The machine.
    pub machine: &'a Machine,
}

/// A running container whose namespaces another one joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its first process on the host.
    pub pid: i32,
    /// Its host name: who joins its network has the same.
    pub hostname: String,
    /// Directory of its `hosts`, `hostname` and `resolv.conf`: likewise.
    pub files_dir: PathBuf,
}

/// Traits of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its host name.
    pub hostname: String,
    /// Processors online.
    pub cpus: BTreeSet<u32>,
    /// Memory nodes online.
    pub mems: BTreeSet<u32>,
    /// Whether cgroup v2 has the controllers.
    pub cgroup_v2: bool,
    /// The bounding set: capabilities that can be given at all, a bit each.
    pub capabilities: u64,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Paths that Docker masks and only some machines have.
    pub masked_paths: Vec<String>,
    /// Its `/etc/hosts`.
    pub hosts: String,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: String,
}

impl Machine {
    /// Looks at the machine that this process runs on.
    pub fn probe() -> io::Result<Machine> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
        };
        let release = read("/proc/sys/kernel/osrelease")?;
        let status = read("/proc/self/status")?;
        let bounding = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            // A kernel without the line gives everything it knows.
            .unwrap_or((1 << capability::NAMES.len()) - 1);
        let cpus = crate::limits::parse_list(read("/sys/devices/system/cpu/online")?.trim())
            .unwrap_or_default();
        // Kernels without NUMA have no such directory, and one node.
        let mems = fs::read_to_string("/sys/devices/system/node/online")
            .ok()
            .and_then(|list| crate::limits::parse_list(list.trim()))
            .unwrap_or_else(|| BTreeSet::from([0]));
        let masked_paths = cpus
            .iter()
            .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
            .filter(|path| Path::new(path).exists())
            .collect();
        // On a hybrid machine the controllers are v1's, and this file is beneath another directory.
        let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Ok(Machine {
            hostname: read("/proc/sys/kernel/hostname")?.trim().into(),
            cpus,
            mems,
            cgroup_v2,
            capabilities: bounding,
            kernel: parse_release(&release),
            masked_paths,
            hosts: text_or_none("/etc/hosts")?,
            resolv_conf: text_or_none("/etc/resolv.conf")?,
        })
    }
}

/// The text of a file that a machine need not have.
fn text_or_none(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(io::Error::new(e.kind(), format!("{path}: {e}"))),
    }
}

/// Major and minor version of `6.18.1-generic` and its like.
fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let machine = Machine::probe().unwrap();
        assert!(!machine.cpus.is_empty() && !machine.mems.is_empty());
        assert!(machine.kernel >= (4, 0), "{:?}", machine.kernel);
        assert_eq!(parse_release("6.18.1-a"), (6, 18));
        assert_eq!(parse_release("5.10\n"), (5, 10));
    }
}
