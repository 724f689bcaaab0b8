//! One OCI runtime and one container of it, on whichever runtime is under test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    binary,
    bundle::Bundle,
    caller::{self, Caller},
    command::{self, Output},
    place::{self, Place},
    sandbox, skip,
};

/// What `HAKO_TEST_RUNTIME` says.
pub fn name_under_test() -> String {
    std::env::var("HAKO_TEST_RUNTIME").unwrap_or_else(|_| "hako-runc".to_owned())
}

/// crun refuses machines with v1 controllers and a v2 hierarchy that has one too, so for it the
/// sandbox leaves the v2 hierarchy out.
pub fn wants_legacy_cgroups() -> bool {
    name_under_test() == "crun" || std::env::var_os("HAKO_TESTS_LEGACY").is_some()
}

fn program_under_test() -> PathBuf {
    let name = name_under_test();
    match name.as_str() {
        "hako-runc" => binary::hako_runc(),
        path if path.contains('/') => path.into(),
        tool => binary::tool(tool),
    }
}

/// A container with its bundle and a state directory of its own; gone when dropped.
pub struct Container {
    program: PathBuf,
    caller: Caller,
    root: Place,
    id: String,
    /// Its bundle; the configuration is written when the container is made.
    pub bundle: Bundle,
}

impl Container {
    /// A container that is not made yet. Skips the test where none can be.
    pub fn new(mut bundle: Bundle) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let program = program_under_test();
        if !rustix::process::geteuid().is_root() {
            skip!("not root");
        }
        if !sandbox::is_inside() && std::env::var_os("HAKO_TEST_SANDBOX").is_none() {
            skip!("no sandbox");
        }
        let id =
            format!("hako-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (caller, root) = (caller::current(), Place::new("state"));
        let program = caller::program(&program, bundle.place(), caller);
        caller::adapt(&mut bundle, caller);
        caller::give(&bundle.path());
        caller::give(root.path());
        Self { program, caller, root, id, bundle }
    }

    /// Its ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The runtime's state directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The runtime's command line, up to its verb.
    pub fn runtime(&self) -> Command {
        let mut command = caller::command(&self.program, self.bundle.place(), self.caller);
        command.arg("--root").arg(self.root.path());
        command
    }

    /// Runs `<runtime> <words>` to its end.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Output {
        command::run(self.runtime().args(words))
    }

    fn verb(&self, verb: &str, options: &[&str]) -> Command {
        self.bundle.write();
        let mut command = self.runtime();
        command.arg(verb).arg("--bundle").arg(self.bundle.path()).args(options).arg(&self.id);
        command
    }

    /// `run`, to the end of the container.
    #[track_caller]
    pub fn run(&self) -> Output {
        command::run(&mut self.verb("run", &[]))
    }

    /// `run` with options before the ID.
    #[track_caller]
    pub fn run_with(&self, options: &[&str], input: &[u8]) -> Output {
        command::run_with(&mut self.verb("run", options), input)
    }

    /// `run`, not started yet: for tests that want another environment or other descriptors.
    pub fn run_command(&self, options: &[&str]) -> Command {
        self.verb("run", options)
    }

    /// `create`; the container's output goes to a file, see [`output`](Self::output).
    #[track_caller]
    pub fn create(&self) -> Output {
        self.create_with(&[])
    }

    /// `create` with options before the ID.
    #[track_caller]
    pub fn create_with(&self, options: &[&str]) -> Output {
        let mut command = self.verb("create", options);
        let text = command::shown(&command);
        let open = |name: &str| fs::File::create(self.root_file(name)).expect("our own file");
        // Files, not pipes: the container's process holds them for as long as it lives.
        let (out, err) = (open("stdout"), open("stderr"));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|error| panic!("spawn({text}): {error}"));
        let mut output = command::finish(child, text);
        output.stderr = fs::read_to_string(self.root_file("stderr")).expect("our own file");
        output
    }

    /// What the container has written since `create`.
    pub fn output(&self) -> String {
        fs::read_to_string(self.root_file("stdout")).unwrap_or_default()
    }

    fn root_file(&self, name: &str) -> PathBuf {
        // Beside the bundle: some runtimes take every entry of their state directory for a container.
        self.bundle.place().join(format!("container-{name}"))
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Output {
        self.call(&["start", &self.id])
    }

    /// `state`, which must succeed.
    #[track_caller]
    pub fn state(&self) -> Value {
        let output = self.call(&["state", &self.id]);
        serde_json::from_str(output.ok())
            .unwrap_or_else(|error| panic!("state is not JSON: {error}\n{output}"))
    }

    /// The `status` of `state`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or("").to_owned()
    }

    /// The `pid` of `state`.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.state()["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("state has a pid")
    }

    /// `kill`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.call(&["kill", &self.id, signal])
    }

    /// `delete`, with options before the ID.
    #[track_caller]
    pub fn delete(&self, options: &[&str]) -> Output {
        let words: Vec<&str> =
            ["delete"].iter().chain(options).copied().chain([self.id.as_str()]).collect();
        self.call(&words)
    }

    /// `exec` of a program in the running container.
    #[track_caller]
    pub fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        let words: Vec<&str> = ["exec"]
            .iter()
            .chain(options)
            .copied()
            .chain([self.id.as_str()])
            .chain(program.iter().copied())
            .collect();
        self.call(&words)
    }

    /// Waits for the container's process to end.
    #[track_caller]
    pub fn wait_stopped(&self) {
        command::wait_until("the container is stopped", || self.status() == "stopped");
    }

    /// Cgroups with this container's ID in their names.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_named(&self.id)
    }

    /// A file of the container's cgroup, by the v1 controller that has it and by its v2 name.
    pub fn cgroup_file(&self, controller: &str, v1: &str, v2: &str) -> Option<String> {
        let cgroups = self.cgroups();
        let inside = |directory: &&PathBuf| {
            directory.components().any(|part| part.as_os_str() == controller)
        };
        let v1 = cgroups.iter().find(inside).map(|directory| directory.join(v1));
        let v2 = cgroups.iter().map(|directory| directory.join(v2)).find(|path| path.exists());
        v1.into_iter()
            .chain(v2)
            .find_map(|path| fs::read_to_string(path).ok())
            .map(|text| text.trim().to_owned())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let output = command::run(self.runtime().args(["delete", "--force", &self.id]));
        let known =
            fs::read_dir(self.root.path()).is_ok_and(|mut entries| entries.next().is_some());
        if output.code != 0 && known {
            place::report(&format!("delete --force failed\n{output}"));
        }
        let cgroups = self.cgroups();
        if !cgroups.is_empty() {
            // Said once: what cannot be removed either is in the list at the end of the run.
            let removed: Vec<bool> =
                cgroups.iter().rev().map(|path| fs::remove_dir(path).is_ok()).collect();
            drop(removed);
            place::report(&format!("cgroups are left: {cgroups:?}"));
        }
    }
}

/// Cgroups whose name contains this.
pub fn cgroups_named(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(part) {
                    found.push(entry.path());
                }
                waiting.push(entry.path());
            }
        }
    }
    found
}
