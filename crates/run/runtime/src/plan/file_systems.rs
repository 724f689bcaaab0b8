//! What is mounted, made and masked, from the root filesystem to the pivot.

use std::path::Path;

use hako_oci::runtime::{Linux, Process, Spec};
use hako_sys::mount::{Propagation, attr};
use hako_sys::namespace::Kind;

use super::builder::target;
use super::{Builder, NewDevice, Plan, Prepared, cgroups, idmap, linux, mounts};
use crate::op::{MountOp, Op, Source};
use crate::{Error, Result};

impl Plan {
    /// The root filesystem as a mount of its own.
    pub(super) fn root(&self, b: &mut Builder, linux: &Linux) -> Result<()> {
        let (propagation, all) = match linux.rootfs_propagation.as_deref() {
            None | Some("") => (Propagation::Slave, true),
            Some(word) => mounts::propagation(word)?,
        };
        // An unbindable tree cannot be bound; only the root itself becomes so, in the end.
        let outer =
            if propagation == Propagation::Unbindable { Propagation::Private } else { propagation };
        b.push("linux.rootfsPropagation", Op::PropagateAll(outer, all));
        let path = mounts::absolute("root.path", Path::new("/"), &self.rootfs.to_string_lossy())?;
        if outer == Propagation::Shared {
            let mut parents = Vec::new();
            for ancestor in self.rootfs.ancestors() {
                parents.push(mounts::absolute(
                    "root.path",
                    Path::new("/"),
                    &ancestor.to_string_lossy(),
                )?);
            }
            b.push("linux.rootfsPropagation", Op::PrivateParent(parents));
        }
        if self.options.rootfs_mounts.is_empty() {
            b.push("root.path", Op::BindRoot { path });
        }
        for (i, mount) in self.options.rootfs_mounts.iter().enumerate() {
            let field = format!("rootfs_mounts[{i}]");
            let planned = mounts::parse(&field, mount, &self.bundle, self.label(linux))?;
            if i == 0 || mounts::is_at(mount, "/") {
                let path =
                    mounts::absolute("root.path", Path::new("/"), &self.rootfs.to_string_lossy())?;
                b.push(field, Op::MountRoot { path, fs: Box::new(planned.op) });
            } else {
                b.push(field, Op::Mount(Box::new(planned.op)));
            }
        }
        Ok(())
    }

    pub(super) fn file_systems(
        &mut self,
        b: &mut Builder,
        spec: &Spec,
        process: &Process,
        linux: &Linux,
    ) -> Result<()> {
        let own = self.own_mounts();
        if own && !self.options.rootfs_mounts.is_empty() {
            self.root(b, linux)?;
        }
        let user_namespace = self.namespaces.has(Kind::User);
        let mut late_readonly = Vec::new();
        let systemd = self.extensions.systemd_v1.clone();
        let mut systemd =
            systemd.map(|destination| cgroups::systemd(&destination, self)).transpose()?;
        for (i, mount) in spec.mounts.iter().enumerate() {
            let field = format!("mounts[{i}]");
            mounts::check_proc(&field, mount)?;
            // The annotation's takes the place of one that is mounted there.
            let is_there = |op: &mut MountOp| {
                mounts::is_at(mount, &format!("/{}", op.target.path.to_string_lossy()))
            };
            if let Some(op) = systemd.take_if(is_there) {
                b.push(field, Op::Mount(Box::new(op)));
                continue;
            }
            if matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2")) {
                let op = cgroups::mount(&field, mount, self)?;
                b.push(field, op);
                continue;
            }
            let mut planned = mounts::parse(&field, mount, &self.bundle, self.label(linux))?;
            // What is mounted, made and bound in there comes first (as runc).
            let set = &mut planned.op.set;
            if *set & attr::RDONLY != 0
                && (mounts::is_at(mount, "/dev") || mount.kind.as_deref() == Some("tmpfs"))
            {
                *set &= !attr::RDONLY;
                late_readonly.push(planned.op.target.clone());
            }
            if let (Some(ranges), Some(id_map)) = (&planned.ranges, &mut planned.id_map) {
                let (uids, gids) = (&self.uid_map, &self.gid_map);
                *id_map = ranges.resolve(&field, id_map.recursive, uids, gids)?;
            }
            if let Source::Bind { path, recursive, no_follow, prepared, .. } =
                &mut planned.op.source
            {
                // ID-mapping needs the caller's privileges, and so does walking to a source that
                // the user namespace's root may not see.
                let elsewhere = mounts::of_process(path).filter(|_| self.options.privileged);
                let by_parent = planned.id_map.is_some()
                    || elsewhere.is_some()
                    || (self.namespaces.has(Kind::User) && self.options.privileged);
                if by_parent {
                    let recursive = *recursive;
                    *prepared = Some(self.prepared.len());
                    let (namespace, path) = match elsewhere {
                        Some((namespace, path)) => (Some(namespace), path),
                        None => (None, path.clone()),
                    };
                    self.prepared.push(Prepared {
                        path,
                        namespace,
                        recursive,
                        no_follow: *no_follow,
                        id_map: planned.id_map,
                        device: None,
                        field: field.clone(),
                    });
                }
            }
            b.push(field, Op::Mount(Box::new(planned.op)));
        }
        if let Some(op) = systemd {
            b.push(cgroups::SYSTEMD, Op::Mount(Box::new(op)));
        }
        // A /dev that is the host's own has everything already.
        let host_dev = spec.mounts.iter().any(|m| mounts::is_at(m, "/dev") && mounts::is_bind(m));
        if own && !host_dev {
            let made = self.namespaces.is_new(Kind::User) && self.options.privileged;
            let (uids, gids) = (&self.uid_map, &self.gid_map);
            let prepared = &mut self.prepared;
            linux::devices(b, linux, user_namespace, |op, field| {
                if !made {
                    return Ok(None);
                }
                let outside = |map, id| {
                    let why = || Error::config(field, "its owner has no ID in the user namespace");
                    idmap::outside(id, map).ok_or_else(why)
                };
                prepared.push(Prepared {
                    path: op.path.clone(),
                    namespace: None,
                    recursive: false,
                    no_follow: false,
                    id_map: None,
                    device: Some(NewDevice {
                        kind: op.kind,
                        mode: op.mode,
                        device: op.device,
                        owner: (outside(uids, op.owner.0)?, outside(gids, op.owner.1)?),
                    }),
                    field: field.to_owned(),
                });
                Ok(Some(prepared.len() - 1))
            })?;
            let pts = spec.mounts.iter().any(|m| m.kind.as_deref() == Some("devpts"));
            if pts {
                b.push(
                    "linux.devices",
                    Op::Link {
                        dir: target("linux.devices", "/dev")?,
                        name: c"ptmx".into(),
                        to: c"pts/ptmx".into(),
                        replace: true,
                    },
                );
            }
        }
        if process.terminal {
            let size = process.console_size.as_ref().map(|s| (s.height, s.width));
            let console = own.then(|| target("process.terminal", "/dev/console")).transpose()?;
            let ptmx = if own { "/dev/pts/ptmx" } else { "/dev/ptmx" };
            b.push(
                "process.terminal",
                Op::Console { ptmx: target("process.terminal", ptmx)?, console, size },
            );
        }
        if !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty() {
            b.push("hooks.createRuntime", Op::AwaitRuntimeHooks);
        }
        for op in linux::hook_ops("createContainer", &self.hooks.create_container, &self.state)? {
            b.push(format!("hooks.createContainer[{}]", op.index), Op::Hook(Box::new(op)));
        }
        linux::sysctls(b, linux, &self.namespaces)?;
        for (i, path) in linux.readonly_paths.iter().enumerate() {
            let field = format!("linux.readonlyPaths[{i}]");
            let op = Op::ReadonlyPath(target(&field, path)?);
            b.push(field, op);
        }
        for (i, path) in linux.masked_paths.iter().enumerate() {
            let field = format!("linux.maskedPaths[{i}]");
            let op = Op::MaskedPath(target(&field, path)?);
            b.push(field, op);
        }
        for target in late_readonly {
            b.push("mounts", Op::Mount(Box::new(mounts::readonly(target))));
        }
        if own && spec.root.as_ref().is_some_and(|r| r.readonly) {
            // Where it is missing it is made, as runc and crun do; afterwards nothing can be.
            b.push("process.cwd", Op::Directory(target("process.cwd", &process.cwd)?));
            b.push("root.readonly", Op::RootReadonly);
        }
        b.push(
            "root.path",
            match (own, self.options.no_pivot) {
                (true, false) => Op::Pivot,
                (true, true) => Op::MoveRoot,
                (false, _) => Op::Chroot {
                    path: mounts::absolute(
                        "root.path",
                        Path::new("/"),
                        &self.rootfs.to_string_lossy(),
                    )?,
                },
            },
        );
        if own && let Some(word) = linux.rootfs_propagation.as_deref().filter(|w| !w.is_empty()) {
            let (propagation, all) = mounts::propagation(word)?;
            // runc: only the root mount itself, unless the word says all.
            b.push(
                "linux.rootfsPropagation",
                Op::RootPropagation(propagation, all && word.starts_with('r')),
            );
        }
        Ok(())
    }
}
