//! Artifacts: files in a manifest that is no image's (OCI Image Specification, manifest.md,
//! "Guidelines for Artifact Usage"), in the store and in registries.
//!
//! Those of the store have names of their own, `artifact/<domain/path:tag>`: an artifact and an image
//! may be called the same.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Component, Path, PathBuf},
};

use hako_content::{DOCUMENT_BYTES_MAX, Lease};
use hako_oci::{Descriptor, Digest, Reference, image::Manifest, media_type};
use hako_remote::{Document, Repository};
use hako_root::Root;

use crate::{
    Error, ImageStore, PushedImage, Result, Step, Travel, Watch,
    push::{Planner, push_blobs},
    time,
};

const ARTIFACT: &str = "artifact/";
const TITLE: &str = "org.opencontainers.image.title";
const CREATED: &str = "org.opencontainers.image.created";
/// A file that nothing more is known of, as ORAS and Podman call it.
const OCTETS: &str = "application/octet-stream";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
/// Longest file that is added.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// A file that becomes part of an artifact.
#[derive(Debug, Clone)]
pub struct ArtifactFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is; bytes where that is not said.
    pub media_type: Option<String>,
}

/// An artifact that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewArtifact {
    /// What it is.
    pub kind: Option<String>,
    /// Its files.
    pub files: Vec<ArtifactFile>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of each of its files.
    pub file_annotations: BTreeMap<String, String>,
}

/// An artifact of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its name.
    pub name: Reference,
    /// Its manifest's descriptor.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Artifact {
    /// Bytes of its files.
    pub fn size_bytes(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).sum()
    }

    /// When it was made, seconds since the epoch, if it says so.
    pub fn created(&self) -> Option<i64> {
        self.manifest.annotations.get(CREATED).and_then(|text| time::unix_seconds(text))
    }
}

impl ImageStore {
    /// Makes an artifact of files. With `append`, they are added to the one of this name.
    pub fn add_artifact(
        &self,
        name: &Reference,
        new: &NewArtifact,
        append: bool,
        replace: bool,
    ) -> Result<Digest> {
        let key = key(name)?;
        let lease = self.content().lease()?;
        let before = self.content().view(|names| names.get(&key))?;
        let before = match (before, append, replace) {
            (Some(named), true, _) => Some(self.read_artifact(named)?),
            (None, true, _) => return Err(Error::NoArtifact(name.familiar())),
            (Some(_), false, false) => return Err(Error::ArtifactExists(name.familiar())),
            (_, false, _) => None,
        };
        let mut manifest = manifest(&lease, new)?;
        if let Some(Artifact { manifest: old, .. }) = before {
            if let Some(layer) = manifest.layers.iter().find(|layer| has_title(&old, layer)) {
                let title = layer.annotations.get(TITLE).cloned().unwrap_or_default();
                return Err(Error::ArtifactFile { name: name.familiar(), title });
            }
            let added = std::mem::replace(&mut manifest, old);
            manifest.layers.extend(added.layers);
            manifest.annotations.extend(added.annotations);
        }
        let document = document(&lease, &manifest)?;
        lease.publish(|names| names.set(&key, &document.descriptor, &BTreeMap::new()))?;
        Ok(document.descriptor.digest)
    }

    /// All artifacts, by name.
    pub fn artifacts(&self) -> Result<Vec<Artifact>> {
        let named = self.content().view(|names| names.with_prefix(ARTIFACT))?;
        named.into_iter().map(|named| self.read_artifact(named)).collect()
    }

    /// The artifact of this name, or whose digest this begins.
    pub fn artifact(&self, word: &str) -> Result<Artifact> {
        if let Ok(name) = word.parse::<Reference>()
            && let Ok(key) = key(&name)
            && let Some(named) = self.content().view(|names| names.get(&key))?
        {
            return self.read_artifact(named);
        }
        let hex = word.strip_prefix("sha256:").unwrap_or(word);
        let hex = hex.rsplit_once("@sha256:").map_or(hex, |(_, hex)| hex);
        let mut found = self.artifacts()?;
        found.retain(|artifact| {
            !hex.is_empty() && artifact.descriptor.digest.hex().starts_with(hex)
        });
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::NoArtifact(word.into())),
            _ => {
                let ids = found.into_iter().map(|artifact| artifact.descriptor.digest).collect();
                Err(Error::AmbiguousId { prefix: word.into(), ids })
            }
        }
    }

    fn read_artifact(&self, named: hako_content::Named) -> Result<Artifact> {
        let damaged = |why: String| Error::Damaged { name: named.name.clone(), why };
        let name = named.name[ARTIFACT.len()..].parse().map_err(|e| damaged(format!("{e}")))?;
        let manifest = Manifest::parse(&self.content().document(&named.target)?);
        let manifest = manifest.map_err(|e| damaged(e.to_string()))?;
        Ok(Artifact { name, descriptor: named.target, manifest })
    }

    /// Removes an artifact, and what nothing else needs of it.
    pub fn remove_artifact(&self, word: &str) -> Result<Digest> {
        let artifact = self.artifact(word)?;
        self.content().update(|names| names.remove(&key(&artifact.name)?).map_err(Error::from))?;
        self.content().collect()?;
        Ok(artifact.descriptor.digest)
    }

    /// Writes the files of an artifact beneath a directory, or the only one of them to a file; gives
    /// their paths. `title` and `digest` pick one.
    pub fn extract_artifact(
        &self,
        word: &str,
        to: &Path,
        title: Option<&str>,
        digest: Option<&str>,
    ) -> Result<Vec<PathBuf>> {
        let artifact = self.artifact(word)?;
        let lease = self.content().lease()?;
        let layers: Vec<&Descriptor> = artifact
            .manifest
            .layers
            .iter()
            .filter(|layer| {
                title.is_none_or(|title| layer.annotations.get(TITLE).is_some_and(|t| t == title))
                    && digest.is_none_or(|digest| layer.digest.to_string() == digest)
            })
            .collect();
        if layers.is_empty() {
            let title = title.or(digest).unwrap_or_default().to_owned();
            return Err(Error::ArtifactNoFile { name: artifact.name.familiar(), title });
        }
        let to_directory = to.is_dir();
        if !to_directory && layers.len() > 1 {
            return Err(Error::ArtifactDirectory(to.to_owned()));
        }
        let opening = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Open { path, source }
        };
        let mut written = Vec::new();
        for layer in layers {
            if !lease.keep(layer)? {
                return Err(Error::Content(hako_content::Error::Missing(layer.digest.clone())));
            }
            let blob = self.content().blob(&layer.digest)?;
            let mut blob = hako_content::Verified::new(blob, layer);
            let (mut file, path) = match to_directory {
                false => (File::create(to).map_err(opening(to))?, to.to_owned()),
                true => {
                    let name = file_name(layer)?;
                    let root = Root::open(to)?;
                    root.mkdir_all(name.parent().unwrap_or(Path::new("")), 0o755)?;
                    let (dir, last) = root.parent(&name)?;
                    match dir.unlink(&last) {
                        Err(e) if !e.is_not_found() => return Err(e.into()),
                        _ => (dir.create_file(&last, 0o644)?, to.join(name)),
                    }
                }
            };
            io::copy(&mut blob, &mut file).map_err(Error::Write)?;
            written.push(path);
        }
        Ok(written)
    }

    /// Pushes an artifact, byte by byte, under its name.
    pub fn push_artifact(
        &self,
        repository: &Repository,
        name: &Reference,
        watch: &dyn Watch,
    ) -> Result<PushedImage> {
        let artifact = self.artifact(&name.to_string())?;
        let lease = self.content().lease()?;
        let plan = Planner::new(&lease, repository, Travel::AsIs).all_of(&artifact.descriptor)?;
        let word = name.tag().unwrap_or("latest");
        let (digest, size) = plan.send(repository, &lease, &BTreeMap::new(), word, watch)?;
        lease.release()?;
        Ok(PushedImage { name: name.clone(), digest, size, only_platform: false })
    }

    /// Pulls an artifact into the store.
    pub fn pull_artifact(
        &self,
        repository: &Repository,
        name: &Reference,
        watch: &dyn Watch,
    ) -> Result<Digest> {
        let key = key(name)?;
        let lease = self.content().lease()?;
        let document = repository.manifest(name.tag().unwrap_or("latest"))?;
        let descriptor = document.descriptor.clone();
        watch.manifest(&descriptor.digest);
        let path = || descriptor.digest.to_string();
        if media_type::is_index(&descriptor.media_type) {
            return Err(Error::NotAnArtifact(name.familiar()));
        }
        let parsed = Manifest::parse(&document.bytes);
        let manifest = parsed.map_err(|source| Error::Document { path: path(), source })?;
        lease.put(&descriptor, &document.bytes[..])?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            fetch(repository, &lease, blob, watch)?;
        }
        lease.publish(|names| names.set(&key, &descriptor, &BTreeMap::new()))?;
        Ok(descriptor.digest)
    }

    /// Pushes an artifact that is about what `subject` (a tag or digest) stands for, and gives what
    /// it is there. Nothing of it stays here.
    pub fn attach_artifact(
        &self,
        repository: &Repository,
        subject: &str,
        new: &NewArtifact,
        watch: &dyn Watch,
    ) -> Result<Descriptor> {
        let subject = repository.manifest(subject)?.descriptor;
        let lease = self.content().lease()?;
        let mut manifest = manifest(&lease, new)?;
        let Descriptor { media_type, digest, size, .. } = subject;
        manifest.subject = Some(Descriptor::new(&media_type, digest, size));
        let document = document(&lease, &manifest)?;
        let mut blobs = vec![manifest.config];
        blobs.extend(manifest.layers);
        push_blobs(repository, &lease, &blobs, &BTreeMap::new(), watch)?;
        repository.put_manifest(&document.descriptor.digest.to_string(), &document)?;
        lease.release()?;
        self.content().collect()?;
        let mut descriptor = document.descriptor;
        descriptor.artifact_type = manifest.artifact_type;
        Ok(descriptor)
    }
}

fn key(name: &Reference) -> Result<String> {
    let name = name.clone().with_default_tag();
    match name.tag().is_some() && name.digest().is_none() {
        true => Ok(format!("{ARTIFACT}{name}")),
        false => Err(Error::Tag(name.to_string())),
    }
}

/// Stores the files, and makes their manifest.
fn manifest(lease: &Lease, new: &NewArtifact) -> Result<Manifest> {
    let mut layers: Vec<Descriptor> = Vec::new();
    for file in &new.files {
        let opening = |source| Error::Open { path: file.path.clone(), source };
        let title = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let open = File::open(&file.path).map_err(opening)?;
        if !open.metadata().map_err(opening)?.is_file() {
            return Err(opening(io::Error::other("it is no regular file")));
        }
        let kind = file.media_type.as_deref().unwrap_or(OCTETS);
        let mut layer = lease.put_unnamed(kind, FILE_BYTES_MAX, open)?;
        layer.annotations.clone_from(&new.file_annotations);
        layer.annotations.insert(TITLE.into(), title.clone());
        if layers.iter().any(|other| other.annotations.get(TITLE) == Some(&title)) {
            return Err(Error::ArtifactFile { name: "the new artifact".into(), title });
        }
        layers.push(layer);
    }
    let config = lease.put_bytes(EMPTY_TYPE, EMPTY)?;
    if layers.is_empty() {
        // A manifest has at least one layer, though it be empty.
        layers.push(config.clone());
    }
    let mut annotations = new.annotations.clone();
    annotations.entry(CREATED.into()).or_insert_with(time::now_seconds);
    Ok(Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: Some(new.kind.clone().unwrap_or_else(|| UNKNOWN.into())),
        config,
        layers,
        subject: None,
        annotations,
        extra: serde_json::Map::new(),
    })
}

/// What an artifact is that does not say what it is, in ORAS's word.
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";

fn document(lease: &Lease, manifest: &Manifest) -> Result<Document> {
    let bytes = serde_json::to_vec(manifest)
        .map_err(|source| Error::Json { path: "manifest".into(), source })?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(Error::Limit { what: "bytes in a document", limit: DOCUMENT_BYTES_MAX });
    }
    let descriptor = lease.put_bytes(media_type::OCI_MANIFEST, &bytes)?;
    Ok(Document { descriptor, bytes })
}

fn has_title(manifest: &Manifest, layer: &Descriptor) -> bool {
    let title = layer.annotations.get(TITLE);
    manifest.layers.iter().any(|other| title.is_some() && other.annotations.get(TITLE) == title)
}

/// Where a file of an artifact may go: beneath the directory, whatever its title says.
fn file_name(layer: &Descriptor) -> Result<PathBuf> {
    let Some(title) = layer.annotations.get(TITLE) else {
        return Ok(layer.digest.hex().into());
    };
    let path = Path::new(title);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    match is_plain && !title.is_empty() && !title.contains('\0') {
        true => Ok(path.to_owned()),
        false => Err(Error::EntryName(title.clone())),
    }
}

/// Fetches a blob, going on with what is there of it.
fn fetch(
    repository: &Repository,
    lease: &Lease,
    blob: &Descriptor,
    watch: &dyn Watch,
) -> Result<()> {
    let mut step = Step::Present;
    loop {
        let Some(mut partial) = lease.claim(blob)? else { break };
        let resumed = partial.size();
        repository.fetch(blob, resumed, &mut |bytes| {
            partial.append(bytes)?;
            watch.layer(blob, Step::Bytes(partial.size()));
            Ok(())
        })?;
        match partial.commit() {
            // What was there from before was no beginning of it: all of it anew.
            Err(hako_content::Error::DigestMismatch { .. }) if resumed > 0 => {}
            done => {
                done?;
                step = Step::Arrived;
                break;
            }
        }
    }
    watch.layer(blob, step);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lead_nowhere_else() {
        let name = |title: &str| {
            let mut layer = Descriptor::of(OCTETS, b"x");
            layer.annotations.insert(TITLE.into(), title.into());
            file_name(&layer).ok()
        };
        assert_eq!(name("a/b.txt"), Some("a/b.txt".into()));
        for title in ["", "/etc/passwd", "../x", "a/../../x", ".", "a\0b"] {
            assert_eq!(name(title), None, "{title:?}");
        }
        let nameless = Descriptor::of(OCTETS, b"x");
        assert_eq!(file_name(&nameless).unwrap(), PathBuf::from(nameless.digest.hex()));
    }
}
