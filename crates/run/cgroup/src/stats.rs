//! Statistics, in one form for both versions.
//!
//! A file that is not there (its controller is not joined, or the kernel is older) leaves its
//! values at zero or absent; a file that cannot be read is an error.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

pub use crate::stats_more::{CPUSET_VALUES, Counter, Cpuset, IoEntry};
use crate::{Cgroup, Controller, Directory, Error, Result, stats_more, sys};

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Processors.
    pub cpu: Cpu,
    /// Memory; absent where the controller is not joined.
    pub memory: Option<Memory>,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub io: Io,
    /// Huge pages, by size as `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA, by device.
    pub rdma: BTreeMap<String, Rdma>,
    /// Processors and memory nodes; absent where the controller is not joined.
    pub cpuset: Option<Cpuset>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// In all.
    pub usage: u64,
    /// Outside of the kernel.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// In all, by processor (v1).
    pub per_cpu: Vec<u64>,
    /// In the kernel, by processor (v1).
    pub per_cpu_kernel: Vec<u64>,
    /// Outside of the kernel, by processor (v1).
    pub per_cpu_user: Vec<u64>,
    /// Periods of the quota that passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes waited for the next period.
    pub throttled: u64,
    /// Time lost waiting.
    pub pressure: Option<Pressure>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// In use, page cache included.
    pub usage: u64,
    /// The most that was in use.
    pub usage_max: Option<u64>,
    /// The limit; absent where there is none.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// Swap in use.
    pub swap: Option<u64>,
    /// The limit of swap alone (v2) or of memory and swap (v1); absent where there is none.
    pub swap_limit: Option<u64>,
    /// Page cache.
    pub cache: u64,
    /// Page cache that can be dropped first: what Docker and Kubernetes leave out of "used".
    pub inactive_file: u64,
    /// In use by the kernel.
    pub kernel: Option<u64>,
    /// Memory and swap together (v1).
    pub with_swap: Option<Counter>,
    /// In use by the kernel, with its limit (v1).
    pub kernel_counter: Option<Counter>,
    /// Buffers of TCP (v1).
    pub kernel_tcp: Option<Counter>,
    /// Processes that were killed for want of memory.
    pub oom_kills: u64,
    /// All of `memory.events` (v2).
    pub events: BTreeMap<String, u64>,
    /// All of `memory.stat`.
    pub stat: BTreeMap<String, u64>,
    /// Time lost waiting.
    pub pressure: Option<Pressure>,
}

/// Processes and threads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; absent where there is no limit.
    pub limit: Option<u64>,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Io {
    /// Each device.
    pub devices: Vec<IoDevice>,
    /// What v1's schedulers count, by file name as `io_service_time`.
    pub scheduler: BTreeMap<String, Vec<IoEntry>>,
    /// Time lost waiting.
    pub pressure: Option<Pressure>,
}

/// Input and output of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoDevice {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Discards.
    pub discards: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hugetlb {
    /// In use.
    pub usage: u64,
    /// The most that was in use (v1).
    pub usage_max: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: u64,
}

/// RDMA of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rdma {
    /// Handles in use.
    pub handles: u64,
    /// Objects in use.
    pub objects: u64,
    /// How many handles there may be; absent where there is no limit.
    pub handle_limit: Option<u64>,
    /// How many objects there may be; absent where there is no limit.
    pub object_limit: Option<u64>,
}

/// Time that tasks lost waiting for a resource (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// When at least one waited.
    pub some: PressureLine,
    /// When all waited.
    pub full: PressureLine,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PressureLine {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the beginning.
    pub total: u64,
}

/// v1 has a number for "no limit": the greatest multiple of the page size.
pub(crate) const UNLIMITED: u64 = 1 << 62;
/// USER_HZ, in which v1 counts user and system time, is 100 on all architectures but Alpha.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

impl Cgroup {
    /// Reads all statistics.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu: self.cpu()?,
            memory: self.directory(Controller::Memory).map(memory).transpose()?,
            pids: self.pid_counts()?,
            io: self.io()?,
            hugetlb: self
                .directory(Controller::Hugetlb)
                .map(hugetlb)
                .transpose()?
                .unwrap_or_default(),
            rdma: self.directory(Controller::Rdma).map(rdma).transpose()?.unwrap_or_default(),
            cpuset: self.directory(Controller::Cpuset).map(stats_more::cpuset).transpose()?,
        })
    }

    /// How many processes were killed for want of memory; absent where nobody counts.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        let Some(d) = self.directory(Controller::Memory) else { return Ok(None) };
        let file = if d.unified { "memory.events" } else { "memory.oom_control" };
        let text = sys::read_optional(&d.path.join(file))?;
        Ok(text.and_then(|t| keyed(&t).get("oom_kill").copied()))
    }

    fn cpu(&self) -> Result<Cpu> {
        let mut cpu = Cpu::default();
        if let Some(path) = self.unified() {
            let stat = keyed(&text(path, "cpu.stat")?);
            let get = |key: &str| stat.get(key).copied().unwrap_or(0) * 1000;
            (cpu.usage, cpu.user) = (get("usage_usec"), get("user_usec"));
            cpu.system = get("system_usec");
            cpu.throttled = get("throttled_usec");
            cpu.periods = get("nr_periods") / 1000;
            cpu.throttled_periods = get("nr_throttled") / 1000;
            cpu.pressure = pressure(path, "cpu.pressure")?;
        }
        if let Some(d) = self.directory(Controller::Cpuacct).filter(|d| !d.unified) {
            cpu.usage = number(&d.path, "cpuacct.usage")?.unwrap_or(0);
            let stat = keyed(&text(&d.path, "cpuacct.stat")?);
            let get = |key: &str| stat.get(key).copied().unwrap_or(0) * NANOSECONDS_A_TICK;
            (cpu.user, cpu.system) = (get("user"), get("system"));
            let per_cpu = text(&d.path, "cpuacct.usage_percpu")?;
            cpu.per_cpu = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let all = text(&d.path, "cpuacct.usage_all")?;
            (cpu.per_cpu_user, cpu.per_cpu_kernel) = stats_more::usage_all(&all);
        }
        if let Some(d) = self.directory(Controller::Cpu).filter(|d| !d.unified) {
            let stat = keyed(&text(&d.path, "cpu.stat")?);
            let get = |key: &str| stat.get(key).copied().unwrap_or(0);
            cpu.periods = get("nr_periods");
            cpu.throttled_periods = get("nr_throttled");
            cpu.throttled = get("throttled_time");
        }
        Ok(cpu)
    }

    fn pid_counts(&self) -> Result<Pids> {
        if let Some(d) = self.directory(Controller::Pids) {
            return Ok(Pids {
                current: number(&d.path, "pids.current")?.unwrap_or(0),
                limit: number(&d.path, "pids.max")?,
            });
        }
        // Without the controller they are listed.
        let mut current = 0;
        if let Some(path) = self.unified() {
            threads(path, &mut current)?;
        }
        Ok(Pids { current, limit: None })
    }

    fn io(&self) -> Result<Io> {
        let mut io = Io::default();
        match self.directory(Controller::Io) {
            Some(d) if d.unified => io.devices = io_stat(&text(&d.path, "io.stat")?),
            Some(d) => {
                io.devices = io_v1(
                    &text(&d.path, "blkio.throttle.io_service_bytes_recursive")?,
                    &text(&d.path, "blkio.throttle.io_serviced_recursive")?,
                );
                io.scheduler = stats_more::scheduler(d)?;
            }
            None => {}
        }
        if let Some(path) = self.unified() {
            io.pressure = pressure(path, "io.pressure")?;
        }
        Ok(io)
    }
}

fn memory(d: &Directory) -> Result<Memory> {
    let path = &d.path;
    let stat = keyed(&text(path, "memory.stat")?);
    let get = |key: &str| stat.get(key).copied().unwrap_or(0);
    let limited = |n: Option<u64>| n.filter(|&n| n < UNLIMITED);
    let mut m = if d.unified {
        let events = stats_more::memory_events(d)?;
        let event = |key: &str| events.get(key).copied().unwrap_or(0);
        Memory {
            usage: number(path, "memory.current")?.unwrap_or(0),
            usage_max: number(path, "memory.peak")?,
            limit: number(path, "memory.max")?,
            limit_hits: event("max"),
            swap: number(path, "memory.swap.current")?,
            swap_limit: number(path, "memory.swap.max")?,
            cache: get("file"),
            inactive_file: get("inactive_file"),
            kernel: stat.get("kernel").copied(),
            oom_kills: event("oom_kill"),
            events: events.clone(),
            pressure: pressure(path, "memory.pressure")?,
            ..Memory::default()
        }
    } else {
        let usage = number(path, "memory.usage_in_bytes")?.unwrap_or(0);
        let both = Counter::read(d, "memory.memsw")?;
        let kernel = Counter::read(d, "memory.kmem")?;
        let oom = keyed(&text(path, "memory.oom_control")?);
        Memory {
            usage,
            usage_max: number(path, "memory.max_usage_in_bytes")?,
            limit: limited(number(path, "memory.limit_in_bytes")?),
            limit_hits: number(path, "memory.failcnt")?.unwrap_or(0),
            swap: both.map(|b| b.usage.saturating_sub(usage)),
            swap_limit: both.and_then(|b| b.limit),
            cache: get("total_cache"),
            inactive_file: get("total_inactive_file"),
            kernel: kernel.map(|k| k.usage),
            with_swap: both,
            kernel_counter: kernel,
            kernel_tcp: Counter::read(d, "memory.kmem.tcp")?,
            oom_kills: oom.get("oom_kill").copied().unwrap_or(0),
            ..Memory::default()
        }
    };
    m.stat = stat;
    Ok(m)
}

fn hugetlb(d: &Directory) -> Result<BTreeMap<String, Hugetlb>> {
    let (usage, hits) =
        if d.unified { (".current", ".events") } else { (".usage_in_bytes", ".failcnt") };
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(&d.path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(Error::Read { path: d.path.clone(), source: sys::errno(&e) }),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(size) = name.strip_prefix("hugetlb.").and_then(|n| n.strip_suffix(usage)) else {
            continue;
        };
        // Reservations have files of their own: hugetlb.2MB.rsvd.current.
        if size.contains('.') {
            continue;
        }
        let hits = text(&d.path, &format!("hugetlb.{size}{hits}"))?;
        let stats = Hugetlb {
            usage: number(&d.path, name)?.unwrap_or(0),
            usage_max: number(&d.path, &format!("hugetlb.{size}.max_usage_in_bytes"))?,
            limit_hits: match d.unified {
                true => keyed(&hits).get("max").copied().unwrap_or(0),
                false => hits.trim().parse().unwrap_or(0),
            },
        };
        found.insert(size.to_owned(), stats);
    }
    Ok(found)
}

fn rdma(d: &Directory) -> Result<BTreeMap<String, Rdma>> {
    let mut found: BTreeMap<String, Rdma> = BTreeMap::new();
    for (name, pairs) in nested(&text(&d.path, "rdma.current")?) {
        let device = found.entry(name).or_default();
        device.handles = pairs.get("hca_handle").copied().flatten().unwrap_or(0);
        device.objects = pairs.get("hca_object").copied().flatten().unwrap_or(0);
    }
    for (name, pairs) in nested(&text(&d.path, "rdma.max")?) {
        let device = found.entry(name).or_default();
        device.handle_limit = pairs.get("hca_handle").copied().flatten();
        device.object_limit = pairs.get("hca_object").copied().flatten();
    }
    Ok(found)
}

/// Counts threads, those in cgroups that the container made included.
fn threads(path: &Path, count: &mut u64) -> Result<()> {
    *count += text(path, "cgroup.threads")?.lines().count() as u64;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            threads(&entry.path(), count)?;
        }
    }
    Ok(())
}

pub(crate) fn text(directory: &Path, file: &str) -> Result<String> {
    Ok(sys::read_optional(&directory.join(file))?.unwrap_or_default())
}

/// The one number of a file; absent for `max`.
pub(crate) fn number(directory: &Path, file: &str) -> Result<Option<u64>> {
    Ok(text(directory, file)?.trim().parse().ok())
}

/// Lines of a word and a number. What has another form is skipped: newer kernels add to it.
pub(crate) fn keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Lines of a name and pairs of `key=number`; absent numbers are `max`.
fn nested(text: &str) -> Vec<(String, BTreeMap<String, Option<u64>>)> {
    text.lines()
        .filter_map(|line| {
            let (name, pairs) = line.split_once(' ')?;
            let pairs = pairs.split_whitespace().filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((key.to_owned(), value.parse().ok()))
            });
            Some((name.to_owned(), pairs.collect()))
        })
        .collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn io_stat(text: &str) -> Vec<IoDevice> {
    let row = |(name, pairs): (String, BTreeMap<String, Option<u64>>)| {
        let (major, minor) = device(&name)?;
        let get = |key: &str| pairs.get(key).copied().flatten().unwrap_or(0);
        Some(IoDevice {
            major,
            minor,
            read_bytes: get("rbytes"),
            write_bytes: get("wbytes"),
            discard_bytes: get("dbytes"),
            reads: get("rios"),
            writes: get("wios"),
            discards: get("dios"),
        })
    };
    nested(text).into_iter().filter_map(row).collect()
}

/// Lines as `8:0 Read 4096`, of bytes and of operations.
fn io_v1(bytes: &str, operations: &str) -> Vec<IoDevice> {
    let mut devices: BTreeMap<(u64, u64), IoDevice> = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(what), Some(n)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Some((major, minor)), Ok(n)) = (device(name), n.parse()) else { continue };
            let d = devices.entry((major, minor)).or_insert(IoDevice {
                major,
                minor,
                ..IoDevice::default()
            });
            let field = match (what, is_bytes) {
                ("Read", true) => &mut d.read_bytes,
                ("Write", true) => &mut d.write_bytes,
                ("Discard", true) => &mut d.discard_bytes,
                ("Read", false) => &mut d.reads,
                ("Write", false) => &mut d.writes,
                ("Discard", false) => &mut d.discards,
                // Sync, Async and Total count the same again.
                _ => continue,
            };
            *field = n;
        }
    }
    devices.into_values().collect()
}

fn pressure(directory: &Path, file: &str) -> Result<Option<Pressure>> {
    // Where it was turned off at boot, reading says EOPNOTSUPP.
    match sys::read_optional(&directory.join(file)) {
        Ok(text) => Ok(text.map(|t| parse_pressure(&t))),
        Err(Error::Read { source: hako_sys::Errno::EOPNOTSUPP, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let to = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => to.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => to.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => to.avg300 = value.parse().unwrap_or(0.0),
                "total" => to.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_v1_and_v2_read_alike() {
        let v1 = io_v1(
            "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Discard 7\n8:0 Total 12288\n\
             8:16 Read 1\nTotal 12289\n",
            "8:0 Read 1\n8:0 Write 2\n8:0 Discard 3\n8:0 Total 6\n",
        );
        let v2 = io_stat(
            "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=7 dios=3\n8:16 rbytes=1\n\
             8:32 \nnonsense rbytes=1\n",
        );
        assert_eq!(v1[..2], v2[..2]);
        assert_eq!((v1.len(), v1[0].write_bytes, v1[0].discards), (2, 8192, 3));
        assert_eq!(v2[2], IoDevice { major: 8, minor: 32, ..IoDevice::default() });
    }

    #[test]
    fn pressure_lines() {
        let p = parse_pressure(
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.10 avg60=x total=5\n",
        );
        assert_eq!((p.some.avg10, p.some.avg60, p.some.total), (1.5, 0.25, 1234));
        assert_eq!((p.full.avg10, p.full.avg60, p.full.total), (0.1, 0.0, 5));
    }

    #[test]
    fn limits_that_are_none() {
        let pairs = nested("mlx4_0 hca_handle=2 hca_object=max\nocrdma1 hca_handle=max\n\n");
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].1["hca_handle"], Some(2));
        assert_eq!(pairs[0].1["hca_object"], None);
        assert_eq!(keyed("a 1\nb x\nc\nd 4 5\n").len(), 1);
    }
}
