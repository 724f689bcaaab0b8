//! Assembles `hako:tour`: one layer, its configuration and manifest, in an archive that is both
//! an OCI layout and what `docker load` takes. The same program gives the same bytes.

use std::collections::BTreeMap;

use hako_oci::{
    Descriptor, Digest,
    image::{ContainerConfig, History, ImageConfig, Index, Layout, Manifest, RootFs},
    media_type,
};
use hako_tar::{Header, Kind, Writer};
use serde_json::{Map, json};

#[path = "../../../guest/tour/src/names.rs"]
mod names;

/// What people type.
const FAMILIAR: &str = "hako:tour";
/// Made at no particular time, so that the image depends on its content alone.
const CREATED: &str = "1970-01-01T00:00:00Z";

const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/tour\nguest:x:1000:1000:guest:/home/guest:/bin/tour\n\
         nobody:x:65534:65534:nobody:/:/bin/tour\n",
    ),
    ("etc/group", "root:x:0:\nguest:x:1000:\nvideo:x:44:guest\nnogroup:x:65534:\n"),
    ("etc/os-release", "NAME=\"hako tour\"\nID=hako-tour\nPRETTY_NAME=\"hako tour\"\n"),
];

/// The image.
pub(crate) struct Image {
    /// The archive, a tar.
    pub(crate) archive: Vec<u8>,
    /// The digest of its configuration: its ID.
    pub(crate) id: Digest,
}

/// Makes the image around `program`.
pub(crate) fn assemble(program: &[u8], architecture: &str) -> Result<Image, String> {
    let layer = layer(program).map_err(|e| format!("layer of {FAMILIAR}: {e}"))?;
    let config = to_json(&config(architecture, Digest::sha256(&layer)))?;
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let layer_descriptor = Descriptor::of(media_type::OCI_LAYER, &layer);
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config: config_descriptor.clone(),
        layers: vec![layer_descriptor.clone()],
        subject: None,
        annotations: BTreeMap::new(),
        extra: Map::new(),
    })?;
    let mut manifest_descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    manifest_descriptor.annotations = BTreeMap::from([
        ("io.containerd.image.name".into(), format!("docker.io/library/{FAMILIAR}")),
        ("org.opencontainers.image.ref.name".into(), "tour".into()),
    ]);
    let index = to_json(&Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        artifact_type: None,
        manifests: vec![manifest_descriptor.clone()],
        subject: None,
        annotations: BTreeMap::new(),
        extra: Map::new(),
    })?;
    let docker = to_json(&json!([{
        "Config": blob_path(&config_descriptor.digest),
        "RepoTags": [FAMILIAR],
        "Layers": [blob_path(&layer_descriptor.digest)],
    }]))?;
    let layout = to_json(&Layout { image_layout_version: "1.0.0".into() })?;

    let archive = tar(&[
        file("oci-layout", 0o644, &layout),
        file("index.json", 0o644, &index),
        file("manifest.json", 0o644, &docker),
        directory("blobs", 0o755),
        directory("blobs/sha256", 0o755),
        file(&blob_path(&manifest_descriptor.digest), 0o644, &manifest),
        file(&blob_path(&config_descriptor.digest), 0o644, &config),
        file(&blob_path(&layer_descriptor.digest), 0o644, &layer),
    ]);
    let archive = archive.map_err(|e| format!("archive of {FAMILIAR}: {e}"))?;
    Ok(Image { archive, id: config_descriptor.digest })
}

fn config(architecture: &str, diff_id: Digest) -> ImageConfig {
    ImageConfig {
        created: Some(CREATED.into()),
        architecture: architecture.into(),
        os: "linux".into(),
        config: Some(ContainerConfig {
            env: vec!["PATH=/bin".into()],
            cmd: Some(vec!["tour".into()]),
            working_dir: "/".into(),
            ..ContainerConfig::default()
        }),
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        history: vec![History {
            created: Some(CREATED.into()),
            created_by: Some("hako: the program guest/tour".into()),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

fn layer(program: &[u8]) -> Result<Vec<u8>, hako_tar::Error> {
    let mut entries = vec![
        directory("bin", 0o755),
        file("bin/tour", 0o755, program),
        directory("etc", 0o755),
        directory("home", 0o755),
        directory("root", 0o700),
        directory("tmp", 0o1777),
    ];
    entries.extend(FILES.iter().map(|(path, text)| file(path, 0o644, text.as_bytes())));
    entries.extend(names::NAMES.iter().map(|name| {
        let mut header = Header::new(format!("bin/{name}"), Kind::Symlink, 0o777);
        header.link = b"tour".to_vec();
        (header, &[][..])
    }));
    entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    tar(&entries)
}

type Entry<'a> = (Header, &'a [u8]);

fn directory(path: &str, mode: u32) -> Entry<'static> {
    (Header::new(path, Kind::Directory, mode), &[])
}

fn file<'a>(path: &str, mode: u32, content: &'a [u8]) -> Entry<'a> {
    let mut header = Header::new(path, Kind::File, mode);
    header.size = content.len() as u64;
    (header, content)
}

fn tar(entries: &[Entry<'_>]) -> Result<Vec<u8>, hako_tar::Error> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.append(header, *content)?;
    }
    writer.finish()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(document).map_err(|e| format!("JSON of {FAMILIAR}: {e}"))
}
