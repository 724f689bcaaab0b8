//! config-linux.md: namespaces, id mappings, time offsets.

use std::{fs, process::Command};

use hako_tests::{Case, binary, bundle::push, skip};
use serde_json::json;

use super::{refused, sh, sleeping};

const NAMESPACES: &str = "config-linux.md#namespaces";
const USER: &str = "config-linux.md#user-namespace-mappings";
const TIME: &str = "config-linux.md#offset-for-time-namespace";

/// `(type in config.json, file in /proc/self/ns)`
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn own(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}"))
        .expect("the kernel has it")
        .to_string_lossy()
        .into_owned()
}

/// Whether the namespace of a container, with this change, is another than ours.
#[track_caller]
fn is_new(file: &str, change: impl FnOnce(&mut hako_tests::bundle::Bundle)) -> bool {
    let container = sleeping(change);
    let link = fs::read_link(format!("/proc/{}/ns/{file}", container.pid())).expect("it lives");
    link.to_string_lossy() != own(file)
}

pub(crate) const CASES: &[Case] = &[
    Case::new("namespaces-new", NAMESPACES, "without a path a new namespace MUST be made", || {
        let container = sleeping(|_| ());
        for (kind, file) in KINDS {
            let link =
                fs::read_link(format!("/proc/{}/ns/{file}", container.pid())).expect("it lives");
            assert_ne!(link.to_string_lossy(), own(file), "{kind}");
        }
    }),
    Case::new(
        "namespace-pid-inherited",
        NAMESPACES,
        "a namespace that is not listed MUST be inherited: pid",
        || {
            assert!(!is_new("pid", |bundle| bundle.without_namespace("pid")));
        },
    ),
    Case::new("namespace-network-inherited", NAMESPACES, "… network", || {
        assert!(!is_new("net", |bundle| bundle.without_namespace("network")));
    }),
    Case::new("namespace-ipc-inherited", NAMESPACES, "… ipc", || {
        assert!(!is_new("ipc", |bundle| {
            bundle.without_namespace("ipc");
            // mqueue belongs to the namespace that it is mounted in.
            if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
                mounts.retain(|mount| mount["type"] != "mqueue");
            }
        }));
    }),
    Case::new("namespace-uts-inherited", NAMESPACES, "… uts", || {
        assert!(!is_new("uts", |bundle| {
            bundle.without_namespace("uts");
            bundle.spec["hostname"].take();
        }));
    }),
    Case::new("namespace-cgroup-inherited", NAMESPACES, "… cgroup", || {
        assert!(!is_new("cgroup", |bundle| bundle.without_namespace("cgroup")));
    }),
    Case::new("namespace-joined", NAMESPACES, "with a path that namespace MUST be joined", || {
        let other = sleeping(|_| ());
        let path = |file: &str| format!("/proc/{}/ns/{file}", other.pid());
        let container = sleeping(|bundle| {
            for kind in ["network", "ipc", "uts"] {
                bundle.without_namespace(kind);
            }
            bundle.spec["hostname"].take();
            for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
                push(
                    &mut bundle.spec["linux"]["namespaces"],
                    json!({"type": kind, "path": path(file)}),
                );
            }
        });
        for file in ["net", "ipc", "uts"] {
            let inside =
                fs::read_link(format!("/proc/{}/ns/{file}", container.pid())).expect("it lives");
            assert_eq!(inside, fs::read_link(path(file)).expect("it lives"), "{file}");
        }
    }),
    Case::new("namespace-pid-joined", NAMESPACES, "… a PID namespace too", || {
        let other = sleeping(|_| ());
        let path = format!("/proc/{}/ns/pid", other.pid());
        let output = sh("ps | grep -c 'echo up'", |bundle| {
            bundle.without_namespace("pid");
            push(&mut bundle.spec["linux"]["namespaces"], json!({"type": "pid", "path": path}));
        });
        assert!(output.ok().trim().parse::<u32>().is_ok_and(|count| count >= 1), "{output}");
    }),
    Case::new(
        "namespace-path-of-another-type",
        NAMESPACES,
        "a path of another type MUST be an error",
        || {
            refused(|bundle| {
                bundle.without_namespace("ipc");
                let wrong = json!({"type": "ipc", "path": "/proc/self/ns/net"});
                push(&mut bundle.spec["linux"]["namespaces"], wrong);
            });
        },
    ),
    Case::new(
        "namespace-path-missing",
        NAMESPACES,
        "a path that is not there is an error that names it",
        || {
            refused(|bundle| {
                bundle.without_namespace("network");
                push(
                    &mut bundle.spec["linux"]["namespaces"],
                    json!({"type": "network", "path": "/no/such/ns"}),
                );
            })
            .complains("/no/such/ns");
        },
    ),
    Case::new(
        "namespace-path-is-a-file",
        NAMESPACES,
        "a path that is no namespace is an error",
        || {
            refused(|bundle| {
                bundle.without_namespace("network");
                push(
                    &mut bundle.spec["linux"]["namespaces"],
                    json!({"type": "network", "path": "/etc/passwd"}),
                );
            });
        },
    ),
    Case::new("namespace-twice", NAMESPACES, "a type listed twice MUST be an error", || {
        refused(|bundle| bundle.add_namespace("network"));
    })
    .peers_fail(&[("crun", "1.8 takes the last one")]),
    Case::new("namespace-unknown", NAMESPACES, "an unknown type is an error", || {
        refused(|bundle| bundle.add_namespace("colour"));
    }),
    Case::new("network-has-only-loopback", NAMESPACES, "a new network namespace is empty", || {
        sh("ls /sys/class/net | tr '\\n' ' '", |_| ()).says("lo");
        sh("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' \\n'", |_| ()).prints("lo");
    }),
    Case::new(
        "network-loopback-is-up",
        "runc: libcontainer",
        "lo is up in a new network namespace",
        || {
            sh("ip addr show lo", |_| ()).says("127.0.0.1/8").says("UP");
        },
    ),
    Case::new("user-namespace", USER, "ids inside are mapped as written", || {
        let container = sleeping(|bundle| {
            bundle.add_namespace("user");
            let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            bundle.spec["linux"]["uidMappings"] = mapping.clone();
            bundle.spec["linux"]["gidMappings"] = mapping;
            own_rootfs(bundle, 100_000);
        });
        let status =
            fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("it lives");
        assert!(status.contains("Uid:\t100000\t100000"), "{status}");
        let map =
            fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).expect("it lives");
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        container.exec(&[], &["id", "-u"]).prints("0");
    }),
    Case::new("user-namespace-has-its-devices", USER, "the default devices work there too", || {
        let output = sh("echo x > /dev/null && head -c 1 /dev/zero | wc -c && id -u", |bundle| {
            bundle.add_namespace("user");
            let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            bundle.spec["linux"]["uidMappings"] = mapping.clone();
            bundle.spec["linux"]["gidMappings"] = mapping;
            own_rootfs(bundle, 100_000);
        });
        output.prints("1\n0");
    }),
    Case::new(
        "user-mappings-without-namespace",
        USER,
        "mappings without a user namespace are an error",
        || {
            refused(|bundle| {
                bundle.spec["linux"]["uidMappings"] =
                    json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
            });
        },
    )
    .peers_fail(&[("crun", "ignores them"), ("runc", "1.1 ignores them")]),
    Case::new("time-namespace", TIME, "timeOffsets shift the clocks of a time namespace", || {
        if fs::metadata("/proc/self/ns/time").is_err() {
            skip!("the kernel has no time namespaces");
        }
        let output = sh("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime", |bundle| {
            bundle.add_namespace("time");
            bundle.spec["linux"]["timeOffsets"] =
                json!({"boottime": {"secs": 1_000_000_000}, "monotonic": {"secs": 5}});
        });
        let uptime: u64 =
            output.ok().lines().last().and_then(|line| line.parse().ok()).expect("a number");
        assert!(uptime >= 1_000_000_000, "{output}");
    })
    .peers_fail(&[
        ("runc", "1.1 does not know time namespaces"),
        ("crun", "1.8 fails without a word"),
    ]),
    Case::new(
        "mounts-do-not-propagate",
        NAMESPACES,
        "nothing mounted inside is seen outside",
        || {
            let container = sleeping(|_| ());
            let seen =
                Command::new("cat").arg("/proc/self/mountinfo").output().expect("cat starts");
            let rootfs = container.bundle.path();
            let text = String::from_utf8_lossy(&seen.stdout).into_owned();
            assert!(!text.contains(&*rootfs.to_string_lossy()), "{text}");
        },
    ),
];

/// Gives the root filesystem to the container's root, as an engine would.
fn own_rootfs(bundle: &hako_tests::bundle::Bundle, id: u32) {
    let mut command = Command::new(binary::tool("chown"));
    command.args(["-R", "-h", &format!("{id}:{id}")]).arg(bundle.rootfs("."));
    hako_tests::command::run(&mut command).ok();
}
