//! What can go wrong with images. Where Docker has a text for it, it is Docker's.

use std::{fmt::Display, io, path::PathBuf};

use hako_oci::{Digest, Platform};

use crate::remove::Conflict;

/// A failure of an operation on images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive or directory cannot be opened.
    #[error("open {path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be read on.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The archive is no tar, or a damaged or hostile one.
    #[error("invalid archive: {0}")]
    Tar(#[from] hako_tar::Error),
    /// A name that leads out of the archive.
    #[error("invalid archive: entry \"{}\" has a name that leads out of it", shown(.0))]
    EntryName(String),
    /// More of something than is believed.
    #[error("invalid archive: more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A file that another refers to is missing.
    #[error("invalid archive: {} is not in it", shown(path))]
    MissingEntry {
        /// Which.
        path: String,
    },
    /// Links that lead round, or one that is longer than any.
    #[error("invalid archive: too many links in {}", shown(path))]
    Links {
        /// Which path.
        path: String,
    },
    /// Neither of the three layouts.
    #[error(
        "no images in it: neither manifest.json nor index.json nor repositories is there \
         (was it made by `export` rather than `save`?)"
    )]
    NoLayout,
    /// A version of the OCI layout that nobody has defined.
    #[error("oci-layout: unsupported version \"{}\", want \"1.0.0\"", shown(.0))]
    LayoutVersion(String),
    /// A document of the archive is no JSON, or not the right one.
    #[error("{}: {}", shown(path), shown(source))]
    Json {
        /// Which.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// One of Docker's documents is invalid.
    #[error("{}", shown(.0))]
    Docker(#[from] hako_docker::archive::Error),
    /// One of OCI's documents is invalid.
    #[error("{}: {}", shown(path), shown(source))]
    Document {
        /// Which.
        path: String,
        /// Why.
        source: hako_oci::image::Error,
    },
    /// The configuration has no layers, as nothing that a container can run in has.
    #[error("{}: invalid image JSON, no RootFS key", shown(.0))]
    NoRootFs(String),
    /// Manifest and configuration do not have as many layers.
    #[error("invalid manifest, layers length mismatch: expected {layers}, got {diff_ids}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the configuration.
        diff_ids: usize,
    },
    /// A layer is not what the configuration says.
    #[error("invalid diffID for layer {index}: expected \"{expected}\", got \"{actual}\"")]
    DiffId {
        /// Which layer, the lowest is 0.
        index: usize,
        /// What the configuration says.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A layer of a type that cannot be unpacked.
    #[error("layer {digest}: unsupported media type \"{}\"", shown(media_type))]
    LayerType {
        /// Which layer.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// What was taken for an image is something else, as a chart or a signature.
    #[error("{digest} is not an image: its configuration is of type \"{}\"", shown(media_type))]
    NotAnImage {
        /// The manifest.
        digest: Digest,
        /// Type of its configuration.
        media_type: String,
    },
    /// An image that this kernel cannot run.
    #[error("cannot load {} image on linux", shown(os))]
    Os {
        /// What it is for.
        os: String,
    },
    /// An index without an image for the platform at hand.
    #[error("no image for platform {wanted}; there is {}", list(found))]
    Platform {
        /// What was looked for.
        wanted: Box<Platform>,
        /// What there is.
        found: Vec<Platform>,
    },
    /// Indexes within indexes.
    #[error("index {0} is nested too deeply")]
    IndexDepth(Digest),
    /// A name in an archive that is none, or that has no tag.
    #[error("invalid tag \"{}\"", shown(.0))]
    Tag(String),
    /// `repositories` names a layer that is not there.
    #[error("invalid target ID: {}", shown(.0))]
    LegacyTarget(String),
    /// Layers of the oldest layout that are each other's parents.
    #[error("layer {} is its own ancestor", shown(.0))]
    LegacyCycle(String),
    /// A name that follows no grammar.
    #[error("{0}")]
    Reference(#[from] hako_oci::reference::Error),
    /// No such image.
    #[error("No such image: {0}")]
    NotFound(String),
    /// A beginning of more than one ID.
    #[error("image ID {prefix} is ambiguous: it begins {}", begins(ids))]
    AmbiguousId {
        /// What was asked for.
        prefix: String,
        /// What there is.
        ids: Vec<Digest>,
    },
    /// The image is in use, or has more names.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// Which containers use an image could not be told, so it stays.
    #[error("cannot tell which containers use image {id}: {source}")]
    Users {
        /// The image.
        id: Digest,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is in the store contradicts itself.
    #[error("image {name} is damaged: {why}")]
    Damaged {
        /// Which name of it.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// What was to be written could not be.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// The content store failed.
    #[error(transparent)]
    Content(#[from] hako_content::Error),
    /// The snapshots failed.
    #[error(transparent)]
    Snapshot(#[from] hako_snapshot::Error),
    /// A registry failed.
    #[error(transparent)]
    Remote(Box<hako_remote::Error>),
    /// A layer could not be compressed.
    #[error("compressing layer {digest}: {source}")]
    Compress {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Not all that a name stands for is here.
    #[error(
        "{name} stands for several images, and not all of them are here: {digest} is missing; \
         pull it with --platform, or push one with --platform"
    )]
    Incomplete {
        /// The name.
        name: String,
        /// What is missing.
        digest: Digest,
    },
    /// Referrers are a registry's.
    #[error("--referrers needs registries on both sides: docker://NAME docker://NAME")]
    Referrers,
    /// No such artifact.
    #[error("{0}: artifact does not exist")]
    NoArtifact(String),
    /// An artifact has the name already.
    #[error(
        "{0}: artifact already exists (add to it with --append, or make it anew with --replace)"
    )]
    ArtifactExists(String),
    /// What was taken for an artifact is a list of images.
    #[error("{0} is a list of images, no artifact")]
    NotAnArtifact(String),
    /// Two files of an artifact would have one name.
    #[error("{name}: file {:?} already exists in it", shown(title))]
    ArtifactFile {
        /// The artifact.
        name: String,
        /// The file's title.
        title: String,
    },
    /// No file of an artifact is the one that was asked for.
    #[error("{name}: there is no file {:?} in it", shown(title))]
    ArtifactNoFile {
        /// The artifact.
        name: String,
        /// Title or digest that was looked for.
        title: String,
    },
    /// Several files, and no directory for them.
    #[error("the artifact has several files: {0} must be a directory")]
    ArtifactDirectory(PathBuf),
    /// No such list of images.
    #[error("No such manifest: {0}")]
    NoList(String),
    /// A list has the name already.
    #[error("refusing to amend an existing manifest list with no --amend flag")]
    ListExists,
    /// Something that is not in a list.
    #[error("manifest for image {image} does not exist in {list}")]
    NoMember {
        /// What was looked for.
        image: String,
        /// Where.
        list: String,
    },
    /// A list was changed by others again and again.
    #[error("{0}: others change this list all the time")]
    ListBusy(String),
    /// An instruction that `--change` does not take.
    #[error("{}: {}", shown(change), shown(why))]
    Change {
        /// As it was written.
        change: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image is here, but not for the platform that was asked for.
    #[error(
        "image with reference {name} was found but does not provide the specified platform ({wanted})"
    )]
    OtherPlatform {
        /// As it was asked for.
        name: String,
        /// What was looked for.
        wanted: Box<Platform>,
    },
    /// A kind of place that images cannot be copied from or to.
    #[error(
        "\"{0}\" is no place for an image: want docker://NAME, oci:DIRECTORY, oci-archive:FILE, \
         docker-archive:FILE, dir:DIRECTORY, or a name in the store"
    )]
    Transport(String),
    /// A name that an archive or a layout does not have.
    #[error("there is no image {:?} in it", shown(.0))]
    NoName(String),
    /// Several images where one was meant.
    #[error("there are several images in it: say which one, behind a colon")]
    ManyNames,
    /// A tag to push that nothing has.
    #[error("An image does not exist locally with the tag: {0}")]
    NoTag(String),
    /// A file of a layout directory.
    #[error(transparent)]
    Root(#[from] hako_root::Error),
}

impl From<hako_remote::Error> for Error {
    /// What the content store said to bytes from a registry is its own error again.
    fn from(error: hako_remote::Error) -> Error {
        match error {
            hako_remote::Error::Content(inner) => match inner.downcast::<hako_content::Error>() {
                Ok(inner) => Error::Content(*inner),
                Err(inner) => Error::Remote(Box::new(hako_remote::Error::Content(inner))),
            },
            error => Error::Remote(Box::new(error)),
        }
    }
}

/// How much of a text from an archive an error shows.
const SHOWN_CHARS_MAX: usize = 300;

/// A text that an archive chose, as it may be shown: not endless, and nothing for the terminal.
fn shown(text: impl Display) -> String {
    let mut shown = String::new();
    let text = text.to_string();
    let mut chars = text.chars();
    for c in chars.by_ref().take(SHOWN_CHARS_MAX) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none at all".into(),
        some => shown(some.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn begins(ids: &[Digest]) -> String {
    ids.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_archives_are_shown_short_and_plain() {
        assert_eq!(Error::Tag("a:1".into()).to_string(), "invalid tag \"a:1\"");
        let path = "\u{1b}[2J\n\u{9b}x".into();
        let text = Error::MissingEntry { path }.to_string();
        assert_eq!(text, "invalid archive: \\u{1b}[2J\\n\\u{9b}x is not in it");
        let long = Error::Tag("é".repeat(10 << 20)).to_string();
        assert!(long.len() < 1000 && long.ends_with("…\""), "{}", long.len());
    }
}
