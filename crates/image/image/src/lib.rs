//! Images: views of manifests and configurations, archives in and out.
//!
//! An [`ImageStore`] joins a content store, which has documents and layers, and a snapshotter,
//! which has them unpacked. An image's ID is the digest of its configuration, as Docker has it;
//! documents and layers are kept byte by byte as they came.
//!
//! | module | subject |
//! |---|---|
//! | `archive` | the files of an archive, a stream or a directory, by path |
//! | `layout` | which images these files are, in three layouts |
//! | `load`, `save` | from there into the store, and back |
//! | `import`, `change` | an image of one tar, and instructions for its configuration |
//! | `pull`, `push`, `watch` | from a registry into the store, and back |
//! | `recompress` | layers in the form in which they travel |
//! | `copy` | from any place to any other, without the store |
//! | `list`, `artifact` | lists of images for several platforms, and what is no image |
//! | `names` | what names of the content store mean |
//! | `store`, `remove`, `inspect` | finding, naming, removing and showing |
//!
//! ```no_run
//! use hako_image::{ImageStore, LoadOptions, SaveOptions, Source};
//!
//! fn show(images: &ImageStore) -> hako_image::Result<()> {
//!     images.load(Source::Path("alpine.tar.gz".into()), &LoadOptions::default())?;
//!     let image = images.resolve("alpine:3.10")?;
//!     println!("{} {:?}", image.id(), image.config().config);
//!     images.save(&["alpine:3.10"], &SaveOptions::default(), std::io::stdout())
//! }
//! ```

#![forbid(unsafe_code)]

mod archive;
mod artifact;
mod change;
mod copy;
mod error;
mod image;
mod import;
mod inspect;
mod layer;
mod layout;
mod list;
mod load;
mod make;
mod names;
mod progress;
mod pull;
mod push;
mod recompress;
mod remove;
mod save;
mod store;
mod storing;
mod time;
mod verify;
mod watch;

pub use crate::{
    archive::{Limits, Source},
    artifact::{Artifact, ArtifactFile, NewArtifact},
    change::change,
    copy::{Copier, CopyOptions, Place},
    error::Error,
    image::Image,
    import::ImportOptions,
    inspect::Summary,
    list::{Annotate, ListPush, Member},
    load::{LoadOptions, Loaded},
    make::NewImage,
    progress::{LayerProgress, Progress},
    pull::{PullOptions, Pulled},
    push::{PushOptions, PushedImage},
    recompress::Travel,
    remove::{Conflict, User, Users},
    save::{SaveFormat, SaveOptions},
    store::ImageStore,
    time::{rfc3339, unix_seconds},
    watch::{Silent, Step, Watch},
};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
