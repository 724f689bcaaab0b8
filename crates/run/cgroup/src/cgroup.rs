//! Acting: making directories, writing values, moving processes, removing.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use hako_oci::runtime::Resources;
use hako_sys::{Errno, bpf};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, device_program,
    devices::Policy,
    host::{Controller, Controllers, Host},
    plan::{self, Directory, Join, Plan, Write},
    sys::{self, errno},
    systemd::Unit,
};

/// An existing cgroup: one directory in each hierarchy that it joined. What is saved of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    path: String,
    directories: Vec<Directory>,
    /// The unit of systemd that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

/// A cgroup that was just made. Dropped, it is removed again, as far as it was not there before.
#[derive(Debug)]
pub struct Created {
    cgroup: Cgroup,
    made: Vec<PathBuf>,
}

impl Created {
    /// The cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Leaves it in place.
    pub fn keep(mut self) -> Cgroup {
        self.made.clear();
        let cgroup = self.cgroup.clone();
        self.cgroup.unit = None;
        cgroup
    }

    /// Removes it, and says what could not be removed.
    pub fn abort(mut self) -> Result<()> {
        let stopped = self.cgroup.unit.take().map_or(Ok(()), |unit| unit.stop());
        remove(&std::mem::take(&mut self.made)).and(stopped)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        // Who wants to know calls `abort`.
        if let Some(unit) = self.cgroup.unit.take() {
            unit.stop().ok();
        }
        if !self.made.is_empty() {
            remove(&self.made).ok();
        }
    }
}

impl Plan {
    /// Makes the directories and writes the values. On an error nothing is left.
    pub fn create(&self) -> Result<Created> {
        let mut created = self.nothing_yet();
        for directory in &self.directories {
            if make(directory)? {
                created.made.push(directory.path.clone());
            }
        }
        self.apply()?;
        Ok(created)
    }

    fn nothing_yet(&self) -> Created {
        let (path, directories) = (self.path.clone(), self.directories.clone());
        let made = Vec::with_capacity(directories.len());
        Created { cgroup: Cgroup { path, directories, unit: None }, made }
    }

    /// What [`Plan::create_around`] will have made: for somebody who has to take it away when the
    /// one who began it was killed.
    pub fn planned(&self) -> Cgroup {
        Cgroup {
            path: self.path.clone(),
            directories: self.directories.clone(),
            unit: self.scope.as_ref().map(|scope| scope.unit().clone()),
        }
    }

    /// Lets systemd make the unit around a process that waits for it, and puts the process into
    /// the directories. On an error nothing is left but the process.
    pub fn create_around(&self, pid: i32) -> Result<Created> {
        let mut created = self.nothing_yet();
        if let Some(scope) = &self.scope {
            created.cgroup.unit = Some(scope.start(pid)?);
        }
        for directory in &self.directories {
            let path = &directory.path;
            match fs::create_dir_all(path) {
                Ok(()) => created.made.push(path.clone()),
                Err(e) => {
                    return Err(Error::Create { path: path.clone(), source: errno(&e) });
                }
            }
            if !directory.unified && directory.controllers.contains(Controller::Cpuset) {
                inherit_cpuset(directory)?;
            }
        }
        // A cgroup within the scope can get controllers only when the scope has no process itself.
        created.cgroup.attach(pid)?;
        self.directories.iter().filter(|d| d.unified).try_for_each(enable)?;
        self.apply()?;
        Ok(created)
    }

    fn apply(&self) -> Result<()> {
        if let Some(limit) = self.memory_at_least {
            check_usage(&self.directories, limit)?;
        }
        write_all(&self.directories, &self.writes)?;
        if let Some(policy) = &self.device_program
            && let Some(d) = self.directories.iter().find(|d| d.unified)
        {
            set_device_program(&d.path, policy)?;
        }
        Ok(())
    }
}

/// Makes a directory and its parents. Returns whether it was absent.
fn make(directory: &Directory) -> Result<bool> {
    let path = &directory.path;
    let failed = |source| Error::Create { path: path.clone(), source };
    let made = match sys::make_directory(path) {
        Ok(()) => true,
        Err(Errno::EEXIST) => {
            let pids = sys::read(&path.join("cgroup.procs"))?.lines().count();
            if pids > 0 {
                return Err(Error::InUse { path: path.clone(), pids });
            }
            if is_frozen(directory)? {
                return Err(Error::Frozen { path: path.clone() });
            }
            false
        }
        Err(Errno::ENOENT) => {
            fs::create_dir_all(path).map_err(|e| failed(errno(&e)))?;
            true
        }
        Err(source) => return Err(failed(source)),
    };
    let prepared = if directory.unified {
        enable(directory)
    } else if directory.controllers.contains(Controller::Cpuset) {
        inherit_cpuset(directory)
    } else {
        Ok(())
    };
    match prepared {
        Ok(()) => Ok(made),
        Err(e) => {
            if made {
                remove(std::slice::from_ref(path)).ok();
            }
            Err(e)
        }
    }
}

/// Whether a process that enters it would stop there.
fn is_frozen(directory: &Directory) -> Result<bool> {
    if directory.unified {
        return Ok(sys::read(&directory.path.join("cgroup.freeze"))?.trim() == "1");
    }
    Ok(directory.controllers.contains(Controller::Freezer)
        && sys::read(&directory.path.join("freezer.state"))?.trim() != "THAWED")
}

/// Directories from the mount (exclusive) down to the cgroup (inclusive).
fn way(directory: &Directory) -> Vec<&Path> {
    let mut way: Vec<_> =
        directory.path.ancestors().take_while(|p| *p != directory.mount).collect();
    way.reverse();
    way
}

/// Hands controllers of v2 down to the cgroup.
fn enable(directory: &Directory) -> Result<()> {
    if directory.controllers.is_empty() {
        return Ok(());
    }
    let has = |path: &Path| -> Result<Controllers> {
        Ok(Controllers::of_v2(&sys::read(&path.join("cgroup.controllers"))?))
    };
    if directory.controllers.without(has(&directory.path)?).is_empty() {
        return settle(&directory.path);
    }
    let mut above: &Path = &directory.mount;
    let mut waited = false;
    for path in way(directory) {
        let missing = directory.controllers.without(has(path)?);
        waited = !missing.is_empty();
        let control = above.join("cgroup.subtree_control");
        let names = |set: Controllers| {
            let names: Vec<_> = set.iter().map(|c| format!("+{c}")).collect();
            names.join(" ")
        };
        if !missing.is_empty() && sys::write(&control, &names(missing)).is_err() {
            // One that cannot be enabled keeps the others from being: one by one.
            for controller in missing.iter() {
                let controllers = names(Controllers::of([controller]));
                match sys::write(&control, &controllers) {
                    Err(source) if directory.required.contains(controller) => {
                        return Err(Error::Enable { path: control, controllers, source });
                    }
                    _ => {}
                }
            }
        }
        above = path;
    }
    if waited { Ok(()) } else { settle(&directory.path) }
}

/// Waits until the files are there of controllers that somebody else is just handing down, to a
/// neighbour: `cgroup.controllers` names a controller before its files are made. Any write here takes
/// the lock under which they are; an empty one changes nothing.
fn settle(path: &Path) -> Result<()> {
    let control = path.join("cgroup.subtree_control");
    match sys::write(&control, "\n") {
        // Who may not write here gets the same of the first limit; without one there is nothing to wait for.
        Ok(()) | Err(Errno::EACCES | Errno::EPERM) => Ok(()),
        Err(source) => Err(Error::Enable { path: control, controllers: String::new(), source }),
    }
}

/// A cpuset of v1 starts empty, and then takes no process: each new one gets its parent's values.
fn inherit_cpuset(directory: &Directory) -> Result<()> {
    let mut above: &Path = &directory.mount;
    for path in way(directory) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = path.join(file);
            if sys::read(&own)?.trim().is_empty() {
                let value = sys::read(&above.join(file))?;
                sys::write(&own, value.trim()).map_err(|source| Error::Write {
                    path: own,
                    value: value.trim().to_owned(),
                    field: "linux.cgroupsPath".to_owned(),
                    source,
                })?;
            }
        }
        above = path;
    }
    Ok(())
}

/// Writes values in order; those that the kernel calls invalid again, until none is accepted.
fn write_all(directories: &[Directory], writes: &[Write]) -> Result<()> {
    let mut open: Vec<&Write> = writes.iter().collect();
    loop {
        let mut refused = Vec::new();
        let mut first = None;
        for same in open.chunk_by(|a, b| a.directory == b.directory && a.file == b.file) {
            let mut file = Target::new(&directories[same[0].directory].path, same[0]);
            for &write in same {
                match file.write(write) {
                    Err(Error::Write { source: Errno::EINVAL, .. }) if first.is_some() => {
                        refused.push(write);
                    }
                    Err(e @ Error::Write { source: Errno::EINVAL, .. }) => {
                        refused.push(write);
                        first = Some(e);
                    }
                    other => other?,
                }
            }
        }
        match first {
            None => return Ok(()),
            // No progress.
            Some(e) if refused.len() == open.len() => return Err(e),
            Some(_) => open = refused,
        }
    }
}

/// A file that several values in a row go to: rules of devices, rates of disks.
struct Target<'a> {
    directory: &'a Path,
    path: PathBuf,
    /// Opened for the first value; the outcome holds for the others.
    file: std::result::Result<fs::File, Errno>,
}

impl<'a> Target<'a> {
    fn new(directory: &'a Path, write: &Write) -> Target<'a> {
        let path = directory.join(&*write.file);
        Target { directory, file: sys::open(&path), path }
    }

    fn write(&mut self, write: &Write) -> Result<()> {
        let source = match (&self.file, &write.otherwise) {
            (Err(Errno::ENOENT), Some((file, value))) => {
                let other = Write {
                    file: file.clone(),
                    value: value.clone(),
                    otherwise: None,
                    ..write.clone()
                };
                return Target::new(self.directory, &other).write(&other);
            }
            (Err(Errno::ENOENT), None) if write.optional => return Ok(()),
            (Err(e), _) => *e,
            (Ok(file), _) => match sys::write_to(file, &write.value) {
                Ok(()) => return Ok(()),
                Err(e) => e,
            },
        };
        Err(Error::Write {
            path: self.path.clone(),
            value: write.value.clone(),
            field: write.field.clone().into_owned(),
            source,
        })
    }
}

fn check_usage(directories: &[Directory], limit: u64) -> Result<()> {
    let Some(d) = directories.iter().find(|d| d.controllers.contains(Controller::Memory)) else {
        return Ok(());
    };
    let file = if d.unified { "memory.current" } else { "memory.usage_in_bytes" };
    let used = sys::read(&d.path.join(file))?.trim().parse().unwrap_or(0);
    if used > limit { Err(Error::BelowUsage { limit, used }) } else { Ok(()) }
}

/// Gives the cgroup this device program, in place of the one it has.
fn set_device_program(path: &Path, policy: &Policy) -> Result<()> {
    let failed = |call| move |source| Error::Devices { call, path: path.to_owned(), source };
    let cgroup = open_directory(path).map_err(failed("open"))?;
    let attached = bpf::device_programs(cgroup.as_fd()).map_err(failed("BPF_PROG_QUERY"))?;
    let mut old = Vec::with_capacity(attached.len());
    for id in attached {
        match bpf::program_by_id(id) {
            Ok(program) => old.push(program),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(failed("BPF_PROG_GET_FD_BY_ID")(e)),
        }
    }
    if policy.allows_all() && old.is_empty() {
        return Ok(());
    }
    let program = bpf::load_device_program(&device_program::compile(policy), &mut [])
        .map_err(failed("BPF_PROG_LOAD"))?;
    // With one program the exchange is one step: no moment without a program, none with both.
    let replace = if old.len() == 1 { old.pop() } else { None };
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), replace.as_ref().map(AsFd::as_fd))
        .map_err(failed("BPF_PROG_ATTACH"))?;
    for program in &old {
        bpf::detach_device_program(cgroup.as_fd(), program.as_fd())
            .map_err(failed("BPF_PROG_DETACH"))?;
    }
    Ok(())
}

fn open_directory(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    sys::open_directory(path).map(OwnedFd::from)
}

impl Cgroup {
    /// The directories.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The directory of v2.
    pub fn unified(&self) -> Option<&Path> {
        self.directories.iter().find(|d| d.unified).map(|d| d.path.as_path())
    }

    /// The directory of a controller, of either version.
    pub fn directory(&self, controller: Controller) -> Option<&Directory> {
        self.directories.iter().find(|d| d.controllers.contains(controller))
    }

    /// Directories by what they control: controllers joined by commas, `name=` and a name, or
    /// nothing for v2.
    pub fn paths(&self) -> impl Iterator<Item = (String, &Path)> {
        self.directories.iter().map(|d| {
            let key = match &d.name {
                _ if d.unified => String::new(),
                Some(name) => format!("name={name}"),
                None => {
                    let names: Vec<_> = d.controllers.iter().filter_map(|c| c.v1_name()).collect();
                    names.join(",")
                }
            };
            (key, d.path.as_path())
        })
    }

    /// Whether any of its directories is there.
    pub fn exists(&self) -> bool {
        self.directories.iter().any(|d| d.path.is_dir())
    }

    /// The directory of v2, opened for `CLONE_INTO_CGROUP`.
    pub fn open_unified(&self) -> Result<Option<OwnedFd>> {
        let open = |path: &Path| {
            open_directory(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        self.unified().map(open).transpose()
    }

    /// Files of v1's hierarchies, opened; a process with one thread that writes `0` to each is in
    /// the cgroup afterwards. What cannot be made with a cgroup of v1 can so at least be put into it
    /// before it runs anything.
    ///
    /// These are the `tasks` files. Moving a whole process, or another one, makes the kernel wait
    /// until no processor is within fork, exec or exit: 10 to 20 ms on an idle machine. Moving the
    /// very thread that writes needs none of that (since Linux 5.5).
    pub fn open_v1(&self) -> Result<Vec<fs::File>> {
        let v1 = self.directories.iter().filter(|d| !d.unified);
        v1.map(|d| {
            let path = d.path.join("tasks");
            sys::open(&path).map_err(|source| Error::Read { path, source })
        })
        .collect()
    }

    /// The cgroup of v2 that a process of the container is in now, opened as by
    /// [`Cgroup::open_unified`].
    ///
    /// Containers that make cgroups of their own and hand controllers down to them (an init system,
    /// a container engine) leave their own without processes, and then no process can be put there:
    /// EBUSY. One that is to run beside the init goes where that is.
    pub fn open_unified_of(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(d) = self.directories.iter().find(|d| d.unified) else { return Ok(None) };
        let own = sys::read(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let path = crate::host::unified_path(&own, &d.mount);
        // It left the container's cgroup: then that is not ours to follow.
        let path = if path.starts_with(&d.path) { path } else { d.path.clone() };
        open_directory(&path).map(Some).map_err(|source| Error::Read { path, source })
    }

    /// Moves a process into the cgroup in every hierarchy.
    pub fn attach(&self, pid: i32) -> Result<()> {
        self.directories.iter().try_for_each(|d| attach(&d.path, pid))
    }

    /// Changes limits; joins the hierarchies that the new limits need.
    ///
    /// `resources` are the changes alone, except that memory and swap are given together, as one is
    /// counted by the other. Returns whether the cgroup has new directories, to be saved.
    pub fn update(&mut self, host: &Host, resources: &Resources) -> Result<bool> {
        let asked = plan::asked(resources);
        for &(controller, field) in &asked {
            if host.hierarchy(controller).is_none() && !host.in_v2(controller) {
                return Err(Error::Missing { controller, field: field.to_owned() });
            }
        }
        let asked = Controllers::of(asked.into_iter().map(|a| a.0));
        let path = plan::clean(&self.path)?;
        let mut grown = false;
        for wanted in plan::directories(host, Join::Needed, asked, &path, false) {
            if wanted.controllers.intersect(asked).is_empty() {
                continue;
            }
            match self.directories.iter_mut().find(|d| d.mount == wanted.mount) {
                Some(have)
                    if asked.intersect(wanted.required).without(have.required).is_empty() => {}
                Some(have) => {
                    have.controllers = have.controllers.union(wanted.controllers);
                    have.required = have.required.union(wanted.required);
                    enable(have)?;
                    grown = true;
                }
                None => {
                    make(&wanted)?;
                    self.directories.push(wanted);
                    grown = true;
                    self.attach_all(self.directories.len() - 1)?;
                }
            }
        }
        if let Some(unit) = &self.unit {
            unit.set(host, resources)?;
        }
        Plan::update(host, &self.directories, resources)?.apply()?;
        Ok(grown)
    }

    /// Moves all processes into a hierarchy that was joined late, those forked meanwhile as well.
    fn attach_all(&self, directory: usize) -> Result<()> {
        let path = &self.directories[directory].path;
        loop {
            let there: Vec<i32> = parse_pids(&sys::read(&path.join("cgroup.procs"))?);
            let mut moved = false;
            for pid in self.pids()?.into_iter().filter(|p| !there.contains(p)) {
                attach(path, pid).or_else(gone)?;
                moved = true;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// Removes the cgroup and those that the container made in it. Ok where it is gone already.
    ///
    /// A process that was just killed keeps its cgroup busy until it is gone; this waits for up to
    /// a second.
    pub fn remove(&self) -> Result<()> {
        // systemd removes what it made; what is left of the others is removed in any case.
        let stopped = self.unit.as_ref().map_or(Ok(()), Unit::stop);
        let paths: Vec<_> = self.directories.iter().map(|d| d.path.clone()).collect();
        remove(&paths).and(stopped)
    }
}

fn attach(path: &Path, pid: i32) -> Result<()> {
    sys::write(&path.join("cgroup.procs"), &pid.to_string()).map_err(|source| Error::Attach {
        pid,
        path: path.to_owned(),
        source,
    })
}

/// That a process ended meanwhile is no error.
fn gone(e: Error) -> Result<()> {
    match e {
        Error::Attach { source: Errno::ESRCH, .. } => Ok(()),
        e => Err(e),
    }
}

pub(crate) fn parse_pids(text: &str) -> Vec<i32> {
    text.lines().filter_map(|l| l.trim().parse().ok()).collect()
}

/// Removes directories with what is in them; goes on past failures.
fn remove(paths: &[PathBuf]) -> Result<()> {
    let mut first = None;
    let mut others = 0;
    for path in paths {
        if let Err(source) = remove_one(path) {
            match first {
                None => first = Some((path.clone(), source)),
                Some(_) => others += 1,
            }
        }
    }
    match first {
        None => Ok(()),
        Some((path, source)) => Err(Error::Remove { path, source, others }),
    }
}

fn remove_one(path: &Path) -> std::result::Result<(), Errno> {
    let mut wait = Duration::from_micros(100);
    let mut waited = Duration::ZERO;
    loop {
        match fs::remove_dir(path).map_err(|e| errno(&e)) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // Processes that are not quite gone, or children.
            Err(Errno::EBUSY | Errno::ENOTEMPTY) if waited < Duration::from_secs(1) => {}
            Err(e) => return Err(e),
        }
        let mut children = false;
        if let Ok(entries) = fs::read_dir(path) {
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    children = true;
                    remove_one(&entry.path())?;
                }
            }
        }
        if !children {
            thread::sleep(wait);
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(50));
        }
    }
}
