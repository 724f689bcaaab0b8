//! Mounts of type `cgroup`: the container's view on its own control groups.

use std::ffi::CString;
use std::path::Path;

use hako_cgroup::Host;
use hako_oci::runtime::{Linux, Mount, Spec};
use hako_sys::mount::attr;
use hako_sys::namespace::Kind;

use super::builder::c_string;
use super::namespaces::Namespaces;
use super::{Plan, mounts};
use crate::op::{CgroupDir, MountOp, NewFs, Op, Source};
use crate::{CgroupDriver, Error, Options, Result};

/// The container's cgroup; `None` where it is to have none of its own.
pub(super) fn plan(
    spec: &Spec,
    linux: &Linux,
    options: &Options,
    host: &Host,
) -> Result<Option<hako_cgroup::Plan>> {
    let (id, resources, join) =
        (options.id.as_str(), linux.resources.as_ref(), options.join_cgroups);
    let request = |path| hako_cgroup::Request { path, id, resources, join };
    let path = linux.cgroups_path.as_deref();
    let plan = match options.cgroup {
        CgroupDriver::Disabled => return Ok(None),
        CgroupDriver::Cgroupfs => hako_cgroup::Plan::new(host, &request(path))?,
        CgroupDriver::Systemd => {
            let user = !options.privileged;
            let scope = hako_cgroup::systemd::Scope::new(path, id, user, &spec.annotations)?;
            let path = scope.cgroup_path();
            hako_cgroup::Plan::new(host, &request(Some(&path)))?.in_scope(scope, host, resources)?
        }
    };
    Ok(Some(if options.privileged { plan } else { plan.without_devices() }))
}

/// Who the container's cgroup belongs to, where that is not the caller: on v2, the user of its
/// process, if the container has a cgroup namespace of its own and mounts cgroups for writing
/// (config-linux.md, "Cgroup ownership").
pub(super) fn owner(spec: &Spec, host: &Host, namespaces: &Namespaces) -> Option<u32> {
    let writable = |mount: &Mount| {
        mount.destination.trim_end_matches('/') == "/sys/fs/cgroup"
            && matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && !mount.options.iter().any(|option| option == "ro")
    };
    let v2 = host.v2.is_some() && host.v1.is_empty();
    if !v2 || !namespaces.is_new(Kind::Cgroup) || !spec.mounts.iter().any(writable) {
        return None;
    }
    let uid = spec.process.as_ref()?.user.uid;
    if namespaces.is_joined(Kind::User) {
        // Its maps are not ours to know.
        return None;
    }
    if !namespaces.is_new(Kind::User) {
        return Some(uid);
    }
    let maps = &spec.linux.as_ref()?.uid_mappings;
    maps.iter().find_map(|map| {
        let within = uid.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
        map.host_id.checked_add(within)
    })
}

/// What one such mount becomes: a cgroup2 file system, a bind of the container's own directory, or
/// on v1 and hybrid a tmpfs with the container's directory of each hierarchy that it joined.
pub(super) fn mount(field: &str, mount: &Mount, plan: &Plan) -> Result<Op> {
    let op = mounts::parse(field, mount, &plan.bundle, None)?.op;
    // A named hierarchy of v1 that somebody mounted beside does not make it another machine.
    let at_root = |v2: &hako_cgroup::Unified| v2.mount == Path::new("/sys/fs/cgroup");
    if plan.cgroups.v1.is_empty() || plan.cgroups.v2.as_ref().is_some_and(at_root) {
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
            lower_is_target: false,
            legacy: c"mode=755".into(),
            by_descriptor: false,
            by_mount: false,
            base: None,
            label: None,
        }),
        ..op
    };
    Ok(Op::MountCgroups { tmpfs: Box::new(tmpfs), set, dirs })
}

/// Where the hierarchy of an old systemd is asked for.
pub(super) const SYSTEMD: &str = "annotations[\"run.oci.systemd.force_cgroup_v1\"]";

/// The container's directory of the v1 hierarchy that has systemd's name and no controllers: an old
/// systemd in the container needs it, whatever the host's does.
pub(super) fn systemd(destination: &str, plan: &Plan) -> Result<MountOp> {
    let directories = plan.cgroup.iter().flat_map(|cgroup| &cgroup.directories);
    let own = directories.filter(|d| d.name.as_deref() == Some("systemd")).map(|d| &d.path).next();
    let own = own.ok_or_else(|| {
        let why =
            "needs the cgroup v1 hierarchy name=systemd, which is not mounted on this machine";
        Error::config(SYSTEMD, why)
    })?;
    let words = ["bind", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let mount = Mount {
        destination: destination.to_owned(),
        source: Some(own.to_string_lossy().into_owned()),
        options: words.to_vec(),
        ..Mount::default()
    };
    Ok(mounts::parse(SYSTEMD, &mount, &plan.bundle, None)?.op)
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
        copy_symlink: None,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::namespaces;

    fn check(uid: u32, mounts: Value, kinds: &[Value], expected: Option<u32>) {
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "user": {"uid": uid, "gid": 0}},
            "mounts": mounts,
            "linux": {
                "namespaces": kinds,
                "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
            },
        });
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let host = Host::parse("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n");
        let namespaces = namespaces::parse(spec.linux.as_ref().unwrap()).unwrap();
        assert_eq!(owner(&spec, &host, &namespaces), expected, "{spec:?}");
    }

    #[test]
    fn who_a_cgroup_is_given_to() {
        let mount = |options: &[&str]| json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}]);
        let (cgroup, user) = (json!({"type": "cgroup"}), json!({"type": "user"}));
        check(7, mount(&["rw"]), std::slice::from_ref(&cgroup), Some(7));
        check(7, mount(&[]), &[cgroup.clone(), user.clone()], Some(100_007));
        // Not mapped; read-only; not mounted; the view is the host's, or another container's.
        check(1000, mount(&[]), &[cgroup.clone(), user.clone()], None);
        check(7, mount(&["nosuid", "ro"]), std::slice::from_ref(&cgroup), None);
        check(7, json!([]), std::slice::from_ref(&cgroup), None);
        check(7, mount(&[]), std::slice::from_ref(&user), None);
        check(7, mount(&[]), &[json!({"type": "cgroup", "path": "/proc/1/ns/cgroup"})], None);
        check(7, mount(&[]), &[cgroup, json!({"type": "user", "path": "/proc/1/ns/user"})], None);
    }
}
