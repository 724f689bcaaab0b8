//! The configuration of an image that was made of packages.

use std::collections::BTreeMap;

use hako_assemble::{Style, Unpacked};
use hako_deb::Selection;
use hako_monitor::time::Timestamp;
use hako_oci::image::{ContainerConfig, History, ImageConfig, RootFs};

use super::{PackagesName, PackagesRequest, Parts, shown};
use crate::Result;

/// What a user wants of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigChanges {
    /// What is executed.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the command.
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`, in the order in which they were given.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// User and group.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<String>,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where OpenSSL looks only if it is said, in an image without its program.
const CERTIFICATES: &str = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";
const SHELL: &str = "bash";
/// The annotations of the OCI Image Specification, as labels.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const VERSION: &str = "org.opencontainers.image.version";

/// The configuration's bytes.
pub(super) fn config(
    request: &PackagesRequest,
    selection: &Selection,
    created: &str,
    parts: &Parts,
) -> Result<Vec<u8>> {
    let platform = hako_deb::platform_of(&selection.architecture)?;
    let is_full = request.variant.style() == Style::Dpkg;
    let mut env = vec![PATH.to_owned()];
    if !is_full {
        env.push(CERTIFICATES.to_owned());
    }
    for change in &request.config.env {
        let name = change.split('=').next().unwrap_or(change);
        env.retain(|one| one.split('=').next() != Some(name));
        env.push(change.clone());
    }
    let mut labels = BTreeMap::from([
        (REF_NAME.to_owned(), name(request).to_string()),
        (VERSION.to_owned(), selection.suite.clone()),
    ]);
    labels.extend(request.config.labels.clone());
    let changes = &request.config;
    // As in Docker: who says what is executed does not get another's arguments.
    let shell = || vec![SHELL.to_owned()];
    let default = (is_full && changes.entrypoint.is_none()).then(shell);
    let container = ContainerConfig {
        user: changes.user.clone().unwrap_or_default(),
        env,
        entrypoint: changes.entrypoint.clone(),
        cmd: changes.cmd.clone().or(default),
        working_dir: changes.workdir.clone().unwrap_or_else(|| "/".into()),
        labels,
        ..ContainerConfig::default()
    };
    let image = ImageConfig {
        created: Some(created.to_owned()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(container),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: parts.layers.iter().map(|layer| layer.digest.clone()).collect(),
        },
        history: parts.history.clone(),
        ..ImageConfig::default()
    };
    serde_json::to_vec(&image).map_err(|source| crate::Error::Record { id: created.into(), source })
}

/// What was asked for, as a name.
pub(super) fn name(request: &PackagesRequest) -> PackagesName {
    let mut include = request.include.clone();
    include.sort_by_key(ToString::to_string);
    include.dedup();
    let variant = Some(request.variant).filter(|v| *v != super::Variant::default_for(&include));
    PackagesName { suite: request.suite.clone(), variant, include }
}

/// The step that made a layer of packages.
pub(super) fn history<'a>(
    created: &str,
    group: &str,
    packages: impl Iterator<Item = &'a Unpacked>,
) -> History {
    let packages: Vec<String> = packages.map(shown).collect();
    History {
        created: Some(created.to_owned()),
        created_by: Some(format!("hako image from-packages # {}", packages.join(", "))),
        comment: Some(group.to_owned()),
        ..History::default()
    }
}

/// A moment as images have it.
pub(super) fn rfc3339(seconds: i64) -> String {
    Timestamp { seconds, nanoseconds: 0 }.to_string()
}
