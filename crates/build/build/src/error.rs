//! Why a build ends without an image.

use std::{io, path::PathBuf};

use hako_dockerfile::source::Lines;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something of another crate that may go wrong.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a build ends without an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the host.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// What was done.
        call: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The Dockerfile.
    #[error("{0}")]
    Dockerfile(Box<hako_dockerfile::Error>),
    /// An instruction, wherever it fails.
    #[error("{source}")]
    At {
        /// Its lines.
        lines: Lines,
        /// What is wrong.
        source: Box<Error>,
    },
    /// What an instruction asks for that makes no sense.
    #[error("{0}")]
    Instruction(String),
    /// What this version does not do.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// No stage of that name.
    #[error("target stage {0:?} could not be found")]
    Target(String),
    /// Nothing at a source path.
    #[error("failed to calculate checksum of ref: \"/{0}\": not found")]
    NotFound(String),
    /// A pattern of a source path.
    #[error("syntax error in pattern {0:?}")]
    Pattern(String),
    /// A path that the kernel would not take.
    #[error("{0:?}: path is longer than 4095 bytes")]
    PathTooLong(PathBuf),
    /// Links that lead in a circle, or nearly.
    #[error("{0:?}: too many levels of symbolic links")]
    Links(PathBuf),
    /// More files than one step may copy.
    #[error("more than {limit} files in one copy")]
    TooMany {
        /// How many it may be.
        limit: usize,
    },
    /// A directory is to be where something else is.
    #[error("cannot copy to non-directory: /{}", .0.display())]
    NoDirectory(PathBuf),
    /// A file is to be where a directory is.
    #[error("cannot overwrite directory /{} with non-directory", .0.display())]
    IsDirectory(PathBuf),
    /// A name that is no file's in a layer.
    #[error("/{}: begins with .wh., which means a removed file in a layer", .0.display())]
    Whiteout(PathBuf),
    /// A file was written to while it was copied.
    #[error("{0:?} changed while it was copied; build again")]
    Changed(PathBuf),
    /// A user or group that the image does not have.
    #[error("{0}")]
    User(String),
    /// A command that failed.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Run {
        /// The command, as it was given.
        command: String,
        /// Its exit code, 128 and the signal's number where one ended it.
        code: i32,
    },
    /// The build was interrupted, or another step failed.
    #[error("canceled")]
    Canceled,
    /// A document that cannot be written or read.
    #[error("{what}: {source}")]
    Json {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A command could not be run at all.
    #[error("{0}")]
    Runner(Cause),
    /// A directory tree.
    #[error(transparent)]
    Tree(Box<hako_root::Error>),
    /// A layer.
    #[error(transparent)]
    Layer(Box<hako_layer::Error>),
    /// A layer's tar.
    #[error(transparent)]
    Tar(Box<hako_tar::Error>),
    /// The content store.
    #[error(transparent)]
    Content(Box<hako_content::Error>),
    /// Snapshots.
    #[error(transparent)]
    Snapshot(Box<hako_snapshot::Error>),
    /// Images.
    #[error(transparent)]
    Image(Box<hako_image::Error>),
    /// The database.
    #[error(transparent)]
    Db(Box<hako_db::Error>),
    /// What a command's container would be.
    #[error(transparent)]
    Bundle(Box<hako_bundle::Error>),
}

impl Error {
    pub(crate) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { call, path, source }
    }

    /// The same, of an instruction on these lines.
    pub(crate) fn at(self, lines: Lines) -> Error {
        match self {
            Error::At { .. } | Error::Canceled | Error::Dockerfile(_) => self,
            source => Error::At { lines, source: Box::new(source) },
        }
    }

    /// The lines of the instruction that failed.
    pub fn lines(&self) -> Option<Lines> {
        match self {
            Error::At { lines, .. } => Some(*lines),
            Error::Dockerfile(error) => Some(error.lines),
            _ => None,
        }
    }
}

/// The large ones are boxed: a result is as large as its largest error.
macro_rules! boxed {
    ($($source:ty => $variant:ident,)*) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Error {
                Error::$variant(Box::new(error))
            }
        })*
    };
}

boxed! {
    hako_dockerfile::Error => Dockerfile,
    hako_root::Error => Tree,
    hako_layer::Error => Layer,
    hako_tar::Error => Tar,
    hako_content::Error => Content,
    hako_snapshot::Error => Snapshot,
    hako_image::Error => Image,
    hako_db::Error => Db,
    hako_bundle::Error => Bundle,
}
