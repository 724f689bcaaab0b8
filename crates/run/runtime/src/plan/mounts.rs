//! `mounts` and the root filesystem.

use std::ffi::{CStr, CString};
use std::path::Path;

use hako_oci::runtime::Mount;
use hako_sys::mount::{Propagation, attr};

use super::builder::{c_string, clean, place, target};
use super::idmap::{self, IdMap, Ranges};
use super::mount_options::{Meaning, meaning};
use crate::op::{MountOp, NewFs, OPTIONS_SIZE, Param, Source, Target};
use crate::{Error, Result};

/// A mount, and what the parent has to prepare for it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) op: MountOp,
    /// An ID-mapped mount.
    pub(crate) id_map: Option<IdMap>,
    /// Its maps by crun's option, where they are not in `id_map`.
    pub(crate) ranges: Option<Ranges>,
}

/// The longest value that fsconfig(2) takes, without its NUL.
const FSCONFIG_VALUE_MAX: usize = 255;

/// File systems that have nothing on a disk: a read-only mount of them needs no read-only superblock.
const PSEUDO: &[&str] = &[
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "overlay",
    "ramfs",
    "bpf",
    "debugfs",
    "tracefs",
    "securityfs",
    "binfmt_misc",
];

/// The SELinux context of a new file system's inodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    /// The mount option that takes it.
    pub(crate) option: &'static str,
    pub(crate) context: &'a str,
}

/// Parses one mount. `label` is for a file system that is made for it.
/// What a mount in a container that runs already comes to; its source is the caller's.
pub(crate) fn for_running(field: &str, mount: &Mount, bundle: &Path) -> Result<Planned> {
    check_proc(field, mount)?;
    parse(field, mount, bundle, None)
}

/// What is mounted there becomes read-only.
pub(crate) fn readonly(target: Target) -> MountOp {
    MountOp {
        target,
        source: Source::Remount,
        set: attr::RDONLY,
        clear: 0,
        set_all: 0,
        clear_all: 0,
        propagation: Vec::new(),
        copy_up: false,
    }
}

/// What one mount comes to.
pub(crate) fn parse(
    field: &str,
    mount: &Mount,
    bundle: &Path,
    label: Option<Label<'_>>,
) -> Result<Planned> {
    if mount.destination.is_empty() {
        return Err(Error::config(format!("{field}.destination"), "is empty"));
    }
    let mut op = MountOp {
        target: target(&format!("{field}.destination"), &mount.destination)?,
        source: Source::Remount,
        set: 0,
        clear: 0,
        set_all: 0,
        clear_all: 0,
        propagation: Vec::new(),
        copy_up: false,
    };
    let kind = mount.kind.as_deref().unwrap_or("none");
    let (mut bind, mut remount, mut id_map) = (None, false, None);
    let (mut no_follow, mut copy_symlink) = (false, false);
    let (mut params, mut ranges) = (Vec::new(), None);
    for (i, entry) in mount.options.iter().enumerate() {
        let option_field = || format!("{field}.options[{i}]");
        // Paths of layers may hold commas.
        let words =
            if matches!(kind, "overlay" | "erofs") { vec![entry.clone()] } else { split(entry) };
        for word in words {
            if let Some((name @ ("idmap" | "ridmap"), maps)) = word.split_once('=') {
                id_map = Some(name == "ridmap");
                ranges = Some(idmap::parse(&option_field(), maps)?);
                continue;
            }
            match meaning(&word) {
                Some(Meaning::Attr { set, clear }) => {
                    op.clear |= clear;
                    op.set = op.set & !clear | set;
                }
                Some(Meaning::AttrAll { set, clear }) => {
                    op.clear_all |= clear;
                    op.set_all = op.set_all & !clear | set;
                }
                Some(Meaning::Propagation(p, all)) => op.propagation.push((p, all)),
                Some(Meaning::Bind(recursive)) => bind = Some(bind.unwrap_or(false) | recursive),
                Some(Meaning::Remount) => remount = true,
                Some(Meaning::Superblock) => {
                    params.push(Param::Flag(c_string(&option_field(), &word)?));
                }
                Some(Meaning::CopyUp) => op.copy_up = true,
                Some(Meaning::IdMap(recursive)) => id_map = Some(recursive),
                Some(Meaning::SourceNoFollow) => no_follow = true,
                Some(Meaning::TargetNoFollow) => op.target.no_follow = true,
                Some(Meaning::CopySymlink) => copy_symlink = true,
                Some(Meaning::Nothing) => {}
                None if word.is_empty() => {}
                None => params.push(parameter(&option_field(), &word)?),
            }
        }
    }
    // runc and crun take the type as well as the option.
    if kind == "bind" && bind.is_none() {
        bind = Some(false);
    }
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if mapped && mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return Err(Error::config(field, "uidMappings and gidMappings go together"));
    }
    if let Some(recursive) = bind {
        if op.copy_up {
            return Err(Error::config(format!("{field}.options"), "tmpcopyup needs a tmpfs"));
        }
        let source = mount.source.as_deref().unwrap_or_default();
        if source.is_empty() && !remount {
            return Err(Error::config(format!("{field}.source"), "a bind mount needs a source"));
        }
        op.source = Source::Bind {
            path: absolute(&format!("{field}.source"), bundle, source)?,
            recursive,
            no_follow: no_follow || copy_symlink,
            prepared: None,
            copy_symlink: match copy_symlink {
                true => Some(Box::new(place(&format!("{field}.destination"), &mount.destination)?)),
                false => None,
            },
        };
        if remount {
            op.source = Source::Remount;
        }
    } else if remount {
        op.source = Source::Remount;
    } else {
        if kind == "none" || kind.is_empty() {
            return Err(Error::config(
                format!("{field}.type"),
                "is missing, and it is no bind mount",
            ));
        }
        if op.copy_up && kind != "tmpfs" {
            return Err(Error::config(format!("{field}.options"), "tmpcopyup needs a tmpfs"));
        }
        op.source =
            Source::New(new_fs(field, kind, mount.source.as_deref(), params, op.set, label)?);
    }
    let id_map = match (id_map, mapped) {
        (None, false) => None,
        (recursive, _) if bind.is_some() => Some(IdMap {
            uids: mount.uid_mappings.clone(),
            gids: mount.gid_mappings.clone(),
            recursive: recursive.unwrap_or(false),
        }),
        _ => return Err(Error::config(field, "ID-mapped mounts are bind mounts")),
    };
    if mapped && ranges.is_some() {
        return Err(Error::config(field, "has its maps twice: in idmap= and in uidMappings"));
    }
    Ok(Planned { op, id_map, ranges })
}

fn new_fs(
    field: &str,
    kind: &str,
    source: Option<&str>,
    mut params: Vec<Param>,
    set: u64,
    label: Option<Label<'_>>,
) -> Result<NewFs> {
    let is =
        |p: &Param, key: &str| matches!(p, Param::String(k, _) if k.to_bytes() == key.as_bytes());
    let mut lower = Vec::new();
    params.retain(|p| match p {
        Param::String(key, value) if key.as_bytes() == b"lowerdir+" => {
            lower.push(value.clone());
            false
        }
        _ => true,
    });
    let mut label_of_root = None;
    if let Some(label) = label {
        let context = c_string("linux.mountLabel", label.context)?;
        // The kernel made it together with the IPC namespace, and takes no context for it any more.
        if kind == "mqueue" {
            label_of_root = Some(context);
        } else if matches!(kind, "tmpfs" | "devpts" | "ramfs" | "overlay")
            && !params.iter().any(|p| is(p, label.option))
        {
            params.push(Param::String(c_string("annotations", label.option)?, context));
        }
    }
    if set & attr::RDONLY != 0 && !PSEUDO.contains(&kind) {
        params.push(Param::Flag(c"ro".into()));
    }
    let mut legacy = legacy_data(&params, &lower);
    let mut base = None;
    if kind == "overlay" && (are_too_long(&params, &lower) || legacy.len() >= OPTIONS_SIZE) {
        base = shorten(&mut params, &mut lower);
        legacy = legacy_data(&params, &lower);
    }
    let by_mount = are_too_long(&params, &lower);
    let by_descriptor = legacy.len() >= OPTIONS_SIZE && !lower.is_empty();
    if by_descriptor {
        legacy = legacy_data(&params, &[]);
    }
    Ok(NewFs {
        kind: c_string(&format!("{field}.type"), kind)?,
        source: match source {
            Some(source) if !source.is_empty() => c_string(&format!("{field}.source"), source)?,
            _ => c_string(field, kind)?,
        },
        mode_of_target: kind == "tmpfs" && !params.iter().any(|p| is(p, "mode")),
        params,
        lower_is_target: lower.iter().any(|lower| lower.as_bytes() == b"."),
        lower,
        legacy: c_string(field, &legacy)?,
        by_descriptor,
        by_mount,
        base,
        label: label_of_root,
    })
}

/// Of `/proc/PID/root/PATH`, what another process sees as `/PATH`: the file of its mount namespace,
/// and that path. The kernel copies no mount of another mount namespace.
pub(crate) fn of_process(path: &CStr) -> Option<(CString, CString)> {
    let text = path.to_str().ok()?.strip_prefix("/proc/")?;
    let (pid, rest) = text.split_once("/root/")?;
    pid.parse::<u32>().ok()?;
    let c_string = |text: String| CString::new(text).ok();
    Some((c_string(format!("/proc/{pid}/ns/mnt"))?, c_string(format!("/{rest}"))?))
}

/// Whether fsconfig(2) would refuse a value for its length.
fn are_too_long(params: &[Param], lower: &[CString]) -> bool {
    let too_long = |v: &CString| v.as_bytes().len() > FSCONFIG_VALUE_MAX;
    params.iter().any(|p| matches!(p, Param::String(_, v) if too_long(v)))
        || lower.iter().any(too_long)
}

/// Makes the directories of an overlay relative to the one that all of them are in, and gives that.
/// Nothing is changed where there is none.
fn shorten(params: &mut [Param], lower: &mut [CString]) -> Option<CString> {
    let mut paths: Vec<&mut CString> = lower.iter_mut().collect();
    for param in params {
        if let Param::String(key, value) = param
            && matches!(key.as_bytes(), b"upperdir" | b"workdir")
        {
            paths.push(value);
        }
    }
    // A backslash is an escape in some of these values and itself in others: then they stay.
    if paths
        .iter()
        .any(|path| !path.as_bytes().starts_with(b"/") || path.as_bytes().contains(&b'\\'))
    {
        return None;
    }
    let first = paths.first()?.as_bytes();
    let is_common = |end: &usize| {
        first[*end] == b'/' && paths.iter().all(|path| path.as_bytes().starts_with(&first[..=*end]))
    };
    let end = (1..first.len()).rev().find(is_common)?;
    let base = CString::new(&first[..end]).ok()?;
    for path in paths {
        // A part of a string without NUL has none.
        *path = CString::new(&path.as_bytes()[end + 1..]).ok()?;
    }
    Some(base)
}

/// The data string of mount(2), for kernels without `lowerdir+` and for long values.
fn legacy_data(params: &[Param], lower: &[CString]) -> String {
    let mut words: Vec<String> = params
        .iter()
        .map(|p| match p {
            Param::Flag(key) => key.to_string_lossy().into_owned(),
            Param::String(key, value) => {
                format!("{}={}", key.to_string_lossy(), value.to_string_lossy().replace(',', "\\,"))
            }
        })
        .collect();
    if !lower.is_empty() {
        let escape = |p: &CString| {
            p.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
        };
        words.push(format!("lowerdir={}", lower.iter().map(escape).collect::<Vec<_>>().join(":")));
    }
    words.join(",")
}

fn parameter(field: &str, word: &str) -> Result<Param> {
    Ok(match word.split_once('=') {
        Some((key, value)) => {
            Param::String(c_string(field, key)?, c_string(field, value.trim_matches('"'))?)
        }
        None => Param::Flag(c_string(field, word)?),
    })
}

/// Splits at commas that are neither escaped nor in quotes.
fn split(entry: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in entry.chars() {
        match c {
            _ if escaped => {
                if c != ',' {
                    word.push('\\');
                }
                word.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    if escaped {
        word.push('\\');
    }
    words.push(word);
    words
}

/// The path on the host, relative ones from the bundle.
pub(crate) fn absolute(field: &str, bundle: &Path, path: &str) -> Result<CString> {
    let joined = bundle.join(path);
    let text = joined.to_str().ok_or_else(|| Error::config(field, "is not valid UTF-8"))?;
    c_string(field, text)
}

/// `linux.rootfsPropagation`.
pub(crate) fn propagation(word: &str) -> Result<(Propagation, bool)> {
    match meaning(word) {
        Some(Meaning::Propagation(p, _)) => Ok((p, true)),
        _ => Err(Error::config(
            "linux.rootfsPropagation",
            format!("{word:?} is not shared, slave, private or unbindable"),
        )),
    }
}

/// Whether the destination is exactly this directory.
pub(crate) fn is_at(mount: &Mount, path: &str) -> bool {
    clean(&mount.destination) == clean(path)
}

/// Whether it is a bind mount.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Sub-paths of /proc that may be covered: what LXCFS and checkpointing tools bind there.
const PROC_ALLOWED: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Refuses mounts that would make /proc or /sys lie to the runtime (CVE-2019-16884).
pub(crate) fn check_proc(field: &str, mount: &Mount) -> Result<()> {
    let names = clean(&mount.destination);
    let kind = mount.kind.as_deref().unwrap_or_default();
    if names.first() != Some(&"proc") {
        return Ok(());
    }
    if names.len() == 1 {
        // A bind of a real procfs is checked when it is made.
        if kind == "proc" || is_bind(mount) {
            return Ok(());
        }
        return Err(Error::config(field, "only a proc file system can be mounted at /proc"));
    }
    if PROC_ALLOWED.contains(&names[1..].join("/").as_str()) {
        return Ok(());
    }
    Err(Error::config(
        field,
        format!("{:?} cannot be mounted: it is inside /proc", mount.destination),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/m".into(),
            kind: Some(kind.into()),
            source: Some(source.into()),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Mount::default()
        }
    }

    fn plan(m: &Mount) -> Result<MountOp> {
        parse("mounts[0]", m, Path::new("/bundle"), None).map(|p| p.op)
    }

    #[test]
    fn words_become_attributes_the_last_one_counts() {
        for (options, set, clear) in [
            (&["ro", "nosuid"][..], attr::RDONLY | attr::NOSUID, attr::RDONLY | attr::NOSUID),
            (&["ro", "rw"], 0, attr::RDONLY),
            (&["noatime", "strictatime"], attr::STRICTATIME, attr::ATIME),
        ] {
            let op = plan(&mount("tmpfs", "tmpfs", options)).unwrap();
            assert_eq!((op.set, op.clear), (set, clear), "{options:?}");
        }
        let op = plan(&mount("none", "/x", &["rbind", "rro", "rslave"])).unwrap();
        assert_eq!((op.set_all, op.clear_all), (attr::RDONLY, attr::RDONLY));
        assert_eq!(op.propagation, [(Propagation::Slave, true)]);
    }

    #[test]
    fn what_is_shown_is_what_is_mounted() {
        for (m, shown) in [
            (
                mount("tmpfs", "shm", &["size=1k,mode=1777", "nodev"]),
                "tmpfs size=1k mode=1777 on /m",
            ),
            (mount("bind", "sub", &["ro"]), "bind /bundle/sub on /m"),
            (mount("", "/x", &["rbind"]), "rbind /x on /m"),
            (mount("tmpfs", "t", &["context=\"a:b,c\""]), "tmpfs context=a:b,c on /m"),
        ] {
            assert_eq!(plan(&m).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn overlays_keep_their_commas_and_their_order() {
        let op = plan(&mount(
            "overlay",
            "overlay",
            &["lowerdir+=/a,1", "lowerdir+=/b:2", "upperdir=/u"],
        ))
        .unwrap();
        let Source::New(fs) = op.source else { panic!() };
        assert_eq!(fs.lower, [CString::from(c"/a,1"), CString::from(c"/b:2")]);
        assert!(!fs.lower_is_target);
        assert_eq!(fs.legacy.to_str().unwrap(), "upperdir=/u,lowerdir=/a\\,1:/b\\:2");
    }

    #[test]
    fn long_overlays_are_relative_to_what_they_have_in_common() {
        let root = format!("/{}", "d".repeat(300));
        let layers: Vec<String> =
            (0..60).map(|n| format!("lowerdir+={root}/layers/{n:064}/fs")).collect();
        let mut options: Vec<&str> = layers.iter().map(String::as_str).collect();
        let (upper, work) = (format!("upperdir={root}/a/fs"), format!("workdir={root}/a/work"));
        options.extend([upper.as_str(), work.as_str()]);
        let op = plan(&mount("overlay", "overlay", &options)).unwrap();
        let Source::New(fs) = op.source else { panic!() };
        assert_eq!(fs.base.unwrap().to_str().unwrap(), root);
        assert!(!fs.by_mount);
        assert_eq!(fs.lower[1].to_str().unwrap(), format!("layers/{:064}/fs", 1));
        // Sixty of them are too much for one page all the same.
        assert_eq!(fs.legacy.to_str().unwrap(), "upperdir=a/fs,workdir=a/work");
        assert!(fs.by_descriptor);

        // Nothing in common but the root, which would only take a slash away.
        let apart = [format!("lowerdir+={root}"), "lowerdir+=/b".to_owned()];
        let apart: Vec<&str> = apart.iter().map(String::as_str).collect();
        let op = plan(&mount("overlay", "overlay", &apart)).unwrap();
        let Source::New(fs) = op.source else { panic!() };
        assert!(fs.by_mount && fs.base.is_none());
    }

    #[test]
    fn an_overlay_may_lie_over_what_its_target_is() {
        let op = plan(&mount("overlay", "overlay", &["lowerdir+=.", "upperdir=/u"])).unwrap();
        let Source::New(fs) = op.source else { panic!() };
        assert!(fs.lower_is_target);
        assert_eq!(fs.legacy.to_str().unwrap(), "upperdir=/u,lowerdir=.");
        let op = plan(&mount("erofs", "/i", &["ro", "device=/a,b"])).unwrap();
        assert_eq!(op.to_string(), "erofs device=/a,b ro on /m");
    }

    #[test]
    fn nonsense_is_refused() {
        for m in [
            mount("", "", &[]),
            mount("bind", "", &[]),
            mount("bind", "/x", &["tmpcopyup"]),
            mount("sysfs", "sysfs", &["tmpcopyup"]),
            mount("tmpfs", "x", &["idmap"]),
            mount("tm\0pfs", "x", &[]),
        ] {
            assert!(plan(&m).is_err(), "{m:?}");
        }
    }

    #[test]
    fn only_procfs_covers_proc() {
        let at = |kind: &str, destination: &str| Mount {
            destination: destination.into(),
            ..mount(kind, "/x", &[])
        };
        for good in [
            at("proc", "/proc"),
            at("bind", "/proc"),
            at("bind", "/proc/cpuinfo"),
            at("tmpfs", "/procx"),
        ] {
            assert!(check_proc("m", &good).is_ok(), "{good:?}");
        }
        for bad in [
            at("tmpfs", "/proc"),
            at("tmpfs", "/proc/"),
            at("tmpfs", "//proc/self"),
            at("bind", "/x/../proc/1/attr"),
        ] {
            assert!(check_proc("m", &bad).is_err(), "{bad:?}");
        }
    }
}
