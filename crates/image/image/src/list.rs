//! Lists of images for several platforms, while they are put together.
//!
//! A list is an index under a name of its own, `list/<domain/path:tag>`. An image in it may be in the
//! store, or only its documents are: then the name's label `from <digest>` says where the rest is,
//! and pushing the list copies it from there.

use std::collections::BTreeMap;

use hako_content::{DOCUMENT_BYTES_MAX, Lease};
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{ImageConfig, Index, Manifest},
    media_type,
};
use hako_remote::{Client, Document};

use crate::{
    Copier, CopyOptions, Error, ImageStore, Place, Result, Travel, Watch,
    layout::platform_of,
    names,
    pull::choose,
    push::{Planner, sources},
    store::tag_of,
};

const LIST: &str = "list/";
const FROM: &str = "from ";
/// How often a list is changed that others change at the same time.
const CHANGES_MAX: usize = 16;

/// An image that becomes part of a list.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Its name or ID here, else its name in a registry, `docker://` before it for the latter only.
    pub image: String,
    /// All images of an index, not only one.
    pub all: bool,
    /// What the list is to say of it.
    pub annotate: Annotate,
}

/// What a list says of an image, beside what the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotate {
    /// Operating system.
    pub os: Option<String>,
    /// Processor.
    pub architecture: Option<String>,
    /// Processor variant.
    pub variant: Option<String>,
    /// Operating system version.
    pub os_version: Option<String>,
    /// Operating system features.
    pub os_features: Vec<String>,
    /// Processor features, which only Docker's lists have.
    pub features: Vec<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How to push a list.
#[derive(Debug, Clone, Default)]
pub struct ListPush {
    /// As Docker's manifest list, or as OCI's index; as it is where absent.
    pub media_type: Option<&'static str>,
    /// How layers travel.
    pub travel: Travel,
    /// Whether it is forgotten here when it is there.
    pub purge: bool,
}

/// A list as it is now.
struct List {
    key: String,
    descriptor: Option<Descriptor>,
    index: Index,
    labels: BTreeMap<String, String>,
}

/// An image that was found for a list.
struct Found {
    entry: Descriptor,
    /// The repository that has it, where this store has not.
    from: Option<Reference>,
}

impl ImageStore {
    /// Makes a list of images, or, with `amend`, adds to it where it is there already.
    pub fn create_list(
        &self,
        client: &Client,
        name: &Reference,
        members: &[Member],
        amend: bool,
    ) -> Result<Digest> {
        let lease = self.content().lease()?;
        let found = self.find_members(client, &lease, members)?;
        self.change_list(name, lease, |list| {
            if list.descriptor.is_some() && !amend {
                return Err(Error::ListExists);
            }
            found.iter().for_each(|found| list.add(found));
            Ok(())
        })
    }

    /// Adds images to a list.
    pub fn add_to_list(
        &self,
        client: &Client,
        name: &Reference,
        members: &[Member],
    ) -> Result<Digest> {
        let lease = self.content().lease()?;
        let found = self.find_members(client, &lease, members)?;
        self.change_list(name, lease, |list| {
            list.needs_to_be(name)?;
            found.iter().for_each(|found| list.add(found));
            Ok(())
        })
    }

    /// Changes what a list says of an image in it.
    pub fn annotate_list(
        &self,
        client: &Client,
        name: &Reference,
        image: &str,
        annotate: &Annotate,
    ) -> Result<Digest> {
        let lease = self.content().lease()?;
        let digest = self.member_digest(client, &lease, name, image)?;
        self.change_list(name, lease, |list| {
            list.needs_to_be(name)?;
            let mut entries = list.index.manifests.iter_mut();
            let entry = entries.find(|entry| entry.digest == digest);
            annotate.apply(entry.ok_or_else(|| no_member(name, image))?);
            Ok(())
        })
    }

    /// Takes an image out of a list.
    pub fn remove_from_list(&self, name: &Reference, digest: &Digest) -> Result<Digest> {
        let lease = self.content().lease()?;
        self.change_list(name, lease, |list| {
            list.needs_to_be(name)?;
            let before = list.index.manifests.len();
            list.index.manifests.retain(|entry| entry.digest != *digest);
            list.labels.remove(&format!("{FROM}{digest}"));
            match list.index.manifests.len() < before {
                true => Ok(()),
                false => Err(no_member(name, &digest.to_string())),
            }
        })
    }

    /// Forgets a list; the images in it stay where they are.
    pub fn remove_list(&self, name: &Reference) -> Result<()> {
        let key = key(name)?;
        match self.content().update(|names| names.remove(&key))? {
            true => self.content().collect().map(drop).map_err(Error::from),
            false => Err(Error::NoList(name.familiar())),
        }
    }

    /// The bytes of a list of this name, or of the index or manifest that the name stands for here.
    pub fn list_bytes(&self, word: &str) -> Result<Vec<u8>> {
        let named = match word.parse::<Reference>().ok().and_then(|name| key(&name).ok()) {
            Some(key) => self.content().view(|names| names.get(&key))?,
            None => None,
        };
        let target = match named {
            Some(named) => named.target,
            None => match self.content().view(|names| tag_of(names, word))? {
                Some(tag) => tag.target,
                None => self.resolve(word)?.descriptor().clone(),
            },
        };
        Ok(self.content().document(&target)?)
    }

    /// Whether there is a list of this name.
    pub fn has_list(&self, name: &Reference) -> Result<bool> {
        let key = key(name)?;
        Ok(self.content().view(|names| names.get(&key))?.is_some())
    }

    /// Pushes a list and all images in it to `to`, and gives its digest there.
    pub fn push_list(
        &self,
        client: &Client,
        name: &Reference,
        to: &Reference,
        options: &ListPush,
        watch: &dyn Watch,
    ) -> Result<Digest> {
        let list = self.read_list(name)?;
        let descriptor = list.descriptor.clone();
        let descriptor = descriptor.ok_or_else(|| Error::NoList(name.familiar()))?;
        let lease = self.content().lease()?;
        lease.keep(&descriptor)?;
        let catalog = self.content().view(names::catalog)?;
        let repository = client.repository(to)?;
        let mut planner = Planner::new(&lease, &repository, options.travel);
        let mut index = list.index.clone();
        for entry in &mut index.manifests {
            if let Some(there) = planner.add(entry, 0)? {
                *entry = there;
                continue;
            }
            let word = entry.digest.to_string();
            match repository.resolve(&word) {
                Ok(_) => continue,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error.into()),
            }
            let missing = || Error::Content(hako_content::Error::Missing(entry.digest.clone()));
            let from = list.labels.get(&format!("{FROM}{word}")).ok_or_else(missing)?;
            let from: Reference = from.parse()?;
            let place = |of: &Reference| {
                let bare: Reference = of.name().parse()?;
                Ok::<_, Error>(Place::Registry(bare.with_digest(entry.digest.clone())))
            };
            let all = CopyOptions { all: true, ..CopyOptions::default() };
            let copier = Copier { client, store: None };
            copier.copy(&place(&from)?, &place(to)?, &all, watch)?;
        }
        if let Some(media_type) = options.media_type {
            index.media_type = Some(media_type.into());
        }
        let mut document = Document { bytes: lease.store().document(&descriptor)?, descriptor };
        if index != list.index {
            document.bytes = json(&index)?;
            let kind = index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
            document.descriptor = Descriptor::of(kind, &document.bytes);
        }
        let mut plan = planner.plan;
        plan.documents.push(document);
        let word = to.tag().unwrap_or("latest");
        let sources = sources(&catalog, to, &lease);
        let (digest, _) = plan.send(&repository, &lease, &sources, word, watch)?;
        lease.release()?;
        if options.purge {
            self.remove_list(name)?;
        }
        Ok(digest)
    }

    fn read_list(&self, name: &Reference) -> Result<List> {
        let key = key(name)?;
        let Some(named) = self.content().view(|names| names.get(&key))? else {
            let (index, labels) = (Index::default(), BTreeMap::new());
            return Ok(List { key, descriptor: None, index, labels });
        };
        let parsed = Index::parse(&self.content().document(&named.target)?);
        let index = parsed.map_err(|e| Error::Damaged { name: key.clone(), why: e.to_string() })?;
        Ok(List { key, descriptor: Some(named.target), index, labels: named.labels })
    }

    /// Changes a list as it is when it is written.
    fn change_list(
        &self,
        name: &Reference,
        lease: Lease,
        change: impl Fn(&mut List) -> Result<()>,
    ) -> Result<Digest> {
        for _ in 0..CHANGES_MAX {
            let mut list = self.read_list(name)?;
            change(&mut list)?;
            let new = lease.put_bytes(media_type_of(&list.index), &json(&list.index)?)?;
            let written = self.content().update(|names| {
                let now = names.get(&list.key)?.map(|named| named.target.digest);
                if now.as_ref() != list.descriptor.as_ref().map(|before| &before.digest) {
                    return Ok(false);
                }
                names.set(&list.key, &new, &list.labels)?;
                Ok::<_, Error>(true)
            })?;
            if written {
                lease.release()?;
                return Ok(new.digest);
            }
        }
        Err(Error::ListBusy(name.familiar()))
    }

    fn find_members(
        &self,
        client: &Client,
        lease: &Lease,
        members: &[Member],
    ) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for member in members {
            for mut one in self.find_member(client, lease, &member.image, member.all)? {
                member.annotate.apply(&mut one.entry);
                found.push(one);
            }
        }
        Ok(found)
    }

    fn find_member(
        &self,
        client: &Client,
        lease: &Lease,
        image: &str,
        all: bool,
    ) -> Result<Vec<Found>> {
        let remote = image.strip_prefix("docker://");
        if remote.is_none()
            && let Some(found) = self.find_here(lease, image, all)?
        {
            return Ok(found);
        }
        let mut error = Error::NotFound(image.into());
        for name in client.names(remote.unwrap_or(image))? {
            match find_there(client, lease, &name.with_default_tag(), all) {
                Err(e) => error = e,
                found => return found,
            }
        }
        Err(error)
    }

    fn find_here(&self, lease: &Lease, image: &str, all: bool) -> Result<Option<Vec<Found>>> {
        let found = match self.resolve(image) {
            Ok(found) => found,
            Err(Error::NotFound(_) | Error::Reference(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let tag = self.content().view(|names| tag_of(names, image))?;
        if let Some(tag) = tag.filter(|tag| all && media_type::is_index(&tag.target.media_type)) {
            lease.keep(&tag.target)?;
            let index = Index::parse(&self.content().document(&tag.target)?);
            let path = tag.target.digest.to_string();
            let entries = index.map_err(|source| Error::Document { path, source })?.manifests;
            return Ok(Some(
                entries.into_iter().map(|entry| Found { entry, from: None }).collect(),
            ));
        }
        let mut entry = found.descriptor().clone();
        lease.keep(&entry)?;
        entry.platform = Some(found.platform());
        Ok(Some(vec![Found { entry, from: None }]))
    }

    /// The digest of what a person calls an image of a list.
    fn member_digest(
        &self,
        client: &Client,
        lease: &Lease,
        list: &Reference,
        image: &str,
    ) -> Result<Digest> {
        if let Ok(digest) = image.parse() {
            return Ok(digest);
        }
        if let Some(digest) = image.parse::<Reference>().ok().and_then(|r| r.digest().cloned()) {
            return Ok(digest);
        }
        // As it was added: then nobody has to be asked.
        if let Ok(name) = image.parse::<Reference>() {
            let called = name.with_default_tag().to_string();
            let labels = self.read_list(list)?.labels;
            let known = labels.iter().find(|(_, from)| **from == called);
            if let Some(digest) = known.and_then(|(key, _)| key.strip_prefix(FROM)) {
                return digest.parse().map_err(|_| no_member(list, image));
            }
        }
        let found = self.find_member(client, lease, image, false)?;
        Ok(found.into_iter().next().ok_or_else(|| no_member(list, image))?.entry.digest)
    }
}

/// Finds an image in a registry, and stores its documents.
fn find_there(client: &Client, lease: &Lease, name: &Reference, all: bool) -> Result<Vec<Found>> {
    let repository = client.repository(name)?;
    let word = name.digest().map(Digest::to_string);
    let word = word.unwrap_or_else(|| name.tag().unwrap_or("latest").to_owned());
    let document = repository.manifest(&word)?;
    lease.put(&document.descriptor, &document.bytes[..])?;
    let entries = match media_type::is_index(&document.descriptor.media_type) {
        false => vec![document.descriptor.clone()],
        true => {
            let path = document.descriptor.digest.to_string();
            let index = Index::parse(&document.bytes);
            let entries = index.map_err(|source| Error::Document { path, source })?.manifests;
            match all {
                true => entries,
                false => vec![choose(entries, &Platform::host())?],
            }
        }
    };
    let mut found = Vec::new();
    for mut entry in entries {
        let child = repository.manifest(&entry.digest.to_string())?;
        lease.put(&child.descriptor, &child.bytes[..])?;
        if entry.platform.is_none() && media_type::is_manifest(&entry.media_type) {
            let path = entry.digest.to_string();
            let manifest = Manifest::parse(&child.bytes);
            let manifest = manifest.map_err(|source| Error::Document { path, source })?;
            let bytes = repository.blob(&manifest.config, DOCUMENT_BYTES_MAX)?;
            // What is no image has no platform.
            entry.platform = ImageConfig::parse(&bytes).ok().map(|config| platform_of(&config));
        }
        found.push(Found { entry, from: Some(name.clone()) });
    }
    Ok(found)
}

impl List {
    fn needs_to_be(&self, name: &Reference) -> Result<()> {
        match self.descriptor {
            Some(_) => Ok(()),
            None => Err(Error::NoList(name.familiar())),
        }
    }

    /// Adds an image, or says anew what is said of it.
    fn add(&mut self, found: &Found) {
        let label = format!("{FROM}{}", found.entry.digest);
        match &found.from {
            Some(name) => drop(self.labels.insert(label, name.to_string())),
            None => drop(self.labels.remove(&label)),
        }
        let mut entries = self.index.manifests.iter_mut();
        match entries.find(|entry| entry.digest == found.entry.digest) {
            Some(known) => *known = found.entry.clone(),
            None => self.index.manifests.push(found.entry.clone()),
        }
    }
}

impl Annotate {
    fn apply(&self, entry: &mut Descriptor) {
        entry.annotations.extend(self.annotations.clone());
        if *self == (Annotate { annotations: self.annotations.clone(), ..Annotate::default() }) {
            return;
        }
        let platform = entry.platform.get_or_insert_with(|| Platform::new("linux", ""));
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if let Some(architecture) = &self.architecture {
            platform.architecture.clone_from(architecture);
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        if self.os_version.is_some() {
            platform.os_version.clone_from(&self.os_version);
        }
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
        if !self.features.is_empty() {
            platform.extra.insert("features".into(), self.features.clone().into());
        }
    }
}

fn key(name: &Reference) -> Result<String> {
    let name = name.clone().with_default_tag();
    match name.tag().is_some() && name.digest().is_none() {
        true => Ok(format!("{LIST}{name}")),
        false => Err(Error::Tag(name.to_string())),
    }
}

fn media_type_of(index: &Index) -> &str {
    index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX)
}

fn json(index: &Index) -> Result<Vec<u8>> {
    serde_json::to_vec(index).map_err(|source| Error::Json { path: "index".into(), source })
}

fn no_member(list: &Reference, image: &str) -> Error {
    Error::NoMember { image: image.into(), list: list.familiar() }
}
