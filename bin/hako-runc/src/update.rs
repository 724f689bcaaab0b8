//! `update`: limits of a running container, each by its own flag, or all as a document.

use std::io::Read;

use hako_oci::runtime::Resources;
use hako_runtime::{Changes, Container};

use crate::args::Parsed;
use crate::{Context, Failure, Outcome, quantity};

/// More than any list of limits needs; standard input is whatever it is.
const DOCUMENT_MAX: u64 = 4 << 20;

/// `update`.
pub(crate) fn update(context: &Context, parsed: &Parsed) -> Outcome {
    let container = Container::load(&context.root, parsed.id("update")?)?;
    let changes = Changes {
        resources: match parsed.get("resources") {
            Some(path) => document(path)?,
            None => flags(context, parsed)?,
        },
        l3_cache_schema: parsed.text("l3-cache-schema").map(str::to_owned),
        mem_bw_schema: parsed.text("mem-bw-schema").map(str::to_owned),
    };
    for warning in container.update(&changes)? {
        context.log.warn(&warning);
    }
    Ok(0)
}

fn document(path: &str) -> Result<Resources, Failure> {
    let mut text = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().take(DOCUMENT_MAX).read_to_end(&mut text),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(DOCUMENT_MAX).read_to_end(&mut text)),
    };
    read.map_err(|e| format!("read resources from {path}: {e}"))?;
    // As runc: the first document counts, what follows it does not.
    let mut documents = serde_json::Deserializer::from_slice(&text).into_iter::<Resources>();
    match documents.next() {
        Some(Ok(resources)) => Ok(resources),
        Some(Err(e)) => Err(format!("resources from {path}: {e}").into()),
        None => Err(format!("resources from {path}: EOF").into()),
    }
}

fn flags(context: &Context, parsed: &Parsed) -> Result<Resources, Failure> {
    let mut r = Resources::default();
    let memory = r.memory.get_or_insert_default();
    for (flag, field) in [
        ("memory", &mut memory.limit),
        ("memory-swap", &mut memory.swap),
        ("memory-reservation", &mut memory.reservation),
    ] {
        let value = parsed.text(flag).map(quantity::bytes).transpose();
        *field = value.map_err(|why| format!("invalid value for {flag}: {why}"))?;
    }
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if parsed.text(flag).is_some() {
            context.log.warn(&format!("Setting --{flag} is ignored and will be removed"));
        }
    }
    let cpu = r.cpu.get_or_insert_default();
    cpu.shares = number(parsed, "cpu-share")?;
    cpu.period = number(parsed, "cpu-period")?;
    cpu.quota = number(parsed, "cpu-quota")?;
    cpu.burst = number(parsed, "cpu-burst")?;
    cpu.realtime_period = number(parsed, "cpu-rt-period")?;
    cpu.realtime_runtime = number(parsed, "cpu-rt-runtime")?;
    cpu.idle = number(parsed, "cpu-idle")?;
    cpu.cpus = parsed.text("cpuset-cpus").map(str::to_owned);
    cpu.mems = parsed.text("cpuset-mems").map(str::to_owned);
    r.block_io.get_or_insert_default().weight = number(parsed, "blkio-weight")?;
    r.pids.get_or_insert_default().limit = number(parsed, "pids-limit")?;
    Ok(r)
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    parsed: &Parsed,
    flag: &str,
) -> Result<Option<T>, String> {
    let value = parsed.text(flag).map(|v| (v, v.parse()));
    match value {
        None => Ok(None),
        Some((_, Ok(number))) => Ok(Some(number)),
        Some((text, Err(e))) => Err(format!("invalid value for {flag}: {text:?}: {e}")),
    }
}
