//! `update`: limits of a container that runs. Each row runs the verb as engines do, and reads the
//! kernel's own files.

use std::fs;

use hako_tests::{Case, command, runtime::Container, skip};
use serde_json::json;

use super::sleeping;

const UPDATE: &str = "runc update(8)";

/// A running container with a limit of memory, so that its controller is joined.
fn limited() -> Container {
    sleeping(|bundle| {
        bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 100_000_000});
    })
}

/// Updates with flags, and reads the file where it must show.
#[track_caller]
fn shows(flags: &[&str], (controller, v1): (&str, &str), v2: &str) -> String {
    let container = limited();
    update(&container, flags);
    read(&container, (controller, v1), v2)
}

#[track_caller]
fn update(container: &Container, flags: &[&str]) {
    container.call(&[&["update"], flags, &[container.id()]].concat()).ok();
}

#[track_caller]
fn read(container: &Container, (controller, v1): (&str, &str), v2: &str) -> String {
    let shown = container.cgroup_file(controller, v1, v2);
    shown.unwrap_or_else(|| skip!("neither the v1 controller {controller} nor {v2} is there"))
}

#[track_caller]
fn from_stdin(container: &Container, document: &str) -> command::Output {
    let mut call = container.runtime();
    call.args(["update", "-r", "-", container.id()]);
    command::run_with(&mut call, document.as_bytes())
}

pub(crate) const CASES: &[Case] = &[
    Case::new("update-memory", UPDATE, "--memory takes bytes with a unit", || {
        let limit = ("memory", "memory.limit_in_bytes");
        assert_eq!(shows(&["--memory", "64m"], limit, "memory.max"), "67108864");
        assert_eq!(shows(&["--memory=1.5g"], limit, "memory.max"), "1610612736");
    })
    .peers_fail(&[("crun", "takes no units")]),
    Case::new("update-memory-none", UPDATE, "--memory -1 is no limit", || {
        let shown = shows(&["--memory", "-1"], ("memory", "memory.limit_in_bytes"), "memory.max");
        assert!(shown == "max" || shown.len() > 15, "{shown}");
    }),
    Case::new("update-memory-reservation", UPDATE, "--memory-reservation", || {
        let shown = shows(
            &["--memory-reservation", "33554432"],
            ("memory", "memory.soft_limit_in_bytes"),
            "memory.low",
        );
        assert_eq!(shown, "33554432");
    }),
    Case::new(
        "update-memory-swap-order",
        UPDATE,
        "memory and swap are changed in the order that the kernel takes, up and down",
        || {
            let container = limited();
            let both = |memory: u64, swap: u64| {
                let (memory, swap) = (memory.to_string(), swap.to_string());
                update(&container, &["--memory", &memory, "--memory-swap", &swap]);
                read(&container, ("memory", "memory.limit_in_bytes"), "memory.max")
            };
            if container
                .cgroup_file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
                .is_none()
            {
                skip!("the kernel does not account swap");
            }
            assert_eq!(both(52_428_800, 96_468_992), "52428800");
            assert_eq!(both(209_715_200, 419_430_400), "209715200");
            assert_eq!(both(20_971_520, 41_943_040), "20971520");
            let swap =
                read(&container, ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
            assert!(swap == "41943040" || swap == "20971520", "{swap}");
        },
    ),
    Case::new("update-kernel-memory", UPDATE, "--kernel-memory is ignored, with a warning", || {
        let container = limited();
        let output = container.call(&["update", "--kernel-memory", "50m", container.id()]);
        output.ok();
        assert!(
            output.stderr.contains("kernel-memory") && output.stderr.contains("ignored"),
            "{output}"
        );
    })
    .peers_fail(&[
        ("runc", "1.1 says so in other words"),
        ("crun", "asks the kernel, which has no such limit any more"),
    ]),
    Case::new("update-cpu", UPDATE, "--cpu-period, --cpu-quota, --cpu-share", || {
        let flags = &["--cpu-period", "80000", "--cpu-quota", "40000", "--cpu-share", "512"][..];
        let quota = shows(flags, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert!(quota == "40000" || quota == "40000 80000", "{quota}");
        let period = shows(flags, ("cpu", "cpu.cfs_period_us"), "cpu.max");
        assert!(period == "80000" || period == "40000 80000", "{period}");
        let shares = shows(flags, ("cpu", "cpu.shares"), "cpu.weight");
        assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
    }),
    Case::new("update-quota-keeps-period", UPDATE, "a quota alone keeps the period", || {
        let container = limited();
        update(&container, &["--cpu-period", "80000", "--cpu-quota", "40000"]);
        update(&container, &["--cpu-quota", "20000"]);
        let period = read(&container, ("cpu", "cpu.cfs_period_us"), "cpu.max");
        assert!(period == "80000" || period == "20000 80000", "{period}");
        update(&container, &["--cpu-quota", "-1"]);
        let quota = read(&container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert!(quota == "-1" || quota == "max 80000", "{quota}");
    })
    .peers_fail(&[("crun", "takes no -1")]),
    Case::new("update-cpu-burst", UPDATE, "--cpu-burst", || {
        let container = limited();
        update(&container, &["--cpu-period", "100000", "--cpu-quota", "50000"]);
        if container.cgroup_file("cpu", "cpu.cfs_burst_us", "cpu.max.burst").is_none() {
            skip!("the kernel has no burst (Linux 5.14)");
        }
        update(&container, &["--cpu-burst", "10000"]);
        assert_eq!(read(&container, ("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"), "10000");
    })
    .peers_fail(&[("runc", "1.1 has no such flag"), ("crun", "1.8 has no such flag")]),
    Case::new("update-cpu-idle", UPDATE, "--cpu-idle, and back with the shares that were", || {
        let container = sleeping(|bundle| {
            bundle.spec["linux"]["resources"]["cpu"] = json!({"shares": 512});
        });
        if container.cgroup_file("cpu", "cpu.idle", "cpu.idle").is_none() {
            skip!("the kernel has no cpu.idle (Linux 5.15)");
        }
        update(&container, &["--cpu-idle", "1"]);
        assert_eq!(read(&container, ("cpu", "cpu.idle"), "cpu.idle"), "1");
        update(&container, &["--cpu-idle", "0"]);
        let shares = read(&container, ("cpu", "cpu.shares"), "cpu.weight");
        assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
        container.call(&["update", "--cpu-idle", "2", container.id()]).fails();
    })
    .peers_fail(&[("runc", "1.1 has no such flag"), ("crun", "1.8 has no such flag")]),
    Case::new("update-cpuset", UPDATE, "--cpuset-cpus, --cpuset-mems", || {
        let flags = &["--cpuset-cpus", "0", "--cpuset-mems", "0"][..];
        assert_eq!(shows(flags, ("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
        assert_eq!(shows(flags, ("cpuset", "cpuset.mems"), "cpuset.mems"), "0");
    }),
    Case::new("update-pids", UPDATE, "--pids-limit, and -1 for none", || {
        assert_eq!(shows(&["--pids-limit", "37"], ("pids", "pids.max"), "pids.max"), "37");
        assert_eq!(shows(&["--pids-limit", "-1"], ("pids", "pids.max"), "pids.max"), "max");
    })
    .peers_fail(&[("crun", "1.8 writes -1 into pids.max")]),
    Case::new("update-resources", UPDATE, "-r - reads the limits from standard input", || {
        let container = limited();
        let document =
            json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 12}, "cpu": {"shares": 100}});
        from_stdin(&container, &document.to_string()).ok();
        assert_eq!(read(&container, ("memory", "memory.limit_in_bytes"), "memory.max"), "67108864");
        assert_eq!(read(&container, ("pids", "pids.max"), "pids.max"), "12");
    }),
    Case::new(
        "update-resources-file",
        UPDATE,
        "-r FILE, and flags beside it count for nothing",
        || {
            let container = limited();
            let file = container.bundle.place().write("r.json", r#"{"pids":{"limit":21}}"#);
            update(&container, &["--pids-limit", "5", "-r", &file.to_string_lossy()]);
            assert_eq!(read(&container, ("pids", "pids.max"), "pids.max"), "21");
        },
    ),
    Case::new("update-nonsense", UPDATE, "what is no document, or no number, is refused", || {
        let container = limited();
        from_stdin(&container, "{").fails();
        from_stdin(&container, "").fails();
        for flag in ["--memory", "--cpu-share", "--pids-limit", "--cpu-idle", "--memory-swap"] {
            let output = container.call(&["update", flag, "many", container.id()]);
            output.fails().complains(flag.trim_start_matches('-'));
        }
        assert_eq!(container.status(), "running");
    })
    .peers_fail(&[("runc", "1.1 has no --cpu-idle"), ("crun", "takes words for numbers")]),
    Case::new("update-rdt", UPDATE, "Intel RDT that is not there is said to be so", || {
        let container = limited();
        if std::path::Path::new("/sys/fs/resctrl/info").exists() {
            skip!("this machine has resource control");
        }
        container
            .call(&["update", "--l3-cache-schema", "L3:0=f", container.id()])
            .fails()
            .complains("l3 cache schema is not enabled");
        container
            .call(&["update", "--mem-bw-schema", "MB:0=50", container.id()])
            .fails()
            .complains("memory bandwidth schema is not enabled");
    })
    .peers_fail(&[("crun", "1.8 has no such flags")]),
    Case::new("update-stopped", UPDATE, "a stopped container has no limits to change", || {
        let container = limited();
        container.kill("KILL").ok();
        container.wait_stopped();
        container
            .call(&["update", "--pids-limit", "5", container.id()])
            .fails()
            .complains("not running");
    })
    .peers_fail(&[("runc", "1.1 changes the cgroup that is left"), ("crun", "the same")]),
    Case::new("update-holds", UPDATE, "what is executed afterwards has the new limits", || {
        let container = limited();
        update(&container, &["--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "40"]);
        container.exec(&[], &["nproc"]).prints("1");
        // Hierarchies that it joined late are left again.
        let before = container.cgroups();
        assert!(!before.is_empty());
        container.delete(&["--force"]).ok();
        assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
    }),
    Case::new("update-is-saved", UPDATE, "what is saved of the configuration stays true", || {
        let container = limited();
        update(&container, &["--memory", "64m", "--pids-limit", "40"]);
        let path = container.root().join(container.id()).join("config.json");
        let Ok(text) = fs::read(&path) else { skip!("this runtime keeps no config.json") };
        let saved: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        let resources = &saved["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 67_108_864, "{resources}");
        assert_eq!(resources["pids"]["limit"], 40, "{resources}");
    })
    .peers_fail(&[("crun", "takes no units")]),
];
