//! Mounts of type `cgroup`: the container's view on its own control groups.

use std::ffi::CString;
use std::path::Path;

use hako_oci::runtime::Mount;
use hako_sys::mount::attr;
use hako_sys::namespace::Kind;

use super::builder::c_string;
use super::{Plan, mounts};
use crate::op::{CgroupDir, MountOp, NewFs, Op, Source};
use crate::{Error, Result};

/// What one such mount becomes: a cgroup2 file system, a bind of the container's own directory, or
/// on v1 and hybrid a tmpfs with the container's directory of each hierarchy that it joined.
pub(super) fn mount(field: &str, mount: &Mount, plan: &Plan) -> Result<Op> {
    let op = mounts::parse(field, mount, &plan.bundle, None)?.op;
    if plan.cgroups.v1.is_empty() {
        return unified(field, op, plan);
    }
    let mut dirs = Vec::new();
    for (mount_point, own) in directories(plan) {
        let name = mount_point.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let links = if name.contains(',') { name.split(',').collect() } else { Vec::new() };
        dirs.push(CgroupDir {
            name: c_string(field, name)?,
            source: path(field, own)?,
            links: links.into_iter().map(|l| c_string(field, l)).collect::<Result<_>>()?,
        });
    }
    let set = op.set | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let tmpfs = MountOp {
        source: Source::New(NewFs {
            kind: c"tmpfs".into(),
            params: vec![crate::op::Param::String(c"mode".into(), c"755".into())],
            source: c"tmpfs".into(),
            mode_of_target: false,
            lower: Vec::new(),
            legacy: c"mode=755".into(),
            by_mount: false,
        }),
        ..op
    };
    Ok(Op::MountCgroups { tmpfs: Box::new(tmpfs), set, dirs })
}

fn unified(field: &str, mut op: MountOp, plan: &Plan) -> Result<Op> {
    if plan.namespaces.has(Kind::Cgroup) {
        if let Source::New(new) = &mut op.source {
            new.kind = c"cgroup2".into();
            new.params.clear();
            new.legacy = CString::default();
        }
        return Ok(Op::Mount(Box::new(op)));
    }
    // Without a cgroup namespace the file system shows everybody's (CVE-2023-25809).
    let Some(own) = directories(plan).into_iter().next() else {
        return Err(Error::config(field, "there are no cgroups"));
    };
    op.source = Source::Bind {
        path: path(field, own.1)?,
        recursive: false,
        no_follow: true,
        prepared: None,
        copy_symlink: false,
    };
    op.set |= attr::NOSUID | attr::NODEV | attr::NOEXEC;
    Ok(Op::Mount(Box::new(op)))
}

/// Mount point and directory of each hierarchy that the process is in by its own right.
fn directories(plan: &Plan) -> Vec<(&Path, &Path)> {
    match &plan.cgroup {
        Some(cgroup) => {
            cgroup.directories.iter().map(|d| (d.mount.as_path(), d.path.as_path())).collect()
        }
        None => {
            let v1 = plan.cgroups.v1.iter().map(|h| (h.mount.as_path(), h.own.as_path()));
            v1.chain(plan.cgroups.v2.iter().map(|u| (u.mount.as_path(), u.own.as_path()))).collect()
        }
    }
}

fn path(field: &str, path: &Path) -> Result<CString> {
    c_string(
        field,
        path.to_str().ok_or_else(|| Error::config(field, "the cgroup's path is not UTF-8"))?,
    )
}
