//! A container's cgroup from its making to its removal: where it is, who is in it, freezing, killing, delegation.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use hako_tests::{Case, command, runtime::Container, skip};
use serde_json::json;

use crate::support::{
    ROOT, cgroup, container, counter, needs, processes, read, start, verb, wait_for,
};

const PATH: &str = "config-linux.md#cgroups-path";

pub(crate) const CASES: &[Case] = &[
    Case::new("cgroup-is-made-and-removed", PATH, "cgroupsPath is made for the container and removed with it", || {
        needs(&[]);
        let container = container("sleep 1000", json!({}));
        start(&container);
        assert_eq!(processes(&cgroup(&container)), [container.pid()]);
        container.delete(&["--force"]).ok();
        assert!(!cgroup(&container).exists());
    }),
    Case::new("cgroup-path-is-made-level-by-level", PATH, "controllers are handed down to a deep cgroup", || {
        needs(&["memory", "pids", "cpu"]);
        let resources = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 9}, "cpu": {"quota": 20000}});
        let mut container = container("sleep 1000", resources);
        let path = format!("/{}/a/b", container.id());
        container.bundle.spec["linux"]["cgroupsPath"] = json!(path);
        container.create().ok();
        let deep = cgroup(&container).join("a/b");
        for (file, content) in [("memory.max", "67108864"), ("pids.max", "9"), ("cpu.max", "20000 100000")] {
            assert_eq!(read(&deep, file), content, "{file}");
        }
        container.delete(&["--force"]).ok();
        // What lies above may be somebody's: whether a runtime removes it is its own affair, ours is to clean up.
        for path in [deep, cgroup(&container).join("a"), cgroup(&container)] {
            if path.exists() {
                fs::remove_dir(&path).unwrap_or_else(|error| panic!("rmdir({}): {error}", path.display()));
            }
        }
    }),
    Case::new("cgroup-namespace-hides-the-path", "config-linux.md#namespaces", "inside, the own cgroup is the root", || {
        needs(&[]);
        container("cat /proc/self/cgroup", json!({})).run().prints("0::/");
    }),
    Case::new("cgroup-of-the-host-is-seen", "config-linux.md#namespaces", "without the namespace the path is seen", || {
        needs(&[]);
        let mut container = container("cat /proc/self/cgroup", json!({}));
        container.bundle.without_namespace("cgroup");
        container.run().prints(&format!("0::/{}", container.id()));
    }),
    Case::new("cgroup-mount-is-read-only", "config.md#mounts", "a read-only cgroup mount takes no writes", || {
        needs(&[]);
        container("mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused", json!({})).run().prints("refused");
    }),
    Case::new("cgroup-tree-inside-is-removed", "runtime.md#delete", "cgroups that the container made go with it", || {
        needs(&[]);
        let script = "mkdir -p /sys/fs/cgroup/a/b/c /sys/fs/cgroup/d && echo made && exec sleep 1000";
        let mut container = container(script, json!({}));
        writable(&mut container);
        start(&container);
        wait_for(&container, "made");
        container.delete(&["--force"]).ok();
        assert!(!cgroup(&container).exists());
    }),
    Case::new("cgroup-from-birth", "clone(2), CLONE_INTO_CGROUP", "init is born into its cgroup, not moved there", || {
        needs(&[]);
        let container = container("true", json!({}));
        let strace = command::find("strace").unwrap_or_else(|| skip!("no strace"));
        let log = container.bundle.place().join("strace");
        let runtime = container.run_command(&[]);
        let mut traced = Command::new(strace);
        traced.args(["-f", "-e", "trace=clone,clone3,write", "-o"]).arg(&log).arg(runtime.get_program());
        traced.args(runtime.get_args());
        command::run(&mut traced).ok();
        let log = fs::read_to_string(&log).expect("strace writes its log");
        assert!(log.contains("CLONE_INTO_CGROUP"), "{log}");
    })
    .peers_fail(&[("runc", "moves its init"), ("crun", "moves its init")]),
    Case::new("exec-joins-the-cgroup", "runc exec", "exec runs inside the container's cgroup", || {
        needs(&[]);
        let container = container("sleep 1000", json!({}));
        start(&container);
        container.exec(&[], &["cat", "/proc/self/cgroup"]).prints("0::/");
        container.exec(&["--detach"], &["sleep", "1001"]).ok();
        assert_eq!(processes(&cgroup(&container)).len(), 2);
    }),
    Case::new(
        "exec-beside-a-busy-init",
        "runc exec",
        "exec works in a container that handed its controllers down and so takes no process itself",
        || {
            needs(&["memory"]);
            let script = "cd /sys/fs/cgroup && mkdir init && echo $$ > init/cgroup.procs && \
                          echo +memory > cgroup.subtree_control && echo ready && exec sleep 1000";
            let mut container = container(script, json!({}));
            writable(&mut container);
            start(&container);
            wait_for(&container, "ready");
            container.exec(&[], &["cat", "/proc/self/cgroup"]).prints("0::/init");
        },
    ),
    Case::new(
        "joined-cgroup-namespace",
        "config-linux.md#namespaces",
        "a container joins another one's cgroup namespace, and is in its own cgroup nevertheless",
        || {
            needs(&[]);
            let first = container("sleep 1000", json!({}));
            start(&first);
            let mut second = container("cat /proc/self/cgroup", json!({}));
            for kind in ["cgroup", "pid"] {
                second.bundle.without_namespace(kind);
                let path = format!("/proc/{}/ns/{kind}", first.pid());
                let namespaces = &mut second.bundle.spec["linux"]["namespaces"];
                hako_tests::bundle::push(namespaces, json!({"type": kind, "path": path}));
            }
            // Seen from the first one's cgroup.
            second.run().prints(&format!("0::/../{}", second.id()));
        },
    ),
    Case::new("pause-freezes", "runc pause", "a paused container does not run; resume lets it go on", || {
        needs(&[]);
        let container = container("while :; do :; done", json!({}));
        start(&container);
        container.call(&["pause", container.id()]).ok();
        assert_eq!(container.status(), "paused");
        assert_eq!(counter(&read(&cgroup(&container), "cgroup.events"), "frozen"), 1);
        container.call(&["resume", container.id()]).ok();
        assert_eq!(container.status(), "running");
        assert_eq!(counter(&read(&cgroup(&container), "cgroup.events"), "frozen"), 0);
    }),
    Case::new("paused-is-killed", "runc kill", "a paused container can be killed", || {
        needs(&[]);
        let container = container("sleep 1000", json!({}));
        start(&container);
        container.call(&["pause", container.id()]).ok();
        container.kill("KILL").ok();
        container.wait_stopped();
    }),
    Case::new("frozen-is-deleted", "runtime.md#delete", "delete --force ends a container that somebody froze", || {
        needs(&[]);
        let container = container("sleep 1000", json!({}));
        start(&container);
        fs::write(cgroup(&container).join("cgroup.freeze"), "1").expect("our own cgroup");
        container.delete(&["--force"]).ok();
        assert!(!cgroup(&container).exists());
    }),
    Case::new("delete-kills-without-pid-namespace", "runtime.md#delete", "no process outlives its container", || {
        needs(&[]);
        let script = "setsid sleep 1001 & setsid sleep 1002 & echo ready; exec sleep 1000";
        let mut container = container(script, json!({}));
        container.bundle.without_namespace("pid");
        start(&container);
        wait_for(&container, "ready");
        command::wait_until("three processes", || processes(&cgroup(&container)).len() == 3);
        let pids = processes(&cgroup(&container));
        container.delete(&["--force"]).ok();
        let alive = |pid: &u32| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
        command::wait_until("they are gone", || !pids.iter().any(alive));
    })
    .peers_fail(&[("runc", "1.1 does not wait for them")]),
    Case::new("init-ends-and-takes-others-with-it", "runtime.md#delete", "after init's end, delete ends what is left", || {
        needs(&[]);
        let mut container = container("setsid sleep 1001 & exec sleep 1000", json!({}));
        container.bundle.without_namespace("pid");
        start(&container);
        command::wait_until("two processes", || processes(&cgroup(&container)).len() == 2);
        container.kill("KILL").ok();
        container.wait_stopped();
        container.delete(&[]).ok();
        assert!(!cgroup(&container).exists());
    })
    .peers_fail(&[("runc", "1.1 leaves them")]),
    Case::new("update-changes-limits", "runc update", "update writes the new limits", || {
        needs(&["memory", "pids", "cpu"]);
        let container = container("sleep 1000", json!({"memory": {"limit": 67_108_864}}));
        start(&container);
        let words = ["update", "--memory", "33554432", "--pids-limit", "9", "--cpu-quota", "20000", container.id()];
        verb(&container, &words).ok();
        for (file, content) in [("memory.max", "33554432"), ("pids.max", "9"), ("cpu.max", "20000 100000")] {
            assert_eq!(read(&cgroup(&container), file), content, "{file}");
        }
    }),
    Case::new("delegated-to-a-user-namespace", "cgroups(7), delegation", "root of a user namespace may divide its cgroup", || {
        needs(&["pids"]);
        let script = "mkdir /sys/fs/cgroup/inner && echo 0 >/sys/fs/cgroup/inner/cgroup.procs
                      echo +pids >/sys/fs/cgroup/cgroup.subtree_control && echo 5 >/sys/fs/cgroup/inner/pids.max
                      cat /proc/self/cgroup /sys/fs/cgroup/inner/pids.max
                      echo 7 2>/dev/null >/sys/fs/cgroup/pids.max || echo own limit kept";
        let mut container = container(script, json!({"pids": {"limit": 20}}));
        writable(&mut container);
        container.bundle.add_namespace("user");
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        container.bundle.spec["linux"]["uidMappings"] = map.clone();
        container.bundle.spec["linux"]["gidMappings"] = map;
        container.run().prints("0::/inner\n5\nown limit kept");
    })
    .peers_fail(&[("runc", "gives the cgroup away only with systemd"), ("crun", "likewise")]),
    Case::new(
        "owned-by-the-process-user",
        "config-linux.md#cgroup-ownership",
        "with a writable mount the cgroup is the user's, but for its own limits; with a read-only one it is not",
        || {
            needs(&["pids"]);
            for (is_writable, owner) in [(true, 1000), (false, 0)] {
                let mut container = container("sleep 1000", json!({"pids": {"limit": 20}}));
                if is_writable {
                    writable(&mut container);
                }
                container.bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                container.create().ok();
                let owner_of = |file: &str| fs::metadata(cgroup(&container).join(file)).map(|m| m.uid());
                for (file, expected) in [("", owner), ("cgroup.procs", owner), ("pids.max", 0)] {
                    assert_eq!(owner_of(file).ok(), Some(expected), "{file:?}, writable: {is_writable}");
                }
            }
        },
    )
    .peers_fail(&[("runc", "gives the cgroup away only with systemd"), ("crun", "likewise")]),
    Case::new("controllers-are-not-taken-from-others", PATH, "a neighbour's controllers stay when a container goes", || {
        needs(&["memory"]);
        let before = read(Path::new(ROOT), "cgroup.subtree_control");
        container("true", json!({"memory": {"limit": 67_108_864}})).run().ok();
        let after = read(Path::new(ROOT), "cgroup.subtree_control");
        for controller in before.split_whitespace() {
            assert!(after.split_whitespace().any(|name| name == controller), "{before} became {after}");
        }
    }),
];

/// Mounts the cgroup file system so that the container may write to it.
fn writable(container: &mut Container) {
    for mount in container.bundle.spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
}
