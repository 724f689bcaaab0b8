//! Running one more program in a container: this process becomes `hako-runc exec`.

use std::{fs::File, os::fd::AsFd as _, path::Path, process::Stdio};

use hako_oci::runtime::User;
use hako_root::Root;

use crate::{Container, Engine, Error, Result, Running, Status};

/// Longest user database of a container that is read.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// A program to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `-e`: `NAME=value`.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub stdin_open: bool,
    /// `-d`.
    pub detach: bool,
    /// `--privileged`.
    pub privileged: bool,
}

impl Engine {
    /// Becomes the program. Returns only with an error, or after `-d` started it.
    pub fn exec(
        &self,
        container: &Container,
        request: &ExecRequest,
    ) -> Result<std::convert::Infallible> {
        let pid = match self.status(container)? {
            Status::Running(Running { paused: true, .. }) => {
                return Err(Error::Unsupported(format!(
                    "Container {} is paused, unpause the container before exec",
                    container.id
                )));
            }
            Status::Running(Running { pid: Some(pid), .. }) => pid,
            _ => return Err(Error::NotRunning(container.id.clone())),
        };
        let mut arguments: Vec<String> =
            vec!["--root".into(), self.places.runtime_root().display().to_string(), "exec".into()];
        // Its errors are this command's, and so is its exit status.
        arguments.push("--for-engine".into());
        let mut option = |name: &str, value: &str| {
            arguments.push(name.into());
            arguments.push(value.into());
        };
        for pair in &request.env {
            option("--env", pair);
        }
        if let Some(workdir) = &request.workdir {
            option("--cwd", workdir);
        }
        if let Some(user) = &request.user {
            let user = self.resolve_user(pid, user)?;
            option("--user", &format!("{}:{}", user.uid, user.gid));
            for gid in &user.additional_gids {
                option("--additional-gids", &gid.to_string());
            }
        }
        if request.privileged {
            for name in hako_bundle::capability::all(self.machine()?) {
                option("--cap", name);
            }
        }
        for (flag, wanted) in [("--tty", request.tty), ("--detach", request.detach)] {
            if wanted {
                arguments.push(flag.into());
            }
        }
        arguments.push(container.id.clone());
        arguments.extend(request.command.iter().cloned());
        // Without -i the program reads nothing; a terminal is read for its keys all the same.
        let stdin = (!request.stdin_open && !request.tty).then(Stdio::null);
        Err(self.program()?.become_it(&arguments, stdin))
    }

    /// A user's name means what the container's own files say, now.
    fn resolve_user(&self, pid: i32, user: &str) -> Result<User> {
        let path = format!("/proc/{pid}/root");
        let dir = File::open(&path).map_err(Error::io("open", &path))?;
        let dir = dir.as_fd().try_clone_to_owned().map_err(Error::io("dup", &path))?;
        let root = Root::from_fd(dir, path);
        let read = |path: &str| match root.read(Path::new(path), USERS_BYTES_MAX) {
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            read => read,
        };
        let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
        Ok(hako_bundle::resolve_user(user, &passwd, &group).map_err(hako_bundle::Error::from)?)
    }
}
