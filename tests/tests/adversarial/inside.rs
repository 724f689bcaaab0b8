//! Processes in the container attack: the runtime's program, its descriptors, the host's cgroups.

use std::fs;

use hako_tests::{
    Case, archive,
    bundle::Bundle,
    command::{self, wait_until},
    runtime::Container,
};
use serde_json::json;

use super::{Canary, attack};

/// A container that goes on, as its own root, while the runtime is used from outside.
#[track_caller]
fn hostile(script: &str, change: impl FnOnce(&mut Bundle)) -> Container {
    let mut bundle = Bundle::sh(&format!("touch /up; {script}"));
    bundle.spec["process"]["rlimits"] = json!([]);
    change(&mut bundle);
    let container = Container::new(bundle);
    container.create().ok();
    container.start().ok();
    wait_until("it is up", || container.bundle.rootfs("up").exists());
    container
}

pub(crate) const CASES: &[Case] = &[
    Case::new("overwrite-the-runtime", "CVE-2019-5736", "the host's runtime cannot be written through /proc/…/exe", || {
        let container = hostile(
            // Take every other process's program by a descriptor, and write through it when it is free.
            "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || \
             (exec 3<$p/exe && n=0 && while [ $n -lt 30 ]; do n=$((n+1)); (echo evil >/proc/self/fd/3) && echo got >>/won; done) 2>/dev/null & \
             done; wait; done",
            |_| (),
        );
        let copy = container.runtime();
        let program = copy.get_program().to_owned();
        let before = archive::sha256(&fs::read(&program).expect("the runtime can be read"));
        for _ in 0..15 {
            container.exec(&[], &["/bin/true"]).is_sane();
            // An entry point that is the runtime itself, and a script whose interpreter it is.
            container.exec(&[], &["/proc/self/exe", "--version"]).is_sane();
        }
        let after = archive::sha256(&fs::read(&program).expect("the runtime can be read"));
        assert_eq!(before, after, "the runtime was overwritten");
    }).also_by_users()
    .alone(),
    Case::new("steal-descriptors-during-exec", "CVE-2016-9962", "no descriptor of the host is seen during exec", || {
        let container = hostile(
            "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || ls -l $p/fd $p/cwd $p/root 2>/dev/null; done >>/seen; done",
            |_| (),
        );
        for _ in 0..30 {
            container.exec(&[], &["/bin/true"]).ok();
        }
        let seen = fs::read_to_string(container.bundle.rootfs("seen")).unwrap_or_default();
        let state = container.root().to_string_lossy().into_owned();
        let bundle = container.bundle.path().to_string_lossy().into_owned();
        for secret in [state, bundle, "/sys/fs/cgroup".to_owned()] {
            let line = seen.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "the container saw {line:?}");
        }
    }).also_by_users()
    .alone(),
    Case::new("leaked-descriptor-as-cwd", "CVE-2024-21626", "a working directory in /proc/self/fd reaches nothing", || {
        for number in 3..16 {
            let canary = Canary::new();
            let script = format!("cat ../../../../../..{}/file; ls ../../../../../../..", canary.path());
            let output = attack(&script, |bundle| {
                bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
            });
            canary.check(&output);
            assert!(!output.stdout.contains("usr"), "the host's root is seen\n{output}");
        }
    }).also_by_users(),
    Case::new("leaked-descriptor-as-cwd-of-exec", "CVE-2024-21626", "nor one of exec", || {
        let canary = Canary::new();
        let container = hostile("while :; do sleep 0.1; done", |bundle| {
            for number in 3..16 {
                std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), bundle.rootfs(&format!("d{number}")))
                    .expect("our own directory");
            }
        });
        for number in 3..16 {
            for directory in [format!("/proc/self/fd/{number}"), format!("/d{number}")] {
                let script = format!("cat ../../../../../..{}/file", canary.path());
                let output = container.exec(&["--cwd", &directory], &["sh", "-c", &script]);
                canary.check(&output);
            }
        }
    }).also_by_users(),
    Case::new("inherited-descriptors", "CVE-2024-21626", "descriptors of the caller do not reach the program", || {
        let container = Container::new(Bundle::sh("ls -l /proc/self/fd /proc/1/fd"));
        let inner = container.run_command(&[]);
        let canary = Canary::new();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("exec \"$@\" 5<{0}/file 7<{0} 9<{0}", canary.path()), "sh"]);
        shell.arg(inner.get_program()).args(inner.get_args());
        let output = command::run(&mut shell);
        assert!(!output.ok().contains("canary"), "{output}");
    }).also_by_users(),
    Case::new("inheritable-capabilities", "CVE-2022-29162", "no capability is inheritable, in run and in exec", || {
        let container = hostile("grep CapInh /proc/self/status >/first; while :; do sleep 0.1; done", |_| ());
        wait_until("it wrote", || container.bundle.rootfs("first").exists());
        container.exec(&[], &["grep", "CapInh", "/proc/self/status"]).prints("CapInh:\t0000000000000000");
        let first = fs::read_to_string(container.bundle.rootfs("first")).expect("it was written");
        assert_eq!(first.trim(), "CapInh:\t0000000000000000");
    }).also_by_users(),
    Case::new("callers-inheritable-capabilities", "CVE-2022-29162", "whatever the caller has", || {
        let container = Container::new(Bundle::sh("grep -E 'Cap(Inh|Amb)' /proc/self/status"));
        let inner = container.run_command(&[]);
        let mut command = std::process::Command::new(hako_tests::binary::tool("setpriv"));
        command.args(["--inh-caps", "+chown,+net_raw,+sys_admin"]).arg(inner.get_program()).args(inner.get_args());
        command::run(&mut command).prints("CapInh:\t0000000000000000\nCapAmb:\t0000000000000000");
    }),
    Case::new("own-session", "SECURITY R: TIOCSTI", "the program is in no session of the caller's", || {
        let output = attack("awk '{print $5, $6}' /proc/self/stat; awk '{print $6}' /proc/1/stat", |_| ());
        let lines: Vec<&str> = output.ok().lines().collect();
        // A session from outside of the PID namespace shows as 0.
        assert_eq!(lines.last(), Some(&"1"), "{output}");
    }).also_by_users(),
    Case::new("release-agent", "SECURITY R: cgroup escape", "the host's release agent cannot be set", || {
        let script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release | head -n 20); do \
                      (echo /evil >$f) 2>/dev/null && echo written; done; \
                      mkdir /tmp/c && mount -t cgroup -o memory c /tmp/c 2>/dev/null && echo mounted; true";
        attack(script, |_| ()).prints("");
    }).also_by_users()
    .peers_fail(&[("crun", "1.8 leaves v1 mounts writable")]),
    Case::new("cgroup-of-others", "SECURITY R: cgroup escape", "no other cgroup can be seen or written", || {
        let output = attack("find /sys/fs/cgroup -name 'hako-tests-*' -o -name 'cgroup.procs' -maxdepth 2 | head -n 40; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x", |_| ());
        assert!(!output.stdout.contains("hako-tests"), "{output}");
        output.complains("read-only");
    })
    .peers_fail(&[("crun", "1.8 leaves v1 mounts writable")]),
    Case::new("kernel-files", "SECURITY R", "kcore, sysrq, keys, firmware: not read, not written", || {
        let script = "head -c 1 /proc/kcore | wc -c; cat /proc/keys | wc -c; ls -A /sys/firmware | wc -l; \
                      echo h >/proc/sysrq-trigger || echo refused; echo 1 >/proc/sys/kernel/panic || echo refused";
        attack(script, |_| ()).prints("0\n0\n0\nrefused\nrefused");
    }).also_by_users(),
    Case::new("race-while-being-used", "SECURITY R", "exec, kill and delete work on a container that fights", || {
        let container = hostile(
            "while :; do (ln -sf /nowhere /etc/passwd; mv /etc/group /etc/g; mv /etc/g /etc/group; rm -f /bin/x; \
             ln -s / /bin/x; sleep 0.01) 2>/dev/null & n=$((n+1)); [ $((n % 20)) = 0 ] && wait; done",
            |bundle| {
                bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 200});
            },
        );
        for round in 0..20 {
            let output = container.exec(&[], &["/bin/echo", "mine"]);
            output.is_sane();
            assert!(output.code != 0 || output.stdout == "mine\n", "round {round}\n{output}");
            container.call(&["state", container.id()]).ok();
        }
        container.kill("KILL").ok();
        container.wait_stopped();
        container.delete(&[]).ok();
        assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
    }).also_by_users()
    .alone(),
];
