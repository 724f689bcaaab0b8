//! Statistics that only some files have: sets of processors, counters with limits, v1's schedulers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Directory, Result,
    stats::{keyed, number, text},
};

/// One amount with what v1 says of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counter {
    /// In use.
    pub usage: u64,
    /// The most that was in use.
    pub usage_max: u64,
    /// The limit; absent where there is none.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: u64,
}

impl Counter {
    /// Reads `<prefix>.usage_in_bytes` and its kin; `None` where the kernel does not count it.
    pub(crate) fn read(d: &Directory, prefix: &str) -> Result<Option<Counter>> {
        let get = |what: &str| number(&d.path, &format!("{prefix}.{what}"));
        let Some(usage) = get("usage_in_bytes")? else { return Ok(None) };
        Ok(Some(Counter {
            usage,
            usage_max: get("max_usage_in_bytes")?.unwrap_or(0),
            limit: get("limit_in_bytes")?.filter(|&n| n < crate::stats::UNLIMITED),
            limit_hits: get("failcnt")?.unwrap_or(0),
        }))
    }
}

/// Processors and memory nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpuset {
    /// Processors that processes run on.
    pub cpus: Vec<u16>,
    /// Memory nodes that they get memory from.
    pub mems: Vec<u16>,
    /// v1's switches and numbers, by file name without `cpuset.`: `cpu_exclusive`,
    /// `sched_relax_domain_level` and so on.
    pub values: BTreeMap<String, i64>,
}

/// The names of [`Cpuset::values`], all of which v1 has and v2 none.
pub const CPUSET_VALUES: [&str; 9] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

pub(crate) fn cpuset(d: &Directory) -> Result<Cpuset> {
    let (cpus, mems) = match d.unified {
        true => ("cpuset.cpus.effective", "cpuset.mems.effective"),
        false => ("cpuset.cpus", "cpuset.mems"),
    };
    let mut set = Cpuset {
        cpus: list(&text(&d.path, cpus)?),
        mems: list(&text(&d.path, mems)?),
        values: BTreeMap::new(),
    };
    for name in CPUSET_VALUES {
        let value = text(&d.path, &format!("cpuset.{name}"))?;
        if let Ok(value) = value.trim().parse() {
            set.values.insert(name.to_owned(), value);
        }
    }
    Ok(set)
}

/// A list of ranges: `0-2,7`.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Processor time of one processor, in nanoseconds (v1's `cpuacct.usage_all`).
pub(crate) fn usage_all(text: &str) -> (Vec<u64>, Vec<u64>) {
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1).map(str::parse::<u64>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    rows.unzip()
}

/// What v1's schedulers (CFQ before 5.0, BFQ) count of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync` and so on; empty where a file does not tell them apart.
    pub op: String,
    /// The number.
    pub value: u64,
}

const SCHEDULER: [&str; 6] =
    ["io_queued", "io_service_time", "io_wait_time", "io_merged", "time", "sectors"];

/// By file name without `blkio.` and `_recursive`: those that are there and not empty.
pub(crate) fn scheduler(d: &Directory) -> Result<BTreeMap<String, Vec<IoEntry>>> {
    let mut found = BTreeMap::new();
    for name in SCHEDULER {
        for prefix in ["blkio", "blkio.bfq"] {
            let entries = entries(&text(&d.path, &format!("{prefix}.{name}_recursive"))?);
            if !entries.is_empty() {
                found.insert(name.to_owned(), entries);
                break;
            }
        }
    }
    Ok(found)
}

fn entries(text: &str) -> Vec<IoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (first, second) = (words.next()?, words.next());
        let (op, value) = second.map_or(("", first), |value| (first, value));
        Some(IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// v2's `memory.events`.
pub(crate) fn memory_events(d: &Directory) -> Result<BTreeMap<String, u64>> {
    Ok(keyed(&text(&d.path, "memory.events")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        for (text, expected) in
            [("0-2,7\n", &[0, 1, 2, 7][..]), ("3", &[3]), ("\n", &[]), ("x-1,4", &[4])]
        {
            assert_eq!(list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn time_by_processor() {
        assert_eq!(usage_all("cpu user system\n0 5 7\n1 9 0\nx\n"), (vec![5, 9], vec![7, 0]));
        assert_eq!(usage_all(""), (vec![], vec![]));
    }

    #[test]
    fn entries_with_and_without_an_operation() {
        let found = entries("8:0 Read 5\n8:16 7\nTotal 12\n8:0 Sync x\n");
        let entry = |minor, op: &str, value| IoEntry { major: 8, minor, op: op.to_owned(), value };
        assert_eq!(found, [entry(0, "Read", 5), entry(16, "", 7)]);
    }
}
