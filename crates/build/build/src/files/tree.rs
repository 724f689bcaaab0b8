//! Where files are copied from.

use std::path::Path;

use hako_dockerfile::ignore::Matcher;
use hako_root::Root;

use crate::Result;

/// Whose the files of a tree become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Root's: who owns a file in a context is the business of the host.
    Root,
    /// As they are.
    Kept,
}

/// A file system that files are copied from.
pub(crate) struct Tree {
    root: Root,
    ignore: Option<Matcher>,
    ownership: Ownership,
}

impl Tree {
    /// The context in this directory of the host.
    pub(crate) fn context(dir: &Path, ignore: Matcher) -> Result<Tree> {
        let ignore = Some(ignore).filter(|ignore| !ignore.is_empty());
        Ok(Tree { root: Root::open(dir)?, ignore, ownership: Ownership::Root })
    }

    /// The root file system of a stage or an image.
    pub(crate) fn stage(root: Root) -> Tree {
        Tree { root, ignore: None, ownership: Ownership::Kept }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// What is left out.
    pub(crate) fn ignore(&self) -> Option<&Matcher> {
        self.ignore.as_ref()
    }
}
