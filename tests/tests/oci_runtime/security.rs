//! config-linux.md and config.md: capabilities, seccomp, masked and read-only paths, sysctls.

use hako_tests::{Case, bundle::Bundle, place::Place, runtime::Container};
use serde_json::{Value, json};

use super::{refused, sh};

const CAPABILITIES: &str = "config.md#linux-process";
const SECCOMP: &str = "config-linux.md#seccomp";
const MASKED: &str = "config-linux.md#masked-paths";
const READONLY: &str = "config-linux.md#readonly-paths";
const SYSCTL: &str = "config-linux.md#sysctl";

const SHOW_CAPABILITIES: &str = "grep ^Cap /proc/self/status | tr '\\t\\n' '  '";

/// CAP_CHOWN is 0, CAP_KILL is 5, CAP_NET_BIND_SERVICE is 10, CAP_NET_RAW is 13.
fn capabilities(sets: Value) -> String {
    sh(SHOW_CAPABILITIES, |bundle| bundle.spec["process"]["capabilities"] = sets)
        .ok()
        .trim()
        .to_owned()
}

fn seccomp(default: &str, rules: Value) -> Value {
    json!({"defaultAction": default, "syscalls": rules})
}

pub(crate) const CASES: &[Case] = &[
    Case::new("capabilities-sets", CAPABILITIES, "the sets are exactly as written", || {
        let sets = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"],
        });
        // For root, executing a program raises permitted and effective to the bounding set.
        let shown = capabilities(sets);
        assert!(shown.contains("CapInh: 0000000000000000"), "{shown}");
        assert!(shown.contains("CapBnd: 0000000000002021"), "{shown}");
        assert!(shown.contains("CapAmb: 0000000000000000"), "{shown}");
    }),
    Case::new("capabilities-none", CAPABILITIES, "empty sets leave none", || {
        let empty: [&str; 0] = [];
        let shown =
            capabilities(json!({"bounding": empty, "permitted": empty, "effective": empty}));
        assert_eq!(shown.matches("0000000000000000").count(), 5, "{shown}");
    }),
    Case::new("capabilities-absent", CAPABILITIES, "without capabilities there are none", || {
        let shown = capabilities(Value::Null);
        assert!(shown.contains("CapEff: 0000000000000000"), "{shown}");
    })
    .peers_fail(&[
        ("runc", "1.1 leaves the caller's capabilities"),
        ("crun", "leaves the caller's capabilities"),
    ]),
    Case::new(
        "capabilities-ambient",
        CAPABILITIES,
        "ambient ones are kept by another user",
        || {
            let one = json!(["CAP_NET_RAW"]);
            let output = sh(SHOW_CAPABILITIES, |bundle| {
                bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                bundle.spec["process"]["capabilities"] = json!({"bounding": one, "permitted": one, "effective": one, "inheritable": one, "ambient": one});
            });
            assert_eq!(output.ok().matches("0000000000002000").count(), 5, "{output}");
        },
    ),
    Case::new(
        "capabilities-of-another-user",
        CAPABILITIES,
        "another user has none without ambient",
        || {
            let one = json!(["CAP_NET_RAW"]);
            let output = sh(SHOW_CAPABILITIES, |bundle| {
                bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                bundle.spec["process"]["capabilities"] =
                    json!({"bounding": one, "permitted": one, "effective": one});
            });
            output
                .says("CapEff: 0000000000000000")
                .says("CapPrm: 0000000000000000")
                .says("CapBnd: 0000000000002000");
        },
    ),
    Case::new(
        "capabilities-unknown",
        CAPABILITIES,
        "an unknown name MUST NOT be an error, and is warned of",
        || {
            let output = sh("echo ran", |bundle| {
                let names = json!(["CAP_KILL", "CAP_OF_THE_FUTURE"]);
                bundle.spec["process"]["capabilities"] =
                    json!({"bounding": names, "permitted": names, "effective": names});
            });
            output.says("ran").complains("CAP_OF_THE_FUTURE");
        },
    )
    .peers_fail(&[("crun", "says nothing")]),
    Case::new(
        "capability-works",
        CAPABILITIES,
        "a capability that is there can be used, another cannot",
        || {
            let sets =
                |name: &str| json!({"bounding": [name], "permitted": [name], "effective": [name]});
            let chown = "chown 1000 /etc/passwd && echo changed || echo refused";
            sh(chown, |bundle| bundle.spec["process"]["capabilities"] = sets("CAP_CHOWN"))
                .prints("changed");
            sh(chown, |bundle| bundle.spec["process"]["capabilities"] = sets("CAP_KILL"))
                .says("refused");
        },
    ),
    Case::new("seccomp-errno", SECCOMP, "SCMP_ACT_ERRNO answers EPERM", || {
        let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
        let output = sh("mkdir /x || echo refused; grep Seccomp: /proc/self/status", |bundle| {
            bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
        });
        output.says("refused").says("Seccomp:\t2").complains("Operation not permitted");
    }),
    Case::new("seccomp-errno-value", SECCOMP, "errnoRet is the answer", || {
        let rules =
            json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
        let output = sh("mkdir /x", |bundle| {
            bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
        });
        output.fails().complains("No space left");
    }),
    Case::new(
        "seccomp-default-errno",
        SECCOMP,
        "defaultErrnoRet answers for what is not listed",
        || {
            let output = sh("mkdir /x", |bundle| {
                // Everything that a shell and mkdir need by number would be long: list what is refused
                // by allowing all others through a rule that never matches mkdir.
                bundle.spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
                });
            });
            output.fails().complains("not implemented");
        },
    ),
    Case::new("seccomp-kill", SECCOMP, "SCMP_ACT_KILL_PROCESS ends the process by SIGSYS", || {
        let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
        let output = sh("mkdir /x; echo $?", |bundle| {
            bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
        });
        output.says("159");
    }),
    Case::new("seccomp-trap", SECCOMP, "SCMP_ACT_TRAP sends SIGSYS", || {
        let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"}]);
        let output = sh("mkdir /x; echo $?", |bundle| {
            bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
        });
        output.says("159");
    }),
    Case::new(
        "seccomp-arguments",
        SECCOMP,
        "a rule with args matches those arguments only",
        || {
            // kill(pid, signal): signal 10 (USR1) is refused, signal 0 is not.
            let rules = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                            "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]);
            let output = sh("kill -0 1 && echo zero; kill -USR1 1 || echo refused", |bundle| {
                bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
            });
            output.says("zero").says("refused");
        },
    ),
    Case::new("seccomp-masked-arguments", SECCOMP, "SCMP_CMP_MASKED_EQ compares some bits", || {
        // unshare(flags) with CLONE_NEWUTS (0x4000000) is refused, with CLONE_NEWIPC it is not.
        let rules = json!([{"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                            "args": [{"index": 0, "value": 0x400_0000, "valueTwo": 0x400_0000, "op": "SCMP_CMP_MASKED_EQ"}]}]);
        let output = sh("unshare -u true; unshare -i true", |bundle| {
            bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
        });
        assert!(output.stderr.contains("No space left"), "{output}");
        assert!(output.stderr.contains("not permitted"), "{output}");
    }),
    Case::new(
        "seccomp-unknown-syscall",
        SECCOMP,
        "a system call that does not exist is passed over",
        || {
            let rules = json!([{"names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
            let output = sh("mkdir /x || echo refused", |bundle| {
                bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
            });
            output.says("refused");
        },
    ),
    Case::new("seccomp-unknown-action", SECCOMP, "an unknown action is an error", || {
        refused(|bundle| bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_SMILE", json!([])));
    }),
    Case::new(
        "seccomp-with-new-privileges",
        SECCOMP,
        "it works without noNewPrivileges too",
        || {
            let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
            let output =
                sh("mkdir /x || echo refused; grep NoNewPrivs /proc/self/status", |bundle| {
                    bundle.spec["process"]["noNewPrivileges"] = json!(false);
                    bundle.spec["linux"]["seccomp"] = seccomp("SCMP_ACT_ALLOW", rules);
                });
            output.says("refused").says("NoNewPrivs:\t0");
        },
    ),
    Case::new("masked-file", MASKED, "a masked file is empty", || {
        let output = sh("wc -c < /etc/os-release; cat /proc/kcore | head -c 1 | wc -c", |bundle| {
            hako_tests::bundle::push(
                &mut bundle.spec["linux"]["maskedPaths"],
                json!("/etc/os-release"),
            );
        });
        output.prints("0\n0");
    }),
    Case::new(
        "masked-directory",
        MASKED,
        "a masked directory is empty and cannot be written",
        || {
            let output = sh("ls -A /etc | wc -l; touch /etc/x || echo refused", |bundle| {
                hako_tests::bundle::push(&mut bundle.spec["linux"]["maskedPaths"], json!("/etc"));
            });
            output.prints("0\nrefused");
        },
    ),
    Case::new(
        "masked-file-is-not-to-be-changed",
        MASKED,
        "what covers a masked file may be the host's null device: root inside cannot change it",
        || {
            let mode = || std::fs::metadata("/dev/null").expect("it is there").permissions();
            let before = mode();
            let script = "chmod 667 /etc/group; chown 1:1 /etc/group; cat /etc/group; echo x > /etc/group && echo swallowed";
            let output = sh(script, |bundle| {
                let all = json!(["CAP_CHOWN", "CAP_FOWNER"]);
                bundle.spec["process"]["capabilities"] =
                    json!({"bounding": all, "effective": all, "permitted": all});
                let masked = &mut bundle.spec["linux"]["maskedPaths"];
                hako_tests::bundle::push(masked, json!("/etc/group"));
            });
            let after = mode();
            if after != before {
                std::fs::set_permissions("/dev/null", before.clone()).expect("we are root");
                std::os::unix::fs::chown("/dev/null", Some(0), Some(0)).expect("we are root");
            }
            assert_eq!(after, before, "{output}");
            output.says("swallowed");
        },
    ),
    Case::new("masked-missing", MASKED, "a masked path that is not there is passed over", || {
        sh("echo ran", |bundle| bundle.spec["linux"]["maskedPaths"] = json!(["/no/such/path"]))
            .prints("ran");
    }),
    Case::new("readonly-path", READONLY, "a read-only path cannot be written", || {
        let output = sh(
            "echo 1 > /proc/sys/kernel/domainname || echo refused; touch /etc/x || echo refused",
            |bundle| {
                hako_tests::bundle::push(&mut bundle.spec["linux"]["readonlyPaths"], json!("/etc"));
            },
        );
        output.prints("refused\nrefused").complains("read-only");
    }),
    Case::new(
        "readonly-missing",
        READONLY,
        "a read-only path that is not there is passed over",
        || {
            sh("echo ran", |bundle| {
                bundle.spec["linux"]["readonlyPaths"] = json!(["/no/such/path"]);
            })
            .prints("ran");
        },
    ),
    Case::new("sysctl", SYSCTL, "sysctls are set in the container's namespaces", || {
        let output = sh("cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward", |bundle| {
            bundle.spec["linux"]["sysctl"] =
                json!({"kernel.msgmax": "12345", "net.ipv4.ip_forward": "1"});
        });
        output.prints("12345\n1");
    }),
    Case::new("sysctl-of-the-host", SYSCTL, "a sysctl without a namespace is refused", || {
        let before = std::fs::read_to_string("/proc/sys/kernel/panic").expect("it is always there");
        refused(|bundle| bundle.spec["linux"]["sysctl"] = json!({"kernel.panic": "77"}));
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").expect("the same"), before);
    }),
    Case::new(
        "sysctl-without-namespace",
        SYSCTL,
        "a net.* sysctl needs an own network namespace",
        || {
            refused(|bundle| {
                bundle.without_namespace("network");
                bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            });
        },
    ),
    Case::new("sysctl-with-a-path", SYSCTL, "a name cannot leave /proc/sys", || {
        refused(|bundle| bundle.spec["linux"]["sysctl"] = json!({"net/../../sysrq-trigger": "h"}));
    }),
    Case::new(
        "seccomp-recorded",
        "hako-runc run --record-seccomp",
        "under the profile that a run recorded the same program runs, and another one does not",
        || {
            let script = "mkdir /made && cat /etc/hostname | tr a-z A-Z && rmdir /made; echo $?";
            for (privileges, profile) in [
                (true, Value::Null),
                (false, Value::Null),
                (
                    true,
                    json!({
                        "defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO"}],
                    }),
                ),
            ] {
                let run = |script: &str, seccomp: &Value, options: &[&str]| {
                    let mut bundle = Bundle::sh(script);
                    bundle.spec["process"]["noNewPrivileges"] = json!(privileges);
                    bundle.spec["linux"]["seccomp"] = seccomp.clone();
                    Container::new(bundle).run_with(options, b"")
                };
                let place = Place::new("recorded");
                let file = place.path().join("profile.json");
                let first = run(script, &profile, &["--record-seccomp", &file.to_string_lossy()]);
                let text = std::fs::read(&file).expect("the profile");
                let recorded: Value = serde_json::from_slice(&text).expect("JSON");
                let names = recorded["syscalls"][0]["names"].as_array().expect("a list");
                assert!(names.contains(&json!("execve")) && names.len() < 100, "{recorded}");
                assert!(!names.contains(&json!("sethostname")), "{recorded}");
                assert!(!names.contains(&json!("seccomp")), "{recorded}");
                run(script, &recorded, &[]).prints(first.ok());
                run("hostname other", &recorded, &[]).fails();
            }
            let container = Container::new(Bundle::new());
            container.run_with(&["--detach", "--record-seccomp", "/nowhere"], b"").fails();
        },
    )
    .peers_fail(&[("runc", "has no such option"), ("crun", "has no such option")]),
];
