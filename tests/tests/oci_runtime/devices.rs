//! config-linux.md: devices.

use hako_tests::{Case, bundle::push};
use serde_json::json;

use super::{refused, sh};

const DEFAULT: &str = "config-linux.md#default-devices";
const DEVICES: &str = "config-linux.md#devices";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "devices-default",
        DEFAULT,
        "null, zero, full, random, urandom, tty MUST be supplied",
        || {
            let script = "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done";
            sh(script, |_| ()).prints(
                "/dev/null character special file 1:3 666\n\
             /dev/zero character special file 1:5 666\n\
             /dev/full character special file 1:7 666\n\
             /dev/random character special file 1:8 666\n\
             /dev/urandom character special file 1:9 666\n\
             /dev/tty character special file 5:0 666",
            );
        },
    ),
    Case::new("devices-default-work", DEFAULT, "and MUST be usable", || {
        let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 2 /dev/urandom | wc -c && \
                      { echo x > /dev/full || echo full; }";
        sh(script, |_| ()).says("3\n2\nfull");
    }),
    Case::new("devices-ptmx", DEFAULT, "/dev/ptmx is the container's own devpts", || {
        sh("readlink /dev/ptmx || stat -c %t:%T /dev/ptmx; ls /dev/pts", |_| ()).says("pt");
    }),
    Case::new(
        "devices-links",
        "runtime-linux.md#dev-symbolic-links",
        "fd, stdin, stdout, stderr are links",
        || {
            sh("for l in fd stdin stdout stderr; do readlink /dev/$l; done", |_| ())
                .prints("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2");
        },
    ),
    Case::new("devices-no-others", DEFAULT, "the host's other devices are not there", || {
        let output = sh("ls /dev | tr '\\n' ' '", |_| ());
        for name in ["kmsg", "mem", "vda", "kvm", "fuse"] {
            assert!(!output.ok().split(' ').any(|found| found == name), "{output}");
        }
    }),
    Case::new(
        "devices-made",
        DEVICES,
        "a listed device MUST be made with its mode and owner",
        || {
            let output =
                sh("stat -c '%F %t:%T %a %u:%g' /dev/made; stat -c '%F %a' /dev/pipe", |bundle| {
                    let made = json!({"path": "/dev/made", "type": "c", "major": 1, "minor": 5,
                              "fileMode": 0o640, "uid": 1000, "gid": 29});
                    let pipe = json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600});
                    push(&mut bundle.spec["linux"]["devices"], made);
                    push(&mut bundle.spec["linux"]["devices"], pipe);
                });
            output.prints("character special file 1:5 640 1000:29\nfifo 600");
        },
    ),
    Case::new("devices-unbuffered", DEVICES, "u is another name of c", || {
        let output = sh("stat -c '%F %t:%T' /dev/made", |bundle| {
            push(
                &mut bundle.spec["linux"]["devices"],
                json!({"path": "/dev/made", "type": "u", "major": 1, "minor": 5}),
            );
        });
        output.prints("character special file 1:5");
    }),
    Case::new("devices-below-dev", DEVICES, "parents of a device are made", || {
        let output = sh("stat -c %t:%T /dev/deep/er/made", |bundle| {
            push(
                &mut bundle.spec["linux"]["devices"],
                json!({"path": "/dev/deep/er/made", "type": "c", "major": 1, "minor": 5}),
            );
        });
        output.prints("1:5");
    }),
    Case::new("devices-wrong-type", DEVICES, "an unknown type is an error", || {
        refused(|bundle| {
            push(&mut bundle.spec["linux"]["devices"], json!({"path": "/dev/x", "type": "q"}));
        });
    })
    .peers_fail(&[("crun", "takes it for a file")]),
    Case::new(
        "devices-denied",
        "config-linux.md#allowed-device-list",
        "what is not allowed cannot be opened",
        || {
            let output = sh("mknod /tmp/d c 1 1 && cat /tmp/d || echo refused", |bundle| {
                bundle.spec["process"]["capabilities"] = all_capabilities();
                bundle.spec["linux"]["resources"]["devices"] =
                    json!([{"allow": false, "access": "rwm"}]);
            });
            output.says("refused").complains("not permitted");
        },
    ),
    Case::new(
        "devices-allowed",
        "config-linux.md#allowed-device-list",
        "rules apply in order, the last one wins",
        || {
            let output = sh(
                "mknod /tmp/d b 7 99 && echo made; mknod /tmp/e b 7 98 || echo refused",
                |bundle| {
                    bundle.spec["process"]["capabilities"] = all_capabilities();
                    bundle.spec["linux"]["resources"]["devices"] = json!([
                        {"allow": false, "access": "rwm"},
                        {"allow": true, "type": "b", "major": 7, "minor": 99, "access": "m"},
                    ]);
                },
            );
            // The default list allows making any device node; opening is what the rules are about.
            output.says("made");
        },
    ),
];

fn all_capabilities() -> serde_json::Value {
    let all = json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO"]);
    json!({"bounding": all, "effective": all, "permitted": all})
}
