//! What each resource of config.json writes: one row a resource, `(config.json, file, content)`.

use std::fs;

use hako_tests::{Case, skip};
use serde_json::{Value, json};

use crate::support::{cgroup, container, has_file, needs, read};

const MEMORY: &str = "config-linux.md#memory";
const CPU: &str = "config-linux.md#cpu";
const IO: &str = "config-linux.md#block-io";
const PIDS: &str = "config-linux.md#pids";
const HUGE: &str = "config-linux.md#huge-page-limits";
const UNIFIED: &str = "config-linux.md#unified";

/// What refuses a document must undo what it has made so far.
const CRUN_LEAVES: &[(&str, &str)] = &[("crun", "1.8 leaves the cgroup behind")];

pub(crate) const CASES: &[Case] = &[
    Case::new("memory-limit", MEMORY, "limit is memory.max", || {
        check(&["memory"], r#"{"memory": {"limit": 67108864}}"#, &[("memory.max", "67108864")]);
    }),
    Case::new("memory-unlimited", MEMORY, "-1 is no limit", || {
        check(&["memory"], r#"{"memory": {"limit": -1}}"#, &[("memory.max", "max")]);
    }),
    Case::new(
        "memory-swap-is-a-sum",
        MEMORY,
        "swap counts memory too: swap.max is their difference",
        || {
            let expected = &[("memory.max", "67108864"), ("memory.swap.max", "33554432")];
            check(&["memory"], r#"{"memory": {"limit": 67108864, "swap": 100663296}}"#, expected);
        },
    ),
    Case::new("memory-swap-none", MEMORY, "swap equal to the limit is no swap", || {
        let expected = &[("memory.swap.max", "0")];
        check(&["memory"], r#"{"memory": {"limit": 67108864, "swap": 67108864}}"#, expected);
    }),
    Case::new("memory-swap-unlimited", MEMORY, "swap -1 is no limit of swap", || {
        let expected = &[("memory.max", "67108864"), ("memory.swap.max", "max")];
        check(&["memory"], r#"{"memory": {"limit": 67108864, "swap": -1}}"#, expected);
    }),
    Case::new("memory-swap-below-limit", MEMORY, "swap below the limit is refused", || {
        refused(&["memory"], r#"{"memory": {"limit": 67108864, "swap": 33554432}}"#, "swap");
    })
    .peers_fail(CRUN_LEAVES),
    Case::new("memory-reservation", MEMORY, "reservation is memory.low", || {
        check(
            &["memory"],
            r#"{"memory": {"reservation": 33554432}}"#,
            &[("memory.low", "33554432")],
        );
    }),
    Case::new("cpu-quota-and-period", CPU, "quota and period are cpu.max", || {
        check(
            &["cpu"],
            r#"{"cpu": {"quota": 20000, "period": 50000}}"#,
            &[("cpu.max", "20000 50000")],
        );
    }),
    Case::new("cpu-quota-alone", CPU, "quota without period keeps the kernel's period", || {
        check(&["cpu"], r#"{"cpu": {"quota": 20000}}"#, &[("cpu.max", "20000 100000")]);
    }),
    Case::new("cpu-quota-unlimited", CPU, "quota -1 is no limit", || {
        check(&["cpu"], r#"{"cpu": {"quota": -1, "period": 50000}}"#, &[("cpu.max", "max 50000")]);
    }),
    Case::new("cpu-period-alone", CPU, "period without quota limits nothing", || {
        check(&["cpu"], r#"{"cpu": {"period": 50000}}"#, &[("cpu.max", "max 50000")]);
    }),
    Case::new("cpu-burst", CPU, "burst is cpu.max.burst", || {
        let expected = &[("cpu.max", "20000 100000"), ("cpu.max.burst", "10000")];
        check_if_file(
            "cpu.max.burst",
            r#"{"cpu": {"quota": 20000, "period": 100000, "burst": 10000}}"#,
            expected,
        );
    })
    .peers_fail(&[
        ("runc", "before 1.2 it knows no burst"),
        ("crun", "before 1.9 it knows no burst"),
    ]),
    Case::new("cpu-idle", CPU, "idle is cpu.idle", || {
        check_if_file("cpu.idle", r#"{"cpu": {"idle": 1}}"#, &[("cpu.idle", "1")]);
    })
    .peers_fail(&[("runc", "before 1.2 it knows no idle")]),
    Case::new(
        "cpu-shares-default",
        CPU,
        "1024 shares are the default weight, or what older runtimes made of them",
        || {
            shares(1024, &["39", "100"]);
        },
    ),
    Case::new(
        "cpu-shares-extremes",
        CPU,
        "the least and the most shares are the least and the most weight",
        || {
            shares(2, &["1"]);
            shares(262_144, &["10000"]);
        },
    ),
    Case::new("cpuset", CPU, "cpus and mems are cpuset.cpus and cpuset.mems", || {
        let expected = &[("cpuset.cpus", "0"), ("cpuset.mems", "0")];
        check(&["cpuset"], r#"{"cpu": {"cpus": "0", "mems": "0"}}"#, expected);
    }),
    Case::new(
        "cpuset-of-absent-processors",
        CPU,
        "processors that are not there are refused",
        || {
            refused(&["cpuset"], r#"{"cpu": {"cpus": "4000-5000"}}"#, "cpuset.cpus");
        },
    )
    .peers_fail(CRUN_LEAVES),
    Case::new("cpuset-that-is-no-list", CPU, "what is no list of processors is refused", || {
        refused(&["cpuset"], r#"{"cpu": {"cpus": "one"}}"#, "cpu");
    })
    .peers_fail(CRUN_LEAVES),
    Case::new("pids-limit", PIDS, "limit is pids.max", || {
        check(&["pids"], r#"{"pids": {"limit": 77}}"#, &[("pids.max", "77")]);
    }),
    Case::new("pids-unlimited", PIDS, "-1 is no limit", || {
        check(&["pids"], r#"{"pids": {"limit": -1}}"#, &[("pids.max", "max")]);
    }),
    Case::new("huge-pages", HUGE, "a limit is hugetlb.<size>.max", || {
        let resources = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 8388608}]}"#;
        check(&["hugetlb"], resources, &[("hugetlb.2MB.max", "8388608")]);
    }),
    Case::new(
        "huge-page-reservations",
        HUGE,
        "reservations are limited where the kernel counts them",
        || {
            let resources = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 8388608}]}"#;
            check_if_file(
                "hugetlb.2MB.rsvd.max",
                resources,
                &[("hugetlb.2MB.rsvd.max", "8388608")],
            );
        },
    )
    .peers_fail(&[
        ("runc", "before 1.2 it does not limit them"),
        ("crun", "1.8 does not limit them"),
    ]),
    Case::new(
        "huge-pages-of-unknown-size",
        HUGE,
        "a page size that is not there is refused by name",
        || {
            refused(
                &["hugetlb"],
                r#"{"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}"#,
                "3MB",
            );
        },
    )
    .peers_fail(CRUN_LEAVES),
    Case::new(
        "io-throttle",
        IO,
        "the four throttles of a device are one line of io.max",
        io_throttle,
    ),
    Case::new(
        "io-weight",
        IO,
        "weight is a weight of whichever I/O controller is there",
        io_weight,
    ),
    Case::new("unified", UNIFIED, "each entry is written to its file", || {
        let resources =
            r#"{"unified": {"memory.high": "50331648", "pids.max": "55", "cpu.weight": "42"}}"#;
        let expected = &[("memory.high", "50331648"), ("pids.max", "55"), ("cpu.weight", "42")];
        check(&["memory", "pids", "cpu"], resources, expected);
    }),
    Case::new("unified-overrides", UNIFIED, "an entry overrides what another resource set", || {
        let resources = r#"{"pids": {"limit": 77}, "unified": {"pids.max": "55"}}"#;
        check(&["pids"], resources, &[("pids.max", "55")]);
    }),
    Case::new(
        "unified-without-controller",
        UNIFIED,
        "an entry of a controller that is not there is refused",
        || {
            refused(&[], r#"{"unified": {"nothing.max": "1"}}"#, "nothing");
        },
    )
    .peers_fail(CRUN_LEAVES),
    Case::new(
        "unified-without-file",
        UNIFIED,
        "an entry whose file is not there is refused by name",
        || {
            refused(&["pids"], r#"{"unified": {"pids.nothing": "1"}}"#, "pids.nothing");
        },
    )
    .peers_fail(CRUN_LEAVES),
    Case::new(
        "unified-is-no-path",
        UNIFIED,
        "an entry names a file of the cgroup, nothing above it",
        || {
            refused(&[], r#"{"unified": {"../cgroup.max.depth": "1"}}"#, "cgroup.max.depth");
        },
    )
    .peers_fail(&[("crun", "1.8 writes to the parent's file")]),
    Case::new(
        "unified-with-bad-content",
        UNIFIED,
        "content that the kernel refuses is an error by name",
        || {
            refused(&["pids"], r#"{"unified": {"pids.max": "many"}}"#, "pids.max");
        },
    )
    .peers_fail(CRUN_LEAVES),
    Case::new(
        "rdma-of-unknown-device",
        "config-linux.md#rdma",
        "a device that is not there is refused",
        || {
            refused(&["rdma"], r#"{"rdma": {"mlx5_7": {"hcaHandles": 3}}}"#, "rdma");
        },
    )
    .peers_fail(&[("crun", "1.8 ignores it")]),
];

/// Creates a container with these resources, and compares its cgroup's files.
#[track_caller]
fn check(controllers: &[&str], resources: &str, expected: &[(&str, &str)]) {
    needs(controllers);
    let container = container("sleep 1000", parse(resources));
    container.create().ok();
    for (file, content) in expected {
        let found = read(&cgroup(&container), file);
        assert_eq!(found, *content, "{file} with {resources}");
    }
}

/// The same, for a file that not every kernel has.
#[track_caller]
fn check_if_file(file: &str, resources: &str, expected: &[(&str, &str)]) {
    let controller = file.split('.').next().unwrap_or(file);
    needs(&[controller]);
    if !has_file(file) {
        skip!("this kernel has no {file}");
    }
    check(&[controller], resources, expected);
}

/// Creating a container with these resources fails with a complaint that has `word` in it, and leaves no cgroup.
#[track_caller]
fn refused(controllers: &[&str], resources: &str, word: &str) {
    needs(controllers);
    let container = container("sleep 1000", parse(resources));
    container.create().fails().is_sane().complains(word);
    assert!(container.cgroups().is_empty(), "left behind: {:?}", container.cgroups());
}

#[track_caller]
fn parse(resources: &str) -> Value {
    serde_json::from_str(resources).unwrap_or_else(|error| panic!("{resources}: {error}"))
}

fn shares(shares: u64, weights: &[&str]) {
    needs(&["cpu"]);
    let container = container("sleep 1000", json!({"cpu": {"shares": shares}}));
    container.create().ok();
    let found = read(&cgroup(&container), "cpu.weight");
    assert!(weights.contains(&found.as_str()), "{shares} shares are a weight of {found}");
}

/// A block device of this machine that takes throttles: `(major, minor)`.
pub(crate) fn block_device() -> (u64, u64) {
    let numbers = |name: &str| {
        let text = fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    ["nullb0", "vda", "sda", "nvme0n1"]
        .iter()
        .find_map(|name| numbers(name))
        .unwrap_or_else(|| skip!("no block device"))
}

fn io_throttle() {
    needs(&["io"]);
    let (major, minor) = block_device();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let container = container(
        "sleep 1000",
        json!({"blockIO": {
            "throttleReadBpsDevice": rate(1_048_576),
            "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(100),
            "throttleWriteIOPSDevice": rate(200),
        }}),
    );
    container.create().ok();
    let expected = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    assert_eq!(read(&cgroup(&container), "io.max"), expected);
}

fn io_weight() {
    needs(&["io"]);
    let container = container("sleep 1000", json!({"blockIO": {"weight": 200}}));
    let output = container.create();
    let weights: Vec<(&str, String)> = ["io.weight", "io.bfq.weight"]
        .iter()
        .filter(|file| cgroup(&container).join(file).exists())
        .map(|file| (*file, read(&cgroup(&container), file)))
        .collect();
    if output.code != 0 {
        skip!("neither io.weight nor io.bfq.weight: {}", output.stderr.trim());
    }
    // bfq takes the number as it is; io.weight's range is ten times as wide, and runtimes scale or do not.
    let accepted = ["default 200", "default 1920", "200"];
    let right = weights.iter().any(|(_, weight)| accepted.contains(&weight.as_str()));
    assert!(right || weights.is_empty(), "{weights:?}");
}
