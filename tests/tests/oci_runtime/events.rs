//! `events`: statistics as engines read them, and out-of-memory events.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use hako_tests::{
    Case,
    command::wait_until,
    runtime::{Container, name_under_test},
    skip,
};
use serde_json::{Value, json};

use super::sleeping;

const EVENTS: &str = "runc events(8)";

/// One line of `events --stats`.
#[track_caller]
fn stats(container: &Container) -> Value {
    let output = container.call(&["events", "--stats", container.id()]);
    let text = output.ok();
    assert_eq!(text.lines().count(), 1, "{output}");
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Runs `events`, and gives each line to `take` until that is satisfied.
#[track_caller]
fn follow(container: &Container, options: &[&str], mut take: impl FnMut(&Value) -> bool) {
    let mut command = container.runtime();
    command.arg("events").args(options).arg(container.id()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the runtime starts");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let satisfied = lines
        .map_while(Result::ok)
        .any(|line| take(&serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert!(satisfied, "it ended before that came");
}

pub(crate) const CASES: &[Case] = &[
    Case::new("events-stats", EVENTS, "--stats prints one event in runc's form", || {
        let container = sleeping(|bundle| {
            bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 100_000_000});
            bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 50});
        });
        let event = stats(&container);
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id())));
        let data = &event["data"];
        for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
            assert!(data[key].is_object(), "{key}: {data}");
        }
        assert!(data.get("network_interfaces").is_some(), "{data}");
        assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{data}");
        assert!(data["cpu"]["usage"]["kernel"].is_u64(), "{data}");
        assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{data}");
        assert_eq!(data["memory"]["usage"]["limit"], 99_999_744_u64, "whole pages: {data}");
        assert!(data["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 10), "{data}");
        assert!(data["pids"]["current"].as_u64() > Some(0), "{data}");
        assert_eq!(data["pids"]["limit"], 50, "{data}");
    })
    .peers_fail(&[("crun", "has no events")]),
    Case::new("events-no-limit", EVENTS, "no limit is a great number, and no pids.limit", || {
        let container = sleeping(|_| ());
        let data = &stats(&container)["data"];
        assert!(data["memory"]["usage"]["limit"].as_u64() > Some(1 << 62), "{data}");
        assert!(data["pids"].get("limit").is_none(), "{data}");
    })
    .peers_fail(&[("crun", "has no events")]),
    Case::new("events-pressure", EVENTS, "time lost waiting, where cgroup v2 counts it", || {
        let container = sleeping(|_| ());
        let counted = container.cgroups().iter().any(|path| path.join("cpu.pressure").exists());
        if !counted {
            skip!("the kernel counts no pressure for cgroups");
        }
        let data = &stats(&container)["data"];
        for key in ["cpu", "blkio"] {
            assert!(data[key]["psi"]["some"]["total"].is_u64(), "{key}: {data}");
        }
    })
    .peers_fail(&[("runc", "1.1 reads none"), ("crun", "has no events")]),
    Case::new("events-stream", EVENTS, "statistics come at each interval, until it ends", || {
        let container = sleeping(|_| ());
        if name_under_test() == "runc" {
            skip!("runc 1.1 does not end with the container");
        }
        let mut count = 0;
        follow(&container, &["--interval", "50ms"], |event| {
            count += 1;
            assert_eq!(event["type"], "stats");
            count == 3
        });
        let mut command = container.runtime();
        command.args(["events", "--interval", "50ms", container.id()]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the runtime starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // It looks: now the end is seen.
        assert!(lines.next().is_some_and(|line| line.is_ok()));
        container.kill("KILL").ok();
        lines.for_each(drop);
        wait_until("events ended", || child.try_wait().expect("it is ours").is_some());
        assert!(child.wait().expect("it ended").success());
    })
    .peers_fail(&[("crun", "has no events")]),
    Case::new("events-oom", EVENTS, "memory that ran out is an event", || {
        let script = "echo up; while :; do tail -c 100000000 /dev/zero >/dev/null; sleep 0.1; done";
        let container = sleeping(|bundle| {
            bundle.spec["process"]["args"] = json!(["sh", "-c", script]);
            bundle.spec["linux"]["resources"]["memory"] =
                json!({"limit": 20_000_000, "swap": 20_000_000});
        });
        follow(&container, &["--interval", "1h"], |event| {
            assert_eq!(*event, json!({"type": "oom", "id": container.id()}));
            true
        });
    })
    .peers_fail(&[("crun", "has no events")]),
    Case::new("events-interval-wrong", EVENTS, "an interval that is none is refused", || {
        let container = sleeping(|_| ());
        for interval in ["0", "5", "soon", "-1s"] {
            container.call(&["events", "--interval", interval, container.id()]).fails();
        }
    }),
    Case::new("events-stopped", EVENTS, "of a stopped container there are none", || {
        let container = sleeping(|_| ());
        container.kill("KILL").ok();
        container.wait_stopped();
        container.call(&["events", "--stats", container.id()]).fails().complains("is not running");
    })
    .peers_fail(&[("crun", "has no events")]),
];
