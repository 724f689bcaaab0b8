//! hako-runc, which hako carries inside itself, as something that can be executed.
//!
//! It is executed from a sealed memory file: a container that gets hold of `/proc/self/exe` of its
//! runtime finds a file that nobody can write (CVE-2019-5736).

use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use hako_sys::memfd;

use crate::{Error, Result};

/// The program, sealed.
#[derive(Debug)]
pub(crate) struct Program {
    file: File,
}

impl Program {
    /// A sealed copy of `bytes`.
    pub(crate) fn new(bytes: &[u8]) -> Result<Program> {
        let about = |call| move |e| Error::io(call, "hako-runc")(e);
        let fd =
            memfd::create_executable(c"hako-runc").map_err(|e| about("memfd_create")(e.into()))?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(about("write"))?;
        memfd::seal(file.as_fd()).map_err(|e| about("seal")(e.into()))?;
        Ok(Program { file })
    }

    fn command(&self) -> Command {
        // The descriptor is closed by exec, after the kernel has opened the program.
        let mut command =
            Command::new(PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd())));
        command.arg0("hako-runc");
        command
    }

    /// Starts a monitor whose first client is at the other end of `socket`. The monitor goes its
    /// own way, and outlives this process; whether it came up is said through the socket.
    pub(crate) fn spawn_monitor(&self, dir: &OsStr, socket: OwnedFd) -> Result<Child> {
        self.command()
            .arg("monitor")
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .current_dir("/")
            .spawn()
            .map_err(Error::io("execute", "hako-runc monitor"))
    }

    /// Becomes hako-runc. Returns only if that fails.
    pub(crate) fn become_it(&self, arguments: &[String], stdin: Option<Stdio>) -> Error {
        let mut command = self.command();
        command.args(arguments);
        if let Some(stdin) = stdin {
            command.stdin(stdin);
        }
        Error::io("execute", "hako-runc")(command.exec())
    }
}
