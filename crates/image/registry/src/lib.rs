//! A registry: the server of the OCI Distribution Specification 1.1 over a content store.
//!
//! | module | subject |
//! |---|---|
//! | [`request`] | what a request asks for: pure, and all that is parsed of untrusted bytes |
//! | `catalog` | repositories, tags, referrers: names of the content store |
//! | `blobs`, `uploads`, `manifests`, `lists` | the endpoints |
//! | `refusal` | the specification's errors |
//! | `proxy` | a pull-through cache |
//! | `collect` | abandoned uploads, blobs without a manifest, garbage |
//! | `server`, `stream`, `tls` | connections |
//! | `door`, `login`, `token`, `keys`, `issue` | who may do what |
//! | `access`, `body`, `sendfile` | log, metrics, what is sent |
//!
//! What always holds:
//!
//! - A blob or manifest is in a repository when its name is, and names are written when the content
//!   is in the store, whole, verified and synced. So a server killed at any instant has nothing
//!   half; uploads that were open can be continued at the next one.
//! - Nothing that a client does grows without bound: connections, open uploads, manifests, headers
//!   and lists have limits, and who sends or reads too slowly is cut off.
//! - Disk and database block, and are called where the runtime expects it (`block_in_place`).

#![forbid(unsafe_code)]

mod access;
mod blobs;
mod body;
mod catalog;
mod collect;
mod door;
#[doc(hidden)]
pub mod foreign;
mod issue;
mod keys;
mod lists;
mod login;
mod manifests;
mod proxy;
mod refusal;
pub mod request;
mod sendfile;
mod server;
mod stream;
mod tls;
mod token;
mod uploads;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hako_content::Store;

pub use access::Log;
pub use collect::{Ages, Collected, collect, would_collect};
pub use proxy::Upstream;
pub use token::Tokens;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Nothing changes: no push, no deletion, no collection.
    pub read_only: bool,
    /// Where what is not here comes from; nothing can be pushed then.
    pub upstream: Option<Upstream>,
    /// Whether manifests, tags and blobs can be deleted.
    pub deletes: bool,
    /// Whether manifests may name blobs that are not there.
    pub sparse: bool,
    /// What every response tells clients to tell their users, as `Warning: 299`.
    pub warnings: Vec<String>,
    /// Users and their bcrypt hashes; without it everybody may do everything.
    pub htpasswd: Option<PathBuf>,
    /// Whose tokens are believed, in place of users with passwords.
    pub tokens: Option<Tokens>,
    /// Whether users of `htpasswd` are given tokens, at `/token`.
    pub issue: bool,
    /// Whether everybody gets a token to pull with.
    pub anonymous_pull: bool,
    /// Certificate chain and key, PEM; without it HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How many connections are served at once; more wait.
    pub connections_max: usize,
    /// How many uploads may be open.
    pub uploads_max: u64,
    /// How long a client may take to send or read some kilobytes.
    pub stall: Duration,
    /// How long things are kept that nothing names.
    pub ages: Ages,
    /// Time between two collections.
    pub collect_every: Duration,
    /// How long connections may take to finish after a signal to stop.
    pub shutdown: Duration,
}

impl Options {
    /// What is right for most, listening at `listen`.
    pub fn new(listen: SocketAddr) -> Options {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Options {
            listen,
            read_only: false,
            upstream: None,
            deletes: true,
            sparse: false,
            warnings: Vec::new(),
            htpasswd: None,
            tokens: None,
            issue: false,
            anonymous_pull: false,
            tls: None,
            connections_max: 1000,
            uploads_max: 10_000,
            stall: Duration::from_secs(60),
            ages: Ages { upload: hours(7 * 24), blob: hours(24), pulled: None },
            collect_every: hours(1),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The runtime, or a signal's handler, cannot be had.
    #[error("{call}: {source}")]
    Runtime {
        /// What was asked of the system.
        call: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is no user.
    #[error("{}:{line}: want USER:BCRYPT, as `htpasswd -B` writes it", path.display())]
    Htpasswd {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// The upstream cannot be one.
    #[error("upstream {address}: {why}")]
    Upstream {
        /// Which.
        address: String,
        /// Why.
        why: String,
    },
    /// A file without a key that tokens could be believed by.
    #[error("keys: {}: {why}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A warning that is no text for a header.
    #[error("warning {0:?}: want printable ASCII, 4096 bytes at most in all warnings")]
    Warning(String),
    /// No certificate, or no key, or they do not fit.
    #[error("TLS: {}: {why}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] hako_content::Error),
}

/// Serves `store` until SIGTERM or SIGINT. The first line of the log says where it listens.
pub fn serve(store: &Store, options: Options, log: Log) -> Result<()> {
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { call: "starting threads", source })?;
    // Held until the end: it has threads of its own, which must not end on a thread of these.
    let state = Arc::new(server::State::new(store.clone(), options, log)?);
    let served = runtime.block_on(server::run(Arc::clone(&state)));
    // Threads that wait for a slow disk end by themselves; the process does not wait for them.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// As many descriptors as this process may have: a connection takes one, and its blob another.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|e| Error::Runtime { call: "setrlimit(RLIMIT_NOFILE)", source: e.into() })
}
