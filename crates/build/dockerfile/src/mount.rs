//! `RUN --mount`: types, options, and which go together.

use crate::{
    ast::Device,
    csv,
    error::{Error, Problem},
    expand, go,
    source::{Lines, Word},
    suggest,
};

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that stays between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret, as a file or variable.
    Secret,
    /// The socket of an agent for keys.
    Ssh,
}

/// Names of types.
const TYPES: &[(&str, MountType)] = &[
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

impl MountType {
    /// Its name.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How builds at the same time share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All write to one.
    Shared,
    /// Each has one of its own.
    Private,
    /// One after another.
    Locked,
}

const SHARINGS: &[(&str, Sharing)] =
    &[("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

/// A mount of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountType,
    /// A stage, image or named context; empty means the context.
    pub from: String,
    /// Which part of it; of secrets, their ID.
    pub source: String,
    /// Where, relative to the working directory.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Name of the cache, secret or agent; empty means the target.
    pub id: String,
    /// Said of caches only.
    pub sharing: Option<Sharing>,
    /// Whether the build fails without the secret or agent.
    pub required: bool,
    /// Bytes that memory may take; 0 means no bound.
    pub size: u64,
    /// Permissions of what is made.
    pub mode: Option<u32>,
    /// Owner of what is made.
    pub uid: Option<u32>,
    /// Group of what is made.
    pub gid: Option<u32>,
    /// The variable that a secret is given in.
    pub env: Option<String>,
}

impl Mount {
    /// The cache's name.
    pub fn cache_id(&self) -> &str {
        if self.id.is_empty() { &self.target } else { &self.id }
    }

    /// The secret's name: its ID, its source, or the last part of its target.
    pub fn secret_id(&self) -> &str {
        let base = || self.target.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match (self.source.as_str(), self.id.as_str()) {
            ("", "") => base(),
            ("", id) => id,
            (source, _) => source,
        }
    }
}

/// Keys that need a value, for suggestions.
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Expands the value of an option.
pub type Expander<'a> = &'a mut dyn FnMut(&str) -> Result<String, expand::Error>;

/// Reads the value of a `--mount`. Without `expand` only `from` is looked at, which may hold no
/// variables; all else may, and is nothing then.
pub fn parse(value: &Word, lines: Lines, mut expand: Option<Expander<'_>>) -> Result<Mount, Error> {
    let error = |problem: Problem| Error::new(problem, lines).at(value.span);
    let fields = csv::fields(&value.text).map_err(|why| error(Problem::Csv("mounts", why)))?;
    let mut mount = Mount::default();
    let mut read_only = None;
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let value = match (value, &mut expand) {
            (Some(value), Some(expand)) => Some(expand(value).map_err(|why| error(why.into()))?),
            (Some(value), None) if key == "from" => {
                if value.split_once('$').is_some_and(|(_, behind)| !behind.is_empty()) {
                    return Err(error(Problem::MountFromVariable));
                }
                Some(value.to_owned())
            }
            (_, None) => continue,
            (None, Some(_)) => None,
        };
        option(&mut mount, &mut read_only, field, &key, value).map_err(error)?;
    }
    let writable = matches!(mount.kind, MountType::Cache | MountType::Tmpfs);
    mount.read_only = read_only.unwrap_or(!writable);
    check(&mount).map_err(error)?;
    Ok(mount)
}

fn option(
    mount: &mut Mount,
    read_only: &mut Option<bool>,
    field: &str,
    key: &str,
    value: Option<String>,
) -> Result<(), Problem> {
    let secret = matches!(mount.kind, MountType::Secret | MountType::Ssh);
    let wrong_type = || Problem::KeyForType(key.to_owned(), mount.kind.name());
    let Some(value) = value else {
        match key {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" if secret => mount.required = true,
            "required" => return Err(wrong_type()),
            _ => return Err(Problem::Field(field.to_owned())),
        }
        return Ok(());
    };
    let wrong_value = || Problem::KeyValue(key.to_owned(), value.clone());
    let boolean = || go::boolean(&value).ok_or_else(wrong_value);
    let number = |name, radix| {
        u32::from_str_radix(&value, radix)
            .ok()
            .filter(|_| !value.starts_with('+'))
            .ok_or_else(|| Problem::KeyNumber(name, value.clone()))
            .map(Some)
    };
    match key {
        "type" => {
            mount.kind = named(TYPES, &value, |name, near| Problem::MountType { name, near })?;
        }
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "readonly" | "ro" => *read_only = Some(boolean()?),
        "readwrite" | "rw" => *read_only = Some(!boolean()?),
        "required" if secret => mount.required = boolean()?,
        "size" if mount.kind == MountType::Tmpfs => {
            mount.size = go::bytes(&value).ok_or_else(wrong_value)?;
        }
        "required" | "size" => return Err(wrong_type()),
        "id" => mount.id = value,
        "sharing" => {
            let sharing = named(SHARINGS, &value, |name, near| Problem::Sharing { name, near })?;
            mount.sharing = Some(sharing);
        }
        "mode" => mount.mode = number("mode", 8)?,
        "uid" => mount.uid = number("uid", 10)?,
        "gid" => mount.gid = number("gid", 10)?,
        "env" => mount.env = Some(value),
        _ => {
            let near = suggest::nearest(key, KEYS.iter().copied());
            return Err(Problem::Key { key: key.to_owned(), field: field.to_owned(), near });
        }
    }
    Ok(())
}

fn named<T: Copy>(
    table: &'static [(&'static str, T)],
    value: &str,
    problem: fn(String, Option<&'static str>) -> Problem,
) -> Result<T, Problem> {
    let lower = value.to_lowercase();
    let found = table.iter().find(|(name, _)| *name == lower).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let near = suggest::nearest(value, table.iter().map(|(name, _)| *name));
        problem(value.to_owned(), near)
    })
}

/// Options that exclude each other.
fn check(mount: &Mount) -> Result<(), Problem> {
    let owned = matches!(mount.kind, MountType::Secret | MountType::Ssh | MountType::Cache);
    for (name, given) in
        [("mode", mount.mode.is_some()), ("uid", mount.uid.is_some()), ("gid", mount.gid.is_some())]
    {
        if given && !owned {
            return Err(Problem::NotForMount(name, mount.kind.name()));
        }
    }
    if mount.kind == MountType::Secret {
        if !mount.from.is_empty() {
            return Err(Problem::SecretFrom);
        }
        if mount.sharing.is_some() {
            return Err(Problem::SecretSharing);
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(Problem::SecretNothing);
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Problem::SecretSourceAndId);
        }
    }
    if mount.sharing.is_some() && mount.kind != MountType::Cache {
        return Err(Problem::SharingForType(mount.kind.name()));
    }
    Ok(())
}

/// Reads the value of a `--device`.
pub(crate) fn device(value: &Word, lines: Lines) -> Result<Device, Error> {
    let error = |problem: Problem| Error::new(problem, lines).at(value.span);
    let fields = csv::fields(&value.text).map_err(|why| error(Problem::Csv("devices", why)))?;
    let mut device = Device { name: String::new(), required: false };
    for field in &fields {
        match field.split_once('=').map(|(key, value)| (key.to_lowercase(), value)) {
            None if field.to_lowercase() == "required" => device.required = true,
            None if device.name.is_empty() => device.name = field.clone(),
            None => return Err(error(Problem::Field(field.clone()))),
            Some((key, value)) => match key.as_str() {
                "name" if !device.name.is_empty() => {
                    return Err(error(Problem::DeviceName(device.name)));
                }
                "name" => device.name = value.to_owned(),
                "required" => {
                    let wrong = || error(Problem::KeyValue(key.clone(), value.to_owned()));
                    device.required = go::boolean(value).ok_or_else(wrong)?;
                }
                _ if device.name.is_empty() => device.name = field.clone(),
                _ => {
                    let near = suggest::nearest(&key, ["name", "required"]);
                    return Err(error(Problem::Key { key, field: field.clone(), near }));
                }
            },
        }
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, String> {
        let mut plain = |value: &str| Ok(value.to_owned());
        parse(&text.into(), Lines::one(1), Some(&mut plain)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_of_every_type() {
        let bind = Mount {
            from: "a".into(),
            source: "/b".into(),
            target: "/c".into(),
            read_only: true,
            ..Mount::default()
        };
        assert_eq!(read("from=a,source=/b,target=/c"), Ok(bind.clone()));
        assert_eq!(
            read("type=bind,from=a,src=/b,dst=/c,rw"),
            Ok(Mount { read_only: false, ..bind })
        );
        let cache = read("type=cache,target=/c,id=x,sharing=LOCKED,uid=1,gid=2,mode=0750").unwrap();
        assert_eq!(cache.sharing, Some(Sharing::Locked));
        assert_eq!((cache.uid, cache.gid, cache.mode), (Some(1), Some(2), Some(0o750)));
        assert!(!cache.read_only && cache.cache_id() == "x");
        assert_eq!(read("type=tmpfs,target=/t,size=1.5k").unwrap().size, 1536);
        let secret = read("type=secret,id=s,required,env=S,target=/a/b").unwrap();
        assert!(secret.required && secret.env.as_deref() == Some("S"));
        assert_eq!(read("type=secret,target=/a/b").unwrap().secret_id(), "b");
        assert!(read("type=ssh,required=true,ro=false").unwrap().required);
    }

    #[test]
    fn errors_say_what_buildkit_says() {
        for (text, expected) in [
            ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
            (
                "type=cache,sharing=shred",
                "unsupported sharing value \"shred\" (did you mean shared?)",
            ),
            ("tpye=bind", "unexpected key 'tpye' in 'tpye=bind' (did you mean type?)"),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=secret,id=a,sharing=private", "secret mount should not define sharing"),
            ("sharing=private", "invalid cache sharing set for bind mount"),
            ("", "failed to parse csv mounts: EOF"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn before_expansion_only_from_is_read() {
        let read = |text: &str| parse(&text.into(), Lines::one(1), None);
        assert_eq!(read("type=$t,from=a,target=$x,foo").unwrap().from, "a");
        let error = read("from=$a").unwrap_err();
        assert_eq!(*error.problem, Problem::MountFromVariable);
        assert!(read("from=a$").is_ok());
    }

    #[test]
    fn devices() {
        let read = |text: &str| device(&text.into(), Lines::one(1)).map_err(|e| e.to_string());
        let named = |name: &str, required| Ok(Device { name: name.into(), required });
        assert_eq!(read("vendor.com/class=all"), named("vendor.com/class=all", false));
        assert_eq!(read("name=gpu,required"), named("gpu", true));
        assert_eq!(read("gpu,required=0"), named("gpu", false));
        assert_eq!(read("gpu,name=x").unwrap_err(), "device name already set to gpu");
        assert_eq!(
            read("gpu,requird=1").unwrap_err(),
            "unexpected key 'requird' in 'requird=1' (did you mean required?)"
        );
    }
}
