//! Each flag of `hako run`, seen from inside the container.

use std::{fs, path::Path};

use hako_tests::{Case, command, install::Hako, skip};
use serde_json::json;

const RUN: &str = "docker run(1)";

/// Runs a script with these flags; its output must be exactly this.
#[track_caller]
fn prints(flags: &[&str], script: &str, expected: &str) {
    Hako::with_busybox().sh(flags, script).prints(expected);
}

/// Capabilities in the bounding and effective sets, as hexadecimal numbers.
const CAPS: &str = "awk '/CapEff|CapBnd/{print $2}' /proc/self/status";

/// Docker's default set.
const DEFAULT_CAPS: &str = "00000000a80425fb";

pub(crate) const CASES: &[Case] = &[
    Case::new("run-command", RUN, "the words after the image are the program", || {
        Hako::with_busybox().run(&[], &["echo", "a b", "c"]).prints("a b c");
    }),
    Case::new("run-default-command", RUN, "without words the image's Cmd runs", || {
        let hako = Hako::with_busybox();
        hako.call_with(&["run", "--rm", "-i", "busybox:test"], b"echo from a shell")
            .prints("from a shell");
    }),
    Case::new("run-flags-after-image", RUN, "what follows the image is not a flag", || {
        Hako::with_busybox().run(&[], &["echo", "--rm", "-e", "X"]).prints("--rm -e X");
    }),
    Case::new("run-exit-code", RUN, "run exits as the program did", || {
        let hako = Hako::with_busybox();
        hako.sh(&[], "exit 42").exits(42);
        hako.sh(&[], "sh -c 'kill -9 $$'; exit $?").exits(137);
    }),
    Case::new("run-streams", RUN, "standard output and error stay apart", || {
        let output = Hako::with_busybox().sh(&[], "echo out; echo err >&2");
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("out\n", "err\n"),
            "{output}"
        );
    }),
    Case::new("run-large-output", RUN, "no byte is lost, however much is written", || {
        let output = Hako::with_busybox()
            .sh(&[], "dd if=/dev/zero bs=1000 count=5000 2>/dev/null | tr '\\0' x");
        assert_eq!(output.ok().len(), 5_000_000);
    }),
    Case::new("run-interactive", RUN, "-i hands standard input on, to its end", || {
        let hako = Hako::with_busybox();
        let input = "line\n".repeat(50_000);
        let output =
            hako.call_with(&["run", "--rm", "-i", "busybox:test", "wc", "-l"], input.as_bytes());
        output.prints("50000");
    }),
    Case::new("run-not-interactive", RUN, "without -i standard input is empty", || {
        let hako = Hako::with_busybox();
        hako.call_with(&["run", "--rm", "busybox:test", "cat"], b"not seen").prints("");
    }),
    Case::new("run-rm", RUN, "--rm leaves no container", || {
        let hako = Hako::with_busybox();
        hako.sh(&[], "true").ok();
        hako.call(&["ps", "-aq"]).prints("");
    }),
    Case::new("run-keeps-without-rm", RUN, "without --rm the container stays", || {
        let hako = Hako::with_busybox();
        hako.call(&["run", "--name", "kept", "busybox:test", "sh", "-c", "exit 3"]).exits(3);
        hako.call(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).says("kept Exited (3)");
    }),
    Case::new("run-name", RUN, "--name names it", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--name", "web-1.x_y"], &["sleep", "1000"]);
        assert_eq!(hako.inspect("web-1.x_y")["Name"], "/web-1.x_y");
    }),
    Case::new("run-name-invented", RUN, "a container without a name gets one", || {
        let hako = Hako::with_busybox();
        let id = hako.detached(&[], &["sleep", "1000"]);
        let name = hako.inspect(&id)["Name"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(name.len() > 3 && name.starts_with('/') && name.contains('_'), "{name}");
    }),
    Case::new("run-env", RUN, "-e sets, and takes the caller's value where none is given", || {
        let hako = Hako::with_busybox();
        let mut command = hako.command(&[
            "run",
            "--rm",
            "-e",
            "A=1=2",
            "--env",
            "FROM",
            "-e",
            "GONE",
            "busybox:test",
        ]);
        command
            .args(["sh", "-c", "echo $A $FROM ${GONE-unset}"])
            .env("FROM", "caller")
            .env_remove("GONE");
        hako_tests::command::run(&mut command).prints("1=2 caller unset");
    }),
    Case::new("run-env-file", RUN, "--env-file reads lines, comments apart; -e wins", || {
        let hako = Hako::with_busybox();
        let file =
            hako.place().write("env", "# a comment\nA=from file\n\nB=also\n  C=spaces before\n");
        let file = file.to_string_lossy().into_owned();
        hako.sh(&["--env-file", &file, "-e", "B=flag"], "echo $A, $B, $C")
            .prints("from file, flag, spaces before");
    }),
    Case::new("run-env-default", RUN, "PATH, HOSTNAME and HOME are there", || {
        let hako = Hako::with_busybox();
        let output = hako.run(&["--hostname", "h"], &["env"]);
        for line in ["PATH=/usr/local/sbin:", "HOSTNAME=h", "HOME=/root"] {
            output.says(line);
        }
    }),
    Case::new("run-workdir", RUN, "-w is the working directory, and is made", || {
        prints(&["-w", "/home/app"], "pwd", "/home/app");
        prints(&["--workdir", "/not/there/yet"], "pwd", "/not/there/yet");
    }),
    Case::new("run-user", RUN, "-u takes names and numbers, with and without a group", || {
        let hako = Hako::with_busybox();
        for (user, expected) in [
            ("app", "1000:1000 10 29 1000"),
            ("1000", "1000:1000 10 29 1000"),
            ("app:audio", "1000:29 29"),
            ("4321", "4321:0 0"),
            ("4321:8765", "4321:8765 8765"),
            ("0:audio", "0:29 29"),
        ] {
            let script = "echo $(id -u):$(id -g) $(id -G | tr ' ' '\\n' | sort -nu | tr '\\n' ' ')";
            hako.sh(&["-u", user], script).prints(expected);
        }
    }),
    Case::new("run-user-unknown", RUN, "an unknown user is an error that names it", || {
        Hako::with_busybox().sh(&["-u", "nosuchuser"], "true").exits(125).complains("nosuchuser");
    }),
    Case::new("run-user-home", RUN, "HOME is the user's", || {
        prints(&["-u", "app"], "echo $HOME", "/home/app");
    }),
    Case::new("run-hostname", RUN, "--hostname is the host name, in /etc/hostname too", || {
        let output = Hako::with_busybox().sh(&["-h", "box.example"], "hostname; cat /etc/hostname");
        output.prints("box.example\nbox.example");
    }),
    Case::new("run-hostname-default", RUN, "the default host name is the short ID", || {
        let hako = Hako::with_busybox();
        let id = hako.detached(&[], &["sleep", "1000"]);
        hako.call(&["exec", &id, "hostname"]).prints(&id[..12]);
    }),
    Case::new(
        "run-entrypoint",
        RUN,
        "--entrypoint takes the place of the image's, words follow it",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["run", "--rm", "--entrypoint", "echo", "busybox:test", "a", "b"])
                .prints("a b");
            // The image's own Cmd is not handed to another entrypoint.
            hako.call(&["run", "--rm", "--entrypoint", "echo", "busybox:test"]).prints("");
        },
    ),
    Case::new("run-volume", RUN, "-v binds a directory, both ways", || {
        let hako = Hako::with_busybox();
        let source = hako.place().directory("source");
        fs::write(source.join("in"), "from outside").expect("our own file");
        let volume = format!("{}:/data", source.display());
        hako.sh(&["-v", &volume], "cat /data/in; echo from inside >/data/out")
            .prints("from outside");
        assert_eq!(
            fs::read_to_string(source.join("out")).expect("it was written"),
            "from inside\n"
        );
    }),
    Case::new("run-volume-ro", RUN, "-v …:ro cannot be written", || {
        let hako = Hako::with_busybox();
        let volume = format!("{}:/data:ro", hako.place().directory("source").display());
        hako.sh(&["-v", &volume], "touch /data/x || echo refused")
            .prints("refused")
            .complains("read-only");
    }),
    Case::new("run-volume-file", RUN, "-v binds a file", || {
        let hako = Hako::with_busybox();
        let volume = format!("{}:/etc/given:ro", hako.place().write("file", "one file").display());
        hako.sh(&["-v", &volume], "cat /etc/given").prints("one file");
    }),
    Case::new(
        "run-volume-missing-source",
        RUN,
        "-v makes a missing source, as Docker does",
        || {
            let hako = Hako::with_busybox();
            let source = hako.place().join("made/by/hako");
            hako.sh(&["-v", &format!("{}:/data", source.display())], "touch /data/x").ok();
            assert!(source.join("x").exists());
        },
    ),
    Case::new("run-mount-bind", RUN, "--mount type=bind", || {
        let hako = Hako::with_busybox();
        let source = hako.place().directory("source");
        fs::write(source.join("f"), "bound").expect("our own file");
        let mount = format!("type=bind,source={},target=/data,readonly", source.display());
        hako.sh(&["--mount", &mount], "cat /data/f; touch /data/x || echo refused")
            .prints("boundrefused");
    }),
    Case::new("run-mount-missing-source", RUN, "--mount does not make a missing source", || {
        let hako = Hako::with_busybox();
        let output = hako.sh(&["--mount", "type=bind,src=/no/such/source,dst=/data"], "true");
        output.exits(125).complains("bind source path does not exist: /no/such/source");
    }),
    Case::new("run-mount-tmpfs", RUN, "--mount type=tmpfs with size and mode", || {
        let mount = "type=tmpfs,destination=/cache,tmpfs-size=1048576,tmpfs-mode=0700";
        prints(
            &["--mount", mount],
            "stat -c %a /cache; df -k /cache | awk 'END{print $2}'",
            "700\n1024",
        );
    }),
    Case::new("run-tmpfs", RUN, "--tmpfs with options, nosuid, nodev, noexec by default", || {
        let hako = Hako::with_busybox();
        let script = "touch /cache/x; grep ' /cache ' /proc/mounts";
        let output = hako.sh(&["--tmpfs", "/cache:size=64k,mode=1770"], script);
        for word in ["tmpfs", "size=64k", "nosuid", "nodev", "noexec", "mode=1770"] {
            output.says(word);
        }
    }),
    Case::new(
        "run-read-only",
        RUN,
        "--read-only: the root cannot be written, /dev/shm can",
        || {
            let script = "touch /x || echo refused; touch /dev/shm/x && echo written";
            prints(&["--read-only"], script, "refused\nwritten");
        },
    ),
    Case::new("run-cap-default", RUN, "the capabilities are Docker's default set", || {
        prints(&[], CAPS, &format!("{DEFAULT_CAPS}\n{DEFAULT_CAPS}"));
    }),
    Case::new("run-cap-drop", RUN, "--cap-drop, with and without CAP_", || {
        // CHOWN is bit 0, KILL is bit 5.
        prints(
            &["--cap-drop", "CHOWN", "--cap-drop", "cap_kill"],
            CAPS,
            "00000000a80425da\n00000000a80425da",
        );
    }),
    Case::new("run-cap-drop-all", RUN, "--cap-drop ALL leaves none", || {
        prints(&["--cap-drop", "ALL"], CAPS, "0000000000000000\n0000000000000000");
    }),
    Case::new("run-cap-add", RUN, "--cap-add adds one", || {
        // SYS_TIME is bit 25.
        prints(&["--cap-add", "SYS_TIME"], CAPS, "00000000aa0425fb\n00000000aa0425fb");
    }),
    Case::new("run-cap-unknown", RUN, "an unknown capability is an error", || {
        Hako::with_busybox().sh(&["--cap-add", "FLY"], "true").exits(125).complains("FLY");
    }),
    Case::new("run-cap-of-a-user", RUN, "another user has no capability", || {
        prints(&["-u", "app"], "awk '/CapEff/{print $2}' /proc/self/status", "0000000000000000");
    }),
    Case::new(
        "run-privileged",
        RUN,
        "--privileged: every capability that we have, devices, no masks, no filter",
        || {
            let own = fs::read_to_string("/proc/self/status").expect("it is always there");
            let own = own
                .lines()
                .find_map(|line| line.strip_prefix("CapBnd:\t"))
                .expect("the kernel has it");
            let script = "awk '/CapBnd/{print $2}/Seccomp:/{print $2}' /proc/self/status; \
                      [ -e /dev/kmsg ] && echo devices; mount -t tmpfs t /tmp && echo mounted; grep ' /proc/sys ' /proc/mounts";
            Hako::with_busybox()
                .sh(&["--privileged"], &format!("{script}; true"))
                .prints(&format!("{own}\n0\ndevices\nmounted"));
        },
    ),
    Case::new(
        "run-seccomp-default",
        RUN,
        "a filter is there by default, and refuses what Docker's does",
        || {
            let script =
                "awk '/Seccomp:/{print $2}' /proc/self/status; unshare -U true || echo refused";
            Hako::with_busybox().sh(&[], script).says("2\nrefused");
        },
    ),
    Case::new("run-seccomp-unconfined", RUN, "seccomp=unconfined leaves it out", || {
        let script = "awk '/Seccomp:/{print $2}' /proc/self/status";
        prints(&["--security-opt", "seccomp=unconfined"], script, "0");
    }),
    Case::new("run-seccomp-file", RUN, "seccomp=FILE takes a profile", || {
        let hako = Hako::with_busybox();
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
        let option =
            format!("seccomp={}", hako.place().write("p.json", profile.to_string()).display());
        hako.sh(&["--security-opt", &option], "mkdir /x || echo refused")
            .says("refused")
            .complains("not permitted");
    }),
    Case::new("run-seccomp-file-missing", RUN, "a missing or broken profile is an error", || {
        let hako = Hako::with_busybox();
        hako.sh(&["--security-opt", "seccomp=/no/such/file"], "true")
            .exits(125)
            .complains("/no/such/file");
        let option = format!("seccomp={}", hako.place().write("p.json", "{]").display());
        hako.sh(&["--security-opt", &option], "true").exits(125);
    }),
    Case::new("run-no-new-privileges", RUN, "no-new-privileges", || {
        let script = "awk '/NoNewPrivs/{print $2}' /proc/self/status";
        prints(&["--security-opt", "no-new-privileges"], script, "1");
        prints(&["--security-opt", "no-new-privileges:true"], script, "1");
        prints(&[], script, "0");
    }),
    Case::new("run-security-opt-unknown", RUN, "an unknown --security-opt is an error", || {
        Hako::with_busybox()
            .sh(&["--security-opt", "nonsense=1"], "true")
            .exits(125)
            .complains("nonsense");
    }),
    Case::new("run-memory", RUN, "--memory limits memory, and swap to twice of it", || {
        let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        prints(&["--memory", "64m"], script, "67108864");
        prints(&["-m", "6291456b"], script, "6291456");
    }),
    Case::new(
        "run-memory-holds",
        RUN,
        "a program above the limit is killed, and inspect says OOMKilled",
        || {
            let hako = Hako::with_busybox();
            let words =
                ["run", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "busybox:test"];
            let words: Vec<&str> =
                words.iter().copied().chain(["tail", "-c", "200000000", "/dev/zero"]).collect();
            hako.call(&words).exits(137);
            assert_eq!(hako.inspect("eater")["State"]["OOMKilled"], true);
        },
    ),
    Case::new("run-memory-too-small", RUN, "less than 6 MB is refused, as by Docker", || {
        Hako::with_busybox().sh(&["-m", "1m"], "true").exits(125).complains("minimum memory limit");
    }),
    Case::new("run-memory-wrong", RUN, "what is no size is an error", || {
        Hako::with_busybox().sh(&["-m", "lots"], "true").exits(125).complains("invalid");
    }),
    Case::new("run-cpus", RUN, "--cpus is a quota of the period", || {
        let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || \
                      tr ' ' '\\n' </sys/fs/cgroup/cpu.max";
        prints(&["--cpus", "0.5"], script, "50000\n100000");
    }),
    Case::new("run-cpu-shares", RUN, "--cpu-shares", || {
        let output = Hako::with_busybox().sh(
            &["--cpu-shares", "512"],
            "cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || cat /sys/fs/cgroup/cpu.weight",
        );
        assert!(["512", "20", "59"].contains(&output.ok().trim()), "{output}");
    }),
    Case::new("run-cpuset-cpus", RUN, "--cpuset-cpus", || {
        prints(&["--cpuset-cpus", "0"], "nproc", "1");
    }),
    Case::new("run-pids-limit", RUN, "--pids-limit", || {
        let script = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
        prints(&["--pids-limit", "77"], script, "77");
    }),
    Case::new("run-ulimit", RUN, "--ulimit, soft and hard", || {
        prints(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn", "100\n200");
        prints(&["--ulimit", "core=0"], "ulimit -c", "0");
    }),
    Case::new("run-ulimit-too-high", RUN, "a limit above the machine's is explained", || {
        // Root may raise it, unless it lacks CAP_SYS_RESOURCE.
        let status = fs::read_to_string("/proc/self/status").expect("it is always there");
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or("0");
        if u64::from_str_radix(mask, 16).unwrap_or(0) & (1 << 24) != 0 {
            skip!("this root has CAP_SYS_RESOURCE");
        }
        let output = Hako::with_busybox().sh(&["--ulimit", "nofile=1048576:1048576"], "ulimit -n");
        output.complains("nofile");
    }),
    Case::new("run-sysctl", RUN, "--sysctl sets those of the container's namespaces", || {
        prints(&["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward", "1");
        prints(&["--sysctl", "kernel.msgmax=9999"], "cat /proc/sys/kernel/msgmax", "9999");
    }),
    Case::new("run-sysctl-refused", RUN, "and refuses the host's", || {
        Hako::with_busybox()
            .sh(&["--sysctl", "kernel.panic=7"], "true")
            .exits(125)
            .complains("kernel.panic");
    }),
    Case::new(
        "run-device",
        RUN,
        "--device gives one, under another name, with permissions",
        || {
            let hako = Hako::with_busybox();
            hako.sh(
                &["--device", "/dev/zero:/dev/nothing:r"],
                "stat -c %t:%T /dev/nothing; head -c 2 /dev/nothing | wc -c",
            )
            .prints("1:5\n2");
        },
    ),
    Case::new("run-device-missing", RUN, "a missing device is an error that names it", || {
        Hako::with_busybox()
            .sh(&["--device", "/dev/nosuchdevice"], "true")
            .exits(125)
            .complains("/dev/nosuchdevice");
    }),
    Case::new("run-init", RUN, "--init: process 1 reaps, and hands signals on", || {
        let hako = Hako::with_busybox();
        // The orphan of a dead parent becomes a zombie only where nobody reaps it.
        let script = "echo $$; (sh -c 'sleep 0.1 &' &) ; sleep 0.5; ps -o stat | grep -c Z";
        let output = hako.sh(&["--init"], script);
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(
            lines.first().is_some_and(|pid| *pid != "1") && lines.get(1) == Some(&"0"),
            "{output}"
        );
    }),
    Case::new("run-init-exit-code", RUN, "--init keeps the exit code", || {
        Hako::with_busybox().sh(&["--init"], "exit 9").exits(9);
    }),
    Case::new("run-network-none", RUN, "--network none has loopback only, and it works", || {
        let script = "ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo pong";
        prints(&["--network", "none"], script, "lo\npong");
    }),
    Case::new("run-network-host", RUN, "--network host is the caller's", || {
        let own = fs::read_link("/proc/self/ns/net").expect("it is always there");
        prints(&["--network", "host"], "readlink /proc/self/ns/net", &own.to_string_lossy());
    }),
    Case::new(
        "run-host-namespaces",
        RUN,
        "--pid, --ipc, --uts, --cgroupns host are the caller's",
        || {
            let hako = Hako::with_busybox();
            for (flag, file) in
                [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
            {
                let own =
                    fs::read_link(format!("/proc/self/ns/{file}")).expect("it is always there");
                let link = format!("/proc/self/ns/{file}");
                hako.run(&[flag, "host"], &["readlink", &link]).prints(&own.to_string_lossy());
                // Docker's default on v1 is the host's cgroup namespace.
                if file == "cgroup" && Path::new("/sys/fs/cgroup/memory").exists() {
                    continue;
                }
                let private = hako.run(&[], &["readlink", &link]);
                assert_ne!(private.ok().trim(), own.to_string_lossy(), "{file} by default");
            }
        },
    ),
    Case::new("run-join-container", RUN, "--network and --pid container:NAME join another", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--name", "first"], &["sleep", "1000"]);
        for (flag, file) in [("--network", "net"), ("--pid", "pid")] {
            let link = format!("/proc/self/ns/{file}");
            let first = hako.call(&["exec", "first", "readlink", &link]);
            hako.run(&[flag, "container:first"], &["readlink", &link]).prints(first.ok());
        }
    }),
    Case::new("run-group-add", RUN, "--group-add by name and number", || {
        let hako = Hako::with_busybox();
        let output =
            hako.sh(&["-u", "1000", "--group-add", "audio", "--group-add", "777"], "id -G");
        let groups: Vec<&str> = output.ok().split_whitespace().collect();
        assert!(groups.contains(&"29") && groups.contains(&"777"), "{output}");
    }),
    Case::new("run-shm-size", RUN, "--shm-size, 64 MB by default", || {
        let script = "df -k /dev/shm | awk 'END{print $2}'";
        prints(&["--shm-size", "1m"], script, "1024");
        prints(&[], script, "65536");
    }),
    Case::new("run-stop-signal", RUN, "--stop-signal is what stop sends", || {
        let hako = Hako::with_busybox();
        let script = "trap 'echo got usr1; exit 4' USR1; while :; do sleep 0.05; done";
        hako.detached(&["--name", "box", "--stop-signal", "USR1"], &["sh", "-c", script]);
        hako.call(&["stop", "box"]).prints("box");
        hako.call(&["logs", "box"]).prints("got usr1");
        assert_eq!(hako.inspect("box")["State"]["ExitCode"], 4);
    }),
    Case::new(
        "run-stop-timeout",
        RUN,
        "--stop-timeout is how long stop waits before it kills",
        || {
            let hako = Hako::with_busybox();
            let script = "trap '' TERM; while :; do sleep 0.05; done";
            hako.detached(&["--name", "box", "--stop-timeout", "1"], &["sh", "-c", script]);
            hako.call(&["stop", "box"]).ok();
            assert_eq!(hako.inspect("box")["State"]["ExitCode"], 137);
        },
    ),
    Case::new("run-labels", RUN, "-l and --label are in inspect, and ps filters by them", || {
        let hako = Hako::with_busybox();
        hako.detached(&["-l", "a=1", "--label", "b", "--name", "labelled"], &["sleep", "1000"]);
        hako.detached(&["--name", "other"], &["sleep", "1000"]);
        let labels = hako.inspect("labelled")["Config"]["Labels"].clone();
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), (Some("1"), Some("")));
        hako.call(&["ps", "--filter", "label=a=1", "--format", "{{.Names}}"]).prints("labelled");
    }),
    Case::new("run-annotation", RUN, "--annotation is in inspect", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--annotation", "org.example=x", "--name", "box"], &["sleep", "1000"]);
        assert_eq!(hako.inspect("box")["HostConfig"]["Annotations"]["org.example"], "x");
    }),
    Case::new("run-cidfile", RUN, "--cidfile has the ID, and must not be there before", || {
        let hako = Hako::with_busybox();
        let file = hako.place().join("cid");
        let path = file.to_string_lossy().into_owned();
        let id = hako.detached(&["--cidfile", &path], &["sleep", "1000"]);
        assert_eq!(fs::read_to_string(&file).expect("it was written"), id);
        hako.sh(&["--cidfile", &path], "true").exits(125).complains("file found");
    }),
    Case::new("run-pull-never", RUN, "--pull never does not look elsewhere", || {
        let hako = Hako::new();
        hako.call(&["run", "--pull", "never", "--rm", "nosuch:1", "true"])
            .exits(125)
            .complains("nosuch:1");
    }),
    Case::new("run-userns-host", RUN, "--userns host is the caller's", || {
        let own = fs::read_link("/proc/self/ns/user").expect("it is always there");
        prints(&["--userns", "host"], "readlink /proc/self/ns/user", &own.to_string_lossy());
    }),
    Case::new(
        "run-isolation",
        "issue: the tour",
        "ps, mounts, devices and processes are the container's own",
        || {
            let hako = Hako::with_busybox();
            hako.sh(&[], "ps -o pid= | head -n 1 | tr -d ' '").prints("1");
            let mounts = hako.sh(&[], "cut -d' ' -f2 /proc/mounts");
            assert!(mounts.ok().lines().next() == Some("/"), "{mounts}");
            let place = hako.place().path().to_string_lossy().into_owned();
            // Only the overlay's own options may name a path of the host.
            let points = mounts.ok().lines().filter(|line| line.contains(&place));
            assert_eq!(points.count(), 0, "{mounts}");
            hako.sh(
                &[],
                "cat /proc/kcore | head -c 1 | wc -c; echo x >/proc/sysrq-trigger || echo refused",
            )
            .says("0\nrefused");
        },
    ),
    Case::new(
        "run-joins-containers",
        "docker run(1) --ipc, --network, --pid",
        "container:NAME shares the namespace, and with it /dev/shm, or host name and /etc/hosts",
        || {
            let hako = Hako::with_busybox();
            let script = "echo shared >/dev/shm/note; exec sleep 1000";
            let id = hako.detached(
                &["--name", "donor", "--ipc", "shareable", "--add-host", "db:10.1.2.3"],
                &["sh", "-c", script],
            );
            command::wait_until("it wrote", || {
                hako.call(&["exec", "donor", "cat", "/dev/shm/note"]).code == 0
            });
            let theirs = |kind: &str| {
                let path = format!("/proc/1/ns/{kind}");
                hako.call(&["exec", "donor", "readlink", &path]).ok().to_owned()
            };
            for (flag, kind) in [("--ipc", "ipc"), ("--network", "net"), ("--pid", "pid")] {
                let path = format!("/proc/self/ns/{kind}");
                hako.run(&[flag, "container:donor"], &["readlink", &path]).prints(&theirs(kind));
                // By ID, whatever its name is meanwhile.
                hako.call(&[
                    "create",
                    "--name",
                    "box",
                    flag,
                    &format!("container:{}", &id[..12]),
                    "busybox:test",
                ])
                .ok();
                let mode = match kind {
                    "ipc" => "IpcMode",
                    "net" => "NetworkMode",
                    _ => "PidMode",
                };
                assert_eq!(hako.inspect("box")["HostConfig"][mode], format!("container:{id}"));
                hako.call(&["rm", "box"]).ok();
            }
            let note = "cat /dev/shm/note; echo reply >/dev/shm/reply; mount | grep -c /dev/shm";
            hako.sh(&["--ipc", "container:donor"], note).prints("shared\n1");
            hako.call(&["exec", "donor", "cat", "/dev/shm/reply"]).prints("reply");
            let names =
                hako.sh(&["--network", "container:donor"], "hostname; grep -c db /etc/hosts");
            names.prints(&format!("{}\n1", &id[..12]));

            hako.detached(&["--name", "selfish"], &["sleep", "1000"]);
            let refused = |flag: &str, name: &str| hako.run(&[flag, name], &["true"]);
            refused("--ipc", "container:selfish").exits(125).complains("non-shareable IPC");
            for flag in ["--ipc", "--network", "--pid"] {
                refused(flag, "container:nobody").exits(125).complains("No such container: nobody");
                hako.call(&["create", flag, "container:nobody", "busybox:test"])
                    .fails()
                    .complains("nobody");
            }
            hako.call(&["stop", "-t", "0", "donor"]).ok();
            for flag in ["--ipc", "--network", "--pid"] {
                refused(flag, "container:donor").exits(125).complains("is not running");
            }
        },
    ),
    Case::new(
        "run-userns",
        "docker run(1) --userns",
        "host, and nothing that would be ignored",
        || {
            let hako = Hako::with_busybox();
            let host = std::fs::read_link("/proc/self/ns/user").expect("a namespace");
            let link = ["readlink", "/proc/self/ns/user"];
            hako.run(&["--userns", "host"], &link).prints(&host.to_string_lossy());
            hako.call(&["create", "--name", "box", "--userns=host", "busybox:test"]).ok();
            assert_eq!(hako.inspect("box")["HostConfig"]["UsernsMode"], "host");
            for mode in ["auto", "keep-id", "nomap", "keep-id:uid=200,gid=210"] {
                let text = format!("--userns={mode}: user namespaces are not supported yet");
                hako.run(&["--userns", mode], &["true"]).exits(125).complains(&text);
            }
        },
    ),
];
