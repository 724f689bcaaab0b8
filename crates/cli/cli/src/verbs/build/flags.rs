//! The flags of `build`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use hako_dockerfile::call::Call;
use hako_engine::{
    build::{Network, Request},
    options::files::parse_extra_host,
};
use hako_oci::{Platform, Reference};

use crate::{
    flag::{Completes, Flag, Group},
    verbs::image::platform,
};

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Output {
    /// Line by line.
    #[default]
    Plain,
    /// Nothing but the image's ID.
    Quiet,
}

#[derive(Default)]
pub(super) struct Build {
    pub(super) file: Option<PathBuf>,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) pull: bool,
    pub(super) iidfile: Option<PathBuf>,
    pub(super) output: Output,
    pub(super) call: Call,
    names: Vec<Reference>,
    target: Option<String>,
    platform: Option<Platform>,
    labels: BTreeMap<String, String>,
    no_cache: bool,
    no_cache_stages: Vec<String>,
    network: Network,
    extra_hosts: Vec<hako_engine::options::ExtraHost>,
    secrets: BTreeMap<String, Vec<u8>>,
    ssh: BTreeMap<String, PathBuf>,
    allow: BTreeSet<String>,
    contexts: BTreeMap<String, PathBuf>,
    image_contexts: BTreeMap<String, Reference>,
    why: bool,
}

impl Build {
    /// What was asked for, without Dockerfile and context.
    pub(super) fn request(&self) -> Request {
        Request {
            dockerfile: Vec::new(),
            context: None,
            ignore: Vec::new(),
            contexts: self.contexts.clone(),
            image_contexts: self.image_contexts.clone(),
            build_args: self.build_args.clone(),
            target: self.target.clone(),
            platform: self.platform.clone().unwrap_or_else(Platform::host),
            names: self.names.clone(),
            labels: self.labels.clone(),
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_stages.clone(),
            network: self.network,
            extra_hosts: self.extra_hosts.clone(),
            secrets: self.secrets.clone(),
            ssh: self.ssh.clone(),
            allow: self.allow.clone(),
            epoch: None,
            why: self.why,
        }
    }
}

pub(super) const BUILD_FLAGS: &[Group<Build>] = &[
    Group {
        heading: "Options",
        flags: &[
            Flag::many("tag", Some('t'), "NAME[:TAG]", "Name the image", |o: &mut Build, v| {
                let name: Reference = v.parse().map_err(|e| format!("{e}"))?;
                if name.digest().is_some() {
                    return Err("a name with a digest cannot be given".into());
                }
                o.names.push(name);
                Ok(())
            }),
            Flag::one(
                "file",
                Some('f'),
                "PATH",
                "The Dockerfile (- reads stdin)",
                |o: &mut Build, v| {
                    o.file = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::many("build-arg", None, "NAME[=VALUE]", "Set an ARG", |o: &mut Build, v| {
                match v.split_once('=') {
                    Some((name, value)) => o.build_args.insert(name.into(), value.into()),
                    // Without a value it is the caller's, if there is one.
                    None => {
                        std::env::var(v).ok().and_then(|value| o.build_args.insert(v.into(), value))
                    }
                };
                Ok(())
            }),
            Flag::one(
                "target",
                None,
                "STAGE",
                "Build this stage, not the last",
                |o: &mut Build, v| {
                    o.target = Some(v.into());
                    Ok(())
                },
            ),
            Flag::one(
                "platform",
                None,
                "OS/ARCH",
                "Build for this platform",
                |o: &mut Build, v| {
                    o.platform = Some(platform(v)?);
                    Ok(())
                },
            ),
            Flag::many(
                "label",
                None,
                "KEY=VALUE",
                "Set a label of the image",
                |o: &mut Build, v| {
                    let (key, value) = v.split_once('=').unwrap_or((v, ""));
                    o.labels.insert(key.into(), value.into());
                    Ok(())
                },
            ),
            Flag::switch(
                "check",
                None,
                "Say what is odd about the Dockerfile, and build nothing",
                |o: &mut Build, v| {
                    o.call = if v == "true" { Call::CHECK } else { Call::default() };
                    Ok(())
                },
            ),
            Flag::one(
                "call",
                None,
                "METHOD",
                "build, check, outline or targets[,format=json]",
                |o: &mut Build, v| {
                    o.call = Call::parse(v).map_err(|error| error.to_string())?;
                    Ok(())
                },
            )
            .completes(Completes::Words(&["build", "check", "outline", "targets"])),
            Flag::switch(
                "pull",
                None,
                "Fetch base images even where they are here",
                |o: &mut Build, v| {
                    o.pull = v == "true";
                    Ok(())
                },
            ),
            Flag::one(
                "iidfile",
                None,
                "FILE",
                "Write the image's ID to a file",
                |o: &mut Build, v| {
                    o.iidfile = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::many(
                "build-context",
                None,
                "NAME=DIR",
                "Another directory, or docker-image://REF",
                |o: &mut Build, v| {
                    let (name, value) = v
                        .split_once('=')
                        .ok_or_else(|| format!("invalid context value: {v}, expected key=value"))?;
                    match value.strip_prefix("docker-image://") {
                        Some(image) => {
                            let image: Reference = image.parse().map_err(|e| format!("{e}"))?;
                            o.image_contexts.insert(name.into(), image.with_default_tag());
                        }
                        None if value.contains("://") => {
                            return Err(format!(
                                "contexts of this kind are not supported yet: {value}"
                            ));
                        }
                        None => drop(o.contexts.insert(name.into(), value.into())),
                    }
                    Ok(())
                },
            )
            .completes(Completes::Directory),
        ],
    },
    Group {
        heading: "Cache",
        flags: &[
            Flag::switch("no-cache", None, "Do every step again", |o: &mut Build, v| {
                o.no_cache = v == "true";
                Ok(())
            }),
            Flag::many(
                "no-cache-filter",
                None,
                "STAGE",
                "Do these stages again",
                |o: &mut Build, v| {
                    o.no_cache_stages.extend(v.split(',').map(str::to_owned));
                    Ok(())
                },
            ),
            Flag::switch("why", None, "Say of each step what has changed", |o: &mut Build, v| {
                o.why = v == "true";
                Ok(())
            }),
        ],
    },
    Group {
        heading: "Commands",
        flags: &[
            Flag::many(
                "secret",
                None,
                "id=ID[,src=FILE|env=NAME]",
                "A secret for RUN --mount=type=secret",
                |o: &mut Build, v| {
                    let (id, value) = secret(v)?;
                    o.secrets.insert(id, value);
                    Ok(())
                },
            ),
            Flag::many(
                "ssh",
                None,
                "ID[=SOCKET]",
                "An agent for RUN --mount=type=ssh",
                |o: &mut Build, v| {
                    let (id, socket) = match v.split_once('=') {
                    Some((id, socket)) => (id, PathBuf::from(socket)),
                    None => (
                        v,
                        std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).ok_or(
                            "SSH_AUTH_SOCK is not set: name the agent's socket, as default=SOCKET",
                        )?,
                    ),
                };
                    o.ssh.insert(id.into(), socket);
                    Ok(())
                },
            ),
            Flag::one(
                "network",
                None,
                "MODE",
                "Network of RUN: none, or host, which is the default",
                |o: &mut Build, v| {
                    o.network = match v {
                        "default" => Network::Default,
                        "none" => Network::None,
                        "host" => Network::Host,
                        _ => {
                            return Err(format!(
                                "network {v:?} is not known: default, none or host"
                            ));
                        }
                    };
                    Ok(())
                },
            )
            .completes(Completes::Words(&["default", "none", "host"])),
            Flag::many("add-host", None, "HOST:IP", "A line of /etc/hosts", |o: &mut Build, v| {
                o.extra_hosts.push(parse_extra_host(v).map_err(|e| e.to_string())?);
                Ok(())
            }),
            Flag::many(
                "allow",
                None,
                "ENTITLEMENT",
                "network.host or security.insecure",
                |o: &mut Build, v| {
                    if !["network.host", "security.insecure"].contains(&v) {
                        return Err(format!("unknown entitlement {v:?}"));
                    }
                    o.allow.insert(v.into());
                    Ok(())
                },
            )
            .completes(Completes::Words(&["network.host", "security.insecure"])),
        ],
    },
    Group {
        heading: "Output",
        flags: &[
            Flag::switch(
                "quiet",
                Some('q'),
                "Print the image's ID and nothing else",
                |o: &mut Build, v| {
                    o.output = if v == "true" { Output::Quiet } else { Output::Plain };
                    Ok(())
                },
            ),
            Flag::one("progress", None, "TYPE", "auto, plain or quiet", |o: &mut Build, v| {
                o.output = match v {
                    "auto" | "plain" => Output::Plain,
                    "quiet" => Output::Quiet,
                    _ => return Err(format!("progress {v:?} is not supported yet")),
                };
                Ok(())
            })
            .completes(Completes::Words(&["auto", "plain", "quiet"])),
        ],
    },
];

/// Reads `id=ID[,src=FILE][,env=NAME]`; without a source it is the variable or the file of that
/// name.
fn secret(text: &str) -> Result<(String, Vec<u8>), String> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field:?} must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "type" if matches!(value, "file" | "env") => {}
            "type" => return Err(format!("unsupported secret type {value:?}")),
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(PathBuf::from(value)),
            "env" => variable = Some(value.to_owned()),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let id = id.ok_or("a secret needs an id")?;
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let of_env = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let value = match (file, variable) {
        (Some(path), _) => read(&path)?,
        (None, Some(name)) => of_env(&name).ok_or_else(|| format!("variable {name} is not set"))?,
        (None, None) => match of_env(&id) {
            Some(value) => value,
            None => read(Path::new(&id))?,
        },
    };
    Ok((id, value))
}
