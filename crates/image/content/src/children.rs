//! What a document refers to, by its media type.

use hako_oci::{
    Descriptor,
    image::{Index, Manifest},
    media_type,
};

/// What a blob is, as far as references go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Index or manifest list: refers to manifests.
    Index,
    /// Manifest: refers to a configuration and layers.
    Manifest,
    /// Everything else refers to nothing.
    Leaf,
}

impl Kind {
    /// The kind of a blob of this media type.
    pub fn of(media_type: &str) -> Kind {
        if media_type::is_index(media_type) {
            Kind::Index
        } else if media_type::is_manifest(media_type) {
            Kind::Manifest
        } else {
            Kind::Leaf
        }
    }
}

/// What the document `bytes` of this kind refers to; `None` if it is no such document.
///
/// A manifest's subject is not among them: the subject lives without its referrers, and they
/// without it.
pub fn children(kind: Kind, bytes: &[u8]) -> Option<Vec<Descriptor>> {
    match kind {
        Kind::Leaf => Some(Vec::new()),
        Kind::Index => Some(Index::parse(bytes).ok()?.manifests),
        Kind::Manifest => {
            let Manifest { config, mut layers, .. } = Manifest::parse(bytes).ok()?;
            layers.insert(0, config);
            Some(layers)
        }
    }
}
