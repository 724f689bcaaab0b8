//! What is in use, what the kernel can do, and what follows from what it cannot.

use std::{ffi::CStr, fs, os::fd::AsFd as _};

use hako_cgroup::Controller;
use hako_snapshot::Snapshotter as _;
use hako_sys::{Errno, fs as sysfs, mount, process};
use serde::Serialize;

use crate::{Engine, Error, Result, Status, places};

/// Something the kernel may have, and what hako does without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// What was found: versions, modes; or why it is not there.
    pub detail: String,
    /// What follows where it is missing; empty where it is there.
    pub consequence: &'static str,
}

/// What `hako info` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Version of hako.
    pub server_version: &'static str,
    /// The store.
    pub root: String,
    /// Runtime state.
    pub run_root: String,
    /// Containers, however they are.
    pub containers: usize,
    /// Those that run.
    pub containers_running: usize,
    /// Those that are frozen.
    pub containers_paused: usize,
    /// Those that do not run.
    pub containers_stopped: usize,
    /// Images.
    pub images: usize,
    /// The snapshotter.
    pub driver: &'static str,
    /// Why it is that one.
    pub driver_reason: String,
    /// How control groups are made.
    pub cgroup_driver: &'static str,
    /// `1`, `2` or `hybrid`.
    pub cgroup_version: String,
    /// Controllers that limits can be set with.
    pub cgroup_controllers: Vec<String>,
    /// The kernel's release.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// Processor architecture.
    pub architecture: &'static str,
    /// Processors online.
    #[serde(rename = "NCPU")]
    pub ncpu: u32,
    /// Bytes of memory.
    pub mem_total: u64,
    /// The machine's host name.
    pub name: String,
    /// Whether containers are an ordinary user's.
    pub rootless: bool,
    /// Kernel features, one by one.
    pub features: Vec<Feature>,
}

impl Engine {
    /// Looks at everything.
    pub fn info(&self) -> Result<Info> {
        let statuses =
            self.list()?.iter().map(|c| self.status(c)).collect::<Result<Vec<Status>>>()?;
        let count = |is: fn(&Status) -> bool| statuses.iter().filter(|s| is(s)).count();
        let paused = count(|s| s.word() == "paused");
        let running = count(Status::is_running);
        let cgroup = hako_cgroup::Host::detect()?;
        Ok(Info {
            server_version: env!("CARGO_PKG_VERSION"),
            root: self.places().root.display().to_string(),
            run_root: self.places().run_root.display().to_string(),
            containers: statuses.len(),
            containers_running: running - paused,
            containers_paused: paused,
            containers_stopped: statuses.len() - running,
            images: self.image_list()?.len(),
            driver: self.snapshots()?.name(),
            driver_reason: self.snapshots()?.reason(),
            cgroup_driver: "cgroupfs",
            cgroup_version: cgroup.mode().name().trim_start_matches('v').to_owned(),
            cgroup_controllers: cgroup.controllers().iter().map(|c| c.to_string()).collect(),
            kernel_version: kernel_release()?,
            operating_system: operating_system(),
            architecture: std::env::consts::ARCH,
            ncpu: cpus(),
            mem_total: mem_total_bytes(),
            name: read("/proc/sys/kernel/hostname"),
            rootless: !places::is_root(),
            features: features(&cgroup),
        })
    }
}

/// A probe: what was found, or why it is missing.
type Probe = fn() -> Result<String, String>;

/// Name, probe, and what hako does without it.
const FEATURES: &[(&str, Probe, &str)] = &[
    ("overlayfs", || filesystem(c"overlay"), "no container can be started"),
    ("user namespaces", user_namespaces, "containers in user namespaces are refused by hako-runc"),
    ("time namespaces", || namespace("time"), "time offsets in a bundle are refused"),
    ("cgroup namespaces", || namespace("cgroup"), "containers see the host's cgroup paths"),
    ("seccomp filters", seccomp, "containers start only with --security-opt seccomp=unconfined"),
    ("AppArmor", apparmor, "--security-opt apparmor=PROFILE is refused; no profile is the default"),
    ("SELinux", selinux, "labels are not applied"),
    ("openat2", openat2, "hako needs Linux 5.6 or newer"),
    ("pidfd", pidfd, "hako needs Linux 5.3 or newer"),
    ("idmapped mounts", idmapped, "idmap and ridmap mount options are refused"),
    ("EROFS", || filesystem(c"erofs"), "layers are unpacked to directories"),
    (
        "CAP_SYS_RESOURCE",
        sys_resource,
        "--ulimit above the hard limit is refused; oom_score_adj cannot be lowered",
    ),
];

fn features(cgroup: &hako_cgroup::Host) -> Vec<Feature> {
    let mut features: Vec<Feature> = FEATURES
        .iter()
        .map(|&(name, probe, consequence)| feature(name, probe(), consequence))
        .collect();
    for &(name, controller, consequence) in CONTROLLERS {
        let found = match cgroup.controllers().contains(controller) {
            true if cgroup.in_v2(controller) => Ok("cgroup v2".to_owned()),
            true => Ok("cgroup v1".to_owned()),
            false => Err("the controller is not mounted".to_owned()),
        };
        features.push(feature(name, found, consequence));
    }
    features
}

/// Name, controller, and what hako does without it.
const CONTROLLERS: &[(&str, Controller, &str)] = &[
    ("memory controller", Controller::Memory, "--memory is refused"),
    ("cpu controller", Controller::Cpu, "--cpus and --cpu-shares are refused"),
    ("cpuset controller", Controller::Cpuset, "--cpuset-cpus is refused"),
    ("pids controller", Controller::Pids, "--pids-limit is refused"),
    ("block I/O controller", Controller::Io, "--blkio-weight is refused"),
];

fn feature(
    name: &'static str,
    found: Result<String, String>,
    consequence: &'static str,
) -> Feature {
    match found {
        Ok(detail) => Feature { name, available: true, detail, consequence: "" },
        Err(detail) => Feature { name, available: false, detail, consequence },
    }
}

fn filesystem(name: &CStr) -> Result<String, String> {
    // The kernel loads a module when it is asked for one: the list knows only those that are there.
    match mount::fsopen(name) {
        Ok(_) => Ok("built in or a module".into()),
        Err(Errno::ENODEV) => Err("neither built in nor a module".into()),
        Err(_) => {
            let list = read("/proc/filesystems");
            let is = |line: &str| line.split_whitespace().last() == name.to_str().ok();
            match list.lines().any(is) {
                true => Ok("built in or loaded".into()),
                false => Err("not in /proc/filesystems; root may be able to load it".into()),
            }
        }
    }
}

fn namespace(kind: &str) -> Result<String, String> {
    fs::symlink_metadata(format!("/proc/self/ns/{kind}"))
        .map(|_| "yes".to_owned())
        .map_err(|e| e.to_string())
}

fn user_namespaces() -> Result<String, String> {
    namespace("user")?;
    match read("/proc/sys/user/max_user_namespaces").parse::<u64>() {
        Ok(0) => Err("user.max_user_namespaces is 0".into()),
        Ok(n) => Ok(format!("at most {n}")),
        Err(_) => Err("/proc/sys/user/max_user_namespaces cannot be read".into()),
    }
}

fn seccomp() -> Result<String, String> {
    match read("/proc/sys/kernel/seccomp/actions_avail") {
        actions if actions.is_empty() => Err("the kernel was built without it".into()),
        actions => Ok(format!("actions {actions}")),
    }
}

fn apparmor() -> Result<String, String> {
    match read("/sys/module/apparmor/parameters/enabled").as_str() {
        "Y" => Ok("enabled".into()),
        "" => Err("the kernel was built without it".into()),
        _ => Err("disabled".into()),
    }
}

fn selinux() -> Result<String, String> {
    match fs::metadata("/sys/fs/selinux/enforce") {
        Ok(_) => Ok("enabled".into()),
        Err(_) => Err("not enabled".into()),
    }
}

fn openat2() -> Result<String, String> {
    sysfs::openat2(sysfs::cwd(), c"/", sysfs::OpenFlags::PATH, 0, sysfs::Resolve::empty())
        .map(|_| "yes".to_owned())
        .map_err(|e| e.to_string())
}

fn pidfd() -> Result<String, String> {
    process::pidfd_open(process::pid()).map(|_| "yes".to_owned()).map_err(|e| e.to_string())
}

fn idmapped() -> Result<String, String> {
    let root =
        sysfs::openat2(sysfs::cwd(), c"/", sysfs::OpenFlags::PATH, 0, sysfs::Resolve::empty())
            .map_err(|e| e.to_string())?;
    // A change of nothing on somebody else's mount: refused or not, the call is known.
    match mount::set_attr(root.as_fd(), &mount::Change::default()) {
        Err(Errno::ENOSYS) => Err("the kernel is older than 5.12".into()),
        _ => Ok("mount_setattr".into()),
    }
}

fn sys_resource() -> Result<String, String> {
    const CAP_SYS_RESOURCE: u32 = 24;
    let effective = read("/proc/self/status")
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    match effective >> CAP_SYS_RESOURCE & 1 {
        1 => Ok("held".into()),
        _ => Err("not among this user's capabilities".into()),
    }
}

/// A small file of the kernel, without its last newline; empty where it is not there.
fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

fn kernel_release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim_end().to_owned())
}

fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

fn mem_total_bytes() -> u64 {
    read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn operating_system() -> String {
    let text = read("/etc/os-release");
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
