//! What tests of images need: a store of their own, the shared archives, and archives made by hand.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hako_db::Db;
use hako_image::{Error, ImageStore, LoadOptions, Loaded, Source};
use hako_oci::Digest;
use hako_snapshot::Overlay;
use hako_tar::{Header, Kind, Writer};

/// A store in a directory of its own.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) images: ImageStore,
}

pub(crate) fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    Place { dir, images }
}

pub(crate) fn open(dir: &Path) -> ImageStore {
    let db = Arc::new(Db::open(&dir.join("hako.db")).unwrap());
    let content = hako_content::Store::open(&dir.join("content"), db).unwrap();
    let snapshots = dir.join("snapshots");
    fs::create_dir_all(&snapshots).unwrap();
    ImageStore::new(content, Arc::new(Overlay::open(&snapshots).unwrap()))
}

impl Place {
    pub(crate) fn load(&self, path: &Path) -> Result<Vec<Loaded>, Error> {
        self.images.load(Source::Path(path.into()), &options())
    }

    pub(crate) fn load_stream(&self, bytes: Vec<u8>) -> Result<Vec<Loaded>, Error> {
        self.images.load(Source::Stream(Box::new(std::io::Cursor::new(bytes))), &options())
    }

    /// Nothing is there but what images need.
    pub(crate) fn assert_tidy(&self, blobs: usize) {
        for part in ["content/ingest", "content/leases", "content/trash"] {
            assert_eq!(names(&self.dir.path().join(part)), Vec::<String>::new(), "{part}");
        }
        let found = names(&self.dir.path().join("content/blobs/sha256"));
        assert_eq!(found.len(), blobs, "{found:?}");
    }

    pub(crate) fn layers(&self) -> usize {
        names(&self.dir.path().join("snapshots/layers")).len()
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// How tests load.
pub(crate) fn options() -> LoadOptions {
    LoadOptions::default()
}

/// The shared test data, `None` with a line that says so where it is absent.
pub(crate) fn data(test: &str, part: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("HAKO_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data"),
    };
    let path = root.join(part);
    if !path.exists() {
        eprintln!("SKIP {test}: no {} (set HAKO_TEST_DATA)", path.display());
        return None;
    }
    Some(path)
}

/// One entry of a tar made by hand.
pub(crate) enum Make {
    File(String, Vec<u8>),
    Symlink(String, String),
    HardLink(String, String),
}

pub(crate) fn file(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Make {
    Make::File(path.into(), content.into())
}

pub(crate) fn tar(entries: &[Make]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let (mut header, content): (Header, &[u8]) = match entry {
            Make::File(path, content) => (Header::new(path.as_str(), Kind::File, 0o644), content),
            Make::Symlink(path, link) => {
                let mut header = Header::new(path.as_str(), Kind::Symlink, 0o777);
                header.link = link.clone().into();
                (header, &[])
            }
            Make::HardLink(path, link) => {
                let mut header = Header::new(path.as_str(), Kind::HardLink, 0o777);
                header.link = link.clone().into();
                (header, &[])
            }
        };
        header.size = content.len() as u64;
        writer.append(&header, content).unwrap();
    }
    writer.finish().unwrap()
}

/// A layer with one file.
pub(crate) fn layer(name: &str) -> Vec<u8> {
    tar(&[file(name, format!("content of {name}"))])
}

/// A configuration of these layers.
pub(crate) fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::sha256(layer)).collect();
    serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/a"] },
        "created": "2020-01-23T16:53:06Z",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [{ "created": "2020-01-23T16:53:06Z", "created_by": "made by hand" }],
    })
    .to_string()
    .into_bytes()
}

/// A docker-archive of one image, `manifest.json` first.
pub(crate) fn docker_archive(name: &str, layers: &[&[u8]]) -> Vec<Make> {
    let paths: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [name], "Layers": paths },
    ]);
    let mut entries =
        vec![file("manifest.json", manifest.to_string()), file("config.json", config(layers))];
    entries.extend(paths.into_iter().zip(layers).map(|(path, layer)| file(path, *layer)));
    entries
}
