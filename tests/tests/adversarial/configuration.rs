//! Configurations that try to weaken the container they describe, or to confuse who reads them.

use hako_tests::{Caller, Case, runtime::Container};
use serde_json::{Value, json};

use super::{Canary, attack};

/// A bundle that must be refused.
#[track_caller]
fn refused(change: impl FnOnce(&mut hako_tests::bundle::Bundle)) {
    let output = attack("echo it runs", change);
    output.is_sane();
    output.fails();
    assert!(!output.stdout.contains("it runs"), "{output}");
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "mount-over-proc",
        "CVE-2019-16884",
        "/proc is of type proc, or the bundle is refused",
        || {
            for kind in ["bind", "tmpfs"] {
                refused(|bundle| {
                    bundle.place().directory("fake/self/attr");
                    let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
                    let mount = json!({"destination": "/proc", "type": kind, "source": "fake", "options": options});
                    bundle.spec["mounts"][0] = mount;
                });
            }
        },
    ).also_by_users()
    .peers_fail(&[("crun", "mounts over /proc")]),
    Case::new(
        "mount-inside-proc",
        "CVE-2019-16884",
        "nothing is mounted over files of /proc that matter",
        || {
            for destination in [
                "/proc/self/attr",
                "/proc/sys",
                "/proc/self",
                "/proc/1/attr/exec",
                "/proc/thread-self",
            ] {
                refused(|bundle| {
                    bundle.place().directory("fake");
                    bundle.mount(destination, "bind", "fake", &["rbind"]);
                });
            }
        },
    ).also_by_users()
    .peers_fail(&[("crun", "mounts over /proc/sys")]),
    Case::new(
        "zero-bytes",
        "SECURITY R",
        "a zero byte in any string is refused, not the end of it",
        || {
            type Change = fn(&mut Value);
            const CHANGES: &[Change] = &[
                |spec| spec["process"]["args"] = json!(["/bin/echo\0x", "it runs"]),
                |spec| spec["process"]["args"] = json!(["echo", "it\0 runs"]),
                |spec| spec["process"]["cwd"] = json!("/tmp\0/x"),
                |spec| spec["process"]["env"] = json!(["PATH=/bin", "A=b\0c"]),
                |spec| spec["hostname"] = json!("a\0b"),
                |spec| spec["root"]["path"] = json!("rootfs\0/x"),
                |spec| spec["mounts"][0]["destination"] = json!("/proc\0/x"),
            ];
            for change in CHANGES {
                refused(|bundle| change(&mut bundle.spec));
            }
        },
    ).also_by_users()
    .peers_fail(&[("runc", "1.1.5 cuts the root path at it"), ("crun", "cuts strings at a zero byte")]),
    Case::new(
        "numbers-out-of-range",
        "CVE-2016-3697 and kin",
        "ids that do not fit are refused, never wrapped to 0",
        || {
            for id in
                [json!(-1), json!(4_294_967_296_u64), json!(1e20), json!("0"), json!(u64::MAX)]
            {
                refused(|bundle| bundle.spec["process"]["user"] = json!({"uid": id, "gid": 0}));
                refused(|bundle| bundle.spec["process"]["user"] = json!({"uid": 0, "gid": id}));
            }
        },
    ).also_by_users()
    .peers_fail(&[("crun", "takes them modulo 2^32, or for 0")]),
    Case::new("exec-user", "CVE-2026-46680", "exec --user takes numbers, strictly", || {
        let mut bundle = hako_tests::bundle::Bundle::sh("while :; do sleep 0.1; done");
        bundle
            .place()
            .write("rootfs/etc/passwd", "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n");
        bundle.spec["hostname"] = json!("exec-user");
        let container = Container::new(bundle);
        container.create().ok();
        container.start().ok();
        container.exec(&["--user", "1000"], &["id", "-u"]).prints("1000");
        for user in
            ["-1", "4294967296", "1:2:3", "1:", ":1", "1.5", "0x0", " 0", "99999999999999999999"]
        {
            let option = format!("--user={user}");
            let output = container.exec(&[&option], &["id", "-u"]);
            assert!(output.code != 0, "--user {user:?}\n{output}");
        }
    }).by(&[Caller::Root, Caller::Subordinate])
    .peers_fail(&[("crun", "takes what atoi makes of it"), ("runc", "1.1 reads numbers loosely")]),
    Case::new(
        "many-id-mappings",
        "CVE-2021-43784",
        "more mappings than the kernel takes are an error, no overflow",
        || {
            let output = attack("echo it runs", |bundle| {
                bundle.add_namespace("user");
                let mappings: Vec<Value> = (0..5000)
                .map(|number| json!({"containerID": number * 2, "hostID": 100_000 + number * 2, "size": 1}))
                .collect();
                bundle.spec["linux"]["uidMappings"] = json!(mappings);
                bundle.spec["linux"]["gidMappings"] = json!(mappings);
            });
            output.is_sane();
            output.fails();
        },
    ),
    Case::new("id-mapped-twice", "SECURITY R", "an id that is mapped twice is refused", || {
        refused(|bundle| {
            bundle.add_namespace("user");
            let twice = json!([{"containerID": 0, "hostID": 100_000, "size": 10},
                               {"containerID": 5, "hostID": 200_000, "size": 10}]);
            bundle.spec["linux"]["uidMappings"] = twice.clone();
            bundle.spec["linux"]["gidMappings"] = twice;
        });
    }),
    Case::new(
        "cgroups-path-climbs",
        "SECURITY R: cgroup escape",
        "a cgroupsPath with dots stays below",
        || {
            let output = attack("cat /proc/self/cgroup", |bundle| {
                let name = format!("/../../../../climbing-{}", std::process::id());
                bundle.spec["linux"]["cgroupsPath"] = json!(name);
                bundle.without_namespace("cgroup");
            });
            output.is_sane();
            assert!(!output.stdout.contains(".."), "{output}");
            assert!(hako_tests::runtime::cgroups_named("climbing-").is_empty());
        },
    ).also_by_users(),
    Case::new(
        "sysctl-climbs",
        "CVE-2025-52881",
        "a sysctl's name cannot leave its directory",
        || {
            for name in [
                "net.ipv4...kernel.panic",
                "net/../kernel/panic",
                "net..kernel.panic",
                "/proc/sys/kernel/panic",
            ] {
                let before =
                    std::fs::read_to_string("/proc/sys/kernel/panic").expect("it is always there");
                refused(|bundle| bundle.spec["linux"]["sysctl"] = json!({name: "123"}));
                assert_eq!(
                    std::fs::read_to_string("/proc/sys/kernel/panic").expect("the same"),
                    before
                );
            }
        },
    ).also_by_users(),
    Case::new(
        "huge-environment",
        "SECURITY R",
        "an environment that the kernel does not take is an error",
        || {
            refused(|bundle| {
                let entries: Vec<String> =
                    (0..200_000).map(|number| format!("V{number}={}", "x".repeat(20))).collect();
                bundle.spec["process"]["env"] = json!(entries);
            });
        },
    )
    .peers_fail(&[("runc", "1.1.5 hangs")]),
    Case::new(
        "deep-document",
        "SECURITY R",
        "a document of depth 100,000 is refused, no stack overflow",
        || {
            let bundle = hako_tests::bundle::Bundle::sh("echo it runs");
            let container = Container::new(bundle);
            let deep = format!(
                "{{\"ociVersion\":\"1.0.0\",\"x\":{}{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            );
            container.bundle.place().write("config.json", deep);
            let mut command = container.runtime();
            command.arg("run").arg("--bundle").arg(container.bundle.path()).arg(container.id());
            hako_tests::command::run(&mut command).is_sane().fails();
        },
    ).also_by_users(),
    Case::new(
        "mount-source-climbs",
        "CVE-2019-19921 and kin",
        "a tmpfs cannot be mounted on the host",
        || {
            let canary = Canary::new();
            let output = attack("touch /made; true", |bundle| {
                bundle.mount(&canary.climbing(), "tmpfs", "tmpfs", &["tmpcopyup"]);
            });
            canary.check(&output);
        },
    ).also_by_users(),
    Case::new(
        "seccomp-before-the-program",
        "SECURITY R",
        "the filter is on before the first instruction",
        || {
            let output = attack("", |bundle| {
                bundle.spec["process"]["args"] = json!(["grep", "Seccomp:", "/proc/self/status"]);
                bundle.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
            });
            output.prints("Seccomp:\t2");
        },
    ).also_by_users(),
];
