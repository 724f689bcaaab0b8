//! A registry over a store: of images that were pushed to it, beside those of hako itself.

use std::{path::Path, sync::Arc};

use hako_content::Store;
use hako_db::Db;
pub use hako_registry::{Ages, Log, Options, Tokens, Upstream};

use crate::{Result, places};

/// Serves the store in `root` until SIGTERM or SIGINT, and makes it where it is absent.
///
/// This is no [`Engine`](crate::Engine): nothing of containers is opened or made.
pub fn serve(root: &Path, options: Options, log: Log) -> Result<()> {
    places::private_dirs(root)?;
    let db = Arc::new(Db::open(&root.join("hako.db"))?);
    let store = Store::open(&root.join("content"), db)?;
    store.sweep()?;
    Ok(hako_registry::serve(&store, options, log)?)
}
