//! What a Dockerfile comes to: steps, and what each is made from.

use std::sync::Arc;

use hako_dockerfile::{
    ast::{Network, Security},
    source::Lines,
};
use hako_oci::{Descriptor, Digest};
use hako_snapshot::Chain;
use serde::{Deserialize, Serialize};

use crate::{context::Context, mode::Chmod};

/// A step by its number.
pub(crate) type NodeId = usize;

/// All steps; each is made from some before it.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    /// What it is made from; the file system that it changes is the first.
    pub(crate) inputs: Vec<NodeId>,
    /// As progress shows it: `[build 2/5] RUN make`.
    pub(crate) name: String,
    pub(crate) lines: Lines,
    /// Whether it is done whatever was done before.
    pub(crate) uncached: bool,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Op {
    /// An empty file system.
    Scratch,
    /// The file system of an image.
    Image(Arc<FileSystem>),
    /// Files of the host.
    Context(Arc<Context>),
    /// Runs a command.
    Run(Box<Run>),
    /// Copies files.
    Copy(Box<Copy>),
    /// Makes a directory.
    Workdir(Workdir),
}

/// The layers of a file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileSystem {
    /// Lowest first.
    pub(crate) layers: Vec<FsLayer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FsLayer {
    pub(crate) diff_id: Digest,
    /// Its blob.
    pub(crate) blob: Descriptor,
}

impl FileSystem {
    pub(crate) fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain::of(&self.diff_ids())
    }

    /// What tells its content from any other: two of the same layers are the same.
    pub(crate) fn identity(&self) -> String {
        self.chain().top().map_or_else(|| "scratch".to_owned(), ToString::to_string)
    }

    /// The same with one more layer, if there is one.
    pub(crate) fn with(&self, layer: Option<FsLayer>) -> FileSystem {
        let mut grown = self.clone();
        grown.layers.extend(layer);
        grown
    }
}

/// `RUN`.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// What is executed.
    pub(crate) args: Vec<String>,
    /// `NAME=value`, sorted as the instructions gave them.
    pub(crate) env: Vec<String>,
    /// Given too, but no part of what the step is: proxies.
    pub(crate) ambient_env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) network: Network,
    pub(crate) security: Security,
    pub(crate) mounts: Vec<RunMount>,
    /// Where a script is mounted, and what it says: the command is a heredoc that names its
    /// interpreter.
    pub(crate) script: Option<(String, Vec<u8>)>,
}

/// `RUN --mount`.
#[derive(Debug, Clone)]
pub(crate) struct RunMount {
    /// Absolute.
    pub(crate) target: String,
    pub(crate) source: MountSource,
    pub(crate) read_only: bool,
}

/// What a command finds at the target of a `--mount`.
#[derive(Debug, Clone)]
pub(crate) enum MountSource {
    /// Part of one of the step's inputs, by its number among them.
    Input { index: usize, path: String },
    /// A directory that outlives the build.
    Cache { id: String, sharing: &'static str, mode: u32, uid: u32, gid: u32 },
    /// Memory.
    Tmpfs { size: u64 },
    /// A secret, which is no part of what the step is.
    Secret { id: String, env: Option<String>, mode: u32, uid: u32, gid: u32, required: bool },
    /// The socket of an agent.
    Ssh { id: String, required: bool },
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// Source paths, in order.
    pub(crate) sources: Vec<CopySource>,
    /// Absolute; with a slash at its end a directory.
    pub(crate) destination: String,
    /// `--chown`, as it was written.
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<Chmod>,
    /// Whether the layer does not look at what it will lie on.
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    /// Whether archives become what is in them.
    pub(crate) unpack: bool,
}

/// One source of a copy.
#[derive(Debug, Clone)]
pub(crate) enum CopySource {
    /// Paths of one of the step's inputs, by its number among them.
    Input { index: usize, pattern: String },
    /// A heredoc.
    Inline { name: String, content: Vec<u8> },
}

/// `WORKDIR`.
#[derive(Debug, Clone)]
pub(crate) struct Workdir {
    /// Absolute.
    pub(crate) path: String,
    /// Whose it becomes, where it is made.
    pub(crate) user: String,
}
