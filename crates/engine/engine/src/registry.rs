//! Images from and to registries, and who we are to them.

use hako_image::{Copier, ImageStore, PullOptions, Pulled, PushedImage, Watch};
pub use hako_image::{CopyOptions, Place, PushOptions, Travel};
pub use hako_layer::Codec;
use hako_oci::{Descriptor, Reference};
use hako_remote::Client;
pub use hako_remote::{Config, Credentials, Stored};

use crate::{Engine, Result};

impl Engine {
    /// The names that a name without a registry may stand for here, each with a tag or a digest:
    /// what registries.conf says, or Docker's meaning.
    pub fn pull_names(&self, typed: &str) -> Result<Vec<Reference>> {
        let names = self.registries()?.names(typed)?;
        Ok(names.into_iter().map(Reference::with_default_tag).collect())
    }

    /// Pulls an image by its whole name.
    pub fn pull(
        &self,
        name: &Reference,
        options: &PullOptions,
        watch: &dyn Watch,
    ) -> Result<Pulled> {
        self.needs_root("pull")?;
        self.images()?.sweep()?;
        let repository = self.registries()?.repository(name)?;
        Ok(self.images()?.pull(&repository, name, options, watch)?)
    }

    /// All tags that a repository has in its registry.
    pub fn remote_tags(&self, repository: &Reference) -> Result<Vec<String>> {
        Ok(self.registries()?.repository(repository)?.tags()?)
    }

    /// All tags that a repository has here.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<Reference>> {
        Ok(self.images()?.tags(repository)?)
    }

    /// A file of a server, by its address.
    pub fn download(&self, address: &str) -> Result<Box<dyn std::io::Read + Send>> {
        Ok(Box::new(self.registries()?.download(address)?))
    }

    /// Pushes what a name with a tag stands for.
    pub fn push(
        &self,
        name: &Reference,
        options: &PushOptions,
        watch: &dyn Watch,
    ) -> Result<PushedImage> {
        let repository = self.registries()?.repository(name)?;
        Ok(self.images()?.push(&repository, name, options, watch)?)
    }
}

/// Whether a registry takes these credentials; remembers them if so.
pub fn login(registry: &str, credentials: Credentials) -> Result<Stored> {
    Ok(hako_remote::Client::login(Config::from_env()?, registry, credentials)?)
}

/// Forgets the credentials for a registry, and says whether there were any.
pub fn logout(registry: &str) -> Result<bool> {
    Ok(hako_remote::Client::logout(&Config::from_env()?, registry)?)
}

/// The credentials that are known for a registry.
pub fn credentials(registry: &str) -> Result<Option<Credentials>> {
    Ok(hako_remote::Client::credentials(&Config::from_env()?, registry)?)
}

impl Engine {
    /// Copies an image between two places, of which one may be a name in this store.
    pub fn copy(&self, request: &CopyRequest, watch: &dyn Watch) -> Result<Descriptor> {
        if matches!(request.to, Place::Store(_)) {
            self.needs_root("copy")?;
        }
        copy_with(self.registries()?, Some(self.images()?), request, watch)
    }
}

/// From where to where an image is copied.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// Where it is.
    pub from: Place,
    /// Where it will be.
    pub to: Place,
    /// What of it.
    pub options: CopyOptions,
}

impl CopyRequest {
    /// Whether one of the places is in the store.
    pub fn needs_store(&self) -> bool {
        [&self.from, &self.to].into_iter().any(|place| matches!(place, Place::Store(_)))
    }
}

/// Copies an image between two places that are not in the store.
pub fn copy(request: &CopyRequest, watch: &dyn Watch) -> Result<Descriptor> {
    copy_with(&Client::new()?, None, request, watch)
}

fn copy_with(
    client: &Client,
    store: Option<&ImageStore>,
    request: &CopyRequest,
    watch: &dyn Watch,
) -> Result<Descriptor> {
    let CopyRequest { from, to, options } = request;
    Ok(Copier { client, store }.copy(from, to, options, watch)?)
}
