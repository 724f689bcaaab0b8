//! Containers that stay: `-d`, ps, logs, exec, stop, kill, wait, rm, inspect.

use std::process::Stdio;

use hako_tests::{Case, command, install::Hako};

const DETACHED: &str = "docker run(1) -d";

fn running(hako: &Hako, name: &str, script: &str) -> String {
    hako.detached(&["--name", name], &["sh", "-c", script])
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "detached-prints-the-id",
        DETACHED,
        "-d prints the ID, 64 digits, and returns",
        || {
            let hako = Hako::with_busybox();
            let id = hako.detached(&[], &["sleep", "1000"]);
            assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        },
    ),
    Case::new(
        "detached-closes-its-streams",
        DETACHED,
        "what stays holds none of the caller's pipes",
        || {
            let hako = Hako::with_busybox();
            let mut child = hako.spawn(&["run", "-d", "busybox:test", "sleep", "1000"]);
            // Read to the end: with a pipe still open somewhere this would last a thousand seconds.
            let mut text = String::new();
            let pipe = child.stdout.as_mut().expect("it is piped");
            std::io::Read::read_to_string(pipe, &mut text).expect("it ends");
            assert!(child.wait().expect("wait").success());
            assert_eq!(text.trim().len(), 64);
        },
    ),
    Case::new("detached-rm", DETACHED, "-d --rm is gone when its program ends", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--rm"], &["true"]);
        command::wait_until("it is gone", || hako.call(&["ps", "-aq"]).stdout.trim().is_empty());
        command::wait_until("its directories are gone", || hako.containers().is_empty());
    }),
    Case::new(
        "ps",
        "docker ps(1)",
        "ps shows what runs, ps -a everything, in Docker's columns",
        || {
            let hako = Hako::with_busybox();
            let id = running(&hako, "up", "sleep 1000");
            hako.call(&["run", "--name", "done", "busybox:test", "sh", "-c", "exit 2"]).exits(2);
            let ps = hako.call(&["ps"]);
            for word in [
                "CONTAINER ID",
                "IMAGE",
                "COMMAND",
                "CREATED",
                "STATUS",
                "PORTS",
                "NAMES",
                "up",
                &id[..12],
                "Up ",
            ] {
                ps.says(word);
            }
            assert!(!ps.stdout.contains("done"), "{ps}");
            hako.call(&["ps", "-a"])
                .says("Exited (2)")
                .says("up")
                .says("busybox:test")
                .says("\"sh -c 'exit 2'\"");
        },
    ),
    Case::new("ps-options", "docker ps(1)", "-q, --no-trunc, --format, --filter, -n, -l", || {
        let hako = Hako::with_busybox();
        let first = running(&hako, "first", "sleep 1000");
        let second = running(&hako, "second", "sleep 1000");
        hako.call(&["ps", "-q"]).prints(&format!("{}\n{}", &second[..12], &first[..12]));
        hako.call(&["ps", "-q", "--no-trunc", "--filter", "name=first"]).prints(&first);
        hako.call(&["ps", "--format", "{{.ID}}|{{.Names}}|{{.Image}}", "-f", "name=second"])
            .prints(&format!("{}|second|busybox:test", &second[..12]));
        hako.call(&["ps", "-l", "--format", "{{.Names}}"]).prints("second");
        hako.call(&["ps", "--filter", "status=exited", "-q"]).prints("");
        let line = hako.call(&["ps", "--format", "json", "-f", "name=first"]);
        let value: serde_json::Value =
            serde_json::from_str(line.ok()).unwrap_or_else(|error| panic!("{error}\n{line}"));
        assert_eq!(value["Names"], "first");
    }),
    Case::new(
        "ids-by-prefix",
        "docker(1)",
        "a container is known by a unique prefix of its ID",
        || {
            let hako = Hako::with_busybox();
            let id = running(&hako, "box", "sleep 1000");
            assert_eq!(hako.inspect(&id[..6])["Id"], id.as_str());
            hako.call(&["exec", &id[..12], "true"]).ok();
        },
    ),
    Case::new(
        "logs",
        "docker logs(1)",
        "both streams are kept, and come out as they went in",
        || {
            let hako = Hako::with_busybox();
            hako.call(&[
                "run",
                "--name",
                "box",
                "busybox:test",
                "sh",
                "-c",
                "echo out; echo err >&2; printf tail",
            ])
            .ok();
            let logs = hako.call(&["logs", "box"]);
            assert_eq!((logs.ok(), logs.stderr.as_str()), ("out\ntail", "err\n"), "{logs}");
        },
    ),
    Case::new("logs-options", "docker logs(1)", "--tail, -t", || {
        let hako = Hako::with_busybox();
        hako.call(&["run", "--name", "box", "busybox:test", "seq", "10"]).ok();
        hako.call(&["logs", "--tail", "3", "box"]).prints("8\n9\n10");
        hako.call(&["logs", "-n", "0", "box"]).prints("");
        let stamped = hako.call(&["logs", "-t", "--tail", "1", "box"]);
        let (time, rest) = stamped.ok().trim().split_once(' ').expect("a time and a line");
        assert!(rest == "10" && time.ends_with('Z') && time.contains('T'), "{stamped}");
    }),
    Case::new(
        "logs-follow",
        "docker logs(1)",
        "-f shows what was, what comes, and ends with the container",
        || {
            let hako = Hako::with_busybox();
            running(&hako, "box", "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two");
            command::wait_until("it began", || hako.call(&["logs", "box"]).stdout.contains("one"));
            let follower = hako.spawn(&["logs", "-f", "box"]);
            hako.call(&["exec", "box", "touch", "/go"]).ok();
            command::finish(follower, "logs -f".to_owned()).prints("one\ntwo");
        },
    ),
    Case::new(
        "logs-are-docker's",
        "json-file",
        "the log on disk is Docker's json-file format",
        || {
            let hako = Hako::with_busybox();
            let id = hako
                .detached(&["--name", "box"], &["sh", "-c", "echo \"a \\\"q\\\"\"; echo e >&2"]);
            hako.call(&["wait", "box"]).prints("0");
            let path =
                hako.inspect("box")["LogPath"].as_str().map(str::to_owned).unwrap_or_default();
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{path:?} of {id}: {error}"));
            let mut lines: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            lines.sort_by_key(|line| line["stream"].to_string());
            assert_eq!(lines.len(), 2, "{text}");
            assert_eq!(
                (lines[0]["log"].as_str(), lines[0]["stream"].as_str()),
                (Some("e\n"), Some("stderr"))
            );
            assert_eq!(
                (lines[1]["log"].as_str(), lines[1]["stream"].as_str()),
                (Some("a \"q\"\n"), Some("stdout"))
            );
            assert!(lines[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')));
        },
    ),
    Case::new(
        "exec",
        "docker exec(1)",
        "exec runs a program in the container, and exits as it does",
        || {
            let hako = Hako::with_busybox();
            running(&hako, "box", "echo $$ >/one; sleep 1000");
            command::wait_until("it began", || {
                hako.call(&["exec", "box", "cat", "/one"]).code == 0
            });
            hako.call(&["exec", "box", "cat", "/one"]).prints("1");
            hako.call(&["exec", "box", "sh", "-c", "exit 8"]).exits(8);
            hako.call(&[
                "exec",
                "-e",
                "A=b",
                "-w",
                "/tmp",
                "-u",
                "app",
                "box",
                "sh",
                "-c",
                "echo $A $PWD $(id -un)",
            ])
            .prints("b /tmp app");
            hako.call_with(&["exec", "-i", "box", "cat"], b"typed").prints("typed");
        },
    ),
    Case::new("exec-detached", "docker exec(1)", "exec -d returns at once", || {
        let hako = Hako::with_busybox();
        running(&hako, "box", "sleep 1000");
        hako.call(&["exec", "-d", "box", "sh", "-c", "touch /done; sleep 1000"]).prints("");
        command::wait_until("it ran", || {
            hako.call(&["exec", "box", "test", "-e", "/done"]).code == 0
        });
    }),
    Case::new("exec-errors", "docker exec(1)", "exec: 126, 127, not running, not there", || {
        let hako = Hako::with_busybox();
        running(&hako, "box", "sleep 1000");
        hako.call(&["exec", "box", "no-such-program"]).exits(127).complains("no-such-program");
        hako.call(&["exec", "box", "/etc/passwd"]).exits(126).complains("permission denied");
        hako.call(&["exec", "nosuch", "true"]).exits(1).complains("No such container: nosuch");
        hako.call(&["run", "--name", "done", "busybox:test", "true"]).ok();
        hako.call(&["exec", "done", "true"]).exits(1).complains("is not running");
    }),
    Case::new(
        "stop",
        "docker stop(1)",
        "stop sends SIGTERM, prints the name, and the exit code is kept",
        || {
            let hako = Hako::with_busybox();
            running(&hako, "box", "trap 'exit 5' TERM; while :; do sleep 0.05; done");
            hako.call(&["stop", "box"]).prints("box");
            assert_eq!(hako.inspect("box")["State"]["ExitCode"], 5);
            // Stopping what is stopped is no error.
            hako.call(&["stop", "box"]).prints("box");
        },
    ),
    Case::new(
        "stop-kills-after-the-time",
        "docker stop(1)",
        "stop -t kills what does not listen",
        || {
            let hako = Hako::with_busybox();
            hako.detached(&["--name", "box"], &["sleep", "1000"]);
            hako.call(&["stop", "-t", "0", "box"]).ok();
            assert_eq!(hako.inspect("box")["State"]["ExitCode"], 137);
        },
    ),
    Case::new("kill", "docker kill(1)", "kill sends SIGKILL, or the signal of -s", || {
        let hako = Hako::with_busybox();
        running(&hako, "box", "trap 'echo usr1' USR1; while :; do sleep 0.05; done");
        command::wait_until("the trap is set", || {
            hako.call(&["kill", "-s", "USR1", "box"]);
            hako.call(&["logs", "box"]).stdout.contains("usr1")
        });
        hako.call(&["kill", "box"]).prints("box");
        hako.call(&["wait", "box"]).prints("137");
        hako.call(&["kill", "box"]).exits(1).complains("is not running");
    }),
    Case::new(
        "wait",
        "docker wait(1)",
        "wait prints the exit code, of one that ends later too",
        || {
            let hako = Hako::with_busybox();
            running(&hako, "box", "while [ ! -e /go ]; do sleep 0.05; done; exit 6");
            let waiting = hako.spawn(&["wait", "box"]);
            hako.call(&["exec", "box", "touch", "/go"]).ok();
            command::finish(waiting, "wait".to_owned()).prints("6");
            hako.call(&["wait", "box"]).prints("6");
        },
    ),
    Case::new(
        "rm",
        "docker rm(1)",
        "rm removes what is stopped, rm -f what runs, several at once",
        || {
            let hako = Hako::with_busybox();
            running(&hako, "up", "sleep 1000");
            hako.call(&["run", "--name", "done", "busybox:test", "true"]).ok();
            hako.call(&["rm", "up"]).exits(1).complains("running");
            hako.call(&["rm", "-f", "up", "done"]).prints("up\ndone");
            hako.call(&["ps", "-aq"]).prints("");
            hako.call(&["rm", "up"]).exits(1).complains("No such container: up");
            hako.call(&["rm", "-f", "up"]).exits(0);
        },
    ),
    Case::new(
        "names-are-free-again",
        "docker rm(1)",
        "a removed container's name can be used",
        || {
            let hako = Hako::with_busybox();
            for _ in 0..3 {
                hako.call(&["run", "--rm", "--name", "again", "busybox:test", "true"]).ok();
            }
        },
    ),
    Case::new("inspect", "docker inspect(1)", "inspect has Docker's fields", || {
        let hako = Hako::with_busybox();
        let id = hako.detached(
            &["--name", "box", "-e", "A=1", "-w", "/tmp", "-m", "64m"],
            &["sleep", "1000"],
        );
        let value = hako.inspect("box");
        assert_eq!(value["Id"], id.as_str());
        assert_eq!(value["State"]["Status"], "running");
        assert_eq!(value["State"]["Running"], true);
        assert!(value["State"]["Pid"].as_u64().is_some_and(|pid| pid > 1));
        assert_eq!(value["Path"], "sleep");
        assert_eq!(value["Args"][0], "1000");
        assert_eq!(value["Config"]["WorkingDir"], "/tmp");
        assert_eq!(value["Config"]["Image"], "busybox:test");
        assert_eq!(value["HostConfig"]["Memory"], 67_108_864);
        assert!(value["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")));
        assert!(value["Created"].as_str().is_some_and(|time| time.ends_with('Z')));
        let env = value["Config"]["Env"].as_array().expect("a list");
        assert!(env.iter().any(|entry| entry == "A=1"));
        hako.call(&["inspect", "-f", "{{.State.Status}} {{.Name}}", "box"]).prints("running /box");
        hako.call(&["inspect", "nosuch"]).exits(1).complains("no such object: nosuch");
    }),
    Case::new(
        "restart-of-hako",
        "issue: failing well",
        "a detached container outlives every hako process",
        || {
            let hako = Hako::with_busybox();
            let mut command =
                hako.command(&["run", "-d", "--name", "box", "busybox:test", "sleep", "1000"]);
            // In a session of its own, whose every process is then gone.
            command.stdin(Stdio::null());
            command::run(&mut command).ok();
            hako.call(&["ps", "--format", "{{.Names}} {{.State}}"]).prints("box running");
        },
    ),
    Case::new(
        "two-installations",
        "issue: places",
        "two installations know nothing of each other",
        || {
            let (one, two) = (Hako::with_busybox(), Hako::with_busybox());
            running(&one, "same-name", "sleep 1000");
            running(&two, "same-name", "sleep 1000");
            assert_eq!(one.call(&["ps", "-q"]).ok().lines().count(), 1);
            one.call(&["rm", "-f", "same-name"]).ok();
            assert_eq!(two.call(&["ps", "-q"]).ok().lines().count(), 1);
        },
    ),
    Case::new("many-at-once", "issue: speed", "containers start side by side", || {
        let hako = Hako::with_busybox();
        let children: Vec<_> = (0..16)
            .map(|number| hako.spawn(&["run", "--rm", "busybox:test", "echo", &number.to_string()]))
            .collect();
        for (number, child) in children.into_iter().enumerate() {
            command::finish(child, format!("run {number}")).prints(&number.to_string());
        }
    }),
    Case::new(
        "start-failed",
        "docker inspect(1), State",
        "inspect says of a container that could not be started why, and with which code",
        || {
            let hako = Hako::with_busybox();
            for (name, command, code, state, error) in [
                ("none", &["nope"][..], 127, 127, "\"nope\": executable file not found in $PATH"),
                ("file", &["/etc/passwd"], 126, 126, "permission denied"),
                ("user", &["true"], 125, 128, "unable to find user nobody-here"),
            ] {
                let user = if name == "user" { "nobody-here" } else { "0" };
                let mut words = vec!["run", "--name", name, "-u", user, "busybox:test"];
                words.extend(command);
                hako.call(&words).exits(code).complains(error);
                let found = hako.inspect(name)["State"].clone();
                assert_eq!(
                    (&found["Status"], &found["ExitCode"]),
                    (&"created".into(), &state.into())
                );
                assert!(found["Error"].as_str().is_some_and(|e| e.contains(error)), "{found}");
                assert_eq!(found["FinishedAt"], "0001-01-01T00:00:00Z");
                hako.call(&["ps", "-a", "-f", "status=created", "-q"])
                    .says(&hako.inspect(name)["Id"].as_str().expect("an id")[..12]);
                hako.call(&["wait", name]).prints(&state.to_string());
                hako.call(&["rm", name]).ok();
            }
        },
    ),
    Case::new(
        "restart-failed",
        "docker inspect(1), State",
        "a container that ran and cannot be started again stays exited, with the reason",
        || {
            let hako = Hako::with_busybox();
            let file = hako.place().write("data", "x");
            let volume = format!("type=bind,source={},target=/data", file.display());
            hako.call(&["run", "--name", "box", "--mount", &volume, "busybox:test", "true"]).ok();
            let before = hako.inspect("box")["State"].clone();
            std::fs::remove_file(&file).expect("our own file");
            hako.call(&["start", "box"]).fails().complains("data");
            let after = hako.inspect("box")["State"].clone();
            assert_eq!((&after["Status"], &after["ExitCode"]), (&"exited".into(), &128.into()));
            assert_eq!(after["StartedAt"], before["StartedAt"]);
            assert!(after["Error"].as_str().is_some_and(|e| e.contains("data")), "{after}");
            std::fs::write(&file, "x").expect("our own file");
            hako.call(&["start", "-a", "box"]).ok();
            assert_eq!(hako.inspect("box")["State"]["Error"], "");
        },
    ),
    Case::new("wait-created", "docker wait(1)", "who never ran is not waited for", || {
        let hako = Hako::with_busybox();
        hako.call(&["create", "--name", "box", "busybox:test"]).ok();
        hako.call(&["wait", "box"]).prints("0");
    }),
    Case::new(
        "rm-of-a-stopped-client",
        "docker run(1) --rm",
        "a client that was stopped does not keep its container from being removed",
        || {
            use rustix::process::{Pid, Signal, kill_process};
            let hako = Hako::with_busybox();
            let script = "echo begun; while [ ! -e /go ]; do sleep 0.05; done; echo ended; exit 4";
            let words = ["run", "--rm", "--name", "box", "busybox:test", "sh", "-c", script];
            let client = hako.spawn(&words);
            command::wait_until("it began", || {
                hako.call(&["logs", "box"]).stdout.contains("begun")
            });
            let pid = Pid::from_raw(client.id() as i32).expect("a pid");
            kill_process(pid, Signal::STOP).expect("it runs");
            hako.call(&["exec", "box", "touch", "/go"]).ok();
            command::wait_until("it is removed", || hako.containers().is_empty());
            hako.call(&["ps", "-aq"]).prints("");
            // It goes on as if nothing had been.
            kill_process(pid, Signal::CONT).expect("it is there");
            let output = command::finish(client, "hako run".to_owned());
            assert_eq!((output.code, &*output.stdout, &*output.stderr), (4, "begun\nended\n", ""));
        },
    ),
    Case::new(
        "start-without-layers",
        "issue: crash",
        "layers that a power cut took are unpacked again when a container is started",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["run", "--name", "box", "busybox:test", "touch", "/mine"]).ok();
            std::fs::remove_dir_all(hako.root().join("snapshots/layers")).expect("layers");
            std::fs::create_dir(hako.root().join("snapshots/layers")).expect("mkdir");
            hako.call(&["start", "-a", "box"]).ok();
        },
    ),
    Case::new(
        "local-times",
        "docker ps(1), docker logs(1)",
        "times are those of the user's clock, and times without a zone are meant so",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["run", "--name", "box", "busybox:test", "echo", "hello"]).ok();
            let call = |zone: &str, words: &[&str]| {
                command::run(hako.command(words).env("TZ", zone)).ok().trim().to_owned()
            };
            let ps = ["ps", "-a", "--format", "{{.CreatedAt}}"];
            let (utc, india) = (call("UTC0", &ps), call("IST-5:30", &ps));
            assert!(utc.ends_with(" +0000 UTC") && india.ends_with(" +0530 IST"), "{utc} {india}");
            let images = ["images", "--format", "{{.CreatedAt}}"];
            assert_eq!(call("UTC0", &images), "2020-01-01 00:00:00 +0000 UTC");
            assert_eq!(call("XST3:30", &images), "2019-12-31 20:30:00 -0330 XST");
            let history = ["history", "--format", "{{.CreatedAt}}", "busybox:test"];
            assert!(
                call("IST-5:30", &history).ends_with("+05:30"),
                "{}",
                call("IST-5:30", &history)
            );
            // What the clock shows there when it was said, and an hour that is yet to come here.
            let shown = format!("{}T{}", &india[..10], &india[11..19]);
            let since = |zone| call(zone, &["logs", "--since", &shown, "box"]);
            assert_eq!((since("IST-5:30"), since("UTC0")), ("hello".into(), String::new()));
        },
    ),
    Case::new(
        "monitor-killed",
        "issue: crash",
        "a container whose monitor was killed is said to have been, before anything mends it",
        || {
            use rustix::process::{Pid, Signal, kill_process};
            let hako = Hako::with_busybox();
            let id = hako.detached(&["--name", "box"], &["sleep", "1000"]);
            let lock = hako.run_root().join("containers").join(&id).join("lock");
            let pid = std::fs::read_to_string(lock).expect("the monitor's number");
            let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("a pid");
            kill_process(pid, Signal::KILL).expect("it lives");
            command::wait_until("it is over", || hako.inspect("box")["State"]["Running"] == false);
            let state = hako.inspect("box")["State"].clone();
            assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &137.into()));
            hako.call(&["ps", "-a"]).says("Exited (137)");
            hako.call(&["wait", "box"]).prints("137");
            hako.call(&["start", "box"]).ok();
            assert_eq!(hako.inspect("box")["State"]["Running"], true);
        },
    ),
    Case::new(
        "rm-of-the-dead",
        "docker rm(1)",
        "a container whose process is gone can be removed, whatever its monitor has still to do",
        || {
            use rustix::process::{Pid, Signal, kill_process};
            let hako = Hako::with_busybox();
            for _ in 0..10 {
                hako.detached(&["--name", "box"], &["sleep", "1000"]);
                let pid = hako.inspect("box")["State"]["Pid"].as_i64().expect("a number");
                let process = Pid::from_raw(pid as i32).expect("a pid");
                kill_process(process, Signal::KILL).expect("it lives");
                let gone = format!("/proc/{pid}");
                command::wait_until("it is reaped", || !std::path::Path::new(&gone).exists());
                hako.call(&["rm", "box"]).prints("box");
            }
        },
    ),
];
