//! config-linux.md: cgroups and their limits.

use std::fs;

use hako_tests::{Case, skip};
use serde_json::{Value, json};

use super::{refused, sh, sleeping};

const PATH: &str = "config-linux.md#cgroups-path";
const MEMORY: &str = "config-linux.md#memory";
const CPU: &str = "config-linux.md#cpu";
const PIDS: &str = "config-linux.md#pids";
const UNIFIED: &str = "config-linux.md#unified";

/// Sets one resource, and reads the file where it must show: its v1 controller and name, its v2 name.
#[track_caller]
fn limit(resource: &str, value: Value, (controller, v1): (&str, &str), v2: &str) -> String {
    let container = sleeping(|bundle| bundle.spec["linux"]["resources"][resource] = value);
    container
        .cgroup_file(controller, v1, v2)
        .unwrap_or_else(|| skip!("neither the v1 controller {controller} nor {v2} is there"))
}

fn has_v1() -> bool {
    fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .any(|line| !line.starts_with("0::"))
}

pub(crate) const CASES: &[Case] = &[
    Case::new("cgroups-path-absolute", PATH, "an absolute path is below the mount point", || {
        let name = format!("/hako-path-{}", std::process::id());
        let container =
            sleeping(|bundle| bundle.spec["linux"]["cgroupsPath"] = json!(format!("{name}/inner")));
        let own =
            fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("it lives");
        assert!(own.lines().any(|line| line.ends_with(&format!("{name}/inner"))), "{own}");
        drop(container);
        // The parent was made by us, as the specification has it, and nobody else's.
        for parent in hako_tests::runtime::cgroups_named(name.trim_start_matches('/')) {
            drop(fs::remove_dir(parent));
        }
    }),
    Case::new(
        "cgroups-path-everywhere",
        PATH,
        "the process is in the same place of every hierarchy",
        || {
            let container = sleeping(|bundle| {
                let limits = [
                    ("memory", json!({"limit": 100_000_000})),
                    ("pids", json!({"limit": 100})),
                    ("cpu", json!({"shares": 500})),
                ];
                for (name, value) in limits {
                    bundle.spec["linux"]["resources"][name] = value;
                }
            });
            let own =
                fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("it lives");
            for line in own.lines() {
                let (controllers, path) =
                    (line.split(':').nth(1).unwrap_or(""), line.split(':').nth(2).unwrap_or(""));
                // Hierarchies without a limit of ours may be left alone.
                if ["memory", "pids", "cpu", "devices"].contains(&controllers) {
                    assert!(path.contains(container.id()), "{own}");
                }
            }
        },
    ),
    Case::new("memory-limit", MEMORY, "limit", || {
        let shown = limit(
            "memory",
            json!({"limit": 67_108_864}),
            ("memory", "memory.limit_in_bytes"),
            "memory.max",
        );
        assert_eq!(shown, "67108864");
    }),
    Case::new("memory-reservation", MEMORY, "reservation", || {
        let value = json!({"reservation": 33_554_432});
        let shown = limit("memory", value, ("memory", "memory.soft_limit_in_bytes"), "memory.low");
        assert_eq!(shown, "33554432");
    }),
    Case::new("memory-unlimited", MEMORY, "-1 is no limit", || {
        let shown = limit(
            "memory",
            json!({"limit": -1}),
            ("memory", "memory.limit_in_bytes"),
            "memory.max",
        );
        assert!(shown == "max" || shown.len() > 15, "{shown}");
    }),
    Case::new("memory-swappiness", MEMORY, "swappiness", || {
        if !has_v1() {
            skip!("cgroup v2 has no swappiness");
        }
        let shown =
            limit("memory", json!({"swappiness": 33}), ("memory", "memory.swappiness"), "-");
        assert_eq!(shown, "33");
    }),
    Case::new("memory-limit-holds", MEMORY, "a process above the limit is killed", || {
        let output = sh("tail -c 100000000 /dev/zero >/dev/null; echo $?", |bundle| {
            bundle.spec["linux"]["resources"]["memory"] =
                json!({"limit": 20_000_000, "swap": 20_000_000});
        });
        assert!(output.stdout.contains("137") || output.code == 137, "{output}");
    }),
    Case::new("cpu-shares", CPU, "shares", || {
        let shown = limit("cpu", json!({"shares": 512}), ("cpu", "cpu.shares"), "cpu.weight");
        assert!(shown == "512" || shown == "20" || shown == "59", "{shown}");
    }),
    Case::new("cpu-quota", CPU, "quota and period", || {
        let value = json!({"quota": 40_000, "period": 80_000});
        let shown = limit("cpu", value.clone(), ("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert!(shown == "40000" || shown == "40000 80000", "{shown}");
        let shown = limit("cpu", value, ("cpu", "cpu.cfs_period_us"), "cpu.max");
        assert!(shown == "80000" || shown == "40000 80000", "{shown}");
    }),
    Case::new("cpu-set", CPU, "cpus", || {
        let shown = limit(
            "cpu",
            json!({"cpus": "0", "mems": "0"}),
            ("cpuset", "cpuset.cpus"),
            "cpuset.cpus",
        );
        assert_eq!(shown, "0");
    }),
    Case::new("cpu-set-holds", CPU, "the process sees these processors only", || {
        let output = sh("nproc", |bundle| {
            bundle.spec["linux"]["resources"]["cpu"] = json!({"cpus": "0", "mems": "0"});
        });
        output.prints("1");
    }),
    Case::new("cpu-set-wrong", CPU, "processors that are not there are an error", || {
        refused(|bundle| bundle.spec["linux"]["resources"]["cpu"] = json!({"cpus": "1000"}));
    })
    .peers_fail(&[("crun", "leaves its cgroups")]),
    Case::new("pids-limit", PIDS, "limit", || {
        let shown = limit("pids", json!({"limit": 123}), ("pids", "pids.max"), "pids.max");
        assert_eq!(shown, "123");
    }),
    Case::new("pids-unlimited", PIDS, "-1 is no limit", || {
        let shown = limit("pids", json!({"limit": -1}), ("pids", "pids.max"), "pids.max");
        assert_eq!(shown, "max");
    })
    .peers_fail(&[("crun", "1.8 writes -1 into pids.max")]),
    Case::new("pids-limit-holds", PIDS, "forks above the limit fail", || {
        let output = sh("sleep 1 & sleep 1 & sleep 1 & sleep 1 & echo all", |bundle| {
            bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 3});
        });
        assert!(!output.stdout.contains("all"), "{output}");
    }),
    Case::new(
        "block-weight",
        "config-linux.md#block-io",
        "weight, where the scheduler has it",
        || {
            if !hako_tests::runtime::cgroups_named("")
                .iter()
                .any(|path| path.join("blkio.weight").exists())
                && !std::path::Path::new("/sys/fs/cgroup/blkio/blkio.weight").exists()
            {
                skip!("no blkio.weight: the kernel has no scheduler that knows it");
            }
            let shown =
                limit("blockIO", json!({"weight": 250}), ("blkio", "blkio.weight"), "io.weight");
            assert!(shown.contains("250"), "{shown}");
        },
    ),
    Case::new("unified-on-v1", UNIFIED, "unified that cannot be applied MUST be an error", || {
        if !has_v1() {
            skip!("cgroup v2 can apply it");
        }
        refused(|bundle| {
            bundle.spec["linux"]["resources"]["unified"] = json!({"memory.high": "1000000"});
        });
    })
    .peers_fail(&[("crun", "leaves its cgroups")]),
    Case::new(
        "intel-rdt-without-resctrl",
        "config-linux.md#intelrdt",
        "without a mounted resctrl intelRdt MUST be an error",
        || {
            let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs");
            if mounts.lines().any(|line| line.split(' ').nth(2) == Some("resctrl")) {
                skip!("resctrl is mounted");
            }
            refused(|bundle| {
                bundle.spec["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"});
            })
            .complains("rdt");
        },
    )
    .peers_fail(&[("crun", "1.8 does not know it")]),
];
