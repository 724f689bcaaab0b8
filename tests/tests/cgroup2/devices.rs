//! Device rules, which on v2 are a BPF program: what each list of rules lets a container open.

use hako_tests::Case;
use serde_json::{Value, json};

use crate::support::{container, needs, start};

const DEVICES: &str = "config-linux.md#allowed-device-list";

/// Nodes that the containers here get: harmless to open, and in no runtime's default list.
const NODES: &[(&str, &str, u64, u64)] = &[("kmsg", "c", 1, 11), ("fuse", "c", 10, 229)];

pub(crate) const CASES: &[Case] = &[
    Case::new("devices-denied", DEVICES, "what no rule allows is denied", || {
        check("[]", "kmsg:-- fuse:-- null:rw");
    }),
    Case::new(
        "devices-one-allowed",
        DEVICES,
        "a rule allows its device, with its access, and no more",
        || {
            check(
                r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]"#,
                "kmsg:r- fuse:-- null:rw",
            );
        },
    ),
    Case::new("devices-write-alone", DEVICES, "write access does not include read access", || {
        check(
            r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]"#,
            "kmsg:-w fuse:-- null:rw",
        );
    }),
    Case::new("devices-any-minor", DEVICES, "a rule without minor is for all of the major", || {
        check(
            r#"[{"allow": true, "type": "c", "major": 10, "access": "rw"}]"#,
            "kmsg:-- fuse:rw null:rw",
        );
    }),
    Case::new("devices-all", DEVICES, "a rule without type and numbers is for everything", || {
        check(r#"[{"allow": true, "access": "rwm"}]"#, "kmsg:rw fuse:rw null:rw");
    }),
    Case::new("devices-type-a", DEVICES, "type a is every type", || {
        check(r#"[{"allow": true, "type": "a", "access": "rwm"}]"#, "kmsg:rw fuse:rw null:rw");
    }),
    Case::new("devices-last-rule-wins", DEVICES, "rules are applied in order", || {
        check(
            r#"[{"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]"#,
            "kmsg:-- fuse:rw null:rw",
        );
    }),
    Case::new(
        "devices-access-taken-back",
        DEVICES,
        "where one access is taken back from a wider rule, that is done, or refused: it never stays",
        || {
            needs(&[]);
            let rules = r#"[{"allow": true, "type": "c", "major": 1, "access": "rw"},
                            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}]"#;
            let output = with_nodes(&probe(), rules).run();
            match output.code {
                0 => assert!(
                    ["kmsg:r- ", "kmsg:-- "].iter().any(|kmsg| output.stdout.starts_with(kmsg)),
                    "{output}"
                ),
                _ => drop(output.is_sane().complains("rule")),
            }
        },
    ),
    Case::new(
        "devices-block-is-not-char",
        DEVICES,
        "a rule for block devices allows no character device",
        || {
            check(
                r#"[{"allow": true, "type": "b", "major": 1, "minor": 11, "access": "rwm"}]"#,
                "kmsg:-- fuse:-- null:rw",
            );
        },
    ),
    Case::new(
        "devices-many-rules",
        DEVICES,
        "hundreds of rules are still one program that the kernel takes",
        || {
            let mut rules: Vec<Value> = (0..400)
            .map(|minor| json!({"allow": true, "type": "c", "major": 240, "minor": minor, "access": "rw"}))
            .collect();
            rules
                .push(json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}));
            check(&Value::from(rules).to_string(), "kmsg:rw fuse:-- null:rw");
        },
    ),
    Case::new("devices-hold-for-exec", DEVICES, "exec is bound by the same rules", || {
        needs(&[]);
        let container = with_nodes("sleep 1000", "[]");
        start(&container);
        container.exec(&[], &["sh", "-c", &probe()]).prints("kmsg:-- fuse:-- null:rw");
    }),
    Case::new(
        "devices-hold-for-new-cgroups",
        DEVICES,
        "a cgroup made inside is bound by the same rules",
        || {
            needs(&[]);
            let script = format!(
                "mkdir /sys/fs/cgroup/inner && echo 0 >/sys/fs/cgroup/inner/cgroup.procs && cat /proc/self/cgroup && {}",
                probe()
            );
            let mut container = with_nodes(&script, "[]");
            for mount in container.bundle.spec["mounts"].as_array_mut().into_iter().flatten() {
                if mount["type"] == "cgroup" {
                    mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
                }
            }
            container.run().prints("0::/inner\nkmsg:-- fuse:-- null:rw");
        },
    ),
];

/// Runs a container with "deny all" and then these rules, and compares what it can open.
#[track_caller]
fn check(rules: &str, expected: &str) {
    needs(&[]);
    with_nodes(&probe(), rules).run().prints(expected);
}

fn with_nodes(script: &str, rules: &str) -> hako_tests::runtime::Container {
    let more: Vec<Value> =
        serde_json::from_str(rules).unwrap_or_else(|error| panic!("{rules}: {error}"));
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(more);
    let mut container = container(script, json!({"devices": rules}));
    let node = |(name, kind, major, minor): &(&str, &str, u64, u64)| json!({"path": format!("/dev/{name}"), "type": kind, "major": major, "minor": minor, "fileMode": 0o666});
    container.bundle.spec["linux"]["devices"] = NODES.iter().map(node).collect();
    // Reading the kernel's log also asks for this.
    let syslog = json!(["CAP_SYSLOG"]);
    container.bundle.spec["process"]["capabilities"] =
        json!({"bounding": syslog, "effective": syslog, "permitted": syslog});
    container
}

/// Prints `name:rw` with a dash for each access that is denied.
fn probe() -> String {
    "for name in kmsg fuse null; do
         (: </dev/$name) 2>/dev/null && read=r || read=-
         (: >>/dev/$name) 2>/dev/null && write=w || write=-
         printf '%s:%s%s ' $name $read $write
     done"
        .to_owned()
}
