//! Endpoints: the hosts that a repository can be asked for, mirrors before the registry itself.

use hako_oci::Reference;

use crate::{
    Result,
    client::Core,
    config::{
        hosts::{self, Capabilities, Certificates, certificates},
        registries::Place,
    },
    error::Error,
    url::{Origin, Scheme, Url},
};

/// Where Docker's registry really is.
const DOCKER_DOMAIN: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A host that has a repository.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub origin: Origin,
    /// Before the repository's name: `/v2`, or what a hosts.toml says in its place.
    pub prefix: String,
    /// The repository's name there.
    pub repository: String,
    /// Host and repository as credentials are kept for them.
    pub called: String,
    pub certificates: Certificates,
    pub headers: Vec<(String, String)>,
    pub can: Capabilities,
    /// Whether plain HTTP has to be thought of: `scheme` of the origin is a guess then.
    pub unsettled: bool,
}

impl Endpoint {
    /// A host that is no registry.
    pub(crate) fn bare(origin: Origin, certificates: Certificates) -> Endpoint {
        Endpoint {
            called: origin.authority(),
            origin,
            prefix: String::new(),
            repository: String::new(),
            certificates,
            headers: Vec::new(),
            can: Capabilities::ALL,
            unsettled: false,
        }
    }

    /// The address of `rest` in this repository, as `manifests/latest`.
    pub(crate) fn url(&self, rest: &str) -> Url {
        Url::at(&self.origin, format!("{}/{}/{rest}", self.prefix, self.repository))
    }

    /// The address that says whether there is a registry.
    pub(crate) fn root(&self) -> Url {
        Url::at(&self.origin, format!("{}/", self.prefix))
    }
}

impl Core {
    /// The endpoints of a repository, the registry itself last.
    pub(crate) fn endpoints(&self, name: &Reference) -> Result<(Vec<Endpoint>, Endpoint)> {
        if let Some(hosts) = hosts::hosts(&self.config.certs_dirs, name.domain())? {
            let mut endpoints = Vec::new();
            for host in hosts {
                endpoints.push(self.of_hosts_toml(host, name)?);
            }
            if let Some(server) = endpoints.pop() {
                return Ok((endpoints, server));
            }
        }
        let (mirrors, place) = self.registries.places(name)?;
        let mirrors: Result<Vec<_>> = mirrors.into_iter().map(|p| self.of_place(p)).collect();
        Ok((mirrors?, self.of_place(place)?))
    }

    fn of_hosts_toml(&self, host: hosts::Host, name: &Reference) -> Result<Endpoint> {
        let hosts::Host { url, override_path, mut certificates, headers, can } = host;
        let path = url.path.trim_end_matches('/');
        let prefix = match override_path || path.ends_with("/v2") {
            true => path.to_owned(),
            false => format!("{path}/v2"),
        };
        let called = format!("{}/{}", url.origin.authority(), name.path());
        let beside = hosts::certificates(&self.config.certs_dirs, &url.origin.authority())?;
        if certificates.authorities.is_empty() {
            certificates.authorities = beside.authorities;
        }
        if certificates.clients.is_empty() {
            certificates.clients = beside.clients;
        }
        let called = match url.origin.host.as_str() {
            DOCKER_HOST => name.name(),
            _ => called,
        };
        let repository = name.path().to_owned();
        let origin = url.origin;
        Ok(Endpoint {
            origin,
            prefix,
            repository,
            called,
            certificates,
            headers,
            can,
            unsettled: false,
        })
    }

    fn of_place(&self, place: Place) -> Result<Endpoint> {
        let Place { host, repository, insecure } = place;
        let called = format!("{host}/{repository}");
        let mut found = certificates(&self.config.certs_dirs, &host)?;
        let host = if host == DOCKER_DOMAIN { DOCKER_HOST } else { &host };
        let odd = |e| Error::Protocol { url: host.to_owned(), why: format!("{e}") };
        let mut origin = Origin::parse(Scheme::Https, host).map_err(odd)?;
        // As Docker has it: a registry on this machine may be anything.
        let loopback = origin.is_loopback();
        let unsettled = insecure || loopback;
        found.skip_verify = unsettled && found.authorities.is_empty();
        if loopback {
            origin = Origin::parse(Scheme::Http, host).map_err(odd)?;
        }
        Ok(Endpoint {
            origin,
            prefix: "/v2".into(),
            repository,
            called,
            certificates: found,
            headers: Vec::new(),
            can: Capabilities::ALL,
            unsettled,
        })
    }
}
