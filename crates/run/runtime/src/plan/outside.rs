//! What the caller's side of a container's making needs: network devices, Intel RDT.

use hako_oci::runtime::{IntelRdt, Linux};

use crate::{Error, Result};

/// A network device that moves into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetDevice {
    pub(crate) name: String,
    /// Its name in the container; `%d` is a number that the kernel finds.
    pub(crate) inside: String,
    pub(crate) field: String,
}

/// What `linux.intelRdt` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RdtRequest {
    /// The class of service; one of the container's own, named `id`, where absent.
    pub(crate) clos: Option<String>,
    pub(crate) id: String,
    /// What is written to `schemata`, one write each.
    pub(crate) schemata: Vec<String>,
    /// Whether it has a monitoring group.
    pub(crate) monitor: bool,
}

/// `linux.netDevices`.
pub(crate) fn net_devices(linux: &Linux, privileged: bool) -> Result<Vec<NetDevice>> {
    let mut devices: Vec<NetDevice> = Vec::new();
    for (name, device) in &linux.net_devices {
        let field = format!("linux.netDevices[{name:?}]");
        if !privileged {
            return Err(Error::config(field, "network devices cannot be moved without privileges"));
        }
        check_name(&field, name, false)?;
        let inside = match device.name.as_deref() {
            None | Some("") => name.clone(),
            Some(inside) => {
                check_name(&format!("{field}.name"), inside, true)?;
                inside.to_owned()
            }
        };
        if !inside.contains('%') && devices.iter().any(|d| d.inside == inside) {
            return Err(Error::config(
                format!("{field}.name"),
                format!("two devices cannot both be {inside} in the container"),
            ));
        }
        devices.push(NetDevice { name: name.clone(), inside, field });
    }
    Ok(devices)
}

/// What the kernel takes for the name of a network device (`dev_valid_name`), or with a `%d`.
fn check_name(field: &str, name: &str, template: bool) -> Result<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let plain = match template {
        true => name.replacen("%d", "", 1),
        false => name.to_owned(),
    };
    if name.is_empty()
        || name.len() > 15
        || matches!(name, "." | "..")
        || name.contains(bad)
        || plain.contains('%')
    {
        return Err(Error::config(field, format!("{name:?} is not a valid network device name")));
    }
    Ok(())
}

/// `linux.intelRdt`.
pub(crate) fn intel_rdt(rdt: &IntelRdt, id: &str) -> Result<RdtRequest> {
    let field = |name: &str| format!("linux.intelRdt.{name}");
    let clos = match rdt.clos_id.as_deref() {
        None | Some("") => None,
        // The default class, which is the file system's root.
        Some("/") => Some(String::new()),
        Some(clos) => {
            let reserved = matches!(clos, "." | ".." | "info" | "mon_groups" | "mon_data");
            if reserved || clos.contains(['/', '\n', '\0']) {
                return Err(Error::config(field("closID"), format!("{clos:?} names no class")));
            }
            Some(clos.to_owned())
        }
    };
    let l3 = rdt.l3_cache_schema.as_deref().unwrap_or_default();
    let mb = rdt.mem_bw_schema.as_deref().unwrap_or_default();
    if !mb.is_empty() && (!mb.starts_with("MB:") || mb.contains('\n')) {
        return Err(Error::config(
            field("memBwSchema"),
            "is not one line that begins with \"MB:\"",
        ));
    }
    let mut lines: Vec<&str> = l3.lines().filter(|line| !line.trim().is_empty()).collect();
    if !mb.is_empty() {
        lines.retain(|line| !line.trim_start().starts_with("MB:"));
        lines.push(mb);
    }
    if let Some(i) = rdt.schemata.iter().position(|line| line.contains('\n') || line.is_empty()) {
        return Err(Error::config(field(&format!("schemata[{i}]")), "is not one line"));
    }
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let listed: Vec<&str> = rdt.schemata.iter().map(String::as_str).collect();
    let schemata = [text(&lines), text(&listed)].into_iter().filter(|t| !t.is_empty()).collect();
    Ok(RdtRequest { clos, id: id.to_owned(), schemata, monitor: rdt.enable_monitoring })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn devices(value: Value) -> Result<Vec<NetDevice>> {
        let linux: Linux = serde_json::from_value(json!({"netDevices": value})).unwrap();
        net_devices(&linux, true)
    }

    #[test]
    fn device_names_are_the_kernels() {
        let one = devices(json!({"eth0": {"name": "lan%d"}, "eth1": {}})).unwrap();
        let names: Vec<(&str, &str)> = one.iter().map(|d| (&*d.name, &*d.inside)).collect();
        assert_eq!(names, [("eth0", "lan%d"), ("eth1", "eth1")]);
        for bad in [
            json!({"": {}}),
            json!({"..": {}}),
            json!({"a/b": {}}),
            json!({"a b": {}}),
            json!({"a:1": {}}),
            json!({"eth%d": {}}),
            json!({"sixteen-letters!": {}}),
            json!({"eth0": {"name": "x%d%d"}}),
            json!({"eth0": {"name": "x%s"}}),
            json!({"eth0": {"name": "eth1"}, "eth1": {}}),
        ] {
            assert!(devices(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn schemata_are_combined() {
        let rdt = |value: Value| intel_rdt(&serde_json::from_value(value).unwrap(), "c1");
        let combined = rdt(json!({
            "l3CacheSchema": "L3:0=f\nMB:0=1", "memBwSchema": "MB:0=2", "schemata": ["L2:0=1", "MB:0=3"]
        }));
        assert_eq!(combined.unwrap().schemata, ["L3:0=f\nMB:0=2\n", "L2:0=1\nMB:0=3\n"]);
        let alone = rdt(json!({"l3CacheSchema": "L3:0=f\nMB:0=1"})).unwrap();
        assert_eq!(alone.schemata, ["L3:0=f\nMB:0=1\n"]);
        assert_eq!(rdt(json!({"closID": "/"})).unwrap().clos.as_deref(), Some(""));
        for bad in [
            json!({"closID": ".."}),
            json!({"closID": "a/b"}),
            json!({"closID": "info"}),
            json!({"memBwSchema": "L3:0=1"}),
            json!({"memBwSchema": "MB:0=1\nL3:0=1"}),
            json!({"schemata": ["L3:0=1\nL3:1=1"]}),
        ] {
            assert!(rdt(bad.clone()).is_err(), "{bad}");
        }
    }
}
