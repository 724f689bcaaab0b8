//! Parts of `linux` that become one step each: devices, sysctls, paths, policies; and hooks.

use std::collections::BTreeMap;
use std::ffi::CString;

use hako_oci::runtime::{Device, Hook, Linux, MemoryPolicy, Personality, Spec};
use hako_oci::state::{State, Status};
use hako_sys::fs::FileKind;
use hako_sys::namespace::Kind;
use hako_sys::process::StringArray;

use super::builder::{Builder, c_string, clean, number_list, place, target};
use super::namespaces::Namespaces;
use crate::op::{DeviceOp, HookOp, Op};
use crate::{Error, Result};

/// Devices that every container has (config-linux.md, "Default Devices").
const DEFAULT_DEVICES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has: in /dev, of this name, to there.
const DEFAULT_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Devices and links in /dev. Those of the configuration that cannot be made in a user namespace
/// (`bind`) are given to `prepare` first, with their field; who can make them says which they are.
pub(crate) fn devices(
    b: &mut Builder,
    linux: &Linux,
    bind: bool,
    mut prepare: impl FnMut(&DeviceOp, &str) -> Result<Option<usize>>,
) -> Result<()> {
    let configured = |path: &str| linux.devices.iter().any(|d| clean(&d.path) == clean(path));
    for (path, major, minor) in DEFAULT_DEVICES.iter().filter(|(path, ..)| !configured(path)) {
        let device = Device {
            kind: "c".into(),
            path: (*path).into(),
            major: Some(i64::from(*major)),
            minor: Some(i64::from(*minor)),
            file_mode: Some(0o666),
            ..Device::default()
        };
        b.push("linux.devices", Op::Device(Box::new(device_op("linux.devices", &device, bind)?)));
    }
    for (i, device) in linux.devices.iter().enumerate() {
        let field = format!("linux.devices[{i}]");
        let mut op = device_op(&field, device, bind)?;
        if op.bind {
            op.prepared = prepare(&op, &field)?;
        }
        b.push(field, Op::Device(Box::new(op)));
    }
    for (name, to) in DEFAULT_LINKS {
        b.push(
            "linux.devices",
            Op::Link {
                dir: target("linux.devices", "/dev")?,
                name: c_string("linux.devices", name)?,
                to: c_string("linux.devices", to)?,
                replace: false,
            },
        );
    }
    Ok(())
}

fn device_op(field: &str, device: &Device, bind: bool) -> Result<DeviceOp> {
    let kind = match device.kind.as_str() {
        "c" | "u" => FileKind::Char,
        "b" => FileKind::Block,
        "p" => FileKind::Fifo,
        other => {
            return Err(Error::config(
                format!("{field}.type"),
                format!("{other:?} is not c, u, b or p"),
            ));
        }
    };
    let number = |name: &str, value: Option<i64>| match (kind, value) {
        (FileKind::Fifo, None) => Ok(0),
        (_, Some(n)) => u32::try_from(n).map_err(|_| {
            Error::config(format!("{field}.{name}"), format!("{n} is no device number"))
        }),
        (_, None) => Err(Error::config(format!("{field}.{name}"), "is missing")),
    };
    if !device.path.starts_with('/') {
        return Err(Error::config(
            format!("{field}.path"),
            format!("{:?} is not absolute", device.path),
        ));
    }
    let place = place(&format!("{field}.path"), &device.path)?;
    if device.file_mode.is_some_and(|m| m & !0o17_7777 != 0) {
        return Err(Error::config(format!("{field}.fileMode"), "is no file mode"));
    }
    Ok(DeviceOp {
        dir: place.dir,
        name: place.name,
        path: c_string(&format!("{field}.path"), &format!("/{}", clean(&device.path).join("/")))?,
        kind,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        device: (number("major", device.major)?, number("minor", device.minor)?),
        owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
        bind: bind && kind != FileKind::Fifo,
        prepared: None,
    })
}

/// Sysctls that belong to an IPC namespace, by their path.
const IPC_SYSCTLS: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// `linux.sysctl`: only what belongs to a namespace that the container does not share.
pub(crate) fn sysctls(b: &mut Builder, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    for (key, value) in &linux.sysctl {
        let field = format!("linux.sysctl[{key:?}]");
        // Of `.` and `/`, whichever comes first separates; the other is part of a name.
        let path = match key.find(['.', '/']) {
            Some(at) if key.as_bytes()[at] == b'.' => key
                .chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    c => c,
                })
                .collect(),
            _ => key.clone(),
        };
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(Error::config(field, "is not the name of a kernel parameter"));
        }
        let needs = match path.as_str() {
            p if IPC_SYSCTLS.contains(&p) || p.starts_with("fs/mqueue/") => Kind::Ipc,
            p if p.starts_with("net/") => Kind::Network,
            "kernel/domainname" => Kind::Uts,
            "kernel/hostname" => {
                let why = "is not allowed as it conflicts with the OCI \"hostname\" field";
                return Err(Error::config(field, why));
            }
            p if p.starts_with("user/") => Kind::User,
            _ => {
                return Err(Error::config(field, "is not in a separate kernel namespace"));
            }
        };
        if !namespaces.has(needs) {
            return Err(Error::config(
                field,
                format!("needs a separate {} namespace", needs.info().word),
            ));
        }
        b.push(
            field.clone(),
            Op::ProcWrite {
                path: c_string(&field, &format!("sys/{path}"))?,
                value: c_string(&field, value)?,
                clamp: false,
            },
        );
    }
    Ok(())
}

/// Modes and flags of set_mempolicy(2).
const MEMORY_MODES: &[(&str, u32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
const MEMORY_FLAGS: &[(&str, u32)] = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// `linux.memoryPolicy`.
pub(crate) fn memory_policy(policy: &MemoryPolicy) -> Result<Op> {
    let find =
        |table: &[(&str, u32)], word: &str| table.iter().find(|(w, _)| *w == word).map(|(_, v)| *v);
    let mut mode = find(MEMORY_MODES, &policy.mode).ok_or_else(|| {
        Error::config("linux.memoryPolicy.mode", format!("unknown mode {:?}", policy.mode))
    })?;
    for (i, flag) in policy.flags.iter().enumerate() {
        mode |= find(MEMORY_FLAGS, flag).ok_or_else(|| {
            Error::config(
                format!("linux.memoryPolicy.flags[{i}]"),
                format!("unknown flag {flag:?}"),
            )
        })?;
    }
    let nodes = match policy.nodes.as_str() {
        "" => Vec::new(),
        list => number_list("linux.memoryPolicy.nodes", list, 1024)?,
    };
    Ok(Op::MemoryPolicy { mode, nodes })
}

/// The words of `linux.memoryPolicy`, as `features` prints them.
pub(crate) fn memory_words()
-> (impl Iterator<Item = &'static str>, impl Iterator<Item = &'static str>) {
    (MEMORY_MODES.iter().map(|(w, _)| *w), MEMORY_FLAGS.iter().map(|(w, _)| *w))
}

/// `linux.personality`.
pub(crate) fn personality(p: &Personality) -> Result<Op> {
    if !p.flags.is_empty() {
        return Err(Error::config("linux.personality.flags", "no flags are defined"));
    }
    match p.domain.as_str() {
        "LINUX" => Ok(Op::Personality(0)),
        "LINUX32" => Ok(Op::Personality(8)),
        other => Err(Error::config(
            "linux.personality.domain",
            format!("{other:?} is not LINUX or LINUX32"),
        )),
    }
}

/// The state that hooks read.
pub(crate) fn state(spec: &Spec, id: &str, bundle: &str, status: Status) -> State {
    let annotations: BTreeMap<String, String> = spec.annotations.clone();
    State {
        oci_version: spec.oci_version.clone(),
        id: id.to_owned(),
        status,
        pid: None,
        bundle: bundle.to_owned(),
        annotations,
    }
}

/// This process's environment: hooks that have none of their own inherit it, as from runc and crun.
fn inherited() -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt;
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let bytes = [name.into_vec(), value.into_vec()].join(&b'=');
        // What came through execve has no NUL.
        CString::new(bytes).ok()
    };
    std::env::vars_os().filter_map(entry).collect()
}

/// The hooks of one kind.
pub(crate) fn hook_ops(kind: &'static str, hooks: &[Hook], state: &State) -> Result<Vec<HookOp>> {
    let document =
        serde_json::to_vec(state).map_err(|e| Error::config("annotations", e.to_string()))?;
    // Everything but the closing brace; the process ID is known only when it runs.
    let before = document[..document.len() - 1].to_vec();
    let mut ops = Vec::new();
    for (index, hook) in hooks.iter().enumerate() {
        let field = format!("hooks.{kind}[{index}]");
        let strings = |name: &str, list: &[String]| {
            list.iter()
                .enumerate()
                .map(|(i, s)| c_string(&format!("{field}.{name}[{i}]"), s))
                .collect::<Result<Vec<_>>>()
        };
        let path = c_string(&format!("{field}.path"), &hook.path)?;
        let mut arguments = strings("args", &hook.args)?;
        if arguments.is_empty() {
            arguments.push(path.clone());
        }
        let of_process = kind == "startContainer" && hook.env.is_empty();
        let environment = match (of_process, hook.env.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => inherited(),
            (false, false) => strings("env", &hook.env)?,
        };
        ops.push(HookOp {
            kind,
            of_process,
            index,
            path,
            arguments: StringArray::new(arguments),
            environment: StringArray::new(environment),
            timeout: hook.timeout.map(|t| t as u64),
            state: [before.clone(), b",\"pid\":".to_vec(), b"}".to_vec()],
        });
    }
    Ok(ops)
}

/// Checks the hooks of one kind.
pub(crate) fn check_hooks(kind: &str, hooks: &[Hook]) -> Result<()> {
    for (i, hook) in hooks.iter().enumerate() {
        let field = |name: &str| format!("hooks.{kind}[{i}].{name}");
        if !hook.path.starts_with('/') {
            return Err(Error::config(field("path"), format!("{:?} is not absolute", hook.path)));
        }
        if hook.timeout.is_some_and(|t| t <= 0) {
            return Err(Error::config(field("timeout"), "must be greater than zero"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(kinds: &[Kind]) -> Namespaces {
        Namespaces { new: kinds.iter().fold(0, |f, k| f | k.flag()), joined: vec![] }
    }

    #[test]
    fn sysctls_only_of_own_namespaces() {
        let all = namespaces(&[Kind::Ipc, Kind::Network, Kind::Uts]);
        let check = |key: &str, ns: &Namespaces| {
            let linux =
                Linux { sysctl: [(key.to_owned(), "1".to_owned())].into(), ..Linux::default() };
            let mut b = Builder::default();
            sysctls(&mut b, &linux, ns).map(|()| b.steps[0].to_string())
        };
        for (key, shown) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward = 1"),
            ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding = 1"),
            ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding = 1"),
            ("kernel.shmmax", "/proc/sys/kernel/shmmax = 1"),
            ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max = 1"),
            ("kernel.domainname", "/proc/sys/kernel/domainname = 1"),
        ] {
            assert_eq!(check(key, &all).unwrap(), shown);
            assert!(check(key, &Namespaces::default()).is_err(), "{key} without a namespace");
        }
        for bad in [
            "kernel.panic",
            "kernel.hostname",
            "vm.swappiness",
            "net..x",
            "net/../kernel/panic",
            "",
            ".",
        ] {
            assert!(check(bad, &all).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_are_checked() {
        let device = |kind: &str, path: &str, major, minor| Device {
            kind: kind.into(),
            path: path.into(),
            major,
            minor,
            ..Device::default()
        };
        assert!(device_op("d", &device("p", "/dev/fifo", None, None), false).is_ok());
        let op = device_op("d", &device("c", "/dev/net/tun", Some(10), Some(200)), false).unwrap();
        assert_eq!((op.dir.to_string(), op.name.to_str().unwrap()), ("/dev/net".to_owned(), "tun"));
        for bad in [
            device("x", "/dev/x", Some(1), Some(1)),
            device("c", "dev/x", Some(1), Some(1)),
            device("c", "/", Some(1), Some(1)),
            device("c", "/dev/x", None, Some(1)),
            device("c", "/dev/x", Some(-1), Some(1)),
        ] {
            assert!(device_op("d", &bad, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn configured_devices_replace_default_ones() {
        let null = Device {
            kind: "c".into(),
            path: "/dev/null".into(),
            major: Some(1),
            minor: Some(3),
            ..Device::default()
        };
        let linux = Linux { devices: vec![null], ..Linux::default() };
        let mut b = Builder::default();
        devices(&mut b, &linux, false, |_, _| Ok(None)).unwrap();
        let nulls = b.steps.iter().filter(|s| s.to_string().contains("/dev/null")).count();
        assert_eq!(nulls, 1);
    }
}
