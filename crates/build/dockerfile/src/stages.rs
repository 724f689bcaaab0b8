//! What stages are built upon, copy from, and which of them a target needs.

use std::collections::BTreeSet;

use hako_oci::{Platform, Reference};

use crate::{
    ast::{Dockerfile, Instruction, Kind, Place, Stage},
    error::{Error, Problem},
    mount::{self, Mount, MountType},
    scope::Global,
    source::Word,
    suggest,
};

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing at all.
    Scratch,
    /// A stage of the file, by its place in [`Dockerfile::stages`].
    Stage(usize),
    /// A context that was given a name on the command line.
    Context(String),
    /// An image.
    Image(Reference),
    /// An image of a distribution's packages, by what it is called: `deb:bookworm/python3`. These
    /// names are hako's own.
    Packages(String),
}

/// What names of packages begin with. No registry's host is called so: its port would be no number.
const PACKAGES: [&str; 2] = ["deb:", "deb+"];

/// A stage, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What it is built upon.
    pub base: Origin,
    /// The base's name as it was written, variables expanded.
    pub base_name: String,
    /// `--platform`; nothing means the base stage's, or the target's.
    pub platform: Option<Platform>,
    /// The name shown: its own, or `stage-N`.
    pub name: String,
    /// Other stages it needs: its base, and those it copies or mounts from.
    pub needs: BTreeSet<usize>,
    /// Whether the target needs it, or is it.
    pub reachable: bool,
    /// Global arguments that its `FROM` asked for.
    pub used: BTreeSet<String>,
}

/// All stages of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// In the file's order.
    pub stages: Vec<Resolved>,
    /// The one that is built.
    pub target: usize,
    /// Names of contexts that were given, in the short form of references.
    contexts: BTreeSet<String>,
    names: Vec<Option<String>>,
}

/// The name a context is known by: that of an image is as it is written most shortly.
fn context_name(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
        }
        Err(_) => name.to_owned(),
    }
}

impl Stages {
    /// Resolves the stages of a file. `target` is the stage to build, or the last; `contexts` are
    /// the names of `--build-context`s, which are taken before stages and images of that name.
    pub fn new<S: AsRef<str>>(
        file: &Dockerfile,
        global: &Global,
        target: Option<&str>,
        contexts: impl IntoIterator<Item = S>,
    ) -> Result<Stages, Error> {
        let contexts = contexts.into_iter().map(|name| context_name(name.as_ref())).collect();
        let names: Vec<_> = file.stages.iter().map(Stage::name).collect();
        let mut all = Stages { stages: Vec::new(), target: 0, contexts, names };
        // The base as it was written, for those that turn out to be images.
        let mut images = Vec::new();
        for (at, stage) in file.stages.iter().enumerate() {
            let (resolved, image) = all.resolve(at, stage, global)?;
            all.stages.push(resolved);
            images.push(image);
        }
        all.target = all.find_target(file, target)?;
        for (at, stage) in file.stages.iter().enumerate() {
            if all.is_replaced(at) {
                continue;
            }
            for instruction in &stage.instructions {
                all.depend(at, instruction)?;
            }
        }
        all.refuse_circles(file)?;
        all.mark(all.target);
        for (at, image) in images.into_iter().enumerate() {
            if let Some(error) = image
                && all.stages[at].reachable
            {
                return Err(error);
            }
        }
        Ok(all)
    }

    /// Whether a named context stands for the whole stage.
    pub fn is_replaced(&self, stage: usize) -> bool {
        self.stages.get(stage).is_some_and(
            |stage| matches!(&stage.base, Origin::Context(name) if *name == stage.name),
        )
    }

    fn has_context(&self, name: &str) -> bool {
        let reserved = ["scratch", "context"].iter().any(|word| word.eq_ignore_ascii_case(name));
        !reserved && self.contexts.contains(&context_name(name))
    }

    /// Resolves a `FROM`. An image whose name is none is an error only where it is needed.
    fn resolve(
        &self,
        at: usize,
        stage: &Stage,
        global: &Global,
    ) -> Result<(Resolved, Option<Error>), Error> {
        let error =
            |problem: Problem, word: &Word| Error::new(problem, stage.place.lines).at(word.span);
        let base = global.expand(&stage.base).map_err(|why| error(why.into(), &stage.base))?;
        if base.text.is_empty() {
            return Err(error(Problem::BlankBase(stage.base.text.clone()), &stage.base));
        }
        let mut used = base.used;
        let platform = match &stage.platform {
            None => None,
            Some(word) => {
                let expansion = global
                    .expand(word)
                    .map_err(|why| error(Problem::PlatformArguments(String::new(), why), word))?;
                let near = || {
                    let unset = expansion.unset.iter();
                    let mut near =
                        unset.filter_map(|name| suggest::nearest(name, global.env.names()));
                    near.next().map(str::to_owned)
                };
                let expression = word.text.clone();
                if expansion.text.is_empty() {
                    return Err(error(Problem::EmptyPlatform { expression, near: near() }, word));
                }
                let platform = platform(&expansion.text).map_err(|why| {
                    error(Problem::Platform { expression, why, near: near() }, word)
                })?;
                used.extend(expansion.used);
                Some(platform)
            }
        };
        let own = stage.name();
        let mut wrong = None;
        let origin = match &own {
            Some(name) if self.has_context(name) => Origin::Context(name.clone()),
            _ => match self.origin(&base.text, at) {
                Ok(origin) => origin,
                Err(why) => {
                    let name = base.text.clone();
                    wrong = Some(error(Problem::Base { name, why }, &stage.base));
                    Origin::Scratch
                }
            },
        };
        let needs = match origin {
            Origin::Stage(base) => BTreeSet::from([base]),
            _ => BTreeSet::new(),
        };
        let resolved = Resolved {
            base: origin,
            base_name: base.text,
            platform,
            name: own.unwrap_or_else(|| format!("stage-{at}")),
            needs,
            reachable: false,
            used,
        };
        Ok((resolved, wrong))
    }

    /// What a base name means to the stage at `before`.
    fn origin(&self, name: &str, before: usize) -> Result<Origin, hako_oci::reference::Error> {
        // The last of several stages with one name; names of stages are lower case here.
        let named = (0..before.min(self.names.len())).rev();
        let mut stage = named.filter(|at| self.names[*at].as_deref() == Some(name));
        if let Some(stage) = stage.next() {
            return Ok(Origin::Stage(stage));
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if self.has_context(name) {
            return Ok(Origin::Context(context_name(name)));
        }
        if PACKAGES.iter().any(|start| name.starts_with(start)) {
            return Ok(Origin::Packages(name.to_owned()));
        }
        Ok(Origin::Image(name.parse::<Reference>()?.with_default_tag()))
    }

    fn find_target(&self, file: &Dockerfile, target: Option<&str>) -> Result<usize, Error> {
        let Some(target) = target.filter(|name| !name.is_empty()) else {
            return Ok(self.stages.len().saturating_sub(1));
        };
        let found = self.by_name(target);
        found.ok_or_else(|| {
            let names = self.names.iter().flatten().map(String::as_str);
            let near = suggest::nearest(&target.to_lowercase(), names).map(str::to_owned);
            let lines = file.stages.last().map(|stage| stage.place.lines).unwrap_or_default();
            Error::new(Problem::Target { name: target.to_owned(), near }, lines)
        })
    }

    /// The last stage of a name, in whatever case.
    fn by_name(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.names.iter().rposition(|seen| seen.as_deref() == Some(name.as_str()))
    }

    /// What `COPY --from` means to the stage at `stage`: the name or number of a stage, a named
    /// context, or an image.
    pub fn copy_from(&self, stage: usize, place: &Place, from: &Word) -> Result<Origin, Error> {
        let error = |problem| Error::new(problem, place.lines).at(from.span);
        let found = match from.text.parse::<i64>() {
            Ok(number) => match usize::try_from(number) {
                Ok(at) if at < self.stages.len() => Some(at),
                _ => return Err(error(Problem::StageIndex(number))),
            },
            Err(_) => self.by_name(&from.text),
        };
        if let Some(at) = found.filter(|at| *at > stage) {
            let (from, stage) = (self.shown(at), self.shown(stage));
            return Err(error(Problem::LaterStage { from, stage }));
        }
        self.other(found, &from.text).map_err(|why| {
            let is_variable = from.text.contains('$');
            let name = from.text.clone();
            error(if is_variable { Problem::FromVariable } else { Problem::Base { name, why } })
        })
    }

    /// What `from` of a mount means to the stage at `stage`; nothing where the mount has none, and
    /// its files come from the context or from nowhere.
    pub fn mount_from(
        &self,
        stage: usize,
        place: &Place,
        mount: &Mount,
    ) -> Result<Option<Origin>, Error> {
        let no_files = matches!(mount.kind, MountType::Tmpfs | MountType::Secret | MountType::Ssh);
        if mount.from.is_empty() || no_files {
            return Ok(None);
        }
        let error = |problem| Error::new(problem, place.lines);
        let found = self.by_name(&mount.from);
        if let Some(at) = found.filter(|at| *at > stage) {
            let (from, stage) = (self.shown(at), self.shown(stage));
            return Err(error(Problem::LaterMount { from, stage }));
        }
        let origin = self
            .other(found, &mount.from)
            .map_err(|why| error(Problem::Base { name: mount.from.clone(), why }))?;
        Ok(Some(origin))
    }

    fn other(
        &self,
        stage: Option<usize>,
        name: &str,
    ) -> Result<Origin, hako_oci::reference::Error> {
        match stage {
            Some(at) => Ok(Origin::Stage(at)),
            None => self.origin(name, 0),
        }
    }

    fn shown(&self, stage: usize) -> String {
        self.stages.get(stage).map(|stage| stage.name.clone()).unwrap_or_default()
    }

    /// Notes the stages that an instruction needs. Names are looked up here without saying what is
    /// wrong with them: whoever runs the instruction will.
    fn depend(&mut self, stage: usize, instruction: &Instruction) -> Result<(), Error> {
        let mut needs = Vec::new();
        match &instruction.kind {
            Kind::Copy(copy) => {
                if let Some(from) = &copy.from {
                    needs.push(match from.text.parse::<usize>() {
                        Ok(at) if at < self.stages.len() => Some(at),
                        Ok(at) => {
                            let problem = Problem::StageIndex(at as i64);
                            return Err(Error::new(problem, instruction.place.lines).at(from.span));
                        }
                        Err(_) => self.by_name(&from.text),
                    });
                }
            }
            Kind::Run(run) => {
                for value in &run.mounts {
                    let mount = mount::parse(value, instruction.place.lines, None)?;
                    needs.push(self.by_name(&mount.from));
                }
            }
            _ => {}
        }
        self.stages[stage].needs.extend(needs.into_iter().flatten());
        Ok(())
    }

    /// Adds what an instruction needs that the stage's base brought (`ONBUILD`).
    pub fn add_trigger(&mut self, stage: usize, trigger: &Instruction) -> Result<(), Error> {
        self.depend(stage, trigger)?;
        if self.stages[stage].reachable {
            self.mark(stage);
        }
        Ok(())
    }

    /// Stages need only others before them, unless they are wrong; a circle is said as one.
    fn refuse_circles(&self, file: &Dockerfile) -> Result<(), Error> {
        // 0: not seen, 1: on the way, 2: done.
        let mut state = vec![0_u8; self.stages.len()];
        for start in 0..self.stages.len() {
            let mut way = vec![(start, self.stages[start].needs.iter())];
            if state[start] != 0 {
                continue;
            }
            state[start] = 1;
            while let Some((at, needs)) = way.last_mut() {
                let at = *at;
                match needs.next() {
                    None => {
                        state[at] = 2;
                        way.pop();
                    }
                    Some(next) if state[*next] == 1 => {
                        let problem = Problem::Circular(self.shown(start));
                        let mut error = Error::new(problem, file.stages[at].place.lines);
                        let culprit = file.stages[at].instructions.iter().find(|instruction| {
                            matches!(&instruction.kind, Kind::Copy(copy)
                            if copy.from.as_ref().is_some_and(|from| {
                                from.text.parse() == Ok(*next)
                                    || self.by_name(&from.text) == Some(*next)
                            }))
                        });
                        if let Some(culprit) = culprit {
                            error.lines = culprit.place.lines;
                        }
                        return Err(error);
                    }
                    Some(next) if state[*next] == 0 => {
                        state[*next] = 1;
                        way.push((*next, self.stages[*next].needs.iter()));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, target: usize) {
        let mut waiting = vec![target];
        while let Some(at) = waiting.pop() {
            self.stages[at].reachable = true;
            let needs = self.stages[at].needs.iter().copied();
            waiting.extend(needs.filter(|next| !self.stages[*next].reachable));
        }
    }
}

/// A platform as it is written after `--platform`: system and processor, or one of them.
pub fn platform(text: &str) -> Result<Platform, hako_oci::platform::Error> {
    let host = Platform::host();
    let normal = if text.contains('/') {
        text.to_lowercase()
    } else {
        match text.to_lowercase().as_str() {
            "local" => return Ok(host),
            system @ ("linux" | "windows" | "darwin" | "freebsd" | "netbsd" | "openbsd") => {
                format!("{system}/{}", host.architecture)
            }
            architecture => match hako_oci::platform::normalized_architecture(architecture) {
                known @ ("amd64" | "arm64" | "arm" | "386" | "ppc64le" | "ppc64" | "s390x"
                | "riscv64" | "mips64le" | "mips64" | "loong64") => format!("linux/{known}"),
                _ => text.to_owned(),
            },
        }
    };
    let mut platform: Platform = normal.parse()?;
    // The variant that is meant anyhow is not said; that of arm is.
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => platform.variant = None,
        ("arm", None | Some("7")) => platform.variant = Some("v7".into()),
        _ => {}
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::{BuildArgs, Platforms};

    fn resolve(text: &str, target: Option<&str>, contexts: &[&str]) -> Result<Stages, String> {
        let file = crate::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let host = Platform::new("linux", "amd64");
        let platforms = Platforms { build: host.clone(), target: host };
        let global = Global::new(&file, &platforms, &BuildArgs::new(), target).unwrap();
        Stages::new(&file, &global, target, contexts).map_err(|error| error.to_string())
    }

    fn reachable(text: &str, target: Option<&str>) -> String {
        let stages = resolve(text, target, &[]).unwrap();
        let marks = stages.stages.iter().map(|stage| if stage.reachable { 'x' } else { '.' });
        marks.collect()
    }

    fn image(name: &str) -> Origin {
        Origin::Image(name.parse().unwrap())
    }

    #[test]
    fn bases_are_stages_images_or_nothing() {
        let text = "ARG v=1\nFROM a:$v AS one\nFROM One AS two\nFROM scratch\nFROM one\n";
        let error = resolve(text, Some("two"), &[]).unwrap_err();
        assert_eq!(
            error,
            "failed to parse stage name \"One\": invalid reference format: repository name \
             (library/One) must be lowercase"
        );
        let stages = resolve(text, None, &[]).unwrap();
        let bases: Vec<_> = stages.stages.iter().map(|stage| stage.base.clone()).collect();
        // The second is never built, so nobody minds.
        assert_eq!(bases, [image("a:1"), Origin::Scratch, Origin::Scratch, Origin::Stage(0)]);
        assert_eq!(stages.stages[2].name, "stage-2");
    }

    #[test]
    fn only_what_the_target_needs_is_reached() {
        let text = "FROM a AS a\nFROM b AS b\nFROM c AS c\nCOPY --from=A x y\n\
                    FROM b AS d\nRUN --mount=from=c,target=/x y\nFROM e AS e\n";
        assert_eq!(reachable(text, None), "....x");
        assert_eq!(reachable(text, Some("D")), "xxxx.");
        assert_eq!(reachable(text, Some("c")), "x.x..");
        assert_eq!(reachable("FROM a\nFROM b\nCOPY --from=0 x y\n", None), "xx");
    }

    #[test]
    fn copies_come_from_stages_contexts_and_images() {
        let text = "FROM a AS a\nFROM b\nCOPY --from=a x y\n";
        let stages = resolve(text, None, &["ctx", "docker.io/library/busybox:latest"]).unwrap();
        let file = crate::parse(text.as_bytes()).unwrap();
        let place = &file.stages[1].instructions[0].place;
        let from = |name: &str| {
            stages.copy_from(1, place, &name.into()).map_err(|error| error.to_string())
        };
        assert_eq!(from("A"), Ok(Origin::Stage(0)));
        assert_eq!(from("0"), Ok(Origin::Stage(0)));
        assert_eq!(from("ctx"), Ok(Origin::Context("ctx".into())));
        assert_eq!(from("busybox"), Ok(Origin::Context("busybox".into())));
        assert_eq!(from("busybox:1"), Ok(image("busybox:1")));
        assert_eq!(from("scratch"), Ok(Origin::Scratch));
        assert_eq!(from("7"), Err("invalid stage index 7".into()));
        assert!(from("x:$v").unwrap_err().starts_with("variable expansion is not supported"));
    }

    #[test]
    fn contexts_stand_for_stages_and_images() {
        let stages =
            resolve("FROM a AS one\nFROM b\nCOPY --from=one x y\n", None, &["one", "b"]).unwrap();
        assert!(stages.is_replaced(0) && !stages.is_replaced(1));
        assert_eq!(stages.stages[1].base, Origin::Context("b".into()));
    }

    #[test]
    fn what_cannot_be() {
        for (text, target, expected) in [
            (
                "FROM a\nCOPY --from=1 x y\nFROM b\nCOPY --from=0 x y\n",
                None,
                "circular dependency detected on stage: stage-0",
            ),
            ("FROM a AS a\nCOPY --from=a x y\n", None, "circular dependency detected on stage: a"),
            ("FROM a\nCOPY --from=4 x y\n", None, "invalid stage index 4"),
            (
                "FROM a AS base\n",
                Some("bsae"),
                "target stage \"bsae\" could not be found (did you mean base?)",
            ),
            ("FROM $v\n", None, "base name ($v) should not be blank"),
            (
                "FROM --platform=$TARGETPLTFORM a\n",
                None,
                "empty platform value from expression $TARGETPLTFORM (did you mean TARGETPLATFORM?)",
            ),
            (
                "FROM a:b:c\n",
                None,
                "failed to parse stage name \"a:b:c\": invalid reference format",
            ),
        ] {
            assert_eq!(resolve(text, target, &[]).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn platforms_in_all_spellings() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(platform(text).unwrap().to_string(), expected, "{text}");
        }
        assert!(platform("banana").is_err());
    }
}
