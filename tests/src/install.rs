//! One installation of hako: its own store, its own runtime directory, nothing shared.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    binary,
    command::{self, Output},
    image, leak,
    place::{self, Place},
    runtime, skip,
};

/// The name of the image that [`Hako::with_busybox`] loads.
pub const BUSYBOX: &str = "busybox:test";

/// An installation; dropping it removes its containers and checks that nothing is left.
pub struct Hako {
    program: PathBuf,
    place: Place,
    unpacks: bool,
}

impl Hako {
    /// An empty one. Skips the test where hako cannot run.
    pub fn new() -> Self {
        let program = binary::hako();
        if !rustix::process::geteuid().is_root() {
            skip!("not root");
        }
        Self { program, place: Place::new("hako"), unpacks: false }
    }

    /// One that unpacks layers, whatever the environment asks for: for a store on a memory file
    /// system, from whose files the kernel mounts nothing.
    pub fn that_unpacks() -> Self {
        let mut hako = Self::new();
        hako.unpacks = true;
        hako
    }

    /// One with `busybox:test` in its store.
    pub fn with_busybox() -> Self {
        let hako = Self::new();
        let archive = image::busybox_archive();
        hako.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        hako
    }

    /// Where tests can put files; below it are `root/` and `run/`.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The store.
    pub fn root(&self) -> PathBuf {
        self.place.join("root")
    }

    /// Runtime state.
    pub fn run_root(&self) -> PathBuf {
        self.place.join("run")
    }

    /// `hako <words>`, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        (self.caller())(words)
    }

    /// A function that makes such commands, to keep.
    pub fn caller(&self) -> impl Fn(&[&str]) -> Command + 'static {
        let (program, root, run_root) = (self.program.clone(), self.root(), self.run_root());
        // Whatever goes to the temporary directory is seen when it stays.
        let temporary = self.place.directory("tmp");
        let unpacks = self.unpacks;
        move |words| {
            let mut command = Command::new(&program);
            command.args(words).env("HAKO_ROOT", &root).env("HAKO_RUN_ROOT", &run_root);
            command.env("TMPDIR", &temporary);
            if unpacks {
                command.env("HAKO_SNAPSHOTTER", "overlay");
            }
            command
        }
    }

    /// Runs `hako <words>` to its end.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Output {
        let output = command::run(&mut self.command(words));
        output.is_sane();
        output
    }

    /// The same with standard input.
    #[track_caller]
    pub fn call_with(&self, words: &[&str], input: &[u8]) -> Output {
        let output = command::run_with(&mut self.command(words), input);
        output.is_sane();
        output
    }

    /// `hako run --rm busybox:test <words>`, options first.
    #[track_caller]
    pub fn run(&self, options: &[&str], program: &[&str]) -> Output {
        let words: Vec<&str> = ["run", "--rm"]
            .iter()
            .chain(options)
            .chain([&BUSYBOX])
            .chain(program)
            .copied()
            .collect();
        self.call(&words)
    }

    /// `hako run --rm busybox:test sh -c <script>`, options first.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }

    /// `hako run -d busybox:test <words>`; returns the container's ID.
    #[track_caller]
    pub fn detached(&self, options: &[&str], program: &[&str]) -> String {
        let words: Vec<&str> =
            ["run", "-d"].iter().chain(options).chain([&BUSYBOX]).chain(program).copied().collect();
        self.call(&words).ok().trim().to_owned()
    }

    /// `hako inspect`, first document.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let output = self.call(&["inspect", name]);
        let value: Value =
            serde_json::from_str(output.ok()).unwrap_or_else(|error| panic!("{error}\n{output}"));
        value[0].clone()
    }

    /// Starts `hako <words>` and does not wait.
    pub fn spawn(&self, words: &[&str]) -> std::process::Child {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
            .spawn()
            .unwrap_or_else(|error| panic!("spawn({}): {error}", command::shown(&command)))
    }

    /// IDs of the containers with a directory, whatever state they are in.
    pub fn containers(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for folder in [self.root().join("containers"), self.run_root().join("containers")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// What is there of containers that do not exist any more, as lines; empty when all is well.
    ///
    /// A monitor that said its last word may still be on its way out: it gets two seconds.
    pub fn leaks(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let leaks = self.look_for_leaks();
            if leaks.is_empty() || Instant::now() > deadline {
                return leaks;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn look_for_leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let known = self.call(&["ps", "-aq", "--no-trunc"]);
        let known: Vec<&str> = known.ok().lines().collect();
        for id in self.containers() {
            if !known.contains(&id.as_str()) {
                leaks.push(format!("directory of container {id}"));
            }
        }
        if known.is_empty() {
            leaks.extend(
                processes_of(self.place.path()).into_iter().map(|line| format!("process {line}")),
            );
            leaks.extend(self.place.mounts().into_iter().map(|point| format!("mount {point}")));
            for name in ["run/runtime", "tmp"] {
                for entry in fs::read_dir(self.place.join(name)).into_iter().flatten().flatten() {
                    leaks.push(format!("file {}", entry.path().display()));
                }
            }
        }
        leaks
    }
}

impl Default for Hako {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hako {
    fn drop(&mut self) {
        let mut problems = Vec::new();
        let ids = self.containers();
        let known = command::run(&mut self.command(&["ps", "-aq", "--no-trunc"]));
        if known.code != 0 {
            problems.push(format!("ps fails after the test\n{known}"));
        }
        let mut words = vec!["rm", "-f"];
        words.extend(known.stdout.lines());
        if words.len() > 2 {
            let output = command::run(&mut self.command(&words));
            if output.code != 0 {
                problems.push(format!("rm -f fails after the test\n{output}"));
            }
        }
        if problems.is_empty() && !std::thread::panicking() {
            problems.extend(self.leaks());
        }
        for id in &ids {
            for cgroup in runtime::cgroups_named(id) {
                problems.push(format!("cgroup {}", cgroup.display()));
            }
        }
        if !problems.is_empty() {
            // The sandbox ends what is left when the run ends; here it is only said.
            place::report(&format!("left behind: {}", problems.join("\n")));
        }
    }
}

/// Processes whose command line or executable is below this directory.
fn processes_of(place: &Path) -> Vec<String> {
    // `hako-1` is no beginning of `hako-12`.
    let place = format!("{}/", place.display());
    let mut found = Vec::new();
    for pid in leak::pids() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != std::process::id() && line.contains(&*place) {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}
