//! Failing well: Docker's texts and exit codes, and nothing left behind.

use std::process::Stdio;

use hako_tests::{Case, command, install::Hako};

const CODES: &str = "docker run(1), exit status";

/// Runs a command that must fail so; nothing may stay.
#[track_caller]
fn fails(hako: &Hako, words: &[&str], code: i32, text: &str) {
    hako.call(words).exits(code).complains(text);
    hako.call(&["ps", "-aq"]).prints("");
    let leaks = hako.leaks();
    assert!(leaks.is_empty(), "after {words:?}: {leaks:?}");
}

pub(crate) const CASES: &[Case] = &[
    Case::new("error-no-image", CODES, "125 for an image that is not there", || {
        let hako = Hako::new();
        fails(&hako, &["run", "--rm", "nosuch", "true"], 125, "nosuch:latest");
    }),
    Case::new("error-bad-reference", CODES, "125 for what is no reference", || {
        let hako = Hako::new();
        for reference in ["UPPER", "a b", "-x:y", ":tag", "a//b", "a:b:c", "name@sha256:12"] {
            hako.call(&["run", "--rm", "--", reference]).exits(125);
        }
        fails(&hako, &["run", "--rm", "UPPER"], 125, "invalid reference format");
    }),
    Case::new("error-no-command", CODES, "127 for a command that is not there", || {
        let hako = Hako::with_busybox();
        fails(&hako, &["run", "--rm", "busybox:test", "no-such-program"], 127, "no-such-program");
        fails(
            &hako,
            &["run", "--rm", "busybox:test", "no-such-program"],
            127,
            "not found in $PATH",
        );
        fails(
            &hako,
            &["run", "--rm", "busybox:test", "/no/such/program"],
            127,
            "no such file or directory",
        );
    }),
    Case::new("error-not-executable", CODES, "126 for a command that cannot be run", || {
        let hako = Hako::with_busybox();
        fails(&hako, &["run", "--rm", "busybox:test", "/etc/passwd"], 126, "permission denied");
        fails(&hako, &["run", "--rm", "busybox:test", "/etc"], 126, "/etc");
    }),
    Case::new("error-bad-format", CODES, "a file that the kernel cannot execute", || {
        let hako = Hako::with_busybox();
        let file = hako.place().write("text", "not a program\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, mode).expect("our own file");
        let volume = format!("{}:/text", file.display());
        let output = hako.call(&["run", "--rm", "-v", &volume, "busybox:test", "/text"]);
        output.fails().complains("exec format error");
        assert!([126, 127, 125].contains(&output.code), "{output}");
    }),
    Case::new("error-no-entrypoint", CODES, "127 for an entrypoint that is not there", || {
        let hako = Hako::with_busybox();
        fails(
            &hako,
            &["run", "--rm", "--entrypoint", "/no/entry", "busybox:test"],
            127,
            "/no/entry",
        );
    }),
    Case::new("error-detached-no-command", CODES, "the same with -d", || {
        let hako = Hako::with_busybox();
        let output = hako.call(&["run", "-d", "--rm", "busybox:test", "no-such-program"]);
        output.exits(127).complains("no-such-program");
    }),
    Case::new("error-unknown-flag", CODES, "125 for an unknown flag, and where to read on", || {
        let hako = Hako::new();
        let output = hako.call(&["run", "--no-such-flag", "busybox:test"]);
        output.exits(125).complains("--no-such-flag").complains("--help");
    }),
    Case::new("error-unknown-command", "docker(1)", "an unknown command is named", || {
        let output = Hako::new().call(&["frobnicate"]);
        output.fails().complains("frobnicate");
    }),
    Case::new(
        "error-missing-image-argument",
        "docker run(1)",
        "run without an image says what it needs",
        || {
            Hako::new().call(&["run"]).fails().complains("requires at least 1 argument");
        },
    ),
    Case::new("error-name-in-use", CODES, "125 for a name in use, and by whom", || {
        let hako = Hako::with_busybox();
        let id = hako.detached(&["--name", "taken"], &["sleep", "1000"]);
        let output = hako.call(&["run", "--name", "taken", "busybox:test", "true"]);
        output.exits(125).complains("already in use").complains(&id[..12]);
        hako.call(&["exec", "taken", "true"]).ok();
    }),
    Case::new("error-bad-name", CODES, "125 for a name with other characters", || {
        let hako = Hako::with_busybox();
        for name in ["a/b", "../x", "-x", "a b", "ü"] {
            hako.call(&["run", &format!("--name={name}"), "busybox:test", "true"]).exits(125);
        }
        fails(&hako, &["run", "--name", "a/b", "busybox:test"], 125, "Invalid container name");
    }),
    Case::new("error-bad-volume", CODES, "125 for a volume that makes no sense", || {
        let hako = Hako::with_busybox();
        fails(&hako, &["run", "--rm", "-v", "/tmp:relative", "busybox:test"], 125, "relative");
        fails(&hako, &["run", "--rm", "-v", "/tmp:/x:nonsense", "busybox:test"], 125, "nonsense");
        fails(&hako, &["run", "--rm", "-v", "/tmp:/", "busybox:test"], 125, "/");
    }),
    Case::new("error-bad-values", CODES, "125 for values that are none", || {
        let hako = Hako::with_busybox();
        for (flag, value) in [
            ("--cpus", "many"),
            ("--cpus", "-1"),
            ("--pids-limit", "x"),
            ("--ulimit", "nosuch=1"),
            ("--ulimit", "nofile=2:1"),
            ("--network", "nosuchnetwork"),
            ("--shm-size", "x"),
            ("--stop-timeout", "x"),
            ("--mount", "type=nosuch,target=/x"),
            ("--mount", "target=/x,nonsense"),
            ("--pull", "sometimes"),
            ("--cpuset-cpus", "1000"),
            ("--stop-signal", "NOSUCH"),
            ("--pid", "nosuch"),
            ("--ipc", "nosuch"),
            ("--user", "1:2:3"),
            ("--user", "4294967296"),
            ("--sysctl", "nonsense"),
            ("--device", ""),
            ("--env-file", "/no/such/file"),
        ] {
            let output = hako.call(&["run", "--rm", flag, value, "busybox:test", "true"]);
            assert!(output.code == 125, "{flag} {value}\n{output}");
            assert!(output.stderr.len() > 10, "{flag} {value}\n{output}");
        }
        let leaks = hako.leaks();
        assert!(leaks.is_empty(), "{leaks:?}");
    }),
    Case::new("error-no-container", "docker(1)", "what is not there is named, exit code 1", || {
        let hako = Hako::new();
        for verb in ["stop", "kill", "rm", "wait", "logs"] {
            hako.call(&[verb, "nosuch"]).exits(1).complains("No such container: nosuch");
        }
    }),
    Case::new(
        "error-load-missing-file",
        "docker load(1)",
        "a file that is not there is named",
        || {
            Hako::new()
                .call(&["load", "-i", "/no/such/archive.tar"])
                .exits(1)
                .complains("/no/such/archive.tar");
        },
    ),
    Case::new("error-load-garbage", "docker load(1)", "what is no archive is refused", || {
        let hako = Hako::new();
        let file = hako.place().write("garbage", "this is no archive\n".repeat(1000));
        hako.call(&["load", "-i", &file.to_string_lossy()]).exits(1);
        hako.call_with(&["load"], b"\x1f\x8b garbage").exits(1);
        hako.call(&["load", "-i", "/dev/null"]).exits(1);
        hako.call(&["images", "-q"]).prints("");
        let leaks = hako.leaks();
        assert!(leaks.is_empty(), "{leaks:?}");
    }),
    Case::new(
        "error-store-read-only",
        "issue: failing well",
        "a store that cannot be written is an error",
        || {
            let hako = Hako::with_busybox();
            let mount = hako_tests::binary::tool("mount");
            let bind = |words: &[&str]| {
                let mut command = std::process::Command::new(&mount);
                hako_tests::command::run(command.args(words).arg(hako.root())).ok();
            };
            let root = hako.root().to_string_lossy().into_owned();
            bind(&["--bind", &root]);
            bind(&["-o", "remount,bind,ro"]);
            let archive = hako_tests::image::busybox_archive();
            let output = hako.call(&["load", "-i", &archive.to_string_lossy()]);
            rustix::mount::unmount(root.as_str(), rustix::mount::UnmountFlags::empty())
                .expect("it is ours");
            output.fails().complains("read-only");
        },
    ),
    Case::new(
        "error-disk-full",
        "issue: failing well",
        "a full disk is an error, and loading works afterwards",
        || {
            let hako = Hako::that_unpacks();
            let root = hako.place().directory("root").to_string_lossy().into_owned();
            // Root may use the reserved blocks of a disk, so the disk is a small memory file system.
            let mount = |options: &str| {
                let mut command = std::process::Command::new(hako_tests::binary::tool("mount"));
                hako_tests::command::run(
                    command.args(["-t", "tmpfs", "-o", options, "tmpfs", &root]),
                )
                .ok();
            };
            mount("size=1500k");
            let archive = hako_tests::image::busybox_archive();
            let archive = archive.to_string_lossy();
            let full = hako.call(&["load", "-i", &archive]);
            let listed = hako.call(&["images", "-q"]);
            mount("remount,size=100m");
            let again = hako.call(&["load", "-q", "-i", &archive]);
            rustix::mount::unmount(root.as_str(), rustix::mount::UnmountFlags::empty())
                .expect("it is ours");
            full.fails().complains("no space left");
            listed.prints("");
            again.prints("Loaded image: busybox:test");
        },
    ),
    Case::new(
        "error-disk-full-remove",
        "issue: failing well",
        "on a disk that is full containers can be removed, and what failed leaves nothing",
        || {
            let hako = Hako::that_unpacks();
            let root = hako.place().directory("root").to_string_lossy().into_owned();
            let mut mount = std::process::Command::new(hako_tests::binary::tool("mount"));
            command::run(mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs", &root])).ok();
            let archive = hako_tests::image::busybox_archive();
            hako.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
            let fill = "dd if=/dev/zero of=/fill bs=4k 2>/dev/null; echo filled";
            let filled = hako.call(&["run", "--name", "box", "busybox:test", "sh", "-c", fill]);
            let refused = hako.call(&["run", "--rm", "busybox:test", "true"]);
            let staging = std::fs::read_dir(hako.root().join("snapshots/staging"));
            let staged = staging.expect("it is there").count();
            let removed = hako.call(&["rm", "box"]);
            let again = hako.call(&["run", "--rm", "busybox:test", "echo", "fine"]);
            let listed = hako.call(&["ps", "-aq"]);
            rustix::mount::unmount(root.as_str(), rustix::mount::UnmountFlags::empty())
                .expect("it is ours");
            filled.prints("filled");
            refused.exits(125).complains("no space left");
            assert_eq!(staged, 0);
            removed.prints("box");
            again.prints("fine");
            listed.prints("");
        },
    ),
    Case::new(
        "error-out-of-files",
        "issue: failing well",
        "EMFILE is an error, not a crash",
        || {
            let hako = Hako::with_busybox();
            for limit in [5, 8, 12, 20] {
                let inner = hako.command(&["run", "--rm", "busybox:test", "true"]);
                let mut shell = std::process::Command::new("sh");
                shell
                    .args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"])
                    .arg(inner.get_program());
                shell.args(inner.get_args());
                for (name, value) in inner.get_envs() {
                    shell.env(name, value.unwrap_or_default());
                }
                let output = hako_tests::command::run(&mut shell);
                output.is_sane();
                assert!(output.code == 0 || !output.stderr.is_empty(), "{output}");
            }
            hako.call(&["run", "--rm", "busybox:test", "echo", "still works"])
                .prints("still works");
            let leaks = hako.leaks();
            assert!(leaks.is_empty(), "{leaks:?}");
        },
    ),
    Case::new(
        "error-closed-output",
        "issue: failing well",
        "a reader that goes away is no panic",
        || {
            let hako = Hako::with_busybox();
            let inner = hako.command(&["images"]);
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", "\"$@\" | true; echo done", "sh"])
                .arg(inner.get_program())
                .args(inner.get_args());
            for (name, value) in inner.get_envs() {
                shell.env(name, value.unwrap_or_default());
            }
            hako_tests::command::run(&mut shell).is_sane().prints("done");
        },
    ),
    Case::new("error-unheard", CODES, "nobody to tell of an error is no reason to crash", || {
        let hako = Hako::new();
        for (words, code) in [
            (&["frobnicate"][..], 1),
            (&["rm", "nosuch"], 1),
            (&["run", "--rm", "nosuch"], 125),
            (&["run", "--nosuch"], 125),
            (&["ps", "word"], 1),
        ] {
            let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
            let child = hako.command(words).stderr(full).stdout(Stdio::null()).spawn();
            command::finish(child.expect("it starts"), format!("{words:?}")).exits(code);
        }
    }),
    Case::new(
        "error-texts",
        CODES,
        "errors are the kernel's words, without Rust's numbers",
        || {
            let hako = Hako::new();
            let output = hako.call(&["load", "-i", "/no/such/file"]);
            output.exits(1).complains("no such file or directory");
            assert!(!output.stderr.contains("os error"), "{output}");
        },
    ),
    Case::new("error-cidfile", CODES, "a --cidfile that cannot be written leaves nothing", || {
        let hako = Hako::with_busybox();
        let words = ["--cidfile", "/no/such/dir/id", "busybox:test", "true"];
        fails(&hako, &[&["run"], &words[..]].concat(), 125, "/no/such/dir/id");
        hako.call(&[&["create"], &words[..]].concat()).fails();
        hako.call(&["ps", "-aq"]).prints("");
    }),
    Case::new("error-endless-file", CODES, "files that flags name have an end", || {
        let hako = Hako::with_busybox();
        for flag in
            ["--env-file=/dev/zero", "--label-file=/dev/zero", "--security-opt=seccomp=/dev/zero"]
        {
            fails(&hako, &["run", flag, "busybox:test", "true"], 125, "longer than 16 MiB");
        }
    }),
];
