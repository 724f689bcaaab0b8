//! Where everything is.
//!
//! ```text
//! ROOT      /var/lib/hako, $XDG_DATA_HOME/hako        survives a reboot
//!   hako.db  content/  snapshots/
//!   containers/<id>/     log, exit record, hosts, hostname, resolv.conf; lock
//!   creating.lock        held shared while a container is being made
//! RUN_ROOT  /run/hako, $XDG_RUNTIME_DIR/hako          gone after a reboot
//!   root                 the path of the ROOT it belongs to
//!   runtime/<id>/        hako-runc's state
//!   containers/<id>/     config.json, rootfs/, monitor.json, lock, attach.sock
//! ```

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// The two directories that an engine keeps everything in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What survives a reboot.
    pub root: PathBuf,
    /// What does not.
    pub run_root: PathBuf,
}

impl Places {
    /// The places that a user means: those named (`--root`, `--run-root`), else those of the
    /// environment (`HAKO_ROOT`, `HAKO_RUN_ROOT`), else root's own or the XDG directories.
    ///
    /// Somebody who names only one of them gets the other beneath it, so that two installations
    /// never share half of their state.
    pub fn resolve(root: Option<PathBuf>, run_root: Option<PathBuf>) -> Result<Places> {
        let named = |given: Option<PathBuf>, name| given.or_else(|| path(std::env::var_os(name)));
        let root = named(root, "HAKO_ROOT");
        let run_root = named(run_root, "HAKO_RUN_ROOT");
        let (root, run_root) = match (root, run_root) {
            (Some(root), Some(run_root)) => (root, run_root),
            (Some(root), None) => (root.clone(), root.join("run")),
            (None, run_root) => {
                let own = Places::default_of(is_root())?;
                (own.root, run_root.unwrap_or(own.run_root))
            }
        };
        Ok(Places { root: absolute(root)?, run_root: absolute(run_root)? })
    }

    fn default_of(is_root: bool) -> Result<Places> {
        if is_root {
            return Ok(Places { root: "/var/lib/hako".into(), run_root: "/run/hako".into() });
        }
        let home = || path(std::env::var_os("HOME")).ok_or(Error::NoHome);
        let data = match path(std::env::var_os("XDG_DATA_HOME")) {
            Some(data) => data,
            None => home()?.join(".local/share"),
        };
        let run_root = match path(std::env::var_os("XDG_RUNTIME_DIR")) {
            Some(runtime) => runtime.join("hako"),
            // Not /tmp/hako: anybody could have made that.
            None => data.join("hako/run"),
        };
        Ok(Places { root: data.join("hako"), run_root })
    }

    /// Makes the directories, and ties the run root to its root.
    pub(crate) fn ensure(&self) -> Result<()> {
        for dir in [self.root.join("containers"), self.run_root.join("containers")] {
            private_dirs(&dir)?;
        }
        self.tie()
    }

    /// Two roots with one run root would take each other's containers for leftovers.
    fn tie(&self) -> Result<()> {
        let path = self.run_root.join("root");
        let ours = self.root.as_os_str().as_encoded_bytes();
        match fs::read(&path) {
            Ok(there) if there == ours => Ok(()),
            Ok(there) => Err(Error::RunRootTaken {
                run_root: self.run_root.clone(),
                root: PathBuf::from(String::from_utf8_lossy(&there).into_owned()),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let beside = self.run_root.join(format!("root.{}", std::process::id()));
                fs::write(&beside, ours).map_err(Error::io("write", &beside))?;
                // link(2) does not replace what another process made meanwhile.
                let linked = fs::hard_link(&beside, &path);
                fs::remove_file(&beside).map_err(Error::io("remove", &beside))?;
                match linked {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.tie(),
                    linked => linked.map_err(Error::io("link", &path)),
                }
            }
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// What is kept of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The run directory of a container: its bundle and its monitor's files.
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.run_root.join("containers").join(id)
    }

    /// hako-runc's `--root`.
    pub fn runtime_root(&self) -> PathBuf {
        self.run_root.join("runtime")
    }

    pub(crate) fn creating_lock(&self) -> PathBuf {
        self.root.join("creating.lock")
    }
}

/// Whether this process is root where it matters: state belongs to its effective user.
pub(crate) fn is_root() -> bool {
    hako_sys::cred::effective_uid() == 0
}

/// Makes a directory with its parents; those that are made are for their owner only.
pub(crate) fn private_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("mkdir", dir))
}

fn path(word: Option<OsString>) -> Option<PathBuf> {
    word.filter(|word| !word.is_empty()).map(PathBuf::from)
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(Error::io("resolve", &path))
}
