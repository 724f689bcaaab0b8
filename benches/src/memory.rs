//! What stays beside a detached container, and what it costs.

use std::{fs, path::PathBuf};

use hako_tests::{command, image, install::Hako};
use serde_json::json;

use crate::{
    peers::{self, Podman},
    report::Table,
};

/// Private memory and PSS when the process has come to rest: the smallest of some seconds.
fn at_rest(pid: u32) -> Result<(u64, u64), String> {
    let mut least = private_kb(pid)?;
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        least = least.min(private_kb(pid)?);
    }
    Ok(least)
}

/// Private memory, as the kernel accounts it.
fn private_kb(pid: u32) -> Result<(u64, u64), String> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    Ok((sum(&["Private_Clean:", "Private_Dirty:"]), sum(&["Pss:"])))
}

fn parent(pid: u32) -> Result<u32, String> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    line.and_then(|pid| pid.trim().parse().ok()).ok_or_else(|| "no PPid".to_owned())
}

/// The process beside a detached container: ours, and podman's conmon.
pub(crate) fn run() -> Result<Table, String> {
    let mut table = Table::new(&["", "private", "PSS", "program"]);
    let mut add = |name: &str, init: u32| -> Result<(), String> {
        let monitor = parent(init)?;
        let (private, shared) = at_rest(monitor)?;
        let program = fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap_or_default();
        table.row(
            vec![
                name.to_owned(),
                format!("{private} KB"),
                format!("{shared} KB"),
                program.trim().to_owned(),
            ],
            json!({"name": name, "private_kb": private, "pss_kb": shared}),
        );
        Ok(())
    };
    let pid = |text: &str| text.trim().parse::<u32>().map_err(|error| format!("{text:?}: {error}"));

    if peers::ours("HAKO_BIN").is_none() {
        return Err("HAKO_BIN names no program".to_owned());
    }
    let hako = Hako::with_busybox();
    let words =
        ["run", "-d", "--name", "box", "--network", "none", "busybox:test", "sleep", "1000"];
    peers::prepare(&mut hako.command(&words))?;
    add(
        "hako",
        pid(&peers::prepare(&mut hako.command(&["inspect", "-f", "{{.State.Pid}}", "box"]))?)?,
    )?;

    if let Some(podman) = Podman::find() {
        let archive = image::busybox_archive().to_string_lossy().into_owned();
        peers::prepare(&mut podman.command(&["load", "-i", &archive]))?;
        peers::prepare(&mut podman.command(&[&["run", "--pull", "never"], &words[1..]].concat()))?;
        add(
            "podman",
            pid(&peers::prepare(&mut podman.command(&[
                "inspect",
                "-f",
                "{{.State.Pid}}",
                "box",
            ]))?)?,
        )?;
        let removed = command::run(&mut podman.command(&["rm", "-f", "-t", "0", "box"]));
        if removed.code != 0 {
            return Err(removed.to_string());
        }
    }
    Ok(table)
}
