//! config.md: hooks.

use std::fs;

use hako_tests::{Case, bundle::Bundle, runtime::Container};
use serde_json::{Value, json};

const HOOKS: &str = "config.md#posix-platform-hooks";

/// A hook that appends a line to the bundle's `log`, from whatever namespace it runs in.
fn hook(bundle: &Bundle, script: &str) -> Value {
    let log = bundle.path().join("log");
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("exec >>{}; {script}", log.display())]})
}

fn log(container: &Container) -> String {
    fs::read_to_string(container.bundle.path().join("log")).unwrap_or_default()
}

pub(crate) const CASES: &[Case] = &[
    Case::new("hooks-order", HOOKS, "hooks run in the order of the life cycle", || {
        let mut bundle = Bundle::sh("echo program >>/log-inside");
        for (kind, word) in [
            ("prestart", "prestart"),
            ("createRuntime", "create-runtime"),
            ("createContainer", "create-container"),
            ("poststart", "poststart"),
            ("poststop", "poststop"),
        ] {
            bundle.spec["hooks"][kind] = json!([hook(&bundle, &format!("echo {word}"))]);
        }
        let container = Container::new(bundle);
        container.create().ok();
        assert_eq!(log(&container), "prestart\ncreate-runtime\ncreate-container\n");
        container.start().ok();
        container.wait_stopped();
        hako_tests::command::wait_until("poststart ran", || log(&container).contains("poststart"));
        container.delete(&[]).ok();
        assert_eq!(
            log(&container),
            "prestart\ncreate-runtime\ncreate-container\npoststart\npoststop\n"
        );
    })
    .peers_fail(&[
        ("runc", "1.1 runs poststart hooks in create"),
        ("crun", "dies of SIGPIPE when a hook does not read"),
    ]),
    Case::new(
        "hook-poststart-fails",
        "runtime.md#lifecycle",
        "a failing poststart hook is an error, and stops the container",
        || {
            let mut bundle = Bundle::sh("while :; do sleep 0.1; done");
            bundle.spec["hooks"]["poststart"] = json!([hook(&bundle, "exit 3")]);
            let container = Container::new(bundle);
            container.create().ok();
            container.start().fails().complains("poststart");
            container.wait_stopped();
            container.delete(&[]).ok();
        },
    )
    .peers_fail(&[("runc", "1.1 runs poststart hooks in create"), ("crun", "1.8 only says so")]),
    Case::new("hooks-get-the-state", HOOKS, "the state is on standard input", || {
        let mut bundle = Bundle::new();
        bundle.spec["hooks"]["createRuntime"] = json!([hook(&bundle, "cat")]);
        let container = Container::new(bundle);
        container.create().ok();
        let state: Value = serde_json::from_str(&log(&container)).expect("the state is JSON");
        assert_eq!(state["id"], container.id());
        assert_eq!(state["bundle"], container.bundle.path().to_string_lossy().as_ref());
        assert_eq!(state["pid"], container.pid());
    }),
    Case::new("hooks-status-in-poststop", HOOKS, "in poststop the status is stopped", || {
        let mut bundle = Bundle::new();
        bundle.spec["hooks"]["poststop"] = json!([hook(&bundle, "cat")]);
        let container = Container::new(bundle);
        container.run().ok();
        let state: Value = serde_json::from_str(&log(&container)).expect("the state is JSON");
        assert_eq!(state["status"], "stopped");
    }),
    Case::new("hook-environment", HOOKS, "env and args are the hook's own", || {
        let mut bundle = Bundle::new();
        let mut one = hook(&bundle, "echo $A $HOME $0");
        one["env"] = json!(["A=1", "PATH=/bin:/usr/bin"]);
        one["args"][0] = json!("sh");
        bundle.spec["hooks"]["createRuntime"] = json!([one]);
        let container = Container::new(bundle);
        container.create().ok();
        assert_eq!(log(&container), "1 sh\n");
    }),
    Case::new(
        "hook-runtime-namespace",
        HOOKS,
        "createRuntime runs in the runtime's namespaces",
        || {
            let mut bundle = Bundle::new();
            bundle.spec["hooks"]["createRuntime"] =
                json!([hook(&bundle, "readlink /proc/self/ns/mnt")]);
            let container = Container::new(bundle);
            container.create().ok();
            let own = fs::read_link("/proc/self/ns/mnt").expect("it is always there");
            assert_eq!(log(&container).trim(), own.to_string_lossy());
        },
    ),
    Case::new(
        "hook-start-container",
        HOOKS,
        "startContainer runs inside, before the program",
        || {
            let mut bundle = Bundle::sh("cat /order; echo program");
            bundle.spec["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo hook in $(hostname) > /order"]}]);
            let container = Container::new(bundle);
            container.run().prints("hook in hako-test\nprogram");
        },
    ),
    Case::new(
        "hook-fails",
        HOOKS,
        "a failing hook stops the container before its program runs",
        || {
            for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
                let mut bundle = Bundle::sh("echo it runs");
                bundle.spec["hooks"][kind] = json!([{"path": "/bin/false"}]);
                let container = Container::new(bundle);
                let output = container.run();
                output.fails();
                assert!(!output.stdout.contains("it runs"), "{kind}\n{output}");
            }
        },
    ),
    Case::new("hook-poststop-fails", HOOKS, "a failing poststop hook is only logged", || {
        let mut bundle = Bundle::new();
        let second = hook(&bundle, "echo second");
        bundle.spec["hooks"]["poststop"] = json!([{"path": "/bin/false"}, second]);
        let container = Container::new(bundle);
        container.create().ok();
        container.start().ok();
        container.wait_stopped();
        container.delete(&[]).ok();
        container.call(&["state", container.id()]).fails();
        assert_eq!(log(&container), "second\n");
    })
    .peers_fail(&[
        ("runc", "1.1 stops at the first one"),
        ("crun", "dies of SIGPIPE when a hook does not read"),
    ]),
    Case::new("hook-timeout", HOOKS, "a hook above its timeout is killed, and is an error", || {
        let mut bundle = Bundle::sh("echo it runs");
        bundle.spec["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
        let container = Container::new(bundle);
        let output = container.run();
        output.fails();
        assert!(!output.stdout.contains("it runs"), "{output}");
    }),
    Case::new("hook-missing", HOOKS, "a hook that is not there is an error that names it", || {
        let mut bundle = Bundle::sh("echo it runs");
        bundle.spec["hooks"]["createRuntime"] = json!([{"path": "/no/such/hook"}]);
        Container::new(bundle).run().fails().complains("/no/such/hook");
    }),
    Case::new("hook-relative", HOOKS, "path MUST be absolute", || {
        let mut bundle = Bundle::sh("echo it runs");
        bundle.spec["hooks"]["createRuntime"] = json!([{"path": "bin/true"}]);
        Container::new(bundle).run().fails();
    }),
];
