//! Changing the limits of a container that is there, and what is saved of them.
//!
//! Changes are merged into the saved configuration first: values that depend on each other (memory
//! and swap, quota and period, idle and shares) go to the kernel together, as the whole that they
//! then are, and what is saved afterwards is what holds.

use std::path::Path;

use hako_cgroup::{Controller, Host};
use hako_oci::runtime::{BlockIo, Cpu, Memory, Resources};
use hako_oci::state::Status;

use crate::manage::Container;
use crate::state::StateDir;
use crate::{Error, Result};

/// What [`Container::update`] changes; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Limits of control groups.
    pub resources: Resources,
    /// Lines of Intel's cache allocation (`L3:0=f`).
    pub l3_cache_schema: Option<String>,
    /// Lines of Intel's memory bandwidth allocation (`MB:0=50`).
    pub mem_bw_schema: Option<String>,
}

impl Container {
    /// Changes the container's limits. Returns what was asked for and not done, as warnings.
    pub fn update(&self, changes: &Changes) -> Result<Vec<String>> {
        let dir = StateDir::open(self.root(), self.id())?;
        // Whoever had the lock before may have changed it.
        let mut now = Container::load(self.root(), self.id())?;
        if now.status()? == Status::Stopped {
            return Err(self.wrong("update", Status::Stopped));
        }
        let host = Host::detect().map_err(Error::Cgroup)?;
        let warnings = warnings(&changes.resources);
        let mut config = now.config()?;
        let linux = config.linux.get_or_insert_default();
        let saved = linux.resources.get_or_insert_default();
        let swap_apart = host.hierarchy(Controller::Memory).is_none();
        let write = merge(saved, &changes.resources, swap_apart);

        if changes.l3_cache_schema.is_some() || changes.mem_bw_schema.is_some() {
            let rdt = linux.intel_rdt.get_or_insert_default();
            let class = now.file.rdt.as_ref().and_then(|groups| groups.class());
            let resctrl = Path::new(RESCTRL);
            let class = class.map_or_else(|| resctrl.join(&now.file.id), Path::to_owned);
            let was_there = class.is_dir();
            let made = set_schemata(resctrl, &class, changes, &now.processes()?);
            // Also where a line was refused: what was made is to go with the container.
            if !was_there && class.is_dir() {
                now.file.rdt = Some(crate::rdt::Groups::made_later(class));
                dir.write_state(&now.file)?;
            }
            made?;
            if let Some(l3) = &changes.l3_cache_schema {
                rdt.l3_cache_schema = Some(l3.clone());
            }
            if let Some(bandwidth) = &changes.mem_bw_schema {
                rdt.mem_bw_schema = Some(bandwidth.clone());
            }
        }
        if write != Resources::default() {
            now.need_cgroup()?;
            let before = now.file.cgroup.clone();
            let updated = now.file.cgroup.as_mut().map_or(Ok(false), |c| c.update(&host, &write));
            // Hierarchies that it joined are to be left again, also when a value was refused.
            if now.file.cgroup != before {
                dir.write_state(&now.file)?;
            }
            updated?;
        }
        dir.write_config(&config)?;
        Ok(warnings)
    }
}

fn warnings(changes: &Resources) -> Vec<String> {
    let mut warnings = Vec::new();
    if changes.memory.as_ref().is_some_and(|m| m.kernel.is_some_and(|n| n != 0)) {
        warnings.push("Kernel memory settings are ignored and will be removed".to_owned());
    }
    if !changes.devices.is_empty() {
        // As runc: what hooks and plugins (GPUs) allowed meanwhile must not be taken back.
        warnings.push("update leaves device rules as they are".to_owned());
    }
    warnings
}

/// Takes the new value of each field that has one.
macro_rules! take {
    ($to:expr, $from:expr, $($field:ident)*) => {
        $(if $from.$field.is_some() { $to.$field = $from.$field.clone(); })*
    };
}

/// Merges changes into what is saved. Returns what must be written: the changes, and what they
/// drag along. `swap_apart`: the kernel limits swap alone (v2), not together with memory.
fn merge(saved: &mut Resources, changes: &Resources, swap_apart: bool) -> Resources {
    let mut write = Resources { devices: Vec::new(), ..changes.clone() };
    if let Some(new) = &changes.memory {
        let old = saved.memory.get_or_insert_default();
        write.memory = Some(merge_memory(old, new, swap_apart));
    }
    if let Some(new) = &changes.cpu {
        write.cpu = Some(merge_cpu(saved.cpu.get_or_insert_default(), new));
    }
    if let Some(new) = &changes.block_io {
        merge_block_io(saved.block_io.get_or_insert_default(), new);
    }
    if let Some(limit) = changes.pids.as_ref().and_then(|p| p.limit).filter(|l| *l != 0) {
        saved.pids.get_or_insert_default().limit = Some(limit);
    }
    for page in &changes.hugepage_limits {
        replace(&mut saved.hugepage_limits, page, |p| p.page_size.clone());
    }
    saved.rdma.extend(changes.rdma.clone());
    saved.unified.extend(changes.unified.clone());
    if let Some(new) = &changes.network {
        let old = saved.network.get_or_insert_default();
        take!(old, new, class_id);
        for priority in &new.priorities {
            replace(&mut old.priorities, priority, |p| p.name.clone());
        }
    }
    // Empty objects ask for nothing, and must not ask for a controller.
    write.memory = write.memory.filter(|m| *m != Memory::default());
    write.cpu = write.cpu.filter(|c| *c != Cpu::default());
    write.block_io = write.block_io.filter(|b| *b != BlockIo::default());
    write.pids = write.pids.filter(|p| p.limit.is_some_and(|l| l != 0));
    write
}

fn merge_memory(old: &mut Memory, new: &Memory, swap_apart: bool) -> Memory {
    let mut write = Memory { kernel: None, ..new.clone() };
    let set = |n: Option<i64>| n.filter(|&n| n != 0);
    let (limit, swap) = (set(new.limit), set(new.swap));
    if limit == Some(-1) && swap.is_none() {
        // As runc: no limit of memory is none of swap either.
        write.swap = Some(-1);
    } else if swap.is_some() && limit.is_none() {
        write.limit = set(old.limit);
    } else if let (Some(limit), None, true) = (limit, swap, swap_apart) {
        // What is limited is swap alone, and stays: then the sum of both changes.
        if let (Some(both), Some(was)) = (old.swap.filter(|&s| s > 0), old.limit.filter(|&l| l > 0))
        {
            old.swap = limit.checked_add(both.saturating_sub(was));
        }
    }
    take!(old, write, limit swap reservation kernel_tcp swappiness disable_oom_killer);
    take!(old, write, use_hierarchy check_before_update);
    write
}

fn merge_cpu(old: &mut Cpu, new: &Cpu) -> Cpu {
    let mut write = new.clone();
    take!(old, new, shares quota burst period realtime_runtime realtime_period cpus mems idle);
    // cpu.max is one file on v2.
    if new.quota.is_some() || new.period.is_some() {
        (write.quota, write.period) = (old.quota, old.period);
    }
    // Leaving idle, a cgroup has the default weight again.
    if new.idle == Some(0) && new.shares.is_none() {
        write.shares = old.shares;
    }
    write
}

fn merge_block_io(old: &mut BlockIo, new: &BlockIo) {
    take!(old, new, weight leaf_weight);
    for device in &new.weight_device {
        replace(&mut old.weight_device, device, |d| (d.major, d.minor));
    }
    let lists = [
        (&mut old.throttle_read_bps_device, &new.throttle_read_bps_device),
        (&mut old.throttle_write_bps_device, &new.throttle_write_bps_device),
        (&mut old.throttle_read_iops_device, &new.throttle_read_iops_device),
        (&mut old.throttle_write_iops_device, &new.throttle_write_iops_device),
    ];
    for (old, new) in lists {
        new.iter().for_each(|device| replace(old, device, |d| (d.major, d.minor)));
    }
}

/// Puts an item in place of the one with the same key, or at the end.
fn replace<T: Clone, K: PartialEq>(list: &mut Vec<T>, item: &T, key: impl Fn(&T) -> K) {
    match list.iter_mut().find(|have| key(have) == key(item)) {
        Some(have) => *have = item.clone(),
        None => list.push(item.clone()),
    }
}

/// Where the kernel's resource control is mounted (Documentation/arch/x86/resctrl.rst).
const RESCTRL: &str = "/sys/fs/resctrl";

/// Writes cache and bandwidth lines of a class, which is made, with these processes, if it is not
/// there.
fn set_schemata(root: &Path, class: &Path, changes: &Changes, pids: &[i32]) -> Result<()> {
    let enabled = |info: &str| root.join("info").join(info).is_dir();
    let l3 = ["L3", "L3CODE", "L3DATA"].into_iter().any(enabled);
    if changes.l3_cache_schema.is_some() && !l3 {
        let message = "Intel RDT/CAT: l3 cache schema is not enabled";
        return Err(Error::Unsupported(message.to_owned()));
    }
    if changes.mem_bw_schema.is_some() && !enabled("MB") {
        let message = "Intel RDT/MBA: memory bandwidth schema is not enabled";
        return Err(Error::Unsupported(message.to_owned()));
    }
    let dir = class;
    if !dir.is_dir() {
        std::fs::create_dir(dir).map_err(|e| Error::io("mkdir", dir, &e))?;
        for pid in pids {
            write(&dir.join("tasks"), &format!("{pid}\n"))?;
        }
    }
    let texts = changes.l3_cache_schema.iter().chain(&changes.mem_bw_schema);
    for line in texts.flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()) {
        write(&dir.join("schemata"), &format!("{line}\n"))?;
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let written = options
        .append(true)
        .open(path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, value.as_bytes()));
    written.map_err(|e| Error::io("write", path, &e))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(saved: Value, changes: Value, apart: bool, write: Value, after: Value) {
        let mut saved: Resources = serde_json::from_value(saved).unwrap();
        let changes: Resources = serde_json::from_value(changes).unwrap();
        let got = merge(&mut saved, &changes, apart);
        assert_eq!(serde_json::to_value(got).unwrap(), write, "written");
        assert_eq!(serde_json::to_value(saved).unwrap(), after, "saved");
    }

    #[test]
    fn memory_and_swap_go_together() {
        let memory = |limit: i64, swap: i64| json!({"memory": {"limit": limit, "swap": swap}});
        let limit = |limit: i64| json!({"memory": {"limit": limit}});
        let swap = |swap: i64| json!({"memory": {"swap": swap}});
        // No limit is no limit of either.
        check(memory(10, 20), limit(-1), true, memory(-1, -1), memory(-1, -1));
        // v2 computes what is swap alone from both.
        check(memory(10, 20), swap(30), true, memory(10, 30), memory(10, 30));
        check(json!({}), swap(30), true, swap(30), swap(30));
        // v2 keeps what is swap alone, v1 the sum.
        check(memory(10, 30), limit(15), true, limit(15), memory(15, 35));
        check(memory(10, 30), limit(15), false, limit(15), memory(15, 30));
        check(memory(10, -1), limit(15), true, limit(15), memory(15, -1));
    }

    #[test]
    fn what_depends_on_each_other_is_written_together() {
        let cpu = |value: Value| json!({ "cpu": value });
        let both = json!({"quota": 5000, "period": 20000});
        check(
            cpu(json!({"period": 20000})),
            cpu(json!({"quota": 5000})),
            true,
            cpu(both.clone()),
            cpu(both),
        );
        check(
            cpu(json!({"shares": 512, "idle": 1})),
            cpu(json!({"idle": 0})),
            true,
            cpu(json!({"shares": 512, "idle": 0})),
            cpu(json!({"shares": 512, "idle": 0})),
        );
    }

    #[test]
    fn what_is_empty_asks_for_nothing() {
        let empty = json!({"memory": {}, "cpu": {}, "blockIO": {}, "pids": {"limit": 0}});
        let mut saved = Resources::default();
        let changes: Resources = serde_json::from_value(empty).unwrap();
        assert_eq!(merge(&mut saved, &changes, true), Resources::default());
        let devices = json!({"devices": [{"allow": true}], "memory": {"kernel": 5}});
        let changes: Resources = serde_json::from_value(devices).unwrap();
        assert_eq!(merge(&mut saved, &changes, true), Resources::default());
        assert_eq!((saved.devices.len(), warnings(&changes).len()), (0, 2));
    }

    #[test]
    fn lists_are_merged_by_device() {
        let io = |rate: u64| json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": rate}]}});
        check(io(1), io(2), true, io(2), io(2));
    }

    #[test]
    fn resource_control_of_intel() {
        let root = std::env::temp_dir().join(format!("hako-resctrl-{}", std::process::id()));
        let changes = Changes { l3_cache_schema: Some("L3:0=f".to_owned()), ..Changes::default() };
        let error = set_schemata(&root, &root.join("c"), &changes, &[]).unwrap_err();
        assert_eq!(error.to_string(), "Intel RDT/CAT: l3 cache schema is not enabled");
        for dir in ["info/L3", "c"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("c/schemata"), "").unwrap();
        set_schemata(&root, &root.join("c"), &changes, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("c/schemata")).unwrap(), "L3:0=f\n");
        let bandwidth = Changes { mem_bw_schema: Some("MB:0=50".to_owned()), ..Changes::default() };
        let error = set_schemata(&root, &root.join("c"), &bandwidth, &[]).unwrap_err();
        assert_eq!(error.to_string(), "Intel RDT/MBA: memory bandwidth schema is not enabled");
        std::fs::remove_dir_all(root).unwrap();
    }
}
