//! Where documents and blobs come from.

use std::{
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use hako_content::{DOCUMENT_BYTES_MAX, Lease, Store};
use hako_oci::{
    Descriptor, Platform, Reference,
    image::{Index, Manifest},
    media_type,
};
use hako_remote::{Document, Repository};

use super::{Copier, Place};
use crate::{
    Error, Limits, Result, archive, archive::Contents, layer, layout, layout::Documents, load,
};

/// Buffers between a connection and whoever reads from it.
const BUFFERS: usize = 16;
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A place that is copied from.
pub(super) enum Source {
    Registry(Arc<Repository>, String),
    Files(Files),
    Store { lease: Lease, root: Descriptor, _store: Option<Scratch> },
}

/// Files of an archive or a directory.
pub(super) struct Files {
    contents: Contents,
    lease: Lease,
    root: Descriptor,
    /// Where the content of a descriptor is.
    path: fn(&Descriptor) -> String,
    _store: Scratch,
}

/// A store that lives as long as a copy: for what an archive has in another form.
pub(super) struct Scratch {
    _dir: ScratchDir,
    store: Store,
}

struct ScratchDir(std::path::PathBuf);

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // In the directory for temporary files: what cannot be removed now, the system removes.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!(
            "hako-copy-{}-{:x}",
            std::process::id(),
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |now| now.as_nanos())
        ));
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::Open { path: path.clone(), source })?;
        let dir = ScratchDir(path);
        let store = Store::scratch(&dir.0)?;
        Ok(Scratch { _dir: dir, store })
    }
}

impl Source {
    pub(super) fn open(copier: &Copier<'_>, place: &Place) -> Result<Source> {
        match place {
            Place::Registry(name) => {
                let word = match (name.digest(), name.tag()) {
                    (Some(digest), _) => digest.to_string(),
                    (None, tag) => tag.unwrap_or("latest").to_owned(),
                };
                Ok(Source::Registry(Arc::new(copier.client.repository(name)?), word))
            }
            Place::Layout(path, name) | Place::LayoutArchive(path, name) => {
                open_layout(path, name.as_deref())
            }
            Place::DockerArchive(path, name) => open_docker(path, name.as_ref()),
            Place::Directory(path) => open_directory(path),
            Place::Store(name) => {
                let store = copier.store.ok_or_else(|| Error::NotFound(name.clone()))?;
                let image = store.resolve(name)?;
                let tag = store.content().view(|names| crate::store::tag_of(names, name))?;
                let root = tag.map_or_else(|| image.descriptor().clone(), |tag| tag.target);
                let lease = store.content().lease()?;
                if !lease.keep(&root)? {
                    return Err(Error::NotFound(name.clone()));
                }
                Ok(Source::Store { lease, root, _store: None })
            }
        }
    }

    /// What the place stands for.
    pub(super) fn root(&self) -> Result<Document> {
        match self {
            Source::Registry(repository, word) => Ok(repository.manifest(word)?),
            Source::Files(Files { root, .. }) | Source::Store { root, .. } => self.document(root),
        }
    }

    /// A manifest or index, verified.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        match self {
            Source::Registry(repository, _) => {
                Ok(repository.manifest(&descriptor.digest.to_string())?)
            }
            Source::Files(Files { contents, lease, path, .. }) => {
                if !lease.keep(descriptor)? {
                    contents.put_as(&path(descriptor), lease, descriptor)?;
                }
                stored(lease, descriptor)
            }
            Source::Store { lease, .. } => stored(lease, descriptor),
        }
    }

    /// A blob from its byte `at` on. Whoever takes it verifies it.
    pub(super) fn blob(&self, blob: &Descriptor, at: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut reader: Box<dyn Read + Send> = match self {
            Source::Registry(repository, _) => {
                return Ok(Box::new(Fetched::start(Arc::clone(repository), blob.clone(), at)));
            }
            Source::Files(Files { contents, lease, path, .. }) => {
                let found = contents.find(&path(blob), lease);
                let found = found.map_err(io::Error::other)?;
                found
                    .ok_or_else(|| io::Error::other(format!("{} is not in it", blob.digest)))?
                    .reader
            }
            Source::Store { lease, .. } => {
                Box::new(lease.store().blob(&blob.digest).map_err(io::Error::other)?)
            }
        };
        // Only uploads that broke are begun in the middle.
        io::copy(&mut (&mut reader).take(at), &mut io::sink())?;
        Ok(reader)
    }
}

fn stored(lease: &Lease, descriptor: &Descriptor) -> Result<Document> {
    let bytes = lease.store().document(descriptor)?;
    Ok(Document { descriptor: descriptor.clone(), bytes })
}

fn blob_path(content: &Descriptor) -> String {
    format!("blobs/{}/{}", content.digest.algorithm().name(), content.digest.hex())
}

/// In a directory of containers/image.
fn plain_path(content: &Descriptor) -> String {
    let hex = content.digest.hex();
    match media_type::is_manifest(&content.media_type) || media_type::is_index(&content.media_type)
    {
        true => format!("{hex}.manifest.json"),
        false => hex.to_owned(),
    }
}

fn open_directory(path: &Path) -> Result<Source> {
    const MANIFEST: &str = "manifest.json";
    let scratch = Scratch::new()?;
    let lease = scratch.store.lease()?;
    let contents = Contents::open(archive::Source::Path(path.into()), &lease, Limits::default())?;
    let bytes = contents.document_required(MANIFEST, &lease)?;
    let wrong = |source| Error::Document { path: MANIFEST.into(), source };
    let media_type = match Index::parse(&bytes) {
        Ok(index) => index.media_type.unwrap_or_else(|| media_type::OCI_INDEX.into()),
        Err(_) => {
            let manifest = Manifest::parse(&bytes).map_err(wrong)?;
            manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.into())
        }
    };
    let root = lease.put_bytes(&media_type, &bytes)?;
    Ok(Source::Files(Files { contents, lease, root, path: plain_path, _store: scratch }))
}

fn open_layout(path: &Path, name: Option<&str>) -> Result<Source> {
    let scratch = Scratch::new()?;
    let lease = scratch.store.lease()?;
    let source = archive::Source::Path(path.to_owned());
    let contents = Contents::open(source, &lease, Limits::default())?;
    let bytes = contents.document_required("index.json", &lease)?;
    let parsed = Index::parse(&bytes);
    let index = parsed.map_err(|source| Error::Document { path: "index.json".into(), source })?;
    let named = |entry: &&Descriptor| match name {
        None => true,
        Some(name) => entry.annotations.get(REF_NAME).is_some_and(|own| own == name),
    };
    let mut found = index.manifests.iter().filter(named);
    let root = match (found.next(), found.next()) {
        (Some(one), None) => one,
        (None, _) => return Err(Error::NoName(name.unwrap_or_default().to_owned())),
        (Some(_), Some(_)) => return Err(Error::ManyNames),
    };
    // What index.json says of it beside digest, size and type is of that file alone.
    let root = Descriptor::new(&root.media_type, root.digest.clone(), root.size);
    if root.size > DOCUMENT_BYTES_MAX {
        return Err(Error::Limit { what: "bytes in a document", limit: DOCUMENT_BYTES_MAX });
    }
    Ok(Source::Files(Files { contents, lease, root, path: blob_path, _store: scratch }))
}

/// Docker's archives may have no manifest: one is written for them, as `load` does.
fn open_docker(path: &Path, name: Option<&Reference>) -> Result<Source> {
    let scratch = Scratch::new()?;
    let lease = scratch.store.lease()?;
    let source = archive::Source::Path(path.to_owned());
    let contents = Contents::open(source, &lease, Limits::default())?;
    let found = layout::find(&contents, &lease, &Platform::host())?;
    let fits = |names: &[Reference]| name.is_none_or(|name| names.contains(name));
    let mut candidates = found.into_iter().filter(|candidate| fits(&candidate.names));
    let candidate = match (candidates.next(), candidates.next()) {
        (Some(one), None) => one,
        (None, _) => return Err(Error::NoName(name.map(Reference::familiar).unwrap_or_default())),
        (Some(_), Some(_)) => return Err(Error::ManyNames),
    };
    let mut layers = Vec::new();
    for (n, (file, diff_id)) in
        candidate.layers.iter().zip(&candidate.config.rootfs.diff_ids).enumerate()
    {
        layers.push(layer::put(&contents, &lease, n, file, diff_id, None)?);
    }
    let root = match candidate.documents {
        Documents::Exact(exact) => exact.manifest,
        Documents::None => load::write_manifest(&lease, &candidate.config_bytes, layers)?,
    };
    Ok(Source::Store { lease, root, _store: Some(scratch) })
}

/// A blob that a thread fetches while it is read.
struct Fetched {
    pieces: Receiver<std::result::Result<Vec<u8>, String>>,
    current: Vec<u8>,
    position: usize,
}

impl Fetched {
    fn start(repository: Arc<Repository>, blob: Descriptor, at: u64) -> Fetched {
        let (sender, pieces) = sync_channel(BUFFERS);
        thread::spawn(move || {
            let fetched = repository.fetch(&blob, at, &mut |bytes| {
                let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
                sender.send(Ok(bytes.to_vec())).map_err(gone)?;
                Ok(())
            });
            if let Err(error) = fetched {
                // Nobody may wait for it any more.
                sender.send(Err(error.to_string())).ok();
            }
        });
        Fetched { pieces, current: Vec::new(), position: 0 }
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            match self.pieces.recv() {
                Ok(Ok(piece)) => (self.current, self.position) = (piece, 0),
                Ok(Err(error)) => return Err(io::Error::other(error)),
                // Its end: the sizes agree, or it would have been an error.
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.current.len() - self.position);
        buffer[..n].copy_from_slice(&self.current[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}
