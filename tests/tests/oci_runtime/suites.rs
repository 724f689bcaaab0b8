//! What the suites of runc and crun expect, and others that script the two: where hako-runc did
//! something else once. Each row is a behaviour of theirs, in words of our own.

use std::{fs, os::unix::fs::symlink, process::Command};

use hako_tests::{
    Case, binary,
    bundle::{Bundle, push},
    command::{self, wait_until},
    runtime::Container,
    skip,
};
use serde_json::{Value, json};

use super::{refused, sh, sleeping};

const RUNC: &str = "runc: tests/integration";
const CRUN: &str = "crun: tests";
/// Debian 12's runc: what newer ones do.
const OLD: (&str, &str) = ("runc", "1.1 is older than this");
const OLD_CRUN: (&str, &str) = ("crun", "1.8 is older than this");
const OWN_WORDS: (&str, &str) = ("crun", "has its own words");

/// The container's directory in one hierarchy of v1.
#[track_caller]
fn v1(controller: &str) -> std::path::PathBuf {
    let path = std::path::Path::new("/sys/fs/cgroup").join(controller);
    if !path.join("cgroup.procs").exists() {
        skip!("no cgroup v1 hierarchy {controller}");
    }
    path
}

fn filter(names: &[&str], action: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": names, "action": action}],
    })
}

fn user_namespace(bundle: &mut Bundle, inside: u32, size: u32) {
    bundle.add_namespace("user");
    let map = json!([{"containerID": inside, "hostID": 100_000, "size": size}]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    let mut chown = Command::new(binary::tool("chown"));
    command::run(chown.args(["-R", "-h", "100000:100000"]).arg(bundle.rootfs("."))).ok();
}

/// `run` by way of a shell, whose words come first.
#[track_caller]
fn run_from_shell(container: &Container, before: &str, options: &[&str]) -> command::Output {
    let inner = container.run_command(options);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} \"$@\""), "sh"]);
    command::run(shell.arg(inner.get_program()).args(inner.get_args()))
}

pub(crate) const CASES: &[Case] = &[
    Case::new("help-form", RUNC, "help begins with NAME, also a verb's", || {
        let container = Container::new(Bundle::new());
        container.call(&["--help"]).says("NAME:\n").says("runc - Open Container Initiative runtime");
        for verb in ["checkpoint", "delete", "events", "exec", "kill", "list", "spec", "update"] {
            let help = container.call(&[verb, "-h"]);
            let second = help.ok().lines().nth(1).unwrap_or_default();
            assert!(second.contains(&format!("runc {verb}")), "{help}");
        }
        container.call(&["foo", "-h"]).fails().complains("No help topic for 'foo'");
    })
    .peers_fail(&[OWN_WORDS]),
    Case::new("version-lines", RUNC, "--version says name, commit and specification", || {
        let output = Container::new(Bundle::new()).call(&["--version"]);
        let lines: Vec<&str> = output.ok().lines().collect();
        assert!(lines[0].contains("runc version "), "{output}");
        assert!(lines[1].starts_with("commit: ") && lines[2].starts_with("spec: 1."), "{output}");
    })
    .peers_fail(&[OWN_WORDS]),
    Case::new("debug-log", RUNC, "--debug says how far it is", || {
        let mut bundle = Bundle::new();
        bundle.spec["linux"]["seccomp"] = filter(&["mkdir"], "SCMP_ACT_ERRNO");
        let container = Container::new(bundle);
        let mut command = container.runtime();
        container.bundle.write();
        command.args(["--debug", "run", "--bundle"]).arg(container.bundle.path());
        let output = command::run(command.arg(container.id()));
        output.ok();
        for words in [
            "level=debug",
            "nsexec container setup",
            "child process in init()",
            "init: closing the pipe to signal completion",
            "\"seccomp filter flags: 4\"",
        ] {
            output.complains(words);
        }
    })
    .peers_fail(&[("runc", "1.1 prints no flags of filters"), OWN_WORDS]),
    Case::new("spec-cgroup-namespace", RUNC, "spec has a cgroup namespace where v2 is alone", || {
        let container = Container::new(Bundle::new());
        let to = container.bundle.path();
        container.call(&["spec", "--bundle", &to.to_string_lossy()]).ok();
        let text = fs::read_to_string(to.join("config.json")).expect("it was written");
        let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let spec: Value = serde_json::from_str(&text).expect("JSON");
        let namespaces = spec["linux"]["namespaces"].as_array().expect("a list");
        assert_eq!(namespaces.contains(&json!({"type": "cgroup"})), unified);
    })
    .peers_fail(&[("crun", "always has one")]),
    Case::new("exec-fails-with-255", RUNC, "what is not the program's status is 255", || {
        let container = sleeping(|_| ());
        container.exec(&["--pid-file", "/no/such/directory"], &["true"]).exits(255);
        container.exec(&[], &["no-such-program"]).exits(255);
        container.call(&["exec", "no-such-container", "true"]).exits(255);
    })
    .peers_fail(&[("crun", "it is 1")]),
    Case::new("exec-sub-cgroups", RUNC, "--cgroup: what is wrong is said in runc's words", || {
        let container = sleeping(|bundle| {
            bundle.spec["linux"]["cgroupsPath"] = json!(format!("/hako-test-sub-{}", std::process::id()));
        });
        let exec = |cgroup: &str| container.exec(&["--cgroup", cgroup], &["true"]);
        exec("..").fails().complains("bad sub cgroup path");
        exec("nonexistent").fails().complains(" adding pid ").complains("no such file or directory");
        v1("cpu");
        exec("whaaat:/").fails().complains("unknown controller ");
        exec("cpu:nonexistent").fails().complains(" adding pid ");
        exec("/").ok();
    })
    .peers_fail(&[OLD, OWN_WORDS]),
    Case::new("frozen-cgroup", RUNC, "a cgroup that is frozen already is refused", || {
        let name = format!("hako-test-frozen-{}", std::process::id());
        let unified = std::path::Path::new("/sys/fs/cgroup/unified");
        let (dir, file, value) = match unified.exists() {
            true => (unified.join(&name), "cgroup.freeze", "1"),
            false => (v1("freezer").join(&name), "freezer.state", "FROZEN"),
        };
        fs::create_dir(&dir).expect("our own cgroup");
        fs::write(dir.join(file), value).expect("our own cgroup");
        let mut bundle = Bundle::new();
        bundle.spec["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        let container = Container::new(bundle);
        let mut timed = Command::new(binary::tool("timeout"));
        let run = container.run_command(&[]);
        let output = command::run(timed.args(["-s", "KILL", "20"]).arg(run.get_program()).args(run.get_args()));
        // Thawed first: what hangs in it could not even die.
        fs::write(dir.join(file), if value == "1" { "0" } else { "THAWED" }).expect("our own cgroup");
        wait_until("the cgroup can be removed", || fs::remove_dir(&dir).is_ok() || !dir.exists());
        output.exits(1).complains("container's cgroup unexpectedly frozen");
    })
    .peers_fail(&[("runc", "1.1 looks at v1's freezer only"), ("crun", "waits for ever")]),
    Case::new("cgroup-in-use", RUNC, "a cgroup with processes is refused", || {
        let name = json!(format!("/hako-test-in-use-{}", std::process::id()));
        let _first = sleeping(|bundle| bundle.spec["linux"]["cgroupsPath"] = name.clone());
        refused(|bundle| bundle.spec["linux"]["cgroupsPath"] = name.clone())
            .complains("container's cgroup is not empty");
    })
    .peers_fail(&[OLD, ("crun", "shares it")]),
    Case::new("cgroups-of-the-host-are-whole", RUNC, "without a cgroup namespace every v1 hierarchy is seen", || {
        v1("pids");
        v1("cpu");
        let output = sh("cat /sys/fs/cgroup/pids/tasks /sys/fs/cgroup/cpu/tasks | head -n 1", |bundle| {
            bundle.without_namespace("cgroup");
            bundle.place().directory("rootfs/mnt");
            // A bind before it, in a user namespace: what runc got wrong once (its pull request 3510).
            let mount = json!({"destination": "/mnt", "source": "rootfs", "options": ["bind"]});
            bundle.spec["mounts"].as_array_mut().expect("a list").insert(0, mount);
            user_namespace(bundle, 0, 65536);
        });
        output.prints("1");
    })
    .peers_fail(&[("runc", "1.1 cannot bind before it"), ("crun", "1.8 mounts no v1 there")]),
    Case::new("delete-thaws", CRUN, "delete --force ends what somebody else froze", || {
        let other = v1("freezer").join(format!("hako-test-other-{}", std::process::id()));
        let container = sleeping(|_| ());
        fs::create_dir(&other).expect("our own cgroup");
        fs::write(other.join("tasks"), container.pid().to_string()).expect("it lives");
        fs::write(other.join("freezer.state"), "FROZEN").expect("our own cgroup");
        let output = container.delete(&["--force"]);
        fs::write(other.join("freezer.state"), "THAWED").expect("our own cgroup");
        wait_until("the cgroup can be removed", || fs::remove_dir(&other).is_ok());
        output.ok();
    })
    .peers_fail(&[("runc", "1.1 waits, and fails"), ("crun", "1.8 leaves the process")]),
    Case::new("exec-cwd-of-another-user", RUNC, "exec enters what the runtime may, though the user may not", || {
        let container = sleeping(|bundle| {
            fs::set_permissions(bundle.rootfs("root"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .expect("our own directory");
            std::os::unix::fs::chown(bundle.rootfs("root"), Some(42), None).expect("we are root");
            bundle.spec["process"]["cwd"] = json!("/root");
            bundle.spec["process"]["user"]["uid"] = json!(42);
        });
        container.exec(&["--user", "0"], &["true"]).ok();
    })
    .peers_fail(&[("crun", "1.8 enters it as the user")]),
    Case::new("missing-cwd-of-a-readonly-root", CRUN, "a working directory is made before the root is read-only", || {
        sh("pwd", |bundle| {
            bundle.spec["root"]["readonly"] = json!(true);
            bundle.spec["process"]["cwd"] = json!("/made/below");
        })
        .prints("/made/below");
    }),
    Case::new("readonly-dev", RUNC, "what is mounted and made in a read-only /dev comes first", || {
        let output = sh("touch /dev/x 2>/dev/null || echo refused; touch /ro/x 2>/dev/null || echo refused; \
                         echo y >/dev/null && ls -d /dev/pts /dev/shm /ro/deep", |bundle| {
            for mount in bundle.spec["mounts"].as_array_mut().expect("a list") {
                if mount["destination"] == "/dev" {
                    push(&mut mount["options"], json!("ro"));
                }
            }
            bundle.mount("/ro", "tmpfs", "tmpfs", &["ro"]);
            bundle.mount("/ro/deep", "tmpfs", "tmpfs", &[]);
        });
        output.prints("refused\nrefused\n/dev/pts\n/dev/shm\n/ro/deep");
    })
    .peers_fail(&[("crun", "1.8 makes it read-only first")]),
    Case::new("hostname-is-no-sysctl", RUNC, "kernel.hostname is refused: it has a field of its own", || {
        refused(|bundle| {
            bundle.spec.as_object_mut().expect("an object").remove("hostname");
            bundle.spec["linux"]["sysctl"] = json!({"kernel.hostname": "other"});
        })
        .complains("kernel.hostname");
    }),
    Case::new("hooks-inherit-the-environment", CRUN, "a hook without an environment has the runtime's", || {
        let mut bundle = Bundle::new();
        let to = bundle.path().join("seen");
        let script = format!("echo $KIND-$HAKO_TEST_GIVEN >>{}", to.display());
        let hook = |env: Option<&str>| {
            let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
            if let Some(env) = env {
                hook["env"] = json!([env]);
            }
            hook
        };
        bundle.spec["hooks"] = json!({
            "createRuntime": [hook(None), hook(Some("KIND=own"))],
            "createContainer": [hook(None)],
            "poststop": [hook(None)],
        });
        let container = Container::new(bundle);
        run_from_shell(&container, "HAKO_TEST_GIVEN=yes", &[]).ok();
        assert_eq!(fs::read_to_string(to).expect("the hooks ran"), "-yes\nown-\n-yes\n-yes\n");
    })
    .peers_fail(&[("runc", "1.1 passes its environment to createContainer without it")]),
    Case::new("start-hook-has-the-container's-environment", RUNC, "a startContainer hook has the process's", || {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo $ONE $HOME >/seen"]});
        let mut bundle = Bundle::new();
        bundle.spec["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
        bundle.spec["hooks"] = json!({"startContainer": [hook]});
        let container = Container::new(bundle);
        container.run().ok();
        let seen = fs::read_to_string(container.bundle.rootfs("seen")).expect("the hook ran");
        assert_eq!(seen, "two /root\n");
    })
    .peers_fail(&[OLD_CRUN]),
    Case::new("failed-hooks-are-numbered", RUNC, "which hook failed, and how, in runc's words", || {
        for (kind, path) in [("createRuntime", "/bin/false"), ("createContainer", "/bin/false"), ("startContainer", "/bin/false")] {
            let output = refused(|bundle| bundle.spec["hooks"] = json!({kind: [{"path": "/bin/true"}, {"path": path}]}));
            output.complains(&format!("error running {kind} hook #1:")).complains("exit status 1");
        }
    })
    .peers_fail(&[OLD, OWN_WORDS]),
    Case::new("start-hook-is-under-the-filter", RUNC, "a startContainer hook is under the container's filter", || {
        let output = refused(|bundle| {
            bundle.spec["linux"]["seccomp"] = filter(&["mkdir", "mkdirat"], "SCMP_ACT_KILL");
            bundle.spec["hooks"] =
                json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exec mkdir /tmp/foo"]}]});
        });
        output.complains("hook").complains("bad system call");
    })
    .peers_fail(&[OWN_WORDS]),
    Case::new("seccomp-agent-is-gone", RUNC, "an agent that is not there is named", || {
        refused(|bundle| {
            bundle.spec["linux"]["seccomp"] = filter(&["mkdir"], "SCMP_ACT_NOTIFY");
            bundle.spec["linux"]["seccomp"]["listenerPath"] = json!("/no/such/agent");
        })
        .complains("failed to connect with seccomp agent");
    })
    .peers_fail(&[OWN_WORDS]),
    Case::new("seccomp-agent-of-a-created-container", RUNC, "create hands the listener on, start needs no agent", || {
        for no_new_privileges in [false, true] {
            let mut bundle = Bundle::sh("touch /ran");
            let path = bundle.place().join("agent");
            let agent = std::os::unix::net::UnixListener::bind(&path).expect("our own directory");
            bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            bundle.spec["linux"]["seccomp"] = filter(&["mkdir"], "SCMP_ACT_NOTIFY");
            bundle.spec["linux"]["seccomp"]["listenerPath"] = json!(path);
            let container = Container::new(bundle);
            let handed = std::thread::spawn(move || {
                use std::io::Read;
                let mut text = String::new();
                agent.accept().and_then(|(mut end, _)| end.read_to_string(&mut text)).map(|_| text)
            });
            container.create().ok();
            let text = handed.join().expect("it does not panic").expect("it was called");
            assert!(text.contains("seccompFd"), "{text}");
            container.start().ok();
            wait_until("its program ran", || container.bundle.rootfs("ran").exists());
        }
    })
    .peers_fail(&[OLD_CRUN]),
    Case::new("seccomp-notify-of-write", RUNC, "write cannot be asked about: errors are written", || {
        refused(|bundle| {
            bundle.spec["linux"]["seccomp"] = filter(&["write"], "SCMP_ACT_NOTIFY");
            bundle.spec["linux"]["seccomp"]["listenerPath"] = json!("/no/such/agent");
        })
        .complains("SCMP_ACT_NOTIFY cannot be used for the write syscall");
    })
    .peers_fail(&[("crun", "takes it")]),
    Case::new("bundle-by-a-link", CRUN, "the bundle keeps the name that it was given", || {
        let container = Container::new(Bundle::sh("while :; do sleep 0.1; done"));
        container.bundle.write();
        let link = container.bundle.place().join("link");
        symlink(container.bundle.path(), &link).expect("our own directory");
        let mut command = container.runtime();
        command.args(["run", "--detach", "--bundle"]).arg(&link).arg(container.id());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(command.status().expect("the runtime starts").success());
        assert_eq!(container.state()["bundle"], json!(link));
    })
    .peers_fail(&[("runc", "resolves it"), OLD_CRUN]),
    Case::new("preserve-fds-with-gaps", CRUN, "--preserve-fds N is a bound; none of them is an error", || {
        let container = Container::new(Bundle::sh("cat <&5"));
        let file = container.bundle.place().write("given", "from descriptor 5");
        let before = format!("exec 3<&- 4<&- 5<{}; exec", file.display());
        run_from_shell(&container, &before, &["--preserve-fds", "100"]).prints("from descriptor 5");
        let none = run_from_shell(&container, "exec 3<&-; exec", &["--preserve-fds", "1"]);
        none.fails().complains("preserved-fd 0");
    })
    .peers_fail(&[("runc", "1.1 needs all of them"), ("crun", "passes over what is missing")]),
    Case::new("affinity-is-the-container's", RUNC, "the caller's processor affinity is not the container's", || {
        let taskset = binary::tool("taskset");
        let show = "grep Cpus_allowed_list /proc/self/status";
        let all = command::run(Command::new("sh").args(["-c", show]));
        if !all.ok().contains(['-', ',']) {
            skip!("one processor");
        }
        let before = format!("{} -c 0", taskset.display());
        let container = Container::new(Bundle::sh(show));
        run_from_shell(&container, &before, &[]).prints(all.ok().trim());
    })
    .peers_fail(&[OLD, ("crun", "leaves it")]),
    Case::new("user-namespace-without-root", RUNC, "a user namespace need not map user 0", || {
        let mut bundle = Bundle::sh("id -u; id -g; touch /tmp/up; sleep 1000");
        user_namespace(&mut bundle, 1000, 1);
        bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        for mount in bundle.spec["mounts"].as_array_mut().expect("a list") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        let container = Container::new(bundle);
        container.create().ok();
        container.start().ok();
        wait_until("it is up", || container.bundle.rootfs("tmp/up").exists());
        assert_eq!(container.output(), "1000\n1000\n");
        container.exec(&[], &["id", "-u"]).prints("1000");
    })
    .peers_fail(&[OLD, ("crun", "becomes user 0 first")]),
    Case::new("devices-of-a-user-namespace", CRUN, "a device that the host's /dev has not, with its owner", || {
        let output = sh("stat -c %u:%g:%a:%t:%T /dev/foo; head -c 2 /dev/zero | wc -c; \
                         chmod 600 /dev/zero 2>/dev/null || echo refused", |bundle| {
            user_namespace(bundle, 0, 65536);
            let device = json!({"path": "/dev/foo", "type": "c", "major": 1, "minor": 5, "uid": 10, "gid": 11, "fileMode": 0o640});
            push(&mut bundle.spec["linux"]["devices"], device);
        });
        if output.stderr.contains("no such file or directory") {
            skip!("the kernel is older than 6.15");
        }
        output.prints("10:11:640:1:5\n2\nrefused");
    })
    .peers_fail(&[("runc", "1.1 binds the host's only"), OLD_CRUN]),
    Case::new("device-access-a", RUNC, "a letter a in a device's access means nothing", || {
        sh("echo fine", |bundle| {
            let rule = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwa"});
            push(&mut bundle.spec["linux"]["resources"]["devices"], rule);
        })
        .prints("fine");
    })
    .peers_fail(&[OLD_CRUN]),
    Case::new("force-cgroup-v1", CRUN, "run.oci.systemd.force_cgroup_v1 gives an old systemd its hierarchy", || {
        v1("systemd");
        let output = sh("mkdir /run/cg/made && rmdir /run/cg/made && cat /run/cg/tasks | head -n 1; \
                         grep -c ' /run/cg .* cgroup .*name=systemd' /proc/self/mountinfo", |bundle| {
            bundle.spec["annotations"] = json!({"run.oci.systemd.force_cgroup_v1": "/run/cg"});
        });
        output.prints("1\n1");
    })
    .peers_fail(&[("runc", "knows no annotations of crun's"), ("crun", "1.8 mounts it for the host's root")]),
    Case::new("delegate-cgroup", CRUN, "run.oci.delegate-cgroup moves the process below its cgroup", || {
        if !std::path::Path::new("/sys/fs/cgroup/unified").exists() {
            skip!("no cgroup v2 beside v1");
        }
        let container = sleeping(|bundle| {
            bundle.spec["annotations"] = json!({"run.oci.delegate-cgroup": "payload"});
        });
        let first = container.exec(&[], &["grep", "^0:", "/proc/1/cgroup"]);
        first.prints("0::/payload");
        refused(|bundle| bundle.spec["annotations"] = json!({"run.oci.delegate-cgroup": "../x"}))
            .complains("delegate-cgroup");
    })
    .peers_fail(&[("runc", "knows no annotations of crun's"), ("crun", "refuses it on this machine")]),
    Case::new("handlers-say-what-they-need", CRUN, "a handler that needs a library says so", || {
        for (handler, library) in [("krun", "libkrun"), ("wasm", "WebAssembly")] {
            refused(|bundle| bundle.spec["annotations"] = json!({"run.oci.handler": handler}))
                .complains(library);
        }
        sh("echo fine", |bundle| bundle.spec["annotations"] = json!({"run.oci.handler": ""})).prints("fine");
    })
    .peers_fail(&[("runc", "knows no annotations of crun's"), ("crun", "1.8 passes over them")]),
];
