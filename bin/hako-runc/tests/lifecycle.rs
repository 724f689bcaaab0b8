//! The binary on real namespaces: the life of a container, seen from inside and outside.
//!
//! Needs root and a static busybox; skipped otherwise. Every test makes its own bundle and state
//! directory, and leaves nothing.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A bundle with a busybox in it, and a state directory.
struct Bundle {
    dir: PathBuf,
    id: String,
    config: Value,
}

/// Programs of busybox that tests use.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "grep", "hostname", "id", "ls", "mkdir", "mount", "ps",
    "pwd", "readlink", "sleep", "stat", "touch", "true", "tty", "umask", "uname", "wc",
];

impl Bundle {
    fn new(name: &str) -> Option<Bundle> {
        if hako_sys::cred::effective_uid() != 0 {
            eprintln!("SKIP {name}: needs root");
            return None;
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
        let Some(busybox) = busybox else {
            eprintln!("SKIP {name}: needs a static busybox");
            return None;
        };
        let id = format!("hako-test-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        for sub in
            ["rootfs/bin", "rootfs/etc", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp"]
        {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        std::fs::copy(busybox, dir.join("rootfs/bin/busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", dir.join("rootfs/bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:7:7::/trap:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        std::fs::write(dir.join("rootfs/etc/passwd"), passwd).unwrap();
        let mut config = hako_runtime::template(None, true);
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        Some(Bundle { dir, id, config })
    }

    fn shell(mut self, script: &str) -> Bundle {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    /// Sets a value; missing objects on the way are made.
    fn set(mut self, pointer: &str, value: Value) -> Bundle {
        let mut place = &mut self.config;
        for name in pointer.split('/').skip(1) {
            if place.is_array() {
                let list = place.as_array_mut().unwrap();
                if name == "-" {
                    list.push(Value::Null);
                }
                let index = name.parse().unwrap_or(list.len() - 1);
                place = &mut list[index];
            } else {
                place = &mut place[name];
            }
        }
        *place = value;
        self
    }

    fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn command(&self, verb: &str) -> Command {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hako-runc"));
        command.arg("--root").arg(self.state_root()).arg(verb).stdin(Stdio::null());
        if matches!(verb, "create" | "run") {
            command.arg("--bundle").arg(&self.dir);
        }
        command
    }

    fn call(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(verb);
        // exec's own command stands after the ID, kill's signal too.
        let (flags, rest): (Vec<&str>, Vec<&str>) =
            arguments.iter().partition(|a| a.starts_with("--"));
        command.args(flags).arg(&self.id).args(rest);
        if verb != "create" {
            return command.output().unwrap();
        }
        // The created process keeps these: pipes would not end before it.
        let path = self.dir.join("create.err");
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&path).unwrap());
        let status = command.status().unwrap();
        Output { status, stdout: Vec::new(), stderr: std::fs::read(&path).unwrap() }
    }

    /// Runs to the end; standard output.
    fn run(&self) -> String {
        let output = self.call("run", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, which fails; standard error.
    fn run_fails(&self) -> String {
        let output = self.call("run", &[]);
        assert!(!output.status.success());
        self.assert_nothing_left();
        String::from_utf8(output.stderr).unwrap()
    }

    fn ok(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.call(verb, arguments);
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.ok("state", &[])).unwrap()
    }

    fn wait_for(&self, status: &str) {
        let start = Instant::now();
        while self.state()["status"] != status {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{} never came to be {status}",
                self.id
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Detached, its output to a file that can be waited for.
    fn start(&self) {
        let mut command = self.command("run");
        let status = command
            .arg("--detach")
            .arg(&self.id)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn assert_nothing_left(&self) {
        let state = self.state_root();
        if state.exists() {
            assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "state is left");
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(
                !hierarchy.path().join(&self.id).exists(),
                "cgroup is left in {:?}",
                hierarchy.path()
            );
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.id), "a mount is left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call("delete", &["--force"]);
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

macro_rules! bundle {
    ($name:literal) => {
        match Bundle::new($name) {
            Some(bundle) => bundle,
            None => return,
        }
    };
}

#[test]
fn runs_and_leaves_nothing() {
    let b = bundle!("run").shell("echo $$; hostname; pwd; echo $HOME");
    assert_eq!(b.run(), "1\nhako\n/\n/root\n");
    b.assert_nothing_left();
}

#[test]
fn exit_status_is_the_programs() {
    let b = bundle!("status").shell("exit 7");
    assert_eq!(b.call("run", &[]).status.code(), Some(7));
    b.assert_nothing_left();
}

#[test]
fn a_fast_program_is_never_missed() {
    // youki hangs here when SIGCHLD comes before it looks (it does in one of ten runs).
    let b = bundle!("fast").set("/process/args", json!(["true"]));
    for _ in 0..30 {
        assert_eq!(b.run(), "");
    }
}

#[test]
fn what_cannot_be_executed_is_said_in_runcs_words() {
    for (args, words) in [
        (json!(["nosuch"]), "exec: \\\"nosuch\\\": executable file not found in $PATH"),
        (json!(["/no/such"]), "exec: \\\"/no/such\\\": stat /no/such: no such file or directory"),
        (json!(["/etc/passwd"]), "exec: \\\"/etc/passwd\\\": permission denied"),
        (json!(["/etc"]), "is a directory"),
    ] {
        let b = bundle!("noexec").set("/process/args", args);
        let error = b.run_fails();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn create_start_kill_delete() {
    let b = bundle!("life").shell("sleep 1000");
    let pid_file = b.dir.join("pid");
    b.ok("create", &[&format!("--pid-file={}", pid_file.display())]);
    let state = b.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
    assert!(!b.call("create", &[]).status.success(), "an ID is taken");

    b.ok("start", &[]);
    assert_eq!(b.state()["status"], "running");
    let again = String::from_utf8(b.call("start", &[]).stderr).unwrap();
    assert!(again.contains("cannot start an already running container"), "{again}");
    assert!(!b.call("delete", &[]).status.success(), "it runs");

    b.ok("kill", &["KILL"]);
    b.wait_for("stopped");
    let dead = String::from_utf8(b.call("kill", &["TERM"]).stderr).unwrap();
    assert!(dead.contains("container not running"), "{dead}");
    b.ok("delete", &[]);
    assert!(String::from_utf8(b.call("state", &[]).stderr).unwrap().contains("does not exist"));
    b.assert_nothing_left();
}

#[test]
fn a_program_that_vanishes_before_the_start_is_reported_by_start() {
    let b = bundle!("vanish").set("/process/args", json!(["/bin/gone"]));
    std::fs::copy(b.dir.join("rootfs/bin/busybox"), b.dir.join("rootfs/bin/gone")).unwrap();
    b.ok("create", &[]);
    std::fs::remove_file(b.dir.join("rootfs/bin/gone")).unwrap();
    let error = String::from_utf8(b.call("start", &[]).stderr).unwrap();
    assert!(error.contains("no such file or directory"), "{error}");
    b.wait_for("stopped");
    b.ok("delete", &[]);
    b.assert_nothing_left();
}

#[test]
fn signals_to_run_reach_the_program() {
    let b =
        bundle!("forward").shell("trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done");
    let mut child = b.command("run").arg(&b.id).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pidfd = hako_sys::process::pidfd_open(child.id() as i32).unwrap();
    hako_sys::process::pidfd_send_signal(pidfd.as_fd(), 15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
    b.assert_nothing_left();
}

#[test]
fn exec_joins_everything() {
    let b = bundle!("exec").shell("sleep 1000");
    b.start();
    let inside = b.ok(
        "exec",
        &["sh", "-c", "readlink /proc/1/ns/pid; readlink /proc/self/ns/pid; hostname; echo $$"],
    );
    let lines: Vec<&str> = inside.lines().collect();
    assert_eq!((lines[0], lines[2]), (lines[1], "hako"), "{inside}");
    assert_ne!(lines[3], "1");
    assert_eq!(b.call("exec", &["sh", "-c", "exit 5"]).status.code(), Some(5));

    let caps = b.ok(
        "exec",
        &["--user=1000:1000", "sh", "-c", "id -u; echo $HOME; grep CapInh /proc/self/status"],
    );
    assert_eq!(caps, "1000\n/home/user\nCapInh:\t0000000000000000\n");
    for bad in ["root", "-1", "4294967295", "4294967296", "1:2:3", "", "+1"] {
        assert!(!b.call("exec", &[&format!("--user={bad}"), "id"]).status.success(), "{bad:?}");
    }
    let missing = b.call("exec", &["nosuch"]);
    assert_eq!(missing.status.code(), Some(255));
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("executable file not found in $PATH")
    );
}

#[test]
fn a_paused_container_takes_no_exec_but_dies() {
    let b = bundle!("pause").shell("sleep 1000");
    b.start();
    b.ok("pause", &[]);
    assert_eq!(b.state()["status"], "paused");
    assert!(!b.call("exec", &["true"]).status.success());
    b.ok("resume", &[]);
    assert_eq!(b.state()["status"], "running");
    b.ok("pause", &[]);
    b.ok("delete", &["--force"]);
    b.assert_nothing_left();
}

#[test]
fn paths_are_masked_and_read_only() {
    let b = bundle!("paths")
        .set("/linux/maskedPaths", json!(["/etc", "/tmp/secret", "/no/such"]))
        .set("/linux/readonlyPaths", json!(["/tmp"]))
        .shell(
            "ls /etc | wc -l; cat /tmp/secret | wc -c; touch /tmp/x 2>&1; touch /etc/x 2>&1; true",
        );
    std::fs::write(b.dir.join("rootfs/tmp/secret"), "secret").unwrap();
    let out = b.run();
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
}

#[test]
fn mounts_never_leave_the_root() {
    // Symbolic links in the image lead out of it, as seen from the host.
    let b = bundle!("escape")
        .set("/mounts/-", json!({"destination": "/evil/new/dir", "type": "tmpfs", "source": "t"}))
        .set("/mounts/-", json!({"destination": "/abs/deep", "type": "tmpfs", "source": "t"}))
        .shell("mount | grep ' /tmp/inside/new/dir \\| /tmp/target/deep ' | wc -l");
    std::os::unix::fs::symlink("../../../../../../../../tmp/inside", b.dir.join("rootfs/evil"))
        .unwrap();
    std::fs::create_dir(b.dir.join("rootfs/tmp/inside")).unwrap();
    std::fs::create_dir(b.dir.join("rootfs/tmp/target")).unwrap();
    std::os::unix::fs::symlink("/tmp/target", b.dir.join("rootfs/abs")).unwrap();
    assert_eq!(b.run(), "2\n");
    assert!(!Path::new("/tmp/inside").exists() && !Path::new("/tmp/target").exists());
}

#[test]
fn proc_and_sys_must_be_real_directories() {
    for name in ["proc", "sys"] {
        let b = bundle!("realdir");
        std::fs::remove_dir(b.dir.join("rootfs").join(name)).unwrap();
        std::os::unix::fs::symlink("/tmp", b.dir.join("rootfs").join(name)).unwrap();
        let error = b.run_fails();
        assert!(error.contains("symbolic link"), "{error}");
    }
}

#[test]
fn a_working_directory_outside_is_refused() {
    // CVE-2024-21626: a descriptor of a host directory that leaked in.
    let b = bundle!("cwd");
    for fd in 3..12 {
        let b = Bundle { config: b.config.clone(), dir: b.dir.clone(), id: b.id.clone() }
            .set("/process/cwd", json!(format!("/proc/self/fd/{fd}")))
            .set("/process/args", json!(["pwd"]));
        let output = b.call("run", &[]);
        assert!(
            !output.status.success(),
            "descriptor {fd}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        std::mem::forget(b);
    }
}

#[test]
fn no_descriptor_comes_along() {
    let b = bundle!("fds").shell("ls /proc/self/fd | wc -l");
    // 0, 1, 2 and the one that ls reads the directory by.
    assert_eq!(b.run(), "4\n");
}

#[test]
fn users_groups_capabilities_and_limits() {
    let b = bundle!("user")
        .set("/process/user", json!({"uid": 1000, "gid": 100, "umask": 0o77, "additionalGids": [5, 6]}))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]))
        .set("/process/oomScoreAdj", json!(123))
        .shell("id; umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; grep -E 'CapEff|CapInh|CapAmb|NoNewPrivs' /proc/self/status");
    assert_eq!(
        b.run(),
        "uid=1000(user) gid=100 groups=5,6\n0077\n77\n78\n123\nCapInh:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let b = bundle!("hooks");
    let log = b.dir.join("hooks.log");
    let hook = |kind: &str| {
        let script = format!("read s; echo {kind} \"$s\" >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let mut hooks: serde_json::Map<String, Value> =
        kinds.iter().map(|k| ((*k).to_owned(), hook(k))).collect();
    hooks.insert(
        "startContainer".into(),
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "read s; echo \"$s\" > /hook"]}]),
    );
    let b = b.set("/hooks", Value::Object(hooks)).shell("cat /hook");
    let start: Value = serde_json::from_str(&b.run()).unwrap();
    assert_eq!((&start["status"], &start["id"]), (&json!("created"), &json!(b.id)));
    let log = std::fs::read_to_string(&log).unwrap();
    let seen: Vec<(&str, Value)> = log
        .lines()
        .map(|l| l.split_once(' ').unwrap())
        .map(|(k, s)| (k, serde_json::from_str(s).unwrap()))
        .collect();
    let statuses = ["creating", "creating", "creating", "running", "stopped"];
    for ((kind, status), (seen_kind, state)) in kinds.iter().zip(statuses).zip(&seen) {
        assert_eq!((*seen_kind, &state["status"]), (*kind, &json!(status)));
        assert_eq!(state["bundle"], json!(b.dir));
    }
    assert_eq!(seen.len(), kinds.len());
    b.assert_nothing_left();
}

#[test]
fn a_failing_hook_undoes_everything() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]);
        let b = bundle!("hookfail").set(&format!("/hooks/{kind}"), hook);
        let error = b.run_fails();
        assert!(error.contains(kind) && error.contains("why"), "{error}");
    }
}

#[test]
fn hooks_have_a_time_limit() {
    let hook = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    let b = bundle!("hooktime").set("/hooks/createRuntime", hook);
    let error = b.run_fails();
    assert!(error.contains("timed out"), "{error}");
}

#[test]
fn seccomp_is_in_force() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]});
    for no_new_privileges in [true, false] {
        let b = bundle!("seccomp")
            .set("/process/noNewPrivileges", json!(no_new_privileges))
            .set("/linux/seccomp", profile.clone())
            .shell("sleep 100 & kill %1 2>&1");
        let out = b.call("run", &[]);
        assert!(
            String::from_utf8_lossy(&out.stdout).contains("Operation not permitted"),
            "{out:?}"
        );
    }
}

#[test]
fn a_user_namespace_maps_root() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let b = bundle!("userns")
        .set("/linux/namespaces/-", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .shell("id -u; cat /proc/self/uid_map; echo x > /dev/null && echo null works; umount /proc/bus 2>&1; true");
    let out = b.run();
    assert!(
        out.starts_with("0\n") && out.contains("100000") && out.contains("null works"),
        "{out}"
    );
}

#[test]
fn time_offsets_and_sysctls() {
    let b = bundle!("time")
        .set("/linux/namespaces/-", json!({"type": "time"}))
        .set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        .shell("cat /proc/uptime /proc/sys/net/ipv4/ip_forward");
    let out = b.run();
    let uptime: f64 = out.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0 && out.ends_with("1\n"), "{out}");
}

#[test]
fn tmpcopyup_brings_the_content() {
    let b = bundle!("copyup")
        .set("/mounts/-", json!({"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "ro"]}))
        .shell("cat /data/sub/file; readlink /data/link; stat -c %a /data/sub/file; touch /data/x 2>&1; true");
    let data = b.dir.join("rootfs/data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("sub/file"), "content\n").unwrap();
    std::fs::set_permissions(
        data.join("sub/file"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    std::os::unix::fs::symlink("sub/file", data.join("link")).unwrap();
    let out = b.run();
    assert!(out.starts_with("content\nsub/file\n640\n") && out.contains("Read-only"), "{out}");
}

#[test]
fn binds_of_files_and_recursive_attributes() {
    let b = bundle!("bind");
    let source = b.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "bound\n").unwrap();
    let b = b
        .set("/mounts/-", json!({"destination": "/a/b/file", "source": source.join("f"), "options": ["bind", "ro"]}))
        .set("/mounts/-", json!({"destination": "/dir", "source": "source", "options": ["rbind", "rro", "rnoexec"]}))
        .shell("cat /a/b/file /dir/f; touch /dir/x 2>&1; mount | grep ' /dir '");
    let out = b.run();
    assert!(out.starts_with("bound\nbound\n") && out.contains("Read-only"), "{out}");
    assert!(out.contains("ro,") && out.contains("noexec"), "{out}");
}

#[test]
fn id_mapped_mounts_show_mapped_owners() {
    let b = bundle!("idmap");
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let mount = json!({"destination": "/m", "source": b.dir.join("rootfs"), "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map});
    let b = b.set("/mounts/-", mount).shell("stat -c %u:%g /m/etc/passwd");
    let output = b.call("run", &[]);
    if String::from_utf8_lossy(&output.stderr).contains("mount_setattr(IDMAP)") {
        eprintln!("SKIP idmap: the file system has none");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5000:5000\n");
}

#[test]
fn a_terminal_is_sent_to_the_console_socket() {
    let b = bundle!("tty")
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 77}))
        .shell("tty; stat -c %F /dev/console; read x; echo got $x");
    let path = b.dir.join("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    b.ok("create", &[&format!("--console-socket={}", path.display())]);
    let (socket, _) = listener.accept().unwrap();
    let (_, mut fds) = hako_sys::unix::receive_with_fds(socket.as_fd(), &mut [0; 64]).unwrap();
    let master = fds.pop().unwrap();
    let size = hako_sys::tty::window_size(master.as_fd()).unwrap();
    assert_eq!((size.rows, size.columns), (33, 77));
    b.ok("start", &[]);
    let mut master = std::fs::File::from(master);
    master.write_all(b"hello\n").unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains("got hello") {
        // EIO is the end of a pty.
        let n = master.read(&mut buffer).unwrap_or(0);
        assert!(n > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(seen.contains("/dev/pts/0") && seen.contains("character special file"), "{seen}");
    b.wait_for("stopped");
}

#[test]
fn namespaces_are_joined_by_path() {
    let first = bundle!("joined").shell("sleep 1000");
    first.start();
    let pid = first.state()["pid"].as_i64().unwrap();
    let path = |file: &str| format!("/proc/{pid}/ns/{file}");
    let b = bundle!("joins")
        .set(
            "/linux/namespaces",
            json!([
                {"type": "pid", "path": path("pid")}, {"type": "network", "path": path("net")},
                {"type": "ipc", "path": path("ipc")}, {"type": "uts"}, {"type": "mount"}
            ]),
        )
        .shell("for n in net uts; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done");
    let out = b.run();
    let links: Vec<&str> = out.lines().collect();
    assert!(links[0] == links[1] && links[2] != links[3], "{out}");

    let wrong = bundle!("wrongns").set(
        "/linux/namespaces",
        json!([{"type": "network", "path": path("ipc")}, {"type": "mount"}, {"type": "uts"}]),
    );
    let error = wrong.run_fails();
    assert!(error.contains("is no network namespace"), "{error}");
}

#[test]
fn errors_name_the_field_and_the_call() {
    for (pointer, value, words) in [
        (
            "/mounts/-",
            json!({"destination": "/x", "source": "/no/where", "options": ["bind"]}),
            "mounts[7]: open_tree(bind /no/where on /x): no such file",
        ),
        (
            "/mounts/-",
            json!({"destination": "/x", "type": "tmpfs", "options": ["size=what"]}),
            "mounts[7]: fsconfig(",
        ),
        (
            "/mounts/-",
            json!({"destination": "/x", "type": "nofs"}),
            "mounts[7]: fsopen(nofs on /x)",
        ),
        ("/linux/namespaces/-", json!({"type": "pid"}), "linux.namespaces[6].type"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type",
        ),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/root/path", json!("nowhere"), "root.path: open_tree("),
    ] {
        let b = bundle!("errors").set(pointer, value);
        let error = b.run_fails();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_log_is_what_engines_parse() {
    let b = bundle!("log").set("/process/args", json!(["nosuch"]));
    std::fs::write(b.dir.join("config.json"), b.config.to_string()).unwrap();
    let log = b.dir.join("log.json");
    let status = Command::new(env!("CARGO_BIN_EXE_hako-runc"))
        .arg("--root")
        .arg(b.state_root())
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "run", "-b"])
        .arg(&b.dir)
        .arg(&b.id)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let line: Value =
        serde_json::from_str(std::fs::read_to_string(&log).unwrap().lines().next().unwrap())
            .unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("executable file not found"));
}

#[test]
fn the_runtime_runs_sealed() {
    // What waits there to become the container's program runs from what nobody can write: a mount
    // that is in no namespace, or a sealed copy.
    let b = bundle!("sealed").shell("sleep 1000");
    b.ok("create", &[]);
    let pid = b.state()["pid"].as_i64().unwrap();
    let exe = std::fs::File::open(format!("/proc/{pid}/exe")).unwrap();
    let view = hako_sys::mount::view_state(exe.as_fd()).unwrap();
    assert!(
        view == hako_sys::mount::ViewState::Final || hako_sys::memfd::is_sealed(exe.as_fd()),
        "{view:?}"
    );
}

#[test]
fn a_container_in_the_foreground_can_be_deleted_by_others() {
    let b = bundle!("lock").shell("echo ready; sleep 1000");
    let mut child = b.command("run").arg(&b.id).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    b.ok("pause", &[]);
    b.ok("resume", &[]);
    b.ok("delete", &["--force"]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    b.assert_nothing_left();
}

#[test]
fn an_ordinary_user_runs_a_container() {
    let b = bundle!("rootless");
    let uid = 54321;
    let chown =
        Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).arg(&b.dir).status().unwrap();
    assert!(chown.success());
    let mut config = hako_runtime::template(Some((uid, uid)), true);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!([
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; echo $$; echo x > /dev/null && echo ok"
    ]);
    std::fs::write(b.dir.join("config.json"), config.to_string()).unwrap();
    let program = b.dir.join("hako-runc");
    std::fs::copy(env!("CARGO_BIN_EXE_hako-runc"), &program).unwrap();
    let output = Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"])
        .arg(&program)
        .arg("--root")
        .arg(b.state_root())
        .args(["run", "--bundle"])
        .arg(&b.dir)
        .arg(&b.id)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("SKIP rootless: needs setpriv");
        return;
    };
    let out = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(out.starts_with("0\n") && out.ends_with("1\nok\n"), "{out}{error}");
}
