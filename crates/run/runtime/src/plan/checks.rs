//! Checks of the whole configuration.

use hako_oci::runtime::{Linux, Spec};
use hako_sys::namespace::Kind;

use super::builder::clean;
use super::namespaces::{self, Namespaces};
use crate::{Error, Result};

/// Whether the ID can name a directory and a cgroup.
pub fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || matches!(id, "." | "..") || !id.chars().all(good) {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

/// Only documents of version 1 are understood.
pub(super) fn version(version: &str) -> Result<()> {
    let bad = |reason: &str| Err(Error::config("ociVersion", format!("{version:?} {reason}")));
    if version.is_empty() {
        return bad("is missing");
    }
    // Semantic versioning: 1.x, with a pre-release or build after it.
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u64>> = core.split('.').map(|n| n.parse().ok()).collect();
    match numbers.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => bad("is not a 1.x version"),
        _ => bad("is not a semantic version"),
    }
}

/// A user namespace has maps, and maps have a user namespace.
pub(super) fn user_namespace(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    namespaces::check_map("linux.uidMappings", &linux.uid_mappings)?;
    namespaces::check_map("linux.gidMappings", &linux.gid_mappings)?;
    for (field, map) in
        [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)]
    {
        if namespaces.is_new(Kind::User) && map.is_empty() {
            return Err(Error::config(field, "a new user namespace needs a map"));
        }
        if !map.is_empty() && !namespaces.has(Kind::User) {
            return Err(Error::config(field, "needs a user namespace"));
        }
    }
    Ok(())
}

/// What needs a namespace of its own.
pub(super) fn needs(spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let needs: [(&str, bool, Kind); 7] = [
        ("hostname", spec.hostname.as_deref().is_some_and(|h| !h.is_empty()), Kind::Uts),
        ("domainname", spec.domainname.as_deref().is_some_and(|d| !d.is_empty()), Kind::Uts),
        ("mounts", !spec.mounts.is_empty(), Kind::Mount),
        ("linux.maskedPaths", !linux.masked_paths.is_empty(), Kind::Mount),
        ("linux.readonlyPaths", !linux.readonly_paths.is_empty(), Kind::Mount),
        ("root.readonly", spec.root.as_ref().is_some_and(|r| r.readonly), Kind::Mount),
        ("linux.netDevices", !linux.net_devices.is_empty(), Kind::Network),
    ];
    for (field, wanted, kind) in needs {
        if wanted && !namespaces.has(kind) {
            let why = match kind {
                // runc's words.
                Kind::Network => {
                    "unable to move network devices without a NET namespace".to_owned()
                }
                kind => format!("needs a {} namespace", kind.info().word),
            };
            return Err(Error::config(field, why));
        }
    }
    for (field, paths) in
        [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)]
    {
        for (i, path) in paths.iter().enumerate() {
            if !path.starts_with('/') {
                return Err(Error::config(
                    format!("linux.{field}[{i}]"),
                    format!("{path:?} is not absolute"),
                ));
            }
            if clean(path).is_empty() {
                return Err(Error::config(format!("linux.{field}[{i}]"), "is the root"));
            }
        }
    }
    Ok(())
}
