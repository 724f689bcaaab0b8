//! The builder: from a Dockerfile and its context to an image.
//!
//! ```text
//! Dockerfile ─ lower ─▶ graph ─ solve ─▶ layers ─▶ image
//!                         │       │
//!                 configuration   ├ cache: what was made before, by definition, then by content
//!                                 ├ copy:  layers written as tars, nothing run
//!                                 └ run:   a container; what it changed is the layer
//! ```
//!
//! Contexts are read in place. Results are the same wherever and whenever they are made: files of a
//! context get one time, names are sorted, and what commands change is clamped to that time.

#![forbid(unsafe_code)]

mod cache;
mod config;
mod context;
mod copy;
mod error;
mod files;
mod graph;
mod key;
mod lower;
mod mode;
mod progress;
mod run;
mod solve;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use hako_bundle::{ExtraHost, Machine};
use hako_db::Db;
use hako_dockerfile::{
    ignore::Matcher,
    scope::{BuildArgs, Global, Platforms},
    stages::{Origin, Stages},
};
use hako_image::{Image, ImageStore, Loaded, NewImage};
use hako_oci::{Platform, Reference};

use crate::{
    cache::Cache,
    context::Context,
    graph::{FileSystem, FsLayer, Op},
    lower::{BaseImage, Wishes, lower},
    solve::{Solver, Workshop},
};
pub use hako_dockerfile::{ast::Network, source::Lines};

pub use crate::{
    cache::Record,
    error::{Cause, Error, Result},
    progress::{Event, Outcome, Progress, Silent, Stream},
    run::{Job, Runner},
};

/// What is built.
#[derive(Debug, Clone)]
pub struct Request {
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The directory of the context; none where the Dockerfile came alone.
    pub context: Option<PathBuf>,
    /// The lines of `.dockerignore`.
    pub ignore: Vec<u8>,
    /// `--build-context`: other directories by name.
    pub contexts: BTreeMap<String, PathBuf>,
    /// `--build-context NAME=docker-image://REF`.
    pub image_contexts: BTreeMap<String, Reference>,
    /// `--build-arg`.
    pub build_args: BuildArgs,
    /// `--target`; the last stage where absent.
    pub target: Option<String>,
    /// `--platform`.
    pub platform: Platform,
    /// `-t`.
    pub names: Vec<Reference>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`.
    pub no_cache_stages: Vec<String>,
    /// `--network`.
    pub network: Network,
    /// `--add-host`.
    pub extra_hosts: Vec<ExtraHost>,
    /// `--secret`, by ID.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: sockets of agents by ID.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--allow`: `network.host`, `security.insecure`.
    pub allow: BTreeSet<String>,
    /// `SOURCE_DATE_EPOCH`: seconds since the epoch. Where absent, the base image's time.
    pub epoch: Option<i64>,
    /// `--why`.
    pub why: bool,
}

/// What a builder works with.
pub struct Builder<'a> {
    images: &'a ImageStore,
    cache: Cache,
    runner: &'a dyn Runner,
    machine: &'a Machine,
    build_dir: PathBuf,
    run_dir: PathBuf,
}

/// Finds an image that a build is made upon: in the store, or by fetching it.
pub type ImageByName<'a> = dyn Fn(&str, Option<&Platform>) -> Result<Image> + Sync + 'a;

impl<'a> Builder<'a> {
    /// A builder over a store. `build_dir` survives reboots and `run_dir` does not; both are made
    /// where they are absent.
    pub fn open(
        images: &'a ImageStore,
        db: Arc<Db>,
        runner: &'a dyn Runner,
        machine: &'a Machine,
        build_dir: PathBuf,
        run_dir: PathBuf,
    ) -> Result<Builder<'a>> {
        for dir in [&build_dir.join("digests"), &run_dir] {
            run::private_dir(dir)?;
        }
        let cache = Cache::open(db, images.content().clone())?;
        Ok(Builder { images, cache, runner, machine, build_dir, run_dir })
    }

    /// Builds an image. Whoever sets `canceled` ends it.
    pub fn build(
        &self,
        request: &Request,
        image_by_name: &ImageByName<'_>,
        progress: &dyn Progress,
        canceled: &AtomicBool,
    ) -> Result<Loaded> {
        let file = hako_dockerfile::parse(&request.dockerfile)?;
        let target = request.target.as_deref();
        let platforms = Platforms { build: Platform::host(), target: request.platform.clone() };
        let global = Global::new(&file, &platforms, &request.build_args, target)?;
        let names = request.contexts.keys().chain(request.image_contexts.keys());
        let stages = Stages::new(&file, &global, target, names)?;

        let lease = self.images.content().lease()?;
        let _hold = self.images.snapshots().hold()?;
        let find = |name: &str, platform: Option<&Platform>| {
            let image = image_by_name(name, platform)?;
            lease.keep(image.descriptor())?;
            Ok(base_image(&image))
        };
        let epoch = match request.epoch {
            Some(epoch) => epoch,
            None => self.epoch_of(&stages, &find, request)?,
        };
        let open =
            |dir: &PathBuf, ignore| Context::open(dir, ignore, &self.build_dir).map(Arc::new);
        let ignore = Matcher::of_file(&request.ignore)
            .map_err(|error| Error::Instruction(format!(".dockerignore: {error}")))?;
        let context = request.context.as_ref().map(|dir| open(dir, ignore)).transpose()?;
        let contexts = request
            .contexts
            .iter()
            .map(|(name, dir)| Ok((name.clone(), open(dir, Matcher::default())?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let wishes = Wishes {
            context,
            contexts: &contexts,
            image_contexts: &request.image_contexts,
            platform: request.platform.clone(),
            no_cache: request.no_cache,
            no_cache_stages: &request.no_cache_stages,
            network: request.network,
            allow_insecure: request.allow.contains("security.insecure"),
            allow_host_network: request.allow.contains("network.host"),
            epoch,
        };
        let lowered = lower(&file, &stages, &global, &wishes, &find)?;
        let workshop = Workshop {
            images: self.images,
            cache: &self.cache,
            lease: &lease,
            runner: self.runner,
            machine: self.machine,
            progress,
            build_dir: self.build_dir.clone(),
            run_dir: self.run_dir.clone(),
            secrets: &request.secrets,
            ssh: &request.ssh,
            extra_hosts: &request.extra_hosts,
            epoch,
            why: request.why,
            canceled,
        };
        let solver = Solver::new(&lowered.graph, &workshop);
        let made = solver.solve_all(lowered.target);
        for node in &lowered.graph.nodes {
            if let Op::Context(context) = &node.op {
                context.digests.save()?;
            }
        }
        let made = made?;
        let mut image = lowered.image;
        image.container().labels.extend(request.labels.clone());
        let added = solver.added(lowered.target, &made)?;
        let config = image.finish(made.diff_ids(), |step| added.contains(&step))?;
        let layers = made.layers.iter().map(|layer| layer.blob.clone()).collect();
        for layer in &made.layers {
            lease.keep(&layer.blob)?;
        }
        let names = request.names.clone();
        Ok(self.images.publish(lease, NewImage { config, layers, names })?)
    }

    /// The time of the image that the target is made upon; 1970 where that is nothing.
    fn epoch_of(
        &self,
        stages: &Stages,
        find: &lower::FindImage<'_>,
        request: &Request,
    ) -> Result<i64> {
        let mut at = stages.target;
        while let Origin::Stage(base) = &stages.stages[at].base {
            at = *base;
        }
        let name = match &stages.stages[at].base {
            Origin::Image(reference) => reference.to_string(),
            Origin::Packages(name) => name.clone(),
            Origin::Context(name) => match request.image_contexts.get(name) {
                Some(reference) => reference.to_string(),
                None => return Ok(0),
            },
            Origin::Scratch | Origin::Stage(_) => return Ok(0),
        };
        let platform = stages.stages[at].platform.as_ref().unwrap_or(&request.platform);
        let created = find(&name, Some(platform))?.config.created;
        Ok(created.as_deref().and_then(hako_image::unix_seconds).unwrap_or(0))
    }

    /// What the cache holds, what was used last first.
    pub fn records(&self) -> Result<Vec<Record>> {
        self.cache.records()
    }

    /// Forgets steps. Their layers go with the next collection.
    pub fn forget(&self, keys: &BTreeSet<String>) -> Result<()> {
        self.cache.remove(keys)
    }

    /// Removes what commands keep in caches, and what is remembered of contexts, and says how many
    /// bytes that freed. What a build uses just now stays.
    pub fn clear_caches(&self) -> Result<u64> {
        run::clear_caches(&self.build_dir)
    }

    /// Bytes of all caches of commands.
    pub fn caches_bytes(&self) -> Result<u64> {
        let path = self.build_dir.join("cache");
        match path.exists() {
            true => Ok(hako_root::Root::open(&path)?.as_dir().usage()?.bytes),
            false => Ok(0),
        }
    }
}

fn base_image(image: &Image) -> BaseImage {
    let layers = image.manifest().layers.iter().zip(&image.config().rootfs.diff_ids);
    let layers = layers
        .map(|(blob, diff_id)| FsLayer { diff_id: diff_id.clone(), blob: blob.clone() })
        .collect();
    BaseImage { config: image.config().clone(), layers: Arc::new(FileSystem { layers }) }
}
