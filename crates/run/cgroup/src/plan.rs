//! What is to be done, decided before anything is: directories to make and values to write.

use std::{
    borrow::Cow,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use hako_oci::runtime::Resources;
use hako_sys::Errno;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    devices::Policy,
    host::{Controller, Controllers, Host},
    systemd::Scope,
    v1, v2,
};

/// Which v1 hierarchies a container joins; there is only one of v2, and it is always joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Join {
    /// Those that limits, statistics, freezing and killing need. Each costs about as much as ten
    /// system calls at the start and the end of a container.
    #[default]
    Needed,
    /// All that are mounted, as runc does: for programs that look for the container in each.
    All,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `linux.cgroupsPath`.
    pub path: Option<&'a str>,
    /// The container's name: its cgroup's where no path is given.
    pub id: &'a str,
    /// `linux.resources`.
    pub resources: Option<&'a Resources>,
    /// Which hierarchies to join.
    pub join: Join,
}

impl<'a> Request<'a> {
    /// The path that it comes to, absolute or relative to the caller's cgroup.
    pub fn cgroup_path(&self) -> &'a str {
        self.path.filter(|p| !p.is_empty()).unwrap_or(self.id)
    }
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which of the plan's directories.
    pub directory: usize,
    /// The file.
    pub file: Cow<'static, str>,
    /// A file to use instead where the first is not there (schedulers' own files).
    pub otherwise: Option<(Cow<'static, str>, String)>,
    /// The value.
    pub value: String,
    /// The field of `config.json` that asks for it.
    pub field: Cow<'static, str>,
    /// Whether a missing file is no error: the value only adds to another one's.
    pub optional: bool,
}

/// One directory to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// The hierarchy's mount.
    pub mount: PathBuf,
    /// What it controls: for v1 the hierarchy's controllers, for v2 those to be enabled.
    pub controllers: Controllers,
    /// Those of them that limits need; it is no error where v2's others cannot be enabled.
    pub required: Controllers,
    /// The name of a v1 hierarchy without controllers.
    pub name: Option<String>,
    /// Whether it is of v2.
    pub unified: bool,
}

/// Everything that creating a cgroup will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The path that was asked for.
    pub path: String,
    /// Directories, v2's first.
    pub directories: Vec<Directory>,
    /// Values, in order. One that the kernel refuses as invalid is written again after the others:
    /// some bound each other (memory and swap; quota, period and burst), and which order passes
    /// only through valid states depends on what was there.
    pub writes: Vec<Write>,
    /// Device access by eBPF; of v1 it is among the writes.
    pub device_program: Option<Policy>,
    /// The unit of systemd that holds it.
    pub(crate) scope: Option<Scope>,
    /// Refuse a memory limit (bytes) below what is used; on v2 the kernel would kill instead.
    pub memory_at_least: Option<u64>,
}

const DEVICES: &str = "linux.resources.devices";

/// How a value finds its file.
pub(crate) struct Builder<'a> {
    pub(crate) directories: &'a [Directory],
    pub(crate) writes: Vec<Write>,
}

impl Builder<'_> {
    /// The directory of a controller.
    fn directory(&self, controller: Controller, unified: bool) -> Option<usize> {
        self.directories
            .iter()
            .position(|d| d.unified == unified && d.controllers.contains(controller))
    }

    pub(crate) fn write(
        &mut self,
        controller: Controller,
        unified: bool,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
        field: impl Into<Cow<'static, str>>,
    ) -> Result<&mut Write> {
        let field = field.into();
        let Some(directory) = self.directory(controller, unified) else {
            return Err(Error::Missing { controller, field: field.into_owned() });
        };
        self.writes.push(Write {
            directory,
            file: file.into(),
            otherwise: None,
            value: value.to_string(),
            field,
            optional: false,
        });
        let last = self.writes.len() - 1;
        Ok(&mut self.writes[last])
    }
}

impl Plan {
    /// Decides what a container needs. Changes and reads nothing.
    pub fn new(host: &Host, request: &Request<'_>) -> Result<Plan> {
        let none = Resources::default();
        let resources = request.resources.unwrap_or(&none);
        let devices = Policy::new(&resources.devices)?;
        let path = clean(request.cgroup_path())?;
        let asked = asked(resources);
        for (controller, field) in asked.iter().copied() {
            if host.hierarchy(controller).is_none() && !host.in_v2(controller) {
                return Err(Error::Missing { controller, field: field.to_owned() });
            }
        }
        let asked = Controllers::of(asked.into_iter().map(|a| a.0));
        let directories = directories(host, request.join, asked, &path, !devices.allows_all());
        let mut plan = Plan {
            path: request.cgroup_path().to_owned(),
            directories,
            writes: Vec::new(),
            device_program: None,
            scope: None,
            memory_at_least: None,
        };
        plan.fill(host, resources)?;
        plan.set_devices(devices)?;
        Ok(plan)
    }

    /// The same without control over devices: for users who may not set it, and need not, because
    /// nodes made in their user namespace are no devices.
    pub fn without_devices(mut self) -> Plan {
        self.device_program = None;
        self.writes.retain(|w| w.field != DEVICES);
        if let Some(scope) = &mut self.scope {
            scope.without_devices();
        }
        self
    }

    /// The same in a unit of systemd, whose cgroup the request's path must be.
    pub fn in_scope(
        mut self,
        mut scope: Scope,
        host: &Host,
        resources: Option<&Resources>,
    ) -> Result<Plan> {
        let none = Resources::default();
        scope.limit(host, resources.unwrap_or(&none), true)?;
        self.scope = Some(scope);
        Ok(self)
    }

    /// Whether systemd makes it: then by [`Plan::create_around`].
    pub fn has_scope(&self) -> bool {
        self.scope.is_some()
    }

    /// Removes what a killed process had made of this: cgroups without processes and without others
    /// below. What is used by somebody is not what it made, and stays. A process that was just killed
    /// is waited for, up to a second.
    pub fn remove_unused(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(1);
        for directory in &self.directories {
            while let Err(e) = std::fs::remove_dir(&directory.path) {
                match Errno::of(&e) {
                    Errno::EBUSY if Instant::now() < deadline => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Errno::ENOENT | Errno::EBUSY | Errno::ENOTEMPTY => break,
                    source => {
                        let path = directory.path.clone();
                        return Err(Error::Remove { path, source, others: 0 });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it sets no limit. A cgroup that cannot be made is then no loss.
    pub fn limits_nothing(&self) -> bool {
        self.writes.is_empty() && self.device_program.is_none()
    }

    /// Decides what changing the limits of an existing cgroup takes. Devices are left as they are
    /// unless the resources have rules for them.
    pub(crate) fn update(
        host: &Host,
        directories: &[Directory],
        resources: &Resources,
    ) -> Result<Plan> {
        let mut plan = Plan {
            path: String::new(),
            directories: directories.to_vec(),
            writes: Vec::new(),
            device_program: None,
            scope: None,
            memory_at_least: None,
        };
        plan.fill(host, resources)?;
        if !resources.devices.is_empty() {
            plan.set_devices(Policy::new(&resources.devices)?)?;
            // A program of rules that v1 could not express may be there: it gives way.
            if plan.device_program.is_none() && plan.directories.iter().any(|d| d.unified) {
                plan.device_program = Some(Policy::all());
            }
        }
        Ok(plan)
    }

    fn fill(&mut self, host: &Host, resources: &Resources) -> Result<()> {
        let mut builder = Builder { directories: &self.directories, writes: Vec::new() };
        v1::writes(host, resources, &mut builder)?;
        v2::writes(host, resources, &mut builder)?;
        self.writes = builder.writes;
        let memory = resources.memory.as_ref();
        self.memory_at_least = memory
            .filter(|m| m.check_before_update == Some(true))
            .and_then(|m| u64::try_from(m.limit?).ok())
            .filter(|&limit| limit > 0);
        Ok(())
    }

    fn set_devices(&mut self, policy: Policy) -> Result<()> {
        let v1 = |d: &Directory| !d.unified && d.controllers.contains(Controller::Devices);
        let has_v2 = self.directories.iter().any(|d| d.unified);
        let lines = match self.directories.iter().position(v1) {
            // What v1 cannot express beside v2, a program of v2 does; v1 stands back.
            Some(i) if has_v2 && policy.needs_order() => {
                self.device_program = Some(policy);
                Some((i, vec![("devices.allow", "a".to_owned())]))
            }
            Some(i) => Some((i, policy.v1_lines()?)),
            None if has_v2 => {
                self.device_program = Some(policy);
                None
            }
            None if policy.allows_all() => None,
            None => {
                return Err(Error::Missing {
                    controller: Controller::Devices,
                    field: DEVICES.to_owned(),
                });
            }
        };
        let (directory, lines) = lines.unwrap_or_default();
        self.writes.extend(lines.into_iter().map(|(file, value)| Write {
            directory,
            file: file.into(),
            otherwise: None,
            value,
            field: DEVICES.into(),
            optional: false,
        }));
        Ok(())
    }
}

/// The path beneath a hierarchy: without `..`, and whether it starts at the hierarchy's root.
pub(crate) struct Clean {
    path: PathBuf,
    absolute: bool,
}

pub(crate) fn clean(text: &str) -> Result<Clean> {
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            // `..` of the root is the root, as runc and crun resolve it: no path leads out.
            Component::ParentDir => {
                path.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path.as_os_str().is_empty() || text.contains(['\n', '\0']) {
        let why = format!("{text:?} is not the path of a cgroup of its own");
        return Err(Error::invalid("linux.cgroupsPath".to_owned(), why));
    }
    Ok(Clean { path, absolute: text.starts_with('/') })
}

/// Controllers that the resources cannot do without, each with the field that needs it.
pub(crate) fn asked(r: &Resources) -> Vec<(Controller, &'static str)> {
    let mut asked = Vec::new();
    let mut ask = |controller, needed: bool, field| {
        if needed {
            asked.push((controller, field));
        }
    };
    ask(Controller::Memory, r.memory.is_some(), "linux.resources.memory");
    ask(
        Controller::Pids,
        r.pids.as_ref().is_some_and(|p| p.limit.is_some()),
        "linux.resources.pids",
    );
    if let Some(cpu) = &r.cpu {
        let bandwidth = cpu.shares.is_some()
            || cpu.quota.is_some()
            || cpu.burst.is_some()
            || cpu.period.is_some()
            || cpu.realtime_runtime.is_some()
            || cpu.realtime_period.is_some()
            || cpu.idle.is_some();
        let set = |s: &Option<String>| s.as_deref().is_some_and(|s| !s.is_empty());
        ask(Controller::Cpu, bandwidth, "linux.resources.cpu");
        ask(Controller::Cpuset, set(&cpu.cpus) || set(&cpu.mems), "linux.resources.cpu.cpus");
    }
    if let Some(io) = &r.block_io {
        let any = io.weight.is_some()
            || io.leaf_weight.is_some()
            || !io.weight_device.is_empty()
            || !io.throttle_read_bps_device.is_empty()
            || !io.throttle_write_bps_device.is_empty()
            || !io.throttle_read_iops_device.is_empty()
            || !io.throttle_write_iops_device.is_empty();
        ask(Controller::Io, any, "linux.resources.blockIO");
    }
    ask(Controller::Hugetlb, !r.hugepage_limits.is_empty(), "linux.resources.hugepageLimits");
    ask(Controller::Rdma, !r.rdma.is_empty(), "linux.resources.rdma");
    if let Some(network) = &r.network {
        ask(Controller::NetCls, network.class_id.is_some(), "linux.resources.network.classID");
        let priorities = !network.priorities.is_empty();
        ask(Controller::NetPrio, priorities, "linux.resources.network.priorities");
    }
    for file in r.unified.keys() {
        let prefix = file.split('.').next();
        if let Some(c) = Controller::all().find(|c| c.v2_name() == prefix)
            && !v2::is_core_file(file)
        {
            asked.push((c, "linux.resources.unified"));
        }
    }
    asked
}

pub(crate) fn directories(
    host: &Host,
    join: Join,
    asked: Controllers,
    path: &Clean,
    devices: bool,
) -> Vec<Directory> {
    use Controller::{Cpu, Cpuacct, Devices, Freezer, Io, Memory, Pids};
    let mut directories = Vec::new();
    if let Some(v2) = &host.v2 {
        // As runc: beside the caller's own cgroup, which has processes and so can have no
        // children with controllers.
        let beside = v2.own.parent().filter(|p| p.starts_with(&v2.mount)).unwrap_or(&v2.mount);
        let base = if path.absolute { &v2.mount } else { beside };
        // Those that statistics read, where they are.
        let enable = asked.union(Controllers::of([Cpu, Io, Memory, Pids]));
        directories.push(Directory {
            path: base.join(&path.path),
            mount: v2.mount.clone(),
            controllers: enable.intersect(v2.controllers),
            required: asked.intersect(v2.controllers),
            name: None,
            unified: true,
        });
    }
    let mut wanted = asked.union(Controllers::of([Memory]));
    if devices {
        wanted.insert(Devices);
    }
    if host.v2.is_none() {
        // What any cgroup of v2 can: freeze, and say how much processor time was used and how many
        // threads there are.
        wanted = wanted.union(Controllers::of([Freezer, Cpuacct, Pids]));
    }
    for h in &host.v1 {
        if join == Join::Needed && h.controllers.intersect(wanted).is_empty() {
            continue;
        }
        let base = if path.absolute { &h.mount } else { &h.own };
        directories.push(Directory {
            path: base.join(&path.path),
            mount: h.mount.clone(),
            controllers: h.controllers,
            required: h.controllers,
            name: h.name.clone(),
            unified: false,
        });
    }
    directories
}
