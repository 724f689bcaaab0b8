//! What a Dockerfile can be asked for: its targets, and the arguments, secrets and caches that a
//! target takes (`--call targets`, `--call outline`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    ast::{Dockerfile, Kind},
    check::Request,
    error::Error,
    expand::Lexer,
    mount::{self, MountType},
    render,
    scope::{Env, Global, Scope},
    source::{Lines, Source},
    stages::{Origin, Stages},
};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; empty where it has none.
    pub name: String,
    /// Whether it is built when none is named.
    pub default: bool,
    /// What a comment says of it.
    pub description: String,
    /// What it is built upon, as it was written.
    pub base: String,
    /// Its `--platform`, as it was written.
    pub platform: String,
    /// Where it stands.
    pub lines: Lines,
}

/// The stages of a file.
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let target = |(at, stage): (usize, &crate::ast::Stage)| Target {
        name: stage.name().unwrap_or_default(),
        default: at == last,
        description: stage.description().unwrap_or_default().to_owned(),
        base: stage.base.text.clone(),
        platform: stage.platform.as_ref().map(|word| word.text.clone()).unwrap_or_default(),
        lines: stage.place.lines,
    };
    file.stages.iter().enumerate().map(target).collect()
}

/// Targets as `docker build --call=targets` prints them.
pub fn targets_text(targets: &[Target]) -> String {
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in targets {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push(vec![name, target.description.clone()]);
    }
    render::table(&rows)
}

/// Adds a member unless it is empty.
fn put(object: &mut Value, name: &str, value: &str) {
    if let (Some(object), false) = (object.as_object_mut(), value.is_empty()) {
        object.insert(name.to_owned(), value.into());
    }
}

/// Targets as `docker build --call=targets,format=json` prints them.
pub fn targets_json(targets: &[Target], source: &Source) -> Value {
    let target = |target: &Target| {
        let mut out = json!({});
        put(&mut out, "name", &target.name);
        if target.default {
            out["default"] = true.into();
        }
        put(&mut out, "description", &target.description);
        put(&mut out, "base", &target.base);
        put(&mut out, "platform", &target.platform);
        out["location"] = render::location(target.lines);
        out
    };
    json!({
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "sources": [render::base64(source.bytes())],
    })
}

/// An argument that a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What a comment says of it.
    pub description: String,
    /// Its value now.
    pub value: String,
    /// Where it stands.
    pub lines: Lines,
}

/// A secret, or an agent for keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it stands.
    pub lines: Lines,
}

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name.
    pub name: String,
    /// What a comment says of it.
    pub description: String,
    /// Arguments.
    pub args: Vec<Argument>,
    /// Secrets.
    pub secrets: Vec<Needed>,
    /// Agents for keys.
    pub ssh: Vec<Needed>,
    /// Caches.
    pub caches: Vec<Needed>,
}

impl Outline {
    /// What the request's target takes, with all stages it needs.
    pub fn new(file: &Dockerfile, request: &Request) -> Result<Outline, Error> {
        let target = request.target.as_deref();
        let global = Global::new(file, &request.platforms, &request.build_args, target)?;
        let stages = Stages::new(file, &global, target, &request.contexts)?;
        let mut outline = Outline::default();
        if let Some(stage) = file.stages.get(stages.target) {
            outline.name = stage.name().unwrap_or_default();
            outline.description = stage.description().unwrap_or_default().to_owned();
        }
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut args: BTreeMap<String, Argument> = BTreeMap::new();
        let mut envs: Vec<Env> = Vec::new();
        for (at, stage) in file.stages.iter().enumerate() {
            let resolved = &stages.stages[at];
            let env = match resolved.base {
                Origin::Stage(base) => envs.get(base).cloned().unwrap_or_default(),
                _ => Env::default(),
            };
            if !resolved.reachable || stages.is_replaced(at) {
                envs.push(env);
                continue;
            }
            used.extend(resolved.used.iter().cloned());
            let mut scope = Scope::new(&global, env);
            for instruction in &stage.instructions {
                let lines = instruction.place.lines;
                if let Kind::Run(run) = &instruction.kind {
                    outline.mounts(&run.mounts, &scope, file, lines)?;
                    continue;
                }
                // What needs the base's environment is not of interest here.
                let Ok(expanded) = scope.expand(instruction) else { continue };
                let Kind::Arg(declared) = expanded.kind else { continue };
                for arg in declared {
                    let name = arg.name.text.clone();
                    used.insert(name.clone());
                    let given = request.build_args.contains_key(&name);
                    let own = match &instruction.kind {
                        Kind::Arg(words) => {
                            words.iter().any(|word| word.name.text == name && word.value.is_some())
                        }
                        _ => false,
                    };
                    let is_global = global.args.iter().any(|arg| arg.name == name);
                    let is_platform = global.env.names().any(|known| known == name);
                    if !own && !given && (is_global || is_platform) {
                        continue;
                    }
                    let value = arg.value.map(|word| word.text).unwrap_or_default();
                    let description = arg.description.unwrap_or_default();
                    let argument = Argument { name: name.clone(), description, value, lines };
                    args.entry(name).or_insert(argument);
                }
            }
            envs.push(scope.env);
        }
        // What is used by what is used is used.
        let mut waiting: Vec<String> = used.iter().cloned().collect();
        while let Some(name) = waiting.pop() {
            let Some(arg) = global.args.iter().find(|arg| arg.name == name) else { continue };
            waiting.extend(arg.needs.iter().filter(|name| used.insert((*name).clone())).cloned());
        }
        for arg in global.args.iter().filter(|arg| used.contains(&arg.name)) {
            args.entry(arg.name.clone()).or_insert_with(|| Argument {
                name: arg.name.clone(),
                description: arg.description.clone().unwrap_or_default(),
                value: arg.value.clone().unwrap_or_default(),
                lines: arg.lines,
            });
        }
        outline.args = args.into_values().collect();
        outline.args.sort_by_key(|arg| arg.lines.first);
        Ok(outline)
    }

    fn mounts(
        &mut self,
        values: &[crate::source::Word],
        scope: &Scope<'_>,
        file: &Dockerfile,
        lines: Lines,
    ) -> Result<(), Error> {
        let lexer = Lexer::new(file.escape.char());
        for value in values {
            let mut expand = |text: &str| Ok(lexer.word(text, &scope.env)?.text);
            let mount = mount::parse(value, lines, Some(&mut expand))?;
            let (list, name) = match mount.kind {
                MountType::Secret => (&mut self.secrets, mount.secret_id()),
                MountType::Ssh if mount.id.is_empty() => (&mut self.ssh, "default"),
                MountType::Ssh => (&mut self.ssh, mount.id.as_str()),
                MountType::Cache => (&mut self.caches, mount.cache_id()),
                MountType::Bind | MountType::Tmpfs => continue,
            };
            if !list.iter().any(|known| known.name == name) {
                list.push(Needed { name: name.to_owned(), required: mount.required, lines });
            }
        }
        Ok(())
    }

    /// The outline as `docker build --call=outline` prints it.
    pub fn text(&self) -> String {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![row(&["TARGET:", name])];
            if !self.description.is_empty() {
                rows.push(row(&["DESCRIPTION:", &self.description]));
            }
            tables.push(rows);
        }
        if !self.args.is_empty() {
            let mut rows = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
            rows.extend(self.args.iter().map(|a| row(&[&a.name, &a.value, &a.description])));
            tables.push(rows);
        }
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !list.is_empty() {
                let required = |needed: &Needed| if needed.required { "true" } else { "" };
                let mut rows = vec![row(&[title, "REQUIRED"])];
                rows.extend(list.iter().map(|needed| row(&[&needed.name, required(needed)])));
                tables.push(rows);
            }
        }
        let tables: Vec<String> = tables.iter().map(|rows| render::table(rows) + "\n").collect();
        tables.concat()
    }

    /// The outline as `docker build --call=outline,format=json` prints it.
    pub fn json(&self, source: &Source) -> Value {
        let mut out = json!({});
        put(&mut out, "name", &self.name);
        put(&mut out, "description", &self.description);
        let mut list = |name: &str, values: Vec<Value>| {
            if !values.is_empty() {
                out[name] = values.into();
            }
        };
        let arg = |arg: &Argument| {
            let mut out = json!({ "name": arg.name });
            put(&mut out, "description", &arg.description);
            put(&mut out, "value", &arg.value);
            out["location"] = render::location(arg.lines);
            out
        };
        list("args", self.args.iter().map(arg).collect());
        let needed = |needed: &Needed| {
            let mut out = json!({ "name": needed.name });
            if needed.required {
                out["required"] = true.into();
            }
            out["location"] = render::location(needed.lines);
            out
        };
        list("secrets", self.secrets.iter().map(needed).collect());
        list("ssh", self.ssh.iter().map(needed).collect());
        let cache =
            |cache: &Needed| json!({ "ID": cache.name, "location": render::location(cache.lines) });
        list("cache", self.caches.iter().map(cache).collect());
        out["sources"] = json!([render::base64(source.bytes())]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# BASE_VERSION what is built upon\n\
ARG BASE_VERSION=1\n\
ARG BASE=a:${BASE_VERSION}\n\
ARG UNUSED=1\n\
# base the common part\n\
FROM $BASE AS base\n\
# MODE how it is built\n\
ARG MODE=release TARGETARCH\n\
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/c make\n\
FROM base\n\
RUN --mount=type=ssh --mount=type=secret,id=token,env=T x\n\
FROM other AS other\n\
ARG HERE\n";

    fn outline(target: Option<&str>) -> Outline {
        let file = crate::parse(TEXT.as_bytes()).unwrap();
        let request = Request { target: target.map(String::from), ..Request::new() };
        Outline::new(&file, &request).unwrap()
    }

    #[test]
    fn targets_are_listed() {
        let targets = targets(&crate::parse(TEXT.as_bytes()).unwrap());
        assert_eq!(
            targets_text(&targets),
            "TARGET           DESCRIPTION\nbase             the common part\n                 \n\
             other (default)  \n"
        );
        let json = targets_json(&targets, &Source::new("Dockerfile", TEXT));
        assert_eq!(json["targets"][0]["base"], "$BASE");
        assert_eq!(json["targets"][2]["default"], true);
    }

    #[test]
    fn outlines_name_what_a_target_takes() {
        assert_eq!(
            outline(Some("base")).text(),
            "TARGET:       base\nDESCRIPTION:  the common part\n\n\
             BUILD ARG     VALUE    DESCRIPTION\n\
             BASE_VERSION  1        what is built upon\n\
             BASE          a:1      \n\
             MODE          release  how it is built\n\n\
             SECRET  REQUIRED\ntoken   true\n\n"
        );
        let other = outline(None);
        let names: Vec<_> = other.args.iter().map(|arg| arg.name.as_str()).collect();
        assert_eq!(names, ["HERE"]);
        let base = outline(Some("base"));
        assert_eq!(base.caches[0].name, "/c");
        let json = base.json(&Source::new("Dockerfile", TEXT));
        assert_eq!(json["args"][2]["value"], "release");
        assert_eq!(json["secrets"][0]["required"], true);
    }
}
