//! Layers in the form in which they travel: compressed here where they are not, or anew.
//!
//! The store keeps a layer as it came or was made. What is made of it for a registry always has the
//! same digest, which is remembered: a registry that has it is only asked, and nothing is compressed
//! again for that.

use hako_content::Lease;
use hako_layer::{Codec, Compression};
use hako_oci::{Descriptor, image::Manifest, media_type};
use hako_remote::Document;

use crate::{Error, Result};

/// How layers are to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// As they are.
    AsIs,
    /// Those that are not compressed so.
    Compressed(Codec),
    /// All of them so.
    Anew(Codec),
    /// None of them compressed.
    Plain,
}

impl Default for Travel {
    /// As Docker and Podman push.
    fn default() -> Travel {
        Travel::Compressed(Codec::GZIP)
    }
}

/// Notes of formats that are about the very bytes of a blob.
const NOTES_OF_BYTES: &[&str] = &[
    "io.github.containers.zstd-chunked.",
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
];
/// Longest layer that is made.
const LAYER_BYTES_MAX: u64 = 1 << 40;

/// Whether the place that it goes to has a blob already.
pub(crate) type IsThere<'i> = dyn FnMut(&Descriptor) -> Result<bool> + 'i;

/// The manifest whose layers travel so, and which of its layers its destination has; `None` where
/// it is as it should be.
pub(crate) fn recompress(
    lease: &Lease,
    document: &Document,
    travel: Travel,
    is_there: &mut IsThere<'_>,
) -> Result<Option<(Document, Vec<Descriptor>)>> {
    let path = || document.descriptor.digest.to_string();
    let parsed = Manifest::parse(&document.bytes);
    let mut manifest = parsed.map_err(|source| Error::Document { path: path(), source })?;
    // Only images have layers that somebody unpacks.
    if !media_type::is_config(&manifest.config.media_type) {
        return Ok(None);
    }
    let (mut changed, mut there) = (false, Vec::new());
    for layer in &mut manifest.layers {
        let Some(made) = remake(lease, layer, travel, is_there, &mut there)? else { continue };
        changed = true;
        *layer = made;
    }
    if !changed {
        return Ok(None);
    }
    let is_zstd = |layer: &Descriptor| layer.media_type.ends_with("zstd");
    let mut kind = document.descriptor.media_type.clone();
    // Docker's manifests know no zstd.
    if kind == media_type::DOCKER_MANIFEST && manifest.layers.iter().any(is_zstd) {
        kind = media_type::OCI_MANIFEST.into();
        manifest.media_type = Some(kind.clone());
        manifest.config.media_type = media_type::OCI_CONFIG.into();
        for layer in &mut manifest.layers {
            layer.media_type = layer_type(&kind, compression_of(&layer.media_type)).into();
        }
    }
    let bytes =
        serde_json::to_vec(&manifest).map_err(|source| Error::Json { path: path(), source })?;
    let mut descriptor = document.descriptor.clone();
    let new = Descriptor::of(&kind, &bytes);
    (descriptor.media_type, descriptor.digest, descriptor.size) =
        (new.media_type, new.digest, new.size);
    Ok(Some((Document { descriptor, bytes }, there)))
}

/// A layer in its new form; `None` where it has it.
fn remake(
    lease: &Lease,
    layer: &Descriptor,
    travel: Travel,
    is_there: &mut IsThere<'_>,
    there: &mut Vec<Descriptor>,
) -> Result<Option<Descriptor>> {
    let now = compression_of(&layer.media_type);
    let codec = match travel {
        Travel::AsIs => return Ok(None),
        Travel::Compressed(_) if now != Compression::None => return Ok(None),
        Travel::Plain if now == Compression::None => return Ok(None),
        Travel::Compressed(codec) | Travel::Anew(codec) => Some(codec),
        Travel::Plain => None,
    };
    let store = lease.store();
    let how = codec.map_or_else(|| "plain".to_owned(), |codec| codec.to_string());
    let compression = codec.map_or(Compression::None, Codec::compression);
    let mut made = layer.clone();
    made.media_type = layer_type(&layer.media_type, compression).into();
    made.annotations.retain(|name, _| !NOTES_OF_BYTES.iter().any(|note| name.starts_with(note)));
    if let Some((digest, size)) = store.derived(&layer.digest, &how)? {
        (made.digest, made.size) = (digest, size);
        if lease.keep(&made)? {
            return Ok(Some(made));
        }
        if is_there(&made)? {
            there.push(made.clone());
            return Ok(Some(made));
        }
    }
    let (_, tar) = hako_layer::decompress(store.blob(&layer.digest)?).map_err(Error::Read)?;
    let new = match codec {
        None => lease.put_unnamed(&made.media_type, LAYER_BYTES_MAX, tar)?,
        Some(codec) => {
            let mut ingest = lease.ingest(LAYER_BYTES_MAX)?;
            let failed = |e| compressing(layer, e);
            hako_layer::compress(tar, &mut ingest, codec).map_err(failed)?;
            ingest.commit(&made.media_type)?
        }
    };
    store.set_derived(&layer.digest, &how, &new.digest, new.size)?;
    (made.digest, made.size) = (new.digest, new.size);
    Ok(Some(made))
}

/// What the content store said is its own error again.
fn compressing(layer: &Descriptor, error: std::io::Error) -> Error {
    match error.downcast::<hako_content::Error>() {
        Ok(error) => Error::Content(error),
        Err(source) => Error::Compress { digest: layer.digest.clone(), source },
    }
}

/// How a layer of this type is compressed.
fn compression_of(kind: &str) -> Compression {
    match kind.rsplit(['+', '.']).next() {
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The type of a layer, of the same family, with this compression.
fn layer_type(family: &str, compression: Compression) -> &'static str {
    let is_docker = family.starts_with("application/vnd.docker.");
    match (compression, is_docker) {
        (Compression::Gzip, true) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd, true) => media_type::DOCKER_LAYER_ZSTD,
        (_, true) => media_type::DOCKER_LAYER,
        (Compression::Gzip, false) => media_type::OCI_LAYER_GZIP,
        (Compression::Zstd, false) => media_type::OCI_LAYER_ZSTD,
        (_, false) => media_type::OCI_LAYER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_layers() {
        for (kind, compression) in [
            (media_type::OCI_LAYER, Compression::None),
            (media_type::OCI_LAYER_GZIP, Compression::Gzip),
            (media_type::OCI_LAYER_ZSTD, Compression::Zstd),
            (media_type::DOCKER_LAYER, Compression::None),
            (media_type::DOCKER_LAYER_GZIP, Compression::Gzip),
            (media_type::DOCKER_LAYER_ZSTD, Compression::Zstd),
        ] {
            assert_eq!(compression_of(kind), compression, "{kind}");
            assert_eq!(layer_type(kind, compression), kind);
        }
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        assert_eq!(compression_of(foreign), Compression::Gzip);
    }
}
