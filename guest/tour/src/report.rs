//! The report: what isolation this process sees, one section a subject.

use std::{fs, process::ExitCode};

use crate::{
    capability,
    cgroup::{self, Mode},
    page::Page,
    proc::{self, Status},
};

/// Set by hako for this image alone: `pid=4026531836,mnt=...`, the namespaces of the host.
const HOST_NAMESPACES: &str = "HAKO_HOST_NAMESPACES";

/// One section, which fails only where `/proc` does not answer.
type Section = fn(&mut Page) -> std::io::Result<()>;

const SECTIONS: &[(&str, Section)] = &[
    ("process", process),
    ("namespaces", namespaces),
    ("user", user),
    ("privileges", privileges),
    ("file system", file_system),
    ("cgroup", control_group),
    ("network", network),
    ("resource limits", resource_limits),
];

/// Prints all sections. A section that cannot be read says so, and the others follow.
pub(crate) fn print() -> ExitCode {
    let mut page = Page::new();
    page.line("hako tour: what this process sees from inside its container");
    for (title, section) in SECTIONS {
        page.section(title);
        if let Err(error) = section(&mut page) {
            page.line(&format!("cannot be told: {error}"));
        }
    }
    page.section("more");
    page.line("tools: sleep exec env ls cat id hostname ps mounts kill try ...  (tour --help)");
    match page.write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn process(page: &mut Page) -> std::io::Result<()> {
    let pid = std::process::id();
    let first = page.mark(pid == 1, if pid == 1 { "the first process" } else { "not the first" });
    page.row("pid", &format!("{pid}  {first} of its PID namespace"));
    let args: Vec<String> = std::env::args().collect();
    page.row("command", &args.join(" "));
    page.row("host name", fs::read_to_string("/proc/sys/kernel/hostname")?.trim());
    page.row("directory", &std::env::current_dir()?.display().to_string());
    page.row("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    Ok(())
}

fn namespaces(page: &mut Page) -> std::io::Result<()> {
    let host = std::env::var(HOST_NAMESPACES).unwrap_or_default();
    for (name, isolates) in proc::NAMESPACES {
        let ours = proc::namespace_id(name);
        let theirs = host_namespace(&host, name);
        let verdict = match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours == theirs => page.mark(false, "the host's"),
            (Some(_), Some(theirs)) => {
                format!("{}    host {theirs}", page.mark(true, "own       "))
            }
            (Some(_), None) => String::new(),
            (None, _) => page.mark(false, "not in this kernel"),
        };
        let id = ours.map_or_else(|| "-".to_owned(), |id| id.to_string());
        page.row(name, &format!("{id:12} {isolates:24} {verdict}"));
    }
    Ok(())
}

/// The host's namespace in `name=id,name=id`.
fn host_namespace(list: &str, name: &str) -> Option<u64> {
    list.split(',').find_map(|pair| pair.split_once('=').filter(|p| p.0 == name)?.1.parse().ok())
}

fn user(page: &mut Page) -> std::io::Result<()> {
    let status = Status::read()?;
    // Real, effective, saved and file system ids; the effective one decides.
    let effective = |field| status.get(field).and_then(|ids| ids.split_whitespace().nth(1));
    page.row("user", effective("Uid").unwrap_or("?"));
    page.row("group", effective("Gid").unwrap_or("?"));
    page.row("other groups", status.get("Groups").filter(|g| !g.is_empty()).unwrap_or("none"));
    for (label, file) in [("user map", "uid_map"), ("group map", "gid_map")] {
        let map = fs::read_to_string(format!("/proc/self/{file}"))?;
        page.row(label, &proc::id_map(&map).join(", "));
    }
    Ok(())
}

fn privileges(page: &mut Page) -> std::io::Result<()> {
    let status = Status::read()?;
    let sets = [
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("bounding", "CapBnd"),
        ("inheritable", "CapInh"),
        ("ambient", "CapAmb"),
    ];
    let mut before: Option<(u64, &str)> = None;
    for (label, field) in sets {
        let Some(mask) = status.mask(field) else { continue };
        let names = capability::names(mask);
        let text = match before {
            Some((same, as_label)) if same == mask && mask != 0 => format!("as {as_label}"),
            _ if names.is_empty() => "none".to_owned(),
            _ => format!("{} of {}: {}", names.len(), capability::count(), names.join(" ")),
        };
        page.row(label, &text);
        before = before.or(Some((mask, label)));
    }
    let no_new = status.get("NoNewPrivs") == Some("1");
    page.row("no new privs", if no_new { "yes: exec cannot gain privileges" } else { "no" });
    let filters = status.get("Seccomp_filters").unwrap_or("?");
    let seccomp = match status.get("Seccomp") {
        Some("0") => page.mark(false, "off: every system call is allowed"),
        Some("1") => "strict".to_owned(),
        Some("2") => format!("{}, {filters} in force", page.mark(true, "filter")),
        _ => "not in this kernel".to_owned(),
    };
    page.row("seccomp", &seccomp);
    if let Ok(label) = fs::read_to_string("/proc/self/attr/current") {
        page.row("label", label.trim_end_matches(['\0', '\n']));
    }
    Ok(())
}

fn file_system(page: &mut Page) -> std::io::Result<()> {
    let mounts = proc::mounts()?;
    let in_kernel = |point: &str| point.starts_with("/proc/") || point.starts_with("/sys/");
    let mut masked = Vec::new();
    let mut readonly = Vec::new();
    for mount in &mounts {
        let point = mount.point.as_str();
        let is_cgroup = mount.kind.starts_with("cgroup") || point == "/sys/fs/cgroup";
        if in_kernel(point) && mount.kind != "proc" && mount.kind != "sysfs" && !is_cgroup {
            masked.push(point);
        } else if in_kernel(point) && mount.is_readonly() && !is_cgroup {
            readonly.push(point);
        } else if !mount.kind.starts_with("cgroup") {
            let access = if mount.is_readonly() { "ro" } else { "rw" };
            page.row(point, &format!("{} {access}", mount.kind));
        }
    }
    let list = |paths: &[&str]| match paths {
        [] => "nothing".to_owned(),
        paths => paths.join(" "),
    };
    page.row("masked", &list(&masked));
    page.row("read-only", &list(&readonly));
    let mut devices: Vec<String> = fs::read_dir("/dev")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    devices.sort();
    page.row("/dev has", &devices.join(" "));
    Ok(())
}

fn control_group(page: &mut Page) -> std::io::Result<()> {
    let mounts = proc::mounts()?;
    let membership = fs::read_to_string("/proc/self/cgroup")?;
    let mode = Mode::of(&mounts);
    page.row("mode", mode.describe());
    let mut paths: Vec<&str> =
        membership.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    paths.sort_unstable();
    paths.dedup();
    page.row("path", &paths.join(" "));
    for (label, value) in cgroup::limits(&mounts, &membership) {
        page.row(label, &value);
    }
    Ok(())
}

fn network(page: &mut Page) -> std::io::Result<()> {
    let names = proc::interfaces(&fs::read_to_string("/proc/self/net/dev")?);
    page.row("interfaces", &if names.is_empty() { "none".to_owned() } else { names.join(" ") });
    // Both files are absent where the kernel or the namespace lacks the family.
    let v4 = fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    let mut addresses = proc::addresses_v4(&v4);
    addresses.extend(proc::addresses_v6(&v6).into_iter().map(|(name, a)| format!("{a} ({name})")));
    let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(" ") };
    page.row("addresses", &addresses);
    Ok(())
}

fn resource_limits(page: &mut Page) -> std::io::Result<()> {
    const SHOWN: &[(&str, &str)] = &[
        ("Max open files", "open files"),
        ("Max processes", "processes"),
        ("Max stack size", "stack"),
        ("Max core file size", "core file"),
        ("Max locked memory", "locked memory"),
        ("Max cpu time", "cpu time"),
    ];
    let limits = proc::limits(&fs::read_to_string("/proc/self/limits")?);
    for (name, label) in SHOWN {
        if let Some((_, soft, hard)) = limits.iter().find(|(n, ..)| n == name) {
            page.row(label, &format!("{soft} (hard {hard})"));
        }
    }
    let adjustment = fs::read_to_string("/proc/self/oom_score_adj")?;
    page.row("oom adjustment", adjustment.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hosts_namespaces_are_found_by_name() {
        let list = "pid=1,net=2";
        assert_eq!(super::host_namespace(list, "net"), Some(2));
        assert_eq!(super::host_namespace(list, "uts"), None);
        assert_eq!(super::host_namespace("", "net"), None);
        assert_eq!(super::host_namespace("net=x", "net"), None);
    }
}
