//! What this machine mounts: cgroup v1, v2, or both (hybrid), and where the calling process is.

use std::path::{Component, Path, PathBuf};

use hako_sys::fs;

use crate::{Result, sys};

/// A controller, whichever version it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // Their names say it all.
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Io,
    Devices,
    Freezer,
    Pids,
    Hugetlb,
    Rdma,
    NetCls,
    NetPrio,
    PerfEvent,
    Misc,
}

/// Names in v1 and in v2; empty where a version has none.
const NAMES: [(Controller, &str, &str); 14] = [
    (Controller::Cpu, "cpu", "cpu"),
    (Controller::Cpuacct, "cpuacct", ""),
    (Controller::Cpuset, "cpuset", "cpuset"),
    (Controller::Memory, "memory", "memory"),
    (Controller::Io, "blkio", "io"),
    (Controller::Devices, "devices", ""),
    (Controller::Freezer, "freezer", ""),
    (Controller::Pids, "pids", "pids"),
    (Controller::Hugetlb, "hugetlb", "hugetlb"),
    (Controller::Rdma, "rdma", "rdma"),
    (Controller::NetCls, "net_cls", ""),
    (Controller::NetPrio, "net_prio", ""),
    (Controller::PerfEvent, "perf_event", ""),
    (Controller::Misc, "misc", "misc"),
];

impl Controller {
    /// Every controller.
    pub fn all() -> impl Iterator<Item = Controller> {
        NAMES.iter().map(|n| n.0)
    }

    /// Its name in cgroup v1.
    pub fn v1_name(self) -> Option<&'static str> {
        Some(NAMES[self as usize].1).filter(|n| !n.is_empty())
    }

    /// Its name in cgroup v2.
    pub fn v2_name(self) -> Option<&'static str> {
        Some(NAMES[self as usize].2).filter(|n| !n.is_empty())
    }
}

impl std::fmt::Display for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (_, v1, v2) = NAMES[*self as usize];
        f.write_str(if v2.is_empty() { v1 } else { v2 })
    }
}

/// A set of controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Controllers(u16);

// In state files as `cpu,memory`.
impl serde::Serialize for Controllers {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let names: Vec<_> = self.iter().map(|c| c.to_string()).collect();
        s.serialize_str(&names.join(","))
    }
}

impl<'de> serde::Deserialize<'de> for Controllers {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let names = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let mut set = Controllers::default();
        for name in names.split(',').filter(|n| !n.is_empty()) {
            let unknown = || serde::de::Error::custom(format!("unknown controller {name:?}"));
            set.insert(Controller::all().find(|c| c.to_string() == name).ok_or_else(unknown)?);
        }
        Ok(set)
    }
}

impl Controllers {
    /// The set of these.
    pub fn of(controllers: impl IntoIterator<Item = Controller>) -> Controllers {
        let mut set = Controllers::default();
        controllers.into_iter().for_each(|c| set.insert(c));
        set
    }

    fn named(names: &str, separator: char, name: fn(Controller) -> Option<&'static str>) -> Self {
        let listed = |c: &Controller| {
            name(*c).is_some_and(|name| names.trim().split(separator).any(|n| n == name))
        };
        Controllers::of(Controller::all().filter(listed))
    }

    /// Those in a list of v2, as of `cgroup.controllers`.
    pub fn of_v2(names: &str) -> Controllers {
        Controllers::named(names, ' ', Controller::v2_name)
    }

    /// Adds one.
    pub fn insert(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u8;
    }

    /// Whether it is in the set.
    pub fn contains(self, controller: Controller) -> bool {
        self.0 >> controller as u8 & 1 == 1
    }

    /// Those in both sets.
    pub fn intersect(self, other: Controllers) -> Controllers {
        Controllers(self.0 & other.0)
    }

    /// Those in either set.
    pub fn union(self, other: Controllers) -> Controllers {
        Controllers(self.0 | other.0)
    }

    /// Those that `other` has not.
    pub fn without(self, other: Controllers) -> Controllers {
        Controllers(self.0 & !other.0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The controllers.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::all().filter(move |&c| self.contains(c))
    }
}

/// One mounted hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers; none where it only has a name.
    pub controllers: Controllers,
    /// Its name, as `systemd`, where it has one.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Directory of the calling process's cgroup.
    pub own: PathBuf,
}

/// The mounted cgroup v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    /// Controllers that its root offers.
    pub controllers: Controllers,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Directory of the calling process's cgroup.
    pub own: PathBuf,
}

/// Which versions are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is.
    None,
    /// Only v1.
    V1,
    /// Only v2.
    V2,
    /// Both.
    Hybrid,
}

impl Mode {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::V1 => "v1",
            Mode::V2 => "v2",
            Mode::Hybrid => "hybrid",
        }
    }
}

/// The machine's cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Hierarchies of v1, in the order of their mounts.
    pub v1: Vec<Hierarchy>,
    /// The hierarchy of v2.
    pub v2: Option<Unified>,
}

const ROOT: &str = "/sys/fs/cgroup";
// linux/magic.h.
const CGROUP_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

impl Host {
    /// Looks at the mounts of the calling process.
    ///
    /// Where v2 is mounted alone, or everything is where everyone mounts it, this reads two small
    /// files; only otherwise is it `/proc/self/mountinfo`, which can be long.
    pub fn detect() -> Result<Host> {
        let own = sys::read(Path::new("/proc/self/cgroup"))?;
        if own.lines().all(|l| l.starts_with("0:"))
            && let Some(names) = sys::read_optional(&Path::new(ROOT).join("cgroup.controllers"))?
        {
            return Ok(Host::unified_only(&own, &names));
        }
        let mut host = match Host::conventional(&own) {
            Some(host) => host,
            None => Host::parse(&sys::read(Path::new("/proc/self/mountinfo"))?, &own),
        };
        if let Some(v2) = &mut host.v2 {
            match sys::read_optional(&v2.mount.join("cgroup.controllers"))? {
                Some(names) => v2.controllers = Controllers::of_v2(&names),
                // The mount is hidden beneath another one.
                None => host.v2 = None,
            }
        }
        Ok(host)
    }

    /// The host where every hierarchy of `/proc/self/cgroup` is mounted, whole, at its usual place.
    fn conventional(own: &str) -> Option<Host> {
        let mut host = Host::default();
        for line in own.lines() {
            let (_, rest) = line.split_once(':')?;
            let (list, path) = rest.split_once(':')?;
            let (directory, magic) = match list.strip_prefix("name=") {
                None if list.is_empty() => ("unified", CGROUP2_MAGIC),
                None => (list, CGROUP_MAGIC),
                Some(name) => (name, CGROUP_MAGIC),
            };
            let mount = Path::new(ROOT).join(directory);
            if fs::statfs(&sys::c_path(&mount).ok()?).ok()?.magic != magic {
                return None;
            }
            let own = beneath(&mount, "/", path);
            // Of a mount that shows only a part of the tree this may be another directory; then
            // the caller's own is not to be found here.
            if own != mount && !own.is_dir() {
                return None;
            }
            if list.is_empty() {
                host.v2 = Some(Unified { controllers: Controllers::default(), mount, own });
            } else {
                host.v1.push(Hierarchy {
                    controllers: Controllers::named(list, ',', Controller::v1_name),
                    name: list.strip_prefix("name=").map(str::to_owned),
                    mount,
                    own,
                });
            }
        }
        Some(host)
    }

    fn unified_only(own: &str, controllers: &str) -> Host {
        let mount = PathBuf::from(ROOT);
        Host {
            v1: Vec::new(),
            v2: Some(Unified {
                controllers: Controllers::of_v2(controllers),
                own: beneath(&mount, "/", own_path(own, |id, _| id == "0")),
                mount,
            }),
        }
    }

    /// Reads the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. The controllers of v2
    /// stand in neither.
    pub fn parse(mountinfo: &str, own: &str) -> Host {
        let mut host = Host::default();
        for line in mountinfo.lines() {
            // 36 35 98:0 /root /mount/point rw,noatime master:1 - type source superoptions
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(mount)) = (before.next(), before.next()) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1).unwrap_or(""));
            let mount = PathBuf::from(unescape(mount));
            let root = unescape(root);
            match kind {
                Some("cgroup2") if host.v2.is_none() => {
                    let own = beneath(&mount, &root, own_path(own, |id, _| id == "0"));
                    host.v2 = Some(Unified { controllers: Controllers::default(), mount, own });
                }
                Some("cgroup") => {
                    let controllers = Controllers::named(options, ',', Controller::v1_name);
                    let name = options.split(',').find_map(|o| o.strip_prefix("name="));
                    let same =
                        |h: &Hierarchy| h.controllers == controllers && h.name.as_deref() == name;
                    if controllers.is_empty() && name.is_none() || host.v1.iter().any(same) {
                        continue;
                    }
                    let mine = |_: &str, list: &str| match name {
                        Some(name) => {
                            list.split(',').any(|c| c.strip_prefix("name=") == Some(name))
                        }
                        None => Controllers::named(list, ',', Controller::v1_name) == controllers,
                    };
                    let own = beneath(&mount, &root, own_path(own, mine));
                    let name = name.map(str::to_owned);
                    host.v1.push(Hierarchy { controllers, name, mount, own });
                }
                _ => {}
            }
        }
        host
    }

    /// Which versions are mounted.
    pub fn mode(&self) -> Mode {
        match (self.v1.is_empty(), self.v2.is_some()) {
            (true, false) => Mode::None,
            (false, false) => Mode::V1,
            (true, true) => Mode::V2,
            (false, true) => Mode::Hybrid,
        }
    }

    /// All controllers that are there, in either version.
    pub fn controllers(&self) -> Controllers {
        let v2 = self.v2.as_ref().map(|v| v.controllers).unwrap_or_default();
        self.v1.iter().fold(v2, |all, h| all.union(h.controllers))
    }

    /// The v1 hierarchy of a controller.
    pub fn hierarchy(&self, controller: Controller) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.contains(controller))
    }

    /// Whether v2 has the controller.
    pub fn in_v2(&self, controller: Controller) -> bool {
        self.v2.as_ref().is_some_and(|v| v.controllers.contains(controller))
    }

    /// Whether device access can be controlled.
    pub fn has_devices(&self) -> bool {
        self.v2.is_some() || self.hierarchy(Controller::Devices).is_some()
    }
}

/// The directory of v2 in the text of `/proc/<pid>/cgroup`.
pub(crate) fn unified_path(text: &str, mount: &Path) -> PathBuf {
    beneath(mount, "/", own_path(text, |id, _| id == "0"))
}

/// The path in the line of `/proc/self/cgroup` that `wanted` picks by hierarchy and controllers.
fn own_path(text: &str, wanted: impl Fn(&str, &str) -> bool) -> &str {
    text.lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(id, controllers).then_some(path)
        })
        .unwrap_or("/")
}

/// Where a cgroup is found under `mount`, which shows the tree from `root` on.
fn beneath(mount: &Path, root: &str, path: &str) -> PathBuf {
    let relative = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    // The process is above the mounted root, or outside of its cgroup namespace's.
    if relative.components().any(|c| c == Component::ParentDir) {
        return mount.to_owned();
    }
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    if relative.as_os_str().is_empty() { mount.to_owned() } else { mount.join(relative) }
}

/// Octal escapes of mountinfo: space, tab, newline, backslash.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = match bytes[i..] {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/odd\\040name rw,relatime shared:7 - cgroup cgroup rw,xattr,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup systemd rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
99 31 0:32 /x /elsewhere rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_is_read_from_mounts() {
        let own =
            "4:memory:/jobs/1\n3:cpu,cpuacct:/\n2:devices:/d\n1:name=systemd:/init\n0::/u/v\n";
        let host = Host::parse(HYBRID, own);
        assert_eq!(host.mode(), Mode::Hybrid);
        let found: Vec<_> = host
            .v1
            .iter()
            .map(|h| {
                let controllers: Vec<_> = h.controllers.iter().map(|c| c.to_string()).collect();
                (controllers.join(","), h.name.as_deref(), h.own.to_str().unwrap())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("cpu,cpuacct".to_owned(), None, "/sys/fs/cgroup/cpu,cpuacct"),
                ("memory".to_owned(), None, "/sys/fs/cgroup/memory/jobs/1"),
                ("devices".to_owned(), None, "/sys/fs/cgroup/odd name/d"),
                (String::new(), Some("systemd"), "/sys/fs/cgroup/systemd/init"),
            ]
        );
        assert_eq!(host.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified/u/v"));
    }

    #[test]
    fn unified_only() {
        let host =
            Host::unified_only("0::/user.slice/x\n", "cpuset cpu io memory pids rdma misc\n");
        assert_eq!(host.mode(), Mode::V2);
        assert_eq!(host.v2.as_ref().unwrap().own, Path::new("/sys/fs/cgroup/user.slice/x"));
        assert!(host.in_v2(Controller::Io) && !host.in_v2(Controller::Hugetlb));
        assert!(host.has_devices());
    }

    #[test]
    fn own_cgroup_is_seen_from_the_mounted_root() {
        for (root, path, want) in [
            ("/", "/a/b", "/m/a/b"),
            ("/", "/", "/m"),
            ("/docker/x", "/docker/x", "/m"),
            ("/docker/x", "/docker/x/y", "/m/y"),
            ("/", "/../..", "/m"),
            ("/docker/x", "/other", "/m"),
        ] {
            assert_eq!(beneath(Path::new("/m"), root, path), Path::new(want), "{root} {path}");
        }
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!(Host::parse("a b c\n - \n1 2 3 4 - cgroup\n", "x\n:\n").mode(), Mode::None);
        assert_eq!(unescape(r"a\040b\134\9\04"), r"a b\\9\04");
    }

    #[test]
    fn this_machine_has_cgroups() {
        let host = Host::detect().unwrap();
        if host.mode() == Mode::None {
            eprintln!("SKIP this_machine_has_cgroups: none are mounted");
            return;
        }
        assert!(!host.controllers().is_empty());
        // The short way finds what the long one does.
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let long = Host::parse(&mounts, &own);
        let by_mount = |h: &Host| {
            let mut v1 = h.v1.clone();
            v1.sort_by(|a, b| a.mount.cmp(&b.mount));
            (v1, h.v2.as_ref().map(|v| (v.mount.clone(), v.own.clone())))
        };
        assert_eq!(by_mount(&host), by_mount(&long));
        host.v1.iter().for_each(|h| assert!(h.mount.is_dir() && h.own.starts_with(&h.mount)));
    }
}
