//! containerd, with its runc shim and `--runc-binary`.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use hako_tests::{
    Case, binary,
    command::{self, Output},
    image,
    place::{self, Place},
    pty::Terminal,
    runtime,
};
use serde_json::Value;

use crate::runtime_under_test;

const CONTAINERD: &str = "containerd-shim-runc-v2, ctr --runc-binary";
const IMAGE: &str = "docker.io/library/busybox:test";

/// A daemon with its own roots and socket, and the image `busybox:test` in it.
struct Containerd {
    daemon: Child,
    runtime: PathBuf,
    /// Where its containers' cgroups are.
    parent: String,
    // Last: it goes when the daemon is gone.
    place: Place,
}

impl Containerd {
    fn new() -> Self {
        let runtime = runtime_under_test();
        let program = binary::tool("containerd");
        let place = Place::new("containerd");
        let path = |name: &str| place.join(name).display().to_string();
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("sock")
        );
        let file = place.write("config.toml", configuration);
        let log = File::create(place.join("log")).expect("our own file");
        let mut daemon = Command::new(program)
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("spawn(containerd): {error}"));
        let mut ended = None;
        command::wait_until("containerd answers", || {
            ended = daemon.try_wait().expect("wait");
            ended.is_some() || command::run(&mut client_of(&place, &["version"])).code == 0
        });
        let parent = place.path().file_name().expect("a name").to_string_lossy().into_owned();
        let containerd = Self { daemon, runtime, parent, place };
        if let Some(status) = ended {
            panic!("containerd ended, {status}:\n{}", containerd.log());
        }
        let archive = image::busybox_archive();
        containerd.call(&["images", "import", &archive.to_string_lossy()]).ok();
        containerd
    }

    fn log(&self) -> String {
        crate::complaints(&self.place.join("log"))
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Output {
        command::run(&mut client_of(&self.place, words))
    }

    /// `run OPTIONS busybox ID PROGRAM`
    fn command(&self, options: &[&str], id: &str, program: &[&str]) -> Command {
        let runtime = self.runtime.to_string_lossy();
        let cgroup = format!("/{}/{id}", self.parent);
        let root = self.place.join("runc").display().to_string();
        let own = ["run", "--runc-binary", &runtime, "--runc-root", &root, "--cgroup", &cgroup];
        client_of(&self.place, &[&own, options, &[IMAGE, id], program].concat())
    }

    #[track_caller]
    fn run(&self, options: &[&str], program: &[&str]) -> Output {
        command::run(&mut self.command(&[&["--rm"], options].concat(), "once", program))
    }

    /// A container `box` that runs until it is ended, and ends with 5 on SIGTERM.
    #[track_caller]
    fn detached(&self, options: &[&str]) {
        // It says that it listens: ctr has no logs.
        let script = "trap 'exit 5' TERM; touch /tmp/up; while :; do sleep 0.05; done";
        let log = format!("file://{}", self.place.join("output").display());
        let options = [&["-d", "--log-uri", &log], options].concat();
        command::run(&mut self.command(&options, "box", &["sh", "-c", script])).ok();
        let mut number = 0;
        command::wait_until("the script runs", || {
            number += 1;
            let id = format!("look-{number}");
            self.call(&["task", "exec", "--exec-id", &id, "box", "test", "-e", "/tmp/up"]).code == 0
        });
    }

    /// RUNNING, PAUSED, STOPPED
    #[track_caller]
    fn status(&self, id: &str) -> String {
        let text = self.call(&["task", "ls"]);
        let line = text.ok().lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("").to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let mut problems = Vec::new();
        for kind in ["task", "container"] {
            let known = command::run(&mut client_of(&self.place, &[kind, "ls", "-q"]));
            for id in known.stdout.lines() {
                let words: &[&str] = if kind == "task" {
                    &["task", "rm", "-f", id]
                } else {
                    &["container", "rm", id]
                };
                let output = command::run(&mut client_of(&self.place, words));
                if output.code != 0 {
                    problems.push(format!("{kind} rm fails after the test\n{output}"));
                }
            }
        }
        let pid = rustix::process::Pid::from_raw(self.daemon.id() as i32).expect("a pid");
        if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
            problems.push(format!("kill(containerd): {error}"));
        }
        if let Err(error) = self.daemon.wait() {
            problems.push(format!("wait(containerd): {error}"));
        }
        crate::unmount(&self.place);
        for parent in runtime::cgroups_named(&self.parent) {
            if parent.is_dir() {
                crate::remove_cgroups(&parent);
            }
        }
        if std::thread::panicking() {
            eprintln!("containerd's log:\n{}", self.log());
        }
        if !problems.is_empty() {
            place::report(&problems.join("\n"));
        }
    }
}

fn client_of(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new(binary::tool("ctr"));
    command.arg("--address").arg(place.join("sock")).args(words);
    command
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "containerd-and-our-registry",
        "issue: peers",
        "what ctr pushes to hako's registry it pulls again",
        || {
            let (containerd, registry) = (Containerd::new(), crate::served::Served::start());
            let name = format!("{}/team/app:v1", registry.host);
            containerd.call(&["images", "tag", IMAGE, &name]).ok();
            containerd.call(&["images", "push", "--plain-http", &name]).ok();
            containerd.call(&["images", "rm", "--sync", &name, IMAGE]).ok();
            containerd.call(&["images", "pull", "--plain-http", &name]).ok();
            containerd.call(&["images", "ls", "-q"]).says(&name);
        },
    ),
    Case::new("containerd-exit-codes", CONTAINERD, "run ends with the program's status", || {
        let containerd = Containerd::new();
        containerd.run(&[], &["echo", "hello"]).prints("hello");
        containerd.run(&[], &["sh", "-c", "exit 3"]).exits(3);
    }),
    Case::new(
        "containerd-no-program",
        CONTAINERD,
        "the shim finds the reason in the runtime's JSON log",
        || {
            let containerd = Containerd::new();
            let run = |program: &str| containerd.run(&[], &[program]);
            run("no-such").fails().complains(
                "OCI runtime create failed: ",
            ).complains(
                "runc create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown",
            );
            run("/no/such")
                .fails()
                .complains("exec: \"/no/such\": stat /no/such: no such file or directory: unknown");
            run("/etc/passwd")
                .fails()
                .complains("exec: \"/etc/passwd\": permission denied: unknown");
            containerd.call(&["task", "ls", "-q"]).prints("");
        },
    ),
    Case::new("containerd-terminal", CONTAINERD, "run -t gives a terminal", || {
        let containerd = Containerd::new();
        let command = containerd.command(&["--rm", "-t"], "box", &["sh", "-c", "tty; exit 4"]);
        let (code, text) = Terminal::start(&command).finish();
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("/dev/pts/0"), "{text}");
    }),
    Case::new("containerd-exec", CONTAINERD, "exec: user, directory, status", || {
        let containerd = Containerd::new();
        containerd.detached(&[]);
        let fifos = containerd.place.join("fifo").display().to_string();
        let exec = |id: &str, words: &[&str]| {
            containerd
                .call(&[&["task", "exec", "--fifo-dir", &fifos, "--exec-id", id], words].concat())
        };
        exec("a", &["--user", "1000", "--cwd", "/tmp", "box", "sh", "-c", "id -u; pwd"])
            .prints("1000\n/tmp");
        exec("b", &["box", "sh", "-c", "exit 9"]).exits(9);
        exec("c", &["box", "no-such"]).fails().complains(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown",
        );
        exec("d", &["box", "true"]).ok();
    }),
    Case::new("containerd-pause", CONTAINERD, "pause and resume", || {
        let containerd = Containerd::new();
        containerd.detached(&[]);
        containerd.call(&["task", "pause", "box"]).ok();
        assert_eq!(containerd.status("box"), "PAUSED");
        containerd.call(&["task", "resume", "box"]).ok();
        assert_eq!(containerd.status("box"), "RUNNING");
    }),
    Case::new("containerd-kill", CONTAINERD, "kill, and the exit status in the events", || {
        let containerd = Containerd::new();
        containerd.detached(&[]);
        containerd.call(&["task", "kill", "-s", "TERM", "box"]).ok();
        command::wait_until("it ended", || containerd.status("box") == "STOPPED");
        containerd.call(&["task", "rm", "box"]).complains("exit code 5");
        containerd.call(&["container", "rm", "box"]).ok();
        containerd.call(&["container", "ls", "-q"]).prints("");
    }),
    Case::new(
        "containerd-metrics",
        CONTAINERD,
        "metrics are this container's, of each controller",
        || {
            let containerd = Containerd::new();
            crate::legacy_only();
            containerd.detached(&["--memory-limit", "67108864"]);
            let text = containerd.call(&["task", "metrics", "--format", "json", "box"]);
            let metrics: Value = serde_json::from_str(text.ok()).expect("JSON");
            let pids = metrics["pids"]["current"].as_u64().expect("a number");
            assert!((1..=3).contains(&pids), "{metrics}");
            assert!(
                metrics["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0),
                "{metrics}"
            );
            assert_eq!(metrics["memory"]["usage"]["limit"], 67_108_864, "{metrics}");
            containerd.call(&["task", "ps", "box"]).ok();
        },
    ),
    Case::new("containerd-confined", CONTAINERD, "read-only, seccomp, capabilities", || {
        let containerd = Containerd::new();
        containerd.run(&["--read-only"], &["touch", "/x"]).exits(1).complains("read-only");
        containerd.run(&["--seccomp"], &["grep", "Seccomp:", "/proc/self/status"]).says("2");
        containerd.run(&["--privileged"], &["true"]).ok();
    }),
    Case::new("containerd-oom", CONTAINERD, "a container out of memory is an event", || {
        let containerd = Containerd::new();
        let log = containerd.place.join("events");
        let mut events = client_of(&containerd.place, &["events"])
            .stdout(File::create(&log).expect("our own file"))
            .spawn()
            .expect("ctr starts");
        let seen = || fs::read_to_string(&log).expect("our own file");
        // It listens from some moment on: something it must hear says that it does.
        command::wait_until("ctr listens", || {
            containerd.run(&[], &["true"]).ok();
            seen().contains("/tasks/delete")
        });
        let script = "x=a; while :; do x=$x$x; done";
        containerd.run(&["--memory-limit", "16777216"], &["sh", "-c", script]).exits(137);
        command::wait_until("the event comes", || {
            let text = seen();
            text.contains("/tasks/oom") && text.contains("\"exit_status\":137")
        });
        events.kill().expect("kill");
        events.wait().expect("wait");
    }),
];
