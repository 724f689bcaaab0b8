//! What the machine and its user say about registries, in the files that Docker, podman and
//! containerd read. Nothing is read before it is needed.
//!
//! | file | says | module |
//! |---|---|---|
//! | docker's `config.json`, containers' `auth.json` | credentials | [`credentials`], [`keychain`] |
//! | `registries.conf` (version 2) | mirrors, other locations, short names | [`registries`] |
//! | `certs.d/<host>/hosts.toml`, `*.crt`, `*.cert` | mirrors, certificates | [`hosts`] |
//! | `HTTPS_PROXY` and its kin | proxies | [`proxy`] |

pub(crate) mod credentials;
pub(crate) mod hosts;
pub(crate) mod keychain;
pub(crate) mod proxy;
pub(crate) mod registries;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Error, Result};
use proxy::Proxies;

/// A configuration file longer than this is none.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long nothing may come before a connection counts as broken.
const STALL_SECONDS: u64 = 60;

/// Where configuration is, and what the environment says.
#[derive(Debug, Clone)]
pub struct Config {
    /// Files with credentials; the first that knows a registry counts.
    pub auth_files: Vec<PathBuf>,
    /// The one of them that `login` writes.
    pub login_file: Option<PathBuf>,
    /// `registries.conf`; the first that exists counts, with the directory `.d` beside it.
    pub registries_files: Vec<PathBuf>,
    /// Directories with one directory for each registry.
    pub certs_dirs: Vec<PathBuf>,
    /// How long nothing may come before a connection counts as broken.
    pub stall: Duration,
    pub(crate) proxies: Proxies,
}

impl Config {
    /// The configuration that this process's environment means.
    pub fn from_env() -> Result<Config> {
        Config::of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The same with other proxies, where there are any: for `http` and for `https`, as the
    /// environment would have them; an empty one means none.
    pub fn with_proxies(mut self, http: Option<&str>, https: Option<&str>) -> Result<Config> {
        self.proxies = self.proxies.with(http, https)?;
        Ok(self)
    }

    fn of(var: &dyn Fn(&str) -> Option<String>) -> Result<Config> {
        let home = var("HOME").map(PathBuf::from);
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let user = var("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| in_home(".config"));
        let in_user = |path: &str| user.as_ref().map(|dir| dir.join(path));
        let docker = var("DOCKER_CONFIG").map(PathBuf::from).or_else(|| in_home(".docker"));
        let docker = docker.map(|dir| dir.join("config.json"));
        let chosen = var("REGISTRY_AUTH_FILE").map(PathBuf::from);
        let runtime = match var("XDG_RUNTIME_DIR") {
            Some(dir) => Some(Path::new(&dir).join("containers/auth.json")),
            None => Some(PathBuf::from("/run/containers/0/auth.json")),
        };
        let auth_files = [
            chosen.clone(),
            docker.clone(),
            runtime,
            in_user("containers/auth.json"),
            in_home(".dockercfg"),
        ];
        let registries_files = match var("CONTAINERS_REGISTRIES_CONF") {
            Some(file) => vec![file.into()],
            None => [in_user("containers/registries.conf")]
                .into_iter()
                .flatten()
                .chain(["/etc/containers/registries.conf".into()])
                .collect(),
        };
        let certs_dirs =
            ["hako", "containers", "docker"].map(|who| in_user(&format!("{who}/certs.d")));
        let system = ["/etc/hako", "/etc/containerd", "/etc/containers", "/etc/docker"];
        let system = system.iter().map(|dir| Path::new(dir).join("certs.d"));
        let seconds = match var("HAKO_REGISTRY_TIMEOUT") {
            None => STALL_SECONDS,
            Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| Error::Config {
                path: "HAKO_REGISTRY_TIMEOUT".into(),
                why: format!("{text:?} is no number of seconds"),
            })?,
        };
        Ok(Config {
            auth_files: auth_files.into_iter().flatten().collect(),
            login_file: chosen.or(docker),
            registries_files,
            certs_dirs: certs_dirs.into_iter().flatten().chain(system).collect(),
            stall: Duration::from_secs(seconds),
            proxies: Proxies::of(var)?,
        })
    }
}

/// A configuration file's text; `None` where there is no such file, or it may not be read.
fn read(path: &Path) -> Result<Option<String>> {
    use std::io::Read;
    let failed = |e: io::Error| Error::Config { path: path.into(), why: e.to_string() };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) => {
            return match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                // Another user's, as /run/containers/0 for all but root.
                io::ErrorKind::PermissionDenied => Ok(None),
                _ => Err(failed(e)),
            };
        }
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 == FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(text))
}

/// The files of a directory that end so, in order.
fn files_in(dir: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let failed = |e: io::Error| Error::Config { path: dir.into(), why: e.to_string() };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            return match e.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::PermissionDenied => Ok(Vec::new()),
                _ => Err(failed(e)),
            };
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| Error::Config { path: path.into(), why: e.to_string() })
}
