//! Limits that a container runs into: it is killed, refused, slowed or counted, and both sides can see that.

use std::path::Path;

use hako_tests::Case;
use serde_json::{Value, json};

use crate::support::{cgroup, container, counter, needs, read, start, verb, wait_for};

const MIB: u64 = 1 << 20;

pub(crate) const CASES: &[Case] = &[
    Case::new("memory-limit-kills", "config-linux.md#memory", "who exceeds the limit is killed, and it is counted", || {
        needs(&["memory"]);
        let memory = json!({"memory": {"limit": 24 * MIB, "swap": 24 * MIB}});
        let container = container("tail /dev/zero; echo ended $?; exec sleep 1000", memory);
        start(&container);
        wait_for(&container, "ended");
        assert!(container.output().contains("ended 137"), "{}", container.output());
        assert_eq!(counter(&read(&cgroup(&container), "memory.events"), "oom_kill"), 1);
    }),
    Case::new("memory-limit-kills-init", "config-linux.md#memory", "an init that is killed for memory exits with 137", || {
        needs(&["memory"]);
        let memory = json!({"memory": {"limit": 24 * MIB, "swap": 24 * MIB}});
        container("exec tail /dev/zero", memory).run().exits(137);
    }),
    Case::new("memory-group-kill", "config-linux.md#unified", "memory.oom.group takes the whole container", || {
        needs(&["memory"]);
        let resources = json!({
            "memory": {"limit": 24 * MIB, "swap": 24 * MIB},
            "unified": {"memory.oom.group": "1"},
        });
        container("tail /dev/zero; echo survived", resources).run().exits(137);
    }),
    Case::new("swap-is-used-and-bounded", "config-linux.md#memory", "what exceeds memory goes to swap, up to its limit", || {
        needs(&["memory"]);
        if counter(&read(Path::new("/proc"), "meminfo"), "SwapTotal") == 0 {
            hako_tests::skip!("no swap");
        }
        let script = "dd if=/dev/zero of=/dev/shm/a bs=1M count=28 2>/dev/null; echo first $?
                      dd if=/dev/zero of=/dev/shm/b bs=1M count=32 2>/dev/null; echo second $?
                      exec sleep 1000";
        let container = container(script, json!({"memory": {"limit": 24 * MIB, "swap": 40 * MIB}}));
        start(&container);
        wait_for(&container, "second");
        assert!(container.output().contains("first 0\nsecond 137"), "{}", container.output());
        let cgroup = cgroup(&container);
        let number = |file: &str| read(&cgroup, file).parse::<u64>().unwrap_or(u64::MAX);
        assert!((1..=16 * MIB).contains(&number("memory.swap.current")), "{}", number("memory.swap.current"));
        assert!(number("memory.current") <= 24 * MIB);
    }),
    Case::new("pids-limit-refuses", "config-linux.md#pids", "a fork beyond the limit fails, and it is counted", || {
        needs(&["pids"]);
        // Builtins only after the bomb: there is no process left for anything else.
        let script = "(while :; do sleep 1000 & done) 2>/dev/null; read line </sys/fs/cgroup/pids.events; echo $line";
        let container = container(script, json!({"pids": {"limit": 8}}));
        let output = container.run();
        let refused = output.ok().trim().strip_prefix("max ").and_then(|count| count.parse::<u64>().ok());
        assert!(refused.is_some_and(|count| count > 0), "{output}");
    }),
    Case::new("cpu-quota-throttles", "config-linux.md#cpu", "a busy container is throttled by its quota", || {
        needs(&["cpu"]);
        let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu.stat";
        let output = container(script, json!({"cpu": {"quota": 5000, "period": 50000}})).run();
        assert!(counter(output.ok(), "nr_throttled") > 0, "{output}");
    }),
    Case::new("cpuset-binds", "config-linux.md#cpu", "processes run on the container's processors only", || {
        needs(&["cpuset"]);
        let output = container("grep Cpus_allowed_list /proc/self/status", json!({"cpu": {"cpus": "0"}})).run();
        assert_eq!(output.ok().split_whitespace().last(), Some("0"), "{output}");
    }),
    Case::new("io-is-counted", "config-linux.md#block-io", "direct I/O of a throttled device is counted for the container", || {
        needs(&["io"]);
        let (major, minor) = crate::limits::block_device();
        let script = "dd if=/dev/disk of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null || exit 3
                      cat /sys/fs/cgroup/io.stat";
        let resources = json!({
            "blockIO": {"throttleReadIOPSDevice": [{"major": major, "minor": minor, "rate": 1000}]},
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"},
            ],
        });
        let mut container = container(script, resources);
        let node = json!({"path": "/dev/disk", "type": "b", "major": major, "minor": minor, "fileMode": 0o600});
        container.bundle.spec["linux"]["devices"] = json!([node]);
        let output = container.run();
        let line = output.ok().lines().find(|line| line.starts_with(&format!("{major}:{minor} ")));
        let bytes = line.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("rbytes=")));
        assert_eq!(bytes, Some("262144"), "{output}");
    }),
    Case::new("stats-tell-usage", "runc events --stats", "statistics hold memory, processes, cpu and pressure", || {
        needs(&["memory", "cpu", "pids"]);
        let script = "dd if=/dev/zero of=/dev/shm/a bs=1M count=8 2>/dev/null; echo ready; exec sleep 1000";
        let container = container(script, json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 33}}));
        start(&container);
        wait_for(&container, "ready");
        let output = verb(&container, &["events", "--stats", container.id()]);
        let event: Value = serde_json::from_str(output.ok()).unwrap_or_else(|error| panic!("{error}\n{output}"));
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        assert!(number("/data/memory/usage/usage") >= 8 * MIB, "{output}");
        assert_eq!(number("/data/memory/usage/limit"), 64 * MIB, "{output}");
        assert_eq!(number("/data/pids/current"), 1, "{output}");
        assert_eq!(number("/data/pids/limit"), 33, "{output}");
        assert!(number("/data/cpu/usage/total") > 0, "{output}");
        assert!(event.pointer("/data/memory/psi/some/avg10").is_some(), "{output}");
    })
    .peers_fail(&[("runc", "before 1.2 it knows no pressure"), ("crun", "knows no events")]),
];
