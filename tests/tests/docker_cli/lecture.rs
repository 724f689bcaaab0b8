//! The lecture's two examples, verbatim: seccomp that answers `kill`, and capabilities.

use hako_tests::{Case, install::Hako};

const LECTURE: &str = "issue: the lecture";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "lecture-seccomp",
        LECTURE,
        "a profile that answers kill with ERRNO: Operation not permitted",
        || {
            let hako = Hako::with_busybox();
            let profile = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "name": "kill",
            "action": "SCMP_ACT_ERRNO"
        }
    ]
}"#;
            let newer = profile.replace("\"name\": \"kill\"", "\"names\": [\"kill\"]");
            for text in [profile, &newer] {
                let option =
                    format!("seccomp={}", hako.place().write("policy.json", text).display());
                let output = hako.sh(
                    &["--security-opt", &option],
                    "sleep 100 & kill %1; kill -0 $! && echo lives",
                );
                output.complains("Operation not permitted");
                assert!(!output.stdout.contains("lives"), "kill -0 is refused too\n{output}");
            }
            // Without it, kill works.
            hako.sh(&[], "sleep 100 & kill %1 && echo killed").prints("killed");
        },
    ),
    Case::new("lecture-raw-socket", LECTURE, "with the default set raw sockets work", || {
        let hako = Hako::with_busybox();
        hako.sh(&["--network", "none"], "ping -c 1 127.0.0.1").says("1 packets received");
        let none = hako.sh(
            &[
                "--network",
                "none",
                "--cap-drop",
                "ALL",
                "--sysctl",
                "net.ipv4.ping_group_range=1 0",
            ],
            "ping -c 1 127.0.0.1",
        );
        none.fails().complains("permi");
    }),
    Case::new("lecture-reboot", LECTURE, "with the default set reboot does not", || {
        // In a container reboot(2) could only end the container: so this is safe to try.
        let hako = Hako::with_busybox();
        hako.sh(&[], "busybox reboot -f; echo $?; echo still here")
            .says("still here")
            .complains("not permitted");
    }),
    Case::new(
        "lecture-one-capability",
        LECTURE,
        "--cap-drop ALL --cap-add NET_RAW leaves exactly one",
        || {
            let hako = Hako::with_busybox();
            let script = "awk '/Cap(Prm|Eff|Bnd)/{print $2}' /proc/self/status";
            hako.sh(&["--cap-drop", "ALL", "--cap-add", "NET_RAW"], script)
                .prints("0000000000002000\n0000000000002000\n0000000000002000");
            hako.sh(
                &["--cap-drop", "ALL", "--cap-add", "NET_RAW", "--network", "none"],
                "ping -c 1 127.0.0.1 >/dev/null && echo pong",
            )
            .prints("pong");
        },
    ),
];
