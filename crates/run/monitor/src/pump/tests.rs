//! The loop around ordinary processes: it does not know what a container is.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use hako_sys::poll::set_nonblocking;
use hako_sys::process::ExitStatus;
use hako_sys::unix;

use super::*;
use crate::client::{Client, Received};
use crate::config::{LogConfig, SOCKET_NAME};
use crate::exit::Exit;
use crate::log::{Follow, Reader, Window};
use crate::protocol::{Request, STDIN_WINDOW, Streams};

/// A process whose output is watched, and what a test wants to know of it.
struct Case {
    dir: tempfile::TempDir,
    child: std::process::Child,
    pidfd: OwnedFd,
    io: Io,
    stdin_once: bool,
    stall: Duration,
}

impl Case {
    fn shell(script: &str) -> Case {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let io = Io {
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
            ..Io::default()
        };
        Case::new(child, io)
    }

    fn terminal(script: &str) -> Case {
        let (master, terminal) = tty::open_pty().unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Case::new(child, Io { console: Some(master), ..Io::default() })
    }

    fn new(child: std::process::Child, io: Io) -> Case {
        for fd in [&io.stdin, &io.stdout, &io.stderr, &io.console].into_iter().flatten() {
            set_nonblocking(fd.as_fd()).unwrap();
        }
        let pidfd = process::pidfd_open(child.id() as i32).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Case { dir, child, pidfd, io, stdin_once: true, stall: Duration::from_secs(600) }
    }

    /// Runs the process to its end, with `first` as what the first client asks before, and `talk`
    /// as what it and others do meanwhile. Gives the exit status, the log, and what `talk` gave.
    fn run<T: Send>(
        self,
        first: &[Request<'_>],
        talk: impl FnOnce(Client, &std::path::Path) -> T + Send,
    ) -> (ExitStatus, String, T) {
        let (mut client, socket) = Client::pair().unwrap();
        for request in first {
            client.send(request).unwrap();
        }
        let path = self.dir.path();
        let dir = File::open(path).unwrap();
        let listener = unix::listen_at(dir.as_fd(), SOCKET_NAME, 8).unwrap();
        // SIGHUP does not come: the test's own signals are not ours to take.
        let signals = SignalFd::new(&[SIGHUP]).unwrap();
        let log_path = path.join("log");
        let log = Writer::open(LogConfig { path: log_path.clone(), ..LogConfig::default() });
        let clients = Clients::new(Some(socket)).with_stall(self.stall);
        let mut pump = Pump::new(clients, Some(log.unwrap()), &listener, &signals);
        pump.io = self.io;
        pump.stdin_once = self.stdin_once;
        pump.pid = self.child.id() as i32;
        let (status, told) = thread::scope(|scope| {
            let talking = scope.spawn(|| talk(client, path));
            if let (Some(size), Some(console)) = (pump.listen(), &pump.io.console) {
                tty::set_window_size(console.as_fd(), size).unwrap();
            }
            pump.run(self.pidfd.as_fd()).unwrap();
            let status = process::wait(self.pidfd.as_fd()).unwrap();
            pump.drain().unwrap();
            pump.end_output();
            let exit = Exit { code: status.code(), signal: None, oom_killed: false };
            pump.farewell(&Event::Exited(exit)).unwrap();
            drop(pump);
            (status, talking.join().unwrap())
        });
        let mut log = Reader::open(&log_path, Window::default(), Follow::default()).unwrap();
        let lines = std::iter::from_fn(|| log.next_entry().unwrap());
        (status, lines.map(|entry| entry.text).collect(), told)
    }
}

/// What a client heard until the end.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
}

fn hear(client: &mut Client) -> Heard {
    let mut heard = Heard::default();
    loop {
        match client.receive(None).unwrap() {
            Received::Event(Event::Stdout(bytes)) => heard.stdout.extend_from_slice(bytes),
            Received::Event(Event::Stderr(bytes)) => heard.stderr.extend_from_slice(bytes),
            Received::Event(Event::Exited(exit)) => heard.code = Some(exit.code),
            Received::Event(_) | Received::Nothing => {}
            Received::End => return heard,
        }
    }
}

#[test]
fn output_goes_to_log_and_clients() {
    let case = Case::shell("echo out; echo err >&2; printf rest; exit 3");
    let (status, log, heard) =
        case.run(&[Request::Attach(Streams::OUTPUT)], |mut client, _| hear(&mut client));
    assert_eq!(status, ExitStatus::Exited(3));
    let expected = Heard { stdout: b"out\nrest".into(), stderr: b"err\n".into(), code: Some(3) };
    assert_eq!(heard, expected);
    assert!(log.contains("out\n") && log.contains("err\n") && log.ends_with("rest"), "{log}");
}

#[test]
fn who_is_not_attached_hears_the_end_only() {
    let (_, log, heard) = Case::shell("echo out").run(&[], |mut client, _| hear(&mut client));
    assert_eq!(heard, Heard { code: Some(0), ..Heard::default() });
    assert_eq!(log, "out\n");
}

#[test]
fn stdin_flows_and_ends() {
    let data: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    let sent = data.clone();
    let (status, _, heard) =
        Case::shell("cat").run(&[Request::Attach(Streams::ALL)], move |mut client, _| {
            let (mut rest, mut heard) = (&sent[..], Vec::new());
            loop {
                let now = rest.len().min(client.stdin_room());
                if now > 0 {
                    client.send(&Request::Stdin(&rest[..now])).unwrap();
                    rest = &rest[now..];
                    if rest.is_empty() {
                        client.send(&Request::StdinEof).unwrap();
                    }
                }
                match client.receive(None).unwrap() {
                    Received::Event(Event::Stdout(bytes)) => heard.extend_from_slice(bytes),
                    Received::End => return heard,
                    _ => {}
                }
            }
        });
    assert_eq!(status, ExitStatus::Exited(0));
    assert!(heard == data);
}

#[test]
fn stdin_ends_with_its_client_only_where_it_is_told_to() {
    // The client sends a line and goes without a word.
    let talk = |mut client: Client, _: &std::path::Path| {
        client.send(&Request::Stdin(b"line\n")).unwrap();
    };
    let (status, log, ()) = Case::shell("cat").run(&[Request::Attach(Streams::ALL)], talk);
    assert_eq!((status, &*log), (ExitStatus::Exited(0), "line\n"));

    let case = Case { stdin_once: false, ..Case::shell("read a; read b; echo $a $b") };
    let (_, log, ()) = case.run(&[Request::Attach(Streams::ALL)], |mut first, dir| {
        first.send(&Request::Stdin(b"one\n")).unwrap();
        first.send(&Request::StdinEof).unwrap();
        // Taken, so it comes before what the other sends.
        assert!(matches!(first.receive(None).unwrap(), Received::Event(Event::StdinTaken(4))));
        let mut second = Client::connect(dir).unwrap();
        second.send(&Request::Attach(Streams::ALL)).unwrap();
        second.send(&Request::Stdin(b"two\n")).unwrap();
        assert_eq!(hear(&mut second).stdout, b"one two\n");
    });
    assert_eq!(log, "one two\n");
}

#[test]
fn a_signal_passes_stdin_that_nobody_reads() {
    let (status, _, ()) =
        Case::shell("exec sleep 1000").run(&[Request::Attach(Streams::ALL)], |mut client, _| {
            let mut sent = 0;
            // Until the pipe and the window are full.
            while sent < 2 * STDIN_WINDOW {
                let now = client.stdin_room().min(2 * STDIN_WINDOW - sent);
                if now > 0 {
                    client.send(&Request::Stdin(&vec![b'x'; now])).unwrap();
                    sent += now;
                } else if let Received::End = client.receive(None).unwrap() {
                    panic!("the connection was lost");
                }
            }
            client.send(&Request::Signal(15)).unwrap();
            assert_eq!(hear(&mut client).code, Some(128 + 15));
        });
    assert_eq!(status, ExitStatus::Signaled(15));
}

#[test]
fn a_slow_reader_loses_nothing() {
    let (_, log, heard) =
        Case::shell("seq 1 200000").run(&[Request::Attach(Streams::OUTPUT)], |mut client, _| {
            // Long enough for all buffers to fill.
            thread::sleep(Duration::from_millis(200));
            hear(&mut client)
        });
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(heard.stdout == expected.as_bytes());
    assert!(log == expected);
}

#[test]
fn a_stalled_guest_is_dropped_and_the_log_is_whole() {
    let case = Case { stall: Duration::from_millis(50), ..Case::shell("read go; seq 1 200000") };
    let (status, log, guest) = case.run(
        &[Request::Attach(Streams { stdin: true, ..Streams::default() })],
        |mut client, dir| {
            let mut guest = Client::connect(dir).unwrap();
            let Received::Event(Event::Started { .. }) = guest.receive(None).unwrap() else {
                panic!("a guest is told that the container runs")
            };
            guest.send(&Request::Attach(Streams::OUTPUT)).unwrap();
            client.send(&Request::Stdin(b"go\n")).unwrap();
            assert_eq!(hear(&mut client).code, Some(0));
            guest
        },
    );
    assert_eq!(status, ExitStatus::Exited(0));
    assert!(log == (1..=200_000).map(|n| format!("{n}\n")).collect::<String>());
    drop(guest);
}

#[test]
fn whoever_keeps_the_pipe_does_not_keep_us() {
    let case = Case::shell("sleep 1000 & echo $!");
    let (status, log, ()) = case.run(&[], |_, _| ());
    assert_eq!(status, ExitStatus::Exited(0));
    let sleeper: i32 = log.trim().parse().unwrap();
    hako_sys::signal::send(sleeper, 9).unwrap();
}

#[test]
fn a_terminal_has_size_and_echo() {
    let case = Case::terminal("stty size; read line; echo got $line; stty size");
    let size = |rows, columns| Request::Resize(WindowSize { rows, columns });
    let (_, _, heard) =
        case.run(&[Request::Attach(Streams::ALL), size(30, 100)], |mut client, _| {
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n") {
                if let Received::Event(Event::Stdout(bytes)) = client.receive(None).unwrap() {
                    heard.extend_from_slice(bytes);
                }
            }
            client.send(&size(20, 50)).unwrap();
            client.send(&Request::Stdin(b"hello\n")).unwrap();
            heard.extend_from_slice(&hear(&mut client).stdout);
            String::from_utf8(heard).unwrap()
        });
    assert!(heard.starts_with("30 100\r\n") || heard.starts_with("0 0\r\n"), "{heard}");
    assert!(heard.contains("hello\r\ngot hello\r\n20 50\r\n"), "{heard}");
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let (status, _, ()) = Case::shell("read line; exit 4").run(
        &[Request::Attach(Streams::ALL)],
        |mut client, dir| {
            let dir = File::open(dir).unwrap();
            let socket = unix::connect_at(dir.as_fd(), SOCKET_NAME).unwrap();
            unix::send_all(socket.as_fd(), &[99, 0, 0, 0, 0]).unwrap();
            let mut rest = Vec::new();
            let mut guest = std::os::unix::net::UnixStream::from(socket);
            // Reset or closed, but over.
            let _either = guest.read_to_end(&mut rest);
            client.send(&Request::Stdin(b"\n")).unwrap();
            assert_eq!(hear(&mut client).code, Some(4));
        },
    );
    assert_eq!(status, ExitStatus::Exited(4));
}

#[test]
fn who_owns_is_waited_for() {
    let (_, _, ()) = Case::shell("exit 0").run(&[Request::Own], |mut client, dir| {
        while !matches!(client.receive(None).unwrap(), Received::Event(Event::Exited(_))) {}
        // Still there: nobody has cleaned up.
        assert!(matches!(
            client.receive(Some(Duration::from_millis(50))).unwrap(),
            Received::Nothing
        ));
        assert!(dir.exists());
        client.send(&Request::Cleaned).unwrap();
        assert!(matches!(client.receive(None).unwrap(), Received::End));
    });
    // An owner that goes is not waited for.
    Case::shell("exit 0").run(&[Request::Own], |client, _| drop(client));
}
