//! Doing the steps of a graph: as few as possible, as many at once as possible.
//!
//! A step is looked for in the cache twice. Its *definition* is known before anything is done: what
//! it says, and the definitions of what it is made from. If that was never done, what it is made
//! from is made, and the step is looked for by the *content* of that: another way may have led to
//! the same files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufWriter,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use hako_content::Lease;
use hako_dockerfile::ignore::Matcher;
use hako_image::ImageStore;
use hako_oci::media_type;
use hako_root::Root;
use hako_snapshot::Chain;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result,
    cache::Cache,
    files::{FileDigests, Selection, Tree, fill_digests, select},
    graph::{CopySource, FileSystem, FsLayer, Graph, MountSource, Node, NodeId, Op},
    key::{Parts, hex},
    progress::{Event, Outcome, Progress},
    run::Runner,
};

/// A layer is no larger than this: what a command fills the disk with is the disk's matter.
const LAYER_BYTES_MAX: u64 = 1 << 40;
/// Nobody writes a longer Dockerfile by hand.
const STEPS_MAX: usize = 4000;
/// Each step takes some of it, and what is not touched is not there.
const STACK_BYTES: usize = 64 << 20;
/// So many files of one copy are told by name where something changed.
const FILES_TOLD: usize = 2000;

/// What a build works with.
pub(crate) struct Workshop<'a> {
    pub(crate) images: &'a ImageStore,
    pub(crate) cache: &'a Cache,
    pub(crate) lease: &'a Lease,
    pub(crate) runner: &'a dyn Runner,
    pub(crate) machine: &'a hako_bundle::Machine,
    pub(crate) progress: &'a dyn Progress,
    /// The builder's own directory: caches of commands, digests of contexts, what is being run.
    pub(crate) build_dir: PathBuf,
    /// Where containers of steps are: gone after a reboot.
    pub(crate) run_dir: PathBuf,
    /// Secrets by their IDs.
    pub(crate) secrets: &'a BTreeMap<String, Vec<u8>>,
    /// Sockets of agents by their IDs.
    pub(crate) ssh: &'a BTreeMap<String, PathBuf>,
    /// Names and addresses for /etc/hosts.
    pub(crate) extra_hosts: &'a [hako_bundle::ExtraHost],
    /// Seconds since the epoch: nothing in a layer is younger.
    pub(crate) epoch: i64,
    /// Whether reasons are told.
    pub(crate) why: bool,
    /// Set by whoever wants the build to end.
    pub(crate) canceled: &'a AtomicBool,
}

/// Does the steps of a graph.
pub(crate) struct Solver<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) workshop: &'a Workshop<'a>,
    slots: Vec<Slot>,
    definitions: Vec<OnceLock<Definition>>,
    /// Whether a step failed: the others need not go on.
    has_failed: AtomicBool,
}

/// What a step is, before what it is made from is made.
struct Definition {
    parts: Parts,
    /// What each source of a copy means; nothing for those that are not of a context.
    selections: Vec<Option<Vec<Selection>>>,
    /// Whether it or something before it is to be done whatever was done before.
    is_fresh: bool,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Working,
    Done(Arc<FileSystem>),
    Failed,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Solver<'a> {
    pub(crate) fn new(graph: &'a Graph, workshop: &'a Workshop<'a>) -> Solver<'a> {
        let slots = graph.nodes.iter().map(|_| Slot::default()).collect();
        let definitions = graph.nodes.iter().map(|_| OnceLock::new()).collect();
        Solver { graph, workshop, slots, definitions, has_failed: AtomicBool::new(false) }
    }

    /// Whether there will be no image, whatever is done.
    pub(crate) fn is_canceled(&self) -> bool {
        [&self.has_failed, self.workshop.canceled].iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The file system that a step makes, by way of a thread: steps lead down to what they are made
    /// from, however many there are.
    pub(crate) fn solve_all(&self, target: NodeId) -> Result<Arc<FileSystem>> {
        if self.graph.nodes.len() > STEPS_MAX {
            return Err(Error::Instruction(format!("more than {STEPS_MAX} steps")));
        }
        thread::scope(|scope| {
            let solved = deep(scope, move || self.solve(target))?;
            solved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The file system that a step makes.
    pub(crate) fn solve(&self, id: NodeId) -> Result<Arc<FileSystem>> {
        let slot = &self.slots[id];
        let mut state = slot.state();
        loop {
            match &*state {
                State::Done(made) => return Ok(Arc::clone(made)),
                State::Failed => return Err(Error::Canceled),
                State::Idle => break,
                State::Working => {
                    state = slot.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        *state = State::Working;
        drop(state);
        let made = self.make(id);
        if made.is_err() {
            // Whatever else goes on ends now: there will be no image.
            self.has_failed.store(true, Ordering::Relaxed);
        }
        *slot.state() = match &made {
            Ok(made) => State::Done(Arc::clone(made)),
            Err(_) => State::Failed,
        };
        slot.changed.notify_all();
        made
    }

    fn node(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes[id]
    }

    fn make(&self, id: NodeId) -> Result<Arc<FileSystem>> {
        let node = self.node(id);
        match &node.op {
            Op::Scratch => return Ok(Arc::new(FileSystem::default())),
            Op::Image(image) => return Ok(Arc::clone(image)),
            Op::Context(_) => return Ok(Arc::default()),
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {}
        }
        let definition = self.definition(id)?;
        if !definition.is_fresh
            && let Some(made) = self.workshop.cache.find(&definition.parts.key())?
        {
            self.tell_cached(id);
            self.workshop.cache.touch(&[definition.parts.key()])?;
            return Ok(Arc::new(made));
        }
        let inputs = self.inputs(node)?;
        let started = Instant::now();
        let made = self.make_of(id, node, definition, &inputs);
        let outcome = match &made {
            Ok((_, true)) => Outcome::Cached,
            Ok((_, false)) => Outcome::Done,
            Err(Error::Canceled) => Outcome::Canceled,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let took = started.elapsed();
        self.workshop.progress.event(Event::Ended { step: id + 1, outcome: &outcome, took });
        let (made, _) = made.map_err(|error| error.at(node.lines))?;
        Ok(Arc::new(made))
    }

    /// Makes what a step is made from, all at once.
    fn inputs(&self, node: &Node) -> Result<Vec<Arc<FileSystem>>> {
        let Some((first, others)) = node.inputs.split_first() else { return Ok(Vec::new()) };
        if others.is_empty() {
            return Ok(vec![self.solve(*first)?]);
        }
        let results: Vec<Result<Arc<FileSystem>>> = thread::scope(|scope| {
            // What is there anyway needs no thread.
            let is_made = |id: &NodeId| !is_step(&self.node(*id).op);
            let others: Vec<_> = others
                .iter()
                .map(|id| match is_made(id) {
                    true => Other::Made(self.solve(*id)),
                    false => Other::Thread(deep(scope, move || self.solve(*id))),
                })
                .collect();
            let first = self.solve(*first);
            let join = |other: Other<'_>| match other {
                Other::Made(made) => made,
                Other::Thread(thread) => {
                    thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
            };
            std::iter::once(first).chain(others.into_iter().map(join)).collect()
        });
        // What really failed is worth more than what was given up because of it.
        let mut made = Vec::with_capacity(results.len());
        let mut failed = None;
        for result in results {
            match result {
                Ok(one) => made.push(one),
                Err(error) => match failed {
                    None | Some(Error::Canceled) => failed = Some(error),
                    Some(_) => {}
                },
            }
        }
        failed.map_or(Ok(made), Err)
    }

    /// Does a step of which everything before is there, unless its content was met before. Whether
    /// it was is the second value.
    fn make_of(
        &self,
        id: NodeId,
        node: &Node,
        definition: &Definition,
        inputs: &[Arc<FileSystem>],
    ) -> Result<(FileSystem, bool)> {
        let workshop = self.workshop;
        if self.is_canceled() {
            return Err(Error::Canceled);
        }
        workshop.progress.event(Event::Started { step: id + 1, name: &node.name });
        let (content, selections) = self.content(node, definition, inputs)?;
        if !node.uncached
            && let Some(made) = workshop.cache.find(&content.key())?
        {
            workshop.cache.touch(&[content.key()])?;
            workshop.cache.keep(std::slice::from_ref(&definition.parts), what(node), &made)?;
            return Ok((made, true));
        }
        if workshop.why {
            self.tell_why(id, node, &content)?;
        }
        let base = inputs.first().cloned().unwrap_or_default();
        let layer = match &node.op {
            Op::Run(run) => self.run(id, node, run, inputs, &selections)?,
            Op::Copy(copy) => self.copy(node, copy, inputs, &selections)?,
            Op::Workdir(workdir) => self.workdir(workdir, &base)?,
            Op::Scratch | Op::Image(_) | Op::Context(_) => None,
        };
        let made = base.with(layer);
        if matches!(&node.op, Op::Copy(copy) if copy.unpack) {
            // What an archive has in it need not fit together: that is said here, and not kept.
            self.unpack(&made)?;
        }
        workshop.cache.keep(&[definition.parts.clone(), content], what(node), &made)?;
        Ok((made, false))
    }

    /// Says of a step, and of all before it, that nothing had to be done.
    fn tell_cached(&self, id: NodeId) {
        let mut todo = vec![id];
        let mut told = BTreeSet::new();
        while let Some(id) = todo.pop() {
            let node = self.node(id);
            if is_step(&node.op) && told.insert(id) {
                todo.extend(&node.inputs);
            }
        }
        for id in told {
            let (name, took) = (&self.node(id).name, std::time::Duration::ZERO);
            self.workshop.progress.event(Event::Started { step: id + 1, name });
            let outcome = &Outcome::Cached;
            self.workshop.progress.event(Event::Ended { step: id + 1, outcome, took });
        }
    }

    fn tell_why(&self, id: NodeId, node: &Node, parts: &Parts) -> Result<()> {
        let reasons = match node.uncached {
            true => vec!["the cache is not to be used".to_owned()],
            false => match self.workshop.cache.why(what(node), parts)? {
                Some(reasons) => reasons,
                None => vec!["it was never done before".to_owned()],
            },
        };
        for reason in &reasons {
            self.workshop.progress.event(Event::Why { step: id + 1, reason });
        }
        Ok(())
    }

    /// The parts of a key that stand in the instruction.
    fn own_parts(&self, op: &Op) -> Parts {
        let mut parts = Parts::default();
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        match op {
            Op::Run(run) => {
                parts.add("command", text(&run.args));
                for variable in &run.env {
                    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                    parts.add(format!("env {name}"), value);
                }
                parts.add("directory", run.cwd.clone());
                parts.add("user", run.user.clone());
                parts.add("network", text(&run.network));
                for host in self.workshop.extra_hosts {
                    parts.add(format!("host {}", host.name), host.address.clone());
                }
                parts.add("security", text(&run.security));
                for mount in &run.mounts {
                    // What a secret says is no part of what the step is.
                    parts.add(format!("mount option {}", mount.target), text(mount));
                }
                if let Some((_, script)) = &run.script {
                    parts.add("script", hex(&Sha256::digest(script)));
                }
            }
            Op::Copy(copy) => {
                parts.add("destination", copy.destination.clone());
                parts.add("owner", copy.chown.clone().unwrap_or_default());
                parts.add("mode", text(&copy.chmod));
                parts.add("options", text(&(copy.link, copy.parents, copy.unpack, &copy.exclude)));
                for source in &copy.sources {
                    if let CopySource::Inline { name, content } = source {
                        parts.add(format!("document {name}"), hex(&Sha256::digest(content)));
                    }
                }
            }
            Op::Workdir(workdir) => {
                parts.add("directory", workdir.path.clone());
                parts.add("owner", workdir.user.clone());
            }
            Op::Scratch | Op::Image(_) | Op::Context(_) => {}
        }
        parts.add("time", self.workshop.epoch.to_string());
        parts
    }

    fn definition(&self, id: NodeId) -> Result<&Definition> {
        if let Some(known) = self.definitions[id].get() {
            return Ok(known);
        }
        let made = self.define(id).map_err(|error| error.at(self.node(id).lines))?;
        Ok(self.definitions[id].get_or_init(|| made))
    }

    fn define(&self, id: NodeId) -> Result<Definition> {
        let node = self.node(id);
        let mut parts = self.own_parts(&node.op);
        let mut is_fresh = node.uncached;
        let mut keys = Vec::new();
        for input in &node.inputs {
            keys.push(match &self.node(*input).op {
                Op::Scratch => "scratch".to_owned(),
                Op::Image(image) => image.identity(),
                Op::Context(_) => "context".to_owned(),
                Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {
                    let definition = self.definition(*input)?;
                    is_fresh |= definition.is_fresh;
                    definition.parts.key()
                }
            });
        }
        let mut selections = Vec::new();
        match &node.op {
            Op::Copy(copy) => {
                for source in &copy.sources {
                    let CopySource::Input { index, pattern } = source else {
                        selections.push(None);
                        continue;
                    };
                    selections.push(match &self.node(node.inputs[*index]).op {
                        Op::Context(context) => {
                            let found = self.select(
                                &context.tree,
                                pattern,
                                &copy.exclude,
                                Some(&context.digests),
                            )?;
                            add_files(&mut parts, pattern, &context.tree, &found);
                            Some(found)
                        }
                        _ => {
                            parts.add(format!("from {pattern}"), keys[*index].clone());
                            None
                        }
                    });
                }
                // With --link, too: what is kept is the whole file system, base and all.
                parts.add("base", keys.first().cloned().unwrap_or_default());
            }
            Op::Run(run) => {
                for mount in &run.mounts {
                    let MountSource::Input { index, path } = &mount.source else {
                        selections.push(None);
                        continue;
                    };
                    selections.push(match &self.node(node.inputs[*index]).op {
                        Op::Context(context) => {
                            let digests = Some(&context.digests);
                            let found = self.select(&context.tree, path, &[], digests)?;
                            add_files(&mut parts, path, &context.tree, &found);
                            Some(found)
                        }
                        _ => {
                            parts.add(format!("mount {}", mount.target), keys[*index].clone());
                            None
                        }
                    });
                }
                parts.add("base", keys.first().cloned().unwrap_or_default());
            }
            _ => parts.add("base", keys.first().cloned().unwrap_or_default()),
        }
        Ok(Definition { parts, selections, is_fresh })
    }

    /// The key of a step by the content of what it is made from, and what all its sources mean.
    fn content(
        &self,
        node: &Node,
        definition: &Definition,
        inputs: &[Arc<FileSystem>],
    ) -> Result<(Parts, Vec<Option<Vec<Selection>>>)> {
        let mut parts = self.own_parts(&node.op);
        let mut selections = definition.selections.clone();
        let base = inputs.first().map(|base| base.identity()).unwrap_or_default();
        match &node.op {
            Op::Copy(copy) => {
                for (at, source) in copy.sources.iter().enumerate() {
                    let CopySource::Input { index, pattern } = source else { continue };
                    if let (Op::Context(context), Some(found)) =
                        (&self.node(node.inputs[*index]).op, &selections[at])
                    {
                        add_files(&mut parts, pattern, &context.tree, found);
                        continue;
                    }
                    let tree = Tree::stage(self.view(&inputs[*index])?);
                    let found = self.select(&tree, pattern, &copy.exclude, None)?;
                    add_files(&mut parts, pattern, &tree, &found);
                    selections[at] = Some(found);
                }
                parts.add("base", base);
            }
            Op::Run(run) => {
                for (mount, selection) in run.mounts.iter().zip(&selections) {
                    let MountSource::Input { index, path } = &mount.source else { continue };
                    match (&self.node(node.inputs[*index]).op, selection) {
                        (Op::Context(context), Some(found)) => {
                            add_files(&mut parts, path, &context.tree, found);
                        }
                        _ => {
                            let name = format!("mount {}", mount.target);
                            parts.add(name, inputs[*index].identity());
                        }
                    }
                }
                parts.add("base", base);
            }
            _ => parts.add("base", base),
        }
        // Not by chance the definition of something else.
        parts.add("by", "content");
        Ok((parts, selections))
    }

    fn select(
        &self,
        tree: &Tree,
        pattern: &str,
        exclude: &[String],
        digests: Option<&FileDigests>,
    ) -> Result<Vec<Selection>> {
        let exclude = match exclude {
            [] => None,
            patterns => Some(
                Matcher::new(patterns).map_err(|e| Error::Instruction(format!("exclude: {e}")))?,
            ),
        };
        let mut found = select(tree, &[pattern.to_owned()], exclude.as_ref())?;
        fill_digests(tree, &mut found, digests)?;
        Ok(found)
    }

    /// Which of the steps that a file system was made by added a layer.
    pub(crate) fn added(&self, target: NodeId, made: &FileSystem) -> Result<BTreeSet<NodeId>> {
        let mut added = BTreeSet::new();
        let mut left = made.layers.len();
        let mut at = target;
        loop {
            let node = self.node(at);
            let Some(base) = node.inputs.first() else { return Ok(added) };
            let below = self.made(*base)?.layers.len();
            if below < left {
                added.insert(at);
            }
            (at, left) = (*base, below);
        }
    }

    /// What a step made, whether it was done now or before.
    fn made(&self, id: NodeId) -> Result<Arc<FileSystem>> {
        if let State::Done(made) = &*self.slots[id].state() {
            return Ok(Arc::clone(made));
        }
        if !is_step(&self.node(id).op) {
            return self.solve(id);
        }
        match self.workshop.cache.find(&self.definition(id)?.parts.key())? {
            Some(made) => Ok(Arc::new(made)),
            None => self.solve(id),
        }
    }

    /// Makes sure that a file system can be mounted.
    pub(crate) fn unpack(&self, fs: &FileSystem) -> Result<Chain> {
        let layers: Vec<_> =
            fs.layers.iter().map(|layer| (&layer.blob.digest, &layer.diff_id)).collect();
        Ok(self.workshop.images.unpack_stack(&layers)?)
    }

    pub(crate) fn view(&self, fs: &FileSystem) -> Result<Root> {
        Ok(self.workshop.images.snapshots().view_chain(&self.unpack(fs)?)?)
    }

    /// Stores what `write` writes as a layer; nothing where it has no entries.
    pub(crate) fn store(
        &self,
        write: impl FnOnce(
            BufWriter<hako_content::Ingest<'a>>,
        ) -> Result<BufWriter<hako_content::Ingest<'a>>>,
    ) -> Result<Option<FsLayer>> {
        const BUFFER_BYTES: usize = 256 << 10;
        /// Two empty blocks.
        const EMPTY_TAR_BYTES: u64 = 1024;
        let ingest = self.workshop.lease.ingest(LAYER_BYTES_MAX)?;
        let written = write(BufWriter::with_capacity(BUFFER_BYTES, ingest))?;
        let ingest = written
            .into_inner()
            .map_err(|e| Error::io("write", "the content store")(e.into_error()))?;
        if ingest.size() <= EMPTY_TAR_BYTES {
            return Ok(None);
        }
        let blob = ingest.commit(media_type::OCI_LAYER)?;
        Ok(Some(FsLayer { diff_id: blob.digest.clone(), blob }))
    }
}

/// Whether something is to be done for it.
fn is_step(op: &Op) -> bool {
    matches!(op, Op::Run(_) | Op::Copy(_) | Op::Workdir(_))
}

/// What a step is made from beside its base.
enum Other<'scope> {
    Made(Result<Arc<FileSystem>>),
    Thread(Result<thread::ScopedJoinHandle<'scope, Result<Arc<FileSystem>>>>),
}

/// A thread with room for a step in a step, down to the first.
fn deep<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    act: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>> {
    let thread = thread::Builder::new().name("build".into()).stack_size(STACK_BYTES);
    thread.spawn_scoped(scope, act).map_err(Error::io("start", "a thread"))
}

/// What a step is called in the cache: the same instruction of any build.
fn what(node: &Node) -> &str {
    node.name.split_once("] ").map_or(&node.name, |(_, what)| what)
}

/// What a source path means, as parts: each file by its name where they are not too many.
fn add_files(parts: &mut Parts, pattern: &str, tree: &Tree, selections: &[Selection]) {
    for selection in selections {
        let path = String::from_utf8_lossy(&selection.path);
        parts.add(format!("files {pattern} /{path}"), hex(&selection.digest(tree.ownership())));
        if selection.entries.len() <= FILES_TOLD {
            for entry in &selection.entries {
                if let Some(sha) = &entry.sha {
                    parts.add(format!("file {}", String::from_utf8_lossy(&entry.path)), hex(sha));
                }
            }
        }
    }
}
