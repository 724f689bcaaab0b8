//! runtime.md: the operations and the life of a container.

use hako_tests::{
    Case,
    bundle::Bundle,
    command::{self, wait_until},
    runtime::Container,
};
use serde_json::json;

use super::{refused, sh, sleeping};

const CREATE: &str = "runtime.md#create";
const START: &str = "runtime.md#start";
const KILL: &str = "runtime.md#kill";
const DELETE: &str = "runtime.md#delete";
const STATE: &str = "runtime.md#state";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "create-does-not-run-the-program",
        CREATE,
        "the program MUST NOT be run before start",
        || {
            let container = Container::new(Bundle::sh("echo ran"));
            container.create().ok();
            assert_eq!(container.status(), "created");
            assert_eq!(container.output(), "");
            container.start().ok();
            container.wait_stopped();
            assert_eq!(container.output(), "ran\n");
        },
    ),
    Case::new(
        "create-with-an-id-in-use",
        CREATE,
        "the id MUST be unique; the first container stays",
        || {
            let container = sleeping(|_| ());
            container.create().fails().complains("exist");
            assert_eq!(container.status(), "running");
        },
    ),
    Case::new("create-without-config", CREATE, "a bundle without config.json is an error", || {
        let container = Container::new(Bundle::new());
        let bundle = container.bundle.path();
        command::run(
            container.runtime().args(["create", "--bundle"]).arg(bundle).arg(container.id()),
        )
        .fails()
        .complains("config.json");
        assert!(container.cgroups().is_empty());
    }),
    Case::new(
        "create-with-broken-config",
        CREATE,
        "a config.json that is not JSON is an error",
        || {
            let container = Container::new(Bundle::new());
            container.bundle.place().write("config.json", "{\"ociVersion\": ");
            let bundle = container.bundle.path();
            let mut command = container.runtime();
            command.args(["create", "--bundle"]).arg(bundle).arg(container.id());
            command::run(&mut command).fails().is_sane();
        },
    ),
    Case::new(
        "create-with-an-id-that-is-a-path",
        CREATE,
        "an id cannot leave the state directory",
        || {
            let container = Container::new(Bundle::new());
            container.bundle.write();
            for id in ["../escape", "a/b", "..", "."] {
                let bundle = container.bundle.path();
                let mut command = container.runtime();
                command.args(["create", "--bundle"]).arg(bundle).arg(id);
                command::run(&mut command).fails();
            }
            assert!(!container.root().join("../escape").exists());
        },
    ),
    Case::new(
        "create-leaves-nothing-when-it-fails",
        CREATE,
        "a failed create has no effect",
        || {
            let mut bundle = Bundle::new();
            bundle.mount("/mnt", "bind", "/no/such/source", &["bind"]);
            let container = Container::new(bundle);
            container.create().fails();
            assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
            container.call(&["state", container.id()]).fails();
            let left: Vec<_> =
                std::fs::read_dir(container.root()).expect("our directory").collect();
            assert!(left.is_empty(), "{left:?}");
        },
    )
    .peers_fail(&[("crun", "leaves an empty lock or exec directory")]),
    Case::new(
        "config-changes-after-create",
        CREATE,
        "changes after create MUST NOT affect the container",
        || {
            let mut container = Container::new(Bundle::sh("echo first"));
            container.create().ok();
            container.bundle.spec["process"]["args"] = json!(["echo", "second"]);
            container.bundle.write();
            container.start().ok();
            container.wait_stopped();
            assert_eq!(container.output(), "first\n");
        },
    ),
    Case::new("start-twice", START, "start of what is not created MUST be an error", || {
        let container = sleeping(|_| ());
        container.start().fails();
        assert_eq!(container.status(), "running");
    }),
    Case::new("start-stopped", START, "start of what is stopped MUST be an error", || {
        let container = Container::new(Bundle::sh("exit 0"));
        container.create().ok();
        container.start().ok();
        container.wait_stopped();
        container.start().fails();
    }),
    Case::new("start-unknown", START, "start of an unknown id MUST be an error", || {
        Container::new(Bundle::new()).start().fails().complains("not exist");
    })
    .peers_fail(&[("crun", "names the file and not the container")]),
    Case::new(
        "state-of-created",
        STATE,
        "the state has ociVersion, id, status, pid and bundle",
        || {
            let mut bundle = Bundle::new();
            bundle.spec["annotations"] = json!({"org.example.key": "value"});
            let container = Container::new(bundle);
            container.create().ok();
            let state = container.state();
            assert_eq!(state["id"], container.id());
            assert_eq!(state["status"], "created");
            assert_eq!(state["bundle"], container.bundle.path().to_string_lossy().as_ref());
            assert_eq!(state["annotations"]["org.example.key"], "value");
            assert!(
                state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")),
                "{state}"
            );
            let pid = container.pid();
            assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        },
    ),
    Case::new(
        "state-of-running",
        STATE,
        "running: the process has run the program and not exited",
        || {
            let container = sleeping(|_| ());
            assert_eq!(container.status(), "running");
            let line =
                std::fs::read(format!("/proc/{}/cmdline", container.pid())).expect("it lives");
            assert!(String::from_utf8_lossy(&line).starts_with("sh\0-c"), "{line:?}");
        },
    ),
    Case::new("state-of-stopped", STATE, "stopped: the process has exited", || {
        let container = Container::new(Bundle::sh("exit 3"));
        container.create().ok();
        container.start().ok();
        wait_until("it is stopped", || container.status() == "stopped");
    }),
    Case::new("state-unknown", STATE, "the state of an unknown id MUST be an error", || {
        let container = Container::new(Bundle::new());
        container.call(&["state", container.id()]).fails().complains("not exist");
    })
    .peers_fail(&[("crun", "names the file and not the container")]),
    Case::new("kill-running", KILL, "the signal reaches the container's process", || {
        let container = Container::new(Bundle::sh(
            "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.1; done",
        ));
        container.create().ok();
        container.start().ok();
        wait_until("it is up", || container.output().contains("up"));
        container.kill("USR1").ok();
        container.wait_stopped();
        assert_eq!(container.output(), "up\ngot\n");
    }),
    Case::new("kill-by-every-spelling", KILL, "a signal is a name, with SIG, or a number", || {
        for spelling in ["TERM", "SIGTERM", "15"] {
            let container = sleeping(|_| ());
            container.kill(spelling).ok();
            container.wait_stopped();
        }
    }),
    Case::new("kill-created", KILL, "kill of a created container MUST work", || {
        let container = Container::new(Bundle::sh("echo ran"));
        container.create().ok();
        container.kill("KILL").ok();
        container.wait_stopped();
        assert_eq!(container.output(), "");
    }),
    Case::new(
        "kill-stopped",
        KILL,
        "kill of what neither runs nor is created MUST be an error",
        || {
            let container = Container::new(Bundle::sh("exit 0"));
            container.create().ok();
            container.start().ok();
            container.wait_stopped();
            container.kill("KILL").fails();
        },
    ),
    Case::new(
        "kill-unknown-signal",
        KILL,
        "an unknown signal is an error, and nothing is sent",
        || {
            let container = sleeping(|_| ());
            container.kill("NOSUCH").fails();
            assert_eq!(container.status(), "running");
        },
    )
    .peers_fail(&[("crun", "1.8 sends signal 0")]),
    Case::new("delete-running", DELETE, "delete of a running container MUST be an error", || {
        let container = sleeping(|_| ());
        container.delete(&[]).fails();
        assert_eq!(container.status(), "running");
    }),
    Case::new(
        "delete-stopped",
        DELETE,
        "delete removes what create made, and the id is free again",
        || {
            let container = Container::new(Bundle::sh("exit 0"));
            container.create().ok();
            container.start().ok();
            container.wait_stopped();
            container.delete(&[]).ok();
            container.call(&["state", container.id()]).fails();
            assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
            container.create().ok();
            assert_eq!(container.status(), "created");
        },
    ),
    Case::new("delete-force", "runc delete(8)", "delete --force kills what runs", || {
        let container = sleeping(|_| ());
        let pid = container.pid();
        container.delete(&["--force"]).ok();
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
        assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
    }),
    Case::new(
        "delete-force-unknown",
        "runc delete(8)",
        "delete --force of an unknown id is no error",
        || {
            Container::new(Bundle::new()).delete(&["--force"]).ok();
        },
    ),
    Case::new("delete-unknown", DELETE, "delete of an unknown id MUST be an error", || {
        Container::new(Bundle::new()).delete(&[]).fails().complains("not exist");
    })
    .peers_fail(&[("crun", "names the file and not the container")]),
    Case::new(
        "delete-keeps-the-bundle",
        DELETE,
        "what create did not make MUST NOT be deleted",
        || {
            let container = Container::new(Bundle::sh("touch /made-inside"));
            container.run().ok();
            assert!(container.bundle.rootfs("made-inside").exists());
            assert!(container.bundle.path().join("config.json").exists());
        },
    ),
    Case::new(
        "run-returns-the-exit-code",
        "runc run(8)",
        "run exits as the container's process did",
        || {
            sh("exit 7", |_| ()).exits(7);
            sh("exit 255", |_| ()).exits(255);
        },
    ),
    Case::new(
        "run-returns-the-signal",
        "runc run(8)",
        "run exits with 128 + n after signal n",
        || {
            sh("sh -c 'kill -9 $$'; exit $?", |_| ()).exits(137);
            // The first process cannot be killed from inside; by a filter it can.
            let output = sh("mkdir /x", |bundle| {
                bundle.spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
                });
                bundle.spec["process"]["args"] = json!(["mkdir", "/x"]);
            });
            output.exits(128 + 31);
        },
    ),
    Case::new("run-removes-the-container", "runc run(8)", "after run the id is free", || {
        let container = Container::new(Bundle::sh("exit 0"));
        container.run().ok();
        container.call(&["state", container.id()]).fails();
        container.run().ok();
    }),
    Case::new(
        "run-forwards-signals",
        "runc run(8)",
        "a signal sent to run reaches the container",
        || {
            let container = Container::new(Bundle::sh(
                "trap 'exit 9' TERM; touch /up; while :; do sleep 0.05; done",
            ));
            let mut command = container.run_command(&[]);
            let child =
                command.stdin(std::process::Stdio::null()).spawn().expect("the runtime starts");
            wait_until("it is up", || container.bundle.rootfs("up").exists());
            let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
            command::finish(child, command::shown(&command)).exits(9);
        },
    ),
    Case::new(
        "version-must-be-semver",
        "config.md#specification-version",
        "ociVersion MUST be SemVer",
        || {
            refused(|bundle| bundle.spec["ociVersion"] = json!("one"));
        },
    )
    .peers_fail(&[
        ("runc", "does not look at ociVersion"),
        ("crun", "does not look at ociVersion"),
    ]),
    Case::new(
        "version-too-new",
        "config.md#specification-version",
        "a major version of the future is refused",
        || {
            refused(|bundle| bundle.spec["ociVersion"] = json!("2.0.0"));
        },
    )
    .peers_fail(&[
        ("runc", "does not look at ociVersion"),
        ("crun", "does not look at ociVersion"),
    ]),
    Case::new(
        "version-of-any-1.x",
        "config.md#specification-version",
        "every 1.x document is accepted",
        || {
            for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.3.0"] {
                sh("echo ran", |bundle| bundle.spec["ociVersion"] = json!(version)).prints("ran");
            }
        },
    )
    .peers_fail(&[("crun", "1.8 refuses versions that it does not know")]),
    Case::new(
        "unknown-properties",
        "config.md#extensibility",
        "unknown properties MUST be ignored",
        || {
            sh("echo ran", |bundle| {
                bundle.spec["org.example.future"] = json!({"a": [1]});
                bundle.spec["process"]["future"] = json!(true);
                bundle.spec["linux"]["future"] = json!("x");
            })
            .prints("ran");
        },
    ),
];
