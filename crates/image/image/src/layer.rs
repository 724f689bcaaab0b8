//! A layer's way from an archive into the content store.

use std::io::Read;

use hako_content::Lease;
use hako_layer::Compression;
use hako_oci::{Descriptor, Digest, media_type};

use crate::{
    Error, Progress, Result,
    archive::{Contents, Found},
    layout::LayerFile,
    progress::Told,
};

/// How many first bytes tell what compresses a layer.
const MAGIC_BYTES: u64 = 16;

/// Stores a layer, and says what it is.
///
/// A layer that a manifest describes is that or an error. Of any other only the diff ID is known:
/// an uncompressed one is checked by it here, a compressed one when it is unpacked.
pub(crate) fn put(
    contents: &Contents,
    lease: &Lease,
    index: usize,
    layer: &LayerFile,
    diff_id: &Digest,
    progress: Option<&Progress>,
) -> Result<Descriptor> {
    if let Some(descriptor) = &layer.descriptor {
        contents.put_as(&layer.path, lease, descriptor)?;
        return Ok(descriptor.clone());
    }
    match compression(&mut find(contents, lease, &layer.path)?)? {
        Compression::Gzip => contents.put(&layer.path, lease, media_type::OCI_LAYER_GZIP),
        Compression::Zstd => contents.put(&layer.path, lease, media_type::OCI_LAYER_ZSTD),
        Compression::Xz | Compression::Bzip2 => put_plain(contents, lease, &layer.path),
        Compression::None => {
            let mismatch = |actual| Error::DiffId { index, expected: diff_id.clone(), actual };
            let found = find(contents, lease, &layer.path)?;
            if let Some(actual) = found.stored.as_ref().filter(|actual| *actual != diff_id) {
                return Err(mismatch(actual.clone()));
            }
            let descriptor = Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), found.size);
            let reader: Box<dyn Read + Send> = match progress {
                Some(progress) => {
                    let (progress, diff_id) = (progress.clone(), diff_id.clone());
                    Box::new(Told::new(found.reader, progress, diff_id, found.size))
                }
                None => found.reader,
            };
            match lease.put(&descriptor, reader) {
                Err(hako_content::Error::DigestMismatch { actual, .. }) => Err(mismatch(actual)),
                done => Ok(done.map(|()| descriptor)?),
            }
        }
    }
}

/// Whether the layer lies in the archive as the tar with this diff ID, if it is what it should be.
pub(crate) fn is_plain(
    contents: &Contents,
    lease: &Lease,
    layer: &LayerFile,
    diff_id: &Digest,
) -> Result<bool> {
    match &layer.descriptor {
        Some(descriptor) => Ok(descriptor.digest == *diff_id),
        None => Ok(compression(&mut find(contents, lease, &layer.path)?)? == Compression::None),
    }
}

/// Stores a layer without its compression, for which there may be no media type.
pub(crate) fn put_plain(contents: &Contents, lease: &Lease, path: &str) -> Result<Descriptor> {
    if compression(&mut find(contents, lease, path)?)? == Compression::None {
        return contents.put(path, lease, media_type::OCI_LAYER);
    }
    let (_, tar) =
        hako_layer::decompress(find(contents, lease, path)?.reader).map_err(Error::Read)?;
    Ok(lease.put_unnamed(media_type::OCI_LAYER, contents.limits().bytes_max, tar)?)
}

fn find(contents: &Contents, lease: &Lease, path: &str) -> Result<Found> {
    contents.find(path, lease)?.ok_or_else(|| Error::MissingEntry { path: path.into() })
}

fn compression(found: &mut Found) -> Result<Compression> {
    let mut start = Vec::with_capacity(MAGIC_BYTES as usize);
    (&mut found.reader).take(MAGIC_BYTES).read_to_end(&mut start).map_err(Error::Read)?;
    Ok(Compression::detect(&start))
}
