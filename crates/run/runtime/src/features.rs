//! The features document (features.md and features-linux.md), and a configuration to begin with.

use hako_sys::cred::{CAPABILITIES, bounding_has};
use hako_sys::namespace::KINDS;
use serde_json::{Value, json};

use crate::plan::{memory_words, mount_words};

/// What this runtime can do, as `features` prints it.
pub fn features() -> Value {
    let mut options: Vec<&str> = mount_words().collect();
    options.sort_unstable();
    let mut namespaces: Vec<&str> = KINDS.iter().map(|k| k.word).collect();
    namespaces.sort_unstable();
    let capabilities: Vec<&str> = (0u8..)
        .zip(CAPABILITIES)
        .filter(|(i, _)| bounding_has(*i).is_some())
        .map(|(_, name)| name)
        .collect();
    let (modes, flags) = memory_words();
    use hako_seccomp::words;
    // Of this machine, as the capabilities above; one that cannot be asked has none.
    let landlock = hako_sys::landlock::version().unwrap_or(0);
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": hako_oci::runtime::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options,
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": words::actions().collect::<Vec<_>>(),
                "operators": words::operators().collect::<Vec<_>>(),
                "archs": words::architectures().collect::<Vec<_>>(),
                "knownFlags": words::flags().collect::<Vec<_>>(),
                "supportedFlags": words::supported_flags().collect::<Vec<_>>(),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {"modes": modes.collect::<Vec<_>>(), "flags": flags.collect::<Vec<_>>()},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "io.hako.version": env!("CARGO_PKG_VERSION"),
            "io.hako.landlock.enabled": (landlock > 0).to_string(),
            "io.hako.landlock.version": landlock.to_string(),
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "run.oci.crun.checkpoint.enabled": "false",
            "run.oci.crun.wasm": "false",
        },
        // What ends in a dot is the beginning of a name.
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "run.oci."],
    })
}

/// A config.json to begin with, equal to runc's; for an ordinary user where IDs are given.
///
/// As runc's it has a cgroup namespace only where cgroup v2 is alone (`unified`): on v1, programs
/// count on what `/proc/self/cgroup` shows without.
pub fn template(rootless: Option<(u32, u32)>, unified: bool) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
    ];
    let mut linux = json!({
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "namespaces": [
            {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
        ],
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if let Some((uid, gid)) = rootless {
        // Without privileges there is no network to make a sysfs of, no group 5, and no cgroup.
        mounts.retain(|m| !matches!(m["type"].as_str(), Some("cgroup" | "sysfs")));
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        for mount in &mut mounts {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
        }
        linux["namespaces"] = json!([
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}
        ]);
        linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
        linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
        if let Some(linux) = linux.as_object_mut() {
            linux.remove("resources");
        }
    }
    if let (false, Some(namespaces)) = (unified, linux["namespaces"].as_array_mut()) {
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    }
    json!({
        "ociVersion": hako_oci::runtime::VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "hako",
        "mounts": mounts,
        "linux": linux,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Options, Plan};

    #[test]
    fn the_template_is_a_valid_configuration() {
        for (rootless, unified) in [(None, false), (None, true), (Some((1000, 1000)), true)] {
            let template = template(rootless, unified);
            assert_eq!(template["linux"]["namespaces"].to_string().contains("cgroup"), unified);
            let spec = serde_json::from_value(template).unwrap();
            let options = Options { privileged: rootless.is_none(), ..Options::new("t", "/run/t") };
            Plan::new(&spec, Path::new("/b"), &options).unwrap();
        }
    }

    #[test]
    fn features_name_what_the_tables_have() {
        let features = features();
        for (pointer, word) in [
            ("/mountOptions", "rro"),
            ("/linux/namespaces", "time"),
            ("/linux/capabilities", "CAP_CHOWN"),
        ] {
            assert!(
                features.pointer(pointer).unwrap().as_array().unwrap().contains(&Value::from(word)),
                "{word}"
            );
        }
    }
}
