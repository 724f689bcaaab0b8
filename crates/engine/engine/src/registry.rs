//! Images from and to registries, and who we are to them.

pub use hako_image::{
    Annotate, Artifact, ArtifactFile, CopyOptions, ListPush, Member, NewArtifact, Place,
    PushOptions, Travel,
};
use hako_image::{Copier, ImageStore, PullOptions, Pulled, PushedImage, Watch};
pub use hako_layer::Codec;
use hako_oci::{Descriptor, Digest, Reference};
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

impl Engine {
    /// Pushes an artifact of the store.
    pub fn push_artifact(&self, name: &Reference, watch: &dyn Watch) -> Result<PushedImage> {
        let repository = self.registries()?.repository(name)?;
        Ok(self.images()?.push_artifact(&repository, name, watch)?)
    }

    /// Pulls an artifact into the store.
    pub fn pull_artifact(&self, name: &Reference, watch: &dyn Watch) -> Result<Digest> {
        self.images()?.sweep()?;
        let repository = self.registries()?.repository(name)?;
        Ok(self.images()?.pull_artifact(&repository, name, watch)?)
    }

    /// Pushes an artifact that is about an image in a registry.
    pub fn attach_artifact(
        &self,
        subject: &Reference,
        new: &NewArtifact,
        watch: &dyn Watch,
    ) -> Result<Descriptor> {
        let repository = self.registries()?.repository(subject)?;
        Ok(self.images()?.attach_artifact(&repository, &word(subject), new, watch)?)
    }

    /// What makes, changes and pushes lists of images.
    pub fn lists(&self) -> Result<(&ImageStore, &Client)> {
        Ok((self.images()?, self.registries()?))
    }
}

/// A name's digest, or its tag.
fn word(name: &Reference) -> String {
    let tag = || name.tag().unwrap_or("latest").to_owned();
    name.digest().map_or_else(tag, Digest::to_string)
}

/// The bytes of what a name in a registry stands for.
pub fn manifest(name: &Reference) -> Result<Vec<u8>> {
    Ok(Client::new()?.repository(name)?.manifest(&word(name))?.bytes)
}

/// The names that a name without a registry may stand for.
pub fn names(typed: &str) -> Result<Vec<Reference>> {
    Ok(Client::new()?.names(typed)?)
}

/// What is about an image in a registry, of one type or of all.
pub fn referrers(name: &Reference, kind: Option<&str>) -> Result<Vec<Descriptor>> {
    let repository = Client::new()?.repository(name)?;
    let subject = match name.digest() {
        Some(digest) => digest.clone(),
        None => repository.manifest(&word(name))?.descriptor.digest,
    };
    Ok(repository.referrers(&subject, kind)?)
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
