//! `events`: statistics and out-of-memory events, in runc's JSON (its package `types`).

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hako_cgroup::stats::{Counter, IoDevice, Pressure, Stats};
use hako_oci::state::Status;
use hako_runtime::Container;
use hako_sys::poll::{PollFd, poll};
use serde_json::{Map, Value, json};

use crate::args::Parsed;
use crate::{Context, Failure, Outcome, quantity};

/// `events`.
pub(crate) fn events(context: &Context, parsed: &Parsed) -> Outcome {
    let container = Container::load(&context.root, parsed.id("events")?)?;
    let interval =
        parsed.text("interval").map_or(Ok(Duration::from_secs(5)), quantity::duration)?;
    if interval.is_zero() {
        return Err("duration interval must be greater than 0".to_owned().into());
    }
    let stopped = || format!("container with id {} is not running", container.id());
    if container.status()? == Status::Stopped {
        return Err(stopped().into());
    }
    if parsed.has("stats") {
        print(&stats_event(&container)?)?;
        return Ok(0);
    }
    let process = container.process()?.ok_or_else(stopped)?;
    let cgroup = container.cgroup().ok_or("the container has no cgroup".to_owned())?;
    let mut oom = cgroup.watch_oom().map_err(hako_runtime::Error::from)?;
    let mut next = Instant::now() + interval;
    loop {
        let mut fds = vec![PollFd::readable(process.as_fd())];
        fds.extend(oom.as_ref().map(|oom| oom.poll_fd()));
        let left = next.saturating_duration_since(Instant::now());
        poll(&mut fds, Some(left)).map_err(|e| format!("poll: {e}"))?;
        let ended = fds[0].is_readable();
        if let Some(oom) = &mut oom
            && oom.happened().map_err(hako_runtime::Error::from)?
        {
            print(&json!({"type": "oom", "id": container.id()}))?;
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            next += interval;
            // Between two looks the container may have ended: the next round sees that.
            match stats_event(&container) {
                Ok(event) => print(&event)?,
                Err(failure) => context.log.error(&failure.message),
            }
        }
    }
}

fn print(event: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .map_err(|e| format!("write to standard output: {e}").into())
}

fn stats_event(container: &Container) -> Result<Value, Failure> {
    let cgroup = container.cgroup().ok_or("the container has no cgroup".to_owned())?;
    let stats = cgroup.stats().map_err(hako_runtime::Error::from)?;
    let memory_is_v2 = cgroup.directory(hako_cgroup::Controller::Memory).is_some_and(|d| d.unified);
    let mut data = data(&stats, memory_is_v2);
    data["network_interfaces"] = Value::from(interfaces(container)?);
    Ok(json!({"type": "stats", "id": container.id(), "data": data}))
}

/// A map without what Go's `omitempty` leaves out.
fn without_zeros(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let kept = map.into_iter().filter(|(_, value)| match value {
        Value::Number(n) => n.as_u64() != Some(0),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Null => false,
        _ => true,
    });
    Value::Object(kept.collect())
}

/// The same, with fields that are there also when they are zero.
fn with(value: Value, always: Value) -> Value {
    let mut map = without_zeros(value);
    if let (Value::Object(map), Value::Object(always)) = (&mut map, always) {
        map.extend(always);
    }
    map
}

fn data(stats: &Stats, memory_is_v2: bool) -> Value {
    let cpu = &stats.cpu;
    json!({
        "cpu": without_zeros(json!({
            "usage": with(
                json!({
                    "total": cpu.usage,
                    "percpu": cpu.per_cpu,
                    "percpu_kernel": cpu.per_cpu_kernel,
                    "percpu_user": cpu.per_cpu_user,
                }),
                json!({"kernel": cpu.system, "user": cpu.user}),
            ),
            "throttling": without_zeros(json!({
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            })),
            "psi": psi(cpu.pressure.as_ref()),
        })),
        "cpuset": cpuset(stats),
        "memory": memory(stats, memory_is_v2),
        "pids": without_zeros(json!({
            "current": stats.pids.current,
            "limit": stats.pids.limit.unwrap_or(0),
        })),
        "blkio": block_io(stats),
        "hugetlb": stats.hugetlb.iter().map(|(size, pages)| {
            let amounts = json!({"usage": pages.usage, "max": pages.usage_max.unwrap_or(0)});
            (size.clone(), with(amounts, json!({"failcnt": pages.limit_hits})))
        }).collect::<Map<_, _>>(),
        "intel_rdt": {},
    })
}

fn psi(pressure: Option<&Pressure>) -> Value {
    let Some(pressure) = pressure else { return Value::Null };
    let line = |l: &hako_cgroup::stats::PressureLine| json!({"avg10": l.avg10, "avg60": l.avg60, "avg300": l.avg300, "total": l.total});
    json!({"some": line(&pressure.some), "full": line(&pressure.full)})
}

fn cpuset(stats: &Stats) -> Value {
    // v2 has none of the switches.
    let mut map: Map<String, Value> = hako_cgroup::stats::CPUSET_VALUES
        .into_iter()
        .map(|name| (name.to_owned(), Value::from(0)))
        .collect();
    if let Some(set) = &stats.cpuset {
        map.extend(set.values.iter().map(|(name, value)| (name.clone(), Value::from(*value))));
        for (name, list) in [("cpus", &set.cpus), ("mems", &set.mems)] {
            if !list.is_empty() {
                map.insert(name.to_owned(), json!(list));
            }
        }
    }
    Value::Object(map)
}

/// What v1's files and runc say where there is no limit.
const NO_LIMIT_V1: u64 = (i64::MAX as u64) / 4096 * 4096;

fn memory(stats: &Stats, v2: bool) -> Value {
    let entry = |counter: Counter| {
        let none = if v2 { u64::MAX } else { NO_LIMIT_V1 };
        with(
            json!({"usage": counter.usage, "max": counter.usage_max}),
            json!({"limit": counter.limit.unwrap_or(none), "failcnt": counter.limit_hits}),
        )
    };
    let absent = || json!({"limit": 0, "failcnt": 0});
    let Some(m) = &stats.memory else {
        return json!({"usage": absent(), "swap": absent(), "kernel": absent(), "kernelTCP": absent()});
    };
    let usage = Counter {
        usage: m.usage,
        usage_max: m.usage_max.unwrap_or(0),
        limit: m.limit,
        limit_hits: m.limit_hits,
    };
    // To be compared with v1, runc counts memory into v2's swap.
    let swap = match (m.with_swap, m.swap) {
        (Some(both), _) => entry(both),
        (None, Some(swap)) => entry(Counter {
            usage: m.usage.saturating_add(swap),
            limit: m.limit.zip(m.swap_limit).map(|(a, b)| a.saturating_add(b)),
            ..Counter::default()
        }),
        (None, None) => absent(),
    };
    let mut memory = with(
        json!({"cache": m.cache, "psi": psi(m.pressure.as_ref())}),
        json!({
            "usage": entry(usage),
            "swap": swap,
            "kernel": m.kernel_counter.map_or_else(absent, entry),
            "kernelTCP": m.kernel_tcp.map_or_else(absent, entry),
        }),
    );
    if !m.stat.is_empty() {
        memory["raw"] = json!(m.stat);
    }
    if !m.events.is_empty() {
        memory["event_count"] = json!(m.events);
    }
    memory
}

fn block_io(stats: &Stats) -> Value {
    let devices = |pick: &dyn Fn(&IoDevice) -> [(&'static str, u64); 3]| -> Vec<Value> {
        let entries = stats.io.devices.iter().flat_map(|d| {
            pick(d).map(|(op, value)| {
                without_zeros(json!({"major": d.major, "minor": d.minor, "op": op, "value": value}))
            })
        });
        entries.collect()
    };
    let bytes = devices(&|d| {
        [("Read", d.read_bytes), ("Write", d.write_bytes), ("Discard", d.discard_bytes)]
    });
    let calls = devices(&|d| [("Read", d.reads), ("Write", d.writes), ("Discard", d.discards)]);
    let scheduler = |name: &str| -> Vec<Value> {
        let entries = stats.io.scheduler.get(name).into_iter().flatten();
        entries
            .map(|e| {
                without_zeros(
                    json!({"major": e.major, "minor": e.minor, "op": e.op, "value": e.value}),
                )
            })
            .collect()
    };
    without_zeros(json!({
        "ioServiceBytesRecursive": bytes,
        "ioServicedRecursive": calls,
        "ioQueueRecursive": scheduler("io_queued"),
        "ioServiceTimeRecursive": scheduler("io_service_time"),
        "ioWaitTimeRecursive": scheduler("io_wait_time"),
        "ioMergedRecursive": scheduler("io_merged"),
        "ioTimeRecursive": scheduler("time"),
        "sectorsRecursive": scheduler("sectors"),
        "psi": psi(stats.io.pressure.as_ref()),
    }))
}

/// Counters of the container's own network interfaces; `None` where it uses the host's.
fn interfaces(container: &Container) -> Result<Option<Vec<Value>>, Failure> {
    let Some(text) = container.network_counters()? else { return Ok(None) };
    let found: Vec<Value> = text.lines().skip(2).filter_map(interface).collect();
    Ok((!found.is_empty()).then_some(found))
}

/// One line of /proc/net/dev.
fn interface(line: &str) -> Option<Value> {
    let (name, numbers) = line.split_once(':')?;
    let n: Vec<u64> = numbers.split_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
    let name = name.trim();
    if name == "lo" || n.len() < 12 {
        return None;
    }
    Some(json!({
        "Name": name,
        "RxBytes": n[0], "RxPackets": n[1], "RxErrors": n[2], "RxDropped": n[3],
        "TxBytes": n[8], "TxPackets": n[9], "TxErrors": n[10], "TxDropped": n[11],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted_is_what_runc_says_of_it() {
        let empty = data(&Stats::default(), false);
        assert_eq!(empty["cpu"], json!({"usage": {"kernel": 0, "user": 0}, "throttling": {}}));
        assert_eq!(empty["memory"]["usage"], json!({"limit": 0, "failcnt": 0}));
        assert_eq!((&empty["pids"], &empty["blkio"]), (&json!({}), &json!({})));
        assert_eq!(empty["cpuset"]["sched_relax_domain_level"], 0);
    }

    #[test]
    fn limits_that_are_none_are_runcs_numbers() {
        let memory = hako_cgroup::stats::Memory { usage: 5, ..Default::default() };
        let stats = Stats { memory: Some(memory), ..Default::default() };
        let limit = |v2| data(&stats, v2)["memory"]["usage"]["limit"].clone();
        assert_eq!(limit(false), json!(9_223_372_036_854_771_712_u64));
        assert_eq!(limit(true), json!(u64::MAX));
    }

    #[test]
    fn devices_are_told_apart_by_operation() {
        let device = IoDevice { major: 8, read_bytes: 7, ..IoDevice::default() };
        let mut stats = Stats::default();
        stats.io.devices.push(device);
        let bytes = &data(&stats, true)["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(
            *bytes,
            json!([{"major": 8, "op": "Read", "value": 7}, {"major": 8, "op": "Write"}, {"major": 8, "op": "Discard"}])
        );
    }

    #[test]
    fn lines_of_interfaces() {
        let line = "  eth0: 10 1 2 3 0 0 0 0 20 4 5 6 0 0 0 0";
        let value = interface(line).unwrap();
        assert_eq!((&value["Name"], &value["TxDropped"]), (&json!("eth0"), &json!(6)));
        assert_eq!(interface("    lo: 1 2 3 4 5 6 7 8 9 10 11 12"), None);
        assert_eq!(interface("nonsense"), None);
    }
}
