//! Makes image archives in every layout that hako reads; any byte of them can be replaced.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::{
    archive::{Entry, gzip, sha256, tar},
    binary, bundle, sandbox,
};

/// An image that is being made.
#[derive(Debug, Clone)]
pub struct Image {
    /// Uncompressed layer tars, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// The `config` part of its configuration.
    pub config: Value,
    /// Names, as `name:tag`.
    pub names: Vec<String>,
    /// Whether layers are kept compressed.
    pub gzip: bool,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What it says that it runs on.
    pub architecture: String,
}

/// The files of an archive, in order.
pub type Files = Vec<(String, Vec<u8>)>;

impl Image {
    /// An image of these layers.
    pub fn new(name: &str, layers: Vec<Vec<u8>>) -> Self {
        let config = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        });
        let created = "2020-01-01T00:00:00Z".to_owned();
        let architecture = architecture().to_owned();
        Self { layers, config, names: vec![name.to_owned()], gzip: false, created, architecture }
    }

    /// An image with a busybox userland, users `root`, `nobody` (65534) and `app` (1000:1000).
    pub fn busybox(name: &str) -> Self {
        Self::new(name, vec![busybox_layer()])
    }

    /// The image configuration, as bytes.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> =
            self.layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        let history: Vec<Value> =
            diff_ids.iter().map(|_| json!({"created_by": "hako-tests"})).collect();
        let document = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": self.created,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        document.to_string().into_bytes()
    }

    /// The image's ID.
    pub fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.configuration()))
    }

    fn blobs(&self) -> Vec<Vec<u8>> {
        self.layers
            .iter()
            .map(|layer| if self.gzip { gzip(layer) } else { layer.clone() })
            .collect()
    }

    /// What `docker save` wrote before version 25: one directory for each layer.
    pub fn docker_archive(&self) -> Files {
        let mut files = Files::new();
        let mut layers = Vec::new();
        for blob in self.blobs() {
            let directory = sha256(&blob);
            files.push((format!("{directory}/VERSION"), b"1.0".to_vec()));
            files.push((format!("{directory}/layer.tar"), blob));
            layers.push(format!("{directory}/layer.tar"));
        }
        let configuration = self.configuration();
        let config = format!("{}.json", sha256(&configuration));
        files.push((config.clone(), configuration));
        let manifest = json!([{"Config": config, "RepoTags": self.names, "Layers": layers}]);
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        files
    }

    /// An OCI image layout.
    pub fn oci_layout(&self) -> Files {
        let mut files =
            vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut add = |bytes: Vec<u8>, media_type: &str| {
            let hex = sha256(&bytes);
            let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()});
            files.push((format!("blobs/sha256/{hex}"), bytes));
            descriptor
        };
        let layer_type = match self.gzip {
            true => "application/vnd.oci.image.layer.v1.tar+gzip",
            false => "application/vnd.oci.image.layer.v1.tar",
        };
        let layers: Vec<Value> =
            self.blobs().into_iter().map(|blob| add(blob, layer_type)).collect();
        let config = add(self.configuration(), "application/vnd.oci.image.config.v1+json");
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers});
        let mut descriptor = add(manifest.to_string().into_bytes(), manifest_type);
        if let Some(name) = self.names.first() {
            descriptor["annotations"] = json!({
                "io.containerd.image.name": format!("docker.io/library/{name}"),
                "org.opencontainers.image.ref.name": name,
            });
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files
    }

    /// What `docker save` writes since version 25: an OCI layout with a `manifest.json` beside it.
    pub fn combined_archive(&self) -> Files {
        let mut files = self.oci_layout();
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
        let layers: Vec<String> = self.blobs().iter().map(|bytes| blob(bytes)).collect();
        let config = blob(&self.configuration());
        let manifest = json!([{"Config": config, "RepoTags": self.names, "Layers": layers}]);
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        files
    }
}

/// Packs files as a tar.
pub fn pack(files: &Files) -> Vec<u8> {
    let entries: Vec<Entry> =
        files.iter().map(|(name, data)| Entry::file(name, 0o644, data.clone())).collect();
    tar(&entries)
}

/// Writes files below a directory.
pub fn unpack(files: &Files, directory: &Path) {
    for (name, data) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a file has a parent"))
            .expect("a test's own directory");
        fs::write(path, data).expect("a test's own file");
    }
}

/// This machine's architecture, as image configurations name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The layer of [`Image::busybox`].
pub fn busybox_layer() -> Vec<u8> {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    let program = binary::busybox();
    LAYER
        .get_or_init(|| {
            let mut entries: Vec<Entry> = bundle::DIRECTORIES
                .iter()
                .map(|(name, mode)| Entry::directory(&format!("{name}/"), *mode))
                .collect();
            for (name, content) in bundle::FILES {
                entries.push(Entry::file(name, 0o644, *content));
            }
            entries.push(Entry::file(
                "bin/busybox",
                0o755,
                fs::read(&program).expect("busybox can be read"),
            ));
            for applet in bundle::APPLETS {
                entries.push(Entry::symlink(&format!("bin/{applet}"), "busybox"));
            }
            tar(&entries)
        })
        .clone()
}

/// The path of a docker archive of `busybox:test`, made once in a run.
pub fn busybox_archive() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let layer = busybox_layer();
    MADE.get_or_init(|| {
        let directory = sandbox::shared();
        let path = directory.join("busybox.tar");
        fs::write(&path, pack(&Image::new("busybox:test", vec![layer]).docker_archive()))
            .expect("the same");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("our own file");
        path
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_leads_to_every_blob() {
        let image = Image::new("a:b", vec![tar(&[Entry::file("f", 0o644, "x")])]);
        let files = image.oci_layout();
        let get = |name: &str| &files.iter().find(|(file, _)| file == name).expect("it is there").1;
        let index: Value = serde_json::from_slice(get("index.json")).expect("JSON");
        let digest =
            index["manifests"][0]["digest"].as_str().expect("a digest").replace("sha256:", "");
        let manifest: Value =
            serde_json::from_slice(get(&format!("blobs/sha256/{digest}"))).expect("JSON");
        assert_eq!(manifest["config"]["digest"], image.id());
    }
}
