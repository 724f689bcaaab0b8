//! sd_notify(3) for a container: what it says about being ready is passed on to the service manager
//! that `NOTIFY_SOCKET` names, in the name of the container's process.
//!
//! The container has a socket of its own, `/run/notify/notify.sock`: the manager's is not to be
//! seen from inside, and would not believe a process that it does not know.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use hako_oci::runtime::{Mount, Spec};
use hako_runtime::{Container, Options};
use hako_sys::poll::{PollFd, poll};

/// The directory in the container.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";

/// Whether anybody wants to know. Then the container gets its socket.
pub(crate) fn prepare(options: &mut Options, spec: &mut Spec) {
    if manager().is_none() {
        return;
    }
    options.notify = true;
    options.extra_env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
    let dir = Container::notify_dir(&options.state_root, &options.id);
    let words = ["bind", "nosuid", "noexec", "nodev", "ro"];
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        source: Some(dir.to_string_lossy().into_owned()),
        options: words.map(str::to_owned).to_vec(),
        ..Mount::default()
    });
}

fn manager() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty())
}

/// The socket of a container, listened to.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
    manager: String,
    pid: i32,
    /// It said so: nothing more is passed on.
    ready: bool,
}

impl Notify {
    /// Listens, if anybody wants to know and the container has a place for the socket.
    pub(crate) fn listen(state_root: &Path, id: &str, pid: i32) -> Result<Option<Notify>, String> {
        let dir = Container::notify_dir(state_root, id);
        match manager() {
            Some(manager) if dir.is_dir() => Notify::bind(&dir, manager, pid).map(Some),
            _ => Ok(None),
        }
    }

    fn bind(dir: &Path, manager: String, pid: i32) -> Result<Notify, String> {
        let path = dir.join(NAME);
        let fail = |e: std::io::Error| format!("listen at {}: {e}", path.display());
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        // By the directory's descriptor: the path may be longer than a socket's can be.
        let opened = std::fs::File::open(dir).map_err(fail)?;
        let short = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd());
        let socket = UnixDatagram::bind(short).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        // Whoever the process in the container is.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(fail)?;
        Ok(Notify { socket, path, manager, pid, ready: false })
    }

    /// What to wait for; nothing once it is ready.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.ready).then(|| self.socket.as_fd())
    }

    /// Reads what the container said, and passes on that it is ready.
    pub(crate) fn pass_on(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        loop {
            let n = match self.socket.recv(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(format!("read from {}: {e}", self.path.display())),
            };
            let Some(said) = buffer.get(..n) else { continue };
            if !self.ready && said.split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                self.tell_manager()?;
                self.ready = true;
            }
        }
    }

    fn tell_manager(&self) -> Result<(), String> {
        let send = || -> std::io::Result<()> {
            let address = match self.manager.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&self.manager)?,
            };
            let message = format!("MAINPID={}\nREADY=1\n", self.pid);
            UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
        };
        send().map_err(|e| format!("notify {}: {e}", self.manager))
    }

    /// Waits until the container is ready, or its process has ended.
    pub(crate) fn wait(&mut self, process: BorrowedFd<'_>) -> Result<(), String> {
        while !self.ready {
            let mut fds = [PollFd::readable(process), PollFd::readable(self.socket.as_fd())];
            poll(&mut fds, None).map_err(|e| format!("poll: {e}"))?;
            let ended = fds[0].is_readable();
            self.pass_on()?;
            if ended {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_passed_on_once_in_the_name_of_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let manager = dir.path().join("manager");
        let service = UnixDatagram::bind(&manager).unwrap();
        service.set_nonblocking(true).unwrap();
        let inside = dir.path().join("notify");
        std::fs::create_dir(&inside).unwrap();
        let mut notify = Notify::bind(&inside, manager.to_string_lossy().into_owned(), 42).unwrap();
        let container = UnixDatagram::unbound().unwrap();
        let say = |text: &[u8]| container.send_to(text, inside.join(NAME)).unwrap();
        let mut buffer = [0; 100];
        for text in ["", "STATUS=loading", "NOTREADY=1\nREADY=0"] {
            say(text.as_bytes());
        }
        notify.pass_on().unwrap();
        assert!(service.recv(&mut buffer).is_err(), "nothing was said of being ready");
        say(b"STATUS=up\nREADY=1");
        say(b"READY=1");
        notify.pass_on().unwrap();
        let n = service.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"MAINPID=42\nREADY=1\n");
        assert!(service.recv(&mut buffer).is_err() && notify.fd().is_none());
        // A second start finds the socket of the first.
        Notify::bind(&inside, String::new(), 43).unwrap();
    }
}
