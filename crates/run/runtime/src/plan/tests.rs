//! Plans of whole configurations.

use serde_json::{Value, json};

use super::*;

fn base() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}]}
    })
}

fn plan(document: &Value) -> Result<Plan> {
    let spec: Spec = serde_json::from_value(document.clone()).unwrap();
    let options = Options { privileged: true, ..Options::new("c1", "/run/x") };
    Plan::new(&spec, Path::new("/bundle"), &options)
}

/// The base with the value at this pointer replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = base();
    if let Some(place) = document.pointer_mut(pointer) {
        *place = value;
        return document;
    }
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[last] = value;
    document
}

#[test]
fn a_plan_is_a_readable_list() {
    let plan = plan(&base()).unwrap();
    let lines: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
    let order = [
        "new session",
        "/ is slave",
        "proc on /proc",
        "pivot to",
        "working directory /",
        "user 0, group 0",
        "wait for start",
        "execute",
    ];
    let mut from = 0;
    for want in order {
        let at = lines[from..].iter().position(|l| l.contains(want));
        from += at.unwrap_or_else(|| panic!("{want} not after line {from} of {lines:#?}"));
    }
}

#[test]
fn errors_name_the_field() {
    for (document, want) in [
        (with("/ociVersion", json!("")), "ociVersion"),
        (with("/ociVersion", json!("2.0.0")), "ociVersion"),
        (with("/ociVersion", json!("1")), "ociVersion"),
        (with("/root", Value::Null), "root"),
        (with("/root/path", json!("")), "root.path"),
        (with("/process", Value::Null), "process"),
        (with("/process/env", json!(["A"])), "process.env[0]"),
        (with("/mounts/0", json!({"destination": ""})), "mounts[0].destination"),
        (with("/mounts/0", json!({"destination": "/proc", "type": "tmpfs"})), "mounts[0]"),
        (with("/mounts/0", json!({"destination": "/x"})), "mounts[0].type"),
        (with("/linux/namespaces", json!([{"type": "pids"}])), "linux.namespaces[0].type"),
        (
            with("/linux/namespaces", json!([{"type": "pid"}, {"type": "pid"}])),
            "linux.namespaces[1].type",
        ),
        (
            with("/linux/namespaces", json!([{"type": "pid", "path": "x"}])),
            "linux.namespaces[0].path",
        ),
        (with("/linux/namespaces", json!([{"type": "pid"}])), "mounts"),
        (
            with("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}])),
            "linux.uidMappings",
        ),
        (
            with("/linux/namespaces", json!([{"type": "mount"}, {"type": "user"}])),
            "linux.uidMappings",
        ),
        (with("/linux/maskedPaths", json!(["x"])), "linux.maskedPaths[0]"),
        (with("/linux/readonlyPaths", json!(["/.."])), "linux.readonlyPaths[0]"),
        (with("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})), "linux.timeOffsets"),
        (with("/linux/rootfsPropagation", json!("sideways")), "linux.rootfsPropagation"),
        (with("/linux/personality", json!({"domain": "DOS"})), "linux.personality.domain"),
        (
            with("/linux/memoryPolicy", json!({"mode": "MPOL_X", "nodes": ""})),
            "linux.memoryPolicy.mode",
        ),
        (with("/hooks", json!({"poststop": [{"path": "x"}]})), "hooks.poststop[0].path"),
        (
            with("/hooks", json!({"prestart": [{"path": "/x", "timeout": 0}]})),
            "hooks.prestart[0].timeout",
        ),
        (with("/linux/netDevices", json!({"eth0": {}})), "linux.netDevices"),
    ] {
        match plan(&document) {
            Err(Error::Config { field, .. }) => assert_eq!(field, want),
            other => panic!("{want}: {:?}", other.map(|p| p.steps.len())),
        }
    }
}

#[test]
fn every_version_one_is_taken() {
    for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.9.12+build", "1.0.0-rc5"] {
        assert!(plan(&with("/ociVersion", json!(good))).is_ok(), "{good}");
    }
}

#[test]
fn ids_are_checked() {
    for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(1025)] {
        assert!(matches!(check_id(bad), Err(Error::InvalidId(_))), "{bad}");
    }
    assert!(check_id("a.b_c+d-E9").is_ok());
}

#[test]
fn a_user_namespace_changes_the_order() {
    let mut document = base();
    document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    document["linux"]["uidMappings"] = map.clone();
    document["linux"]["gidMappings"] = map;
    document["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/v", "source": "/v", "options": ["bind"]}));
    let plan = plan(&document).unwrap();
    let at = |text: &str| plan.steps.iter().position(|s| s.to_string().contains(text)).unwrap();
    assert!(at("/ is slave") < at("become user 0"));
    assert!(at("become user 0") < at("proc on /proc"));
    assert_eq!(plan.prepared.len(), 1);
    assert!(plan.steps.iter().any(|s| matches!(&s.op, Op::Device(d) if d.bind)));
}
