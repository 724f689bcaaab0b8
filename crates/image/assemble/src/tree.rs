//! Which package has which path, by dpkg's rules.
//!
//! - A directory that is there stays as it is: its looks are those of the first package.
//! - A file belongs to one package. Where two have it, one must say that it replaces the other.
//! - Where a symbolic link leads to a directory, what goes into it goes there. So `/bin/sh` of a
//!   package becomes `usr/bin/sh` where `/bin` is a link to `usr/bin`, as it is on all systems since
//!   Debian 12 ("merged /usr"), whatever their packages say.

use std::collections::{HashMap, HashSet};

use hako_tar::{Header, Kind};

use crate::{Error, Result, base, error::lossy, unpack::Unpacked};

/// Directories of the root that are links into `usr`. Those that no package uses are not made.
const MERGED: &[&[u8]] = &[b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libo32", b"libx32"];
/// As many links as the kernel follows in one path.
const LINKS_MAX: u32 = 40;

/// The paths of all packages.
#[derive(Debug)]
pub(crate) struct Tree {
    links: HashMap<Vec<u8>, Vec<u8>>,
    directories: HashMap<Vec<u8>, Looks>,
    /// By package.
    pub placed: Vec<Vec<Placed>>,
    /// By package: links of the root that its paths went through.
    pub merged: Vec<Vec<&'static [u8]>>,
}

/// How a directory looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looks {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// An entry and where it comes to be.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Its number in the package.
    pub entry: usize,
    pub path: Vec<u8>,
    /// Of a directory.
    pub looks: Option<Looks>,
}

impl Looks {
    fn of(header: &Header) -> Looks {
        Looks { mode: header.mode, uid: header.uid, gid: header.gid }
    }

    /// Of a directory that nobody describes.
    pub(crate) const PLAIN: Looks = Looks { mode: 0o755, uid: 0, gid: 0 };
}

impl Tree {
    /// Puts packages together.
    pub(crate) fn new(packages: &[Unpacked]) -> Result<Tree> {
        let mut tree = Tree {
            links: fixed_links(),
            directories: HashMap::new(),
            placed: Vec::new(),
            merged: Vec::new(),
        };
        for entry in packages.iter().flat_map(|package| &package.entries) {
            if entry.header.kind == Kind::Symlink {
                let path = tree.resolve(&entry.header.path, false);
                let path = path.unwrap_or_else(|| entry.header.path.clone());
                tree.links.entry(path).or_insert(entry.header.link.clone());
            }
        }
        let mut owners: HashMap<Vec<u8>, (usize, usize)> = HashMap::new();
        let mut lost: HashSet<(usize, usize)> = HashSet::new();
        for (number, package) in packages.iter().enumerate() {
            let (placed, merged) = tree.place(package)?;
            for (at, one) in placed.iter().enumerate() {
                if one.looks.is_some() {
                    continue;
                }
                let Some(&(other, other_at)) = owners.get(&one.path) else {
                    owners.insert(one.path.clone(), (number, at));
                    continue;
                };
                if other == number {
                    // A package that has bin/x and usr/bin/x: the later one counts, as in a tar.
                    lost.insert((other, other_at));
                    owners.insert(one.path.clone(), (number, at));
                } else if replaces(package, &packages[other]) {
                    lost.insert((other, other_at));
                    owners.insert(one.path.clone(), (number, at));
                } else if replaces(&packages[other], package) {
                    lost.insert((number, at));
                } else {
                    return Err(overwrite(package, &packages[other], &one.path));
                }
            }
            tree.placed.push(placed);
            tree.merged.push(merged);
        }
        for (number, placed) in tree.placed.iter().enumerate() {
            for one in placed {
                // Links to directories were followed; what else has something beneath it?
                let slashes = one.path.iter().enumerate().filter(|(_, b)| **b == b'/');
                let mut above = slashes.map(|(at, _)| &one.path[..at]);
                let itself = one.looks.is_some().then_some(&one.path[..]);
                let file = above.find_map(|path| owners.get_key_value(path));
                if let Some((path, (other, _))) =
                    file.or_else(|| itself.and_then(|path| owners.get_key_value(path)))
                {
                    return Err(overwrite(&packages[number], &packages[*other], path));
                }
            }
        }
        for (number, placed) in tree.placed.iter_mut().enumerate() {
            let mut at = 0;
            placed.retain(|_| {
                at += 1;
                !lost.contains(&(number, at - 1))
            });
        }
        Ok(tree)
    }

    /// Finds the places of a package's entries.
    fn place(&mut self, package: &Unpacked) -> Result<(Vec<Placed>, Vec<&'static [u8]>)> {
        let mut merged: Vec<&'static [u8]> = Vec::new();
        let mut placed = Vec::with_capacity(package.entries.len());
        let fixed = fixed_links();
        for (number, entry) in package.entries.iter().enumerate() {
            let header = &entry.header;
            let first = header.path.split(|&b| b == b'/').next().unwrap_or_default();
            let link = MERGED.iter().find(|name| **name == first);
            if let Some(link) = link.filter(|link| !merged.contains(link)) {
                merged.push(link);
            }
            // The link itself, in distributions whose packages have it.
            if header.kind == Kind::Symlink && fixed.contains_key(&header.path) {
                continue;
            }
            let is_directory = header.kind == Kind::Directory;
            let circle =
                || Error::entry(package.name(), &header.path, "is behind links in a circle");
            let path = self.resolve(&header.path, is_directory).ok_or_else(circle)?;
            if path.is_empty() {
                continue;
            }
            let looks = is_directory
                .then(|| *self.directories.entry(path.clone()).or_insert(Looks::of(header)));
            placed.push(Placed { entry: number, path, looks });
        }
        merged.sort_unstable();
        Ok((placed, merged))
    }

    /// How a directory looks, if a package has it.
    pub(crate) fn directory(&self, path: &[u8]) -> Option<Looks> {
        self.directories.get(path).copied()
    }

    /// Where a path leads when links in it are followed; the last name's only if `last` says so.
    /// Within the root: what would lead out ends there. `None` where links lead in a circle.
    pub(crate) fn resolve(&self, path: &[u8], last: bool) -> Option<Vec<u8>> {
        let mut left: Vec<Vec<u8>> = path.split(|&b| b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut resolved: Vec<u8> = Vec::with_capacity(path.len() + 8);
        let mut links = 0;
        while let Some(name) = left.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    let end = resolved.iter().rposition(|&b| b == b'/').unwrap_or(0);
                    resolved.truncate(end);
                    continue;
                }
                _ => {}
            }
            let parent = resolved.len();
            if parent > 0 {
                resolved.push(b'/');
            }
            resolved.extend_from_slice(&name);
            if left.is_empty() && !last {
                break;
            }
            if let Some(target) = self.links.get(&resolved) {
                if links == LINKS_MAX {
                    return None;
                }
                links += 1;
                resolved.truncate(if target.starts_with(b"/") { 0 } else { parent });
                left.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
            }
        }
        Some(resolved)
    }

    /// Where a file is to be made that no package has; `None` where one has something there.
    pub(crate) fn is_free(&self, path: &[u8]) -> bool {
        !self.links.contains_key(path)
            && !self.directories.contains_key(path)
            && !self.placed.iter().flatten().any(|placed| placed.path == path)
    }
}

/// Links that there are before any package is looked at.
fn fixed_links() -> HashMap<Vec<u8>, Vec<u8>> {
    let merged = MERGED.iter().map(|&name| (name.to_vec(), [b"usr/", name].concat()));
    let base = base::LINKS.iter().map(|(path, target)| (path.as_bytes(), target.as_bytes()));
    merged.chain(base.map(|(path, target)| (path.to_vec(), target.to_vec()))).collect()
}

/// Whether `a` says that its files replace those of `b`.
fn replaces(a: &Unpacked, b: &Unpacked) -> bool {
    // What cannot be understood replaces nothing.
    let clauses = hako_deb::clauses(a.control().get("Replaces").unwrap_or_default());
    let version = b.control().version().to_string();
    let is = |relation: &hako_deb::Relation| relation.name == b.name() && relation.admits(&version);
    clauses.unwrap_or_default().iter().any(|clause| clause.0.iter().any(is))
}

fn overwrite(package: &Unpacked, other: &Unpacked, path: &[u8]) -> Error {
    Error::Overwrite {
        package: package.name().into(),
        other: other.name().into(),
        version: other.control().version().to_string(),
        path: lossy(path),
    }
}
