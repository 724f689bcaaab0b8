//! What nobody needs any more: abandoned uploads, blobs that no manifest came to name, and the
//! content that is then garbage.
//!
//! A blob stays in its repository while a manifest there names it, and for a time after somebody
//! last relied on it: pushed, mounted, or asked whether it is there. Which blobs those are is found
//! out beside everything else that goes on; what is taken is looked at again in the transaction
//! that takes it, and a repository whose manifests changed meanwhile waits for the next time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use hako_content::{Kind, Names, Store};
use hako_oci::{Descriptor, Digest};

use crate::{
    catalog::{self, Linked},
    request::Repository,
};

/// How long things are kept that nothing names.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// Uploads to which nothing was appended.
    pub upload: Duration,
    /// Blobs of no manifest.
    pub blob: Duration,
    /// Manifests that came from an upstream and that nobody asked for.
    pub pulled: Option<Duration>,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads, by ID.
    pub uploads: Vec<String>,
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A repository's blobs that may go, and the manifests that do not name them.
type Suspects = BTreeMap<String, (Repository, Vec<Digest>, Vec<Digest>)>;

/// Collects, beside whatever servers and commands use the store.
pub fn collect(store: &Store, ages: Ages) -> hako_content::Result<Collected> {
    let uploads = store.remove_stale_uploads(ages.upload)?;
    if let Some(age) = ages.pulled {
        store.update(|names| catalog::remove_unseen(names, age))?;
    }
    let suspects = suspects(store, ages.blob)?;
    for (repository, digests, seen_manifests) in suspects.into_values() {
        store.update(|names| take(names, &repository, &digests, &seen_manifests, ages.blob))?;
    }
    let collected = store.collect()?;
    Ok(Collected { uploads, blobs: collected.blobs, bytes: collected.bytes })
}

/// What [`collect`] would remove now. Manifests of an upstream's are taken to stay.
pub fn would_collect(store: &Store, ages: Ages) -> hako_content::Result<Collected> {
    let uploads = store.stale_uploads(ages.upload)?;
    let suspects = suspects(store, ages.blob)?;
    let found = store.garbage_after(|names| {
        suspects.values().try_for_each(|(repository, digests, seen_manifests)| {
            take(names, repository, digests, seen_manifests, ages.blob)
        })
    })?;
    Ok(Collected { uploads, blobs: found.blobs, bytes: found.bytes })
}

fn suspects(store: &Store, age: Duration) -> hako_content::Result<Suspects> {
    let blobs = store.view(catalog::blobs)?;
    let mut suspects = Suspects::new();
    for (repository, linked) in blobs {
        if is_old(&linked, age) {
            let entry = suspects
                .entry(repository.as_str().to_owned())
                .or_insert_with(|| (repository, Vec::new(), Vec::new()));
            entry.1.push(linked.descriptor.digest);
        }
    }
    for (repository, digests, seen) in suspects.values_mut() {
        let manifests = store.view(|names| catalog::manifests(names, repository))?;
        let named = named_by(store, &manifests)?;
        digests.retain(|digest| !named.contains(digest));
        *seen = manifests.into_iter().map(|m| m.digest).collect();
    }
    suspects.retain(|_, (_, digests, _)| !digests.is_empty());
    Ok(suspects)
}

fn is_old(linked: &Linked, age: Duration) -> bool {
    catalog::now().saturating_sub(linked.seen) >= age.as_secs()
}

/// The blobs that these manifests name.
fn named_by(store: &Store, manifests: &[Descriptor]) -> hako_content::Result<HashSet<Digest>> {
    let mut named = HashSet::new();
    for descriptor in manifests {
        if Kind::of(&descriptor.media_type) != Kind::Manifest {
            continue;
        }
        let bytes = match store.document(descriptor) {
            Err(hako_content::Error::Missing(_)) => continue,
            read => read?,
        };
        let children = hako_content::children(Kind::Manifest, &bytes).unwrap_or_default();
        named.extend(children.into_iter().map(|child| child.digest));
    }
    Ok(named)
}

fn take(
    names: &Names<'_>,
    repository: &Repository,
    digests: &[Digest],
    seen_manifests: &[Digest],
    age: Duration,
) -> hako_content::Result<()> {
    let now: Vec<Digest> =
        catalog::manifests(names, repository)?.into_iter().map(|m| m.digest).collect();
    if now != seen_manifests {
        return Ok(());
    }
    for digest in digests {
        if catalog::blob(names, repository, digest)?.is_some_and(|linked| is_old(&linked, age)) {
            catalog::unlink(names, repository, digest)?;
        }
    }
    Ok(())
}

/// Whether a collection could come to think that this blob is not needed while its client still
/// counts on it: then its row is written anew.
pub(crate) fn wants_touch(linked: &Linked, age: Duration) -> bool {
    is_old(linked, age / 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn blobs_stay_while_a_manifest_names_them_or_somebody_relied_on_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(hako_db::Db::open(&dir.path().join("hako.db")).unwrap());
        let store = Store::open(&dir.path().join("content"), db).unwrap();
        let repository = Repository::parse("a/b").unwrap();
        let octets = "application/octet-stream";

        let lease = store.lease().unwrap();
        let config = lease.put_bytes(octets, b"{}").unwrap();
        let layer = lease.put_bytes(octets, b"layer").unwrap();
        let loose = lease.put_bytes(octets, b"loose").unwrap();
        let document = serde_json::json!({
            "schemaVersion": 2, "mediaType": hako_oci::media_type::OCI_MANIFEST,
            "config": { "mediaType": octets, "digest": config.digest, "size": config.size },
            "layers": [{ "mediaType": octets, "digest": layer.digest, "size": layer.size }],
        });
        let bytes = document.to_string();
        let manifest =
            lease.put_bytes(hako_oci::media_type::OCI_MANIFEST, bytes.as_bytes()).unwrap();
        lease
            .publish(|names| {
                for blob in [&config, &layer, &loose] {
                    catalog::link(names, &repository, blob)?;
                }
                catalog::put_manifest(names, &repository, &manifest, &["v1".into()], None)
            })
            .unwrap();

        let young =
            Ages { upload: Duration::from_secs(60), blob: Duration::from_secs(60), pulled: None };
        let old = Ages { upload: Duration::ZERO, blob: Duration::ZERO, pulled: None };
        assert_eq!(collect(&store, young).unwrap().blobs, 0);
        let would = would_collect(&store, old).unwrap();
        assert_eq!((would.blobs, would.bytes), (1, 5), "the loose one");
        assert_eq!(collect(&store, old).unwrap(), would);
        assert!(store.blob(&loose.digest).is_err());
        let has = |digest: &Digest| {
            store.view(|names| catalog::blob(names, &repository, digest)).unwrap().is_some()
        };
        assert!(has(&layer.digest) && has(&config.digest) && !has(&loose.digest));

        store
            .update(|names| catalog::remove_manifest(names, &repository, &manifest.digest))
            .unwrap();
        assert_eq!(collect(&store, old).unwrap().blobs, 3);
        assert!(!store.view(|names| catalog::exists(names, &repository)).unwrap());
    }

    #[test]
    fn lists_are_in_order_and_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(hako_db::Db::open(&dir.path().join("hako.db")).unwrap());
        let store = Store::open(&dir.path().join("content"), db).unwrap();
        let lease = store.lease().unwrap();
        let target = lease.put_bytes(hako_oci::media_type::OCI_INDEX, b"{}").unwrap();
        let names = ["b", "a", "a/b", "a-b", "ab"];
        lease
            .publish(|n| {
                for name in names {
                    let repository = Repository::parse(name).unwrap();
                    let tags = ["v10", "V2", "a", "B", "v1", "v1.0"].map(str::to_owned);
                    catalog::put_manifest(n, &repository, &target, &tags, None)?;
                }
                Ok::<_, hako_content::Error>(())
            })
            .unwrap();
        let all = store.view(|n| catalog::repositories(n, None, 100)).unwrap();
        assert_eq!(all, ["a", "a-b", "a/b", "ab", "b"]);
        let page = store.view(|n| catalog::repositories(n, Some("a-b"), 2)).unwrap();
        assert_eq!(page, ["a/b", "ab"]);
        let repository = Repository::parse("a").unwrap();
        let tags = store.view(|n| catalog::tags(n, &repository, None, 100)).unwrap();
        assert_eq!(tags, ["a", "B", "v1", "v1.0", "v10", "V2"]);
        let tags = store.view(|n| catalog::tags(n, &repository, Some("B"), 2)).unwrap();
        assert_eq!(tags, ["v1", "v1.0"]);
        let tags = store.view(|n| catalog::tags(n, &repository, Some("no-such"), 1)).unwrap();
        assert_eq!(tags, ["v1"]);
    }
}
