//! The command line that engines drive: runc's.

use std::fs;

use hako_tests::{
    Case,
    bundle::Bundle,
    command::{self, wait_until},
    pty::Terminal,
    runtime::Container,
};
use serde_json::{Value, json};

use super::sleeping;

const EXEC: &str = "runc exec(8)";
const CREATE: &str = "runc create(8)";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "exec-joins-every-namespace",
        EXEC,
        "exec runs in the container's namespaces",
        || {
            let container = sleeping(|_| ());
            for file in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
                let inside = container.exec(&[], &["readlink", &format!("/proc/self/ns/{file}")]);
                let first = fs::read_link(format!("/proc/{}/ns/{file}", container.pid()))
                    .expect("it lives");
                assert_eq!(inside.ok().trim(), first.to_string_lossy(), "{file}");
            }
        },
    ),
    Case::new("exec-returns-the-exit-code", EXEC, "exec exits as its program did", || {
        let container = sleeping(|_| ());
        container.exec(&[], &["sh", "-c", "exit 42"]).exits(42);
        container.exec(&[], &["sh", "-c", "kill -9 $$"]).exits(137);
    }),
    Case::new(
        "exec-of-a-missing-program",
        EXEC,
        "a missing program is an error that names it",
        || {
            let container = sleeping(|_| ());
            container.exec(&[], &["no-such-program"]).fails().complains("no-such-program");
            assert_eq!(container.status(), "running");
        },
    ),
    Case::new("exec-env-cwd-user", EXEC, "--env, --cwd, --user", || {
        let container = sleeping(|_| ());
        let options = ["--env", "A=b c", "--cwd", "/tmp", "--user", "1000:29"];
        container
            .exec(&options, &["sh", "-c", "echo $A; pwd; id -u; id -g"])
            .prints("b c\n/tmp\n1000\n29");
    })
    .peers_fail(&[("crun", "--env takes the place of the whole environment")]),
    Case::new("exec-keeps-the-container-env", EXEC, "the container's environment is there", || {
        let container =
            sleeping(|bundle| bundle.spec["process"]["env"] = json!(["PATH=/bin", "IN=config"]));
        container.exec(&[], &["sh", "-c", "echo $IN"]).prints("config");
    }),
    Case::new(
        "exec-is-confined",
        EXEC,
        "exec has the container's capabilities, limits and cgroup",
        || {
            let container = sleeping(|_| ());
            let show = ["sh", "-c", "grep -E '^(Cap|NoNew)' /proc/self/status; ulimit -n"];
            let inside = container.exec(&[], &show);
            let text = inside.ok().to_owned();
            assert!(text.contains("CapInh:\t0000000000000000"), "{text}");
            assert!(text.contains("CapBnd:\t0000000020000420"), "{text}");
            assert!(text.contains("NoNewPrivs:\t1"), "{text}");
            assert!(text.ends_with("1024\n"), "{text}");
        },
    )
    .peers_fail(&[("crun", "1.8 leaves limits and no_new_privs of the caller")]),
    Case::new(
        "exec-is-in-the-cgroup",
        EXEC,
        "what is executed is counted and limited with the container",
        || {
            let container =
                sleeping(|bundle| bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 50}));
            let cgroup = container.exec(&[], &["sh", "-c", "cat /proc/self/cgroup"]);
            let first = container.exec(&[], &["cat", "/proc/1/cgroup"]);
            let lines = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(lines(cgroup.ok()), lines(first.ok()));
        },
    ),
    Case::new("exec-has-seccomp", EXEC, "the container's filter holds for exec", || {
        let container = sleeping(|bundle| {
            bundle.spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            });
        });
        container.exec(&[], &["mkdir", "/x"]).fails().complains("not permitted");
    }),
    Case::new("exec-process-file", EXEC, "--process takes a document", || {
        let container = sleeping(|_| ());
        let process = json!({"args": ["sh", "-c", "pwd; echo $X; id -u"], "cwd": "/home/app", "env": ["X=y", "PATH=/bin"],
                             "user": {"uid": 1000, "gid": 1000}});
        let file = container.bundle.place().write("process.json", process.to_string());
        let output =
            container.call(&["exec", "--process", &file.to_string_lossy(), container.id()]);
        output.prints("/home/app\ny\n1000");
    }),
    Case::new("exec-tty", EXEC, "--tty gives a terminal", || {
        let container = sleeping(|_| ());
        let mut command = container.runtime();
        command.args(["exec", "--tty", container.id(), "sh", "-c", "tty; stty size"]);
        let (code, text) = Terminal::start(&command).finish();
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("/dev/pts/") && text.contains("24 80"), "{text}");
    }),
    Case::new("exec-stdin", EXEC, "standard input is handed on", || {
        let container = sleeping(|_| ());
        let mut command = container.runtime();
        command.args(["exec", container.id(), "cat"]);
        command::run_with(&mut command, b"typed").prints("typed");
    }),
    Case::new("exec-detach", EXEC, "--detach returns, --pid-file has the process", || {
        let container = sleeping(|_| ());
        let file = container.bundle.path().join("exec.pid");
        container
            .exec(&["--detach", "--pid-file", &file.to_string_lossy()], &["sh", "-c", "sleep 1000"])
            .ok();
        let pid = fs::read_to_string(&file).expect("the file was written");
        let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).expect("it lives");
        assert!(String::from_utf8_lossy(&line).contains("sleep"), "{line:?}");
    }),
    Case::new("exec-in-created", EXEC, "a created container can be executed in", || {
        let container = Container::new(Bundle::new());
        container.create().ok();
        container.exec(&[], &["echo", "inside"]).prints("inside");
    }),
    Case::new("exec-in-stopped", EXEC, "a stopped one cannot", || {
        let container = Container::new(Bundle::new());
        container.create().ok();
        container.start().ok();
        container.wait_stopped();
        container.exec(&[], &["true"]).fails();
    }),
    Case::new("exec-unknown", EXEC, "nor one that is not there", || {
        Container::new(Bundle::new()).exec(&[], &["true"]).fails().complains("not exist");
    })
    .peers_fail(&[("crun", "names the file and not the container")]),
    Case::new(
        "pid-file",
        CREATE,
        "--pid-file has the process's number, as the caller sees it",
        || {
            let container = Container::new(Bundle::new());
            let file = container.bundle.path().join("pid");
            container.create_with(&["--pid-file", &file.to_string_lossy()]).ok();
            let pid = fs::read_to_string(&file).expect("the file was written");
            assert_eq!(pid, container.pid().to_string());
        },
    ),
    Case::new("run-detach", "runc run(8)", "run --detach returns when the program runs", || {
        let container = Container::new(Bundle::sh("touch /ran; while :; do sleep 0.1; done"));
        let mut command = container.run_command(&["--detach"]);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let status = command.status().expect("the runtime starts");
        assert!(status.success(), "{status}");
        assert_eq!(container.status(), "running");
        wait_until("the program ran", || container.bundle.rootfs("ran").exists());
    }),
    Case::new("preserve-fds", CREATE, "--preserve-fds hands descriptors on", || {
        let container = Container::new(Bundle::sh("cat <&3"));
        let inner = container.run_command(&["--preserve-fds", "1"]);
        let mut shell = std::process::Command::new("sh");
        let file = container.bundle.place().write("given", "from descriptor 3");
        shell.args(["-c", &format!("exec \"$@\" 3<{}", file.display()), "sh"]);
        shell.arg(inner.get_program()).args(inner.get_args());
        command::run(&mut shell).prints("from descriptor 3");
    }),
    Case::new(
        "log-json",
        "runc(8)",
        "--log-format json writes errors that engines can read",
        || {
            let container = Container::new(Bundle::new());
            let log = container.bundle.path().join("log.json");
            let mut command = container.runtime();
            command.arg("--log").arg(&log).args([
                "--log-format",
                "json",
                "state",
                "no-such-container",
            ]);
            command::run(&mut command).fails();
            let text = fs::read_to_string(&log).expect("the log was written");
            let last = text.lines().last().expect("a line");
            let line: Value =
                serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(line["level"], "error", "{text}");
            assert!(
                line["msg"].as_str().is_some_and(|message| message.contains("not exist")),
                "{text}"
            );
        },
    )
    .peers_fail(&[("crun", "names the file and not the container")]),
    Case::new("version", "runc(8)", "--version names the specification's version", || {
        let container = Container::new(Bundle::new());
        container.call(&["--version"]).says("spec: 1.");
    }),
    Case::new("unknown-flag", "runc(8)", "an unknown flag is an error", || {
        let container = Container::new(Bundle::new());
        container.call(&["state", "--no-such-flag", container.id()]).fails();
    }),
    Case::new("no-arguments", "runc(8)", "a missing id is an error", || {
        let container = Container::new(Bundle::new());
        container.call(&["state"]).fails();
    }),
];
