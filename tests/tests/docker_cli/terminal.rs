//! `-t`: a person at a terminal.

use hako_tests::{Case, command, image, install::Hako, pty::Terminal};

const TTY: &str = "docker run(1) -t";

fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("kill");
}

pub(crate) const CASES: &[Case] = &[
    Case::new("tty-shell", TTY, "-it is a shell to type into", || {
        let hako = Hako::with_busybox();
        let mut terminal =
            Terminal::start(&hako.command(&["run", "--rm", "-it", "busybox:test", "sh"]));
        terminal.expect("#");
        terminal.send("echo $((6 * 7)); tty\n");
        terminal.expect("42");
        terminal.expect("/dev/pts/0");
        terminal.send("exit 5\n");
        assert_eq!(terminal.finish().0, 5);
    }),
    Case::new(
        "tty-size",
        TTY,
        "the terminal inside has the size of the one outside, and follows it",
        || {
            let hako = Hako::with_busybox();
            let script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
            let terminal = Terminal::start(&hako.command(&[
                "run",
                "--rm",
                "-it",
                "busybox:test",
                "sh",
                "-c",
                script,
            ]));
            terminal.expect("24 80");
            terminal.expect("ready");
            terminal.resize(33, 111);
            terminal.expect("33 111");
            assert_eq!(terminal.finish().0, 0);
        },
    ),
    Case::new("tty-interrupt", TTY, "^C interrupts the program inside, not hako", || {
        let hako = Hako::with_busybox();
        let script =
            "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
        let mut terminal = Terminal::start(&hako.command(&[
            "run",
            "--rm",
            "-it",
            "busybox:test",
            "sh",
            "-c",
            script,
        ]));
        terminal.expect("ready");
        terminal.send("\u{3}");
        let (code, text) = terminal.finish();
        assert!(code == 3 && text.contains("interrupted"), "{code}: {text}");
    }),
    Case::new("tty-restored", TTY, "the caller's terminal is as it was", || {
        let hako = Hako::with_busybox();
        let inner = hako.command(&["run", "--rm", "-it", "busybox:test", "true"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "stty -a >$D/before; \"$@\"; stty -a >$D/after", "sh"]);
        shell.arg(inner.get_program()).args(inner.get_args()).env("D", hako.place().path());
        for (name, value) in inner.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        assert_eq!(Terminal::start(&shell).finish().0, 0);
        let read =
            |name: &str| std::fs::read_to_string(hako.place().join(name)).expect("it was written");
        assert_eq!(read("before"), read("after"));
    }),
    Case::new("tty-of-a-pipe", TTY, "-it without a terminal is refused, as by Docker", || {
        let hako = Hako::with_busybox();
        let output = hako.call_with(&["run", "--rm", "-it", "busybox:test", "true"], b"x");
        output.fails().complains("not a tty");
    }),
    Case::new("tty-without-input", TTY, "-t alone works without a terminal", || {
        let hako = Hako::with_busybox();
        hako.run(&["-t"], &["tty"]).says("/dev/pts/0");
    }),
    Case::new(
        "tty-lost",
        "issue: failing well",
        "a lost terminal does not kill a detached container",
        || {
            let hako = Hako::with_busybox();
            let words = ["run", "-d", "--name", "box", "busybox:test", "sleep", "1000"];
            assert_eq!(Terminal::start(&hako.command(&words)).finish().0, 0);
            // The terminal is gone, with a hang-up for whoever had it.
            assert_eq!(hako.inspect("box")["State"]["Running"], true);
        },
    ),
    Case::new("exec-tty", "docker exec(1)", "exec -it is a shell in the running container", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--name", "box", "-e", "IN=container"], &["sleep", "1000"]);
        let mut terminal = Terminal::start(&hako.command(&["exec", "-it", "box", "sh"]));
        terminal.expect("#");
        terminal.send("echo $IN:$(tty); exit 6\n");
        terminal.expect("container:/dev/pts/");
        assert_eq!(terminal.finish().0, 6);
    }),
    Case::new(
        "signal-reaches-the-container",
        "docker run(1) --sig-proxy",
        "a signal sent to hako run reaches the container",
        || {
            let hako = Hako::with_busybox();
            let script =
                "trap 'echo got term; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
            let child =
                hako.spawn(&["run", "--rm", "--name", "box", "busybox:test", "sh", "-c", script]);
            command::wait_until("it is ready", || {
                hako.call(&["logs", "box"]).stdout.contains("ready")
            });
            send_signal(child.id(), rustix::process::Signal::TERM);
            command::finish(child, "hako run".to_owned()).exits(7).says("got term");
        },
    ),
    Case::new(
        "load-progress",
        "docker load(1)",
        "on a terminal each new layer has its line; with -q, of what is there, and in a pipe none",
        || {
            let hako = Hako::new();
            let archive = image::busybox_archive();
            let archive = archive.to_string_lossy();
            let words = ["load", "-i", &*archive];
            let load = |words: &[&str]| Terminal::start(&hako.command(words)).finish();
            let (code, text) = load(&words);
            assert!(code == 0 && text.contains(": Loading layer"), "{text:?}");
            assert!(text.trim_end().ends_with("Loaded image: busybox:test"), "{text:?}");
            let (code, text) = load(&words);
            assert_eq!((code, text.trim_end()), (0, "Loaded image: busybox:test"));
            hako.call(&["rmi", "busybox:test"]).ok();
            let (code, text) = load(&["load", "-q", "-i", &archive]);
            assert_eq!((code, text.trim_end()), (0, "Loaded image: busybox:test"));
            hako.call(&["rmi", "busybox:test"]).ok();
            hako.call(&words).prints("Loaded image: busybox:test");
        },
    ),
    Case::new(
        "output-unread",
        "docker run(1)",
        "who stops reading ends hako, not the container, and nothing hangs",
        || {
            let hako = Hako::with_busybox();
            let script = "for i in $(seq 1000); do echo $i; sleep 0.1; done";
            let mut child =
                hako.spawn(&["run", "--name", "box", "busybox:test", "sh", "-c", script]);
            let mut pipe = child.stdout.take().expect("it is piped");
            let mut byte = [0];
            std::io::Read::read_exact(&mut pipe, &mut byte).expect("it says something");
            drop(pipe);
            let output = command::finish(child, "hako run".to_owned());
            output.exits(141).complains("container box goes on");
            assert_eq!(hako.inspect("box")["State"]["Running"], true);

            // One that ends by itself soon has its own code, and is removed.
            let mut child =
                hako.spawn(&["run", "--rm", "busybox:test", "sh", "-c", "echo x; exit 7"]);
            drop(child.stdout.take());
            command::finish(child, "hako run".to_owned()).exits(7);
            hako.call(&["ps", "-aq"]).says("").ok();
        },
    ),
    Case::new(
        "output-lost",
        "issue: failing well",
        "output that cannot be written is said to be lost",
        || {
            let hako = Hako::with_busybox();
            for (script, code) in [("echo x", 1), ("echo x; exit 5", 5)] {
                let mut command =
                    hako.command(&["run", "--rm", "busybox:test", "sh", "-c", script]);
                let full =
                    std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
                command.stdout(full).stderr(std::process::Stdio::piped());
                let child = command.spawn().expect("it starts");
                command::finish(child, script.to_owned()).exits(code).complains("no space left");
            }
        },
    ),
    Case::new(
        "signals-all",
        "docker run(1) --sig-proxy",
        "any signal reaches the container, and with a terminal, too",
        || {
            use rustix::process::Signal;
            let hako = Hako::with_busybox();
            let script = "trap 'echo alarm; exit 8' ALRM; trap 'echo term; exit 9' TERM; \
                          echo ready; while :; do sleep 0.05; done";
            let words = ["run", "--rm", "--name", "box", "busybox:test", "sh", "-c", script];
            let child = hako.spawn(&words);
            command::wait_until("it is ready", || {
                hako.call(&["logs", "box"]).stdout.contains("ready")
            });
            send_signal(child.id(), Signal::ALARM);
            command::finish(child, "hako run".to_owned()).exits(8).says("alarm");

            let words = ["run", "--rm", "-it", "busybox:test", "sh", "-c", script];
            let terminal = Terminal::start(&hako.command(&words));
            terminal.expect("ready");
            send_signal(terminal.pid(), Signal::TERM);
            assert_eq!(terminal.finish().0, 9);
        },
    ),
    Case::new(
        "signals-unheeded",
        "docker run(1)",
        "the third ^C ends a session with a program that heeds none, and leaves it running",
        || {
            let hako = Hako::with_busybox();
            let words =
                ["run", "--name", "box", "busybox:test", "sh", "-c", "echo ready; exec sleep 1000"];
            let mut terminal = Terminal::start(&hako.command(&words));
            terminal.expect("ready");
            // Two that come before hako looks are one.
            command::wait_until("it has enough", || {
                terminal.send("\u{3}");
                terminal.has_ended()
            });
            let (code, text) = terminal.finish();
            assert!(code == 130 && text.contains("forcefully exiting"), "{code}: {text}");
            assert_eq!(hako.inspect("box")["State"]["Running"], true);
        },
    ),
    Case::new(
        "start-attached-while-running",
        "docker start(1) -a",
        "a container that runs is attached to",
        || {
            let hako = Hako::with_busybox();
            let script = "while [ ! -e /go ]; do sleep 0.05; done; echo gone; exit 6";
            hako.detached(&["--name", "box"], &["sh", "-c", script]);
            let child = hako.spawn(&["start", "-a", "box"]);
            // Whether it is attached already cannot be seen: it gets the code in any case.
            hako.call(&["exec", "box", "touch", "/go"]).ok();
            command::finish(child, "hako start -a".to_owned()).exits(6);
        },
    ),
    Case::new(
        "tty-closed",
        "issue: failing well",
        "a terminal that is closed ends what was on it, without a crash",
        || {
            use std::os::unix::process::ExitStatusExt;
            let hako = Hako::with_busybox();
            hako.detached(&["--name", "box"], &["sleep", "1000"]);
            let shell = ["sh", "-c", "echo ready; exec sleep 1000"];
            let words = |first: &[&'static str]| [first, &shell[..]].concat();
            for words in [
                words(&["run", "-it", "--name", "other", "busybox:test"]),
                words(&["exec", "-it", "box"]),
            ] {
                let terminal = Terminal::start(&hako.command(&words));
                terminal.expect("ready");
                let status = terminal.hang_up();
                // Its own exit code, or that of the signal: 128 + SIGHUP.
                let sane = status.signal().is_none_or(|n| n == 1) && status.code() != Some(134);
                assert!(sane, "{words:?}: {status:?}");
            }
            // What was executed went with its terminal; a container goes on.
            assert_eq!(hako.inspect("other")["State"]["Running"], true);
            command::wait_until("the other sleep is gone", || {
                !hako.call(&["exec", "box", "ps"]).stdout.contains("sleep 1000\n    ")
            });
        },
    ),
];
