//! Removing images, as `docker rmi` does: names first, the image with its last name.

use hako_docker::image::DeleteItem;
use hako_oci::{Digest, Reference};

use crate::{
    Error, ImageStore, Summary,
    names::{self, Catalog},
    store::resolve,
};

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its ID, as people are shown it.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
}

/// Tells which containers use an image.
pub type Users<'a> =
    dyn FnMut(&Digest) -> Result<Vec<User>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It would lose its only name while a container uses it.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - \
         container {container} is using its referenced image {image}"
    )]
    LastName {
        /// As it was typed.
        name: String,
        /// Which container.
        container: String,
        /// The image, as people are shown it.
        image: String,
    },
    /// A container runs from it.
    #[error(
        "conflict: unable to delete {image} (cannot be forced) - \
         image is being used by running container {container}"
    )]
    Running {
        /// The image, as people are shown it.
        image: String,
        /// Which container.
        container: String,
    },
    /// A stopped container was made from it.
    #[error(
        "conflict: unable to delete {image} (must be forced) - \
         image is being used by stopped container {container}"
    )]
    Stopped {
        /// The image, as people are shown it.
        image: String,
        /// Which container.
        container: String,
    },
    /// It was named by ID, and has several names.
    #[error(
        "conflict: unable to delete {image} (must be forced) - \
         image is referenced in multiple repositories"
    )]
    Names {
        /// The image, as people are shown it.
        image: String,
    },
}

impl Conflict {
    /// Whether `force` would have helped.
    pub fn can_be_forced(&self) -> bool {
        !matches!(self, Conflict::Running { .. })
    }
}

/// What is to be removed.
struct Plan {
    names: Vec<Reference>,
    image: Option<Digest>,
}

impl ImageStore {
    /// Removes the name that `what` is, and the image with its last name; or the image whose ID
    /// `what` begins. `users` tells which containers use an image.
    pub fn remove(
        &self,
        what: &str,
        force: bool,
        users: &mut Users<'_>,
    ) -> crate::Result<Vec<DeleteItem>> {
        let before = self.live_layers()?;
        let mut done: Vec<DeleteItem> = self.content().update(|names| {
            let id = resolve(names, what)?;
            let catalog = names::catalog(names)?;
            let plan = plan(&catalog, &id, what, force, users)?;
            let mut done = Vec::new();
            for name in &plan.names {
                names::remove_tag(names, name)?;
                done.push(DeleteItem::Untagged(name.familiar()));
            }
            done.extend(lost_digests(&catalog, &plan.names));
            if let Some(id) = plan.image {
                names::remove_image(names, &id)?;
                done.push(DeleteItem::Deleted(id.to_string()));
            }
            Ok::<_, Error>(done)
        })?;
        if done.iter().any(|item| matches!(item, DeleteItem::Deleted(_))) {
            // What is in use still stays in place; it belongs to no image any more nevertheless.
            let after = self.live_layers()?;
            let gone = before.difference(&after).map(|id| DeleteItem::Deleted(id.to_string()));
            done.extend(gone);
            self.collect()?;
        }
        Ok(done)
    }

    /// Takes all names from the image that `what` means, or one of them; it stays without a name.
    pub fn untag(&self, what: &str, only: &[Reference]) -> crate::Result<Vec<Reference>> {
        self.content().update(|names| {
            let id = resolve(names, what)?;
            let catalog = names::catalog(names)?;
            let mut removed = tags(&catalog, &id);
            if !only.is_empty() {
                for name in only {
                    if !removed.contains(name) {
                        return Err(Error::NotFound(name.familiar()));
                    }
                }
                removed.retain(|name| only.contains(name));
            }
            for name in &removed {
                names::remove_tag(names, name)?;
            }
            Ok(removed)
        })
    }

    /// Removes the images that nobody uses and that `wanted` picks, and returns what went and the
    /// bytes freed. Without `all`, only such that have no name.
    pub fn prune(
        &self,
        all: bool,
        wanted: &dyn Fn(&Summary) -> bool,
        users: &mut Users<'_>,
    ) -> crate::Result<(Vec<DeleteItem>, u64)> {
        let picked: Vec<Digest> =
            self.list()?.into_iter().filter(|image| wanted(image)).map(|image| image.id).collect();
        let mut done: Vec<DeleteItem> = Vec::new();
        let before = self.live_layers()?;
        self.content().update(|names| {
            let catalog = names::catalog(names)?;
            for id in catalog.images.keys().filter(|id| picked.contains(id)) {
                let named = tags(&catalog, id);
                if (!all && !named.is_empty()) || !ask(users, id)?.is_empty() {
                    continue;
                }
                for name in &named {
                    names::remove_tag(names, name)?;
                    done.push(DeleteItem::Untagged(name.familiar()));
                }
                done.extend(lost_digests(&catalog, &named));
                names::remove_image(names, id)?;
                done.push(DeleteItem::Deleted(id.to_string()));
            }
            Ok::<_, Error>(())
        })?;
        if !done.is_empty() {
            let after = self.live_layers()?;
            done.extend(before.difference(&after).map(|id| DeleteItem::Deleted(id.to_string())));
        }
        let freed = self.content().discard_partial()? + self.collect()?;
        Ok((done, freed))
    }
}

fn ask(users: &mut Users<'_>, id: &Digest) -> crate::Result<Vec<User>> {
    users(id).map_err(|source| Error::Users { id: id.clone(), source })
}

fn tags(catalog: &Catalog, id: &Digest) -> Vec<Reference> {
    let of_image = catalog.tags.iter().filter(|(_, tag)| tag.image == *id);
    of_image.map(|(reference, _)| reference.clone()).collect()
}

/// Docker's rules, in Docker's order.
fn plan(
    catalog: &Catalog,
    id: &Digest,
    what: &str,
    force: bool,
    users: &mut Users<'_>,
) -> crate::Result<Plan> {
    let tags = tags(catalog, id);
    let image = id.short().to_owned();
    let by_id = id.to_string().starts_with(what) || id.hex().starts_with(what);
    let (mut names, removes_image) = if by_id {
        if tags.len() > 1 && !force {
            return Err(Conflict::Names { image }.into());
        }
        (tags, true)
    } else {
        let only = tags.len() <= 1;
        let named = what.parse::<Reference>()?;
        let named: Vec<Reference> = match named.digest() {
            None => vec![named.with_default_tag()],
            // By digest: all names of that repository that stand for it.
            Some(digest) => {
                let fits = |(name, tag): &(&Reference, &names::Tag)| {
                    name.name() == named.name() && tag.target.digest == *digest
                };
                catalog.tags.iter().filter(fits).map(|(name, _)| name.clone()).collect()
            }
        };
        if only
            && !force
            && let Some(user) = ask(users, id)?.into_iter().next()
        {
            let (name, container) = (what.to_owned(), user.id);
            return Err(Conflict::LastName { name, container, image }.into());
        }
        let last = tags.iter().all(|tag| named.contains(tag));
        (named, last)
    };
    let mut removed = None;
    if removes_image {
        let users = ask(users, id)?;
        let running = users.iter().find(|user| user.running);
        let stopped = users.iter().find(|user| !user.running);
        match (running, stopped) {
            // A name that was removed stays removed; the image goes with its last container.
            (Some(_), _) if !by_id && force => {}
            (Some(user), _) => {
                let container = user.id.clone();
                return Err(Conflict::Running { image, container }.into());
            }
            (None, Some(user)) if !force => {
                let container = user.id.clone();
                return Err(Conflict::Stopped { image, container }.into());
            }
            _ => removed = Some(id.clone()),
        }
    }
    names.sort();
    Ok(Plan { names, image: removed })
}

/// Names by digest that are gone because the last tag of their repository is.
fn lost_digests(catalog: &Catalog, removed: &[Reference]) -> Vec<DeleteItem> {
    let mut lost: Vec<String> = Vec::new();
    for name in removed {
        let Some(tag) = catalog.tags.get(name).filter(|tag| tag.exact) else { continue };
        let stays = catalog.tags.iter().any(|(other, kept)| {
            !removed.contains(other) && other.name() == name.name() && kept.target == tag.target
        });
        let digest = name.clone().with_digest(tag.target.digest.clone()).familiar();
        let is_named = removed.iter().any(|name| name.familiar() == digest);
        if !stays && !is_named && !lost.contains(&digest) {
            lost.push(digest);
        }
    }
    lost.into_iter().map(DeleteItem::Untagged).collect()
}
