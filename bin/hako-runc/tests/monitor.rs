//! The monitor with the real runtime: containers whose root is a read-only bind of the host's.

#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hako_bundle::{Facts, Machine, RunOptions};
use hako_monitor::client::Received;
use hako_monitor::log::{Follow, Reader, Window};
use hako_monitor::{Client, Config, Event, Exit, ExitRecord, Failure, LogConfig, Request, Streams};
use hako_oci::image::ContainerConfig;
use hako_oci::runtime::Mount;
use hako_sys::tty::WindowSize;

/// A run directory, and what its monitor is to be told.
struct Case {
    dir: tempfile::TempDir,
    id: String,
    options: RunOptions,
    config: Config,
    requests: Vec<Request<'static>>,
}

/// A container with its monitor.
struct Container {
    // Dropped first: it needs the directory.
    monitor: Monitor,
    case: Case,
    client: Client,
}

/// A monitor; a test that fails does not leave it and its container behind.
struct Monitor {
    process: Child,
    runtime_root: PathBuf,
    id: String,
}

impl std::ops::Deref for Monitor {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.process
    }
}

impl std::ops::DerefMut for Monitor {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.process
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
            hako_runtime::delete(&self.runtime_root, &self.id, true).unwrap();
        }
    }
}

/// The program; `HAKO_RUNC` names another build of it.
fn program() -> PathBuf {
    std::env::var_os("HAKO_RUNC")
        .map_or_else(|| env!("CARGO_BIN_EXE_hako-runc").into(), PathBuf::from)
}

fn is_root(test: &str) -> bool {
    let root = hako_sys::cred::effective_uid() == 0;
    if !root {
        eprintln!("SKIP {test}: needs root");
    }
    root
}

impl Case {
    fn shell(script: &str) -> Case {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("hako-test-{}-{count}", std::process::id());
        let path = dir.path();
        let config = Config {
            id: id.clone(),
            runtime_root: path.join("runtime"),
            rootfs_mounts: vec![Mount {
                destination: "/".into(),
                kind: Some("bind".into()),
                source: Some("/".into()),
                options: vec!["bind".into(), "ro".into()],
                ..Mount::default()
            }],
            log: Some(LogConfig { path: path.join("log"), ..LogConfig::default() }),
            exit_file: path.join("exit.json"),
            ..Config::default()
        };
        let options = RunOptions {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ..RunOptions::default()
        };
        Case { dir, id, options, config, requests: Vec::new() }
    }

    fn with(mut self, change: impl FnOnce(&mut RunOptions, &mut Config)) -> Case {
        change(&mut self.options, &mut self.config);
        self
    }

    fn asking(mut self, requests: &[Request<'static>]) -> Case {
        self.requests = requests.to_vec();
        self
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn spawn(self) -> Container {
        let path = self.path();
        fs::create_dir(path.join("rootfs")).unwrap();
        let (none, no_containers) = (BTreeMap::new(), BTreeMap::new());
        let facts = Facts {
            id: &self.id,
            passwd: &fs::read("/etc/passwd").unwrap(),
            group: &fs::read("/etc/group").unwrap(),
            files_dir: path,
            volumes: &none,
            containers: &no_containers,
            machine: &Machine::probe().unwrap(),
        };
        let bundle =
            hako_bundle::bundle(&self.options, &ContainerConfig::default(), &facts).unwrap();
        for (name, content) in &bundle.files {
            fs::write(path.join(name), content).unwrap();
        }
        let write = |name: &str, json: Vec<u8>| fs::write(path.join(name), json).unwrap();
        write("config.json", serde_json::to_vec(&bundle.spec).unwrap());
        write("monitor.json", serde_json::to_vec(&self.config).unwrap());
        let (mut client, theirs) = Client::pair().unwrap();
        for request in &self.requests {
            client.send(request).unwrap();
        }
        let monitor = Command::new(program())
            .args(["monitor", "--dir"])
            .arg(path)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (runtime_root, id) = (self.config.runtime_root.clone(), self.id.clone());
        Container { case: self, client, monitor: Monitor { process: monitor, runtime_root, id } }
    }

    /// Starts it, and fails the test where that fails.
    fn start(self) -> (Container, i32) {
        let mut container = self.spawn();
        match container.client.receive(None).unwrap() {
            Received::Event(Event::Started { pid }) => (container, pid),
            other => panic!("not started: {other:?}"),
        }
    }

    /// Runs it to its end with nobody attached.
    fn run(self) -> Ended {
        self.start().0.end()
    }
}

/// What is left of a container.
struct Ended {
    case: Case,
    record: ExitRecord,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Exit,
}

impl Container {
    fn end(mut self) -> Ended {
        let (mut stdout, mut stderr, mut exit) = (Vec::new(), Vec::new(), None);
        loop {
            match self.client.receive(None).unwrap() {
                Received::Event(Event::Stdout(bytes)) => stdout.extend_from_slice(bytes),
                Received::Event(Event::Stderr(bytes)) => stderr.extend_from_slice(bytes),
                Received::Event(Event::Exited(ended)) => exit = Some(ended),
                Received::Event(_) | Received::Nothing => {}
                Received::End => break,
            }
        }
        assert!(self.monitor.wait().unwrap().success());
        let record = fs::read(self.case.path().join("exit.json")).unwrap();
        let record: ExitRecord = serde_json::from_slice(&record).unwrap();
        let exit = exit.expect("the end is told");
        assert_eq!(record.exit, exit);
        self.case.assert_nothing_left();
        Ended { case: self.case, record, stdout, stderr, exit }
    }
}

impl Case {
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
        roots.map(|root| root.join("hako").join(&self.id)).filter(|path| path.exists()).collect()
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.cgroups(), [] as [PathBuf; 0]);
        assert!(!self.path().join("runtime").join(&self.id).exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()));
    }

    fn log(&self) -> String {
        let mut log =
            Reader::open(&self.path().join("log"), Window::default(), Follow::default()).unwrap();
        std::iter::from_fn(|| log.next_entry().unwrap()).map(|entry| entry.text).collect()
    }
}

fn lines(bytes: &[u8]) -> Vec<&str> {
    std::str::from_utf8(bytes).unwrap().lines().collect()
}

#[test]
fn runs_and_leaves_a_record_and_a_log() {
    if !is_root("runs_and_leaves_a_record_and_a_log") {
        return;
    }
    let ended = Case::shell("echo out; echo err >&2; echo $$; hostname; exit 3").run();
    assert_eq!(ended.exit, Exit { code: 3, signal: None, oom_killed: false });
    assert!(ended.stdout.is_empty(), "nobody was attached");
    let log = ended.case.log();
    assert!(log.contains("out\n") && log.contains("err\n") && log.contains("\n1\n"), "{log}");
    assert!(ended.record.pid > 0);
    assert!(ended.record.started_at <= ended.record.finished_at);
    assert_eq!(ended.record.error, "");
}

#[test]
fn a_client_from_before_the_start_misses_nothing() {
    if !is_root("a_client_from_before_the_start_misses_nothing") {
        return;
    }
    let case = Case::shell("echo out; echo err >&2; kill -9 $$; exit 4")
        .asking(&[Request::Attach(Streams::OUTPUT)]);
    let ended = case.run();
    // PID 1 does not die of its own signals.
    assert_eq!(ended.exit.code, 4);
    assert_eq!((lines(&ended.stdout), lines(&ended.stderr)), (vec!["out"], vec!["err"]));
}

#[test]
fn stdin_reaches_the_program_and_ends() {
    if !is_root("stdin_reaches_the_program_and_ends") {
        return;
    }
    let case = Case::shell("cat; echo end")
        .with(|options, config| {
            options.stdin_open = true;
            (config.stdin_open, config.stdin_once) = (true, true);
        })
        .asking(&[Request::Attach(Streams::ALL), Request::Stdin(b"line\n"), Request::StdinEof]);
    assert_eq!(lines(&case.run().stdout), ["line", "end"]);
    // Without -i there is nothing to read, and nothing to wait for.
    let case = Case::shell("cat; readlink /proc/self/fd/0")
        .asking(&[Request::Attach(Streams::ALL), Request::Stdin(b"line\n")]);
    assert_eq!(lines(&case.run().stdout), ["/dev/null"]);
}

#[test]
fn a_terminal_has_the_clients_size() {
    if !is_root("a_terminal_has_the_clients_size") {
        return;
    }
    let size = |rows, columns| Request::Resize(WindowSize { rows, columns });
    let script = "stty size; tty; read line; stty size; exit 5";
    let (mut container, _) = Case::shell(script)
        .with(|options, config| {
            (options.tty, options.stdin_open) = (true, true);
            config.stdin_open = true;
        })
        .asking(&[Request::Attach(Streams::ALL), size(33, 111)])
        .start();
    let mut seen = Vec::new();
    while !seen.ends_with(b"/dev/pts/0\r\n") {
        if let Received::Event(Event::Stdout(bytes)) = container.client.receive(None).unwrap() {
            seen.extend_from_slice(bytes);
        }
    }
    container.client.send(&size(44, 99)).unwrap();
    container.client.send(&Request::Stdin(b"x\n")).unwrap();
    let ended = container.end();
    seen.extend_from_slice(&ended.stdout);
    assert_eq!(lines(&seen), ["33 111", "/dev/pts/0", "x", "44 99"]);
    assert_eq!(ended.exit.code, 5);
    assert!(ended.case.log().contains("33 111\r\n"));
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    if !is_root("what_cannot_start_says_why_and_leaves_nothing") {
        return;
    }
    let fail = |command: &str, change: fn(&mut RunOptions)| -> Failure {
        let case = Case::shell("").with(|options, _| {
            options.command = vec![command.to_owned()];
            change(options);
        });
        let mut container = case.spawn();
        let failure = match container.client.receive(None).unwrap() {
            Received::Event(Event::Failed(failure)) => failure,
            other => panic!("not failed: {other:?}"),
        };
        assert!(matches!(container.client.receive(None).unwrap(), Received::End));
        assert!(!container.monitor.wait().unwrap().success());
        container.case.assert_nothing_left();
        failure
    };
    for (command, code, errno, words) in [
        ("no-such-program", 127, Some(2), "executable file not found in $PATH"),
        ("/no/such/program", 127, Some(2), "no such file or directory"),
        ("/etc/passwd", 126, Some(13), "permission denied"),
        ("/etc", 126, Some(21), "is a directory"),
    ] {
        let failure = fail(command, |_| {});
        assert_eq!((failure.exit_code, failure.errno), (code, errno), "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        assert_eq!(failure.object, command);
    }
    let failure = fail("/bin/sh", |options| {
        options.mounts =
            vec![hako_bundle::mount::parse_volume("/no/such/dir:/mnt", Path::new("/")).unwrap()];
    });
    assert_eq!((failure.exit_code, failure.errno), (125, Some(2)), "{failure:?}");
}

#[test]
fn a_detached_container_needs_nobody() {
    if !is_root("a_detached_container_needs_nobody") {
        return;
    }
    let (container, pid) = Case::shell("echo early; sleep 0.3; echo late").start();
    let Container { case, client, mut monitor } = container;
    // Nobody is there any more, and the terminal that it came from is gone.
    drop(client);
    let hangup = hako_sys::process::pidfd_open(monitor.id() as i32).unwrap();
    hako_sys::process::pidfd_send_signal(std::os::fd::AsFd::as_fd(&hangup), 1).unwrap();
    // Another may come, and wait.
    let mut other = Client::connect(case.path()).unwrap();
    let Received::Event(Event::Started { pid: told }) = other.receive(None).unwrap() else {
        panic!("who comes later is told that it runs")
    };
    assert_eq!(told, pid);
    let Received::Event(Event::Exited(exit)) = other.receive(None).unwrap() else {
        panic!("who is not attached is told the end only")
    };
    assert_eq!(exit.code, 0);
    assert!(monitor.wait().unwrap().success());
    assert_eq!(case.log(), "early\nlate\n");
    case.assert_nothing_left();
}

#[test]
fn signals_reach_the_program() {
    if !is_root("signals_reach_the_program") {
        return;
    }
    let script = "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let (mut container, _) =
        Case::shell(script).asking(&[Request::Attach(Streams::OUTPUT)]).start();
    while !matches!(
        container.client.receive(None).unwrap(),
        Received::Event(Event::Stdout(b"ready\n"))
    ) {}
    container.client.send(&Request::Signal(15)).unwrap();
    let ended = container.end();
    assert_eq!((ended.exit.code, lines(&ended.stdout)), (7, vec!["got TERM"]));

    // The monitor itself passes it on.
    let (mut container, _) =
        Case::shell(script).asking(&[Request::Attach(Streams::OUTPUT)]).start();
    while !matches!(
        container.client.receive(None).unwrap(),
        Received::Event(Event::Stdout(b"ready\n"))
    ) {}
    hako_sys::signal::send(container.monitor.id() as i32, 15).unwrap();
    assert_eq!(container.end().exit.code, 7);

    let (mut container, _) = Case::shell("sleep 1000").start();
    container.client.send(&Request::Signal(9)).unwrap();
    let exit = container.end().exit;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

#[test]
fn a_killed_monitor_takes_its_container_along() {
    if !is_root("a_killed_monitor_takes_its_container_along") {
        return;
    }
    let (mut container, pid) = Case::shell("sleep 1000").start();
    let init = hako_sys::process::pidfd_open(pid).unwrap();
    let lock = fs::File::open(Config::lock_path(container.case.path())).unwrap();
    let free = || {
        let fd = std::os::fd::AsFd::as_fd(&lock);
        hako_sys::fs::try_flock(fd, hako_sys::fs::Lock::Shared).unwrap()
    };
    assert!(!free());
    container.monitor.kill().unwrap();
    container.monitor.wait().unwrap();
    assert!(matches!(container.client.receive(None).unwrap(), Received::End));
    let fd = std::os::fd::AsFd::as_fd(&init);
    let mut fds = [hako_sys::poll::PollFd::readable(fd)];
    assert_eq!(hako_sys::poll::poll(&mut fds, None), Ok(1));
    assert!(free());
    // The sweep of the next command does the rest.
    hako_runtime::delete(&container.case.path().join("runtime"), &container.case.id, true).unwrap();
    container.case.assert_nothing_left();
}

#[test]
fn the_last_one_cleans_up() {
    if !is_root("the_last_one_cleans_up") {
        return;
    }
    let case = || {
        let case = Case::shell("exit 0");
        let mark = case.path().join("cleaned").display().to_string();
        case.with(|_, config| config.on_exit = vec!["/bin/touch".into(), mark])
    };
    let cleaned = |ended: &Ended| ended.case.path().join("cleaned").exists();
    // Nobody owns it: the monitor becomes the command.
    assert!(cleaned(&case().run()));
    // Someone does.
    let (mut container, _) = case().asking(&[Request::Own]).start();
    while !matches!(container.client.receive(None).unwrap(), Received::Event(Event::Exited(_))) {}
    container.client.send(&Request::Cleaned).unwrap();
    let Container { case: owned, client, mut monitor } = container;
    assert!(monitor.wait().unwrap().success());
    assert!(!owned.path().join("cleaned").exists());
    drop(client);
    // Someone did, and went.
    let (container, _) = case().asking(&[Request::Own]).start();
    let Container { case: left, client, mut monitor } = container;
    drop(client);
    assert!(monitor.wait().unwrap().success());
    assert!(left.path().join("cleaned").exists());
}

#[test]
fn users_own_their_output() {
    if !is_root("users_own_their_output") {
        return;
    }
    let ended = Case::shell("echo out > /dev/stdout; echo err > /dev/stderr; id -u")
        .with(|options, _| options.user = Some("1234:567".into()))
        .asking(&[Request::Attach(Streams::OUTPUT)])
        .run();
    assert_eq!((lines(&ended.stdout), lines(&ended.stderr)), (vec!["out", "1234"], vec!["err"]));
}

#[test]
fn a_full_disk_does_not_stop_the_container() {
    if !is_root("a_full_disk_does_not_stop_the_container") {
        return;
    }
    let case = Case::shell("echo lost; exit 6").asking(&[Request::Attach(Streams::OUTPUT)]);
    std::os::unix::fs::symlink("/dev/full", case.path().join("log")).unwrap();
    let ended = case.run();
    assert_eq!((ended.exit.code, lines(&ended.stdout)), (6, vec!["lost"]));
    assert!(
        ended.record.error.starts_with("5 bytes of output are not in the log"),
        "{}",
        ended.record.error
    );
}

#[test]
fn memory_that_ran_out_is_told() {
    if !is_root("memory_that_ran_out_is_told") {
        return;
    }
    let ended = Case::shell("tail /dev/zero")
        .with(|options, _| {
            options.limits.memory_bytes = Some(16 << 20);
            options.limits.memory_swap_bytes = Some(16 << 20);
        })
        .run();
    assert_eq!((ended.exit.code, ended.exit.oom_killed), (137, true));
}

#[test]
fn what_shares_the_hosts_processes_is_killed_with_its_first() {
    if !is_root("what_shares_the_hosts_processes_is_killed_with_its_first") {
        return;
    }
    let ended = Case::shell("sleep 1000 & echo $!")
        .with(|options, _| options.pid = hako_bundle::NamespaceMode::Host)
        .asking(&[Request::Attach(Streams::OUTPUT)])
        .run();
    let sleeper: i32 = lines(&ended.stdout)[0].parse().unwrap();
    assert_eq!(hako_sys::process::pidfd_open(sleeper).err(), Some(hako_sys::Errno::ESRCH));
}

/// Waits for the program's word: a signal before the init listens is lost, as with every PID 1.
fn await_ready(client: &mut Client) {
    while !matches!(client.receive(None).unwrap(), Received::Event(Event::Stdout(b"ready\n"))) {}
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    if !is_root("an_init_reaps_and_passes_signals_on") {
        return;
    }
    let init = |script: &str| {
        Case::shell(script)
            .with(|options, config| {
                options.init = true;
                config.init = true;
            })
            .asking(&[Request::Attach(Streams::OUTPUT)])
    };
    // The shell is not process 1, what is has the init's name, and its orphans are reaped.
    let script = "tr '\\0' ' ' < /proc/1/cmdline; echo; (sleep 0 &) ; sleep 0.05; \
                  grep -l 'State:.Z' /proc/[0-9]*/status; echo $$; exit 9";
    let ended = init(script).run();
    let seen = lines(&ended.stdout);
    assert!(!seen.is_empty(), "{:?} {}", ended.exit, String::from_utf8_lossy(&ended.stderr));
    assert!(seen[0].starts_with("/sbin/docker-init -- /bin/sh -c"), "{seen:?}");
    assert_eq!(seen.len(), 2, "no zombies: {seen:?}");
    assert_ne!(seen[1], "1");
    assert_eq!(ended.exit.code, 9);
    // Nobody can write to it.
    let ended = init("echo x > /proc/1/exe").run();
    assert_ne!(ended.exit.code, 0);

    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let (mut container, _) = init(script).start();
    await_ready(&mut container.client);
    container.client.send(&Request::Signal(15)).unwrap();
    assert_eq!(container.end().exit.code, 7);

    // A shell without a handler is no process 1: the signal ends it.
    let (mut container, _) = init("echo ready; read x < /dev/zero; sleep 1000").start();
    await_ready(&mut container.client);
    container.client.send(&Request::Signal(15)).unwrap();
    assert_eq!(container.end().exit.code, 128 + 15);

    let missing = init("").with(|options, _| options.command = vec!["no-such-program".into()]);
    let ended = missing.run();
    assert_eq!(ended.exit.code, 127);
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no-such-program"));
}

#[test]
fn what_stays_is_small() {
    if !is_root("what_stays_is_small") {
        return;
    }
    if cfg!(debug_assertions) && std::env::var_os("HAKO_RUNC").is_none() {
        eprintln!("SKIP what_stays_is_small: needs HAKO_RUNC, the build that hako carries");
        return;
    }
    let (mut container, _) = Case::shell("head -c 1000000 /dev/zero; sleep 1000").start();
    // Until the output has gone through.
    while fs::metadata(container.case.path().join("log")).unwrap().len() < 6_000_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // It makes itself small when its container has lived for a moment.
    std::thread::sleep(Duration::from_secs(1));
    let path = format!("/proc/{}/smaps_rollup", container.monitor.id());
    let rollup = fs::read_to_string(path).unwrap();
    let private: u64 = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(private <= 512, "{private} KiB:\n{rollup}");
    container.client.send(&Request::Signal(9)).unwrap();
    container.end();
}
