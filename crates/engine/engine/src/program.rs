//! hako-runc, which hako carries inside itself, as something that can be executed.
//!
//! A container that gets hold of `/proc/self/exe` of its runtime must find a file that nobody can
//! write (CVE-2019-5736). So the program is kept once in the run root, and executed through a
//! read-only mount that is in no namespace: all monitors share its pages. Where such a mount cannot
//! be had, it is executed from a sealed copy in memory.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{
            fs::{MetadataExt as _, OpenOptionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hako_sys::{Errno, memfd, mount};

use crate::{Embedded, Error, Result};

/// What the program's files in the run root begin with; the program's digest follows.
const PREFIX: &str = "hako-runc-";

/// The program: its file in the run root.
#[derive(Debug)]
pub(crate) struct Program(File);

impl Program {
    /// Keeps it in `run_root`, unless an earlier command did.
    pub(crate) fn new(embedded: &Embedded, run_root: &Path) -> Result<Program> {
        keep(embedded, run_root).map(Program)
    }

    /// Calls `start` with a command that executes the program. What protects its file is closed
    /// afterwards: as long as it is open the program waits.
    fn with_command<T>(&self, start: impl FnOnce(Command) -> T) -> Result<T> {
        let file = match mount::read_only_view(self.0.as_fd()) {
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EINVAL) => {
                memfd::sealed_copy(c"hako-runc", &self.0)
                    .map_err(|e| Error::io("memfd_create", "hako-runc")(e.into()))?
            }
            view => view.map_err(|e| Error::io("open_tree", "hako-runc")(e.into()))?,
        };
        let mut command =
            Command::new(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
        command.arg0("hako-runc");
        Ok(start(command))
    }

    /// Starts a monitor whose first client is at the other end of `socket`. The monitor goes its
    /// own way, and outlives this process; whether it came up is said through the socket.
    /// It holds `layers` as long as it lives, as the descriptor that `hako_snapshot::SHARED_FD` says.
    pub(crate) fn spawn_monitor(
        &self,
        dir: &OsStr,
        socket: OwnedFd,
        layers: Option<OwnedFd>,
    ) -> Result<Child> {
        self.with_command(|mut command| {
            command
                .arg("monitor")
                .arg("--dir")
                .arg(dir)
                .stdin(Stdio::from(socket))
                .stdout(layers.map_or_else(Stdio::null, Stdio::from))
                .stderr(Stdio::null())
                .env_clear()
                .current_dir("/")
                .spawn()
        })?
        .map_err(Error::io("execute", "hako-runc monitor"))
    }

    /// Becomes hako-runc. Returns only if that fails.
    pub(crate) fn become_it(&self, arguments: &[String], stdin: Option<Stdio>) -> Error {
        let result = self.with_command(|mut command| {
            command.args(arguments);
            if let Some(stdin) = stdin {
                command.stdin(stdin);
            }
            command.exec()
        });
        match result {
            Ok(error) => Error::io("execute", "hako-runc")(error),
            Err(error) => error,
        }
    }
}

/// The program's file in the run root.
fn keep(embedded: &Embedded, run_root: &Path) -> Result<File> {
    let path = run_root.join(format!("{PREFIX}{}", embedded.runtime_id));
    if let Some(file) = kept(embedded, &path)? {
        return Ok(file);
    }
    // Writers take turns, so that what is half written here was left by one that was killed.
    let dir = File::open(run_root).map_err(Error::io("open", run_root))?;
    dir.lock().map_err(Error::io("lock", run_root))?;
    if let Some(file) = kept(embedded, &path)? {
        return Ok(file);
    }
    remove_others(run_root)?;
    let beside = run_root.join(format!("{PREFIX}new"));
    write(&beside, embedded.runtime)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(Error::io("write", &beside))?;
    File::open(&path).map_err(Error::io("open", &path))
}

/// What an earlier command wrote there. The directory belongs to the user of this engine alone, so
/// a file of this name and size is it.
fn kept(embedded: &Embedded, path: &Path) -> Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let about = file.metadata().map_err(Error::io("stat", path))?;
    let whole = about.len() == embedded.runtime.len() as u64 && about.mode() & 0o7777 == 0o500;
    Ok(Some(file).filter(|_| whole))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o500).open(path)?;
    file.write_all(bytes)?;
    // Where the run root is on a disk, a power cut must not leave the name without the bytes.
    file.sync_all()
}

/// Removes what other versions kept, and what is half written. Who runs from a file still has it.
fn remove_others(run_root: &Path) -> Result<()> {
    for entry in fs::read_dir(run_root).map_err(Error::io("read", run_root))? {
        let entry = entry.map_err(Error::io("read", run_root))?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}
