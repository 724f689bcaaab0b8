//! podman with `--runtime`.

use std::{path::Path, process::Command};

use hako_tests::{
    Case, binary,
    command::{self, Output},
    image,
    place::{self, Place},
    pty::Terminal,
    runtime,
};
use serde_json::Value;

use crate::{or_as_runc, runtime_under_test};

const PODMAN: &str = "podman(1), --runtime";

/// A podman with its own storage, and the image `busybox:test` in it.
struct Podman {
    place: Place,
    runtime: String,
}

impl Podman {
    fn new() -> Self {
        Self::on(&runtime_under_test())
    }

    fn on(runtime: &Path) -> Self {
        binary::tool("podman");
        let place = Place::new("podman");
        let name = runtime.file_name().unwrap_or_default().to_string_lossy();
        // Limits that a root without CAP_SYS_RESOURCE can set. A runtime whose name podman does not
        // know is asked for JSON only when it is told.
        place.write(
            "containers.conf",
            format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1024:1024\"]\n\
                 netns = \"none\"\n[engine]\nevents_logger = \"file\"\nevents_logfile_path = \"{}\"\n\
                 cgroup_manager = \"cgroupfs\"\nruntime_supports_json = [\"{name}\"]\n",
                place.join("events").display()
            ),
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            place.join("runroot").display(),
            place.join("root").display()
        );
        place.write("storage.conf", storage);
        let podman = Self { place, runtime: runtime.to_string_lossy().into_owned() };
        let archive = image::busybox_archive();
        podman.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        podman
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary::tool("podman"));
        // conmon leaves a file `oom` where it was started.
        command
            .current_dir(self.place.path())
            .env("CONTAINERS_CONF", self.place.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.place.join("storage.conf"))
            .env("XDG_RUNTIME_DIR", self.place.path())
            .env("TMPDIR", self.place.path())
            .args(["--runtime", &self.runtime, "--tmpdir"])
            .arg(self.place.join("tmp"))
            .args(words);
        command
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
    fn state(&self, name: &str) -> Value {
        let output = self.call(&["inspect", "--type", "container", name]);
        let mut documents: Value = serde_json::from_str(output.ok()).expect("inspect prints JSON");
        documents[0]["State"].take()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let all = command::run(&mut self.command(&["rm", "-f", "-t", "0", "-a"]));
        if all.code != 0 {
            place::report(&format!("podman rm -f -a fails after the test\n{all}"));
        }
        crate::unmount(&self.place);
        let left = runtime::cgroups_named("libpod-");
        // The others' containers are in the same parent; only who sees none removes it.
        if left.is_empty() {
            for parent in runtime::cgroups_named("libpod_parent").iter().rev() {
                crate::remove_cgroups(parent);
            }
        }
    }
}

pub(crate) const CASES: &[Case] = &[
    Case::new("podman-exit-codes", PODMAN, "run ends with the program's status", || {
        let podman = Podman::new();
        podman.sh(&[], "echo hello").prints("hello");
        podman.sh(&[], "exit 3").exits(3);
    })
    .alone(),
    Case::new(
        "podman-no-program",
        PODMAN,
        "126 and 127, found in the runtime's JSON log, in runc's words",
        || {
            let podman = Podman::new();
            let run = |program: &str| podman.call(&["run", "--rm", "busybox:test", program]);
            run("no-such")
                .exits(127)
                .complains("create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH")
                .complains("attempted to invoke a command that was not found");
            run("/no/such")
                .exits(127)
                .complains("exec: \"/no/such\": stat /no/such: no such file or directory");
            run("/etc/passwd")
                .exits(126)
                .complains("exec: \"/etc/passwd\": permission denied")
                .complains("OCI permission denied");
            run("/bin").exits(126).complains("permission denied");
        },
    )
    .alone(),
    Case::new("podman-terminal", PODMAN, "run -t gives a terminal", || {
        let podman = Podman::new();
        podman.call(&["run", "--rm", "-t", "busybox:test", "tty"]).says("/dev/pts/0");
    })
    .alone(),
    Case::new("podman-attach", PODMAN, "attach talks to a detached shell", || {
        let podman = Podman::new();
        podman.call(&["run", "-dit", "--name", "box", "busybox:test", "sh"]).ok();
        let mut terminal = Terminal::start(&podman.command(&["attach", "box"]));
        terminal.send("echo att$((1))ached; exit 4\n");
        terminal.expect("att1ached");
        terminal.finish();
        podman.call(&["wait", "box"]).prints("4");
    })
    .alone(),
    Case::new("podman-logs", PODMAN, "run -d, then logs", || {
        let podman = Podman::new();
        podman.detached(&[]);
        podman.call(&["logs", "box"]).prints("out").complains("err");
    })
    .alone(),
    Case::new("podman-exec", PODMAN, "exec: user, directory, environment, status", || {
        let podman = Podman::new();
        podman.detached(&[]);
        let exec = |words: &[&str]| podman.call(&[&["exec"], words].concat());
        exec(&["-u", "1000:1000", "-e", "A=b", "-w", "/tmp", "box", "sh", "-c", "id -u; echo $A; pwd"])
            .prints("1000\nb\n/tmp");
        exec(&["box", "sh", "-c", "exit 9"]).exits(9);
        exec(&["-t", "box", "tty"]).says("/dev/pts/");
        exec(&["box", "no-such"])
            .exits(127)
            .complains("exec failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH");
        exec(&["box", "/etc/passwd"]).exits(126).complains("permission denied");
        exec(&["-w", "/no/such", "box", "true"]).exits(127).complains("no such file or directory");
    })
    .alone(),
    Case::new("podman-pause", PODMAN, "pause and unpause", || {
        let podman = Podman::new();
        podman.detached(&[]);
        podman.call(&["pause", "box"]).ok();
        assert_eq!(podman.state("box")["Status"], "paused");
        podman.call(&["exec", "box", "true"]).fails();
        podman.call(&["unpause", "box"]).ok();
        assert_eq!(podman.state("box")["Status"], "running");
        podman.call(&["exec", "box", "true"]).ok();
    })
    .alone(),
    Case::new("podman-stats", PODMAN, "stats are this container's, of each controller", || {
        let podman = Podman::new();
        podman.detached(&[]);
        let output = podman.call(&["stats", "--no-stream", "--format", "json", "box"]);
        let stats: Value = serde_json::from_str(output.ok()).expect("JSON");
        let pids: u32 = stats[0]["pids"].as_str().unwrap_or("").parse().expect("a number");
        assert!((1..=3).contains(&pids), "{stats}");
        assert_ne!(stats[0]["cpu_time"], "0s", "{stats}");
        assert!(!stats[0]["mem_usage"].as_str().unwrap_or("0B").starts_with("0B"), "{stats}");
    })
    .alone(),
    Case::new("podman-cgroups", PODMAN, "the container is in its cgroup of each hierarchy", || {
        let podman = Podman::new();
        let text = podman.sh(&["--cgroupns", "host", "--pids-limit", "50", "--memory", "64m"], "cat /proc/self/cgroup");
        for line in text.ok().lines() {
            assert!(line.contains("/libpod-"), "{line}");
        }
    })
    .alone(),
    Case::new("podman-limits", PODMAN, "limits are the container's", || {
        let podman = Podman::new();
        crate::legacy_only();
        let files = "cd /sys/fs/cgroup; cat pids/pids.max memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
        podman
            .sh(
                &["--pids-limit", "50", "--memory", "64m", "--cpus", "0.5", "--cpu-shares", "77", "--cpuset-cpus", "0"],
                files,
            )
            .prints("50\n67108864\n50000\n77\n0");
    })
    .alone(),
    Case::new("podman-top", PODMAN, "top lists the container's processes", || {
        let podman = Podman::new();
        podman.detached(&[]);
        podman.call(&["top", "box", "pid", "comm"]).says("1           sh");
    })
    .alone(),
    Case::new("podman-update", PODMAN, "update changes a running container's limits", || {
        let podman = Podman::new();
        crate::legacy_only();
        podman.detached(&["--memory", "32m"]);
        podman.call(&["update", "--memory", "64m", "--cpus", "0.5", "box"]).ok();
        let files = ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"];
        podman.call(&[&["exec", "box", "cat"], &files[..]].concat()).prints("67108864\n50000");
    })
    .alone(),
    Case::new("podman-stop", PODMAN, "stop, start, restart, kill, rm -f", || {
        let podman = Podman::new();
        podman.detached(&[]);
        podman.call(&["stop", "-t", "60", "box"]).ok();
        assert_eq!(podman.state("box")["ExitCode"], 5);
        podman.call(&["start", "box"]).ok();
        assert_eq!(podman.state("box")["Status"], "running");
        podman.call(&["restart", "-t", "60", "box"]).ok();
        assert_eq!(podman.state("box")["Status"], "running");
        podman.call(&["kill", "-s", "KILL", "box"]).ok();
        podman.call(&["wait", "box"]).prints("137");
        podman.call(&["start", "box"]).ok();
        podman.call(&["rm", "-f", "-t", "0", "box"]).ok();
        podman.call(&["ps", "-aq"]).prints("");
    })
    .alone(),
    Case::new("podman-oom", PODMAN, "a container that is out of memory is said to be", || {
        or_as_runc(&runtime_under_test(), |runtime| {
            let podman = Podman::on(runtime);
            let script = "x=a; while :; do x=$x$x; done";
            let words = ["run", "--name", "box", "--memory", "16m", "busybox:test", "sh", "-c", script];
            podman.call(&words).exits(137);
            match &podman.state("box")["OOMKilled"] {
                Value::Bool(true) => Ok(()),
                other => Err(format!("podman inspect says OOMKilled {other} on this kernel's cgroups")),
            }
        });
    })
    .alone(),
    Case::new("podman-health", PODMAN, "a health check runs in the container", || {
        let podman = Podman::new();
        podman.detached(&["--health-cmd", "test -e /tmp/ok", "--health-retries", "1"]);
        podman.call(&["healthcheck", "run", "box"]).exits(1);
        podman.call(&["exec", "box", "touch", "/tmp/ok"]).ok();
        podman.call(&["healthcheck", "run", "box"]).ok();
    })
    .alone(),
    Case::new("podman-confined", PODMAN, "read-only, capabilities, seccomp, sysctl, tmpfs", || {
        let podman = Podman::new();
        podman.sh(&["--read-only"], "touch /x").exits(1).complains("read-only");
        podman
            .sh(&["--cap-drop", "all"], "grep CapBnd /proc/self/status")
            .says("0000000000000000");
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
        let option = format!("seccomp={}", podman.place.write("seccomp.json", profile).display());
        podman
            .sh(&["--security-opt", &option], "mkdir /tmp/x")
            .exits(1)
            .complains("Operation not permitted");
        podman
            .sh(&["--sysctl", "net.ipv4.ip_forward=1", "--hostname", "foo"], "cat /proc/sys/net/ipv4/ip_forward; hostname")
            .prints("1\nfoo");
        // Where the image has no such directory, anybody can write there.
        podman.sh(&["--tmpfs", "/new", "--user", "1000"], "stat -c %a /new; touch /new/x").prints("1777");
        podman.sh(&["--tmpfs", "/home"], "stat -c %a /home").prints("755");
    })
    .alone(),
    Case::new("podman-events", PODMAN, "events tell a container's life in order", || {
        let podman = Podman::new();
        podman.sh(&["--name", "life"], "exit 3").exits(3);
        let filter = ["events", "--stream=false", "--filter", "container=life", "--format", "{{.Status}} {{.ContainerExitCode}}"];
        let text = podman.call(&filter);
        let seen: Vec<&str> = text.ok().lines().filter_map(|line| line.split(' ').next()).collect();
        let order: Vec<&str> = ["create", "init", "start", "died", "remove"]
            .into_iter()
            .filter(|word| seen.contains(word))
            .collect();
        assert_eq!(order.len(), 5, "{text}");
        assert!(text.stdout.contains("died 3"), "{text}");
    })
    .alone(),
];
