//! From a Dockerfile to a graph: every instruction a step, or a change of the configuration.

use std::{collections::BTreeMap, sync::Arc};

use hako_dockerfile::{
    Dockerfile,
    ast::{CommandLine, Instruction, Kind, Network, Place, Run as RunInstruction, Transfer},
    glob::clean,
    mount::{Mount, MountType, Sharing},
    scope::{self, Env, Expanded, Global, Scope},
    source::Lines,
    stages::{Origin, Stages},
};
use hako_oci::{Platform, Reference};

use crate::{
    Error, Result,
    config::Image,
    context::Context,
    graph::{
        Copy, CopySource, FileSystem, Graph, MountSource, Node, NodeId, Op, Run, RunMount, Workdir,
    },
    mode::Chmod,
};

/// Where the scripts are that heredocs name an interpreter for.
pub(crate) const SCRIPTS: &str = "/dev/pipes";

/// An image of the store, ready to be built upon.
#[derive(Debug, Clone)]
pub(crate) struct BaseImage {
    pub(crate) config: hako_oci::image::ImageConfig,
    pub(crate) layers: Arc<FileSystem>,
}

/// Finds images by name.
pub(crate) type FindImage<'a> = dyn Fn(&str, Option<&Platform>) -> Result<BaseImage> + Sync + 'a;

/// What stands in a command line, and not in the Dockerfile.
pub(crate) struct Wishes<'a> {
    pub(crate) context: Option<Arc<Context>>,
    /// Named contexts that are directories.
    pub(crate) contexts: &'a BTreeMap<String, Arc<Context>>,
    /// Named contexts that are images.
    pub(crate) image_contexts: &'a BTreeMap<String, Reference>,
    pub(crate) platform: Platform,
    pub(crate) no_cache: bool,
    /// Stages that the cache is not used for.
    pub(crate) no_cache_stages: &'a [String],
    pub(crate) network: Network,
    /// Entitlements that were granted.
    pub(crate) allow_insecure: bool,
    pub(crate) allow_host_network: bool,
    pub(crate) epoch: i64,
}

/// A graph, and what its last step becomes.
pub(crate) struct Lowered {
    pub(crate) graph: Graph,
    pub(crate) target: NodeId,
    pub(crate) image: Image,
}

/// A stage that is done.
struct Built {
    node: NodeId,
    image: Image,
}

struct Lowering<'a> {
    stages: &'a Stages,
    global: &'a Global,
    wishes: &'a Wishes<'a>,
    find: &'a FindImage<'a>,
    graph: Graph,
    built: BTreeMap<usize, Built>,
    /// Steps that several instructions may need, by what they are.
    shared: BTreeMap<String, NodeId>,
}

/// Makes the graph of a file's target.
pub(crate) fn lower(
    file: &Dockerfile,
    stages: &Stages,
    global: &Global,
    wishes: &Wishes<'_>,
    find: &FindImage<'_>,
) -> Result<Lowered> {
    let mut lowering = Lowering {
        stages,
        global,
        wishes,
        find,
        graph: Graph::default(),
        built: BTreeMap::new(),
        shared: BTreeMap::new(),
    };
    for at in 0..=stages.target {
        if stages.stages[at].reachable {
            lowering.stage(file, at)?;
        }
    }
    let target = lowering
        .built
        .remove(&stages.target)
        .ok_or_else(|| Error::Instruction("there is no stage to build".into()))?;
    Ok(Lowered { graph: lowering.graph, target: target.node, image: target.image })
}

/// A stage while its instructions are read.
struct Stage<'a> {
    at: usize,
    scope: Scope<'a>,
    image: Image,
    node: NodeId,
    /// What steps of it are called: `build 2/5`.
    name: String,
    step: usize,
    steps: usize,
    uncached: bool,
}

impl<'a> Lowering<'a> {
    fn stage(&mut self, file: &Dockerfile, at: usize) -> Result<()> {
        let (written, resolved) = (&file.stages[at], &self.stages.stages[at]);
        let place = &written.place;
        let platform = resolved.platform.as_ref();
        let base = self
            .base(&resolved.base, platform, place.lines)
            .map_err(|error| error.at(place.lines))?;
        let mut image = base.image;
        let triggers: Vec<Instruction> = match resolved.base {
            Origin::Stage(_) => Vec::new(),
            _ => triggers(&image.take_triggers(), place)?,
        };
        let instructions: Vec<&Instruction> =
            triggers.iter().chain(&written.instructions).collect();
        let makes_layer = |instruction: &&&Instruction| {
            matches!(
                instruction.kind,
                Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_)
            )
        };
        let only_one = self.stages.stages.iter().filter(|stage| stage.reachable).count() == 1;
        let wishes = self.wishes;
        let mut stage = Stage {
            at,
            scope: Scope::new(self.global, Env::of_config(&image.read().env)),
            image,
            node: base.node,
            name: if only_one && written.name.is_none() {
                String::new()
            } else {
                format!("{} ", resolved.name)
            },
            step: 1,
            steps: instructions.iter().filter(makes_layer).count() + 1,
            uncached: wishes.no_cache
                || wishes
                    .no_cache_stages
                    .iter()
                    .any(|name| written.name().as_deref() == Some(&name.to_lowercase())),
        };
        for instruction in instructions {
            let lines = instruction.place.lines;
            self.instruction(&mut stage, instruction).map_err(|error| error.at(lines))?;
        }
        self.built.insert(at, Built { node: stage.node, image: stage.image });
        Ok(())
    }

    fn base(
        &mut self,
        origin: &Origin,
        platform: Option<&Platform>,
        lines: Lines,
    ) -> Result<Built> {
        let platform = platform.unwrap_or(&self.wishes.platform);
        match origin {
            Origin::Scratch => {
                let image = Image::scratch(platform, self.wishes.epoch);
                Ok(Built { node: self.shared("scratch", Op::Scratch, lines), image })
            }
            Origin::Stage(at) => {
                let base = self.built.get(at).ok_or_else(|| {
                    Error::Instruction(format!("stage {at} is not built before this one"))
                })?;
                Ok(Built { node: base.node, image: base.image.as_base() })
            }
            Origin::Context(name) if !self.wishes.image_contexts.contains_key(name) => {
                Err(Error::Unsupported(format!(
                    "a stage upon the named context {name:?} that is a directory"
                )))
            }
            Origin::Context(_) | Origin::Image(_) | Origin::Packages(_) => {
                let (node, found) = self.image(origin, platform, lines)?;
                Ok(Built { node, image: Image::upon(found.config, self.wishes.epoch) })
            }
        }
    }

    fn image(
        &mut self,
        origin: &Origin,
        platform: &Platform,
        lines: Lines,
    ) -> Result<(NodeId, BaseImage)> {
        let image = match origin {
            Origin::Packages(name) => name.clone(),
            Origin::Image(reference) => reference.to_string(),
            Origin::Context(name) => match self.wishes.image_contexts.get(name) {
                Some(reference) => reference.to_string(),
                None => return Err(Error::Instruction(format!("no context is called {name:?}"))),
            },
            _ => return Err(Error::Instruction("not an image".into())),
        };
        let found = (self.find)(&image, Some(platform))?;
        let name = format!("image {image} {platform}");
        let node = self.shared(&name, Op::Image(Arc::clone(&found.layers)), lines);
        Ok((node, found))
    }

    /// The step that gives files to copy or mount.
    fn files(&mut self, origin: Option<&Origin>, lines: Lines) -> Result<NodeId> {
        match origin {
            None => match &self.wishes.context {
                Some(context) => {
                    Ok(self.shared("context", Op::Context(Arc::clone(context)), lines))
                }
                None => Err(Error::Instruction(
                    "there is no context to copy from: the Dockerfile came alone".into(),
                )),
            },
            Some(Origin::Scratch) => Ok(self.shared("scratch", Op::Scratch, lines)),
            Some(Origin::Stage(at)) => {
                self.built.get(at).map(|built| built.node).ok_or_else(|| {
                    Error::Instruction(format!("stage {at} is not built before this one"))
                })
            }
            Some(Origin::Context(name)) if self.wishes.contexts.contains_key(name) => {
                let context = Arc::clone(&self.wishes.contexts[name]);
                Ok(self.shared(&format!("context {name}"), Op::Context(context), lines))
            }
            Some(origin) => {
                let platform = self.wishes.platform.clone();
                Ok(self.image(origin, &platform, lines)?.0)
            }
        }
    }

    fn shared(&mut self, key: &str, op: Op, lines: Lines) -> NodeId {
        if let Some(known) = self.shared.get(key) {
            return *known;
        }
        let node = Node { op, inputs: Vec::new(), name: key.to_owned(), lines, uncached: false };
        self.graph.nodes.push(node);
        let id = self.graph.nodes.len() - 1;
        self.shared.insert(key.to_owned(), id);
        id
    }

    fn step(&mut self, stage: &mut Stage<'_>, place: &Place, op: Op, mut others: Vec<NodeId>) {
        stage.step += 1;
        let mut inputs = vec![stage.node];
        inputs.append(&mut others);
        let shown = stage.scope.shown(&place.original);
        let name = format!("[{}{}/{}] {shown}", stage.name, stage.step, stage.steps);
        let uncached = stage.uncached;
        self.graph.nodes.push(Node { op, inputs, name, lines: place.lines, uncached });
        stage.node = self.graph.nodes.len() - 1;
    }

    fn instruction(&mut self, stage: &mut Stage<'_>, instruction: &Instruction) -> Result<()> {
        let place = &instruction.place;
        let expanded = stage.scope.expand(instruction)?;
        match &expanded.kind {
            Kind::Arg(args) => {
                let words: Vec<String> = args
                    .iter()
                    .map(|arg| match &arg.value {
                        Some(value) => format!("{}={}", arg.name.text, value.text),
                        None => arg.name.text.clone(),
                    })
                    .collect();
                stage.image.note(format!("ARG {}", words.join(" ")));
            }
            Kind::Env(pairs) => stage.image.env(pairs),
            Kind::Label(pairs) => stage.image.label(pairs),
            Kind::Cmd(command) => stage.image.cmd(command),
            Kind::Entrypoint(command) => stage.image.entrypoint(command),
            Kind::Expose(ports) => stage.image.expose(ports)?,
            Kind::Healthcheck(check) => stage.image.healthcheck(check),
            Kind::Maintainer(name) => stage.image.maintainer(&name.text),
            Kind::Onbuild(trigger) => stage.image.on_build(&trigger.expression),
            Kind::Shell(words) => stage.image.set_shell(words),
            Kind::Stopsignal(signal) => stage.image.stop_signal(&signal.text),
            Kind::User(user) => stage.image.user(&user.text),
            Kind::Volume(paths) => stage.image.volume(paths)?,
            Kind::Workdir(path) => {
                let path = absolute(&path.text, &stage.image.read().working_dir);
                stage.image.container().working_dir.clone_from(&path);
                let user = stage.image.read().user;
                let op = Op::Workdir(Workdir { path: path.clone(), user });
                self.step(stage, place, op, Vec::new());
                stage.image.note_step(format!("WORKDIR {path}"), stage.node);
            }
            Kind::Run(run) => self.run(stage, place, run, &expanded)?,
            Kind::Copy(copy) => {
                let origin = match &copy.from {
                    Some(from) => Some(self.stages.copy_from(stage.at, place, from)?),
                    None => None,
                };
                let what = Transferred { name: "COPY", parents: copy.parents, unpack: false };
                self.copy(stage, place, &copy.transfer, origin.as_ref(), what)?;
            }
            Kind::Add(add) => {
                if let Some(source) = add.transfer.sources.iter().find(|s| is_remote(&s.text)) {
                    return Err(Error::Unsupported(format!("ADD of {}", source.text)));
                }
                if add.checksum.is_some() {
                    return Err(Error::Instruction(
                        "checksum can't be specified for non-HTTP(S) sources".into(),
                    ));
                }
                let unpack = add.unpack.unwrap_or(true);
                let what = Transferred { name: "ADD", parents: false, unpack };
                self.copy(stage, place, &add.transfer, None, what)?;
            }
        }
        Ok(())
    }

    fn copy(
        &mut self,
        stage: &mut Stage<'_>,
        place: &Place,
        transfer: &Transfer,
        origin: Option<&Origin>,
        what: Transferred,
    ) -> Result<()> {
        let mut sources = Vec::new();
        let mut others = Vec::new();
        if !transfer.sources.is_empty() {
            others.push(self.files(origin, place.lines)?);
            for source in &transfer.sources {
                sources.push(CopySource::Input { index: 1, pattern: source.text.clone() });
            }
        }
        for document in &transfer.documents {
            let (name, content) = (document.name.clone(), document.content.clone());
            sources.push(CopySource::Inline { name, content });
        }
        let chmod = match &transfer.chmod {
            None => None,
            Some(word) => Some(Chmod::parse(&word.text).ok_or_else(|| {
                Error::Instruction(format!(
                    "invalid chmod parameter: '{}'. it should be octal string and between 0 and 07777",
                    word.text
                ))
            })?),
        };
        let chown = transfer.chown.as_ref().map(|word| word.text.clone());
        let destination = destination(&transfer.destination.text, &stage.image.read().working_dir);
        let mut note = what.name.to_owned();
        for (name, value) in
            [("chown", &chown), ("chmod", &transfer.chmod.as_ref().map(|w| w.text.clone()))]
        {
            if let Some(value) = value {
                note.push_str(&format!(" --{name}={value}"));
            }
        }
        for source in &sources {
            note.push(' ');
            note.push_str(match source {
                CopySource::Input { pattern, .. } => pattern,
                CopySource::Inline { name, .. } => name,
            });
        }
        note.push_str(&format!(" {}", transfer.destination.text));
        let op = Op::Copy(Box::new(Copy {
            sources,
            destination,
            chown,
            chmod,
            link: transfer.link,
            parents: what.parents,
            exclude: transfer.exclude.iter().map(|word| word.text.clone()).collect(),
            unpack: what.unpack,
        }));
        self.step(stage, place, op, others);
        stage.image.note_step(note, stage.node);
        Ok(())
    }

    fn run(
        &mut self,
        stage: &mut Stage<'_>,
        place: &Place,
        run: &RunInstruction,
        expanded: &Expanded,
    ) -> Result<()> {
        if !run.devices.is_empty() {
            return Err(Error::Unsupported("RUN --device".into()));
        }
        if run.security == hako_dockerfile::ast::Security::Insecure && !self.wishes.allow_insecure {
            return Err(Error::Instruction("security.insecure is not allowed".into()));
        }
        let network = match run.network {
            Network::Default => self.wishes.network,
            Network::Host if !self.wishes.allow_host_network => {
                return Err(Error::Instruction("network.host is not allowed".into()));
            }
            network => network,
        };
        let (args, script) = command(&stage.image, run);
        let mut others = Vec::new();
        let mut mounts = Vec::new();
        for mount in &expanded.mounts {
            let origin = self.stages.mount_from(stage.at, place, mount)?;
            mounts.push(self.mount(stage, place, mount, origin.as_ref(), &mut others)?);
        }
        let declared: Vec<String> = stage
            .scope
            .args
            .iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}")))
            .collect();
        let env: Vec<String> =
            stage.scope.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let proxies = scope::proxies(&self.global.build_args);
        let ambient_env = proxies.map(|(name, value)| format!("{name}={value}")).collect();
        let mut note = "RUN ".to_owned();
        if !declared.is_empty() {
            note.push_str(&format!("|{} {} ", declared.len(), declared.join(" ")));
        }
        note.push_str(&args.join(" "));
        let config = stage.image.read();
        let op = Op::Run(Box::new(Run {
            args,
            env,
            ambient_env,
            cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir },
            user: config.user,
            network,
            security: run.security,
            mounts,
            script,
        }));
        self.step(stage, place, op, others);
        stage.image.note_step(note, stage.node);
        Ok(())
    }

    fn mount(
        &mut self,
        stage: &Stage<'_>,
        place: &Place,
        mount: &Mount,
        origin: Option<&Origin>,
        others: &mut Vec<NodeId>,
    ) -> Result<RunMount> {
        let workdir = stage.image.read().working_dir;
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let mut target = match mount.target.is_empty() {
            true => String::new(),
            false => absolute(&mount.target, &workdir),
        };
        let source = match mount.kind {
            MountType::Bind => {
                others.push(self.files(origin, place.lines)?);
                let path = clean(&format!("/{}", mount.source));
                MountSource::Input { index: others.len(), path }
            }
            MountType::Cache => {
                if origin.is_some() || !mount.source.is_empty() {
                    return Err(Error::Unsupported("RUN --mount=type=cache,from=".into()));
                }
                MountSource::Cache {
                    id: mount.cache_id().to_owned(),
                    sharing: match mount.sharing.unwrap_or(Sharing::Shared) {
                        Sharing::Shared => "shared",
                        Sharing::Private => "private",
                        Sharing::Locked => "locked",
                    },
                    mode: mount.mode.unwrap_or(0o755),
                    uid,
                    gid,
                }
            }
            MountType::Tmpfs => MountSource::Tmpfs { size: mount.size },
            MountType::Secret => {
                let id = mount.secret_id().to_owned();
                if target.is_empty() && mount.env.is_none() {
                    target = format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(&id));
                }
                MountSource::Secret {
                    id,
                    env: mount.env.clone(),
                    mode: mount.mode.unwrap_or(0o400),
                    uid,
                    gid,
                    required: mount.required,
                }
            }
            MountType::Ssh => {
                if target.is_empty() {
                    target = "/run/buildkit/ssh_agent.0".into();
                }
                let id = if mount.id.is_empty() { "default" } else { &mount.id };
                MountSource::Ssh { id: id.to_owned(), required: mount.required }
            }
        };
        Ok(RunMount { target, source, read_only: mount.read_only })
    }
}

/// What tells `ADD` from `COPY`.
#[derive(Debug, Clone, Copy)]
struct Transferred {
    name: &'static str,
    parents: bool,
    unpack: bool,
}

/// What a `RUN` executes, and the script that is mounted for it.
fn command(image: &Image, run: &RunInstruction) -> (Vec<String>, Option<(String, Vec<u8>)>) {
    let line = match &run.command {
        CommandLine::Exec(_) => return (image.arguments(&run.command), None),
        CommandLine::Shell(line) => line.text.trim(),
    };
    let with_shell = |text: String| {
        let mut words = image.shell();
        words.push(text);
        words
    };
    if let [document] = &run.heredocs[..] {
        let name = line.trim_start_matches("<<").trim_start_matches('-');
        if line.starts_with("<<") && name.trim_matches(['"', '\'']) == document.name {
            let text = document.text();
            if text.starts_with(b"#!") {
                let path = format!("{SCRIPTS}/{}", document.name);
                return (vec![path.clone()], Some((path, text)));
            }
            return (with_shell(String::from_utf8_lossy(&text).into_owned()), None);
        }
    }
    let mut text = line.to_owned();
    for document in &run.heredocs {
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&document.content));
        text.push_str(&document.name);
    }
    (with_shell(text), None)
}

/// Instructions that a base image has for those who build upon it.
fn triggers(expressions: &[String], place: &Place) -> Result<Vec<Instruction>> {
    let mut all = Vec::new();
    for expression in expressions {
        let text = format!("FROM scratch\n{expression}\n");
        let mut file = hako_dockerfile::parse(text.as_bytes())?;
        let stages = std::mem::take(&mut file.stages);
        let one = match <[_; 1]>::try_from(stages) {
            Ok([mut stage]) if stage.instructions.len() == 1 => stage.instructions.pop(),
            _ => None,
        };
        match one {
            Some(mut instruction) if !matches!(instruction.kind, Kind::Onbuild(_)) => {
                instruction.place.lines = place.lines;
                all.push(instruction);
            }
            _ => {
                return Err(Error::Instruction(format!(
                    "onbuild trigger of the base image should be a single expression: {expression:?}"
                )));
            }
        }
    }
    Ok(all)
}

/// A path from the working directory, or from the root.
fn absolute(path: &str, workdir: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{workdir}/{path}"),
    };
    match clean(&whole) {
        path if path.starts_with("//") => path[1..].to_owned(),
        path => path,
    }
}

/// The same, and a slash at the end says that it is a directory.
fn destination(path: &str, workdir: &str) -> String {
    let is_directory =
        path.is_empty() || path.ends_with('/') || path == "." || path.ends_with("/.");
    let mut whole = absolute(path, workdir);
    if is_directory && !whole.ends_with('/') {
        whole.push('/');
    }
    whole
}

fn is_remote(source: &str) -> bool {
    let lower = source.to_lowercase();
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|start| lower.starts_with(start))
}
