//! Writing a group of packages as one tar: sorted, with numbers for owners and nobody's clock.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use hako_tar::{Header, Kind, Time, Writer};

use crate::{
    Error, Result,
    tree::{Looks, Tree},
    unpack::Unpacked,
};

/// A file that no package has, and that is made of what packages say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub header: Header,
    pub content: Vec<u8>,
}

impl Made {
    pub(crate) fn file(path: impl Into<Vec<u8>>, mode: u32, content: Vec<u8>) -> Made {
        let mut header = Header::new(path, Kind::File, mode);
        header.size = content.len() as u64;
        Made { header, content }
    }

    pub(crate) fn directory(path: impl Into<Vec<u8>>, mode: u32) -> Made {
        Made { header: Header::new(path, Kind::Directory, mode), content: Vec::new() }
    }

    pub(crate) fn link(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Made {
        let mut header = Header::new(path, Kind::Symlink, 0o777);
        header.link = target.into();
        Made { header, content: Vec::new() }
    }

    pub(crate) fn owned(mut self, uid: u32, gid: u32) -> Made {
        (self.header.uid, self.header.gid) = (uid, gid);
        self
    }
}

/// What stands at a path of a layer.
enum Item<'a> {
    Entry(Header, &'a Unpacked, usize),
    Made(&'a Made),
    /// A directory that the layer only implies.
    Parent,
}

/// Writes a layer of these packages, and of what was made for them. `date_max` is what no file is
/// younger than; what was made has the date of the youngest package.
pub(crate) fn write(
    packages: &[Unpacked],
    tree: &Tree,
    group: &[usize],
    made: &[Made],
    date_max: Option<i64>,
    out: impl Write,
) -> Result<()> {
    let clamp = |date: i64| Time { seconds: date.min(date_max.unwrap_or(date)).max(0), nanos: 0 };
    let date = clamp(group.iter().map(|&number| packages[number].date).max().unwrap_or(0));
    let mut items: BTreeMap<Vec<u8>, Item<'_>> = BTreeMap::new();
    for &number in group {
        let package = &packages[number];
        for placed in &tree.placed[number] {
            let mut header = package.entries[placed.entry].header.clone();
            header.path.clone_from(&placed.path);
            header.mtime = clamp(header.mtime.seconds);
            if header.kind == Kind::HardLink {
                let circle =
                    || Error::entry(package.name(), &header.link, "is behind links in a circle");
                header.link = tree.resolve(&header.link, false).ok_or_else(circle)?;
            }
            if let Some(looks) = placed.looks {
                // The first package of a layer that has a directory gives it its date.
                if items.contains_key(&placed.path) {
                    continue;
                }
                (header.mode, header.uid, header.gid) = (looks.mode, looks.uid, looks.gid);
            }
            items.insert(placed.path.clone(), Item::Entry(header, package, placed.entry));
        }
    }
    items.extend(made.iter().map(|made| (made.header.path.clone(), Item::Made(made))));
    for path in items.keys().cloned().collect::<Vec<Vec<u8>>>() {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends {
            items.entry(path[..end].to_vec()).or_insert(Item::Parent);
        }
    }
    let mut writer = Writer::new(out);
    let is_hard = |item: &Item<'_>| matches!(item, Item::Entry(h, ..) if h.kind == Kind::HardLink);
    // Links after all that they may lead to.
    let (links, others): (Vec<_>, Vec<_>) = items.iter().partition(|(_, item)| is_hard(item));
    for (path, item) in others.into_iter().chain(links) {
        let written = match item {
            Item::Entry(header, package, number) => {
                writer.append(header, package.content(&package.entries[*number]))
            }
            Item::Made(made) => {
                let header = Header { mtime: date, ..made.header.clone() };
                writer.append(&header, &made.content[..])
            }
            Item::Parent => {
                let looks = tree.directory(path).unwrap_or(Looks::PLAIN);
                let mut header = Header::new(path.clone(), Kind::Directory, looks.mode);
                (header.uid, header.gid, header.mtime) = (looks.uid, looks.gid, date);
                writer.append(&header, io::empty())
            }
        };
        written.map_err(Error::Write)?;
    }
    writer.finish().map_err(Error::Write)?;
    Ok(())
}
