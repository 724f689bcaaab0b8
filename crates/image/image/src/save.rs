//! Saving images into one tar that everybody loads.
//!
//! ```text
//! oci-layout, index.json       for tools of OCI, and Docker with containerd's store
//! manifest.json, repositories  for Docker, podman, skopeo
//! blobs/sha256/<hex>           manifests, configurations, layers: each once
//! ```
//!
//! That is how Docker writes it since version 25, with documents before layers: who reads a stream
//! then knows what the layers are when they come. The same images give the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

use hako_content::Lease;
use hako_docker::archive::{self, ManifestItem, Repositories};
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{Index, Layout},
};
use hako_tar::{Header, Kind, Writer};

use crate::{Error, Image, ImageStore, Result, names, store};

/// Who is to read an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// Everybody.
    #[default]
    Any,
    /// Who knows the OCI layout.
    Oci,
    /// Who knows Docker's `manifest.json`.
    Docker,
}

/// How to save.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Which image of those that a name means, where it means several.
    pub platform: Option<Platform>,
    /// Who is to read it.
    pub format: SaveFormat,
}

/// An image to save, with the names that it was asked for by.
struct Chosen {
    image: Image,
    /// Each with what it stands for: the manifest, or an index.
    names: BTreeMap<Reference, Descriptor>,
}

impl ImageStore {
    /// Writes the images that `wanted` mean, as one tar. A name without tag means all tags of its
    /// repository; an image that is asked for by ID has no name in the archive.
    pub fn save(
        &self,
        wanted: &[impl AsRef<str>],
        options: &SaveOptions,
        sink: impl Write,
    ) -> Result<()> {
        // Kept before anything is written, so that nobody removes it meanwhile.
        let lease = self.content().lease()?;
        let chosen = self.choose(wanted, options.platform.as_ref(), &lease);
        let saved = chosen.and_then(|chosen| self.write(&chosen, options.format, sink));
        let released = lease.release();
        saved?;
        Ok(released?)
    }

    fn choose(
        &self,
        wanted: &[impl AsRef<str>],
        platform: Option<&Platform>,
        lease: &Lease,
    ) -> Result<Vec<Chosen>> {
        let mut chosen: Vec<Chosen> = Vec::new();
        let found: Vec<(Image, BTreeMap<Reference, Descriptor>)> =
            self.content().view(|names| {
                let catalog = names::catalog(names)?;
                let mut found = Vec::new();
                for what in wanted {
                    for (id, name) in choose_one(names, what.as_ref())? {
                        found.push((Image::of(self.content(), &catalog, &id)?, name));
                    }
                }
                Ok::<_, Error>(found)
            })?;
        for (mut image, mut names) in found {
            if let Some(wanted) = platform {
                let name = names.keys().next().map(Reference::to_string);
                image =
                    self.resolve_for(&name.unwrap_or_else(|| image.id().to_string()), wanted)?;
                names.values_mut().for_each(|target| *target = image.descriptor().clone());
            }
            for document in names.values().chain([image.descriptor()]) {
                if !lease.keep(document)? {
                    return Err(Error::NotFound(image.id().to_string()));
                }
            }
            match chosen.iter_mut().find(|known| known.image.id() == image.id()) {
                Some(known) => known.names.extend(names),
                None => chosen.push(Chosen { image, names }),
            }
        }
        Ok(chosen)
    }

    fn write(&self, chosen: &[Chosen], format: SaveFormat, sink: impl Write) -> Result<()> {
        let mut writer = Writer::new(io::BufWriter::with_capacity(256 << 10, sink));
        if format != SaveFormat::Docker {
            let layout = Layout { image_layout_version: "1.0.0".into() };
            append_json(&mut writer, "oci-layout", &layout)?;
            append_json(&mut writer, "index.json", &index(chosen))?;
        }
        if format != SaveFormat::Oci {
            append_json(&mut writer, archive::MANIFEST, &manifest_items(chosen))?;
            append_json(&mut writer, archive::REPOSITORIES, &repositories(chosen))?;
        }
        append(&mut writer, "blobs", Kind::Directory, 0, io::empty())?;
        let (documents, layers) = blobs(chosen, format);
        let algorithms: BTreeSet<_> =
            documents.iter().chain(&layers).map(|digest| digest.algorithm().name()).collect();
        for algorithm in algorithms {
            append(&mut writer, &format!("blobs/{algorithm}"), Kind::Directory, 0, io::empty())?;
        }
        for digest in documents.iter().chain(layers.difference(&documents)) {
            let blob = self.content().blob(digest)?;
            append(&mut writer, &blob_path(digest), Kind::File, blob.size(), blob)?;
        }
        let mut sink = writer.finish().map_err(write_error)?;
        sink.flush().map_err(Error::Write)
    }
}

/// The image or images that one argument means, each with its names.
fn choose_one(
    names: &hako_content::Names<'_>,
    what: &str,
) -> Result<Vec<(Digest, BTreeMap<Reference, Descriptor>)>> {
    if let Ok(reference) = what.parse::<Reference>()
        && reference.tag().is_none()
        && reference.digest().is_none()
    {
        let mut tags = names::repository(names, &reference.name())?;
        tags.retain(|(name, _)| name.tag().is_some());
        if !tags.is_empty() {
            let one = |(name, tag): (Reference, names::Tag)| {
                (tag.image, BTreeMap::from([(name, tag.target)]))
            };
            return Ok(tags.into_iter().map(one).collect());
        }
    }
    let id = store::resolve(names, what)?;
    let mut named = BTreeMap::new();
    if let Ok(reference) = what.parse::<Reference>()
        && reference.tag().is_some()
        && let Some(tag) = names::get_tag(names, &reference)?
        && tag.image == id
    {
        named.insert(reference, tag.target);
    }
    Ok(vec![(id, named)])
}

/// Documents and layers, each once and in order.
fn blobs(chosen: &[Chosen], format: SaveFormat) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
    let (mut documents, mut layers) = (BTreeSet::new(), BTreeSet::new());
    for Chosen { image, names } in chosen {
        if format != SaveFormat::Docker {
            documents.extend(names.values().map(|target| target.digest.clone()));
            documents.insert(image.descriptor().digest.clone());
        }
        documents.insert(image.manifest().config.digest.clone());
        layers.extend(image.manifest().layers.iter().map(|layer| layer.digest.clone()));
    }
    (documents, layers)
}

fn index(chosen: &[Chosen]) -> Index {
    let mut manifests = Vec::new();
    for Chosen { image, names } in chosen {
        if names.is_empty() {
            manifests.push(image.descriptor().clone());
        }
        for (name, target) in names {
            let mut entry = target.clone();
            let tag = name.tag().unwrap_or_default().to_owned();
            entry.annotations.insert("io.containerd.image.name".into(), name.to_string());
            entry.annotations.insert("org.opencontainers.image.ref.name".into(), tag);
            manifests.push(entry);
        }
    }
    Index { manifests, ..Index::default() }
}

fn manifest_items(chosen: &[Chosen]) -> Vec<ManifestItem> {
    let item = |Chosen { image, names }: &Chosen| {
        let layers = &image.manifest().layers;
        let diff_ids = &image.config().rootfs.diff_ids;
        let source = |(layer, diff_id): (&Descriptor, &Digest)| {
            let plain = Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size);
            (diff_id.to_string(), plain)
        };
        let repo_tags: Vec<String> = names.keys().map(Reference::familiar).collect();
        ManifestItem {
            config: blob_path(&image.manifest().config.digest),
            repo_tags: (!repo_tags.is_empty()).then_some(repo_tags),
            layers: layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
            parent: String::new(),
            layer_sources: layers.iter().zip(diff_ids).map(source).collect(),
        }
    };
    chosen.iter().map(item).collect()
}

/// By the topmost layer, which is what an image was before it had a configuration.
fn repositories(chosen: &[Chosen]) -> Repositories {
    let mut repositories = Repositories::new();
    for Chosen { image, names } in chosen {
        let Some(top) = image.manifest().layers.last() else { continue };
        for name in names.keys() {
            let tags = repositories.entry(name.familiar_name()).or_default();
            tags.insert(name.tag().unwrap_or_default().into(), top.digest.hex().into());
        }
    }
    repositories
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

pub(crate) fn append_json<W: Write>(
    writer: &mut Writer<W>,
    path: &str,
    value: &impl serde::Serialize,
) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| Error::Json { path: path.into(), source })?;
    append(writer, path, Kind::File, bytes.len() as u64, &bytes[..])
}

pub(crate) fn append<W: Write>(
    writer: &mut Writer<W>,
    path: &str,
    kind: Kind,
    size: u64,
    content: impl Read,
) -> Result<()> {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let mut header = Header::new(path, kind, mode);
    header.size = size;
    writer.append(&header, content).map_err(write_error)
}

fn write_error(error: hako_tar::Error) -> Error {
    match error {
        hako_tar::Error::Io(e) => Error::Write(e),
        other => Error::Tar(other),
    }
}
