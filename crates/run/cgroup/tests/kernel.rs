//! Against the kernel: cgroups of their own names, removed even when a test fails.
#![allow(clippy::unwrap_used)] // Helpers of tests panic as tests do.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use hako_cgroup::{Cgroup, Controller, Created, Host, Join, Plan, Request};
use hako_oci::runtime::Resources;

/// Why the test cannot run here, told on standard error.
fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

/// A cgroup that is killed and removed at the end of its test.
struct Guard {
    host: Host,
    created: Option<Created>,
    cgroup: Cgroup,
}

impl Guard {
    fn new(test: &str, join: Join, resources: &str) -> Option<Guard> {
        Guard::on(Host::detect().unwrap(), test, join, resources)
    }

    fn on(host: Host, test: &str, join: Join, resources: &str) -> Option<Guard> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if host.mode() == hako_cgroup::Mode::None {
            skip(test, "no cgroups are mounted");
            return None;
        }
        let resources: Resources = serde_json::from_str(resources).unwrap();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("hako-test-{}-{n}", std::process::id());
        let path = format!("/{id}");
        let request = Request { path: Some(&path), id: &id, resources: Some(&resources), join };
        let created = match Plan::new(&host, &request).and_then(|p| p.create()) {
            Ok(created) => created,
            Err(e) if e.is_permission() => {
                skip(test, &format!("{e}"));
                return None;
            }
            Err(hako_cgroup::Error::Missing { controller, .. }) => {
                skip(test, &format!("no controller {controller}"));
                return None;
            }
            Err(e) => panic!("{e:?}"),
        };
        Some(Guard { host, cgroup: created.cgroup().clone(), created: Some(created) })
    }

    fn dir(&self, controller: Controller) -> PathBuf {
        self.cgroup.directory(controller).unwrap().path.clone()
    }

    fn read(&self, controller: Controller, file: &str) -> String {
        fs::read_to_string(self.dir(controller).join(file)).unwrap().trim().to_owned()
    }

    /// Runs a shell inside.
    fn sh(&self, script: &str) -> Child {
        let paths: Vec<PathBuf> =
            self.cgroup.directories().iter().map(|d| d.path.join("cgroup.procs")).collect();
        let enter: String = paths.iter().map(|p| format!("echo $$ > {}; ", p.display())).collect();
        Command::new("sh")
            .arg("-c")
            .arg(format!("{enter} exec sh -c '{script}'"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// Runs something inside that does nothing, and returns when it is there in every hierarchy.
    fn sleeper(&self) -> Child {
        let child = self.sh("exec sleep 60");
        let pid = child.id().to_string();
        eventually("inside", || {
            self.cgroup.directories().iter().all(|d| {
                fs::read_to_string(d.path.join("cgroup.procs")).unwrap().lines().any(|l| l == pid)
            })
        });
        child
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.cgroup.thaw().ok();
        self.cgroup.kill_all().ok();
        // With what was joined late. Panicking while panicking would hide the first one.
        if let Err(e) = self.cgroup.remove()
            && !std::thread::panicking()
        {
            panic!("{e:?}");
        }
    }
}

/// The resources without `burst` where the kernel (before 5.14) has no file for it.
fn known(resources: &str) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    if version >= (5, 14) {
        return resources.to_owned();
    }
    let mut value: serde_json::Value = serde_json::from_str(resources).unwrap();
    value["cpu"].as_object_mut().unwrap().remove("burst");
    value.to_string()
}

/// Waits for something that the kernel does in its own time.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Two who make cgroups beneath one that has handed nothing down yet: one of them finds the controllers
/// named before their files are there.
#[test]
fn neighbours_enable_the_same_controllers_at_once() {
    let name = "neighbours_enable_the_same_controllers_at_once";
    let host = Host::detect().unwrap();
    let Some(unified) = host.v2.clone().filter(|_| host.in_v2(Controller::Memory)) else {
        return skip(name, "no memory controller in v2");
    };
    let above = format!("hako-test-{}-together", std::process::id());
    for round in 0..60 {
        let resources: Resources =
            serde_json::from_str(r#"{"memory": {"limit": 67108864}, "pids": {"limit": 9}}"#)
                .unwrap();
        // Its own for each round: nothing is handed down to what is below.
        let above = format!("/{above}-{round}");
        fs::create_dir(unified.mount.join(&above[1..])).unwrap();
        let make = |number: u32| {
            let path = format!("{above}/{number}");
            let request = Request {
                path: Some(&path),
                id: "together",
                resources: Some(&resources),
                join: Join::Needed,
            };
            // Without device programs: before Linux 5.11 so many exceed what memory may be locked.
            Plan::new(&host, &request).and_then(|plan| plan.without_devices().create())
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || make(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let errors: Vec<String> =
            all.iter().filter_map(|made| made.as_ref().err()).map(|e| format!("{e:?}")).collect();
        drop(all);
        fs::remove_dir(unified.mount.join(&above[1..])).unwrap();
        assert!(errors.is_empty(), "round {round}: {errors:?}");
    }
}

#[test]
fn dropped_it_is_gone_and_kept_it_stays() {
    let name = "dropped_it_is_gone_and_kept_it_stays";
    let Some(mut guard) = Guard::new(name, Join::All, "{}") else { return };
    assert_eq!(
        guard.cgroup.directories().len(),
        guard.host.v1.len() + usize::from(guard.host.v2.is_some())
    );
    assert!(guard.cgroup.directories().iter().all(|d| d.path.is_dir()));
    drop(guard.created.take());
    assert!(!guard.cgroup.exists());
    guard.cgroup.remove().unwrap(); // Ok where it is gone.

    let Some(mut guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let kept = guard.created.take().unwrap().keep();
    assert!(kept.exists());
    let json = serde_json::to_string(&kept).unwrap();
    let read: Cgroup = serde_json::from_str(&json).unwrap();
    assert_eq!(read, kept);
    read.remove().unwrap();
    assert!(!kept.exists());
}

#[test]
fn limits_are_read_back() {
    let name = "limits_are_read_back";
    let resources = r#"{
        "memory": {"limit": 33554432, "swap": 67108864, "reservation": 16777216},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 17}
    }"#;
    let resources = known(resources);
    let burst = resources.contains("burst");
    let Some(guard) = Guard::new(name, Join::Needed, &resources) else { return };
    let v1 = guard.host.hierarchy(Controller::Memory).is_some();
    let cases: &[(Controller, &str, &str)] = if v1 {
        &[
            (Controller::Memory, "memory.limit_in_bytes", "33554432"),
            (Controller::Memory, "memory.soft_limit_in_bytes", "16777216"),
            (Controller::Cpu, "cpu.shares", "512"),
            (Controller::Cpu, "cpu.cfs_quota_us", "50000"),
            (Controller::Cpu, "cpu.cfs_burst_us", "10000"),
            (Controller::Cpuset, "cpuset.cpus", "0"),
            (Controller::Pids, "pids.max", "17"),
        ]
    } else {
        &[
            (Controller::Memory, "memory.max", "33554432"),
            (Controller::Memory, "memory.swap.max", "33554432"),
            (Controller::Memory, "memory.low", "16777216"),
            (Controller::Cpu, "cpu.weight", "59"),
            (Controller::Cpu, "cpu.max", "50000 100000"),
            (Controller::Cpu, "cpu.max.burst", "10000"),
            (Controller::Cpuset, "cpuset.cpus", "0"),
            (Controller::Pids, "pids.max", "17"),
        ]
    };
    for (controller, file, value) in cases.iter().filter(|c| burst || !c.1.contains("burst")) {
        assert_eq!(guard.read(*controller, file), *value, "{file}");
    }
}

#[test]
fn updates_pass_in_both_directions() {
    let name = "updates_pass_in_both_directions";
    let Some(mut guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let v1 = guard.host.hierarchy(Controller::Memory).is_some();
    let mut child = guard.sleeper();
    for mib in [64i64, 256, 32, 128] {
        let resources = format!(
            r#"{{"memory": {{"limit": {}, "swap": {}}},
                "cpu": {{"quota": {}, "period": {}, "burst": {}}}}}"#,
            mib << 20,
            mib << 21,
            mib * 100,
            mib * 200,
            mib * 50
        );
        let resources: Resources = serde_json::from_str(&known(&resources)).unwrap();
        let host = guard.host.clone();
        guard.cgroup.update(&host, &resources).unwrap();
        if !v1 {
            let limit = guard.read(Controller::Memory, "memory.max");
            assert_eq!(limit, (mib << 20).to_string());
            let quota = guard.read(Controller::Cpu, "cpu.max");
            assert_eq!(quota, format!("{} {}", mib * 100, mib * 200));
        } else {
            let limit = guard.read(Controller::Memory, "memory.limit_in_bytes");
            assert_eq!(limit, (mib << 20).to_string());
            assert_eq!(guard.read(Controller::Cpu, "cpu.cfs_quota_us"), (mib * 100).to_string());
        }
        // A hierarchy that was joined late has the process as well.
        let procs = guard.read(Controller::Cpu, "cgroup.procs");
        assert!(procs.lines().any(|p| p == child.id().to_string()), "{procs}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was joined late is removed too.
    guard.cgroup.remove().unwrap();
}

#[test]
fn fork_beyond_the_limit_fails() {
    let name = "fork_beyond_the_limit_fails";
    let Some(guard) = Guard::new(name, Join::Needed, r#"{"pids": {"limit": 4}}"#) else { return };
    let child = guard.sh("for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait");
    let output = {
        eventually("failed to fork", || {
            let events = guard.read(Controller::Pids, "pids.events");
            events.lines().any(|l| l.starts_with("max ") && l != "max 0")
        });
        assert!(guard.cgroup.pids().unwrap().len() <= 4);
        guard.cgroup.kill_all().unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(!output.status.success());
    eventually("empty", || guard.cgroup.is_empty().unwrap());
}

#[test]
fn frozen_processes_stand_still() {
    let name = "frozen_processes_stand_still";
    let Some(guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let mut child = guard.sh("while :; do :; done");
    eventually("inside", || !guard.cgroup.is_empty().unwrap());
    guard.cgroup.freeze().unwrap();
    assert!(guard.cgroup.is_frozen().unwrap());
    let time = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.split(' ').nth(13).unwrap().to_owned()
    };
    let before = time();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(time(), before);
    // A frozen process can be killed.
    guard.cgroup.kill_all().unwrap();
    guard.cgroup.thaw().unwrap();
    assert!(!guard.cgroup.is_frozen().unwrap());
    child.wait().unwrap();
    eventually("empty", || guard.cgroup.is_empty().unwrap());
}

#[test]
fn all_are_killed_while_they_fork() {
    let name = "all_are_killed_while_they_fork";
    for join in [Join::Needed, Join::All] {
        let resources = r#"{"pids": {"limit": 200}}"#;
        let Some(guard) = Guard::new(name, join, resources) else { return };
        let mut child =
            guard.sh("f() { while :; do (sleep 0.01 & (f 2>/dev/null) & ); done; }; f 2>/dev/null");
        eventually("many", || guard.cgroup.pids().unwrap().len() > 20);
        guard.cgroup.kill_all().unwrap();
        child.wait().unwrap();
        eventually("empty", || guard.cgroup.is_empty().unwrap());
        guard.cgroup.remove().unwrap();
    }
}

#[test]
fn children_are_listed_and_removed() {
    let name = "children_are_listed_and_removed";
    let Some(guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let inner = guard.cgroup.directories()[0].path.join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
    assert_eq!(guard.cgroup.pids().unwrap(), [child.id() as i32]);
    guard.cgroup.kill_all().unwrap();
    child.wait().unwrap();
    guard.cgroup.remove().unwrap();
    assert!(!guard.cgroup.exists());
}

#[test]
fn where_a_process_of_the_container_is() {
    use std::os::fd::AsRawFd;
    let name = "where_a_process_of_the_container_is";
    let Some(guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let Some(unified) = guard.cgroup.unified().map(Path::to_owned) else {
        return skip(name, "no cgroup v2");
    };
    let mut child = guard.sleeper();
    fs::create_dir(unified.join("init")).unwrap();
    fs::write(unified.join("init/cgroup.procs"), child.id().to_string()).unwrap();
    let opened = |pid: u32| {
        let fd = guard.cgroup.open_unified_of(pid as i32).unwrap().unwrap();
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    };
    assert_eq!(opened(child.id()), unified.join("init"));
    // A process that is elsewhere leads to the container's own.
    assert_eq!(opened(std::process::id()), unified);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn one_thread_enters_v1_by_itself() {
    use std::io::Write;
    let name = "one_thread_enters_v1_by_itself";
    let Some(guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let files = guard.cgroup.open_v1().unwrap();
    let v1: Vec<_> = guard.cgroup.directories().iter().filter(|d| !d.unified).collect();
    assert_eq!(files.len(), v1.len());
    // The thread of this test moves, its process stays.
    for (mut file, directory) in files.into_iter().zip(v1) {
        file.write_all(b"0").unwrap();
        let tasks = fs::read_to_string(directory.path.join("tasks")).unwrap();
        assert_eq!(tasks.lines().count(), 1, "{tasks}");
        fs::write(directory.mount.join("tasks"), "0").unwrap();
    }
}

#[test]
fn a_cgroup_with_processes_is_not_taken() {
    let name = "a_cgroup_with_processes_is_not_taken";
    let Some(guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let mut child = guard.sleeper();
    let path = format!("/{}", guard.cgroup.directories()[0].path.file_name().unwrap().display());
    let request = Request { path: Some(&path), id: "x", resources: None, join: Join::Needed };
    let error = Plan::new(&guard.host, &request).unwrap().create().unwrap_err();
    assert!(matches!(error, hako_cgroup::Error::InUse { .. }), "{error}");
    assert!(guard.cgroup.exists());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_refused_value_names_file_value_and_field() {
    let name = "a_refused_value_names_file_value_and_field";
    let host = Host::detect().unwrap();
    if host.controllers().intersect(hako_cgroup::Controllers::of([Controller::Cpuset])).is_empty() {
        return skip(name, "no cpuset controller");
    }
    let resources: Resources = serde_json::from_str(r#"{"cpu": {"cpus": "4000"}}"#).unwrap();
    let path = format!("/hako-test-{}-refused", std::process::id());
    let request =
        Request { path: Some(&path), id: "x", resources: Some(&resources), join: Join::Needed };
    let plan = Plan::new(&host, &request).unwrap();
    match plan.create() {
        Err(e) if e.is_permission() => return skip(name, &e.to_string()),
        Err(e) => {
            let text = e.to_string();
            assert!(text.starts_with("linux.resources.cpu.cpus: write \"4000\" to /"), "{text}");
        }
        Ok(_) => panic!("processor 4000"),
    }
    for d in &plan.directories {
        assert!(!Path::new(&d.path).exists(), "{:?} is left", d.path);
    }
}

#[test]
fn killed_for_want_of_memory_is_counted() {
    let name = "killed_for_want_of_memory_is_counted";
    let resources = r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#;
    let guard = match Guard::new(name, Join::Needed, resources) {
        Some(guard) => guard,
        None => return,
    };
    assert_eq!(guard.cgroup.oom_kills().unwrap(), Some(0));
    let output = guard.sh("x=a; while :; do x=$x$x; done").wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(guard.cgroup.oom_kills().unwrap().unwrap() >= 1);
    let memory = guard.cgroup.stats().unwrap().memory.unwrap();
    assert_eq!(memory.limit, Some(8 << 20));
    assert!(memory.oom_kills >= 1, "{memory:?}");
}

/// Opens null, which is allowed, and full, which is not.
const OPEN: &str = "true > /dev/null || exit 1; true < /dev/full && exit 2; exit 0";
const ONLY_NULL: &str = r#"{"devices": [{"allow": true, "access": "rwm"},
    {"allow": false, "type": "c", "major": 1, "minor": 7, "access": "r"}]}"#;

const ALL_BUT_FULL: &str = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "access": "rw"},
    {"allow": false, "type": "c", "major": 1, "minor": 7, "access": "r"}]}"#;

fn check_devices(name: &str, host: Host) {
    let Some(mut guard) = Guard::on(host, name, Join::Needed, ONLY_NULL) else { return };
    let output = guard.sh(OPEN).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // Back to everything, and to the default, in which full may be read.
    let host = guard.host.clone();
    for rules in [r#"[{"allow": true, "access": "rwm"}]"#, r#"[{"allow": false, "access": "rwm"}]"#]
    {
        let resources: Resources =
            serde_json::from_str(&format!(r#"{{"devices": {rules}}}"#)).unwrap();
        guard.cgroup.update(&host, &resources).unwrap();
        let output = guard.sh(OPEN).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{rules}");
    }
    if guard.host.v2.is_some() {
        let resources: Resources = serde_json::from_str(ALL_BUT_FULL).unwrap();
        guard.cgroup.update(&host, &resources).unwrap();
        // Full is one of the devices that every container may use; kmsg (1:11) was given.
        let node =
            std::env::temp_dir().join(format!("hako-test-kmsg-{name}-{}", std::process::id()));
        let script = format!(
            "mknod {0} c 1 11 || exit 1; true < {0} || exit 2; true < /dev/full || exit 3; exit 0",
            node.display()
        );
        let output = guard.sh(&script).wait_with_output().unwrap();
        fs::remove_file(&node).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        // And back to rules that both versions can express.
        let resources: Resources = serde_json::from_str(
            r#"{"devices": [{"allow": true, "type": "b", "major": 1, "minor": 1, "access": "r"}]}"#,
        )
        .unwrap();
        guard.cgroup.update(&host, &resources).unwrap();
    }
    // The machine's memory is no device of a container; making its node is harmless.
    let node = std::env::temp_dir().join(format!("hako-test-mem-{name}-{}", std::process::id()));
    let script = format!(
        "mknod {0} c 1 1 || exit 1; true < {0} && exit 2; true < /dev/zero || exit 3; exit 0",
        node.display()
    );
    let output = guard.sh(&script).wait_with_output().unwrap();
    fs::remove_file(&node).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn devices_by_lines() {
    let host = Host::detect().unwrap();
    if host.hierarchy(Controller::Devices).is_none() {
        return skip("devices_by_lines", "no v1 devices controller");
    }
    check_devices("devices_by_lines", host);
}

#[test]
fn devices_by_program() {
    let mut host = Host::detect().unwrap();
    if host.v2.is_none() {
        return skip("devices_by_program", "no cgroup v2");
    }
    host.v1.retain(|h| !h.controllers.contains(Controller::Devices));
    check_devices("devices_by_program", host);
}

#[test]
fn a_new_program_takes_the_place_of_the_old() {
    use std::os::fd::AsFd;
    let name = "a_new_program_takes_the_place_of_the_old";
    let mut host = Host::detect().unwrap();
    if host.v2.is_none() {
        return skip(name, "no cgroup v2");
    }
    host.v1.retain(|h| !h.controllers.contains(Controller::Devices));
    let Some(mut guard) = Guard::on(host.clone(), name, Join::Needed, "{}") else { return };
    let programs = |guard: &Guard| {
        let fd = guard.cgroup.open_unified().unwrap().unwrap();
        hako_sys::bpf::device_programs(fd.as_fd()).unwrap()
    };
    let before = programs(&guard);
    assert_eq!(before.len(), 1);
    let resources: Resources = serde_json::from_str(ONLY_NULL).unwrap();
    guard.cgroup.update(&host, &resources).unwrap();
    let after = programs(&guard);
    assert_eq!(after.len(), 1);
    assert_ne!(before, after);
    // Without rules devices stay as they are.
    guard.cgroup.update(&host, &Resources::default()).unwrap();
    assert_eq!(programs(&guard), after);
}

#[test]
fn statistics() {
    let name = "statistics";
    for (join, resources) in [(Join::Needed, "{}"), (Join::All, r#"{"pids": {"limit": 50}}"#)] {
        let Some(guard) = Guard::new(name, join, resources) else { return };
        let mut child = guard.sh("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; exec sleep 60");
        eventually("processor time", || guard.cgroup.stats().unwrap().cpu.usage > 1_000_000);
        let stats = guard.cgroup.stats().unwrap();
        assert_eq!(stats.pids.current, 1);
        assert_eq!(stats.pids.limit, (join == Join::All).then_some(50));
        let memory = stats.memory.unwrap();
        assert!(memory.usage > 4096 && memory.limit.is_none(), "{memory:?}");
        assert!(!memory.stat.is_empty());
        if guard.host.v2.is_some() {
            assert!(stats.cpu.pressure.is_some());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn huge_page_limits() {
    let name = "huge_page_limits";
    let resources = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
    let Some(guard) = Guard::new(name, Join::Needed, resources) else { return };
    let d = guard.cgroup.directory(Controller::Hugetlb).unwrap();
    let file = if d.unified { "hugetlb.2MB.max" } else { "hugetlb.2MB.limit_in_bytes" };
    assert_eq!(guard.read(Controller::Hugetlb, file), "4194304");
    assert_eq!(guard.cgroup.stats().unwrap().hugetlb["2MB"].usage, 0);
}

#[test]
fn a_limit_below_usage_is_refused_when_asked_to() {
    let name = "a_limit_below_usage_is_refused_when_asked_to";
    let Some(mut guard) = Guard::new(name, Join::Needed, "{}") else { return };
    let mut child = guard.sleeper();
    let resources: Resources =
        serde_json::from_str(r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#).unwrap();
    let host = guard.host.clone();
    let error = guard.cgroup.update(&host, &resources).unwrap_err();
    assert!(matches!(error, hako_cgroup::Error::BelowUsage { limit: 4096, .. }), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}
