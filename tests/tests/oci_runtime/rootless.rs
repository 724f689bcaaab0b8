//! Containers of an ordinary user: with subordinate IDs (subuid(5), newuidmap(1)), and without.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use hako_tests::{
    Case, binary,
    bundle::Bundle,
    command::{self, Output},
    runtime::Container,
};
use serde_json::json;

const USER: &str = "config-linux.md#user-namespace-mappings";
const RUNC: &str = "runc(8)#--rootless";

/// Nobody's on any machine.
const UID: u32 = 54_321;
/// First of its subordinate IDs.
const SUB: u32 = 700_000;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container of an ordinary user, who owns its bundle and its state.
struct Rootless(Container);

impl Rootless {
    /// With the user as root, and nobody else.
    #[track_caller]
    fn new(script: &str, change: impl FnOnce(&mut Bundle)) -> Self {
        let mut bundle = Bundle::sh(script);
        let kinds = ["pid", "ipc", "uts", "mount", "cgroup", "user"];
        let map = json!([{"containerID": 0, "hostID": UID, "size": 1}]);
        bundle.spec["linux"]["namespaces"] =
            kinds.iter().map(|kind| json!({"type": kind})).collect();
        bundle.spec["linux"]["uidMappings"] = map.clone();
        bundle.spec["linux"]["gidMappings"] = map;
        bundle.spec["linux"]["resources"].take();
        if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["type"] != "cgroup" && mount["type"] != "sysfs");
            for mount in mounts {
                if let Some(options) = mount["options"].as_array_mut() {
                    options.retain(|option| option != "gid=5");
                }
            }
        }
        bundle.mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
        change(&mut bundle);
        bundle
            .place()
            .write("passwd", format!("root:x:0:0::/:/bin/sh\nhk:x:{UID}:{UID}::/:/bin/sh\n"));
        bundle.place().write("subids", format!("hk:{SUB}:65536\n"));
        let container = Container::new(bundle);
        // Where the program is built, others may not look.
        let program = container.bundle.place().join("runtime");
        fs::copy(container.runtime().get_program(), &program).expect("our own directory");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("our own file");
        container.bundle.write();
        own(&container.bundle.path());
        own(container.root());
        Self(container)
    }

    /// Adds 65536 subordinate IDs from 1 on.
    fn subordinate(bundle: &mut Bundle) {
        let map = json!([
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": SUB, "size": 65536},
        ]);
        bundle.spec["linux"]["uidMappings"] = map.clone();
        bundle.spec["linux"]["gidMappings"] = map;
    }

    /// A runtime's command line as the user, whose subordinate IDs are in files of this test.
    /// `last` executes it.
    #[track_caller]
    fn wrapped(&self, last: &str, path: &str, words: &[&str]) -> Output {
        const SCRIPT: &str = r#"
            mount --bind "$1/passwd" /etc/passwd
            for file in /etc/subuid /etc/subgid; do
              if [ -e $file ]; then mount --bind "$1/subids" $file; fi
            done
            cd "$1"
            shift
            "#;
        let bundle = self.0.bundle.path();
        let id = UID.to_string();
        let mut command = Command::new(binary::tool("unshare"));
        command.args(["--mount", "sh", "-euc", &format!("{SCRIPT}{last}"), "sh"]).arg(&bundle);
        command.arg(binary::tool("setpriv")).args(["--reuid", &id, "--regid", &id]);
        command.args(["--clear-groups", "--inh-caps=-all", "env"]);
        command.arg(format!("PATH={path}")).arg(format!("XDG_RUNTIME_DIR={}", bundle.display()));
        command.arg(bundle.join("runtime")).arg("--root").arg(self.0.root()).args(words);
        command::run(&mut command)
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Output {
        self.wrapped("exec \"$@\"", PATH, words)
    }

    #[track_caller]
    fn run(&self) -> Output {
        self.call(&["run", self.0.id()])
    }
}

/// Gives a tree to the user.
#[track_caller]
fn own(path: &Path) {
    let mut command = Command::new(binary::tool("chown"));
    command::run(command.args(["-R", "-h", &format!("{UID}:{UID}")]).arg(path)).ok();
    chown(path, Some(UID), Some(UID)).expect("we are root");
}

pub(crate) const CASES: &[Case] = &[
    Case::new("rootless", RUNC, "an ordinary user without subordinate IDs is root inside", || {
        let script =
            "id -u; id -g; cat /proc/self/setgroups; awk '{print $1,$2,$3}' /proc/self/uid_map";
        Rootless::new(script, |_| ()).run().prints(&format!("0\n0\ndeny\n0 {UID} 1"));
    }),
    Case::new(
        "rootless-writes-as-the-user",
        RUNC,
        "what root inside makes is the user's outside",
        || {
            let container = Rootless::new("touch /made", |_| ());
            container.run().ok();
            let made = fs::metadata(container.0.bundle.rootfs("made")).expect("it was made");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), UID);
        },
    ),
    Case::new("rootless-devices", RUNC, "the default devices are there", || {
        let script =
            "echo x > /dev/null && head -c 2 /dev/zero | wc -c && head -c 2 /dev/urandom | wc -c";
        Rootless::new(script, |_| ()).run().prints("2\n2");
    }),
    Case::new("rootless-is-no-root-outside", RUNC, "the host's files stay its own", || {
        let output = Rootless::new(
            "(: >> /host/group) || echo refused; cat /host/shadow || echo hidden",
            |bundle| {
                bundle.mount("/host", "none", "/etc", &["rbind"]);
            },
        )
        .run();
        output.says("refused").says("hidden");
    }),
    Case::new(
        "rootless-subordinate-ids",
        USER,
        "newuidmap(1) maps the user's subordinate IDs",
        || {
            binary::tool("newuidmap");
            let script = "id -u; touch /f && chown 1000:1000 /f && stat -c %u:%g /f";
            let container = Rootless::new(script, |bundle| {
                Rootless::subordinate(bundle);
                bundle.spec["process"]["capabilities"] = json!({
                    "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                });
            });
            container.run().prints("0\n1000:1000");
            let made = fs::metadata(container.0.bundle.rootfs("f")).expect("it was made");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), SUB + 999);
        },
    ),
    Case::new(
        "rootless-user",
        USER,
        "the process can be another user of the map, with groups",
        || {
            binary::tool("newuidmap");
            Rootless::new("id -u; id -g; id -G", |bundle| {
                Rootless::subordinate(bundle);
                bundle.spec["process"]["user"] =
                    json!({"uid": 1000, "gid": 1001, "additionalGids": [1002]});
            })
            .run()
            .prints("1000\n1001\n1001 1002");
        },
    )
    .peers_fail(&[("runc", "1.1 sets no groups where it is not root")]),
    Case::new("rootless-ids-of-others", USER, "IDs that are not the user's are refused", || {
        binary::tool("newuidmap");
        let output = Rootless::new("echo it runs", |bundle| {
            let map = json!([
                {"containerID": 0, "hostID": UID, "size": 1},
                {"containerID": 1, "hostID": 1, "size": 100},
            ]);
            bundle.spec["linux"]["uidMappings"] = map.clone();
            bundle.spec["linux"]["gidMappings"] = map;
        })
        .run();
        output.fails().complains("not allowed");
        assert!(!output.stdout.contains("it runs"), "{output}");
    }),
    Case::new(
        "rootless-without-helpers",
        USER,
        "without newuidmap, more than the own ID is an error",
        || {
            let container = Rootless::new("echo it runs", Rootless::subordinate);
            let output = container.wrapped("exec \"$@\"", "/nowhere", &["run", container.0.id()]);
            output.fails();
            assert!(!output.stdout.contains("it runs"), "{output}");
        },
    ),
    Case::new("rootless-groups", USER, "groups that cannot be set are an error", || {
        let output = Rootless::new("echo it runs", |bundle| {
            bundle.spec["process"]["user"]["additionalGids"] = json!([10]);
        })
        .run();
        output.fails();
        assert!(!output.stdout.contains("it runs"), "{output}");
    })
    .peers_fail(&[("crun", "leaves them out")]),
    Case::new(
        "rootless-life",
        RUNC,
        "create, state, start, exec, kill, delete work as for root",
        || {
            let container =
                Rootless::new("trap 'exit 0' TERM; while :; do sleep 0.1; done", |_| ());
            let id = container.0.id().to_owned();
            // Into files: the container's process holds them for as long as it lives.
            let quiet = container.0.bundle.place().join("quiet");
            let words = format!("exec \"$@\" >{} 2>&1 </dev/null", quiet.display());
            let create = container.wrapped(&words, PATH, &["create", &id]);
            assert_eq!(
                create.code,
                0,
                "{create}\n{}",
                fs::read_to_string(&quiet).unwrap_or_default()
            );
            container.call(&["state", &id]).says("\"created\"");
            container.call(&["start", &id]).ok();
            container
                .call(&["exec", &id, "sh", "-c", "id -u; grep -c sleep /proc/1/cmdline"])
                .says("0\n");
            container.call(&["list"]).says(&id);
            container.call(&["kill", &id, "KILL"]).ok();
            container.0.wait_stopped();
            container.call(&["delete", &id]).ok();
            container.call(&["state", &id]).fails();
        },
    ),
    Case::new(
        "rootless-time",
        "config-linux.md#offset-for-time-namespace",
        "time offsets work without privileges",
        || {
            if fs::metadata("/proc/self/ns/time").is_err() {
                hako_tests::skip!("the kernel has no time namespaces");
            }
            let container = Rootless::new("cut -d. -f1 /proc/uptime", |bundle| {
                bundle.add_namespace("time");
                bundle.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
            });
            let output = container.run();
            if output.stderr.contains("Linux 6.3") {
                hako_tests::skip!("the kernel is older than 6.3");
            }
            assert!(
                output.ok().trim().parse::<u64>().is_ok_and(|up| up >= 1_000_000_000),
                "{output}"
            );
        },
    )
    .peers_fail(&[
        ("runc", "1.1 does not know time namespaces"),
        ("crun", "1.8 fails without a word"),
    ]),
    Case::new("rootless-limits", RUNC, "limits that cannot be set are an error", || {
        let output = Rootless::new("echo it runs", |bundle| {
            bundle.spec["linux"]["resources"] = json!({"pids": {"limit": 20}});
        })
        .run();
        output.fails().complains("cgroup");
        assert!(!output.stdout.contains("it runs"), "{output}");
    })
    .peers_fail(&[("crun", "1.8 leaves them out")]),
    Case::new(
        "rootless-net-device",
        "config-linux.md#network-devices",
        "the host's network devices stay the host's",
        || {
            let output = Rootless::new("echo it runs", |bundle| {
                bundle.add_namespace("network");
                bundle.spec["linux"]["netDevices"] = json!({"lo": {"name": "lo9"}});
            })
            .run();
            output.fails().complains("netDevices");
        },
    )
    .peers_fail(&[("runc", "1.1 does not know them"), ("crun", "1.8 does not know them")]),
    Case::new("rootless-spec", RUNC, "spec --rootless is for the user who asks", || {
        let container = Rootless::new("true", |_| ());
        fs::remove_file(container.0.bundle.path().join("config.json")).expect("it was written");
        container.call(&["spec", "--rootless"]).ok();
        let text = fs::read_to_string(container.0.bundle.path().join("config.json"));
        let spec: serde_json::Value =
            serde_json::from_str(&text.expect("it is written")).expect("JSON");
        assert_eq!(spec["linux"]["uidMappings"][0]["hostID"], json!(UID));
    })
    .peers_fail(&[("crun", "1.8 writes no mappings")]),
];
