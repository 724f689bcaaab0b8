//! `-v`, `--mount`, `--tmpfs`: Docker's three grammars of mounts.
//!
//! ```text
//! -v       [SOURCE:]TARGET[:MODE[,MODE…]]     SOURCE: absolute or ./ path, or a volume's name
//! --mount  type=bind|volume|tmpfs,source=…,target=…,KEY[=VALUE],…     fields as of CSV
//! --tmpfs  TARGET[:OPTION[,OPTION…]]
//! ```

use std::path::{Path, PathBuf};

use crate::options::{Bind, BindRecursive, MountRequest, MountSource, Relabel, Tmpfs, VolumeRef};
use crate::path;
use crate::quantity;

/// A mount that cannot be made. Texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// A `-v` of no known form.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// A `-v` whose mode nobody knows.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// A `-v` that is well-formed and wrong.
    #[error("invalid volume specification: '{specification}': {source}")]
    Volume {
        /// As written.
        specification: String,
        /// What is wrong.
        source: Box<MountError>,
    },
    /// A `--mount` that is well-formed and wrong.
    #[error("invalid mount config for type {kind:?}: {source}")]
    Config {
        /// Type of the mount.
        kind: String,
        /// What is wrong.
        source: Box<MountError>,
    },
    /// A field of `--mount` without `=` that needs one.
    #[error("invalid field '{0}' must be a key=value pair")]
    Field(String),
    /// A quote that is not closed, or a closed one with something behind it.
    #[error("parse error in '{0}': bare or unclosed \"")]
    Quote(String),
    /// A field of `--mount` nobody knows.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key.
        key: String,
        /// The field.
        field: String,
    },
    /// A value of `--mount` that its key cannot have.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// `bind-recursive` with something else.
    #[error(
        "invalid value for bind-recursive: {0} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
    )]
    Recursive(String),
    /// `bind-recursive` without what it needs.
    #[error("option 'bind-recursive={value}' requires '{needs}' to be specified in conjunction")]
    RecursiveNeeds {
        /// The value.
        value: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// No target.
    #[error("target is required")]
    NoTarget,
    /// Options of one type with another type.
    #[error("cannot mix '{group}-*' options with mount type '{kind}'")]
    Mixed {
        /// Whose options.
        group: &'static str,
        /// Type of the mount.
        kind: String,
    },
    /// No such type.
    #[error("mount type unknown: {0:?}")]
    Type(String),
    /// A bind mount without a source.
    #[error("field Source must not be empty")]
    NoSource,
    /// A tmpfs with a source.
    #[error("field Source must not be specified")]
    TmpfsSource,
    /// A relative path.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// `/` as target.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// A NUL byte.
    #[error("invalid mount path: {0:?} contains a NUL byte")]
    Nul(String),
    /// A volume's name with other characters.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    /// A volume's subdirectory that would leave it.
    #[error("subpath must be a relative path within the volume")]
    Subpath,
    /// An option of a tmpfs that is none.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// Propagation nobody knows.
    #[error("invalid propagation mode: {0}")]
    Propagation(String),
    /// A source that is not there.
    #[error("bind source path does not exist: {}", .0.display())]
    SourceMissing(PathBuf),
    /// A source that cannot be made.
    #[error("error while creating mount source path '{}': {message}", path.display())]
    SourceCreate {
        /// The source.
        path: PathBuf,
        /// The kernel's answer.
        message: String,
    },
}

const PROPAGATIONS: &[&str] = &["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// Options that a tmpfs takes: mount attributes first, then the file system's own.
const TMPFS_FLAGS: &[&str] = &[
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "private",
    "unbindable",
    "shared",
    "slave",
    "rprivate",
    "runbindable",
    "rshared",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "defaults",
];
const TMPFS_KEYS: &[&str] =
    &["mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol", "huge"];

/// Reads a `-v`. A source that starts with `./` or is `.` is taken from `cwd`.
pub fn parse_volume(text: &str, cwd: &Path) -> Result<MountRequest, MountError> {
    let specification = || MountError::Specification(text.into());
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => (None, target, None),
        // A target and a mode: which volume would that be?
        [_, mode] if !mode.is_empty() && Mode::parse(mode).is_ok() => return Err(specification()),
        [source, target] => (Some(source), target, None),
        [source, target, mode] => (Some(source), target, Some(mode)),
        _ => return Err(specification()),
    };
    if source == Some("") || target.is_empty() {
        return Err(specification());
    }
    let mode = Mode::parse(mode.unwrap_or(""))?;
    let wrap = |source| MountError::Volume { specification: text.into(), source: Box::new(source) };
    let target = clean_target(target).map_err(wrap)?;
    let source = match source.map(|source| on_host(source, cwd)) {
        Some(path) if path.starts_with('/') => {
            if mode.nocopy.is_some() {
                return Err(MountError::Mode(parts[2].into()));
            }
            MountSource::Bind(Bind {
                path: clean_source(&path).map_err(wrap)?,
                create: true,
                propagation: mode.propagation,
                recursive: BindRecursive::Enabled,
                relabel: mode.relabel,
            })
        }
        named => {
            if mode.propagation.is_some() {
                return Err(MountError::Mode(parts[2].into()));
            }
            if let Some(name) = &named {
                check_volume_name(name)?;
            }
            MountSource::Volume(VolumeRef {
                name: named,
                nocopy: mode.nocopy.unwrap_or(false),
                ..VolumeRef::default()
            })
        }
    };
    Ok(MountRequest { target, source, readonly: mode.readonly })
}

/// The third part of a `-v`.
#[derive(Default)]
struct Mode {
    readonly: bool,
    propagation: Option<String>,
    relabel: Option<Relabel>,
    nocopy: Option<bool>,
}

impl Mode {
    /// Of each kind of word one at most.
    fn parse(text: &str) -> Result<Mode, MountError> {
        let mut mode = Mode::default();
        let (mut access, mut consistency) = (false, false);
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let fresh = match word {
                "rw" | "ro" => {
                    mode.readonly = word == "ro";
                    !std::mem::replace(&mut access, true)
                }
                "z" => mode.relabel.replace(Relabel::Shared).is_none(),
                "Z" => mode.relabel.replace(Relabel::Private).is_none(),
                "nocopy" => mode.nocopy.replace(true).is_none(),
                // Hints for virtual machines on other systems; nothing here, as in Docker.
                "consistent" | "cached" | "delegated" => !std::mem::replace(&mut consistency, true),
                word if PROPAGATIONS.contains(&word) => {
                    mode.propagation.replace(word.into()).is_none()
                }
                _ => false,
            };
            if !fresh {
                return Err(MountError::Mode(text.into()));
            }
        }
        Ok(mode)
    }
}

/// Reads a `--mount`. A source that starts with `./` or is `.` is taken from `cwd`.
pub fn parse_mount(text: &str, cwd: &Path) -> Result<MountRequest, MountError> {
    let mut fields = Fields { kind: "volume".into(), ..Fields::default() };
    for field in split_csv(text)? {
        fields.set(&field, cwd)?;
    }
    fields.finish()
}

/// What the fields of a `--mount` have said so far.
#[derive(Default)]
struct Fields {
    kind: String,
    source: String,
    target: String,
    readonly: bool,
    propagation: Option<String>,
    recursive: Option<BindRecursive>,
    /// Whether an option of the group was given.
    bind: bool,
    volume: Option<VolumeRef>,
    tmpfs: Option<Tmpfs>,
}

impl Fields {
    fn set(&mut self, field: &str, cwd: &Path) -> Result<(), MountError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let bad_value = |value: &str| MountError::Value { key: key.clone(), value: value.into() };
        let flag = || match value {
            None => Ok(true),
            Some(value) => parse_bool(value).ok_or_else(|| bad_value(value)),
        };
        // Flags may stand alone; everything else needs a value.
        match &*key {
            "readonly" | "ro" => {
                self.readonly = flag()?;
                return Ok(());
            }
            "volume-nocopy" => {
                self.volume().nocopy = flag()?;
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.bind = true;
                self.recursive =
                    Some(if flag()? { BindRecursive::Disabled } else { BindRecursive::Enabled });
                return Ok(());
            }
            _ => {}
        }
        let Some(value) = value else { return Err(MountError::Field(field.into())) };
        match &*key {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.source = on_host(value, cwd),
            "target" | "dst" | "destination" => self.target = value.into(),
            // A hint for virtual machines on other systems; nothing here, as in Docker.
            "consistency" => {}
            "bind-propagation" => {
                let word = value.to_ascii_lowercase();
                if !PROPAGATIONS.contains(&&*word) {
                    return Err(MountError::Propagation(value.into()));
                }
                self.bind = true;
                self.propagation = Some(word);
            }
            "bind-recursive" => {
                self.bind = true;
                self.recursive = Some(match value {
                    "enabled" => BindRecursive::Enabled,
                    "disabled" => BindRecursive::Disabled,
                    "writable" => BindRecursive::Writable,
                    "readonly" => BindRecursive::Readonly,
                    _ => return Err(MountError::Recursive(value.into())),
                });
            }
            "volume-subpath" => self.volume().subpath = Some(value.into()),
            "volume-driver" => self.volume().driver = Some(value.into()),
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume().labels.insert(name.into(), value.into());
            }
            "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume().driver_options.insert(name.into(), value.into());
            }
            "tmpfs-size" => {
                let bytes = quantity::parse_bytes(value).map_err(|_| bad_value(value))?;
                self.tmpfs().options.push(format!("size={bytes}"));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| bad_value(value))?;
                self.tmpfs().options.push(format!("mode={mode:o}"));
            }
            _ => return Err(MountError::Key { key, field: field.into() }),
        }
        Ok(())
    }

    fn volume(&mut self) -> &mut VolumeRef {
        self.volume.get_or_insert_default()
    }

    fn tmpfs(&mut self) -> &mut Tmpfs {
        self.tmpfs.get_or_insert_default()
    }

    fn finish(self) -> Result<MountRequest, MountError> {
        if self.target.is_empty() {
            return Err(MountError::NoTarget);
        }
        for (group, given) in [
            ("volume", self.volume.is_some()),
            ("bind", self.bind),
            ("tmpfs", self.tmpfs.is_some()),
        ] {
            if given && self.kind != group {
                return Err(MountError::Mixed { group, kind: self.kind });
            }
        }
        let wrap =
            |source| MountError::Config { kind: self.kind.clone(), source: Box::new(source) };
        let target = clean_target(&self.target).map_err(wrap)?;
        let source = match &*self.kind {
            "bind" => {
                if self.source.is_empty() {
                    return Err(wrap(MountError::NoSource));
                }
                let recursive = self.recursive.unwrap_or_default();
                check_recursive(recursive, self.readonly, self.propagation.as_deref())?;
                MountSource::Bind(Bind {
                    path: clean_source(&self.source).map_err(wrap)?,
                    create: false,
                    propagation: self.propagation.clone(),
                    recursive,
                    relabel: None,
                })
            }
            "volume" => {
                let mut volume = self.volume.clone().unwrap_or_default();
                if volume.subpath.as_deref().is_some_and(leaves) {
                    return Err(wrap(MountError::Subpath));
                }
                if !self.source.is_empty() {
                    check_volume_name(&self.source).map_err(wrap)?;
                    volume.name = Some(self.source.clone());
                }
                MountSource::Volume(volume)
            }
            "tmpfs" if !self.source.is_empty() => return Err(wrap(MountError::TmpfsSource)),
            "tmpfs" => MountSource::Tmpfs(self.tmpfs.clone().unwrap_or_default()),
            other => return Err(wrap(MountError::Type(other.into()))),
        };
        Ok(MountRequest { target, source, readonly: self.readonly })
    }
}

fn check_recursive(
    recursive: BindRecursive,
    readonly: bool,
    propagation: Option<&str>,
) -> Result<(), MountError> {
    let needs = |value, needs| Err(MountError::RecursiveNeeds { value, needs });
    match recursive {
        BindRecursive::Writable if !readonly => needs("writable", "readonly"),
        BindRecursive::Readonly if !readonly => needs("readonly", "readonly"),
        // A mount that comes in later would not be read-only.
        BindRecursive::Readonly if propagation != Some("rprivate") => {
            needs("readonly", "bind-propagation=rprivate")
        }
        _ => Ok(()),
    }
}

/// Reads a `--tmpfs`.
pub fn parse_tmpfs(text: &str) -> Result<MountRequest, MountError> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = clean_target(target)?;
    let options: Vec<String> =
        options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    for option in &options {
        let known = match option.split_once('=') {
            Some((key, value)) => TMPFS_KEYS.contains(&key) && !value.is_empty(),
            None => TMPFS_FLAGS.contains(&&**option),
        };
        if !known {
            return Err(MountError::TmpfsOption(option.clone()));
        }
    }
    let readonly =
        options.iter().rfind(|o| matches!(&***o, "ro" | "rw")).is_some_and(|o| o == "ro");
    Ok(MountRequest { target, source: MountSource::Tmpfs(Tmpfs { options }), readonly })
}

/// Makes the sources of bind mounts that may be made, and checks that the others are there.
pub fn ensure_sources(mounts: &[MountRequest]) -> Result<(), MountError> {
    for mount in mounts {
        let MountSource::Bind(bind) = &mount.source else { continue };
        match std::fs::metadata(&bind.path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && bind.create => {
                std::fs::create_dir_all(&bind.path).map_err(|e| MountError::SourceCreate {
                    path: bind.path.clone(),
                    message: e.to_string(),
                })?;
            }
            Err(_) => {
                return Err(MountError::Config {
                    kind: "bind".into(),
                    source: Box::new(MountError::SourceMissing(bind.path.clone())),
                });
            }
        }
    }
    Ok(())
}

fn clean_target(target: &str) -> Result<String, MountError> {
    if target.contains('\0') {
        return Err(MountError::Nul(target.into()));
    }
    if !target.starts_with('/') {
        return Err(MountError::Relative(target.into()));
    }
    match path::clean(target) {
        root if root == "/" => Err(MountError::Root),
        target => Ok(target),
    }
}

fn clean_source(source: &str) -> Result<PathBuf, MountError> {
    if source.contains('\0') {
        return Err(MountError::Nul(source.into()));
    }
    if !source.starts_with('/') {
        return Err(MountError::Relative(source.into()));
    }
    Ok(path::clean(source).into())
}

/// The source as written, or beneath `cwd` where it is a path relative to it.
fn on_host(source: &str, cwd: &Path) -> String {
    if source == "." || source.starts_with("./") || source == ".." || source.starts_with("../") {
        return path::clean(&format!("{}/{source}", cwd.display()));
    }
    source.into()
}

fn check_volume_name(name: &str) -> Result<(), MountError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && bytes.len() > 0 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        Ok(())
    } else {
        Err(MountError::VolumeName(name.into()))
    }
}

fn leaves(subpath: &str) -> bool {
    let cleaned = path::clean(subpath);
    cleaned.starts_with('/') || cleaned == ".." || cleaned.starts_with("../")
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The fields of one line of CSV: a field may be quoted, with `""` for a quote in it.
fn split_csv(text: &str) -> Result<Vec<String>, MountError> {
    let quote = || MountError::Quote(text.into());
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, behind) = quoted.split_once('"').ok_or_else(quote)?;
                field.push_str(part);
                match behind.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = behind;
                        break;
                    }
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(quote());
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(quote()),
        }
    }
}

#[cfg(test)]
mod tests;
