//! Mounts beyond fstab: ID-mapped ones, recursive attributes, links; and what a process is given
//! beyond its user: scheduling, personality, memory policy, labels, the seccomp listener.

use std::{
    fs,
    io::Read,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use hako_tests::{
    Case, binary,
    bundle::{Bundle, push},
    command,
    runtime::Container,
    skip,
};
use serde_json::{Value, json};

use super::{refused, sh, sleeping};

const IDMAP: &str = "config.md#posix-platform-mounts";
const OPTIONS: &str = "config.md#linux-mount-options";
const CRUN: &str = "crun(1)#extensions-to-oci";
const PROCESS: &str = "config.md#linux-process";
const PERSONALITY: &str = "config-linux.md#personality";
const MEMORY: &str = "config-linux.md#memory-policy";
const SECCOMP: &str = "config-linux.md#seccomp";
const USER: &str = "config-linux.md#user-namespace-mappings";

/// Peers of Debian 12 that know neither of these.
const OLD: &[(&str, &str)] =
    &[("runc", "1.1 is older than this"), ("crun", "1.8 is older than this")];
const OLD_RUNC: (&str, &str) = ("runc", "1.1 is older than this");

/// A bind mount with these options and maps, of a directory with a file of user 1000.
fn mapped(bundle: &mut Bundle, options: &[&str], maps: Option<(Value, Value)>) {
    hako_tests::kernel::needs((5, 12), "an idmapped mount");
    let file = bundle.place().write("shared/sub/f", "x");
    for path in [file.clone(), bundle.path().join("shared/sub"), bundle.path().join("shared")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1001)).expect("we are root");
    }
    // Whole: crun opens it from elsewhere.
    let source = bundle.path().join("shared");
    bundle.mount("/m", "bind", &source.to_string_lossy(), options);
    if let (Some((uids, gids)), Some(mounts)) = (maps, bundle.spec["mounts"].as_array_mut()) {
        let mount = mounts.last_mut().expect("just added");
        mount["uidMappings"] = uids;
        mount["gidMappings"] = gids;
    }
}

const OWNER: &str = "stat -c %u:%g /m/sub/f";

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

fn user_namespace(bundle: &mut Bundle) {
    bundle.add_namespace("user");
    bundle.spec["linux"]["uidMappings"] = map(0, 100_000, 65536);
    bundle.spec["linux"]["gidMappings"] = map(0, 100_000, 65536);
    let mut command = std::process::Command::new(binary::tool("chown"));
    command::run(command.args(["-R", "-h", "100000:100000"]).arg(bundle.rootfs("."))).ok();
}

/// Flags of the last mount at this point.
const FLAGS: &str = "while read -r _ _ _ _ point flags _; do [ $point = $P ] && f=$flags; done </proc/self/mountinfo; echo ,$f,";

/// A tree of two mounts bound with this option: the flags of the outer and of the inner one.
#[track_caller]
fn flags_of_tree(option: &str) -> (String, String) {
    let mut bundle = Bundle::sh(&format!("P=/m; {FLAGS}; P=/m/inner; {FLAGS}"));
    let tree = bundle.place().directory("tree/inner");
    bundle.mount("/m", "bind", "tree", &["rbind", option]);
    let container = Container::new(bundle);
    let run = container.run_command(&[]);
    let mut outside = std::process::Command::new(binary::tool("unshare"));
    let script = r#"mount -t tmpfs none "$1"; shift; exec "$@""#;
    outside.args(["--mount", "sh", "-euc", script, "sh"]).arg(tree);
    let output = command::run(outside.arg(run.get_program()).args(run.get_args()));
    let mut lines = output.ok().lines().map(str::to_owned);
    (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

#[track_caller]
fn sets_recursively(option: &str, flag: &str) {
    hako_tests::kernel::needs((5, 12), "a recursive attribute");
    let (outer, inner) = flags_of_tree(option);
    let has = |flags: &str| flags.contains(&format!(",{flag},"));
    assert!(has(&outer) && has(&inner), "{option}: {outer} {inner}");
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "mount-idmap",
        IDMAP,
        "uidMappings and gidMappings of a mount map the owners",
        || {
            sh(OWNER, |bundle| {
                mapped(bundle, &["rbind"], Some((map(1000, 7, 10), map(1001, 8, 10))));
            })
            .prints("7:8");
        },
    )
    .peers_fail(OLD),
    Case::new(
        "mount-idmap-of-the-container",
        IDMAP,
        "idmap without maps takes the container's",
        || {
            // What is user 1000's on the disk is the container's 1000, and on the host 101000.
            sh(OWNER, |bundle| {
                user_namespace(bundle);
                mapped(bundle, &["rbind", "idmap"], None);
            })
            .prints("1000:1001");
        },
    )
    .peers_fail(&[OLD_RUNC]),
    Case::new("mount-ridmap", IDMAP, "ridmap maps the mounts below, too", || {
        hako_tests::kernel::needs((6, 3), "an idmapped tmpfs");
        let mut bundle = Bundle::sh("stat -c %u /m /m/inner");
        let tree = bundle.place().directory("shared/inner");
        mapped(&mut bundle, &["rbind", "ridmap"], Some((map(0, 7, 2000), map(0, 7, 2000))));
        let container = Container::new(bundle);
        let run = container.run_command(&[]);
        let mut outside = std::process::Command::new(binary::tool("unshare"));
        let script = r#"mount -t tmpfs -o uid=5 none "$1"; shift; exec "$@""#;
        outside.args(["--mount", "sh", "-euc", script, "sh"]).arg(tree);
        command::run(outside.arg(run.get_program()).args(run.get_args())).prints("1007\n12");
    })
    .peers_fail(OLD),
    Case::new(
        "mount-idmap-option-of-crun",
        CRUN,
        "idmap=uids=…;gids=… has the maps in the option",
        || {
            sh(OWNER, |bundle| {
                mapped(bundle, &["rbind", "idmap=uids=1000-7-10;gids=1001-8-10"], None);
            })
            .prints("7:8");
        },
    )
    .peers_fail(&[OLD_RUNC]),
    Case::new("mount-idmap-half", IDMAP, "one of the two mappings alone is an error", || {
        refused(|bundle| {
            mapped(bundle, &["rbind"], None);
            if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
                mounts.last_mut().expect("just added")["uidMappings"] = map(0, 0, 1);
            }
        });
    })
    .peers_fail(OLD),
    Case::new("mount-idmap-of-a-file-system", IDMAP, "only bind mounts can be mapped", || {
        refused(|bundle| bundle.mount("/m", "tmpfs", "tmpfs", &["idmap"]));
    })
    .peers_fail(&[("crun", "1.8 passes over it")]),
    Case::new("mount-nosymfollow", OPTIONS, "nosymfollow", || {
        hako_tests::kernel::needs((5, 14), "nosymfollow");
        let output = sh("ln -s /etc/os-release /m/l; cat /m/l || echo refused", |bundle| {
            bundle.mount("/m", "tmpfs", "tmpfs", &["nosymfollow"]);
        });
        output.prints("refused");
    })
    .peers_fail(OLD),
    Case::new("mount-rnosuid", OPTIONS, "rnosuid", || sets_recursively("rnosuid", "nosuid"))
        .peers_fail(&[OLD_RUNC]),
    Case::new("mount-rnodev", OPTIONS, "rnodev", || sets_recursively("rnodev", "nodev"))
        .peers_fail(&[OLD_RUNC]),
    Case::new("mount-rnoexec", OPTIONS, "rnoexec", || sets_recursively("rnoexec", "noexec"))
        .peers_fail(&[OLD_RUNC]),
    Case::new("mount-rnoatime", OPTIONS, "rnoatime", || sets_recursively("rnoatime", "noatime"))
        .peers_fail(&[OLD_RUNC, ("crun", "1.8 does not clear the other times")]),
    Case::new("mount-rnosymfollow", OPTIONS, "rnosymfollow", || {
        hako_tests::kernel::needs((5, 14), "nosymfollow");
        sets_recursively("rnosymfollow", "nosymfollow");
    })
    .peers_fail(OLD),
    Case::new("mount-nosuid-is-not-recursive", OPTIONS, "nosuid is the one mount's", || {
        let (outer, inner) = flags_of_tree("nosuid");
        assert!(outer.contains(",nosuid,") && !inner.contains(",nosuid,"), "{outer} {inner}");
    }),
    Case::new("mount-copy-symlink", CRUN, "copy-symlink makes a link of a link", || {
        sh("readlink /deep/er/l", |bundle| {
            symlink("to/nowhere", bundle.path().join("link")).expect("our own directory");
            bundle.mount("/deep/er/l", "bind", "link", &["bind", "copy-symlink"]);
        })
        .prints("to/nowhere");
    })
    .peers_fail(OLD),
    Case::new(
        "mount-src-nofollow",
        CRUN,
        "src-nofollow binds the link, not what it leads to",
        || {
            let output = sh("cat /l; exit 0", |bundle| {
                bundle.place().write("secret", "what it leads to");
                symlink("secret", bundle.path().join("link")).expect("our own directory");
                symlink("x", bundle.rootfs("l")).expect("our own directory");
                bundle.mount("/l", "bind", "link", &["bind", "src-nofollow", "dest-nofollow"]);
            });
            assert!(!output.stdout.contains("what it leads to"), "{output}");
            output.is_sane();
        },
    )
    .peers_fail(OLD),
    Case::new("scheduler", PROCESS, "scheduler sets policy and nice value", || {
        sh("cut -d' ' -f19,41 /proc/self/stat", |bundle| {
            bundle.spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        })
        .prints("5 3");
    })
    .peers_fail(OLD),
    Case::new("scheduler-wrong", PROCESS, "an unknown policy is an error", || {
        refused(|bundle| bundle.spec["process"]["scheduler"] = json!({"policy": "SCHED_LUCK"}))
            .complains("scheduler");
    })
    .peers_fail(OLD),
    Case::new("io-priority", PROCESS, "ioPriority sets class and priority", || {
        let container = sleeping(|bundle| {
            bundle.spec["process"]["ioPriority"] =
                json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        });
        let mut command = std::process::Command::new(binary::tool("ionice"));
        command::run(command.args(["-p", &container.pid().to_string()])).says("prio 6");
    })
    .peers_fail(OLD),
    Case::new(
        "exec-cpu-affinity",
        PROCESS,
        "execCPUAffinity is that of exec, not of the process",
        || {
            let container = sleeping(|bundle| {
                bundle.spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
            });
            container.exec(&[], &["grep", "Cpus_allowed_list", "/proc/self/status"]).says("\t0\n");
            let status = fs::read_to_string(format!("/proc/{}/status", container.pid()));
            let own = fs::read_to_string("/proc/self/status").expect("procfs");
            let allowed = |text: &str| {
                text.lines().find(|line| line.starts_with("Cpus_allowed_list")).map(str::to_owned)
            };
            assert_eq!(allowed(&status.expect("it lives")), allowed(&own));
        },
    )
    .peers_fail(OLD),
    Case::new(
        "personality",
        PERSONALITY,
        "LINUX32 makes the machine look like one of 32 bits",
        || {
            if !cfg!(target_arch = "x86_64") {
                skip!("the machine's name is x86's");
            }
            sh("uname -m", |bundle| {
                bundle.spec["linux"]["personality"] = json!({"domain": "LINUX32"});
            })
            .prints("i686");
        },
    )
    .peers_fail(&[OLD_RUNC]),
    Case::new("memory-policy", MEMORY, "memoryPolicy is the process's", || {
        if fs::read_to_string("/proc/self/numa_maps").is_err() {
            skip!("the kernel has no NUMA");
        }
        sh("cut -d' ' -f2 /proc/self/numa_maps | sort | uniq | tr '\\n' ' '", |bundle| {
            bundle.spec["linux"]["memoryPolicy"] =
                json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
        })
        .says("bind=static:0");
    })
    .peers_fail(OLD),
    Case::new("memory-policy-wrong", MEMORY, "an unknown mode is an error", || {
        refused(|bundle| {
            bundle.spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_X", "nodes": "0"});
        })
        .complains("memoryPolicy");
    })
    .peers_fail(OLD),
    Case::new(
        "selinux-label-without-selinux",
        PROCESS,
        "a label that nothing enforces is an error",
        || {
            if Path::new("/sys/fs/selinux/enforce").exists() {
                skip!("SELinux is on");
            }
            refused(|bundle| bundle.spec["process"]["selinuxLabel"] = json!("a:b:c:s0"))
                .complains("selinux");
        },
    )
    .peers_fail(&[("crun", "fails without that word")]),
    Case::new(
        "mount-label-without-selinux",
        "config-linux.md#mount-label",
        "… of mounts too",
        || {
            if Path::new("/sys/fs/selinux/enforce").exists() {
                skip!("SELinux is on");
            }
            refused(|bundle| bundle.spec["linux"]["mountLabel"] = json!("a:b:c:s0"));
        },
    )
    .peers_fail(&[("crun", "passes over it")]),
    Case::new("apparmor-profile-without-apparmor", PROCESS, "… of AppArmor too", || {
        if fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|e| e.starts_with('Y'))
        {
            skip!("AppArmor is on");
        }
        refused(|bundle| bundle.spec["process"]["apparmorProfile"] = json!("some-profile"))
            .complains("apparmor");
    }),
    Case::new(
        "seccomp-listener",
        SECCOMP,
        "the listener gets the state, the metadata and a descriptor",
        || {
            let mut bundle = Bundle::new();
            let path = bundle.place().join("listener.sock");
            let listener = UnixListener::bind(&path).expect("our own directory");
            bundle.spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": path,
                "listenerMetadata": "for the test",
                // A call that nothing makes: nobody is there to answer.
                "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
            });
            let container = Container::new(bundle);
            container.run().ok();
            listener.set_nonblocking(true).expect("a socket");
            let (mut stream, _) = listener.accept().expect("it has connected");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("it is closed");
            let state: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(state["metadata"], json!("for the test"), "{state}");
            assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
            assert_eq!(state["state"]["id"], json!(container.id()), "{state}");
            assert!(state["pid"].as_u64().is_some_and(|pid| pid > 1), "{state}");
        },
    ),
    Case::new(
        "seccomp-metadata-alone",
        SECCOMP,
        "listenerMetadata MUST NOT be set without listenerPath",
        || {
            refused(|bundle| {
                bundle.spec["linux"]["seccomp"] =
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"});
            });
        },
    )
    .peers_fail(&[("runc", "passes over it"), ("crun", "passes over it")]),
    Case::new(
        "user-namespace-joined",
        USER,
        "a user namespace is joined by path, with its IDs",
        || {
            let other = sleeping(user_namespace);
            let path = format!("/proc/{}/ns/user", other.pid());
            let output = sh(
                "id -u; awk '{print $2}' /proc/self/uid_map; readlink /proc/self/ns/user",
                |bundle| {
                    user_namespace(bundle);
                    let linux = &mut bundle.spec["linux"];
                    linux["uidMappings"].take();
                    linux["gidMappings"].take();
                    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
                        namespaces.retain(|namespace| namespace["type"] != "user");
                    }
                    push(&mut linux["namespaces"], json!({"type": "user", "path": path}));
                },
            );
            let own = fs::read_link(path).expect("it lives");
            output.prints(&format!("0\n100000\n{}", own.display()));
        },
    )
    .peers_fail(&[("runc", "1.1 wants mappings beside the path")]),
];
