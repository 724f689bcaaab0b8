//! Containers that fight while they are being used, and runtimes that are killed at work.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hako_tests::{
    Case,
    bundle::Bundle,
    command::{self, Output},
    leak,
    runtime::{self, Container},
};
use serde_json::json;

use super::rounds;

const CRASH: &str = "SECURITY: crash";

/// A bundle whose program never ends, with a limit for what it can make.
fn endless(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(&format!("touch /up; {script}"));
    bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 100});
    bundle.spec["process"]["rlimits"] = json!([]);
    bundle
}

#[track_caller]
fn started(bundle: Bundle) -> Container {
    let container = Container::new(bundle);
    container.create().ok();
    container.start().ok();
    command::wait_until("it is up", || container.bundle.rootfs("up").exists());
    container
}

/// Processes of this container: their cgroup has its name.
fn processes_of(id: &str) -> Vec<u32> {
    let is_of = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
    };
    leak::pids().into_iter().filter(is_of).collect()
}

/// Nothing of it is there: no process, no cgroup, no state.
#[track_caller]
fn check_gone(container: &Container) {
    command::wait_until("its processes are gone", || processes_of(container.id()).is_empty());
    assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
    assert!(!container.root().join(container.id()).exists(), "its state is still there");
    assert!(
        container.bundle.place().mounts().is_empty(),
        "{:?}",
        container.bundle.place().mounts()
    );
}

/// A generator of our own, seeded by the clock: rounds differ.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let given = std::env::var("HAKO_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| now.map_or(1, |now| now.as_nanos() as u64));
        println!("HAKO_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Starts a command of the runtime and kills it, and only it, at a random moment of its life;
/// whether it was at work then.
fn kill_at_random(random: &mut Random, command: &mut Command, usual: Duration) -> bool {
    let wait = Duration::from_micros(random.below(usual.as_micros() as u64 * 5 / 4));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().expect("the runtime starts");
    thread::sleep(wait);
    let at_work = child.try_wait().expect("wait").is_none();
    if at_work {
        child.kill().expect("kill");
    }
    child.wait().expect("wait");
    at_work
}

/// How long a command takes when nobody kills it.
#[track_caller]
fn duration(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().expect("the runtime starts");
    assert!(status.success(), "{}: {status}", command::shown(command));
    begun.elapsed()
}

/// Kills `verb` in each round, after `prepare` and before the forced deletion, which must do.
#[track_caller]
fn killed_in(verb: &str, prepare: fn(&Container), words: fn(&Container) -> Vec<String>) {
    let mut random = Random::new();
    let container = Container::new(endless("while :; do sleep 0.1; done"));
    container.bundle.write();
    let make = || {
        let mut command = container.runtime();
        command.args(words(&container));
        command
    };
    let delete = || container.delete(&["--force"]);
    // The shortest of a few: of what the machine does beside it, as little as can be.
    let times = (0..3).map(|_| {
        prepare(&container);
        let time = duration(&mut make());
        delete();
        time
    });
    let time = times.min().unwrap_or_default();
    let mut hits = 0;
    let count = rounds() / 4;
    for _ in 0..count {
        prepare(&container);
        hits += u32::from(kill_at_random(&mut random, &mut make(), time));
        // Forced, it may be gone already, and that is no error.
        delete().exits(0);
        check_gone(&container);
    }
    println!("{verb}: {hits} of {count} kills hit it at work");
    assert!(hits >= count / 4, "only {hits} of {count} kills hit it at work");
    // Its name is free again.
    container.create().ok();
    container.start().ok();
}

fn nothing(_: &Container) {}

fn created(container: &Container) {
    container.create().ok();
}

fn running(container: &Container) {
    container.create().ok();
    container.start().ok();
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "race-all-verbs",
        "SECURITY R",
        "exec, kill, update, pause, state and delete work on a container that fights",
        || {
            let container = started(endless(
                "while :; do (ln -sf /nowhere /etc/passwd; mv /etc/group /etc/g; mv /etc/g /etc/group; \
                 rm -f /bin/x; ln -s /proc/self/exe /bin/x; mv /bin/echo /bin/e; ln -s /proc/self/exe /bin/echo; \
                 rm -f /bin/echo; mv /bin/e /bin/echo; exec sleep 0.01) 2>/dev/null & \
                 for p in /proc/[0-9]*; do ls -l $p/fd $p/exe; (echo x >$p/mem); done >/dev/null 2>&1; wait; done",
            ));
            let verbs: &[(&str, &[&str])] = &[
                ("exec", &["exec", "ID", "/bin/busybox", "true"]),
                ("kill", &["kill", "ID", "WINCH"]),
                ("update", &["update", "--pids-limit", "90", "ID"]),
                ("pause", &["pause", "ID"]),
                ("state", &["state", "ID"]),
            ];
            let work = |words: &[&str], go_on: &dyn Fn(u32) -> bool| {
                let own = |word: &&str| if *word == "ID" { container.id().to_owned() } else { (*word).to_owned() };
                let words: Vec<String> = words.iter().map(own).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                (0..).take_while(|round| go_on(*round)).map(|_| container.call(&words)).collect()
            };
            let done = AtomicBool::new(false);
            let outputs: Vec<(&str, Vec<Output>)> = thread::scope(|scope| {
                // To the end of the others: an exec that meets a pause goes on when that is over.
                let resumer = scope.spawn(|| {
                    let outputs: Vec<Output> =
                        work(&["resume", "ID"], &|_| !done.load(Ordering::Relaxed));
                    ("resume", outputs)
                });
                let workers: Vec<_> = verbs
                    .iter()
                    .map(|(verb, words)| {
                        let work = &work;
                        scope.spawn(move || (*verb, work(words, &|round| round < rounds() / 8)))
                    })
                    .collect();
                let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
                done.store(true, Ordering::Relaxed);
                let ended = ended.into_iter().chain([resumer.join()]);
                ended.map(|outputs| outputs.expect("no verb hangs")).collect()
            });
            let all = outputs.iter().flat_map(|(verb, outputs)| outputs.iter().map(move |output| (verb, output)));
            for (verb, output) in all {
                output.is_sane();
                assert!(output.code < 128 || output.code == 255, "{verb}\n{output}");
                if *verb == "state" || *verb == "kill" {
                    output.exits(0);
                }
            }
            // However it was left, it can be ended.
            container.delete(&["--force"]).ok();
            check_gone(&container);
        },
    )
    .alone(),
    Case::new(
        "fork-bomb",
        "SECURITY R",
        "a fork bomb stays within its limit, and can be looked at, executed in and deleted",
        || {
            let container = started(endless("b() { b | b & b; }; b 2>/dev/null; while :; do b 2>/dev/null; done"));
            for _ in 0..5 {
                let output = container.exec(&[], &["/bin/busybox", "true"]);
                // There may be no room for one more process; then that is what it says.
                output.is_sane();
                container.call(&["state", container.id()]).ok();
                let count = processes_of(container.id()).len();
                assert!(count <= 110, "{count} processes");
            }
            container.delete(&["--force"]).ok();
            check_gone(&container);
        },
    )
    .alone(),
    Case::new(
        "hundred-at-once",
        "SECURITY: crash",
        "a hundred creates at once, then as many forced deletions, leave nothing",
        || {
            let container = Container::new(Bundle::sh("true"));
            container.bundle.write();
            let ids: Vec<String> = (0..100).map(|number| format!("{}-{number}", container.id())).collect();
            let all = |words: &dyn Fn(&str) -> Vec<String>| {
                let children: Vec<_> = ids
                    .iter()
                    .map(|id| {
                        let mut command = container.runtime();
                        command.args(words(id)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
                        (command::shown(&command), command.spawn().expect("the runtime starts"))
                    })
                    .collect();
                for (text, child) in children {
                    // A created container holds the pipe open; its end is that of the command.
                    command::finish(child, text).ok();
                }
            };
            let bundle = container.bundle.path().to_string_lossy().into_owned();
            all(&|id| vec!["create".into(), "--bundle".into(), bundle.clone(), id.into()]);
            let known = container.call(&["list", "-q"]);
            assert_eq!(known.ok().lines().count(), 100, "{known}");
            all(&|id| vec!["delete".into(), "--force".into(), id.into()]);
            container.call(&["list", "-q"]).prints("");
            let left = runtime::cgroups_named(container.id());
            assert!(left.is_empty(), "{left:?}");
            command::wait_until("all processes are gone", || processes_of(container.id()).is_empty());
        },
    )
    .alone(),
    Case::new("killed-create", CRASH, "kill -9 of create, then delete --force: nothing is left", || {
        killed_in("create", nothing, |container| {
            let bundle = container.bundle.path().to_string_lossy().into_owned();
            vec!["create".into(), "--bundle".into(), bundle, container.id().into()]
        });
    })
    .alone()
    .peers_fail(&[("runc", "leaves cgroups"), ("crun", "leaves cgroups")]),
    Case::new(
        "killed-in-a-hook",
        CRASH,
        "who waits for a hook of create dies with it, and delete --force waits for neither",
        || {
            for kill in [true, false] {
                let mut bundle = endless("sleep 100");
                let sleep = std::fs::canonicalize("/bin/sleep").expect("every system has it");
                bundle.spec["hooks"] =
                    json!({"createRuntime": [{"path": sleep, "args": ["sleep", "5"]}]});
                let container = Container::new(bundle);
                container.bundle.write();
                let path = container.bundle.path().to_string_lossy().into_owned();
                let mut command = container.runtime();
                command.args(["create", "--bundle", &path, container.id()]);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn().expect("the runtime starts");
                command::wait_until("it waits for the hook", || {
                    container.call(&["state", container.id()]).code == 0
                        && !processes_of(container.id()).is_empty()
                });
                if kill {
                    child.kill().expect("it is ours");
                    child.wait().expect("it is ours");
                }
                container.delete(&["--force"]).ok();
                check_gone(&container);
                child.wait().expect("it is ours");
            }
        },
    )
    .alone(),
    Case::new(
        "cut-short-without-a-plan",
        CRASH,
        "delete --force of one whose making had not begun with cgroups frees its name",
        || {
            let mut bundle = endless("sleep 100");
            bundle.spec["linux"]["cgroupsPath"] = json!("/");
            let container = Container::new(bundle);
            let state = container.root().join(container.id());
            fs::create_dir_all(&state).expect("mkdir");
            fs::write(state.join("config.json"), container.bundle.spec.to_string()).expect("write");
            container.delete(&["--force"]).ok();
            check_gone(&container);
        },
    )
    .alone()
    .peers_fail(&[("runc", "has other files"), ("crun", "has other files")]),
    Case::new("killed-start", CRASH, "kill -9 of start, then delete --force: nothing is left", || {
        killed_in("start", created, |container| vec!["start".into(), container.id().into()]);
    })
    .alone(),
    Case::new("killed-exec", CRASH, "kill -9 of exec, then delete --force: nothing is left", || {
        killed_in("exec", running, |container| {
            ["exec", container.id(), "/bin/busybox", "true"].map(str::to_owned).to_vec()
        });
    })
    .alone(),
    Case::new("killed-delete", CRASH, "kill -9 of delete --force, then once more: nothing is left", || {
        killed_in("delete", running, |container| {
            ["delete", "--force", container.id()].map(str::to_owned).to_vec()
        });
    })
    .alone(),
    Case::new("killed-run", CRASH, "kill -9 of run, then delete --force: nothing is left", || {
        killed_in("run", nothing, |container| {
            let bundle = container.bundle.path().to_string_lossy().into_owned();
            vec!["run".into(), "--detach".into(), "--bundle".into(), bundle, container.id().into()]
        });
    })
    .alone()
    .peers_fail(&[("runc", "leaves cgroups"), ("crun", "leaves cgroups")]),
];
