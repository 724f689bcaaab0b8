//! Peers that are daemons: Docker, and Debian's registry.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hako_tests::{command, place::Place};

use crate::disk::Disk;

/// A process that ends with its owner.
struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command, log: &Path, answers: impl Fn() -> bool) -> Result<Self, String> {
        let shown = command::shown(&command);
        let failed = |error: std::io::Error| format!("{shown}: {error}");
        let file = std::fs::File::create(log).map_err(failed)?;
        let errors = file.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let mut child = command.spawn().map_err(failed)?;
        let mut ended = false;
        command::wait_until("a daemon answers", || {
            ended = child.try_wait().is_ok_and(|status| status.is_some());
            ended || answers()
        });
        match ended {
            true => Err(format!("{shown}: {}", std::fs::read_to_string(log).unwrap_or_default())),
            false => Ok(Self(child)),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32);
        if let Some(Err(error)) =
            pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM))
        {
            eprintln!("kill: {error}");
        }
        if let Err(error) = self.0.wait() {
            eprintln!("wait: {error}");
        }
    }
}

/// dockerd with an ext4 of its own.
pub(crate) struct Docker {
    _daemon: Daemon,
    client: PathBuf,
    host: String,
    // Last: they go when the daemon is gone.
    _disk: Disk,
    place: Place,
}

impl Docker {
    /// None where it is not installed.
    pub(crate) fn start() -> Result<Option<Self>, String> {
        let (Some(daemon), Some(client)) = (command::find("dockerd"), command::find("docker"))
        else {
            return Ok(None);
        };
        let place = Place::new("docker");
        let disk = Disk::at(&place.join("data"))?;
        let host = format!("unix://{}", place.join("sock").display());
        let mut command = Command::new(daemon);
        command.arg("--data-root").arg(place.join("data/root"));
        command.arg("--exec-root").arg(place.join("exec")).arg("--pidfile").arg(place.join("pid"));
        command.args(["--host", &host, "--bridge", "none", "--iptables=false"]);
        command.args(["--ip6tables=false", "--storage-driver", "overlay2"]);
        command.env("TMPDIR", place.join("data"));
        let log = place.join("log");
        let daemon = Daemon::start(command, &log, || {
            command::run(&mut call(&client, &host, place.path(), &["version"])).code == 0
        })?;
        Ok(Some(Self { _daemon: daemon, client, host, _disk: disk, place }))
    }

    /// A function that makes `docker <words>`, to keep.
    pub(crate) fn caller(&self) -> impl Fn(&[&str]) -> Command + 'static {
        let (client, host, place) =
            (self.client.clone(), self.host.clone(), self.place.path().to_owned());
        move |words| call(&client, &host, &place, words)
    }
}

fn call(client: &Path, host: &str, place: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(client);
    command.args(["--host", host]).args(words).env("HOME", place);
    command.env("DOCKER_CONFIG", place);
    command
}

/// Debian's registry, on a port of its own on loopback.
pub(crate) struct Registry {
    _daemon: Daemon,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    _place: Place,
}

impl Registry {
    /// None where it is not installed.
    pub(crate) fn start() -> Result<Option<Self>, String> {
        let Some(program) = command::find("docker-registry") else { return Ok(None) };
        let place = Place::new("registry");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("no port: {error}"))?.to_string();
        let configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n",
            place.join("data").display()
        );
        let file = place.write("registry.yml", configuration);
        let mut command = Command::new(program);
        command.arg("serve").arg(file);
        let daemon = Daemon::start(command, &place.join("log"), || {
            std::net::TcpStream::connect(&address).is_ok()
        })?;
        Ok(Some(Self { _daemon: daemon, address, _place: place }))
    }
}
