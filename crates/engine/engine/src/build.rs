//! Building images: the builder, with this engine's images and containers.

use std::{collections::BTreeSet, fs, io, path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use hako_build::{Builder, Cause, Job, Runner};
pub use hako_build::{Event, Lines, Network, Outcome, Progress, Record, Request, Stream};
use hako_image::{Image, Loaded, PullOptions, Silent};
use hako_monitor::{
    Client, Config, Event as MonitorEvent, Request as MonitorRequest, Streams, client::Received,
};
use hako_oci::{Platform, Reference};
use hako_root::Root;
use hako_sys::fs::Lock;

use crate::{
    Engine, Error, Result,
    control::SIGKILL,
    lock, names,
    packages::{NameError, PackagesName},
    places::private_dirs,
    start::{reap, write},
};

/// How long a build goes on after it was to end.
const ATTENTION: Duration = Duration::from_millis(100);

impl Engine {
    /// Builds an image. `pull` fetches base images even where they are here. Whoever sets `canceled`
    /// ends the build.
    pub fn build(
        &self,
        request: &Request,
        pull: bool,
        progress: &dyn Progress,
        canceled: &AtomicBool,
    ) -> Result<Loaded> {
        self.needs_root("build")?;
        self.sweep()?;
        self.images()?.sweep()?;
        let _creating = lock::take(&self.places.creating_lock(), Lock::Shared)?;
        let here = self.build_run_dir()?;
        let builder = self.builder(here.dir.clone())?;
        let find = |name: &str, platform: Option<&Platform>| {
            self.base_image(name, platform, pull)
                .map_err(|error| hako_build::Error::Runner(Box::new(error)))
        };
        let built = builder.build(request, &find, progress, canceled);
        if built.is_err() {
            // Nothing refers to layers that were made for nothing.
            drop(self.images()?.collect());
        }
        Ok(built?)
    }

    /// What the cache of builds holds, what was used last first.
    pub fn build_records(&self) -> Result<Vec<Record>> {
        Ok(self.builder(self.places.run_root.join("build"))?.records()?)
    }

    /// Forgets steps of builds by their keys, and all caches of commands, and says how many bytes that
    /// freed.
    pub fn forget_builds(&self, keys: &BTreeSet<String>) -> Result<u64> {
        let builder = self.builder(self.places.run_root.join("build"))?;
        builder.forget(keys)?;
        Ok(builder.clear_caches()? + self.images()?.collect()?)
    }

    /// Bytes that commands of builds keep in `--mount=type=cache`s.
    pub fn build_caches_bytes(&self) -> Result<u64> {
        Ok(self.builder(self.places.run_root.join("build"))?.caches_bytes()?)
    }

    fn builder(&self, run_dir: PathBuf) -> Result<Builder<'_>> {
        let build_dir = self.places.root.join("build");
        let db = std::sync::Arc::clone(&self.db);
        Ok(Builder::open(self.images()?, db, self, self.machine()?, build_dir, run_dir)?)
    }

    /// The image that a stage is built upon: of packages, of the store, or of a registry.
    fn base_image(&self, name: &str, platform: Option<&Platform>, pull: bool) -> Result<Image> {
        if PackagesName::is_one(name) {
            let packages: PackagesName =
                name.parse().map_err(|error: NameError| Error::Unsupported(error.to_string()))?;
            let made = self.image_of_packages(&packages, platform.cloned(), pull, &|_| {})?;
            return self.image(&made.to_string());
        }
        let name: Reference =
            name.parse().map_err(|_| Error::Unsupported(format!("{name:?} names no image")))?;
        let is_right = |image: &Image| {
            platform.is_none_or(|wanted| {
                let has = image.platform();
                (has.os, has.architecture) == (wanted.os.clone(), wanted.architecture.clone())
            })
        };
        match self.image_for_run(&name.familiar()) {
            Ok(image) if !pull && is_right(&image) => return Ok(image),
            Err(e) if !e.is_no_image() => return Err(e),
            _ => {}
        }
        let options = PullOptions { platform: platform.cloned() };
        let pulled = self.pull(&name, &options, &Silent)?;
        self.image(&pulled.id.to_string())
    }

    /// A directory for what steps need while they run. Those of builds that were killed go.
    fn build_run_dir(&self) -> Result<RunDir> {
        let all = self.places.run_root.join("build");
        private_dirs(&all)?;
        let _alone = lock::take(&self.places.run_root.join("build.lock"), Lock::Exclusive)?;
        let root = Root::open(&all)?;
        for entry in root.as_dir().entries()? {
            let name = PathBuf::from(entry.name.to_string_lossy().into_owned());
            if lock::try_take(&all.join(&name).join("lock"), Lock::Exclusive)?.is_some() {
                root.remove_all(&name)?;
            }
        }
        let dir = all.join(names::new_id()?);
        private_dirs(&dir)?;
        let held = lock::take(&dir.join("lock"), Lock::Exclusive)?;
        Ok(RunDir { dir, _held: held })
    }

    fn run_step(&self, job: &Job<'_>, output: &mut dyn FnMut(Stream, &[u8])) -> Result<i32> {
        let run_dir = self.places.run_dir(job.id);
        private_dirs(&run_dir.join("rootfs"))?;
        let json = |value: serde_json::Result<Vec<u8>>| {
            value.map_err(|source| Error::Record { id: job.id.to_owned(), source })
        };
        write(&run_dir.join("config.json"), &json(serde_json::to_vec(job.spec))?, 0o600)?;
        let config = Config {
            id: job.id.to_owned(),
            runtime_root: self.places.runtime_root(),
            rootfs_mounts: job.rootfs_mounts.clone(),
            exit_file: run_dir.join("exit.json"),
            tied: true,
            ..Config::default()
        };
        let name = run_dir.join(hako_monitor::config::CONFIG_NAME);
        write(&name, &json(serde_json::to_vec(&config))?, 0o600)?;

        let (mut client, theirs) = Client::pair()?;
        let streams = Streams { stdin: false, stdout: true, stderr: true };
        client.send(&MonitorRequest::Attach(streams))?;
        client.send(&MonitorRequest::Own)?;
        let mut monitor = self.program()?.spawn_monitor(run_dir.as_os_str(), theirs, None)?;
        let ended = follow(&mut client, job, output);
        if ended.is_ok() {
            client.send(&MonitorRequest::Cleaned)?;
        }
        drop(client);
        reap(&mut monitor)?;
        ended
    }
}

/// A directory of a running build.
struct RunDir {
    dir: PathBuf,
    _held: lock::Held,
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What cannot be removed now, the next build removes.
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl Runner for Engine {
    fn run(
        &self,
        job: Job<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> std::result::Result<i32, Cause> {
        // As a container it is nobody's: this lock keeps sweeps away while it has no monitor.
        let dir = self.places.container_dir(job.id);
        private_dirs(&dir)?;
        let _op = lock::take(&self.op_lock(job.id), Lock::Exclusive)?;
        let ended = self.run_step(&job, output);
        let buried = self.bury(job.id);
        let removed = match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &dir)(e)),
            _ => Ok(()),
        };
        let code = ended?;
        buried?;
        removed?;
        Ok(code)
    }
}

/// Hands on what a step writes until it ends, and kills it once the build is to end.
fn follow(
    client: &mut Client,
    job: &Job<'_>,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<i32> {
    let mut killed = false;
    loop {
        match client.receive(Some(ATTENTION))? {
            Received::Event(MonitorEvent::Stdout(bytes)) => output(Stream::Stdout, bytes),
            Received::Event(MonitorEvent::Stderr(bytes)) => output(Stream::Stderr, bytes),
            Received::Event(MonitorEvent::Exited(exit)) => return Ok(exit.code),
            Received::Event(MonitorEvent::Failed(failure)) => return Err(Error::Start { failure }),
            Received::Event(MonitorEvent::Started { .. } | MonitorEvent::StdinTaken(_)) => {}
            Received::End => return Err(Error::MonitorLost(job.id.to_owned())),
            Received::Nothing => {}
        }
        if !killed && (job.is_canceled)() {
            client.send(&MonitorRequest::Signal(SIGKILL))?;
            killed = true;
        }
    }
}
