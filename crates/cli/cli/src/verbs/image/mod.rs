//! Verbs about images in the store.

mod archive;
mod filter;
mod history;
mod list;
mod remove;

use hako_oci::Platform;

pub(super) use self::{
    archive::{IMPORT, LOAD, SAVE, write_file},
    history::HISTORY,
    list::IMAGES,
    remove::{PRUNE, REMOVE, TAG, UNTAG, VERIFY, confirmed},
};

/// The value of `--platform`.
pub(super) fn platform(value: &str) -> Result<Platform, String> {
    value.parse().map_err(|e: hako_oci::platform::Error| e.to_string())
}
