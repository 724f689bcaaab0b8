//! Docker's daemon, with the runtime in its `runtimes`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use hako_tests::{
    Case, binary,
    command::{self, Output},
    image,
    place::{self, Place},
    pty::Terminal,
    runtime,
};
use serde_json::{Value, json};

use crate::runtime_under_test;

const DOCKER: &str = "dockerd(8), --add-runtime";

/// A daemon with its own roots, socket and cgroup parent, and the image `busybox:test` in it.
struct Docker {
    daemon: Child,
    socket: String,
    parent: String,
    // Last: it goes when the daemon is gone.
    place: Place,
}

impl Docker {
    fn new() -> Self {
        Self::on(&runtime_under_test())
    }

    fn on(runtime: &Path) -> Self {
        let program = binary::tool("dockerd");
        binary::tool("containerd");
        client();
        let place = Place::new("docker");
        let parent = place.path().file_name().expect("a name").to_string_lossy().into_owned();
        let configuration = json!({
            "runtimes": {"tested": {"path": runtime}},
            "default-runtime": "tested",
            "data-root": place.join("root"),
            "exec-root": place.join("exec"),
            "pidfile": place.join("pid"),
            "hosts": [format!("unix://{}", place.join("sock").display())],
            "cgroup-parent": format!("/{parent}"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "storage-driver": "overlay2",
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "ip-masq": false,
            "features": {"buildkit": false},
        });
        let file = place.write("daemon.json", configuration.to_string());
        let log = File::create(place.join("log")).expect("our own file");
        let mut daemon = Command::new(program)
            .arg("--config-file")
            .arg(file)
            .env("TMPDIR", place.path())
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("spawn(dockerd): {error}"));
        let socket = format!("unix://{}", place.join("sock").display());
        let mut ended = None;
        command::wait_until("dockerd answers", || {
            ended = daemon.try_wait().expect("wait");
            ended.is_some() || command::run(&mut client_of(&socket, &place, &["version"])).code == 0
        });
        let docker = Self { daemon, socket, parent, place };
        if let Some(status) = ended {
            panic!("dockerd ended, {status}:\n{}", docker.log());
        }
        let archive = image::busybox_archive();
        docker.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        docker
    }

    fn log(&self) -> String {
        crate::complaints(&self.place.join("log"))
    }

    fn command(&self, words: &[&str]) -> Command {
        client_of(&self.socket, &self.place, words)
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Output {
        command::run(&mut self.command(words))
    }

    /// `run --rm OPTIONS busybox:test sh -c SCRIPT`
    #[track_caller]
    fn sh(&self, options: &[&str], script: &str) -> Output {
        let words = [&["run", "--rm"], options, &["busybox:test", "sh", "-c", script]].concat();
        self.call(&words)
    }

    /// A container `box` that runs until it is ended, and ends with 5 on SIGTERM.
    #[track_caller]
    fn detached(&self, options: &[&str]) {
        let script = "echo out; echo err >&2; trap 'exit 5' TERM; while :; do sleep 0.05; done";
        let words =
            [&["run", "-d", "--name", "box"], options, &["busybox:test", "sh", "-c", script]];
        self.call(&words.concat()).ok();
        command::wait_until("the script runs", || {
            self.call(&["logs", "box"]).stderr.contains("err")
        });
    }

    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let output = self.call(&["inspect", "--type", "container", name]);
        let mut documents: Value = serde_json::from_str(output.ok()).expect("inspect prints JSON");
        documents[0].take()
    }

    fn wait_state(&self, name: &str, field: &str, value: &str) {
        command::wait_until(&format!("{name} has {field} {value}"), || {
            let state = self.inspect(name)["State"].take();
            field.split('.').fold(&state, |state, name| &state[name]) == value
        });
    }

    /// What became of a container, as `Action` or `Action exitCode`, oldest first.
    #[track_caller]
    fn events(&self, name: &str, until: &[&str]) -> Vec<String> {
        let filter = format!("container={name}");
        let format = "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}";
        let now = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_secs() + 1
        };
        let mut lines = Vec::new();
        command::wait_until(&format!("events {until:?} of {name}"), || {
            let end = now().to_string();
            let words = [
                "events", "--since", "1", "--until", &end, "--filter", &filter, "--format", format,
            ];
            let text = self.call(&words);
            lines = text.ok().lines().map(|line| line.trim().to_owned()).collect();
            until.iter().all(|word| lines.iter().any(|line| line == word))
        });
        lines
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let mut problems = Vec::new();
        let known = command::run(&mut self.command(&["ps", "-aq"]));
        let mut words = vec!["rm", "-f", "-v"];
        words.extend(known.stdout.lines());
        if words.len() > 3 {
            let output = command::run(&mut self.command(&words));
            if output.code != 0 {
                problems.push(format!("rm -f fails after the test\n{output}"));
            }
        }
        let pid = rustix::process::Pid::from_raw(self.daemon.id() as i32).expect("a pid");
        if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
            problems.push(format!("kill(dockerd): {error}"));
        }
        match self.daemon.wait() {
            Ok(_) => {}
            Err(error) => problems.push(format!("wait(dockerd): {error}")),
        }
        crate::unmount(&self.place);
        for parent in runtime::cgroups_named(&self.parent) {
            if parent.is_dir() {
                crate::remove_cgroups(&parent);
            }
        }
        if std::thread::panicking() {
            eprintln!("dockerd's log:\n{}", self.log());
        }
        if !problems.is_empty() {
            place::report(&problems.join("\n"));
        }
    }
}

/// Docker's own client: one from elsewhere on PATH may be much newer than the daemon.
fn client() -> PathBuf {
    let beside = PathBuf::from("/usr/bin/docker");
    if beside.is_file() { beside } else { binary::tool("docker") }
}

fn client_of(socket: &str, place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new(client());
    command.args(["--host", socket, "--config"]).arg(place.join("client")).args(words);
    command
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "docker-and-our-registry",
        "issue: peers",
        "what docker pushes to hako's registry it pulls again, and runs",
        || {
            let (docker, registry) = (Docker::new(), crate::served::Served::start());
            let name = format!("{}/team/app:v1", registry.host);
            docker.call(&["tag", "busybox:test", &name]).ok();
            docker.call(&["push", &name]).says("digest: sha256:");
            let again = format!("{}/other/app:v2", registry.host);
            docker.call(&["tag", &name, &again]).ok();
            docker.call(&["push", &again]).says("Mounted from team/app");
            docker.call(&["rmi", "-f", &name, &again, "busybox:test"]).ok();
            docker.call(&["pull", &again]).says("Downloaded newer image");
            docker.call(&["run", "--rm", &again, "echo", "pulled"]).prints("pulled");
        },
    ),
    Case::new("docker-exit-codes", DOCKER, "run ends with the program's status", || {
        let docker = Docker::new();
        docker.sh(&[], "echo hello").prints("hello");
        docker.sh(&[], "exit 3").exits(3);
        command::run_with(
            &mut docker.command(&["run", "--rm", "-i", "busybox:test", "cat"]),
            b"in",
        )
        .prints("in");
    }),
    Case::new(
        "docker-no-program",
        DOCKER,
        "126 and 127, found in the runtime's JSON log, in runc's words",
        || {
            let docker = Docker::new();
            let run = |program: &str| docker.call(&["run", "--rm", "busybox:test", program]);
            run("no-such").exits(127).complains(
                "runc create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown.",
            );
            run("/no/such").exits(127).complains(
                "runc create failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown.",
            );
            run("/etc/passwd").exits(126).complains(
                "runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: unknown.",
            );
            run("/bin").exits(126).complains("permission denied");
            // What was made for a container that never started is gone.
            docker.call(&["ps", "-aq"]).prints("");
        },
    ),
    Case::new("docker-terminal", DOCKER, "run -t gives a terminal; attach talks to it", || {
        let docker = Docker::new();
        docker.call(&["run", "--rm", "-t", "busybox:test", "tty"]).says("/dev/pts/0");
        docker.call(&["run", "-dit", "--name", "box", "busybox:test", "sh"]).ok();
        let mut terminal = Terminal::start(&docker.command(&["attach", "box"]));
        terminal.send("echo att$((1))ached; stty size; exit 4\n");
        terminal.expect("att1ached");
        let (code, text) = terminal.finish();
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("24 80"), "the client's size arrives: {text}");
        docker.call(&["wait", "box"]).prints("4");
    }),
    Case::new("docker-logs", DOCKER, "run -d, then logs", || {
        let docker = Docker::new();
        docker.detached(&[]);
        docker.call(&["logs", "box"]).prints("out").complains("err");
    }),
    Case::new("docker-exec", DOCKER, "exec: user, directory, environment, status", || {
        let docker = Docker::new();
        docker.detached(&[]);
        let exec = |words: &[&str]| docker.call(&[&["exec"], words].concat());
        exec(&[
            "-u",
            "1000:1000",
            "-e",
            "A=b",
            "-w",
            "/tmp",
            "box",
            "sh",
            "-c",
            "id -u; echo $A; pwd",
        ])
        .prints("1000\nb\n/tmp");
        exec(&["box", "sh", "-c", "exit 9"]).exits(9);
        exec(&["-t", "box", "tty"]).says("/dev/pts/");
        let refused = exec(&["box", "no-such"]);
        // The client of Docker 20.10 ends with 126 for both, newer ones tell them apart.
        assert!([126, 127].contains(&refused.code), "{refused}");
        refused_says(
            &refused,
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown",
        );
        let refused = exec(&["box", "/etc/passwd"]);
        refused.exits(126);
        refused_says(&refused, "exec: \"/etc/passwd\": permission denied: unknown");
        // And it can be repeated: nothing of the failed ones is left.
        exec(&["box", "true"]).ok();
    }),
    Case::new("docker-exec-privileged", DOCKER, "exec --privileged has what the host has", || {
        let docker = Docker::new();
        docker.detached(&[]);
        docker
            .call(&["exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status"])
            .says("ffffff");
    })
    .peers_fail(&[("runc", "asks for CAP_SYS_RESOURCE where the machine has it not")]),
    Case::new("docker-pause", DOCKER, "pause and unpause", || {
        let docker = Docker::new();
        docker.detached(&[]);
        docker.call(&["pause", "box"]).ok();
        assert_eq!(docker.inspect("box")["State"]["Status"], "paused");
        docker.call(&["exec", "box", "true"]).fails().complains("paused");
        docker.call(&["unpause", "box"]).ok();
        assert_eq!(docker.inspect("box")["State"]["Status"], "running");
        docker.call(&["exec", "box", "true"]).ok();
    }),
    Case::new("docker-stats", DOCKER, "stats are this container's, of each controller", || {
        let docker = Docker::new();
        docker.detached(&["--memory", "64m"]);
        // Another one beside it, whose processes are not to be counted.
        docker
            .call(&[
                "run",
                "-d",
                "--name",
                "other",
                "busybox:test",
                "sh",
                "-c",
                "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait",
            ])
            .ok();
        let text = docker.call(&["stats", "--no-stream", "--format", "{{json .}}", "box"]);
        let stats: Value = serde_json::from_str(text.ok()).expect("JSON");
        let pids: u32 = stats["PIDs"].as_str().unwrap_or("").parse().expect("a number");
        assert!((1..=3).contains(&pids), "{stats}");
        assert!(stats["MemUsage"].as_str().unwrap_or("").ends_with("/ 64MiB"), "{stats}");
        assert!(!stats["MemUsage"].as_str().unwrap_or("0B").starts_with("0B"), "{stats}");
    }),
    Case::new("docker-cgroups", DOCKER, "the container is in its cgroup of each hierarchy", || {
        let docker = Docker::new();
        let text = docker.sh(&["--cgroupns", "host"], "cat /proc/self/cgroup");
        for line in text.ok().lines() {
            let path = line.rsplit(':').next().unwrap_or("");
            assert!(path.starts_with("/docker-") && path.len() > 64, "{line}");
        }
    }),
    Case::new("docker-limits", DOCKER, "limits are the container's", || {
        let docker = Docker::new();
        crate::legacy_only();
        let files = "cd /sys/fs/cgroup; cat pids/pids.max memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
        docker
            .sh(
                &[
                    "--pids-limit",
                    "50",
                    "--memory",
                    "64m",
                    "--cpus",
                    "0.5",
                    "--cpu-shares",
                    "77",
                    "--cpuset-cpus",
                    "0",
                ],
                files,
            )
            .prints("50\n67108864\n50000\n77\n0");
        docker.sh(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn").prints("100\n200");
        docker
            .sh(&["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{print $2}'")
            .prints("1024");
        docker.sh(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj").prints("500");
    }),
    Case::new("docker-top", DOCKER, "top lists the container's processes", || {
        let docker = Docker::new();
        docker.detached(&[]);
        docker.call(&["top", "box", "-o", "pid,comm"]).says(" sh");
    }),
    Case::new("docker-update", DOCKER, "update changes a running container's limits", || {
        let docker = Docker::new();
        crate::legacy_only();
        docker.detached(&["--memory", "32m"]);
        docker
            .call(&[
                "update",
                "--memory",
                "64m",
                "--memory-swap",
                "64m",
                "--cpus",
                "0.5",
                "--pids-limit",
                "44",
                "box",
            ])
            .ok();
        let files = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max";
        docker.call(&["exec", "box", "sh", "-c", files]).prints("67108864\n50000\n44");
    }),
    Case::new("docker-stop", DOCKER, "stop, start, restart, kill, rm -f", || {
        let docker = Docker::new();
        docker.detached(&[]);
        docker.call(&["stop", "-t", "60", "box"]).ok();
        assert_eq!(docker.inspect("box")["State"]["ExitCode"], 5);
        docker.call(&["start", "box"]).ok();
        docker.call(&["restart", "-t", "60", "box"]).ok();
        assert_eq!(docker.inspect("box")["State"]["Status"], "running");
        docker.call(&["kill", "box"]).ok();
        docker.call(&["wait", "box"]).prints("137");
        docker.call(&["start", "box"]).ok();
        docker.call(&["kill", "-s", "TERM", "box"]).ok();
        docker.call(&["wait", "box"]).exits(0);
        docker.call(&["start", "box"]).ok();
        docker.call(&["rm", "-f", "box"]).ok();
        docker.call(&["ps", "-aq"]).prints("");
    }),
    Case::new("docker-oom", DOCKER, "a container that is out of memory is said to be", || {
        let docker = Docker::new();
        let script = "x=a; while :; do x=$x$x; done";
        docker
            .call(&["run", "--name", "box", "--memory", "16m", "busybox:test", "sh", "-c", script])
            .exits(137);
        assert_eq!(docker.inspect("box")["State"]["OOMKilled"], true);
        docker.events("box", &["oom", "die 137"]);
    }),
    Case::new("docker-health", DOCKER, "health checks are executed in the container", || {
        let docker = Docker::new();
        docker.detached(&[
            "--health-cmd",
            "test -e /tmp/ok",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
        ]);
        docker.wait_state("box", "Health.Status", "unhealthy");
        docker.call(&["exec", "box", "touch", "/tmp/ok"]).ok();
        docker.wait_state("box", "Health.Status", "healthy");
    }),
    Case::new(
        "docker-restart-policy",
        DOCKER,
        "what fails is started again, as often as was said",
        || {
            let docker = Docker::new();
            let words = [
                "run",
                "-d",
                "--name",
                "box",
                "--restart",
                "on-failure:2",
                "busybox:test",
                "sh",
                "-c",
                "exit 7",
            ];
            docker.call(&words).ok();
            docker.wait_state("box", "Status", "exited");
            command::wait_until("it was started three times", || {
                docker.inspect("box")["RestartCount"] == 2
                    && docker.inspect("box")["State"]["Status"] == "exited"
            });
            assert_eq!(docker.inspect("box")["State"]["ExitCode"], 7);
        },
    ),
    Case::new(
        "docker-confined",
        DOCKER,
        "read-only, capabilities, seccomp, no-new-privileges",
        || {
            let docker = Docker::new();
            docker.sh(&["--read-only"], "touch /x").exits(1).complains("read-only");
            docker
                .sh(&["--cap-drop", "all"], "grep CapBnd /proc/self/status")
                .says("0000000000000000");
            let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
            let option =
                format!("seccomp={}", docker.place.write("seccomp.json", profile).display());
            docker
                .sh(&["--security-opt", &option], "mkdir /tmp/x")
                .exits(1)
                .complains("Operation not permitted");
            let script = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'";
            docker
                .sh(&["--security-opt", "no-new-privileges"], script)
                .prints("NoNewPrivs:1\nSeccomp:2");
        },
    ),
    Case::new("docker-files", DOCKER, "volumes, tmpfs, init, devices, sysctl", || {
        let docker = Docker::new();
        let shared = docker.place.directory("shared");
        let bind = format!("{}:/x:ro", shared.display());
        docker
            .sh(&["-v", &bind, "-v", "vol:/y"], "touch /x/q; touch /y/q && echo ok")
            .prints("ok")
            .complains("Read-only file system");
        // Where the image has no such directory, anybody can write there.
        docker
            .sh(&["--tmpfs", "/new", "--user", "1000"], "stat -c %a /new; touch /new/x")
            .prints("1777");
        docker.sh(&["--tmpfs", "/home"], "stat -c %a /home").prints("755");
        docker
            .sh(
                &["--sysctl", "net.ipv4.ip_forward=1", "--hostname", "foo"],
                "cat /proc/sys/net/ipv4/ip_forward; hostname",
            )
            .prints("1\nfoo");
        if command::find("docker-init").is_some() {
            docker.sh(&["--init"], "cat /proc/1/comm").prints("docker-init");
        }
        docker
            .sh(
                &["--network", "host", "--ipc", "host", "--uts", "host", "--pid", "host"],
                "echo ok",
            )
            .prints("ok");
        docker.call(&["run", "--name", "kept", "busybox:test", "touch", "/made"]).ok();
        docker.call(&["diff", "kept"]).prints("A /made");
    }),
    Case::new("docker-events", DOCKER, "events tell a container's life in order", || {
        let docker = Docker::new();
        docker.sh(&["--name", "life"], "exit 3").exits(3);
        let events = docker.events("life", &["destroy", "die 3"]);
        let order: Vec<&str> =
            events.iter().map(String::as_str).filter(|line| *line != "attach").collect();
        assert_eq!(order, ["create", "start", "die 3", "destroy"], "{events:?}");
    }),
];

#[track_caller]
fn refused_says(output: &Output, text: &str) {
    // The message comes over the attached stream: which of the two it is depends on the client.
    let both = format!("{}{}", output.stdout, output.stderr);
    assert!(both.contains(text), "not said: {text}\n{output}");
}
