//! A repository at an address that was given, past all that this machine is configured to.

use hako_oci::{Digest, Reference};
use hyper::{Method, StatusCode};

use crate::{
    Client, Error, Repository, Result,
    config::hosts::{Capabilities, certificates},
    endpoint::Endpoint,
    repository::{Use, promised},
    send::Call,
    url::Url,
};

impl Client {
    /// The repository `path` of the registry at `address`, as `https://registry.example:5000`.
    /// Neither mirrors nor aliases count; certificates in the registry's directory do.
    pub fn upstream(&self, address: &str, path: &str) -> Result<Repository> {
        let odd = |why: String| Error::Protocol { url: address.to_owned(), why };
        let url: Url = address.parse().map_err(|e| odd(format!("{e}")))?;
        let authority = url.origin.authority();
        let name: Reference = format!("{authority}/{path}")
            .parse()
            .map_err(|e| odd(format!("{path:?} is no repository's name: {e}")))?;
        let endpoint = Endpoint {
            prefix: format!("{}/v2", url.path.trim_end_matches('/')),
            repository: path.to_owned(),
            called: format!("{authority}/{path}"),
            certificates: certificates(&self.core.config.certs_dirs, &authority)?,
            headers: Vec::new(),
            can: Capabilities::ALL,
            unsettled: false,
            origin: url.origin,
        };
        Ok(Repository::new(self, &name, Vec::new(), endpoint))
    }
}

impl Repository {
    /// The size of a blob; `None` where there is none.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.wait(self.any_endpoint(Use::Pull, async |endpoint: &Endpoint| {
            let url = endpoint.url(&format!("blobs/{digest}"));
            let scopes = self.scopes(endpoint, &["pull"]);
            let call = Call::new("looking for blob", Method::HEAD, url, scopes);
            let answer = self.core.send(endpoint, &call).await?;
            match answer.status {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => {
                    let url = answer.url.shown();
                    let why = "it does not say how long the blob is".to_owned();
                    promised(&answer).map(Some).ok_or(Error::Protocol { url, why })
                }
                _ => Err(self.refused(endpoint, answer, call.what, "pull", None).await),
            }
        }))
    }
}
