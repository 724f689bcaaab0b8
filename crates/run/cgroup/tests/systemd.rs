//! Scopes of a real systemd, where that is process 1: `cargo xtask vm --systemd --test hako-cgroup`.
#![allow(clippy::unwrap_used)] // Helpers of tests panic as tests do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};

use hako_cgroup::{Cgroup, Host, Join, Plan, Request, systemd::Scope};
use hako_oci::runtime::Resources;
use serde_json::{Value, json};

/// Whether there is a systemd to be asked.
fn reached(test: &str) -> bool {
    let there = Path::new("/run/systemd/private").exists() && hako_sys::cred::effective_uid() == 0;
    if !there {
        println!("SKIP {test}: systemd is not process 1, or this is not root");
    }
    there
}

/// A process that waits, in a scope of its own; both end with this.
struct Guard {
    process: Child,
    cgroup: Cgroup,
    /// What was known of it before it was made.
    planned: Cgroup,
    name: String,
}

impl Guard {
    fn new(test: &str, annotations: &[(&str, &str)], resources: Value) -> Guard {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = format!("{test}-{}", std::process::id());
        let annotations: BTreeMap<String, String> =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let path = format!("hako-test.slice:t:{id}");
        let scope = Scope::new(Some(&path), &id, false, &annotations).unwrap();
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let host = Host::detect().unwrap();
        let path = scope.cgroup_path();
        let request =
            Request { path: Some(&path), id: &id, resources: Some(&resources), join: Join::Needed };
        let plan = Plan::new(&host, &request).unwrap();
        let plan = plan.in_scope(scope, &host, Some(&resources)).unwrap();
        let created = plan.create_around(process.id() as i32).unwrap();
        Guard {
            process,
            cgroup: created.keep(),
            planned: plan.planned(),
            name: format!("t-{id}.scope"),
        }
    }

    fn shows(&self, property: &str) -> String {
        systemctl(&["show", "--value", "-p", property, &self.name])
    }

    fn file(&self, name: &str) -> String {
        let path = self.cgroup.unified().unwrap().join(name);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn update(&mut self, resources: Value) {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        self.cgroup.update(&Host::detect().unwrap(), &resources).unwrap();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(self.cgroup.remove());
        // Made for the scope, and empty.
        systemctl(&["stop", "hako-test.slice", "hako.slice"]);
    }
}

fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_scope_holds_the_process_and_its_limits() {
    if !reached("a_scope_holds_the_process_and_its_limits") {
        return;
    }
    let limits = json!({
        "memory": {"limit": 67_108_864, "swap": 134_217_728},
        "pids": {"limit": 20},
        "cpu": {"shares": 512, "quota": 25_000, "period": 100_000, "cpus": "0"},
    });
    let annotations = [
        ("org.systemd.property.TimeoutStopSec", "7"),
        ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
    ];
    let mut guard = Guard::new("limits", &annotations, limits);
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", guard.process.id())).unwrap();
    let path = format!("/hako.slice/hako-test.slice/{}", guard.name);
    assert!(own.lines().any(|line| line.ends_with(&path)), "{own}");
    for (property, value) in [
        ("ActiveState", "active"),
        ("Delegate", "yes"),
        ("Slice", "hako-test.slice"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "67108864"),
        ("TasksMax", "20"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "strict"),
        ("TimeoutStopUSec", "7s"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert_eq!(guard.shows(property), value, "{property}");
    }
    // What is changed is told to systemd, or it would be undone when systemd reads its units again.
    guard.update(json!({"memory": {"limit": 33_554_432}, "pids": {"limit": -1}}));
    systemctl(&["daemon-reload"]);
    assert_eq!(guard.shows("MemoryMax"), "33554432");
    assert_eq!(
        (guard.file("memory.max").as_str(), guard.file("pids.max").as_str()),
        ("33554432", "max")
    );
    guard.cgroup.kill_all().unwrap();
    guard.process.wait().unwrap();
    guard.cgroup.remove().unwrap();
    assert!(!guard.cgroup.exists());
    assert_eq!(guard.shows("LoadState"), "not-found");
    // A second time, as by two who delete at once.
    guard.cgroup.remove().unwrap();
}

#[test]
fn what_was_planned_is_enough_to_remove_it() {
    if !reached("what_was_planned_is_enough_to_remove_it") {
        return;
    }
    let mut guard = Guard::new("planned", &[], json!({"pids": {"limit": 30}}));
    let saved = serde_json::to_vec(&guard.planned).unwrap();
    let planned: Cgroup = serde_json::from_slice(&saved).unwrap();
    planned.kill_all().unwrap();
    guard.process.wait().unwrap();
    planned.remove().unwrap();
    assert!(!guard.cgroup.exists());
    assert_eq!(guard.shows("LoadState"), "not-found");
}

#[test]
fn a_group_within_the_scope() {
    if !reached("a_group_within_the_scope") {
        return;
    }
    let annotations = [("run.oci.systemd.subgroup", "container")];
    let guard = Guard::new("within", &annotations, json!({"pids": {"limit": 30}}));
    assert!(guard.cgroup.unified().unwrap().ends_with(format!("{}/container", guard.name)));
    assert_eq!(guard.file("cgroup.procs"), guard.process.id().to_string());
    assert_eq!(guard.file("pids.max"), "30");
    guard.cgroup.freeze().unwrap();
    assert!(guard.cgroup.is_frozen().unwrap());
    guard.cgroup.thaw().unwrap();
}

#[test]
fn what_systemd_does_not_take_leaves_nothing() {
    if !reached("what_systemd_does_not_take_leaves_nothing") {
        return;
    }
    let id = format!("wrong-{}", std::process::id());
    let annotations =
        BTreeMap::from([("org.systemd.property.NoSuchThing".to_owned(), "1".to_owned())]);
    let scope = Scope::new(None, &id, false, &annotations).unwrap();
    let host = Host::detect().unwrap();
    let path = scope.cgroup_path();
    let request = Request { path: Some(&path), id: &id, resources: None, join: Join::Needed };
    let plan = Plan::new(&host, &request).unwrap().in_scope(scope, &host, None).unwrap();
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    let error = plan.create_around(process.id() as i32).unwrap_err().to_string();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(error.contains("NoSuchThing"), "{error}");
    assert!(!Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')).exists());
}
