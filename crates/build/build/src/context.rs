//! The context: a directory of the host that is read in place.

use std::path::Path;

use hako_dockerfile::ignore::Matcher;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result,
    files::{FileDigests, Tree},
};

/// A context of a build.
pub(crate) struct Context {
    pub(crate) tree: Tree,
    pub(crate) digests: FileDigests,
}

impl Context {
    /// The directory as a context. What its files hold is remembered in `build_dir`.
    pub(crate) fn open(dir: &Path, ignore: Matcher, build_dir: &Path) -> Result<Context> {
        let dir = dir.canonicalize().map_err(Error::io("open", dir))?;
        let name: String = Sha256::digest(dir.as_os_str().as_encoded_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let digests = FileDigests::open(build_dir.join("digests").join(name))?;
        Ok(Context { tree: Tree::context(&dir, ignore)?, digests })
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("root", self.tree.root()).finish_non_exhaustive()
    }
}
