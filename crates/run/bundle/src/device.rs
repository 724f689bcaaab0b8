//! `--device` and `--device-cgroup-rule`, and the devices of the host.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hako_oci::runtime::{Device, DeviceCgroup};

use crate::options::{DeviceRequest, RunOptions};
use crate::path;

/// A device that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No host path, or too many parts.
    #[error("bad format for path: {0}")]
    Format(String),
    /// A mode with other letters than `rwm`.
    #[error("bad mode specified: {0}")]
    Mode(String),
    /// A relative path.
    #[error("{0} is not an absolute path")]
    Relative(String),
    /// A rule that is none.
    #[error("invalid device cgroup format '{0}'")]
    Rule(String),
    /// The host does not have it.
    #[error("error gathering device information while adding custom device {path:?}: {source}")]
    Gather {
        /// The path on the host.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path is something else.
    #[error(
        "error gathering device information while adding custom device {0:?}: not a device node"
    )]
    NotADevice(PathBuf),
}

/// A device of the host with what the container may do to it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostDevice {
    /// The device, at its path in the container.
    pub device: Device,
    /// Some of `rwm`.
    pub access: String,
}

/// Reads a `--device`.
pub fn parse(text: &str) -> Result<DeviceRequest, DeviceError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, container] => (host, container, "rwm"),
        [host, container, access] if is_access(access) => (host, container, access),
        [_, _, access] => return Err(DeviceError::Mode(access.into())),
        _ => return Err(DeviceError::Format(text.into())),
    };
    if host.is_empty() || text.contains('\0') {
        return Err(DeviceError::Format(text.into()));
    }
    let container = if container.is_empty() { host } else { container };
    for path in [host, container] {
        if !path.starts_with('/') {
            return Err(DeviceError::Relative(path.into()));
        }
    }
    Ok(DeviceRequest {
        host: path::clean(host).into(),
        container: path::clean(container).into(),
        access: access.into(),
    })
}

fn is_access(text: &str) -> bool {
    let once = |c: char| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
}

/// Reads a `--device-cgroup-rule`: `c 1:3 rwm`, with `*` for any number and `a` for any kind.
pub fn parse_rule(text: &str) -> Result<DeviceCgroup, DeviceError> {
    let rule = || {
        let mut words = text.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |word: &str| match word {
            "*" => Some(-1),
            _ if word.bytes().all(|b| b.is_ascii_digit()) => {
                word.parse::<u32>().ok().map(i64::from)
            }
            _ => None,
        };
        let valid = matches!(kind, "a" | "c" | "b")
            && (1..=3).contains(&access.len())
            && access.bytes().all(|b| b"rwm".contains(&b))
            && words.next().is_none();
        valid.then_some(DeviceCgroup {
            allow: true,
            kind: Some(kind.into()),
            major: Some(number(major)?),
            minor: Some(number(minor)?),
            access: Some(access.into()),
        })
    };
    rule().ok_or_else(|| DeviceError::Rule(text.into()))
}

/// Looks up the devices that `options` ask for: those of `--device`, and all where privileged.
pub fn gather(options: &RunOptions) -> Result<Vec<HostDevice>, DeviceError> {
    let mut devices = Vec::new();
    if options.privileged {
        let request =
            DeviceRequest { host: "/dev".into(), container: "/dev".into(), access: "rwm".into() };
        walk(Path::new("/dev"), &request, &mut devices)?;
    }
    for request in &options.devices {
        let fail = |source| DeviceError::Gather { path: request.host.clone(), source };
        // Links are followed at the path that the user wrote, and nowhere beneath it.
        let metadata = fs::metadata(&request.host).map_err(fail)?;
        if metadata.is_dir() {
            let host = fs::canonicalize(&request.host).map_err(fail)?;
            walk(&host, &DeviceRequest { host: host.clone(), ..request.clone() }, &mut devices)?;
        } else {
            let device = device(&metadata, &request.container)
                .ok_or_else(|| DeviceError::NotADevice(request.host.clone()))?;
            devices.push(HostDevice { device, access: request.access.clone() });
        }
    }
    Ok(devices)
}

/// Directories beneath /dev that hold no devices of the host, and what every container has anyway.
const NOT_DEVICES: &[&str] =
    &["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];

fn walk(
    dir: &Path,
    request: &DeviceRequest,
    devices: &mut Vec<HostDevice>,
) -> Result<(), DeviceError> {
    let fail = |source| DeviceError::Gather { path: dir.to_owned(), source };
    let mut entries =
        fs::read_dir(dir).map_err(fail)?.collect::<io::Result<Vec<_>>>().map_err(fail)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().to_str().is_some_and(|name| NOT_DEVICES.contains(&name)) {
            continue;
        }
        // Devices come and go; one that has just gone is none.
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path();
        if metadata.is_dir() {
            walk(&path, request, devices)?;
            continue;
        }
        let Ok(beneath) = path.strip_prefix(&request.host) else { continue };
        if let Some(device) = device(&metadata, &request.container.join(beneath)) {
            devices.push(HostDevice { device, access: request.access.clone() });
        }
    }
    Ok(())
}

fn device(metadata: &fs::Metadata, path: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(Device {
        kind: kind.into(),
        path: path.to_str()?.into(),
        major: Some(i64::from(rdev_major(metadata.rdev()))),
        minor: Some(i64::from(rdev_minor(metadata.rdev()))),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

// The kernel's encoding of device numbers as of stat(2).
fn rdev_major(rdev: u64) -> u32 {
    ((rdev >> 32) & 0xffff_f000) as u32 | ((rdev >> 8) & 0xfff) as u32
}

fn rdev_minor(rdev: u64) -> u32 {
    ((rdev >> 12) & 0xffff_ff00) as u32 | (rdev & 0xff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let ok = |host: &str, container: &str, access: &str| {
            Ok(DeviceRequest {
                host: host.into(),
                container: container.into(),
                access: access.into(),
            })
        };
        for (text, expected) in [
            ("/dev/fuse", ok("/dev/fuse", "/dev/fuse", "rwm")),
            ("/dev/fuse:/dev/x", ok("/dev/fuse", "/dev/x", "rwm")),
            ("/dev/fuse:r", ok("/dev/fuse", "/dev/fuse", "r")),
            ("/dev/fuse:/dev//x:mr", ok("/dev/fuse", "/dev/x", "mr")),
            ("/dev/fuse::r", ok("/dev/fuse", "/dev/fuse", "r")),
            ("", Err("bad format for path: ")),
            (":/dev/x", Err("bad format for path: :/dev/x")),
            ("/a:/b:r:w", Err("bad format for path: /a:/b:r:w")),
            ("/a:/b:x", Err("bad mode specified: x")),
            ("/a:/b:rr", Err("bad mode specified: rr")),
            ("/a:/b:", Err("bad mode specified: ")),
            ("fuse", Err("fuse is not an absolute path")),
            ("/a:b", Err("b is not an absolute path")),
        ] {
            assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn rules() {
        let rule = |kind: &str, major, minor, access: &str| {
            Some(DeviceCgroup {
                allow: true,
                kind: Some(kind.into()),
                major: Some(major),
                minor: Some(minor),
                access: Some(access.into()),
            })
        };
        for (text, expected) in [
            ("c 1:3 rwm", rule("c", 1, 3, "rwm")),
            ("a *:* r", rule("a", -1, -1, "r")),
            ("b 8:* mr", rule("b", 8, -1, "mr")),
            ("d 1:3 r", None),
            ("c 1:3", None),
            ("c 1 r", None),
            ("c 1:3 rx", None),
            ("c 1:3 rwmr", None),
            ("c 1:3 r x", None),
            ("c  1:3 r", None),
            ("c -1:3 r", None),
            ("c 99999999999:3 r", None),
            ("c :3 r", None),
            ("", None),
        ] {
            assert_eq!(parse_rule(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn device_numbers() {
        for (rdev, major, minor) in [(0x103, 1, 3), (0xae5, 10, 229), (0x1_0300_0000, 0, 0x10_3000)]
        {
            assert_eq!((rdev_major(rdev), rdev_minor(rdev)), (major, minor));
        }
    }

    #[test]
    fn devices_of_the_host() {
        let request = |path: &str| RunOptions {
            devices: vec![parse(path).unwrap()],
            ..RunOptions::default()
        };
        let devices = gather(&request("/dev/null:/dev/nothing:r")).unwrap();
        let [HostDevice { device, access }] = &devices[..] else { panic!("{devices:?}") };
        assert_eq!((&*device.kind, device.major, device.minor), ("c", Some(1), Some(3)));
        assert_eq!((&*device.path, &**access), ("/dev/nothing", "r"));

        let error = gather(&request("/dev/there-is-none")).unwrap_err().to_string();
        assert!(error.starts_with("error gathering device information"), "{error}");
        assert!(matches!(gather(&request("/proc/version")), Err(DeviceError::NotADevice(_))));

        let all = gather(&RunOptions { privileged: true, ..RunOptions::default() }).unwrap();
        assert!(all.iter().any(|d| d.device.path == "/dev/null"));
        assert!(all.iter().all(|d| !d.device.path.starts_with("/dev/pts")));
    }
}
