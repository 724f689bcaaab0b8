//! Limits as values of cgroup v1's files (Documentation/admin-guide/cgroup-v1).

use hako_oci::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use crate::{
    Result,
    host::{Controller, Host},
    plan::Builder,
};

/// Adds the values for controllers that v1 has.
pub(crate) fn writes(host: &Host, r: &Resources, b: &mut Builder<'_>) -> Result<()> {
    let here = |c| host.hierarchy(c).is_some();
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
                    b.write(Controller::Cpuset, false, file, value, field)?;
                }
            }
        }
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit).filter(|_| here(Controller::Pids)) {
        pids(limit, false, b)?;
    }
    if let Some(io) = r.block_io.as_ref().filter(|_| here(Controller::Io)) {
        block_io(io, b)?;
    }
    if here(Controller::Hugetlb) {
        for (i, page) in r.hugepage_limits.iter().enumerate() {
            let (field, size) =
                (format!("linux.resources.hugepageLimits[{i}]"), page_size(&page.page_size, i)?);
            let file = format!("hugetlb.{size}.limit_in_bytes");
            b.write(Controller::Hugetlb, false, file, page.limit, field.clone())?;
            let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
            b.write(Controller::Hugetlb, false, file, page.limit, field)?.optional = true;
        }
    }
    if here(Controller::Rdma) {
        rdma(r, false, b)?;
    }
    if let Some(network) = &r.network {
        if let Some(class) = network.class_id {
            let field = "linux.resources.network.classID";
            b.write(Controller::NetCls, false, "net_cls.classid", class, field)?;
        }
        for (i, p) in network.priorities.iter().enumerate() {
            let field = format!("linux.resources.network.priorities[{i}]");
            let value = format!("{} {}", p.name, p.priority);
            b.write(Controller::NetPrio, false, "net_prio.ifpriomap", value, field)?;
        }
    }
    Ok(())
}

/// The size in a huge page file's name: `2MB`. It comes from `config.json` and becomes a part of a
/// file name.
pub(crate) fn page_size(size: &str, index: usize) -> Result<&str> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let fine = !digits.is_empty()
        && digits.bytes().all(|c| c.is_ascii_digit())
        && matches!(&size[digits.len()..], "B" | "KB" | "MB" | "GB" | "TB");
    if fine {
        return Ok(size);
    }
    let field = format!("linux.resources.hugepageLimits[{index}].pageSize");
    Err(crate::Error::invalid(field, format!("{size:?} is not a size as 64KB, 2MB, 1GB")))
}

pub(crate) fn pids(limit: i64, unified: bool, b: &mut Builder<'_>) -> Result<()> {
    // As runc: zero means that nothing was asked for.
    if limit != 0 {
        let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
        b.write(Controller::Pids, unified, "pids.max", value, "linux.resources.pids.limit")?;
    }
    Ok(())
}

pub(crate) fn rdma(r: &Resources, unified: bool, b: &mut Builder<'_>) -> Result<()> {
    for (device, limits) in &r.rdma {
        let number = |n: Option<u32>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let value = format!(
            "{device} hca_handle={} hca_object={}",
            number(limits.hca_handles),
            number(limits.hca_objects)
        );
        b.write(
            Controller::Rdma,
            unified,
            "rdma.max",
            value,
            format!("linux.resources.rdma.{device}"),
        )?;
    }
    Ok(())
}

fn memory(m: &Memory, b: &mut Builder<'_>) -> Result<()> {
    // As runc: zero is no limit asked for, and no limit of memory is none of swap either.
    let set = |n: Option<i64>| n.filter(|&n| n != 0);
    let swap = set(m.swap).or(if m.limit == Some(-1) { Some(-1) } else { None });
    for (file, value, field) in [
        ("memory.limit_in_bytes", set(m.limit), "linux.resources.memory.limit"),
        ("memory.memsw.limit_in_bytes", swap, "linux.resources.memory.swap"),
        ("memory.soft_limit_in_bytes", set(m.reservation), "linux.resources.memory.reservation"),
        ("memory.kmem.tcp.limit_in_bytes", set(m.kernel_tcp), "linux.resources.memory.kernelTCP"),
    ] {
        if let Some(value) = value {
            let write = b.write(Controller::Memory, false, file, value, field)?;
            // Where swap is not accounted, there is none to be limited.
            write.optional = field.ends_with("swap") && value == -1;
        }
    }
    if let Some(swappiness) = m.swappiness {
        let field = "linux.resources.memory.swappiness";
        b.write(Controller::Memory, false, "memory.swappiness", swappiness, field)?;
    }
    if m.disable_oom_killer == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        b.write(Controller::Memory, false, "memory.oom_control", 1, field)?;
    }
    if let Some(hierarchy) = m.use_hierarchy {
        let field = "linux.resources.memory.useHierarchy";
        b.write(Controller::Memory, false, "memory.use_hierarchy", u8::from(hierarchy), field)?;
    }
    Ok(())
}

fn cpu(c: &Cpu, b: &mut Builder<'_>) -> Result<()> {
    let text = |n: Option<u64>| n.filter(|&n| n != 0).map(|n| n.to_string());
    let signed = |n: Option<i64>| n.filter(|&n| n != 0).map(|n| n.to_string());
    for (file, value, field) in [
        ("cpu.shares", text(c.shares), "linux.resources.cpu.shares"),
        ("cpu.rt_period_us", text(c.realtime_period), "linux.resources.cpu.realtimePeriod"),
        ("cpu.rt_runtime_us", signed(c.realtime_runtime), "linux.resources.cpu.realtimeRuntime"),
        ("cpu.cfs_period_us", text(c.period), "linux.resources.cpu.period"),
        ("cpu.cfs_quota_us", signed(c.quota), "linux.resources.cpu.quota"),
        // Zero burst means something.
        ("cpu.cfs_burst_us", c.burst.map(|n| n.to_string()), "linux.resources.cpu.burst"),
        ("cpu.idle", c.idle.map(|n| n.to_string()), "linux.resources.cpu.idle"),
    ] {
        if let Some(value) = value {
            b.write(Controller::Cpu, false, file, value, field)?;
        }
    }
    Ok(())
}

/// Lists of rates, with their files in v1 and their words in v2's `io.max`.
pub(crate) fn throttles(
    io: &BlockIo,
) -> [(&[ThrottleDevice], &'static str, &'static str, &'static str); 4] {
    [
        (
            &io.throttle_read_bps_device,
            "blkio.throttle.read_bps_device",
            "rbps",
            "linux.resources.blockIO.throttleReadBpsDevice",
        ),
        (
            &io.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
            "wbps",
            "linux.resources.blockIO.throttleWriteBpsDevice",
        ),
        (
            &io.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
            "riops",
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            &io.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
            "wiops",
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ]
}

fn block_io(io: &BlockIo, b: &mut Builder<'_>) -> Result<()> {
    const IO: Controller = Controller::Io;
    if let Some(weight) = io.weight.filter(|&w| w != 0) {
        let field = "linux.resources.blockIO.weight";
        // CFQ's file went with it in 5.0; BFQ has its own.
        b.write(IO, false, "blkio.weight", weight, field)?.otherwise =
            Some(("blkio.bfq.weight".into(), weight.to_string()));
    }
    if let Some(weight) = io.leaf_weight.filter(|&w| w != 0) {
        let field = "linux.resources.blockIO.leafWeight";
        b.write(IO, false, "blkio.leaf_weight", weight, field)?;
    }
    for (i, d) in io.weight_device.iter().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{i}]");
        if let Some(weight) = d.weight.filter(|&w| w != 0) {
            let value = format!("{}:{} {weight}", d.major, d.minor);
            let write = b.write(IO, false, "blkio.weight_device", &value, field.clone())?;
            write.otherwise = Some(("blkio.bfq.weight_device".into(), value));
        }
        if let Some(weight) = d.leaf_weight.filter(|&w| w != 0) {
            let value = format!("{}:{} {weight}", d.major, d.minor);
            b.write(IO, false, "blkio.leaf_weight_device", value, field)?;
        }
    }
    for (list, file, _, field) in throttles(io) {
        for (i, d) in list.iter().enumerate() {
            let value = format!("{}:{} {}", d.major, d.minor, d.rate);
            b.write(IO, false, file, value, format!("{field}[{i}]"))?;
        }
    }
    Ok(())
}
