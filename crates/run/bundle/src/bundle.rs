//! The decision itself: image, options and facts become a [`Spec`].

use std::collections::BTreeMap;
use std::path::Path;

use hako_oci::image::ContainerConfig;
use hako_oci::runtime::{
    Capabilities, Linux, Namespace, Process, Resources, Root, Seccomp, Spec, User, VERSION,
};
use hako_seccomp::{Arch, Context, ProfileError, docker_default, docker_profile};
use hako_sys::signal;

use crate::capability;
use crate::defaults::{self, device_rule};
use crate::device::{self, DeviceError, HostDevice};
use crate::env;
use crate::facts::{Facts, Machine, Neighbour};
use crate::files;
use crate::limits::{self, LimitError};
use crate::mounts;
use crate::options::{
    CgroupnsMode, IpcMode, NamespaceMode, NetworkMode, RunOptions, SeccompChoice,
};
use crate::sysctl::{self, SysctlError};
use crate::user::{self, UserError};

/// Directory of the root filesystem in a bundle.
pub const ROOTFS: &str = "rootfs";

/// A container, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Its config.json.
    pub spec: Spec,
    /// What is executed, without the init of `--init`.
    pub args: Vec<String>,
    /// Whether the first process is hako's init, which is not in the image.
    pub init: bool,
    /// Its host name.
    pub hostname: String,
    /// The image's labels and the user's.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// How long `stop` waits; -1 for ever.
    pub stop_timeout_seconds: i64,
    /// Names and contents of what must stand in [`Facts::files_dir`].
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Options that cannot be had together, or not with this image or machine. Texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither image nor user say what to run.
    #[error("no command specified")]
    NoCommand,
    /// A NUL byte can be in no argument.
    #[error("argument {0:?} contains a NUL byte")]
    NulInArgument(String),
    /// A user or group.
    #[error(transparent)]
    User(#[from] UserError),
    /// A relative directory.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    Workdir(String),
    /// A name that cannot be one.
    #[error("invalid hostname format for --hostname: {0}")]
    Hostname(String),
    /// A host name for a UTS namespace that is not the container's.
    #[error("conflicting options: hostname and the UTS mode")]
    HostnameUts,
    /// A host name with another container's network.
    #[error("conflicting options: hostname and the network mode")]
    HostnameNetwork,
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    DuplicateMount(String),
    /// A volume that nobody resolved.
    #[error(
        "volume {0:?} cannot be mounted: named volumes are not supported yet; use an absolute path of the host"
    )]
    Volume(String),
    /// A volume without a name that nobody resolved.
    #[error(
        "volume at {0:?} cannot be made: volumes are not supported yet; use --tmpfs, or -v with a path of the host"
    )]
    AnonymousVolume(String),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A kernel parameter.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Out of range.
    #[error("Invalid value {0}, range for oom score adj is [-1000, 1000]")]
    OomScoreAdj(i32),
    /// Out of range.
    #[error("SHM size must be less than 8 EiB, not {0}")]
    ShmSize(u64),
    /// The image's stop signal is none.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// A container to join that does not run.
    #[error("cannot join the {namespace} namespace of {container}: no such running container")]
    Join {
        /// Which namespace.
        namespace: &'static str,
        /// The container, as the user wrote it.
        container: String,
    },
    /// A device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// A machine without seccomp.
    #[error("seccomp is not supported on this architecture; use --security-opt seccomp=unconfined")]
    SeccompArch,
}

/// Looks up the devices that `options` ask for, and [`decide`]s.
pub fn bundle(
    options: &RunOptions,
    image: &ContainerConfig,
    facts: &Facts<'_>,
) -> Result<Bundle, Error> {
    decide(options, image, facts, &device::gather(options)?)
}

/// Checks what can be checked before there is a container: everything but its users, its devices
/// and the containers whose namespaces it joins.
pub fn check(
    options: &RunOptions,
    image: &ContainerConfig,
    machine: &Machine,
) -> Result<(), Error> {
    let none = BTreeMap::new();
    let mut options = options.clone();
    let containers = joined_containers(&mut options)
        .into_iter()
        .map(|(_, word)| (word.clone(), Neighbour { hostname: "x".into(), ..Neighbour::default() }))
        .collect();
    let facts = Facts {
        id: "",
        passwd: b"",
        group: b"",
        files_dir: Path::new("/"),
        volumes: &none,
        containers: &containers,
        machine,
    };
    // Names are the image's business, numbers are not.
    let word = options.user.as_deref().unwrap_or(&image.user);
    match user::resolve(word, &options.group_add, b"", b"") {
        Ok(_) | Err(UserError::UnknownUser(_) | UserError::UnknownGroup(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let nobody = RunOptions { user: Some("0".into()), group_add: Vec::new(), ..options.clone() };
    decide(&nobody, image, &facts, &[]).map(drop)
}

/// The containers whose namespaces `options` join, by the words of the user: which namespace, and
/// the word, to be replaced by the container's ID.
pub fn joined_containers(options: &mut RunOptions) -> Vec<(&'static str, &mut String)> {
    let mut joined = Vec::new();
    if let NetworkMode::Container(word) = &mut options.network {
        joined.push(("network", word));
    }
    if let IpcMode::Container(word) = &mut options.ipc {
        joined.push(("IPC", word));
    }
    for (name, mode) in [("PID", &mut options.pid), ("UTS", &mut options.uts)] {
        if let NamespaceMode::Container(word) = mode {
            joined.push((name, word));
        }
    }
    joined
}

/// Makes a container's config.json of an image's configuration, the user's options, the facts
/// around it, and the devices that [`device::gather`] found.
pub fn decide(
    options: &RunOptions,
    image: &ContainerConfig,
    facts: &Facts<'_>,
    devices: &[HostDevice],
) -> Result<Bundle, Error> {
    let args = args(options, image)?;
    let hostname = hostname(options, facts)?;
    let user_word = options.user.as_deref().unwrap_or(&image.user);
    let who = user::resolve(user_word, &options.group_add, facts.passwd, facts.group)?;
    let caps = capability::set(
        options.privileged,
        &options.cap_add,
        &options.cap_drop,
        facts.machine.capabilities,
    );
    let (mounts, rootfs_propagation) = mounts::mounts(options, image, facts)?;
    let stop_signal = match (options.stop_signal, image.stop_signal.as_deref()) {
        (Some(number), _) => number,
        (None, None | Some("")) => 15,
        (None, Some(text)) => signal::parse(text).ok_or_else(|| Error::Signal(text.to_owned()))?,
    };
    if let Some(score) = options.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        return Err(Error::OomScoreAdj(score));
    }
    if let Some(bytes) = options.shm_bytes.filter(|bytes| i64::try_from(*bytes).is_err()) {
        return Err(Error::ShmSize(bytes));
    }

    let unmasked = options.privileged || options.security.system_paths_unconfined;
    let paths = |list: &[&str]| -> Vec<String> {
        if unmasked { Vec::new() } else { list.iter().map(|p| (*p).into()).collect() }
    };
    let mut masked_paths = paths(defaults::MASKED);
    if !unmasked {
        masked_paths.extend(facts.machine.masked_paths.iter().cloned());
    }
    let parent = options.cgroup_parent.as_deref().filter(|parent| !parent.is_empty());
    let linux = Linux {
        namespaces: namespaces(options, facts)?,
        devices: devices.iter().map(|d| d.device.clone()).collect(),
        cgroups_path: Some(format!("{}/{}", parent.unwrap_or("/hako"), facts.id)),
        resources: Some(resources(options, facts, devices)?),
        sysctl: sysctls(options)?,
        seccomp: seccomp(options, &caps, facts)?,
        rootfs_propagation,
        masked_paths,
        readonly_paths: paths(defaults::READONLY),
        ..Linux::default()
    };

    let init = options.init.then(|| [defaults::INIT_PATH, "--"].map(str::to_owned));
    let process = Process {
        terminal: options.tty,
        cwd: workdir(options, image)?,
        env: whole_environment(options, image, &hostname, &who.home)?,
        args: init.into_iter().flatten().chain(args.iter().cloned()).collect(),
        user: User { uid: who.uid, gid: who.gid, additional_gids: who.groups, ..User::default() },
        rlimits: options.ulimits.clone(),
        apparmor_profile: options
            .security
            .apparmor
            .clone()
            .filter(|profile| profile != "unconfined" && !options.privileged),
        capabilities: Some(capabilities(&caps, who.uid)),
        no_new_privileges: options.security.no_new_privileges,
        oom_score_adj: options.oom_score_adj,
        ..Process::default()
    };
    let labels = image
        .labels
        .iter()
        .chain(&options.labels)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let spec = Spec {
        oci_version: VERSION.into(),
        root: Some(Root { path: ROOTFS.into(), readonly: options.rootfs_readonly }),
        mounts,
        process: Some(process),
        hostname: (options.uts == NamespaceMode::Private).then(|| hostname.clone()),
        domainname: options.domainname.clone().filter(|name| !name.is_empty()),
        annotations: options.annotations.clone(),
        linux: Some(linux),
        ..Spec::default()
    };
    let text = |name: &str| match name {
        "hostname" => files::hostname(&hostname),
        "hosts" => files::hosts(&options.network, &options.extra_hosts, &facts.machine.hosts),
        _ => files::resolv_conf(&options.network, &options.dns, &facts.machine.resolv_conf),
    };
    let files = match network_neighbour(options, facts) {
        // It uses the other's.
        Some(_) => Vec::new(),
        None => files::FILES.iter().map(|(name, _)| (*name, text(name).into_bytes())).collect(),
    };
    Ok(Bundle {
        spec,
        args,
        init: options.init,
        hostname,
        labels,
        stop_signal,
        stop_timeout_seconds: options
            .stop_timeout_seconds
            .unwrap_or(defaults::STOP_TIMEOUT_SECONDS),
        files,
    })
}

/// The signal that asks a container to stop.
pub fn stop_signal(options: &RunOptions, image: &ContainerConfig) -> Result<i32, Error> {
    match (options.stop_signal, image.stop_signal.as_deref()) {
        (Some(number), _) => Ok(number),
        (None, None | Some("")) => Ok(signal::SIGTERM),
        (None, Some(text)) => signal::parse(text).ok_or_else(|| Error::Signal(text.to_owned())),
    }
}

/// What is executed. Docker's merge: an entrypoint of the user's takes away the image's command too.
pub fn args(options: &RunOptions, image: &ContainerConfig) -> Result<Vec<String>, Error> {
    let of_image = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let (entrypoint, command) = match &options.entrypoint {
        Some(words) => (words.clone(), options.command.clone()),
        None if options.command.is_empty() => (of_image(&image.entrypoint), of_image(&image.cmd)),
        None => (of_image(&image.entrypoint), options.command.clone()),
    };
    // One empty word is how "no entrypoint" is written.
    let entrypoint = if entrypoint == [""] { Vec::new() } else { entrypoint };
    let args: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    match args.iter().find(|arg| arg.contains('\0')) {
        Some(arg) => Err(Error::NulInArgument(arg.clone())),
        None => Ok(args),
    }
}

fn hostname(options: &RunOptions, facts: &Facts<'_>) -> Result<String, Error> {
    let asked = options.hostname.as_deref().filter(|name| !name.is_empty());
    if asked.is_some() && options.uts != NamespaceMode::Private {
        return Err(Error::HostnameUts);
    }
    if asked.is_some() && matches!(options.network, NetworkMode::Container(_)) {
        return Err(Error::HostnameNetwork);
    }
    // It goes into files and the environment, and the kernel takes 64 bytes.
    let valid = |name: &str| {
        name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !name.starts_with(['.', '-'])
    };
    match asked {
        Some(name) if valid(name) => Ok(name.into()),
        Some(name) => Err(Error::Hostname(name.into())),
        None if options.uts == NamespaceMode::Host || options.network == NetworkMode::Host => {
            Ok(facts.machine.hostname.clone())
        }
        None => match network_neighbour(options, facts) {
            Some(other) => Ok(other.hostname.clone()),
            None => Ok(facts.id.get(..12).unwrap_or(facts.id).into()),
        },
    }
}

/// The container whose network is joined.
pub(crate) fn network_neighbour<'f>(
    options: &RunOptions,
    facts: &Facts<'f>,
) -> Option<&'f Neighbour> {
    match &options.network {
        NetworkMode::Container(word) => facts.containers.get(word),
        _ => None,
    }
}

fn workdir(options: &RunOptions, image: &ContainerConfig) -> Result<String, Error> {
    let asked = options.workdir.as_deref().filter(|dir| !dir.is_empty());
    let dir = asked.unwrap_or(&image.working_dir);
    match dir {
        "" => Ok("/".into()),
        dir if dir.starts_with('/') && !dir.contains('\0') => Ok(crate::path::clean(dir)),
        dir => Err(Error::Workdir(dir.into())),
    }
}

/// The image's environment with the user's changes, as `inspect` shows it; a container has
/// Docker's defaults besides.
pub fn environment(options: &RunOptions, image: &ContainerConfig) -> Vec<String> {
    let env = env::apply(image.env.iter().map(String::as_str), &options.env);
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn whole_environment(
    options: &RunOptions,
    image: &ContainerConfig,
    hostname: &str,
    home: &str,
) -> Result<Vec<String>, Error> {
    let path = format!("PATH={}", defaults::PATH);
    let host = format!("HOSTNAME={hostname}");
    let term = options.tty.then_some("TERM=xterm");
    let base = [&*path, &*host].into_iter().chain(term);
    // The image is not trusted: no NUL from it either.
    let of_image = image.env.iter().map(String::as_str);
    if let Some(line) = image.env.iter().find(|line| line.contains('\0')) {
        return Err(Error::NulInArgument(line.clone()));
    }
    let mut env = env::apply(base.chain(of_image), &options.env);
    match env.iter_mut().find(|(name, _)| name == "HOME") {
        Some((_, value)) if value.is_empty() => *value = home.into(),
        Some(_) => {}
        None => env.push(("HOME".into(), home.into())),
    }
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Docker gives a user other than root its capabilities only as a bound, as execve would.
fn capabilities(caps: &[&str], uid: u32) -> Capabilities {
    let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
    let held = if uid == 0 { caps.clone() } else { Vec::new() };
    Capabilities {
        bounding: caps,
        effective: held.clone(),
        permitted: held,
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

fn namespaces(options: &RunOptions, facts: &Facts<'_>) -> Result<Vec<Namespace>, Error> {
    let mut namespaces = vec![Namespace { kind: "mount".into(), path: None }];
    // The kind in config.json, its file in /proc/PID/ns, and where it comes from.
    let mut add = |kind: &'static str, file: &str, mode: NamespaceMode| {
        let path = match mode {
            NamespaceMode::Host => return Ok(()),
            NamespaceMode::Private => None,
            NamespaceMode::Container(container) => match facts.containers.get(&container) {
                Some(other) => Some(format!("/proc/{}/ns/{file}", other.pid)),
                None => return Err(Error::Join { namespace: kind, container }),
            },
        };
        namespaces.push(Namespace { kind: kind.into(), path });
        Ok(())
    };
    let network = match options.network.clone() {
        NetworkMode::None => NamespaceMode::Private,
        NetworkMode::Host => NamespaceMode::Host,
        NetworkMode::Container(name) => NamespaceMode::Container(name),
    };
    let ipc = match options.ipc.clone() {
        IpcMode::Host => NamespaceMode::Host,
        IpcMode::Container(name) => NamespaceMode::Container(name),
        IpcMode::Private | IpcMode::Shareable | IpcMode::None => NamespaceMode::Private,
    };
    let own = |own| if own { NamespaceMode::Private } else { NamespaceMode::Host };
    let default = facts.machine.cgroup_v2;
    let own_cgroup = options.cgroupns.map_or(default, |mode| mode == CgroupnsMode::Private);
    add("network", "net", network)?;
    add("uts", "uts", options.uts.clone())?;
    add("pid", "pid", options.pid.clone())?;
    add("ipc", "ipc", ipc)?;
    add("cgroup", "cgroup", own(own_cgroup))?;
    Ok(namespaces)
}

fn resources(
    options: &RunOptions,
    facts: &Facts<'_>,
    given: &[HostDevice],
) -> Result<Resources, Error> {
    let devices = if options.privileged {
        vec![device_rule(true, "a", -1, -1, "rwm")]
    } else {
        let given = given.iter().map(|d| {
            let number = |n: Option<i64>| n.unwrap_or(-1);
            let (major, minor) = (number(d.device.major), number(d.device.minor));
            device_rule(true, &d.device.kind, major, minor, &d.access)
        });
        let asked = options.device_rules.iter().cloned();
        defaults::device_rules().into_iter().chain(given).chain(asked).collect()
    };
    Ok(Resources { devices, ..limits::resources(&options.limits, facts.machine)? })
}

fn sysctls(options: &RunOptions) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    // The network of another container, or the host's, is not ours to change.
    if options.network == NetworkMode::None {
        for (name, value) in defaults::NETWORK_SYSCTLS {
            all.insert((*name).to_owned(), (*value).to_owned());
        }
    }
    for (name, value) in &options.sysctls {
        sysctl::check(name, &options.network, &options.ipc)?;
        all.insert(name.clone(), value.clone());
    }
    Ok(all)
}

fn seccomp(
    options: &RunOptions,
    caps: &[&str],
    facts: &Facts<'_>,
) -> Result<Option<Seccomp>, Error> {
    let choice = &options.security.seccomp;
    let none = match choice {
        SeccompChoice::Unconfined => true,
        SeccompChoice::Default => options.privileged,
        SeccompChoice::Profile(_) => false,
    };
    if none {
        return Ok(None);
    }
    let capabilities: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
    let context = Context {
        capabilities: &capabilities,
        arch: Arch::native().ok_or(Error::SeccompArch)?,
        kernel: facts.machine.kernel,
    };
    match choice {
        SeccompChoice::Profile(text) => Ok(Some(docker_profile(text.as_bytes(), &context)?)),
        _ => Ok(Some(docker_default(&context))),
    }
}

#[cfg(test)]
mod tests;
