//! ID-mapped mounts: the configuration's maps, and crun's `idmap=uids=0-1-10#10-11-10;gids=0-100-10`
//! (crun(1), "idmap mount options").

use hako_oci::runtime::IdMapping;

use crate::{Error, Result};

/// The maps of an ID-mapped mount.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IdMap {
    /// Empty where the container's own are meant.
    pub(crate) uids: Vec<IdMapping>,
    pub(crate) gids: Vec<IdMapping>,
    pub(crate) recursive: bool,
}

/// A range, and whether its second number is one of the container's.
type Range = (IdMapping, bool);

/// The maps of crun's option, as they are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ranges {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl Ranges {
    /// The maps, with what is relative to the container's user namespace made absolute.
    pub(crate) fn resolve(
        &self,
        field: &str,
        recursive: bool,
        uid_map: &[IdMapping],
        gid_map: &[IdMapping],
    ) -> Result<IdMap> {
        let absolute = |ranges: &[Range], map: &[IdMapping]| {
            let one = |(range, relative): &Range| match relative {
                false => Ok(*range),
                true => outside(range.host_id, map)
                    .map(|host_id| IdMapping { host_id, ..*range })
                    .ok_or_else(|| {
                        Error::config(
                            field,
                            format!("{} is not mapped in the user namespace", range.host_id),
                        )
                    }),
            };
            ranges.iter().map(one).collect::<Result<Vec<_>>>()
        };
        let map = IdMap {
            uids: absolute(&self.uids, uid_map)?,
            gids: absolute(&self.gids, gid_map)?,
            recursive,
        };
        super::namespaces::check_map(field, &map.uids)?;
        super::namespaces::check_map(field, &map.gids)?;
        Ok(map)
    }
}

/// The host's ID of a container's.
pub(crate) fn outside(id: u32, map: &[IdMapping]) -> Option<u32> {
    map.iter().find_map(|m| {
        let within = id.checked_sub(m.container_id).filter(|within| *within < m.size)?;
        m.host_id.checked_add(within)
    })
}

/// Parses what stands behind `idmap=`.
pub(crate) fn parse(field: &str, text: &str) -> Result<Ranges> {
    let bad = || {
        let form = "uids=FIRST-HOST-SIZE[#…];gids=…";
        Error::config(field, format!("{text:?} is not of the form {form}"))
    };
    let mut ranges = Ranges::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (kind, list) = part.split_once('=').ok_or_else(bad)?;
        let to = match kind {
            "uids" => &mut ranges.uids,
            "gids" => &mut ranges.gids,
            _ => return Err(bad()),
        };
        for range in list.split('#') {
            let (relative, range) = match range.strip_prefix('@') {
                Some(range) => (true, range),
                None => (false, range),
            };
            let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse().ok());
            let numbers: Vec<u32> = range
                .split('-')
                .map(|n| number(n).flatten())
                .collect::<Option<_>>()
                .ok_or_else(bad)?;
            let [container_id, host_id, size] = numbers[..] else { return Err(bad()) };
            to.push((IdMapping { container_id, host_id, size }, relative));
        }
    }
    if ranges == Ranges::default() {
        return Err(bad());
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        let one =
            |(c, h, n): &(u32, u32, u32)| IdMapping { container_id: *c, host_id: *h, size: *n };
        ranges.iter().map(one).collect()
    }

    #[test]
    fn cruns_option_is_taken() {
        let container = map(&[(0, 0, 1), (1, 2, 1000)]);
        for (text, uids, gids) in [
            (
                "uids=0-1-10#10-12-10;gids=0-100-10",
                &[(0, 1, 10), (10, 12, 10)][..],
                &[(0, 100, 10)][..],
            ),
            // The example of crun(1).
            ("uids=@1-3-10", &[(1, 4, 10)], &[]),
            ("gids=5-6-7;", &[], &[(5, 6, 7)]),
        ] {
            let ranges = parse("f", text).unwrap();
            let resolved = ranges.resolve("f", false, &container, &container).unwrap();
            assert_eq!((resolved.uids, resolved.gids), (map(uids), map(gids)), "{text}");
        }
        for bad in
            ["", ";", "uids", "uids=", "uids=1-2", "uids=1-2-3-4", "ids=1-2-3", "uids=+1-2-3"]
        {
            assert!(parse("f", bad).is_err(), "{bad}");
        }
        for bad in ["uids=@5000-5000-1", "uids=0-0-0", "uids=0-0-5#3-9-5"] {
            // The middle number is the one that is looked up.
            let ranges = parse("f", bad).unwrap();
            assert!(ranges.resolve("f", false, &container, &container).is_err(), "{bad}");
        }
    }
}
