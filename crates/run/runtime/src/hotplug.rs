//! Mounts that come and go while the container runs.
//!
//! What is bound is copied, detached, in the caller's mount namespace; a process of the caller then
//! joins the container's, and attaches it to a place that the kernel resolves beneath the
//! container's root. No path of the container is ever walked on the host.

use std::os::fd::AsFd;

use hako_oci::runtime::{Mount, Process};
use hako_oci::state::Status;
use hako_sys::fs;
use hako_sys::mount::{self, OpenTree};
use hako_sys::namespace::Kind;
use hako_sys::process::ExitStatus;

use crate::init::Fds;
use crate::manage::Container;
use crate::op::{NewFs, Op, Param, Source, Step};
use crate::plan::{Builder, exec_op, mount_plan, place};
use crate::spawn::{self, Birth, Said};
use crate::state::StateDir;
use crate::{Error, Result};

/// File systems that show the namespaces of who mounts them: the host's, here.
const OF_NAMESPACES: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

impl Container {
    /// Mounts these, in order, in the running container, and adds them to its saved configuration.
    /// Those before one that fails stay.
    pub fn add_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let dir = StateDir::open(self.root(), self.id())?;
        let mut config = self.config()?;
        for (i, mount) in mounts.iter().enumerate() {
            let field = format!("mounts[{i}]");
            if mount.kind.as_deref().is_some_and(|kind| OF_NAMESPACES.contains(&kind)) {
                let why = "shows the namespaces of who mounts it, and cannot be added later";
                return Err(Error::config(format!("{field}.type"), why));
            }
            let planned = mount_plan(&field, mount, self.bundle())?;
            if planned.id_map.is_some() {
                let why = "ID-mapped mounts cannot be added later";
                return Err(Error::config(format!("{field}.options"), why));
            }
            // Over the root itself it would hide the container from those who come later.
            place(&format!("{field}.destination"), &mount.destination)?;
            let mut op = planned.op;
            let mut fds = Fds::default();
            if let (Source::New(new), true) = (&mut op.source, self.has_user_namespace()) {
                give_to_root(new);
            }
            if let Source::Bind { path, recursive, no_follow, prepared, copy_symlink } =
                &mut op.source
            {
                let how = OpenTree { clone: true, recursive: *recursive, no_follow: *no_follow };
                let tree = mount::open_tree(fs::cwd(), path, how)
                    .map_err(|e| Error::call("open_tree", path.to_string_lossy(), e))?;
                fds.prepared.push(tree);
                (*prepared, *copy_symlink) = (Some(0), None);
            }
            self.in_mount_namespace("mounts add", &field, Op::Mount(Box::new(op)), fds)?;
            config.mounts.push(mount.clone());
            dir.write_config(&config)?;
        }
        Ok(())
    }

    /// Unmounts what is mounted at these places, in order. Only what the configuration or
    /// [`Container::add_mounts`] mounted can be, and by no path with a symbolic link on it.
    pub fn remove_mounts(&self, destinations: &[String]) -> Result<()> {
        let dir = StateDir::open(self.root(), self.id())?;
        let mut config = self.config()?;
        for (i, destination) in destinations.iter().enumerate() {
            let field = format!("mounts[{i}].destination");
            let wanted = place(&field, destination)?;
            let same = |m: &Mount| {
                place(&field, &m.destination)
                    .is_ok_and(|p| (&p.dir.path, &p.name) == (&wanted.dir.path, &wanted.name))
            };
            let Some(at) = config.mounts.iter().rposition(same) else {
                let why = format!("nothing that hako-runc mounted is at {destination:?}");
                return Err(Error::config(field, why));
            };
            self.in_mount_namespace("mounts remove", &field, Op::Unmount(wanted), Fds::default())?;
            config.mounts.remove(at);
            dir.write_config(&config)?;
        }
        Ok(())
    }

    fn has_user_namespace(&self) -> bool {
        self.file.namespaces & Kind::User.flag() != 0
    }

    /// Performs one step in the container's mount namespace.
    fn in_mount_namespace(&self, verb: &'static str, field: &str, op: Op, fds: Fds) -> Result<()> {
        let status = self.status()?;
        if !matches!(status, Status::Created | Status::Running | Status::Paused) {
            return Err(self.wrong(verb, status));
        }
        if self.file.namespaces & Kind::Mount.flag() == 0 || !self.file.pivots {
            let message = format!("container {} has no root of its own to mount in", self.id());
            return Err(Error::Unsupported(message));
        }
        let Some(pidfd) = self.process()? else { return Err(self.wrong(verb, Status::Stopped)) };
        let mut b = Builder::default();
        b.push(field, Op::NotDumpable);
        b.push(field, Op::RootHere);
        b.push(field, op);
        b.push(field, Op::Done);
        // In the user namespace too, or its root could not take away what was mounted.
        let kinds = [Kind::User, Kind::Mount];
        let enter = kinds.iter().filter(|k| self.file.namespaces & k.flag() != 0);
        let birth =
            Birth { enter: enter.map(|k| (pidfd.as_fd(), k.flag())).collect(), ..Birth::default() };
        // No program is executed; the last step ends the process.
        let exec =
            exec_op("process", &Process { args: vec!["-".to_owned()], ..Process::default() }, &[])?;
        let spawned = spawn::spawn(&birth, &b.steps, &exec, &fds)?;
        let said = spawn::listen(spawned.sync.as_fd())?;
        let ended = hako_sys::process::wait(spawned.child.pidfd.as_fd())
            .map_err(|e| Error::call("waitid", field, e))?;
        match (said, ended) {
            (Said::Closed, ExitStatus::Exited(0)) => Ok(()),
            (Said::Failed(record, note), _) => Err(failure(&b.steps, &record, &note)),
            (_, ended) => Err(Error::Died(format!("while mounting: {ended:?}"))),
        }
    }
}

/// A tmpfs is its maker's, who is nobody in the user namespace: it is given to that one's root.
fn give_to_root(new: &mut NewFs) {
    if new.kind.as_bytes() != b"tmpfs" {
        return;
    }
    for name in [c"uid", c"gid"] {
        let said = |p: &Param| matches!(p, Param::String(key, _) if key.as_c_str() == name);
        if !new.params.iter().any(said) {
            new.params.push(Param::String(name.into(), c"0".into()));
        }
    }
}

fn failure(steps: &[Step], record: &crate::wire::Record, note: &str) -> Error {
    spawn::failure(steps, "", record, note)
}
