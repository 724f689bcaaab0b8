//! Resources of `config.json` against the values that they become, on machines of each kind.

use hako_oci::runtime::Resources;

use crate::{
    Controller, Controllers, Error, Hierarchy, Host, Join, Plan, Request, Unified, weight_of_shares,
};

fn v1() -> Host {
    let hierarchy = |controllers: &[Controller], directory: &str| Hierarchy {
        controllers: Controllers::of(controllers.iter().copied()),
        name: None,
        mount: format!("/cg/{directory}").into(),
        own: format!("/cg/{directory}/own").into(),
    };
    use Controller::*;
    Host {
        v1: vec![
            hierarchy(&[Cpu, Cpuacct], "cpu,cpuacct"),
            hierarchy(&[Cpuset], "cpuset"),
            hierarchy(&[Memory], "memory"),
            hierarchy(&[Io], "blkio"),
            hierarchy(&[Devices], "devices"),
            hierarchy(&[Freezer], "freezer"),
            hierarchy(&[Pids], "pids"),
            hierarchy(&[Hugetlb], "hugetlb"),
            hierarchy(&[Rdma], "rdma"),
            hierarchy(&[NetCls, NetPrio], "net_cls,net_prio"),
            Hierarchy { name: Some("systemd".into()), ..hierarchy(&[], "systemd") },
        ],
        v2: None,
    }
}

fn v2() -> Host {
    use Controller::*;
    Host {
        v1: Vec::new(),
        v2: Some(Unified {
            controllers: Controllers::of([Cpu, Cpuset, Memory, Io, Pids, Hugetlb, Rdma, Misc]),
            mount: "/cg".into(),
            own: "/cg/user/session".into(),
        }),
    }
}

fn hybrid() -> Host {
    let mut host = v1();
    host.v1.retain(|h| !h.controllers.contains(Controller::Hugetlb));
    host.v2 = Some(Unified {
        controllers: Controllers::of([Controller::Hugetlb]),
        mount: "/cg/unified".into(),
        own: "/cg/unified".into(),
    });
    host
}

fn plan(host: &Host, path: &str, resources: &str, join: Join) -> Result<Plan, Error> {
    let resources: Resources = serde_json::from_str(resources).unwrap();
    let request = Request { path: Some(path), id: "id", resources: Some(&resources), join };
    Plan::new(host, &request)
}

/// The values, as `path = value`, devices left out.
#[track_caller]
fn check(host: &Host, resources: &str, want: &[&str]) {
    let plan = plan(host, "/c", resources, Join::Needed).unwrap();
    let have: Vec<_> = plan
        .writes
        .iter()
        .filter(|w| w.field != "linux.resources.devices")
        .map(|w| {
            let path = plan.directories[w.directory].path.join(&*w.file);
            let mut text = format!("{} = {}", path.display(), w.value);
            if let Some((file, value)) = &w.otherwise {
                text += &format!(" | {file} = {value}");
            }
            if w.optional {
                text += " (optional)";
            }
            text
        })
        .collect();
    assert_eq!(have, want);
}

#[track_caller]
fn refused(host: &Host, resources: &str, message: &str) {
    assert_eq!(plan(host, "/c", resources, Join::Needed).unwrap_err().to_string(), message);
}

const MEMORY: &str =
    r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500, "swappiness": 10}}"#;

#[test]
fn memory_of_v1() {
    let file = |name: &str, value: &str| format!("/cg/memory/c/memory.{name} = {value}");
    check(
        &v1(),
        MEMORY,
        &[
            &file("limit_in_bytes", "1000"),
            &file("memsw.limit_in_bytes", "3000"),
            &file("soft_limit_in_bytes", "500"),
            &file("swappiness", "10"),
        ],
    );
    // No limit of memory is none of swap either; zero was not asked for.
    let unlimited = format!("{} (optional)", file("memsw.limit_in_bytes", "-1"));
    check(&v1(), r#"{"memory": {"limit": -1}}"#, &[&file("limit_in_bytes", "-1"), &unlimited]);
    check(&v1(), r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0}}"#, &[]);
    check(
        &v1(),
        r#"{"memory": {"kernelTCP": 4096, "disableOOMKiller": true, "useHierarchy": true, "kernel": 1}}"#,
        &[
            &file("kmem.tcp.limit_in_bytes", "4096"),
            &file("oom_control", "1"),
            &file("use_hierarchy", "1"),
        ],
    );
}

#[test]
fn memory_of_v2() {
    check(
        &v2(),
        r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500}}"#,
        &["/cg/c/memory.swap.max = 2000", "/cg/c/memory.max = 1000", "/cg/c/memory.low = 500"],
    );
    for (resources, want) in [
        (
            r#"{"limit": 1000, "swap": 1000}"#,
            &["/cg/c/memory.swap.max = 0", "/cg/c/memory.max = 1000"][..],
        ),
        (
            r#"{"limit": 1000, "swap": -1}"#,
            &["/cg/c/memory.swap.max = max (optional)", "/cg/c/memory.max = 1000"],
        ),
        (r#"{"limit": -1}"#, &["/cg/c/memory.swap.max = max (optional)", "/cg/c/memory.max = max"]),
        (r#"{"limit": 1000}"#, &["/cg/c/memory.max = 1000"]),
        (r#"{"reservation": -1}"#, &["/cg/c/memory.low = max"]),
        (r#"{"swap": 0, "disableOOMKiller": false, "kernel": 7}"#, &[]),
    ] {
        check(&v2(), &format!(r#"{{"memory": {resources}}}"#), want);
    }
    for (resources, message) in [
        (r#"{"swap": 5}"#, "linux.resources.memory.swap: needs a limit of memory as well"),
        (
            r#"{"limit": -1, "swap": 5}"#,
            "linux.resources.memory.swap: needs a limit of memory as well",
        ),
        (
            r#"{"limit": 10, "swap": 5}"#,
            "linux.resources.memory.swap: 5 (memory and swap) is less than the limit of memory, 10",
        ),
        (r#"{"swappiness": 5}"#, "linux.resources.memory.swappiness: cgroup v2 has no such limit"),
    ] {
        refused(&v2(), &format!(r#"{{"memory": {resources}}}"#), message);
    }
}

#[test]
fn processors() {
    let cpu = r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 0, "cpus": "0-1", "mems": ""}}"#;
    check(
        &v1(),
        cpu,
        &[
            "/cg/cpu,cpuacct/c/cpu.shares = 1024",
            "/cg/cpu,cpuacct/c/cpu.cfs_period_us = 100000",
            "/cg/cpu,cpuacct/c/cpu.cfs_quota_us = 50000",
            "/cg/cpu,cpuacct/c/cpu.cfs_burst_us = 0",
            "/cg/cpuset/c/cpuset.cpus = 0-1",
        ],
    );
    check(
        &v2(),
        cpu,
        &[
            "/cg/c/cpu.weight = 100",
            "/cg/c/cpu.max = 50000 100000",
            "/cg/c/cpu.max.burst = 0",
            "/cg/c/cpuset.cpus = 0-1",
        ],
    );
    check(&v2(), r#"{"cpu": {"quota": -1}}"#, &["/cg/c/cpu.max = max 100000"]);
    check(&v2(), r#"{"cpu": {"period": 5000}}"#, &["/cg/c/cpu.max = max 5000"]);
    check(&v2(), r#"{"cpu": {"idle": 1, "shares": 2}}"#, &["/cg/c/cpu.idle = 1"]);
    check(
        &v1(),
        r#"{"cpu": {"quota": -1, "shares": 0}}"#,
        &["/cg/cpu,cpuacct/c/cpu.cfs_quota_us = -1"],
    );
    check(
        &v1(),
        r#"{"cpu": {"realtimeRuntime": 10, "realtimePeriod": 20, "idle": 1}}"#,
        &[
            "/cg/cpu,cpuacct/c/cpu.rt_period_us = 20",
            "/cg/cpu,cpuacct/c/cpu.rt_runtime_us = 10",
            "/cg/cpu,cpuacct/c/cpu.idle = 1",
        ],
    );
    let message = "linux.resources.cpu.realtimeRuntime: cgroup v2 has no such limit";
    refused(&v2(), r#"{"cpu": {"realtimeRuntime": 10}}"#, message);
}

#[test]
fn shares_become_weights() {
    for (shares, weight) in [
        (0, 1),
        (2, 1),
        (3, 2),
        (1024, 100),
        (512, 59),
        (2048, 174),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
    let weights: Vec<_> = (2..262_144).step_by(97).map(weight_of_shares).collect();
    assert!(weights.is_sorted() && weights.iter().all(|w| (1..=10_000).contains(w)));
}

#[test]
fn processes() {
    for (limit, want) in
        [("100", Some("100")), ("-1", Some("max")), ("-7", Some("max")), ("0", None)]
    {
        let resources = format!(r#"{{"pids": {{"limit": {limit}}}}}"#);
        let line = |dir: &str| want.map(|w| format!("{dir}/pids.max = {w}"));
        let as_slice = |l: Option<String>| l.into_iter().collect::<Vec<_>>();
        let (a, b) = (as_slice(line("/cg/pids/c")), as_slice(line("/cg/c")));
        check(&v1(), &resources, &a.iter().map(String::as_str).collect::<Vec<_>>());
        check(&v2(), &resources, &b.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

const BLOCK_IO: &str = r#"{"blockIO": {"weight": 500,
    "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#;

#[test]
fn block_devices() {
    check(
        &v1(),
        BLOCK_IO,
        &[
            "/cg/blkio/c/blkio.weight = 500 | blkio.bfq.weight = 500",
            "/cg/blkio/c/blkio.weight_device = 8:0 10 | blkio.bfq.weight_device = 8:0 10",
            "/cg/blkio/c/blkio.throttle.read_bps_device = 8:0 1024",
            "/cg/blkio/c/blkio.throttle.write_iops_device = 8:16 0",
        ],
    );
    check(
        &v2(),
        BLOCK_IO,
        &[
            "/cg/c/io.bfq.weight = 500 | io.weight = default 4950",
            "/cg/c/io.bfq.weight = 8:0 10 | io.weight = 8:0 1",
            "/cg/c/io.max = 8:0 rbps=1024",
            "/cg/c/io.max = 8:16 wiops=max",
        ],
    );
    let message = "linux.resources.blockIO.leafWeight: cgroup v2 has no such limit";
    refused(&v2(), r#"{"blockIO": {"leafWeight": 5}}"#, message);
}

const REST: &str = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
    "rdma": {"mlx5_1": {"hcaHandles": 3}}}"#;

#[test]
fn huge_pages_and_rdma() {
    check(
        &v1(),
        REST,
        &[
            "/cg/hugetlb/c/hugetlb.2MB.limit_in_bytes = 4194304",
            "/cg/hugetlb/c/hugetlb.2MB.rsvd.limit_in_bytes = 4194304 (optional)",
            "/cg/rdma/c/rdma.max = mlx5_1 hca_handle=3 hca_object=max",
        ],
    );
    check(
        &v2(),
        REST,
        &[
            "/cg/c/hugetlb.2MB.max = 4194304",
            "/cg/c/hugetlb.2MB.rsvd.max = 4194304 (optional)",
            "/cg/c/rdma.max = mlx5_1 hca_handle=3 hca_object=max",
        ],
    );
    // Each controller where this machine has it.
    check(
        &hybrid(),
        REST,
        &[
            "/cg/rdma/c/rdma.max = mlx5_1 hca_handle=3 hca_object=max",
            "/cg/unified/c/hugetlb.2MB.max = 4194304",
            "/cg/unified/c/hugetlb.2MB.rsvd.max = 4194304 (optional)",
        ],
    );
    for size in ["../x", "2M", "MB", "", "2MB/../.."] {
        let resources = format!(r#"{{"hugepageLimits": [{{"pageSize": {size:?}, "limit": 1}}]}}"#);
        let message = format!(
            "linux.resources.hugepageLimits[0].pageSize: {size:?} is not a size as 64KB, 2MB, 1GB"
        );
        refused(&v2(), &resources, &message);
    }
}

#[test]
fn network() {
    let resources =
        r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}}"#;
    check(
        &v1(),
        resources,
        &[
            "/cg/net_cls,net_prio/c/net_cls.classid = 1048577",
            "/cg/net_cls,net_prio/c/net_prio.ifpriomap = eth0 5",
        ],
    );
    refused(
        &v2(),
        resources,
        "linux.resources.network.classID: this machine has no cgroup controller `net_cls`",
    );
}

#[test]
fn unified_map() {
    let resources = r#"{"unified": {"memory.high": "1G", "io.max": "8:0 rbps=1\n8:16 wbps=2\n", "cgroup.max.depth": "3"}}"#;
    check(
        &v2(),
        resources,
        &[
            "/cg/c/cgroup.max.depth = 3",
            "/cg/c/io.max = 8:0 rbps=1",
            "/cg/c/io.max = 8:16 wbps=2",
            "/cg/c/memory.high = 1G",
        ],
    );
    refused(
        &v1(),
        r#"{"unified": {"cgroup.max.depth": "3"}}"#,
        "linux.resources.unified.cgroup.max.depth: invalid configuration: needs cgroup v2, which is not mounted",
    );
    refused(
        &hybrid(),
        r#"{"unified": {"memory.high": "3"}}"#,
        "linux.resources.unified.memory.high: invalid configuration: cgroup v2 has no controller `memory` here",
    );
    for name in ["../memory.max", ".hidden", "plain", "a/b.c"] {
        let resources = format!(r#"{{"unified": {{"{name}": "1"}}}}"#);
        let message = format!("linux.resources.unified.{name}: is not the name of a cgroup file");
        refused(&v2(), &resources, &message);
    }
}

#[test]
fn a_controller_that_is_not_there_is_an_error() {
    let mut host = v2();
    host.v2.as_mut().unwrap().controllers = Controllers::default();
    for (resources, message) in [
        (
            r#"{"memory": {"limit": 1}}"#,
            "linux.resources.memory: this machine has no cgroup controller `memory`",
        ),
        (
            r#"{"pids": {"limit": 1}}"#,
            "linux.resources.pids: this machine has no cgroup controller `pids`",
        ),
        (
            r#"{"cpu": {"shares": 5}}"#,
            "linux.resources.cpu: this machine has no cgroup controller `cpu`",
        ),
        (
            r#"{"cpu": {"cpus": "0"}}"#,
            "linux.resources.cpu.cpus: this machine has no cgroup controller `cpuset`",
        ),
        (BLOCK_IO, "linux.resources.blockIO: this machine has no cgroup controller `io`"),
    ] {
        refused(&host, resources, message);
    }
    refused(
        &Host::default(),
        "{}",
        "linux.resources.devices: this machine has no cgroup controller `devices`",
    );
}

#[test]
fn only_what_is_needed_is_joined() {
    let joined = |host: &Host, resources: &str, join| {
        let plan = plan(host, "/c", resources, join).unwrap();
        let name = |d: &crate::Directory| d.mount.file_name().unwrap().to_str().unwrap().to_owned();
        plan.directories.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(joined(&v1(), "{}", Join::Needed), "cpu,cpuacct memory devices freezer pids");
    assert_eq!(joined(&hybrid(), "{}", Join::Needed), "unified memory devices");
    // A privileged container may use all devices.
    let privileged = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
    assert_eq!(joined(&hybrid(), privileged, Join::Needed), "unified memory");
    let limits = r#"{"pids": {"limit": 5}, "cpu": {"shares": 5, "cpus": "0"}}"#;
    assert_eq!(
        joined(&hybrid(), limits, Join::Needed),
        "unified cpu,cpuacct cpuset memory devices pids"
    );
    assert_eq!(joined(&hybrid(), "{}", Join::All).split(' ').count(), 11);
    assert_eq!(joined(&v2(), limits, Join::Needed), "cg");
}

#[test]
fn paths() {
    let paths = |host: &Host, path: &str| {
        let plan = plan(host, path, "{}", Join::Needed).unwrap();
        let first = plan.directories.iter().find(|d| d.controllers.contains(Controller::Memory));
        first.unwrap().path.to_str().unwrap().to_owned()
    };
    for (path, on_v1, on_v2) in [
        ("/a/b", "/cg/memory/a/b", "/cg/a/b"),
        // Relative to the caller's own; in v2 beside it.
        ("a/b", "/cg/memory/own/a/b", "/cg/user/a/b"),
        ("", "/cg/memory/own/id", "/cg/user/id"),
        // No path leads out.
        ("/../../x", "/cg/memory/x", "/cg/x"),
        ("../../x", "/cg/memory/own/x", "/cg/user/x"),
        ("/a/./b//c/..", "/cg/memory/a/b", "/cg/a/b"),
    ] {
        assert_eq!(paths(&v1(), path), on_v1, "{path}");
        assert_eq!(paths(&v2(), path), on_v2, "{path}");
    }
    for path in ["/", "/..", ".", "a/..", "/a\nb"] {
        let error = plan(&v1(), path, "{}", Join::Needed).unwrap_err().to_string();
        assert!(error.starts_with("linux.cgroupsPath: "), "{path}: {error}");
    }
}

#[test]
fn devices_are_lines_in_v1_and_a_program_in_v2() {
    let resources = r#"{"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}"#;
    let on_v1 = plan(&v1(), "/c", resources, Join::Needed).unwrap();
    let lines: Vec<_> = on_v1
        .writes
        .iter()
        .filter(|w| w.field == "linux.resources.devices")
        .map(|w| format!("{} {}", w.file, w.value))
        .collect();
    assert_eq!(
        lines[..4],
        [
            "devices.deny a",
            "devices.allow c 10:229 rw",
            "devices.allow c *:* m",
            "devices.allow b *:* m",
        ]
    );
    assert!(on_v1.device_program.is_none());
    let on_v2 = plan(&v2(), "/c", resources, Join::Needed).unwrap();
    assert!(on_v2.writes.is_empty());
    assert_eq!(on_v2.device_program.unwrap().exceptions.len(), 13);
    // Beside v2, v1's controller is used.
    assert!(plan(&hybrid(), "/c", resources, Join::Needed).unwrap().device_program.is_none());
}

#[test]
fn without_devices_nothing_is_limited() {
    for host in [v1(), v2(), hybrid()] {
        let all = plan(&host, "/c", "{}", Join::Needed).unwrap();
        assert!(!all.limits_nothing());
        assert!(all.without_devices().limits_nothing());
        let limited = plan(&host, "/c", r#"{"pids": {"limit": 5}}"#, Join::Needed).unwrap();
        let limited = limited.without_devices();
        assert!(!limited.limits_nothing());
        assert_eq!(limited.writes.len(), 1);
    }
}

#[test]
fn a_part_that_is_taken_back_needs_v2() {
    let resources = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "access": "rw"},
        {"allow": false, "type": "c", "major": 1, "minor": 7, "access": "r"}]}"#;
    refused(
        &v1(),
        resources,
        "linux.resources.devices[1]: takes back a part of what a wider rule gave, which only cgroup v2 can",
    );
    assert!(plan(&v2(), "/c", resources, Join::Needed).unwrap().device_program.is_some());
    let both = plan(&hybrid(), "/c", resources, Join::Needed).unwrap();
    assert!(both.device_program.is_some());
    let lines: Vec<_> = both.writes.iter().map(|w| format!("{} {}", w.file, w.value)).collect();
    assert_eq!(lines, ["devices.allow a"]);
}
