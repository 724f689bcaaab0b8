//! What repositories hold, as names of the content store.
//!
//! ```text
//! registry/manifest/<repository>!<digest>         → manifest or index  labels: `subject`; `seen`, if it
//!                                                   came from an upstream
//! registry/tag/<repository>!<lower case>!<tag>    → manifest or index
//! registry/blob/<repository>!<digest>             → blob       label: `seen`, Unix seconds
//! registry/subject/<repository>!<subject>!<digest> → manifest or index that is about the subject
//! ```
//!
//! Being names, they keep their content from being collected, they change together in one
//! transaction, and hako's own images beside them neither see nor disturb them. `!` sorts before
//! everything that a repository, tag or digest may contain, so that the order of the rows is the
//! order of the lists. Tags sort without regard to case, as the specification wants them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hako_content::{Named, Names, Result};
use hako_oci::{Descriptor, Digest};

use crate::request::Repository;

/// Sorts after everything that may follow it in a name: the end of what begins with it.
const END: char = '\u{7f}';

const SEEN: &str = "seen";

fn manifest_name(repository: &Repository, digest: &Digest) -> String {
    format!("registry/manifest/{}!{digest}", repository.as_str())
}

fn tag_name(repository: &Repository, tag: &str) -> String {
    format!("registry/tag/{}!{}!{tag}", repository.as_str(), tag.to_ascii_lowercase())
}

fn blob_name(repository: &Repository, digest: &Digest) -> String {
    format!("registry/blob/{}!{digest}", repository.as_str())
}

fn subject_name(repository: &Repository, subject: &Digest, digest: &Digest) -> String {
    format!("registry/subject/{}!{subject}!{digest}", repository.as_str())
}

/// What is behind the last `!`.
fn end(named: &Named) -> &str {
    named.name.rsplit_once('!').map_or("", |(_, end)| end)
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn seen(named: &Named) -> Option<u64> {
    named.labels.get(SEEN)?.parse().ok()
}

/// A blob of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    pub descriptor: Descriptor,
    /// When somebody last relied on its being there.
    pub seen: u64,
}

impl Linked {
    fn of(named: Named) -> Linked {
        Linked { seen: seen(&named).unwrap_or(0), descriptor: named.target }
    }
}

pub(crate) fn manifest(
    names: &Names<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Descriptor>> {
    Ok(names.get(&manifest_name(repository, digest))?.map(|named| named.target))
}

pub(crate) fn tag(
    names: &Names<'_>,
    repository: &Repository,
    tag: &str,
) -> Result<Option<Descriptor>> {
    Ok(names.get(&tag_name(repository, tag))?.map(|named| named.target))
}

pub(crate) fn blob(
    names: &Names<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Linked>> {
    Ok(names.get(&blob_name(repository, digest))?.map(Linked::of))
}

/// Whether the repository has anything.
pub(crate) fn exists(names: &Names<'_>, repository: &Repository) -> Result<bool> {
    for kind in ["manifest", "blob"] {
        let start = format!("registry/{kind}/{}!", repository.as_str());
        if !names.between(&start, &format!("{start}{END}"), 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lets the repository have a blob that is in the store, from now on.
pub(crate) fn link(
    names: &Names<'_>,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<()> {
    let labels = BTreeMap::from([(SEEN.to_owned(), now().to_string())]);
    names.set(&blob_name(repository, &descriptor.digest), descriptor, &labels)
}

/// Says that somebody relies on a blob, if the repository has it still.
pub(crate) fn touch(names: &Names<'_>, repository: &Repository, digest: &Digest) -> Result<()> {
    match blob(names, repository, digest)? {
        Some(linked) => link(names, repository, &linked.descriptor),
        None => Ok(()),
    }
}

pub(crate) fn unlink(names: &Names<'_>, repository: &Repository, digest: &Digest) -> Result<bool> {
    names.remove(&blob_name(repository, digest))
}

pub(crate) fn put_manifest(
    names: &Names<'_>,
    repository: &Repository,
    descriptor: &Descriptor,
    tags: &[String],
    subject: Option<&Digest>,
) -> Result<()> {
    let none = BTreeMap::new();
    let mut labels = BTreeMap::new();
    if let Some(subject) = subject {
        labels.insert("subject".to_owned(), subject.to_string());
        names.set(&subject_name(repository, subject, &descriptor.digest), descriptor, &none)?;
    }
    names.set(&manifest_name(repository, &descriptor.digest), descriptor, &labels)?;
    for tag in tags {
        names.set(&tag_name(repository, tag), descriptor, &none)?;
    }
    Ok(())
}

/// Lets a tag stand for a manifest of the repository.
pub(crate) fn set_tag(
    names: &Names<'_>,
    repository: &Repository,
    tag: &str,
    digest: &Digest,
) -> Result<()> {
    let name = tag_name(repository, tag);
    let Some(target) = manifest(names, repository, digest)? else { return Ok(()) };
    match names.get(&name)? {
        Some(named) if named.target.digest == *digest => Ok(()),
        _ => names.set(&name, &target, &BTreeMap::new()),
    }
}

/// Says that somebody asked for a manifest of an upstream's, where that is worth a row: when it was
/// last said a while ago, seen from how long it is kept.
pub(crate) fn touch_manifest(
    names: &Names<'_>,
    repository: &Repository,
    digest: &Digest,
    kept: Option<Duration>,
) -> Result<()> {
    let Some(mut named) = names.get(&manifest_name(repository, digest))? else { return Ok(()) };
    let seen = seen(&named);
    let is_fresh = |seen: u64| kept.is_none_or(|kept| now() < seen + kept.as_secs() / 4);
    if seen.is_some_and(is_fresh) {
        return Ok(());
    }
    named.labels.insert(SEEN.to_owned(), now().to_string());
    names.set(&named.name, &named.target, &named.labels)
}

/// Removes the manifests of an upstream's that nobody asked for in so long, in all repositories.
pub(crate) fn remove_unseen(names: &Names<'_>, age: Duration) -> Result<()> {
    const START: &str = "registry/manifest/";
    for named in names.between(START, &format!("{START}{END}"), usize::MAX)? {
        let is_old = seen(&named).is_some_and(|seen| now().saturating_sub(seen) >= age.as_secs());
        let name = named.name[START.len()..].split('!').next().unwrap_or_default();
        if let Some(repository) = Repository::parse(name).filter(|_| is_old) {
            remove_manifest(names, &repository, &named.target.digest)?;
        }
    }
    Ok(())
}

pub(crate) fn remove_tag(names: &Names<'_>, repository: &Repository, tag: &str) -> Result<bool> {
    names.remove(&tag_name(repository, tag))
}

/// Removes a manifest, its tags, and what it says of its subject.
pub(crate) fn remove_manifest(
    names: &Names<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<bool> {
    let name = manifest_name(repository, digest);
    let Some(named) = names.get(&name)? else { return Ok(false) };
    if let Some(Ok(subject)) = named.labels.get("subject").map(|text| text.parse()) {
        names.remove(&subject_name(repository, &subject, digest))?;
    }
    for tag in names.with_prefix(&format!("registry/tag/{}!", repository.as_str()))? {
        if tag.target.digest == *digest {
            names.remove(&tag.name)?;
        }
    }
    names.remove(&name)
}

/// The first tags after `last`, in order.
pub(crate) fn tags(
    names: &Names<'_>,
    repository: &Repository,
    last: Option<&str>,
    count_max: usize,
) -> Result<Vec<String>> {
    let start = format!("registry/tag/{}!", repository.as_str());
    let after = last.map_or_else(|| start.clone(), |last| tag_name(repository, last));
    let found = names.between(&after, &format!("{start}{END}"), count_max)?;
    Ok(found.iter().map(|named| end(named).to_owned()).collect())
}

/// The first repositories after `last` that have a manifest, in order.
pub(crate) fn repositories(
    names: &Names<'_>,
    last: Option<&str>,
    count_max: usize,
) -> Result<Vec<String>> {
    const START: &str = "registry/manifest/";
    let mut after = last.map_or_else(|| START.to_owned(), |last| format!("{START}{last}!{END}"));
    let mut found = Vec::new();
    while found.len() < count_max {
        let next = names.between(&after, &format!("{START}{END}"), 1)?;
        let Some(next) = next.first() else { break };
        let name = next.name[START.len()..].split('!').next().unwrap_or_default().to_owned();
        after = format!("{START}{name}!{END}");
        found.push(name);
    }
    Ok(found)
}

/// The first manifests after `last` that are about `subject`.
pub(crate) fn referrers(
    names: &Names<'_>,
    repository: &Repository,
    subject: &Digest,
    last: Option<&Digest>,
    count_max: usize,
) -> Result<Vec<Descriptor>> {
    let start = format!("registry/subject/{}!{subject}!", repository.as_str());
    let after = last.map_or_else(|| start.clone(), |last| format!("{start}{last}"));
    let found = names.between(&after, &format!("{start}{END}"), count_max)?;
    Ok(found.into_iter().map(|named| named.target).collect())
}

/// All manifests of a repository.
pub(crate) fn manifests(names: &Names<'_>, repository: &Repository) -> Result<Vec<Descriptor>> {
    let found = names.with_prefix(&format!("registry/manifest/{}!", repository.as_str()))?;
    Ok(found.into_iter().map(|named| named.target).collect())
}

/// All blobs of all repositories.
pub(crate) fn blobs(names: &Names<'_>) -> Result<Vec<(Repository, Linked)>> {
    const START: &str = "registry/blob/";
    let found = names.between(START, &format!("{START}{END}"), usize::MAX)?;
    let pair = |named: Named| {
        let name = named.name[START.len()..].split('!').next().unwrap_or_default();
        Some((Repository::parse(name)?, Linked::of(named)))
    };
    Ok(found.into_iter().filter_map(pair).collect())
}
