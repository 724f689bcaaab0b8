//! The peers: which are installed, and how they are called so that all do the same.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hako_tests::{command, place::Place};

/// An OCI runtime.
#[derive(Clone)]
pub(crate) struct Runtime {
    /// Its name in tables.
    pub(crate) name: String,
    program: PathBuf,
}

impl Runtime {
    /// Ours first, then those of Debian that are installed; names of those that are not.
    pub(crate) fn all() -> (Vec<Self>, Vec<String>) {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in ["hako-runc", "crun", "runc"] {
            let program = match name {
                "hako-runc" => ours("HAKO_RUNC_BIN"),
                _ => command::find(name),
            };
            match program {
                Some(program) => found.push(Self { name: name.to_owned(), program }),
                None => missing.push(format!("{name} is not there")),
            }
        }
        (found, missing)
    }

    /// Its command line, up to its verb.
    pub(crate) fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state.join(&self.name));
        command
    }
}

/// A program of ours, as the environment names it.
pub(crate) fn ours(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file())
}

/// podman with a store of its own, and without what this kind of machine refuses (a raised limit of
/// open files) or has not (systemd).
pub(crate) struct Podman {
    program: PathBuf,
    place: Place,
}

impl Podman {
    /// None where it is not installed.
    pub(crate) fn find() -> Option<Self> {
        let program = command::find("podman")?;
        let place = Place::new("podman");
        place.write(
            "containers.conf",
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"crun\"\n",
        );
        Some(Self { program, place })
    }

    /// `podman <words>` with its own places.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        podman(&self.program, self.place.path(), words)
    }

    /// Its store.
    pub(crate) fn root(&self) -> PathBuf {
        self.place.join("root")
    }

    /// A function that does the same, to keep.
    pub(crate) fn caller(&self) -> impl Fn(&[&str]) -> Command + 'static {
        let (program, place) = (self.program.clone(), self.place.path().to_path_buf());
        move |words| podman(&program, &place, words)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // podman keeps its store mounted on itself.
        for point in self.place.mounts().iter().rev() {
            if let Err(error) =
                rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH)
            {
                eprintln!("umount({point}): {error}");
            }
        }
    }
}

fn podman(program: &Path, place: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
    command.args(["--storage-driver", "overlay"]).args(words);
    command.env("CONTAINERS_CONF", place.join("containers.conf"));
    command
}

/// Runs something that is not measured; its failure is the bench's.
pub(crate) fn prepare(command: &mut Command) -> Result<String, String> {
    let output = command::run(command);
    if output.code == 0 { Ok(output.stdout) } else { Err(output.to_string()) }
}
