//! Where documents and blobs go.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use hako_content::{Lease, Verified};
use hako_docker::archive::{self, ManifestItem};
use hako_oci::{
    Descriptor, Digest, Platform, Reference,
    image::{Index, Layout, Manifest},
    media_type,
};
use hako_remote::{Document, Pushed, Repository};
use hako_tar::{Header, Kind, Writer};

use super::{Copier, Place};
use crate::{
    Error, ImageStore, Result, Step, Watch,
    layout::{check_config, check_manifest, parse_config},
    names::{self, Tag},
    pull::choose,
    save::{append, append_json},
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Opens a blob at a byte.
type Open<'o> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync + 'o;

/// A place that is copied to.
pub(super) enum Sink<'c> {
    Registry { repository: Repository, word: String, from: Option<String> },
    Layout(PathBuf, Option<String>),
    Archive(Mutex<Archive>),
    Directory(PathBuf),
    Store { images: &'c ImageStore, lease: Lease, name: Reference },
}

impl<'c> Sink<'c> {
    /// Prepares the place. `from` may be a repository of the same registry, which blobs can be
    /// mounted from.
    pub(super) fn create(copier: &Copier<'c>, place: &Place, from: &Place) -> Result<Sink<'c>> {
        Ok(match place {
            Place::Registry(name) => {
                let from = match from {
                    Place::Registry(other)
                        if other.domain() == name.domain() && other.path() != name.path() =>
                    {
                        Some(other.path().to_owned())
                    }
                    _ => None,
                };
                let word = name.tag().map(str::to_owned);
                let word = word.or_else(|| name.digest().map(Digest::to_string));
                let repository = copier.client.repository(name)?;
                Sink::Registry { repository, word: word.unwrap_or_else(|| "latest".into()), from }
            }
            Place::Layout(path, name) => {
                for algorithm in ["sha256", "sha512"] {
                    let dir = path.join("blobs").join(algorithm);
                    fs::create_dir_all(&dir).map_err(opening(&dir))?;
                }
                Sink::Layout(path.clone(), name.clone())
            }
            Place::LayoutArchive(path, name) => {
                Sink::Archive(Mutex::new(Archive::create(path, name.clone(), None)?))
            }
            Place::DockerArchive(path, name) => {
                let word = name.as_ref().and_then(|name| name.tag().map(str::to_owned));
                Sink::Archive(Mutex::new(Archive::create(path, word, Some(name.clone()))?))
            }
            Place::Directory(path) => {
                fs::create_dir_all(path).map_err(opening(path))?;
                Sink::Directory(path.clone())
            }
            Place::Store(name) => {
                let images = copier.store.ok_or_else(|| Error::NotFound(name.clone()))?;
                let name: Reference = name.parse::<Reference>()?.with_default_tag();
                if name.tag().is_none() || name.digest().is_some() {
                    return Err(Error::Tag(name.to_string()));
                }
                Sink::Store { images, lease: images.content().lease()?, name }
            }
        })
    }

    /// Whether blobs may come several at once.
    pub(super) fn takes_many(&self) -> bool {
        !matches!(self, Sink::Archive(_))
    }

    /// Takes a blob.
    pub(super) fn put(&self, blob: &Descriptor, open: &Open<'_>, watch: &dyn Watch) -> Result<()> {
        let step = match self {
            Sink::Registry { repository, from, .. } => {
                let mut progress = |bytes| watch.layer(blob, Step::Bytes(bytes));
                match repository.push_blob(blob, from.as_deref(), open, &mut progress)? {
                    Pushed::Present => Step::Present,
                    Pushed::Mounted => Step::Mounted,
                    Pushed::Uploaded => Step::Arrived,
                }
            }
            Sink::Layout(dir, _) => {
                put_file(&dir.join(blob_path(&blob.digest)), blob, open, watch)?
            }
            Sink::Directory(dir) => put_file(&dir.join(blob.digest.hex()), blob, open, watch)?,
            Sink::Archive(archive) => {
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                archive.put(blob, open(0).map_err(Error::Read)?, watch)?;
                Step::Arrived
            }
            Sink::Store { lease, .. } => match lease.keep(blob)? {
                true => Step::Present,
                false => {
                    lease.put(
                        blob,
                        Told { inner: open(0).map_err(Error::Read)?, blob, watch, bytes: 0 },
                    )?;
                    Step::Arrived
                }
            },
        };
        watch.layer(blob, step);
        Ok(())
    }

    /// Takes the documents, and gives the last of them its name.
    pub(super) fn finish(self, documents: Vec<Document>) -> Result<()> {
        let Some((root, beneath)) = documents.split_last() else { return Ok(()) };
        match self {
            Sink::Registry { repository, word, .. } => {
                for document in beneath {
                    repository.put_manifest(&document.descriptor.digest.to_string(), document)?;
                }
                Ok(repository.put_manifest(&word, root)?)
            }
            Sink::Layout(dir, name) => finish_layout(&dir, name, &documents, root),
            Sink::Directory(dir) => finish_directory(&dir, beneath, root),
            Sink::Archive(archive) => {
                let archive = archive.into_inner().unwrap_or_else(PoisonError::into_inner);
                archive.finish(&documents, root)
            }
            Sink::Store { images, lease, name } => {
                finish_store(images, lease, &name, &documents, root)
            }
        }
    }
}

/// A reader that tells how far it is.
struct Told<'t> {
    inner: Box<dyn Read + Send>,
    blob: &'t Descriptor,
    watch: &'t dyn Watch,
    bytes: u64,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        self.watch.layer(self.blob, Step::Bytes(self.bytes));
        Ok(n)
    }
}

fn opening(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Open { path: path.to_owned(), source }
}

/// What went wrong while bytes passed by: what they were, or where they went.
fn passing(error: io::Error) -> Error {
    match error.downcast::<hako_content::Error>() {
        Ok(error) => Error::Content(error),
        Err(error) => Error::Write(error),
    }
}

/// Writes beside a file, and renames: it is there whole, or not.
fn write_whole(path: &Path, from: &mut dyn Read) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = File::create(&beside).map_err(opening(&beside))?;
        io::copy(from, &mut file).map_err(passing)?;
        fs::rename(&beside, path).map_err(opening(path))
    })();
    if written.is_err() {
        // What was wrong with it is what there is to say.
        drop(fs::remove_file(&beside));
    }
    written
}

fn put_file(path: &Path, blob: &Descriptor, open: &Open<'_>, watch: &dyn Watch) -> Result<Step> {
    if fs::metadata(path).is_ok_and(|found| found.len() == blob.size) {
        return Ok(Step::Present);
    }
    let from = Told { inner: open(0).map_err(Error::Read)?, blob, watch, bytes: 0 };
    write_whole(path, &mut Verified::new(from, blob))?;
    Ok(Step::Arrived)
}

fn finish_directory(dir: &Path, beneath: &[Document], root: &Document) -> Result<()> {
    for document in beneath {
        let name = format!("{}.manifest.json", document.descriptor.digest.hex());
        write_whole(&dir.join(name), &mut &document.bytes[..])?;
    }
    write_whole(&dir.join("version"), &mut &b"Directory Transport Version: 1.1\n"[..])?;
    write_whole(&dir.join("manifest.json"), &mut &root.bytes[..])
}

fn finish_layout(
    dir: &Path,
    name: Option<String>,
    documents: &[Document],
    root: &Document,
) -> Result<()> {
    for document in documents {
        write_whole(&dir.join(blob_path(&document.descriptor.digest)), &mut &document.bytes[..])?;
    }
    let path = dir.join("index.json");
    let mut index = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Index::default(),
        Err(e) => return Err(opening(&path)(e)),
        Ok(bytes) => Index::parse(&bytes)
            .map_err(|source| Error::Document { path: "index.json".into(), source })?,
    };
    let entry = entry(root, name.clone());
    index.manifests.retain(|known| match &name {
        Some(name) => known.annotations.get(REF_NAME) != Some(name),
        None => known.digest != entry.digest || known.annotations.contains_key(REF_NAME),
    });
    index.manifests.push(entry);
    let layout = Layout { image_layout_version: "1.0.0".into() };
    write_whole(&dir.join("oci-layout"), &mut &json("oci-layout", &layout)?[..])?;
    write_whole(&path, &mut &json("index.json", &index)?[..])
}

fn json(path: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Json { path: path.into(), source })
}

fn entry(root: &Document, name: Option<String>) -> Descriptor {
    let mut entry = root.descriptor.clone();
    entry.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name)));
    entry
}

/// The images of a store get the name; unpacked they are when they are first used.
fn finish_store(
    images: &ImageStore,
    lease: Lease,
    name: &Reference,
    documents: &[Document],
    root: &Document,
) -> Result<()> {
    for document in documents {
        lease.put(&document.descriptor, &document.bytes[..])?;
    }
    let mut chosen = root;
    while media_type::is_index(&chosen.descriptor.media_type) {
        let path = chosen.descriptor.digest.to_string();
        let index =
            Index::parse(&chosen.bytes).map_err(|source| Error::Document { path, source })?;
        let wanted = choose(index.manifests, &Platform::host())?;
        let found = documents.iter().find(|document| document.descriptor.digest == wanted.digest);
        chosen = found.ok_or(Error::Content(hako_content::Error::Missing(wanted.digest)))?;
    }
    let path = chosen.descriptor.digest.to_string();
    let manifest =
        Manifest::parse(&chosen.bytes).map_err(|source| Error::Document { path, source })?;
    check_manifest(&chosen.descriptor.digest, &manifest)?;
    let bytes = lease.store().document(&manifest.config)?;
    let config = parse_config(&manifest.config.digest.to_string(), &bytes)?;
    check_config(&config, manifest.layers.len())?;
    let id = manifest.config.digest.clone();
    let tag = Tag::new(&id, root.descriptor.clone(), true);
    images.content().sweep()?;
    lease.publish(|names| {
        names::set_image(names, &id, &chosen.descriptor)?;
        names::set_tag(names, name, &tag)
    })?;
    Ok(())
}

/// A tar that is being written.
pub(super) struct Archive {
    writer: Option<Writer<BufWriter<File>>>,
    path: PathBuf,
    beside: PathBuf,
    word: Option<String>,
    /// For `docker load`, with the name that it gives.
    docker: Option<Option<Reference>>,
    done: Vec<Digest>,
}

impl Archive {
    fn create(
        path: &Path,
        word: Option<String>,
        docker: Option<Option<Reference>>,
    ) -> Result<Archive> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = File::create(&beside).map_err(opening(&beside))?;
        let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, file));
        let layout = Layout { image_layout_version: "1.0.0".into() };
        append_json(&mut writer, "oci-layout", &layout)?;
        let path = path.to_owned();
        Ok(Archive { writer: Some(writer), path, beside, word, docker, done: Vec::new() })
    }

    fn writer(&mut self) -> Result<&mut Writer<BufWriter<File>>> {
        self.writer.as_mut().ok_or_else(|| Error::Write(io::ErrorKind::BrokenPipe.into()))
    }

    fn put(
        &mut self,
        blob: &Descriptor,
        from: Box<dyn Read + Send>,
        watch: &dyn Watch,
    ) -> Result<()> {
        if self.done.contains(&blob.digest) {
            return Ok(());
        }
        let mut header = Header::new(blob_path(&blob.digest), Kind::File, 0o644);
        header.size = blob.size;
        let from = Verified::new(Told { inner: from, blob, watch, bytes: 0 }, blob);
        self.writer()?.append(&header, from).map_err(|error| match error {
            hako_tar::Error::Io(e) => passing(e),
            other => Error::Tar(other),
        })?;
        self.done.push(blob.digest.clone());
        Ok(())
    }

    fn finish(mut self, documents: &[Document], root: &Document) -> Result<()> {
        let mut index = Index::default();
        index.manifests.push(entry(root, self.word.take()));
        let docker = self.docker.take();
        let item = docker.map(|name| manifest_item(root, name)).transpose()?;
        let writer = self.writer()?;
        for Document { descriptor, bytes } in documents {
            let path = blob_path(&descriptor.digest);
            append(writer, &path, Kind::File, descriptor.size, &bytes[..])?;
        }
        append_json(writer, "index.json", &index)?;
        if let Some(item) = item {
            append_json(writer, archive::MANIFEST, &[item])?;
        }
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let written = writer.finish().map_err(|error| match error {
            hako_tar::Error::Io(e) => Error::Write(e),
            other => Error::Tar(other),
        });
        written?.flush().map_err(Error::Write)?;
        fs::rename(&self.beside, &self.path).map_err(opening(&self.path))
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Renamed already, if it is whole; otherwise the failure is told.
        drop(fs::remove_file(&self.beside));
    }
}

fn manifest_item(root: &Document, name: Option<Reference>) -> Result<ManifestItem> {
    let path = root.descriptor.digest.to_string();
    let manifest =
        Manifest::parse(&root.bytes).map_err(|source| Error::Document { path, source })?;
    Ok(ManifestItem {
        config: blob_path(&manifest.config.digest),
        repo_tags: name.map(|name| vec![name.familiar()]),
        layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        parent: String::new(),
        layer_sources: Default::default(),
    })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
