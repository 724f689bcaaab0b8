//! A registry over a store: of images that were pushed to it, beside those of hako itself.

use std::{path::Path, sync::Arc};

use hako_content::Store;
use hako_db::Db;
pub use hako_registry::{Ages, Collected, Log, Options, Tokens, Upstream};

use crate::{Result, places};

/// Serves the store in `root` until SIGTERM or SIGINT, and makes it where it is absent.
///
/// This is no [`Engine`](crate::Engine): nothing of containers is opened or made.
pub fn serve(root: &Path, options: Options, log: Log) -> Result<()> {
    Ok(hako_registry::serve(&open(root)?, options, log)?)
}

/// Collects what no manifest of the registry in `root` names, and all other garbage; beside a server
/// of it, if there is one.
pub fn collect(root: &Path, ages: Ages) -> Result<Collected> {
    Ok(hako_registry::collect(&open(root)?, ages).map_err(hako_registry::Error::from)?)
}

/// What [`collect`] would remove now.
pub fn would_collect(root: &Path, ages: Ages) -> Result<Collected> {
    Ok(hako_registry::would_collect(&open(root)?, ages).map_err(hako_registry::Error::from)?)
}

fn open(root: &Path) -> Result<Store> {
    places::private_dirs(root)?;
    let db = Arc::new(Db::open(&root.join("hako.db"))?);
    let store = Store::open(&root.join("content"), db)?;
    store.sweep()?;
    Ok(store)
}
