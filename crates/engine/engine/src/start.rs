//! Starting a container: its bundle is written anew, and a monitor takes it from there.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Child,
};

use hako_bundle::{Facts, IpcMode, Neighbour, NetworkMode};
use hako_monitor::{
    Client, Config, Event, Exit, ExitRecord, LogConfig, Request, Streams, client::Received,
};
use hako_root::Root;
use hako_snapshot::Snapshotter as _;
use hako_sys::{fs::Lock, tty::WindowSize};

use crate::{Container, Engine, Error, Result, lock, places::private_dirs};

/// Longest `/etc/passwd` or `/etc/group` that is read (CVE-2026-47262: gigabytes of it).
const USERS_BYTES_MAX: u64 = 1 << 20;

/// How many other containers are asked for the layers that they hold.
const HOLDERS_MAX: usize = 256;

/// How the one who starts a container takes part in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartRequest {
    /// What to be attached to, from the first byte on.
    pub streams: Streams,
    /// Size of the terminal at its start.
    pub size: Option<WindowSize>,
    /// Whether the starter removes the container at its end ([`Attachment::finish`]).
    pub own: bool,
}

/// A connection to a running container.
pub struct Attachment {
    pub(crate) client: Client,
    /// The container.
    pub container: Container,
    /// Its first process on the host; 0 where it was attached to later.
    pub pid: i32,
    /// The monitor, where this process started it.
    pub(crate) monitor: Option<Child>,
}

impl Engine {
    /// Starts a container, and returns when its program runs.
    pub fn start(&self, container: &Container, request: StartRequest) -> Result<Attachment> {
        self.needs_root("start")?;
        let op = self.lock_container(container)?;
        // It may have been removed while we waited for the lock.
        self.find(&container.id)?;
        if self.monitor_lives(&container.id)? {
            return Err(Error::AlreadyRunning(container.id.clone()));
        }
        let started = self.start_locked(container, request);
        if let Err(error) = &started
            && !container.record.auto_remove
        {
            self.record_failure(&container.id, error)?;
        }
        drop(op);
        started
    }

    fn start_locked(&self, container: &Container, request: StartRequest) -> Result<Attachment> {
        self.bury(&container.id)?;
        let layers = match self.write_bundle(container) {
            // A power cut may have taken layers that were unpacked just before; the image has them.
            Err(Error::Snapshot(hako_snapshot::Error::NoChain(_))) => {
                let _layers = self.snapshots()?.hold()?;
                self.unpack(&self.image(&container.image_id.to_string())?)?;
                self.write_bundle(container)?
            }
            written => written?,
        };
        let (mut client, theirs) = Client::pair()?;
        client.send(&Request::Attach(request.streams))?;
        if let Some(size) = request.size {
            client.send(&Request::Resize(size))?;
        }
        if request.own {
            client.send(&Request::Own)?;
        }
        let run_dir = self.places.run_dir(&container.id);
        let mut monitor = self.program()?.spawn_monitor(run_dir.as_os_str(), theirs, layers)?;
        let started = wait_started(&mut client, container);
        if started.is_err() {
            reap(&mut monitor)?;
            self.bury(&container.id)?;
        }
        Ok(Attachment {
            client,
            container: container.clone(),
            pid: started?,
            monitor: Some(monitor),
        })
    }

    /// Why it could not be started is what `inspect` says of it from now on. When it ran before
    /// stays.
    fn record_failure(&self, id: &str, error: &Error) -> Result<()> {
        let before = self.exit_record(id)?;
        let code = match error.exit_code() {
            // Docker's "unknown": 125 is a command's status, and this is a container's.
            125 => 128,
            code => code,
        };
        let (started_at, finished_at) =
            before.map(|record| (record.started_at, record.finished_at)).unwrap_or_default();
        let exit = Exit { code, ..Exit::default() };
        let error = error.to_string();
        self.write_exit_record(id, &ExitRecord { exit, pid: 0, started_at, finished_at, error })
    }

    /// One command at a time starts, ends or removes a container.
    pub(crate) fn lock_container(&self, container: &Container) -> Result<lock::Held> {
        let path = self.op_lock(&container.id);
        match lock::take(&path, Lock::Exclusive) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoContainer(container.name.clone()))
            }
            taken => taken,
        }
    }

    pub(crate) fn op_lock(&self, id: &str) -> PathBuf {
        self.places.container_dir(id).join("lock")
    }

    /// Writes what the monitor reads, and returns what it holds of the layers.
    fn write_bundle(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let (id, record) = (&container.id, &container.record);
        // As in Docker, a source may have gone since the container was made.
        hako_bundle::mount::ensure_sources(&record.options.mounts)?;
        let run_dir = self.places.run_dir(id);
        let snapshots = self.snapshots()?;
        let shared = snapshots.shared(id, &self.holders()?)?;
        let (passwd, group) = {
            // Where nothing was written yet, the layers are all there is, and mounted already.
            let root = match &shared {
                Some(shared) if snapshots.changes(id)?.as_dir().entries()?.is_empty() => {
                    let layers = shared.layers.try_clone();
                    Root::from_fd(layers.map_err(Error::io("dup", id))?, "layers")
                }
                _ => snapshots.view(id)?,
            };
            (read_users(&root, "etc/passwd")?, read_users(&root, "etc/group")?)
        };
        let containers = self.joined_containers(container)?;
        let files_dir = self.places.container_dir(id);
        let mut config = record.config.clone();
        config.env.extend(record.engine_env.iter().cloned());
        let facts = Facts {
            id,
            passwd: &passwd,
            group: &group,
            files_dir: &files_dir,
            volumes: &BTreeMap::new(),
            containers: &containers,
            machine: self.machine()?,
        };
        let bundle = hako_bundle::bundle(&record.options, &config, &facts)?;
        for (name, content) in &bundle.files {
            write(&files_dir.join(name), content, 0o644)?;
        }
        private_dirs(&run_dir.join("rootfs"))?;
        let json = |value: serde_json::Result<Vec<u8>>| {
            value.map_err(|source| Error::Record { id: id.clone(), source })
        };
        write(&run_dir.join("config.json"), &json(serde_json::to_vec(&bundle.spec))?, 0o600)?;
        let (layers, mounts) = match shared {
            Some(shared) => (Some(shared.layers), shared.mounts),
            None => (None, snapshots.mounts(id)?),
        };
        let monitor = self.monitor_config(container, mounts);
        let name = run_dir.join(hako_monitor::config::CONFIG_NAME);
        write(&name, &json(serde_json::to_vec(&monitor))?, 0o600)?;
        Ok(layers)
    }

    /// Where monitors that may be alive hold the layers of their containers.
    fn holders(&self) -> Result<Vec<PathBuf>> {
        let dir = self.places.run_root.join("containers");
        let mut holders = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))?.take(HOLDERS_MAX) {
            let lock = Config::lock_path(&entry.map_err(Error::io("read", &dir))?.path());
            // Containers come and go meanwhile.
            let Ok(text) = fs::read_to_string(&lock) else { continue };
            if let Ok(pid) = text.trim().parse::<u32>() {
                holders.push(format!("/proc/{pid}/fd/{}", hako_snapshot::SHARED_FD).into());
            }
        }
        Ok(holders)
    }

    fn monitor_config(
        &self,
        container: &Container,
        rootfs_mounts: Vec<hako_oci::runtime::Mount>,
    ) -> Config {
        let (id, record) = (&container.id, &container.record);
        let log = (!record.no_log).then(|| LogConfig {
            path: self.log_path(id),
            max_bytes: record.log_bytes_max,
            max_files: record.log_files_max,
        });
        Config {
            id: id.clone(),
            runtime_root: self.places.runtime_root(),
            rootfs_mounts,
            stdin_open: record.options.stdin_open,
            stdin_once: record.attached[0],
            log,
            exit_file: self.exit_file(id),
            on_exit: match record.auto_remove {
                true => self.cleanup_command(id),
                false => Vec::new(),
            },
            init: record.options.init,
            tied: false,
        }
    }

    /// What the monitor executes when nobody else removes the container.
    fn cleanup_command(&self, id: &str) -> Vec<String> {
        // The file that this process runs, even if it was replaced or moved since.
        let program = fs::read_link("/proc/self/exe").unwrap_or_else(|_| "hako".into());
        let place = |path: &Path| path.display().to_string();
        vec![
            place(&program),
            "--root".into(),
            place(&self.places.root),
            "--run-root".into(),
            place(&self.places.run_root),
            "container".into(),
            "cleanup".into(),
            id.to_owned(),
        ]
    }

    /// The log of a container, in Docker's json-file format.
    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.places.container_dir(id).join(format!("{id}-json.log"))
    }

    /// The containers whose namespaces are joined, as they are now.
    fn joined_containers(&self, container: &Container) -> Result<BTreeMap<String, Neighbour>> {
        let mut joined = BTreeMap::new();
        let mut options = container.record.options.clone();
        for (namespace, word) in hako_bundle::joined_containers(&mut options) {
            let cannot = |why| Error::Join { namespace, container: word.clone(), why };
            let other = self.find(word).map_err(|e| cannot(e.to_string()))?;
            let crate::Status::Running(crate::Running { pid: Some(pid), .. }) =
                self.status(&other)?
            else {
                return Err(cannot(format!("container {} is not running", other.id)));
            };
            if namespace == "IPC" && other.record.options.ipc != IpcMode::Shareable {
                let hint =
                    "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
                return Err(cannot(hint.into()));
            }
            let (hostname, files_dir) = self.network_names(&other)?;
            joined.insert(word.clone(), Neighbour { pid, hostname, files_dir });
        }
        Ok(joined)
    }

    /// A container's host name and the directory of its `hosts`, which are those of the container
    /// whose network it joined.
    fn network_names(&self, container: &Container) -> Result<(String, PathBuf)> {
        let options = &container.record.options;
        match &options.network {
            NetworkMode::Container(word) => self.network_names(&self.find(word)?),
            NetworkMode::Host if options.hostname.is_none() => {
                Ok((self.machine()?.hostname.clone(), self.places.container_dir(&container.id)))
            }
            _ => {
                let short = || container.short_id().to_owned();
                let name = options.hostname.clone().filter(|name| !name.is_empty());
                Ok((name.unwrap_or_else(short), self.places.container_dir(&container.id)))
            }
        }
    }
}

/// Waits until a monitor that has said its last word is gone, so that nothing of the container is
/// left when its command ends.
pub(crate) fn reap(monitor: &mut Child) -> Result<()> {
    monitor.wait().map(drop).map_err(Error::io("wait", "hako-runc monitor"))
}

fn wait_started(client: &mut Client, container: &Container) -> Result<i32> {
    match client.receive(None)? {
        Received::Event(Event::Started { pid }) => Ok(pid),
        Received::Event(Event::Failed(failure)) => Err(Error::Start { failure }),
        // Nothing else comes before the one or the other.
        Received::Event(_) | Received::Nothing | Received::End => {
            Err(Error::MonitorLost(container.id.clone()))
        }
    }
}

fn read_users(root: &Root, path: &str) -> Result<Vec<u8>> {
    match root.read(Path::new(path), USERS_BYTES_MAX) {
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        read => Ok(read?),
    }
}

pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path)?;
        io::Write::write_all(&mut file, content)
    };
    write().map_err(Error::io("write", path))
}
