//! The way to a host: TCP, proxies, TLS, and hyper's pool of connections.

mod connect;
mod socks;
mod tls;

use std::{collections::HashMap, sync::Mutex, sync::PoisonError, time::Duration};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};

pub(crate) use connect::Failed;

use crate::{
    Config, Result,
    config::hosts::{Certificates, certificates},
    url::Origin,
};
use connect::Connector;

/// What is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// A pool of connections with one idea of whom to believe.
pub(crate) type Pool = legacy::Client<Connector, Body>;

const IDLE_MAX: Duration = Duration::from_secs(30);
/// Headers that are believed: names and values of one answer.
const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How much a peer may send before we take it; for HTTP/2, of all requests together.
const WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The pools, one for each set of certificates.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Mutex<HashMap<Certificates, Pool>>,
}

impl Pools {
    /// The pool for these certificates.
    pub(crate) fn get(&self, config: &Config, certificates: &Certificates) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let connector = Connector::new(config, certificates.clone());
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_MAX)
                .http1_max_headers(HEADERS_MAX)
                .http1_max_buf_size(HEADER_BYTES_MAX.max(128 << 10))
                .http2_max_header_list_size(HEADER_BYTES_MAX as u32)
                .http2_initial_stream_window_size(WINDOW_BYTES)
                .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .build(connector)
        };
        pools.entry(certificates.clone()).or_insert_with(make).clone()
    }

    /// The pool for a host that nothing but its name is known of.
    pub(crate) fn for_host(&self, config: &Config, origin: &Origin) -> Result<Pool> {
        let certificates = certificates(&config.certs_dirs, &origin.authority())?;
        Ok(self.get(config, &certificates))
    }
}
