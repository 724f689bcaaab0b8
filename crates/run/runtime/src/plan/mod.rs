//! From config.json to the list of steps, without touching the system.

mod annotations;
mod builder;
mod cgroups;
mod checks;
mod file_systems;
mod idmap;
mod landlock;
mod linux;
mod mount_options;
mod mounts;
mod namespaces;
mod outside;
mod process;

use std::path::{Path, PathBuf};

use hako_oci::runtime::{Hooks, IdMapping, Linux, Process, Spec};
use hako_oci::state::{State, Status};
use hako_sys::namespace::Kind;

pub(crate) use self::annotations::{Extensions, read as read_annotations};
pub(crate) use self::builder::Builder;
use self::builder::c_string;
pub(crate) use self::builder::{place, target};
pub use self::checks::check_id;
pub(crate) use self::idmap::IdMap;
pub(crate) use self::landlock::{FILE_RIGHTS, LandlockOp};
pub(crate) use self::linux::{hook_ops, memory_words, state};
pub(crate) use self::mount_options::words as mount_words;
pub(crate) use self::mounts::for_running as mount_plan;
pub(crate) use self::namespaces::{Join, Namespaces};
pub(crate) use self::outside::{NetDevice, RdtRequest};
pub(crate) use self::process::{Guards, Surroundings, affinity, exec_op, steps as process_steps};
use crate::op::{ExecOp, Op, Step};
use crate::{CgroupDriver, Error, Gate, Options, RefusedLimits, Result};

/// Everything that creating a container will do, decided and checked.
#[derive(Debug)]
pub struct Plan {
    pub(crate) options: Options,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
    pub(crate) namespaces: Namespaces,
    pub(crate) uid_map: Vec<IdMapping>,
    pub(crate) gid_map: Vec<IdMapping>,
    /// Whether setgroups(2) stays denied in the new user namespace.
    pub(crate) no_groups: bool,
    /// Lines for `timens_offsets`.
    pub(crate) time_offsets: Vec<u8>,
    /// Network devices that the parent moves.
    pub(crate) net_devices: Vec<NetDevice>,
    /// Groups of resctrl that the parent makes.
    pub(crate) rdt: Option<RdtRequest>,
    /// What annotations ask for.
    pub(crate) extensions: Extensions,
    /// Detached copies of mounts that the parent makes first.
    pub(crate) prepared: Vec<Prepared>,
    /// The program.
    pub(crate) exec: ExecOp,
    pub(crate) terminal: bool,
    pub(crate) pivots: bool,
    pub(crate) hooks: Hooks,
    /// The state as hooks see it, without status and process ID.
    pub(crate) state: State,
    pub(crate) spec: Spec,
    /// Its control groups.
    pub(crate) cgroup: Option<hako_cgroup::Plan>,
    /// Who the v2 cgroup is given to.
    pub(crate) cgroup_owner: Option<u32>,
    cgroups: hako_cgroup::Host,
}

/// Where a delegated cgroup is asked for.
const DELEGATE: &str = "annotations[\"run.oci.delegate-cgroup\"]";

/// More processors than a machine has; the kernel takes those that are there.
pub(crate) const ALL_CPUS: [u64; 128] = [u64::MAX; 128];

/// A mount that the parent copies (detached) before the new process exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) path: std::ffi::CString,
    /// The file of the mount namespace that the path is in, where it is not the caller's own.
    pub(crate) namespace: Option<std::ffi::CString>,
    pub(crate) recursive: bool,
    pub(crate) no_follow: bool,
    pub(crate) id_map: Option<IdMap>,
    /// A device, made where the kernel can bind what is mounted nowhere: else the host's is at `path`.
    pub(crate) device: Option<NewDevice>,
    pub(crate) field: String,
}

/// A device that the parent makes for a container in a user namespace.
#[derive(Debug)]
pub(crate) struct NewDevice {
    pub(crate) kind: hako_sys::fs::FileKind,
    pub(crate) mode: u32,
    pub(crate) device: (u32, u32),
    /// As the host knows them.
    pub(crate) owner: (u32, u32),
}

impl Plan {
    /// Checks the whole configuration and prepares every step. Pure: it looks at nothing but its
    /// arguments (and at which cgroups are mounted and which version of Landlock there is, where the
    /// options do not say). `bundle` is the absolute directory that relative paths start from.
    pub fn new(spec: &Spec, bundle: &Path, options: &Options) -> Result<Plan> {
        check_id(&options.id)?;
        checks::version(&spec.oci_version)?;
        let mut document = spec.clone();
        let extensions = annotations::read(&mut document)?;
        let spec = &document;
        let root = spec.root.as_ref().ok_or_else(|| Error::config("root", "is missing"))?;
        if root.path.is_empty() {
            return Err(Error::config("root.path", "is empty"));
        }
        let process =
            spec.process.as_ref().ok_or_else(|| Error::config("process", "is missing"))?;
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let namespaces = namespaces::parse(linux)?;
        let time_offsets = namespaces::time_offsets(linux, &namespaces)?;
        checks::user_namespace(linux, &namespaces)?;
        checks::needs(spec, linux, &namespaces)?;
        let hooks = spec.hooks.clone().unwrap_or_default();
        for (kind, list) in hook_lists(&hooks) {
            linux::check_hooks(kind, list)?;
        }
        let bundle_text = bundle
            .to_str()
            .ok_or_else(|| Error::config("root.path", "the bundle's path is not UTF-8"))?;
        let no_groups = namespaces.is_new(Kind::User) && groups_denied(linux, options.privileged);

        let cgroups = match (options.cgroup, &options.cgroups) {
            (CgroupDriver::Disabled, _) => hako_cgroup::Host::default(),
            (_, Some(host)) => host.clone(),
            (_, None) => hako_cgroup::Host::detect()?,
        };
        let mut joining = options.clone();
        if extensions.systemd_v1.is_some() {
            joining.join_cgroups = hako_cgroup::Join::All;
        }
        let cgroup = cgroups::plan(spec, linux, &joining, &cgroups)?;
        let mut plan = Plan {
            cgroup,
            cgroup_owner: cgroups::owner(spec, &cgroups, &namespaces),
            cgroups,
            bundle: bundle.to_owned(),
            rootfs: bundle.join(&root.path),
            steps: Vec::new(),
            warnings: Vec::new(),
            uid_map: linux.uid_mappings.clone(),
            gid_map: linux.gid_mappings.clone(),
            no_groups,
            time_offsets,
            net_devices: outside::net_devices(linux, options.privileged)?,
            rdt: match &linux.intel_rdt {
                Some(rdt) => Some(outside::intel_rdt(rdt, &options.id)?),
                None => None,
            },
            extensions,
            prepared: Vec::new(),
            exec: exec_op("process", process, &options.extra_env)?,
            terminal: process.terminal,
            pivots: namespaces.has(Kind::Mount) && !options.no_pivot,
            state: state(spec, &options.id, bundle_text, Status::Creating),
            namespaces,
            hooks,
            options: options.clone(),
            spec: Spec::default(),
        };
        let mut b = Builder::default();
        plan.identity(&mut b, spec, process, linux)?;
        plan.file_systems(&mut b, spec, process, linux)?;
        plan.inside(&mut b, process, linux)?;
        (plan.steps, plan.warnings) = (b.steps, b.warnings);
        plan.spec = document;
        Ok(plan)
    }

    /// The container's ID.
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// What the new process will do, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What the caller does before and beside the steps of the new process, each with the field
    /// that asks for it.
    pub fn preparations(&self) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        let mut add = |step: String, field: &str| list.push((step, field.to_owned()));
        if let Some(cgroup) = &self.cgroup {
            for directory in &cgroup.directories {
                add(format!("cgroup {}", directory.path.display()), "linux.cgroupsPath");
            }
            for write in &cgroup.writes {
                let directory = cgroup.directories.get(write.directory);
                let path = directory.map(|d| d.path.join(&*write.file)).unwrap_or_default();
                add(format!("{} = {}", path.display(), write.value), &write.field);
            }
            if cgroup.device_program.is_some() {
                add("device program of the cgroup".to_owned(), "linux.resources.devices");
            }
        }
        if let Some(rdt) = &self.rdt {
            let class = rdt.clos.as_deref().unwrap_or(&rdt.id);
            add(format!("resctrl group {class:?}"), "linux.intelRdt");
        }
        for join in &self.namespaces.joined {
            let word = join.kind.info().word;
            add(format!("open {word} namespace {}", join.path.display()), &join.field);
        }
        for mount in &self.prepared {
            let mapped = if mount.id_map.is_some() { " with its IDs mapped" } else { "" };
            let what = if mount.device.is_some() { "device" } else { "copy of mount" };
            add(format!("{what} {}{mapped}", mount.path.to_string_lossy()), &mount.field);
        }
        let new = self.namespaces.new & !Kind::Cgroup.flag();
        let kinds = hako_sys::namespace::KINDS.iter().filter(|k| new & k.flag != 0);
        let words: Vec<&str> = kinds.map(|k| k.word).collect();
        add(format!("new process, new namespaces: {}", words.join(", ")), "linux.namespaces");
        for (map, word) in [(&self.uid_map, "uid"), (&self.gid_map, "gid")] {
            for (i, m) in map.iter().enumerate() {
                let (inside, outside, size) = (m.container_id, m.host_id, m.size);
                let field = format!("linux.{word}Mappings[{i}]");
                add(format!("{word}_map {inside} {outside} {size}"), &field);
            }
        }
        list
    }

    /// Whether namespaces are joined by a process in between: those that a process cannot enter
    /// itself, and all when their privileges end with a new user namespace.
    pub(crate) fn joins_by_stage(&self) -> bool {
        let ns = &self.namespaces;
        let deep = [Kind::User, Kind::Pid, Kind::Time].into_iter().any(|k| ns.is_joined(k));
        deep || (!ns.joined.is_empty() && ns.is_new(Kind::User))
    }

    /// Whether the process in between joins a namespace of this kind. It does not join that of
    /// cgroups if it can: from there it may not make a process in a cgroup which it is not in.
    pub(crate) fn joined_by_stage(&self, kind: Kind) -> bool {
        kind != Kind::Cgroup || self.namespaces.is_new(Kind::User)
    }

    /// What is not as the configuration wishes, and yet no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Flags that the profile's filter is loaded with, but for the listener's; none without one.
    pub fn seccomp_flags(&self) -> Option<u32> {
        let listener = hako_sys::seccomp::FLAG_NEW_LISTENER;
        self.steps.iter().find_map(|step| match &step.op {
            Op::Seccomp { flags, .. } => Some(flags & !listener),
            _ => None,
        })
    }

    /// The directory of the root filesystem, on the host.
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// Who the process is: namespaces, user, cgroup, names.
    fn identity(
        &self,
        b: &mut Builder,
        spec: &Spec,
        process: &Process,
        linux: &Linux,
    ) -> Result<()> {
        b.push("process", Op::Signals);
        if let Some(adj) = process.oom_score_adj {
            // Before the process is the user namespace's: then the file is no longer its own.
            b.push("process.oomScoreAdj", oom_op(adj, self.options.refused_limits)?);
        }
        if !self.namespaces.is_new(Kind::User) {
            b.push("process", Op::NotDumpable);
        }
        b.push("process", Op::Session);
        if !self.joins_by_stage() {
            for (slot, join) in self.namespaces.joined.iter().enumerate() {
                b.push(format!("{}.path", join.field), Op::Join { kind: join.kind, slot });
            }
        }
        let by_systemd = self.cgroup.as_ref().is_some_and(hako_cgroup::Plan::has_scope);
        let enter = if by_systemd { Op::AwaitCgroup } else { Op::EnterCgroup };
        b.push("linux.cgroupsPath", enter);
        // The caller's own affinity is not the container's: all that its cpuset has (as runc).
        b.push("process", Op::Affinity(ALL_CPUS.to_vec()));
        if self.rdt.is_some() {
            b.push("linux.intelRdt", Op::EnterRdt);
        }
        for (slot, join) in self.namespaces.joined.iter().enumerate() {
            if self.joins_by_stage() && !self.joined_by_stage(join.kind) {
                b.push(format!("{}.path", join.field), Op::Join { kind: join.kind, slot });
            }
        }
        if self.namespaces.is_new(Kind::Cgroup) {
            // Only now: the view begins at the cgroup that the process is in.
            b.push("linux.namespaces", Op::Unshare(Kind::Cgroup));
        }
        if let Some(directory) = self.delegated()? {
            let procs = directory.join("cgroup.procs");
            let procs = c_string(DELEGATE, &procs.to_string_lossy())?;
            b.push(DELEGATE, Op::EnterDelegated { procs });
        }
        if self.own_mounts() && self.options.rootfs_mounts.is_empty() {
            // Paths of the host are walked while this is still the host's user.
            self.root(b, linux)?;
        }
        if self.namespaces.is_new(Kind::User) {
            b.push("linux.uidMappings", Op::AwaitMaps);
            let groups = !self.no_groups && !self.extensions.keep_groups;
            b.push("linux.uidMappings", become_root(linux, groups));
            if self.times_inside() {
                b.push("linux.timeOffsets", Op::Unshare(Kind::Time));
                b.push("linux.timeOffsets", time_op(&self.time_offsets)?);
            }
            b.push("process", Op::NotDumpable);
        } else if let Some(join) = self.namespaces.joined.iter().find(|j| j.kind == Kind::User) {
            // Who the caller is outside is nobody in there.
            let groups = self.options.privileged && !self.extensions.keep_groups;
            b.push(format!("{}.path", join.field), become_root(linux, groups));
        }
        if !self.options.no_new_keyring {
            keyring(b, process, &self.options.id)?;
        }
        if self.namespaces.is_new(Kind::Network) {
            // As runc does: programs count on 127.0.0.1.
            b.push("linux.namespaces", Op::Loopback);
        }
        for device in &self.net_devices {
            let NetDevice { name, inside, field } = device.clone();
            b.push(field, Op::NetDevice { name, inside });
        }
        if let Some(name) = &spec.hostname {
            b.push("hostname", Op::Hostname(c_string("hostname", name)?));
        }
        if let Some(name) = &spec.domainname {
            b.push("domainname", Op::Domainname(c_string("domainname", name)?));
        }
        Ok(())
    }

    /// Whether the new process makes its time namespace itself: who is no user of privileges has
    /// those for it only in the new user namespace.
    pub(crate) fn times_inside(&self) -> bool {
        let new_user = self.namespaces.is_new(Kind::User) && !self.options.privileged;
        new_user && !self.time_offsets.is_empty()
    }

    fn label<'a>(&self, linux: &'a Linux) -> Option<mounts::Label<'a>> {
        let context = linux.mount_label.as_deref().filter(|label| !label.is_empty())?;
        Some(mounts::Label { option: self.extensions.context.unwrap_or("context"), context })
    }

    /// The cgroup below the container's that its process moves to, once its cgroup namespace has
    /// begun at the container's own; of v2 only, because v1 cannot be divided safely.
    pub(crate) fn delegated(&self) -> Result<Option<PathBuf>> {
        let Some(name) = &self.extensions.delegate else { return Ok(None) };
        let directories = self.cgroup.iter().flat_map(|cgroup| &cgroup.directories);
        let unified = directories.filter(|d| d.unified).map(|d| d.path.join(name)).next();
        unified.map(Some).ok_or_else(|| Error::config(DELEGATE, "needs cgroup v2"))
    }

    fn own_mounts(&self) -> bool {
        self.namespaces.has(Kind::Mount)
    }

    /// From the inside: the process itself, up to its program.
    fn inside(&self, b: &mut Builder, process: &Process, linux: &Linux) -> Result<()> {
        if let Some(p) = &linux.personality {
            b.push("linux.personality", linux::personality(p)?);
        }
        if let Some(policy) = &linux.memory_policy {
            b.push("linux.memoryPolicy", linux::memory_policy(policy)?);
        }
        labels(b, process)?;
        let around = Surroundings {
            field: "process",
            refused_limits: self.options.refused_limits,
            preserve: self.options.preserve_fds,
            parent_death_signal: self.options.parent_death_signal,
            no_groups: self.no_groups,
            make_cwd: true,
            keep_groups: self.extensions.keep_groups,
            user_namespace: self.namespaces.has(Kind::User),
        };
        let created = State { status: Status::Created, ..self.state.clone() };
        let guards =
            Guards::new(b, linux.seccomp.as_ref(), &self.extensions, self.options.landlock)?;
        let recorded = self.options.record_seccomp.is_some();
        let guards = if recorded { guards.recorded()? } else { guards };
        process_steps(b, process, &around, guards, |b, mut late| {
            if late.notifies() {
                // Who creates the container passes the listener on, and is gone when it is started.
                std::mem::take(&mut late).push(b);
            }
            b.push("process", Op::AwaitStart { fifo: self.options.gate == Gate::Fifo });
            // As runc: the hooks are under the filter, too.
            late.push(b);
            for op in linux::hook_ops("startContainer", &self.hooks.start_container, &created)? {
                b.push(format!("hooks.startContainer[{}]", op.index), Op::Hook(Box::new(op)));
            }
            Ok(())
        })
    }
}

/// Who acts in the user namespace.
pub(crate) fn become_root(linux: &Linux, groups: bool) -> Op {
    let id = |map: &[IdMapping]| {
        let has_root = map.is_empty() || map.iter().any(|m| m.container_id == 0 && m.size > 0);
        map.first().filter(|_| !has_root).map_or(0, |m| m.container_id)
    };
    Op::BecomeRoot { uid: id(&linux.uid_mappings), gid: id(&linux.gid_mappings), groups }
}

/// A session keyring of the container's own, labelled as its process: that could not use it otherwise.
pub(crate) fn keyring(b: &mut Builder, process: &Process, id: &str) -> Result<()> {
    let field = "process.selinuxLabel";
    if let Some(label) = process.selinux_label.as_deref().filter(|label| !label.is_empty()) {
        // The kernel forgets it at the next execve.
        let path = c"self/attr/keycreate".into();
        b.push(field, Op::ProcWrite { path, value: c_string(field, label)?, clamp: false });
    }
    b.push("process", Op::Keyring(c_string("id", &format!("_ses.{id}"))?));
    Ok(())
}

/// Labels of the process, which take effect when the program is executed.
pub(crate) fn labels(b: &mut Builder, process: &Process) -> Result<()> {
    let mut label = |field: &str, path: &std::ffi::CStr, value: String| -> Result<()> {
        b.push(
            field,
            Op::ProcWrite { path: path.into(), value: c_string(field, &value)?, clamp: false },
        );
        Ok(())
    };
    if let Some(profile) = process.apparmor_profile.as_deref().filter(|p| !p.is_empty()) {
        label("process.apparmorProfile", c"self/attr/apparmor/exec", format!("exec {profile}"))?;
    }
    if let Some(selinux) = process.selinux_label.as_deref().filter(|l| !l.is_empty()) {
        label("process.selinuxLabel", c"self/attr/exec", selinux.to_owned())?;
    }
    Ok(())
}

/// The adjustment of the out-of-memory score.
pub(crate) fn oom_op(adj: i32, refused: RefusedLimits) -> Result<Op> {
    Ok(Op::ProcWrite {
        path: c"self/oom_score_adj".into(),
        value: c_string("process.oomScoreAdj", &adj.to_string())?,
        clamp: refused == RefusedLimits::Clamp,
    })
}

/// Whether setgroups(2) is denied in the new user namespace: the price of a map that an ordinary
/// user may write itself.
pub(crate) fn groups_denied(linux: &Linux, privileged: bool) -> bool {
    !privileged && linux.gid_mappings.iter().map(|m| u64::from(m.size)).sum::<u64>() <= 1
}

/// The offsets of a new time namespace, written from within.
fn time_op(lines: &[u8]) -> Result<Op> {
    let value = std::ffi::CString::new(lines)
        .map_err(|_| Error::config("linux.timeOffsets", "has a NUL byte"))?;
    Ok(Op::ProcWrite { path: c"self/timens_offsets".into(), value, clamp: false })
}

/// The six kinds of hooks.
pub(crate) fn hook_lists(hooks: &Hooks) -> [(&'static str, &[hako_oci::runtime::Hook]); 6] {
    [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ]
}

#[cfg(test)]
mod tests;
