//! `RUN`: a command in a container of its own, and what it changed as a layer.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use hako_bundle::{EnvChange, Facts, NetworkMode, RunOptions};
use hako_dockerfile::ast::{Network, Security};
use hako_layer::{ApplyOptions, Onto, WriteOptions, apply, write_changes};
use hako_oci::{
    image::ContainerConfig,
    runtime::{Mount, Spec},
};
use hako_root::Root;
use hako_snapshot::ActiveOptions;
use hako_sys::fs::{Lock, try_flock};
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result,
    copy::read_users,
    error::Cause,
    files::{Ownership, Placement, Selection, Source, Tree, fill_digests, look, place, select},
    graph::{FileSystem, FsLayer, MountSource, Node, NodeId, Op, Run, RunMount},
    key::hex,
    progress::{Event, Stream},
    solve::Solver,
};

/// How often somebody who waits for a cache looks again.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// As BuildKit calls its containers: programs that look for it find it.
const HOSTNAME: &str = "buildkitsandbox";

/// A container that a step needs.
pub struct Job<'a> {
    /// Its ID, 64 hexadecimal digits.
    pub id: &'a str,
    /// Its config.json.
    pub spec: &'a Spec,
    /// What is mounted on its root directory.
    pub rootfs_mounts: Vec<Mount>,
    /// Once this says so it is to be killed.
    pub is_canceled: &'a (dyn Fn() -> bool + Sync),
}

/// Runs containers.
pub trait Runner: Sync {
    /// Runs one, hands on what it writes, and returns its exit code when nothing of it is left.
    /// The container does not outlive this process.
    fn run(
        &self,
        job: Job<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> std::result::Result<i32, Cause>;
}

/// What is to be undone at the end of a step, whatever its end is.
struct Scratch<'a> {
    solver: &'a Solver<'a>,
    key: String,
    dir: PathBuf,
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, a sweep removes: nothing refers to it.
        drop(self.solver.workshop.images.snapshots().remove(&self.key));
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl Solver<'_> {
    pub(crate) fn run(
        &self,
        step: NodeId,
        node: &Node,
        run: &Run,
        inputs: &[Arc<FileSystem>],
        selections: &[Option<Vec<Selection>>],
    ) -> Result<Option<FsLayer>> {
        let workshop = self.workshop;
        let base = inputs.first().cloned().unwrap_or_default();
        let chain = self.unpack(&base)?;
        let snapshots = workshop.images.snapshots();
        let id = new_id()?;
        let dir = workshop.run_dir.join(&id);
        private_dir(&dir)?;
        let scratch = Scratch { solver: self, key: id.clone(), dir: dir.clone() };
        snapshots.prepare(&id, &chain, ActiveOptions { volatile: true })?;

        let root = snapshots.view_chain(&chain)?;
        let (passwd, group) = (read_users(&root, "etc/passwd")?, read_users(&root, "etc/group")?);
        let mut mounted = Mounted::default();
        for (at, mount) in run.mounts.iter().enumerate() {
            let selection = selections.get(at).and_then(Option::as_deref);
            let files = Files { node, inputs, selection, dir: &dir };
            self.mount(mount, &files, &mut mounted)?;
        }
        if let Some((target, script)) = &run.script {
            let path = dir.join("script");
            write_private(&path, script, 0o755)?;
            mounted.mounts.push(bind(target, &path, true));
        }
        let facts = Facts {
            id: &id,
            passwd: &passwd,
            group: &group,
            files_dir: &dir,
            volumes: &BTreeMap::new(),
            containers: &BTreeMap::new(),
            machine: workshop.machine,
        };
        let options = options(run, &mounted, workshop.extra_hosts);
        let config = ContainerConfig { env: run.env.clone(), ..ContainerConfig::default() };
        let mut bundle = hako_bundle::bundle(&options, &config, &facts)?;
        for (name, content) in &bundle.files {
            write_private(&dir.join(name), content, 0o644)?;
        }
        bundle.spec.mounts.append(&mut mounted.mounts);
        let targets = missing_targets(&root, &bundle.spec.mounts)?;

        let job = Job {
            id: &id,
            spec: &bundle.spec,
            rootfs_mounts: snapshots.mounts(&id)?,
            is_canceled: &|| self.is_canceled(),
        };
        let code = workshop
            .runner
            .run(job, &mut |stream, bytes| {
                workshop.progress.event(Event::Output { step: step + 1, stream, bytes });
            })
            .map_err(Error::Runner)?;
        drop(mounted.caches);
        if self.is_canceled() {
            return Err(Error::Canceled);
        }
        if code != 0 {
            return Err(Error::Run { command: run.args.join(" "), code });
        }
        let upper = snapshots.changes(&id)?;
        for target in &targets {
            remove_stub(&upper, &root, target)?;
        }
        let mtime_max = Some(workshop.epoch);
        let layer =
            self.store(|out| Ok(write_changes(&upper, out, WriteOptions { mtime_max })?))?;
        drop(scratch);
        Ok(layer)
    }

    /// Makes what a `--mount` shows.
    fn mount(&self, mount: &RunMount, files: &Files<'_>, mounted: &mut Mounted) -> Result<()> {
        let target = &mount.target;
        match &mount.source {
            MountSource::Tmpfs { size } => {
                // Programs are run from there: what configure scripts try, for one.
                let mut options = vec!["nosuid".to_owned()];
                if *size > 0 {
                    options.push(format!("size={size}"));
                }
                mounted.mounts.push(Mount {
                    destination: target.clone(),
                    kind: Some("tmpfs".into()),
                    source: Some("tmpfs".into()),
                    options,
                    ..Mount::default()
                });
            }
            MountSource::Cache { id, sharing, mode, uid, gid } => {
                // A step that mounts one cache twice has it once.
                let path = match mounted.caches.get(id) {
                    Some((path, _)) => path.clone(),
                    None => {
                        let (path, lock) = self.cache_dir(id, sharing, (*mode, *uid, *gid))?;
                        mounted.caches.insert(id.clone(), (path.clone(), lock));
                        path
                    }
                };
                mounted.mounts.push(bind(target, &path, mount.read_only));
            }
            MountSource::Secret { id, env, mode, uid, gid, required } => {
                let Some(value) = self.workshop.secrets.get(id) else {
                    return match required {
                        true => Err(Error::Instruction(format!("secret {id}: not found"))),
                        false => Ok(()),
                    };
                };
                if let Some(name) = env {
                    let text = String::from_utf8_lossy(value).into_owned();
                    mounted.env.push((name.clone(), text));
                }
                // With a variable it is a file only where a target was named.
                if !target.is_empty() {
                    let path = files.dir.join(format!("secret-{}", mounted.mounts.len()));
                    write_private(&path, value, *mode)?;
                    chown(&path, Some(*uid), Some(*gid)).map_err(Error::io("chown", &path))?;
                    mounted.mounts.push(bind(target, &path, true));
                }
            }
            MountSource::Ssh { id, required } => {
                let Some(socket) = self.workshop.ssh.get(id) else {
                    return match required {
                        true => Err(Error::Instruction(format!("unset ssh forward key {id}"))),
                        false => Ok(()),
                    };
                };
                mounted.env.push(("SSH_AUTH_SOCK".into(), target.clone()));
                mounted.mounts.push(bind(target, socket, false));
            }
            MountSource::Input { index, path } => {
                let source = self.files(files, *index, path, mounted.mounts.len())?;
                if mount.read_only {
                    mounted.mounts.push(bind(target, &source, true));
                } else {
                    // What is written there is seen by this step alone.
                    let (upper, work) =
                        (source.with_extension("upper"), source.with_extension("work"));
                    private_dir(&upper)?;
                    private_dir(&work)?;
                    let open = fs::Permissions::from_mode(0o755);
                    fs::set_permissions(&upper, open).map_err(Error::io("chmod", &upper))?;
                    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
                    mounted.mounts.push(Mount {
                        destination: target.clone(),
                        kind: Some("overlay".into()),
                        source: Some("overlay".into()),
                        options: vec![
                            option("lowerdir+", &source),
                            option("upperdir", &upper),
                            option("workdir", &work),
                        ],
                        ..Mount::default()
                    });
                }
            }
        }
        Ok(())
    }

    /// Files of a context or a stage as a path of the host.
    fn files(&self, files: &Files<'_>, index: usize, path: &str, number: usize) -> Result<PathBuf> {
        let dir = files.dir;
        let stage;
        let (tree, digests) = match &self.graph.nodes[files.node.inputs[index]].op {
            Op::Context(context) => (&context.tree, Some(&context.digests)),
            _ => {
                stage = Tree::stage(self.view(&files.inputs[index])?);
                (&stage, None)
            }
        };
        let found = match files.selection {
            Some(found) => found.to_vec(),
            None => {
                let mut found = select(tree, &[path.to_owned()], None)?;
                fill_digests(tree, &mut found, digests)?;
                found
            }
        };
        let to = dir.join(format!("files-{number}"));
        private_dir(&to)?;
        let is_directory = found.iter().all(|one| one.is_directory());
        let placement = Placement {
            destination: if is_directory { "/files".into() } else { "/file".into() },
            owner: None,
            chmod: None,
            parents: false,
            unpack: false,
            epoch: match tree.ownership() {
                Ownership::Root => self.workshop.epoch,
                Ownership::Kept => i64::MAX,
            },
        };
        let sources: Vec<Source<'_>> = found.iter().map(|one| Source::Files(tree, one)).collect();
        let tar = dir.join(format!("files-{number}.tar"));
        let file = File::create(&tar).map_err(Error::io("create", &tar))?;
        place(None, &sources, &placement, file)?;
        let file = File::open(&tar).map_err(Error::io("open", &tar))?;
        let options = ApplyOptions { onto: Onto::Base, ..ApplyOptions::default() };
        apply(file, &Root::open(&to)?, &options)?;
        fs::remove_file(&tar).map_err(Error::io("remove", &tar))?;
        Ok(to.join(placement.destination.trim_start_matches('/')))
    }

    /// The directory of a cache, and what keeps others away from it as long as it is open.
    fn cache_dir(
        &self,
        id: &str,
        sharing: &str,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<(PathBuf, File)> {
        let caches = self.workshop.build_dir.join("cache");
        private_dir(&caches)?;
        // Who asks for another owner means another cache, as with BuildKit.
        let name = hex(&Sha256::digest(format!("{mode:o} {uid} {gid} {id}")));
        for number in 0u32.. {
            let path = match number {
                0 => caches.join(&name),
                number => caches.join(format!("{name}.{number}")),
            };
            let lock_path = path.with_extension(format!("{number}.lock"));
            let lock = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&lock_path)
                .map_err(Error::io("open", &lock_path))?;
            let kind = if sharing == "shared" { Lock::Shared } else { Lock::Exclusive };
            let failed = |e: hako_sys::Errno| Error::io("flock", &lock_path)(e.into());
            let mut is_ours = try_flock(lock.as_fd(), kind).map_err(failed)?;
            if !is_ours && sharing == "private" {
                continue;
            }
            // Another build has it: whoever waits can still be told to end.
            while !is_ours {
                if self.is_canceled() {
                    return Err(Error::Canceled);
                }
                thread::sleep(LOCK_PAUSE);
                let failed = |e: hako_sys::Errno| Error::io("flock", &lock_path)(e.into());
                is_ours = try_flock(lock.as_fd(), kind).map_err(failed)?;
            }
            let data = path.join("data");
            private_dir(&path)?;
            if !data.exists() {
                // Made beside, so that it has its owner when it has its name.
                let beside = path.join(format!("new-{}", new_id()?));
                private_dir(&beside)?;
                let mode = fs::Permissions::from_mode(mode);
                fs::set_permissions(&beside, mode).map_err(Error::io("chmod", &beside))?;
                chown(&beside, Some(uid), Some(gid)).map_err(Error::io("chown", &beside))?;
                if fs::rename(&beside, &data).is_err() && !data.is_dir() {
                    return Err(Error::io("rename", &data)(
                        std::io::ErrorKind::NotADirectory.into(),
                    ));
                }
                drop(fs::remove_dir(&beside));
            }
            return Ok((data, lock));
        }
        unreachable!("a free cache among four billion")
    }
}

/// What mounts came to.
#[derive(Default)]
struct Mounted {
    mounts: Vec<Mount>,
    env: Vec<(String, String)>,
    /// Directories of caches by their IDs, and what keeps others away.
    caches: BTreeMap<String, (PathBuf, File)>,
}

/// Where files for mounts come from, and where they are put.
struct Files<'a> {
    node: &'a Node,
    inputs: &'a [Arc<FileSystem>],
    /// What of a context the step was keyed with.
    selection: Option<&'a [Selection]>,
    dir: &'a Path,
}

fn options(run: &Run, mounted: &Mounted, extra_hosts: &[hako_bundle::ExtraHost]) -> RunOptions {
    let ambient = run.ambient_env.iter().filter_map(|variable| variable.split_once('='));
    let env = ambient
        .map(|(name, value)| EnvChange::Set(name.into(), value.into()))
        .chain(mounted.env.iter().map(|(name, value)| EnvChange::Set(name.clone(), value.clone())))
        .collect();
    RunOptions {
        command: run.args.clone(),
        entrypoint: Some(vec![String::new()]),
        env,
        workdir: Some(run.cwd.clone()),
        user: (!run.user.is_empty()).then(|| run.user.clone()),
        hostname: Some(HOSTNAME.into()),
        network: match run.network {
            Network::None => NetworkMode::None,
            Network::Default | Network::Host => NetworkMode::Host,
        },
        privileged: run.security == Security::Insecure,
        extra_hosts: extra_hosts.to_vec(),
        ..RunOptions::default()
    }
}

fn bind(target: &str, source: &Path, read_only: bool) -> Mount {
    let access = if read_only { "ro" } else { "rw" };
    Mount {
        destination: target.to_owned(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: vec!["rbind".into(), "rprivate".into(), access.into()],
        ..Mount::default()
    }
}

/// Mount points that the runtime will have to make.
fn missing_targets(root: &Root, mounts: &[Mount]) -> Result<Vec<Vec<u8>>> {
    let mut missing = Vec::new();
    for mount in mounts {
        let mut path = crate::files::clean(mount.destination.as_bytes()).join(&b'/');
        // With the directories above it that are missing, the deepest first.
        while !path.is_empty() && look(root, &path)?.is_none() {
            if !missing.contains(&path) {
                missing.push(path.clone());
            }
            let above = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
            path.truncate(above);
        }
    }
    missing.sort_by_key(|path| std::cmp::Reverse(path.iter().filter(|&&b| b == b'/').count()));
    Ok(missing)
}

/// Takes a mount point away that was made for the step, and directories above it that were only
/// copied up for it. What the command put there stays.
fn remove_stub(upper: &Root, base: &Root, path: &[u8]) -> Result<()> {
    let mut path = path.to_vec();
    let mut is_stub = true;
    while !path.is_empty() {
        let shown = crate::files::to_path(&path);
        let Some(stat) = look(upper, &path)? else { return Ok(()) };
        let (above, name) = upper.parent(&shown)?;
        if stat.kind == hako_sys::fs::FileKind::Directory {
            let like_base = match look(base, &path)? {
                Some(was) => (was.mode, was.uid, was.gid) == (stat.mode, stat.uid, stat.gid),
                None => is_stub,
            };
            let dir = above.open_dir(&name)?;
            let is_emptied = hako_layer::is_opaque(dir.fd())
                .map_err(|e| Error::io("getxattr", &shown)(e.into()))?;
            if !like_base || is_emptied || !dir.entries()?.is_empty() {
                return Ok(());
            }
            above.rmdir(&name)?;
        } else {
            if !is_stub || stat.kind != hako_sys::fs::FileKind::File || stat.size > 0 {
                return Ok(());
            }
            above.unlink(&name)?;
        }
        is_stub = false;
        let end = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        path.truncate(end);
    }
    Ok(())
}

/// Removes caches that nobody uses, and digests of contexts.
pub(crate) fn clear_caches(build_dir: &Path) -> Result<u64> {
    let mut freed = 0;
    let caches = build_dir.join("cache");
    private_dir(&caches)?;
    let root = Root::open(&caches)?;
    for entry in root.as_dir().entries()? {
        let name = entry.name.to_string_lossy().into_owned();
        // `<name>.<number>.lock` beside `<name>` or `<name>.<number>`.
        let Some(stem) = name.strip_suffix(".lock") else { continue };
        let lock_path = caches.join(&name);
        let lock = File::open(&lock_path).map_err(Error::io("open", &lock_path))?;
        let free = try_flock(lock.as_fd(), Lock::Exclusive)
            .map_err(|e| Error::io("flock", &lock_path)(e.into()))?;
        if !free {
            continue;
        }
        let cache = stem.strip_suffix(".0").unwrap_or(stem);
        if let Ok(dir) = root.open_dir(cache.as_ref()) {
            freed += dir.usage()?.bytes;
        }
        // The lock stays: whoever waits for it has it open.
        root.remove_all(cache.as_ref())?;
    }
    let digests = Root::open(build_dir)?;
    if let Ok(dir) = digests.open_dir("digests".as_ref()) {
        freed += dir.usage()?.bytes;
        for entry in dir.entries()? {
            dir.remove_all(&entry.name)?;
        }
    }
    Ok(freed)
}

pub(crate) fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(Error::io("mkdir", path))
}

fn write_private(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    write().map_err(Error::io("write", path))
}

fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::io("read", "/dev/urandom"))?;
    Ok(hex(&bytes))
}
