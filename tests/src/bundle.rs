//! OCI bundles with a busybox root filesystem and the configuration that `runc spec` writes.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::{binary, place::Place};

/// Directories of the root filesystem.
pub const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/app", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// Files of the root filesystem.
pub const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nwheel:x:10:app\naudio:x:29:app\napp:x:1000:\nnogroup:x:65534:\n"),
    ("etc/os-release", "ID=hako-test\nPRETTY_NAME=\"hako test\"\n"),
];

/// Programs of busybox that the tests use.
pub const APPLETS: &[&str] = &[
    "[", "awk", "cat", "chgrp", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "df", "du",
    "echo", "env", "false", "find", "free", "grep", "head", "hostname", "id", "ip", "kill", "ln",
    "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "nc", "nproc", "od", "ping", "printf", "ps",
    "pwd", "readlink", "renice", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "stat",
    "stty", "su", "sync", "sysctl", "tail", "tar", "tee", "test", "timeout", "top", "touch", "tr",
    "true", "tty", "umount", "uname", "unshare", "usleep", "vi", "wc", "whoami", "xargs", "yes",
];

/// A bundle in a directory of its own.
pub struct Bundle {
    place: Place,
    /// The document; written by [`write`](Self::write).
    pub spec: Value,
}

impl Bundle {
    /// A bundle whose process runs `sh -c script`.
    pub fn sh(script: &str) -> Self {
        let mut bundle = Self::new();
        bundle.spec["process"]["args"] = json!(["sh", "-c", script]);
        bundle
    }

    /// A bundle whose process is `true`.
    pub fn new() -> Self {
        let busybox = binary::busybox();
        let place = Place::new("bundle");
        let rootfs = place.directory("rootfs");
        for (name, mode) in DIRECTORIES {
            let path = place.directory(&format!("rootfs/{name}"));
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .expect("our own directory");
        }
        for (name, content) in FILES {
            place.write(&format!("rootfs/{name}"), content);
        }
        fs::copy(busybox, rootfs.join("bin/busybox")).expect("busybox can be copied");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet))
                .expect("a link in our own directory");
        }
        Self { place, spec: default_spec() }
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.place.path().to_path_buf()
    }

    /// A path in the root filesystem, seen from outside.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.place.join("rootfs").join(name)
    }

    /// The directory as a place, to write files into.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        self.place.write("config.json", self.spec.to_string());
    }

    /// Adds a mount at the end.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount =
            json!({"destination": destination, "type": kind, "source": source, "options": options});
        push(&mut self.spec["mounts"], mount);
    }

    /// Removes the namespace of this type.
    pub fn without_namespace(&mut self, kind: &str) {
        if let Some(namespaces) = self.spec["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != kind);
        }
    }

    /// Adds a namespace of this type.
    pub fn add_namespace(&mut self, kind: &str) {
        push(&mut self.spec["linux"]["namespaces"], json!({"type": kind}));
    }
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends to a JSON list; makes it if there is none.
pub fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

/// What `runc spec` writes, without a terminal and with a writable root.
pub fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "hako-test",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
