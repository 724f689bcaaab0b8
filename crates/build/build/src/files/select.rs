//! Which files a source path means.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use hako_dockerfile::{
    glob::{Glob, has_wildcards},
    ignore::{Matcher, Seen},
};
use hako_root::{Dir, Root};
use hako_sys::{
    Errno,
    fs::{FileKind, OpenFlags, Stat},
    xattr,
};
use sha2::{Digest as _, Sha256};

use super::{
    FileDigests, Ownership, Tree,
    digests::{Sha, sha256_of},
};
use crate::{Error, Result};

/// As many links as the kernel follows in one path.
const LINKS_MAX: u32 = 40;
/// As long as a path may be for the kernel.
const PATH_BYTES_MAX: usize = 4095;
/// What one copy may take: memory grows with it.
const ENTRIES_MAX: usize = 4_000_000;

/// One file, directory or link that is copied.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where it is, relative to its tree, without links.
    pub(crate) path: Vec<u8>,
    /// Its name relative to what the source path means; empty for that itself.
    pub(crate) name: Vec<u8>,
    pub(crate) stat: Stat,
    /// What a symbolic link says.
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What a regular file holds.
    pub(crate) sha: Option<Sha>,
}

/// What one source path means: a file, or a directory with everything in it.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// Its path as it was asked for, relative to the tree: with links, without wildcards.
    pub(crate) path: Vec<u8>,
    /// How many of its names do not come along with `--parents`: those before `/./`.
    pub(crate) pivot: usize,
    /// Itself first, then what is in it, sorted.
    pub(crate) entries: Vec<Entry>,
}

impl Selection {
    pub(crate) fn is_directory(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.stat.kind == FileKind::Directory)
    }

    /// The last name of its path; empty for the tree itself.
    pub(crate) fn base_name(&self) -> &[u8] {
        self.path.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// What is in it, but not where it lies or when it was changed. `content` must be known.
    pub(crate) fn digest(&self, ownership: Ownership) -> Sha {
        let mut hasher = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        // The name decides what the copy is called, a directory's does not.
        put(if self.is_directory() { b"" } else { self.base_name() });
        for entry in &self.entries {
            put(&entry.name);
            let (uid, gid) = match ownership {
                Ownership::Root => (0, 0),
                Ownership::Kept => (entry.stat.uid, entry.stat.gid),
            };
            let kind = entry.stat.kind as u32;
            for number in [kind, entry.stat.mode, uid, gid, entry.stat.rdev.0, entry.stat.rdev.1] {
                put(&number.to_le_bytes());
            }
            put(&entry.link);
            put(entry.sha.as_ref().map_or(&[][..], |sha| &sha[..]));
            for (name, value) in &entry.xattrs {
                put(name);
                put(value);
            }
        }
        hasher.finalize().into()
    }
}

/// Finds what the source paths mean, each with wildcards as Go's `filepath.Match` has them.
pub(crate) fn select(
    tree: &Tree,
    sources: &[String],
    exclude: Option<&Matcher>,
) -> Result<Vec<Selection>> {
    let mut selections = Vec::new();
    for source in sources {
        let parts = clean(source.as_bytes());
        let before = source.split_once("/./").map_or("", |(before, _)| before);
        let pivot = clean(before.as_bytes()).len();
        if has_wildcards(source) {
            let globs = parts.iter().map(Glob::new).collect::<Result<Vec<_>, _>>();
            let globs = globs.map_err(|_| Error::Pattern(source.clone()))?;
            let mut found = Vec::new();
            matches(tree, &[], &globs, &mut found)?;
            found.sort_by(|a, b| by_names(a, b));
            for path in found {
                selections.extend(one(tree, &path, pivot, exclude)?);
            }
        } else {
            selections.extend(one(tree, &parts.join(&b'/'), pivot, exclude)?);
        }
    }
    Ok(selections)
}

/// The names of a path, without `.` and `..`, which end at the root.
pub(crate) fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

/// Paths in the order of a walk: a directory, what is in it, then its sister.
pub(crate) fn by_names(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|&b| b == b'/').cmp(b.split(|&b| b == b'/'))
}

pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Where a path leads to.
pub(crate) struct Resolved {
    /// Without links, relative to the root; where the path ends in nothing, with what is missing.
    pub(crate) path: Vec<u8>,
    /// What is there.
    pub(crate) stat: Option<Stat>,
}

/// Follows every link of a path, as if the root were `/`.
pub(crate) fn resolve(root: &Root, path: &[u8]) -> Result<Resolved> {
    let mut todo: Vec<Vec<u8>> = clean(path).into_iter().rev().map(<[u8]>::to_vec).collect();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            names.pop();
            continue;
        }
        names.push(name);
        let here = names.join(&b'/');
        if here.len() > PATH_BYTES_MAX {
            return Err(Error::PathTooLong(to_path(&here)));
        }
        match look(root, &here)? {
            None => {
                names.extend(todo.drain(..).rev());
                let path = clean(&names.join(&b'/')).join(&b'/');
                return Ok(Resolved { path, stat: None });
            }
            Some(stat) if stat.kind == FileKind::Symlink => {}
            Some(_) => continue,
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Error::Links(to_path(path)));
        }
        let target = root.readlink(&to_path(&here))?;
        let target = target.as_os_str().as_bytes();
        names.pop();
        if target.starts_with(b"/") {
            names.clear();
        }
        let parts = target.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."));
        todo.extend(parts.rev().map(<[u8]>::to_vec));
    }
    let path = names.join(&b'/');
    let stat = look(root, &path)?;
    Ok(Resolved { path, stat })
}

/// What is at a path without links, if anything is.
pub(crate) fn look(root: &Root, path: &[u8]) -> Result<Option<Stat>> {
    if path.is_empty() {
        return Ok(Some(root.as_dir().own_metadata()?));
    }
    match root.symlink_metadata(&to_path(path)) {
        Ok(stat) => Ok(Some(stat)),
        // A file in the way of a path is as good as nothing there.
        Err(e) if e.is_not_found() || e.errno() == Some(Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Paths beneath `dir` that match the names of a pattern.
fn matches(tree: &Tree, dir: &[u8], pattern: &[Glob], found: &mut Vec<Vec<u8>>) -> Result<()> {
    let Some((first, rest)) = pattern.split_first() else {
        found.push(dir.to_vec());
        return Ok(());
    };
    let resolved = resolve(tree.root(), dir)?;
    if !resolved.stat.is_some_and(|stat| stat.kind == FileKind::Directory) {
        return Ok(());
    }
    for listed in tree.root().open_dir_nofollow(&to_path(&resolved.path))?.entries()? {
        let path = join(dir, listed.name.as_bytes());
        if first.matches(listed.name.as_bytes()) && is_there(tree, &path, listed.kind) {
            matches(tree, &path, rest, found)?;
        }
    }
    Ok(())
}

/// Whether a path that is there is part of the tree, or may have parts in it.
fn is_there(tree: &Tree, path: &[u8], kind: FileKind) -> bool {
    let Some(ignore) = tree.ignore() else { return true };
    !ignore.is_ignored(path) || kind == FileKind::Directory && !ignore.may_skip(path)
}

/// What a path without wildcards means; nothing where it is excluded.
fn one(
    tree: &Tree,
    path: &[u8],
    pivot: usize,
    exclude: Option<&Matcher>,
) -> Result<Option<Selection>> {
    let not_found = || Error::NotFound(String::from_utf8_lossy(path).into_owned());
    let resolved = resolve(tree.root(), path)?;
    let Some(stat) = resolved.stat else { return Err(not_found()) };
    let is_directory = stat.kind == FileKind::Directory;
    if !resolved.path.is_empty() && !is_there(tree, &resolved.path, stat.kind) {
        return Err(not_found());
    }
    let mut entries = Vec::new();
    if is_directory {
        directory(tree, resolved.path, stat, exclude, &mut entries)?;
    } else {
        let (above, name) = split(&resolved.path);
        if exclude.is_some_and(|exclude| exclude.is_ignored(split(path).1)) {
            return Ok(None);
        }
        let dir = tree.root().open_dir_nofollow(&to_path(above))?;
        entries.extend(entry(&dir, tree, resolved.path.clone(), name.to_vec(), stat)?);
        if let Some(first) = entries.first_mut() {
            first.name.clear();
        }
    }
    Ok(Some(Selection { path: path.to_vec(), pivot, entries }))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A directory and everything in it that is part of the tree.
fn directory(
    tree: &Tree,
    top: Vec<u8>,
    stat: Stat,
    exclude: Option<&Matcher>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let depth = if top.is_empty() { 0 } else { top.len() + 1 };
    let root_entry = |path: Vec<u8>, xattrs| Entry {
        path,
        name: Vec::new(),
        stat,
        link: Vec::new(),
        xattrs,
        sha: None,
    };
    let dir = tree.root().open_dir_nofollow(&to_path(&top))?;
    let xattrs = attributes(&dir, None, tree, &top)?;
    entries.push(root_entry(top.clone(), xattrs));
    let seen_of = |matcher: Option<&Matcher>, path: &[u8]| match matcher {
        Some(matcher) if !path.is_empty() => seen_along(matcher, path),
        _ => Seen::default(),
    };
    let (ignored, excluded) = (seen_of(tree.ignore(), &top), Seen::default());
    let mut todo = vec![(top, dir, ignored, excluded)];
    // Directories that are ignored themselves, but may have something in them that is not.
    let mut passed: Vec<Entry> = Vec::new();
    while let Some((path, dir, ignored, excluded)) = todo.pop() {
        for listed in dir.entries()? {
            let child = join(&path, listed.name.as_bytes());
            if child.len() > PATH_BYTES_MAX {
                return Err(Error::PathTooLong(to_path(&child)));
            }
            let name = child[depth..].to_vec();
            let stat = dir.metadata(&listed.name)?;
            let (out_of_tree, ignored) = below(tree.ignore(), &child, &ignored);
            let (out_of_copy, excluded) = below(exclude, &name, &excluded);
            let is_left_out = out_of_tree || out_of_copy;
            if stat.kind == FileKind::Directory {
                let may_skip = |matcher: Option<&Matcher>, path: &[u8]| {
                    matcher.is_some_and(|matcher| matcher.may_skip(path))
                };
                if out_of_tree && may_skip(tree.ignore(), &child)
                    || out_of_copy && may_skip(exclude, &name)
                {
                    continue;
                }
                let inner = dir.open_dir(&listed.name)?;
                let made = entry(&dir, tree, child.clone(), name, stat)?;
                if is_left_out {
                    passed.extend(made);
                } else {
                    entries.extend(made);
                }
                todo.push((child, inner, ignored, excluded));
            } else if !is_left_out {
                entries.extend(entry(&dir, tree, child, name, stat)?);
            }
            if entries.len() + passed.len() > ENTRIES_MAX {
                return Err(Error::TooMany { limit: ENTRIES_MAX });
            }
        }
    }
    // Of those passed through, the ones that lead to something.
    let mut leading: std::collections::BTreeSet<&[u8]> = std::collections::BTreeSet::new();
    if !passed.is_empty() {
        for entry in entries.iter() {
            let mut name = &entry.name[..];
            while let Some(slash) = name.iter().rposition(|&b| b == b'/') {
                name = &name[..slash];
                leading.insert(name);
            }
        }
        passed.retain(|entry| leading.contains(&entry.name[..]));
    }
    entries.append(&mut passed);
    entries.sort_by(|a, b| by_names(&a.name, &b.name));
    Ok(())
}

fn below(matcher: Option<&Matcher>, path: &[u8], parent: &Seen) -> (bool, Seen) {
    matcher.map_or_else(Default::default, |matcher| matcher.below(path, parent))
}

/// What is known of a directory that is not reached by a walk.
fn seen_along(matcher: &Matcher, path: &[u8]) -> Seen {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    let mut seen = Seen::default();
    for end in ends.chain([path.len()]) {
        seen = matcher.below(&path[..end], &seen).1;
    }
    seen
}

/// What is copied of one name; sockets are not.
fn entry(
    dir: &Dir,
    tree: &Tree,
    path: Vec<u8>,
    name: Vec<u8>,
    stat: Stat,
) -> Result<Option<Entry>> {
    if matches!(stat.kind, FileKind::Socket | FileKind::Unknown) {
        return Ok(None);
    }
    let own = std::ffi::CString::new(split(&path).1).map_err(|_| Error::NotFound("".into()))?;
    let link = match stat.kind {
        FileKind::Symlink => dir.readlink(&own)?.into_bytes(),
        _ => Vec::new(),
    };
    let xattrs = match stat.kind {
        FileKind::Symlink => BTreeMap::new(),
        _ => attributes(dir, Some(&own), tree, &path)?,
    };
    Ok(Some(Entry { path, name, stat, link, xattrs, sha: None }))
}

/// Extended attributes come along from stages; those of a context are the host's.
fn attributes(
    dir: &Dir,
    name: Option<&std::ffi::CStr>,
    tree: &Tree,
    path: &[u8],
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if tree.ownership() == Ownership::Root {
        return Ok(found);
    }
    let failed = |call| move |e: Errno| Error::io(call, to_path(path))(e.into());
    let place = match name {
        Some(name) => dir.open(name, OpenFlags::PATH, 0)?,
        None => dir.fd().try_clone_to_owned().map_err(Error::io("dup", to_path(path)))?,
    };
    let names = match xattr::list_path(place.as_fd()) {
        Err(Errno::EOPNOTSUPP) => return Ok(found),
        names => names.map_err(failed("listxattr"))?,
    };
    for name in names.iter().filter(|name| hako_layer::is_kept(name.to_bytes())) {
        let value = xattr::get_path(place.as_fd(), name).map_err(failed("getxattr"))?;
        found.insert(name.to_bytes().to_vec(), value);
    }
    Ok(found)
}

/// Opens the file of an entry, which must still be a file.
pub(crate) fn open(tree: &Tree, entry: &Entry) -> Result<File> {
    Ok(tree.root().open_file(&to_path(&entry.path), OpenFlags::RDONLY)?)
}

/// Finds out what all regular files hold: from what is remembered, or by reading them, on every
/// processor.
pub(crate) fn fill_digests(
    tree: &Tree,
    selections: &mut [Selection],
    known: Option<&FileDigests>,
) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut unknown: Vec<&mut Entry> = Vec::new();
    for entry in selections.iter_mut().flat_map(|selection| &mut selection.entries) {
        if entry.stat.kind != FileKind::File {
            continue;
        }
        entry.sha = known.and_then(|known| known.get(&entry.stat));
        if entry.sha.is_none() {
            unknown.push(entry);
        }
    }
    let read = |entry: &Entry| -> Result<Sha> {
        let mut file = open(tree, entry)?;
        let sha = match known {
            Some(known) => known.read(&mut file, &entry.stat, now),
            None => sha256_of(&mut file),
        };
        sha.map_err(Error::io("read", to_path(&entry.path)))
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(unknown.len());
    if threads < 2 {
        for entry in unknown {
            entry.sha = Some(read(entry)?);
        }
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<&mut Entry>> = unknown.into_iter().map(Mutex::new).collect();
    let work = || -> Result<()> {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut entry = slot.lock().unwrap_or_else(PoisonError::into_inner);
            // The other threads need not go on either.
            let sha = read(&entry).inspect_err(|_| next.store(slots.len(), Ordering::Relaxed))?;
            entry.sha = Some(sha);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done = done.and(other);
        }
        done
    })
}
