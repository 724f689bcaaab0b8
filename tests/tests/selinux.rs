//! SELinux labels of a container. Needs a kernel that enforces the types of tests/vm/selinux.te: `cargo xtask vm --selinux`.

#![forbid(unsafe_code)]

use std::{fs, path::Path, process::ExitCode};

use hako_tests::{Case, bundle::Bundle, bundle::push, runtime::Container, skip};
use serde_json::json;

const LABEL: &str = "config.md#linux-process, selinuxLabel";
const MOUNT: &str = "config-linux.md#mount-label";

/// What a container runs as.
const OWN: &str = "system_u:system_r:hako_t:s0:c1,c2";
/// Another one.
const OTHER: &str = "system_u:system_r:hako_other_t:s0";
/// What files have that a container may use, and that it may not.
const OPEN: &str = "system_u:object_r:tmpfs_t:s0";
const SECRET: &str = "system_u:object_r:hako_secret_t:s0";

const CASES: &[Case] = &[
    Case::new("label-is-applied", LABEL, "the process runs under the label", || {
        confined("cat /proc/self/attr/current").run().says(OWN);
    }),
    Case::new("label-is-enforced", LABEL, "what the policy does not allow the label fails", || {
        for (label, expected) in [(OPEN, "seen"), (SECRET, "denied")] {
            let mut container = confined("ls /volume >/dev/null 2>&1 && echo seen || echo denied");
            // Its own context is not replaced by that of all mounts.
            with_volume(&mut container, &[&format!("context={label}")]);
            container.bundle.spec["linux"]["mountLabel"] = json!(OPEN);
            container.run().prints(expected);
        }
    }),
    Case::new(
        "label-with-new-privileges-off",
        LABEL,
        "no_new_privs does not keep the label away",
        || {
            for no_new_privileges in [true, false] {
                let mut container = confined("cat /proc/self/attr/current");
                container.bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                container.run().says(OWN);
            }
        },
    ),
    Case::new(
        "label-of-an-ordinary-user",
        LABEL,
        "the label is applied although capabilities are gone",
        || {
            let mut container = confined("cat /proc/self/attr/current");
            container.bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            container.bundle.spec["process"]["capabilities"] = json!({});
            container.run().says(OWN);
        },
    ),
    Case::new(
        "label-in-a-user-namespace",
        LABEL,
        "the label is applied in a user namespace",
        || {
            let mut container = confined("cat /proc/self/attr/current");
            container.bundle.add_namespace("user");
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            container.bundle.spec["linux"]["uidMappings"] = map.clone();
            container.bundle.spec["linux"]["gidMappings"] = map;
            container.run().says(OWN);
        },
    ),
    Case::new("label-holds-for-exec", LABEL, "exec runs under the container's label", || {
        let container = running();
        container.exec(&[], &["cat", "/proc/self/attr/current"]).says(OWN);
    }),
    Case::new(
        "exec-takes-another-label",
        "runc exec --process-label",
        "exec runs under the label it names",
        || {
            let container = running();
            let words = &["cat", "/proc/self/attr/current"];
            container.exec(&["--process-label", OTHER], words).says(OTHER);
            let wrong =
                container.exec(&["--process-label", "system_u:system_r:no_such_t:s0"], words);
            wrong.fails().is_sane();
        },
    ),
    Case::new(
        "keyring-has-the-label",
        "runc, session keyring",
        "the session keyring is labelled as the process, which can use it so; that of exec too",
        || {
            // What the policy does not let it see is not listed.
            let mut container = confined("cat /proc/keys; sleep 1000");
            container.bundle.spec["linux"]["maskedPaths"] = json!([]);
            container.create().ok();
            container.start().ok();
            let name = format!("_ses.{}", container.id());
            hako_tests::command::wait_until("it sees its keyring", || {
                container.output().contains(&name)
            });
            container.exec(&[], &["cat", "/proc/keys"]).says(&name);
        },
    ),
    Case::new(
        "label-that-no-policy-has",
        LABEL,
        "an unknown label is an error, before anything runs",
        || {
            needs_selinux();
            for label in [
                "system_u:system_r:no_such_t:s0",
                "nonsense",
                "a:b:c:d:e:f",
                "system_u:object_r:hako_t",
            ] {
                let mut container = confined("echo ran");
                container.bundle.spec["process"]["selinuxLabel"] = json!(label);
                let output = container.run();
                output.fails().is_sane();
                assert!(!output.stdout.contains("ran"), "{output}");
                assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
            }
        },
    ),
    Case::new(
        "unknown-label-is-named",
        LABEL,
        "the error says which label, and whose fault it is",
        || {
            let mut container = confined("echo ran");
            container.bundle.spec["process"]["selinuxLabel"] =
                json!("system_u:system_r:no_such_t:s0");
            container.run().fails().complains("no_such_t").complains("policy");
        },
    )
    .peers_fail(&[
        ("runc", "names the file of /proc it wrote to"),
        ("crun", "names the file of /proc it wrote to"),
    ]),
    Case::new(
        "mount-label-is-of-new-file-systems",
        MOUNT,
        "what is mounted new has the label as its context",
        || {
            let mut container = confined("grep -E ' /(volume|dev|dev/shm) ' /proc/self/mountinfo");
            with_volume(&mut container, &[]);
            container.bundle.spec["linux"]["mountLabel"] = json!(OPEN);
            let output = container.run();
            let lines: Vec<&str> = output.ok().lines().collect();
            assert!(lines.len() >= 2, "{output}");
            for line in lines {
                assert!(line.contains("context") && line.contains("tmpfs_t"), "{line}\n{output}");
            }
        },
    ),
    Case::new(
        "mount-label-that-no-policy-has",
        MOUNT,
        "an unknown label of mounts is an error",
        || {
            let mut container = confined("echo ran");
            with_volume(&mut container, &[]);
            container.bundle.spec["linux"]["mountLabel"] = json!("system_u:object_r:no_such_t:s0");
            let output = container.run();
            output.fails().is_sane();
            assert!(!output.stdout.contains("ran"), "{output}");
        },
    ),
];

fn main() -> ExitCode {
    hako_tests::run("selinux", &[CASES])
}

fn needs_selinux() {
    let enforced =
        fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1");
    if !enforced {
        skip!("SELinux does not enforce here");
    }
    if !Path::new("/vm/selinux").exists() {
        skip!("the types of tests/vm/selinux.te are not in the policy");
    }
}

/// A container that runs `script` under the label.
fn confined(script: &str) -> Container {
    needs_selinux();
    let mut container = Container::new(Bundle::sh(script));
    container.bundle.spec["process"]["selinuxLabel"] = json!(OWN);
    container
}

fn running() -> Container {
    let container = confined("sleep 1000");
    container.create().ok();
    container.start().ok();
    container
}

/// A file system of its own, at /volume.
fn with_volume(container: &mut Container, options: &[&str]) {
    let mount =
        json!({"destination": "/volume", "type": "tmpfs", "source": "tmpfs", "options": options});
    push(&mut container.bundle.spec["mounts"], mount);
}
