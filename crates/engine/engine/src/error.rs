//! Errors, in Docker's words where scripts match on them, with Docker's exit codes.

use std::path::PathBuf;

use hako_monitor::Failure;

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the engine's own.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The image could not be built.
    #[error(transparent)]
    Build(Box<hako_build::Error>),
    /// The registry cannot be served.
    #[error(transparent)]
    Serve(Box<hako_registry::Error>),
    /// Neither HOME nor an XDG directory says where a user's state belongs.
    #[error("HOME is not set: name the store with --root")]
    NoHome,
    /// The run root belongs to another installation.
    #[error(
        "run root {} belongs to the store {}: name another with --run-root",
        run_root.display(), root.display()
    )]
    RunRootTaken {
        /// The run root.
        run_root: PathBuf,
        /// The store that it belongs to.
        root: PathBuf,
    },
    /// What only root can do in this version.
    #[error("{0} needs root: containers of ordinary users are not supported yet")]
    NeedsRoot(&'static str),
    /// No container of this name or ID.
    #[error("No such container: {0}")]
    NoContainer(String),
    /// Several containers' IDs begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The name has characters that names may not have.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// The container has to run for this.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// A container cannot be joined by another.
    #[error("can't join {namespace} namespace of container {container}: {why}")]
    Join {
        /// Which namespace.
        namespace: &'static str,
        /// The container, as the user named it.
        container: String,
        /// Why not.
        why: String,
    },
    /// It runs, and can be started only once at a time.
    #[error("container {0} is already running")]
    AlreadyRunning(String),
    /// The container must not run for this.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(String),
    /// Another command is about to change the same container.
    #[error("container {0} is being changed by another command")]
    Busy(String),
    /// The container was to be created, and something with the image is not right.
    #[error(transparent)]
    Image(Box<hako_image::Error>),
    /// What the user asked for does not fit together, or not the image.
    #[error(transparent)]
    Options(#[from] hako_bundle::Error),
    /// The source of a bind mount.
    #[error(transparent)]
    Source(#[from] hako_bundle::mount::MountError),
    /// Control groups cannot be made sense of.
    #[error(transparent)]
    Cgroup(#[from] hako_cgroup::Error),
    /// The container could not be started.
    #[error("{}", failure.message)]
    Start {
        /// What the monitor said.
        failure: Failure,
    },
    /// The monitor went away without a word.
    #[error("the monitor of container {0} ended before the container was started")]
    MonitorLost(String),
    /// Talking to a monitor failed.
    #[error(transparent)]
    Client(#[from] hako_monitor::ClientError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] hako_runtime::Error),
    /// The snapshotter failed.
    #[error(transparent)]
    Snapshot(#[from] hako_snapshot::Error),
    /// The database failed.
    #[error(transparent)]
    Database(Box<hako_db::Error>),
    /// A registry failed.
    #[error(transparent)]
    Registry(Box<hako_remote::Error>),
    /// The content store failed.
    #[error(transparent)]
    Content(Box<hako_content::Error>),
    /// A file in a container or image.
    #[error(transparent)]
    Tree(#[from] hako_root::Error),
    /// A log could not be read.
    #[error(transparent)]
    Log(#[from] hako_monitor::LogError),
    /// What is stored of a container cannot be read.
    #[error("container {id}: what is stored of it cannot be read: {source}")]
    Record {
        /// The container.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The files of a container could not be written as a tar.
    #[error("cannot export container {container}: {source}")]
    Export {
        /// The container.
        container: String,
        /// Why.
        source: Box<hako_layer::Error>,
    },
    /// An image could not be made of packages.
    #[error(transparent)]
    Packages(Box<crate::packages::PackagesError>),
    /// A layer could not be written.
    #[error(transparent)]
    Layer(Box<hako_layer::Error>),
    /// A word that is no signal.
    #[error("Invalid signal: {0}")]
    Signal(String),
    /// It cannot be done in this version.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    /// Whether an image is not in the store.
    pub fn is_no_image(&self) -> bool {
        matches!(self, Error::Image(e) if matches!(**e, hako_image::Error::NotFound(_)))
    }

    /// The status a command that failed so exits with: 125 unless the container's own program
    /// could not be executed (126) or found (127).
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Start { failure } => failure.exit_code,
            Error::Runtime(e) => e.exit_code(),
            _ => 125,
        }
    }

    pub(crate) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { call, path, source }
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
    hako_build::Error => Build,
    hako_image::Error => Image,
    hako_remote::Error => Registry,
    hako_db::Error => Database,
    hako_content::Error => Content,
    hako_registry::Error => Serve,
    hako_layer::Error => Layer,
    crate::packages::PackagesError => Packages,
}

impl From<hako_deb::Error> for Error {
    fn from(error: hako_deb::Error) -> Error {
        crate::packages::PackagesError::from(error).into()
    }
}

impl From<hako_assemble::Error> for Error {
    fn from(error: hako_assemble::Error) -> Error {
        crate::packages::PackagesError::from(error).into()
    }
}

impl From<crate::packages::NameError> for Error {
    fn from(error: crate::packages::NameError) -> Error {
        crate::packages::PackagesError::from(error).into()
    }
}
