//! `COPY`, `ADD` and `WORKDIR`: layers that are written without running anything.

use std::{path::Path, sync::Arc};

use hako_bundle::resolve_user;
use hako_root::Root;

use crate::{
    Error, Result,
    files::{Inline, Placement, Selection, Source, Tree, directory, place},
    graph::{Copy, CopySource, FileSystem, FsLayer, Node, Op, Workdir},
    solve::Solver,
};

/// Longest `/etc/passwd` or `/etc/group` that is read (CVE-2026-47262: gigabytes of it).
const USERS_BYTES_MAX: u64 = 1 << 20;

impl Solver<'_> {
    pub(crate) fn copy(
        &self,
        node: &Node,
        copy: &Copy,
        inputs: &[Arc<FileSystem>],
        selections: &[Option<Vec<Selection>>],
    ) -> Result<Option<FsLayer>> {
        let base = match copy.link {
            true => None,
            false => Some(self.view(inputs.first().map_or(&FileSystem::default(), |base| base))?),
        };
        let owner = match &copy.chown {
            None => None,
            Some(chown) => Some(match &base {
                Some(base) => owner(base, chown)?,
                None => {
                    owner(&self.view(inputs.first().map_or(&FileSystem::default(), |b| b))?, chown)?
                }
            }),
        };
        let placement = Placement {
            destination: copy.destination.clone(),
            owner,
            chmod: copy.chmod.clone(),
            parents: copy.parents,
            unpack: copy.unpack,
            epoch: self.workshop.epoch,
        };
        let mut stages: Vec<Option<Tree>> = Vec::new();
        for source in &copy.sources {
            stages.push(match source {
                CopySource::Input { index, .. } => match self.graph.nodes[node.inputs[*index]].op {
                    Op::Context(_) => None,
                    _ => Some(Tree::stage(self.view(&inputs[*index])?)),
                },
                CopySource::Inline { .. } => None,
            });
        }
        let mut sources = Vec::new();
        for (at, source) in copy.sources.iter().enumerate() {
            match source {
                CopySource::Inline { name, content } => {
                    sources.push(Source::Inline(Inline { name, content }));
                }
                CopySource::Input { index, .. } => {
                    let tree = match (&stages[at], &self.graph.nodes[node.inputs[*index]].op) {
                        (Some(tree), _) => tree,
                        (None, Op::Context(context)) => &context.tree,
                        (None, _) => continue,
                    };
                    let found = selections.get(at).and_then(Option::as_ref);
                    sources.extend(found.into_iter().flatten().map(|one| Source::Files(tree, one)));
                }
            }
        }
        self.store(|out| place(base.as_ref(), &sources, &placement, out))
    }

    /// Makes a directory, if it is not there.
    pub(crate) fn workdir(&self, workdir: &Workdir, base: &FileSystem) -> Result<Option<FsLayer>> {
        let base = self.view(base)?;
        let owner = match workdir.user.is_empty() {
            true => (0, 0),
            false => owner(&base, &workdir.user)?,
        };
        let epoch = self.workshop.epoch;
        self.store(|out| directory(&base, &workdir.path, owner, epoch, out))
    }
}

/// The numbers of `USER[:GROUP]` in a file system. A user alone means the group of that number or
/// of the user, as for Docker.
fn owner(root: &Root, chown: &str) -> Result<(u32, u32)> {
    // Larger ones are told what is wrong with them below.
    let number = |word: &str| word.parse().ok().filter(|number| *number <= i32::MAX as u32);
    let numbers: Vec<Option<u32>> = chown.split(':').map(number).collect();
    match numbers[..] {
        [Some(uid)] => return Ok((uid, uid)),
        [Some(uid), Some(gid)] => return Ok((uid, gid)),
        _ => {}
    }
    let (passwd, group) = (read_users(root, "etc/passwd")?, read_users(root, "etc/group")?);
    let user = resolve_user(chown, &passwd, &group).map_err(|e| Error::User(e.to_string()))?;
    Ok((user.uid, user.gid))
}

/// A list of users or groups; none where there is no such file.
pub(crate) fn read_users(root: &Root, path: &str) -> Result<Vec<u8>> {
    match root.read(Path::new(path), USERS_BYTES_MAX) {
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        read => Ok(read?),
    }
}
