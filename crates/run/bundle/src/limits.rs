//! `--memory`, `--cpus` and kin: Docker's checks, then `linux.resources`.

use std::collections::BTreeSet;

use hako_oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources};

use crate::facts::Machine;
use crate::options::Limits;

/// A limit that cannot be set. Texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too little memory.
    #[error("Minimum memory limit allowed is 6MB")]
    MemoryMinimum,
    /// Too little memory.
    #[error("Minimum memory reservation allowed is 6MB")]
    ReservationMinimum,
    /// The soft limit is above the hard one.
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationOverLimit,
    /// Swap without memory.
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    /// Memory and swap are less than memory.
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    /// Out of range.
    #[error("invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
    /// Out of range.
    #[error("Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")]
    Cpus {
        /// How many there are.
        count: usize,
    },
    /// Two ways to say the same.
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set.")]
    CpusConflict(&'static str),
    /// Out of range.
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    CpuPeriod,
    /// Out of range.
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    CpuQuota,
    /// No list.
    #[error("Invalid value {value} for cpuset {what}")]
    CpusetInvalid {
        /// `cpus` or `mems`.
        what: &'static str,
        /// As written.
        value: String,
    },
    /// Not on this machine.
    #[error("Requested {what} are not available - requested {requested}, available: {available}")]
    CpusetUnavailable {
        /// `CPUs` or `memory nodes`.
        what: &'static str,
        /// As written.
        requested: String,
        /// What there is.
        available: String,
    },
    /// Out of range.
    #[error("Range of blkio weight is from 10 to 1000")]
    BlkioWeight,
}

/// Docker's least memory: below it no container starts.
const MEMORY_MINIMUM: i64 = 6 << 20;
/// The kernel's default period, on which Docker bases `--cpus`.
const PERIOD: i64 = 100_000;

/// The resources of `limits`, without devices.
pub(crate) fn resources(limits: &Limits, machine: &Machine) -> Result<Resources, LimitError> {
    Ok(Resources {
        memory: memory(limits)?,
        cpu: cpu(limits, machine)?,
        pids: limits.pids.map(|limit| Pids { limit: Some(if limit <= 0 { -1 } else { limit }) }),
        block_io: match limits.blkio_weight {
            None | Some(0) => None,
            Some(weight @ 10..=1000) => {
                Some(BlockIo { weight: Some(weight), ..BlockIo::default() })
            }
            Some(_) => return Err(LimitError::BlkioWeight),
        },
        ..Resources::default()
    })
}

fn memory(limits: &Limits) -> Result<Option<Memory>, LimitError> {
    let some = |value: Option<i64>| value.filter(|&value| value != 0);
    let limit = some(limits.memory_bytes);
    let reservation = some(limits.memory_reservation_bytes);
    let swap = some(limits.memory_swap_bytes);
    if limit.is_some_and(|limit| limit < MEMORY_MINIMUM) {
        return Err(LimitError::MemoryMinimum);
    }
    let swap = match (limit, swap) {
        (None, Some(swap)) if swap > 0 => return Err(LimitError::SwapWithoutMemory),
        (Some(limit), Some(swap)) if swap != -1 && swap < limit => {
            return Err(LimitError::SwapBelowMemory);
        }
        // As much swap as memory, unless told otherwise.
        (Some(limit), None) => limit.checked_mul(2),
        (_, swap) => swap,
    };
    if let Some(reservation) = reservation {
        if reservation < MEMORY_MINIMUM {
            return Err(LimitError::ReservationMinimum);
        }
        if limit.is_some_and(|limit| limit < reservation) {
            return Err(LimitError::ReservationOverLimit);
        }
    }
    let swappiness = match limits.memory_swappiness {
        None | Some(-1) => None,
        Some(value @ 0..=100) => Some(value as u64),
        Some(value) => return Err(LimitError::Swappiness(value)),
    };
    let memory = Memory {
        limit,
        reservation,
        swap,
        swappiness,
        disable_oom_killer: limits.oom_kill_disable.then_some(true),
        ..Memory::default()
    };
    Ok((memory != Memory::default()).then_some(memory))
}

fn cpu(limits: &Limits, machine: &Machine) -> Result<Option<Cpu>, LimitError> {
    let some = |value: Option<i64>| value.filter(|&value| value != 0);
    let (mut period, mut quota) = (some(limits.cpu_period), some(limits.cpu_quota));
    if let Some(nano) = some(limits.nano_cpus) {
        for (what, value) in [("Period", period), ("Quota", quota)] {
            if value.is_some() {
                return Err(LimitError::CpusConflict(what));
            }
        }
        let count = machine.cpus.len();
        if nano < 10_000_000 || nano > count as i64 * 1_000_000_000 {
            return Err(LimitError::Cpus { count });
        }
        period = Some(PERIOD);
        quota = Some((i128::from(nano) * i128::from(PERIOD) / 1_000_000_000) as i64);
    }
    if period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
        return Err(LimitError::CpuPeriod);
    }
    if quota.is_some_and(|quota| quota > 0 && quota < 1_000) {
        return Err(LimitError::CpuQuota);
    }
    let set = |list: &Option<String>, what, name, available: &BTreeSet<u32>| {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        let invalid = || LimitError::CpusetInvalid { what: name, value: list.into() };
        let requested = parse_list(list).ok_or_else(invalid)?;
        if !requested.is_subset(available) {
            return Err(LimitError::CpusetUnavailable {
                what,
                requested: list.into(),
                available: format_list(available),
            });
        }
        Ok(Some(list.to_owned()))
    };
    let cpu = Cpu {
        // The kernel's range; Docker too takes what is beyond it as the nearest.
        shares: some(limits.cpu_shares).map(|shares| shares.clamp(2, 262_144) as u64),
        quota,
        period: period.map(|period| period as u64),
        cpus: set(&limits.cpuset_cpus, "CPUs", "cpus", &machine.cpus)?,
        mems: set(&limits.cpuset_mems, "memory nodes", "mems", &machine.mems)?,
        ..Cpu::default()
    };
    Ok((cpu != Cpu::default()).then_some(cpu))
}

/// Reads a list as `0-3,7`.
pub(crate) fn parse_list(text: &str) -> Option<BTreeSet<u32>> {
    const LAST: u32 = 8191;
    let number = |word: &str| match word.bytes().all(|b| b.is_ascii_digit()) {
        true => word.parse::<u32>().ok().filter(|n| *n <= LAST),
        false => None,
    };
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => {
                set.insert(number(part)?);
            }
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                set.extend(first..=last);
            }
        }
    }
    Some(set)
}

fn format_list(set: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &n in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let words: Vec<String> = ranges
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            hostname: "h".into(),
            cpus: [0, 1, 2, 3].into(),
            mems: [0].into(),
            cgroup_v2: false,
            capabilities: u64::MAX,
            kernel: (6, 18),
            masked_paths: Vec::new(),
            hosts: String::new(),
            resolv_conf: String::new(),
        }
    }

    const M: i64 = 1 << 20;

    #[test]
    fn memory_is_checked() {
        let check = |memory: i64, swap: i64, reservation: i64| {
            let some = |n: i64| (n != 0).then_some(n);
            let limits = Limits {
                memory_bytes: some(memory),
                memory_swap_bytes: some(swap),
                memory_reservation_bytes: some(reservation),
                ..Limits::default()
            };
            resources(&limits, &machine())
                .map(|r| r.memory.map(|m| (m.limit, m.swap, m.reservation)))
        };
        for (memory, swap, reservation, expected) in [
            (0, 0, 0, Ok(None)),
            (6 * M, 0, 0, Ok(Some((Some(6 * M), Some(12 * M), None)))),
            (64 * M, -1, 0, Ok(Some((Some(64 * M), Some(-1), None)))),
            (64 * M, 64 * M, 32 * M, Ok(Some((Some(64 * M), Some(64 * M), Some(32 * M))))),
            (0, 0, 32 * M, Ok(Some((None, None, Some(32 * M))))),
            (0, -1, 0, Ok(Some((None, Some(-1), None)))),
            (6 * M - 1, 0, 0, Err(LimitError::MemoryMinimum)),
            (-1, 0, 0, Err(LimitError::MemoryMinimum)),
            (0, 64 * M, 0, Err(LimitError::SwapWithoutMemory)),
            (64 * M, 63 * M, 0, Err(LimitError::SwapBelowMemory)),
            (64 * M, 0, 65 * M, Err(LimitError::ReservationOverLimit)),
            (64 * M, 0, M, Err(LimitError::ReservationMinimum)),
        ] {
            assert_eq!(check(memory, swap, reservation), expected);
        }
    }

    #[test]
    fn processors_are_checked() {
        let check = |limits: Limits| {
            resources(&limits, &machine()).map(|r| r.cpu.map(|c| (c.shares, c.quota, c.period)))
        };
        let none = Limits::default;
        for (limits, expected) in [
            (none(), Ok(None)),
            (
                Limits { nano_cpus: Some(1_500_000_000), ..none() },
                Ok(Some((None, Some(150_000), Some(100_000)))),
            ),
            (
                Limits { nano_cpus: Some(10_000_000), ..none() },
                Ok(Some((None, Some(1_000), Some(100_000)))),
            ),
            (
                Limits { nano_cpus: Some(4_000_000_001), ..none() },
                Err(LimitError::Cpus { count: 4 }),
            ),
            (Limits { nano_cpus: Some(-1), ..none() }, Err(LimitError::Cpus { count: 4 })),
            (
                Limits { nano_cpus: Some(1_000_000_000), cpu_quota: Some(5), ..none() },
                Err(LimitError::CpusConflict("Quota")),
            ),
            (
                Limits { nano_cpus: Some(1_000_000_000), cpu_period: Some(5), ..none() },
                Err(LimitError::CpusConflict("Period")),
            ),
            (Limits { cpu_period: Some(999), ..none() }, Err(LimitError::CpuPeriod)),
            (Limits { cpu_period: Some(1_000_001), ..none() }, Err(LimitError::CpuPeriod)),
            (Limits { cpu_quota: Some(999), ..none() }, Err(LimitError::CpuQuota)),
            (Limits { cpu_quota: Some(-1), ..none() }, Ok(Some((None, Some(-1), None)))),
            (Limits { cpu_shares: Some(1), ..none() }, Ok(Some((Some(2), None, None)))),
            (Limits { cpu_shares: Some(512), ..none() }, Ok(Some((Some(512), None, None)))),
        ] {
            assert_eq!(check(limits.clone()), expected, "{limits:?}");
        }
    }

    #[test]
    fn sets_are_checked() {
        let check = |cpus: &str| {
            let limits = Limits { cpuset_cpus: Some(cpus.into()), ..Limits::default() };
            resources(&limits, &machine())
                .map(|r| r.cpu.and_then(|c| c.cpus))
                .map_err(|e| e.to_string())
        };
        let invalid = |value: &str| Err(format!("Invalid value {value} for cpuset cpus"));
        for (cpus, expected) in [
            ("0-2,3", Ok(Some("0-2,3".into()))),
            ("", Ok(None)),
            ("0-", invalid("0-")),
            ("2-1", invalid("2-1")),
            ("a", invalid("a")),
            ("0,,1", invalid("0,,1")),
            ("0-99999999", invalid("0-99999999")),
            ("0-7", Err("Requested CPUs are not available - requested 0-7, available: 0-3".into())),
        ] {
            assert_eq!(check(cpus), expected, "{cpus}");
        }
        assert_eq!(format_list(&[0, 1, 2, 5, 7, 8].into()), "0-2,5,7-8");
    }

    #[test]
    fn the_rest() {
        let check = |limits: Limits| resources(&limits, &machine());
        let pids = |n| check(Limits { pids: Some(n), ..Limits::default() }).unwrap().pids;
        assert_eq!(pids(10), Some(Pids { limit: Some(10) }));
        assert_eq!(pids(0), Some(Pids { limit: Some(-1) }));
        assert_eq!(pids(-1), Some(Pids { limit: Some(-1) }));
        let weight = |n| check(Limits { blkio_weight: Some(n), ..Limits::default() });
        assert_eq!(weight(9), Err(LimitError::BlkioWeight));
        assert_eq!(weight(1000).unwrap().block_io.unwrap().weight, Some(1000));
        assert_eq!(weight(0).unwrap().block_io, None);
        let swappiness =
            check(Limits { memory_swappiness: Some(101), ..Limits::default() }).unwrap_err();
        assert_eq!(swappiness, LimitError::Swappiness(101));
    }
}
