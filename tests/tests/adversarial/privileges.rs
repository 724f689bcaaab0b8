//! Ways around what confines a container: other ways into the kernel, keys, capabilities, cgroups.

use std::{fs, path::PathBuf, process::Command};

use hako_tests::{
    Caller, Case, binary,
    bundle::{Bundle, push},
    caller,
    command::{self, Output},
    runtime::Container,
    sandbox, skip,
};
use serde_json::{Value, json};

/// `probe.c`, compiled; every row that asks gets its own copy of the path.
fn probe() -> PathBuf {
    if cfg!(not(target_arch = "x86_64")) {
        skip!("the probe speaks x86-64");
    }
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let gcc = binary::tool("gcc");
    BUILT
        .get_or_init(|| {
            let (source, program) =
                (sandbox::shared().join("probe.c"), sandbox::shared().join("probe"));
            fs::write(&source, include_str!("probe.c")).expect("our own file");
            let mut command = Command::new(gcc);
            command.args(["-O1", "-static", "-no-pie", "-o"]).arg(&program).arg(&source);
            command::run(&mut command).ok();
            program
        })
        .clone()
}

/// Runs the probe in a container.
#[track_caller]
fn probed(words: &[&str], change: impl FnOnce(&mut Bundle)) -> Output {
    let mut bundle = Bundle::new();
    fs::copy(probe(), bundle.rootfs("bin/probe")).expect("our own directory");
    let words: Vec<&str> = [&["probe"], words].concat();
    bundle.spec["process"]["args"] = json!(words);
    change(&mut bundle);
    Container::new(bundle).run()
}

const ARCHITECTURES: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

/// Docker's default profile as a runtime gets it, for a container without further capabilities.
fn docker_default() -> Value {
    let text =
        fs::read_to_string(binary::data("seccomp/docker-default.json")).expect("it is there");
    let profile: Value = serde_json::from_str(&text).expect("JSON");
    let holds = |rule: &&Value| {
        let arches = &rule["includes"]["arches"];
        let here =
            arches.is_null() || arches.as_array().is_some_and(|all| all.contains(&json!("amd64")));
        here && rule["includes"]["caps"].is_null()
    };
    let rules: Vec<Value> = profile["syscalls"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(holds)
        .map(|rule| {
            let mut rule = rule.clone();
            let fields = rule.as_object_mut().expect("an object");
            fields
                .retain(|name, _| ["names", "action", "args", "errnoRet"].contains(&name.as_str()));
            rule
        })
        .collect();
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ARCHITECTURES,
        "syscalls": rules,
    })
}

/// No way leads there.
#[track_caller]
fn nowhere(output: &Output) {
    let lines: Vec<&str> = output.ok().lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("native ")), "{output}");
    assert!(!lines.iter().any(|line| line.ends_with("yes")), "{output}");
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "sockets-of-other-families",
        "2026-31431",
        "no AF_ALG, no AF_VSOCK under Docker's default profile, by whatever entry",
        || {
            let profile = docker_default();
            for family in ["38", "40"] {
                let output = probed(&["socket", family], |bundle| {
                    bundle.spec["linux"]["seccomp"] = profile.clone();
                });
                nowhere(&output);
                // Refused by the filter, not for want of such sockets: EPERM, not EAFNOSUPPORT.
                assert!(output.stdout.contains("native 1\n"), "{output}");
            }
            // The filter is not what forbids everything.
            let output = probed(&["socket", "2"], |bundle| {
                bundle.spec["linux"]["seccomp"] = profile.clone();
            });
            assert!(output.ok().contains("native yes"), "{output}");
        },
    ).also_by_users(),
    Case::new(
        "seccomp-by-another-entry",
        "SECURITY R",
        "a rule holds for 32-bit and x32 calls of its architectures",
        || {
            let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
            let output = probed(&["mkdir", "/tmp/made"], |bundle| {
                bundle.spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ARCHITECTURES,
                    "syscalls": rules,
                });
            });
            nowhere(&output);
        },
    ).also_by_users(),
    Case::new(
        "seccomp-of-one-architecture",
        "SECURITY R",
        "a filter for one architecture does not let the others pass",
        || {
            let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
            let output = probed(&["mkdir", "/tmp/made"], |bundle| {
                bundle.spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": rules,
                });
            });
            nowhere(&output);
        },
    ).also_by_users(),
    Case::new(
        "session-keyring",
        "SECURITY R: keyring",
        "keys of the caller's session are not the container's, in run and in exec",
        || {
            let mut bundle = Bundle::sh("probe find-key; touch /up; while :; do sleep 0.1; done");
            let probe = probe();
            fs::copy(&probe, bundle.rootfs("bin/probe")).expect("our own directory");
            bundle.spec["process"]["args"] = json!(["probe", "find-key"]);
            let container = Container::new(bundle);
            let inner = container.run_command(&[]);
            let mut outer = Command::new(&probe);
            outer.arg("with-key").arg(inner.get_program()).args(inner.get_args());
            let output = command::run(&mut outer);
            assert!(!output.ok().contains("yes"), "{output}");
            // The key is there: who shares the session finds it.
            let mut shared = Command::new(&probe);
            shared.arg("with-key").arg(&probe).arg("find-key");
            command::run(&mut shared).prints("key yes");
        },
    ).also_by_users(),
    Case::new(
        "session-keyring-of-exec",
        "SECURITY R: keyring",
        "nor are those of who executes something in it",
        || {
            let bundle = Bundle::sh("touch /up; while :; do sleep 0.1; done");
            let probe = probe();
            fs::copy(&probe, bundle.rootfs("bin/probe")).expect("our own directory");
            let container = Container::new(bundle);
            container.create().ok();
            container.start().ok();
            command::wait_until("it is up", || container.bundle.rootfs("up").exists());
            let mut inner = container.runtime();
            inner.args(["exec", container.id(), "probe", "find-key"]);
            let mut outer = Command::new(&probe);
            outer.arg("with-key").arg(inner.get_program()).args(inner.get_args());
            let output = command::run(&mut outer);
            assert!(!output.ok().contains("yes"), "{output}");
        },
    ).also_by_users()
    .peers_fail(&[("crun", "exec keeps the caller's session keyring")]),
    Case::new(
        "capabilities-after-setuid",
        "SECURITY R",
        "an ordinary user has none left, in run and in exec",
        || {
            let script = "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status";
            let none =
                "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000";
            let mut bundle = Bundle::sh(script);
            bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            Container::new(bundle).run().prints(none);

            let container = Container::new(Bundle::sh("while :; do sleep 0.1; done"));
            container.create().ok();
            container.start().ok();
            container.exec(&["--user", "1000:1000"], &["sh", "-c", script]).prints(none);
        },
    ),
    Case::new(
        "proc-beneath-a-root-that-moved",
        "SECURITY R: masked paths",
        "without pivot_root, no procfs is left that a user namespace could mount without masks",
        || {
            let mut bundle = Bundle::sh(
                "unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted' 2>&1; \
                 unshare -mrnpf sh -c 'mount -t sysfs none /sys && echo mounted' 2>&1; true",
            );
            for set in ["bounding", "permitted", "effective"] {
                push(&mut bundle.spec["process"]["capabilities"][set], json!("CAP_SETFCAP"));
            }
            let container = Container::new(bundle);
            for options in [&[][..], &["--no-pivot"]] {
                let output = container.run_with(options, b"");
                assert!(!output.ok().contains("mounted"), "{options:?}\n{output}");
            }
        },
    )
    .peers_fail(&[("crun", "1.8 leaves the host's")]),
    Case::new(
        "devices-are-the-host's",
        "SECURITY R: CVE-2025-31133 and kin",
        "root in a user namespace that maps the host's cannot change the host's devices",
        || {
            // Nothing is changed where the attack succeeds.
            let script = "chmod 666 /dev/zero && echo changed; touch /dev/zero && echo changed; \
                          chown 0:0 /dev/zero && echo changed; head -c 2 /dev/zero | wc -c; echo x >/dev/full || true";
            let mut bundle = Bundle::sh(script);
            if caller::current() == Caller::Root {
                bundle.add_namespace("user");
                let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                bundle.spec["linux"]["uidMappings"] = map.clone();
                bundle.spec["linux"]["gidMappings"] = map;
            }
            for set in ["bounding", "permitted", "effective"] {
                for name in ["CAP_CHOWN", "CAP_FOWNER"] {
                    push(&mut bundle.spec["process"]["capabilities"][set], json!(name));
                }
            }
            let output = Container::new(bundle).run();
            output.prints("2").complains("No space left");
        },
    )
    .also_by_users()
    .peers_fail(&[("runc", "1.1.5 binds them writable"), ("crun", "1.8 binds them writable")]),
    Case::new(
        "cgroup-without-namespace",
        "CVE-2023-25809",
        "in a user namespace without a cgroup namespace, cgroups cannot be written",
        || {
            let mut bundle = Bundle::sh(
                "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made 2>/dev/null && echo made; \
                 (echo $$ >$d/cgroup.procs) 2>/dev/null && echo moved; done; echo done",
            );
            bundle.without_namespace("cgroup");
            bundle.add_namespace("user");
            let all = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            bundle.spec["linux"]["uidMappings"] = all.clone();
            bundle.spec["linux"]["gidMappings"] = all;
            // The root filesystem belongs to whom the container's root is.
            let mut chown = Command::new(binary::tool("chown"));
            chown.args(["-R", "100000:100000"]).arg(bundle.rootfs(""));
            command::run(&mut chown).ok();
            let output = Container::new(bundle).run();
            output.is_sane();
            assert!(
                !output.stdout.contains("made") && !output.stdout.contains("moved"),
                "{output}"
            );
            assert!(output.code != 0 || output.stdout == "done\n", "{output}");
        },
    )
    .peers_fail(&[("crun", "1.8 leaves v1 mounts writable")]),
];
