//! config.md: the process, its user, limits and environment; hostname and domainname.

use hako_tests::{Case, bundle::Bundle, pty::Terminal, runtime::Container};
use serde_json::json;

use super::{refused, sh};

const PROCESS: &str = "config.md#process";
const POSIX: &str = "config.md#posix-process";
const LINUX: &str = "config.md#linux-process";
const USER: &str = "config.md#posix-platform-user";

pub(crate) const CASES: &[Case] = &[
    Case::new("process-cwd", PROCESS, "cwd is the working directory of the program", || {
        sh("pwd", |bundle| bundle.spec["process"]["cwd"] = json!("/home/app")).prints("/home/app");
    }),
    Case::new("process-cwd-relative", PROCESS, "cwd MUST be an absolute path", || {
        refused(|bundle| bundle.spec["process"]["cwd"] = json!("tmp"));
    })
    .peers_fail(&[("crun", "takes it")]),
    Case::new(
        "process-cwd-of-another-user",
        PROCESS,
        "cwd is entered as the container's user too",
        || {
            let output = sh("pwd", |bundle| {
                bundle.spec["process"]["cwd"] = json!("/home/app");
                bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            });
            output.prints("/home/app");
        },
    ),
    Case::new("process-env", PROCESS, "env has the environment, and nothing else is in it", || {
        let output = sh("env", |bundle| {
            bundle.spec["process"]["args"] = json!(["env"]);
            bundle.spec["process"]["env"] =
                json!(["PATH=/bin", "B=2", "A=with = and space", "HOME=/x"]);
        });
        let mut lines: Vec<&str> = output.ok().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=with = and space", "B=2", "HOME=/x", "PATH=/bin"]);
    }),
    Case::new(
        "process-env-twice",
        PROCESS,
        "of a variable given twice the last one counts",
        || {
            let output = sh("", |bundle| {
                bundle.spec["process"]["args"] = json!(["env"]);
                bundle.spec["process"]["env"] = json!(["PATH=/bin", "A=1", "A=2"]);
            });
            assert!(output.ok().contains("A=2\n") && !output.stdout.contains("A=1\n"), "{output}");
        },
    )
    .peers_fail(&[("runc", "1.1 hands both on"), ("crun", "hands both on")]),
    Case::new(
        "process-home",
        "runc: libcontainer",
        "HOME comes from passwd where env has none",
        || {
            sh("echo $HOME", |bundle| {
                bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            })
            .prints("/home/app");
        },
    ),
    Case::new(
        "process-args-by-path",
        PROCESS,
        "a program without / is looked up in the container's PATH",
        || {
            let output = sh("", |bundle| {
                bundle.spec["process"]["args"] = json!(["only-here"]);
                bundle.spec["process"]["env"] = json!(["PATH=/nowhere:/opt"]);
                bundle.place().write("rootfs/opt/only-here", "#!/bin/sh\necho found\n");
                let path = bundle.rootfs("opt/only-here");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(path, mode).expect("our own file");
            });
            output.prints("found");
        },
    ),
    Case::new("process-args-missing", POSIX, "args MUST have at least one entry", || {
        refused(|bundle| bundle.spec["process"]["args"] = json!([]));
    }),
    Case::new(
        "process-args-unknown-program",
        PROCESS,
        "a missing program is an error that names it",
        || {
            let output =
                refused(|bundle| bundle.spec["process"]["args"] = json!(["/no/such/program"]));
            output.complains("/no/such/program");
        },
    ),
    Case::new("process-args-not-executable", PROCESS, "a file without x is an error", || {
        refused(|bundle| bundle.spec["process"]["args"] = json!(["/etc/passwd"]))
            .complains("denied");
    }),
    Case::new("process-args-with-nothing-special", PROCESS, "arguments arrive as they are", || {
        let words = ["printf", "%s|", "a b", "", "$HOME", "*", "\"q\"", "ü"];
        sh("", |bundle| bundle.spec["process"]["args"] = json!(words))
            .prints("a b||$HOME|*|\"q\"|ü|");
    }),
    Case::new("process-is-pid-1", LINUX, "in a new PID namespace the program is process 1", || {
        sh("echo $$", |_| ()).prints("1");
    }),
    Case::new("process-stdin", PROCESS, "standard streams are handed on", || {
        let container = Container::new(Bundle::sh("cat; echo err >&2"));
        let output = container.run_with(&[], b"typed");
        output.prints("typed").complains("err");
    }),
    Case::new(
        "process-has-no-other-descriptors",
        "CVE-2024-21626",
        "only 0, 1 and 2 are open",
        || {
            // The shell that lists opens one itself.
            sh("ls /proc/self/fd | tr '\\n' ' '", |_| ()).prints("0 1 2 3");
        },
    ),
    Case::new(
        "process-starts-with-clean-signals",
        PROCESS,
        "no signal is blocked or ignored",
        || {
            let output = sh("", |bundle| {
                bundle.spec["process"]["args"] = json!(["grep", "Sig[BI]", "/proc/self/status"]);
            });
            // Of the 31 that have names; what a C library keeps for itself is its own affair.
            for line in output.ok().lines() {
                let mask =
                    line.split('\t').nth(1).and_then(|mask| u64::from_str_radix(mask, 16).ok());
                assert_eq!(mask.map(|mask| mask & 0x7fff_ffff), Some(0), "{output}");
            }
        },
    ),
    Case::new(
        "user-uid-gid",
        USER,
        "uid and gid are the process's, real, effective, saved and fs",
        || {
            let output = sh("grep -E '^(Uid|Gid)' /proc/self/status", |bundle| {
                bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 29});
            });
            output.prints("Uid:\t1000\t1000\t1000\t1000\nGid:\t29\t29\t29\t29");
        },
    ),
    Case::new("user-additional-gids", USER, "additionalGids are the supplementary groups", || {
        let output = sh("grep Groups /proc/self/status", |bundle| {
            bundle.spec["process"]["user"] =
                json!({"uid": 1000, "gid": 1000, "additionalGids": [10, 29]});
        });
        let words: Vec<&str> = output.ok().split_whitespace().collect();
        assert!(words.contains(&"10") && words.contains(&"29"), "{output}");
        assert!(words.iter().skip(1).all(|word| ["10", "29", "1000"].contains(word)), "{output}");
    }),
    Case::new(
        "user-no-groups-of-the-caller",
        USER,
        "the caller's supplementary groups are dropped",
        || {
            let container = Container::new(Bundle::sh("grep Groups /proc/self/status"));
            let inner = container.run_command(&[]);
            let mut command = std::process::Command::new(hako_tests::binary::tool("setpriv"));
            command.args(["--groups", "4242,4243"]).arg(inner.get_program()).args(inner.get_args());
            let output = hako_tests::command::run(&mut command);
            assert!(!output.ok().contains("424"), "{output}");
        },
    ),
    Case::new("user-umask", USER, "umask is the process's", || {
        sh("umask", |bundle| {
            bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o027});
        })
        .prints("0027");
    }),
    Case::new("user-umask-default", USER, "without umask it is 0022", || {
        sh("umask", |_| ()).prints("0022");
    }),
    Case::new("user-without-an-entry", USER, "a uid without a passwd entry is fine", || {
        sh("id -u; id -g", |bundle| {
            bundle.spec["process"]["user"] = json!({"uid": 4321, "gid": 8765});
        })
        .prints("4321\n8765");
    }),
    Case::new("terminal-false", PROCESS, "without terminal there is none", || {
        sh("tty; exit 0", |_| ()).prints("not a tty");
    }),
    Case::new(
        "terminal-true",
        PROCESS,
        "with terminal all three streams are a new pseudo terminal",
        || {
            let mut bundle = Bundle::sh(
                "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three; ls -l /dev/console",
            );
            bundle.spec["process"]["terminal"] = json!(true);
            let container = Container::new(bundle);
            let (code, text) = Terminal::start(&container.run_command(&[])).finish();
            assert_eq!(code, 0, "{text}");
            assert!(text.contains("/dev/pts/0") && text.contains("all three"), "{text}");
            assert!(text.contains("/dev/console"), "{text}");
        },
    ),
    Case::new("terminal-is-the-controlling-one", PROCESS, "/dev/tty opens", || {
        let mut bundle = Bundle::sh("echo by tty > /dev/tty");
        bundle.spec["process"]["terminal"] = json!(true);
        let container = Container::new(bundle);
        let (code, text) = Terminal::start(&container.run_command(&[])).finish();
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("by tty"), "{text}");
    }),
    Case::new(
        "terminal-follows-resizing",
        "runc run(8)",
        "the terminal inside has the size of the one outside",
        || {
            let mut bundle =
                Bundle::sh("trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.1; done");
            bundle.spec["process"]["terminal"] = json!(true);
            let container = Container::new(bundle);
            let terminal = Terminal::start(&container.run_command(&[]));
            terminal.expect("24 80");
            terminal.resize(50, 132);
            terminal.expect("50 132");
            assert_eq!(terminal.finish().0, 0);
        },
    )
    .peers_fail(&[
        ("runc", "1.1: sometimes the program is there before its terminal has a size"),
        ("crun", "1.8 starts with a terminal of no size"),
    ]),
    Case::new("rlimits", POSIX, "soft and hard limits are set", || {
        let output = sh("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs", |bundle| {
            bundle.spec["process"]["rlimits"] = json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_STACK", "soft": 4194304, "hard": 8388608},
            ]);
        });
        output.prints("100\n200\n0\n8192");
    }),
    Case::new("rlimits-all", POSIX, "all sixteen names are known", || {
        const NAMES: &[&str] = &[
            "AS",
            "CORE",
            "CPU",
            "DATA",
            "FSIZE",
            "LOCKS",
            "MEMLOCK",
            "MSGQUEUE",
            "NICE",
            "NOFILE",
            "NPROC",
            "RSS",
            "RTPRIO",
            "RTTIME",
            "SIGPENDING",
            "STACK",
        ];
        // Below every hard limit a machine has, and harmless where it counts.
        let value = |name: &str| match name {
            "AS" | "DATA" | "FSIZE" | "RSS" | "STACK" => 1_u64 << 33,
            "RTPRIO" | "NICE" | "MSGQUEUE" | "MEMLOCK" => 0,
            _ => 1000,
        };
        let limits: Vec<_> = NAMES
            .iter()
            .map(|name| json!({"type": format!("RLIMIT_{name}"), "soft": value(name), "hard": value(name)}))
            .collect();
        let output =
            sh("cat /proc/self/limits", |bundle| bundle.spec["process"]["rlimits"] = json!(limits));
        let seen = output
            .ok()
            .lines()
            .filter(|line| line.contains(" 1000 ") || line.contains(" 8589934592 "));
        assert_eq!(seen.count(), 12, "{output}");
    }),
    Case::new("rlimits-twice", POSIX, "two entries of one type MUST be an error", || {
        refused(|bundle| {
            let limit = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
            bundle.spec["process"]["rlimits"] = json!([limit, limit]);
        });
    })
    .peers_fail(&[("runc", "1.1 takes the last one"), ("crun", "takes the last one")]),
    Case::new("rlimits-unknown", POSIX, "a type that cannot be mapped MUST be an error", || {
        refused(|bundle| {
            bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]);
        });
    }),
    Case::new(
        "rlimits-soft-above-hard",
        POSIX,
        "a soft limit above the hard one is an error",
        || {
            refused(|bundle| {
                bundle.spec["process"]["rlimits"] =
                    json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]);
            });
        },
    ),
    Case::new("no-new-privileges", LINUX, "noNewPrivileges sets the bit", || {
        sh("grep NoNewPrivs /proc/self/status", |_| ()).prints("NoNewPrivs:\t1");
    }),
    Case::new("new-privileges", LINUX, "and leaves it where it is false", || {
        sh("grep NoNewPrivs /proc/self/status", |bundle| {
            bundle.spec["process"]["noNewPrivileges"] = json!(false);
        })
        .prints("NoNewPrivs:\t0");
    }),
    Case::new("oom-score-adj", LINUX, "oomScoreAdj is set", || {
        sh("cat /proc/self/oom_score_adj", |bundle| {
            bundle.spec["process"]["oomScoreAdj"] = json!(321);
        })
        .prints("321");
    }),
    Case::new(
        "oom-score-adj-absent",
        LINUX,
        "without oomScoreAdj the value MUST NOT change",
        || {
            let own =
                std::fs::read_to_string("/proc/self/oom_score_adj").expect("it is always there");
            sh("cat /proc/self/oom_score_adj", |_| ()).prints(&own);
        },
    ),
    Case::new("hostname", "config.md#hostname", "hostname is set in the UTS namespace", || {
        sh("hostname", |bundle| bundle.spec["hostname"] = json!("a-name.example"))
            .prints("a-name.example");
    }),
    Case::new(
        "hostname-without-namespace",
        "config.md#hostname",
        "the host's name is never changed",
        || {
            let before = rustix::system::uname().nodename().to_owned();
            refused(|bundle| bundle.without_namespace("uts"));
            assert_eq!(rustix::system::uname().nodename().to_owned(), before);
        },
    )
    .peers_fail(&[("crun", "sets the name of the namespace it runs in")]),
    Case::new(
        "domainname",
        "config.md#domainname",
        "domainname is set in the UTS namespace",
        || {
            sh("cat /proc/sys/kernel/domainname", |bundle| {
                bundle.spec["domainname"] = json!("nis.example");
            })
            .prints("nis.example");
        },
    )
    .peers_fail(&[
        ("runc", "1.1 does not know domainname"),
        ("crun", "1.8 does not know domainname"),
    ]),
];
