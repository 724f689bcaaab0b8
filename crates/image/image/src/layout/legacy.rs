//! The oldest layout: one directory a layer, with `json`, `layer.tar` and `VERSION`, and tags in
//! `repositories`. There are no configurations, so they are made from the `json`s, byte by byte as
//! Docker makes them: an image's ID is their digest.

use std::collections::{BTreeMap, BTreeSet};

use hako_content::Lease;
use hako_docker::{archive::parse_repositories, v1};
use hako_oci::{Digest, Reference, media_type};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Candidate, Documents, LayerFile, go_json};
use crate::{Error, Result, archive::Contents, layer};

/// Before this version, Docker took only the fields of `json` that it knew.
const KEEPS_FIELDS_SINCE: [u64; 3] = [1, 8, 3];
/// Fields of `json` that are none of a configuration.
const NOT_CONFIG: &[&str] = &["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];
/// What Go writes for no time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// One layer directory, with all beneath it.
#[derive(Debug, Clone)]
struct Layer {
    parent: Option<String>,
    config: Vec<u8>,
    /// Lowest first.
    files: Vec<LayerFile>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
}

/// A step of the history, as Docker's loader of this layout writes it.
#[derive(Debug, Clone, Serialize)]
struct History {
    created: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
}

/// The layers of a configuration.
#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: &'a [Digest],
}

pub(super) fn find(contents: &Contents, lease: &Lease, bytes: &[u8]) -> Result<Vec<Candidate>> {
    let mut layers = BTreeMap::new();
    for id in contents.top_directories()? {
        load(contents, lease, &id, &mut layers)?;
    }
    let mut names: BTreeMap<&str, Vec<Reference>> = BTreeMap::new();
    let repositories = parse_repositories(bytes)?;
    for (repository, tags) in &repositories {
        for (tag, id) in tags {
            if !layers.contains_key(id) {
                return Err(Error::LegacyTarget(id.clone()));
            }
            let name = format!("{repository}:{tag}");
            let reference: Reference = name.parse().map_err(|_| Error::Tag(name.clone()))?;
            names.entry(id).or_default().push(reference);
        }
    }
    // A layer that others stand on is an image only if it has a name.
    let parents: BTreeSet<&String> = layers.values().filter_map(|l| l.parent.as_ref()).collect();
    let images =
        layers.iter().filter(|(id, _)| !parents.contains(id) || names.contains_key(id.as_str()));
    images
        .map(|(id, layer)| {
            let names = names.get(id.as_str()).cloned().unwrap_or_default();
            let (config, files) = (layer.config.clone(), layer.files.clone());
            Candidate::new(names, &format!("{id}/json"), config, files, Documents::None)
        })
        .collect()
}

/// Reads a layer directory, after those it stands on.
fn load(
    contents: &Contents,
    lease: &Lease,
    id: &str,
    layers: &mut BTreeMap<String, Layer>,
) -> Result<()> {
    // Not by recursion: the depth is the archive's to choose.
    let mut stack: Vec<(String, Vec<u8>, v1::Image)> = Vec::new();
    let mut next = Some(id.to_owned());
    while let Some(id) = next.take() {
        if layers.contains_key(&id) {
            break;
        }
        if stack.iter().any(|(above, ..)| *above == id) {
            return Err(Error::LegacyCycle(id));
        }
        let path = format!("{id}/json");
        let json = contents.document_required(&path, lease)?;
        let image: v1::Image =
            serde_json::from_slice(&json).map_err(|source| Error::Json { path, source })?;
        next = (!image.parent.is_empty()).then(|| image.parent.clone());
        stack.push((id, json, image));
    }
    while let Some((id, json, image)) = stack.pop() {
        let layer = make(contents, lease, &id, &json, image, layers)?;
        layers.insert(id, layer);
    }
    Ok(())
}

fn make(
    contents: &Contents,
    lease: &Lease,
    id: &str,
    json: &[u8],
    image: v1::Image,
    layers: &BTreeMap<String, Layer>,
) -> Result<Layer> {
    let parent = (!image.parent.is_empty()).then(|| image.parent.clone());
    let below = parent.as_ref().and_then(|parent| layers.get(parent));
    let (mut files, mut diff_ids, mut history) = match below {
        Some(below) => (below.files.clone(), below.diff_ids.clone(), below.history.clone()),
        None => Default::default(),
    };
    let path = format!("{id}/layer.tar");
    // Nothing says what the layer must be, so it says so itself.
    let tar = layer::put_plain(contents, lease, &path)?;
    diff_ids.push(tar.digest.clone());
    debug_assert_eq!(tar.media_type, media_type::OCI_LAYER);
    files.push(LayerFile { path, descriptor: Some(tar) });
    history.push(History {
        created: created(&image),
        author: image.author.clone(),
        created_by: image.container_config.cmd.clone().unwrap_or_default().join(" "),
        comment: image.comment.clone(),
    });
    let config = config(id, json, image, &diff_ids, &history)?;
    Ok(Layer { parent, config, files, diff_ids, history })
}

/// The configuration that Docker makes of a `json`.
fn config(
    id: &str,
    json: &[u8],
    mut image: v1::Image,
    diff_ids: &[Digest],
    history: &[History],
) -> Result<Vec<u8>> {
    let failed = |source| Error::Json { path: format!("{id}/json"), source };
    let known_only;
    let json = if go_json::version(&image.docker_version) < KEEPS_FIELDS_SINCE {
        image.created = Some(created(&image));
        known_only = serde_json::to_vec(&image).map_err(failed)?;
        &known_only
    } else {
        json
    };
    // Go's maps are written in the order of their keys, as ours is.
    let mut fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(json).map_err(failed)?;
    for field in NOT_CONFIG {
        fields.remove(*field);
    }
    let rootfs = RootFs { kind: "layers", diff_ids };
    fields.insert("rootfs".into(), serde_json::value::to_raw_value(&rootfs).map_err(failed)?);
    fields.insert("history".into(), serde_json::value::to_raw_value(history).map_err(failed)?);
    Ok(go_json::compact(&serde_json::to_vec(&fields).map_err(failed)?))
}

fn created(image: &v1::Image) -> String {
    match &image.created {
        Some(time) => go_json::time(time),
        None => NO_TIME.into(),
    }
}
