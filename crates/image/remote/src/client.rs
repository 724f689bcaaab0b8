//! The client: what all repositories share, and the threads that its connections live on.

use std::{collections::HashMap, sync::Arc};

use hako_oci::Reference;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Mutex, Semaphore},
};

use crate::{
    Config, Credentials, Error, Repository, Result, Stored,
    auth::Known,
    challenge::Scopes,
    config::{credentials, registries::Registries},
    endpoint::Endpoint,
    net::Pools,
    send::Call,
    url::Scheme,
};

/// Threads for connections. What is done with the bytes is done on the callers' threads.
const THREADS: usize = 2;

/// Talks to registries. Its functions block; any number of threads may call them at once.
#[derive(Debug)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) runtime: Arc<Runtime>,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Core {
    pub config: Config,
    pub registries: Registries,
    pub pools: Pools,
    pub known: Known,
    /// The right to fetch a blob in several ranges at once.
    pub ranges: Semaphore,
    /// Credentials that were given rather than found.
    pub given: Option<Credentials>,
    /// What turned out to be spoken by hosts that may speak either.
    schemes: Mutex<HashMap<String, Scheme>>,
}

impl Client {
    /// A client with the configuration of this process's environment.
    pub fn new() -> Result<Client> {
        Client::open(Config::from_env()?, None)
    }

    /// A client with this configuration, and with credentials that count instead of those in files.
    pub fn open(config: Config, given: Option<Credentials>) -> Result<Client> {
        let registries = Registries::read(&config.registries_files)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let core = Core {
            config,
            registries,
            pools: Pools::default(),
            known: Known::default(),
            ranges: Semaphore::new(1),
            given,
            schemes: Mutex::default(),
        };
        Ok(Client { core: Arc::new(core), runtime: Arc::new(runtime) })
    }

    /// The names that a name means which was typed: one, unless the machine's registries.conf has
    /// several registries to search.
    pub fn names(&self, typed: &str) -> Result<Vec<Reference>> {
        self.core.registries.short_name(typed)
    }

    /// The repository of a name.
    pub fn repository(&self, name: &Reference) -> Result<Repository> {
        let (mirrors, registry) = self.core.endpoints(name)?;
        Ok(Repository::new(self, name, mirrors, registry))
    }

    /// Whether a registry takes these credentials, and what it says to them.
    pub fn login(config: Config, registry: &str, credentials: Credentials) -> Result<Stored> {
        let client = Client::open(config, Some(credentials.clone()))?;
        let name = registry_name(registry)?;
        let (_, endpoint) = client.core.endpoints(&name)?;
        client.runtime.block_on(client.core.ping(endpoint))?;
        credentials::store(&client.core.config, registry, &credentials)
    }

    /// Forgets the credentials for a registry, and says whether there were any.
    pub fn logout(config: &Config, registry: &str) -> Result<bool> {
        credentials::erase(config, registry)
    }

    /// The credentials that are known for a registry or repository.
    pub fn credentials(config: &Config, name: &str) -> Result<Option<Credentials>> {
        credentials::find(config, name)
    }
}

/// A name in a registry that only its host is known of.
fn registry_name(registry: &str) -> Result<Reference> {
    let text = format!("{registry}/hako");
    let name: Option<Reference> = text.parse().ok();
    name.filter(|name| name.domain() == registry || registry == "index.docker.io").ok_or_else(
        || Error::Protocol { url: registry.into(), why: "this is no registry's name".into() },
    )
}

impl Core {
    /// Whether there is a registry that takes us.
    async fn ping(&self, endpoint: Endpoint) -> Result<()> {
        let endpoint = self.settled(&endpoint).await?;
        let call = Call::get("logging in", endpoint.root(), Scopes::default());
        let answer = self.send(&endpoint, &call).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(answer.refusal(&self.config, call.what).await),
        }
    }

    /// The endpoint with a scheme that is no guess.
    ///
    /// This machine is asked over plain HTTP first: a server that speaks TLS refuses the first
    /// byte of that, while one that does not may wait long for the end of what TLS begins with.
    /// Other hosts are asked over TLS first. Nothing secret is sent before this is known.
    pub(crate) async fn settled(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        if !endpoint.unsettled {
            return Ok(endpoint.clone());
        }
        let authority = endpoint.origin.authority();
        // Held while it is asked: the others need the same answer.
        let mut schemes = self.schemes.lock().await;
        let known = schemes.get(&authority).copied();
        let mut settled = endpoint.clone();
        settled.unsettled = false;
        if let Some(scheme) = known {
            return Ok(with_scheme(settled, endpoint, scheme));
        }
        let (first, second) = match endpoint.origin.is_loopback() {
            true => (Scheme::Http, Scheme::Https),
            false => (Scheme::Https, Scheme::Http),
        };
        let asked = with_scheme(settled.clone(), endpoint, first);
        let call = Call::get("asking for a registry", asked.root(), Scopes::default());
        let answer = self.exchange_once(&asked, &call).await;
        let wrong_scheme = match (&answer, first) {
            (Ok(answer), Scheme::Http) => answer.status == 400,
            (Ok(_), Scheme::Https) => false,
            (Err(Error::Certificate { .. } | Error::Config { .. }), _) => false,
            (Err(Error::Connect { source, .. }), _) => {
                source.kind() != std::io::ErrorKind::ConnectionRefused
                    && source.kind() != std::io::ErrorKind::NotFound
            }
            (Err(_), _) => true,
        };
        let scheme = if wrong_scheme { second } else { first };
        if !wrong_scheme {
            answer?;
        }
        schemes.insert(authority, scheme);
        Ok(with_scheme(settled, endpoint, scheme))
    }
}

/// The endpoint under a scheme; the port is the scheme's own unless the user wrote one.
fn with_scheme(mut endpoint: Endpoint, asked: &Endpoint, scheme: Scheme) -> Endpoint {
    if asked.origin.port == asked.origin.scheme.port() {
        endpoint.origin.port = scheme.port();
    }
    endpoint.origin.scheme = scheme;
    endpoint
}
