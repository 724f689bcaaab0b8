//! Limits as values of cgroup v2's files (Documentation/admin-guide/cgroup-v2.rst).
//!
//! `config.json` speaks v1; what v2 counts differently is converted as runc and crun do.

use hako_oci::runtime::{BlockIo, Cpu, Memory, Resources};

use crate::{
    Error, Result,
    host::{Controller, Host},
    plan::Builder,
    v1,
};

/// Adds the values for controllers that v2 has, and the map of v2's own files.
pub(crate) fn writes(host: &Host, r: &Resources, b: &mut Builder<'_>) -> Result<()> {
    let here = |c| host.hierarchy(c).is_none() && host.in_v2(c);
    if let Some(m) = r.memory.as_ref().filter(|_| here(Controller::Memory)) {
        memory(m, b)?;
    }
    if let Some(c) = &r.cpu {
        if here(Controller::Cpu) {
            cpu(c, b)?;
        }
        if here(Controller::Cpuset) {
            for (file, value, field) in [
                ("cpuset.cpus", &c.cpus, "linux.resources.cpu.cpus"),
                ("cpuset.mems", &c.mems, "linux.resources.cpu.mems"),
            ] {
                if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                    b.write(Controller::Cpuset, true, file, value, field)?;
                }
            }
        }
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit).filter(|_| here(Controller::Pids)) {
        v1::pids(limit, true, b)?;
    }
    if let Some(io) = r.block_io.as_ref().filter(|_| here(Controller::Io)) {
        block_io(io, b)?;
    }
    if here(Controller::Hugetlb) {
        for (i, page) in r.hugepage_limits.iter().enumerate() {
            let field = format!("linux.resources.hugepageLimits[{i}]");
            let size = v1::page_size(&page.page_size, i)?;
            let file = format!("hugetlb.{size}.max");
            b.write(Controller::Hugetlb, true, file, page.limit, field.clone())?;
            let file = format!("hugetlb.{size}.rsvd.max");
            b.write(Controller::Hugetlb, true, file, page.limit, field)?.optional = true;
        }
    }
    if here(Controller::Rdma) {
        v1::rdma(r, true, b)?;
    }
    unified(host, r, b)
}

/// What v2 has no file for. Asked for, it is an error: the container would run without it.
fn refuse(asked: bool, field: &str) -> Result<()> {
    if asked { Err(Error::NotInV2 { field: field.to_owned() }) } else { Ok(()) }
}

/// A number of bytes, -1 being none.
fn bytes(n: i64) -> String {
    if n < 0 { "max".to_owned() } else { n.to_string() }
}

/// v1 limits memory and swap together, v2 swap alone. `None` leaves it as it is.
pub(crate) fn swap(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>> {
    let limit = limit.unwrap_or(0);
    let why = match swap.unwrap_or(0) {
        0 if limit == -1 => return Ok(Some(-1)),
        0 => return Ok(None),
        -1 => return Ok(Some(-1)),
        _ if limit == 0 || limit == -1 => "needs a limit of memory as well".to_owned(),
        both if both < limit || both < 0 => {
            format!("{both} (memory and swap) is less than the limit of memory, {limit}")
        }
        both => return Ok(Some(both - limit)),
    };
    Err(Error::invalid("linux.resources.memory.swap".to_owned(), why))
}

fn memory(m: &Memory, b: &mut Builder<'_>) -> Result<()> {
    refuse(m.swappiness.is_some(), "linux.resources.memory.swappiness")?;
    refuse(m.disable_oom_killer == Some(true), "linux.resources.memory.disableOOMKiller")?;
    refuse(m.kernel_tcp.is_some_and(|n| n > 0), "linux.resources.memory.kernelTCP")?;
    let set = |n: Option<i64>| n.filter(|&n| n != 0);
    let swap = swap(m.limit, m.swap)?;
    // Swap first: lowering memory may have to swap out what no longer fits.
    for (file, value, field) in [
        ("memory.swap.max", swap, "linux.resources.memory.swap"),
        ("memory.max", set(m.limit), "linux.resources.memory.limit"),
        ("memory.low", set(m.reservation), "linux.resources.memory.reservation"),
    ] {
        if let Some(value) = value {
            let write = b.write(Controller::Memory, true, file, bytes(value), field)?;
            // Where swap is not accounted, there is none to be limited.
            write.optional = file == "memory.swap.max" && value == -1;
        }
    }
    Ok(())
}

/// Shares (2 to 262144, 1024 by default) as a weight (1 to 10000, 100 by default).
///
/// The curve goes through both ranges' ends and defaults; since 2025 runc and crun have the same.
/// The linear one that was used before made 39 of the default.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // Whole results come out a hair above or below.
            ((10f64.powf(exponent) - 1e-9).ceil() as u64).clamp(1, 10_000)
        }
    }
}

/// Weight of v1's block I/O (10 to 1000) as one of v2's (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

fn cpu(c: &Cpu, b: &mut Builder<'_>) -> Result<()> {
    const CPU: Controller = Controller::Cpu;
    refuse(c.realtime_runtime.is_some_and(|n| n != 0), "linux.resources.cpu.realtimeRuntime")?;
    refuse(c.realtime_period.is_some_and(|n| n != 0), "linux.resources.cpu.realtimePeriod")?;
    if let Some(idle) = c.idle {
        b.write(CPU, true, "cpu.idle", idle, "linux.resources.cpu.idle")?;
    }
    if let Some(shares) = c.shares.filter(|&s| s != 0) {
        // The kernel refuses a weight for what is idle.
        if c.idle != Some(1) {
            let weight = weight_of_shares(shares);
            b.write(CPU, true, "cpu.weight", weight, "linux.resources.cpu.shares")?;
        }
    }
    let quota = c.quota.filter(|&q| q != 0);
    let period = c.period.filter(|&p| p != 0);
    if quota.is_some() || period.is_some() {
        let field = if quota.is_some() {
            "linux.resources.cpu.quota"
        } else {
            "linux.resources.cpu.period"
        };
        let quota = quota.filter(|&q| q > 0).map_or_else(|| "max".to_owned(), |q| q.to_string());
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        b.write(CPU, true, "cpu.max", value, field)?;
    }
    if let Some(burst) = c.burst {
        b.write(CPU, true, "cpu.max.burst", burst, "linux.resources.cpu.burst")?;
    }
    Ok(())
}

fn block_io(io: &BlockIo, b: &mut Builder<'_>) -> Result<()> {
    const IO: Controller = Controller::Io;
    let leaf = io.leaf_weight.is_some() || io.weight_device.iter().any(|d| d.leaf_weight.is_some());
    refuse(leaf, "linux.resources.blockIO.leafWeight")?;
    if let Some(weight) = io.weight.filter(|&w| w != 0) {
        let field = "linux.resources.blockIO.weight";
        // BFQ's file is there when a device uses it, and takes v1's range.
        b.write(IO, true, "io.bfq.weight", weight, field)?.otherwise =
            Some(("io.weight".into(), format!("default {}", io_weight(weight))));
    }
    for (i, d) in io.weight_device.iter().enumerate() {
        if let Some(weight) = d.weight.filter(|&w| w != 0) {
            let field = format!("linux.resources.blockIO.weightDevice[{i}]");
            let device = format!("{}:{}", d.major, d.minor);
            b.write(IO, true, "io.bfq.weight", format!("{device} {weight}"), field)?.otherwise =
                Some(("io.weight".into(), format!("{device} {}", io_weight(weight))));
        }
    }
    for (list, _, word, field) in v1::throttles(io) {
        for (i, d) in list.iter().enumerate() {
            let rate = if d.rate == 0 { "max".to_owned() } else { d.rate.to_string() };
            let value = format!("{}:{} {word}={rate}", d.major, d.minor);
            b.write(IO, true, "io.max", value, format!("{field}[{i}]"))?;
        }
    }
    Ok(())
}

/// Files that every cgroup has, whatever controllers are enabled.
pub(crate) fn is_core_file(file: &str) -> bool {
    matches!(file, "cpu.pressure" | "io.pressure" | "memory.pressure")
}

/// `linux.resources.unified`: files by name.
fn unified(host: &Host, r: &Resources, b: &mut Builder<'_>) -> Result<()> {
    for (file, value) in &r.unified {
        let field = format!("linux.resources.unified.{file}");
        // The name becomes a part of a path.
        if file.contains(['/', '\0']) || file.starts_with('.') || !file.contains('.') {
            return Err(Error::invalid(field, "is not the name of a cgroup file".to_owned()));
        }
        let Some(directory) = b.directories.iter().position(|d| d.unified) else {
            return Err(Error::NoV2 { field });
        };
        let prefix = file.split('.').next().unwrap_or("");
        if let Some(controller) = Controller::all().find(|c| c.v2_name() == Some(prefix))
            && !host.in_v2(controller)
            && !is_core_file(file)
        {
            return Err(Error::NotOnV2 { controller, field });
        }
        for line in value.lines().filter(|l| !l.is_empty()) {
            b.writes.push(crate::plan::Write {
                directory,
                file: file.clone().into(),
                otherwise: None,
                value: line.to_owned(),
                field: field.clone().into(),
                optional: false,
            });
        }
    }
    Ok(())
}
