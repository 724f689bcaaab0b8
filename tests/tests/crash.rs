//! SIGKILL at any instant of load, pull, push, run and rm: the next command finds a consistent store, and
//! nothing is left that no live container owns.
//!
//! `HAKO_TEST_ROUNDS` says how many kills there are for each command (CI: 70, so more than 200).

#![forbid(unsafe_code)]

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hako_tests::{
    Case, command,
    image::{self, Image},
    install::Hako,
    leak,
    registry::{Content, Registry},
};

const CRASH: &str = "SECURITY: crash";

/// A generator of our own: rounds differ, and a run can be repeated with its seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("HAKO_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map(|now| now.as_nanos() as u64).unwrap_or(1)
        });
        println!("HAKO_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below this.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

fn rounds() -> u64 {
    std::env::var("HAKO_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(70)
}

/// How long a command takes when nobody kills it.
fn duration(mut command: Command) -> Duration {
    let begun = Instant::now();
    command::run(&mut command).ok();
    begun.elapsed()
}

/// Whether enough of the kills hit a command that was at work: otherwise the test shows nothing.
#[track_caller]
fn check_hits(what: &str, rounds: u64, hits: u64) {
    println!("{what}: {hits} of {rounds} kills hit the command at work");
    assert!(hits >= rounds / 4, "{what}: only {hits} of {rounds} kills hit it at work");
}

/// The command without its caller's configuration of registries.
fn alone(mut command: Command) -> Command {
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").env("CONTAINERS_REGISTRIES_CONF", "/nonexistent");
    command
}

/// Starts a command, and kills it at a random moment of its life; 1 if it was at work then.
///
/// `with_children` kills everything in its process group, as a terminal or a service manager does;
/// otherwise only hako itself dies, and what it started goes on.
fn kill_at_random(
    random: &mut Random,
    mut command: Command,
    usual: Duration,
    with_children: bool,
) -> u64 {
    let wait = Duration::from_micros(random.below(usual.as_micros() as u64 * 5 / 4));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().expect("hako starts");
    thread::sleep(wait);
    let ended = child.try_wait().expect("wait").is_some();
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    let signal = rustix::process::Signal::KILL;
    // ESRCH: everything of it is gone already, which is one of the moments.
    let killed = match with_children {
        true => rustix::process::kill_process_group(pid, signal),
        false => rustix::process::kill_process(pid, signal),
    };
    assert!(killed.is_ok() || killed == Err(rustix::io::Errno::SRCH), "{killed:?}");
    child.wait().expect("wait");
    u64::from(!ended)
}

/// Pushes an empty index, and blobs that no manifest names, to a registry that is then gone; gives
/// the index's digest.
fn push_garbage(root: &std::path::Path, round: u64) -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut server = Command::new(hako_tests::binary::hako());
    server.args(["registry", "serve", "--listen", "127.0.0.1:0", "--gc-interval", "1h", "--root"]);
    let mut server = server.arg(root).stderr(Stdio::piped()).spawn().expect("hako starts");
    let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    let first = lines.next().expect("it says where it listens").expect("UTF-8");
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let host = first["address"].as_str().expect("an address").to_owned();
    let send = |line: &str, body: &[u8]| {
        let kind = "application/vnd.oci.image.index.v1+json";
        let mut stream = std::net::TcpStream::connect(&host).expect("it listens");
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    };
    let digest = |bytes: &[u8]| format!("sha256:{}", hako_tests::archive::sha256(bytes));
    for n in 0..8 {
        let blob = format!("garbage {round} {n}").into_bytes();
        send(&format!("POST /v2/a/blobs/uploads/?digest={}", digest(&blob)), &blob);
    }
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    send("PUT /v2/a/manifests/v1", index);
    server.kill().expect("it is our child");
    server.wait().expect("it is our child");
    digest(index)
}

/// The store is consistent: listing, running and loading work.
#[track_caller]
fn check_store(hako: &Hako) {
    hako.call(&["images"]).ok();
    let archive = image::busybox_archive();
    hako.call(&["load", "-q", "-i", &archive.to_string_lossy()])
        .prints("Loaded image: busybox:test");
    hako.call(&["run", "--rm", "busybox:test", "cat", "/etc/os-release"]).says("hako-test");
}

/// Removes every container; after that nothing of any may be there.
#[track_caller]
fn check_no_leak(hako: &Hako, before: &leak::Snapshot) {
    let known = hako.call(&["ps", "-aq", "--no-trunc"]);
    let mut words = vec!["rm", "-f"];
    words.extend(known.ok().lines());
    if words.len() > 2 {
        hako.call(&words).ok();
    }
    // The next command that changes containers sweeps.
    hako.call(&["run", "--rm", "busybox:test", "true"]).ok();
    command::wait_until("the killed monitors' containers are gone", || {
        hako.leaks().is_empty() || hako.leaks().is_empty()
    });
    let leaks: Vec<String> =
        before.leaks().into_iter().filter(|leak| !leak.starts_with("file ")).collect();
    assert!(leaks.is_empty(), "left behind:\n{}", leaks.join("\n"));
}

pub(crate) const CASES: &[Case] = &[
    Case::new("crash-load", CRASH, "kill -9 of load", || {
        let mut random = Random::new();
        let hako = Hako::new();
        let archive = image::busybox_archive().to_string_lossy().into_owned();
        // The first one, which finds nothing in memory, is not the usual one.
        hako.call(&["load", "-q", "-i", &archive]).ok();
        hako.call(&["rmi", "busybox:test"]).ok();
        let usual = duration(hako.command(&["load", "-q", "-i", &archive]));
        hako.call(&["rmi", "busybox:test"]).ok();
        let mut hits = 0;
        for _ in 0..rounds() {
            let load = hako.command(&["load", "-q", "-i", &archive]);
            hits += kill_at_random(&mut random, load, usual, true);
            let listed = hako.call(&["images", "-q"]);
            if !listed.ok().trim().is_empty() {
                // Either it is not there, or it is there whole.
                hako.call(&["run", "--rm", "busybox:test", "cat", "/etc/os-release"])
                    .says("hako-test");
                hako.call(&["rmi", "busybox:test"]).ok();
            }
        }
        check_hits("crash-load", rounds(), hits);
        check_store(&hako);
        hako.call(&["rmi", "busybox:test"]).ok();
        // What the killed ones had half written is gone, and so is what was removed.
        let size = command::run(Command::new("du").args(["-sk"]).arg(hako.root()));
        let kilobytes: u64 =
            size.ok().split('\t').next().and_then(|size| size.parse().ok()).expect("a number");
        assert!(kilobytes < 1500, "{kilobytes} KB are left in an empty store");
    })
    .alone(),
    Case::new(
        "crash-pull",
        CRASH,
        "kill -9 of pull: the next one goes on, and nothing leaks",
        || {
            let mut random = Random::new();
            let hako = Hako::new();
            let mut app = Image::busybox("app:1");
            app.gzip = true;
            let content = Arc::new(Content::of(&app, "app", "1"));
            let served = Arc::clone(&content);
            let registry = Registry::start(move |request| served.answer(request));
            let name = format!("{}/app:1", registry.host());
            let pull = ["pull", "-q", &name];
            command::run(&mut alone(hako.command(&pull))).ok();
            hako.call(&["rmi", &name]).ok();
            let usual = duration(alone(hako.command(&pull)));
            hako.call(&["rmi", &name]).ok();
            let mut hits = 0;
            for round in 0..rounds() {
                hits += kill_at_random(&mut random, alone(hako.command(&pull)), usual, true);
                if !hako.call(&["images", "-q"]).ok().trim().is_empty() {
                    // Either it is not there, or it is there whole.
                    hako.call(&["run", "--rm", &name, "cat", "/etc/os-release"]).says("hako-test");
                    hako.call(&["rmi", &name]).ok();
                } else if round % 5 == 4 {
                    command::run(&mut alone(hako.command(&pull))).ok();
                    hako.call(&["rmi", &name]).ok();
                }
            }
            check_hits("crash-pull", rounds(), hits);
            command::run(&mut alone(hako.command(&pull))).ok();
            hako.call(&["run", "--rm", &name, "cat", "/etc/os-release"]).says("hako-test");
            hako.call(&["rmi", &name]).ok();
            let left = |part: &str| {
                let entries = std::fs::read_dir(hako.root().join(part));
                entries.map_or(0, |entries| entries.count())
            };
            for part in ["blobs/sha256", "ingest", "leases", "partial", "trash"] {
                assert_eq!(left(&format!("content/{part}")), 0, "{part}");
            }
            for part in ["layers", "staging", "trash"] {
                assert_eq!(left(&format!("snapshots/{part}")), 0, "{part}");
            }
        },
    )
    .alone(),
    Case::new(
        "crash-push",
        CRASH,
        "kill -9 of push: the next one goes on, and nothing leaks",
        || {
            let mut random = Random::new();
            let hako = Hako::with_busybox();
            let content = Arc::new(Content::default());
            let served = Arc::clone(&content);
            let registry = Registry::start(move |request| served.answer(request));
            // Another repository each time: there is something to push.
            let name = |round: u64| format!("{}/app{round}:1", registry.host());
            hako.call(&["tag", "busybox:test", &name(0)]).ok();
            command::run(&mut alone(hako.command(&["push", "-q", &name(0)]))).ok();
            content.blobs.lock().expect("nobody panics with it").clear();
            let usual = duration(alone(hako.command(&["push", "-q", &name(0)])));
            let mut hits = 0;
            for round in 1..=rounds() {
                content.blobs.lock().expect("nobody panics with it").clear();
                hako.call(&["tag", "busybox:test", &name(round)]).ok();
                let words = ["push", "-q", &name(round)];
                hits += kill_at_random(&mut random, alone(hako.command(&words)), usual, true);
                let pushed = content.manifest_bytes(&format!("app{round}:1"));
                if let Some(manifest) = pushed {
                    // A tag there means that all of it is there.
                    let manifest: serde_json::Value =
                        serde_json::from_slice(&manifest).expect("JSON");
                    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest");
                    assert_eq!(content.largest(), layer);
                }
                if round % 10 == 0 {
                    command::run(&mut alone(hako.command(&words))).ok();
                }
                hako.call(&["rmi", &name(round)]).ok();
            }
            check_hits("crash-push", rounds(), hits);
            check_store(&hako);
        },
    )
    .alone(),
    Case::new("crash-run", CRASH, "kill -9 of run, with and without what it started", || {
        let mut random = Random::new();
        let hako = Hako::with_busybox();
        let before = leak::Snapshot::take();
        let words = ["run", "--rm", "busybox:test", "true"];
        let usual = duration(hako.command(&words));
        let mut hits = 0;
        for round in 0..rounds() {
            hits += kill_at_random(&mut random, hako.command(&words), usual, round % 2 == 0);
            if round % 10 == 9 {
                hako.call(&["ps", "-a"]).ok();
            }
        }
        check_hits("crash-run", rounds(), hits);
        check_store(&hako);
        check_no_leak(&hako, &before);
    })
    .alone(),
    Case::new(
        "crash-run-detached",
        CRASH,
        "kill -9 of run -d: a container is there whole, or not at all",
        || {
            let mut random = Random::new();
            let hako = Hako::with_busybox();
            let before = leak::Snapshot::take();
            let words = ["run", "-d", "busybox:test", "sleep", "1000"];
            let usual = duration(hako.command(&words));
            let mut hits = 0;
            for round in 0..rounds() / 2 {
                hits += kill_at_random(&mut random, hako.command(&words), usual, round % 2 == 0);
            }
            check_hits("crash-run-detached", rounds() / 2, hits);
            for line in hako.call(&["ps", "-q"]).ok().lines() {
                hako.call(&["exec", line, "true"]).ok();
            }
            check_no_leak(&hako, &before);
        },
    )
    .alone(),
    Case::new(
        "crash-rm",
        CRASH,
        "kill -9 of rm -f: the container can be removed afterwards",
        || {
            let mut random = Random::new();
            let hako = Hako::with_busybox();
            let before = leak::Snapshot::take();
            hako.detached(&["--name", "box"], &["sleep", "1000"]);
            let usual = duration(hako.command(&["rm", "-f", "box"]));
            let mut hits = 0;
            for round in 0..rounds() {
                hako.detached(&["--name", "box"], &["sleep", "1000"]);
                hits += kill_at_random(
                    &mut random,
                    hako.command(&["rm", "-f", "box"]),
                    usual,
                    round % 2 == 0,
                );
                // Its name must be free after one more rm, whatever the first one had done.
                hako.call(&["rm", "-f", "box"]).exits(0);
            }
            check_hits("crash-rm", rounds(), hits);
            check_no_leak(&hako, &before);
        },
    )
    .alone(),
    Case::new(
        "crash-registry-gc",
        CRASH,
        "kill -9 of a registry's collection: what manifests name stays, what they do not goes at last",
        || {
            let place = hako_tests::place::Place::new("registry");
            let root = place.join("root");
            let mut random = Random::new();
            let (rounds, mut hits) = (rounds(), 0);
            let mut usual = Duration::from_millis(30);
            for round in 0..rounds {
                let kept = push_garbage(&root, round);
                let collect = || {
                    let mut command = Command::new(hako_tests::binary::hako());
                    command.args(["registry", "gc", "--gc-grace", "0s", "--root"]).arg(&root);
                    command
                };
                hits += kill_at_random(&mut random, collect(), usual, false);
                let begun = Instant::now();
                let output = command::run(&mut collect());
                usual = begun.elapsed().max(Duration::from_millis(5));
                output.says("Removed");
                let blobs: Vec<String> = std::fs::read_dir(root.join("content/blobs/sha256"))
                    .expect("a store")
                    .map(|entry| entry.expect("a blob").file_name().to_string_lossy().into_owned())
                    .collect();
                assert_eq!(blobs, [kept.trim_start_matches("sha256:")], "round {round}");
                for part in ["trash", "leases", "ingest"] {
                    let left = std::fs::read_dir(root.join("content").join(part))
                        .expect("a store")
                        .count();
                    assert_eq!(left, 0, "{part} after round {round}");
                }
            }
            check_hits("registry gc", rounds, hits);
        },
    ),
    Case::new(
        "crash-monitor",
        CRASH,
        "a killed monitor takes its container with it, and the next command mends",
        || {
            let hako = Hako::with_busybox();
            let before = leak::Snapshot::take();
            let id = hako.detached(&["--name", "box"], &["sleep", "1000"]);
            let pid = hako.inspect("box")["State"]["Pid"].as_u64().expect("a pid") as i32;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
            let parent = status
                .lines()
                .find_map(|line| line.strip_prefix("PPid:\t"))
                .and_then(|pid| pid.parse().ok());
            let parent =
                rustix::process::Pid::from_raw(parent.expect("a parent")).expect("it is not 0");
            rustix::process::kill_process(parent, rustix::process::Signal::KILL).expect("kill");
            command::wait_until("the container is gone too", || {
                !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
            });
            assert_ne!(hako.inspect(&id)["State"]["Running"], true);
            hako.call(&["rm", "box"]).ok();
            check_no_leak(&hako, &before);
        },
    )
    .alone(),
    Case::new(
        "crash-container",
        CRASH,
        "a container killed from outside is stopped, with 137",
        || {
            let hako = Hako::with_busybox();
            hako.detached(&["--name", "box"], &["sleep", "1000"]);
            let pid = hako.inspect("box")["State"]["Pid"].as_u64().expect("a pid") as i32;
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
            hako.call(&["wait", "box"]).prints("137");
        },
    ),
];

fn main() -> std::process::ExitCode {
    hako_tests::run("crash", &[CASES])
}
