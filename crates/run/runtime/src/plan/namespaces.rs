//! `linux.namespaces`, `uidMappings`, `gidMappings`, `timeOffsets`.

use std::path::PathBuf;

use hako_oci::runtime::{IdMapping, Linux};
use hako_sys::namespace::Kind;

use crate::{Error, Result};

/// A namespace that is joined.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    pub(crate) field: String,
}

/// Which namespaces the container lives in.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` of the new ones.
    pub(crate) new: u64,
    /// The joined ones.
    pub(crate) joined: Vec<Join>,
}

impl Namespaces {
    pub(crate) fn is_new(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0
    }

    pub(crate) fn is_joined(&self, kind: Kind) -> bool {
        self.joined.iter().any(|j| j.kind == kind)
    }

    /// Whether it is not the caller's.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.is_new(kind) || self.is_joined(kind)
    }

    /// `CLONE_NEW*` of all that are not the caller's.
    pub(crate) fn flags(&self) -> u64 {
        self.joined.iter().fold(self.new, |flags, j| flags | j.kind.flag())
    }
}

/// Parses `linux.namespaces`.
pub(crate) fn parse(linux: &Linux) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    for (i, ns) in linux.namespaces.iter().enumerate() {
        let field = format!("linux.namespaces[{i}]");
        let kind = Kind::from_word(&ns.kind).ok_or_else(|| {
            Error::config(format!("{field}.type"), format!("unknown namespace {:?}", ns.kind))
        })?;
        if namespaces.has(kind) {
            return Err(Error::config(
                format!("{field}.type"),
                format!("{} is there twice", ns.kind),
            ));
        }
        match ns.path.as_deref() {
            None | Some("") => namespaces.new |= kind.flag(),
            Some(path) if path.starts_with('/') => {
                namespaces.joined.push(Join { kind, path: PathBuf::from(path), field });
            }
            Some(path) => {
                return Err(Error::config(
                    format!("{field}.path"),
                    format!("{path:?} is not absolute"),
                ));
            }
        }
    }
    // In the order of the table: the user namespace first.
    let rank = |k: Kind| hako_sys::namespace::KINDS.iter().position(|row| row.kind == k);
    namespaces.joined.sort_by_key(|j| rank(j.kind));
    Ok(namespaces)
}

/// Checks a map: no ID twice on either side, no overflow, not too many lines.
pub(crate) fn check_map(field: &str, map: &[IdMapping]) -> Result<()> {
    // The kernel's own bound (UID_GID_MAP_MAX_EXTENTS).
    if map.len() > 340 {
        return Err(Error::config(field, "has more than 340 ranges"));
    }
    for (i, m) in map.iter().enumerate() {
        let at = || format!("{field}[{i}]");
        if m.size == 0 {
            return Err(Error::config(format!("{}.size", at()), "is 0"));
        }
        let end = |first: u32| first.checked_add(m.size - 1).filter(|last| *last != u32::MAX);
        if end(m.container_id).is_none() || end(m.host_id).is_none() {
            return Err(Error::config(at(), "goes beyond the last ID"));
        }
        let overlap = |a: u32, an: u32, b: u32, bn: u32| {
            u64::from(a) < u64::from(b) + u64::from(bn)
                && u64::from(b) < u64::from(a) + u64::from(an)
        };
        for earlier in &map[..i] {
            if overlap(m.container_id, m.size, earlier.container_id, earlier.size)
                || overlap(m.host_id, m.size, earlier.host_id, earlier.size)
            {
                return Err(Error::config(at(), "overlaps an earlier range"));
            }
        }
    }
    Ok(())
}

/// The lines of `/proc/self/timens_offsets`.
pub(crate) fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for (clock, offset) in &linux.time_offsets {
        let field = format!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::config(field, "is neither monotonic nor boottime"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::config(format!("{field}.nanosecs"), "is a second or more"));
        }
        lines
            .extend_from_slice(format!("{clock} {} {}\n", offset.secs, offset.nanosecs).as_bytes());
    }
    if !lines.is_empty() && !namespaces.is_new(Kind::Time) {
        return Err(Error::config("linux.timeOffsets", "needs a new time namespace"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        ranges
            .iter()
            .map(|(c, h, n)| IdMapping { container_id: *c, host_id: *h, size: *n })
            .collect()
    }

    #[test]
    fn maps_are_checked() {
        for good in [
            &[][..],
            &[(0, 1000, 1)],
            &[(0, 1000, 1), (1, 100_000, 65536)],
            &[(0, 0, u32::MAX - 1)],
        ] {
            assert!(check_map("m", &map(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &[(0, 0, 0)][..],
            &[(0, 0, u32::MAX), (1, 1, 1)],
            &[(1, 0, u32::MAX)],
            &[(0, 5, 10), (20, 14, 1)],
            &[(0, 5, 10), (9, 100, 1)],
        ] {
            assert!(check_map("m", &map(bad)).is_err(), "{bad:?}");
        }
    }
}
