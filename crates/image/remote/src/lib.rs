//! Registries: the client of the OCI Distribution Specification 1.1, as Docker's users expect it.
//!
//! A [`Client`] reads what the machine says about registries ([`Config`]) and keeps connections and
//! tokens. A [`Repository`] gives and takes manifests and blobs. All functions block, and may be
//! called by many threads at once; connections live on two threads of the client's own.
//!
//! | module | subject |
//! |---|---|
//! | `config` | credentials, mirrors, certificates, proxies |
//! | `endpoint` | the hosts that have a repository |
//! | `net`, `url` | connections and addresses |
//! | `send`, `auth`, `challenge` | one request: credentials, redirects, retries, bounds |
//! | `repository`, `blob`, `upload`, `upstream` | what the specification has |
//! | `download` | a file of any other server |
//! | `file` | the same, resumed, and only where it changed |
//!
//! A registry is not trusted: everything that it sends has a bound in bytes and in time, content is
//! what its digest says, and credentials go to nobody but the host that they are for.
//!
//! ```no_run
//! fn show() -> hako_remote::Result<()> {
//!     let client = hako_remote::Client::new()?;
//!     let repository = client.repository(&client.names("alpine")?[0])?;
//!     println!("{}", repository.manifest("latest")?.descriptor.digest);
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

mod auth;
mod blob;
mod challenge;
mod client;
mod config;
mod download;
mod endpoint;
mod error;
mod file;
#[doc(hidden)]
pub mod foreign;
mod net;
mod referrers;
mod repository;
mod send;
mod upload;
mod upstream;
mod url;

pub use crate::{
    blob::Sink,
    client::Client,
    config::{
        Config,
        credentials::{Credentials, Stored},
    },
    download::Download,
    error::{Error, Result, Said},
    file::{Files, Get, Got, Stamp},
    repository::{Document, MANIFEST_BYTES_MAX, Repository},
    upload::{Open, Pushed},
};
