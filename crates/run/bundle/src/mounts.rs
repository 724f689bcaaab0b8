//! All mounts of a container, in order: Docker's, the files from outside, the user's.

use std::path::Path;

use hako_oci::image::ContainerConfig;
use hako_oci::runtime::Mount;

use crate::bundle::{Error, network_neighbour};
use crate::defaults;
use crate::facts::Facts;
use crate::files;
use crate::options::{
    Bind, BindRecursive, IpcMode, MountRequest, MountSource, RunOptions, VolumeRef,
};

/// The mounts, and the propagation that the root needs for them.
pub(crate) fn mounts(
    options: &RunOptions,
    image: &ContainerConfig,
    facts: &Facts<'_>,
) -> Result<(Vec<Mount>, Option<String>), Error> {
    let mut user = Vec::new();
    for request in &options.mounts {
        if user.iter().any(|mount: &Mount| mount.destination == request.target) {
            return Err(Error::DuplicateMount(request.target.clone()));
        }
        user.push(user_mount(request, facts)?);
    }
    for target in image.volumes.keys() {
        let target = crate::path::clean(target);
        let taken = user.iter().any(|mount| mount.destination == target);
        if let (false, Some(source)) = (taken, facts.volumes.get(&target)) {
            user.push(bind_mount(&target, source, &["rbind", "rprivate"]));
        }
    }
    let files_dir = network_neighbour(options, facts).map_or(facts.files_dir, |n| &n.files_dir);
    for (name, target) in files::FILES {
        if !user.iter().any(|mount| mount.destination == *target) {
            let access = if options.rootfs_readonly { "ro" } else { "rw" };
            user.push(bind_mount(target, &files_dir.join(name), &["rbind", "rprivate", access]));
        }
    }
    // A mount must come before those beneath it.
    user.sort_by_key(|mount| mount.destination.matches('/').count());

    let mut mounts = defaults::mounts();
    mounts.retain(|mount| {
        let replaced = |user: &Mount| {
            user.destination == mount.destination
                // Whoever brings a /dev of their own gets nothing of ours in it.
                || (user.destination == "/dev" && mount.destination.starts_with("/dev/"))
        };
        !user.iter().any(replaced)
    });
    adapt_defaults(&mut mounts, options, facts)?;
    let propagation = root_propagation(&user);
    mounts.extend(user);
    Ok((mounts, propagation))
}

/// Changes the default mounts as privileges, read-only root and IPC mode ask for.
fn adapt_defaults(
    mounts: &mut Vec<Mount>,
    options: &RunOptions,
    facts: &Facts<'_>,
) -> Result<(), Error> {
    if options.privileged {
        for mount in mounts.iter_mut() {
            if matches!(&*mount.destination, "/sys" | "/sys/fs/cgroup") {
                mount.options.retain(|option| option != "ro");
            }
        }
    }
    match &options.ipc {
        IpcMode::None => mounts.retain(|mount| mount.destination != "/dev/shm"),
        IpcMode::Host => {
            for mount in mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm") {
                *mount = bind_mount("/dev/shm", Path::new("/dev/shm"), &["rbind", "rprivate"]);
            }
        }
        IpcMode::Container(container) => {
            let join = || Error::Join { namespace: "ipc", container: container.clone() };
            let pid = facts.containers.get(container).ok_or_else(join)?.pid;
            let source = format!("/proc/{pid}/root/dev/shm");
            for mount in mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm") {
                let options = ["bind", "rprivate", "nosuid", "noexec", "nodev"];
                *mount = bind_mount("/dev/shm", Path::new(&source), &options);
            }
        }
        IpcMode::Private | IpcMode::Shareable => {
            let bytes = options.shm_bytes.filter(|bytes| *bytes != 0);
            let size = format!("size={}", bytes.unwrap_or(defaults::SHM_BYTES_DEFAULT));
            for mount in mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm") {
                mount.options.push(size.clone());
            }
        }
    }
    Ok(())
}

fn user_mount(request: &MountRequest, facts: &Facts<'_>) -> Result<Mount, Error> {
    match &request.source {
        MountSource::Bind(bind) => Ok(bind_request(request, bind, facts)),
        MountSource::Volume(volume) => volume_request(request, volume, facts),
        MountSource::Tmpfs(tmpfs) => {
            let mut options: Vec<&str> = vec!["noexec", "nosuid", "nodev", "rprivate"];
            options.extend(tmpfs.options.iter().map(String::as_str));
            if request.readonly && !options.contains(&"ro") {
                options.push("ro");
            }
            Ok(Mount {
                destination: request.target.clone(),
                kind: Some("tmpfs".into()),
                source: Some("tmpfs".into()),
                options: last_of_each_kind(&options),
                ..Mount::default()
            })
        }
    }
}

fn bind_request(request: &MountRequest, bind: &Bind, facts: &Facts<'_>) -> Mount {
    let recursive = match bind.recursive {
        BindRecursive::Disabled => "bind",
        _ => "rbind",
    };
    let access = match (request.readonly, bind.recursive) {
        (false, _) => "rw",
        (true, BindRecursive::Readonly) => "rro",
        (true, BindRecursive::Writable | BindRecursive::Disabled) => "ro",
        // Mounts beneath become read-only where the kernel can do that at all (mount_setattr).
        (true, BindRecursive::Enabled) if facts.machine.kernel >= (5, 12) => "rro",
        (true, BindRecursive::Enabled) => "ro",
    };
    let propagation = bind.propagation.as_deref().unwrap_or("rprivate");
    bind_mount(&request.target, &bind.path, &[recursive, propagation, access])
}

fn volume_request(
    request: &MountRequest,
    volume: &VolumeRef,
    facts: &Facts<'_>,
) -> Result<Mount, Error> {
    let key = volume.name.as_ref().unwrap_or(&request.target);
    let dir = facts.volumes.get(key).ok_or_else(|| match &volume.name {
        Some(name) => Error::Volume(name.clone()),
        None => Error::AnonymousVolume(request.target.clone()),
    })?;
    let dir = match &volume.subpath {
        Some(subpath) => dir.join(subpath),
        None => dir.clone(),
    };
    let access = if request.readonly { "ro" } else { "rw" };
    Ok(bind_mount(&request.target, &dir, &["rbind", "rprivate", access]))
}

fn bind_mount(target: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        destination: target.into(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: options.iter().map(|option| (*option).into()).collect(),
        ..Mount::default()
    }
}

/// Words of which the last one counts.
const OPPOSITES: &[&[&str]] = &[
    &["ro", "rw"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["exec", "noexec"],
    &["sync", "async"],
    &["mand", "nomand"],
    &["atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"],
    &["diratime", "nodiratime"],
    &["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"],
];

/// The options, without those that a later one takes back.
fn last_of_each_kind(options: &[&str]) -> Vec<String> {
    let same_kind = |a: &str, b: &str| match (a.split_once('='), b.split_once('=')) {
        (Some((a, _)), Some((b, _))) => a == b,
        (None, None) => {
            a == b || OPPOSITES.iter().any(|kind| kind.contains(&a) && kind.contains(&b))
        }
        _ => false,
    };
    options
        .iter()
        .enumerate()
        .filter(|(i, option)| !options[i + 1..].iter().any(|later| same_kind(option, later)))
        .map(|(_, option)| (*option).to_owned())
        .collect()
}

/// A mount can only share with the host what the root lets through.
fn root_propagation(mounts: &[Mount]) -> Option<String> {
    let any = |words: [&str; 2]| {
        mounts.iter().any(|mount| mount.options.iter().any(|option| words.contains(&&**option)))
    };
    if any(["shared", "rshared"]) {
        Some("shared".into())
    } else if any(["slave", "rslave"]) {
        Some("slave".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_win() {
        for (options, expected) in [
            (&["noexec", "nosuid", "exec"][..], &["nosuid", "exec"][..]),
            (&["size=1", "mode=7", "size=2"], &["mode=7", "size=2"]),
            (&["ro", "rw", "ro"], &["ro"]),
            (&["rprivate", "rshared"], &["rshared"]),
        ] {
            assert_eq!(last_of_each_kind(options), expected);
        }
    }
}
