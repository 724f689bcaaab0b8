//! The configuration of the image that a stage becomes, instruction by instruction, as BuildKit
//! writes it: tools compare these texts.

use std::collections::BTreeMap;

use hako_dockerfile::{
    ast::{CommandLine, Healthcheck, Pair},
    source::Word,
};
use hako_image::rfc3339;
use hako_oci::{
    Digest, Platform,
    image::{ContainerConfig, History, ImageConfig},
};
use serde_json::{Value, json};

use crate::{Error, Result};

/// What BuildKit calls its steps.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// What an image upon nothing finds programs with.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// An image that is being made.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) config: ImageConfig,
    /// Whether this stage said `CMD`: an `ENTRYPOINT` takes the base's away.
    has_cmd: bool,
    /// Every history entry's time.
    created: String,
    /// Steps whose history entry has a layer only if the step made one, by entry.
    pub(crate) layered: Vec<(usize, crate::graph::NodeId)>,
}

impl Image {
    /// An image upon nothing.
    pub(crate) fn scratch(platform: &Platform, epoch: i64) -> Image {
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        let mut image = Image::upon(config, epoch);
        image.container().env.push(PATH.into());
        image
    }

    /// An image upon another, or upon a stage.
    pub(crate) fn upon(config: ImageConfig, epoch: i64) -> Image {
        let created = rfc3339(epoch);
        Image { config, has_cmd: false, created, layered: Vec::new() }
    }

    /// The same for a stage upon this one.
    pub(crate) fn as_base(&self) -> Image {
        Image { has_cmd: false, ..self.clone() }
    }

    pub(crate) fn container(&mut self) -> &mut ContainerConfig {
        self.config.config.get_or_insert_default()
    }

    pub(crate) fn read(&self) -> ContainerConfig {
        self.config.config.clone().unwrap_or_default()
    }

    /// `SHELL`, or what commands run with otherwise.
    pub(crate) fn shell(&self) -> Vec<String> {
        let shell = self.config.config.as_ref().and_then(|config| config.extra.get("Shell"));
        let words = shell.and_then(|shell| serde_json::from_value(shell.clone()).ok());
        words.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec())
    }

    /// Instructions for whoever builds upon the image: they are taken from it.
    pub(crate) fn take_triggers(&mut self) -> Vec<String> {
        let found = self.container().extra.remove("OnBuild");
        found.and_then(|found| serde_json::from_value(found).ok()).unwrap_or_default()
    }

    /// What is executed of a command that may be for the shell.
    pub(crate) fn arguments(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
            CommandLine::Shell(line) => {
                let mut words = self.shell();
                words.push(line.text.clone());
                words
            }
        }
    }

    /// Notes an instruction that made no layer.
    pub(crate) fn note(&mut self, created_by: String) {
        self.entry(created_by, true);
    }

    /// Notes an instruction whose step may make a layer.
    pub(crate) fn note_step(&mut self, created_by: String, step: crate::graph::NodeId) {
        self.layered.push((self.config.history.len(), step));
        self.entry(format!("{created_by} # buildkit"), false);
    }

    fn entry(&mut self, created_by: String, empty_layer: bool) {
        self.config.history.push(History {
            created: Some(self.created.clone()),
            created_by: Some(created_by),
            comment: Some(COMMENT.into()),
            empty_layer,
            ..History::default()
        });
    }

    pub(crate) fn env(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            let (key, value) = (&pair.key.text, &pair.value.text);
            let env = &mut self.container().env;
            let text = format!("{key}={value}");
            match env.iter_mut().find(|known| known.split_once('=').is_some_and(|(k, _)| k == key))
            {
                Some(known) => *known = text,
                None => env.push(text),
            }
        }
        self.note(format!("ENV {}", shown(pairs)));
    }

    pub(crate) fn label(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            self.container().labels.insert(pair.key.text.clone(), pair.value.text.clone());
        }
        self.note(format!("LABEL {}", shown(pairs)));
    }

    pub(crate) fn cmd(&mut self, command: &CommandLine) {
        let words = self.arguments(command);
        self.note(format!("CMD {}", quoted(&words)));
        self.container().cmd = Some(words);
        self.container().extra.insert("ArgsEscaped".into(), true.into());
        self.has_cmd = true;
    }

    pub(crate) fn entrypoint(&mut self, command: &CommandLine) {
        let words = self.arguments(command);
        self.note(format!("ENTRYPOINT {}", quoted(&words)));
        self.container().entrypoint = Some(words);
        if !self.has_cmd {
            self.container().cmd = None;
        }
    }

    pub(crate) fn expose(&mut self, ports: &[Word]) -> Result<()> {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        for word in ports {
            for port in exposed(&word.text)? {
                all.insert(port, json!({}));
            }
        }
        let list: Vec<String> = all.keys().map(|port| format!("{port}:{{}}")).collect();
        self.note(format!("EXPOSE map[{}]", list.join(" ")));
        self.container().exposed_ports.append(&mut all);
        Ok(())
    }

    pub(crate) fn volume(&mut self, paths: &[Word]) -> Result<()> {
        for path in paths {
            if path.text.trim().is_empty() {
                return Err(Error::Instruction(
                    "VOLUME specified can not be an empty string".into(),
                ));
            }
            self.container().volumes.insert(path.text.clone(), json!({}));
        }
        let list: Vec<&str> = paths.iter().map(Word::as_str).collect();
        self.note(format!("VOLUME [{}]", list.join(" ")));
        Ok(())
    }

    pub(crate) fn user(&mut self, user: &str) {
        self.container().user = user.to_owned();
        self.note(format!("USER {user}"));
    }

    pub(crate) fn stop_signal(&mut self, signal: &str) {
        self.container().stop_signal = Some(signal.to_owned());
        self.note(format!("STOPSIGNAL {signal}"));
    }

    pub(crate) fn set_shell(&mut self, words: &[Word]) {
        let words: Vec<&str> = words.iter().map(Word::as_str).collect();
        self.note(format!("SHELL [{}]", words.join(" ")));
        self.container().extra.insert("Shell".into(), json!(words));
    }

    pub(crate) fn maintainer(&mut self, name: &str) {
        self.config.author = Some(name.to_owned());
        self.note(format!("MAINTAINER {name}"));
    }

    pub(crate) fn on_build(&mut self, expression: &str) {
        let list = self.container().extra.entry("OnBuild").or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(expression.into());
        }
        self.note(format!("ONBUILD {expression}"));
    }

    pub(crate) fn healthcheck(&mut self, check: &Healthcheck) {
        let value = match check {
            Healthcheck::None => json!({ "Test": ["NONE"] }),
            Healthcheck::Check {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let test: Vec<String> = match command {
                    CommandLine::Shell(line) => vec!["CMD-SHELL".into(), line.text.clone()],
                    CommandLine::Exec(words) => std::iter::once("CMD".to_owned())
                        .chain(words.iter().map(|word| word.text.clone()))
                        .collect(),
                };
                let mut value = json!({ "Test": test });
                let times = [
                    ("Interval", interval),
                    ("Timeout", timeout),
                    ("StartPeriod", start_period),
                    ("StartInterval", start_interval),
                ];
                for (name, time) in times {
                    if let Some(time) = time.filter(|time| !time.is_zero()) {
                        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                        value[name] = nanos.into();
                    }
                }
                if let Some(retries) = retries.filter(|retries| *retries > 0) {
                    value["Retries"] = retries.into();
                }
                value
            }
        };
        let test = value["Test"].as_array().map(Vec::as_slice).unwrap_or_default();
        let words: Vec<String> =
            test.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        let time = |name: &str| value[name].as_u64().map_or("0s".to_owned(), go_duration);
        let note = format!(
            "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" '\\x{:02x}'}}",
            quoted(&words),
            time("Interval"),
            time("Timeout"),
            time("StartPeriod"),
            time("StartInterval"),
            value["Retries"].as_u64().unwrap_or(0),
        );
        self.note(note);
        self.container().healthcheck = Some(value);
    }

    /// The configuration's bytes, for these layers.
    pub(crate) fn finish(
        mut self,
        diff_ids: Vec<Digest>,
        has_layer: impl Fn(crate::graph::NodeId) -> bool,
    ) -> Result<Vec<u8>> {
        for (entry, step) in &self.layered {
            if let Some(history) = self.config.history.get_mut(*entry) {
                history.empty_layer = !has_layer(*step);
            }
        }
        self.config.created = Some(self.created);
        self.config.rootfs.kind = "layers".into();
        self.config.rootfs.diff_ids = diff_ids;
        serde_json::to_vec(&self.config)
            .map_err(|source| Error::Json { what: "image configuration", source })
    }
}

/// `A=b C=d`, as it goes into the history.
fn shown(pairs: &[Pair]) -> String {
    let all: Vec<String> =
        pairs.iter().map(|pair| format!("{}={}", pair.key.text, pair.value.text)).collect();
    all.join(" ")
}

/// A list of words as Go's `%q` writes it.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> =
        words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
    format!("[{}]", words.join(" "))
}

/// A time as Go writes it.
fn go_duration(nanos: u64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:09}").trim_end_matches('0').to_owned(),
    };
    match seconds {
        0 if nanos < 1_000_000_000 && nanos > 0 => format!("{}ms", nanos / 1_000_000),
        0..60 => format!("{seconds}{fraction}s"),
        60..3600 => format!("{}m{}{fraction}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}{fraction}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The ports of one word of `EXPOSE`, each with its protocol.
fn exposed(text: &str) -> Result<Vec<String>> {
    let wrong = || Error::Instruction(format!("invalid containerPort: {text}"));
    // What is published where is the business of whoever runs it.
    let port = text.rsplit(':').next().unwrap_or(text);
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(Error::Instruction(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, want) in [
            ("80", &["80/tcp"][..]),
            ("53/UDP", &["53/udp"]),
            ("8000-8002", &["8000/tcp", "8001/tcp", "8002/tcp"]),
            ("127.0.0.1:80:90/sctp", &["90/sctp"]),
        ] {
            assert_eq!(exposed(text).unwrap(), want, "{text}");
        }
        for text in ["", "x", "80/icmp", "9-8", "70000"] {
            assert!(exposed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (nanos, want) in [
            (0, "0s"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanos), want);
        }
    }
}
