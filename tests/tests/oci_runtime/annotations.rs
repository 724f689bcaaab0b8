//! Annotations: crun's `run.oci.*`, and Landlock's rules.

use std::{fs, io::Read, os::unix::net::UnixListener, path::Path};

use hako_tests::{Case, bundle::Bundle, command, runtime::Container, skip};
use serde_json::{Value, json};

use super::{refused, sh, sleeping};

const CRUN: &str = "crun(1)#extensions-to-oci";
const LANDLOCK: &str = "runtime-spec#1241";
const FEATURES: &str = "features.md";

/// What only crun and hako-runc have.
const RUNC: (&str, &str) = ("runc", "has no run.oci annotations");
const NO_LANDLOCK: &[(&str, &str)] = &[("runc", "has no Landlock"), ("crun", "has no Landlock")];

fn annotate(bundle: &mut Bundle, name: &str, value: &str) {
    bundle.spec["annotations"][name] = json!(value);
}

#[track_caller]
fn landlock(bundle: &mut Bundle, rules: &Value) {
    let features = Container::new(Bundle::new()).call(&["features"]);
    if features.stdout.contains("\"io.hako.landlock.enabled\": \"false\"") {
        skip!("the kernel has no Landlock");
    }
    annotate(bundle, "io.hako.landlock", &rules.to_string());
}

/// Writing is for /tmp only.
fn write_rules() -> Value {
    json!({
        "ruleset": {"handledAccessFS": ["write_file", "make_reg"]},
        "rules": {"pathBeneath": [
            {"allowedAccess": ["write_file", "make_reg"], "paths": ["/tmp"]},
            {"allowedAccess": ["write_file", "make_reg"], "paths": ["/dev/null"]},
        ]},
    })
}

pub(crate) const CASES: &[Case] = &[
    Case::new("landlock-path", LANDLOCK, "what is handled is denied, but where a rule allows it", || {
        let output = sh("echo a > /tmp/a && cat /tmp/a /etc/os-release > /dev/null && echo there; echo b > /etc/b || echo refused", |bundle| {
            landlock(bundle, &write_rules());
        });
        output.says("there").says("refused").complains("denied");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-without-no-new-privileges", LANDLOCK, "… also of a process that can gain privileges", || {
        let output = sh("echo b > /etc/b || echo refused", |bundle| {
            landlock(bundle, &write_rules());
            bundle.spec["process"]["noNewPrivileges"] = json!(false);
            bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        });
        output.says("refused");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-of-exec", LANDLOCK, "what is executed later is under the same rules", || {
        let container = sleeping(|bundle| landlock(bundle, &write_rules()));
        container.exec(&[], &["sh", "-c", "echo x > /tmp/x && echo there; echo x > /etc/x || echo refused"])
            .says("there")
            .says("refused");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-execute", LANDLOCK, "a program that no rule allows is not executed", || {
        let output = sh("echo it runs", |bundle| {
            landlock(bundle, &json!({"ruleset": {"handledAccessFS": ["execute"]}}));
        });
        output.fails().complains("permission denied");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-missing-path", LANDLOCK, "a rule for a path that is not there is an error that names it", || {
        refused(|bundle| {
            let mut rules = write_rules();
            rules["rules"]["pathBeneath"][0]["paths"] = json!(["/no/such/path"]);
            landlock(bundle, &rules);
        })
        .complains("/no/such/path");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-unknown-right", LANDLOCK, "an unknown access right is an error", || {
        refused(|bundle| {
            landlock(bundle, &json!({"ruleset": {"handledAccessFS": ["levitate"]}}));
        })
        .complains("levitate");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("landlock-port", LANDLOCK, "a TCP port that no rule allows cannot be bound", || {
        let output = sh("nc -l -p 8081 -w 1 </dev/null; echo $?; timeout 1 nc -l -p 8080 </dev/null; echo $?", |bundle| {
            let mut rules = json!({"ruleset": {"handledAccessNet": ["bind_tcp"]}});
            rules["rules"] = json!({"netPort": [{"allowedAccess": ["bind_tcp"], "ports": [8080]}]});
            rules["disableBestEffort"] = json!(true);
            landlock(bundle, &rules);
        });
        if output.stderr.contains("version") {
            skip!("the kernel's Landlock knows no ports");
        }
        output.says("1\n").complains("denied");
        assert_eq!(output.stderr.matches("denied").count(), 1, "{output}");
    })
    .peers_fail(NO_LANDLOCK),
    Case::new("keep-original-groups", CRUN, "with run.oci.keep_original_groups the caller's groups stay", || {
        let mut bundle = Bundle::sh("id -G");
        annotate(&mut bundle, "run.oci.keep_original_groups", "1");
        bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [7]});
        let container = Container::new(bundle);
        let run = container.run_command(&[]);
        // A group that nobody else has.
        let mut outside = std::process::Command::new(hako_tests::binary::tool("setpriv"));
        outside.args(["--groups", "4242"]).arg(run.get_program()).args(run.get_args());
        let output = command::run(&mut outside);
        output.says("4242");
        assert!(!output.stdout.split_whitespace().any(|group| group == "7"), "{output}");
    })
    .peers_fail(&[RUNC]),
    Case::new("hooks-output", CRUN, "run.oci.hooks.stdout and .stderr take what hooks print", || {
        let mut bundle = Bundle::new();
        let (out, err) = (bundle.place().join("out"), bundle.place().join("err"));
        annotate(&mut bundle, "run.oci.hooks.stdout", &out.to_string_lossy());
        annotate(&mut bundle, "run.oci.hooks.stderr", &err.to_string_lossy());
        let hook = |word: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {word}; echo {word}-err >&2")]}]);
        bundle.spec["hooks"] = json!({
            "createRuntime": hook("runtime"), "startContainer": hook("inside"), "poststop": hook("stop"),
        });
        let container = Container::new(bundle);
        container.run().ok();
        assert_eq!(fs::read_to_string(&out).unwrap_or_default(), "runtime\ninside\nstop\n");
        assert_eq!(fs::read_to_string(&err).unwrap_or_default(), "runtime-err\ninside-err\nstop-err\n");
    })
    .peers_fail(&[RUNC]),
    Case::new("pidfd-receiver", CRUN, "run.oci.pidfd_receiver gets a message with a descriptor", || {
        let mut bundle = Bundle::new();
        let path = bundle.place().join("pidfd.sock");
        let listener = UnixListener::bind(&path).expect("our own directory");
        annotate(&mut bundle, "run.oci.pidfd_receiver", &path.to_string_lossy());
        Container::new(bundle).run().ok();
        listener.set_nonblocking(true).expect("a socket");
        let (mut stream, _) = listener.accept().expect("it has connected");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it is closed");
        assert!(!bytes.is_empty());
    })
    .peers_fail(&[RUNC, ("crun", "1.8 does not know it")]),
    Case::new(
        "seccomp-receiver",
        CRUN,
        "run.oci.seccomp.receiver gets the listener where the profile names nobody",
        || {
            let mut bundle = Bundle::new();
            let path = bundle.place().join("receiver.sock");
            let listener = UnixListener::bind(&path).expect("our own directory");
            bundle.spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
            });
            let container = Container::new(bundle);
            let mut run = container.run_command(&[]);
            command::run(run.env("RUN_OCI_SECCOMP_RECEIVER", &path)).ok();
            listener.set_nonblocking(true).expect("a socket");
            let (mut stream, _) = listener.accept().expect("it has connected");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("it is closed");
            assert!(text.contains(container.id()), "{text}");
        },
    )
    .peers_fail(&[RUNC]),
    Case::new("seccomp-fail-unknown", CRUN, "run.oci.seccomp_fail_unknown_syscall refuses an unknown name", || {
        refused(|bundle| {
            annotate(bundle, "run.oci.seccomp_fail_unknown_syscall", "1");
            bundle.spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["not_a_call"], "action": "SCMP_ACT_ERRNO"}],
            });
        })
        .complains("not_a_call");
    })
    .peers_fail(&[RUNC]),
    Case::new("seccomp-bpf-data", CRUN, "run.oci.seccomp_bpf_data is the filter", || {
        // mkdir and mkdirat are answered by EPERM, on x86-64; all else is allowed.
        let insns: &[(u16, u8, u8, u32)] = &[
            (0x20, 0, 0, 0),
            (0x15, 1, 0, 83),
            (0x15, 0, 1, 258),
            (0x06, 0, 0, 0x0005_0001),
            (0x06, 0, 0, 0x7fff_0000),
        ];
        if !cfg!(target_arch = "x86_64") {
            skip!("the filter is for x86-64");
        }
        let bytes: Vec<u8> = insns
            .iter()
            .flat_map(|(code, yes, no, k)| {
                [&code.to_ne_bytes()[..], &[*yes, *no], &k.to_ne_bytes()].concat()
            })
            .collect();
        sh("mkdir /tmp/x || echo refused", |bundle| {
            annotate(bundle, "run.oci.seccomp_bpf_data", &base64(&bytes));
        })
        .prints("refused");
    })
    .peers_fail(&[RUNC]),
    Case::new("timens-offset", CRUN, "run.oci.timens_offset shifts a clock of a new time namespace", || {
        if !Path::new("/proc/self/ns/time").exists() {
            skip!("the kernel has no time namespaces");
        }
        let output = sh("cut -d. -f1 /proc/uptime", |bundle| {
            bundle.add_namespace("time");
            annotate(bundle, "run.oci.timens_offset", "boottime 1000000000 0");
        });
        assert!(output.ok().trim().parse::<u64>().is_ok_and(|up| up >= 1_000_000_000), "{output}");
    })
    .peers_fail(&[RUNC, ("crun", "1.8 fails without a word")]),
    Case::new("handler-is-refused", CRUN, "a handler that is not there is an error", || {
        refused(|bundle| annotate(bundle, "run.oci.handler", "no-such-handler")).complains("handler");
    })
    .peers_fail(&[RUNC, ("crun", "1.8 passes over a handler that it has not")]),
    Case::new("annotation-unknown", "config.md#annotations", "an unknown annotation MUST NOT be an error", || {
        sh("echo fine", |bundle| annotate(bundle, "org.example.unknown", "x")).prints("fine");
    }),
    Case::new("annotation-without-a-name", "config.md#annotations", "names MUST NOT be empty", || {
        refused(|bundle| annotate(bundle, "", "x")).complains("annotations");
    })
    .peers_fail(&[("runc", "takes it"), ("crun", "takes it")]),
    Case::new("features-annotations", FEATURES, "unsafe annotations are listed", || {
        let container = Container::new(Bundle::new());
        let output = container.call(&["features"]);
        let features: Value = serde_json::from_str(output.ok()).expect("JSON");
        let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().expect("a list");
        assert!(listed.contains(&json!("run.oci.")) && listed.contains(&json!("org.systemd.property.")));
        assert_eq!(features["linux"]["netDevices"]["enabled"], json!(true));
    })
    .peers_fail(&[("runc", "1.1 is older than the field"), ("crun", "1.8 has no features")]),
];

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}
