//! config.md: the root filesystem and the mounts; config-linux.md: propagation.

use std::os::unix::fs::symlink;

use hako_tests::{Case, bundle::Bundle, command::Output};
use serde_json::json;

use super::{refused, sh};

const ROOT: &str = "config.md#root";
const MOUNTS: &str = "config.md#mounts";
const OPTIONS: &str = "config.md#linux-mount-options";
const PROPAGATION: &str = "config-linux.md#rootfs-mount-propagation";

/// Mounts a tmpfs with this option on /mnt, and shows the flags of the mount and of its file system.
#[track_caller]
fn flags_of_tmpfs(option: &str) -> String {
    let script = "while read -r _ _ _ _ point flags rest; do [ $point = /mnt ] && echo ,$flags,${rest##* },; done \
                  </proc/self/mountinfo; true";
    sh(script, |bundle| bundle.mount("/mnt", "tmpfs", "tmpfs", &[option])).ok().trim().to_owned()
}

#[track_caller]
fn option_sets(option: &str, flag: &str) {
    let flags = flags_of_tmpfs(option);
    assert!(flags.contains(&format!(",{flag},")), "{option}: {flags}");
}

#[track_caller]
fn option_clears(option: &str, flag: &str) {
    let flags = flags_of_tmpfs(option);
    assert!(flags.starts_with(','), "{option}: not mounted");
    assert!(!flags.contains(&format!(",{flag},")), "{option}: {flags}");
}

/// The propagation of the mount at this point, as mountinfo's optional fields say it: those between
/// the sixth field and the dash.
const PROPAGATION_OF: &str = r#"while read -r _ _ _ _ point _ rest; do
    [ "$point" = "$POINT" ] && words="${rest%%- *}"; done </proc/self/mountinfo; echo $words"#;

#[track_caller]
fn propagation(point: &str, change: impl FnOnce(&mut Bundle)) -> Output {
    sh(&format!("POINT={point}; {PROPAGATION_OF}"), change)
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "root-readonly",
        ROOT,
        "with readonly the root filesystem MUST be read-only inside",
        || {
            let output = sh("touch /x || echo refused", |bundle| {
                bundle.spec["root"]["readonly"] = json!(true);
            });
            output.prints("refused").complains("read-only");
        },
    ),
    Case::new("root-writable", ROOT, "by default it is writable", || {
        sh("touch /x && echo written", |_| ()).prints("written");
    }),
    Case::new("root-absolute", ROOT, "path may be absolute", || {
        sh("cat /etc/os-release", |bundle| {
            bundle.spec["root"]["path"] = json!(bundle.rootfs("").to_string_lossy());
        })
        .says("hako-test");
    }),
    Case::new("root-missing", ROOT, "a root that is not there MUST be an error", || {
        refused(|bundle| bundle.spec["root"]["path"] = json!("nowhere")).complains("nowhere");
    }),
    Case::new("root-is-a-file", ROOT, "a root that is no directory is an error", || {
        refused(|bundle| {
            bundle.place().write("file", "");
            bundle.spec["root"]["path"] = json!("file");
        });
    }),
    Case::new("root-absent", ROOT, "on Linux root MUST be there", || {
        refused(|bundle| {
            bundle.spec.as_object_mut().expect("a document").remove("root");
        })
        .is_sane();
    }),
    Case::new("root-is-all-there-is", ROOT, "nothing of the host's tree can be reached", || {
        let output = sh("cd / && cd ../../.. && pwd && ls -A / | tr '\\n' ' '", |_| ());
        assert!(
            output.ok().starts_with("/\n") && output.stdout.contains("bin dev etc"),
            "{output}"
        );
        assert!(!output.stdout.contains("usr"), "{output}");
    }),
    Case::new("mounts-in-order", MOUNTS, "mounts MUST be made in the listed order", || {
        let output = sh("cat /mnt/sub/file", |bundle| {
            bundle.place().write("first/sub/file", "first");
            bundle.place().write("second/file", "second");
            bundle.mount("/mnt", "bind", "first", &["bind"]);
            bundle.mount("/mnt/sub", "bind", "second", &["bind"]);
        });
        output.prints("second");
    }),
    Case::new("mount-destination-is-made", MOUNTS, "a missing destination is made", || {
        let output = sh("cat /new/deep/dir/f /new/file", |bundle| {
            bundle.place().write("source/f", "in a directory");
            bundle.place().write("file", ", in a file");
            bundle.mount("/new/deep/dir", "bind", "source", &["bind"]);
            bundle.mount("/new/file", "bind", "file", &["bind"]);
        });
        output.prints("in a directory, in a file");
    }),
    Case::new(
        "mount-source-relative",
        MOUNTS,
        "a relative source is relative to the bundle",
        || {
            let output = sh("cat /mnt/f", |bundle| {
                bundle.place().write("here/f", "relative");
                bundle.mount("/mnt", "bind", "here", &["bind"]);
            });
            output.prints("relative");
        },
    ),
    Case::new("mount-source-missing", MOUNTS, "a missing source is an error that names it", || {
        refused(|bundle| bundle.mount("/mnt", "bind", "/no/such/source", &["bind"]))
            .complains("/no/such/source");
    }),
    Case::new("mount-type-unknown", MOUNTS, "an unknown file system type is an error", || {
        refused(|bundle| bundle.mount("/mnt", "nosuchfs", "none", &[]));
    }),
    Case::new(
        "mount-bind-implied",
        MOUNTS,
        "bind in options makes a bind mount, whatever the type",
        || {
            let output = sh("cat /mnt/f", |bundle| {
                bundle.place().write("here/f", "bound");
                bundle.mount("/mnt", "none", "here", &["rbind", "rw"]);
            });
            output.prints("bound");
        },
    ),
    Case::new(
        "mount-through-a-symlink",
        "CVE-2021-30465",
        "a link in the root is followed inside it only",
        || {
            let output = sh("cat /etc/inner/f; ls /tmp", |bundle| {
                bundle.place().write("here/f", "inside");
                symlink("/etc/inner", bundle.rootfs("link")).expect("our own directory");
                bundle.mount("/link", "bind", "here", &["bind"]);
            });
            output.says("inside");
            assert!(!std::path::Path::new("/etc/inner").exists());
        },
    )
    .peers_fail(&[("crun", "1.8 cannot follow a dangling absolute link")]),
    Case::new(
        "mount-above-the-root",
        "CVE-2021-30465",
        "dots in a destination stay inside the root",
        || {
            let output = sh("cat /deep/f", |bundle| {
                bundle.place().write("here/f", "inside");
                bundle.mount("/../../deep", "bind", "here", &["bind"]);
            });
            output.prints("inside");
        },
    ),
    Case::new("mount-option-ro", OPTIONS, "ro", || option_sets("ro", "ro")),
    Case::new("mount-option-rw", OPTIONS, "rw", || option_clears("rw", "ro")),
    Case::new("mount-option-nosuid", OPTIONS, "nosuid", || option_sets("nosuid", "nosuid")),
    Case::new("mount-option-suid", OPTIONS, "suid", || option_clears("suid", "nosuid")),
    Case::new("mount-option-nodev", OPTIONS, "nodev", || option_sets("nodev", "nodev")),
    Case::new("mount-option-dev", OPTIONS, "dev", || option_clears("dev", "nodev")),
    Case::new("mount-option-noexec", OPTIONS, "noexec", || option_sets("noexec", "noexec")),
    Case::new("mount-option-exec", OPTIONS, "exec", || option_clears("exec", "noexec")),
    Case::new("mount-option-noatime", OPTIONS, "noatime", || option_sets("noatime", "noatime")),
    Case::new("mount-option-relatime", OPTIONS, "relatime", || option_sets("relatime", "relatime")),
    Case::new("mount-option-strictatime", OPTIONS, "strictatime", || {
        option_clears("strictatime", "relatime");
    }),
    Case::new("mount-option-nodiratime", OPTIONS, "nodiratime", || {
        option_sets("nodiratime", "nodiratime");
    }),
    Case::new("mount-option-sync", OPTIONS, "sync", || option_sets("sync", "sync")),
    Case::new("mount-option-dirsync", OPTIONS, "dirsync", || option_sets("dirsync", "dirsync")),
    Case::new("mount-option-data", OPTIONS, "what is not a flag goes to the file system", || {
        let flags = flags_of_tmpfs("size=1234k");
        assert!(flags.contains("size=1236k") || flags.contains("size=1234k"), "{flags}");
    }),
    Case::new(
        "mount-option-wrong",
        OPTIONS,
        "an option that the file system refuses is an error",
        || {
            refused(|bundle| bundle.mount("/mnt", "tmpfs", "tmpfs", &["no-such-option"]));
        },
    ),
    Case::new("mount-bind-ro", OPTIONS, "ro on a bind mount holds", || {
        let output = sh("cat /mnt/f; touch /mnt/x || echo refused", |bundle| {
            bundle.place().write("here/f", "read,");
            bundle.mount("/mnt", "bind", "here", &["bind", "ro"]);
        });
        output.prints("read,refused").complains("read-only");
    }),
    Case::new("mount-bind-flags", OPTIONS, "nosuid, nodev and noexec on a bind mount hold", || {
        let script = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6";
        let output = sh(script, |bundle| {
            bundle.place().directory("here");
            bundle.mount("/mnt", "bind", "here", &["bind", "nosuid", "nodev", "noexec"]);
        });
        for flag in ["nosuid", "nodev", "noexec"] {
            output.says(flag);
        }
    }),
    Case::new("mount-tmpfs-mode", OPTIONS, "mode, uid and gid of a tmpfs", || {
        let output = sh("stat -c '%a %u %g' /mnt", |bundle| {
            bundle.mount("/mnt", "tmpfs", "tmpfs", &["mode=0710", "uid=1000", "gid=29"]);
        });
        output.prints("710 1000 29");
    }),
    Case::new(
        "mount-tmpcopyup",
        "runc: spec extension",
        "tmpcopyup fills a tmpfs with what it covers",
        || {
            let output = sh("cat /etc/os-release; touch /etc/new && echo writable", |bundle| {
                bundle.mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup"]);
            });
            output.says("hako-test").says("writable");
        },
    ),
    Case::new("mount-rro", OPTIONS, "rro makes a whole tree of mounts read-only", || {
        hako_tests::kernel::needs((5, 12), "a recursive attribute");
        let output = sh("touch /mnt/a 2>&1; touch /mnt/etc-in/b 2>&1; echo done", |bundle| {
            bundle.place().directory("here/etc-in");
            bundle.mount("/mnt", "bind", "here", &["rbind", "rro"]);
        });
        assert_eq!(output.ok().matches("Read-only").count(), 2, "{output}");
    }),
    Case::new("mount-propagation-private", OPTIONS, "rprivate on a mount", || {
        let output =
            propagation("/mnt", |bundle| bundle.mount("/mnt", "tmpfs", "tmpfs", &["rprivate"]));
        output.prints("");
    }),
    Case::new("mount-propagation-shared", OPTIONS, "shared on a mount", || {
        let output =
            propagation("/mnt", |bundle| bundle.mount("/mnt", "tmpfs", "tmpfs", &["shared"]));
        output.says("shared:");
    })
    .peers_fail(&[("crun", "1.8 leaves it private")]),
    Case::new("mount-propagation-unbindable", OPTIONS, "unbindable on a mount", || {
        let output =
            propagation("/mnt", |bundle| bundle.mount("/mnt", "tmpfs", "tmpfs", &["unbindable"]));
        output.says("unbindable");
    })
    .peers_fail(&[("crun", "1.8 leaves it private")]),
    Case::new(
        "root-propagation-default",
        PROPAGATION,
        "the root filesystem shares nothing with the host",
        || {
            let output = propagation("/", |_| ());
            assert!(!output.ok().contains("shared:"), "{output}");
        },
    ),
    Case::new("root-propagation-private", PROPAGATION, "rootfsPropagation private", || {
        let output =
            propagation("/", |bundle| bundle.spec["linux"]["rootfsPropagation"] = json!("private"));
        output.prints("");
    }),
    Case::new("root-propagation-unbindable", PROPAGATION, "rootfsPropagation unbindable", || {
        let output = propagation("/", |bundle| {
            bundle.spec["linux"]["rootfsPropagation"] = json!("unbindable");
        });
        output.says("unbindable");
    })
    .peers_fail(&[("runc", "1.1 leaves it private")]),
    Case::new(
        "root-propagation-wrong",
        PROPAGATION,
        "an unknown rootfsPropagation is an error",
        || {
            refused(|bundle| bundle.spec["linux"]["rootfsPropagation"] = json!("sideways"));
        },
    )
    .peers_fail(&[("crun", "takes an unknown one for a mount option")]),
    Case::new(
        "default-filesystems",
        "config-linux.md#default-filesystems",
        "proc, sysfs, devpts, tmpfs are there",
        || {
            let script = "for p in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue; do awk -v p=$p '$2==p{t=$3}END{print p,t}' \
                      /proc/mounts; done";
            sh(script, |_| ()).prints(
            "/proc proc\n/sys sysfs\n/dev tmpfs\n/dev/pts devpts\n/dev/shm tmpfs\n/dev/mqueue mqueue",
        );
        },
    ),
    Case::new(
        "mount-cgroup-read-only",
        "config-linux.md#cgroup-ownership",
        "a cgroup mount with ro is read-only",
        || {
            let output =
                sh("ls /sys/fs/cgroup | wc -l; mkdir /sys/fs/cgroup/x || echo refused", |_| ());
            output.says("refused");
            assert_ne!(output.stdout.lines().next(), Some("0"), "{output}");
        },
    )
    .peers_fail(&[("crun", "1.8 leaves v1 mounts writable")]),
    Case::new(
        "mount-cgroup-shows-own",
        "config-linux.md#cgroup-ownership",
        "inside, the own cgroup is the root",
        || {
            // Every process listed in the mount is one of the container's.
            sh("cat $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | head -n 1) | grep -cx 1", |_| ()).prints("1");
        },
    ),
];
