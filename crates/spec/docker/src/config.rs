//! A container's `Config`, field by field in the order in which Docker writes it.
//!
//! The order matters in one place: the configuration of an image that is made from its old `json`
//! has the digest that Docker gives it only if every byte is the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::null_default;

/// What a container runs, as the image and the user said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Host name.
    #[serde(deserialize_with = "null_default")]
    pub hostname: String,
    /// Domain name.
    #[serde(deserialize_with = "null_default")]
    pub domainname: String,
    /// User and group.
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    /// Whether a client gives it its standard input.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdin: bool,
    /// Whether a client reads its standard output.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdout: bool,
    /// Whether a client reads its standard error.
    #[serde(deserialize_with = "null_default")]
    pub attach_stderr: bool,
    /// Ports it listens on, as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Whether it has a terminal.
    #[serde(deserialize_with = "null_default")]
    pub tty: bool,
    /// Whether its standard input stays open.
    #[serde(deserialize_with = "null_default")]
    pub open_stdin: bool,
    /// Whether standard input closes after its first client.
    #[serde(deserialize_with = "null_default")]
    pub stdin_once: bool,
    /// Environment, `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Arguments, or the command where there is no entrypoint.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// Windows: the command is one string already.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_default")]
    pub args_escaped: bool,
    /// The image, as the user named it.
    #[serde(deserialize_with = "null_default")]
    pub image: String,
    /// Paths that are volumes.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    /// What is executed, before `cmd`.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// Whether it has no network.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_default")]
    pub network_disabled: bool,
    /// Its network card's address.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub mac_address: String,
    /// What a build on top of the image begins with.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks it to stop.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub stop_signal: String,
    /// Seconds to wait after that signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of the shell form of `RUN`, `CMD` and `ENTRYPOINT`.
    #[serde(skip_serializing_if = "is_none_or_empty", deserialize_with = "words")]
    pub shell: Option<Vec<String>>,
}

/// Go's `struct{}`: an object that has nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

fn is_none_or_empty(words: &Option<Vec<String>>) -> bool {
    words.as_ref().is_none_or(Vec::is_empty)
}

/// A command may be written as one string, which is then its only word.
fn words<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}
