//! Limits as properties of a unit, so that systemd does not undo them when it writes its own
//! (systemd.resource-control(5)), and properties from annotations.

use hako_oci::runtime::Resources;

use super::wire::Value;
use crate::{
    Controller, Error, Host, Result,
    devices::{Exception, Kind, MKNOD, Policy, READ, WRITE},
    v2,
};

/// A property by its name.
pub(crate) type Property = (String, Value);

fn property(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

/// What the limits come to. What systemd has no property for is written to the cgroup alone.
pub(crate) fn of_resources(host: &Host, r: &Resources, devices: bool) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Value| found.push(property(name, value));
    let is_v1 = |controller| host.hierarchy(controller).is_some();
    // A limit of -1 is none: systemd's infinity.
    let limit = |n: i64| Value::U64(u64::try_from(n).unwrap_or(u64::MAX));
    let set = |n: Option<i64>| n.filter(|&n| n != 0);
    if let Some(memory) = &r.memory {
        let v1 = is_v1(Controller::Memory);
        if let Some(max) = set(memory.limit) {
            add(if v1 { "MemoryLimit" } else { "MemoryMax" }, limit(max));
        }
        if !v1 {
            if let Some(low) = set(memory.reservation) {
                add("MemoryLow", limit(low));
            }
            if let Some(swap) = v2::swap(memory.limit, memory.swap)? {
                add("MemorySwapMax", limit(swap));
            }
        }
    }
    if let Some(cpu) = &r.cpu {
        if let Some(shares) = cpu.shares.filter(|&s| s != 0 && cpu.idle != Some(1)) {
            match is_v1(Controller::Cpu) {
                true => add("CPUShares", Value::U64(shares)),
                false => add("CPUWeight", Value::U64(v2::weight_of_shares(shares))),
            }
        }
        let period = cpu.period.filter(|&p| p != 0);
        if period.is_some() || set(cpu.quota).is_some() {
            quota(&mut add, cpu.quota.unwrap_or(0), period.unwrap_or(100_000));
        }
        if !is_v1(Controller::Cpuset) {
            for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
                if let Some(list) = list.as_deref().filter(|l| !l.is_empty()) {
                    add(name, bits(list)?);
                }
            }
        }
    }
    if let Some(max) = r.pids.as_ref().and_then(|p| set(p.limit)) {
        add("TasksMax", limit(max));
    }
    if let Some(weight) = r.block_io.as_ref().and_then(|b| b.weight).filter(|&w| w != 0)
        && is_v1(Controller::Io)
    {
        add("BlockIOWeight", Value::U64(weight.into()));
    }
    for (file, value) in &r.unified {
        unified(file, value.trim(), &mut add)?;
    }
    if devices {
        found.extend(device_properties(&Policy::new(&r.devices)?));
    }
    Ok(found)
}

/// systemd keeps whole percents of a processor, and rounds down: so they are rounded up first.
fn quota(add: &mut impl FnMut(&str, Value), quota: i64, period: u64) {
    const PERCENT: u64 = 10_000;
    let per_second = match u64::try_from(quota) {
        Ok(quota) if quota > 0 => {
            let exact = quota.saturating_mul(1_000_000) / period.max(1);
            exact.div_ceil(PERCENT).saturating_mul(PERCENT)
        }
        _ => u64::MAX,
    };
    add("CPUQuotaPerSecUSec", Value::U64(per_second));
    add("CPUQuotaPeriodUSec", Value::U64(period));
}

/// A list of numbers as the bits of an array, the lowest first.
fn bits(list: &str) -> Result<Value> {
    let invalid = || {
        let why = format!("{list:?} is not a list as 0-3,7");
        Error::invalid("linux.resources.cpu".to_owned(), why)
    };
    let mut bytes: Vec<u8> = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| invalid());
        for bit in number(first)?..=number(last)? {
            let at = usize::from(bit / 8);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (bit % 8);
        }
    }
    Ok(Value::Array("y".to_owned(), bytes.into_iter().map(Value::Byte).collect()))
}

/// A file of v2, where systemd has a property for it.
fn unified(file: &str, value: &str, add: &mut impl FnMut(&str, Value)) -> Result<()> {
    let number = |text: &str| match text {
        "max" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| {
            let why = format!("{value:?} is not a number or max");
            Error::invalid(format!("linux.resources.unified.{file}"), why)
        }),
    };
    let name = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => {
            add("AllowedCPUs", bits(value)?);
            return Ok(());
        }
        "cpuset.mems" => {
            add("AllowedMemoryNodes", bits(value)?);
            return Ok(());
        }
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let max = number(words.next().unwrap_or_default())?;
            let period = words.next().map_or(Ok(100_000), number)?;
            quota(add, i64::try_from(max).unwrap_or(-1), period);
            return Ok(());
        }
        // The cgroup's file alone is written.
        _ => return Ok(()),
    };
    add(name, Value::U64(number(value)?));
    Ok(())
}

/// Device access. Where all is allowed but some, systemd cannot say it, and allows all: the
/// program of our own refuses.
fn device_properties(policy: &Policy) -> Vec<Property> {
    if policy.allow {
        return vec![property("DevicePolicy", Value::str("auto"))];
    }
    let rules = policy
        .exceptions
        .iter()
        .filter_map(device)
        .map(|(node, access)| Value::Struct(vec![Value::Str(node), Value::Str(access)]));
    vec![
        property("DevicePolicy", Value::str("strict")),
        property("DeviceAllow", Value::Array("(ss)".to_owned(), rules.collect())),
    ]
}

fn device(e: &Exception) -> Option<(String, String)> {
    let kind = match e.kind {
        Kind::Block => "block",
        Kind::Char => "char",
    };
    let node = match (e.major, e.minor) {
        (None, None) => format!("{kind}-*"),
        (Some(major), None) => format!("{kind}-{major}"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        // All devices of one minor number: systemd has no words for that.
        (None, Some(_)) => return None,
    };
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access = letters.into_iter().filter(|(bit, _)| e.access & bit != 0).map(|(_, c)| c);
    Some((node, access.collect()))
}

const ANNOTATION: &str = "org.systemd.property.";

/// A property from an annotation `org.systemd.property.NAME`; `None` where it is another one.
pub(crate) fn of_annotation(key: &str, text: &str) -> Result<Option<Property>> {
    let Some(name) = key.strip_prefix(ANNOTATION) else { return Ok(None) };
    let invalid = |why: String| Error::invalid(format!("annotations.{key}"), why);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(invalid("is not the name of a property".to_owned()));
    }
    let value = variant(text.trim()).ok_or_else(|| {
        invalid(format!("{text:?} is no value (as `true`, `uint64 5`, `'text'`)"))
    })?;
    // As of runc and crun: a time in seconds becomes one in microseconds.
    if let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        let micros = match value {
            Value::I32(n) => u64::try_from(n).ok().and_then(|n| n.checked_mul(1_000_000)),
            Value::U32(n) => Some(u64::from(n) * 1_000_000),
            Value::I64(n) => u64::try_from(n).ok().and_then(|n| n.checked_mul(1_000_000)),
            Value::U64(n) => n.checked_mul(1_000_000),
            Value::F64(n) if (0.0..1e12).contains(&n) => Some((n * 1e6) as u64),
            _ => None,
        };
        let micros = micros.ok_or_else(|| invalid(format!("{text:?} is no number of seconds")))?;
        return Ok(Some((format!("{stem}USec"), Value::U64(micros))));
    }
    Ok(Some((name.to_owned(), value)))
}

/// A value in GVariant's text form, as far as properties need it.
fn variant(text: &str) -> Option<Value> {
    if let Some((kind, rest)) = text.split_once(' ') {
        let rest = rest.trim();
        match kind {
            "byte" | "@y" => return rest.parse().ok().map(Value::Byte),
            "int32" | "@i" => return rest.parse().ok().map(Value::I32),
            "uint32" | "@u" => return rest.parse().ok().map(Value::U32),
            "int64" | "@x" => return rest.parse().ok().map(Value::I64),
            "uint64" | "@t" => return rest.parse().ok().map(Value::U64),
            "double" | "@d" => return rest.parse().ok().map(Value::F64),
            "boolean" | "@b" => return rest.parse().ok().map(Value::Bool),
            "@s" => return quoted(rest),
            "@as" if rest == "[]" => return Some(Value::Array("s".to_owned(), vec![])),
            "@as" => return variant(rest),
            _ => {}
        }
    }
    match text.as_bytes() {
        b"true" => Some(Value::Bool(true)),
        b"false" => Some(Value::Bool(false)),
        [b'\'' | b'"', ..] => quoted(text),
        [b'[', inner @ .., b']'] => {
            let inner = std::str::from_utf8(inner).ok()?;
            let items: Vec<Value> =
                elements(inner)?.into_iter().map(variant).collect::<Option<_>>()?;
            let of = items.first()?.signature();
            items.iter().all(|i| i.signature() == of).then_some(Value::Array(of, items))
        }
        _ if text.contains(['.', 'e']) => text.parse().ok().map(Value::F64),
        _ => text.parse().ok().map(Value::I32),
    }
}

fn quoted(text: &str) -> Option<Value> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            c if c == quote => return None,
            c => out.push(c),
        }
    }
    Some(Value::Str(out))
}

/// The parts of a list between commas that stand in no quotes.
fn elements(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quote, mut escaped) = (Vec::new(), 0, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    quote.is_none().then_some(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const V1: &str =
        "30 24 0:26 / /sys/fs/cgroup/a rw - cgroup cgroup rw,memory,cpu,cpuset,blkio\n";

    fn check(mounts: &str, resources: Json, expected: &[(&str, Value)]) {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let host = Host::parse(mounts, "0::/\n");
        let found = of_resources(&host, &resources, false).unwrap();
        let expected: Vec<Property> =
            expected.iter().map(|(name, value)| property(name, value.clone())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn limits_have_the_names_of_their_version() {
        let memory = json!({"memory": {"limit": 10, "swap": 30, "reservation": 5}});
        check(V1, memory.clone(), &[("MemoryLimit", Value::U64(10))]);
        check(
            V2,
            memory,
            &[
                ("MemoryMax", Value::U64(10)),
                ("MemoryLow", Value::U64(5)),
                ("MemorySwapMax", Value::U64(20)),
            ],
        );
        let shares = json!({"cpu": {"shares": 1024}, "pids": {"limit": -1}});
        check(
            V1,
            shares.clone(),
            &[("CPUShares", Value::U64(1024)), ("TasksMax", Value::U64(u64::MAX))],
        );
        check(V2, shares, &[("CPUWeight", Value::U64(100)), ("TasksMax", Value::U64(u64::MAX))]);
        let bits = |list: &[u8]| {
            Value::Array("y".to_owned(), list.iter().map(|b| Value::Byte(*b)).collect())
        };
        check(V2, json!({"cpu": {"cpus": "0-2,9"}}), &[("AllowedCPUs", bits(&[7, 2]))]);
        check(
            V1,
            json!({"cpu": {"cpus": "0"}, "blockIO": {"weight": 50}}),
            &[("BlockIOWeight", Value::U64(50))],
        );
    }

    #[test]
    fn quotas_are_whole_percents() {
        for (quota, period, expected) in
            [(50_000, 100_000, 500_000), (1001, 100_000, 20_000), (-1, 50_000, u64::MAX)]
        {
            check(
                V2,
                json!({"cpu": {"quota": quota, "period": period}}),
                &[
                    ("CPUQuotaPerSecUSec", Value::U64(expected)),
                    ("CPUQuotaPeriodUSec", Value::U64(period)),
                ],
            );
        }
    }

    #[test]
    fn files_of_v2_have_properties() {
        check(
            V2,
            json!({"unified": {"memory.high": "7", "pids.max": " max\n", "cpu.max": "max 1000", "hugetlb.2MB.max": "0"}}),
            &[
                ("CPUQuotaPerSecUSec", Value::U64(u64::MAX)),
                ("CPUQuotaPeriodUSec", Value::U64(1000)),
                ("MemoryHigh", Value::U64(7)),
                ("TasksMax", Value::U64(u64::MAX)),
            ],
        );
        let bad: Resources =
            serde_json::from_value(json!({"unified": {"memory.max": "many"}})).unwrap();
        assert!(of_resources(&Host::default(), &bad, false).is_err());
    }

    #[test]
    fn devices_by_node_and_by_kind() {
        let all = serde_json::from_value(json!({"devices": [{"allow": true}]})).unwrap();
        let auto = of_resources(&Host::default(), &all, true).unwrap();
        assert_eq!(auto, [property("DevicePolicy", Value::str("auto"))]);
        let rules = json!({"devices": [{"allow": false}, {"allow": true, "type": "b", "major": 8, "access": "r"}]});
        let strict = of_resources(&Host::default(), &serde_json::from_value(rules).unwrap(), true);
        let strict = strict.unwrap();
        let Value::Array(_, allowed) = &strict[1].1 else { panic!("{strict:?}") };
        let rule =
            |node: &str, access: &str| Value::Struct(vec![Value::str(node), Value::str(access)]);
        for expected in [rule("block-8", "r"), rule("char-*", "m"), rule("/dev/char/1:3", "rwm")] {
            assert!(allowed.contains(&expected), "{expected:?}: {allowed:?}");
        }
    }

    #[test]
    fn annotations() {
        let text = |t: &str| Value::str(t);
        for (name, given, expected) in [
            ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", Value::U64(5))),
            ("TimeoutStopSec", "7", ("TimeoutStopUSec", Value::U64(7_000_000))),
            ("TimeoutStopSec", "0.5", ("TimeoutStopUSec", Value::U64(500_000))),
            ("CollectMode", "'inactive-or-failed'", ("CollectMode", text("inactive-or-failed"))),
            ("DefaultDependencies", "true", ("DefaultDependencies", Value::Bool(true))),
            (
                "After",
                r#"['a.service', "b,'.service"]"#,
                (
                    "After",
                    Value::Array("s".to_owned(), vec![text("a.service"), text("b,'.service")]),
                ),
            ),
        ] {
            let key = format!("{ANNOTATION}{name}");
            let found = of_annotation(&key, given).unwrap().unwrap();
            assert_eq!(found, property(expected.0, expected.1), "{key}");
        }
        for (name, given) in [
            ("A", "text"),
            ("A", "'open"),
            ("A", "[1, 'a']"),
            ("A", "[]"),
            ("A", ""),
            ("A", "uint32 -1"),
            ("A b", "1"),
            ("TimeoutSec", "'x'"),
        ] {
            assert!(of_annotation(&format!("{ANNOTATION}{name}"), given).is_err(), "{given}");
        }
        assert_eq!(of_annotation("io.other", "x").unwrap(), None);
    }
}
