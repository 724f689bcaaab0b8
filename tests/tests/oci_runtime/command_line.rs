//! The command line that engines drive: runc's.

use std::fs;

use hako_tests::{
    Case,
    bundle::Bundle,
    command::{self, wait_until},
    pty::Terminal,
    runtime::Container,
    skip,
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
    Case::new("options-anywhere", "runc(8)", "options stand before and after the ID", || {
        for words in [&["--bundle", "B", "ID"][..], &["ID", "-b", "B"], &["-bundle=B", "ID"]] {
            let container = Container::new(Bundle::sh("echo it runs"));
            let bundle = container.bundle.path().to_string_lossy().into_owned();
            let words: Vec<String> =
                words
                    .iter()
                    .map(|w| {
                        if *w == "ID" { container.id().to_owned() } else { w.replace('B', &bundle) }
                    })
                    .collect();
            container.bundle.write();
            let mut command = container.runtime();
            command.arg("run").args(&words);
            command::run(&mut command).prints("it runs");
        }
    })
    .peers_fail(&[
        ("runc", "takes no options behind the ID"),
        ("crun", "takes no long option behind one dash"),
    ]),
    Case::new("help", "runc(8)", "every verb has a help text with its flags", || {
        let container = Container::new(Bundle::new());
        let help = container.call(&["--help"]);
        for verb in [
            "create", "start", "run", "exec", "state", "list", "ps", "kill", "delete", "pause",
            "resume", "update", "events", "spec", "features",
        ] {
            assert!(help.stdout.contains(verb), "{help}");
            let usage = container.call(&[verb, "--help"]).ok().to_lowercase();
            assert!(usage.contains("usage"), "{verb}: {usage}");
        }
        container.call(&["update", "--help"]).says("--memory-swap");
    })
    .peers_fail(&[("crun", "1.8 has no events and no features")]),
    Case::new("ps", "runc ps(8)", "the container's processes, as a table and as JSON", || {
        let container = sleeping(|_| ());
        let pid = container.pid().to_string();
        let json = container.call(&["ps", "--format", "json", container.id()]);
        let pids: Vec<u32> = serde_json::from_str(json.ok()).expect("a list of numbers");
        assert!(pids.contains(&container.pid()), "{json}");
        for options in [&[][..], &["-e", "-o", "pid,comm"], &["-ef"]] {
            let table = container.call(&[&["ps", container.id()], options].concat());
            let text = table.ok();
            assert!(text.lines().next().is_some_and(|head| head.contains("PID")), "{table}");
            assert!(text.lines().any(|l| l.split_whitespace().any(|w| w == pid)), "{table}");
        }
        container.call(&["ps", container.id(), "-o", "comm"]).fails().complains("PID");
        container.call(&["ps", "--format", "tablet", container.id()]).fails();
    })
    .peers_fail(&[("crun", "takes no options for ps(1)")]),
    Case::new("list", "runc list(8)", "containers as a table, as JSON, as IDs", || {
        let container = sleeping(|_| ());
        let table = container.call(&["list"]);
        let mut lines = table.ok().lines();
        let head: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], "{table}");
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with(container.id()) && row.contains("running"), "{table}");
        let json = container.call(&["list", "-f", "json"]);
        let list: Value = serde_json::from_str(json.ok()).expect("JSON");
        assert_eq!(list[0]["id"], container.id(), "{list}");
        assert_eq!(list[0]["pid"], container.pid(), "{list}");
        assert!(list[0]["created"].is_string() && list[0]["bundle"].is_string(), "{list}");
        container.call(&["list", "--quiet"]).prints(container.id());
        container.call(&["list", "--format", "xml"]).fails();
    })
    .peers_fail(&[("crun", "1.8 names the columns otherwise")]),
    Case::new(
        "kill-without-pid-namespace",
        "runc kill(8)",
        "KILL ends all processes of a container that shares the host's PID namespace",
        || {
            let script = "trap '' TERM; (exec sleep 1000) & echo up; wait";
            let container = sleeping(|bundle| {
                bundle.without_namespace("pid");
                bundle.spec["process"]["args"] = json!(["sh", "-c", script]);
            });
            let json = container.call(&["ps", "--format", "json", container.id()]);
            let pids: Vec<u32> = serde_json::from_str(json.ok()).expect("a list of numbers");
            assert!(pids.len() > 1, "{pids:?}");
            container.kill("KILL").ok();
            for pid in pids {
                let stat = format!("/proc/{pid}/stat");
                wait_until("it ended", || {
                    fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z"))
                });
            }
        },
    )
    .peers_fail(&[("runc", "1.1 ends the first one"), ("crun", "ends the first one")]),
    Case::new("kill-regex", "crun kill(1)", "--regex means all containers that match", || {
        let container = sleeping(|_| ());
        let mut command = container.runtime();
        command.args(["kill", "--regex", &format!("^{}$", container.id()), "KILL"]);
        command::run(&mut command).ok();
        container.wait_stopped();
        container.call(&["delete", "--regex", "no-such-.*"]).ok();
        container.call(&["delete", "--regex", &format!("^{}", container.id())]).ok();
        container.call(&["state", container.id()]).fails();
    })
    .peers_fail(&[("runc", "has no --regex"), ("crun", "1.8 deletes nothing that stopped")]),
    Case::new("delete-force-absent", "runc delete(8)", "--force of what is not there", || {
        let container = Container::new(Bundle::new());
        container.call(&["delete", container.id()]).fails();
        container.call(&["delete", "--force", container.id()]).ok();
    }),
    Case::new("exec-flags", EXEC, "--cap, --no-new-privs, --additional-gids", || {
        let container = sleeping(|bundle| {
            bundle.spec["process"]["noNewPrivileges"] = json!(false);
        });
        let status = ["sh", "-c", "grep -E '^(CapEff|CapBnd|NoNewPrivs|Groups)' /proc/self/status"];
        let options =
            ["--cap", "CAP_SYS_TIME", "--no-new-privs", "--additional-gids", "7", "-g", "8"];
        let output = container.exec(&options, &status);
        let text = output.ok();
        for line in ["CapEff:\t0000000022000420", "CapBnd:\t0000000022000420", "NoNewPrivs:\t1"] {
            assert!(text.contains(line), "{line}: {output}");
        }
        let groups = text.lines().find(|l| l.starts_with("Groups:")).unwrap_or_default();
        assert_eq!(groups.trim_end(), "Groups:\t7 8", "{output}");
    })
    .peers_fail(&[
        ("runc", "1.1 refuses both names of a flag together"),
        ("crun", "1.8 has no --additional-gids"),
    ]),
    Case::new(
        "exec-paused",
        EXEC,
        "a paused container is executed in only with --ignore-paused",
        || {
            let container = sleeping(|_| ());
            container.call(&["pause", container.id()]).ok();
            container.exec(&[], &["true"]).fails().complains("paused");
            let mut command = container.runtime();
            command.args(["exec", "--ignore-paused", container.id(), "echo", "thawed"]);
            command.stdout(std::process::Stdio::piped());
            let child = command.spawn().expect("the runtime starts");
            container.call(&["resume", container.id()]).ok();
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "thawed\n");
        },
    )
    .peers_fail(&[("crun", "waits in it")]),
    Case::new("exec-cgroup", EXEC, "--cgroup puts it into a cgroup below the container's", || {
        let container = sleeping(|_| ());
        let parents = container.cgroups();
        assert!(!parents.is_empty());
        container.exec(&["--cgroup", "below"], &["true"]).fails();
        container.exec(&["--cgroup", "../up"], &["true"]).fails();
        for parent in &parents {
            fs::create_dir(parent.join("below")).expect("a cgroup below");
        }
        let own = container.exec(&["--cgroup", "/below"], &["cat", "/proc/self/cgroup"]);
        let inside = own.ok().lines().filter(|line| line.ends_with("/below")).count();
        assert!(inside >= 1, "{own}");
        container.delete(&["--force"]).ok();
        assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
    })
    .peers_fail(&[("crun", "leaves its cgroups"), ("runc", "leaves what it has not made")]),
    Case::new(
        "listen-fds",
        "sd_listen_fds(3)",
        "LISTEN_FDS and its descriptors go to the process",
        || {
            let script = "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4";
            let container = Container::new(Bundle::sh(script));
            let inner = container.run_command(&["--preserve-fds", "1"]);
            let place = container.bundle.place();
            let (three, four) = (place.write("three", "3"), place.write("four", "4"));
            let mut shell = std::process::Command::new("sh");
            let line = format!(
                "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<{} 4<{}",
                three.display(),
                four.display()
            );
            shell.args(["-c", &line, "sh"]).arg(inner.get_program()).args(inner.get_args());
            command::run(&mut shell).prints("1 1\n34");
        },
    )
    .peers_fail(&[("crun", "sets no LISTEN_PID")]),
    Case::new("notify-socket", "sd_notify(3)", "what the container says is passed on", || {
        // busybox has no client of Unix datagrams: what is looked at is the socket's place.
        if hako_tests::runtime::name_under_test() == "runc" {
            skip!("runc 1.1 does not end");
        }
        let script =
            "echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET && echo socket; touch /run/notify/x";
        let container = Container::new(Bundle::sh(script));
        let manager = container.bundle.path().join("manager.sock");
        let _service = std::os::unix::net::UnixDatagram::bind(&manager).expect("a socket");
        let mut command = container.run_command(&[]);
        command.env("NOTIFY_SOCKET", &manager);
        let output = command::run(&mut command);
        assert!(output.stdout.contains("/run/notify/notify.sock\nsocket\n"), "{output}");
        assert!(output.stderr.contains("Read-only"), "{output}");
        // Without a manager there is none.
        let container = Container::new(Bundle::sh("echo -$NOTIFY_SOCKET-; ls /run/notify"));
        let output = container.run();
        assert!(output.stdout.contains("--\n"), "{output}");
    })
    .peers_fail(&[("crun", "names the socket otherwise")]),
    Case::new("checkpoint", "runc checkpoint(8)", "there is none, and it says so", || {
        let container = sleeping(|_| ());
        for verb in ["checkpoint", "restore"] {
            let words = [verb, "--image-path", "/tmp", "--shell-job", container.id()];
            container.call(&words).fails().complains("CRIU");
        }
        assert_eq!(container.status(), "running");
    })
    .peers_fail(&[("runc", "asks for the program criu"), ("crun", "has no such verbs")]),
    Case::new("log-to-daemon", "crun(1)", "a log that nobody reads is an error", || {
        let container = Container::new(Bundle::new());
        if std::path::Path::new("/dev/log").exists() {
            skip!("there is a syslog daemon");
        }
        // A runtime that takes it for a file's name shall write it where it goes away.
        let mut command = container.runtime();
        command.args(["--log", "syslog:hako", "list"]).current_dir(container.bundle.path());
        command::run(&mut command).fails().complains("/dev/log");
        let file = container.bundle.path().join("log");
        let to = format!("file:{}", file.display());
        container.call(&["--log", &to, "state", "nothing"]).fails();
        assert!(fs::read_to_string(&file).expect("it was written").contains("level=error"));
    })
    .peers_fail(&[("runc", "knows files only"), ("crun", "says nothing")]),
    Case::new(
        "cgroup-manager",
        "crun(1)",
        "disabled makes no cgroup, and nonsense is refused",
        || {
            let container = Container::new(Bundle::sh("echo up; while :; do sleep 0.1; done"));
            let mut command = container.runtime();
            command.args(["--cgroup-manager=disabled", "run", "--detach", "--bundle"]);
            container.bundle.write();
            command.arg(container.bundle.path()).arg(container.id());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            assert!(command.status().expect("the runtime starts").success());
            assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
            container.call(&["--cgroup-manager=none", "create", "x"]).fails();
            container.call(&["--rootless=perhaps", "create", "x"]).fails();
        },
    )
    .peers_fail(&[("runc", "has no such option"), ("crun", "1.8 takes any word")]),
];
